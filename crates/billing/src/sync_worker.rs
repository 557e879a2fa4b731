//! The worker's step: lease what is dirty, fetch it, project it.

use std::time::Duration;

use chrono::TimeDelta;
use rawdrive_plans::{Catalogue, PlansTx as _};
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::job::backoff;
use rawdrive_tenancy_core::{Causes, Commit as _, Env, StoreError, SystemReason, WorkspaceScope};

use crate::apply_entitlements::{Policy, apply_entitlements};
use crate::event::{NoEvent, ObjectKind, ObjectRef, ProviderEvent};
use crate::gateway::{GatewayError, PaymentGateway};
use crate::ids::CustomerId;
use crate::operation_runner::{
    cancel_replaced_subscription, collect_drafts, end_reversed, follow_payer,
};
use crate::ports::{
    BillingDirectory, BillingStore, BillingTx as _, Dirty, Inbox, InboxTx as _, Leasing, Receipt,
};
use crate::price_catalog::PriceCatalog;
use crate::projection::{Fetched, ProjectionContext, project};
use crate::signature::{SignatureError, WebhookSecrets, verify_signature};

/// How long a dirty object is one worker's own, in seconds: longer than a fetch can take, and short enough that what a
/// dead worker had leased is up to date within a minute of its death.
pub const LEASE_SECONDS: i64 = 45;
/// The longest wait between two tries. The provider's return is noticed within this time.
const RETRY_MAX: TimeDelta = TimeDelta::seconds(20);
/// How long and how often another worker is waited for: two seconds, and the answer shows what is there.
const WAIT: Duration = Duration::from_millis(50);
const WAIT_TRIES: u32 = 40;
/// How often an object is fetched that the provider says is not there, or refuses to show, before it is given up.
const PATIENCE: u32 = 5;

/// What billing works with. Use cases take it by reference; all of it is cheap to share.
#[derive(Debug)]
pub struct Billing<S, G> {
    /// Where rows are.
    pub store: S,
    /// Who collects.
    pub gateway: G,
    /// Time, ids, randomness.
    pub env: Env,
    /// The plans of today.
    pub catalogue: Catalogue,
    /// What the installation has decided.
    pub policy: Policy,
}

/// Why a webhook is not taken.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// It is not the provider's, or not of now. Nothing of it was used.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// It is the provider's, and no event.
    #[error(transparent)]
    NoEvent(#[from] NoEvent),
    /// The database does not answer: the provider must send it again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes a webhook: verifies its bytes, reads the envelope, stores the event durably. Calls nobody.
///
/// # Errors
/// [`WebhookError`]; nothing is stored then.
pub async fn take_webhook<S: Inbox, G: PaymentGateway>(
    billing: &Billing<S, G>,
    secrets: &WebhookSecrets,
    signature: &str,
    body: Vec<u8>,
) -> Result<Receipt, WebhookError> {
    verify_signature(secrets, signature, &body, billing.env.now())?;
    let event = ProviderEvent::read(body)?;
    Ok(receive(billing, &event).await?)
}

pub(crate) async fn receive<S: Inbox, G: PaymentGateway>(
    billing: &Billing<S, G>,
    event: &ProviderEvent,
) -> Result<Receipt, StoreError> {
    let disposition = event.envelope.disposition(billing.gateway.livemode());
    billing.store.receive(event, &disposition).await
}

/// What became of a leased object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Its workspace is as the provider has it.
    Projected,
    /// It waits for its customer to be linked to a workspace.
    Parked,
    /// It is tried again later.
    Retried,
    /// It waits for an operator.
    DeadLetter,
    /// Somebody else took it meanwhile, and does the work.
    Lost,
}

/// Leases one dirty object and brings its workspace up to date. Nothing where there was none to lease.
///
/// # Errors
/// The database's. The lease ends by itself.
pub async fn project_next<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
) -> Result<Option<Step>, StoreError> {
    let lease = TimeDelta::seconds(LEASE_SECONDS);
    match billing.store.lease_next(lease).await? {
        Some(dirty) => project_dirty(billing, &dirty).await.map(Some),
        None => Ok(None),
    }
}

/// Brings one object up to date at once, for an answer that shows it. Where a worker is at it, its work is waited
/// for, for a moment: what it had fetched before may be older, and then it is this one's turn. Whether it is up to
/// date now.
///
/// # Errors
/// The database's.
pub async fn project_object<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    object: &ObjectRef,
    customer: Option<&CustomerId>,
) -> Result<bool, StoreError> {
    billing.store.touch(object, customer).await?;
    for _ in 0..WAIT_TRIES {
        let lease = TimeDelta::seconds(LEASE_SECONDS);
        match billing.store.lease_object(object, lease).await? {
            Leasing::Leased(dirty) => match project_dirty(billing, &dirty).await? {
                Step::Projected => return Ok(true),
                Step::Parked | Step::Retried | Step::DeadLetter => return Ok(false),
                Step::Lost => {}
            },
            Leasing::Settled => return Ok(true),
            Leasing::Held => {}
        }
        tokio::time::sleep(WAIT).await;
    }
    Ok(false)
}

async fn project_dirty<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    dirty: &Dirty,
) -> Result<Step, StoreError> {
    let store = &billing.store;
    let fetched = match fetch(&billing.gateway, &dirty.object).await {
        Ok(Some(fetched)) => fetched,
        Ok(None) => return give_up(billing, dirty, "the provider knows no such object").await,
        Err(error @ GatewayError::Rejected { .. }) => {
            return give_up(billing, dirty, &error.to_string()).await;
        }
        Err(error) => return retry(billing, dirty, &error).await,
    };
    if billing
        .gateway
        .livemode()
        .is_some_and(|ours| ours != fetched.livemode())
    {
        return dead_letter(billing, dirty, "it is of the other mode (test or live)").await;
    }
    let Some(customer) = fetched.customer() else {
        // Nobody pays for it: it is none of ours.
        return Ok(lost_unless(store.close(dirty).await?, Step::Projected));
    };
    let Some(workspace) = store.workspace_of(customer).await? else {
        return park(billing, dirty, customer).await;
    };
    let scope = acting(billing, workspace, &fetched).await?;
    let mut book = book(billing).await?;
    if let Fetched::Subscription(snapshot) = &fetched
        && book.plan_of(&snapshot.items).is_none()
    {
        // A price that was negotiated, on the product of one that the catalogue names.
        for (price, sold) in PriceCatalog::named(&billing.catalogue) {
            match billing.gateway.price_by_id(&price).await {
                Ok(Some(price)) => book.learn(price.product, sold),
                Ok(None) | Err(GatewayError::Rejected { .. } | GatewayError::NotFound) => {}
                Err(error) => return retry(billing, dirty, &error).await,
            }
        }
    }
    let mut tx = store.begin_billing(&scope).await?;
    let context = ProjectionContext {
        book: &book,
        catalogue: &billing.catalogue,
        policy: billing.policy,
        env: &billing.env,
    };
    project(&mut tx, context, &fetched).await?;
    match &fetched {
        Fetched::Subscription(_) => {
            cancel_replaced_subscription(billing, &scope, &mut tx).await?;
            collect_drafts(billing, &scope, &mut tx).await?;
        }
        Fetched::Invoice(_) => collect_drafts(billing, &scope, &mut tx).await?,
        Fetched::Charge(charge) if charge.is_reversed() => {
            end_reversed(billing, &scope, &mut tx, charge.invoice.as_ref()).await?;
        }
        Fetched::Dispute(dispute) if dispute.is_lost() => {
            end_reversed(billing, &scope, &mut tx, dispute.invoice.as_ref()).await?;
        }
        Fetched::Customer(_) | Fetched::Checkout(_) | Fetched::Charge(_) | Fetched::Dispute(_) => {}
    }
    if !tx.settle(dirty).await? {
        // Somebody fetched it after us: what we have may be older.
        return Ok(Step::Lost);
    }
    tx.commit().await?;
    Ok(Step::Projected)
}

/// Whose doing it is: theirs who asked for the operation that is changing it, and otherwise nobody's of the workspace.
async fn acting<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    workspace: WorkspaceId,
    fetched: &Fetched,
) -> Result<WorkspaceScope, StoreError> {
    let system = scope(workspace);
    let Fetched::Subscription(snapshot) = fetched else {
        return Ok(system);
    };
    let Some(operation) = snapshot.metadata.operation() else {
        return Ok(system);
    };
    let actor = billing.store.actor_of(workspace, operation).await?;
    #[expect(
        clippy::disallowed_methods,
        reason = "the operation was begun in this workspace, by whom its row names"
    )]
    let theirs = actor.map(|actor| system.on_behalf_of(actor));
    Ok(theirs.unwrap_or(system))
}

async fn fetch(
    gateway: &impl PaymentGateway,
    object: &ObjectRef,
) -> Result<Option<Fetched>, GatewayError> {
    let id = &object.id;
    let wrong = |_| GatewayError::NotFound;
    Ok(match object.kind {
        ObjectKind::Customer => {
            let found = gateway.customer(&id.parse().map_err(wrong)?).await?;
            found.map(Fetched::Customer)
        }
        ObjectKind::Subscription => {
            let found = gateway.subscription(&id.parse().map_err(wrong)?).await?;
            found.map(Fetched::Subscription)
        }
        ObjectKind::Invoice => {
            let found = gateway.invoice(&id.parse().map_err(wrong)?).await?;
            found.map(Fetched::Invoice)
        }
        ObjectKind::Checkout => {
            let found = gateway
                .checkout_session(&id.parse().map_err(wrong)?)
                .await?;
            found.map(Fetched::Checkout)
        }
        ObjectKind::Charge => {
            let found = gateway.charge(&id.parse().map_err(wrong)?).await?;
            found.map(Fetched::Charge)
        }
        ObjectKind::Dispute => {
            let found = gateway.dispute(&id.parse().map_err(wrong)?).await?;
            found.map(Fetched::Dispute)
        }
    })
}

impl Fetched {
    fn livemode(&self) -> bool {
        match self {
            Self::Customer(s) => s.livemode,
            Self::Subscription(s) => s.livemode,
            Self::Invoice(s) => s.livemode,
            Self::Checkout(s) => s.livemode,
            Self::Charge(s) => s.livemode,
            Self::Dispute(s) => s.livemode,
        }
    }

    /// Whose it is, by the provider's own word for it and never by what the metadata says.
    fn customer(&self) -> Option<&CustomerId> {
        match self {
            Self::Customer(s) => Some(&s.id),
            Self::Subscription(s) => Some(&s.customer),
            Self::Invoice(s) => Some(&s.customer),
            Self::Checkout(s) => s.customer.as_ref(),
            Self::Charge(s) => s.customer.as_ref(),
            Self::Dispute(s) => s.customer.as_ref(),
        }
    }
}

async fn park<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    dirty: &Dirty,
    customer: &CustomerId,
) -> Result<Step, StoreError> {
    let parked = billing.store.park(dirty, customer).await?;
    // A link that was made since we looked has let go of what waited then; this it could not see.
    if billing.store.workspace_of(customer).await?.is_some() {
        billing.store.unpark(customer).await?;
    }
    Ok(lost_unless(parked, Step::Parked))
}

async fn give_up<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    dirty: &Dirty,
    reason: &str,
) -> Result<Step, StoreError> {
    if dirty.attempts < PATIENCE {
        let after = backoff(dirty.attempts).min(RETRY_MAX);
        let kept = billing.store.retry(dirty, after, reason).await?;
        return Ok(lost_unless(kept, Step::Retried));
    }
    dead_letter(billing, dirty, reason).await
}

async fn dead_letter<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    dirty: &Dirty,
    reason: &str,
) -> Result<Step, StoreError> {
    tracing::error!(object = %dirty.object, reason, "an object of the payment provider waits for an operator");
    let kept = billing.store.dead_letter(dirty, reason).await?;
    Ok(lost_unless(kept, Step::DeadLetter))
}

async fn retry<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    dirty: &Dirty,
    error: &GatewayError,
) -> Result<Step, StoreError> {
    tracing::warn!(object = %dirty.object, error = %Causes(error), "an object of the payment provider is fetched later");
    let asked = match error {
        GatewayError::RateLimited {
            retry_after: Some(after),
        } => TimeDelta::from_std(*after).unwrap_or(RETRY_MAX),
        _ => TimeDelta::zero(),
    };
    let after = backoff(dirty.attempts).max(asked).min(RETRY_MAX);
    let kept = billing
        .store
        .retry(dirty, after, &error.to_string())
        .await?;
    Ok(lost_unless(kept, Step::Retried))
}

const fn lost_unless(kept: bool, step: Step) -> Step {
    if kept { step } else { Step::Lost }
}

pub(crate) async fn book<S: BillingDirectory, G>(
    billing: &Billing<S, G>,
) -> Result<PriceCatalog, StoreError> {
    let noted = billing.store.sold_prices().await?;
    Ok(PriceCatalog::new(noted, &billing.catalogue))
}

/// The worker's own scope in a workspace that the directory named.
#[expect(
    clippy::disallowed_methods,
    reason = "the provider's objects act in the workspace that their customer is linked to"
)]
pub(crate) const fn scope(workspace: WorkspaceId) -> WorkspaceScope {
    WorkspaceScope::for_system(workspace, SystemReason::JOB)
}

/// Settles workspaces in which something changes by the passing of time alone, a stage of a grace or the end of a
/// grant, and those whose name or billing address has changed. Returns how many. One that cannot be settled is said, stays due, and keeps no other from it.
///
/// # Errors
/// The database does not answer; those settled before stay so.
pub async fn review_due<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
) -> Result<usize, StoreError> {
    const BATCH: u32 = 100;
    let mut settled = 0;
    let mut after = None;
    loop {
        let due = billing.store.due_reviews(after, BATCH).await?;
        for workspace in &due {
            match review(billing, &scope(*workspace)).await {
                Ok(()) => settled += 1,
                Err(error @ StoreError::Unavailable { .. }) => return Err(error),
                Err(error) => {
                    tracing::error!(%workspace, error = %Causes(&error), "what a workspace pays could not be reviewed");
                }
            }
        }
        if due.len() < BATCH as usize {
            return Ok(settled);
        }
        after = due.last().copied();
    }
}

/// Computes a workspace's entitlements anew.
///
/// # Errors
/// The database's.
pub async fn review<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
) -> Result<(), StoreError> {
    let mut tx = billing.store.begin_billing(scope).await?;
    tx.entitlements().await?;
    let mut account = tx.account().await?;
    if account.review_at.is_some() {
        // What follows says when the next is due.
        account.review_at = None;
        tx.put_account(&account).await?;
    }
    apply_entitlements(&mut tx, &billing.catalogue, billing.policy, &billing.env).await?;
    follow_payer(billing, scope, &mut tx).await?;
    tx.commit().await
}
