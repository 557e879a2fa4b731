//! Customers and their balance.

use serde_json::{Value, json};

use super::{list_of, list_params, same, set_texts};
use crate::cards;
use crate::engine::{cycling, invoicing, setting_up, subscribing};
use crate::json::{Fields as _, set};
use crate::state::{Kind, World, random_text};
use crate::wire::error::{Answer, ApiError};
use crate::wire::params::Params;

const FIELDS: [&str; 14] = [
    "address",
    "balance",
    "business_name",
    "description",
    "email",
    "individual_name",
    "invoice_prefix",
    "invoice_settings",
    "metadata",
    "name",
    "payment_method",
    "phone",
    "preferred_locales",
    "tax_exempt",
];

pub(super) fn route(
    world: &mut World,
    method: &str,
    path: &[&str],
    params: &Params,
) -> Option<Answer> {
    Some(match (method, path) {
        ("POST", []) => create(world, params),
        ("GET", []) => list(world, params),
        ("GET", ["search"]) => search(world, params),
        ("GET", [id]) => retrieve(world, id, params),
        ("POST", [id]) => update(world, id, params),
        ("DELETE", [id]) => delete(world, id, params),
        ("GET", [id, "payment_methods"]) => super::payment_methods::of_customer(world, id, params),
        ("GET", [id, "payment_methods", pm]) => {
            super::payment_methods::one_of_customer(world, id, pm, params)
        }
        ("GET", [id, "balance_transactions"]) => balance_transactions(world, id, params),
        ("POST", [id, "balance_transactions"]) => adjust_balance(world, id, params),
        _ => return None,
    })
}

pub(super) fn create(world: &mut World, params: &Params) -> Answer {
    let mut known = FIELDS.to_vec();
    known.push("test_clock");
    params.only(&known)?;
    let clock = match params.text("test_clock")? {
        Some(clock) => Some(world.find(Kind::TestClock, &clock, "test_clock", false)?),
        None => None,
    };
    let id = world.new_id(Kind::Customer);
    let mut customer = json!({
        "id": id,
        "object": "customer",
        "address": null,
        "balance": 0,
        "created": world.now,
        "currency": null,
        "default_source": null,
        "delinquent": false,
        "description": null,
        "discount": null,
        "email": null,
        "invoice_prefix": random_text(8).to_uppercase(),
        "invoice_settings": {
            "custom_fields": null,
            "default_payment_method": null,
            "footer": null,
            "rendering_options": null,
        },
        "livemode": false,
        "metadata": {},
        "name": null,
        "next_invoice_sequence": 1,
        "phone": null,
        "preferred_locales": [],
        "shipping": null,
        "tax_exempt": "none",
        "test_clock": clock.map(|clock| clock["id"].clone()),
        "_declines": [],
    });
    let method = params.text("payment_method")?;
    let own = match &method {
        Some(method) => Some(super::payment_methods::usable(
            world,
            method,
            "payment_method",
        )?),
        None => None,
    };
    apply(&mut customer, params)?;
    if let Some(method) = &own {
        cards::attach(method).map_err(cards::Decline::error)?;
    }
    world.insert(Kind::Customer, customer);
    world.emit("customer.created", &id);
    if let Some(method) = own {
        let method = super::payment_methods::stored(world, method);
        setting_up::attach(world, &method, &id);
    }
    set_default(world, &id, params)?;
    Ok(world.copy(&id))
}

fn apply(customer: &mut Value, params: &Params) -> Result<(), ApiError> {
    if let Some(email) = params.nullable("email")?
        && let Some(email) = email.as_str()
        && (email.len() > 512 || !email.contains('@'))
    {
        return Err(ApiError::malformed(
            "email",
            Some("email_invalid"),
            format!("Invalid email address: {email}"),
        ));
    }
    set_texts(
        customer,
        params,
        &[
            "business_name",
            "description",
            "email",
            "individual_name",
            "name",
            "phone",
        ],
    )?;
    if let Some(prefix) = params.text("invoice_prefix")? {
        set(customer, "invoice_prefix", prefix);
    }
    if let Some(exempt) = params.one_of("tax_exempt", &["none", "exempt", "reverse"])? {
        set(customer, "tax_exempt", exempt);
    }
    if params.unset("address") {
        set(customer, "address", Value::Null);
    } else if let Some(sent) = params.child("address") {
        let mut address = cards::address();
        set_texts(
            &mut address,
            &sent,
            &["city", "country", "line1", "line2", "postal_code", "state"],
        )?;
        set(customer, "address", address);
    }
    if params.has("preferred_locales") {
        set(
            customer,
            "preferred_locales",
            params.texts("preferred_locales"),
        );
    }
    if let Some(settings) = params.child("invoice_settings") {
        set_texts(&mut customer["invoice_settings"], &settings, &["footer"])?;
    }
    params.merge_metadata(customer)
}

/// The default payment method, and a balance that is set outright: both need the customer to exist.
fn set_default(world: &mut World, id: &str, params: &Params) -> Result<(), ApiError> {
    if let Some(settings) = params.child("invoice_settings") {
        settings.only(&["default_payment_method", "footer"])?;
        if let Some(method) = settings.nullable("default_payment_method")? {
            if let Some(method) = method.as_str() {
                subscribing::check_method(world, id, method)
                    .map_err(|error| error.param("invoice_settings[default_payment_method]"))?;
            }
            world.edit(id, |customer| {
                customer["invoice_settings"]["default_payment_method"] = method;
            });
        }
    }
    if let Some(balance) = params.integer("balance")? {
        world.edit(id, |customer| set(customer, "balance", balance));
    }
    Ok(())
}

fn retrieve(world: &World, id: &str, params: &Params) -> Answer {
    params.only(&[])?;
    match world.get(id) {
        Some(customer) if world.kind_of(id) == Some(Kind::Customer) => Ok(customer.clone()),
        _ => Err(ApiError::no_such("customer", id, "id", true)),
    }
}

fn update(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&FIELDS)?;
    let before = world.find(Kind::Customer, id, "id", true)?;
    let mut customer = before.clone();
    apply(&mut customer, params)?;
    let saved = world.clone();
    world.edit(id, |stored| *stored = customer);
    if let Err(error) = set_default(world, id, params) {
        *world = saved;
        return Err(error);
    }
    if crate::json::visible(&world.copy(id)) != crate::json::visible(&before) {
        world.emit_changed("customer.updated", id, &before);
    }
    Ok(world.copy(id))
}

/// Deleting a customer cancels all its subscriptions at once.
fn delete(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&[])?;
    world.find(Kind::Customer, id, "id", true)?;
    let live = world.all(Kind::Subscription).filter(|s| {
        s.link("customer") == Some(id)
            && !matches!(s.text("status"), "canceled" | "incomplete_expired")
    });
    let live: Vec<_> = live.map(|s| s.text("id").to_owned()).collect();
    for subscription in live {
        cycling::cancel_now(world, &subscription, "cancellation_requested");
    }
    let methods = world.all(Kind::PaymentMethod);
    let methods = methods.filter(|method| method.link("customer") == Some(id));
    let methods: Vec<_> = methods.map(|m| m.text("id").to_owned()).collect();
    for method in methods {
        world.edit(&method, |method| set(method, "customer", Value::Null));
    }
    world.emit("customer.deleted", id);
    let deleted = json!({ "id": id, "object": "customer", "deleted": true });
    world.edit(id, |customer| *customer = deleted.clone());
    Ok(deleted)
}

fn list(world: &World, params: &Params) -> Answer {
    params.only(&list_params(&["created", "email", "test_clock"]))?;
    let email = params.text("email")?;
    let clock = params.text("test_clock")?;
    list_of(world, Kind::Customer, "/v1/customers", params, |customer| {
        // The filter on e-mail is exact, case and all.
        same(email.as_deref(), customer.link("email"))
            && match &clock {
                Some(clock) => customer.link("test_clock") == Some(clock),
                // Without any filter, objects of test clocks are left out.
                None => email.is_some() || customer["test_clock"].is_null(),
            }
    })
}

/// Searching is answered for the one query that needs no query language: `metadata['key']:'value'` and
/// `email:'value'`.
fn search(world: &World, params: &Params) -> Answer {
    params.only(&["query", "limit", "page"])?;
    let query = params.require("query")?;
    let refused = || {
        ApiError::malformed(
            "query",
            None,
            "This double searches by email:'…' or metadata['…']:'…' alone.",
        )
    };
    let (field, value) = query.split_once(':').ok_or_else(refused)?;
    let value = value.trim().trim_matches(['\'', '"']);
    let key = field
        .trim()
        .strip_prefix("metadata[")
        .and_then(|rest| rest.strip_suffix(']'))
        .map(|key| key.trim_matches(['\'', '"']));
    if key.is_none() && field.trim() != "email" {
        return Err(refused());
    }
    let found = world
        .all(Kind::Customer)
        .rev()
        .filter(|customer| match key {
            Some(key) => customer["metadata"].link(key) == Some(value),
            None => customer.link("email") == Some(value),
        });
    let rows: Vec<_> = found
        .filter(|customer| !customer.flag("deleted"))
        .map(crate::json::visible)
        .collect();
    Ok(json!({
        "object": "search_result",
        "data": rows,
        "has_more": false,
        "next_page": null,
        "url": "/v1/customers/search",
    }))
}

fn balance_transactions(world: &World, id: &str, params: &Params) -> Answer {
    params.only(&list_params(&["created", "invoice"]))?;
    world.find(Kind::Customer, id, "customer", true)?;
    let url = format!("/v1/customers/{id}/balance_transactions");
    list_of(world, Kind::BalanceTransaction, &url, params, |row| {
        row.link("customer") == Some(id)
    })
}

fn adjust_balance(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&["amount", "currency", "description", "metadata"])?;
    let customer = world.find(Kind::Customer, id, "customer", true)?;
    let amount = params
        .integer("amount")?
        .ok_or_else(|| ApiError::parameter_missing("amount"))?;
    let currency = params.require("currency")?;
    subscribing::check_currency(world, &customer, &currency)?;
    if customer["currency"].is_null() {
        world.edit(id, |customer| set(customer, "currency", currency.clone()));
    }
    let balance = customer.number("balance") + amount;
    invoicing::move_balance(world, id, balance, "adjustment", None);
    let transaction = world.ids(Kind::BalanceTransaction).pop();
    let transaction = transaction.unwrap_or_default();
    world.edit(&transaction, |row| set(row, "currency", currency));
    Ok(world.copy(&transaction))
}
