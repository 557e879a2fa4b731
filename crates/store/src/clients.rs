//! Clients, their links, and what those show.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rawdrive_gallery::id::{ClientId, GalleryId, PhotoId};
use rawdrive_gallery::{
    Client, ClientLinkToken, ClientLinks, ClientsRead, ClientsTx, Download, GalleryOverview,
    LinkGrant, NewLink, OpenLink, Photo, SharedRead,
};
use rawdrive_identity::ports::WorkspaceStatus;
use rawdrive_identity::{EmailAddress, PersonName, TokenPepper};
use rawdrive_tenancy_core::id::TypedId;
use rawdrive_tenancy_core::page::{Page, PageRequest, Position};
use rawdrive_tenancy_core::{StoreError, WorkspaceScope};
use sea_orm::sea_query::{Condition, Expr, SelectStatement};
use sea_orm::{
    ColumnTrait, ConnectionTrait, FromQueryResult, QueryFilter, QueryOrder, QueryResult,
    QuerySelect, QueryTrait, Set, Value,
};
use uuid::Uuid;

use crate::connection::Reach;
use crate::entity::{client_links, clients, galleries, gallery_clients, photos};
use crate::gallery::{Counted, after, counted, photo_of};
use crate::identity::status_of;
use crate::scope::{Tenant, column, corrupt, execute, failed, locks_rows, query};
use crate::store::{Reader, Store, WriteTx, exists};

fn client_of(row: &QueryResult) -> Result<Client, StoreError> {
    let id = ClientId::from_uuid(column(row, "id")?);
    Ok(Client {
        id,
        name: PersonName::from_stored(column(row, "name")?),
        email: EmailAddress::from_stored(column(row, "email")?),
        invited_at: column(row, "invited_at")?,
        last_seen_at: column(row, "last_seen_at")?,
        created_at: column(row, "created_at")?,
        updated_at: column(row, "updated_at")?,
        version: u32::try_from(column::<i64>(row, "version")?)
            .map_err(|e| corrupt("clients", "version", id, e))?,
    })
}

/// Clients with their link, where a condition on them holds.
async fn select(
    on: &impl ConnectionTrait,
    condition: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<Client>, StoreError> {
    let sql = format!(
        "SELECT c.id, c.name, c.email, c.last_seen_at, c.created_at, c.updated_at, c.version, l.created_at AS invited_at
        FROM clients c LEFT JOIN client_links l ON l.workspace_id = c.workspace_id AND l.client_id = c.id
        WHERE c.workspace_id = $1 AND {condition}"
    );
    let rows = query(on, "read clients", &sql, values).await?;
    rows.iter().map(client_of).collect()
}

async fn one(
    scope: &WorkspaceScope,
    id: ClientId,
    on: &impl ConnectionTrait,
) -> Result<Option<Client>, StoreError> {
    let values = [scope.workspace().uuid().into(), id.uuid().into()];
    Ok(select(on, "c.id = $2", values).await?.pop())
}

impl ClientsTx for WriteTx {
    async fn insert_client(&mut self, client: &Client) -> Result<(), StoreError> {
        let row = clients::ActiveModel {
            id: Set(client.id.uuid()),
            name: Set(client.name.as_str().to_owned()),
            email: Set(client.email.as_str().to_owned()),
            email_folded: Set(client.email.folded()),
            last_seen_at: Set(client.last_seen_at),
            created_at: Set(client.created_at),
            updated_at: Set(client.updated_at),
            version: Set(i64::from(client.version)),
            ..Default::default()
        };
        let insert = clients::Entity::scoped_insert(&self.scope, [row]);
        insert
            .exec_without_returning(&self.tx)
            .await
            .map_err(failed("insert a client"))?;
        Ok(())
    }

    async fn client(&mut self, id: ClientId) -> Result<Option<Client>, StoreError> {
        let values = [self.scope.workspace().uuid().into(), id.uuid().into()];
        let lock = if locks_rows(&self.tx) {
            "c.id = $2 FOR NO KEY UPDATE OF c"
        } else {
            "c.id = $2"
        };
        Ok(select(&self.tx, lock, values).await?.pop())
    }

    async fn update_client(&mut self, client: &Client) -> Result<(), StoreError> {
        clients::Entity::scoped_update(&self.scope)
            .col_expr(clients::Column::Name, Expr::value(client.name.as_str()))
            .col_expr(clients::Column::Email, Expr::value(client.email.as_str()))
            .col_expr(
                clients::Column::EmailFolded,
                Expr::value(client.email.folded()),
            )
            .col_expr(clients::Column::UpdatedAt, Expr::value(client.updated_at))
            .col_expr(
                clients::Column::Version,
                Expr::value(i64::from(client.version)),
            )
            .filter(clients::Column::Id.eq(client.id.uuid()))
            .exec(&self.tx)
            .await
            .map_err(failed("update a client"))?;
        Ok(())
    }

    async fn delete_client(&mut self, id: ClientId) -> Result<Vec<GalleryId>, StoreError> {
        const OFF: &str =
            "UPDATE galleries SET version = version + 1, updated_at = $3 WHERE workspace_id = $1 AND id IN
            (SELECT gallery_id FROM gallery_clients WHERE workspace_id = $1 AND client_id = $2) RETURNING id";
        let values = [
            self.scope.workspace().uuid().into(),
            id.uuid().into(),
            self.env().now().into(),
        ];
        let rows = query(&self.tx, "take a client off galleries", OFF, values).await?;
        let mut galleries = rows
            .iter()
            .map(|row| Ok(GalleryId::from_uuid(column(row, "id")?)))
            .collect::<Result<Vec<_>, StoreError>>()?;
        galleries.sort_unstable();
        // The link and the places in galleries go with the row that they point at.
        clients::Entity::scoped_delete(&self.scope)
            .filter(clients::Column::Id.eq(id.uuid()))
            .exec(&self.tx)
            .await
            .map_err(failed("delete a client"))?;
        Ok(galleries)
    }

    async fn put_link(&mut self, link: &NewLink) -> Result<(), StoreError> {
        self.delete_link(link.client).await?;
        let row = client_links::ActiveModel {
            id: Set(link.id.uuid()),
            client_id: Set(link.client.uuid()),
            secret_hash: Set(link.secret_hash.to_vec()),
            created_at: Set(link.created_at),
            ..Default::default()
        };
        let insert = client_links::Entity::scoped_insert(&self.scope, [row]);
        insert
            .exec_without_returning(&self.tx)
            .await
            .map_err(failed("insert a link"))?;
        Ok(())
    }

    async fn delete_link(&mut self, client: ClientId) -> Result<bool, StoreError> {
        let done = client_links::Entity::scoped_delete(&self.scope)
            .filter(client_links::Column::ClientId.eq(client.uuid()))
            .exec(&self.tx)
            .await
            .map_err(failed("revoke a link"))?;
        Ok(done.rows_affected == 1)
    }

    async fn clients_of(&mut self, gallery: GalleryId) -> Result<BTreeSet<ClientId>, StoreError> {
        let clients: Vec<Uuid> = gallery_clients::Entity::scoped(&self.scope)
            .filter(gallery_clients::Column::GalleryId.eq(gallery.uuid()))
            .select_only()
            .column(gallery_clients::Column::ClientId)
            .into_tuple()
            .all(&self.tx)
            .await
            .map_err(failed("list the clients of a gallery"))?;
        Ok(clients.into_iter().map(ClientId::from_uuid).collect())
    }

    async fn change_clients_of(
        &mut self,
        gallery: GalleryId,
        off: &[ClientId],
        on: &[ClientId],
    ) -> Result<(), StoreError> {
        if !off.is_empty() {
            gallery_clients::Entity::scoped_delete(&self.scope)
                .filter(gallery_clients::Column::GalleryId.eq(gallery.uuid()))
                .filter(gallery_clients::Column::ClientId.is_in(off.iter().map(|id| id.uuid())))
                .exec(&self.tx)
                .await
                .map_err(failed("take clients off a gallery"))?;
        }
        if !on.is_empty() {
            let rows = on.iter().map(|client| gallery_clients::ActiveModel {
                gallery_id: Set(gallery.uuid()),
                client_id: Set(client.uuid()),
                ..Default::default()
            });
            gallery_clients::Entity::scoped_insert(&self.scope, rows)
                .exec_without_returning(&self.tx)
                .await
                .map_err(failed("put clients on a gallery"))?;
        }
        Ok(())
    }
}

impl ClientsRead for Reader {
    async fn client(&self, id: ClientId) -> Result<Option<Client>, StoreError> {
        one(&self.scope, id, self.db()).await
    }

    async fn clients(&self, page: PageRequest) -> Result<Page<Client>, StoreError> {
        let values = [
            self.scope.workspace().uuid().into(),
            after(page).into(),
            (i64::from(page.limit) + 1).into(),
        ];
        let found = select(self.db(), "c.id > $2 ORDER BY c.id LIMIT $3", values).await?;
        Ok(Page::cut(found, page.limit, |c| Position::Id(c.id.uuid())))
    }
}

/// That a gallery lists the client and is not deleted.
fn shown_to(scope: &WorkspaceScope, client: ClientId) -> Condition {
    let listed: SelectStatement = gallery_clients::Entity::scoped(scope)
        .filter(gallery_clients::Column::ClientId.eq(client.uuid()))
        .select_only()
        .column(gallery_clients::Column::GalleryId)
        .into_query();
    Condition::all()
        .add(galleries::Column::Id.in_subquery(listed))
        .add(galleries::Column::DeletedAt.is_null())
}

impl SharedRead for Reader {
    async fn shared_galleries(&self, client: ClientId) -> Result<Vec<GalleryOverview>, StoreError> {
        let select = galleries::Entity::scoped(&self.scope)
            .filter(shown_to(&self.scope, client))
            .order_by_asc(galleries::Column::Id);
        let rows = counted(select, self.db()).all(self.db()).await;
        let rows = rows.map_err(failed("list a client's galleries"))?;
        rows.into_iter().map(Counted::overview).collect()
    }

    async fn shared_photos(
        &self,
        client: ClientId,
        gallery: GalleryId,
        page: PageRequest,
    ) -> Result<Option<Page<Photo>>, StoreError> {
        let visible = galleries::Entity::scoped(&self.scope)
            .filter(galleries::Column::Id.eq(gallery.uuid()))
            .filter(shown_to(&self.scope, client));
        if !exists(visible, self.db()).await? {
            return Ok(None);
        }
        self.photos_of(gallery, page).await.map(Some)
    }

    async fn shared_photo(
        &self,
        client: ClientId,
        id: PhotoId,
    ) -> Result<Option<(Photo, Download)>, StoreError> {
        const SHARED: &str = "SELECT p.*, g.download FROM photos p
            JOIN galleries g ON g.workspace_id = p.workspace_id AND g.id = p.gallery_id AND g.deleted_at IS NULL
            JOIN gallery_clients c ON c.workspace_id = g.workspace_id AND c.gallery_id = g.id
            WHERE p.workspace_id = $1 AND p.id = $2 AND c.client_id = $3";
        let values = [
            self.scope.workspace().uuid().into(),
            id.uuid().into(),
            client.uuid().into(),
        ];
        let rows = query(self.db(), "read a client's photo", SHARED, values).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let photo =
            photos::Model::from_query_result(row, "").map_err(failed("read a client's photo"))?;
        let download = column::<String>(row, "download")?
            .parse()
            .map_err(|e| corrupt("galleries", "download", id, e))?;
        Ok(Some((photo_of(photo)?, download)))
    }
}

impl ClientLinks for Store {
    async fn open_link(
        &self,
        token: &ClientLinkToken,
        pepper: &TokenPepper,
    ) -> Result<Option<OpenLink>, StoreError> {
        const OPEN: &str =
            "SELECT l.secret_hash, l.client_id, c.name, c.last_seen_at, w.name AS workspace, w.status
            FROM client_links l
            JOIN clients c ON c.workspace_id = l.workspace_id AND c.id = l.client_id
            JOIN workspaces w ON w.workspace_id = l.workspace_id
            WHERE l.workspace_id = $1 AND l.id = $2";
        let values = [token.workspace().uuid().into(), token.id().uuid().into()];
        let within = self.reads(Reach::Workspace(token.workspace()));
        let rows = query(&within, "open a link", OPEN, values).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let proved = token.matches_keyed(pepper, &column::<Vec<u8>>(row, "secret_hash")?);
        let status = status_of(&column::<String>(row, "status")?)?;
        if !proved || status != WorkspaceStatus::Active {
            return Ok(None);
        }
        let client = ClientId::from_uuid(column(row, "client_id")?);
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the store's own reading of the link's row, and its secret was compared"
        )]
        let grant = LinkGrant::attest(token.workspace(), client);
        Ok(Some(OpenLink {
            grant,
            client_name: PersonName::from_stored(column(row, "name")?),
            workspace_name: column(row, "workspace")?,
            last_seen_at: column(row, "last_seen_at")?,
        }))
    }

    async fn note_seen(
        &self,
        scope: &WorkspaceScope,
        client: ClientId,
        at: DateTime<Utc>,
        unless_after: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        const SEEN: &str =
            "UPDATE clients SET last_seen_at = $3 WHERE workspace_id = $1 AND id = $2
            AND (last_seen_at IS NULL OR last_seen_at <= $4 OR last_seen_at > $3)";
        let values = [
            scope.workspace().uuid().into(),
            client.uuid().into(),
            at.into(),
            unless_after.into(),
        ];
        let within = self.writes(Reach::of(scope));
        execute(&within, "note that a client was seen", SEEN, values).await?;
        Ok(())
    }
}
