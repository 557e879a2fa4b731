//! What a client's link shows, without an account. Reads alone: they hold whatever the workspace's entitlements are.

use crate::renditions::model::RenditionName;
use crate::{Branding, Download, GalleryOverview, GalleryRead, Photo, SharedRead};
use actix_web::{HttpRequest, HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::GalleryApi;
use super::client_link::Shared;
use super::content::{Content, send};
use super::file_name::Shown;
use super::photos::{PhotoBytes, PhotoView, base};
use super::renditions::{RenditionBytes, ready};
use super::vocabulary::DownloadName;
use rawdrive_http_api::openapi::headers::Ranged;
use rawdrive_http_api::web::{ListView, NoFilters, PageParams, PageQuery, Problem, path_id};
use rawdrive_http_api::{App, time};

#[derive(Serialize, ToSchema)]
pub(crate) struct SharedWorkspaceView {
    name: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct SharedBrandingView {
    display_name: String,
    /// `#rrggbb`.
    primary_color: String,
    #[schema(required = true)]
    website: Option<String>,
    /// Whether `…/logo` has one.
    has_logo: bool,
}

impl From<Branding> for SharedBrandingView {
    fn from(branding: Branding) -> Self {
        Self {
            display_name: branding.display_name.to_string(),
            primary_color: branding.primary_color.to_string(),
            website: branding.website.map(|website| website.to_string()),
            has_logo: branding.logo_photo.is_some(),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct SharedClientView {
    id: String,
    name: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct SharedGalleryView {
    id: String,
    name: String,
    /// What is saved as a file. `none`: nothing, renditions are shown all the same. `web`: the rendition of that name.
    /// `original`: the original.
    #[schema(value_type = DownloadName)]
    download: &'static str,
    photo_count: u64,
    created_at: String,
}

impl From<&GalleryOverview> for SharedGalleryView {
    fn from(found: &GalleryOverview) -> Self {
        Self {
            id: found.gallery.id.to_string(),
            name: found.gallery.name.to_string(),
            download: found.gallery.download.as_str(),
            photo_count: found.photo_count,
            created_at: time(found.gallery.created_at),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct SharedView {
    workspace: SharedWorkspaceView,
    /// `null` until it is saved.
    #[schema(required = true)]
    branding: Option<SharedBrandingView>,
    client: SharedClientView,
    galleries: Vec<SharedGalleryView>,
}

/// What this link's client may see.
#[utoipa::path(tag = "shared", params(("token" = String, Path, description = "From the mailed link")), responses((status = 200, body = SharedView), (status = 404)))]
#[get("/v1/shared/{token}")]
pub(crate) async fn show_shared(
    app: web::Data<App>,
    shared: Shared,
) -> Result<HttpResponse, Problem> {
    let reader = app.store.read(&shared.scope);
    let branding = reader.branding().await?;
    let galleries = reader.shared_galleries(shared.client()).await?;
    Ok(HttpResponse::Ok().json(SharedView {
        branding: branding.map(SharedBrandingView::from),
        client: SharedClientView {
            id: shared.client().to_string(),
            name: shared.link.client_name.to_string(),
        },
        galleries: galleries.iter().map(SharedGalleryView::from).collect(),
        workspace: SharedWorkspaceView {
            name: shared.link.workspace_name,
        },
    }))
}

/// The photos of one of the client's galleries, oldest first.
#[utoipa::path(tag = "shared", params(("token" = String, Path, description = "From the mailed link"), ("id" = String, Path, description = "The gallery"), PageParams), responses((status = 200, body = ListView<PhotoView>), (status = 404)))]
#[get("/v1/shared/{token}/galleries/{id}/photos")]
pub(crate) async fn list_shared_photos(
    app: web::Data<App>,
    shared: Shared,
    path: web::Path<(String, String)>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (token, id) = path.into_inner();
    let list = format!("shared/{}/photos/{id}", shared.client());
    let (page, NoFilters {}) = PageQuery::read(
        request.query_string(),
        &app.cursors,
        shared.scope.workspace(),
        &list,
    )?;
    let found = app
        .store
        .read(&shared.scope)
        .shared_photos(shared.client(), path_id(&id)?, page.request)
        .await?
        .ok_or_else(Problem::not_found)?;
    let base = format!("{}/shared/{token}", base(&app));
    Ok(HttpResponse::Ok().json(page.view(found, &app.cursors, |p| PhotoView::of(&p, &base))))
}

/// The bytes of a photo, whole or a range of them, as far as its gallery's `download` allows: not found for `none`, the
/// rendition `web` for `web`, and the original for `original`. `not_ready` while the rendition is being made.
#[utoipa::path(operation_id = "download_shared_photo", tag = "shared", params(("token" = String, Path, description = "From the mailed link"), ("id" = String, Path, description = "The photo"), Ranged), responses((status = 200, description = "The bytes: a JPEG, or of the type that the photo is stored with", body = inline(PhotoBytes), content_type = "image/*"), (status = 206, body = inline(PhotoBytes), content_type = "image/*"), (status = 304), (status = 404, description = "not_found or not_ready"), (status = 416), (status = 503)))]
#[get("/v1/shared/{token}/photos/{id}/content")]
pub(crate) async fn download_shared(
    app: web::Data<App>,
    gallery: web::Data<GalleryApi>,
    shared: Shared,
    path: web::Path<(String, String)>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (_, id) = path.into_inner();
    let under_way = gallery.downloads.begin(shared.client())?;
    let reader = app.store.read(&shared.scope);
    let (photo, download) = reader
        .shared_photo(shared.client(), path_id(&id)?)
        .await?
        .ok_or_else(Problem::not_found)?;
    let shown = Shown::Attachment;
    let content = match download {
        Download::None => return Err(Problem::not_found()),
        Download::Web => web_content(&photo, shown)?,
        Download::Original => Content::original(&photo, shown),
    };
    send(&gallery, &shared.scope, &request, content, Some(under_way)).await
}

/// What is shown of a photo whose original is not.
fn web_content(photo: &Photo, shown: Shown) -> Result<Content<'_>, Problem> {
    let web = RenditionName::Web;
    let rendition = ready(photo, web)?;
    Ok(Content::rendition(photo, web, rendition, None, shown))
}

/// The workspace's logo, whichever gallery it lies in: its photo's rendition `web`. `not_ready` while that is being made.
#[utoipa::path(operation_id = "download_shared_logo", tag = "shared", params(("token" = String, Path, description = "From the mailed link"), Ranged), responses((status = 200, description = "The bytes", body = inline(RenditionBytes), content_type = "image/jpeg"), (status = 206, body = inline(RenditionBytes), content_type = "image/jpeg"), (status = 304), (status = 404, description = "not_found or not_ready"), (status = 416), (status = 503)))]
#[get("/v1/shared/{token}/logo")]
pub(crate) async fn shared_logo(
    app: web::Data<App>,
    gallery: web::Data<GalleryApi>,
    shared: Shared,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let under_way = gallery.downloads.begin(shared.client())?;
    let reader = app.store.read(&shared.scope);
    let logo = reader.branding().await?.and_then(|b| b.logo_photo);
    let photo = reader
        .photo(logo.ok_or_else(Problem::not_found)?)
        .await?
        .ok_or_else(Problem::not_found)?;
    let content = web_content(&photo, Shown::Inline)?;
    send(&gallery, &shared.scope, &request, content, Some(under_way)).await
}
