//! The billing portal's page: see the subscription, cancel it, take that back, replace the card.

use serde_json::{Value, json};

use crate::calendar::date_words;
use crate::cards;
use crate::engine::ending::{is_flexible, set_cancel_at, set_cancel_at_period_end, uncancelable};
use crate::engine::{changing, cycling, setting_up};
use crate::json::{Fields as _, set, visible};
use crate::money;
use crate::routes::payment_method_from_number;
use crate::state::{Kind, World};
use crate::wire::error::ApiError;
use crate::wire::params::Params;

use super::{CARD_FIELD, Page, card_number, error_line, escape, frame};

/// How long a session lives after it was made.
const LIFE: i64 = 60 * 60;

fn session(world: &World, id: &str) -> Option<Value> {
    let session = world.get(id)?;
    let is_one = world.kind_of(id) == Some(Kind::PortalSession);
    (is_one && session.number("created") + LIFE > world.now).then(|| session.clone())
}

fn subscriptions(world: &World, customer: &str) -> Vec<Value> {
    let own = world.all(Kind::Subscription).rev().filter(|s| {
        s.link("customer") == Some(customer)
            && !matches!(s.text("status"), "canceled" | "incomplete_expired")
    });
    own.cloned().collect()
}

pub(super) fn show(world: &World, id: &str, error: Option<&ApiError>) -> Page {
    let Some(session) = session(world, id) else {
        return Page::Missing;
    };
    let customer = world.copy(session.text("customer"));
    let features = world.copy(session.text("configuration"))["features"].clone();
    let cancels = features["subscription_cancel"].flag("enabled");
    let rows = subscriptions(world, customer.text("id"));
    let rows: String = rows
        .iter()
        .map(|subscription| row(world, subscription, cancels))
        .collect();
    let method = customer["invoice_settings"].link("default_payment_method");
    let card = method.map_or_else(
        || "No card on file.".to_owned(),
        |id| format!("Card ending in {}.", world.copy(id)["card"].text("last4")),
    );
    let replace = if features["payment_method_update"].flag("enabled") {
        format!(
            "<form method=\"post\">{CARD_FIELD}\
             <p><button name=\"action\" value=\"replace_card\">Use this card</button></p></form>"
        )
    } else {
        String::new()
    };
    let back = session.link("return_url").map_or_else(String::new, |url| {
        format!("<p><a href=\"{}\">Back</a></p>", escape(url))
    });
    let body = format!(
        "{}<ul>{rows}</ul><p>{card}</p>{replace}{back}",
        error_line(error)
    );
    Page::Html(frame("Billing", &body))
}

fn row(world: &World, subscription: &Value, cancels: bool) -> String {
    let (_, end) = changing::period(subscription);
    let items = subscription.rows("items").iter().map(|item| {
        let price = &item["price"];
        format!(
            "{} ({})",
            crate::engine::invoicing::product_name(world, price),
            money::words(price.number("unit_amount"), price.text("currency"))
        )
    });
    let items = items.collect::<Vec<_>>().join(", ");
    let ends = subscription.time("cancel_at");
    let (what, action, label) = if ends.is_some() {
        ("ends", "resume", "Keep the subscription")
    } else {
        ("renews", "cancel", "Cancel the subscription")
    };
    let end = ends.unwrap_or(end);
    let button = if cancels {
        format!(
            "<form method=\"post\"><input type=\"hidden\" name=\"subscription\" value=\"{}\">\
             <button name=\"action\" value=\"{action}\">{label}</button></form>",
            escape(subscription.text("id"))
        )
    } else {
        String::new()
    };
    format!(
        "<li>{}: {}, {what} on {}{button}</li>",
        escape(&items),
        escape(subscription.text("status")),
        date_words(end)
    )
}

pub(super) fn submit(world: &mut World, id: &str, params: &Params) -> Page {
    let Some(session) = session(world, id) else {
        return Page::Missing;
    };
    match act(world, &session, params) {
        Ok(()) => Page::Redirect(format!("/p/session/{id}")),
        Err(error) => show(world, id, Some(&error)),
    }
}

fn act(world: &mut World, session: &Value, params: &Params) -> Result<(), ApiError> {
    let customer = session.text("customer").to_owned();
    let configuration = world.copy(session.text("configuration"));
    let features = &configuration["features"];
    let action = params.require("action")?;
    if action == "replace_card" && features["payment_method_update"].flag("enabled") {
        return replace_card(world, &customer, &card_number(params));
    }
    let id = params.require("subscription")?;
    let subscription = world.find(Kind::Subscription, &id, "subscription", false)?;
    let is_own = subscription.link("customer") == Some(&customer);
    if !is_own || !features["subscription_cancel"].flag("enabled") {
        return Err(ApiError::no_such(
            "subscription",
            &id,
            "subscription",
            false,
        ));
    }
    let before = visible(&subscription);
    match action.as_str() {
        "cancel" if features["subscription_cancel"].text("mode") == "immediately" => {
            cycling::cancel_by_request(world, &id, false, false)?;
            return Ok(());
        }
        "cancel" if is_flexible(&subscription) => {
            let (_, end) = changing::period(&subscription);
            set_cancel_at(world, &id, end);
        }
        "cancel" => set_cancel_at_period_end(world, &id, true),
        "resume" => world.edit(&id, uncancelable),
        _ => return Err(ApiError::parameter_unknown("action")),
    }
    if visible(&world.copy(&id)) != before {
        world.emit_changed("customer.subscription.updated", &id, &before);
    }
    Ok(())
}

/// The new card becomes the customer's default; subscriptions with a card of their own get it too.
fn replace_card(world: &mut World, customer: &str, number: &str) -> Result<(), ApiError> {
    let method = payment_method_from_number(world, number, (12, 2034))?;
    cards::attach(&method).map_err(cards::Decline::error)?;
    let method = world.insert(Kind::PaymentMethod, method);
    // The page has just authenticated the holder where the card asks for it.
    world.edit(&method, |method| set(method, "_set_up", true));
    setting_up::attach(world, &method, customer);
    world.update(customer, "customer.updated", |customer| {
        customer["invoice_settings"]["default_payment_method"] = json!(method);
    });
    for subscription in subscriptions(world, customer) {
        if subscription.link("default_payment_method").is_some() {
            let id = subscription.text("id").to_owned();
            world.update(&id, "customer.subscription.updated", |subscription| {
                set(subscription, "default_payment_method", method.clone());
            });
        }
    }
    Ok(())
}
