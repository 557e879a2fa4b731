//! The API under `/v1`: which path does what.

mod catalogue;
mod charges;
mod checkout;
mod clocks;
mod customers;
mod events;
mod intents;
mod invoice_items;
mod invoices;
mod payment_methods;
mod portal;
mod previews;
mod schedules;
mod subscription_items;
mod subscription_params;
mod subscriptions;

use serde_json::Value;

use crate::json::{Fields as _, visible};
use crate::state::{Kind, World};
use crate::wire::error::{Answer, ApiError};
use crate::wire::expand::expand;
use crate::wire::list;
use crate::wire::params::Params;

pub(crate) use checkout::price_words;
pub(crate) use checkout::{Completion, complete as complete_checkout};
pub(crate) use events::new_endpoint;
pub(crate) use payment_methods::from_number as payment_method_from_number;

/// Answers a request to the API. `path` is what follows `/v1/`.
pub(crate) fn call(world: &mut World, method: &str, path: &[&str], params: &Params) -> Answer {
    let expansions = params.texts("expand");
    let mut answer = visible(&dispatch(world, method, path, params)?);
    show_first_lines(&mut answer);
    expand(world, &mut answer, &expansions)?;
    Ok(answer)
}

fn dispatch(world: &mut World, method: &str, path: &[&str], params: &Params) -> Answer {
    let unknown = || ApiError::unrecognized_url(method, &format!("/v1/{}", path.join("/")));
    let answer = match path {
        ["customers", rest @ ..] => customers::route(world, method, rest, params),
        ["products", rest @ ..] => catalogue::products(world, method, rest, params),
        ["prices", rest @ ..] => catalogue::prices(world, method, rest, params),
        ["payment_methods", rest @ ..] => payment_methods::route(world, method, rest, params),
        ["setup_intents", rest @ ..] => intents::setup_intents(world, method, rest, params),
        ["payment_intents", rest @ ..] => intents::payment_intents(world, method, rest, params),
        ["subscriptions", rest @ ..] => subscriptions::route(world, method, rest, params),
        ["subscription_items", rest @ ..] => subscription_items::route(world, method, rest, params),
        ["subscription_schedules", rest @ ..] => schedules::route(world, method, rest, params),
        ["invoices", "create_preview"] if method == "POST" => Some(previews::create(world, params)),
        ["invoices", rest @ ..] => invoices::route(world, method, rest, params),
        ["invoice_payments", rest @ ..] => invoices::payments(world, method, rest, params),
        ["invoiceitems", rest @ ..] => invoice_items::route(world, method, rest, params),
        ["charges", rest @ ..] => charges::charges(world, method, rest, params),
        ["refunds", rest @ ..] => charges::refunds(world, method, rest, params),
        ["disputes", rest @ ..] => charges::disputes(world, method, rest, params),
        ["checkout", "sessions", rest @ ..] => checkout::route(world, method, rest, params),
        ["billing_portal", "sessions", rest @ ..] => portal::sessions(world, method, rest, params),
        ["billing_portal", "configurations", rest @ ..] => {
            portal::configurations(world, method, rest, params)
        }
        ["events", rest @ ..] => events::route(world, method, rest, params),
        ["webhook_endpoints", rest @ ..] => events::endpoints(world, method, rest, params),
        ["test_helpers", "test_clocks", rest @ ..] => clocks::route(world, method, rest, params),
        _ => None,
    };
    answer.unwrap_or_else(|| Err(unknown()))
}

/// The test clock that a request is about: that of an object which its path or parameters name.
pub(crate) fn clock_of_call(world: &World, path: &[&str], params: &Params) -> Option<String> {
    const REFERENCES: [&str; 8] = [
        "customer",
        "subscription",
        "from_subscription",
        "invoice",
        "charge",
        "payment_intent",
        "payment_method",
        "test_clock",
    ];
    let named = REFERENCES
        .iter()
        .filter_map(|name| params.text(name).ok().flatten());
    let in_path = path.iter().map(|part| (*part).to_owned());
    in_path.chain(named).find_map(|id| world.clock_of(&id))
}

/// Retrieves one object.
fn retrieve(world: &World, kind: Kind, id: &str, params: &Params) -> Answer {
    params.only(&[])?;
    world.find(kind, id, "id", true)
}

/// A list that is filtered by a customer is refused where there never was such a customer. A deleted one was.
fn known_customer(world: &World, customer: Option<&str>) -> Result<(), ApiError> {
    match customer {
        Some(id) if world.kind_of(id) != Some(Kind::Customer) => {
            Err(ApiError::no_such("customer", id, "customer", false))
        }
        _ => Ok(()),
    }
}

/// Lists objects of a kind, newest first, that match.
fn list_of(
    world: &World,
    kind: Kind,
    url: &str,
    params: &Params,
    matches: impl Fn(&Value) -> bool,
) -> Answer {
    let mut rows = Vec::new();
    for object in world.all(kind).rev() {
        let live = !object.flag("deleted") && matches(object);
        if live && list::in_range(params, "created", object.time("created"))? {
            rows.push(object);
        }
    }
    let mut page = list::page(params, url, rows)?;
    if let Some(rows) = page["data"].as_array_mut() {
        rows.iter_mut().for_each(show_first_lines);
    }
    Ok(page)
}

/// The parameters of a list: paging, and its own filters.
fn list_params<'a>(own: &[&'a str]) -> Vec<&'a str> {
    list::PAGING.iter().chain(own).copied().collect()
}

/// An optional filter by equality with a reference or text.
fn same(filter: Option<&str>, value: Option<&str>) -> bool {
    filter.is_none_or(|filter| value == Some(filter))
}

/// An invoice shows the first ten of its lines; the others are listed under `/lines`.
fn show_first_lines(object: &mut Value) {
    const SHOWN: usize = 10;
    if object.text("object") != "invoice" {
        return;
    }
    let lines = &mut object["lines"];
    if let Some(rows) = lines["data"].as_array_mut()
        && rows.len() > SHOWN
    {
        rows.truncate(SHOWN);
        lines["has_more"] = Value::Bool(true);
    }
}

/// Copies the parameters that set a text field or clear it.
fn set_texts(object: &mut Value, params: &Params, keys: &[&str]) -> Result<(), ApiError> {
    for key in keys {
        if let Some(value) = params.nullable(key)? {
            object[*key] = value;
        }
    }
    Ok(())
}
