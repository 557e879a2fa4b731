//! What the fate of an invoice means for its subscription.

use serde_json::{Value, json};

use super::invoicing::{merge, subscription_of};
use super::{changing, cycling};
use crate::config::FinalAction;
use crate::json::{Fields as _, set};
use crate::state::World;

/// The subscription of an invoice, if it has one.
fn subscription(world: &World, invoice: &str) -> Option<Value> {
    let invoice = world.get(invoice)?;
    subscription_of(invoice).map(|id| world.copy(id))
}

fn is_latest(subscription: &Value, invoice: &str) -> bool {
    subscription.link("latest_invoice") == Some(invoice)
}

/// An invoice is paid.
pub(crate) fn paid(world: &mut World, invoice: &str) {
    let Some(subscription) = subscription(world, invoice) else {
        return;
    };
    let id = subscription.text("id").to_owned();
    if subscription["pending_update"].is_object()
        && subscription.link("_pending_invoice") == Some(invoice)
    {
        changing::apply_pending(world, &id);
        return;
    }
    match subscription.text("status") {
        "incomplete" => activate(world, &id),
        "past_due" | "unpaid" if is_latest(&subscription, invoice) => activate(world, &id),
        "paused" if subscription.link("_resumption") == Some(invoice) => {
            cycling::resumed(world, &id);
        }
        _ => {}
    }
}

fn activate(world: &mut World, id: &str) {
    let now = world.now;
    world.update(id, "customer.subscription.updated", |subscription| {
        let in_trial = subscription.time("trial_end").is_some_and(|end| end > now);
        let status = if in_trial { "trialing" } else { "active" };
        set(subscription, "status", status);
    });
}

/// `payment_settings.save_default_payment_method = on_subscription`: what paid becomes the default.
pub(crate) fn save_method(world: &mut World, invoice: &str, method: &str) {
    let Some(subscription) = subscription(world, invoice) else {
        return;
    };
    let saves = subscription["payment_settings"].text("save_default_payment_method");
    if saves == "on_subscription" && subscription["default_payment_method"].is_null() {
        let id = subscription.text("id").to_owned();
        world.edit(&id, |s| set(s, "default_payment_method", method));
    }
}

/// A payment of an invoice has failed; `exhausted` says that there will be no further attempt.
pub(crate) fn failed(world: &mut World, invoice: &str, exhausted: bool) {
    let Some(subscription) = subscription(world, invoice) else {
        return;
    };
    let id = subscription.text("id").to_owned();
    let waits_for_update = subscription.link("_pending_invoice") == Some(invoice);
    if !is_latest(&subscription, invoice) || waits_for_update {
        return;
    }
    match subscription.text("status") {
        "active" | "trialing" => {
            world.update(&id, "customer.subscription.updated", |subscription| {
                set(subscription, "status", "past_due");
            });
        }
        "paused" if subscription.link("_resumption") == Some(invoice) => {
            cycling::resumption_attempted(world, &id);
        }
        _ => {}
    }
    if exhausted {
        give_up(world, &id);
    }
}

/// The last retry has failed.
fn give_up(world: &mut World, id: &str) {
    if world.copy(id).text("status") != "past_due" {
        return;
    }
    match world.account.final_action {
        FinalAction::PastDue => {}
        FinalAction::Unpaid => {
            world.update(id, "customer.subscription.updated", |subscription| {
                set(subscription, "status", "unpaid");
            });
        }
        FinalAction::Cancel => cycling::cancel_now(world, id, "payment_failed"),
    }
}

/// An invoice is void or bad debt.
pub(crate) fn closed(world: &mut World, invoice: &str) {
    let Some(subscription) = subscription(world, invoice) else {
        return;
    };
    let id = subscription.text("id").to_owned();
    if subscription["pending_update"].is_object()
        && subscription.link("_pending_invoice") == Some(invoice)
    {
        changing::drop_pending(world, &id);
        return;
    }
    if !is_latest(&subscription, invoice) {
        return;
    }
    let is_void = world.copy(invoice).text("status") == "void";
    match subscription.text("status") {
        "incomplete" if is_void => expire(world, &id),
        "past_due" | "unpaid" => activate(world, &id),
        "paused" if !is_void && subscription.link("_resumption") == Some(invoice) => {
            cycling::resumed(world, &id);
        }
        _ => {}
    }
}

/// An incomplete subscription has had its time.
pub(crate) fn expire(world: &mut World, id: &str) {
    let now = world.now;
    world.update(id, "customer.subscription.updated", |subscription| {
        merge(
            subscription,
            json!({ "status": "incomplete_expired", "ended_at": now, "canceled_at": now }),
        );
    });
}
