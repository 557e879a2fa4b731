//! Cards are set up for later payments.

use serde_json::{Value, json};

use super::invoicing::merge;
use crate::cards::{self, Verdict};
use crate::json::{Fields as _, set, visible};
use crate::objects;
use crate::state::{Kind, World};
use crate::wire::error::ApiError;

/// A subscription that takes no payment now asks for a payment method to be set up, unless it has one that
/// needs nothing, or nobody is there.
pub(crate) fn for_subscription(world: &mut World, subscription_id: &str, off_session: bool) {
    if off_session {
        return;
    }
    let subscription = world.copy(subscription_id);
    let customer = world.copy(subscription.text("customer"));
    let probe = json!({
        "customer": subscription["customer"],
        "default_payment_method": subscription["default_payment_method"],
    });
    let method = super::paying::default_method(world, &probe);
    let id = world.new_id(Kind::SetupIntent);
    let mut intent = objects::setup_intent(&id, &customer, world.now);
    set(&mut intent, "_subscription", subscription_id);
    if let Some(method) = method {
        if cards::set_up(&world.copy(&method)) != Verdict::Authenticate {
            return;
        }
        let action = super::paying::next_action(world, &id);
        merge(
            &mut intent,
            json!({ "status": "requires_action", "payment_method": method, "next_action": action }),
        );
    }
    world.insert(Kind::SetupIntent, intent);
    world.emit("setup_intent.created", &id);
    if world.copy(&id).text("status") == "requires_action" {
        world.emit("setup_intent.requires_action", &id);
    }
    world.edit(subscription_id, |subscription| {
        set(subscription, "pending_setup_intent", id);
    });
}

/// Confirms an intent with a payment method.
pub(crate) fn confirm(world: &mut World, id: &str, method: &str) -> Result<(), ApiError> {
    match cards::set_up(&world.copy(method)) {
        Verdict::Pays { .. } => {
            succeed(world, id, method);
            Ok(())
        }
        Verdict::Authenticate => {
            let action = super::paying::next_action(world, id);
            world.edit(id, |intent| {
                merge(
                    intent,
                    json!({
                        "status": "requires_action",
                        "payment_method": method,
                        "next_action": action,
                    }),
                );
            });
            world.emit("setup_intent.requires_action", id);
            Ok(())
        }
        Verdict::Declined(why) => {
            let error = why
                .error()
                .with("payment_method", visible(&world.copy(method)));
            fail(world, id, Value::Object(error.fields.clone()));
            Err(error.with("setup_intent", visible(&world.copy(id))))
        }
    }
}

/// The holder has come back.
pub(crate) fn authenticated(world: &mut World, id: &str, succeeded: bool) {
    let method = world.copy(id).text("payment_method").to_owned();
    if succeeded {
        world.edit(&method, |method| set(method, "_set_up", true));
        succeed(world, id, &method);
        return;
    }
    let error = json!({
        "code": "setup_intent_authentication_failure",
        "message": "The latest attempt to set up the payment method has failed because authentication failed.",
        "payment_method": visible(&world.copy(&method)),
        "type": "invalid_request_error",
    });
    fail(world, id, error);
}

fn fail(world: &mut World, id: &str, error: Value) {
    world.edit(id, |intent| {
        merge(
            intent,
            json!({
                "status": "requires_payment_method",
                "payment_method": null,
                "next_action": null,
                "last_setup_error": error,
            }),
        );
    });
    world.emit("setup_intent.setup_failed", id);
}

fn succeed(world: &mut World, id: &str, method: &str) {
    world.edit(id, |intent| {
        merge(
            intent,
            json!({
                "status": "succeeded",
                "payment_method": method,
                "next_action": null,
                "last_setup_error": null,
            }),
        );
    });
    let intent = world.copy(id);
    if let Some(customer) = intent.link("customer") {
        let customer = customer.to_owned();
        attach(world, method, &customer);
    }
    world.emit("setup_intent.succeeded", id);
    if let Some(subscription) = intent.link("_subscription") {
        let subscription = subscription.to_owned();
        world.update(&subscription, "customer.subscription.updated", |s| {
            set(s, "pending_setup_intent", Value::Null);
            let saves = s["payment_settings"].text("save_default_payment_method");
            if saves == "on_subscription" && s["default_payment_method"].is_null() {
                set(s, "default_payment_method", method);
            }
        });
    }
}

/// Attaches a payment method to a customer, unless it is already.
pub(crate) fn attach(world: &mut World, method: &str, customer: &str) {
    if world.copy(method).link("customer") == Some(customer) {
        return;
    }
    let clock = world.copy(customer)["test_clock"].clone();
    world.edit(method, |method| {
        set(method, "customer", customer);
        set(method, "_test_clock", clock);
    });
    world.emit("payment_method.attached", method);
}
