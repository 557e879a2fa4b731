//! Smaller copies of photos.

use actix_web::{HttpRequest, HttpResponse, get, web};
use rawdrive_http_api::App;
use rawdrive_http_api::auth::{Member, Scoped};
use rawdrive_http_api::openapi::binary;
use rawdrive_http_api::openapi::headers::Ranged;
use rawdrive_http_api::web::{Problem, parse_query, path_id};
use serde::{Deserialize, Serialize};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::GalleryApi;
use super::client_link::Shared;
use super::content::{Content, send, version_of};
use super::file_name::Shown;
use super::problems::not_ready;
use super::vocabulary::RenditionsStatus;
use crate::renditions::model::{RENDITION_TYPE, Rendition, RenditionName, Renditions};
use crate::{GalleryRead, Photo, SharedRead};

#[derive(Serialize, ToSchema)]
pub(crate) struct RenditionView {
    /// Where it is, relative to the server, by the same credential. What is read there never changes: with other bytes it has
    /// another address.
    #[schema(
        format = "uri-reference",
        example = "/v1/photos/pho_0192f0c1a2b37c4d8e5f60718293a4b5/renditions/thumb?v=9f86d081884c7d65"
    )]
    url: String,
    /// Pixels across.
    width: u32,
    /// Pixels down.
    height: u32,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct RenditionsView {
    /// `pending` while they are being made; `unavailable` where they cannot be: the format is none that is decoded
    /// (JPEG, PNG and WebP are), the file is damaged, or it is too large.
    status: RenditionsStatus,
    /// For a grid: at most 400 pixels along its longer side.
    #[schema(required = true)]
    thumb: Option<RenditionView>,
    /// For a screen: at most 2,048 pixels along its longer side.
    #[schema(required = true)]
    web: Option<RenditionView>,
}

impl RenditionsView {
    /// `base` is the path that the photo's own addresses lie below.
    pub(super) fn of(photo: &Photo, base: &str) -> Self {
        let view = |name: RenditionName| {
            photo.renditions.get(name).map(|rendition| RenditionView {
                url: format!(
                    "{base}/photos/{}/renditions/{name}?v={}",
                    photo.id,
                    version_of(rendition)
                ),
                width: rendition.width,
                height: rendition.height,
            })
        };
        Self {
            status: match photo.renditions {
                Renditions::Pending => RenditionsStatus::Pending,
                Renditions::Ready { .. } => RenditionsStatus::Ready,
                Renditions::Impossible(_) => RenditionsStatus::Unavailable,
            },
            thumb: view(RenditionName::Thumb),
            web: view(RenditionName::Web),
        }
    }
}

/// The bytes of a rendition.
pub(crate) struct RenditionBytes;

impl PartialSchema for RenditionBytes {
    fn schema() -> RefOr<Schema> {
        binary(&[RENDITION_TYPE])
    }
}

impl ToSchema for RenditionBytes {}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RenditionParams {
    /// Which bytes are expected, as the photo's own `url` has it: they may be kept for ever. Without it, or with another
    /// one, those that there are are answered, and may be kept as long as their `ETag` is the same.
    #[param(required = false, nullable = false, example = "9f86d081884c7d65")]
    v: Option<String>,
}

/// A photo's rendition, or why it is not there.
pub(super) fn ready(photo: &Photo, name: RenditionName) -> Result<&Rendition, Problem> {
    match photo.renditions {
        Renditions::Pending => Err(not_ready()),
        Renditions::Ready { .. } | Renditions::Impossible(_) => {
            photo.renditions.get(name).ok_or_else(Problem::not_found)
        }
    }
}

/// A smaller copy of a photo: upright, in sRGB, as JPEG, without the original's metadata. `not_ready` while it is being
/// made; not found where the photo's `renditions` say that there is none.
#[utoipa::path(operation_id = "download_rendition", tag = "photos", security(("bearer" = [])), params(("id" = String, Path), ("name" = String, Path, description = "`thumb` or `web`"), RenditionParams, Ranged), responses((status = 200, description = "The bytes", body = inline(RenditionBytes), content_type = "image/jpeg"), (status = 206, body = inline(RenditionBytes), content_type = "image/jpeg"), (status = 304), (status = 404, description = "not_found or not_ready"), (status = 416)))]
#[get("/v1/photos/{id}/renditions/{name}")]
pub(crate) async fn download_rendition(
    app: web::Data<App>,
    gallery: web::Data<GalleryApi>,
    scoped: Scoped<Member>,
    path: web::Path<(String, String)>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (id, name) = path.into_inner();
    let params: RenditionParams = parse_query(request.query_string())?;
    let name: RenditionName = name.parse().map_err(|_| Problem::not_found())?;
    let reader = app.store.read(&scoped.scope);
    let photo = reader.photo(path_id(&id)?).await?;
    let photo = photo.ok_or_else(Problem::not_found)?;
    let rendition = ready(&photo, name)?;
    let version = params.v.as_deref();
    let content = Content::rendition(&photo, name, rendition, version, Shown::Inline);
    send(&gallery, &scoped.scope, &request, content, None).await
}

/// A smaller copy of a photo that the client may see, whatever may be downloaded of its gallery.
#[utoipa::path(operation_id = "download_shared_rendition", tag = "shared", params(("token" = String, Path, description = "From the mailed link"), ("id" = String, Path, description = "The photo"), ("name" = String, Path, description = "`thumb` or `web`"), RenditionParams, Ranged), responses((status = 200, description = "The bytes", body = inline(RenditionBytes), content_type = "image/jpeg"), (status = 206, body = inline(RenditionBytes), content_type = "image/jpeg"), (status = 304), (status = 404, description = "not_found or not_ready"), (status = 416), (status = 503)))]
#[get("/v1/shared/{token}/photos/{id}/renditions/{name}")]
pub(crate) async fn download_shared_rendition(
    app: web::Data<App>,
    gallery: web::Data<GalleryApi>,
    shared: Shared,
    path: web::Path<(String, String, String)>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (_, id, name) = path.into_inner();
    let params: RenditionParams = parse_query(request.query_string())?;
    let name: RenditionName = name.parse().map_err(|_| Problem::not_found())?;
    let under_way = gallery.downloads.begin(shared.client())?;
    let reader = app.store.read(&shared.scope);
    let found = reader.shared_photo(shared.client(), path_id(&id)?).await?;
    let (photo, _) = found.ok_or_else(Problem::not_found)?;
    let rendition = ready(&photo, name)?;
    let version = params.v.as_deref();
    let content = Content::rendition(&photo, name, rendition, version, Shown::Inline);
    send(&gallery, &shared.scope, &request, content, Some(under_way)).await
}
