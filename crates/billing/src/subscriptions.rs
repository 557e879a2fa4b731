//! What an owner asks for: subscribe, change, cancel, resume, pay by a hosted page.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rawdrive_plans::{Interval, Plan, PlansTx as _, Slug};
use rawdrive_tenancy_core::id::TypedId as _;
use rawdrive_tenancy_core::{Commit as _, StoreError, WorkspaceScope};

use crate::entitlement_policy::{current, ended_trials};
use crate::event::{ObjectKind, ObjectRef};
use crate::gateway::{
    CancelWhen, ChangePrice, ChangeTiming, ClientSecret, Decline, GatewayError,
    NOTHING_TO_PAY_WITH, NewCheckout, NewCustomer, PaymentGateway, Subscribe,
};
use crate::ids::{CustomerId, PaymentMethodId, PriceId, SubscriptionId};
use crate::money::Currency;
use crate::operation::{OperationOutcome, OperationRequest};
use crate::operation_runner::{Ended, carry_out, client_secret};
use crate::ports::{Account, BillingStore, BillingTx as _, Payer, Subscription};
use crate::preview::{ChangeFacts, PreviewKey, check_token, fresh_date};
use crate::price_catalog::{PriceCatalog, sold};
use crate::provider_objects::SubscriptionStatus;
use crate::sync_worker::{Billing, book, project_object};

/// Why a use case of billing came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum BillingError {
    /// The catalogue has no such plan.
    #[error("there is no plan `{slug}`")]
    UnknownPlan {
        /// What was asked for.
        slug: Slug,
    },
    /// The plan has no price for this interval: it can only be granted, or only be had otherwise.
    #[error("plan `{slug}` is not sold by the {interval}")]
    NotForSale {
        /// The plan.
        slug: Slug,
        /// How often it was to be charged.
        interval: Interval,
    },
    /// The plan is sold, but not in the workspace's currency. Nobody was called.
    #[error("the workspace pays in {workspace}, in which the plan is not sold")]
    CurrencyMismatch {
        /// What the workspace pays in.
        workspace: Currency,
    },
    /// There is a subscription already: change it.
    #[error("the workspace has a subscription already")]
    AlreadySubscribed,
    /// There is no subscription that could be changed or ended.
    #[error("the workspace has no subscription")]
    NoSubscription,
    /// The trial is over, and nothing is there to pay with.
    #[error(
        "the trial has ended without a payment method: subscribe with one, or add one in the portal and resume"
    )]
    TrialEnded,
    /// Nothing is there to pay with.
    #[error("nothing is there to pay with: add a payment method in the portal and resume")]
    NothingToPayWith,
    /// The subscription waits for its first payment.
    #[error("the subscription waits for its first payment: have it confirmed, or subscribe anew")]
    FirstPaymentDue,
    /// A subscription without a trial needs a payment method.
    #[error("a payment method is required")]
    NoPaymentMethod,
    /// What the preview showed is not so any more.
    #[error("what the preview showed has changed since")]
    PlanChangeStale,
    /// Another operation is under way.
    #[error("another change of the subscription is under way")]
    OperationInProgress,
    /// The card was refused. Final: another try is another operation.
    #[error("the payment was declined")]
    Declined(Decline),
    /// The payer must confirm the payment; what follows is told by events.
    #[error("the payment must be confirmed")]
    ActionRequired(ClientSecret),
    /// The provider refuses what was asked for.
    #[error("the payment provider refuses this: {code}")]
    Refused {
        /// The provider's code.
        code: String,
    },
    /// The provider does not answer. What was asked for goes on by itself; who asks again joins it.
    #[error("the payment provider does not answer")]
    Unavailable {
        /// When to ask again.
        retry_after: Duration,
    },
    /// This installation sells nothing, or its key or its prices are not in order.
    #[error("billing is not configured")]
    NotConfigured,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// For reads, which change nothing: what it means that one failed.
impl From<GatewayError> for BillingError {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::Unreachable { .. } | GatewayError::ReplayedFailure => Self::Unavailable {
                retry_after: Duration::from_secs(2),
            },
            GatewayError::RateLimited { retry_after } => Self::Unavailable {
                retry_after: retry_after.unwrap_or(Duration::from_secs(2)),
            },
            GatewayError::Rejected { code, .. } => Self::Refused { code },
            GatewayError::NotFound => Self::Refused {
                code: "not_found".to_owned(),
            },
            GatewayError::Unauthorized | GatewayError::NotConfigured => Self::NotConfigured,
        }
    }
}

/// What somebody wants to buy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The plan; its newest version is what is sold.
    pub plan: Slug,
    /// How often it is charged.
    pub interval: Interval,
}

/// What is known of a workspace when it asks for something.
pub(crate) struct Known {
    pub(crate) payer: Payer,
    pub(crate) account: Account,
    pub(crate) subscriptions: Vec<Subscription>,
    /// Those whose trial has ended, and nothing was there to pay with.
    pub(crate) ended_trials: BTreeSet<SubscriptionId>,
    pub(crate) book: PriceCatalog,
}

impl Known {
    pub(crate) async fn read<S: BillingStore, G: PaymentGateway>(
        billing: &Billing<S, G>,
        scope: &WorkspaceScope,
    ) -> Result<Self, BillingError> {
        let book = book(billing).await?;
        // Dropped without a commit: a look, under the entitlements' lock.
        let mut tx = billing.store.begin_billing(scope).await?;
        tx.entitlements().await?;
        let subscriptions = tx.subscriptions().await?;
        Ok(Self {
            payer: tx.payer().await?,
            account: tx.account().await?,
            ended_trials: ended_trials(&mut tx, &subscriptions).await?,
            subscriptions,
            book,
        })
    }

    /// The subscription that an end is of.
    pub(crate) fn current(&self) -> Result<&Subscription, BillingError> {
        current(&self.subscriptions).ok_or(BillingError::NoSubscription)
    }

    /// The subscription that a change of price is of: one that is being paid for.
    pub(crate) fn changeable(&self) -> Result<&Subscription, BillingError> {
        let current = self.current()?;
        match current.snapshot.status {
            SubscriptionStatus::Incomplete => Err(BillingError::FirstPaymentDue),
            _ if self.ended_trials.contains(&current.snapshot.id) => Err(BillingError::TrialEnded),
            _ => Ok(current),
        }
    }

    fn not_yet_subscribed(&self, rows: &[Subscription]) -> Result<(), BillingError> {
        if has_one(rows, &self.ended_trials) {
            return Err(BillingError::AlreadySubscribed);
        }
        Ok(())
    }

    /// The price of what is ordered, in the one currency of the workspace.
    pub(crate) fn price(&self, plan: &Plan, interval: Interval) -> Result<PriceId, BillingError> {
        let currency = self.payer.currency;
        if plan.price(currency.as_str(), interval).is_none() {
            let sold_abroad = plan.prices.iter().any(|price| price.interval == interval);
            return Err(if sold_abroad {
                BillingError::CurrencyMismatch {
                    workspace: currency,
                }
            } else {
                BillingError::NotForSale {
                    slug: plan.slug.clone(),
                    interval,
                }
            });
        }
        let price = self.book.price_of(plan, currency, interval);
        price.cloned().ok_or_else(|| {
            tracing::error!(plan = %plan.slug, version = plan.version, %currency, %interval, "a price was never made at the payment provider: sync the plans");
            BillingError::NotConfigured
        })
    }

    /// A workspace's first subscription may begin with a trial; a second does not.
    pub(crate) fn trial_days(&self, plan: &Plan) -> Option<u16> {
        let is_first = self.subscriptions.iter().all(|s| {
            // One that never lived had no trial.
            s.snapshot.trial_end.is_none() && !s.snapshot.status.is_live()
        });
        plan.trial_days.filter(|days| *days > 0 && is_first)
    }
}

/// Whether there is a subscription beside which another would be charged. One at a price that is none of ours counts
/// too. One whose trial has ended is charged by nobody, and ends when another is in force; unless somebody has woken it
/// since that was seen.
fn has_one(rows: &[Subscription], ended_trials: &BTreeSet<SubscriptionId>) -> bool {
    rows.iter().any(|row| {
        let status = &row.snapshot.status;
        let is_over =
            *status == SubscriptionStatus::Paused && ended_trials.contains(&row.snapshot.id);
        status.is_live() && !status.is_final() && !is_over
    })
}

pub(crate) fn newest<S, G>(
    billing: &Billing<S, G>,
    slug: &Slug,
) -> Result<Arc<Plan>, BillingError> {
    let newest = billing.catalogue.newest(slug);
    newest.ok_or_else(|| BillingError::UnknownPlan { slug: slug.clone() })
}

/// Subscribes the workspace, and answers with the subscription as it is projected.
///
/// # Errors
/// [`BillingError`]. After [`BillingError::Declined`] nothing is left; after [`BillingError::ActionRequired`] the
/// subscription comes to life when the payer confirms; after [`BillingError::Unavailable`] the operation goes on, and
/// the same order joins it.
pub async fn subscribe<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
    order: &Order,
    payment_method: Option<PaymentMethodId>,
) -> Result<Subscription, BillingError> {
    let (plan, mut known) = (
        newest(billing, &order.plan)?,
        Known::read(billing, scope).await?,
    );
    let price = known.price(&plan, order.interval)?;
    known.not_yet_subscribed(&known.subscriptions)?;
    let trial_days = known.trial_days(&plan);
    if payment_method.is_none() && trial_days.is_none() {
        return Err(BillingError::NoPaymentMethod);
    }
    let customer = customer(billing, scope, &mut known).await?;
    close_checkout(billing, &known).await?;
    let still = |_: &Account, rows: &[Subscription]| known.not_yet_subscribed(rows);
    let ended = carry_out(billing, scope, still, |metadata| {
        OperationRequest::Subscribe(Subscribe {
            customer,
            price,
            payment_method,
            trial_days,
            replaces: known.ended_trials.first().cloned(),
            metadata,
        })
    })
    .await?;
    subscribed(billing, scope, ended).await
}

/// The subscription that an operation has come to, as projected.
async fn subscribed<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
    ended: Ended,
) -> Result<Subscription, BillingError> {
    match ended.outcome {
        OperationOutcome::Subscription { subscription } => {
            let mut tx = billing.store.begin_billing(scope).await?;
            tx.entitlements().await?;
            let rows = tx.subscriptions().await?;
            let row = rows.into_iter().find(|s| s.snapshot.id == subscription);
            // It was made; a worker is at it, or the provider has just stopped answering.
            row.ok_or(BillingError::Unavailable {
                retry_after: Duration::from_secs(2),
            })
        }
        outcome => Err(refusal(billing, outcome, ended.client_secret).await?),
    }
}

async fn refusal<S, G: PaymentGateway>(
    billing: &Billing<S, G>,
    outcome: OperationOutcome,
    known_secret: Option<ClientSecret>,
) -> Result<BillingError, BillingError> {
    Ok(match outcome {
        OperationOutcome::Declined(decline) => BillingError::Declined(decline),
        OperationOutcome::ActionRequired { invoice } => {
            let secret = match known_secret {
                Some(secret) => Some(secret),
                None => client_secret(&billing.gateway, invoice.as_ref()).await?,
            };
            // Where it waits for nobody any more, somebody has confirmed it: events tell.
            secret.map_or(
                BillingError::OperationInProgress,
                BillingError::ActionRequired,
            )
        }
        OperationOutcome::Rejected { code } => BillingError::Refused { code },
        OperationOutcome::Customer { .. }
        | OperationOutcome::Subscription { .. }
        | OperationOutcome::Checkout { .. } => BillingError::OperationInProgress,
    })
}

impl Known {
    /// The workspace's customer, as long as the provider has it. One that is gone is unlinked: who subscribes again
    /// gets another, although nobody told of the deletion.
    pub(crate) async fn living_customer<S: BillingStore, G: PaymentGateway>(
        &mut self,
        billing: &Billing<S, G>,
        scope: &WorkspaceScope,
    ) -> Result<Option<CustomerId>, BillingError> {
        let Some(customer) = self.account.customer.clone() else {
            return Ok(None);
        };
        match billing.gateway.customer(&customer).await? {
            Some(found) if !found.deleted => return Ok(Some(customer)),
            Some(_) => {
                let object = ObjectRef::new(ObjectKind::Customer, &customer);
                project_object(billing, &object, Some(&customer)).await?;
            }
            None => {
                tracing::error!(%customer, "the payment provider does not know a workspace's customer");
                // A key of another account knows none: who pays keeps the link, by which what is paid is found.
                if current(&self.subscriptions).is_some() {
                    return Ok(Some(customer));
                }
                let mut tx = billing.store.begin_billing(scope).await?;
                tx.entitlements().await?;
                let mut account = tx.account().await?;
                if account.customer.as_ref() == Some(&customer) {
                    account.customer = None;
                    account.checkout = None;
                    tx.put_account(&account).await?;
                    tx.commit().await?;
                }
            }
        }
        self.account.customer = None;
        self.account.checkout = None;
        Ok(None)
    }
}

/// The workspace's customer, made where there is none.
async fn customer<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
    known: &mut Known,
) -> Result<CustomerId, BillingError> {
    if let Some(customer) = known.living_customer(billing, scope).await? {
        return Ok(customer);
    }
    let mut made = None;
    let still = |account: &Account, _: &[Subscription]| {
        made.clone_from(&account.customer);
        made.as_ref()
            .map_or(Ok(()), |_| Err(BillingError::OperationInProgress))
    };
    let ended = carry_out(billing, scope, still, |metadata| {
        OperationRequest::CreateCustomer(NewCustomer {
            name: known.payer.name.clone(),
            email: known.payer.email.clone(),
            metadata,
        })
    })
    .await;
    if let Some(customer) = made {
        // Somebody made it while we looked away.
        return Ok(customer);
    }
    let ended = ended?;
    match ended.outcome {
        OperationOutcome::Customer { customer } => Ok(customer),
        outcome => Err(refusal(billing, outcome, None).await?),
    }
}

/// Closes a hosted checkout that may still be open: who pays there as well would have two subscriptions.
async fn close_checkout<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    known: &Known,
) -> Result<(), BillingError> {
    let Some(checkout) = &known.account.checkout else {
        return Ok(());
    };
    match billing.gateway.expire_checkout(checkout).await {
        Ok(closed) if closed.status == "complete" => {
            // Somebody has just paid there.
            let object = ObjectRef::new(ObjectKind::Checkout, checkout);
            project_object(billing, &object, closed.customer.as_ref()).await?;
            Err(BillingError::AlreadySubscribed)
        }
        Ok(_) | Err(GatewayError::NotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Moves the subscription to another plan or interval: at once where it costs more, when the period ends where it
/// costs less, and where the plan has no price, to the end of what was paid for.
///
/// With a token of [`crate::preview`], only while the facts that it showed still hold.
///
/// # Errors
/// [`BillingError`]; the subscription is as it was then, but for [`BillingError::Unavailable`], after which the change
/// goes on by itself.
pub async fn change_plan<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
    key: &PreviewKey,
    order: &Order,
    commit_token: Option<&str>,
) -> Result<Subscription, BillingError> {
    let known = Known::read(billing, scope).await?;
    let plan = newest(billing, &order.plan)?;
    let current = if plan.prices.is_empty() {
        // Whatever state it is in, it can be ended.
        known.current()?
    } else {
        known.changeable()?
    };
    let now = billing.env.now();
    let date = match commit_token {
        Some(token) => fresh_date(token, now)?,
        None => now,
    };
    let facts = ChangeFacts::gather(billing, scope, &known, &plan, order.interval, date).await;
    let facts = match (facts, commit_token) {
        // The time that it was shown at is none of the current period, or its price is no more.
        (Err(BillingError::Refused { .. }), Some(_)) => return Err(BillingError::PlanChangeStale),
        (facts, _) => facts?,
    };
    if let Some(token) = commit_token {
        check_token(key, scope, &facts, token)?;
    }
    let Change::Price { price, timing } = facts.change() else {
        return cancel(billing, scope, CancelWhen::AtPeriodEnd).await;
    };
    let is_there = current
        .snapshot
        .item()
        .is_some_and(|item| item.price.id == price);
    if is_there {
        // What was to follow is what changes, if anything does.
        let follows = current.snapshot.scheduled.is_some() || current.snapshot.ends_at().is_some();
        return if follows {
            resume(billing, scope).await
        } else {
            Ok(current.clone())
        };
    }
    let item = current
        .snapshot
        .item()
        .ok_or(BillingError::NoSubscription)?;
    let quantity = Some(item.quantity);
    let (subscription, item) = (current.snapshot.id.clone(), item.id.clone());
    let still = |_: &Account, rows: &[Subscription]| {
        let now = rows
            .iter()
            .find(|row| row.snapshot.id == current.snapshot.id);
        let same = now.is_some_and(|now| {
            // As it was when the facts were gathered.
            (&now.snapshot.items, &now.snapshot.status)
                == (&current.snapshot.items, &current.snapshot.status)
        });
        match commit_token {
            _ if same => Ok(()),
            Some(_) => Err(BillingError::PlanChangeStale),
            // Nobody was shown anything: somebody else was faster.
            None => Err(BillingError::OperationInProgress),
        }
    };
    let ended = carry_out(billing, scope, still, |metadata| {
        OperationRequest::ChangePrice(ChangePrice {
            subscription,
            item,
            price,
            quantity,
            timing,
            metadata,
        })
    })
    .await?;
    subscribed(billing, scope, ended).await
}

/// What a change of plan comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Another price.
    Price {
        price: PriceId,
        timing: ChangeTiming,
    },
    /// A plan that costs nothing: the subscription ends when what was paid for is over.
    Cancellation,
}

impl Change {
    /// The price that a subscription has, where it is to the plan already: the one that is sold, or one that was
    /// negotiated.
    fn price_had(row: &Subscription, plan: &Plan, interval: Interval) -> Option<PriceId> {
        let item = row
            .snapshot
            .item()
            .filter(|_| row.sold == Some(sold(plan)))?;
        (item.price.interval == Some(interval)).then(|| item.price.id.clone())
    }

    /// More, or as much, counts at once; less when the period ends, since nothing is given back for what was had.
    pub(crate) fn to(
        known: &Known,
        row: &Subscription,
        plan: &Plan,
        interval: Interval,
        date: DateTime<Utc>,
    ) -> Result<Self, BillingError> {
        if plan.prices.is_empty() {
            return Ok(Self::Cancellation);
        }
        let now = ChangeTiming::Now {
            proration_date: date,
        };
        if let Some(price) = Self::price_had(row, plan, interval) {
            return Ok(Self::Price { price, timing: now });
        }
        let current = &row.snapshot;
        let price = known.price(plan, interval)?;
        let monthly = |amount: i64, interval: Interval| {
            // Compared per year, so that no division loses a cent.
            i128::from(amount) * i128::from(12 / interval.months())
        };
        let has = current
            .item()
            .and_then(|item| Some(monthly(item.price.amount?, item.price.interval?)))
            .unwrap_or(0);
        let wants = plan
            .price(known.payer.currency.as_str(), interval)
            .map_or(0, |p| {
                monthly(i64::try_from(p.amount).unwrap_or(i64::MAX), interval)
            });
        // A trial has charged nothing yet: there is nothing to wait for.
        let timing = if wants >= has || current.status.is_trial() {
            now
        } else {
            ChangeTiming::AtPeriodEnd
        };
        Ok(Self::Price { price, timing })
    }
}

/// Ends the subscription: at once, or when what was paid for is over.
///
/// # Errors
/// [`BillingError`].
pub async fn cancel<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
    when: CancelWhen,
) -> Result<Subscription, BillingError> {
    let known = Known::read(billing, scope).await?;
    let current = known.current()?;
    let subscription = current.snapshot.id.clone();
    let ended = carry_out(
        billing,
        scope,
        |_, _| Ok(()),
        |metadata| OperationRequest::Cancel {
            subscription,
            when,
            metadata,
        },
    )
    .await?;
    subscribed(billing, scope, ended).await
}

/// Takes back an end or a change that was to come, wakes a paused subscription, or collects what an unpaid one owes.
///
/// # Errors
/// [`BillingError`].
pub async fn resume<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
) -> Result<Subscription, BillingError> {
    let known = Known::read(billing, scope).await?;
    let current = known.current()?;
    if current.snapshot.status == SubscriptionStatus::Incomplete {
        return Err(BillingError::FirstPaymentDue);
    }
    if current.snapshot.status == SubscriptionStatus::Paused {
        // Two could be paid otherwise.
        close_checkout(billing, &known).await?;
    }
    let subscription = current.snapshot.id.clone();
    let is_trial = known.ended_trials.contains(&subscription);
    let ended = carry_out(
        billing,
        scope,
        |_, _| Ok(()),
        |metadata| OperationRequest::Resume {
            subscription,
            metadata,
        },
    )
    .await?;
    match &ended.outcome {
        OperationOutcome::Rejected { code } if code == NOTHING_TO_PAY_WITH => Err(if is_trial {
            BillingError::TrialEnded
        } else {
            BillingError::NothingToPayWith
        }),
        _ => subscribed(billing, scope, ended).await,
    }
}

/// The address of a hosted checkout for an order. An earlier one is closed first.
///
/// # Errors
/// [`BillingError`].
pub async fn checkout<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
    order: &Order,
    success_url: String,
    cancel_url: String,
) -> Result<String, BillingError> {
    let (plan, mut known) = (
        newest(billing, &order.plan)?,
        Known::read(billing, scope).await?,
    );
    let price = known.price(&plan, order.interval)?;
    known.not_yet_subscribed(&known.subscriptions)?;
    let customer = customer(billing, scope, &mut known).await?;
    close_checkout(billing, &known).await?;
    let trial_days = known.trial_days(&plan);
    let still = |_: &Account, rows: &[Subscription]| known.not_yet_subscribed(rows);
    let ended = carry_out(billing, scope, still, |metadata| {
        OperationRequest::Checkout(NewCheckout {
            customer,
            price,
            trial_days,
            replaces: known.ended_trials.first().cloned(),
            success_url,
            cancel_url,
            metadata,
        })
    })
    .await?;
    let OperationOutcome::Checkout { checkout } = ended.outcome else {
        return Err(refusal(billing, ended.outcome, ended.client_secret).await?);
    };
    let opened = billing.gateway.checkout_session(&checkout).await?;
    opened
        .and_then(|opened| opened.url)
        .ok_or(BillingError::OperationInProgress)
}

/// The address of a hosted page where cards and invoices are managed.
///
/// # Errors
/// [`BillingError`]; without a customer there is nothing to manage: [`BillingError::NoSubscription`].
pub async fn portal<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
    return_url: &str,
) -> Result<String, BillingError> {
    let mut known = Known::read(billing, scope).await?;
    let customer = known.living_customer(billing, scope).await?;
    let customer = customer.ok_or(BillingError::NoSubscription)?;
    Ok(billing.gateway.portal(&customer, return_url).await?)
}

/// Ends every subscription of a workspace at once, for one that is being deleted. Doing it twice is doing it once.
///
/// # Errors
/// [`BillingError`]; those ended before stay so.
pub async fn cancel_all<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
) -> Result<(), BillingError> {
    let known = Known::read(billing, scope).await?;
    for row in &known.subscriptions {
        if row.snapshot.status.is_final() {
            continue;
        }
        let subscription = row.snapshot.id.clone();
        carry_out(
            billing,
            scope,
            |_, _| Ok(()),
            |metadata| OperationRequest::Cancel {
                subscription,
                when: CancelWhen::Now,
                metadata,
            },
        )
        .await?;
    }
    Ok(())
}

/// What a subscription is called in facts that are signed.
pub(crate) fn named(row: &Subscription) -> String {
    row.sold.as_ref().map_or_else(
        || "another price".to_owned(),
        |sold| format!("{} {}", sold.plan, sold.version),
    )
}

/// The same of a plan.
pub(crate) fn named_plan(plan: &Plan) -> String {
    let sold = sold(plan);
    format!("{} {}", sold.plan, sold.version)
}

pub(crate) fn workspace_of(scope: &WorkspaceScope) -> uuid::Uuid {
    scope.workspace().uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::subscription;

    #[test]
    fn a_trial_that_has_ended_is_no_obstacle_until_somebody_wakes_it() {
        use SubscriptionStatus as S;
        let ended = BTreeSet::from(["sub_1".parse().unwrap()]);
        for (status, of_ended, of_another) in [
            (S::Paused, false, true),
            (S::Active, true, true),
            (S::PastDue, true, true),
            (S::Unknown("dormant".to_owned()), true, true),
            (S::Incomplete, false, false),
            (S::Canceled, false, false),
        ] {
            let with = |id| {
                let mut row = subscription(id);
                row.snapshot.status = status.clone();
                has_one(&[row], &ended)
            };
            assert_eq!(
                (with("sub_1"), with("sub_2")),
                (of_ended, of_another),
                "{status:?}"
            );
        }
    }
}
