//! Clients, their links, and what those show.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rawdrive_identity::ports::WorkspaceStatus;
use rawdrive_identity::{EmailAddress, PersonName, TokenPepper};
use rawdrive_store::extension::sea_orm::sea_query::{Condition, Expr};
use rawdrive_store::extension::sea_orm::{
    ColumnTrait, DbErr, FromQueryResult, QueryFilter as _, QueryOrder as _, QueryResult,
    QuerySelect as _, Set,
};
use rawdrive_store::extension::{Row, column, corrupt};
use rawdrive_store::{Reader, Release, Store, WriteTx};
use rawdrive_tenancy_core::id::TypedId;
use rawdrive_tenancy_core::page::{Page, PageRequest, Position};
use rawdrive_tenancy_core::{Commit as _, StoreError, WorkspaceScope};
use uuid::Uuid;

use super::entities::{client_links, clients, galleries, gallery_clients, photos};
use super::galleries::{Counted, counted, photo_of, photos_of};
use super::version;
use crate::id::{ClientId, GalleryId, PhotoId};
use crate::{
    Client, ClientLinkToken, ClientLinks, ClientsRead, ClientsTx, Download, GalleryOverview,
    LinkGrant, NewLink, OpenLink, Photo, PhotoListing, SharedRead,
};

fn client_of(row: &Row) -> Result<Client, StoreError> {
    Ok(Client {
        id: ClientId::from_uuid(column(row, "id")?),
        name: PersonName::from_stored(column(row, "name")?),
        email: EmailAddress::from_stored(column(row, "email")?),
        invited_at: column(row, "invited_at")?,
        last_seen_at: column(row, "last_seen_at")?,
        created_at: column(row, "created_at")?,
        updated_at: column(row, "updated_at")?,
        version: version("clients", column(row, "version")?)?,
    })
}

/// Clients with their link; a condition on them follows.
const SELECT: &str = "SELECT c.id, c.name, c.email, c.last_seen_at, c.created_at, c.updated_at, c.version, l.created_at AS invited_at
    FROM clients c LEFT JOIN client_links l ON l.workspace_id = c.workspace_id AND l.client_id = c.id
    WHERE c.workspace_id = $1";

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
        self.insert([row]).named("insert a client").exec().await?;
        Ok(())
    }

    async fn client(&mut self, id: ClientId) -> Result<Option<Client>, StoreError> {
        let sql = format!("{SELECT} AND c.id = $2{}", self.for_update_of("c"));
        let rows = self
            .query("read a client", &sql, [id.uuid().into()])
            .await?;
        rows.first().map(client_of).transpose()
    }

    async fn update_client(&mut self, client: &Client) -> Result<(), StoreError> {
        self.update::<clients::Entity>()
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
            .named("update a client")
            .exec()
            .await?;
        Ok(())
    }

    async fn delete_client(&mut self, id: ClientId) -> Result<Vec<GalleryId>, StoreError> {
        const OFF: &str =
            "UPDATE galleries SET version = version + 1, updated_at = $3 WHERE workspace_id = $1 AND id IN
            (SELECT gallery_id FROM gallery_clients WHERE workspace_id = $1 AND client_id = $2) RETURNING id";
        let values = [id.uuid().into(), self.env().now().into()];
        let rows = self
            .query("take a client off galleries", OFF, values)
            .await?;
        let mut galleries = rows
            .iter()
            .map(|row| Ok(GalleryId::from_uuid(column(row, "id")?)))
            .collect::<Result<Vec<_>, StoreError>>()?;
        galleries.sort_unstable();
        // The link and the places in galleries go with the row that they point at.
        self.delete::<clients::Entity>()
            .filter(clients::Column::Id.eq(id.uuid()))
            .named("delete a client")
            .exec()
            .await?;
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
        self.insert([row]).named("insert a link").exec().await?;
        Ok(())
    }

    async fn delete_link(&mut self, client: ClientId) -> Result<bool, StoreError> {
        let done = self
            .delete::<client_links::Entity>()
            .filter(client_links::Column::ClientId.eq(client.uuid()))
            .named("revoke a link")
            .exec()
            .await?;
        Ok(done == 1)
    }

    async fn clients_of(&mut self, gallery: GalleryId) -> Result<BTreeSet<ClientId>, StoreError> {
        let clients: Vec<Uuid> = self
            .select::<gallery_clients::Entity>()
            .filter(gallery_clients::Column::GalleryId.eq(gallery.uuid()))
            .select_only()
            .column(gallery_clients::Column::ClientId)
            .named("list the clients of a gallery")
            .into_tuple()
            .all()
            .await?;
        Ok(clients.into_iter().map(ClientId::from_uuid).collect())
    }

    async fn change_clients_of(
        &mut self,
        gallery: GalleryId,
        off: &[ClientId],
        on: &[ClientId],
    ) -> Result<(), StoreError> {
        if !off.is_empty() {
            self.delete::<gallery_clients::Entity>()
                .filter(gallery_clients::Column::GalleryId.eq(gallery.uuid()))
                .filter(gallery_clients::Column::ClientId.is_in(off.iter().map(|id| id.uuid())))
                .named("take clients off a gallery")
                .exec()
                .await?;
        }
        if !on.is_empty() {
            let rows = on.iter().map(|client| gallery_clients::ActiveModel {
                gallery_id: Set(gallery.uuid()),
                client_id: Set(client.uuid()),
                ..Default::default()
            });
            self.insert(rows)
                .named("put clients on a gallery")
                .exec()
                .await?;
        }
        Ok(())
    }
}

impl ClientsRead for Reader {
    async fn client(&self, id: ClientId) -> Result<Option<Client>, StoreError> {
        let sql = format!("{SELECT} AND c.id = $2");
        let rows = self
            .query("read a client", &sql, [id.uuid().into()])
            .await?;
        rows.first().map(client_of).transpose()
    }

    async fn clients(&self, page: PageRequest) -> Result<Page<Client>, StoreError> {
        let sql = format!("{SELECT} AND c.id > $2 ORDER BY c.id LIMIT $3");
        let values = [page.after_id().into(), (i64::from(page.limit) + 1).into()];
        let rows = self.query("list clients", &sql, values).await?;
        let found = rows.iter().map(client_of).collect::<Result<_, _>>()?;
        Ok(Page::cut(found, page.limit, |c: &Client| {
            Position::Id(c.id.uuid())
        }))
    }
}

/// That a gallery lists the client and is not deleted.
fn shown_to(reader: &Reader, client: ClientId) -> Result<Condition, StoreError> {
    let listed = reader
        .select::<gallery_clients::Entity>()
        .filter(gallery_clients::Column::ClientId.eq(client.uuid()))
        .select_only()
        .column(gallery_clients::Column::GalleryId)
        .into_subquery()?;
    Ok(Condition::all()
        .add(galleries::Column::Id.in_subquery(listed))
        .add(galleries::Column::DeletedAt.is_null()))
}

/// A photo's row with what may be downloaded of its gallery.
struct SharedPhoto {
    photo: photos::Model,
    download: String,
}

impl FromQueryResult for SharedPhoto {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            photo: photos::Model::from_query_result(row, prefix)?,
            download: row.try_get(prefix, "download")?,
        })
    }
}

impl SharedRead for Reader {
    async fn shared_galleries(&self, client: ClientId) -> Result<Vec<GalleryOverview>, StoreError> {
        let select = self
            .select::<galleries::Entity>()
            .filter(shown_to(self, client)?)
            .order_by_asc(galleries::Column::Id)
            .named("list a client's galleries");
        let rows = counted(select, self.dialect()).into_model::<Counted>();
        rows.all()
            .await?
            .into_iter()
            .map(Counted::overview)
            .collect()
    }

    async fn shared_photos(
        &self,
        client: ClientId,
        gallery: GalleryId,
        page: PageRequest,
    ) -> Result<Option<Page<Photo>>, StoreError> {
        let visible = self
            .select::<galleries::Entity>()
            .filter(galleries::Column::Id.eq(gallery.uuid()))
            .filter(shown_to(self, client)?);
        if !visible.exists().await? {
            return Ok(None);
        }
        let listing = PhotoListing::default();
        photos_of(self, gallery, &listing, page).await.map(Some)
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
        let values = [id.uuid().into(), client.uuid().into()];
        let rows = self
            .query_as::<SharedPhoto>("read a client's photo", SHARED, values)
            .await?;
        let Some(row) = rows.into_iter().next() else {
            return Ok(None);
        };
        let download = row.download.parse();
        let download = download.map_err(|e| corrupt("galleries", "download", id, e))?;
        Ok(Some((photo_of(row.photo)?, download)))
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
        #[expect(
            clippy::disallowed_methods,
            reason = "this looks the presented link's row up, and judges it below"
        )]
        let reader = self.read_to_authenticate(token.workspace());
        let rows = reader
            .query("open a link", OPEN, [token.id().uuid().into()])
            .await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let proved = token.matches_keyed(pepper, &column::<Vec<u8>>(row, "secret_hash")?);
        let status = column::<String>(row, "status")?
            .parse::<WorkspaceStatus>()
            .map_err(|e| corrupt("workspaces", "status", token.workspace(), e))?;
        if !proved || status != WorkspaceStatus::Active {
            return Ok(None);
        }
        let client = ClientId::from_uuid(column(row, "client_id")?);
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the reading of the link's row, and its secret was compared"
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
        let values = [client.uuid().into(), at.into(), unless_after.into()];
        let mut tx = self
            .begin_despite_read_only(scope, Release::Metering)
            .await?;
        tx.execute("note that a client was seen", SEEN, values)
            .await?;
        tx.commit().await
    }
}
