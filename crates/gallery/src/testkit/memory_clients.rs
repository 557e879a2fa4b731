//! Clients, their links, and who sees which gallery.

use std::collections::BTreeSet;

use rawdrive_tenancy_core::StoreError;
use rawdrive_testkit::MemoryTx;

use super::memory::{GalleryRows, insert};
use crate::id::{ClientId, GalleryId};
use crate::{Client, ClientsTx, NewLink};

impl ClientsTx for MemoryTx {
    async fn insert_client(&mut self, client: &Client) -> Result<(), StoreError> {
        const OPERATION: &str = "insert a client";
        self.change_slot(OPERATION, |rows: &mut GalleryRows| {
            address_is_free(rows, client, OPERATION)?;
            // A link is put, never inserted along.
            let client = Client {
                invited_at: None,
                ..client.clone()
            };
            insert(&mut rows.clients, client.id, &client, OPERATION)
        })
    }

    async fn client(&mut self, id: ClientId) -> Result<Option<Client>, StoreError> {
        Ok(self
            .slot::<GalleryRows>("read a client")?
            .clients
            .get(&id)
            .cloned())
    }

    async fn update_client(&mut self, client: &Client) -> Result<(), StoreError> {
        const OPERATION: &str = "update a client";
        self.change_slot(OPERATION, |rows: &mut GalleryRows| {
            address_is_free(rows, client, OPERATION)?;
            if let Some(row) = rows.clients.get_mut(&client.id) {
                *row = Client {
                    invited_at: row.invited_at,
                    last_seen_at: row.last_seen_at,
                    created_at: row.created_at,
                    ..client.clone()
                };
            }
            Ok(())
        })
    }

    async fn delete_client(&mut self, id: ClientId) -> Result<Vec<GalleryId>, StoreError> {
        let now = self.env().now();
        self.change_slot("delete a client", |rows: &mut GalleryRows| {
            let seen = rows.seen_by.iter().filter(|(_, client)| *client == id);
            let galleries: Vec<_> = seen.map(|(gallery, _)| *gallery).collect();
            for gallery in &galleries {
                if let Some(row) = rows.galleries.get_mut(gallery) {
                    row.version += 1;
                    row.updated_at = now;
                }
            }
            rows.seen_by.retain(|(_, client)| *client != id);
            rows.clients.remove(&id);
            Ok(galleries)
        })
    }

    async fn put_link(&mut self, link: &NewLink) -> Result<(), StoreError> {
        const OPERATION: &str = "put a link";
        self.change_slot(OPERATION, |rows: &mut GalleryRows| {
            match rows.clients.get_mut(&link.client) {
                Some(client) => {
                    client.invited_at = Some(link.created_at);
                    Ok(())
                }
                None => Err(StoreError::Dangling {
                    operation: OPERATION,
                }),
            }
        })
    }

    async fn delete_link(&mut self, client: ClientId) -> Result<bool, StoreError> {
        self.change_slot("revoke a link", |rows: &mut GalleryRows| {
            let client = rows.clients.get_mut(&client);
            Ok(client.is_some_and(|client| client.invited_at.take().is_some()))
        })
    }

    async fn clients_of(&mut self, gallery: GalleryId) -> Result<BTreeSet<ClientId>, StoreError> {
        let seen_by = &self
            .slot::<GalleryRows>("list the clients of a gallery")?
            .seen_by;
        let of = seen_by.iter().filter(|(seen, _)| *seen == gallery);
        Ok(of.map(|(_, client)| *client).collect())
    }

    async fn change_clients_of(
        &mut self,
        gallery: GalleryId,
        off: &[ClientId],
        on: &[ClientId],
    ) -> Result<(), StoreError> {
        const OPERATION: &str = "change the clients of a gallery";
        self.change_slot(OPERATION, |rows: &mut GalleryRows| {
            for client in off {
                rows.seen_by.remove(&(gallery, *client));
            }
            for client in on {
                if !rows.clients.contains_key(client) || !rows.galleries.contains_key(&gallery) {
                    return Err(StoreError::Dangling {
                        operation: OPERATION,
                    });
                }
                rows.seen_by.insert((gallery, *client));
            }
            Ok(())
        })
    }
}

fn address_is_free(
    rows: &GalleryRows,
    client: &Client,
    operation: &'static str,
) -> Result<(), StoreError> {
    let folded = client.email.folded();
    let mut others = rows.clients.values().filter(|other| other.id != client.id);
    if others.any(|other| other.email.folded() == folded) {
        return Err(StoreError::Taken { operation });
    }
    Ok(())
}
