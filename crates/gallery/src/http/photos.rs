//! Photos.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, delete, get, patch, post, web};
use chrono::{DateTime, Utc};
use rawdrive_http_api::auth::{Member, Reading, Scoped};
use rawdrive_http_api::idempotent_write::{Answer, Begin, mutate, no_body};
use rawdrive_http_api::openapi::binary;
use rawdrive_http_api::openapi::headers::{Conditional, Idempotent, Ranged};
use rawdrive_http_api::web::{
    Body, EntityTag, IfMatch, ListView, PageParams, PageQuery, Problem, Validator, etag_of,
    path_id, read_json, tagged_view,
};
use rawdrive_http_api::{App, time};
use rawdrive_plans::PlansTx as _;
use rawdrive_store::{Release, WriteTx};
use rawdrive_usage::hex;
use serde::{Deserialize, Serialize};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::GalleryApi;
use super::content::{Content, send};
use super::file_name::Shown;
use super::listing::descending;
use super::problems::change_problem;
use super::renditions::RenditionsView;
use super::vocabulary::PhotoSortName;
use crate::id::PhotoId;
use crate::{
    FileName, GalleryRead, GalleryTx as _, MediaType, Moved, Orientation, Photo, PhotoChange,
    PhotoKey, PhotoListing, PhotoOrder, change_photo, delete_photos, move_photos,
};

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
    renditions: RenditionsView,
    created_at: String,
    updated_at: String,
}

impl PhotoView {
    /// `base` is the path that the photo's own addresses lie below, such as `/v1`.
    pub(super) fn of(photo: &Photo, base: &str) -> Self {
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
            renditions: RenditionsView::of(photo, base),
            created_at: time(photo.created_at),
            updated_at: time(photo.updated_at),
        }
    }
}

/// Where members find photos.
pub(super) fn base(app: &App) -> String {
    format!("{}/v1", app.prefix())
}

fn tag(photo: &Photo) -> EntityTag {
    etag_of(photo.id, photo.version)
}

/// `base` is that of [`base`].
pub(super) fn stored_answer(photo: &Photo, base: &str) -> Result<Answer, Problem> {
    Ok(Answer::created(&PhotoView::of(photo, base))?.tagged_view(&tag(photo)))
}

/// The bytes of a photo, in one of the formats that a gallery takes.
pub(crate) struct PhotoBytes;

impl PartialSchema for PhotoBytes {
    fn schema() -> RefOr<Schema> {
        binary(&MediaType::ALL.map(MediaType::as_str))
    }
}

impl ToSchema for PhotoBytes {}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PhotoParams {
    /// Only photos whose name holds this text, whatever the case.
    #[param(
        required = false,
        nullable = false,
        min_length = 1,
        max_length = 255,
        example = "img_00"
    )]
    filename: Option<String>,
    /// Only photos that were taken then or later, RFC 3339. Photos that do not say when are left out.
    #[param(required = false, nullable = false, value_type = String, format = DateTime)]
    taken_after: Option<String>,
    /// Only photos that were taken before, RFC 3339.
    #[param(required = false, nullable = false, value_type = String, format = DateTime)]
    taken_before: Option<String>,
    /// In which order: by when they were uploaded (the default), by name whatever the case, or by when they were taken,
    /// where those that do not say it stand by when they were uploaded. With `-` before it the other way round.
    #[param(inline, required = false, nullable = false, value_type = PhotoSortName)]
    sort: Option<String>,
}

impl PhotoParams {
    fn listing(self, after_key: Option<String>) -> Result<PhotoListing, Problem> {
        let mut v = Validator::new();
        let moment = |text: String| match DateTime::parse_from_rfc3339(&text) {
            Ok(at) => Ok(at.with_timezone(&Utc)),
            Err(_) => Err("must be an RFC 3339 time such as 2027-01-31T12:00:00Z"),
        };
        let taken_from = v.check_some("taken_after", self.taken_after, moment);
        let taken_before = v.check_some("taken_before", self.taken_before, moment);
        let ordered = taken_from.zip(taken_before).is_none_or(|(a, b)| a <= b);
        v.require("taken_before", ordered, "must not be before taken_after");
        let filename = v.check_some("filename", self.filename, |text| {
            match text.chars().count() {
                1..=255 => Ok(FileName::from_stored(text).folded()),
                _ => Err("must be 1 to 255 characters"),
            }
        });
        let order = v.check_some("sort", self.sort, |text| {
            let (descending, by) = descending(&text);
            let by = match by {
                "created_at" => PhotoKey::Uploaded,
                "filename" => PhotoKey::FileName,
                "taken_at" => PhotoKey::Taken,
                _ => {
                    return Err(
                        "must be created_at, filename or taken_at, or one of them with - before it",
                    );
                }
            };
            Ok(PhotoOrder { by, descending })
        });
        v.finish()?;
        Ok(PhotoListing {
            filename,
            taken_from,
            taken_before,
            order: order.unwrap_or_default(),
            after_key,
        })
    }
}

/// A gallery's photos, oldest first unless `sort` says otherwise.
#[utoipa::path(tag = "photos", security(("bearer" = [])), params(("id" = String, Path, description = "The gallery"), PhotoParams, PageParams), responses((status = 200, body = ListView<PhotoView>), (status = 404), (status = 422)))]
#[get("/v1/galleries/{id}/photos")]
pub(crate) async fn list_photos(
    app: web::Data<App>,
    reading: Reading<Member>,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let list = format!("photos/{id}");
    let body = reading.read(&app, async |reader| {
        let (mut page, params): (_, PhotoParams) = PageQuery::read_sorted(
            request.query_string(),
            &app.cursors,
            reader.scope().workspace(),
            &list,
        )?;
        let listing = params.listing(page.after_key.take())?;
        let found = reader.photos(path_id(&id)?, &listing, page.request).await?;
        let found = found.ok_or_else(Problem::not_found)?;
        let (order, base) = (listing.order, base(&app));
        let key = |photo: &Photo| order.key_of(photo);
        Ok(page.view_sorted(found, &app.cursors, key, |p| PhotoView::of(&p, &base)))
    });
    Ok(HttpResponse::Ok().json(body.await?))
}

/// A photo.
#[utoipa::path(tag = "photos", security(("bearer" = [])), params(("id" = String, Path)), responses((status = 200, body = PhotoView), (status = 404)))]
#[get("/v1/photos/{id}")]
pub(crate) async fn show_photo(
    app: web::Data<App>,
    reading: Reading<Member>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let read = reading.read(&app, async |reader| {
        let found = reader.photo(path_id(&id)?).await?;
        found.ok_or_else(Problem::not_found)
    });
    let photo = read.await?;
    // Renditions come without a new version of the photo itself.
    tagged_view(&tag(&photo), &PhotoView::of(&photo, &base(&app)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdatePhoto {
    /// 1 to 255 characters.
    #[schema(nullable = false)]
    filename: Option<String>,
    /// Moves it to another gallery, where there is room for it.
    #[schema(nullable = false)]
    gallery_id: Option<String>,
}

/// Renames a photo, or moves it to another gallery. Its bytes never change.
#[utoipa::path(tag = "photos", security(("bearer" = [])), params(("id" = String, Path), Idempotent, Conditional), request_body = UpdatePhoto, responses((status = 200, body = PhotoView), (status = 402, description = "workspace_read_only or quota_exceeded"), (status = 404), (status = 409), (status = 412), (status = 422)))]
#[patch("/v1/photos/{id}")]
pub(crate) async fn update_photo(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    id: web::Path<String>,
    request: HttpRequest,
    condition: IfMatch,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let (input, mut v): (UpdatePhoto, _) = read_json(bytes)?;
        let filename = v.check_some("filename", input.filename.as_deref(), FileName::of_upload);
        v.finish()?;
        Ok((filename, input.gallery_id))
    };
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        Begin::Writable,
        read,
        async |tx, _, (filename, gallery)| {
            let seen = shown(tx, path_id(&id)?).await?;
            condition.check(&tag(&seen))?;
            let gallery = gallery.as_deref().map(path_id).transpose()?;
            let change = PhotoChange { filename, gallery };
            let photo = match change_photo(tx, app.env(), &seen, change).await {
                Ok(photo) => photo,
                Err(error) => {
                    return Err(change_problem(&app, tx, &condition, error).await);
                }
            };
            Ok(Answer::ok(&PhotoView::of(&photo, &base(&app)))?.tagged_view(&tag(&photo)))
        },
    )
    .await
}

/// A photo of a gallery that is not deleted.
async fn shown(tx: &mut WriteTx, id: PhotoId) -> Result<Photo, Problem> {
    let photo = tx.photo(id).await?.ok_or_else(Problem::not_found)?;
    let gallery = tx.gallery(photo.gallery).await?;
    match gallery.is_some_and(|gallery| gallery.deleted_at.is_none()) {
        true => Ok(photo),
        false => Err(Problem::not_found()),
    }
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

/// The most photos of one request.
const MOST_PHOTOS: usize = 100;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeletePhotos {
    /// The photos.
    #[schema(min_items = 1, max_items = 100)]
    photo_ids: Vec<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MovePhotos {
    /// The photos.
    #[schema(min_items = 1, max_items = 100)]
    photo_ids: Vec<String>,
    /// The gallery that they are to be in.
    gallery_id: String,
}

/// What became of one of several photos.
#[derive(Serialize, ToSchema)]
pub(crate) struct PhotoResult {
    /// The photo, as it was named.
    id: String,
    /// Whether it is as was asked for.
    done: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    error: Option<PhotoResultError>,
}

/// What a problem would say of a photo that came alone.
#[derive(Serialize, ToSchema)]
pub(crate) struct PhotoResultError {
    /// The HTTP status.
    status: u16,
    /// The stable code.
    code: &'static str,
    /// For a person.
    detail: String,
}

impl From<Problem> for PhotoResultError {
    fn from(problem: Problem) -> Self {
        Self {
            status: problem.code.number(),
            code: problem.code.as_str(),
            detail: problem.detail,
        }
    }
}

/// What became of several photos.
#[derive(Serialize, ToSchema)]
pub(crate) struct PhotoResultsView {
    /// Of each photo that was named, in that order.
    results: Vec<PhotoResult>,
}

impl PhotoResultsView {
    fn of(photos: &[String], outcome: impl Fn(PhotoId) -> Result<(), Problem>) -> Self {
        let results = photos.iter().map(|photo| {
            // As in a path: a malformed id answers as an unknown photo.
            let error = path_id(photo).and_then(&outcome).err();
            PhotoResult {
                id: photo.clone(),
                done: error.is_none(),
                error: error.map(PhotoResultError::from),
            }
        });
        Self {
            results: results.collect(),
        }
    }
}

fn check_photo_ids(v: &mut Validator, ids: &[String]) {
    let some = (1..=MOST_PHOTOS).contains(&ids.len());
    v.require("photo_ids", some, "must be 1 to 100 photos");
}

/// The photos that are named, each once.
fn photo_ids(texts: &[String]) -> Vec<PhotoId> {
    let mut ids: Vec<PhotoId> = Vec::with_capacity(texts.len());
    for id in texts.iter().filter_map(|text| text.parse().ok()) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

/// Deletes up to 100 photos at once and frees what they took. Each is answered by itself; those that there are not leave
/// the others as they are.
#[utoipa::path(tag = "photos", security(("bearer" = [])), params(Idempotent), request_body = DeletePhotos, responses((status = 200, body = PhotoResultsView), (status = 409), (status = 422)))]
#[post("/v1/photos/delete")]
pub(crate) async fn delete_several_photos(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let (input, mut v): (DeletePhotos, _) = read_json(bytes)?;
        check_photo_ids(&mut v, &input.photo_ids);
        v.finish()?;
        Ok(input.photo_ids)
    };
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        Begin::Despite(Release::Freeing),
        read,
        async |tx, _, photos| {
            let deleted = delete_photos(tx, app.env(), &photo_ids(&photos)).await?;
            Answer::ok(&PhotoResultsView::of(&photos, |id| {
                match deleted.contains(&id) {
                    true => Ok(()),
                    false => Err(Problem::not_found()),
                }
            }))
        },
    )
    .await
}

/// Moves up to 100 photos to a gallery at once, as many as it takes, in the order in which they are named. Each is answered
/// by itself.
#[utoipa::path(tag = "photos", security(("bearer" = [])), params(Idempotent), request_body = MovePhotos, responses((status = 200, body = PhotoResultsView), (status = 402, description = "workspace_read_only"), (status = 404), (status = 409), (status = 422)))]
#[post("/v1/photos/move")]
pub(crate) async fn move_several_photos(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let (input, mut v): (MovePhotos, _) = read_json(bytes)?;
        check_photo_ids(&mut v, &input.photo_ids);
        v.finish()?;
        Ok(input)
    };
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        Begin::Writable,
        read,
        async |tx, _, input| {
            let target = path_id(&input.gallery_id)?;
            let moved = move_photos(tx, app.env(), &photo_ids(&input.photo_ids), target).await?;
            let moved: BTreeMap<_, _> = moved.ok_or_else(Problem::not_found)?;
            // One text for all that do not fit: they are refused by the same limit.
            let full = moved.values().find_map(|outcome| match outcome {
                Moved::Exceeded(exceeded) => Some(exceeded),
                Moved::There => None,
            });
            let full = match full {
                Some(exceeded) => Some(app.exceeded(tx.entitlements().await, exceeded)),
                None => None,
            };
            Answer::ok(&PhotoResultsView::of(&input.photo_ids, |id| {
                match moved.get(&id) {
                    Some(Moved::There) => Ok(()),
                    Some(Moved::Exceeded(_)) => Err(match &full {
                        Some(full) => Problem::new(full.code, full.detail.clone()),
                        None => Problem::not_found(),
                    }),
                    None => Err(Problem::not_found()),
                }
            }))
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
    let content = Content::original(&photo, Shown::Inline);
    send(&gallery, &scoped.scope, &request, content, None).await
}
