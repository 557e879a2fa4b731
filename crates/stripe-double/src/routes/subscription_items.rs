//! Items of subscriptions, addressed by themselves.

use serde_json::{Value, json};

use super::list_params;
use super::subscription_params::usable_price;
use crate::engine::changing::{self, Change, Collection, ItemChange, Proration};
use crate::engine::subscribing::PaymentBehavior;
use crate::json::Fields as _;
use crate::state::{Kind, World};
use crate::wire::error::{Answer, ApiError};
use crate::wire::list;
use crate::wire::params::Params;

const CHANGE: [&str; 7] = [
    "metadata",
    "off_session",
    "payment_behavior",
    "price",
    "proration_behavior",
    "proration_date",
    "quantity",
];

pub(super) fn route(
    world: &mut World,
    method: &str,
    path: &[&str],
    params: &Params,
) -> Option<Answer> {
    Some(match (method, path) {
        ("GET", []) => list_items(world, params),
        ("POST", []) => create(world, params),
        ("GET", [id]) => params.only(&[]).and_then(|()| {
            let (_, item) = find(world, id)?;
            Ok(item)
        }),
        ("POST", [id]) => update(world, id, params),
        ("DELETE", [id]) => delete(world, id, params),
        _ => return None,
    })
}

/// The subscription that an item belongs to, and the item.
fn find(world: &World, id: &str) -> Result<(String, Value), ApiError> {
    let live = world
        .all(Kind::Subscription)
        .filter(|s| s.text("status") != "canceled");
    let found = live.flat_map(|subscription| {
        let items = subscription.rows("items").iter();
        items.map(move |item| (subscription.text("id"), item))
    });
    let mut matching = found.filter(|(_, item)| item.text("id") == id);
    matching
        .next()
        .map(|(subscription, item)| (subscription.to_owned(), item.clone()))
        .ok_or_else(|| ApiError::no_such("subscription_item", id, "item", true))
}

fn list_items(world: &World, params: &Params) -> Answer {
    params.only(&list_params(&["subscription"]))?;
    let id = params.require("subscription")?;
    let subscription = world.find(Kind::Subscription, &id, "subscription", false)?;
    list::page(
        params,
        "/v1/subscription_items",
        subscription.rows("items").to_vec(),
    )
}

fn create(world: &mut World, params: &Params) -> Answer {
    let mut known = CHANGE.to_vec();
    known.push("subscription");
    params.only(&known)?;
    let subscription = params.require("subscription")?;
    world.find(Kind::Subscription, &subscription, "subscription", false)?;
    params.require("price")?;
    change(world, &subscription, None, false, params)?;
    let items = world.copy(&subscription).rows("items").to_vec();
    items
        .last()
        .cloned()
        .ok_or_else(|| ApiError::no_such("subscription_item", "", "item", false))
}

fn update(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&CHANGE)?;
    let (subscription, _) = find(world, id)?;
    change(world, &subscription, Some(id), false, params)?;
    let mut item = find(world, id)?.1;
    if params.has("metadata") {
        params.merge_metadata(&mut item)?;
        let metadata = item["metadata"].clone();
        world.update(&subscription, "customer.subscription.updated", |s| {
            let items = s["items"]["data"].as_array_mut();
            let own = items.into_iter().flatten().find(|i| i.text("id") == id);
            if let Some(own) = own {
                own["metadata"] = metadata;
            }
        });
    }
    Ok(item)
}

fn delete(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&[
        "clear_usage",
        "payment_behavior",
        "proration_behavior",
        "proration_date",
    ])?;
    let (subscription, _) = find(world, id)?;
    change(world, &subscription, Some(id), true, params)?;
    Ok(json!({ "id": id, "object": "subscription_item", "deleted": true }))
}

fn change(
    world: &mut World,
    subscription: &str,
    id: Option<&str>,
    deleted: bool,
    params: &Params,
) -> Result<(), ApiError> {
    let price = match params.text("price")? {
        Some(price) => Some(usable_price(world, &price, "price")?),
        None => None,
    };
    let behavior = params.one_of("payment_behavior", &PaymentBehavior::NAMES)?;
    let proration = params.one_of("proration_behavior", &Proration::NAMES)?;
    let saved = world.clone();
    let change = Change {
        items: vec![ItemChange {
            id: id.map(str::to_owned),
            price,
            quantity: params.integer("quantity")?,
            deleted,
        }],
        proration: Proration::named(proration.as_deref()),
        date: params.integer("proration_date")?.unwrap_or(world.now),
        anchor_now: false,
        trial_end: None,
    };
    let draft = changing::apply(world, subscription, &change)?;
    let how = Collection {
        behavior: PaymentBehavior::named(behavior.as_deref()),
        off_session: params.boolean("off_session")?.unwrap_or(false),
        ends: None,
    };
    changing::collect(world, subscription, draft.as_deref(), how, saved)
}
