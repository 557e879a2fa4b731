//! Galleries.

use std::collections::BTreeSet;

use crate::id::{ClientId, GalleryId, LibraryId};
use crate::{
    ClientsTx, Download, Gallery, GalleryFilter, GalleryRead, GalleryTx, ListedGallery, Title,
    delete_gallery_permanently, set_clients, set_download,
};
use actix_web::{HttpRequest, HttpResponse, delete, get, patch, post, web};
use rawdrive_plans::{Limit, PlansTx};
use rawdrive_store::{Reader, Release, WriteTx};
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::id::TypedId;
use rawdrive_usage::{QuotaKey, UsageTx};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::listing::name_listing;
use super::vocabulary::{DownloadName, NameSortName};
use rawdrive_http_api::auth::{Member, Reading, Scoped};
use rawdrive_http_api::idempotent_write::{Answer, Begin, mutate, no_body};
use rawdrive_http_api::openapi::headers::{Conditional, Idempotent};
use rawdrive_http_api::web::{
    Body, EntityTag, IfMatch, ListView, Nullable, PageParams, PageQuery, Problem, Validator,
    etag_of, parse_query, path_id, read_json, tagged_view,
};
use rawdrive_http_api::{App, time};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewGallery {
    /// The library it stands in.
    library_id: String,
    /// 1 to 200 characters.
    name: String,
    /// What its clients may download: `none` (the default), `web` or `original`.
    #[serde(default)]
    #[schema(value_type = Option<DownloadName>)]
    download: Nullable<String>,
    /// The clients who see it; nobody when left out or `null`.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    client_ids: Nullable<Vec<String>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateGallery {
    /// Moves it to another library.
    #[schema(nullable = false)]
    library_id: Option<String>,
    #[schema(nullable = false)]
    name: Option<String>,
    #[schema(value_type = DownloadName, required = false)]
    download: Option<String>,
    /// The clients who see it, instead of those who did; nobody with `null`.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    client_ids: Nullable<Vec<String>>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct GalleryView {
    id: String,
    library_id: String,
    name: String,
    /// `none`, `web` or `original`.
    #[schema(value_type = DownloadName)]
    download: &'static str,
    /// The clients who see it.
    client_ids: Vec<String>,
    photo_count: u64,
    /// `null` is unlimited.
    #[schema(required = true)]
    photo_limit: Option<u64>,
    #[schema(required = true)]
    deleted_at: Option<String>,
    created_at: String,
    updated_at: String,
}

impl GalleryView {
    fn of(gallery: &Gallery, clients: &BTreeSet<ClientId>, photo_count: u64, limit: Limit) -> Self {
        Self {
            id: gallery.id.to_string(),
            library_id: gallery.library.to_string(),
            name: gallery.name.to_string(),
            download: gallery.download.as_str(),
            client_ids: clients.iter().map(ToString::to_string).collect(),
            photo_count,
            photo_limit: limit.bound(),
            deleted_at: gallery.deleted_at.map(time),
            created_at: time(gallery.created_at),
            updated_at: time(gallery.updated_at),
        }
    }

    fn listed(found: &ListedGallery, limit: Limit) -> Self {
        let overview = &found.overview;
        Self::of(
            &overview.gallery,
            &found.clients,
            overview.photo_count,
            limit,
        )
    }
}

fn tag(gallery: &Gallery) -> EntityTag {
    etag_of(gallery.id, gallery.version)
}

/// The gallery's view inside a write, where clients, count and limit are as the transaction sees them.
async fn view(app: &App, tx: &mut WriteTx, gallery: &Gallery) -> Result<GalleryView, Problem> {
    let clients = ClientsTx::clients_of(tx, gallery.id).await?;
    let limit = tx
        .entitlements()
        .await?
        .limit(&crate::PHOTOS, app.env().now())
        .value;
    let row = tx
        .quota(&QuotaKey::level_of(crate::PHOTOS, gallery.id))
        .await?;
    Ok(GalleryView::of(gallery, &clients, row.used, limit))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct GalleryFilters {
    /// Only the galleries of this library.
    library_id: Option<String>,
    /// The soft-deleted ones instead of the others.
    deleted: Option<bool>,
    /// Only those whose name holds this text, whatever the case.
    #[param(
        required = false,
        nullable = false,
        min_length = 1,
        max_length = 200,
        example = "wedding"
    )]
    name: Option<String>,
    /// In which order: by when they were made (the default), or by name whatever the case. With `-` before it the other way
    /// round.
    #[param(inline, required = false, nullable = false, value_type = NameSortName)]
    sort: Option<String>,
}

/// Galleries, oldest first unless `sort` says otherwise.
#[utoipa::path(tag = "galleries", security(("bearer" = [])), params(PageParams, GalleryFilters), responses((status = 200, body = ListView<GalleryView>), (status = 404), (status = 422)))]
#[get("/v1/galleries")]
pub(crate) async fn list_galleries(
    app: web::Data<App>,
    reading: Reading<Member>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let body = reading.read(&app, async |reader| {
        let (mut page, filters): (_, GalleryFilters) = PageQuery::read_sorted(
            request.query_string(),
            &app.cursors,
            reader.scope().workspace(),
            "galleries",
        )?;
        let library = filters
            .library_id
            .as_deref()
            .map(path_id::<LibraryId>)
            .transpose()?;
        if let Some(library) = library {
            reader
                .library(library)
                .await?
                .ok_or_else(Problem::not_found)?;
        }
        let filter = GalleryFilter {
            library,
            deleted: filters.deleted.unwrap_or(false),
            listing: name_listing(filters.name, filters.sort, page.after_key.take())?,
        };
        let galleries = reader.galleries(&filter, page.request).await?;
        let limit = photo_limit(&app, reader).await?;
        let key = |last: &ListedGallery| filter.listing.order.key_of(&last.overview.gallery.name);
        Ok(page.view_sorted(galleries, &app.cursors, key, |g| {
            GalleryView::listed(&g, limit)
        }))
    });
    Ok(HttpResponse::Ok().json(body.await?))
}

/// How many photos a gallery of the reader's workspace may hold.
async fn photo_limit(app: &App, reader: &Reader) -> Result<Limit, Problem> {
    let entitlements = reader.entitlements().await?;
    Ok(entitlements.limit(&crate::PHOTOS, app.env().now()).value)
}

/// Makes a gallery.
#[utoipa::path(tag = "galleries", security(("bearer" = [])), params(Idempotent), request_body = NewGallery, responses((status = 201, body = GalleryView), (status = 404), (status = 422), (status = 402, description = "workspace_read_only")))]
#[post("/v1/galleries")]
pub(crate) async fn create_gallery(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let (input, mut v): (NewGallery, _) = read_json(bytes)?;
        let name = v.check("name", input.name.parse::<Title>());
        let download = v.check_some("download", input.download.value(), |text| {
            text.parse::<Download>()
        });
        let clients = input.client_ids.value().unwrap_or_default();
        check_client_ids(&mut v, &clients);
        let name = v.finish_with(name)?;
        Ok((
            input.library_id,
            name,
            download.unwrap_or_default(),
            clients,
        ))
    };
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        Begin::Writable,
        read,
        async |tx, id, (library, name, download, clients)| {
            let library = path_id(&library)?;
            let clients = client_ids(&clients)?;
            tx.library(library).await?.ok_or_else(Problem::not_found)?;
            let now = app.env().now();
            let gallery = Gallery {
                id: GalleryId::from_uuid(id),
                library,
                name,
                download,
                deleted_at: None,
                created_at: now,
                updated_at: now,
                version: 1,
            };
            tx.insert_gallery(&gallery).await?;
            set_clients(tx, gallery.id, &clients).await?;
            Ok(Answer::created(&view(&app, tx, &gallery).await?)?.tagged_view(&tag(&gallery)))
        },
    )
    .await
}

/// A gallery.
#[utoipa::path(tag = "galleries", security(("bearer" = [])), params(("id" = String, Path)), responses((status = 200, body = GalleryView), (status = 404)))]
#[get("/v1/galleries/{id}")]
pub(crate) async fn show_gallery(
    app: web::Data<App>,
    reading: Reading<Member>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let read = reading.read(&app, async |reader| {
        let found = reader.gallery(path_id(&id)?).await?;
        let found = found.ok_or_else(Problem::not_found)?;
        Ok((found, photo_limit(&app, reader).await?))
    });
    let (found, limit) = read.await?;
    // The count and the limit change without a new version of the gallery itself.
    tagged_view(
        &tag(&found.overview.gallery),
        &GalleryView::listed(&found, limit),
    )
}

/// Changes a gallery.
#[utoipa::path(tag = "galleries", security(("bearer" = [])), params(("id" = String, Path), Idempotent, Conditional), request_body = UpdateGallery, responses((status = 200, body = GalleryView), (status = 404), (status = 412), (status = 422), (status = 402, description = "workspace_read_only")))]
#[patch("/v1/galleries/{id}")]
pub(crate) async fn update_gallery(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    id: web::Path<String>,
    request: HttpRequest,
    condition: IfMatch,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let (input, mut v): (UpdateGallery, _) = read_json(bytes)?;
        let name = v.check_some("name", input.name.as_deref(), str::parse::<Title>);
        let download = v.check_some(
            "download",
            input.download.as_deref(),
            str::parse::<Download>,
        );
        let clients = input.client_ids.change().map(Option::unwrap_or_default);
        check_client_ids(&mut v, clients.as_deref().unwrap_or_default());
        v.finish()?;
        Ok((input.library_id, name, download, clients))
    };
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        Begin::Writable,
        read,
        async |tx, _, (library, name, download, clients)| {
            let before = living(tx, &id).await?;
            condition.check(&tag(&before))?;
            let mut gallery = before.clone();
            if let Some(library) = library {
                gallery.library = path_id(&library)?;
                tx.library(gallery.library)
                    .await?
                    .ok_or_else(Problem::not_found)?;
            }
            gallery.name = name.unwrap_or(gallery.name);
            if let Some(download) = download {
                set_download(tx, &mut gallery, download).await?;
            }
            let reshared = match clients {
                Some(clients) => set_clients(tx, gallery.id, &client_ids(&clients)?).await?,
                None => false,
            };
            if reshared || gallery != before {
                let saved = save(&app, tx, gallery).await;
                gallery = saved.map_err(|error| condition.lost_to(error))?;
            }
            Ok(Answer::ok(&view(&app, tx, &gallery).await?)?.tagged_view(&tag(&gallery)))
        },
    )
    .await
}

/// More people than any delivery has; a page of galleries names all of theirs.
const MOST_CLIENTS: usize = 500;

fn check_client_ids(v: &mut Validator, ids: &[String]) {
    let few = ids.len() <= MOST_CLIENTS;
    v.require("client_ids", few, "must be at most 500 clients");
}

/// As in a path: a malformed id answers as an unknown client.
fn client_ids(texts: &[String]) -> Result<BTreeSet<ClientId>, Problem> {
    texts.iter().map(|text| path_id(text)).collect()
}

async fn living(tx: &mut WriteTx, id: &str) -> Result<Gallery, Problem> {
    tx.gallery_to_change(path_id(id)?)
        .await?
        .filter(|g| g.deleted_at.is_none())
        .ok_or_else(Problem::not_found)
}

async fn save(app: &App, tx: &mut WriteTx, gallery: Gallery) -> Result<Gallery, StoreError> {
    let gallery = Gallery {
        updated_at: app.env().now(),
        version: gallery.version + 1,
        ..gallery
    };
    tx.update_gallery(&gallery).await?;
    Ok(gallery)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Deletion {
    /// Deletes the gallery and its photos for good and frees what they took.
    permanent: Option<bool>,
}

/// Deletes a gallery: softly, so that it still counts and can come back, or permanently.
#[utoipa::path(tag = "galleries", security(("bearer" = [])), params(("id" = String, Path), Deletion, Idempotent, Conditional), responses((status = 204), (status = 404), (status = 412)))]
#[delete("/v1/galleries/{id}")]
pub(crate) async fn delete_gallery(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    id: web::Path<String>,
    request: HttpRequest,
    condition: IfMatch,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let deletion: Deletion = parse_query(request.query_string())?;
    let begin = Begin::Despite(Release::Freeing);
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        begin,
        no_body,
        async |tx, _, ()| {
            if deletion.permanent.unwrap_or(false) {
                let gallery = tx
                    .gallery(path_id(&id)?)
                    .await?
                    .ok_or_else(Problem::not_found)?;
                condition.check(&tag(&gallery))?;
                if !delete_gallery_permanently(tx, app.env(), gallery.id).await? {
                    return Err(Problem::not_found());
                }
            } else {
                let gallery = living(tx, &id).await?;
                condition.check(&tag(&gallery))?;
                save(
                    &app,
                    tx,
                    Gallery {
                        deleted_at: Some(app.env().now()),
                        ..gallery
                    },
                )
                .await?;
            }
            Ok(Answer::no_content())
        },
    )
    .await
}

/// Brings a soft-deleted gallery back.
#[utoipa::path(tag = "galleries", security(("bearer" = [])), params(("id" = String, Path), Idempotent), responses((status = 200, body = GalleryView), (status = 404), (status = 402, description = "workspace_read_only")))]
#[post("/v1/galleries/{id}/restore")]
pub(crate) async fn restore_gallery(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        Begin::Writable,
        no_body,
        async |tx, _, ()| {
            let mut gallery = tx
                .gallery_to_change(path_id(&id)?)
                .await?
                .ok_or_else(Problem::not_found)?;
            if gallery.deleted_at.is_some() {
                gallery = save(
                    &app,
                    tx,
                    Gallery {
                        deleted_at: None,
                        ..gallery
                    },
                )
                .await?;
            }
            Ok(Answer::ok(&view(&app, tx, &gallery).await?)?.tagged_view(&tag(&gallery)))
        },
    )
    .await
}
