//! Mails: what events say to owners, letters that a transaction left behind, and links that somebody asked for.

use std::fmt;

use rawdrive_identity::{ProofPurpose, ProofRequest, Sealer, TokenPepper, answer_request};
use rawdrive_notices::{
    Letter, MailError, Mailer, SendMail, email_verification, mail_for, password_reset, sign_in_code,
};
use rawdrive_store::Store;
use rawdrive_tenancy_core::Causes;
use rawdrive_tenancy_core::event::DomainEvent;
use secrecy::ExposeSecret as _;

use crate::job::{JobContext, JobError};

/// How often a mail is tried: for about a day, as mail servers do among themselves.
const ATTEMPTS: u32 = 300;

/// What mails need.
pub struct Mails<M> {
    /// Hands them over.
    pub mailer: M,
    /// Opens the letters that wait sealed in the database.
    pub sealer: Sealer,
    /// The key of the hashes of mailed secrets.
    pub pepper: TokenPepper,
    /// The page on which a password is set anew; the link adds `?token=`.
    pub password_reset_url: String,
    /// The page on which an address is verified; likewise.
    pub email_verification_url: String,
    /// Where a plan with more room is to be had.
    pub upgrade_url: String,
}

impl<M> fmt::Debug for Mails<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mails").finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("failed to read a sealed letter")]
struct NoLetter;

impl<M: Mailer> Mails<M> {
    /// Whether an event makes a mail.
    pub(crate) fn is_told(event: &DomainEvent) -> bool {
        mail_for(event, "", "").is_some()
    }

    /// Tells owners of an event.
    pub(crate) async fn tell(
        &self,
        context: JobContext,
        event: DomainEvent,
    ) -> Result<(), JobError> {
        let reader = context.store().read(context.scope());
        let name = reader.workspace().await?.name;
        let Some(mail) = mail_for(&event, &name, &self.upgrade_url) else {
            return Ok(());
        };
        let to = reader.owners().await?;
        self.post(&Letter { to, mail }, context.attempts()).await
    }

    /// Posts a letter that a transaction left behind.
    pub(crate) async fn send(&self, context: JobContext, mail: SendMail) -> Result<(), JobError> {
        let workspace = context.scope().workspace().to_string();
        let letter = self.sealer.open(&workspace, &mail.sealed)?;
        let letter = Letter::parse(&letter).ok_or(NoLetter)?;
        self.post(&letter, context.attempts()).await
    }

    /// Issues and mails what somebody asked for. A second time, should it come to that, with another link.
    pub(crate) async fn answer(
        &self,
        store: &Store,
        request: &ProofRequest,
    ) -> Result<(), JobError> {
        let issued = answer_request(store, store.env(), &self.pepper, request);
        let Some(proof) = issued.await? else {
            return Ok(());
        };
        let (to, token) = (proof.to.as_str(), proof.token.expose_secret());
        let letter = match proof.purpose {
            ProofPurpose::SignInCode => sign_in_code(to, token),
            ProofPurpose::PasswordReset => {
                password_reset(to, &format!("{}?token={token}", self.password_reset_url))
            }
            ProofPurpose::EmailVerification => email_verification(
                to,
                &format!("{}?token={token}", self.email_verification_url),
            ),
        };
        self.post(&letter, request.attempts).await
    }

    /// Hands a letter over. To whom no mail can ever get, it is only logged.
    async fn post(&self, letter: &Letter, attempts: u32) -> Result<(), JobError> {
        for recipient in &letter.to {
            let to = std::slice::from_ref(recipient);
            match self.mailer.send(to, &letter.mail).await {
                Ok(()) => {}
                Err(error @ MailError::Address) => {
                    tracing::error!(error = %Causes(&error), "a mail is given up");
                }
                Err(error) if attempts >= ATTEMPTS => return Err(JobError::give_up(error)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
