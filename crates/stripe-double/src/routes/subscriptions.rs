//! Subscriptions.

use serde_json::{Value, json};

use super::subscription_params::{self, CREATE, item_changes, new_subscription, settings};
use super::{list_params, retrieve, same};
use crate::engine::changing::{self, Change, Collection, Proration};
use crate::engine::ending::{set_cancel_at, set_cancel_at_period_end, uncancelable};
use crate::engine::subscribing::{self, PaymentBehavior};
use crate::engine::{cycling, invoicing};
use crate::json::{Fields as _, set, visible};
use crate::state::{Kind, World};
use crate::wire::error::{Answer, ApiError};
use crate::wire::list;
use crate::wire::params::Params;

pub(super) fn route(
    world: &mut World,
    method: &str,
    path: &[&str],
    params: &Params,
) -> Option<Answer> {
    Some(match (method, path) {
        ("POST", []) => create(world, params),
        ("GET", []) => list_subscriptions(world, params),
        ("GET", [id]) => retrieve(world, Kind::Subscription, id, params),
        ("POST", [id]) => update(world, id, params),
        ("DELETE", [id]) => cancel(world, id, params),
        ("POST", [id, "resume"]) => resume(world, id, params),
        ("POST", [id, "pause"]) => pause(world, id, params),
        _ => return None,
    })
}

fn create(world: &mut World, params: &Params) -> Answer {
    params.only(&CREATE)?;
    let new = new_subscription(world, params)?;
    let id = subscribing::subscribe(world, new)?;
    Ok(world.copy(&id))
}

fn list_subscriptions(world: &World, params: &Params) -> Answer {
    params.only(&list_params(&[
        "collection_method",
        "created",
        "current_period_end",
        "current_period_start",
        "customer",
        "price",
        "status",
        "test_clock",
    ]))?;
    let customer = params.text("customer")?;
    let price = params.text("price")?;
    let method = params.text("collection_method")?;
    let clock = params.text("test_clock")?;
    let status = params.one_of(
        "status",
        &[
            "active",
            "all",
            "canceled",
            "ended",
            "incomplete",
            "incomplete_expired",
            "past_due",
            "paused",
            "trialing",
            "unpaid",
        ],
    )?;
    super::known_customer(world, customer.as_deref())?;
    let mut rows = Vec::new();
    for subscription in world.all(Kind::Subscription).rev() {
        let own = subscription.text("status");
        // Without a filter those that have been canceled are left out.
        let wanted = match status.as_deref() {
            None => own != "canceled" && own != "incomplete_expired",
            Some("all") => true,
            Some("ended") => own == "canceled" || own == "incomplete_expired",
            Some(status) => own == status,
        };
        let priced = price.as_ref().is_none_or(|price| {
            let mut items = subscription.rows("items").iter();
            items.any(|item| item["price"].text("id") == price)
        });
        let by_clock = match (&clock, &customer) {
            (Some(clock), _) => subscription.link("test_clock") == Some(clock),
            (None, Some(_)) => true,
            (None, None) => subscription["test_clock"].is_null(),
        };
        let (start, end) = changing::period(subscription);
        if wanted
            && priced
            && by_clock
            && same(customer.as_deref(), subscription.link("customer"))
            && same(method.as_deref(), subscription.link("collection_method"))
            && list::in_range(params, "created", subscription.time("created"))?
            && list::in_range(params, "current_period_start", Some(start))?
            && list::in_range(params, "current_period_end", Some(end))?
        {
            rows.push(subscription);
        }
    }
    list::page(params, "/v1/subscriptions", rows)
}

const UPDATE: [&str; 18] = [
    "automatic_tax",
    "billing_cycle_anchor",
    "cancel_at",
    "cancel_at_period_end",
    "cancellation_details",
    "collection_method",
    "days_until_due",
    "default_payment_method",
    "description",
    "items",
    "metadata",
    "off_session",
    "pause_collection",
    "payment_behavior",
    "payment_settings",
    "proration_behavior",
    "proration_date",
    "trial_end",
];

fn update(world: &mut World, id: &str, params: &Params) -> Answer {
    let mut known = UPDATE.to_vec();
    known.push("trial_settings");
    params.only(&known)?;
    let subscription = world.find(Kind::Subscription, id, "id", true)?;
    check_changeable(&subscription, params)?;
    let ends = params.boolean("cancel_at_period_end")?;
    let waiting = subscription["pending_update"]["cancel_at_period_end"].as_bool();
    if waiting.is_some_and(|waiting| ends.is_some_and(|ends| ends != waiting)) {
        // "If a subsequent update includes a conflicting value, Stripe expires the existing pending update."
        changing::expire_pending(world, id);
    }
    let subscription = world.copy(id);
    let saved = world.clone();
    match apply(world, id, &subscription, params, &saved) {
        Ok(()) => Ok(world.copy(id)),
        Err(error) if error.fields.contains_key("payment_intent") || error.status == 402 => {
            // A refused payment has already put back what it must.
            Err(error)
        }
        Err(error) => {
            *world = saved;
            Err(error)
        }
    }
}

/// A subscription that has ended takes metadata and the reason alone; an incomplete one little more.
fn check_changeable(subscription: &Value, params: &Params) -> Result<(), ApiError> {
    match subscription.text("status") {
        "canceled" | "incomplete_expired" => {
            params
                .only(&["cancellation_details", "metadata"])
                .map_err(|_| {
                    ApiError::invalid(
                        "A canceled subscription can only update its cancellation_details and metadata.",
                    )
                    .code("invalid_canceled_subscription_fields")
                })
        }
        "incomplete" if params.has("items") || params.has("trial_end") => Err(ApiError::invalid(
            "You cannot update a subscription in `incomplete` status in a way that results in proration or invoicing.",
        )),
        _ if subscription["pending_update"].is_object() && params.has("items") => {
            Err(ApiError::invalid(
                "You cannot update a subscription that has a pending update in this way. Void its latest invoice first.",
            ))
        }
        _ => Ok(()),
    }
}

fn apply(
    world: &mut World,
    id: &str,
    subscription: &Value,
    params: &Params,
    saved: &World,
) -> Result<(), ApiError> {
    let behavior = params.one_of("payment_behavior", &PaymentBehavior::NAMES)?;
    let how = Collection {
        behavior: PaymentBehavior::named(behavior.as_deref()),
        off_session: params.boolean("off_session")?.unwrap_or(false),
        ends: params.boolean("cancel_at_period_end")?,
    };
    apply_settings(world, id, subscription, params)?;
    let change = change(world, params)?;
    if subscription.link("schedule").is_some() && change.is_some() {
        return Err(ApiError::invalid(
            "The subscription is managed by the subscription schedule, and updating its items directly is not allowed. Update or release the schedule instead.",
        ));
    }
    let draft = match change {
        Some(change) => changing::apply(world, id, &change)?,
        None => None,
    };
    changing::collect(world, id, draft.as_deref(), how, saved.clone())
}

fn apply_settings(
    world: &mut World,
    id: &str,
    subscription: &Value,
    params: &Params,
) -> Result<(), ApiError> {
    let fields = settings(params, subscription)?;
    world.edit(id, |s| invoicing::merge(s, fields));
    if let Some(method) = params.nullable("default_payment_method")? {
        if let Some(method) = method.as_str() {
            subscribing::check_method(world, subscription.text("customer"), method)?;
        }
        world.edit(id, |s| set(s, "default_payment_method", method));
    }
    if let Some(details) = params.child("cancellation_details") {
        details.only(&["comment", "feedback"])?;
        for key in ["comment", "feedback"] {
            if let Some(value) = details.nullable(key)? {
                world.edit(id, |s| s["cancellation_details"][key] = value);
            }
        }
    }
    if params.unset("pause_collection") {
        world.edit(id, |s| set(s, "pause_collection", Value::Null));
    } else if let Some(pause) = params.child("pause_collection") {
        pause.only(&["behavior", "resumes_at"])?;
        pause.require("behavior")?;
        let behavior =
            pause.one_of("behavior", &["keep_as_draft", "mark_uncollectible", "void"])?;
        let resumes_at = pause.integer("resumes_at")?;
        let paused = json!({ "behavior": behavior, "resumes_at": resumes_at });
        world.edit(id, |s| set(s, "pause_collection", paused));
    }
    apply_cancellation(world, id, params)
}

fn apply_cancellation(world: &mut World, id: &str, params: &Params) -> Result<(), ApiError> {
    if let Some(at_end) = params.boolean("cancel_at_period_end")? {
        if params.has("cancel_at") {
            return Err(ApiError::malformed(
                "cancel_at",
                Some("parameters_exclusive"),
                "You may only specify one of these parameters: cancel_at, cancel_at_period_end.",
            ));
        }
        set_cancel_at_period_end(world, id, at_end);
    }
    if params.unset("cancel_at") {
        world.edit(id, uncancelable);
    } else if let Some(at) = cancel_at(world, id, params)? {
        set_cancel_at(world, id, at);
    }
    Ok(())
}

/// `cancel_at`: a date in the future, or the end of the period that all items share.
pub(super) fn cancel_at(world: &World, id: &str, params: &Params) -> Result<Option<i64>, ApiError> {
    let word = params.text("cancel_at")?;
    if matches!(word.as_deref(), Some("min_period_end" | "max_period_end")) {
        let (_, end) = changing::period(&world.copy(id));
        return Ok(Some(end));
    }
    match params.integer("cancel_at")? {
        Some(at) if at <= world.now => Err(ApiError::invalid(
            "Invalid timestamp: must be an integer Unix timestamp in the future.",
        )
        .param("cancel_at")),
        other => Ok(other),
    }
}

/// What of an update touches items or cycle.
fn change(world: &World, params: &Params) -> Result<Option<Change>, ApiError> {
    let rows = params.children("items");
    let anchor = anchor(params)?;
    let trial_end = subscription_params::trial_end(world, params)?;
    let proration = params.one_of("proration_behavior", &Proration::NAMES)?;
    let date = params.integer("proration_date")?;
    if rows.is_empty() && !anchor && trial_end.is_none() {
        return Ok(None);
    }
    Ok(Some(Change {
        items: item_changes(world, &rows)?,
        proration: Proration::named(proration.as_deref()),
        date: date.unwrap_or(world.now),
        anchor_now: anchor,
        trial_end,
    }))
}

/// Whether `billing_cycle_anchor` asks for now; this version sends `{type: now}`, older ones the bare word.
pub(super) fn anchor(params: &Params) -> Result<bool, ApiError> {
    const NAMES: [&str; 2] = ["now", "unchanged"];
    let word = match params.child("billing_cycle_anchor") {
        Some(anchor) => anchor.one_of("type", &NAMES)?,
        None => params.one_of("billing_cycle_anchor", &NAMES)?,
    };
    Ok(word.as_deref() == Some("now"))
}

fn cancel(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&["cancellation_details", "invoice_now", "prorate"])?;
    let subscription = world.find(Kind::Subscription, id, "id", true)?;
    if matches!(
        subscription.text("status"),
        "canceled" | "incomplete_expired"
    ) {
        return Err(ApiError::no_such("subscription", id, "id", true));
    }
    if let Some(details) = params.child("cancellation_details") {
        for key in ["comment", "feedback"] {
            if let Some(value) = details.nullable(key)? {
                world.edit(id, |s| s["cancellation_details"][key] = value);
            }
        }
    }
    let prorate = params.boolean("prorate")?.unwrap_or(false);
    let invoice_now = params.boolean("invoice_now")?.unwrap_or(false);
    cycling::cancel_by_request(world, id, prorate, invoice_now)?;
    Ok(world.copy(id))
}

fn resume(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&[
        "billing_cycle_anchor",
        "payment_behavior",
        "proration_behavior",
        "proration_date",
    ])?;
    world.find(Kind::Subscription, id, "id", true)?;
    let behavior = params.one_of(
        "payment_behavior",
        &["resume_on_payment_attempt", "resume_on_payment_success"],
    )?;
    let keeps = params.has("billing_cycle_anchor") && !anchor(params)?;
    let on_success = behavior.as_deref() == Some("resume_on_payment_success");
    cycling::resume(world, id, keeps, on_success)?;
    Ok(world.copy(id))
}

fn pause(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&["bill_for", "invoicing_behavior", "type"])?;
    params.one_of("type", &["subscription"])?;
    params.one_of("invoicing_behavior", &["pending_invoice_item"])?;
    let subscription = world.find(Kind::Subscription, id, "id", true)?;
    if subscription.link("schedule").is_some() {
        return Err(ApiError::invalid(
            "You cannot pause a subscription that has a schedule.",
        ));
    }
    if !matches!(subscription.text("status"), "active" | "trialing") {
        return Err(ApiError::invalid(format!(
            "You cannot pause a subscription with status `{}`.",
            subscription.text("status")
        )));
    }
    let credits = match params.child("bill_for") {
        Some(bill_for) => {
            bill_for.only(&["unused_time_from"])?;
            let unused = bill_for.child("unused_time_from").unwrap_or_default();
            let from = unused.one_of("type", &["now", "none"])?;
            from.as_deref() == Some("now")
        }
        None => false,
    };
    cycling::pause(world, id, credits);
    Ok(visible(&world.copy(id)))
}
