//! How the errors of the domain become problems: spoken once, here.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rawdrive_billing::{BillingError, WebhookError};
use rawdrive_identity::{IdentityError, TeamError};
use rawdrive_notices::webhooks::EndpointError;
use rawdrive_plans::{BeginError, Entitlements, PlansTx as _, ReadOnly};
use rawdrive_store::WriteTx;
use rawdrive_tenancy_core::StoreError;
use rawdrive_usage::{Exceeded, Period, QuotaCheck, Refused};
use secrecy::ExposeSecret as _;

use crate::app::App;
use crate::auth::insufficient;
use crate::web::{Code, Problem, sentence};

/// When to try again after another operation of the workspace was met, in seconds.
const OPERATION_SECONDS: u64 = 2;

impl App {
    /// Why a transaction does not begin: 402 `workspace_read_only`, or the database's failure.
    #[must_use]
    pub fn begin_problem(&self, error: BeginError) -> Problem {
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

    /// 402 `workspace_read_only`.
    #[must_use]
    pub fn read_only(&self, read_only: &ReadOnly) -> Problem {
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

    /// 402 `quota_exceeded`, under entitlements that were read for it; or the failure to read them.
    #[must_use]
    pub fn exceeded(
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

impl From<EndpointError> for Problem {
    fn from(error: EndpointError) -> Self {
        match error {
            EndpointError::Unknown => Self::not_found(),
            error @ (EndpointError::TooMany
            | EndpointError::UnderWay
            | EndpointError::Disabled
            | EndpointError::TooOld) => Self::new(Code::Conflict, sentence(&error)),
            EndpointError::Store(error) => error.into(),
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
