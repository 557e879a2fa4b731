//! Subscription schedules: made from a subscription, given phases, released or canceled.

use serde_json::{Value, json};

use super::subscription_params::usable_price;
use super::{list_of, list_params, retrieve, same};
use crate::calendar::Cadence;
use crate::engine::{changing, cycling, scheduling};
use crate::json::{Fields as _, set};
use crate::objects::plan;
use crate::state::{Kind, World};
use crate::wire::error::{Answer, ApiError};
use crate::wire::params::Params;

pub(super) fn route(
    world: &mut World,
    method: &str,
    path: &[&str],
    params: &Params,
) -> Option<Answer> {
    Some(match (method, path) {
        ("POST", []) => create(world, params),
        ("GET", []) => list(world, params),
        ("GET", [id]) => retrieve(world, Kind::Schedule, id, params),
        ("POST", [id]) => update(world, id, params),
        ("POST", [id, "release"]) => release(world, id, params),
        ("POST", [id, "cancel"]) => cancel(world, id, params),
        _ => return None,
    })
}

fn create(world: &mut World, params: &Params) -> Answer {
    params.only(&["from_subscription", "metadata"])?;
    let from = params.require("from_subscription")?;
    let subscription = world.find(Kind::Subscription, &from, "from_subscription", false)?;
    if subscription.link("schedule").is_some() {
        return Err(ApiError::invalid(
            "You cannot migrate a subscription that is already attached to a schedule.",
        )
        .param("from_subscription"));
    }
    if !matches!(
        subscription.text("status"),
        "active" | "trialing" | "past_due"
    ) {
        return Err(ApiError::invalid(format!(
            "You cannot migrate a subscription with status `{}` to a schedule.",
            subscription.text("status")
        ))
        .param("from_subscription"));
    }
    let id = world.new_id(Kind::Schedule);
    let (start, end) = changing::period(&subscription);
    let items = subscription.rows("items").iter().map(|item| {
        phase_item(
            &item["price"],
            item.number("quantity"),
            item["metadata"].clone(),
        )
    });
    let phase = phase(
        (start, end),
        items.collect(),
        subscription.text("currency"),
        "create_prorations",
        &json!({}),
    );
    let mut schedule = json!({
        "id": id,
        "object": "subscription_schedule",
        "application": null,
        "billing_mode": subscription["billing_mode"],
        "canceled_at": null,
        "completed_at": null,
        "created": world.now,
        "current_phase": { "end_date": end, "start_date": start },
        "customer": subscription["customer"],
        "customer_account": null,
        "default_settings": {
            "application_fee_percent": null,
            "automatic_tax": { "disabled_reason": null, "enabled": false, "liability": null },
            "billing_cycle_anchor": "automatic",
            "billing_thresholds": null,
            "collection_method": "charge_automatically",
            "default_payment_method": subscription["default_payment_method"],
            "description": null,
            "invoice_settings": {
                "account_tax_ids": null,
                "custom_fields": null,
                "days_until_due": null,
                "description": null,
                "footer": null,
                "issuer": { "type": "self" },
            },
            "on_behalf_of": null,
            "transfer_data": null,
        },
        "end_behavior": "release",
        "livemode": false,
        "metadata": {},
        "phases": [phase],
        "released_at": null,
        "released_subscription": null,
        "status": "active",
        "subscription": from,
        "test_clock": subscription["test_clock"],
    });
    params.merge_metadata(&mut schedule)?;
    world.insert(Kind::Schedule, schedule);
    world.emit("subscription_schedule.created", &id);
    world.update(&from, "customer.subscription.updated", |s| {
        set(s, "schedule", id.clone());
    });
    Ok(world.copy(&id))
}

fn phase_item(price: &Value, quantity: i64, metadata: Value) -> Value {
    json!({
        "billing_thresholds": null,
        "discounts": [],
        "metadata": metadata,
        "plan": plan(price)["id"],
        "price": price["id"],
        "quantity": quantity,
        "tax_rates": [],
    })
}

fn phase(
    dates: (i64, i64),
    items: Vec<Value>,
    currency: &str,
    proration: &str,
    metadata: &Value,
) -> Value {
    json!({
        "add_invoice_items": [],
        "application_fee_percent": null,
        "billing_cycle_anchor": null,
        "billing_thresholds": null,
        "collection_method": null,
        "currency": currency,
        "default_payment_method": null,
        "default_tax_rates": [],
        "description": null,
        "discounts": [],
        "end_date": dates.1,
        "invoice_settings": null,
        "items": items,
        "metadata": metadata,
        "on_behalf_of": null,
        "proration_behavior": proration,
        "start_date": dates.0,
        "transfer_data": null,
        "trial_end": null,
    })
}

fn update(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&["end_behavior", "metadata", "phases", "proration_behavior"])?;
    let mut schedule = world.find(Kind::Schedule, id, "schedule", true)?;
    check_live(&schedule)?;
    if let Some(behavior) = params.one_of("end_behavior", &["cancel", "release"])? {
        set(&mut schedule, "end_behavior", behavior);
    }
    params.merge_metadata(&mut schedule)?;
    let rows = params.children("phases");
    if !rows.is_empty() {
        let phases = phases(world, &schedule, &rows)?;
        let now = world.now;
        set(&mut schedule, "phases", phases);
        let Some(current) = scheduling::phase_at(&schedule, now) else {
            return Err(ApiError::invalid(
                "The subscription schedule update must include the current phase.",
            )
            .param("phases"));
        };
        schedule["current_phase"] =
            json!({ "end_date": current["end_date"], "start_date": current["start_date"] });
        world.update(id, "subscription_schedule.updated", |s| *s = schedule);
        let subscription = world.copy(id).text("subscription").to_owned();
        scheduling::enter(world, &subscription, &current);
        return Ok(world.copy(id));
    }
    world.update(id, "subscription_schedule.updated", |s| *s = schedule);
    Ok(world.copy(id))
}

fn check_live(schedule: &Value) -> Result<(), ApiError> {
    match schedule.text("status") {
        "active" | "not_started" => Ok(()),
        status => Err(ApiError::invalid(format!(
            "You cannot change a subscription schedule that is currently in the `{status}` status. It must be in `active` or `not_started` status."
        ))),
    }
}

/// The phases of an update; each begins where the one before ends.
fn phases(world: &World, schedule: &Value, rows: &[Params]) -> Result<Vec<Value>, ApiError> {
    let mut phases = Vec::new();
    let first = schedule.rows("phases").first();
    let mut begins = first.map_or(world.now, |phase| phase.number("start_date"));
    for row in rows {
        row.only(&[
            "collection_method",
            "currency",
            "default_payment_method",
            "duration",
            "end_date",
            "items",
            "metadata",
            "proration_behavior",
            "start_date",
            "trial",
            "trial_end",
        ])?;
        let start = match row.text("start_date")?.as_deref() {
            Some("now") => world.now,
            Some(_) => row.integer("start_date")?.unwrap_or(begins),
            None => begins,
        };
        if !phases.is_empty() && start != begins {
            return Err(ApiError::invalid(
                "The phases of a subscription schedule must follow each other without a gap.",
            )
            .param(&row.name("start_date")));
        }
        let mut items = Vec::new();
        for item in row.children("items") {
            item.only(&["metadata", "price", "quantity"])?;
            let price = usable_price(world, &item.require("price")?, &item.name("price"))?;
            let mut holder = json!({ "metadata": {} });
            item.merge_metadata(&mut holder)?;
            let quantity = item.integer("quantity")?.unwrap_or(1);
            items.push((price, quantity, holder["metadata"].clone()));
        }
        let Some((price, _, _)) = items.first() else {
            return Err(ApiError::parameter_missing(&row.name("items")));
        };
        let end = phase_end(row, start, price)?;
        if end <= start {
            return Err(
                ApiError::invalid("A phase must end after it starts.").param(&row.name("end_date"))
            );
        }
        let trial_end = phase_trial(row, start, end)?;
        let currency = price.text("currency").to_owned();
        let proration = row
            .one_of("proration_behavior", &changing::Proration::NAMES)?
            .unwrap_or_else(|| "create_prorations".to_owned());
        let mut holder = json!({ "metadata": {} });
        row.merge_metadata(&mut holder)?;
        let items = items
            .iter()
            .map(|(price, quantity, metadata)| phase_item(price, *quantity, metadata.clone()));
        let mut phase = phase(
            (start, end),
            items.collect(),
            &currency,
            &proration,
            &holder["metadata"],
        );
        set(&mut phase, "trial_end", trial_end);
        phases.push(phase);
        begins = end;
    }
    Ok(phases)
}

/// When the trial within a phase ends: with the phase, or at a date within it.
fn phase_trial(row: &Params, start: i64, end: i64) -> Result<Option<i64>, ApiError> {
    let whole = row.boolean("trial")? == Some(true);
    let Some(at) = row.integer("trial_end")? else {
        return Ok(whole.then_some(end));
    };
    if whole {
        return Err(ApiError::malformed(
            &row.name("trial_end"),
            Some("parameters_exclusive"),
            "You may only specify one of these parameters: trial, trial_end.",
        ));
    }
    if at <= start || at >= end {
        return Err(ApiError::invalid(
            "A phase's trial must end after it starts and before it ends.",
        )
        .param(&row.name("trial_end")));
    }
    Ok(Some(at))
}

/// Where a phase ends: at a date, after a duration, or after one period of its first price.
fn phase_end(row: &Params, start: i64, price: &Value) -> Result<i64, ApiError> {
    if let Some(end) = row.integer("end_date")? {
        return Ok(end);
    }
    let cadence = match row.child("duration") {
        Some(duration) => {
            duration.only(&["interval", "interval_count"])?;
            let interval = duration.require("interval")?;
            let count = duration.integer("interval_count")?.unwrap_or(1);
            Cadence::new(&interval, count)
        }
        None => Cadence::of_price(price),
    };
    let cadence = cadence
        .ok_or_else(|| ApiError::malformed(&row.name("duration"), None, "Invalid interval"))?;
    Ok(cadence.nth(start, 1))
}

fn list(world: &World, params: &Params) -> Answer {
    params.only(&list_params(&["created", "customer"]))?;
    let customer = params.text("customer")?;
    list_of(
        world,
        Kind::Schedule,
        "/v1/subscription_schedules",
        params,
        |schedule| same(customer.as_deref(), schedule.link("customer")),
    )
}

fn release(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&["preserve_cancel_date"])?;
    let schedule = world.find(Kind::Schedule, id, "schedule", true)?;
    check_live(&schedule)?;
    scheduling::release(world, id);
    Ok(world.copy(id))
}

/// Canceling a schedule cancels its subscription too.
fn cancel(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&["invoice_now", "prorate"])?;
    let schedule = world.find(Kind::Schedule, id, "schedule", true)?;
    check_live(&schedule)?;
    let subscription = schedule.text("subscription").to_owned();
    let invoice_now = params.boolean("invoice_now")?.unwrap_or(true);
    let prorate = params.boolean("prorate")?.unwrap_or(true);
    cycling::cancel_by_request(world, &subscription, prorate, invoice_now)?;
    Ok(world.copy(id))
}
