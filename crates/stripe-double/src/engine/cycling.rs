//! Time passes over a subscription: it renews, leaves its trial, pauses, resumes, ends.

use serde_json::{Value, json};

use super::changing::{credit, period};
use super::invoicing::{self, Bill, merge, period_line};
use super::paying::{self, Attempt, Outcome};
use super::subscribing::no_method;
use crate::calendar::{Cadence, HOUR};
use crate::json::{Fields as _, set, unset, visible};
use crate::state::World;
use crate::wire::error::ApiError;

/// How long a draft of a renewal waits before it is final.
const DRAFT_TIME: i64 = HOUR;

/// How often a subscription renews.
pub(crate) fn cadence(subscription: &Value) -> Cadence {
    let first = subscription.rows("items").first();
    let cadence = first.and_then(|item| Cadence::of_price(&item["price"]));
    // Prices are checked before they become items.
    cadence.unwrap_or(Cadence::Months(1))
}

/// Moves all items into the period that begins at `start`.
fn enter_period(world: &mut World, id: &str, start: i64) -> (i64, i64) {
    let subscription = world.copy(id);
    let anchor = subscription.number("billing_cycle_anchor");
    let end = cadence(&subscription).next_after(anchor, start);
    world.edit(id, |subscription| {
        let items = subscription["items"]["data"].as_array_mut();
        for item in items.into_iter().flatten() {
            set(item, "current_period_start", start);
            set(item, "current_period_end", end);
            set(item, "_billed", Value::Null);
        }
        if subscription.flag("cancel_at_period_end") {
            set(subscription, "cancel_at", end);
        }
    });
    (start, end)
}

/// Drafts the invoice of the period that has just been entered.
fn bill_period(world: &mut World, id: &str, reason: &str, old_start: i64) -> String {
    let subscription = world.copy(id);
    let (start, end) = period(&subscription);
    let items = subscription.rows("items").iter();
    let lines = items.map(|item| period_line(world, item, (start, end), false));
    let lines = lines.collect();
    invoicing::bill(
        world,
        Bill {
            customer: subscription.text("customer"),
            subscription: Some(id),
            reason,
            currency: subscription.text("currency"),
            period: (old_start, start),
            lines,
            proration_date: None,
            with_pending: true,
        },
    )
}

/// A period ends and the next begins. The invoice stays a draft for an hour, so that whoever listens to
/// `invoice.created` can still add to it.
pub(crate) fn renew(world: &mut World, id: &str) {
    let subscription = world.copy(id);
    let before = visible(&subscription);
    let (old_start, end) = period(&subscription);
    enter_period(world, id, end);
    let draft = bill_period(world, id, "subscription_cycle", old_start);
    let is_unpaid = subscription.text("status") == "unpaid";
    let kept = subscription["pause_collection"].text("behavior") == "keep_as_draft";
    if is_unpaid || kept {
        world.edit(&draft, |invoice| set(invoice, "auto_advance", false));
    } else {
        finalize_later(world, &draft);
    }
    world.emit_changed("customer.subscription.updated", id, &before);
}

/// Lets a draft become final in an hour.
pub(crate) fn finalize_later(world: &mut World, draft: &str) {
    let at = world.now + DRAFT_TIME;
    world.edit(draft, |invoice| {
        set(invoice, "automatically_finalizes_at", at);
        set(invoice, "next_payment_attempt", at);
        if invoice.text("collection_method") == "send_invoice" {
            set(invoice, "next_payment_attempt", Value::Null);
        }
    });
}

/// A draft's hour is over: it becomes final and is collected, unless collection is paused.
pub(crate) fn finalize_due(world: &mut World, invoice_id: &str) {
    let invoice = world.copy(invoice_id);
    let subscription = invoicing::subscription_of(&invoice).map(|id| world.copy(id));
    let behavior = subscription
        .as_ref()
        .map(|s| s["pause_collection"].text("behavior").to_owned())
        .unwrap_or_default();
    if invoicing::fails_to_finalize(world, invoice_id)
        || invoicing::finalize(world, invoice_id).is_err()
    {
        return;
    }
    if world.copy(invoice_id).text("status") == "paid" {
        return;
    }
    let closed = match behavior.as_str() {
        "void" => invoicing::void(world, invoice_id),
        "mark_uncollectible" => invoicing::mark_uncollectible(world, invoice_id),
        _ if invoice.text("collection_method") == "send_invoice" => Ok(()),
        _ => {
            retry(world, invoice_id);
            Ok(())
        }
    };
    if let Err(error) = closed {
        tracing::error!(error = ?error.fields, "an invoice could not be closed");
    }
}

/// An automatic attempt to collect.
pub(crate) fn retry(world: &mut World, invoice_id: &str) {
    world.edit(invoice_id, |invoice| {
        set(invoice, "next_payment_attempt", Value::Null);
    });
    let attempt = Attempt {
        automatic: true,
        off_session: true,
        method: None,
    };
    paying::attempt(world, invoice_id, &attempt);
}

/// The trial is over.
pub(crate) fn end_trial(world: &mut World, id: &str) {
    let subscription = world.copy(id);
    let before = visible(&subscription);
    let probe = json!({
        "customer": subscription["customer"],
        "default_payment_method": subscription["default_payment_method"],
    });
    let has_method = paying::default_method(world, &probe).is_some();
    let automatic = subscription.text("collection_method") == "charge_automatically";
    let missing = subscription["trial_settings"]["end_behavior"].text("missing_payment_method");
    if automatic && !has_method && missing == "cancel" {
        cancel_now(world, id, "");
        return;
    }
    if automatic && !has_method && missing == "pause" {
        let now = world.now;
        world.edit(id, |subscription| {
            set(subscription, "status", "paused");
            let details = paused_details(now, "trial_end_without_payment_method");
            set(subscription, "status_details", details);
        });
        world.emit_changed("customer.subscription.updated", id, &before);
        world.emit("customer.subscription.paused", id);
        return;
    }
    let (old_start, end) = period(&subscription);
    world.edit(id, |subscription| set(subscription, "status", "active"));
    enter_period(world, id, end);
    let draft = bill_period(world, id, "subscription_cycle", old_start);
    finalize_later(world, &draft);
    world.emit_changed("customer.subscription.updated", id, &before);
}

fn paused_details(at: i64, reason: &str) -> Value {
    json!({
        "paused": {
            "subscription": { "type": reason },
            "transitioned_at": at,
            "type": "subscription",
        },
    })
}

/// A subscription ends now; what is open of it is not collected any more.
pub(crate) fn cancel_now(world: &mut World, id: &str, reason: &str) {
    let now = world.now;
    world.edit(id, |subscription| {
        set(subscription, "status", "canceled");
        set(subscription, "ended_at", now);
        if subscription["canceled_at"].is_null() {
            set(subscription, "canceled_at", now);
        }
        if !reason.is_empty() && subscription["cancellation_details"]["reason"].is_null() {
            subscription["cancellation_details"]["reason"] = json!(reason);
        }
        set(subscription, "pending_update", Value::Null);
    });
    if let Some(schedule) = world.copy(id).link("schedule") {
        let schedule = schedule.to_owned();
        super::scheduling::end(world, &schedule, "canceled");
    }
    world.emit("customer.subscription.deleted", id);
    invoicing::stop_collecting(world, id);
}

/// `DELETE`: cancels at once, crediting and invoicing what the request asks for.
pub(crate) fn cancel_by_request(
    world: &mut World,
    id: &str,
    prorate: bool,
    invoice_now: bool,
) -> Result<(), ApiError> {
    let subscription = world.copy(id);
    let customer = subscription.text("customer").to_owned();
    let currency = subscription.text("currency").to_owned();
    if prorate && matches!(subscription.text("status"), "active" | "past_due") {
        let items = subscription.rows("items").iter();
        let credits: Vec<_> = items
            .filter_map(|item| credit(world, &subscription, item, world.now))
            .collect();
        for line in &credits {
            invoicing::pend(world, &customer, &currency, line);
        }
    }
    let pending = invoicing::pending_items(world, &customer, Some(id));
    if !prorate && !invoice_now {
        for item in &pending {
            if world.copy(item).flag("proration") {
                // The event shows it as it was.
                world.emit("invoiceitem.deleted", item);
                world.edit(item, |item| set(item, "deleted", true));
            }
        }
    }
    let last = (invoice_now && !pending.is_empty()).then(|| {
        let (start, _) = period(&subscription);
        invoicing::bill(
            world,
            Bill {
                customer: &customer,
                subscription: Some(id),
                reason: "subscription_update",
                currency: &currency,
                period: (start, world.now),
                lines: Vec::new(),
                proration_date: Some(world.now),
                with_pending: true,
            },
        )
    });
    cancel_now(world, id, "cancellation_requested");
    if let Some(invoice) = last {
        invoicing::finalize(world, &invoice)?;
        if world.copy(&invoice).text("status") == "open" {
            retry(world, &invoice);
        }
    }
    Ok(())
}

/// `POST …/pause`: the status becomes `paused`, nothing is invoiced.
pub(crate) fn pause(world: &mut World, id: &str, credits_unused: bool) {
    let subscription = world.copy(id);
    let before = visible(&subscription);
    if credits_unused {
        let items = subscription.rows("items").iter();
        let credits: Vec<_> = items
            .filter_map(|item| credit(world, &subscription, item, world.now))
            .collect();
        for line in &credits {
            invoicing::pend(
                world,
                subscription.text("customer"),
                subscription.text("currency"),
                line,
            );
        }
    }
    enter_pause(world, id, "pause_requested", &before);
}

/// Why Stripe may have paused a subscription.
pub(crate) const PAUSE_REASONS: [&str; 5] = [
    "final_payment_failure",
    "first_payment_failure",
    "pause_requested",
    "system",
    "trial_end_without_payment_method",
];

/// A subscription is paused from now on, for a reason.
pub(crate) fn enter_pause(world: &mut World, id: &str, reason: &str, before: &Value) {
    let now = world.now;
    world.edit(id, |subscription| {
        set(subscription, "status", "paused");
        set(subscription, "status_details", paused_details(now, reason));
    });
    world.emit_changed("customer.subscription.updated", id, before);
    world.emit("customer.subscription.paused", id);
}

/// `POST …/resume`: a paused subscription goes on once its resumption invoice allows it.
pub(crate) fn resume(
    world: &mut World,
    id: &str,
    keeps_anchor: bool,
    on_success_only: bool,
) -> Result<(), ApiError> {
    let subscription = world.copy(id);
    if subscription.text("status") != "paused" {
        return Err(ApiError::invalid(format!(
            "Only paused subscriptions can be resumed. This subscription has status `{}`.",
            subscription.text("status")
        )));
    }
    let probe = json!({
        "customer": subscription["customer"],
        "default_payment_method": subscription["default_payment_method"],
    });
    if paying::default_method(world, &probe).is_none() {
        return Err(no_method());
    }
    let now = world.now;
    let (old_start, old_end) = period(&subscription);
    if keeps_anchor && old_end > now {
        // The period that was paid for is not over: nothing to invoice.
        resumed(world, id);
        return Ok(());
    }
    if !keeps_anchor {
        world.edit(id, |s| set(s, "billing_cycle_anchor", now));
    }
    enter_period(world, id, now);
    let draft = bill_period(world, id, "subscription_update", old_start);
    world.edit(id, |s| {
        set(s, "_resumption", draft.clone());
        set(s, "_resumption_expires", now + 23 * HOUR);
        set(s, "_resumes_on_attempt", !on_success_only);
    });
    invoicing::finalize(world, &draft)?;
    if world.copy(&draft).text("status") == "open" {
        let attempt = Attempt::default();
        if let Outcome::Failed(error) = paying::attempt(world, &draft, &attempt)
            && on_success_only
        {
            return Err(error);
        }
    }
    Ok(())
}

/// A paused subscription is active again.
pub(crate) fn resumed(world: &mut World, id: &str) {
    leave_pause(world, id, "active");
}

/// With `resume_on_payment_attempt` a failed attempt resumes too, into `past_due`.
pub(crate) fn resumption_attempted(world: &mut World, id: &str) {
    if world.copy(id).flag("_resumes_on_attempt") {
        leave_pause(world, id, "past_due");
    }
}

fn leave_pause(world: &mut World, id: &str, status: &str) {
    let before = visible(&world.copy(id));
    world.edit(id, |subscription| {
        merge(
            subscription,
            json!({
                "status": status,
                "_resumption": null,
                "_resumption_expires": null,
            }),
        );
        unset(subscription, "status_details");
    });
    world.emit_changed("customer.subscription.updated", id, &before);
    world.emit("customer.subscription.resumed", id);
}
