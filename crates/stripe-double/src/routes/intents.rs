//! Intents: retrieved, listed, confirmed, canceled. The subscriptions' own are made by the engine.

use serde_json::{Value, json};

use super::{list_of, list_params, payment_methods, retrieve, same};
use crate::engine::invoicing::merge;
use crate::engine::paying::{self, Attempt, Outcome};
use crate::engine::setting_up;
use crate::json::{Fields as _, set};
use crate::objects;
use crate::state::{Kind, World};
use crate::wire::error::{Answer, ApiError};
use crate::wire::params::Params;

/// What a confirmation may say; where the holder returns to is shown, the rest changes nothing here.
const CONFIRM: [&str; 8] = [
    "payment_method",
    "return_url",
    "off_session",
    "setup_future_usage",
    "mandate_data",
    "use_stripe_sdk",
    "client_secret",
    "error_on_requires_action",
];

pub(super) fn setup_intents(
    world: &mut World,
    method: &str,
    path: &[&str],
    params: &Params,
) -> Option<Answer> {
    Some(match (method, path) {
        ("POST", []) => create_setup_intent(world, params),
        ("GET", []) => list(world, Kind::SetupIntent, "/v1/setup_intents", params),
        ("GET", [id]) => retrieve(world, Kind::SetupIntent, id, params),
        ("POST", [id, "confirm"]) => confirm_setup_intent(world, id, params),
        ("POST", [id, "cancel"]) => cancel(world, Kind::SetupIntent, id, params),
        _ => return None,
    })
}

pub(super) fn payment_intents(
    world: &mut World,
    method: &str,
    path: &[&str],
    params: &Params,
) -> Option<Answer> {
    Some(match (method, path) {
        ("GET", []) => list(world, Kind::PaymentIntent, "/v1/payment_intents", params),
        ("GET", [id]) => retrieve(world, Kind::PaymentIntent, id, params),
        ("POST", [id, "confirm"]) => confirm_payment_intent(world, id, params),
        ("POST", [id, "cancel"]) => cancel(world, Kind::PaymentIntent, id, params),
        _ => return None,
    })
}

fn list(world: &World, kind: Kind, url: &str, params: &Params) -> Answer {
    params.only(&list_params(&["created", "customer"]))?;
    let customer = params.text("customer")?;
    list_of(world, kind, url, params, |intent| {
        same(customer.as_deref(), intent.link("customer"))
    })
}

fn create_setup_intent(world: &mut World, params: &Params) -> Answer {
    params.only(&[
        "allowed_payment_method_types",
        "automatic_payment_methods",
        "confirm",
        "customer",
        "description",
        "metadata",
        "payment_method",
        "return_url",
        "usage",
    ])?;
    let customer = match params.text("customer")? {
        Some(customer) => world.find(Kind::Customer, &customer, "customer", false)?,
        None => json!({ "id": null }),
    };
    let method = match params.text("payment_method")? {
        Some(method) => Some(payment_methods::usable(world, &method, "payment_method")?),
        None => None,
    };
    let id = world.new_id(Kind::SetupIntent);
    let mut intent = objects::setup_intent(&id, &customer, world.now);
    if let Some(usage) = params.one_of("usage", &["off_session", "on_session"])? {
        set(&mut intent, "usage", usage);
    }
    if params.has("allowed_payment_method_types") {
        let allowed = params.texts("allowed_payment_method_types");
        set(&mut intent, "allowed_payment_method_types", allowed);
    }
    set(&mut intent, "description", params.text("description")?);
    params.merge_metadata(&mut intent)?;
    let method = method.map(|method| payment_methods::stored(world, method));
    if let Some(method) = &method {
        set(&mut intent, "payment_method", method.clone());
        set(&mut intent, "status", "requires_confirmation");
    }
    world.insert(Kind::SetupIntent, intent);
    world.emit("setup_intent.created", &id);
    if params.boolean("confirm")? == Some(true) {
        let method = method.ok_or_else(|| ApiError::parameter_missing("payment_method"))?;
        setting_up::confirm(world, &id, &method)?;
    }
    Ok(world.copy(&id))
}

/// The payment method of a confirmation: the request's, or the intent's own.
fn method_to_confirm(
    world: &mut World,
    intent: &Value,
    params: &Params,
) -> Result<String, ApiError> {
    let sent = params.text("payment_method")?;
    let Some(id) = sent.or_else(|| intent.link("payment_method").map(str::to_owned)) else {
        return Err(ApiError::invalid(
            "You cannot confirm this intent because it's missing a payment method. You can either update the intent with a payment method and then confirm it again, or confirm it again directly with a payment method.",
        )
        .code("parameter_missing")
        .param("payment_method"));
    };
    let method = payment_methods::usable(world, &id, "payment_method")?;
    let foreign = method.link("customer");
    if foreign.is_some() && foreign != intent.link("customer") {
        return Err(ApiError::invalid(
            "The provided PaymentMethod cannot be attached. To reuse a PaymentMethod, you must attach it to a Customer first.",
        ));
    }
    Ok(payment_methods::stored(world, method))
}

fn check_confirmable(intent: &Value, noun: &str) -> Result<(), ApiError> {
    let status = intent.text("status");
    if matches!(
        status,
        "requires_payment_method" | "requires_confirmation" | "requires_action"
    ) {
        return Ok(());
    }
    let code = format!(
        "{}_unexpected_state",
        noun.to_lowercase().replace("intent", "_intent")
    );
    Err(ApiError::invalid(format!(
        "You cannot confirm this {noun} because it has a status of {status}."
    ))
    .code(&code))
}

fn confirm_setup_intent(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&CONFIRM)?;
    let intent = world.find(Kind::SetupIntent, id, "intent", true)?;
    check_confirmable(&intent, "SetupIntent")?;
    let method = method_to_confirm(world, &intent, params)?;
    setting_up::confirm(world, id, &method)?;
    note_return(world, id, params)?;
    Ok(world.copy(id))
}

fn confirm_payment_intent(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&CONFIRM)?;
    let intent = world.find(Kind::PaymentIntent, id, "intent", true)?;
    check_confirmable(&intent, "PaymentIntent")?;
    let Some(invoice) = intent.link("_invoice").map(str::to_owned) else {
        return Err(ApiError::invalid(
            "This double confirms the intents of invoices alone.",
        ));
    };
    let method = method_to_confirm(world, &intent, params)?;
    let off_session = params.boolean("off_session")?.unwrap_or(false);
    // What pays a subscription's invoice is kept for the renewals (`setup_future_usage=off_session`).
    if let Some(customer) = intent.link("customer")
        && crate::cards::attach(&world.copy(&method)).is_ok()
    {
        let customer = customer.to_owned();
        setting_up::attach(world, &method, &customer);
    }
    let attempt = Attempt {
        automatic: false,
        off_session,
        method: Some(method),
    };
    match paying::attempt(world, &invoice, &attempt) {
        Outcome::Failed(error) => Err(error),
        Outcome::Paid | Outcome::ActionRequired => {
            note_return(world, id, params)?;
            Ok(world.copy(id))
        }
    }
}

fn note_return(world: &mut World, id: &str, params: &Params) -> Result<(), ApiError> {
    let Some(url) = params.text("return_url")? else {
        return Ok(());
    };
    world.edit(id, |intent| {
        if intent["next_action"].is_object() {
            intent["next_action"]["redirect_to_url"]["return_url"] = json!(url);
        }
    });
    Ok(())
}

fn cancel(world: &mut World, kind: Kind, id: &str, params: &Params) -> Answer {
    params.only(&["cancellation_reason"])?;
    let intent = world.find(kind, id, "intent", true)?;
    if intent.link("_invoice").is_some() {
        return Err(ApiError::invalid(
            "You cannot cancel this PaymentIntent because it belongs to an invoice. Void the invoice instead.",
        ));
    }
    if matches!(intent.text("status"), "succeeded" | "canceled") {
        return Err(ApiError::invalid(format!(
            "You cannot cancel this intent because it has a status of {}.",
            intent.text("status")
        )));
    }
    world.edit(id, |intent| {
        merge(intent, json!({ "status": "canceled", "next_action": null }));
    });
    world.emit(&format!("{}.canceled", kind.object()), id);
    Ok(world.copy(id))
}
