//! Clients: whom galleries are delivered to, the links that were mailed to them, and what those show.

use std::collections::BTreeSet;
use std::future::Future;

use crate::id::{ClientId, ClientLinkId, GalleryId, PhotoId};
use chrono::{DateTime, Utc};
use rawdrive_identity::{EmailAddress, PersonName, SecretToken, TokenKind, TokenPepper};
use rawdrive_plans::PlansTx;
use rawdrive_tenancy_core::audit::{AuditTx, Change};
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::page::{Page, PageRequest};
use rawdrive_tenancy_core::{Actor, Env, Guest, StoreError, WorkspaceScope};
use serde_json::{Value, json};

use crate::{Download, Gallery, GalleryOverview, Photo};

/// Somebody whom galleries are delivered to, without an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Their id.
    pub id: ClientId,
    /// Their name.
    pub name: PersonName,
    /// Where their link is mailed to; unique in the workspace, folded.
    pub email: EmailAddress,
    /// When the link that holds now was made; none while none holds.
    pub invited_at: Option<DateTime<Utc>>,
    /// When they last used a link, to the minute.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// When they were added.
    pub created_at: DateTime<Utc>,
    /// When name or address last changed.
    pub updated_at: DateTime<Utc>,
    /// 1, 2, 3 …: grows with each change of name or address.
    pub version: u32,
}

/// Shows a client their galleries.
#[derive(Debug, Clone, Copy)]
pub enum ClientLink {}

impl TokenKind for ClientLink {
    const PREFIX: &'static str = "rdc";
    type Owner = WorkspaceId;
    type Id = ClientLinkId;
}

/// Shows a client their galleries.
pub type ClientLinkToken = SecretToken<ClientLink>;

/// A client's link as it stands in the database at this request. It cannot be made up: the one constructor is
/// forbidden by lint outside the reading of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkGrant {
    workspace: WorkspaceId,
    client: ClientId,
}

impl LinkGrant {
    /// States that this link has just been read and its secret was proved.
    #[must_use]
    pub const fn attest(workspace: WorkspaceId, client: ClientId) -> Self {
        Self { workspace, client }
    }

    /// Whose link it is.
    #[must_use]
    pub const fn client(&self) -> ClientId {
        self.client
    }

    /// The scope of the client's request. What the client may see of the workspace, the routes of shared galleries ask
    /// for by the client's id.
    #[must_use]
    pub fn scope(&self) -> WorkspaceScope {
        #[expect(
            clippy::disallowed_methods,
            reason = "the grant says that the link's secret was proved"
        )]
        WorkspaceScope::trusted(self.workspace, Actor::Guest(Guest::of(self.client)))
    }
}

/// A link about to be mailed. A client has at most one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewLink {
    /// Its id, which the token names.
    pub id: ClientLinkId,
    /// Whose it is.
    pub client: ClientId,
    /// The keyed hash of its token.
    pub secret_hash: [u8; 32],
    /// When it is made.
    pub created_at: DateTime<Utc>,
}

/// A link that was proved, with what its page says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenLink {
    /// What it grants.
    pub grant: LinkGrant,
    /// The client's name.
    pub client_name: PersonName,
    /// The workspace's name.
    pub workspace_name: String,
    /// When the client was last seen.
    pub last_seen_at: Option<DateTime<Utc>>,
}

/// Writes; the rows that a lookup returns are locked until the transaction ends.
pub trait ClientsTx {
    /// Adds a client; [`StoreError::Taken`] when another one of the workspace has the address.
    fn insert_client(
        &mut self,
        client: &Client,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// A client.
    fn client(
        &mut self,
        id: ClientId,
    ) -> impl Future<Output = Result<Option<Client>, StoreError>> + Send;
    /// Writes name, address and version of a client that was looked up in this transaction;
    /// [`StoreError::Taken`] when another one has the address.
    fn update_client(
        &mut self,
        client: &Client,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Deletes a client's row, their link and their places in galleries, whose versions grow; returns those
    /// galleries.
    fn delete_client(
        &mut self,
        id: ClientId,
    ) -> impl Future<Output = Result<Vec<GalleryId>, StoreError>> + Send;
    /// Puts a link in the place of the client's old one.
    fn put_link(&mut self, link: &NewLink) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Deletes the client's link; false when there is none.
    fn delete_link(
        &mut self,
        client: ClientId,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Who sees a gallery.
    fn clients_of(
        &mut self,
        gallery: GalleryId,
    ) -> impl Future<Output = Result<BTreeSet<ClientId>, StoreError>> + Send;
    /// Takes clients off a gallery and puts others on it; [`StoreError::Dangling`] when one of those is none
    /// of the workspace's.
    fn change_clients_of(
        &mut self,
        gallery: GalleryId,
        off: &[ClientId],
        on: &[ClientId],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Reads, for members.
pub trait ClientsRead {
    /// A client.
    fn client(
        &self,
        id: ClientId,
    ) -> impl Future<Output = Result<Option<Client>, StoreError>> + Send;
    /// Clients, oldest first.
    fn clients(
        &self,
        page: PageRequest,
    ) -> impl Future<Output = Result<Page<Client>, StoreError>> + Send;
}

/// Reads, for a client: galleries that list them and are not deleted, and nothing else.
pub trait SharedRead {
    /// Their galleries, oldest first.
    fn shared_galleries(
        &self,
        client: ClientId,
    ) -> impl Future<Output = Result<Vec<GalleryOverview>, StoreError>> + Send;
    /// The photos of one of their galleries, oldest first; nothing when it is none of theirs.
    fn shared_photos(
        &self,
        client: ClientId,
        gallery: GalleryId,
        page: PageRequest,
    ) -> impl Future<Output = Result<Option<Page<Photo>>, StoreError>> + Send;
    /// A photo of one of their galleries, and what may be downloaded of it.
    fn shared_photo(
        &self,
        client: ClientId,
        id: PhotoId,
    ) -> impl Future<Output = Result<Option<(Photo, Download)>, StoreError>> + Send;
}

/// A store that proves links.
pub trait ClientLinks {
    /// The link of a token whose secret was compared inside the workspace that the token names. Nothing for a
    /// link that is revoked or foreign, and in a workspace that is not active.
    fn open_link(
        &self,
        token: &ClientLinkToken,
        pepper: &TokenPepper,
    ) -> impl Future<Output = Result<Option<OpenLink>, StoreError>> + Send;
    /// Notes that the client was seen at `at`, unless they were already seen after `unless_after`.
    fn note_seen(
        &self,
        scope: &WorkspaceScope,
        client: ClientId,
        at: DateTime<Utc>,
        unless_after: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Why a client is not written.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Another client of the workspace has the address.
    #[error("another client has this e-mail address")]
    EmailTaken,
    /// The database failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for ClientError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Taken { .. } => Self::EmailTaken,
            error => Self::Store(error),
        }
    }
}

/// Adds a client, who sees nothing until a gallery lists them and they are invited.
///
/// # Errors
/// The address is another client's, or the database failed.
pub async fn add_client(
    tx: &mut (impl ClientsTx + Send),
    env: &Env,
    id: ClientId,
    name: PersonName,
    email: EmailAddress,
) -> Result<Client, ClientError> {
    let now = env.now();
    let client = Client {
        id,
        name,
        email,
        invited_at: None,
        last_seen_at: None,
        created_at: now,
        updated_at: now,
        version: 1,
    };
    tx.insert_client(&client).await?;
    Ok(client)
}

/// Changes a client's name or address. The link was mailed to the old address and ends with it.
///
/// # Errors
/// The address is another client's, or the database failed.
pub async fn update_client(
    tx: &mut (impl ClientsTx + AuditTx + Send),
    env: &Env,
    client: Client,
    name: Option<PersonName>,
    email: Option<EmailAddress>,
) -> Result<Client, ClientError> {
    let mut new = client.clone();
    new.name = name.unwrap_or(new.name);
    new.email = email.unwrap_or(new.email);
    if new == client {
        return Ok(client);
    }
    new.updated_at = env.now();
    new.version += 1;
    tx.update_client(&new).await?;
    if new.email.folded() != client.email.folded() {
        revoke_link(tx, &client).await?;
        new.invited_at = None;
    }
    Ok(new)
}

/// Makes a new link for a client and revokes the old one, audited as `client.invited`. The token is for the
/// mail alone.
///
/// # Errors
/// The database's failure.
pub async fn invite_client(
    tx: &mut (impl ClientsTx + PlansTx + AuditTx + Send),
    env: &Env,
    pepper: &TokenPepper,
    client: Client,
) -> Result<(Client, ClientLinkToken), StoreError> {
    let token = ClientLinkToken::generate(env, tx.entitlements().await?.workspace);
    let now = env.now();
    tx.put_link(&NewLink {
        id: token.id(),
        client: client.id,
        secret_hash: token.keyed_hash(pepper),
        created_at: now,
    })
    .await?;
    let invited = Client {
        invited_at: Some(now),
        ..client.clone()
    };
    tx.record(Change {
        action: "client.invited",
        subject: client.id.to_string(),
        before: access(&client),
        after: access(&invited),
    });
    Ok((invited, token))
}

/// Revokes a client's link, audited as `client.access_revoked`. False when there is none.
///
/// # Errors
/// The database's failure.
pub async fn revoke_link(
    tx: &mut (impl ClientsTx + AuditTx + Send),
    client: &Client,
) -> Result<bool, StoreError> {
    if !tx.delete_link(client.id).await? {
        return Ok(false);
    }
    tx.record(Change {
        action: "client.access_revoked",
        subject: client.id.to_string(),
        before: access(client),
        after: Value::Null,
    });
    Ok(true)
}

/// Deletes a client; audited as `client.deleted` when that takes access from them.
///
/// # Errors
/// The database's failure.
pub async fn delete_client(
    tx: &mut (impl ClientsTx + AuditTx + Send),
    client: &Client,
) -> Result<(), StoreError> {
    let galleries = tx.delete_client(client.id).await?;
    if client.invited_at.is_some() || !galleries.is_empty() {
        tx.record(Change {
            action: "client.deleted",
            subject: client.id.to_string(),
            before: json!({ "email": client.email.as_str(), "invited_at": client.invited_at, "gallery_ids": galleries }),
            after: Value::Null,
        });
    }
    Ok(())
}

/// Says which clients see a gallery, instead of those who did; audited as `gallery.clients_changed`. False
/// when nothing changed.
///
/// # Errors
/// [`StoreError::Dangling`] when one is no client of the workspace, or the database's failure.
pub async fn set_clients(
    tx: &mut (impl ClientsTx + AuditTx + Send),
    gallery: GalleryId,
    clients: &BTreeSet<ClientId>,
) -> Result<bool, StoreError> {
    let before = tx.clients_of(gallery).await?;
    if before == *clients {
        return Ok(false);
    }
    let off: Vec<_> = before.difference(clients).copied().collect();
    let on: Vec<_> = clients.difference(&before).copied().collect();
    tx.change_clients_of(gallery, &off, &on).await?;
    tx.record(Change {
        action: "gallery.clients_changed",
        subject: gallery.to_string(),
        before: json!({ "client_ids": before }),
        after: json!({ "client_ids": clients }),
    });
    Ok(true)
}

/// Says what the clients of a gallery may download, audited as `gallery.download_changed`; the same changes nothing.
/// The caller writes the gallery.
///
/// # Errors
/// The database's failure.
pub async fn set_download(
    tx: &mut (impl AuditTx + Send),
    gallery: &mut Gallery,
    download: Download,
) -> Result<(), StoreError> {
    if gallery.download == download {
        return Ok(());
    }
    tx.record(Change {
        action: "gallery.download_changed",
        subject: gallery.id.to_string(),
        before: json!({ "download": gallery.download.as_str() }),
        after: json!({ "download": download.as_str() }),
    });
    gallery.download = download;
    Ok(())
}

/// A client's access as the audit keeps it: to which address, since when.
fn access(client: &Client) -> Value {
    match client.invited_at {
        Some(at) => json!({ "email": client.email.as_str(), "invited_at": at }),
        None => Value::Null,
    }
}
