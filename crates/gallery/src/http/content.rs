//! A photo's bytes, as an answer.

use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_TYPE,
};
use actix_web::{HttpRequest, HttpResponse};
use rawdrive_http_api::web::etag::etag_header;
use rawdrive_http_api::web::{EntityTag, Problem, Wanted, content_etag, not_modified, wanted};
use rawdrive_tenancy_core::WorkspaceScope;
use rawdrive_usage::hex;

use super::GalleryApi;
use super::downloads::{Counted, Download};
use super::file_name::{Shown, content_disposition};
use crate::Photo;

/// The version of a photo: its bytes.
pub(super) fn tag(photo: &Photo) -> EntityTag {
    content_etag(&hex(&photo.sha256))
}

/// The bytes of a photo that the caller found to be visible; by a link, as one of its downloads.
pub(super) async fn content(
    gallery: &GalleryApi,
    scope: &WorkspaceScope,
    request: &HttpRequest,
    photo: &Photo,
    shown: Shown,
    under_way: Option<Download>,
) -> Result<HttpResponse, Problem> {
    let tag = tag(photo);
    if not_modified(request.headers(), &tag) {
        return Ok(HttpResponse::NotModified()
            .insert_header(etag_header(&tag))
            .finish());
    }
    let part = wanted(request.headers(), photo.size_bytes, &tag)?;
    let range = match part {
        Wanted::Part { first, last } => Some(first..last + 1),
        Wanted::Whole | Wanted::Unsatisfiable => None,
    };
    let bytes = gallery
        .blobs
        .read(scope, photo.id, range)
        .await
        .map_err(|error| match error {
            // Deleted between the row's reading and the bytes'.
            crate::BlobError::Missing => Problem::not_found(),
            error => Problem::dependency_unavailable(error),
        })?;
    // The last digits of an id are random: enough to keep apart the files of one download.
    let id = photo.id.to_string();
    let unique = id.get(id.len() - 8..).unwrap_or_default();
    let disposition = content_disposition(shown, &photo.filename, unique);
    let bytes = Counted {
        bytes,
        _download: under_way,
    };
    let mut response = HttpResponse::Ok();
    if let Some(value) = part.content_range(photo.size_bytes) {
        response
            .status(StatusCode::PARTIAL_CONTENT)
            .insert_header((CONTENT_RANGE, value));
    }
    Ok(response
        .insert_header(etag_header(&tag))
        .insert_header((CONTENT_TYPE, photo.content_type.clone()))
        .insert_header((ACCEPT_RANGES, "bytes"))
        .insert_header((CACHE_CONTROL, "private, no-cache"))
        .insert_header((CONTENT_DISPOSITION, disposition))
        .body(SizedStream::new(part.length(photo.size_bytes), bytes)))
}
