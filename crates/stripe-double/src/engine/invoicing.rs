//! Drafts become final: lines, totals, the customer's balance, and the intent that pays what is due.

use serde_json::{Value, json};

use super::outcomes;
use crate::json::{Fields as _, set};
use crate::money;
use crate::objects::{self, InvoiceDraft, InvoiceLine};
use crate::state::{Kind, World};
use crate::wire::error::ApiError;

/// What an invoice is to bill.
pub(crate) struct Bill<'a> {
    pub(crate) customer: &'a str,
    pub(crate) subscription: Option<&'a str>,
    pub(crate) reason: &'a str,
    pub(crate) currency: &'a str,
    /// When invoice items could be associated with it: the period that ends, not the one that is billed.
    pub(crate) period: (i64, i64),
    pub(crate) lines: Vec<NewLine>,
    pub(crate) proration_date: Option<i64>,
    /// Whether the customer's pending items are taken up.
    pub(crate) with_pending: bool,
}

/// A line to be.
#[derive(Debug, Clone)]
pub(crate) struct NewLine {
    pub(crate) amount: i64,
    pub(crate) description: String,
    pub(crate) period: (i64, i64),
    pub(crate) quantity: i64,
    pub(crate) price: Value,
    /// The item of the subscription, and the subscription.
    pub(crate) item: Option<(String, String)>,
    pub(crate) proration: bool,
    /// For a credit: the invoice and line that billed what is credited.
    pub(crate) credited: Option<(String, String)>,
}

impl NewLine {
    /// The line's `parent`.
    pub(crate) fn parent(&self, invoice_item: Option<&str>) -> Value {
        let credited = self
            .credited
            .as_ref()
            .map(|(invoice, line)| json!({ "invoice": invoice, "invoice_line_items": [line] }));
        let details = json!({ "credited_items": credited });
        match &self.item {
            Some((item, subscription)) => json!({
                "invoice_item_details": null,
                "subscription_item_details": {
                    "invoice_item": invoice_item,
                    "proration": self.proration,
                    "proration_details": details,
                    "subscription": subscription,
                    "subscription_item": item,
                },
                "type": "subscription_item_details",
            }),
            None => json!({
                "invoice_item_details": {
                    "invoice_item": invoice_item,
                    "proration": self.proration,
                    "proration_details": details,
                    "subscription": null,
                },
                "subscription_item_details": null,
                "type": "invoice_item_details",
            }),
        }
    }
}

/// The line that bills an item for a whole period.
pub(crate) fn period_line(world: &World, item: &Value, period: (i64, i64), trial: bool) -> NewLine {
    let price = item["price"].clone();
    let quantity = item.number("quantity");
    let name = product_name(world, &price);
    let amount = money::total(&price, quantity);
    let description = if trial {
        format!("Trial period for {name}")
    } else {
        format!(
            "{quantity} × {name} (at {} / {})",
            money::words(price.number("unit_amount"), price.text("currency")),
            cadence_words(&price),
        )
    };
    NewLine {
        amount: if trial { 0 } else { amount },
        description,
        period,
        quantity,
        item: Some((
            item.text("id").to_owned(),
            item.text("subscription").to_owned(),
        )),
        price,
        proration: false,
        credited: None,
    }
}

/// The name of a price's product.
pub(crate) fn product_name(world: &World, price: &Value) -> String {
    let product = price.link("product").and_then(|id| world.get(id));
    product.map_or_else(String::new, |product| product.text("name").to_owned())
}

fn cadence_words(price: &Value) -> String {
    let recurring = &price["recurring"];
    let interval = recurring.text("interval");
    match recurring.number("interval_count") {
        0 | 1 => interval.to_owned(),
        count => format!("every {count} {interval}s"),
    }
}

/// The customer's items that wait for an invoice, newest first: those of the subscription and those of none.
pub(crate) fn pending_items(
    world: &World,
    customer: &str,
    subscription: Option<&str>,
) -> Vec<String> {
    let waiting = world.all(Kind::InvoiceItem).rev().filter(|item| {
        let of = item["parent"]["subscription_details"].link("subscription");
        item.link("customer") == Some(customer)
            && item["invoice"].is_null()
            && !item.flag("deleted")
            && (of.is_none() || of == subscription)
    });
    waiting.map(|item| item.text("id").to_owned()).collect()
}

/// Makes a draft, and makes it the subscription's latest invoice.
pub(crate) fn bill(world: &mut World, bill: Bill<'_>) -> String {
    let id = world.new_id(Kind::Invoice);
    let subscription = bill
        .subscription
        .map_or(Value::Null, |subscription| world.copy(subscription));
    let metadata = match bill.subscription {
        Some(_) => subscription["metadata"].clone(),
        None => json!({}),
    };
    let mut lines = Vec::new();
    if bill.with_pending {
        for item in pending_items(world, bill.customer, bill.subscription) {
            lines.push(take_up(world, &item, &id));
        }
    }
    for new in &bill.lines {
        let line_id = format!("il_1{}", crate::state::random_text(23));
        if let Some((item, of)) = &new.item {
            note_billed(world, of, item, new, &id, &line_id);
        }
        lines.push(objects::line(InvoiceLine {
            id: line_id,
            invoice: &id,
            amount: new.amount,
            currency: bill.currency,
            description: new.description.clone(),
            period: new.period,
            quantity: new.quantity,
            price: &new.price,
            metadata: &metadata,
            parent: new.parent(None),
        }));
    }
    let customer = world.copy(bill.customer);
    let invoice = objects::invoice(
        InvoiceDraft {
            id: id.clone(),
            customer: &customer,
            subscription: &subscription,
            reason: bill.reason,
            currency: bill.currency,
            period: bill.period,
            lines,
            proration_date: bill.proration_date,
            created: world.now,
        },
        &world.account,
    );
    world.insert(Kind::Invoice, invoice);
    if customer["currency"].is_null() {
        world.edit(bill.customer, |customer| {
            set(customer, "currency", bill.currency);
        });
    }
    if let Some(subscription) = bill.subscription {
        world.edit(subscription, |s| set(s, "latest_invoice", id.clone()));
        let collection = subscription_collection(world, subscription);
        world.edit(&id, |invoice| {
            for (key, value) in collection {
                set(invoice, key, value);
            }
        });
    }
    world.emit("invoice.created", &id);
    id
}

fn subscription_collection(world: &World, subscription: &str) -> Vec<(&'static str, Value)> {
    let subscription = world.copy(subscription);
    let days = subscription.time("days_until_due");
    vec![
        (
            "collection_method",
            subscription["collection_method"].clone(),
        ),
        (
            "due_date",
            days.map_or(Value::Null, |days| {
                json!(world.now + days * crate::calendar::DAY)
            }),
        ),
    ]
}

/// Notes on an item what the customer has been billed for it, which flexible billing credits from.
fn note_billed(
    world: &mut World,
    subscription: &str,
    item: &str,
    line: &NewLine,
    invoice: &str,
    line_id: &str,
) {
    if line.amount < 0 {
        return;
    }
    let billed = json!({
        "amount": line.amount,
        "start": line.period.0,
        "end": line.period.1,
        "invoice": invoice,
        "line": line_id,
    });
    world.edit(subscription, |subscription| {
        let items = subscription["items"]["data"].as_array_mut();
        let own = items.into_iter().flatten().find(|i| i.text("id") == item);
        if let Some(own) = own {
            set(own, "_billed", billed);
        }
    });
}

/// Turns a pending item into a line of an invoice.
fn take_up(world: &mut World, item_id: &str, invoice: &str) -> Value {
    world.edit(item_id, |item| set(item, "invoice", invoice));
    let item = world.copy(item_id);
    let mut parent = item["_parent"].clone();
    for details in ["subscription_item_details", "invoice_item_details"] {
        if parent[details].is_object() {
            parent[details]["invoice_item"] = json!(item_id);
        }
    }
    let line_id = format!("il_1{}", crate::state::random_text(23));
    let details = &item["_parent"]["subscription_item_details"];
    if let (Some(subscription), Some(subscription_item)) = (
        details.link("subscription"),
        details.link("subscription_item"),
    ) {
        name_billed_line(
            world,
            subscription,
            subscription_item,
            item_id,
            invoice,
            &line_id,
        );
    }
    objects::line(InvoiceLine {
        id: line_id,
        invoice,
        amount: item.number("amount"),
        currency: item.text("currency"),
        description: item.text("description").to_owned(),
        period: (item["period"].number("start"), item["period"].number("end")),
        quantity: item.number("quantity"),
        price: &item["_price"],
        metadata: &item["metadata"],
        parent,
    })
}

/// Once a pending debit has become a line, a later credit can name it.
fn name_billed_line(
    world: &mut World,
    subscription: &str,
    subscription_item: &str,
    item_id: &str,
    invoice: &str,
    line_id: &str,
) {
    world.edit(subscription, |subscription| {
        let items = subscription["items"]["data"].as_array_mut();
        for item in items.into_iter().flatten() {
            let billed_by = item["_billed"].link("pending") == Some(item_id);
            if item.text("id") == subscription_item && billed_by {
                item["_billed"]["invoice"] = json!(invoice);
                item["_billed"]["line"] = json!(line_id);
            }
        }
    });
}

/// Makes a pending item, announced by `invoiceitem.created`.
pub(crate) fn pend(world: &mut World, customer: &str, currency: &str, line: &NewLine) -> String {
    let id = world.new_id(Kind::InvoiceItem);
    let customer_object = world.copy(customer);
    let subscription = line.item.as_ref().map(|(_, subscription)| subscription);
    let metadata = subscription.map_or_else(
        || json!({}),
        |subscription| world.copy(subscription)["metadata"].clone(),
    );
    let item = objects::invoice_item(
        &id,
        &customer_object,
        InvoiceLine {
            id: String::new(),
            invoice: "",
            amount: line.amount,
            currency,
            description: line.description.clone(),
            period: line.period,
            quantity: line.quantity,
            price: &line.price,
            metadata: &metadata,
            parent: line.parent(None),
        },
        line.proration,
        world.now,
    );
    world.insert(Kind::InvoiceItem, item);
    world.emit("invoiceitem.created", &id);
    id
}

/// What finalizing does to the customer's balance: how much is due, and the balance after.
pub(crate) fn settle_balance(total: i64, starting: i64, currency: &str) -> (i64, i64) {
    if total < 0 {
        return (0, starting + total);
    }
    match total + starting {
        sum if sum <= 0 => (0, sum),
        // Too little to charge: owed with the next invoice.
        sum if sum < money::minimum_charge(currency) => (0, sum),
        sum => (sum, 0),
    }
}

/// What a draft can fail on when it becomes final by itself, with the message of each code
/// (<https://docs.stripe.com/error-codes>).
pub(crate) const FINALIZATION_ERRORS: [(&str, &str); 3] = [
    (
        "customer_tax_location_invalid",
        "The customer's location isn't recognized. Set a valid customer address in order to automatically calculate tax.",
    ),
    (
        "taxes_calculation_failed",
        "Tax calculation for the transaction failed.",
    ),
    (
        "stripe_tax_inactive",
        "Stripe Tax has not been activated on your account.",
    ),
];

/// Lets a draft fail to become final, if its customer's next one is to. It stays a draft that says why and does not
/// try again by itself: whoever has mended the cause finalizes it. The subscription stays as it is, since only an
/// invoice that is final makes it `past_due`
/// (<https://docs.stripe.com/billing/subscriptions/webhooks#invoice-finalization-failure>).
pub(crate) fn fails_to_finalize(world: &mut World, id: &str) -> bool {
    let customer_id = world.copy(id).text("customer").to_owned();
    let queued = world
        .copy(&customer_id)
        .rows("_finalization_errors")
        .to_vec();
    let Some((first, rest)) = queued.split_first() else {
        return false;
    };
    let rest = rest.to_vec();
    world.edit(&customer_id, |customer| {
        set(customer, "_finalization_errors", rest);
    });
    let known = FINALIZATION_ERRORS.iter();
    let mut known = known.filter(|(code, _)| first.as_str() == Some(code));
    let Some((code, message)) = known.next() else {
        return false;
    };
    world.edit(id, |invoice| {
        let fields = json!({
            "automatically_finalizes_at": null,
            "next_payment_attempt": null,
            "last_finalization_error": {
                "code": code,
                "doc_url": format!("https://docs.stripe.com/error-codes/{}", code.replace('_', "-")),
                "message": message,
                "type": "invalid_request_error",
            },
        });
        merge(invoice, fields);
    });
    world.emit("invoice.finalization_failed", id);
    true
}

/// Makes a draft final. What is due gets an intent; an invoice over nothing is paid at once.
pub(crate) fn finalize(world: &mut World, id: &str) -> Result<(), ApiError> {
    let invoice = world.copy(id);
    if invoice.text("status") != "draft" {
        return Err(ApiError::invalid(
            "This invoice is already finalized, you can't re-finalize a non-draft invoice.",
        )
        .code("invoice_not_editable"));
    }
    let now = world.now;
    let customer_id = invoice.text("customer").to_owned();
    let customer = world.copy(&customer_id);
    let currency = invoice.text("currency").to_owned();
    let starting = customer.number("balance");
    let (due, ending) = settle_balance(invoice.number("total"), starting, &currency);
    let sequence = customer.number("next_invoice_sequence");
    let number = format!("{}-{sequence:04}", customer.text("invoice_prefix"));
    let page = format!("{}/i/{id}", world.base_url);
    world.edit(&customer_id, |customer| {
        set(customer, "next_invoice_sequence", sequence + 1);
    });
    world.edit(id, |invoice| {
        let fields = json!({
            "status": "open",
            "number": number,
            "amount_due": due,
            "amount_remaining": due,
            "starting_balance": starting,
            "ending_balance": ending,
            "effective_at": now,
            "automatically_finalizes_at": null,
            "last_finalization_error": null,
            "hosted_invoice_url": page,
            "invoice_pdf": format!("{page}/pdf"),
        });
        merge(invoice, fields);
        invoice["status_transitions"]["finalized_at"] = json!(now);
    });
    if ending != starting {
        move_balance(world, &customer_id, ending, "applied_to_invoice", Some(id));
    }
    if due > 0 {
        let intent = make_intent(world, id);
        world.emit("invoice.finalized", id);
        world.emit("payment_intent.created", &intent);
    } else {
        world.emit("invoice.finalized", id);
        mark_paid(world, id, 0);
    }
    Ok(())
}

/// The intent that pays an invoice, and the invoice payment that connects the two.
fn make_intent(world: &mut World, invoice_id: &str) -> String {
    let invoice = world.copy(invoice_id);
    let customer = world.copy(invoice.text("customer"));
    let description = match invoice.text("billing_reason") {
        "subscription_create" => "Subscription creation",
        "subscription_update" | "subscription_cycle" => "Subscription update",
        _ => "Payment for Invoice",
    };
    let id = world.new_id(Kind::PaymentIntent);
    let mut intent = objects::payment_intent(
        &id,
        &customer,
        invoice.number("amount_due"),
        invoice.text("currency"),
        description,
        world.now,
    );
    set(&mut intent, "_invoice", invoice_id);
    world.insert(Kind::PaymentIntent, intent);
    let payment_id = world.new_id(Kind::InvoicePayment);
    let payment = objects::invoice_payment(&payment_id, &invoice, &id, world.now);
    world.insert(Kind::InvoicePayment, payment);
    id
}

/// The intent that pays an invoice, if one is due.
pub(crate) fn intent_of(world: &World, invoice: &str) -> Option<String> {
    let mut payments = world.all(Kind::InvoicePayment).rev();
    let payment = payments.find(|payment| payment.link("invoice") == Some(invoice))?;
    payment["payment"].link("payment_intent").map(str::to_owned)
}

/// An invoice is paid: by a card, by credit, or because there was nothing to pay.
pub(crate) fn mark_paid(world: &mut World, id: &str, amount: i64) {
    let now = world.now;
    let payments = world.all(Kind::InvoicePayment);
    let own = payments.filter(|payment| payment.link("invoice") == Some(id));
    let open: Vec<_> = own.map(|payment| payment.text("id").to_owned()).collect();
    for payment in open {
        world.edit(&payment, |payment| {
            set(payment, "status", "paid");
            set(payment, "amount_paid", amount);
            payment["status_transitions"]["paid_at"] = json!(now);
        });
        world.emit("invoice_payment.paid", &payment);
    }
    world.update(id, "invoice.updated", |invoice| {
        let fields = json!({
            "status": "paid",
            "amount_paid": amount,
            "amount_remaining": 0,
            "attempted": true,
            "auto_advance": false,
            "next_payment_attempt": null,
        });
        merge(invoice, fields);
        invoice["status_transitions"]["paid_at"] = json!(now);
    });
    world.emit("invoice.paid", id);
    world.emit("invoice.payment_succeeded", id);
    outcomes::paid(world, id);
}

/// Voids an invoice, if it is open.
pub(crate) fn void_if_open(world: &mut World, id: &str) {
    if world.copy(id).text("status") == "open"
        && let Err(error) = void(world, id)
    {
        tracing::error!(error = ?error.fields, "an invoice could not be voided");
    }
}

/// Voids an open invoice.
pub(crate) fn void(world: &mut World, id: &str) -> Result<(), ApiError> {
    let invoice = world.copy(id);
    if !matches!(invoice.text("status"), "open" | "uncollectible") {
        return Err(ApiError::invalid(format!(
            "You can only pass in open invoices. This invoice isn't open (status: {}).",
            invoice.text("status")
        )));
    }
    cancel_intent(world, id);
    give_back_credit(world, &invoice);
    let now = world.now;
    world.edit(id, |invoice| {
        merge(
            invoice,
            json!({ "status": "void", "auto_advance": false, "next_payment_attempt": null }),
        );
        invoice["status_transitions"]["voided_at"] = json!(now);
    });
    world.emit("invoice.voided", id);
    outcomes::closed(world, id);
    Ok(())
}

/// Marks an open invoice as bad debt.
pub(crate) fn mark_uncollectible(world: &mut World, id: &str) -> Result<(), ApiError> {
    let status = world.copy(id).text("status").to_owned();
    if status != "open" {
        return Err(ApiError::invalid(format!(
            "You can only pass in open invoices. This invoice isn't open (status: {status})."
        )));
    }
    let now = world.now;
    world.edit(id, |invoice| {
        merge(
            invoice,
            json!({ "status": "uncollectible", "auto_advance": false, "next_payment_attempt": null }),
        );
        invoice["status_transitions"]["marked_uncollectible_at"] = json!(now);
    });
    world.emit("invoice.marked_uncollectible", id);
    outcomes::closed(world, id);
    Ok(())
}

/// Stops collecting what is still open of a subscription.
pub(crate) fn stop_collecting(world: &mut World, subscription: &str) {
    let invoices = world.all(Kind::Invoice).filter(|invoice| {
        subscription_of(invoice) == Some(subscription)
            && matches!(invoice.text("status"), "draft" | "open")
    });
    let ids: Vec<_> = invoices.map(|i| i.text("id").to_owned()).collect();
    for id in ids {
        world.update(&id, "invoice.updated", |invoice| {
            let stopped = json!({
                "auto_advance": false,
                "next_payment_attempt": null,
                "automatically_finalizes_at": null,
            });
            merge(invoice, stopped);
        });
    }
}

/// Cancels the intent of an invoice that will not be paid.
pub(crate) fn cancel_intent(world: &mut World, invoice: &str) {
    let Some(intent) = intent_of(world, invoice) else {
        return;
    };
    let now = world.now;
    if world.copy(&intent).text("status") == "succeeded" {
        return;
    }
    world.edit(&intent, |intent| {
        merge(
            intent,
            json!({
                "status": "canceled",
                "canceled_at": now,
                "cancellation_reason": "void_invoice",
                "next_action": null,
            }),
        );
    });
    world.emit("payment_intent.canceled", &intent);
}

/// Voiding undoes what the invoice did to the customer's balance.
fn give_back_credit(world: &mut World, invoice: &Value) {
    let Some(ending) = invoice.time("ending_balance") else {
        return;
    };
    let moved = ending - invoice.number("starting_balance");
    if moved == 0 {
        return;
    }
    let customer = invoice.text("customer").to_owned();
    let balance = world.copy(&customer).number("balance") - moved;
    let id = invoice.text("id").to_owned();
    move_balance(
        world,
        &customer,
        balance,
        "unapplied_from_invoice",
        Some(&id),
    );
}

/// Sets a customer's balance and notes the movement.
pub(crate) fn move_balance(
    world: &mut World,
    customer: &str,
    balance: i64,
    reason: &str,
    invoice: Option<&str>,
) {
    let before = world.copy(customer);
    let id = world.new_id(Kind::BalanceTransaction);
    let currency = match invoice.and_then(|id| world.get(id)) {
        Some(invoice) => invoice["currency"].clone(),
        None => before["currency"].clone(),
    };
    let transaction = json!({
        "id": id,
        "object": "customer_balance_transaction",
        "amount": balance - before.number("balance"),
        "checkout_session": null,
        "created": world.now,
        "credit_note": null,
        "currency": currency,
        "customer": customer,
        "customer_account": null,
        "description": null,
        "ending_balance": balance,
        "invoice": invoice,
        "livemode": false,
        "metadata": {},
        "type": reason,
    });
    world.insert(Kind::BalanceTransaction, transaction);
    world.update(customer, "customer.updated", |customer| {
        set(customer, "balance", balance);
    });
}

/// The subscription that caused an invoice.
pub(crate) fn subscription_of(invoice: &Value) -> Option<&str> {
    invoice["parent"]["subscription_details"].link("subscription")
}

/// Sets several fields at once.
pub(crate) fn merge(target: &mut Value, fields: Value) {
    if let Value::Object(fields) = fields {
        for (key, value) in fields {
            set(target, &key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::settle_balance;

    #[test]
    fn credit_is_used_before_the_card_and_debts_are_collected() {
        assert_eq!(settle_balance(2900, 0, "usd"), (2900, 0));
        assert_eq!(settle_balance(2900, -1000, "usd"), (1900, 0));
        assert_eq!(settle_balance(2900, -5000, "usd"), (0, -2100));
        assert_eq!(settle_balance(2900, 300, "usd"), (3200, 0));
        assert_eq!(settle_balance(-700, 0, "usd"), (0, -700));
        assert_eq!(settle_balance(-700, -100, "usd"), (0, -800));
        assert_eq!(settle_balance(49, 0, "usd"), (0, 49));
        assert_eq!(settle_balance(0, 0, "usd"), (0, 0));
    }
}
