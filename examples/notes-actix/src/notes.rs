//! The product: notes, whose words are counted after they are written.

use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse, get, post};
use rawdrive_http_api::App;
use rawdrive_http_api::auth::{Member, Scoped};
use rawdrive_http_api::extension::{Resource, Routes, Vocabulary};
use rawdrive_http_api::idempotent_write::{Answer, Begin, mutate};
use rawdrive_http_api::openapi::headers::Idempotent;
use rawdrive_http_api::web::{Body, Problem, Validator, parse_json, path_id};
use rawdrive_onboarding::Step;
use rawdrive_plans::Metric;
use rawdrive_runtime::{JobContext, JobError};
use rawdrive_store::extension::{Extension, column};
use rawdrive_tenancy_core::Commit as _;
use rawdrive_tenancy_core::event::{DomainEvent, EventsTx as _};
use rawdrive_tenancy_core::id::TypedId as _;
use rawdrive_tenancy_core::job::{JobKind, JobsTx as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

rawdrive_tenancy_core::typed_id! {
    /// A note.
    NoteId = "nte";
}

/// The table, and what onboarding asks of it.
pub(crate) const NOTES: Extension = Extension::new(
    "notes",
    &[(
        "0001",
        &[
            "CREATE TABLE notes (workspace_id {uuid} NOT NULL, id {uuid} NOT NULL, text TEXT NOT NULL, words {int},
           PRIMARY KEY (workspace_id, id)){strict}",
        ],
    )],
)
.facts(&[(WRITTEN, "SELECT 1 FROM notes WHERE workspace_id = $1")]);

const WRITTEN: &str = "note_written";

/// The event that a note was written.
pub(crate) const NOTE_WRITTEN: &str = "note.written";

/// The step of onboarding that the first note completes.
pub(crate) const FIRST_NOTE: Step = Step {
    id: "first_note",
    title: "Write a note",
    needs: None,
    done: |facts| facts.hold(WRITTEN),
};

/// What the routes work with, beside the core's [`App`].
struct Notes {
    limit: Metric,
}

/// The routes; `limit` counts notes.
pub(crate) fn routes(limit: Metric) -> Routes {
    use self as notes;
    let data = Data::new(Notes { limit });
    rawdrive_http_api::routes!(Document: notes::write_note, notes::show_note)
        .vocabulary(Vocabulary {
            about: "Notes, and how many words they have.",
            tags: &[("notes", "Writing and reading notes.")],
            resources: &[Resource {
                noun: "note",
                prefix: "nte",
                segment: "notes",
                address: Some("/v1/notes"),
                schemas: &["Note"],
                members: &[],
            }],
            examples: &[("", "text", "Buy milk.")],
        })
        .with(&[], move |config| {
            config.app_data(data.clone());
        })
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewNote {
    /// 1 to 10,000 characters.
    text: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct NoteView {
    id: String,
    text: String,
    /// `null` until they are counted.
    #[schema(required = true)]
    words: Option<i64>,
}

/// Writes a note.
#[utoipa::path(tag = "notes", security(("bearer" = [])), params(Idempotent), request_body = NewNote, responses((status = 201, body = NoteView), (status = 402, description = "quota_exceeded or workspace_read_only"), (status = 422)))]
#[post("/v1/notes")]
pub(crate) async fn write_note(
    app: Data<App>,
    notes: Data<Notes>,
    scoped: Scoped<Member>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let NewNote { text } = parse_json(bytes)?;
        let mut v = Validator::new();
        let fits = (1..=10_000).contains(&text.chars().count());
        v.require("text", fits, "must have 1 to 10,000 characters");
        v.finish()?;
        Ok(text)
    };
    let scope = &scoped.scope;
    mutate(
        &app,
        scope,
        &request,
        body,
        Begin::Writable,
        read,
        async |tx, id, text| {
            let note = NoteId::from_uuid(id);
            let taken = tx.take(&notes.limit, 1, note).await;
            taken.map_err(|refused| app.refused(refused))?;
            let insert = "INSERT INTO notes (workspace_id, id, text) VALUES ($1, $2, $3)";
            tx.execute("insert a note", insert, [id.into(), text.clone().into()])
                .await?;
            tx.emit(DomainEvent {
                kind: NOTE_WRITTEN.to_owned(),
                subject: note.to_string(),
                facts: json!({}),
            });
            app.review_onboarding(tx).await?;
            let (id, words) = (note.to_string(), None);
            Answer::created(&NoteView { id, text, words })
        },
    )
    .await
}

/// A note.
#[utoipa::path(tag = "notes", security(("bearer" = [])), params(("id" = String, Path)), responses((status = 200, body = NoteView), (status = 404)))]
#[get("/v1/notes/{id}")]
pub(crate) async fn show_note(
    app: Data<App>,
    scoped: Scoped<Member>,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let note: NoteId = path_id(&id)?;
    let select = "SELECT text, words FROM notes WHERE workspace_id = $1 AND id = $2";
    let reader = app.store.read(&scoped.scope);
    let rows = reader
        .query("read a note", select, [note.uuid().into()])
        .await?;
    let row = rows.first().ok_or_else(Problem::not_found)?;
    Ok(HttpResponse::Ok().json(NoteView {
        id: note.to_string(),
        text: column(row, "text")?,
        words: column(row, "words")?,
    }))
}

/// The job that counts a note's words.
#[derive(Serialize, Deserialize)]
pub(crate) struct CountWords {
    note: NoteId,
}

impl JobKind for CountWords {
    const NAME: &'static str = "count_words";
}

/// Consumes [`NOTE_WRITTEN`]: counting is a job of its own, tried again by itself.
pub(crate) async fn count_later(context: JobContext, event: DomainEvent) -> Result<(), JobError> {
    let note = event.subject.parse().map_err(JobError::give_up)?;
    let mut tx = context.begin().await?;
    tx.enqueue(&CountWords { note }, None)?;
    context.finish(&mut tx).await?;
    Ok(tx.commit().await?)
}

/// Counts the words of a note, once: row and job are one transaction.
pub(crate) async fn count(context: JobContext, job: CountWords) -> Result<(), JobError> {
    let id = job.note.uuid();
    let mut tx = context.begin().await?;
    let select = "SELECT text FROM notes WHERE workspace_id = $1 AND id = $2";
    let rows = tx.query("read a note", select, [id.into()]).await?;
    if let Some(row) = rows.first() {
        let text: String = column(row, "text")?;
        let words = i64::try_from(text.split_whitespace().count())?;
        let update = "UPDATE notes SET words = $3 WHERE workspace_id = $1 AND id = $2";
        tx.execute("count a note's words", update, [id.into(), words.into()])
            .await?;
    }
    context.finish(&mut tx).await?;
    Ok(tx.commit().await?)
}
