//! Previews: the change is made on a copy of the world, and what would be invoiced is shown.

use serde_json::{Value, json};

use super::cycling;
use super::invoicing::{self, Bill, merge, period_line, settle_balance};
use super::scheduling;
use crate::calendar::HOUR;
use crate::json::{Fields as _, set};
use crate::state::{World, random_text};
use crate::wire::error::ApiError;

/// The invoice that a subscription's next period brings, on a copy of the world.
pub(crate) fn upcoming(mut copy: World, id: &str) -> Result<Value, ApiError> {
    let subscription = copy.copy(id);
    let (_, end) = super::changing::period(&subscription);
    let ends_before = subscription.time("cancel_at").is_some_and(|at| at <= end);
    let lives = matches!(
        subscription.text("status"),
        "active" | "trialing" | "past_due"
    );
    if ends_before || !lives {
        return Err(none_upcoming(&subscription));
    }
    copy.silent = true;
    copy.now = end;
    if let Some(schedule) = subscription.link("schedule") {
        let schedule = schedule.to_owned();
        scheduling::advance(&mut copy, &schedule);
    }
    if subscription.text("status") == "trialing" {
        copy.edit(id, |s| set(s, "status", "active"));
    }
    cycling::renew(&mut copy, id);
    let draft = copy.copy(id).text("latest_invoice").to_owned();
    let mut invoice = shown(&copy, &draft);
    set(&mut invoice, "next_payment_attempt", end + HOUR);
    Ok(invoice)
}

/// What a subscription comes to each period, on a copy of the world: its items as they are, for a whole period,
/// without one-off items, prorations and credits
/// (<https://docs.stripe.com/invoicing/preview#preview-the-recurring-charges-only>).
pub(crate) fn recurring(mut copy: World, id: &str) -> Result<Value, ApiError> {
    let subscription = copy.copy(id);
    let (start, end) = super::changing::period(&subscription);
    let ends = subscription.time("cancel_at").is_some_and(|at| at <= end);
    let is_over = matches!(
        subscription.text("status"),
        "canceled" | "incomplete_expired"
    );
    if ends || is_over {
        return Err(none_upcoming(&subscription));
    }
    copy.silent = true;
    let start = if subscription.text("status") == "trialing" {
        end
    } else {
        start
    };
    let anchor = subscription.number("billing_cycle_anchor");
    let period = (
        start,
        cycling::cadence(&subscription).next_after(anchor, start),
    );
    let customer = subscription.text("customer");
    copy.edit(customer, |customer| set(customer, "balance", 0));
    let items = subscription.rows("items").iter();
    let lines = items.map(|item| period_line(&copy, item, period, false));
    let lines = lines.collect();
    let bill = Bill {
        customer,
        subscription: Some(id),
        reason: "subscription_cycle",
        currency: subscription.text("currency"),
        period,
        lines,
        proration_date: None,
        with_pending: false,
    };
    let draft = invoicing::bill(&mut copy, bill);
    Ok(shown(&copy, &draft))
}

fn none_upcoming(subscription: &Value) -> ApiError {
    let customer = subscription.text("customer");
    ApiError::invalid(format!("No upcoming invoices for customer: {customer}"))
        .code("invoice_upcoming_none")
        .status(404)
}

/// A draft of a copied world, as a preview shows it.
pub(crate) fn shown(copy: &World, draft: &str) -> Value {
    let mut invoice = copy.copy(draft);
    let id = format!("upcoming_in_1{}", random_text(23));
    let customer = copy.copy(invoice.text("customer"));
    let starting = customer.number("balance");
    let (due, ending) = settle_balance(invoice.number("total"), starting, invoice.text("currency"));
    if let Some(lines) = invoice["lines"]["data"].as_array_mut() {
        for line in lines {
            set(line, "invoice", id.clone());
            set(line, "id", format!("il_tmp_1{}", random_text(23)));
        }
    }
    merge(
        &mut invoice,
        json!({
            "id": id,
            "amount_due": due,
            "amount_remaining": due,
            "starting_balance": starting,
            "ending_balance": ending,
            "status": "draft",
        }),
    );
    invoice["lines"]["url"] = json!(format!("/v1/invoices/{id}/lines"));
    invoice
}
