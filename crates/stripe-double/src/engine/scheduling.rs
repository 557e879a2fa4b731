//! Schedules: phases that a subscription enters one after the other.

use serde_json::{Value, json};

use super::changing::{self, Change, ItemChange, Proration};
use super::cycling;
use super::invoicing::merge;
use crate::json::{Fields as _, set, visible};
use crate::state::{Kind, World};

/// The phase that holds at a point in time.
pub(crate) fn phase_at(schedule: &Value, at: i64) -> Option<Value> {
    let mut phases = schedule.rows("phases").iter();
    let current =
        phases.find(|phase| phase.number("start_date") <= at && at < phase.number("end_date"));
    current.cloned()
}

/// The current phase has ended: the next one begins, or the schedule does what its end asks for.
pub(crate) fn advance(world: &mut World, id: &str) {
    let schedule = world.copy(id);
    let subscription = schedule.text("subscription").to_owned();
    if schedule.text("status") != "active" {
        return;
    }
    let Some(next) = phase_at(&schedule, world.now) else {
        let last = schedule.rows("phases").last();
        if last.is_some_and(|phase| phase.number("end_date") > world.now) {
            return;
        }
        if schedule.text("end_behavior") == "cancel" {
            end(world, id, "completed");
            world.edit(&subscription, |s| set(s, "schedule", Value::Null));
            cycling::cancel_now(world, &subscription, "");
        } else {
            release(world, id);
        }
        return;
    };
    let current = json!({ "start_date": next["start_date"], "end_date": next["end_date"] });
    if schedule["current_phase"] == current {
        return;
    }
    world.update(id, "subscription_schedule.updated", |schedule| {
        set(schedule, "current_phase", current);
    });
    enter(world, &subscription, &next);
}

/// Gives a subscription what a phase says.
pub(crate) fn enter(world: &mut World, subscription_id: &str, phase: &Value) {
    let subscription = world.copy(subscription_id);
    let before = visible(&subscription);
    let old: Vec<_> = subscription.rows("items").to_vec();
    let wanted = phase.rows("items");
    // Items are paired in order: the first item of a phase replaces the first of the subscription.
    let mut items: Vec<_> = wanted
        .iter()
        .enumerate()
        .map(|(at, item)| ItemChange {
            id: old.get(at).map(|old| old.text("id").to_owned()),
            price: Some(world.copy(item.text("price"))),
            quantity: Some(item.number("quantity")),
            deleted: false,
        })
        .collect();
    items.extend(old.iter().skip(wanted.len()).map(|old| ItemChange {
        id: Some(old.text("id").to_owned()),
        deleted: true,
        ..ItemChange::default()
    }));
    let differs = items.iter().zip(&old).any(|(new, old)| {
        new.deleted
            || new.price.as_ref().map(|price| &price["id"]) != Some(&old["price"]["id"])
            || new.quantity != Some(old.number("quantity"))
    });
    let (_, period_end) = changing::period(&subscription);
    let now = world.now;
    // A phase may begin with a trial, which costs nothing until it ends.
    let trial_end = phase.time("trial_end").filter(|at| *at > now);
    let begins_trial = trial_end.is_some() && subscription.time("trial_end") != trial_end;
    if differs || items.len() != old.len() || begins_trial {
        let at_boundary = now >= period_end;
        let change = Change {
            items,
            // Where a period ends with the phase, nothing is unused.
            proration: if at_boundary {
                Proration::None
            } else {
                Proration::named(phase.link("proration_behavior"))
            },
            date: now.min(period_end),
            anchor_now: false,
            trial_end,
        };
        match changing::apply(world, subscription_id, &change) {
            Ok(Some(draft)) => cycling::finalize_later(world, &draft),
            Ok(None) => {}
            Err(error) => tracing::error!(error = ?error.fields, "a phase could not be entered"),
        }
    }
    world.edit(subscription_id, |subscription| {
        if let Value::Object(fields) = &phase["metadata"] {
            for (key, value) in fields {
                subscription["metadata"][key] = value.clone();
            }
        }
    });
    if visible(&world.copy(subscription_id)) != before {
        world.emit_changed("customer.subscription.updated", subscription_id, &before);
    }
}

/// The schedule lets its subscription go on as it is.
pub(crate) fn release(world: &mut World, id: &str) {
    let schedule = world.copy(id);
    let subscription = schedule.text("subscription").to_owned();
    let now = world.now;
    world.edit(id, |schedule| {
        merge(
            schedule,
            json!({
                "status": "released",
                "released_at": now,
                "released_subscription": subscription,
                "subscription": null,
                "current_phase": null,
            }),
        );
    });
    world.emit("subscription_schedule.released", id);
    world.update(&subscription, "customer.subscription.updated", |s| {
        set(s, "schedule", Value::Null);
    });
}

/// The schedule ends as `canceled` or `completed`.
pub(crate) fn end(world: &mut World, id: &str, status: &str) {
    let now = world.now;
    if world.kind_of(id) != Some(Kind::Schedule) || world.copy(id).text("status") != "active" {
        return;
    }
    world.edit(id, |schedule| {
        set(schedule, "status", status);
        set(schedule, "current_phase", Value::Null);
        let field = if status == "canceled" {
            "canceled_at"
        } else {
            "completed_at"
        };
        set(schedule, field, now);
    });
    world.emit(&format!("subscription_schedule.{status}"), id);
}
