//! Charges, refunds and disputes.

use super::{list_of, list_params, retrieve, same};
use crate::json::{Fields as _, set};
use crate::objects;
use crate::state::{Kind, World};
use crate::wire::error::{Answer, ApiError};
use crate::wire::params::Params;

pub(super) fn charges(
    world: &mut World,
    method: &str,
    path: &[&str],
    params: &Params,
) -> Option<Answer> {
    Some(match (method, path) {
        ("GET", []) => list_charges(world, params),
        ("GET", [id]) => retrieve(world, Kind::Charge, id, params),
        _ => return None,
    })
}

fn list_charges(world: &World, params: &Params) -> Answer {
    params.only(&list_params(&["created", "customer", "payment_intent"]))?;
    let customer = params.text("customer")?;
    let intent = params.text("payment_intent")?;
    list_of(world, Kind::Charge, "/v1/charges", params, |charge| {
        same(customer.as_deref(), charge.link("customer"))
            && same(intent.as_deref(), charge.link("payment_intent"))
    })
}

pub(super) fn refunds(
    world: &mut World,
    method: &str,
    path: &[&str],
    params: &Params,
) -> Option<Answer> {
    Some(match (method, path) {
        ("POST", []) => refund(world, params),
        ("GET", []) => list_refunds(world, params),
        ("GET", [id]) => retrieve(world, Kind::Refund, id, params),
        _ => return None,
    })
}

fn refund(world: &mut World, params: &Params) -> Answer {
    params.only(&["amount", "charge", "metadata", "payment_intent", "reason"])?;
    let id = match (params.text("charge")?, params.text("payment_intent")?) {
        (Some(charge), _) => charge,
        (None, Some(intent)) => {
            let intent = world.find(Kind::PaymentIntent, &intent, "payment_intent", false)?;
            let charge = intent.link("latest_charge").map(str::to_owned);
            charge.ok_or_else(|| {
                ApiError::invalid("This PaymentIntent does not have a successful charge to refund.")
                    .code("payment_intent_unexpected_state")
            })?
        }
        (None, None) => {
            return Err(ApiError::malformed(
                "charge",
                Some("parameter_missing"),
                "One of the following params should be provided for this request: payment_intent or charge.",
            ));
        }
    };
    let charge = world.find(Kind::Charge, &id, "charge", false)?;
    if charge.text("status") != "succeeded" {
        return Err(ApiError::invalid(format!(
            "The charge {id} has not succeeded and cannot be refunded."
        )));
    }
    let reason = params.one_of(
        "reason",
        &["duplicate", "fraudulent", "requested_by_customer"],
    )?;
    let left = charge.number("amount") - charge.number("amount_refunded");
    if left == 0 {
        return Err(
            ApiError::invalid(format!("Charge {id} has already been refunded."))
                .code("charge_already_refunded"),
        );
    }
    if charge.flag("disputed") {
        return Err(ApiError::invalid(format!(
            "Charge {id} has been charged back; cannot issue a refund."
        ))
        .code("charge_disputed"));
    }
    let amount = params.integer("amount")?.unwrap_or(left);
    if amount < 1 || amount > left {
        return Err(ApiError::invalid(format!(
            "Refund amount ({amount}) is greater than unrefunded amount on charge ({left})"
        ))
        .param("amount"));
    }
    let refund_id = world.new_id(Kind::Refund);
    let mut refund = objects::refund(&refund_id, &charge, amount, reason, world.now);
    params.merge_metadata(&mut refund)?;
    world.insert(Kind::Refund, refund);
    world.emit("refund.created", &refund_id);
    world.update(&id, "charge.refunded", |charge| {
        let refunded = charge.number("amount_refunded") + amount;
        set(charge, "amount_refunded", refunded);
        set(charge, "refunded", refunded == charge.number("amount"));
    });
    Ok(world.copy(&refund_id))
}

fn list_refunds(world: &World, params: &Params) -> Answer {
    params.only(&list_params(&["charge", "created", "payment_intent"]))?;
    let charge = params.text("charge")?;
    let intent = params.text("payment_intent")?;
    list_of(world, Kind::Refund, "/v1/refunds", params, |refund| {
        same(charge.as_deref(), refund.link("charge"))
            && same(intent.as_deref(), refund.link("payment_intent"))
    })
}

pub(super) fn disputes(
    world: &mut World,
    method: &str,
    path: &[&str],
    params: &Params,
) -> Option<Answer> {
    Some(match (method, path) {
        ("GET", []) => list_disputes(world, params),
        ("GET", [id]) => retrieve(world, Kind::Dispute, id, params),
        ("POST", [id, "close"]) => close_dispute(world, id, params),
        _ => return None,
    })
}

fn list_disputes(world: &World, params: &Params) -> Answer {
    params.only(&list_params(&["charge", "created", "payment_intent"]))?;
    let charge = params.text("charge")?;
    let intent = params.text("payment_intent")?;
    list_of(world, Kind::Dispute, "/v1/disputes", params, |dispute| {
        same(charge.as_deref(), dispute.link("charge"))
            && same(intent.as_deref(), dispute.link("payment_intent"))
    })
}

/// Closing a dispute accepts it as lost.
fn close_dispute(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&[])?;
    let dispute = world.find(Kind::Dispute, id, "dispute", true)?;
    if dispute.text("status") != "needs_response" {
        return Err(ApiError::invalid("This dispute is already closed."));
    }
    world.edit(id, |dispute| set(dispute, "status", "lost"));
    world.emit("charge.dispute.closed", id);
    Ok(world.copy(id))
}
