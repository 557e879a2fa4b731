//! Payment methods: cards by number, and the ready-made ones such as `pm_card_visa`.

use serde_json::Value;

use super::{list_of, list_params, retrieve, set_texts};
use crate::cards;
use crate::engine::setting_up;
use crate::json::{Fields as _, set};
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
        ("GET", [id]) => retrieve(world, Kind::PaymentMethod, id, params),
        ("POST", [id]) => update(world, id, params),
        ("POST", [id, "attach"]) => attach(world, id, params),
        ("POST", [id, "detach"]) => detach(world, id, params),
        _ => return None,
    })
}

fn create(world: &mut World, params: &Params) -> Answer {
    params.only(&[
        "allow_redisplay",
        "billing_details",
        "card",
        "metadata",
        "type",
    ])?;
    params.require("type")?;
    params.one_of("type", &["card"])?;
    let card = params
        .child("card")
        .ok_or_else(|| ApiError::parameter_missing("card"))?;
    card.only(&["number", "exp_month", "exp_year", "cvc", "token"])?;
    let (number, expiry) = match card.text("token")? {
        Some(token) => {
            let name = token.replacen("tok_", "pm_card_", 1);
            let number = cards::number_of_token(&name);
            let number =
                number.ok_or_else(|| ApiError::no_such("token", &token, "card[token]", false))?;
            (number.to_owned(), (8, 2030))
        }
        None => {
            let number = card.require("number")?.replace([' ', '-'], "");
            let month = card.integer("exp_month")?;
            let year = card.integer("exp_year")?;
            let month = month.ok_or_else(|| ApiError::parameter_missing("card[exp_month]"))?;
            let year = year.ok_or_else(|| ApiError::parameter_missing("card[exp_year]"))?;
            (number, (month, year))
        }
    };
    let mut method = from_number(world, &number, expiry)?;
    if let Some(details) = params.child("billing_details") {
        details.only(&["address", "email", "name", "phone"])?;
        set_texts(
            &mut method["billing_details"],
            &details,
            &["email", "name", "phone"],
        )?;
    }
    params.merge_metadata(&mut method)?;
    let id = world.insert(Kind::PaymentMethod, method);
    Ok(world.copy(&id))
}

/// A new payment method for a card's number, not stored yet.
pub(crate) fn from_number(
    world: &World,
    number: &str,
    expiry: (i64, i64),
) -> Result<Value, ApiError> {
    let (month, year) = expiry;
    if !(1..=12).contains(&month) {
        return Err(ApiError::card(
            "invalid_expiry_month",
            None,
            "Your card's expiration month is invalid.",
        )
        .param("exp_month"));
    }
    let year = if year < 100 { year + 2000 } else { year };
    if !(2000..2100).contains(&year) {
        return Err(ApiError::card(
            "invalid_expiry_year",
            None,
            "Your card's expiration year is invalid.",
        )
        .param("exp_year"));
    }
    let id = world.new_id(Kind::PaymentMethod);
    cards::payment_method(&id, number, (month, year), world.now)
}

/// The payment method that an id or ready-made name stands for. A ready-made one is new each time.
pub(super) fn usable(world: &World, id: &str, param: &str) -> Result<Value, ApiError> {
    match cards::number_of_token(id) {
        Some(number) => from_number(world, number, (8, 2030)),
        None => world.find(Kind::PaymentMethod, id, param, false),
    }
}

/// Stores a payment method unless it is stored, and gives its id.
pub(super) fn stored(world: &mut World, method: Value) -> String {
    let id = method.text("id").to_owned();
    if world.kind_of(&id).is_none() {
        world.insert(Kind::PaymentMethod, method);
    }
    id
}

fn attach(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&["customer"])?;
    let customer = params.require("customer")?;
    world.find(Kind::Customer, &customer, "customer", false)?;
    let method = match cards::number_of_token(id) {
        Some(_) => usable(world, id, "payment_method")?,
        None => world.find(Kind::PaymentMethod, id, "payment_method", true)?,
    };
    check_free(&method, &customer)?;
    cards::attach(&method).map_err(cards::Decline::error)?;
    let id = stored(world, method);
    setting_up::attach(world, &id, &customer);
    Ok(world.copy(&id))
}

fn check_free(method: &Value, customer: &str) -> Result<(), ApiError> {
    if method.flag("_detached") {
        return Err(ApiError::invalid(
            "This PaymentMethod was previously used without being attached to a Customer or was detached from a Customer, and may not be used again.",
        ));
    }
    match method.link("customer") {
        Some(holder) if holder != customer => Err(ApiError::invalid(
            "The payment method you provided has already been attached to a customer.",
        )
        .code("resource_already_exists")),
        _ => Ok(()),
    }
}

/// A payment method leaves its customer, for good.
fn detach(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&[])?;
    let method = world.find(Kind::PaymentMethod, id, "payment_method", true)?;
    let Some(customer) = method.link("customer").map(str::to_owned) else {
        return Err(ApiError::invalid(
            "The payment method you provided is not attached to a customer so detachment is impossible.",
        ));
    };
    let is_own = |value: &Value| value.as_str() == Some(id);
    let subscriptions = world.ids(Kind::Subscription);
    for subscription in subscriptions {
        if is_own(&world.copy(&subscription)["default_payment_method"]) {
            world.update(&subscription, "customer.subscription.updated", |s| {
                set(s, "default_payment_method", Value::Null);
            });
        }
    }
    world.update(&customer, "customer.updated", |customer| {
        let settings = &mut customer["invoice_settings"];
        if is_own(&settings["default_payment_method"]) {
            settings["default_payment_method"] = Value::Null;
        }
    });
    let before = crate::json::visible(&method);
    world.edit(id, |method| {
        set(method, "customer", Value::Null);
        set(method, "_detached", true);
    });
    world.emit_changed("payment_method.detached", id, &before);
    Ok(world.copy(id))
}

fn update(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&["allow_redisplay", "billing_details", "card", "metadata"])?;
    let mut method = world.find(Kind::PaymentMethod, id, "payment_method", true)?;
    if let Some(details) = params.child("billing_details") {
        set_texts(
            &mut method["billing_details"],
            &details,
            &["email", "name", "phone"],
        )?;
    }
    if let Some(card) = params.child("card") {
        card.only(&["exp_month", "exp_year"])?;
        for key in ["exp_month", "exp_year"] {
            if let Some(value) = card.integer(key)? {
                method["card"][key] = value.into();
            }
        }
    }
    params.merge_metadata(&mut method)?;
    world.update(id, "payment_method.updated", |stored| *stored = method);
    Ok(world.copy(id))
}

fn list(world: &World, params: &Params) -> Answer {
    params.only(&list_params(&["customer", "type"]))?;
    let Some(customer) = params.text("customer")? else {
        return Err(ApiError::malformed(
            "customer",
            Some("parameter_missing"),
            "You must provide a customer.",
        ));
    };
    world.find(Kind::Customer, &customer, "customer", false)?;
    attached(world, "/v1/payment_methods", &customer, params)
}

fn attached(world: &World, url: &str, customer: &str, params: &Params) -> Answer {
    params.one_of("type", &["card"])?;
    list_of(world, Kind::PaymentMethod, url, params, |method| {
        method.link("customer") == Some(customer)
    })
}

pub(super) fn of_customer(world: &World, customer: &str, params: &Params) -> Answer {
    params.only(&list_params(&["type", "allow_redisplay"]))?;
    world.find(Kind::Customer, customer, "customer", true)?;
    let url = format!("/v1/customers/{customer}/payment_methods");
    attached(world, &url, customer, params)
}

pub(super) fn one_of_customer(world: &World, customer: &str, id: &str, params: &Params) -> Answer {
    params.only(&[])?;
    let method = world.find(Kind::PaymentMethod, id, "payment_method", true)?;
    if method.link("customer") == Some(customer) {
        return Ok(method);
    }
    Err(ApiError::no_such(
        "PaymentMethod",
        id,
        "payment_method",
        true,
    ))
}
