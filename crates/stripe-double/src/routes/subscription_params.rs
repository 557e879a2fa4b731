//! The parameters of subscriptions, which previews and Checkout share.

use serde_json::{Value, json};

use crate::calendar::DAY;
use crate::engine::changing::ItemChange;
use crate::engine::subscribing::{NewSubscription, PaymentBehavior};
use crate::json::Fields as _;
use crate::state::{Kind, World};
use crate::wire::error::ApiError;
use crate::wire::params::Params;

/// What a creation knows.
pub(super) const CREATE: [&str; 20] = [
    "automatic_tax",
    "billing_cycle_anchor",
    "billing_mode",
    "cancel_at",
    "cancel_at_period_end",
    "collection_method",
    "currency",
    "customer",
    "days_until_due",
    "default_payment_method",
    "description",
    "items",
    "metadata",
    "off_session",
    "payment_behavior",
    "payment_settings",
    "proration_behavior",
    "trial_end",
    "trial_period_days",
    "trial_settings",
];

/// A price that may be subscribed to: active and recurring.
pub(super) fn usable_price(world: &World, id: &str, param: &str) -> Result<Value, ApiError> {
    let price = world.find(Kind::Price, id, param, false)?;
    if !price.flag("active") {
        return Err(ApiError::invalid(
            "The price specified is inactive. This field only accepts active prices.",
        )
        .param(param));
    }
    Ok(price)
}

/// The items of a new subscription.
pub(super) fn new_items(
    world: &World,
    rows: &[Params],
) -> Result<Vec<(Value, i64, Value)>, ApiError> {
    let item = |row: &Params| {
        row.only(&["price", "quantity", "metadata", "id", "deleted"])?;
        let id = row.require("price")?;
        let price = usable_price(world, &id, &row.name("price"))?;
        let mut holder = json!({ "metadata": {} });
        row.merge_metadata(&mut holder)?;
        Ok((
            price,
            quantity(row)?.unwrap_or(1),
            holder["metadata"].clone(),
        ))
    };
    rows.iter().map(item).collect()
}

fn quantity(row: &Params) -> Result<Option<i64>, ApiError> {
    match row.integer("quantity")? {
        Some(quantity) if quantity < 0 => Err(ApiError::malformed(
            &row.name("quantity"),
            Some("parameter_invalid_integer"),
            "This value must be greater than or equal to 0.",
        )),
        other => Ok(other),
    }
}

/// The changes of a subscription's items.
pub(super) fn item_changes(world: &World, rows: &[Params]) -> Result<Vec<ItemChange>, ApiError> {
    let change = |row: &Params| {
        row.only(&[
            "id",
            "price",
            "quantity",
            "deleted",
            "metadata",
            "clear_usage",
        ])?;
        let price = match row.text("price")? {
            Some(id) => Some(usable_price(world, &id, &row.name("price"))?),
            None => None,
        };
        Ok(ItemChange {
            id: row.text("id")?,
            price,
            quantity: quantity(row)?,
            deleted: row.boolean("deleted")?.unwrap_or(false),
        })
    };
    rows.iter().map(change).collect()
}

/// When a trial ends: a point in time, or `now`.
pub(super) fn trial_end(world: &World, params: &Params) -> Result<Option<i64>, ApiError> {
    if params.text("trial_end")?.as_deref() == Some("now") {
        return Ok(Some(world.now));
    }
    let Some(end) = params.integer("trial_end")? else {
        return Ok(None);
    };
    if end <= world.now {
        return Err(ApiError::invalid(
            "Invalid timestamp: must be an integer Unix timestamp in the future.",
        )
        .param(&params.name("trial_end")));
    }
    Ok(Some(end))
}

fn new_trial(world: &World, params: &Params) -> Result<Option<i64>, ApiError> {
    if let Some(days) = params.integer("trial_period_days")? {
        if params.has("trial_end") {
            return Err(ApiError::malformed(
                "trial_end",
                Some("parameters_exclusive"),
                "You may only specify one of these parameters: trial_end, trial_period_days.",
            ));
        }
        if !(1..=730).contains(&days) {
            return Err(ApiError::malformed(
                "trial_period_days",
                Some("parameter_invalid_integer"),
                "Trial period days must be between 1 and 730.",
            ));
        }
        return Ok(Some(world.now + days * DAY));
    }
    Ok(trial_end(world, params)?.filter(|end| *end > world.now))
}

/// The settings that are shown as they were sent.
pub(super) fn settings(params: &Params, current: &Value) -> Result<Value, ApiError> {
    let mut fields = json!({ "metadata": current["metadata"] });
    if fields["metadata"].is_null() {
        fields["metadata"] = json!({});
    }
    params.merge_metadata(&mut fields)?;
    if let Some(description) = params.nullable("description")? {
        fields["description"] = description;
    }
    if let Some(method) = params.one_of(
        "collection_method",
        &["charge_automatically", "send_invoice"],
    )? {
        fields["collection_method"] = json!(method);
        if method == "send_invoice" {
            let days = params.integer("days_until_due")?;
            let days = days.or_else(|| current.time("days_until_due"));
            fields["days_until_due"] =
                json!(days.ok_or_else(|| ApiError::parameter_missing("days_until_due"))?);
        }
    }
    if let Some(payment) = params.child("payment_settings") {
        payment.only(&[
            "payment_method_options",
            "payment_method_types",
            "save_default_payment_method",
        ])?;
        let mut settings = current["payment_settings"].clone();
        if settings.is_null() {
            settings = json!({
                "payment_method_options": null,
                "payment_method_types": null,
                "save_default_payment_method": "off",
            });
        }
        if let Some(saves) =
            payment.one_of("save_default_payment_method", &["off", "on_subscription"])?
        {
            settings["save_default_payment_method"] = json!(saves);
        }
        if payment.has("payment_method_types") {
            settings["payment_method_types"] = json!(payment.texts("payment_method_types"));
        }
        fields["payment_settings"] = settings;
    }
    if let Some(trial) = params.child("trial_settings") {
        let behavior = trial.child("end_behavior").unwrap_or_default();
        behavior.only(&["missing_payment_method"])?;
        let missing = behavior.one_of(
            "missing_payment_method",
            &["cancel", "create_invoice", "pause"],
        )?;
        if let Some(missing) = missing {
            fields["trial_settings"] = json!({
                "end_behavior": {
                    "billing_cycle_anchor": null,
                    "missing_payment_method": missing,
                },
            });
        }
    }
    Ok(fields)
}

/// A new subscription, as the request describes it.
pub(super) fn new_subscription(
    world: &World,
    params: &Params,
) -> Result<NewSubscription, ApiError> {
    let customer = params.require("customer")?;
    let rows = params.children("items");
    if rows.is_empty() {
        return Err(ApiError::parameter_missing("items"));
    }
    let mut fields = settings(params, &Value::Null)?;
    if let Some(mode) = params.child("billing_mode") {
        let kind = mode.one_of("type", &["classic", "flexible"])?;
        if kind.as_deref() == Some("classic") {
            fields["billing_mode"] = json!({ "flexible": null, "type": "classic" });
        }
    }
    if let Some(at) = params.integer("cancel_at")? {
        fields["cancel_at"] = json!(at);
        fields["canceled_at"] = json!(world.now);
    }
    let behavior = params.one_of("payment_behavior", &PaymentBehavior::NAMES)?;
    if behavior.as_deref() == Some("pending_if_incomplete") {
        return Err(ApiError::malformed(
            "payment_behavior",
            None,
            "Invalid payment_behavior: pending_if_incomplete is allowed when updating a subscription only.",
        ));
    }
    let prorates = params
        .one_of("proration_behavior", &["create_prorations", "none"])?
        .as_deref()
        != Some("none");
    Ok(NewSubscription {
        customer,
        items: new_items(world, &rows)?,
        fields,
        default_method: params.text("default_payment_method")?,
        behavior: PaymentBehavior::named(behavior.as_deref()),
        off_session: params.boolean("off_session")?.unwrap_or(false),
        trial_end: new_trial(world, params)?,
        anchor: anchor(world, params)?,
        prorates,
        cancel_at_period_end: params.boolean("cancel_at_period_end")?.unwrap_or(false),
    })
}

fn anchor(world: &World, params: &Params) -> Result<Option<i64>, ApiError> {
    match params.integer("billing_cycle_anchor")? {
        Some(at) if at <= world.now => Err(ApiError::invalid(
            "billing_cycle_anchor must be a timestamp in the future.",
        )
        .param("billing_cycle_anchor")),
        other => Ok(other),
    }
}
