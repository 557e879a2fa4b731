//! Projecting what was fetched: rows as the provider has them, and what each fact calls for, once.
//!
//! An effect is keyed by a fact that the fetched object states for ever (an invoice was paid, its attempt of that
//! name failed), and not by which states somebody happened to see: however few or many times an object is fetched
//! on its way, what was told in the end is the same. What has no such fact (a price that was changed, an end that
//! was scheduled and may be taken back) is recorded exactly when our rows change.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rawdrive_plans::{Catalogue, PlansTx};
use rawdrive_tenancy_core::audit::AuditTx;
use rawdrive_tenancy_core::event::EventsTx;
use rawdrive_tenancy_core::job::JobsTx;
use rawdrive_tenancy_core::{Env, StoreError};
use rawdrive_usage::UsageTx;
use serde_json::{Value, json};

use crate::apply_entitlements::{AuditedEvent, Policy, apply_entitlements, tell, tell_once};
use crate::event::{ObjectKind, ObjectRef};
use crate::ids::{ChargeId, InvoiceId};
use crate::ports::{BillingTx, InboxTx, Subscription};
use crate::price_catalog::PriceCatalog;
use crate::provider_objects::{
    AttemptOutcome, ChargeSnapshot, CheckoutSnapshot, CustomerSnapshot, DisputeSnapshot,
    InvoiceSnapshot, InvoiceStatus, SubscriptionSnapshot, SubscriptionStatus,
};

/// A subscription came to life.
pub const SUBSCRIPTION_CREATED: &str = "subscription.created";
/// A subscription's price, state, end or collection is another.
pub const SUBSCRIPTION_CHANGED: &str = "subscription.changed";
/// A subscription ended.
pub const SUBSCRIPTION_ENDED: &str = "subscription.ended";
/// An invoice was paid.
pub const INVOICE_PAID: &str = "invoice.paid";
/// An attempt to collect an invoice failed.
pub const PAYMENT_FAILED_EVENT: &str = "invoice.payment_failed";
/// The payer must confirm a payment.
pub const PAYMENT_ACTION_REQUIRED: &str = "invoice.payment_action_required";
/// An invoice could not be finalized.
pub const FINALIZATION_FAILED: &str = "invoice.finalization_failed";
/// An invoice was withdrawn.
pub const INVOICE_VOIDED: &str = "invoice.voided";
/// An invoice was given up.
pub const INVOICE_UNCOLLECTIBLE: &str = "invoice.marked_uncollectible";
/// Money was given back.
pub const CHARGE_REFUNDED: &str = "charge.refunded";
/// The payer asked the bank for the money.
pub const DISPUTE_OPENED: &str = "dispute.opened";
/// A dispute was decided.
pub const DISPUTE_CLOSED: &str = "dispute.closed";
/// What the key of a reversal's effect begins with; the charge follows.
pub const REVERSAL: &str = "reversal:";
/// The customer was deleted at the provider.
pub const CUSTOMER_DELETED: &str = "billing.customer_deleted";

/// An object as it was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// A customer.
    Customer(CustomerSnapshot),
    /// A subscription.
    Subscription(SubscriptionSnapshot),
    /// An invoice with its attempts.
    Invoice(InvoiceSnapshot),
    /// A hosted checkout.
    Checkout(CheckoutSnapshot),
    /// A charge.
    Charge(ChargeSnapshot),
    /// A dispute.
    Dispute(DisputeSnapshot),
}

/// What a projection is made with.
#[derive(Debug, Clone, Copy)]
pub struct ProjectionContext<'a> {
    /// Which price is of which plan version.
    pub book: &'a PriceCatalog,
    /// The plans of today.
    pub catalogue: &'a Catalogue,
    /// What the installation has decided.
    pub policy: Policy,
    /// The time of decisions.
    pub env: &'a Env,
}

/// Writes an object of the handle's workspace, its effects, and the entitlements that follow.
///
/// # Errors
/// The database's; drop the transaction.
pub async fn project(
    tx: &mut (impl BillingTx + InboxTx + PlansTx + UsageTx + AuditTx + EventsTx + JobsTx + Send),
    context: ProjectionContext<'_>,
    fetched: &Fetched,
) -> Result<(), StoreError> {
    // The entitlements' lock comes first, here as everywhere.
    tx.entitlements().await?;
    match fetched {
        Fetched::Subscription(snapshot) => project_subscription(tx, context, snapshot).await?,
        Fetched::Invoice(snapshot) => project_invoice(tx, snapshot).await?,
        Fetched::Customer(snapshot) => project_customer(tx, snapshot).await?,
        Fetched::Checkout(snapshot) => project_checkout(tx, snapshot).await?,
        Fetched::Charge(snapshot) => project_charge(tx, context.env, snapshot).await?,
        Fetched::Dispute(snapshot) => project_dispute(tx, context.env, snapshot).await?,
    }
    apply_entitlements(tx, context.catalogue, context.policy, context.env).await
}

async fn project_subscription(
    tx: &mut (impl BillingTx + InboxTx + AuditTx + EventsTx + Send),
    context: ProjectionContext<'_>,
    snapshot: &SubscriptionSnapshot,
) -> Result<(), StoreError> {
    let known = tx.subscriptions().await?;
    let old = known.iter().find(|old| old.snapshot.id == snapshot.id);
    let price = |s: &SubscriptionSnapshot| s.item().map(|item| item.price.id.clone());
    let mut snapshot = snapshot.clone();
    let plan = context.book.plan_of(&snapshot.items);
    let (item, sold) = plan
        .map(|(item, sold)| (item.clone(), sold.clone()))
        .unzip();
    let known_item = old.and_then(|old| old.snapshot.plan_item.clone());
    let first = snapshot.items.first().map(|first| first.id.clone());
    snapshot.plan_item = item
        .or(known_item)
        .filter(|item| first.as_ref() != Some(item));
    let mut new = Subscription {
        // What it was sold as stays, until it has another price.
        sold: old
            .filter(|old| price(&old.snapshot) == price(&snapshot))
            .and_then(|old| old.sold.clone())
            .or(sold),
        snapshot: snapshot.clone(),
    };
    // Final is final, whatever an answer says.
    if let Some(old) = old.filter(|old| old.snapshot.status.is_final()) {
        new.snapshot.status = old.snapshot.status.clone();
    }
    if old == Some(&new) {
        return Ok(());
    }
    tx.put_subscription(&new).await?;
    if let Some(invoice) = &snapshot.latest_invoice {
        // Its own event may have been lost, and a grace hangs on it.
        let invoice = ObjectRef::new(ObjectKind::Invoice, invoice);
        tx.touch(&invoice, Some(&snapshot.customer)).await?;
    }
    tell_subscription(tx, old, &new).await
}

async fn tell_subscription(
    tx: &mut (impl BillingTx + AuditTx + EventsTx + Send),
    old: Option<&Subscription>,
    new: &Subscription,
) -> Result<(), StoreError> {
    let subject = new.snapshot.id.to_string();
    // One that was never paid for the first time has never lived: it is nobody's concern.
    if !new.snapshot.status.is_live() {
        return Ok(());
    }
    let is_canceled = new.snapshot.status == SubscriptionStatus::Canceled;
    tell_once(
        tx,
        &format!("subscription:{subject}:created"),
        AuditedEvent {
            action: SUBSCRIPTION_CREATED,
            subject: subject.clone(),
            before: Value::Null,
            after: json!({ "plan": new.sold.as_ref().map(|sold| &sold.plan), "at": new.snapshot.created }),
        },
    )
    .await?;
    if is_canceled {
        let audited = AuditedEvent {
            action: SUBSCRIPTION_ENDED,
            subject: subject.clone(),
            before: old.map_or(Value::Null, terms),
            after: json!({ "status": new.snapshot.status.as_str(), "at": new.snapshot.ended_at }),
        };
        return tell_once(tx, &format!("subscription:{subject}:ended"), audited).await;
    }
    let Some(old) = old.filter(|old| old.snapshot.status.is_live()) else {
        return Ok(());
    };
    let (before, after) = (terms(old), terms(new));
    if before == after {
        return Ok(());
    }
    let audited = AuditedEvent {
        action: SUBSCRIPTION_CHANGED,
        subject,
        before,
        after,
    };
    tell(tx, audited);
    Ok(())
}

/// What somebody would want to know has changed; not that another period began.
fn terms(subscription: &Subscription) -> Value {
    let snapshot = &subscription.snapshot;
    json!({
        "status": snapshot.status.as_str(),
        "price": snapshot.item().map(|item| &item.price.id),
        "quantity": snapshot.item().map(|item| item.quantity),
        "addons": snapshot.addons().map(|item| (&item.price.id, item.quantity)).collect::<Vec<_>>(),
        "collection_method": snapshot.collection_method.as_str(),
        "plan": subscription.sold.as_ref().map(|sold| &sold.plan),
        "version": subscription.sold.as_ref().map(|sold| sold.version),
        "cancel_at": snapshot.cancel_at,
        "cancel_at_period_end": snapshot.cancel_at_period_end,
        "paused": snapshot.pause.as_ref().map(|pause| &pause.behavior),
        "pause_reason": snapshot.paused.as_ref().map(|paused| &paused.reason),
        "scheduled": snapshot.scheduled.as_ref().map(|change| (&change.price, change.at)),
    })
}

async fn project_invoice(
    tx: &mut (impl BillingTx + InboxTx + AuditTx + EventsTx + Send),
    snapshot: &InvoiceSnapshot,
) -> Result<(), StoreError> {
    let old = tx.invoice(&snapshot.id).await?;
    let mut new = snapshot.clone();
    if let Some(old) = &old {
        new.reversed_at = old.reversed_at;
        // A provider that does not tell today what it told yesterday has not undone it.
        if new.attempts.is_empty() {
            new.attempts.clone_from(&old.attempts);
        }
        if matches!(old.status, InvoiceStatus::Paid | InvoiceStatus::Void) {
            new.status = old.status.clone();
        }
    }
    if old.as_ref() == Some(&new) {
        return Ok(());
    }
    tx.put_invoice(&new).await?;
    if let Some(subscription) = &new.subscription {
        // Paid or not, the subscription's own event may have been lost.
        let subscription = ObjectRef::new(ObjectKind::Subscription, subscription);
        tx.touch(&subscription, Some(&new.customer)).await?;
    }
    tell_invoice(tx, &new).await
}

async fn tell_invoice(
    tx: &mut (impl BillingTx + AuditTx + EventsTx + Send),
    invoice: &InvoiceSnapshot,
) -> Result<(), StoreError> {
    let id = &invoice.id;
    let facts = |at: Option<DateTime<Utc>>| {
        json!({
            "subscription": invoice.subscription, "number": invoice.number, "amount": invoice.total,
            "currency": invoice.currency, "at": at,
        })
    };
    let audited = |action, after| AuditedEvent {
        action,
        subject: id.to_string(),
        before: Value::Null,
        after,
    };
    for attempt in &invoice.attempts {
        let mut after = facts(Some(attempt.at));
        let action = match &attempt.outcome {
            AttemptOutcome::Succeeded => continue,
            AttemptOutcome::ActionRequired => PAYMENT_ACTION_REQUIRED,
            AttemptOutcome::Failed { decline_code } => {
                after["decline_code"] = json!(decline_code);
                PAYMENT_FAILED_EVENT
            }
        };
        let key = format!("invoice:{id}:attempt:{}:{action}", attempt.id);
        tell_once(tx, &key, audited(action, after)).await?;
    }
    let ends = [
        (INVOICE_PAID, invoice.paid_at),
        (INVOICE_VOIDED, invoice.voided_at),
        (INVOICE_UNCOLLECTIBLE, invoice.marked_uncollectible_at),
    ];
    for (action, at) in ends {
        if at.is_some() {
            tell_once(tx, &format!("{action}:{id}"), audited(action, facts(at))).await?;
        }
    }
    if let Some(error) = &invoice.finalization_error {
        let mut after = facts(None);
        after["error"] = json!(error);
        let key = format!("{FINALIZATION_FAILED}:{id}:{error}");
        tell_once(tx, &key, audited(FINALIZATION_FAILED, after)).await?;
    }
    Ok(())
}

async fn project_customer(
    tx: &mut (impl BillingTx + InboxTx + AuditTx + EventsTx + Send),
    snapshot: &CustomerSnapshot,
) -> Result<(), StoreError> {
    if !snapshot.deleted {
        // What else there is to know of a customer is asked for where it is needed.
        return Ok(());
    }
    let mut account = tx.account().await?;
    if account.customer.as_ref() == Some(&snapshot.id) {
        // Who subscribes again gets another customer; this one stays linked for what still comes of it.
        account.customer = None;
        account.checkout = None;
        tx.put_account(&account).await?;
    }
    for subscription in tx.subscriptions().await? {
        let s = subscription.snapshot;
        if s.customer == snapshot.id && !s.status.is_final() {
            let ended = ObjectRef::new(ObjectKind::Subscription, &s.id);
            InboxTx::touch(tx, &ended, Some(&s.customer)).await?;
        }
    }
    let audited = AuditedEvent {
        action: CUSTOMER_DELETED,
        subject: snapshot.id.to_string(),
        before: Value::Null,
        after: json!({ "customer": snapshot.id }),
    };
    tell_once(tx, &format!("customer:{}:deleted", snapshot.id), audited).await
}

async fn project_checkout(
    tx: &mut (impl BillingTx + InboxTx + Send),
    snapshot: &CheckoutSnapshot,
) -> Result<(), StoreError> {
    if let Some(subscription) = &snapshot.subscription {
        let made = ObjectRef::new(ObjectKind::Subscription, subscription);
        tx.touch(&made, snapshot.customer.as_ref()).await?;
    }
    let mut account = tx.account().await?;
    if snapshot.status != "open" && account.checkout.as_ref() == Some(&snapshot.id) {
        account.checkout = None;
        tx.put_account(&account).await?;
    }
    Ok(())
}

async fn project_charge(
    tx: &mut (impl BillingTx + InboxTx + AuditTx + EventsTx + Send),
    env: &Env,
    snapshot: &ChargeSnapshot,
) -> Result<(), StoreError> {
    let (id, currency) = (&snapshot.id, snapshot.amount.currency);
    let audited = |amount: i64, all: i64, refund: Option<&str>| AuditedEvent {
        action: CHARGE_REFUNDED,
        subject: id.to_string(),
        before: json!({ "amount": snapshot.amount.minor, "currency": currency }),
        after: json!({
            "refunded": amount, "refunded_in_all": all, "refund": refund, "currency": currency,
        }),
    };
    let mut new = BTreeSet::new();
    for refund in &snapshot.refunds {
        if tx.record_effect(&format!("refund:{}", refund.id)).await? {
            new.insert(&refund.id);
        }
    }
    // An earlier release told the sum. What it told so is not told again when the charge is first met here.
    let is_first = new.len() == snapshot.refunds.len();
    let mut all = 0;
    for refund in &snapshot.refunds {
        all += refund.amount;
        let key = format!("charge:{id}:refunded:{all}");
        let was_told = is_first && !tx.record_effect(&key).await?;
        if new.contains(&refund.id) && !was_told {
            tell(tx, audited(refund.amount, all, Some(&refund.id)));
        }
    }
    let sum = snapshot.amount_refunded;
    if snapshot.refunds.is_empty() && sum > 0 {
        let key = format!("charge:{id}:refunded:{sum}");
        tell_once(tx, &key, audited(sum, sum, None)).await?;
    }
    if snapshot.is_reversed() {
        note_reversal(tx, env, id.as_str(), snapshot.invoice.as_ref()).await?;
    }
    Ok(())
}

/// A payment did not stay. The invoice that it paid says so from now on, and the operator is told.
async fn note_reversal(
    tx: &mut (impl BillingTx + InboxTx + Send),
    env: &Env,
    charge: &str,
    invoice: Option<&InvoiceId>,
) -> Result<(), StoreError> {
    if !tx.record_effect(&format!("{REVERSAL}{charge}")).await? {
        return Ok(());
    }
    tracing::warn!(charge, ?invoice, "a payment was taken back");
    let Some(id) = invoice else {
        return Ok(());
    };
    if let Some(mut row) = tx.invoice(id).await? {
        row.reversed_at = Some(env.now());
        tx.put_invoice(&row).await?;
    }
    Ok(())
}

async fn project_dispute(
    tx: &mut (impl BillingTx + InboxTx + AuditTx + EventsTx + Send),
    env: &Env,
    snapshot: &DisputeSnapshot,
) -> Result<(), StoreError> {
    let id = &snapshot.id;
    let facts = json!({
        "charge": snapshot.charge, "amount": snapshot.amount.minor, "currency": snapshot.amount.currency,
        "reason": snapshot.reason, "at": snapshot.created,
    });
    let opened = AuditedEvent {
        action: DISPUTE_OPENED,
        subject: id.to_string(),
        before: Value::Null,
        after: facts.clone(),
    };
    tell_once(tx, &format!("dispute:{id}:opened"), opened).await?;
    let status = snapshot.status.as_str();
    if matches!(status, "won" | "lost" | "warning_closed" | "prevented") {
        let mut after = facts;
        after["status"] = json!(status);
        let closed = AuditedEvent {
            action: DISPUTE_CLOSED,
            subject: id.to_string(),
            before: Value::Null,
            after,
        };
        tell_once(tx, &format!("dispute:{id}:closed"), closed).await?;
    }
    if snapshot.is_lost() {
        let charge = snapshot
            .charge
            .as_ref()
            .map_or(id.as_str(), ChargeId::as_str);
        note_reversal(tx, env, charge, snapshot.invoice.as_ref()).await?;
    }
    Ok(())
}
