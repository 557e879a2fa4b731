//! Photos.

use actix_web::{HttpRequest, HttpResponse, delete, get, web};
use rawdrive_http_api::auth::{Member, Reading, Scoped};
use rawdrive_http_api::idempotent_write::{Answer, Begin, mutate, no_body};
use rawdrive_http_api::openapi::binary;
use rawdrive_http_api::openapi::headers::{Idempotent, Ranged, Revalidated};
use rawdrive_http_api::web::etag::etag_header;
use rawdrive_http_api::web::{
    Body, ListView, NoFilters, PageParams, PageQuery, Problem, not_modified, path_id,
};
use rawdrive_http_api::{App, time};
use rawdrive_store::Release;
use rawdrive_usage::hex;
use serde::Serialize;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::GalleryApi;
use super::content::{content, tag};
use super::file_name::Shown;
use crate::id::PhotoId;
use crate::{GalleryRead, MediaType, Orientation, Photo};

#[derive(Serialize, ToSchema)]
pub(crate) struct PhotoView {
    id: String,
    gallery_id: String,
    filename: String,
    content_type: String,
    size_bytes: u64,
    /// Hex.
    sha256: String,
    /// Pixels across as the photo is displayed, its orientation applied; `null` where the format's header does not
    /// tell.
    #[schema(required = true)]
    width: Option<u32>,
    /// Pixels down as the photo is displayed.
    #[schema(required = true)]
    height: Option<u32>,
    /// Exif's orientation, 1 to 8: how the stored pixels are turned for display. 1 where the file says nothing;
    /// `null` for formats that are not looked into and for photos from before it was kept, whose `width` and
    /// `height` are those of the pixels as they are stored.
    #[schema(required = true, minimum = 1, maximum = 8)]
    orientation: Option<u8>,
    /// When the photo was taken, by Exif: `DateTimeOriginal`, else `DateTimeDigitized`, with its fraction to the
    /// microsecond and moved to UTC by its offset. A time without an offset is taken as UTC.
    #[schema(required = true)]
    taken_at: Option<String>,
    created_at: String,
}

impl From<&Photo> for PhotoView {
    fn from(photo: &Photo) -> Self {
        Self {
            id: photo.id.to_string(),
            gallery_id: photo.gallery.to_string(),
            filename: photo.filename.to_string(),
            content_type: photo.content_type.clone(),
            size_bytes: photo.size_bytes,
            sha256: hex(&photo.sha256),
            width: photo.width,
            height: photo.height,
            orientation: photo.orientation.map(Orientation::get),
            taken_at: photo.taken_at.map(time),
            created_at: time(photo.created_at),
        }
    }
}

pub(super) fn stored_answer(photo: &Photo) -> Result<Answer, Problem> {
    Ok(Answer::created(&PhotoView::from(photo))?.tagged(tag(photo)))
}

/// The bytes of a photo, in one of the formats that a gallery takes.
pub(crate) struct PhotoBytes;

impl PartialSchema for PhotoBytes {
    fn schema() -> RefOr<Schema> {
        binary(&MediaType::ALL.map(MediaType::as_str))
    }
}

impl ToSchema for PhotoBytes {}

/// A gallery's photos, oldest first.
#[utoipa::path(tag = "photos", security(("bearer" = [])), params(("id" = String, Path, description = "The gallery"), PageParams), responses((status = 200, body = ListView<PhotoView>), (status = 404)))]
#[get("/v1/galleries/{id}/photos")]
pub(crate) async fn list_photos(
    app: web::Data<App>,
    reading: Reading<Member>,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let list = format!("photos/{id}");
    let body = reading.read(&app, async |reader| {
        let (page, NoFilters {}) = PageQuery::read(
            request.query_string(),
            &app.cursors,
            reader.scope().workspace(),
            &list,
        )?;
        let found = reader.photos(path_id(&id)?, page.request).await?;
        let found = found.ok_or_else(Problem::not_found)?;
        Ok(page.view(found, &app.cursors, |p| PhotoView::from(&p)))
    });
    Ok(HttpResponse::Ok().json(body.await?))
}

/// A photo.
#[utoipa::path(tag = "photos", security(("bearer" = [])), params(("id" = String, Path), Revalidated), responses((status = 200, body = PhotoView), (status = 404)))]
#[get("/v1/photos/{id}")]
pub(crate) async fn show_photo(
    app: web::Data<App>,
    reading: Reading<Member>,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let read = reading.read(&app, async |reader| {
        let found = reader.photo(path_id(&id)?).await?;
        found.ok_or_else(Problem::not_found)
    });
    let photo = read.await?;
    let tag = tag(&photo);
    if not_modified(request.headers(), &tag) {
        return Ok(HttpResponse::NotModified()
            .insert_header(etag_header(&tag))
            .finish());
    }
    Ok(HttpResponse::Ok()
        .insert_header(etag_header(&tag))
        .json(PhotoView::from(&photo)))
}

/// Deletes a photo and frees what it took.
#[utoipa::path(tag = "photos", security(("bearer" = [])), params(("id" = String, Path), Idempotent), responses((status = 204), (status = 404)))]
#[delete("/v1/photos/{id}")]
pub(crate) async fn delete_photo(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let begin = Begin::Despite(Release::Freeing);
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        begin,
        no_body,
        async |tx, _, ()| {
            let id: PhotoId = path_id(&id)?;
            if crate::delete_photo(tx, app.env(), id).await? {
                Ok(Answer::no_content())
            } else {
                Err(Problem::not_found())
            }
        },
    )
    .await
}

/// The photo's bytes, whole or a range of them, as they were uploaded. `Content-Disposition` says the name twice:
/// `filename` in ASCII, and `filename*` (RFC 6266).
#[utoipa::path(operation_id = "download_photo", tag = "photos", security(("bearer" = [])), params(("id" = String, Path), Ranged), responses((status = 200, description = "The bytes, of the type that the photo is stored with", body = inline(PhotoBytes), content_type = "image/*"), (status = 206, body = inline(PhotoBytes), content_type = "image/*"), (status = 304), (status = 404), (status = 416)))]
#[get("/v1/photos/{id}/content")]
pub(crate) async fn download(
    app: web::Data<App>,
    gallery: web::Data<GalleryApi>,
    scoped: Scoped<Member>,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let photo = app
        .store
        .read(&scoped.scope)
        .photo(path_id(&id)?)
        .await?
        .ok_or_else(Problem::not_found)?;
    let shown = Shown::Inline;
    content(&gallery, &scoped.scope, &request, &photo, shown, None).await
}
