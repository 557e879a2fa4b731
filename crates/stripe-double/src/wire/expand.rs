//! `expand[]`: references become the objects they name, and what an object holds back by default is computed.

use serde_json::{Value, json};

use super::error::ApiError;
use crate::json::{Fields as _, embedded_list, visible};
use crate::state::{Kind, World};

/// How many levels Stripe expands.
const MAX_DEPTH: usize = 4;

/// Expands an answer by each of `paths`.
pub(crate) fn expand(world: &World, answer: &mut Value, paths: &[String]) -> Result<(), ApiError> {
    for path in paths {
        let segments: Vec<_> = path.split('.').collect();
        let levels = segments.iter().filter(|segment| **segment != "data");
        if levels.count() > MAX_DEPTH {
            return Err(ApiError::invalid(format!(
                "You cannot expand more than {MAX_DEPTH} levels of a property. Property: {path}"
            )));
        }
        descend(world, answer, &segments).map_err(|()| {
            ApiError::invalid(format!("This property cannot be expanded ({path})."))
        })?;
    }
    Ok(())
}

fn descend(world: &World, value: &mut Value, path: &[&str]) -> Result<(), ()> {
    let Some((head, rest)) = path.split_first() else {
        return Ok(());
    };
    if *head == "data" && value.text("object") == "list" {
        let rows = value["data"].as_array_mut().ok_or(())?;
        return rows
            .iter_mut()
            .try_for_each(|row| descend(world, row, rest));
    }
    if value.get(*head).is_none() {
        let hidden = held_back(world, value, head).ok_or(())?;
        value[*head] = hidden;
    }
    let field = &mut value[*head];
    if let Some(id) = field.as_str() {
        let object = world.get(id).ok_or(())?;
        *field = visible(object);
    } else if let Some(references) = field.as_array_mut() {
        for reference in references.iter_mut() {
            if let Some(object) = reference.as_str().and_then(|id| world.get(id)) {
                *reference = visible(object);
            }
        }
    }
    match field {
        Value::Null => Ok(()),
        Value::Object(_) => descend(world, field, rest),
        Value::Array(_) if rest.is_empty() => Ok(()),
        Value::Array(rows) => rows
            .iter_mut()
            .try_for_each(|row| descend(world, row, rest)),
        _ => Err(()),
    }
}

/// The fields that are there only when asked for.
fn held_back(world: &World, value: &Value, key: &str) -> Option<Value> {
    let id = value.text("id");
    let list = |kind: Kind, link: &str, url: String| {
        let rows = world.all(kind).rev();
        let own = rows.filter(|row| row.link(link) == Some(id));
        embedded_list(own.map(visible).collect(), &url)
    };
    match (value.text("object"), key) {
        ("invoice", "payments") => Some(list(
            Kind::InvoicePayment,
            "invoice",
            format!("/v1/invoice_payments?invoice={id}"),
        )),
        ("invoice", "confirmation_secret") => Some(confirmation_secret(world, id)),
        ("customer", "subscriptions") => Some(list_live_subscriptions(world, id)),
        ("customer", "sources" | "tax_ids") => Some(embedded_list(
            Vec::new(),
            &format!("/v1/customers/{id}/{key}"),
        )),
        ("charge", "refunds") => Some(list(
            Kind::Refund,
            "charge",
            format!("/v1/charges/{id}/refunds"),
        )),
        ("checkout.session", "line_items") => {
            let rows = world.get(id)?.rows("_line_items").to_vec();
            Some(embedded_list(
                rows,
                &format!("/v1/checkout/sessions/{id}/line_items"),
            ))
        }
        _ => None,
    }
}

fn confirmation_secret(world: &World, invoice: &str) -> Value {
    let payments = world.all(Kind::InvoicePayment);
    let payment = payments
        .rev()
        .find(|payment| payment.link("invoice") == Some(invoice));
    let intent = payment
        .and_then(|payment| payment["payment"].link("payment_intent"))
        .and_then(|id| world.get(id));
    match intent {
        Some(intent) => json!({
            "client_secret": intent["client_secret"],
            "type": "payment_intent",
        }),
        None => Value::Null,
    }
}

fn list_live_subscriptions(world: &World, customer: &str) -> Value {
    let own = world.all(Kind::Subscription).rev().filter(|subscription| {
        subscription.link("customer") == Some(customer)
            && !matches!(
                subscription.text("status"),
                "canceled" | "incomplete_expired"
            )
    });
    embedded_list(
        own.map(visible).collect(),
        &format!("/v1/customers/{customer}/subscriptions"),
    )
}
