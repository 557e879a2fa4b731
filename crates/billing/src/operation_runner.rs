//! Carrying an operation out once, whatever is lost on the way.
//!
//! The operation and its key are committed before the call. Where the answer is lost, the same call is made again
//! under the same key, or what it made is found by the operation's id in the metadata; another key follows only when
//! the first can say nothing more. So a lost answer never makes a second customer, subscription or charge.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_plans::PlansTx as _;
use rawdrive_tenancy_core::id::OperationId;
use rawdrive_tenancy_core::{Causes, Commit as _, StoreError, WorkspaceScope};

use crate::apply_entitlements::Reversal;
use crate::entitlement_policy::{arrears, ended_trials, is_in_force};
use crate::event::{ObjectKind, ObjectRef};
use crate::gateway::{
    CancelWhen, ClientSecret, CustomerQuery, Decline, GatewayError, Outcome, PaymentGateway,
};
use crate::ids::{CustomerId, InvoiceId, SubscriptionId};
use crate::operation::{
    Lane, OPERATION_LEASE_SECONDS, Operation, OperationOutcome, OperationRequest,
};
use crate::ports::{Account, BillingStore, BillingTx as _, OperationsTx as _, Payer, Subscription};
use crate::provider_objects::{InvoiceStatus, Metadata, SubscriptionSnapshot, SubscriptionStatus};
use crate::subscriptions::BillingError;
use crate::sync_worker::{Billing, project_object, scope};

/// When an operation is taken up again whose call did not answer, in seconds of real time.
const RETRY_SECONDS: i64 = 2;
/// How many attempts are made, each under a key of its own, before an operator must look.
const MAX_ATTEMPTS: u32 = 20;
/// How many pages of customers are looked through for one that an operation made.
const MAX_PAGES: usize = 20;
/// How much earlier than the operation, by the provider's clock, what it made may seem to be.
const CLOCK_SKEW: TimeDelta = TimeDelta::hours(1);

/// How an operation ended, and what of it is not written down.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) outcome: OperationOutcome,
    pub(crate) client_secret: Option<ClientSecret>,
    /// What is there although the payer must still confirm something.
    left: Option<SubscriptionId>,
}

impl From<OperationOutcome> for Ended {
    fn from(outcome: OperationOutcome) -> Self {
        Self {
            outcome,
            client_secret: None,
            left: None,
        }
    }
}

/// Carries out what is asked for, or joins the operation under way that asks for the same. Where it would be a new one,
/// `still` looks at the rows once more in the transaction that begins it: whoever was before has written them before
/// their operation ended.
pub(crate) async fn carry_out<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
    still: impl FnOnce(&Account, &[Subscription]) -> Result<(), BillingError> + Send,
    request: impl FnOnce(Metadata) -> OperationRequest,
) -> Result<Ended, BillingError> {
    let id: OperationId = billing.env.id();
    let request = request(Metadata::of(scope.workspace(), Some(id)));
    let leased_until = lease(billing);
    let mut tx = billing.store.begin_billing(scope).await?;
    tx.entitlements().await?;
    if let Some(live) = tx.live_operation(request.lane()).await? {
        let joined = if live.request.is_same_request(&request) {
            tx.take_up(live.id, leased_until).await?
        } else {
            None
        };
        let Some(operation) = joined else {
            return Err(ahead(&live));
        };
        tx.commit().await?;
        return drive(billing, scope, operation, true).await;
    }
    still(&tx.account().await?, &tx.subscriptions().await?)?;
    let operation = Operation {
        id,
        request,
        actor: scope.actor(),
        attempt: 1,
        fence: 1,
        created_at: billing.env.now(),
        leased_until,
        unanswered: false,
    };
    if !tx.begin_operation(&operation).await? {
        return Err(BillingError::OperationInProgress);
    }
    tx.commit().await?;
    drive(billing, scope, operation, false).await
}

/// Writes down, in the transaction that shows it, that a subscription is to be ended since another is in force. Who
/// recovers operations carries it out.
pub(crate) async fn cancel_replaced_subscription<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
    tx: &mut S::Tx,
) -> Result<(), StoreError> {
    let rows = tx.subscriptions().await?;
    if !is_in_force(&rows) {
        return Ok(());
    }
    let Some(subscription) = ended_trials(tx, &rows).await?.pop_first() else {
        return Ok(());
    };
    // Where one is under way already, its end leads here again.
    intend(billing, scope, tx, |metadata| OperationRequest::Retire {
        subscription,
        metadata,
    })
    .await?;
    Ok(())
}

/// Writes an operation down in the transaction of what calls for it. Who recovers operations carries it out. False
/// where one of its lane is under way.
async fn intend<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
    tx: &mut S::Tx,
    request: impl FnOnce(Metadata) -> OperationRequest,
) -> Result<bool, StoreError> {
    let id: OperationId = billing.env.id();
    let operation = Operation {
        id,
        request: request(Metadata::of(scope.workspace(), Some(id))),
        actor: scope.actor(),
        attempt: 1,
        fence: 1,
        created_at: billing.env.now(),
        leased_until: billing.env.lease_now(),
        unanswered: false,
    };
    tx.begin_operation(&operation).await
}

/// Collects what was written for an unpaid subscription while nobody finalized it, once the invoice that had failed is
/// paid: the provider waits for the latest, and whoever paid was told that a payment opens the workspace.
pub(crate) async fn collect_drafts<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
    tx: &mut S::Tx,
) -> Result<(), StoreError> {
    let rows = tx.subscriptions().await?;
    let unpaid = rows.iter().filter(|row| row.sold.is_some());
    let unpaid = unpaid.filter(|row| row.snapshot.status == SubscriptionStatus::Unpaid);
    for row in unpaid {
        let invoices = tx.invoices_of(&row.snapshot.id).await?;
        let owed = arrears(row, &invoices);
        // One that is open waits for its payer; one that cannot be finalized waits for the operator.
        let is_only_drafts = !owed.is_empty()
            && owed.iter().all(|invoice| {
                invoice.status == InvoiceStatus::Draft && invoice.finalization_error.is_none()
            });
        if is_only_drafts {
            let subscription = row.snapshot.id.clone();
            intend(billing, scope, tx, |metadata| OperationRequest::Resume {
                subscription,
                metadata,
            })
            .await?;
        }
    }
    Ok(())
}

/// Ends the subscription whose payment was taken back, where the installation wants it so.
pub(crate) async fn end_reversed<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
    tx: &mut S::Tx,
    invoice: Option<&InvoiceId>,
) -> Result<(), StoreError> {
    let Some(invoice) = invoice.filter(|_| billing.policy.reversal == Reversal::End) else {
        return Ok(());
    };
    let Some(subscription) = tx.invoice(invoice).await?.and_then(|row| row.subscription) else {
        return Ok(());
    };
    let rows = tx.subscriptions().await?;
    let lives =
        |row: &Subscription| row.snapshot.id == subscription && !row.snapshot.status.is_final();
    if rows.iter().any(lives) {
        intend(billing, scope, tx, |metadata| OperationRequest::Cancel {
            subscription,
            when: CancelWhen::Now,
            metadata,
        })
        .await?;
    }
    Ok(())
}

/// Brings the provider's record of who pays up to date, where it was last told something else.
pub(crate) async fn follow_payer<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
    tx: &mut S::Tx,
) -> Result<(), StoreError> {
    let account = tx.account().await?;
    let Some(customer) = account
        .customer
        .filter(|_| billing.gateway.livemode().is_some())
    else {
        return Ok(());
    };
    let payer = tx.payer().await?;
    let last = tx.ended_last(Lane::Customer).await?;
    let told = last.as_ref().and_then(OperationRequest::told);
    if told == Some((payer.name.as_str(), payer.email.as_deref())) {
        return Ok(());
    }
    begin_update(billing, scope, tx, customer, payer).await
}

/// As [`follow_payer`], whatever it was told.
pub(crate) async fn begin_update<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
    tx: &mut S::Tx,
    customer: CustomerId,
    payer: Payer,
) -> Result<(), StoreError> {
    // Where one is under way already, its end leads here again.
    intend(billing, scope, tx, |_| OperationRequest::UpdateCustomer {
        customer,
        name: payer.name,
        email: payer.email,
    })
    .await?;
    Ok(())
}

/// Why nothing else is begun while an operation is live: somebody is at it, or the provider is waited for.
fn ahead(live: &Operation) -> BillingError {
    if live.unanswered {
        return BillingError::Unavailable {
            retry_after: Duration::from_secs(RETRY_SECONDS.unsigned_abs()),
        };
    }
    BillingError::OperationInProgress
}

/// Takes up every operation that nobody drives any more, and brings it to its end as far as the provider answers.
/// Returns how many were taken up.
///
/// # Errors
/// The database's.
pub async fn recover_operations<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
) -> Result<usize, StoreError> {
    const BATCH: u32 = 50;
    let abandoned = billing.store.abandoned_operations(BATCH).await?;
    let mut taken = 0;
    for (workspace, id) in abandoned {
        let scope = scope(workspace);
        let mut tx = billing.store.begin_billing(&scope).await?;
        tx.entitlements().await?;
        let operation = match tx.take_up(id, lease(billing)).await {
            Ok(Some(operation)) => operation,
            Ok(None) => continue,
            Err(error @ StoreError::Unavailable { .. }) => return Err(error),
            // Of a later release, perhaps, which is at work too.
            Err(error) => {
                tracing::error!(%workspace, operation = %id, error = %Causes(&error), "an operation cannot be read");
                continue;
            }
        };
        tx.commit().await?;
        taken += 1;
        let kind = operation.request.kind();
        match drive(billing, &scope, operation, true).await {
            Ok(ended) => {
                tracing::info!(%workspace, operation = %id, kind, outcome = ?ended.outcome, "recovered an operation")
            }
            Err(BillingError::Store(error)) => return Err(error),
            Err(error) => {
                tracing::warn!(%workspace, operation = %id, kind, error = %Causes(&error), "an operation is not at its end");
            }
        }
    }
    Ok(taken)
}

fn lease<S, G>(billing: &Billing<S, G>) -> DateTime<Utc> {
    billing.env.lease_now() + TimeDelta::seconds(OPERATION_LEASE_SECONDS)
}

/// Drives an operation that is ours. One that was taken up is looked for first: whoever drove it may have come far.
async fn drive<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
    mut operation: Operation,
    mut look_first: bool,
) -> Result<Ended, BillingError> {
    loop {
        let call = async {
            if look_first && let Some(found) = look_for(&billing.gateway, &operation).await? {
                return Ok(found);
            }
            call(&billing.gateway, &operation).await
        };
        match call.await {
            Ok(ended) => return end(billing, scope, &operation, ended).await,
            Err(GatewayError::ReplayedFailure) if operation.attempt < MAX_ATTEMPTS => {
                let mut tx = billing.store.begin_billing(scope).await?;
                tx.entitlements().await?;
                if !tx.next_attempt(&operation, lease(billing)).await? {
                    return Err(BillingError::OperationInProgress);
                }
                tx.commit().await?;
                operation.attempt += 1;
                look_first = true;
                // What the key could not say may be there all the same; only where it is not, the next is used.
            }
            Err(error) if error.is_unknown() => {
                return put_down(billing, scope, &operation, None).await;
            }
            Err(GatewayError::RateLimited { retry_after }) => {
                return put_down(billing, scope, &operation, retry_after).await;
            }
            Err(GatewayError::Unauthorized | GatewayError::NotConfigured)
                if matches!(
                    operation.request,
                    OperationRequest::Retire { .. } | OperationRequest::UpdateCustomer { .. }
                ) =>
            {
                // Nobody asked for it who could ask again.
                let later = Duration::from_secs(OPERATION_LEASE_SECONDS.unsigned_abs());
                return put_down(billing, scope, &operation, Some(later)).await;
            }
            Err(error) => {
                let code = match &error {
                    GatewayError::Rejected { code, .. } => code.clone(),
                    GatewayError::NotFound => "not_found".to_owned(),
                    GatewayError::Unauthorized => "unauthorized".to_owned(),
                    _ => "not_configured".to_owned(),
                };
                tracing::warn!(operation = %operation.id, kind = operation.request.kind(), error = %Causes(&error), "the payment provider refused an operation");
                let rejected = OperationOutcome::Rejected { code };
                let ended = end(billing, scope, &operation, rejected.into()).await?;
                return match error {
                    GatewayError::NotConfigured | GatewayError::Unauthorized => {
                        Err(BillingError::NotConfigured)
                    }
                    _ => Ok(ended),
                };
            }
        }
    }
}

async fn put_down<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
    operation: &Operation,
    retry_after: Option<Duration>,
) -> Result<Ended, BillingError> {
    let after = retry_after
        .and_then(|after| TimeDelta::from_std(after).ok())
        .unwrap_or(TimeDelta::seconds(RETRY_SECONDS))
        .min(TimeDelta::seconds(OPERATION_LEASE_SECONDS));
    let mut tx = billing.store.begin_billing(scope).await?;
    tx.entitlements().await?;
    tx.put_down(operation, billing.env.lease_now() + after)
        .await?;
    tx.commit().await?;
    Err(BillingError::Unavailable {
        retry_after: after.to_std().unwrap_or_default(),
    })
}

/// Brings what it changed up to date, then writes down how it ended: who comes next finds both.
async fn end<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    scope: &WorkspaceScope,
    operation: &Operation,
    ended: Ended,
) -> Result<Ended, BillingError> {
    if let OperationOutcome::Subscription { subscription } = &ended.outcome {
        let changed = ObjectRef::new(ObjectKind::Subscription, subscription);
        if !project_object(billing, &changed, None).await? {
            return put_down(billing, scope, operation, None).await;
        }
    }
    if let Some(left) = &ended.left {
        // A trial that runs while its card waits to be confirmed. Where this does not reach it, its event does.
        let left = ObjectRef::new(ObjectKind::Subscription, left);
        project_object(billing, &left, None).await?;
    }
    let mut tx = billing.store.begin_billing(scope).await?;
    tx.entitlements().await?;
    if !tx.end_operation(operation, &ended.outcome).await? {
        // Somebody took it up meanwhile. What they have written stands; if they are still at it, so be it.
        let theirs = tx.outcome(operation.id).await?;
        return theirs
            .map(Ended::from)
            .ok_or(BillingError::OperationInProgress);
    }
    let mut customer = None;
    match &ended.outcome {
        OperationOutcome::Customer { .. }
            if matches!(operation.request, OperationRequest::UpdateCustomer { .. }) => {}
        OperationOutcome::Customer { customer: made } => {
            let mut account = tx.account().await?;
            account.customer = Some(made.clone());
            tx.put_account(&account).await?;
            customer = Some(made.clone());
        }
        OperationOutcome::Checkout { checkout } => {
            let mut account = tx.account().await?;
            account.checkout = Some(checkout.clone());
            tx.put_account(&account).await?;
        }
        OperationOutcome::Subscription { .. }
        | OperationOutcome::Declined(_)
        | OperationOutcome::ActionRequired { .. }
        | OperationOutcome::Rejected { .. } => {}
    }
    if matches!(operation.request, OperationRequest::Retire { .. }) {
        // There may be another.
        cancel_replaced_subscription(billing, scope, &mut tx).await?;
    }
    if operation.request.lane() == Lane::Customer {
        // It may be another already.
        follow_payer(billing, scope, &mut tx).await?;
    }
    tx.commit().await?;
    if let Some(customer) = customer {
        // What came of the customer before it was linked has waited for this.
        billing.store.unpark(&customer).await?;
    }
    Ok(ended)
}

/// Makes the call of the operation's attempt.
async fn call(gateway: &impl PaymentGateway, operation: &Operation) -> Result<Ended, GatewayError> {
    let key = operation.key();
    match &operation.request {
        OperationRequest::CreateCustomer(new) => {
            let made = gateway.create_customer(new, &key).await?;
            Ok(OperationOutcome::Customer { customer: made.id }.into())
        }
        OperationRequest::UpdateCustomer {
            customer,
            name,
            email,
        } => {
            let email = email.as_deref();
            let told = gateway.update_customer(customer, name, email, &key).await?;
            Ok(OperationOutcome::Customer { customer: told.id }.into())
        }
        OperationRequest::Subscribe(new) => {
            cancel_incomplete(gateway, &new.customer, new.replaces.as_ref(), operation).await?;
            let outcome = gateway.subscribe(new, &key).await?;
            subscription_outcome(gateway, operation, outcome).await
        }
        OperationRequest::ChangePrice(change) => {
            let outcome = gateway.change_price(change, &key).await?;
            subscription_outcome(gateway, operation, outcome).await
        }
        OperationRequest::Cancel {
            subscription,
            when,
            metadata,
        } => {
            let ended = gateway.cancel(subscription, *when, metadata, &key).await?;
            Ok(done(&ended))
        }
        OperationRequest::Retire {
            subscription,
            metadata,
        } => {
            let found = gateway.subscription(subscription).await?;
            match found.ok_or(GatewayError::NotFound)? {
                // Somebody has woken it since: it is paid for.
                awake if awake.status != SubscriptionStatus::Paused => Ok(done(&awake)),
                _ => {
                    let now = CancelWhen::Now;
                    let ended = gateway.cancel(subscription, now, metadata, &key).await?;
                    Ok(done(&ended))
                }
            }
        }
        OperationRequest::Resume {
            subscription,
            metadata,
        } => {
            let found = gateway.subscription(subscription).await?;
            if let Some(found) = &found {
                match found.status {
                    SubscriptionStatus::Paused => {
                        cancel_incomplete(gateway, &found.customer, None, operation).await?;
                    }
                    SubscriptionStatus::Unpaid => {
                        let collected = gateway.collect_unpaid(subscription, metadata, &key);
                        return subscription_outcome(gateway, operation, collected.await?).await;
                    }
                    _ => {}
                }
            }
            let outcome = gateway.resume(subscription, metadata, &key).await?;
            subscription_outcome(gateway, operation, outcome).await
        }
        OperationRequest::Checkout(new) => {
            cancel_incomplete(gateway, &new.customer, new.replaces.as_ref(), operation).await?;
            let opened = gateway.checkout(new, &key).await?;
            Ok(OperationOutcome::Checkout {
                checkout: opened.id,
            }
            .into())
        }
    }
}

fn done(subscription: &SubscriptionSnapshot) -> Ended {
    OperationOutcome::Subscription {
        subscription: subscription.id.clone(),
    }
    .into()
}

/// Ends what an earlier, failed subscribing has left, and withdraws what the paused one waits for that is replaced, so
/// that neither can come to life beside another.
async fn cancel_incomplete(
    gateway: &impl PaymentGateway,
    customer: &CustomerId,
    replaces: Option<&SubscriptionId>,
    operation: &Operation,
) -> Result<(), GatewayError> {
    let paid_meanwhile = || GatewayError::Rejected {
        code: "paid_meanwhile".to_owned(),
        message: "an earlier subscription was paid meanwhile".to_owned(),
    };
    if let Some(replaced) = replaces {
        let key = operation.key_for(replaced.as_str());
        let now = gateway.withdraw(replaced, &key).await?;
        if !now.status.is_final() && now.status != SubscriptionStatus::Paused {
            return Err(paid_meanwhile());
        }
    }
    for left in gateway.subscriptions_of(customer).await? {
        if left.status == SubscriptionStatus::Incomplete
            && left.metadata.operation() != Some(operation.id)
        {
            // Its payer was faster: another beside it would be charged too.
            if end_left(gateway, &left, operation).await?.is_some() {
                return Err(paid_meanwhile());
            }
        }
    }
    Ok(())
}

/// Ends a subscription that was never paid; what it has become where its payer was faster.
async fn end_left(
    gateway: &impl PaymentGateway,
    left: &SubscriptionSnapshot,
    operation: &Operation,
) -> Result<Option<SubscriptionSnapshot>, GatewayError> {
    // The key is of the subscription: ending it twice is ending it once, whoever asks.
    let key = operation.key_for(left.id.as_str());
    let ended = gateway
        .cancel(&left.id, CancelWhen::Now, &left.metadata, &key)
        .await;
    match ended {
        Ok(ended) => Ok(Some(ended).filter(|s| !s.status.is_final())),
        // It has expired meanwhile.
        Err(GatewayError::Rejected { .. } | GatewayError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn subscription_outcome(
    gateway: &impl PaymentGateway,
    operation: &Operation,
    outcome: Outcome<SubscriptionSnapshot>,
) -> Result<Ended, GatewayError> {
    match outcome {
        Outcome::Done(subscription) => Ok(done(&subscription)),
        Outcome::Declined { decline, left } => {
            if let Some(left) = left.filter(|left| left.status == SubscriptionStatus::Incomplete) {
                // Declined at first, and paid by another card before it could be withdrawn: it is what was asked for.
                if let Some(paid) = end_left(gateway, &left, operation).await? {
                    return Ok(done(&paid));
                }
            }
            Ok(OperationOutcome::Declined(decline).into())
        }
        Outcome::ActionRequired {
            client_secret,
            left,
        } => Ok(Ended {
            left: left
                .as_ref()
                .filter(|left| left.status.is_live())
                .map(|left| left.id.clone()),
            outcome: OperationOutcome::ActionRequired {
                invoice: left.and_then(|left| left.latest_invoice),
            },
            client_secret: Some(client_secret),
        }),
    }
}

/// What an operation whose answer was lost has come to, if it has: found by the provider's lists.
async fn look_for(
    gateway: &impl PaymentGateway,
    operation: &Operation,
) -> Result<Option<Ended>, GatewayError> {
    let made_by_us = |metadata: &Metadata| metadata.operation() == Some(operation.id);
    match &operation.request {
        OperationRequest::CreateCustomer(new) => {
            let found = find_customer(gateway, operation.created_at, &new.metadata).await?;
            Ok(found.map(|customer| OperationOutcome::Customer { customer }.into()))
        }
        OperationRequest::Subscribe(new) => {
            let all = gateway.subscriptions_of(&new.customer).await?;
            match all.into_iter().find(|s| made_by_us(&s.metadata)) {
                Some(found) => adopt(gateway, operation, found).await.map(Some),
                None => Ok(None),
            }
        }
        OperationRequest::ChangePrice(change) => {
            let found = gateway.subscription(&change.subscription).await?;
            let has_it = |s: &SubscriptionSnapshot| {
                let item = s.item_of(&change.item);
                let now = item.is_some_and(|item| item.price.id == change.price);
                now || s
                    .scheduled
                    .as_ref()
                    .is_some_and(|s| s.price == change.price)
            };
            Ok(found
                .filter(|s| made_by_us(&s.metadata) && has_it(s))
                .as_ref()
                .map(done))
        }
        OperationRequest::Cancel {
            subscription, when, ..
        } => {
            let found = gateway.subscription(subscription).await?;
            let has_it = |s: &SubscriptionSnapshot| {
                let in_time = s.ends_at().is_some_and(|at| Some(at) <= s.period_end());
                s.status.is_final() || (*when == CancelWhen::AtPeriodEnd && in_time)
            };
            Ok(found.filter(has_it).as_ref().map(done))
        }
        OperationRequest::Resume { subscription, .. } => {
            let found = gateway.subscription(subscription).await?;
            let has_it = |s: &SubscriptionSnapshot| {
                s.ends_at().is_none()
                    && s.scheduled.is_none()
                    && !s.status.is_final()
                    && !matches!(
                        s.status,
                        SubscriptionStatus::Paused | SubscriptionStatus::Unpaid
                    )
            };
            Ok(found.filter(has_it).as_ref().map(done))
        }
        // A checkout that nobody was shown is paid by nobody, and expires. What is to be retired is looked at by the
        // call itself. A record that is written twice is written once.
        OperationRequest::Checkout(_)
        | OperationRequest::Retire { .. }
        | OperationRequest::UpdateCustomer { .. } => Ok(None),
    }
}

/// A subscription that the operation has made: as good as its answer.
async fn adopt(
    gateway: &impl PaymentGateway,
    operation: &Operation,
    found: SubscriptionSnapshot,
) -> Result<Ended, GatewayError> {
    let declined = |left| Outcome::Declined {
        decline: Decline {
            decline_code: "generic_decline".to_owned(),
        },
        left,
    };
    let outcome = match (&found.status, &found.latest_invoice) {
        (SubscriptionStatus::IncompleteExpired, _) => declined(None),
        (SubscriptionStatus::Trialing, Some(invoice)) => match gateway.waits_for(invoice).await? {
            Some(Outcome::ActionRequired { client_secret, .. }) => Outcome::ActionRequired {
                client_secret,
                left: Some(found),
            },
            _ => Outcome::Done(found),
        },
        (SubscriptionStatus::Incomplete, Some(invoice)) => {
            match gateway.waits_for(invoice).await? {
                Some(Outcome::ActionRequired { client_secret, .. }) => Outcome::ActionRequired {
                    client_secret,
                    left: Some(found),
                },
                Some(Outcome::Declined { decline, .. }) => Outcome::Declined {
                    decline,
                    left: Some(found),
                },
                // It is being collected at this moment: whatever comes of it, events tell.
                Some(Outcome::Done(())) => Outcome::Done(found),
                None => declined(Some(found)),
            }
        }
        _ => Outcome::Done(found),
    };
    subscription_outcome(gateway, operation, outcome).await
}

/// The customer that was made for a workspace at a time or later, by what we left on it.
pub(crate) async fn find_customer(
    gateway: &impl PaymentGateway,
    made_from: DateTime<Utc>,
    metadata: &Metadata,
) -> Result<Option<CustomerId>, GatewayError> {
    let mut query = CustomerQuery {
        created_from: Some(made_from - CLOCK_SKEW),
        after: None,
    };
    for _ in 0..MAX_PAGES {
        let page = gateway.customers(&query).await?;
        let ours = page
            .items
            .into_iter()
            .find(|c| !c.deleted && c.metadata.operation() == metadata.operation());
        if ours.is_some() || page.next.is_none() {
            return Ok(ours.map(|customer| customer.id));
        }
        query.after = page.next;
    }
    Ok(None)
}

/// What the payer needs for an invoice that waits for a confirmation; asked for again, since it is not kept.
pub(crate) async fn client_secret(
    gateway: &impl PaymentGateway,
    invoice: Option<&InvoiceId>,
) -> Result<Option<ClientSecret>, GatewayError> {
    let Some(invoice) = invoice else {
        return Ok(None);
    };
    match gateway.waits_for(invoice).await? {
        Some(Outcome::ActionRequired { client_secret, .. }) => Ok(Some(client_secret)),
        Some(Outcome::Done(()) | Outcome::Declined { .. }) | None => Ok(None),
    }
}
