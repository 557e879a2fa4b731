//! The leased job runner: outbox, blob deletions, mails, threshold reviews and sweeps, in one loop.

use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::try_join_all;
use rawdrive_gallery::STEPS;
use rawdrive_gallery::{BlobError, Blobs, DeleteBlob, DeleteBlobs, UploadEnded};
use rawdrive_http_api::web::{EMAIL_VERIFICATION_PATH, PASSWORD_RESET_PATH};
use rawdrive_identity::{
    ProofPurpose, ProofRequest, ProofRequests, Sealer, TokenPepper, Unsealable, answer_request,
};
use rawdrive_notices::{
    Letter, MailError, Mailer, SendMail, email_verification, mail_for, password_reset, sign_in_code,
};
use rawdrive_plans::ReviewThresholds;
use rawdrive_store::{Release, Store, WriteTx};
use rawdrive_tenancy_core::event::DeliverEvent;
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::job::{JobKind as _, LeasedJob};
use rawdrive_tenancy_core::{Causes, Commit as _, StoreError, SystemReason, WorkspaceScope};
use secrecy::ExposeSecret as _;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How many jobs are leased at once.
const BATCH: u32 = 32;
/// How long a job is this runner's own.
const LEASE: TimeDelta = TimeDelta::seconds(60);
/// The slow fallback: commits wake the runner, time alone does not.
const POLL: Duration = Duration::from_secs(5);
/// How often what has outlived its use is deleted.
const SWEEP: Duration = Duration::from_secs(600);
/// How often a mail is tried: for about a day, as mail servers do among themselves.
const MAIL_ATTEMPTS: u32 = 300;

/// Why a job is tried again later.
#[derive(Debug, thiserror::Error)]
enum JobError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Mail(#[from] MailError),
    #[error(transparent)]
    Sealed(#[from] Unsealable),
    #[error("failed to read a sealed letter")]
    NoLetter,
    #[error("failed to read a job's payload")]
    Payload(#[from] serde_json::Error),
    #[error("no handler is known for jobs of the kind {0}")]
    UnknownKind(String),
}

/// Carries out jobs until it is dropped. Several servers may run one each.
pub(crate) struct Runner<M> {
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
    pub(crate) mailer: M,
    pub(crate) mails: Sealer,
    pub(crate) pepper: TokenPepper,
    pub(crate) public_url: String,
    pub(crate) upgrade_url: String,
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

impl<M: Mailer> Runner<M> {
    pub(crate) async fn run(self) {
        let mut sweep_at = Instant::now();
        loop {
            let worked = match self.round().await {
                Ok(worked) => worked,
                Err(error) => {
                    tracing::warn!(
                        error = %Causes(&error),
                        "the job runner waits for the database"
                    );
                    sleep_until(Instant::now() + POLL).await;
                    continue;
                }
            };
            if Instant::now() >= sweep_at {
                sweep_at = Instant::now() + SWEEP;
                if let Err(error) = self.store.sweep().await {
                    tracing::warn!(error = %Causes(&error), "a sweep failed");
                }
            }
            if !worked {
                let _ = timeout_at(Instant::now() + POLL, self.store.jobs_arrived()).await;
            }
        }
    }

    /// One round; whether there was anything to do.
    async fn round(&self) -> Result<bool, StoreError> {
        let overdue = self.store.workspaces_with_overdue_holds().await?;
        in_each(&overdue, "overdue holds", |workspace| {
            self.expire_holds(workspace)
        })
        .await?;
        let expired = self.store.workspaces_with_expired_invitations().await?;
        in_each(&expired, "the seats of expired invitations", |workspace| {
            self.expire_invitations(workspace)
        })
        .await?;
        // A whole batch at once: were it one after the other, a mail server that hangs would outlast the lease of
        // what waits behind it.
        let requests = self.store.lease_requests(BATCH, LEASE).await?;
        try_join_all(requests.iter().map(|request| self.see_to_request(request))).await?;
        let jobs = self.store.lease_jobs(BATCH, LEASE).await?;
        try_join_all(jobs.iter().map(|job| self.see_to_job(job))).await?;
        Ok(!jobs.is_empty() || !requests.is_empty())
    }

    async fn begin(&self, workspace: WorkspaceId) -> Result<WriteTx, StoreError> {
        let scope = job_scope(workspace);
        self.store
            .begin_despite_read_only(&scope, Release::System)
            .await
    }

    async fn expire_holds(&self, workspace: WorkspaceId) -> Result<u64, StoreError> {
        let mut tx = self.begin(workspace).await?;
        let expired = rawdrive_usage::expire_overdue(&mut tx, self.store.env()).await?;
        tx.commit().await?;
        Ok(u64::try_from(expired).unwrap_or(u64::MAX))
    }

    async fn expire_invitations(&self, workspace: WorkspaceId) -> Result<u64, StoreError> {
        let mut tx = self.begin(workspace).await?;
        let expired = rawdrive_identity::sweep_invitations(&mut tx, self.store.env()).await?;
        tx.commit().await?;
        Ok(expired)
    }

    async fn see_to_request(&self, request: &ProofRequest) -> Result<(), StoreError> {
        match self.answer(request).await {
            Ok(()) => self.store.finish_request(request).await,
            Err(error) => {
                tracing::warn!(error = %Causes(&error), purpose = %request.purpose, attempts = request.attempts, "a mailed proof is tried again");
                self.store.retry_request(request).await
            }
        }
    }

    async fn see_to_job(&self, job: &LeasedJob) -> Result<(), StoreError> {
        match self.carry_out(job).await {
            Ok(()) => self.store.finish_job(job).await,
            Err(JobError::Mail(error)) if job.attempts >= MAIL_ATTEMPTS => {
                tracing::error!(error = %Causes(&error), job = %job.id, "a mail is given up");
                self.store.finish_job(job).await
            }
            Err(error) => {
                tracing::warn!(error = %Causes(&error), job = %job.id, attempts = job.attempts, "a job failed and is tried again");
                self.store.retry_job(job).await
            }
        }
    }

    /// Issues and mails what somebody asked for. A second time, should it come to that, with another link.
    async fn answer(&self, request: &ProofRequest) -> Result<(), JobError> {
        let issued = answer_request(&self.store, self.store.env(), &self.pepper, request);
        let Some(proof) = issued.await? else {
            return Ok(());
        };
        let to = proof.to.as_str();
        let (page, letter): (_, fn(&str, &str) -> Letter) = match proof.purpose {
            ProofPurpose::SignInCode => {
                let letter = sign_in_code(to, proof.token.expose_secret());
                return self.post(&letter).await;
            }
            ProofPurpose::PasswordReset => (PASSWORD_RESET_PATH, password_reset),
            ProofPurpose::EmailVerification => (EMAIL_VERIFICATION_PATH, email_verification),
        };
        let (base, token) = (&self.public_url, proof.token.expose_secret());
        let link = format!("{base}{page}?token={token}");
        self.post(&letter(to, &link)).await
    }

    /// Hands a letter over. To whom no mail can ever get, it is only told of.
    async fn post(&self, letter: &Letter) -> Result<(), JobError> {
        for recipient in &letter.to {
            let to = std::slice::from_ref(recipient);
            match self.mailer.send(to, &letter.mail).await {
                Err(error @ MailError::Address) => tracing::error!(
                    error = %Causes(&error),
                    "a mail is given up"
                ),
                sent => sent?,
            }
        }
        Ok(())
    }

    async fn carry_out(&self, job: &LeasedJob) -> Result<(), JobError> {
        let scope = job_scope(job.workspace);
        let work = &job.job;
        match work.kind() {
            DeleteBlob::NAME => {
                let DeleteBlob { photo } = work.payload()?;
                self.blobs.delete(&scope, photo).await?;
            }
            UploadEnded::NAME => {
                let ended: UploadEnded = work.payload()?;
                self.blobs.delete(&scope, ended.photo()).await?;
            }
            DeleteBlobs::NAME => {
                let DeleteBlobs { photos } = work.payload()?;
                self.blobs.delete_all(&scope, &photos).await?;
            }
            SendMail::NAME => {
                let SendMail { sealed } = work.payload()?;
                let letter = self.mails.open(&job.workspace.to_string(), &sealed)?;
                let letter = Letter::parse(&letter).ok_or(JobError::NoLetter)?;
                self.post(&letter).await?;
            }
            ReviewThresholds::NAME => {
                let mut tx = self
                    .store
                    .begin_despite_read_only(&scope, Release::System)
                    .await?;
                rawdrive_usage::review(&mut tx, self.store.env()).await?;
                // A step that the plan cannot do (any more) holds nothing back.
                rawdrive_onboarding::review(&mut tx, self.store.env(), &STEPS).await?;
                tx.commit().await?;
            }
            DeliverEvent::NAME => {
                let DeliverEvent { event } = work.payload()?;
                let reader = self.store.read(&scope);
                let name = reader.workspace().await?.name;
                if let Some(mail) = mail_for(&event, &name, &self.upgrade_url) {
                    let to = reader.owners().await?;
                    self.post(&Letter { to, mail }).await?;
                }
            }
            kind => return Err(JobError::UnknownKind(kind.to_owned())),
        }
        Ok(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a leased job names the workspace whose scope it enters"
)]
fn job_scope(workspace: WorkspaceId) -> WorkspaceScope {
    WorkspaceScope::for_system(workspace, SystemReason::JOB)
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
