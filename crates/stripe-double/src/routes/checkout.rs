//! Checkout sessions, mode `subscription`; the hosted page completes them.

use serde_json::{Value, json};

use super::subscription_params::{new_items, settings, trial_end};
use super::{list_of, list_params, payment_methods, retrieve, same};
use crate::calendar::{DAY, HOUR};
use crate::cards;
use crate::engine::invoicing::{self, merge, product_name};
use crate::engine::paying::{self, Attempt, Outcome};
use crate::engine::subscribing::{self, NewSubscription, PaymentBehavior};
use crate::engine::{cycling, setting_up};
use crate::json::{Fields as _, set};
use crate::money;
use crate::state::{Kind, World, random_text};
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
        ("GET", []) => list_sessions(world, params),
        ("GET", [id]) => retrieve(world, Kind::CheckoutSession, id, params),
        ("POST", [id, "expire"]) => expire(world, id, params),
        ("GET", [id, "line_items"]) => line_items(world, id, params),
        _ => return None,
    })
}

fn create(world: &mut World, params: &Params) -> Answer {
    params.only(&[
        "allow_promotion_codes",
        "automatic_tax",
        "billing_address_collection",
        "cancel_url",
        "client_reference_id",
        "customer",
        "customer_email",
        "customer_update",
        "expires_at",
        "line_items",
        "locale",
        "metadata",
        "mode",
        "payment_method_collection",
        "payment_method_types",
        "saved_payment_method_options",
        "subscription_data",
        "success_url",
        "ui_mode",
    ])?;
    params.require("mode")?;
    params.one_of("mode", &["subscription"])?;
    params.one_of("ui_mode", &["hosted", "hosted_page"])?;
    let success_url = params.require("success_url")?;
    let customer = params.text("customer")?;
    let email = params.text("customer_email")?;
    if customer.is_some() && email.is_some() {
        return Err(ApiError::malformed(
            "customer_email",
            Some("parameters_exclusive"),
            "You may only specify one of these parameters: customer, customer_email.",
        ));
    }
    let owner = match &customer {
        Some(customer) => world.find(Kind::Customer, customer, "customer", false)?,
        None => Value::Null,
    };
    let rows = params.children("line_items");
    if rows.is_empty() {
        return Err(ApiError::parameter_missing("line_items"));
    }
    let items = new_items(world, &rows)?;
    let (first_price, _, _) = &items[0];
    let currency = first_price.text("currency").to_owned();
    if !owner.is_null() {
        subscribing::check_currency(world, &owner, &currency)?;
    }
    subscribing::common_cadence(items.iter().map(|(price, _, _)| price), &currency)?;
    let data = params.child("subscription_data").unwrap_or_default();
    data.only(&[
        "billing_mode",
        "description",
        "metadata",
        "trial_end",
        "trial_period_days",
        "trial_settings",
    ])?;
    let fields = settings(&data, &Value::Null)?;
    let trial_days = data.integer("trial_period_days")?;
    let trial_until = trial_end(world, &data)?;
    let collection = params
        .one_of("payment_method_collection", &["always", "if_required"])?
        .unwrap_or_else(|| "always".to_owned());
    let expires_at = params
        .integer("expires_at")?
        .unwrap_or(world.now + 24 * HOUR);
    if !(HOUR / 2..=24 * HOUR).contains(&(expires_at - world.now)) {
        return Err(ApiError::invalid(
            "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.",
        )
        .param("expires_at"));
    }
    let id = world.new_id(Kind::CheckoutSession);
    let has_trial = trial_days.is_some() || trial_until.is_some();
    let full: i64 = items
        .iter()
        .map(|(price, n, _)| money::total(price, *n))
        .sum();
    let total = if has_trial { 0 } else { full };
    let lines = items
        .iter()
        .map(|(price, quantity, _)| line_item(world, price, *quantity));
    let mut session = json!({
        "id": id,
        "object": "checkout.session",
        "adaptive_pricing": { "enabled": false },
        "after_expiration": null,
        "allowed_payment_method_types": null,
        "allow_promotion_codes": params.boolean("allow_promotion_codes")?,
        "amount_subtotal": total,
        "amount_total": total,
        "automatic_tax": { "enabled": false, "liability": null, "provider": null, "status": null },
        "billing_address_collection":
            params.one_of("billing_address_collection", &["auto", "required"])?,
        "cancel_url": params.text("cancel_url")?,
        "client_reference_id": params.text("client_reference_id")?,
        "client_secret": null,
        "collected_information": {
            "business_name": null,
            "individual_name": null,
            "shipping_details": null,
        },
        "consent": null,
        "consent_collection": null,
        "created": world.now,
        "currency": currency,
        "currency_conversion": null,
        "custom_fields": [],
        "custom_text": {
            "after_submit": null,
            "shipping_address": null,
            "submit": null,
            "terms_of_service_acceptance": null,
        },
        "customer": customer,
        "customer_account": null,
        "customer_creation": if owner.is_null() { json!("always") } else { Value::Null },
        "customer_details": null,
        "customer_email": email,
        "discounts": [],
        "expires_at": expires_at,
        "integration_identifier": null,
        "invoice": null,
        "invoice_creation": null,
        "livemode": false,
        "locale": params.text("locale")?,
        "managed_payments": { "enabled": false },
        "metadata": {},
        "mode": "subscription",
        "origin_context": null,
        "payment_intent": null,
        "payment_link": null,
        "payment_method_collection": collection,
        "payment_method_configuration_details": null,
        "payment_method_options": { "card": { "request_three_d_secure": "automatic" } },
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "permissions": null,
        "phone_number_collection": { "enabled": false },
        "recovered_from": null,
        "saved_payment_method_options": null,
        "setup_intent": null,
        "shipping_address_collection": null,
        "shipping_cost": null,
        "shipping_options": [],
        "status": "open",
        "submit_type": null,
        "subscription": null,
        "success_url": success_url,
        "total_details": { "amount_discount": 0, "amount_shipping": 0, "amount_tax": 0 },
        "ui_mode": "hosted_page",
        "url": format!("{}/c/pay/{id}", world.base_url),
        "wallet_options": null,
        "_line_items": lines.collect::<Vec<_>>(),
        "_items": items.iter().map(|(p, n, m)| json!([p["id"], n, m])).collect::<Vec<_>>(),
        "_fields": fields,
        "_trial_days": trial_days,
        "_trial_end": trial_until,
    });
    params.merge_metadata(&mut session)?;
    world.insert(Kind::CheckoutSession, session);
    Ok(world.copy(&id))
}

fn line_item(world: &World, price: &Value, quantity: i64) -> Value {
    let amount = money::total(price, quantity);
    json!({
        "id": format!("li_1{}", random_text(23)),
        "object": "item",
        "adjustable_quantity": null,
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": price["currency"],
        "description": product_name(world, price),
        "metadata": {},
        "price": price,
        "quantity": quantity,
    })
}

fn list_sessions(world: &World, params: &Params) -> Answer {
    params.only(&list_params(&[
        "created",
        "customer",
        "status",
        "subscription",
    ]))?;
    let customer = params.text("customer")?;
    let subscription = params.text("subscription")?;
    let status = params.one_of("status", &["complete", "expired", "open"])?;
    list_of(
        world,
        Kind::CheckoutSession,
        "/v1/checkout/sessions",
        params,
        |session| {
            same(customer.as_deref(), session.link("customer"))
                && same(subscription.as_deref(), session.link("subscription"))
                && same(status.as_deref(), session.link("status"))
        },
    )
}

fn line_items(world: &World, id: &str, params: &Params) -> Answer {
    params.only(&list::PAGING)?;
    let session = world.find(Kind::CheckoutSession, id, "session", true)?;
    let url = format!("/v1/checkout/sessions/{id}/line_items");
    list::page(params, &url, session.rows("_line_items").to_vec())
}

fn expire(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&[])?;
    let session = world.find(Kind::CheckoutSession, id, "session", true)?;
    if session.text("status") != "open" {
        return Err(ApiError::invalid(format!(
            "Only Checkout Sessions with a status in [\"open\"] can be expired. This Checkout Session has a status of \"{}\".",
            session.text("status")
        )));
    }
    world.edit(id, |session| {
        set(session, "status", "expired");
        set(session, "url", Value::Null);
    });
    world.emit("checkout.session.expired", id);
    Ok(world.copy(id))
}

/// What became of an attempt on the hosted page.
pub(crate) enum Completion {
    /// The browser goes on to the success page.
    Done(String),
    /// The intent that the card's holder must authenticate first.
    Authenticate(String),
}

/// The customer has filled in the page: makes customer, payment method and subscription, and pays.
pub(crate) fn complete(
    world: &mut World,
    id: &str,
    number: &str,
    details: &Params,
) -> Result<Completion, ApiError> {
    let session = world.find(Kind::CheckoutSession, id, "session", true)?;
    if session.text("status") != "open" {
        return Err(ApiError::invalid(
            "This Checkout Session is not open any more.",
        ));
    }
    if let Some(subscription) = session.link("_subscription") {
        // Back from authentication: the second half of an earlier attempt, whose traces stay.
        let subscription = subscription.to_owned();
        return after_authentication(world, id, &subscription);
    }
    let saved = world.clone();
    let outcome = pay(world, id, &session, number, details);
    if outcome.is_err() {
        *world = saved;
    }
    outcome
}

fn pay(
    world: &mut World,
    id: &str,
    session: &Value,
    number: &str,
    details: &Params,
) -> Result<Completion, ApiError> {
    let free = session.number("amount_total") == 0
        && session.text("payment_method_collection") == "if_required";
    let method = if free && number.is_empty() {
        None
    } else {
        let method = payment_methods::from_number(world, number, (12, 2034))?;
        cards::attach(&method).map_err(cards::Decline::error)?;
        Some(method)
    };
    let customer = customer(world, session, details)?;
    let method = method.map(|mut method| {
        let owner = world.copy(&customer);
        method["billing_details"]["email"] = owner["email"].clone();
        method["billing_details"]["name"] = owner["name"].clone();
        payment_methods::stored(world, method)
    });
    if let Some(method) = &method {
        setting_up::attach(world, method, &customer);
    }
    let subscription =
        subscribing::subscribe(world, wanted(world, session, &customer, method.clone())?)?;
    world.edit(id, |session| {
        set(session, "_subscription", subscription.clone());
        set(session, "_customer", customer.clone());
    });
    let invoice = world.copy(&subscription).text("latest_invoice").to_owned();
    if world.copy(&invoice).text("status") == "open" {
        let attempt = Attempt {
            method,
            ..Attempt::default()
        };
        match paying::attempt(world, &invoice, &attempt) {
            Outcome::Failed(error) => return Err(error),
            Outcome::ActionRequired => {
                let intent = invoicing::intent_of(world, &invoice).unwrap_or_default();
                return Ok(Completion::Authenticate(intent));
            }
            Outcome::Paid => {}
        }
    } else if let Some(intent) = world.copy(&subscription).link("pending_setup_intent") {
        return Ok(Completion::Authenticate(intent.to_owned()));
    }
    Ok(Completion::Done(finish(world, id, &subscription)))
}

fn after_authentication(
    world: &mut World,
    id: &str,
    subscription: &str,
) -> Result<Completion, ApiError> {
    let object = world.copy(subscription);
    let invoice = object.text("latest_invoice").to_owned();
    let intent = object
        .link("pending_setup_intent")
        .map(str::to_owned)
        .or_else(|| invoicing::intent_of(world, &invoice));
    let status = intent
        .as_deref()
        .map(|id| world.copy(id).text("status").to_owned());
    match (status.as_deref(), intent) {
        (Some("requires_action"), Some(intent)) => Ok(Completion::Authenticate(intent)),
        (Some("requires_payment_method"), _) => {
            // Authentication failed: the page begins anew, with nothing left of the attempt.
            if world.copy(&invoice).text("status") == "open" {
                invoicing::void(world, &invoice)?;
            } else {
                cycling::cancel_now(world, subscription, "payment_failed");
            }
            world.edit(id, |session| set(session, "_subscription", Value::Null));
            Err(ApiError::card(
                "payment_intent_authentication_failure",
                None,
                "We are unable to authenticate your payment method. Please choose a different payment method and try again.",
            ))
        }
        _ => Ok(Completion::Done(finish(world, id, subscription))),
    }
}

fn customer(world: &mut World, session: &Value, details: &Params) -> Result<String, ApiError> {
    if let Some(customer) = session.link("customer") {
        return Ok(customer.to_owned());
    }
    let mut fields = serde_json::Map::new();
    let email = match details.text("email")? {
        Some(email) => email,
        None => session.text("customer_email").to_owned(),
    };
    if email.is_empty() {
        return Err(ApiError::parameter_missing("email"));
    }
    fields.insert("email".to_owned(), json!(email));
    if let Some(name) = details.text("name")? {
        fields.insert("name".to_owned(), json!(name));
    }
    let created = super::customers::create(world, &Params::new(fields))?;
    Ok(created.text("id").to_owned())
}

fn wanted(
    world: &World,
    session: &Value,
    customer: &str,
    method: Option<String>,
) -> Result<NewSubscription, ApiError> {
    let mut items = Vec::new();
    for row in session.rows("_items") {
        let id = row[0].as_str().unwrap_or_default();
        let price = world.find(Kind::Price, id, "line_items", false)?;
        items.push((price, row[1].as_i64().unwrap_or(1), row[2].clone()));
    }
    let days = session
        .time("_trial_days")
        .map(|days| world.now + days * DAY);
    let trial_end = days.or_else(|| session.time("_trial_end"));
    Ok(NewSubscription {
        customer: customer.to_owned(),
        items,
        fields: session["_fields"].clone(),
        default_method: method,
        behavior: PaymentBehavior::DefaultIncomplete,
        off_session: false,
        trial_end,
        anchor: None,
        prorates: true,
        cancel_at_period_end: false,
    })
}

/// The session is complete. Returns where the browser goes.
fn finish(world: &mut World, id: &str, subscription: &str) -> String {
    let session = world.copy(id);
    let customer_id = session.text("_customer").to_owned();
    let customer = world.copy(&customer_id);
    let invoice = world.copy(subscription)["latest_invoice"].clone();
    let paid = session.number("amount_total") > 0;
    let details = json!({
        "address": customer["address"],
        "business_name": null,
        "email": customer["email"],
        "individual_name": null,
        "name": customer["name"],
        "phone": customer["phone"],
        "tax_exempt": "none",
        "tax_ids": [],
    });
    world.edit(id, |session| {
        merge(
            session,
            json!({
                "status": "complete",
                "payment_status": if paid { "paid" } else { "no_payment_required" },
                "customer": customer_id,
                "customer_details": details,
                "subscription": subscription,
                "invoice": invoice,
                "url": null,
            }),
        );
    });
    world.emit("checkout.session.completed", id);
    session
        .text("success_url")
        .replace("{CHECKOUT_SESSION_ID}", id)
}

/// What a session's page says about a line.
pub(crate) fn price_words(line: &Value) -> String {
    let price = &line["price"];
    format!(
        "{} × {}, {} per {}",
        line.number("quantity"),
        line.text("description"),
        money::words(price.number("unit_amount"), price.text("currency")),
        price["recurring"].text("interval"),
    )
}
