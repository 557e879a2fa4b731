//! A photo's bytes, or a rendition's, as an answer.

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
use super::problems::not_ready;
use crate::renditions::model::{RENDITION_TYPE, Rendition, RenditionName};
use crate::{BlobError, FileName, Photo, Piece};

/// Kept, and asked about each time.
const REVALIDATED: &str = "private, no-cache";
/// Kept for ever: the address says which bytes it is for.
const KEPT: &str = "private, max-age=31536000, immutable";

/// Bytes as they are sent.
pub(super) struct Content<'p> {
    piece: Piece,
    size_bytes: u64,
    tag: EntityTag,
    content_type: &'p str,
    filename: FileName,
    shown: Shown,
    cache: &'static str,
}

impl<'p> Content<'p> {
    /// A photo's own bytes.
    pub(super) fn original(photo: &'p Photo, shown: Shown) -> Self {
        Self {
            piece: Piece::original(photo.id),
            size_bytes: photo.size_bytes,
            tag: content_etag(&hex(&photo.sha256)),
            content_type: &photo.content_type,
            filename: photo.filename.clone(),
            shown,
            cache: REVALIDATED,
        }
    }

    /// A rendition's; `version` is what its address says, if it says something.
    pub(super) fn rendition(
        photo: &'p Photo,
        name: RenditionName,
        rendition: &Rendition,
        version: Option<&str>,
        shown: Shown,
    ) -> Self {
        let cache = match version {
            Some(version) if version == version_of(rendition) => KEPT,
            _ => REVALIDATED,
        };
        Self {
            piece: Piece {
                photo: photo.id,
                rendition: Some(name),
            },
            size_bytes: rendition.size_bytes,
            tag: content_etag(&hex(&rendition.sha256)),
            content_type: RENDITION_TYPE,
            filename: as_jpeg(&photo.filename),
            shown,
            cache,
        }
    }
}

/// What tells a rendition's bytes from others in its address.
pub(super) fn version_of(rendition: &Rendition) -> String {
    hex(&rendition.sha256[..8])
}

/// The name of a copy in JPEG.
fn as_jpeg(name: &FileName) -> FileName {
    let text = name.as_str();
    let lower = text.to_ascii_lowercase();
    if lower.ends_with(".jpg") || lower.ends_with(".jpeg") {
        return name.clone();
    }
    let stem = match text.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => text,
    };
    FileName::from_stored(format!("{stem}.jpg"))
}

/// The bytes of a photo that the caller found to be visible; by a link, as one of its downloads.
pub(super) async fn send(
    gallery: &GalleryApi,
    scope: &WorkspaceScope,
    request: &HttpRequest,
    content: Content<'_>,
    under_way: Option<Download>,
) -> Result<HttpResponse, Problem> {
    let (tag, size_bytes) = (content.tag, content.size_bytes);
    if not_modified(request.headers(), &tag) {
        return Ok(HttpResponse::NotModified()
            .insert_header(etag_header(&tag))
            .insert_header((CACHE_CONTROL, content.cache))
            .finish());
    }
    let part = wanted(request.headers(), size_bytes, &tag)?;
    let range = match part {
        Wanted::Part { first, last } => Some(first..last + 1),
        Wanted::Whole | Wanted::Unsatisfiable => None,
    };
    let (stored_bytes, bytes) = gallery
        .blobs
        .read(scope, content.piece, range)
        .await
        .map_err(|error| match error {
            // Deleted between the row's reading and the bytes'.
            BlobError::Missing => Problem::not_found(),
            error => Problem::dependency_unavailable(error),
        })?;
    // A rendition that is just being replaced: its row is read anew a moment later.
    if stored_bytes != size_bytes && content.piece.rendition.is_some() {
        return Err(not_ready());
    }
    // The last digits of an id are random: enough to keep apart the files of one download.
    let id = content.piece.photo.to_string();
    let unique = id.get(id.len() - 8..).unwrap_or_default();
    let disposition = content_disposition(content.shown, &content.filename, unique);
    let bytes = Counted {
        bytes,
        _download: under_way,
    };
    let mut response = HttpResponse::Ok();
    if let Some(value) = part.content_range(size_bytes) {
        response
            .status(StatusCode::PARTIAL_CONTENT)
            .insert_header((CONTENT_RANGE, value));
    }
    Ok(response
        .insert_header(etag_header(&tag))
        .insert_header((CONTENT_TYPE, content.content_type.to_owned()))
        .insert_header((ACCEPT_RANGES, "bytes"))
        .insert_header((CACHE_CONTROL, content.cache))
        .insert_header((CONTENT_DISPOSITION, disposition))
        .body(SizedStream::new(part.length(size_bytes), bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_in_jpeg_is_called_one() {
        for (name, copy) in [
            ("IMG_1.CR3", "IMG_1.jpg"),
            ("a.b.png", "a.b.jpg"),
            ("a.JPG", "a.JPG"),
            ("a.jpeg", "a.jpeg"),
            ("photo", "photo.jpg"),
            (".png", ".png.jpg"),
        ] {
            let named = as_jpeg(&FileName::from_stored(name.to_owned()));
            assert_eq!(named.as_str(), copy, "{name}");
        }
    }
}
