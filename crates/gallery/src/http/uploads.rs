//! How a photo comes in.

use actix_web::error::PayloadError;
use actix_web::{HttpRequest, HttpResponse, post, web};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use rawdrive_http_api::App;
use rawdrive_http_api::auth::{Member, Scoped};
use rawdrive_http_api::idempotent_write::{KeyOutcome, claim, replay, reused, settle_refusal};
use rawdrive_http_api::openapi::headers::Idempotent;
use rawdrive_http_api::web::{
    Body, Code, Pace, PacedBody, Problem, Validator, body_digest, parse_query, path_id,
};
use rawdrive_store::{Claim, WriteTx, in_request};
use rawdrive_tenancy_core::{StoreError, WorkspaceScope};
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

use super::GalleryApi;
use super::file_name::FormDisposition;
use super::form::{Form, FormError};
use super::photos::{PhotoBytes, PhotoView, base, stored_answer};
use super::problems::upload_problem;
use crate::id::GalleryId;
use crate::{
    BodyError, Companion, FileName, Incoming, Length, MediaType, Opened, Opening, Photo,
    UploadError, foresee, receive,
};

/// Chunks between the connection and the upload's own task: the client waits when the disk does.
const CHUNKS_IN_FLIGHT: usize = 4;

/// The photo, with its name; its type may be left to that.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's source; `Form` reads the body")]
pub(crate) struct PhotoForm {
    #[schema(inline)]
    file: PhotoBytes,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UploadParams {
    /// The name it had on its owner's disk.
    filename: Option<String>,
}

/// Holds on to the idempotency key while the bytes come, and puts the answer under it into the photo's own
/// transaction.
struct KeepAnswer {
    claim: Option<Claim>,
    /// The path below which photos are read.
    base: String,
}

impl Companion<WriteTx, Photo> for KeepAnswer {
    async fn renew(&self, tx: &mut WriteTx) -> Result<(), StoreError> {
        match &self.claim {
            Some(claim) => tx.renew_key(claim).await,
            None => Ok(()),
        }
    }

    async fn stored(self, tx: &mut WriteTx, photo: &Photo) -> Result<(), StoreError> {
        let Some(claim) = self.claim else {
            return Ok(());
        };
        // A view of plain fields always has a JSON text.
        let Ok(answer) = stored_answer(photo, &self.base) else {
            return Ok(());
        };
        tx.complete_key(&claim, &answer.stored(Some(photo.sha256.to_vec())))
            .await
    }
}

/// The bytes of a file, whichever way they come.
enum Source {
    Raw(PacedBody<actix_web::dev::Payload>),
    /// The form, within its part `file`.
    Form(Box<Form<PacedBody<actix_web::dev::Payload>>>),
}

impl Source {
    /// The next bytes, or the end. The end of a form's file is the end of the form: a second part is refused.
    async fn chunk(&mut self) -> Option<Result<Bytes, BodyError>> {
        match self {
            Self::Raw(body) => body.next().await.map(|chunk| chunk.map_err(|e| broken(&e))),
            Self::Form(form) => match form.data().await {
                Ok(Some(bytes)) => Some(Ok(bytes)),
                Ok(None) => match form.part().await {
                    Ok(None) => None,
                    Ok(Some(_)) => Some(Err(BodyError::Refused {
                        field: "file".to_owned(),
                        message: "must be the form's only part",
                    })),
                    Err(error) => Some(Err(form_broken(&error))),
                },
                Err(error) => Some(Err(form_broken(&error))),
            },
        }
    }
}

fn broken(error: &PayloadError) -> BodyError {
    match error {
        PayloadError::Io(e) if e.kind() == std::io::ErrorKind::TimedOut => BodyError::TooSlow,
        PayloadError::Overflow => BodyError::Refused {
            field: "file".to_owned(),
            message: "has an envelope that is too large",
        },
        _ => BodyError::Broken,
    }
}

fn form_broken(error: &FormError) -> BodyError {
    match error {
        FormError::Body(error) => broken(error),
        FormError::Broken => BodyError::Broken,
        FormError::Malformed(detail) => BodyError::Malformed((*detail).to_owned()),
    }
}

/// The types of photos, as a refusal lists them.
fn known_media() -> String {
    MediaType::ALL.map(MediaType::as_str).join(", ")
}

fn media_of(content_type: Option<&str>) -> Result<MediaType, Problem> {
    content_type.and_then(MediaType::parse).ok_or_else(|| {
        let known = known_media();
        Problem::unsupported_media_type(&format!("multipart/form-data or one of {known}"))
    })
}

/// The type of a form's file, by what its part declares. Browsers and curl know few photo formats and send the others
/// as octets or without a type; the name tells, and the content is checked against it all the same.
fn media_of_part(declared: Option<&str>, named: Option<&FileName>) -> Result<MediaType, Problem> {
    let essence = declared.map(|declared| {
        let essence = declared.split(';').next().unwrap_or_default();
        essence.trim().to_ascii_lowercase()
    });
    let said = match essence.as_deref() {
        None | Some("" | "application/octet-stream" | "binary/octet-stream") => {
            if let Some(media) = named.and_then(|name| MediaType::of_name(name.as_str())) {
                return Ok(media);
            }
            "says no type, and its name ends in none".to_owned()
        }
        Some(essence) => match MediaType::parse(essence) {
            Some(media) => return Ok(media),
            // Text of the client's: as much of it as a type can have.
            None => format!("is {:.80}", essence.escape_default().to_string()),
        },
    };
    let known = known_media();
    Err(Problem::new(
        Code::UnsupportedMediaType,
        format!("The form's part `file` {said}. It must be one of {known}."),
    ))
}

/// Uploads a photo: as the raw body with its own `Content-Type`, or as the part `file` of a form.
#[utoipa::path(
    operation_id = "upload_photo", tag = "photos", security(("bearer" = [])), params(("id" = String, Path, description = "The gallery"), UploadParams, Idempotent),
    request_body(
        content((inline(PhotoBytes) = "image/*"), (PhotoForm = "multipart/form-data")),
        description = "The file as the raw body with its own type, by the names that older clients use too (image/jpg, image/x-png, image/dng …): the canonical one is stored. Or a form with the one part `file`, whose type may be left to its name"
    ),
    responses((status = 201, body = PhotoView), (status = 402, description = "workspace_read_only or quota_exceeded"), (status = 404), (status = 413), (status = 415, description = "The type is none that is taken, or the content is not of it"), (status = 422, description = "A field is not acceptable, or the content breaks off"))
)]
#[post("/v1/galleries/{id}/photos")]
pub(crate) async fn upload(
    app: web::Data<App>,
    gallery: web::Data<GalleryApi>,
    scoped: Scoped<Member>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let content_type = body.content_type().map(str::to_owned);
    let is_form = content_type.as_deref().is_some_and(|t| {
        t.trim_start()
            .to_ascii_lowercase()
            .starts_with("multipart/form-data")
    });
    let announced = body.content_length();
    // An envelope may be larger than its file, by a bounded amount.
    let envelope = if is_form { 64 * 1024 } else { 0 };
    let limit = gallery.max_upload_bytes;
    let media = if is_form {
        None
    } else {
        Some(media_of(content_type.as_deref())?)
    };
    let paced = body
        .stream(limit.saturating_add(envelope), Pace::BODY)
        .map_err(|problem| {
            if is_form {
                Problem::payload_too_large(limit)
            } else {
                problem
            }
        })?;
    let params: UploadParams = parse_query(request.query_string())?;
    let mut v = Validator::new();
    let named = v.check_some("filename", params.filename.as_deref(), FileName::of_upload);
    v.require("file", announced != Some(0), "must not be empty");
    v.finish()?;
    let digest = body_digest(content_type.as_deref().unwrap_or_default().as_bytes());
    let claim = match claim(&app, &scoped.scope, &request, &digest).await? {
        KeyOutcome::Go(claim) => claim,
        KeyOutcome::Replay(stored) => {
            let Some(expected) = stored.body_digest.clone() else {
                return Ok(replay(&app, stored));
            };
            let form = content_type.as_deref().filter(|_| is_form);
            let seen = digest_of(paced, form).await?;
            return if seen == expected {
                Ok(replay(&app, stored))
            } else {
                Err(reused())
            };
        }
    };
    let outcome = async {
        let (source, media, named, length) = match media {
            Some(media) => (
                Source::Raw(paced),
                media,
                named,
                announced.map_or(Length::AtMost(None), Length::Exactly),
            ),
            None => {
                let least = announced.unwrap_or_default().saturating_sub(envelope);
                refuse_early(&app, &scoped.scope, path_id(&id)?, least).await?;
                let mut form = form_of(content_type.as_deref(), paced)?;
                let (media, in_form) = file_part(&mut form).await?;
                (
                    Source::Form(Box::new(form)),
                    media,
                    named.or(in_form),
                    Length::AtMost(announced),
                )
            }
        };
        let filename = match named {
            Some(filename) => filename,
            None => default_name(media)?,
        };
        let incoming = Incoming {
            id: app.env().id(),
            gallery: path_id(&id)?,
            filename,
            media,
            length,
            max_bytes: limit,
        };
        pipe(
            &app,
            &gallery,
            &scoped,
            incoming,
            source,
            KeepAnswer {
                claim: claim.clone(),
                base: base(&app),
            },
        )
        .await
    };
    match outcome.await {
        Ok(photo) => Ok(stored_answer(&photo, &base(&app))?.send(&app)),
        Err(problem) => {
            settle_refusal(&app, &scoped.scope, claim.as_ref(), &problem).await;
            Err(problem)
        }
    }
}

/// Refuses a form that cannot be stored, before its first byte is read: what it holds is known only then.
async fn refuse_early(
    app: &App,
    scope: &WorkspaceScope,
    gallery: GalleryId,
    least_bytes: u64,
) -> Result<(), Problem> {
    let opening = Opening {
        photo: app.env().id(),
        gallery,
        bytes: least_bytes,
    };
    let error = match foresee(&app.store, app.env(), scope, opening).await {
        Ok(Opened::Held) => return Ok(()),
        Ok(Opened::NoGallery) => UploadError::NoGallery,
        Ok(Opened::Exceeded(exceeded)) => UploadError::Exceeded(exceeded),
        Err(error) => error.into(),
    };
    Err(upload_problem(app, scope, error).await)
}

/// A name for a file that came without one.
fn default_name(media: MediaType) -> Result<FileName, Problem> {
    let subtype = media.as_str().rsplit(['/', '-']).next().unwrap_or("bin");
    format!("photo.{subtype}")
        .parse()
        .map_err(Problem::internal)
}

fn form_of<S>(content_type: Option<&str>, body: S) -> Result<Form<S>, Problem>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    let form = Form::new(content_type.unwrap_or_default(), body);
    form.map_err(|error| form_problem(&error))
}

/// Goes to the form's part `file`, which must come first and alone.
async fn file_part<S>(form: &mut Form<S>) -> Result<(MediaType, Option<FileName>), Problem>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    let refused = |message| Problem::invalid_field("file", message);
    let head = form.part().await.map_err(|error| form_problem(&error))?;
    let head = head.ok_or_else(|| refused("is required"))?;
    let said = head.disposition.as_deref().map(FormDisposition::read);
    let said = said.unwrap_or_default();
    if said.name.as_deref() != Some("file") {
        return Err(refused("must be the form's first and only part"));
    }
    let named = said
        .file_name()
        .map_err(|e| Problem::invalid_field("filename", e.to_string()))?;
    let media = media_of_part(head.content_type.as_deref(), named.as_ref())?;
    Ok((media, named))
}

fn form_problem(error: &FormError) -> Problem {
    match form_broken(error) {
        BodyError::TooSlow => Problem::request_timeout(),
        BodyError::Broken => {
            Problem::malformed("The body broke off before the length that was announced.")
        }
        BodyError::Malformed(detail) => Problem::malformed(detail),
        BodyError::Refused { field, message } => Problem::invalid_field(field, message),
    }
}

/// Runs the upload in a task of its own and feeds it: a cancelled request drops this handler, and the
/// task, hearing no end, gives everything back.
async fn pipe(
    app: &web::Data<App>,
    gallery: &web::Data<GalleryApi>,
    scoped: &Scoped<Member>,
    incoming: Incoming,
    mut source: Source,
    keep: KeepAnswer,
) -> Result<Photo, Problem> {
    let (feed, pieces) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let (want, mut wanted) = mpsc::channel::<()>(1);
    let body = futures_util::stream::unfold(
        Some((pieces, want)),
        |source: Option<(mpsc::Receiver<Piece>, mpsc::Sender<()>)>| async move {
            let (mut pieces, want) = source?;
            // Full: it was said before.
            let _ = want.try_send(());
            match pieces.recv().await {
                Some(Piece::Bytes(Ok(bytes))) => Some((Ok(bytes), Some((pieces, want)))),
                Some(Piece::Bytes(Err(error))) => Some((Err(error), None)),
                Some(Piece::End) => None,
                None => Some((Err(BodyError::Broken), None)),
            }
        },
    );
    let (task_app, gallery, scope) = (app.clone(), gallery.clone(), scoped.scope);
    let task = tokio::spawn(in_request(async move {
        let store = &task_app.store;
        receive(
            store,
            &gallery.blobs,
            store.env(),
            &scope,
            incoming,
            Box::pin(body),
            keep,
        )
        .await
    }));
    // Not a byte is read before it is wanted: who waits for leave to send the body hears of a refusal first.
    if wanted.recv().await.is_some() {
        forward(&mut source, &feed).await;
    }
    match task.await.map_err(Problem::internal)? {
        Ok(photo) => Ok(photo),
        Err(error) => Err(upload_problem(app, &scoped.scope, error).await),
    }
}

/// What goes from the connection to the upload's task.
enum Piece {
    Bytes(Result<Bytes, BodyError>),
    End,
}

async fn forward(source: &mut Source, feed: &mpsc::Sender<Piece>) {
    loop {
        let piece = tokio::select! {
            // Refused already: the rest of the body is nobody's business but the connection's.
            () = feed.closed() => return,
            piece = source.chunk() => piece,
        };
        let (piece, last) = match piece {
            Some(Ok(bytes)) => (Piece::Bytes(Ok(bytes)), false),
            Some(Err(error)) => (Piece::Bytes(Err(error)), true),
            None => (Piece::End, true),
        };
        if feed.send(piece).await.is_err() || last {
            return;
        }
    }
}

/// SHA-256 of a repeated upload's file, to compare with the one that was stored.
async fn digest_of(
    body: PacedBody<actix_web::dev::Payload>,
    form: Option<&str>,
) -> Result<Vec<u8>, Problem> {
    let mut source = match form {
        Some(content_type) => {
            let mut form = form_of(Some(content_type), body)?;
            file_part(&mut form).await?;
            Source::Form(Box::new(form))
        }
        None => Source::Raw(body),
    };
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    while let Some(chunk) = source.chunk().await {
        context.update(&chunk.map_err(|error| match error {
            BodyError::TooSlow => Problem::request_timeout(),
            _ => Problem::malformed("The body broke off before the length that was announced."),
        })?);
    }
    Ok(context.finish().as_ref().to_vec())
}
