//! The usage ledger: its lines, their history, monthly statements, and events that happened elsewhere.

use actix_web::http::header::{ACCEPT, CONTENT_TYPE};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse, get, post, web};
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use futures_util::stream;
use rawdrive_plans::{Metric, MetricKind};
use rawdrive_store::{Reader, Release};
use rawdrive_tenancy_core::page::{Page, Position};
use rawdrive_tenancy_core::{Commit, StoreError, WorkspaceScope};
use rawdrive_usage::{
    Granularity, HeadDocument, LedgerEntry, LineDocument, LineFilter, LineKind, MAX_EVENTS,
    MAX_POINTS, Month, Report, SealTx, Statement, UsageRead, Window, WindowError, check, hex,
    history, statements,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, time};
use crate::auth::{Member, Program, Scoped};
use crate::idempotent_write::{KeyOutcome, claim, replay, settle_refusal};
use crate::ingest_queue::{Batch, IngestQueue, ReceiptView};
use crate::openapi::headers::Idempotent;
use crate::openapi::words::{LineKindName, MetricKindName, StatementStatusName};
use crate::web::{
    Body, ListView, Nullable, PageParams, PageQuery, Problem, body_digest, parse_json, parse_query,
};

const NDJSON: &str = "application/x-ndjson";
/// Lines of a statement that are read and sent at once.
const LINES_AT_ONCE: u32 = 500;

/// A metric of this installation.
fn known_metric(app: &App, name: &str) -> Result<(Metric, MetricKind), Problem> {
    let metric = name.parse::<Metric>().ok();
    let kind = metric.as_ref().and_then(|m| app.catalogue.definition(m));
    metric
        .clone()
        .zip(kind.map(|definition| definition.kind))
        .ok_or_else(|| Problem::invalid_field("metric", "is no metric of this installation"))
}

/// RFC 3339, or a day, which begins at 00:00 UTC.
fn instant(field: &str, text: &str) -> Result<DateTime<Utc>, Problem> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.with_timezone(&Utc));
    }
    // Chrono alone would take 2026-1-2.
    let day = text.parse::<NaiveDate>().ok().filter(|_| text.len() == 10);
    day.map(|day| day.and_time(NaiveTime::MIN).and_utc())
        .ok_or_else(|| {
            Problem::invalid_field(
                field,
                "expected a time such as 2026-09-21T12:00:00Z, or a day such as 2026-09-21",
            )
        })
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum GranularityName {
    Hour,
    Day,
    Month,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryQuery {
    /// The metric, such as `storage_bytes`.
    metric: String,
    /// RFC 3339, or a day. By default 48 hours, 30 days or 12 months before `to`. Widened to a whole point.
    #[param(required = false, nullable = false)]
    from: Option<String>,
    /// The end, which is not part of it; now by default. Widened to a whole point.
    #[param(required = false, nullable = false)]
    to: Option<String>,
    /// How long a point is, in UTC; a day by default. At most 1,000 points.
    #[param(required = false, nullable = false, inline)]
    granularity: Option<GranularityName>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct PointView {
    start: String,
    /// The start of the next.
    end: String,
    /// What was used; of a level, by how much it rose or fell.
    quantity: i64,
    /// Of a level, where it stood at the end; `null` of a flow.
    #[schema(required = true)]
    closing: Option<i64>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct HistoryView {
    metric: String,
    /// `level` or `flow`.
    #[schema(value_type = MetricKindName)]
    kind: &'static str,
    #[schema(value_type = GranularityName)]
    granularity: &'static str,
    from: String,
    to: String,
    /// Of a level, where it stood at `from`; `null` of a flow.
    #[schema(required = true)]
    opening: Option<i64>,
    /// Every point, also those in which nothing happened.
    points: Vec<PointView>,
    /// The sum of all points, and of the ledger's lines that happened between `from` and `to`.
    total: i64,
}

fn window(query: &HistoryQuery, now: DateTime<Utc>) -> Result<Window, Problem> {
    let (granularity, span) = match query.granularity {
        Some(GranularityName::Hour) => (Granularity::Hour, TimeDelta::hours(48)),
        None | Some(GranularityName::Day) => (Granularity::Day, TimeDelta::days(30)),
        // 12 months and a little less, so that the widened window has no 13th.
        Some(GranularityName::Month) => (Granularity::Month, TimeDelta::days(334)),
    };
    let to = match &query.to {
        None => now,
        Some(text) => instant("to", text)?,
    };
    let from = match &query.from {
        None => to.checked_sub_signed(span).unwrap_or(to),
        Some(text) => instant("from", text)?,
    };
    Window::new(granularity, from, to).map_err(|error| match error {
        WindowError::Empty => Problem::invalid_field("to", "must be after from"),
        WindowError::OutOfRange => {
            Problem::invalid_field("from", "expected times of the years 1970 to 9997")
        }
        WindowError::TooMany { points, fitting } => {
            let name = granularity.as_str();
            let other = fitting.map_or(String::new(), |fitting| {
                format!(", or granularity={}", fitting.as_str())
            });
            let message = format!(
                "would make {points} points of a {name} each: expected a span of at most {MAX_POINTS} {name}s{other}"
            );
            Problem::invalid_field("from", message)
        }
    })
}

/// What was used when. The points sum to the ledger, by the time at which things happened.
#[utoipa::path(tag = "usage", security(("bearer" = [])), params(HistoryQuery), responses((status = 200, body = HistoryView), (status = 401), (status = 422)))]
#[get("/v1/usage/history")]
pub(crate) async fn show_usage_history(
    app: Data<App>,
    scoped: Scoped<Member>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let query: HistoryQuery = parse_query(request.query_string())?;
    let (metric, kind) = known_metric(&app, &query.metric)?;
    let window = window(&query, app.env().now())?;
    let reader = app.store.read(&scoped.scope);
    let opening = match kind {
        MetricKind::Level => reader.total_before(&metric, window.from).await?,
        MetricKind::Flow => 0,
    };
    let hours = reader.hours(&metric, window.from, window.to).await?;
    let found = history(window, kind, opening, &hours);
    let points = found.points.into_iter().map(|point| PointView {
        start: time(point.start),
        end: time(point.end),
        quantity: point.quantity,
        closing: point.closing,
    });
    Ok(HttpResponse::Ok().json(HistoryView {
        metric: metric.to_string(),
        kind: match kind {
            MetricKind::Level => "level",
            MetricKind::Flow => "flow",
        },
        granularity: window.granularity.as_str(),
        from: time(window.from),
        to: time(window.to),
        opening: found.opening,
        points: points.collect(),
        total: found.total,
    }))
}

#[derive(Serialize, ToSchema)]
pub(crate) struct LedgerView {
    seq: u64,
    /// `usage`, `correction`, or `carry`: usage that moved into another period because the billing day did.
    #[schema(value_type = LineKindName)]
    kind: &'static str,
    metric: String,
    /// Negative when freed.
    quantity: i64,
    occurred_at: String,
    recorded_at: String,
    /// The start of the period that it counts in; `null` of a level.
    #[schema(required = true)]
    period_start: Option<String>,
    subject: String,
    /// The id under which a program reported it.
    #[schema(required = true)]
    event_id: Option<String>,
    actor: String,
    /// What chains the line to the one before it.
    hash: String,
}

impl From<LedgerEntry> for LedgerView {
    fn from(line: LedgerEntry) -> Self {
        Self {
            seq: line.seq,
            kind: line.kind.as_str(),
            metric: line.key.metric.to_string(),
            quantity: line.quantity,
            occurred_at: time(line.occurred_at),
            recorded_at: time(line.recorded_at),
            period_start: (!line.key.is_level()).then(|| time(line.key.period_start)),
            subject: line.subject,
            event_id: line.event_id,
            actor: line.actor,
            hash: hex(&line.hash),
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Lines of one metric.
    #[param(required = false, nullable = false)]
    metric: Option<String>,
    /// `usage`, `correction` or `carry`.
    #[param(required = false, nullable = false)]
    kind: Option<String>,
    /// What happened then or later: RFC 3339, or a day.
    #[param(required = false, nullable = false)]
    from: Option<String>,
    /// What happened before: RFC 3339, or a day.
    #[param(required = false, nullable = false)]
    to: Option<String>,
}

/// The ledger's lines, newest first: their sum is the usage.
#[utoipa::path(tag = "usage", security(("bearer" = [])), params(PageParams, EventsQuery), responses((status = 200, body = ListView<LedgerView>), (status = 401), (status = 422)))]
#[get("/v1/usage/events")]
pub(crate) async fn list_usage_events(
    app: Data<App>,
    scoped: Scoped<Member>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (page, query): (_, EventsQuery) = PageQuery::read(
        request.query_string(),
        &app.cursors,
        scoped.scope.workspace(),
        "ledger",
    )?;
    let kind = |text: String| {
        text.parse::<LineKind>()
            .map_err(|e| Problem::invalid_field("kind", e.to_string()))
    };
    let filter = LineFilter {
        metric: match query.metric {
            None => None,
            Some(name) => Some(known_metric(&app, &name)?.0),
        },
        kind: query.kind.map(kind).transpose()?,
        from: query.from.map(|text| instant("from", &text)).transpose()?,
        to: query.to.map(|text| instant("to", &text)).transpose()?,
    };
    if filter
        .from
        .zip(filter.to)
        .is_some_and(|(from, to)| from > to)
    {
        return Err(Problem::invalid_field("to", "must not be before from"));
    }
    let reader = app.store.read(&scoped.scope);
    let lines = reader.find_lines(&filter, page.request).await?;
    Ok(HttpResponse::Ok().json(page.view(lines, &app.cursors, LedgerView::from)))
}

/// One event.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "id": "evt-2026-09-14-0001", "metric": "api_calls", "quantity": 1, "occurred_at": "2026-09-14T10:32:00Z" }))]
pub(crate) struct EventInput {
    /// The reporter's own: the same id counts once for ever. 1 to 128 visible ASCII characters.
    id: String,
    /// One that this service lets programs report: its operator declares it with `ingest = true`.
    metric: String,
    /// A whole number up to 2^53 − 1; of a level negative where it fell.
    #[schema(value_type = i64)]
    quantity: serde_json::Number,
    /// RFC 3339, up to 35 days back and 5 minutes ahead; now by default.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    occurred_at: Nullable<String>,
    /// The id of what it happened to. It is never erased: no personal data.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    subject: Nullable<String>,
}

/// Up to 1,000 events.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsInput {
    #[schema(min_items = 1, max_items = 1000)]
    events: Vec<EventInput>,
}

fn read_events(bytes: &[u8]) -> Result<Vec<Report>, Problem> {
    let input: EventsInput = parse_json(bytes)?;
    if !(1..=MAX_EVENTS).contains(&input.events.len()) {
        let message = format!("expected 1 to {MAX_EVENTS} events");
        return Err(Problem::invalid_field("events", message));
    }
    let report = |event: EventInput| Report {
        id: event.id,
        metric: event.metric,
        quantity: event.quantity.as_i64(),
        occurred_at: event.occurred_at.value(),
        subject: event.subject.value(),
    };
    Ok(input.events.into_iter().map(report).collect())
}

/// Records what happened elsewhere: once for each id, also late, also beyond a limit. Events that cannot be
/// recorded are listed in `refused` with why; the others stand, and the answer is 202 also where none does. It takes an API key:
/// a person's session is refused.
#[utoipa::path(tag = "usage", security(("bearer" = [])), params(Idempotent), request_body = EventsInput, responses((status = 202, body = ReceiptView), (status = 401), (status = 403, description = "Programs alone, by an API key"), (status = 422), (status = 503)))]
#[post("/v1/usage/events")]
pub(crate) async fn report_usage_events(
    app: Data<App>,
    program: Program<Member>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let scope = program.scope;
    let bytes = body.json_bytes().await?;
    let claim = match claim(&app, &scope, &request, &body_digest(&bytes)).await? {
        KeyOutcome::Go(claim) => claim,
        KeyOutcome::Replay(stored) => return Ok(replay(&app, stored)),
    };
    let recorded = async {
        let (mut events, mut refused) = (Vec::new(), Vec::new());
        let now = app.env().now();
        for report in read_events(&bytes)? {
            let id = report.id.clone();
            match check(report, &app.catalogue, now) {
                Ok(event) => events.push(event),
                // An id may be as long as the body: what is told back of it is bounded.
                Err(refusal) => refused.push((id.chars().take(256).collect(), refusal)),
            }
        }
        let batch = Batch {
            scope,
            events,
            refused,
            claim: claim.clone(),
        };
        IngestQueue::record(&app, batch).await
    };
    match recorded.await {
        Ok(answer) => Ok(answer.send(&app)),
        Err(problem) => {
            settle_refusal(&app, &scope, claim.as_ref(), &problem).await;
            Err(problem)
        }
    }
}

/// A place in the ledger.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the document's source; `HeadDocument` is what is sent"
)]
pub(crate) struct LedgerPointView {
    /// The line's number; 0 before the first.
    seq: u64,
    /// Its hash.
    hash: String,
}

/// What arrived late.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the document's source; `HeadDocument` is what is sent"
)]
pub(crate) struct LateView {
    lines: u64,
    quantity: i64,
}

/// `opening + events − corrections = closing`.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the document's source; `HeadDocument` is what is sent"
)]
pub(crate) struct TotalsView {
    metric: String,
    opening: i64,
    events: i64,
    /// By how much corrections lowered it.
    corrections: i64,
    closing: i64,
    /// What of it happened before the month.
    late: LateView,
}

/// A statement without its lines.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the document's source; `HeadDocument` is what is sent"
)]
pub(crate) struct StatementHeadView {
    /// `rawdrive.usage-statement.v1`
    format: String,
    workspace: String,
    /// The calendar month of recording, in UTC.
    #[schema(example = "2026-09")]
    month: String,
    from: String,
    to: String,
    /// `open`, or `closed`: it never changes any more.
    #[schema(value_type = StatementStatusName)]
    status: String,
    /// The ledger before the first line.
    opening: LedgerPointView,
    /// The ledger after the last line.
    closing: LedgerPointView,
    line_count: u64,
    metrics: Vec<TotalsView>,
    /// The digest of the month before; `null` for the first.
    #[schema(required = true)]
    previous_digest: Option<String>,
    /// Over everything above.
    digest: String,
}

/// A line of a statement.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the document's source; `LineDocument` is what is sent"
)]
pub(crate) struct StatementLineView {
    seq: u64,
    #[schema(value_type = LineKindName)]
    kind: String,
    metric: String,
    /// The id of what it is counted for apart, such as a project; otherwise empty.
    counted_for: String,
    /// The start of the period that it counts in; `null` of a level.
    #[schema(required = true)]
    period_start: Option<String>,
    quantity: i64,
    subject: String,
    #[schema(required = true)]
    event_id: Option<String>,
    actor: String,
    occurred_at: String,
    recorded_at: String,
    /// Whether it happened before the month.
    late: bool,
    hash: String,
}

/// A statement: its head's members, and its lines.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's source; a stream is what is sent")]
pub(crate) struct StatementView {
    #[schema(inline)]
    #[serde(flatten)]
    head: StatementHeadView,
    lines: Vec<StatementLineView>,
}

/// Every statement, oldest first, with each month that is over sealed.
async fn all_statements(app: &App, scope: &WorkspaceScope) -> Result<Vec<Statement>, StoreError> {
    let reader = app.store.read(scope);
    let now = app.env().now();
    let begun = Month::containing(now).start();
    // Somebody may be appending to the month before right now, or have a clock that is behind: from the seal
    // on, nobody does.
    if reader.ledger_head().await?.not_before < Some(begun) {
        let mut tx = app
            .store
            .begin_despite_read_only(scope, Release::Metering)
            .await?;
        tx.seal_ledger(begun).await?;
        tx.commit().await?;
    }
    statements(&reader, scope.workspace(), now).await
}

/// The months' statements without their lines, newest first.
#[utoipa::path(tag = "usage", security(("bearer" = [])), params(PageParams), responses((status = 200, body = ListView<StatementHeadView>), (status = 401)))]
#[get("/v1/usage/statements")]
pub(crate) async fn list_statements(
    app: Data<App>,
    scoped: Scoped<Member>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (page, crate::web::NoFilters {}) = PageQuery::read(
        request.query_string(),
        &app.cursors,
        scoped.scope.workspace(),
        "statements",
    )?;
    let before = match page.request.after {
        Some(Position::Seq(index)) => index,
        _ => u64::MAX,
    };
    let limit = page.request.limit;
    let statements = all_statements(&app, &scoped.scope).await?;
    let found = statements
        .into_iter()
        .rev()
        .filter(|statement| statement.month.index() < before)
        .take(usize::from(limit) + 1);
    let found = Page::cut(found.collect(), limit, |statement: &Statement| {
        Position::Seq(statement.month.index())
    });
    let view = page.view(found, &app.cursors, |statement| {
        HeadDocument::from(&statement)
    });
    Ok(HttpResponse::Ok().json(view))
}

/// What a calendar month recorded, line by line, to be checked offline by `rawdrive usage verify`. As
/// newline-delimited JSON where `Accept` asks for `application/x-ndjson`: the head, then a line each.
#[utoipa::path(tag = "usage", security(("bearer" = [])), params(("month" = String, Path, description = "such as 2026-09")), responses((status = 200, content((StatementView = "application/json"), (String = "application/x-ndjson"))), (status = 401), (status = 404, description = "The month has not begun, or is before the workspace's first")))]
#[get("/v1/usage/statements/{month}")]
pub(crate) async fn show_statement(
    app: Data<App>,
    scoped: Scoped<Member>,
    month: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let month: Month = month.parse().map_err(|_| Problem::not_found())?;
    let statements = all_statements(&app, &scoped.scope).await?;
    let statement = statements
        .into_iter()
        .find(|statement| statement.month == month)
        .ok_or_else(Problem::not_found)?;
    let accept = request.headers().get_all(ACCEPT);
    let ndjson = accept
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(NDJSON));
    let content_type = if ndjson { NDJSON } else { "application/json" };
    let document = Document {
        reader: app.store.read(&scoped.scope),
        sent: statement.opening.seq,
        part: Part::Head,
        ndjson,
        statement,
    };
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, content_type))
        .streaming(stream::try_unfold(document, Document::next)))
}

/// A statement on its way. Lines are appended only, so that it is whole however long it takes; one that breaks
/// off lacks lines that its head counts.
struct Document {
    reader: Reader,
    statement: Statement,
    sent: u64,
    part: Part,
    ndjson: bool,
}

enum Part {
    Head,
    Lines,
    End,
}

impl Document {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Problem> {
        let mut text = Vec::new();
        match self.part {
            Part::Head => {
                text = serde_json::to_vec(&HeadDocument::from(&self.statement))
                    .map_err(Problem::internal)?;
                if self.ndjson {
                    text.push(b'\n');
                } else {
                    text.pop();
                    text.extend_from_slice(b",\"lines\":[");
                }
                self.part = Part::Lines;
            }
            Part::Lines => {
                let end = self.statement.closing.seq;
                let lines = self.reader.lines(self.sent, end, LINES_AT_ONCE).await?;
                for line in &lines {
                    if !self.ndjson {
                        let first = line.seq == self.statement.opening.seq + 1;
                        text.extend_from_slice(if first { b"\n" } else { b",\n" });
                    }
                    let document = LineDocument::of(line, self.statement.month);
                    serde_json::to_writer(&mut text, &document).map_err(Problem::internal)?;
                    if self.ndjson {
                        text.push(b'\n');
                    }
                    self.sent = line.seq;
                }
                if self.sent >= end {
                    if !self.ndjson {
                        text.extend_from_slice(b"]}\n");
                    }
                    self.part = Part::End;
                } else if lines.is_empty() {
                    return Err(Problem::internal("lines of a statement are missing"));
                }
            }
            Part::End => return Ok(None),
        }
        Ok(Some((Bytes::from(text), self)))
    }
}
