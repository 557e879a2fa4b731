//! Invoices and their payments.

use serde_json::{Value, json};

use super::{list_of, list_params, payment_methods, retrieve, same};
use crate::engine::invoicing::{self, Bill};
use crate::engine::paying::{self, Attempt, Outcome};
use crate::json::{Fields as _, set};
use crate::state::{Kind, World};
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
        ("GET", []) => list_invoices(world, params),
        ("GET", [id]) => retrieve(world, Kind::Invoice, id, params),
        ("POST", [id]) => update(world, id, params),
        ("DELETE", [id]) => delete(world, id, params),
        ("GET", [id, "lines"]) => lines(world, id, params),
        ("POST", [id, "pay"]) => pay(world, id, params),
        ("POST", [id, "finalize"]) => finalize(world, id, params),
        ("POST", [id, "send"]) => send(world, id, params),
        ("POST", [id, "void"]) => void(world, id, params),
        ("POST", [id, "mark_uncollectible"]) => mark_uncollectible(world, id, params),
        _ => return None,
    })
}

/// A manual invoice over what is pending.
fn create(world: &mut World, params: &Params) -> Answer {
    params.only(&[
        "auto_advance",
        "collection_method",
        "currency",
        "customer",
        "days_until_due",
        "default_payment_method",
        "description",
        "metadata",
        "pending_invoice_items_behavior",
        "subscription",
    ])?;
    let id = params.require("customer")?;
    let customer = world.find(Kind::Customer, &id, "customer", false)?;
    let subscription = params.text("subscription")?;
    if let Some(subscription) = &subscription {
        world.find(Kind::Subscription, subscription, "subscription", false)?;
    }
    let method = params.text("default_payment_method")?;
    if let Some(method) = &method {
        crate::engine::subscribing::check_method(world, &id, method)?;
    }
    let collection = params.one_of(
        "collection_method",
        &["charge_automatically", "send_invoice"],
    )?;
    let due_date = match collection.as_deref() {
        Some("send_invoice") => {
            let days = params.integer("days_until_due")?;
            let days = days.ok_or_else(|| ApiError::parameter_missing("days_until_due"))?;
            Some(world.now + days * crate::calendar::DAY)
        }
        _ => None,
    };
    let takes = match params.one_of("pending_invoice_items_behavior", &["exclude", "include"])? {
        Some(behavior) => behavior == "include",
        None => subscription.is_some(),
    };
    let pending = invoicing::pending_items(world, &id, subscription.as_deref());
    if pending.is_empty() && subscription.is_some() {
        return Err(ApiError::invalid("Nothing to invoice for subscription")
            .code("invoice_no_subscription_line_items"));
    }
    let currency = params.text("currency")?;
    let currency = currency.or_else(|| customer.link("currency").map(str::to_owned));
    let currency = currency.unwrap_or_else(|| "usd".to_owned());
    let latest = subscription
        .as_deref()
        .map(|id| world.copy(id)["latest_invoice"].clone());
    let draft = invoicing::bill(
        world,
        Bill {
            customer: &id,
            subscription: subscription.as_deref(),
            reason: if subscription.is_some() {
                "subscription_update"
            } else {
                "manual"
            },
            currency: &currency,
            period: (world.now, world.now),
            lines: Vec::new(),
            proration_date: None,
            with_pending: takes,
        },
    );
    let advances = params.boolean("auto_advance")?.unwrap_or(false);
    let description = params.text("description")?;
    let mut holder = json!({ "metadata": {} });
    params.merge_metadata(&mut holder)?;
    world.edit(&draft, |invoice| {
        set(invoice, "auto_advance", advances);
        set(invoice, "default_payment_method", method);
        set(invoice, "description", description);
        if let Some(collection) = collection {
            set(invoice, "collection_method", collection);
            set(invoice, "due_date", due_date);
        }
        set(invoice, "metadata", holder["metadata"].clone());
    });
    if advances {
        crate::engine::cycling::finalize_later(world, &draft);
    }
    if let (Some(subscription), Some(latest)) = (subscription, latest)
        && latest.is_null()
    {
        world.edit(&subscription, |s| set(s, "latest_invoice", latest));
    }
    Ok(world.copy(&draft))
}

fn list_invoices(world: &World, params: &Params) -> Answer {
    params.only(&list_params(&[
        "collection_method",
        "created",
        "customer",
        "due_date",
        "status",
        "subscription",
    ]))?;
    let customer = params.text("customer")?;
    let subscription = params.text("subscription")?;
    let method = params.text("collection_method")?;
    let status = params.one_of(
        "status",
        &["draft", "open", "paid", "uncollectible", "void"],
    )?;
    super::known_customer(world, customer.as_deref())?;
    list_of(world, Kind::Invoice, "/v1/invoices", params, |invoice| {
        same(customer.as_deref(), invoice.link("customer"))
            && same(method.as_deref(), invoice.link("collection_method"))
            && same(status.as_deref(), invoice.link("status"))
            && same(subscription.as_deref(), invoicing::subscription_of(invoice))
    })
}

fn update(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&[
        "auto_advance",
        "default_payment_method",
        "description",
        "metadata",
    ])?;
    let mut invoice = world.find(Kind::Invoice, id, "invoice", true)?;
    if let Some(advances) = params.boolean("auto_advance")? {
        set(&mut invoice, "auto_advance", advances);
        let is_draft = invoice.text("status") == "draft";
        let at = (advances && is_draft).then_some(world.now + 3600);
        if is_draft {
            set(&mut invoice, "automatically_finalizes_at", at);
            set(&mut invoice, "next_payment_attempt", at);
        }
    }
    if let Some(method) = params.nullable("default_payment_method")? {
        if let Some(method) = method.as_str() {
            let customer = invoice.text("customer");
            crate::engine::subscribing::check_method(world, customer, method)?;
        }
        set(&mut invoice, "default_payment_method", method);
    }
    super::set_texts(&mut invoice, params, &["description"])?;
    params.merge_metadata(&mut invoice)?;
    world.update(id, "invoice.updated", |stored| *stored = invoice);
    Ok(world.copy(id))
}

/// A draft that no subscription made can be deleted.
fn delete(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&[])?;
    let invoice = world.find(Kind::Invoice, id, "invoice", true)?;
    if invoice.text("status") != "draft" {
        return Err(ApiError::invalid(
            "You can only delete draft invoices. To cancel a finalized invoice, void it.",
        )
        .code("invoice_not_editable"));
    }
    if invoicing::subscription_of(&invoice).is_some() {
        return Err(ApiError::invalid(
            "You cannot delete invoices created by subscriptions.",
        ));
    }
    world.emit("invoice.deleted", id);
    let deleted = json!({ "id": id, "object": "invoice", "deleted": true });
    world.edit(id, |invoice| *invoice = deleted.clone());
    Ok(deleted)
}

fn lines(world: &World, id: &str, params: &Params) -> Answer {
    params.only(&list::PAGING)?;
    let invoice = world.find(Kind::Invoice, id, "invoice", true)?;
    let url = format!("/v1/invoices/{id}/lines");
    list::page(params, &url, invoice.rows("lines").to_vec())
}

fn pay(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&[
        "forgive",
        "off_session",
        "paid_out_of_band",
        "payment_method",
    ])?;
    let invoice = world.find(Kind::Invoice, id, "invoice", true)?;
    match invoice.text("status") {
        "paid" => {
            return Err(ApiError::invalid("Invoice is already paid").code("invoice_already_paid"));
        }
        "void" => {
            return Err(ApiError::invalid(
                "This invoice can't be paid because it has been voided.",
            ));
        }
        "draft" => invoicing::finalize(world, id)?,
        _ => {}
    }
    if params.boolean("paid_out_of_band")? == Some(true) {
        invoicing::cancel_intent(world, id);
        let due = world.copy(id).number("amount_due");
        invoicing::mark_paid(world, id, due);
        return Ok(world.copy(id));
    }
    let method = match params.text("payment_method")? {
        Some(method) => {
            let method = payment_methods::usable(world, &method, "payment_method")?;
            Some(payment_methods::stored(world, method))
        }
        None => None,
    };
    // Unlike a confirmation, paying an invoice assumes that nobody is there.
    let off_session = params.boolean("off_session")?.unwrap_or(true);
    let attempt = Attempt {
        automatic: false,
        off_session,
        method,
    };
    if world.copy(id).text("status") == "paid" {
        return Ok(world.copy(id));
    }
    match paying::attempt(world, id, &attempt) {
        Outcome::Paid => Ok(world.copy(id)),
        Outcome::Failed(error) => Err(error),
        Outcome::ActionRequired => {
            let intent = invoicing::intent_of(world, id).unwrap_or_default();
            Err(ApiError::new(
                402,
                "card_error",
                "This payment requires additional user action before it can be completed successfully. Payment can be completed using the PaymentIntent associated with the invoice.",
            )
            .code("invoice_payment_intent_requires_action")
            .with("payment_intent", crate::json::visible(&world.copy(&intent))))
        }
    }
}

fn finalize(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&["auto_advance"])?;
    world.find(Kind::Invoice, id, "invoice", true)?;
    invoicing::finalize(world, id)?;
    if let Some(advances) = params.boolean("auto_advance")? {
        world.edit(id, |invoice| set(invoice, "auto_advance", advances));
    }
    // What has just been finalized by hand is collected about an hour later.
    let at = world.now + 3600;
    let invoice = world.copy(id);
    let collects = invoice.text("status") == "open"
        && invoice.flag("auto_advance")
        && invoice.text("collection_method") == "charge_automatically";
    if collects {
        world.edit(id, |invoice| set(invoice, "next_payment_attempt", at));
    }
    Ok(world.copy(id))
}

/// Mails an invoice; a draft is made final first.
fn send(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&[])?;
    let invoice = world.find(Kind::Invoice, id, "invoice", true)?;
    if invoice.text("status") == "draft" {
        invoicing::finalize(world, id)?;
    }
    world.emit("invoice.sent", id);
    Ok(world.copy(id))
}

fn void(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&[])?;
    world.find(Kind::Invoice, id, "invoice", true)?;
    invoicing::void(world, id)?;
    Ok(world.copy(id))
}

fn mark_uncollectible(world: &mut World, id: &str, params: &Params) -> Answer {
    params.only(&[])?;
    world.find(Kind::Invoice, id, "invoice", true)?;
    invoicing::mark_uncollectible(world, id)?;
    Ok(world.copy(id))
}

pub(super) fn payments(
    world: &mut World,
    method: &str,
    path: &[&str],
    params: &Params,
) -> Option<Answer> {
    Some(match (method, path) {
        ("GET", []) => list_payments(world, params),
        ("GET", [id]) => retrieve(world, Kind::InvoicePayment, id, params),
        _ => return None,
    })
}

fn list_payments(world: &World, params: &Params) -> Answer {
    params.only(&list_params(&["created", "invoice", "payment", "status"]))?;
    let invoice = params.text("invoice")?;
    let status = params.one_of("status", &["canceled", "open", "paid"])?;
    let intent = match params.child("payment") {
        Some(payment) => payment.text("payment_intent")?,
        None => None,
    };
    let matches = |payment: &Value| {
        same(invoice.as_deref(), payment.link("invoice"))
            && same(status.as_deref(), payment.link("status"))
            && same(intent.as_deref(), payment["payment"].link("payment_intent"))
    };
    list_of(
        world,
        Kind::InvoicePayment,
        "/v1/invoice_payments",
        params,
        matches,
    )
}
