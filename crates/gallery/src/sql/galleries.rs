//! Libraries, galleries, photos, branding.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rawdrive_plans::{BeginError, PlansTx as _};
use rawdrive_store::extension::sea_orm::sea_query::{Condition, Expr, LikeExpr, LockType};
use rawdrive_store::extension::sea_orm::{
    ColumnTrait, DbErr, ExprTrait as _, FromQueryResult, Order, QueryFilter as _, QueryOrder as _,
    QueryResult, QuerySelect as _, Set, Value,
};
use rawdrive_store::extension::{Batcher, Selected, TenantEntity, amount, column, corrupt};
use rawdrive_store::{Backend, Reader, Store, WriteTx};
use rawdrive_tenancy_core::id::TypedId;
use rawdrive_tenancy_core::page::{Page, PageRequest, Position};
use rawdrive_tenancy_core::{Env, StoreError, WorkspaceScope};
use rawdrive_usage::{QuotaKey, UsageTx as _};
use uuid::Uuid;

use super::entities::{branding, galleries, libraries, photos};
use super::renditions::{renditions_of, text_of};
use super::{count, one_more, version};
use crate::id::{ClientId, GalleryId, LibraryId, PhotoId};
use crate::renditions::model::Renditions;
use crate::{
    Branding, Color, FileName, Gallery, GalleryFilter, GalleryOverview, GalleryRead, GalleryTx,
    Library, LibraryDeletion, ListedGallery, NameListing, NameOrder, Opened, Opening, Orientation,
    Photo, PhotoKey, PhotoListing, PhotoOrder, Title, UploadStore, Website, open_together,
};

fn library_of(row: libraries::Model) -> Result<Library, StoreError> {
    let id = LibraryId::from_uuid(row.id);
    Ok(Library {
        id,
        name: Title::from_stored(row.name),
        created_at: row.created_at,
        updated_at: row.updated_at,
        version: version("libraries", row.version)?,
    })
}

fn gallery_of(row: galleries::Model) -> Result<Gallery, StoreError> {
    let id = GalleryId::from_uuid(row.id);
    Ok(Gallery {
        id,
        library: LibraryId::from_uuid(row.library_id),
        name: Title::from_stored(row.name),
        download: row
            .download
            .parse()
            .map_err(|e| corrupt("galleries", "download", id, e))?,
        deleted_at: row.deleted_at,
        created_at: row.created_at,
        updated_at: row.updated_at,
        version: version("galleries", row.version)?,
    })
}

pub(super) fn photo_of(row: photos::Model) -> Result<Photo, StoreError> {
    let id = PhotoId::from_uuid(row.id);
    let pixels = |column, value: Option<i64>| {
        value
            .map(u32::try_from)
            .transpose()
            .map_err(|e| corrupt("photos", column, id, e))
    };
    let renditions = renditions_of(id, &row.content_type, row.renditions.as_deref())?;
    Ok(Photo {
        id,
        gallery: GalleryId::from_uuid(row.gallery_id),
        filename: row
            .filename
            .parse::<FileName>()
            .map_err(|e| corrupt("photos", "filename", id, e))?,
        content_type: row.content_type,
        size_bytes: count("photos", "size_bytes", row.size_bytes)?,
        sha256: row
            .sha256
            .try_into()
            .map_err(|_| corrupt("photos", "sha256", id, "is not 32 bytes"))?,
        width: pixels("width", row.width)?,
        height: pixels("height", row.height)?,
        orientation: pixels("orientation", row.orientation)?
            .map(|number| {
                Orientation::of_exif(number)
                    .ok_or_else(|| corrupt("photos", "orientation", id, "is not 1 to 8"))
            })
            .transpose()?,
        taken_at: row.taken_at,
        created_at: row.created_at,
        updated_at: row.updated_at.unwrap_or(row.created_at),
        version: version("photos", row.version)?,
        renditions,
    })
}

fn branding_of(row: branding::Model) -> Result<Branding, StoreError> {
    let wrong = |column, e| corrupt("branding", column, row.workspace_id, e);
    Ok(Branding {
        display_name: Title::from_stored(row.display_name),
        primary_color: row
            .primary_color
            .parse::<Color>()
            .map_err(|e| wrong("primary_color", e))?,
        logo_photo: row.logo_photo_id.map(PhotoId::from_uuid),
        website: row.website.map(Website::from_stored),
    })
}

async fn one_library(
    select: Selected<'_, libraries::Entity>,
    id: LibraryId,
) -> Result<Option<Library>, StoreError> {
    let select = select.filter(libraries::Column::Id.eq(id.uuid()));
    let row = select.named("read a library").one().await?;
    row.map(library_of).transpose()
}

async fn one_gallery(
    select: Selected<'_, galleries::Entity>,
    id: GalleryId,
) -> Result<Option<Gallery>, StoreError> {
    let select = select.filter(galleries::Column::Id.eq(id.uuid()));
    let row = select.named("read a gallery").one().await?;
    row.map(gallery_of).transpose()
}

async fn one_branding(
    select: Selected<'_, branding::Entity>,
) -> Result<Option<Branding>, StoreError> {
    let row = select.named("read the branding").one().await?;
    row.map(branding_of).transpose()
}

async fn one_photo(
    select: Selected<'_, photos::Entity>,
    id: PhotoId,
) -> Result<Option<Photo>, StoreError> {
    let select = select.filter(photos::Column::Id.eq(id.uuid()));
    let row = select.named("read a photo").one().await?;
    row.map(photo_of).transpose()
}

impl GalleryTx for WriteTx {
    async fn insert_library(&mut self, library: &Library) -> Result<bool, StoreError> {
        const OPERATION: &str = "insert a library";
        const INSERT: &str =
            "INSERT INTO libraries (workspace_id, id, name, created_at, updated_at, version, name_folded)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            RETURNING CASE WHEN EXISTS (SELECT 1 FROM libraries o WHERE o.workspace_id = $1 AND o.id <> $2)
                THEN 0 ELSE 1 END AS is_only";
        // Held at least shared, so that who deletes one waits for this.
        self.entitlements().await?;
        let values = [
            library.id.uuid().into(),
            library.name.as_str().into(),
            library.created_at.into(),
            library.updated_at.into(),
            i64::from(library.version).into(),
            library.name.folded().into(),
        ];
        let rows = self.query(OPERATION, INSERT, values).await?;
        let row = rows.first().ok_or(StoreError::Dangling {
            operation: OPERATION,
        })?;
        Ok(column::<i32>(row, "is_only")? == 1)
    }

    async fn library(&mut self, id: LibraryId) -> Result<Option<Library>, StoreError> {
        let select = self
            .select::<libraries::Entity>()
            .lock(LockType::NoKeyUpdate);
        one_library(select, id).await
    }

    async fn update_library(&mut self, library: &Library) -> Result<(), StoreError> {
        self.update::<libraries::Entity>()
            .col_expr(libraries::Column::Name, Expr::value(library.name.as_str()))
            .col_expr(
                libraries::Column::NameFolded,
                Expr::value(library.name.folded()),
            )
            .col_expr(
                libraries::Column::UpdatedAt,
                Expr::value(library.updated_at),
            )
            .col_expr(
                libraries::Column::Version,
                Expr::value(i64::from(library.version)),
            )
            .filter(libraries::Column::Id.eq(library.id.uuid()))
            .named("update a library")
            .exec()
            .await?;
        Ok(())
    }

    async fn delete_library(&mut self, id: LibraryId) -> Result<LibraryDeletion, StoreError> {
        // Who is adding one to the workspace has seen that this is there.
        self.entitlements_to_change().await?;
        // A gallery that is being added to it holds the row; afterwards it is seen here.
        let select = self.select::<libraries::Entity>().lock(LockType::Update);
        if one_library(select, id).await?.is_none() {
            return Ok(LibraryDeletion::Missing);
        }
        let inside = self
            .select::<galleries::Entity>()
            .filter(galleries::Column::LibraryId.eq(id.uuid()));
        if inside.exists().await? {
            return Ok(LibraryDeletion::NotEmpty);
        }
        let done = self
            .delete::<libraries::Entity>()
            .filter(libraries::Column::Id.eq(id.uuid()))
            .named("delete a library")
            .exec()
            .await?;
        Ok(if done == 1 {
            LibraryDeletion::Deleted
        } else {
            LibraryDeletion::Missing
        })
    }

    async fn insert_gallery(&mut self, gallery: &Gallery) -> Result<(), StoreError> {
        let row = galleries::ActiveModel {
            id: Set(gallery.id.uuid()),
            library_id: Set(gallery.library.uuid()),
            name: Set(gallery.name.to_string()),
            name_folded: Set(gallery.name.folded()),
            download: Set(gallery.download.as_str().to_owned()),
            deleted_at: Set(gallery.deleted_at),
            created_at: Set(gallery.created_at),
            updated_at: Set(gallery.updated_at),
            version: Set(i64::from(gallery.version)),
            ..Default::default()
        };
        self.insert([row]).named("insert a gallery").exec().await?;
        Ok(())
    }

    async fn gallery(&mut self, id: GalleryId) -> Result<Option<Gallery>, StoreError> {
        one_gallery(self.select::<galleries::Entity>(), id).await
    }

    async fn gallery_to_change(&mut self, id: GalleryId) -> Result<Option<Gallery>, StoreError> {
        let select = self
            .select::<galleries::Entity>()
            .lock(LockType::NoKeyUpdate);
        one_gallery(select, id).await
    }

    async fn update_gallery(&mut self, gallery: &Gallery) -> Result<(), StoreError> {
        const OPERATION: &str = "update a gallery";
        let updated = self
            .update::<galleries::Entity>()
            .col_expr(
                galleries::Column::LibraryId,
                Expr::value(gallery.library.uuid()),
            )
            .col_expr(galleries::Column::Name, Expr::value(gallery.name.as_str()))
            .col_expr(
                galleries::Column::NameFolded,
                Expr::value(gallery.name.folded()),
            )
            .col_expr(
                galleries::Column::Download,
                Expr::value(gallery.download.as_str()),
            )
            .col_expr(
                galleries::Column::DeletedAt,
                Expr::value(gallery.deleted_at),
            )
            .col_expr(
                galleries::Column::UpdatedAt,
                Expr::value(gallery.updated_at),
            )
            .col_expr(
                galleries::Column::Version,
                Expr::value(i64::from(gallery.version)),
            )
            .filter(galleries::Column::Id.eq(gallery.id.uuid()))
            .filter(galleries::Column::Version.lt(i64::from(gallery.version)))
            .named(OPERATION)
            .exec()
            .await?;
        let id = galleries::Column::Id.eq(gallery.id.uuid());
        let met = updated == 0
            && self
                .select::<galleries::Entity>()
                .filter(id)
                .exists()
                .await?;
        if met {
            return Err(StoreError::Taken {
                operation: OPERATION,
            });
        }
        Ok(())
    }

    async fn delete_gallery(&mut self, id: GalleryId) -> Result<bool, StoreError> {
        let done = self
            .delete::<galleries::Entity>()
            .filter(galleries::Column::Id.eq(id.uuid()))
            .named("delete a gallery")
            .exec()
            .await?;
        Ok(done == 1)
    }

    async fn insert_photo(&mut self, photo: &Photo) -> Result<(), StoreError> {
        let row = photos::ActiveModel {
            id: Set(photo.id.uuid()),
            gallery_id: Set(photo.gallery.uuid()),
            filename: Set(photo.filename.to_string()),
            content_type: Set(photo.content_type.clone()),
            size_bytes: Set(amount(photo.size_bytes)),
            sha256: Set(photo.sha256.to_vec()),
            width: Set(photo.width.map(i64::from)),
            height: Set(photo.height.map(i64::from)),
            orientation: Set(photo.orientation.map(|o| i64::from(o.get()))),
            taken_at: Set(photo.taken_at),
            created_at: Set(photo.created_at),
            version: Set(i64::from(photo.version)),
            updated_at: Set(Some(photo.updated_at)),
            filename_folded: Set(photo.filename.folded()),
            renditions: Set(text_of(&photo.renditions)?),
            ..Default::default()
        };
        self.insert([row]).named("insert a photo").exec().await?;
        Ok(())
    }

    async fn photo(&mut self, id: PhotoId) -> Result<Option<Photo>, StoreError> {
        one_photo(self.select::<photos::Entity>(), id).await
    }

    async fn photos_among(&mut self, ids: &[PhotoId]) -> Result<Vec<Photo>, StoreError> {
        let rows = self
            .select::<photos::Entity>()
            .filter(photos::Column::Id.is_in(ids.iter().map(|id| id.uuid())))
            .named("read photos")
            .all()
            .await?;
        rows.into_iter().map(photo_of).collect()
    }

    async fn update_photos(&mut self, photos: &[Photo]) -> Result<(), StoreError> {
        const OPERATION: &str = "update photos";
        for photo in photos {
            let updated = self
                .update::<photos::Entity>()
                .col_expr(
                    photos::Column::Filename,
                    Expr::value(photo.filename.as_str()),
                )
                .col_expr(
                    photos::Column::FilenameFolded,
                    Expr::value(photo.filename.folded()),
                )
                .col_expr(photos::Column::GalleryId, Expr::value(photo.gallery.uuid()))
                .col_expr(photos::Column::UpdatedAt, Expr::value(photo.updated_at))
                .col_expr(
                    photos::Column::Version,
                    Expr::value(i64::from(photo.version)),
                )
                .filter(photos::Column::Id.eq(photo.id.uuid()))
                .filter(photos::Column::Version.lt(i64::from(photo.version)))
                .named(OPERATION)
                .exec()
                .await?;
            if updated == 0 {
                return Err(StoreError::Taken {
                    operation: OPERATION,
                });
            }
        }
        Ok(())
    }

    async fn put_renditions(
        &mut self,
        photo: PhotoId,
        renditions: &Renditions,
    ) -> Result<bool, StoreError> {
        let text = text_of(renditions)?;
        let done = self
            .update::<photos::Entity>()
            .col_expr(photos::Column::Renditions, Expr::value(text))
            .filter(photos::Column::Id.eq(photo.uuid()))
            .named("record renditions")
            .exec()
            .await?;
        Ok(done == 1)
    }

    async fn delete_photos(&mut self, ids: &[PhotoId]) -> Result<u64, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
        self.update::<branding::Entity>()
            .col_expr(
                branding::Column::LogoPhotoId,
                Expr::value(Option::<Uuid>::None),
            )
            .filter(branding::Column::LogoPhotoId.is_in(ids.iter().copied()))
            .named("forget a logo")
            .exec()
            .await?;
        self.delete::<photos::Entity>()
            .filter(photos::Column::Id.is_in(ids))
            .named("delete photos")
            .exec()
            .await
    }

    async fn take_photos_of(
        &mut self,
        gallery: GalleryId,
    ) -> Result<Vec<(PhotoId, u64)>, StoreError> {
        const FORGET_LOGO: &str =
            "UPDATE branding SET logo_photo_id = NULL WHERE workspace_id = $1 AND logo_photo_id IN
            (SELECT id FROM photos WHERE workspace_id = $1 AND gallery_id = $2)";
        const TAKE: &str = "DELETE FROM photos WHERE workspace_id = $1 AND gallery_id = $2
            RETURNING id, size_bytes";
        self.quota(&QuotaKey::level_of(crate::PHOTOS, gallery))
            .await?;
        self.execute("forget a logo", FORGET_LOGO, [gallery.uuid().into()])
            .await?;
        let rows = self
            .query("delete a gallery's photos", TAKE, [gallery.uuid().into()])
            .await?;
        rows.iter()
            .map(|row| {
                let size = count("photos", "size_bytes", column(row, "size_bytes")?)?;
                Ok((PhotoId::from_uuid(column(row, "id")?), size))
            })
            .collect()
    }

    async fn branding(&mut self) -> Result<Option<Branding>, StoreError> {
        let select = self
            .select::<branding::Entity>()
            .lock(LockType::NoKeyUpdate);
        one_branding(select).await
    }

    async fn put_branding(&mut self, new: &Branding) -> Result<(), StoreError> {
        const PUT: &str = "INSERT INTO branding (workspace_id, display_name, primary_color, logo_photo_id, website, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (workspace_id) DO UPDATE SET
            display_name = $2, primary_color = $3, logo_photo_id = $4, website = $5, updated_at = $6";
        let values = [
            new.display_name.as_str().into(),
            new.primary_color.as_str().into(),
            new.logo_photo.map(TypedId::uuid).into(),
            new.website.as_ref().map(|w| w.as_str().to_owned()).into(),
            self.env().now().into(),
        ];
        self.execute("save the branding", PUT, values).await?;
        Ok(())
    }
}

/// A gallery's row with what it counts.
pub(super) struct Counted {
    gallery: galleries::Model,
    photo_count: i64,
}

impl FromQueryResult for Counted {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            gallery: galleries::Model::from_query_result(row, prefix)?,
            photo_count: row.try_get(prefix, "photo_count")?,
        })
    }
}

impl Counted {
    pub(super) fn overview(self) -> Result<GalleryOverview, StoreError> {
        Ok(GalleryOverview {
            gallery: gallery_of(self.gallery)?,
            photo_count: count("quotas", "used", self.photo_count)?,
        })
    }
}

/// The quota row is the count of the gallery's photos, kept in the transaction that changes them.
pub(super) fn counted<'h>(
    select: Selected<'h, galleries::Entity>,
    dialect: Backend,
) -> Selected<'h, galleries::Entity> {
    let (subject, epoch) = match dialect {
        Backend::Sqlite => ("lower(hex(galleries.id))", "?"),
        Backend::Postgres => ("replace(galleries.id::text, '-', '')", "$1"),
    };
    let count = format!(
        "coalesce((SELECT q.used FROM quotas q WHERE q.workspace_id = galleries.workspace_id AND q.metric = '{}'
            AND q.subject = '{}_' || {subject} AND q.period_start = {epoch}), 0)",
        crate::PHOTOS,
        GalleryId::PREFIX,
    );
    let count = Expr::cust_with_values(count, [DateTime::<Utc>::UNIX_EPOCH]);
    select.expr_as(count, "photo_count")
}

/// A gallery's row with what it counts and who sees it.
struct Listed {
    counted: Counted,
    clients: Option<String>,
}

impl FromQueryResult for Listed {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            counted: Counted::from_query_result(row, prefix)?,
            clients: row.try_get(prefix, "clients")?,
        })
    }
}

impl Listed {
    fn listed(self) -> Result<ListedGallery, StoreError> {
        let overview = self.counted.overview()?;
        let clients = self.clients.unwrap_or_default();
        let clients = clients.split(',').filter(|id| !id.is_empty());
        let clients = clients.map(|id| Uuid::parse_str(id).map(ClientId::from_uuid));
        let clients = clients.collect::<Result<_, _>>();
        Ok(ListedGallery {
            clients: clients
                .map_err(|e| corrupt("gallery_clients", "client_id", overview.gallery.id, e))?,
            overview,
        })
    }
}

/// One statement for a whole page: what a page shows of each gallery comes with its row.
fn listed<'h>(
    select: Selected<'h, galleries::Entity>,
    dialect: Backend,
) -> Selected<'h, galleries::Entity> {
    let ids = match dialect {
        Backend::Sqlite => "group_concat(hex(c.client_id))",
        Backend::Postgres => "string_agg(c.client_id::text, ',')",
    };
    let clients = format!(
        "(SELECT {ids} FROM gallery_clients c
            WHERE c.workspace_id = galleries.workspace_id AND c.gallery_id = galleries.id)"
    );
    counted(select, dialect).expr_as(Expr::cust(clients), "clients")
}

/// Photos of a gallery that was deleted, and may come back, are not shown.
const IN_VISIBLE_GALLERY: &str =
    "EXISTS (SELECT 1 FROM galleries g WHERE g.workspace_id = photos.workspace_id
    AND g.id = photos.gallery_id AND g.deleted_at IS NULL)";

/// What photos are sorted by.
fn sort_key(by: PhotoKey) -> Option<Expr> {
    match by {
        // An id says when it was made.
        PhotoKey::Uploaded => None,
        PhotoKey::FileName => Some(Expr::col((photos::Entity, photos::Column::FilenameFolded))),
        PhotoKey::Taken => Some(Expr::cust("coalesce(photos.taken_at, photos.created_at)")),
    }
}

/// A sort key as it stands in a cursor that was sealed here.
fn key_value(by: PhotoKey, key: &str) -> Value {
    match by {
        PhotoKey::Uploaded | PhotoKey::FileName => key.into(),
        PhotoKey::Taken => {
            let at = DateTime::parse_from_rfc3339(key).unwrap_or_default();
            at.with_timezone(&Utc).into()
        }
    }
}

/// Those whose column holds a text.
fn holding<'h, E: TenantEntity>(
    select: Selected<'h, E>,
    column: Expr,
    part: Option<&str>,
) -> Selected<'h, E> {
    let Some(part) = part else {
        return select;
    };
    let mut pattern = String::from("%");
    for c in part.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    select.filter(column.like(LikeExpr::new(pattern).escape('\\')))
}

/// A page of a list that is sorted by a key, if it is sorted by more than ids, and begins behind that key and the page's
/// id. One row more than the page shows says whether another follows.
fn paged<'h, E: TenantEntity>(
    mut select: Selected<'h, E>,
    id: impl ColumnTrait,
    key: Option<(Expr, Option<Value>)>,
    descending: bool,
    page: PageRequest,
) -> Selected<'h, E> {
    let order = if descending { Order::Desc } else { Order::Asc };
    if let Some(Position::Id(after)) = page.after {
        let behind = if descending {
            id.lt(after)
        } else {
            id.gt(after)
        };
        select = match key.clone() {
            Some((key, Some(value))) => {
                // At or behind, which the index finds, and then behind.
                let (at, beyond) = match descending {
                    true => (key.clone().lte(value.clone()), key.lt(value)),
                    false => (key.clone().gte(value.clone()), key.gt(value)),
                };
                select
                    .filter(at)
                    .filter(Condition::any().add(beyond).add(behind))
            }
            _ => select.filter(behind),
        };
    }
    if let Some((key, _)) = key {
        select = select.order_by(key, order.clone());
    }
    select.order_by(id, order).limit(one_more(page))
}

/// A page of a list of what has a name.
fn named<'h, E: TenantEntity>(
    select: Selected<'h, E>,
    id: impl ColumnTrait,
    name: Expr,
    listing: &NameListing,
    page: PageRequest,
) -> Selected<'h, E> {
    let select = holding(select, name.clone(), listing.name.as_deref());
    let NameOrder {
        by_name,
        descending,
    } = listing.order;
    let key = by_name.then(|| (name, listing.after_key.as_deref().map(Value::from)));
    paged(select, id, key, descending, page)
}

/// Photos of a gallery that the caller found to be visible: one walk along the index of the order, within the gallery.
pub(super) async fn photos_of(
    reader: &Reader,
    gallery: GalleryId,
    listing: &PhotoListing,
    page: PageRequest,
) -> Result<Page<Photo>, StoreError> {
    let select = reader
        .select::<photos::Entity>()
        .filter(photos::Column::GalleryId.eq(gallery.uuid()))
        .filter(Expr::cust(IN_VISIBLE_GALLERY));
    let name = Expr::col((photos::Entity, photos::Column::FilenameFolded));
    let mut select = holding(select, name, listing.filename.as_deref());
    if let Some(from) = listing.taken_from {
        select = select.filter(photos::Column::TakenAt.gte(from));
    }
    if let Some(before) = listing.taken_before {
        select = select.filter(photos::Column::TakenAt.lt(before));
    }
    let PhotoOrder { by, descending } = listing.order;
    let after = listing.after_key.as_deref().map(|key| key_value(by, key));
    let key = sort_key(by).map(|key| (key, after));
    let rows = paged(select, photos::Column::Id, key, descending, page)
        .named("list photos")
        .all()
        .await?;
    let items = rows.into_iter().map(photo_of).collect::<Result<_, _>>()?;
    Ok(Page::cut(items, page.limit, |p: &Photo| {
        Position::Id(p.id.uuid())
    }))
}

impl GalleryRead for Reader {
    async fn library(&self, id: LibraryId) -> Result<Option<Library>, StoreError> {
        one_library(self.select(), id).await
    }

    async fn libraries(
        &self,
        listing: &NameListing,
        page: PageRequest,
    ) -> Result<Page<Library>, StoreError> {
        let (id, name) = (libraries::Column::Id, libraries::Column::NameFolded);
        let name = Expr::col((libraries::Entity, name));
        let rows = named(self.select::<libraries::Entity>(), id, name, listing, page)
            .named("list libraries")
            .all()
            .await?;
        let items = rows.into_iter().map(library_of).collect::<Result<_, _>>()?;
        Ok(Page::cut(items, page.limit, |l: &Library| {
            Position::Id(l.id.uuid())
        }))
    }

    async fn gallery(&self, id: GalleryId) -> Result<Option<ListedGallery>, StoreError> {
        let select = self
            .select::<galleries::Entity>()
            .filter(galleries::Column::Id.eq(id.uuid()))
            .filter(galleries::Column::DeletedAt.is_null())
            .named("read a gallery");
        let select = listed(select, self.dialect()).into_model::<Listed>();
        select.one().await?.map(Listed::listed).transpose()
    }

    async fn galleries(
        &self,
        filter: &GalleryFilter,
        page: PageRequest,
    ) -> Result<Page<ListedGallery>, StoreError> {
        let mut select = self.select::<galleries::Entity>();
        if let Some(library) = filter.library {
            select = select.filter(galleries::Column::LibraryId.eq(library.uuid()));
        }
        let deleted = galleries::Column::DeletedAt;
        let select = select.filter(match filter.deleted {
            true => deleted.is_not_null(),
            false => deleted.is_null(),
        });
        let (id, name) = (galleries::Column::Id, galleries::Column::NameFolded);
        let name = Expr::col((galleries::Entity, name));
        let select = named(select, id, name, &filter.listing, page).named("list galleries");
        let select = listed(select, self.dialect()).into_model::<Listed>();
        let items = select.all().await?.into_iter().map(Listed::listed);
        let items = items.collect::<Result<_, _>>()?;
        Ok(Page::cut(items, page.limit, |g: &ListedGallery| {
            Position::Id(g.overview.gallery.id.uuid())
        }))
    }

    async fn photo(&self, id: PhotoId) -> Result<Option<Photo>, StoreError> {
        let visible = self
            .select::<photos::Entity>()
            .filter(Expr::cust(IN_VISIBLE_GALLERY));
        one_photo(visible, id).await
    }

    async fn any_photo(&self, id: PhotoId) -> Result<Option<Photo>, StoreError> {
        one_photo(self.select(), id).await
    }

    async fn photos(
        &self,
        gallery: GalleryId,
        listing: &PhotoListing,
        page: PageRequest,
    ) -> Result<Option<Page<Photo>>, StoreError> {
        let visible = self
            .select::<galleries::Entity>()
            .filter(galleries::Column::Id.eq(gallery.uuid()))
            .filter(galleries::Column::DeletedAt.is_null());
        let page = photos_of(self, gallery, listing, page).await?;
        // A photo says that its gallery is there; only where there is none is that asked for.
        if page.items.is_empty() && !visible.exists().await? {
            return Ok(None);
        }
        Ok(Some(page))
    }

    async fn branding(&self) -> Result<Option<Branding>, StoreError> {
        one_branding(self.select()).await
    }
}

/// Uploads that begin in one workspace at the same time go into one transaction.
type Openings = Batcher<Opening, Result<Opened, Arc<BeginError>>>;

impl UploadStore for Store {
    async fn open(
        &self,
        scope: &WorkspaceScope,
        _: &Env,
        opening: Opening,
    ) -> Result<Opened, BeginError> {
        const OPERATION: &str = "open an upload";
        let (store, leader) = (self.clone(), *scope);
        let work = move |openings: Vec<Opening>| {
            let store = store.clone();
            async move {
                let opened = open_together(&store, store.env(), &leader, &openings).await;
                match opened {
                    Ok(opened) => opened.into_iter().map(Ok).collect(),
                    Err(error) => {
                        let error = Arc::new(error);
                        openings.iter().map(|_| Err(error.clone())).collect()
                    }
                }
            }
        };
        let openings = self.shared::<Openings>();
        let opened = openings
            .submit(scope.workspace(), opening, OPERATION, work)
            .await?;
        opened.map_err(|error| match &*error {
            BeginError::ReadOnly(read_only) => BeginError::ReadOnly(read_only.clone()),
            BeginError::Store(_) => BeginError::Store(StoreError::Unavailable {
                operation: OPERATION,
                source: error.into(),
            }),
        })
    }
}
