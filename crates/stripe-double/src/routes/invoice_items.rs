//! Items that wait for a customer's next invoice.

use serde_json::{Value, json};

use super::{list_of, list_params, retrieve, same};
use crate::engine::invoicing::{self, NewLine};
use crate::engine::subscribing::check_currency;
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
        ("GET", [id]) => retrieve(world, Kind::InvoiceItem, id, params),
        ("DELETE", [id]) => delete(world, id, params),
        _ => return None,
    })
}

fn create(world: &mut World, params: &Params) -> Answer {
    params.only(&["amount", "currency", "customer", "description", "metadata"])?;
    let id = params.require("customer")?;
    let customer = world.find(Kind::Customer, &id, "customer", false)?;
    let amount = params
        .integer("amount")?
        .ok_or_else(|| ApiError::parameter_missing("amount"))?;
    let currency = params.text("currency")?;
    let currency = currency.or_else(|| customer.link("currency").map(str::to_owned));
    let currency = currency.ok_or_else(|| ApiError::parameter_missing("currency"))?;
    check_currency(world, &customer, &currency)?;
    let mut holder = json!({ "metadata": {} });
    params.merge_metadata(&mut holder)?;
    let line = NewLine {
        amount,
        description: params.text("description")?.unwrap_or_default(),
        period: (world.now, world.now),
        quantity: 1,
        price: Value::Null,
        item: None,
        proration: false,
        credited: None,
    };
    let item = invoicing::pend(world, &id, &currency, &line);
    world.edit(&item, |item| {
        set(item, "metadata", holder["metadata"].clone());
    });
    Ok(world.copy(&item))
}

fn list(world: &World, params: &Params) -> Answer {
    params.only(&list_params(&["created", "customer", "invoice", "pending"]))?;
    let customer = params.text("customer")?;
    let invoice = params.text("invoice")?;
    let pending = params.boolean("pending")?;
    list_of(
        world,
        Kind::InvoiceItem,
        "/v1/invoiceitems",
        params,
        |item| {
            same(customer.as_deref(), item.link("customer"))
                && same(invoice.as_deref(), item.link("invoice"))
                && pending.is_none_or(|pending| item["invoice"].is_null() == pending)
        },
    )
}

fn delete(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&[])?;
    let item = world.find(Kind::InvoiceItem, id, "invoiceitem", true)?;
    if !item["invoice"].is_null() {
        return Err(ApiError::invalid(
            "This invoice item is part of an invoice and cannot be deleted.",
        ));
    }
    world.emit("invoiceitem.deleted", id);
    let deleted = json!({ "id": id, "object": "invoiceitem", "deleted": true });
    world.edit(id, |item| *item = deleted.clone());
    Ok(deleted)
}
