//! What the passing of time calls for: lanes are woken for the jobs of other servers, what has run out is given back,
//! and what has outlived its use is deleted.

use std::collections::BTreeSet;
use std::time::Duration;

use rawdrive_store::{Release, Store, WriteTx};
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::{Causes, Commit as _, StoreError};
use tokio::time::{Instant, sleep, sleep_until};

use crate::job::job_scope;
use crate::queue::POLL;

/// How often what has outlived its use is deleted.
const SWEEP: Duration = Duration::from_secs(600);

/// Wakes the lanes of all kinds of which there are jobs: one statement for all of them.
pub(crate) async fn wake_lanes(store: Store) {
    loop {
        match store.job_kinds().await {
            Ok(kinds) => kinds.iter().for_each(|kind| store.wake_jobs(kind)),
            Err(error) => {
                tracing::warn!(error = %Causes(&error), "the job runner waits for the database");
            }
        }
        sleep(POLL).await;
    }
}

/// Gives back what has run out: holds, and the seats of invitations.
pub(crate) async fn give_back(store: Store) {
    loop {
        if let Err(error) = give_back_once(&store).await {
            tracing::warn!(error = %Causes(&error), "what has run out waits for the database");
        }
        sleep(POLL).await;
    }
}

async fn give_back_once(store: &Store) -> Result<(), StoreError> {
    let overdue = store.workspaces_with_overdue_holds().await?;
    in_each(&overdue, "overdue holds", |workspace| {
        expire_holds(store, workspace)
    })
    .await?;
    let expired = store.workspaces_with_expired_invitations().await?;
    in_each(&expired, "the seats of expired invitations", |workspace| {
        expire_invitations(store, workspace)
    })
    .await
}

/// Gives back what has run out, in one workspace after the other. One whose rows cannot be read holds up no other; but
/// none is waited for in its turn while the database is away.
async fn in_each<F>(
    workspaces: &[WorkspaceId],
    what: &str,
    give_back: impl Fn(WorkspaceId) -> F,
) -> Result<(), StoreError>
where
    F: Future<Output = Result<u64, StoreError>>,
{
    for workspace in workspaces {
        match give_back(*workspace).await {
            Ok(count) => tracing::info!(%workspace, count, "gave {what} back"),
            Err(error @ (StoreError::Unavailable { .. } | StoreError::Full { .. })) => {
                return Err(error);
            }
            Err(error) => {
                tracing::warn!(error = %Causes(&error), %workspace, "failed to give {what} back");
            }
        }
    }
    Ok(())
}

async fn begin(store: &Store, workspace: WorkspaceId) -> Result<WriteTx, StoreError> {
    let scope = job_scope(workspace);
    store.begin_despite_read_only(&scope, Release::System).await
}

async fn expire_holds(store: &Store, workspace: WorkspaceId) -> Result<u64, StoreError> {
    let mut tx = begin(store, workspace).await?;
    let expired = rawdrive_usage::expire_overdue(&mut tx, store.env()).await?;
    tx.commit().await?;
    Ok(u64::try_from(expired).unwrap_or(u64::MAX))
}

async fn expire_invitations(store: &Store, workspace: WorkspaceId) -> Result<u64, StoreError> {
    let mut tx = begin(store, workspace).await?;
    let expired = rawdrive_identity::sweep_invitations(&mut tx, store.env()).await?;
    tx.commit().await?;
    Ok(expired)
}

/// Deletes what has outlived its use, and names the kinds of jobs that nobody carries out.
pub(crate) async fn sweep(store: Store, handled: BTreeSet<String>) {
    let mut at = Instant::now();
    loop {
        if let Err(error) = store.sweep().await {
            tracing::warn!(error = %Causes(&error), "a sweep failed");
        }
        match unhandled(&store, &handled).await {
            Ok(unhandled) => {
                for (kind, jobs) in unhandled {
                    tracing::warn!(kind, jobs, "jobs of a kind without a handler are kept");
                }
            }
            Err(error) => tracing::warn!(error = %Causes(&error), "failed to count jobs"),
        }
        at += SWEEP;
        sleep_until(at).await;
    }
}

async fn unhandled(
    store: &Store,
    handled: &BTreeSet<String>,
) -> Result<Vec<(String, u64)>, StoreError> {
    let kinds = store.job_kinds().await?;
    if kinds.iter().all(|kind| handled.contains(kind)) {
        return Ok(Vec::new());
    }
    let mut waiting = store.jobs_by_kind().await?;
    waiting.retain(|(kind, _)| !handled.contains(kind));
    Ok(waiting)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn broken_rows_hold_up_no_other_workspace_and_a_database_that_is_away_everybody() {
        let workspaces: [WorkspaceId; 3] =
            [1, 2, 3].map(|n| format!("ws_{n:032x}").parse().unwrap());
        let seen = RefCell::new(Vec::new());
        let with = |failure: fn() -> StoreError| {
            let (seen, broken) = (&seen, workspaces[1]);
            move |workspace| {
                seen.borrow_mut().push(workspace);
                let fails = workspace == broken;
                async move { if fails { Err(failure()) } else { Ok(1) } }
            }
        };
        let corrupt = || StoreError::Corrupt {
            table: "holds",
            column: "state",
            row: "1".to_owned(),
            reason: "no such state".to_owned(),
        };
        in_each(&workspaces, "holds", with(corrupt)).await.unwrap();
        assert_eq!(*seen.borrow(), workspaces);
        seen.borrow_mut().clear();
        let away = || StoreError::Unavailable {
            operation: "begin",
            source: "refused".into(),
        };
        let ended = in_each(&workspaces, "holds", with(away)).await;
        assert!(matches!(ended, Err(StoreError::Unavailable { .. })));
        assert_eq!(*seen.borrow(), workspaces[..2]);
    }
}
