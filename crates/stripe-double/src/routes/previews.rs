//! `POST /v1/invoices/create_preview`: what would be invoiced, without anything happening.

use serde_json::{Value, json};

use super::subscription_params::{item_changes, new_subscription, trial_end};
use super::subscriptions::{anchor, cancel_at};
use crate::engine::changing::{self, Change, Proration};
use crate::engine::ending::{set_cancel_at, set_cancel_at_period_end, uncancelable};
use crate::engine::invoicing::{intent_of, merge};
use crate::engine::{cycling, previewing, subscribing};
use crate::json::{Fields as _, set};
use crate::state::{Kind, World};
use crate::wire::error::{Answer, ApiError};
use crate::wire::params::Params;

const DETAILS: [&str; 9] = [
    "billing_cycle_anchor",
    "cancel_at",
    "cancel_at_period_end",
    "cancel_now",
    "items",
    "proration_behavior",
    "proration_date",
    "resume_at",
    "trial_end",
];

pub(super) fn create(world: &World, params: &Params) -> Answer {
    params.only(&[
        "currency",
        "customer",
        "preview_mode",
        "subscription",
        "subscription_details",
    ])?;
    let mode = params.one_of("preview_mode", &["next", "recurring"])?;
    let recurring = mode.as_deref() == Some("recurring");
    let details = params.child("subscription_details").unwrap_or_default();
    details.only(&DETAILS)?;
    let mut copy = world.clone();
    copy.silent = true;
    match params.text("subscription")? {
        Some(id) => {
            let subscription = world.find(Kind::Subscription, &id, "subscription", false)?;
            check_customer(&subscription, params)?;
            of_existing(copy, &id, &details, recurring)
        }
        None => of_new(copy, params, &details, recurring),
    }
}

fn check_customer(subscription: &Value, params: &Params) -> Result<(), ApiError> {
    match params.text("customer")? {
        Some(customer) if subscription.link("customer") != Some(&customer) => {
            Err(ApiError::no_such(
                "subscription",
                subscription.text("id"),
                "subscription",
                false,
            ))
        }
        _ => Ok(()),
    }
}

fn of_existing(mut copy: World, id: &str, details: &Params, recurring: bool) -> Answer {
    if details.text("resume_at")?.as_deref() == Some("now") {
        cycling::resume(&mut copy, id, false, false)?;
        let draft = copy.copy(id).text("latest_invoice").to_owned();
        return Ok(as_draft(&copy, &draft));
    }
    if details.boolean("cancel_now")? == Some(true) {
        cycling::cancel_by_request(&mut copy, id, true, true)?;
        let draft = copy.copy(id).text("latest_invoice").to_owned();
        return Ok(as_draft(&copy, &draft));
    }
    if let Some(at_end) = details.boolean("cancel_at_period_end")? {
        set_cancel_at_period_end(&mut copy, id, at_end);
    }
    if details.unset("cancel_at") {
        copy.edit(id, uncancelable);
    } else if let Some(at) = cancel_at(&copy, id, details)? {
        set_cancel_at(&mut copy, id, at);
    }
    let asked = details.one_of("proration_behavior", &Proration::NAMES)?;
    let proration = if recurring {
        Proration::None
    } else {
        Proration::named(asked.as_deref())
    };
    let change = Change {
        items: item_changes(&copy, &details.children("items"))?,
        proration,
        date: details.integer("proration_date")?.unwrap_or(copy.now),
        anchor_now: anchor(details)?,
        trial_end: trial_end(&copy, details)?,
    };
    let changes = !change.items.is_empty() || change.anchor_now || change.trial_end.is_some();
    if recurring {
        if changes {
            changing::apply(&mut copy, id, &change)?;
        }
        return previewing::recurring(copy, id);
    }
    if !changes {
        return previewing::upcoming(copy, id);
    }
    match changing::apply(&mut copy, id, &change)? {
        Some(draft) => Ok(previewing::shown(&copy, &draft)),
        None => previewing::upcoming(copy, id),
    }
}

fn of_new(mut copy: World, params: &Params, details: &Params, recurring: bool) -> Answer {
    // Nobody need be there yet: what is new costs the same whoever comes.
    let customer = match params.text("customer")? {
        Some(customer) => customer,
        None => super::customers::create(&mut copy, &Params::default())?
            .text("id")
            .to_owned(),
    };
    if details.children("items").is_empty() {
        return Err(
            ApiError::invalid(format!("No upcoming invoices for customer: {customer}"))
                .code("invoice_upcoming_none")
                .status(404),
        );
    }
    let mut fields = serde_json::Map::new();
    fields.insert("customer".to_owned(), json!(customer));
    let mut new = new_subscription(&copy, &details.with(fields))?;
    new.behavior = subscribing::PaymentBehavior::DefaultIncomplete;
    let id = subscribing::subscribe(&mut copy, new)?;
    if recurring {
        return previewing::recurring(copy, &id);
    }
    let draft = copy.copy(&id).text("latest_invoice").to_owned();
    Ok(as_draft(&copy, &draft))
}

/// An invoice that became final on the copy, as the draft that it would begin as.
fn as_draft(copy: &World, id: &str) -> Value {
    let invoice = copy.copy(id);
    let mut shown = previewing::shown(copy, id);
    merge(
        &mut shown,
        json!({
            "amount_due": invoice["amount_due"],
            "amount_remaining": invoice["amount_due"],
            "amount_paid": 0,
            "attempt_count": 0,
            "attempted": false,
            "starting_balance": invoice["starting_balance"],
            "ending_balance": invoice["ending_balance"],
            "number": null,
            "effective_at": null,
            "hosted_invoice_url": null,
            "invoice_pdf": null,
            "status_transitions": {
                "finalized_at": null,
                "marked_uncollectible_at": null,
                "paid_at": null,
                "voided_at": null,
            },
        }),
    );
    // A preview has no payment.
    if intent_of(copy, id).is_some() {
        set(&mut shown, "confirmation_secret", Value::Null);
    }
    shown
}
