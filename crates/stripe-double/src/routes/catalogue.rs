//! Products and prices.

use serde_json::{Value, json};

use super::{list_of, list_params, retrieve, same, set_texts};
use crate::calendar::Cadence;
use crate::json::{Fields as _, set};
use crate::money;
use crate::objects::plan;
use crate::state::{Kind, World};
use crate::wire::error::{Answer, ApiError};
use crate::wire::params::Params;

const PRODUCT_FIELDS: [&str; 12] = [
    "active",
    "default_price",
    "description",
    "images",
    "marketing_features",
    "metadata",
    "name",
    "shippable",
    "statement_descriptor",
    "tax_code",
    "unit_label",
    "url",
];

pub(super) fn products(
    world: &mut World,
    method: &str,
    path: &[&str],
    params: &Params,
) -> Option<Answer> {
    Some(match (method, path) {
        ("POST", []) => create_product(world, params),
        ("GET", []) => list_products(world, params),
        ("GET", [id]) => retrieve(world, Kind::Product, id, params),
        ("POST", [id]) => update_product(world, id, params),
        ("DELETE", [id]) => delete_product(world, id, params),
        _ => return None,
    })
}

fn create_product(world: &mut World, params: &Params) -> Answer {
    let mut known = PRODUCT_FIELDS.to_vec();
    known.extend(["id", "type"]);
    params.only(&known)?;
    let id = match params.text("id")? {
        Some(id) if world.kind_of(&id).is_some() => {
            return Err(ApiError::invalid("Product already exists.")
                .code("resource_already_exists")
                .param("id"));
        }
        Some(id) => id,
        None => world.new_id(Kind::Product),
    };
    let name = params.require("name")?;
    let now = world.now;
    let mut product = json!({
        "id": id,
        "object": "product",
        "active": true,
        "created": now,
        "default_price": null,
        "description": null,
        "images": [],
        "livemode": false,
        "marketing_features": [],
        "metadata": {},
        "name": name,
        "package_dimensions": null,
        "shippable": null,
        "statement_descriptor": null,
        "tax_code": null,
        "tax_details": null,
        "type": "service",
        "unit_label": null,
        "updated": now,
        "url": null,
    });
    apply_product(world, &mut product, params)?;
    world.insert(Kind::Product, product);
    world.emit("product.created", &id);
    Ok(world.copy(&id))
}

fn apply_product(world: &World, product: &mut Value, params: &Params) -> Result<(), ApiError> {
    if let Some(name) = params.text("name")? {
        set(product, "name", name);
    }
    for key in ["active", "shippable"] {
        if let Some(value) = params.boolean(key)? {
            set(product, key, value);
        }
    }
    set_texts(
        product,
        params,
        &[
            "description",
            "statement_descriptor",
            "tax_code",
            "unit_label",
            "url",
        ],
    )?;
    if let Some(price) = params.text("default_price")? {
        world.find(Kind::Price, &price, "default_price", false)?;
        set(product, "default_price", price);
    }
    if params.has("images") {
        set(product, "images", params.texts("images"));
    }
    if params.has("marketing_features") {
        let features = params.children("marketing_features");
        let names: Result<Vec<_>, _> = features
            .iter()
            .map(|feature| Ok(json!({ "name": feature.require("name")? })))
            .collect();
        set(product, "marketing_features", names?);
    }
    params.merge_metadata(product)
}

fn update_product(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&PRODUCT_FIELDS)?;
    let mut product = world.find(Kind::Product, id, "id", true)?;
    apply_product(world, &mut product, params)?;
    set(&mut product, "updated", world.now);
    world.update(id, "product.updated", |stored| *stored = product);
    Ok(world.copy(id))
}

fn delete_product(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&[])?;
    world.find(Kind::Product, id, "id", true)?;
    let is_priced = world
        .all(Kind::Price)
        .any(|price| price.link("product") == Some(id));
    if is_priced {
        return Err(ApiError::invalid(
            "This product cannot be deleted because it has one or more user-created prices.",
        ));
    }
    world.emit("product.deleted", id);
    let deleted = json!({ "id": id, "object": "product", "deleted": true });
    world.edit(id, |product| *product = deleted.clone());
    Ok(deleted)
}

fn list_products(world: &World, params: &Params) -> Answer {
    params.only(&list_params(&["active", "created", "ids", "url"]))?;
    let active = params.boolean("active")?;
    let ids = params.texts("ids");
    list_of(world, Kind::Product, "/v1/products", params, |product| {
        active.is_none_or(|active| product.flag("active") == active)
            && (ids.is_empty() || ids.iter().any(|id| id == product.text("id")))
    })
}

pub(super) fn prices(
    world: &mut World,
    method: &str,
    path: &[&str],
    params: &Params,
) -> Option<Answer> {
    Some(match (method, path) {
        ("POST", []) => create_price(world, params),
        ("GET", []) => list_prices(world, params),
        ("GET", [id]) => retrieve(world, Kind::Price, id, params),
        ("POST", [id]) => update_price(world, id, params),
        _ => return None,
    })
}

fn create_price(world: &mut World, params: &Params) -> Answer {
    params.only(&[
        "active",
        "billing_scheme",
        "currency",
        "lookup_key",
        "metadata",
        "nickname",
        "product",
        "product_data",
        "recurring",
        "tax_behavior",
        "transfer_lookup_key",
        "unit_amount",
        "unit_amount_decimal",
    ])?;
    let currency = params.require("currency")?.to_lowercase();
    if currency.len() != 3 {
        return Err(ApiError::malformed(
            "currency",
            None,
            format!("Invalid currency: {currency}."),
        ));
    }
    let unit_amount = unit_amount(params)?;
    check_thousandths(&currency, unit_amount)?;
    params.one_of("billing_scheme", &["per_unit"])?;
    let recurring = recurring(params)?;
    let tax_behavior = params
        .one_of("tax_behavior", &["exclusive", "inclusive", "unspecified"])?
        .unwrap_or_else(|| "unspecified".to_owned());
    let product = price_product(world, params)?;
    let lookup_key = params.text("lookup_key")?;
    let transfers = params.boolean("transfer_lookup_key")?.unwrap_or(false);
    if let Some(key) = &lookup_key {
        claim_lookup_key(world, key, transfers, "")?;
    }
    let id = world.new_id(Kind::Price);
    let mut price = json!({
        "id": id,
        "object": "price",
        "active": params.boolean("active")?.unwrap_or(true),
        "billing_scheme": "per_unit",
        "created": world.now,
        "currency": currency,
        "custom_unit_amount": null,
        "livemode": false,
        "lookup_key": lookup_key,
        "metadata": {},
        "nickname": params.text("nickname")?,
        "product": product,
        "recurring": recurring,
        "tax_behavior": tax_behavior,
        "tiers_mode": null,
        "transform_quantity": null,
        "type": if recurring.is_null() { "one_time" } else { "recurring" },
        "unit_amount": unit_amount,
        "unit_amount_decimal": unit_amount.to_string(),
    });
    params.merge_metadata(&mut price)?;
    world.insert(Kind::Price, price);
    world.emit("price.created", &id);
    if params.boolean("active")? != Some(false) && !recurring.is_null() {
        let plan = plan(&world.copy(&id));
        world.emit_object("plan.created", &plan, None);
    }
    Ok(world.copy(&id))
}

/// The last digit of a three-decimal amount is 0: no network charges it
/// (<https://docs.stripe.com/currencies#three-decimal>).
fn check_thousandths(currency: &str, amount: i64) -> Result<(), ApiError> {
    if money::decimals(currency) == 3 && amount % 10 != 0 {
        return Err(ApiError::malformed(
            "unit_amount",
            Some("parameter_invalid_integer"),
            format!(
                "Invalid integer: {amount}. Amounts in {} must be divisible by 10.",
                currency.to_uppercase()
            ),
        ));
    }
    Ok(())
}

fn unit_amount(params: &Params) -> Result<i64, ApiError> {
    let amount = match params.integer("unit_amount")? {
        Some(amount) => amount,
        None => {
            let decimal = params.require("unit_amount_decimal").map_err(|_| {
                ApiError::malformed(
                    "unit_amount",
                    Some("parameter_missing"),
                    "Prices require an `unit_amount` or `unit_amount_decimal` parameter to be set.",
                )
            })?;
            decimal.parse().map_err(|_| {
                ApiError::malformed(
                    "unit_amount_decimal",
                    None,
                    "This double has no fractions of a minor unit.",
                )
            })?
        }
    };
    if !(0..=99_999_999).contains(&amount) {
        return Err(ApiError::malformed(
            "unit_amount",
            Some("parameter_invalid_integer"),
            "This value must be greater than or equal to 0 and at most 99999999.",
        ));
    }
    Ok(amount)
}

fn recurring(params: &Params) -> Result<Value, ApiError> {
    let Some(sent) = params.child("recurring") else {
        return Ok(Value::Null);
    };
    sent.only(&[
        "interval",
        "interval_count",
        "trial_period_days",
        "usage_type",
    ])?;
    sent.require("interval")?;
    let interval = sent.one_of("interval", &["day", "month", "week", "year"])?;
    let interval = interval.unwrap_or_default();
    let count = sent.integer("interval_count")?.unwrap_or(1);
    sent.one_of("usage_type", &["licensed"])?;
    let longest = match interval.as_str() {
        "day" => 1095,
        "week" => 156,
        "month" => 36,
        _ => 3,
    };
    if !(1..=longest).contains(&count) || Cadence::new(&interval, count).is_none() {
        return Err(ApiError::malformed(
            "recurring[interval_count]",
            None,
            "The maximum billing interval is three years.",
        ));
    }
    Ok(json!({
        "interval": interval,
        "interval_count": count,
        "meter": null,
        "trial_period_days": sent.integer("trial_period_days")?,
        "usage_type": "licensed",
    }))
}

fn price_product(world: &mut World, params: &Params) -> Result<String, ApiError> {
    if let Some(id) = params.text("product")? {
        world.find(Kind::Product, &id, "product", false)?;
        return Ok(id);
    }
    let Some(data) = params.child("product_data") else {
        return Err(ApiError::parameter_missing("product"));
    };
    data.only(&[
        "active",
        "id",
        "metadata",
        "name",
        "statement_descriptor",
        "tax_code",
        "unit_label",
    ])?;
    let product = create_product(world, &data)?;
    Ok(product.text("id").to_owned())
}

/// A lookup key belongs to one price; it moves only when the request says so.
fn claim_lookup_key(
    world: &mut World,
    key: &str,
    transfers: bool,
    own: &str,
) -> Result<(), ApiError> {
    let holds = |price: &&Value| {
        price.link("lookup_key") == Some(key) && price.text("id") != own && price.flag("active")
    };
    let holder = world.all(Kind::Price).find(holds);
    let Some(holder) = holder.map(|price| price.text("id").to_owned()) else {
        return Ok(());
    };
    if !transfers {
        return Err(ApiError::invalid(format!(
            "A price (`{holder}`) already uses that lookup key."
        ))
        .param("lookup_key"));
    }
    world.update(&holder, "price.updated", |price| {
        set(price, "lookup_key", Value::Null);
    });
    Ok(())
}

fn update_price(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&[
        "active",
        "lookup_key",
        "metadata",
        "nickname",
        "tax_behavior",
        "transfer_lookup_key",
    ])?;
    let mut price = world.find(Kind::Price, id, "id", true)?;
    let transfers = params.boolean("transfer_lookup_key")?.unwrap_or(false);
    if let Some(active) = params.boolean("active")? {
        set(&mut price, "active", active);
    }
    set_texts(&mut price, params, &["lookup_key", "nickname"])?;
    if let Some(behavior) = params.one_of("tax_behavior", &["exclusive", "inclusive"])? {
        set(&mut price, "tax_behavior", behavior);
    }
    params.merge_metadata(&mut price)?;
    if let Some(key) = params.text("lookup_key")? {
        claim_lookup_key(world, &key, transfers, id)?;
    }
    world.update(id, "price.updated", |stored| *stored = price);
    show_in_items(world, id);
    Ok(world.copy(id))
}

/// Subscription items show their price as it is now.
fn show_in_items(world: &mut World, id: &str) {
    let price = world.copy(id);
    for subscription in world.ids(Kind::Subscription) {
        let object = world.copy(&subscription);
        let items = object.rows("items");
        if !items.iter().any(|item| item["price"]["id"] == price["id"]) {
            continue;
        }
        world.edit(&subscription, |subscription| {
            let items = subscription["items"]["data"].as_array_mut();
            for item in items.into_iter().flatten() {
                if item["price"]["id"] == price["id"] {
                    set(item, "plan", plan(&price));
                    set(item, "price", price.clone());
                }
            }
        });
    }
}

fn list_prices(world: &World, params: &Params) -> Answer {
    params.only(&list_params(&[
        "active",
        "created",
        "currency",
        "lookup_keys",
        "product",
        "recurring",
        "type",
    ]))?;
    let active = params.boolean("active")?;
    let currency = params.text("currency")?;
    let product = params.text("product")?;
    let kind = params.one_of("type", &["one_time", "recurring"])?;
    let keys = params.texts("lookup_keys");
    let interval = match params.child("recurring") {
        Some(recurring) => recurring.text("interval")?,
        None => None,
    };
    list_of(world, Kind::Price, "/v1/prices", params, |price| {
        active.is_none_or(|active| price.flag("active") == active)
            && same(currency.as_deref(), price.link("currency"))
            && same(product.as_deref(), price.link("product"))
            && same(kind.as_deref(), price.link("type"))
            && same(interval.as_deref(), price["recurring"].link("interval"))
            && (keys.is_empty() || keys.iter().any(|key| price.link("lookup_key") == Some(key)))
    })
}
