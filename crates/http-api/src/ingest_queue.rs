//! Group commit: batches of one workspace that arrive while another is being written share the next
//! transaction. A commit to a disk costs milliseconds whatever it holds, and there is one writer at a time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::Data;
use rawdrive_store::{Claim, Release};
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::{Commit, StoreError, WorkspaceScope};
use rawdrive_usage::{Event, Refusal, ingest};
use serde::Serialize;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use crate::app::App;
use crate::idempotent_write::Answer;
use crate::openapi::words::RefusalName;
use crate::web::{Code, Problem};

/// The most events of one transaction, so that other writers' turn comes.
const EVENTS_PER_COMMIT: usize = 5_000;
/// The most events that wait in this process; beyond them a reporter is asked to try again.
const WAITING_EVENTS: usize = 100_000;
/// How long a batch waits for its turn and its commit.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReceiptView {
    /// How many events count from now on.
    accepted: u64,
    /// How many had been counted before.
    duplicates: u64,
    /// The events that are not counted; their ids may come again.
    refused: Vec<RefusedView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RefusedView {
    id: String,
    /// `invalid_id`, `invalid_subject`, `unknown_metric`, `metric_not_ingested`, `invalid_quantity`,
    /// `invalid_occurred_at`, `too_old`, `in_the_future`, `below_zero` or `too_large`.
    #[schema(value_type = RefusalName)]
    code: &'static str,
}

/// A request's events on their way.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Who reports them.
    pub(crate) scope: WorkspaceScope,
    /// Those that can be recorded.
    pub(crate) events: Vec<Event>,
    /// Those that cannot, as far as an event tells by itself.
    pub(crate) refused: Vec<(String, Refusal)>,
    /// The request's idempotency key.
    pub(crate) claim: Option<Claim>,
}

struct Waiting {
    batch: Batch,
    answer: oneshot::Sender<Result<Answer, Problem>>,
}

#[derive(Default)]
struct Lanes {
    /// A workspace is in here for as long as somebody writes for it.
    waiting: HashMap<WorkspaceId, Vec<Waiting>>,
    events: usize,
}

/// The batches that wait, by workspace: one's failure or load is no other's.
#[derive(Default)]
pub struct IngestQueue(Mutex<Lanes>);

impl std::fmt::Debug for IngestQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IngestQueue").finish_non_exhaustive()
    }
}

fn busy() -> Problem {
    Problem::new(
        Code::DependencyUnavailable,
        "Too many events are being recorded. Send these again shortly: each counts once.",
    )
    .retry_after(1)
}

impl IngestQueue {
    /// Records a batch, together with others, and answers when it is durable.
    pub(crate) async fn record(app: &Data<App>, batch: Batch) -> Result<Answer, Problem> {
        let (answer, answered) = oneshot::channel();
        let scope = batch.scope;
        if app.ingest.join(Waiting { batch, answer })? {
            // On its own, so that a cancelled request takes no other's answer along.
            actix_web::rt::spawn(write(app.clone(), scope));
        }
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }

    /// Joins the workspace's lane; whether nobody writes for it yet.
    fn join(&self, waiting: Waiting) -> Result<bool, Problem> {
        let mut lanes = self.lanes();
        let events = waiting.batch.events.len();
        if lanes.events + events > WAITING_EVENTS {
            return Err(busy());
        }
        lanes.events += events;
        let workspace = waiting.batch.scope.workspace();
        let mut first = false;
        let lane = lanes.waiting.entry(workspace).or_insert_with(|| {
            first = true;
            Vec::new()
        });
        lane.push(waiting);
        Ok(first)
    }

    /// The next transaction's batches, in the order of their coming. When there is none the lane ends.
    fn take(&self, workspace: WorkspaceId) -> Vec<Waiting> {
        let mut lanes = self.lanes();
        let Some(lane) = lanes.waiting.get_mut(&workspace) else {
            return Vec::new();
        };
        let mut events = 0;
        let fitting = lane.iter().take_while(|waiting| {
            events += waiting.batch.events.len();
            events <= EVENTS_PER_COMMIT
        });
        let count = fitting.count();
        let taken: Vec<_> = lane.drain(..count).collect();
        if taken.is_empty() {
            lanes.waiting.remove(&workspace);
        }
        lanes.events -= taken.iter().map(|w| w.batch.events.len()).sum::<usize>();
        taken
    }

    fn lanes(&self) -> std::sync::MutexGuard<'_, Lanes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever writes for a workspace. Should it end before its lane does, those who wait are told, and the next to
/// come writes anew.
struct Lane {
    app: Data<App>,
    workspace: WorkspaceId,
    ended: bool,
}

impl Drop for Lane {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut lanes = self.app.ingest.lanes();
        let left = lanes.waiting.remove(&self.workspace).unwrap_or_default();
        lanes.events -= left.iter().map(|w| w.batch.events.len()).sum::<usize>();
    }
}

/// Writes for a workspace until nobody waits any more.
async fn write(app: Data<App>, scope: WorkspaceScope) {
    let mut lane = Lane {
        app: app.clone(),
        workspace: scope.workspace(),
        ended: false,
    };
    loop {
        // What arrives while this waits for its turn to write is taken along.
        let begun = app
            .store
            .begin_despite_read_only(&scope, Release::Metering)
            .await;
        let taken = app.ingest.take(scope.workspace());
        if taken.is_empty() {
            lane.ended = true;
            return;
        }
        let (batches, answers): (Vec<_>, Vec<_>) =
            taken.into_iter().map(|w| (w.batch, w.answer)).unzip();
        let outcome = match begun {
            Ok(tx) => commit(&app, tx, batches).await,
            Err(error) => Err(error.into()),
        };
        match outcome {
            Ok(receipts) => {
                for (answer, receipt) in answers.into_iter().zip(receipts) {
                    // Whoever does not wait any more finds the events counted when sending them again.
                    let _ = answer.send(Ok(receipt));
                }
            }
            Err(problem) => {
                // One of them tells, and logs, what all of them were refused for.
                let mut cause = Some(problem);
                for answer in answers {
                    let _ = answer.send(Err(cause.take().unwrap_or_else(busy)));
                }
            }
        }
    }
}

async fn commit(
    app: &App,
    mut tx: rawdrive_store::WriteTx,
    batches: Vec<Batch>,
) -> Result<Vec<Answer>, Problem> {
    let (events, rest): (Vec<_>, Vec<_>) = batches
        .into_iter()
        .map(|batch| {
            let actor = batch.scope.actor();
            (
                (actor, batch.events),
                (batch.scope, batch.refused, batch.claim),
            )
        })
        .unzip();
    let recorded = ingest(&mut tx, app.env(), &events).await?;
    let mut answers = Vec::with_capacity(rest.len());
    for (recorded, (scope, mut refused, claim)) in recorded.into_iter().zip(rest) {
        tx.continue_as(&scope)?;
        refused.extend(recorded.refused);
        let refused = refused.into_iter().map(|(id, refusal)| RefusedView {
            id,
            code: refusal.as_str(),
        });
        let receipt = ReceiptView {
            accepted: recorded.accepted,
            duplicates: recorded.duplicates,
            refused: refused.collect(),
        };
        let answer = Answer::json(StatusCode::ACCEPTED, &receipt)?;
        if let Some(claim) = &claim {
            match tx.complete_key(claim, &answer.stored(None)).await {
                // Another request has taken the key over. It finds its events counted; so may this one, and
                // the others' batches stand.
                Ok(()) | Err(StoreError::Taken { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        answers.push(answer);
    }
    tx.commit().await?;
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use rawdrive_plans::MetricKind;
    use rawdrive_tenancy_core::{Env, SystemReason};

    #[expect(
        clippy::disallowed_methods,
        reason = "a test acts in a workspace that has no members"
    )]
    fn scope() -> WorkspaceScope {
        WorkspaceScope::for_system(Env::system().id(), SystemReason::JOB)
    }

    fn waiting(scope: WorkspaceScope, events: usize) -> Waiting {
        let event = Event {
            id: "e".to_owned(),
            metric: "api_calls".parse().unwrap(),
            kind: MetricKind::Flow,
            quantity: 1,
            occurred_at: DateTime::UNIX_EPOCH,
            subject: String::new(),
        };
        Waiting {
            batch: Batch {
                scope,
                events: vec![event; events],
                refused: Vec::new(),
                claim: None,
            },
            answer: oneshot::channel().0,
        }
    }

    #[test]
    fn one_writes_for_a_workspace_and_takes_what_fits_one_commit() {
        let queue = IngestQueue::default();
        let (here, there) = (scope(), scope());
        assert!(queue.join(waiting(here, 1_000)).unwrap());
        for _ in 0..6 {
            assert!(!queue.join(waiting(here, 1_000)).unwrap());
        }
        assert!(queue.join(waiting(there, 1)).unwrap());
        assert_eq!(queue.take(here.workspace()).len(), 5);
        assert_eq!(queue.take(here.workspace()).len(), 2);
        assert!(queue.take(here.workspace()).is_empty());
        // The lane has ended: whoever comes next writes.
        assert!(queue.join(waiting(here, 1)).unwrap());
        assert_eq!(queue.lanes().events, 2);
    }

    #[test]
    fn what_waits_is_bounded_and_taking_makes_room() {
        let queue = IngestQueue::default();
        let scope = scope();
        for _ in 0..100 {
            queue.join(waiting(scope, 1_000)).unwrap();
        }
        let problem = queue.join(waiting(scope, 1)).unwrap_err();
        assert_eq!(problem.code, Code::DependencyUnavailable);
        assert_eq!(queue.take(scope.workspace()).len(), 5);
        assert!(!queue.join(waiting(scope, 1)).unwrap());
    }
}
