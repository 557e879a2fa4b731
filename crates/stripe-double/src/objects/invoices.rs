//! Invoices, their lines, what is pending for one, and the payments of one.

use serde_json::{Value, json};

use crate::config::Account;
use crate::json::{Fields as _, embedded_list, set};

/// What an invoice is made of.
pub(crate) struct InvoiceDraft<'a> {
    pub(crate) id: String,
    pub(crate) customer: &'a Value,
    /// Null for an invoice that no subscription caused.
    pub(crate) subscription: &'a Value,
    pub(crate) reason: &'a str,
    pub(crate) currency: &'a str,
    pub(crate) period: (i64, i64),
    pub(crate) lines: Vec<Value>,
    /// When the change that is prorated took place.
    pub(crate) proration_date: Option<i64>,
    pub(crate) created: i64,
}

/// A new draft. Totals follow from the lines, and what is due from the customer's balance, as long as the
/// invoice is not final.
pub(crate) fn invoice(draft: InvoiceDraft<'_>, account: &Account) -> Value {
    let InvoiceDraft {
        id,
        customer,
        subscription,
        reason,
        currency,
        period,
        lines,
        proration_date,
        created,
    } = draft;
    let total: i64 = lines.iter().map(|line| line.number("amount")).sum();
    let balance = customer.number("balance");
    let due = (total + balance).max(0);
    let parent = if subscription.is_null() {
        Value::Null
    } else {
        let mut details = json!({
            "metadata": subscription["metadata"],
            "subscription": subscription["id"],
        });
        if let Some(date) = proration_date {
            set(&mut details, "subscription_proration_date", date);
        }
        json!({
            "quote_details": null,
            "subscription_details": details,
            "type": "subscription_details",
        })
    };
    json!({
        "id": id,
        "object": "invoice",
        "account_country": account.country,
        "account_name": account.name,
        "account_tax_ids": null,
        "amount_due": due,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_remaining": due,
        "amount_shipping": 0,
        "application": null,
        "attempt_count": 0,
        "attempted": false,
        "auto_advance": true,
        "automatic_tax": {
            "disabled_reason": null,
            "enabled": false,
            "liability": null,
            "provider": null,
            "status": null,
        },
        "automatically_finalizes_at": null,
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "created": created,
        "currency": currency,
        "custom_fields": null,
        "customer": customer["id"],
        "customer_account": null,
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": customer["shipping"],
        "customer_tax_exempt": customer["tax_exempt"],
        "customer_tax_ids": [],
        "default_payment_method": null,
        "default_source": null,
        "default_tax_rates": [],
        "description": null,
        "discounts": [],
        "due_date": null,
        "effective_at": null,
        "ending_balance": null,
        "footer": null,
        "from_invoice": null,
        "hosted_invoice_url": null,
        "invoice_pdf": null,
        "issuer": { "type": "self" },
        "last_finalization_error": null,
        "latest_revision": null,
        "lines": embedded_list(lines, &format!("/v1/invoices/{id}/lines")),
        "livemode": false,
        "metadata": {},
        "next_payment_attempt": null,
        "number": null,
        "on_behalf_of": null,
        "parent": parent,
        "payment_settings": {
            "default_mandate": null,
            "payment_method_options": null,
            "payment_method_types": null,
        },
        "period_end": period.1,
        "period_start": period.0,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "receipt_number": null,
        "rendering": null,
        "shipping_cost": null,
        "shipping_details": null,
        "starting_balance": balance,
        "statement_descriptor": null,
        "status": "draft",
        "status_transitions": {
            "finalized_at": null,
            "marked_uncollectible_at": null,
            "paid_at": null,
            "voided_at": null,
        },
        "subtotal": total,
        "subtotal_excluding_tax": total,
        "test_clock": customer["test_clock"],
        "total": total,
        "total_discount_amounts": [],
        "total_excluding_tax": total,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": null,
        "_off_session": true,
        "_last_decline": null,
        "_last_method": null,
    })
}

/// What a line bills.
pub(crate) struct InvoiceLine<'a> {
    pub(crate) id: String,
    pub(crate) invoice: &'a str,
    pub(crate) amount: i64,
    pub(crate) currency: &'a str,
    pub(crate) description: String,
    pub(crate) period: (i64, i64),
    pub(crate) quantity: i64,
    /// Null where no price is behind the line.
    pub(crate) price: &'a Value,
    pub(crate) metadata: &'a Value,
    pub(crate) parent: Value,
}

/// A line of an invoice.
pub(crate) fn line(line: InvoiceLine<'_>) -> Value {
    let subscription = ["subscription_item_details", "invoice_item_details"]
        .iter()
        .find_map(|details| line.parent[details].link("subscription"));
    json!({
        "id": line.id,
        "object": "line_item",
        "amount": line.amount,
        "currency": line.currency,
        "description": line.description,
        "discount_amounts": [],
        "discountable": line.parent["subscription_item_details"].flag("proration").eq(&false),
        "discounts": [],
        "invoice": line.invoice,
        "livemode": false,
        "metadata": line.metadata,
        "parent": line.parent,
        "period": { "end": line.period.1, "start": line.period.0 },
        "pretax_credit_amounts": [],
        "pricing": pricing(line.price),
        "quantity": line.quantity,
        "quantity_decimal": line.quantity.to_string(),
        "subscription": subscription,
        "subtotal": line.amount,
        "taxes": [],
    })
}

fn pricing(price: &Value) -> Value {
    if price.is_null() {
        return Value::Null;
    }
    json!({
        "price_details": { "price": price["id"], "product": price["product"] },
        "type": "price_details",
        "unit_amount_decimal": price["unit_amount_decimal"],
    })
}

/// A pending item: what the customer's next invoice takes up. Carries the line's parent in `_parent`.
pub(crate) fn invoice_item(
    id: &str,
    customer: &Value,
    line: InvoiceLine<'_>,
    proration: bool,
    now: i64,
) -> Value {
    let details = &line.parent["subscription_item_details"];
    let parent = match details.link("subscription") {
        Some(subscription) => json!({
            "subscription_details": {
                "subscription": subscription,
                "subscription_item": details["subscription_item"],
            },
            "type": "subscription_details",
        }),
        None => Value::Null,
    };
    json!({
        "id": id,
        "object": "invoiceitem",
        "amount": line.amount,
        "currency": line.currency,
        "customer": customer["id"],
        "customer_account": null,
        "date": now,
        "description": line.description,
        "discountable": !proration,
        "discounts": [],
        "frozen_fields": [],
        "invoice": null,
        "livemode": false,
        "metadata": line.metadata,
        "net_amount": line.amount,
        "parent": parent,
        "period": { "end": line.period.1, "start": line.period.0 },
        "pricing": pricing(line.price),
        "proration": proration,
        "quantity": line.quantity,
        "quantity_decimal": line.quantity.to_string(),
        "tax_rates": [],
        "test_clock": customer["test_clock"],
        "_parent": line.parent,
        "_price": line.price,
    })
}

/// The payment of an invoice by an intent.
pub(crate) fn invoice_payment(id: &str, invoice: &Value, intent: &str, now: i64) -> Value {
    json!({
        "id": id,
        "object": "invoice_payment",
        "amount_paid": null,
        "amount_requested": invoice["amount_due"],
        "created": now,
        "currency": invoice["currency"],
        "invoice": invoice["id"],
        "is_default": true,
        "livemode": false,
        "payment": { "payment_intent": intent, "type": "payment_intent" },
        "status": "open",
        "status_transitions": { "canceled_at": null, "paid_at": null },
    })
}
