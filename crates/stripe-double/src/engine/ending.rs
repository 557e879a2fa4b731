//! A subscription is to end with its period, at a date, or not any more.

use serde_json::{Value, json};

use super::changing::period;
use super::invoicing::merge;
use crate::json::Fields as _;
use crate::state::World;

/// Lets a subscription end with its period, or not.
pub(crate) fn set_cancel_at_period_end(world: &mut World, id: &str, at_end: bool) {
    let (_, end) = period(&world.copy(id));
    let now = world.now;
    world.edit(id, |subscription| {
        if !at_end {
            // A date that was set by itself is cleared by itself: `cancel_at=`.
            if subscription.flag("cancel_at_period_end") {
                uncancelable(subscription);
            }
        } else if !subscription.flag("cancel_at_period_end") {
            merge(
                subscription,
                json!({ "cancel_at_period_end": true, "cancel_at": end, "canceled_at": now }),
            );
            subscription["cancellation_details"]["reason"] = json!("cancellation_requested");
        }
    });
}

/// Lets a subscription end at a date, which says nothing of its period.
pub(crate) fn set_cancel_at(world: &mut World, id: &str, at: i64) {
    let now = world.now;
    world.edit(id, |subscription| {
        merge(
            subscription,
            json!({ "cancel_at": at, "canceled_at": now, "cancel_at_period_end": false }),
        );
        subscription["cancellation_details"]["reason"] = json!("cancellation_requested");
    });
}

/// Whether a subscription is billed flexibly: then the portal ends it by `cancel_at`
/// (<https://docs.stripe.com/billing/subscriptions/billing-mode>).
pub(crate) fn is_flexible(subscription: &Value) -> bool {
    subscription["billing_mode"].text("type") == "flexible"
}

/// Takes a planned cancellation back.
pub(crate) fn uncancelable(subscription: &mut Value) {
    if !subscription.flag("cancel_at_period_end") && subscription["cancel_at"].is_null() {
        return;
    }
    merge(
        subscription,
        json!({ "cancel_at_period_end": false, "cancel_at": null, "canceled_at": null }),
    );
    subscription["cancellation_details"] =
        json!({ "comment": null, "feedback": null, "feedback_option": null, "reason": null });
}
