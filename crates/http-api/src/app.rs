//! What every route shares, and how domain errors become problems: spoken once, here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::HttpRequest;
use chrono::{DateTime, Utc};
use rawdrive_billing::{BillingError, WebhookError};
use rawdrive_gallery::analysis::{AnalysisError, AnalyzeError, Analyzer, Unfit};
use rawdrive_gallery::{Blobs, BodyError, BrandingError, ClientError, InspectError, UploadError};
use rawdrive_identity::ports::{CounterKey, PasswordAttempts};
use rawdrive_identity::{
    Count, Currency, EmailAddress, IdentityError, LimitState, MailPolicy, PasswordHasher, Sealer,
    StrangerMailError, TeamError, TokenIssuer, TokenPepper, admit_stranger_mail,
};
use rawdrive_notices::{Letter, SendMail};
use rawdrive_onboarding::Step;
use rawdrive_plans::{BeginError, Catalogue, Entitlements, PlansTx as _, ReadOnly};
use rawdrive_store::{Store, WriteTx};
use rawdrive_tenancy_core::job::JobsTx;
use rawdrive_tenancy_core::page::CursorCodec;
use rawdrive_tenancy_core::{Env, StoreError, WorkspaceScope};
use rawdrive_usage::{Exceeded, Period, QuotaCheck, Refused};
use secrecy::ExposeSecret as _;

use crate::auth::insufficient;
use crate::billing::BillingDesk;
use crate::client_address::TrustedProxies;
use crate::downloads::Downloads;
use crate::ingest_queue::IngestQueue;
use crate::key_uses::KeyUses;
use crate::web::{Code, Problem, RateLimits, UPGRADE_PATH};

/// When to try again after another operation of the workspace was met, in seconds.
const OPERATION_SECONDS: u64 = 2;
/// When to try again after the analyser's queue was full, in seconds.
const ANALYZER_BUSY_SECONDS: u64 = 5;

/// What an installation chooses.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The base of links, without a slash at its end.
    pub public_url: String,
    /// What a workspace pays in unless its sign-up says otherwise.
    pub currency: Currency,
    /// The most bytes of one photo.
    pub max_upload_bytes: u64,
    /// Whether attempts at passwords, and mails to strangers, are limited.
    pub limit_attempts: bool,
    /// Whose word about a client's address is taken.
    pub trusted_proxies: TrustedProxies,
    /// Whether mail leaves the machine; otherwise it is files.
    pub mail_leaves: bool,
}

/// Everything that the routes work with.
#[derive(Debug)]
pub struct App {
    /// The database.
    pub store: Store,
    /// The photos' bytes.
    pub blobs: Blobs,
    /// Looks at photos, when it is asked to.
    pub analyzer: Arc<dyn Analyzer>,
    /// Collects the money.
    pub billing: Arc<dyn BillingDesk>,
    /// Issues and verifies access tokens.
    pub issuer: TokenIssuer,
    /// Hashes passwords, bounded.
    pub hasher: PasswordHasher,
    /// Keys the hashes of mailed and shown secrets.
    pub pepper: TokenPepper,
    /// When API keys were used; [`record_key_uses`](crate::record_key_uses) writes it down.
    pub key_uses: KeyUses,
    /// Events that were reported and wait to be written, by the batch.
    pub ingest: IngestQueue,
    /// The downloads under way by clients' links.
    pub downloads: Downloads,
    /// Seals mails that wait for delivery.
    pub mails: Sealer,
    /// Seals cursors.
    pub cursors: CursorCodec,
    /// The plans.
    pub catalogue: Arc<Catalogue>,
    /// What the installation chose.
    pub settings: Settings,
    /// The steps of onboarding, in their order.
    pub steps: Vec<Step>,
}

impl App {
    /// Time, ids and randomness.
    #[must_use]
    pub fn env(&self) -> &Env {
        self.store.env()
    }

    /// Where a workspace is upgraded.
    #[must_use]
    pub fn upgrade_url(&self) -> String {
        format!("{}{UPGRADE_PATH}", self.settings.public_url)
    }

    /// The link that a mail brings, to one of this installation's pages.
    pub(crate) fn mailed_link(&self, path: &str, token: &str) -> String {
        format!("{}{path}?token={token}", self.settings.public_url)
    }

    /// Has a letter to somebody outside the workspace delivered after the transaction's commit, where the workspace
    /// may write to strangers. It is sealed until then: its links may be credentials. Call it last in the transaction.
    ///
    /// # Errors
    /// 403 `email_not_verified`, 429, or the database does not answer.
    pub(crate) async fn post_to_stranger(
        &self,
        tx: &mut WriteTx,
        to: &EmailAddress,
        letter: &Letter,
    ) -> Result<(), Problem> {
        let policy = MailPolicy {
            leaves: self.settings.mail_leaves,
            limited: self.settings.limit_attempts,
        };
        let workspace = tx.scope().workspace();
        let context = workspace.to_string();
        let sealed = self.mails.seal(self.env(), &context, &letter.text());
        tx.enqueue(&SendMail { sealed }, None)?;
        let admitted = admit_stranger_mail(tx, self.env(), policy, workspace, to).await;
        admitted.map_err(|error| match error {
            error @ StrangerMailError::Unverified => Problem::new(
                Code::EmailNotVerified,
                format!(
                    "{} Follow the link that was mailed at sign-up, or ask for another one by POST /v1/email-verifications.",
                    sentence(&error)
                ),
            ),
            error @ StrangerMailError::TooMany {
                retry_after_seconds,
            } => Problem::new(Code::RateLimited, sentence(&error))
                .retry_after(u64::from(retry_after_seconds)),
            StrangerMailError::Store(error) => error.into(),
        })
    }

    /// Tells of onboarding's completion, if this transaction is what completes it: see
    /// [`review`](rawdrive_onboarding::review).
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn review_onboarding(&self, tx: &mut WriteTx) -> Result<(), StoreError> {
        rawdrive_onboarding::review(tx, self.env(), &self.steps).await
    }

    pub(crate) fn attempts(&self) -> Attempts<'_> {
        Attempts {
            store: self.settings.limit_attempts.then_some(&self.store),
            states: Mutex::default(),
        }
    }

    pub(crate) fn begin_problem(&self, error: BeginError) -> Problem {
        match error {
            BeginError::ReadOnly(read_only) => self.read_only(&read_only),
            BeginError::Store(error) => error.into(),
        }
    }

    /// The 402 of what a plan does not allow, the same for every route, an embedder's own too; or the database's failure.
    #[must_use]
    pub fn refused(&self, refused: Refused) -> Problem {
        let code = match &refused {
            Refused::ReadOnly(_) => Code::WorkspaceReadOnly,
            Refused::Feature(_) => Code::FeatureNotAvailable,
            Refused::Quota(_) => Code::QuotaExceeded,
            Refused::Metric { .. } => return Problem::internal(refused),
            Refused::Store(_) => {
                return match refused {
                    Refused::Store(error) => error.into(),
                    other => Problem::internal(other),
                };
            }
        };
        let mut problem = Problem::new(code, sentence(&refused));
        problem.members.extend(refused.members(&self.upgrade_url()));
        problem
    }

    pub(crate) fn read_only(&self, read_only: &ReadOnly) -> Problem {
        self.refused(Refused::ReadOnly(read_only.clone()))
    }

    /// When a metric resets: a level never does.
    pub(crate) fn resets_at(
        &self,
        metric: &rawdrive_plans::Metric,
        anchor: Option<DateTime<Utc>>,
    ) -> Option<DateTime<Utc>> {
        let flow = self
            .catalogue
            .definition(metric)
            .is_some_and(|m| m.kind == rawdrive_plans::MetricKind::Flow);
        flow.then(|| Period::containing(self.env().now(), anchor).end)
    }

    /// The 402 of a limit, under entitlements that were read for it.
    fn exceeded(
        &self,
        entitlements: Result<Arc<Entitlements>, StoreError>,
        exceeded: &Exceeded,
    ) -> Problem {
        match entitlements {
            Ok(entitlements) => {
                let check = QuotaCheck::refused(&entitlements, exceeded, self.env().now());
                self.refused(Refused::Quota(Box::new(check)))
            }
            Err(error) => error.into(),
        }
    }

    pub(crate) async fn upload_problem(
        &self,
        scope: &WorkspaceScope,
        error: UploadError,
    ) -> Problem {
        match error {
            UploadError::ReadOnly(read_only) => self.read_only(&read_only),
            UploadError::NoGallery => Problem::not_found(),
            UploadError::Exceeded(exceeded) => {
                self.exceeded(self.store.read(scope).entitlements().await, &exceeded)
            }
            UploadError::TooLarge { limit } => Problem::payload_too_large(limit),
            UploadError::Empty => Problem::invalid_field("file", "must not be empty"),
            UploadError::Content(error) => match error {
                InspectError::WrongContent { .. } | InspectError::Damaged { .. } => {
                    Problem::new(Code::UnsupportedMediaType, sentence(&error))
                }
                InspectError::Truncated { .. } => Problem::invalid_field("file", error.to_string()),
            },
            UploadError::Body(BodyError::Broken) => {
                Problem::malformed("The body broke off before the length that was announced.")
            }
            UploadError::Body(BodyError::TooSlow) => Problem::request_timeout(),
            UploadError::Body(BodyError::Malformed(detail)) => Problem::malformed(detail),
            UploadError::Body(BodyError::Refused { field, message }) => {
                Problem::invalid_field(field, message)
            }
            UploadError::Expired => Problem::request_timeout(),
            UploadError::Blob(error) if error.is_full() => Problem::insufficient_storage(error),
            UploadError::Blob(error) => Problem::dependency_unavailable(error),
            UploadError::Store(StoreError::Dangling { .. }) => Problem::not_found(),
            UploadError::Store(error) => error.into(),
        }
    }

    /// Of a transaction that is still open: what the problem says is what that has read. A read on another connection
    /// could wait for one that waits for this transaction's locks.
    pub(crate) async fn team_problem(&self, tx: &mut WriteTx, error: TeamError) -> Problem {
        match error {
            TeamError::Unauthenticated => Problem::unauthenticated(),
            error @ TeamError::Forbidden { required } => insufficient(required, sentence(&error)),
            TeamError::NotFound => Problem::not_found(),
            error @ TeamError::LastOwner => Problem::new(Code::LastOwner, sentence(&error)),
            error @ (TeamError::AlreadyMember | TeamError::AlreadyInvited) => {
                Problem::new(Code::Conflict, sentence(&error))
            }
            error @ TeamError::NobodyKeeps => {
                Problem::invalid_field("keep_keys", error.to_string())
            }
            TeamError::Exceeded(exceeded) => self.exceeded(tx.entitlements().await, &exceeded),
            TeamError::Store(error) => error.into(),
        }
    }

    pub(crate) async fn analysis_problem(
        &self,
        scope: &WorkspaceScope,
        error: AnalysisError,
    ) -> Problem {
        match error {
            AnalysisError::ReadOnly(read_only) => self.read_only(&read_only),
            AnalysisError::NoPhoto => Problem::not_found(),
            AnalysisError::Unfit(error @ Unfit::Format { .. }) => {
                Problem::new(Code::UnsupportedMediaType, sentence(&error))
            }
            AnalysisError::Unfit(Unfit::TooLarge(bound)) => {
                Problem::invalid_field("photo", bound.to_string())
            }
            AnalysisError::Exceeded(exceeded) => {
                self.exceeded(self.store.read(scope).entitlements().await, &exceeded)
            }
            AnalysisError::Analyzer(error) => match error {
                AnalyzeError::Damaged(_) => {
                    Problem::invalid_field("photo", "has damaged pixels that cannot be decoded")
                        .caused_by(error)
                }
                AnalyzeError::TooLarge(bound) => Problem::invalid_field("photo", bound.to_string()),
                AnalyzeError::Busy => Problem::new(
                    Code::DependencyUnavailable,
                    "Too many photos are being analysed. Try again shortly.",
                )
                .retry_after(ANALYZER_BUSY_SECONDS),
                AnalyzeError::Unavailable(_) => Problem::dependency_unavailable(error),
            },
            AnalysisError::Expired => Problem::dependency_unavailable(error),
            AnalysisError::Store(error) => error.into(),
        }
    }

    pub(crate) fn billing_problem(&self, error: BillingError) -> Problem {
        match error {
            error @ (BillingError::UnknownPlan { .. } | BillingError::NotForSale { .. }) => {
                Problem::invalid_field("plan", error.to_string())
            }
            BillingError::CurrencyMismatch { workspace } => Problem::new(
                Code::CurrencyMismatch,
                format!("The workspace pays in {workspace}, in which the plan is not sold."),
            )
            .with("currency", workspace.as_str()),
            error @ (BillingError::AlreadySubscribed
            | BillingError::NoSubscription
            | BillingError::TrialEnded
            | BillingError::NothingToPayWith
            | BillingError::FirstPaymentDue) => {
                Problem::new(Code::Conflict, sentence(&error))
            }
            BillingError::NoPaymentMethod => {
                Problem::invalid_field("payment_method_id", "is required")
            }
            error @ BillingError::PlanChangeStale => {
                Problem::new(Code::PlanChangeStale, sentence(&error))
            }
            error @ BillingError::OperationInProgress => {
                Problem::new(Code::OperationInProgress, sentence(&error))
                    .retry_after(OPERATION_SECONDS)
            }
            BillingError::Declined(decline) => Problem::new(
                Code::PaymentDeclined,
                "The card network declined the payment. Nothing was charged.",
            )
            .with("decline_code", decline.decline_code),
            BillingError::ActionRequired(secret) => Problem::new(
                Code::PaymentActionRequired,
                "The bank asks the card's holder to confirm the payment.",
            )
            .with("client_secret", secret.0.expose_secret()),
            BillingError::Refused { code } => {
                tracing::warn!(code, "the payment provider refused what was asked for");
                Problem::new(Code::Conflict, "The payment provider refuses this.")
                    .with("provider_code", code)
            }
            BillingError::Unavailable { retry_after } => Problem::new(
                Code::DependencyUnavailable,
                "The payment provider does not answer. What has begun goes on by itself, and asking again joins it.",
            )
            .retry_after(retry_after.as_secs().max(1)),
            error @ BillingError::NotConfigured => {
                Problem::new(Code::BillingNotConfigured, sentence(&error))
            }
            BillingError::Store(error) => error.into(),
        }
    }

    pub(crate) fn branding_problem(&self, error: BrandingError) -> Problem {
        match error {
            BrandingError::Refused(refused) => self.refused(refused),
            error @ BrandingError::UnknownLogo => {
                Problem::invalid_field("logo_photo_id", error.to_string())
            }
            BrandingError::Store(error) => error.into(),
        }
    }
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::EmailTaken => Self::new(
                Code::Conflict,
                "Another client of this workspace has this e-mail address.",
            ),
            ClientError::Store(error) => error.into(),
        }
    }
}

impl From<WebhookError> for Problem {
    fn from(error: WebhookError) -> Self {
        match error {
            WebhookError::Signature(error) => Self::new(Code::InvalidSignature, sentence(&error)),
            WebhookError::NoEvent(error) => Self::malformed(sentence(&error)),
            WebhookError::Store(error) => Self::dependency_unavailable(error),
        }
    }
}

impl From<IdentityError> for Problem {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::EmailTaken => Self::new(
                Code::EmailTaken,
                "An account with this e-mail address exists.",
            ),
            IdentityError::WrongCredentials => Self::new(
                Code::Unauthenticated,
                "The e-mail address or the password is wrong.",
            ),
            IdentityError::WrongCurrentPassword => {
                Self::invalid_field("current_password", "is not the current password")
            }
            IdentityError::TooManyAttempts {
                retry_after_seconds,
                code_mailed: false,
            } => Self::new(Code::RateLimited, "Too many attempts.")
                .retry_after(u64::from(retry_after_seconds)),
            IdentityError::TooManyAttempts {
                retry_after_seconds,
                code_mailed: true,
            } => Self::new(
                Code::RateLimited,
                "Too many attempts. A code was mailed to this address, if it is an account's: sign in with the password and \
                 that code, or wait.",
            )
            .with("code_mailed", true)
            .retry_after(u64::from(retry_after_seconds)),
            IdentityError::NoWorkspace => Self::new(
                Code::WorkspaceInactive,
                "The account belongs to no workspace any more.",
            ),
            IdentityError::Unauthenticated => Self::unauthenticated(),
            IdentityError::NoSuchWorkspace | IdentityError::NoSuchProof => Self::not_found(),
            IdentityError::Busy => Self::new(
                Code::DependencyUnavailable,
                "Too many passwords are being checked. Try again shortly.",
            )
            .retry_after(1),
            IdentityError::Hashing(source) => Self::internal(source),
            IdentityError::Store(error) => error.into(),
        }
    }
}

/// Counts attempts, or does not where the installation has switched limits off; and hears how the limits stand, for the
/// headers of the answer.
pub(crate) struct Attempts<'a> {
    store: Option<&'a Store>,
    states: Mutex<Vec<LimitState>>,
}

impl Attempts<'_> {
    /// Has the answer to this request tell how the limits stand.
    pub(crate) fn announce(&self, request: &HttpRequest) {
        let states = std::mem::take(&mut *self.states());
        RateLimits::of(states).announce(request);
    }

    fn states(&self) -> MutexGuard<'_, Vec<LimitState>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PasswordAttempts for Attempts<'_> {
    async fn counts(&self, keys: &[CounterKey]) -> Result<Vec<Option<Count>>, StoreError> {
        match self.store {
            Some(store) => store.counts(keys).await,
            None => Ok(vec![None; keys.len()]),
        }
    }

    async fn change<R: Send>(
        &self,
        keys: &[CounterKey],
        change: impl FnOnce(&mut [Option<Count>]) -> R + Send,
    ) -> Result<R, StoreError> {
        match self.store {
            Some(store) => store.change(keys, change).await,
            None => Ok(change(&mut vec![None; keys.len()])),
        }
    }

    fn tell(&self, states: &[LimitState]) {
        if self.store.is_some() {
            let mut told = self.states();
            told.retain(|old| states.iter().all(|new| new.name != old.name));
            told.extend_from_slice(states);
        }
    }
}

/// RFC 3339 in UTC, as every time on the wire.
pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

/// An error's own words as a sentence of a problem's detail.
pub(crate) fn sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| {
        c.to_uppercase().chain(chars).chain(['.']).collect()
    })
}
