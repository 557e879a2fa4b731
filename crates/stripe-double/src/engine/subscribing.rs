//! A subscription begins.

use serde_json::{Value, json};

use super::invoicing::{self, Bill, NewLine, period_line};
use super::paying::{self, Attempt, Outcome};
use super::setting_up;
use crate::calendar::Cadence;
use crate::json::{Fields as _, set};
use crate::money;
use crate::objects;
use crate::state::{Kind, World, random_text};
use crate::wire::error::ApiError;

/// `payment_behavior`: what a payment that does not succeed at once means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "these are Stripe's own words")]
pub(crate) enum PaymentBehavior {
    AllowIncomplete,
    DefaultIncomplete,
    ErrorIfIncomplete,
    PendingIfIncomplete,
}

impl PaymentBehavior {
    pub(crate) const NAMES: [&str; 4] = [
        "allow_incomplete",
        "default_incomplete",
        "error_if_incomplete",
        "pending_if_incomplete",
    ];

    pub(crate) fn named(name: Option<&str>) -> Self {
        match name {
            Some("default_incomplete") => Self::DefaultIncomplete,
            Some("error_if_incomplete") => Self::ErrorIfIncomplete,
            Some("pending_if_incomplete") => Self::PendingIfIncomplete,
            _ => Self::AllowIncomplete,
        }
    }
}

/// A subscription to be.
pub(crate) struct NewSubscription {
    pub(crate) customer: String,
    /// Price, quantity and metadata of each item.
    pub(crate) items: Vec<(Value, i64, Value)>,
    /// Fields that the request chose as they are: description, metadata, settings.
    pub(crate) fields: Value,
    pub(crate) default_method: Option<String>,
    pub(crate) behavior: PaymentBehavior,
    pub(crate) off_session: bool,
    pub(crate) trial_end: Option<i64>,
    pub(crate) anchor: Option<i64>,
    pub(crate) prorates: bool,
    pub(crate) cancel_at_period_end: bool,
}

/// Makes a subscription with its first invoice. Returns its id.
pub(crate) fn subscribe(world: &mut World, new: NewSubscription) -> Result<String, ApiError> {
    let customer = world.find(Kind::Customer, &new.customer, "customer", false)?;
    let Some((first_price, _, _)) = new.items.first() else {
        return Err(ApiError::parameter_missing("items"));
    };
    let currency = first_price.text("currency").to_owned();
    check_currency(world, &customer, &currency)?;
    let cadence = common_cadence(new.items.iter().map(|(price, _, _)| price), &currency)?;
    if let Some(method) = &new.default_method {
        check_method(world, &new.customer, method)?;
    }

    let saved = world.clone();
    let now = world.now;
    let id = world.new_id(Kind::Subscription);
    let mut subscription = objects::subscription(&id, &customer, &currency, now);
    invoicing::merge(&mut subscription, new.fields.clone());
    set(
        &mut subscription,
        "default_payment_method",
        new.default_method.clone(),
    );
    set(&mut subscription, "_unannounced", true);
    let anchor = new.trial_end.or(new.anchor).unwrap_or(now);
    let period_end = if anchor > now {
        anchor
    } else {
        cadence.next_after(anchor, now)
    };
    set(&mut subscription, "billing_cycle_anchor", anchor);
    if let Some(end) = new.trial_end {
        set(&mut subscription, "trial_start", now);
        set(&mut subscription, "trial_end", end);
    }
    let items = new.items.iter().map(|(price, quantity, metadata)| {
        let item_id = format!("si_{}", random_text(14));
        let mut item = objects::subscription_item(&item_id, &id, price, *quantity, now);
        set(&mut item, "metadata", metadata.clone());
        set(&mut item, "current_period_end", period_end);
        item
    });
    let items: Vec<_> = items.collect();
    set(&mut subscription["items"], "total_count", items.len());
    set(&mut subscription["items"], "data", items.clone());

    let lines = first_lines(world, &items, (now, period_end), cadence, &new);
    let total: i64 = lines.iter().map(|line| line.amount).sum::<i64>() + pending_total(world, &new);
    let (due, _) = invoicing::settle_balance(total, customer.number("balance"), &currency);
    let automatic = subscription.text("collection_method") == "charge_automatically";
    set(
        &mut subscription,
        "status",
        first_status(due, automatic, new.trial_end),
    );
    world.insert(Kind::Subscription, subscription);
    if new.cancel_at_period_end {
        world.edit(&id, |s| {
            invoicing::merge(
                s,
                json!({ "cancel_at_period_end": true, "cancel_at": period_end, "canceled_at": now }),
            );
        });
    }
    let has_method = first_method(world, &id).is_some();
    let needs_method = matches!(
        new.behavior,
        PaymentBehavior::AllowIncomplete | PaymentBehavior::ErrorIfIncomplete
    );
    if due > 0 && automatic && !has_method && needs_method {
        *world = saved;
        return Err(no_method());
    }

    let invoice = invoicing::bill(
        world,
        Bill {
            customer: &new.customer,
            subscription: Some(&id),
            reason: "subscription_create",
            currency: &currency,
            period: (now, now),
            lines,
            proration_date: None,
            with_pending: true,
        },
    );
    world.edit(&invoice, |invoice| {
        set(invoice, "_off_session", new.off_session);
    });
    if !automatic {
        announce(world, &id);
        super::cycling::finalize_later(world, &invoice);
        return Ok(id);
    }
    invoicing::finalize(world, &invoice)?;
    if due == 0 {
        setting_up::for_subscription(world, &id, new.off_session);
    }
    let outcome = match new.behavior {
        _ if due == 0 => Outcome::Paid,
        PaymentBehavior::DefaultIncomplete => {
            prepare_intent(world, &invoice);
            Outcome::Paid
        }
        _ => paying::attempt(
            world,
            &invoice,
            &Attempt {
                off_session: new.off_session,
                ..Attempt::default()
            },
        ),
    };
    if new.behavior == PaymentBehavior::ErrorIfIncomplete {
        refuse(world, saved, &new.customer, &invoice, outcome)?;
    }
    announce(world, &id);
    Ok(id)
}

/// From here on, events about the subscription are sent.
fn announce(world: &mut World, id: &str) {
    world.edit(id, |subscription| {
        set(subscription, "_unannounced", Value::Null);
    });
    world.emit("customer.subscription.created", id);
}

fn first_status(due: i64, automatic: bool, trial_end: Option<i64>) -> &'static str {
    match trial_end {
        Some(_) => "trialing",
        None if due > 0 && automatic => "incomplete",
        None => "active",
    }
}

fn first_lines(
    world: &World,
    items: &[Value],
    period: (i64, i64),
    cadence: Cadence,
    new: &NewSubscription,
) -> Vec<NewLine> {
    let (start, end) = period;
    let is_partial = new.trial_end.is_none() && new.anchor.is_some_and(|anchor| anchor > start);
    let full_start = cadence.nth(end, -1);
    let lines = items.iter().map(|item| {
        let mut line = period_line(world, item, period, new.trial_end.is_some());
        if is_partial {
            // A period that is shorter than the price's, up to the anchor.
            let whole = money::total(&item["price"], item.number("quantity"));
            line.amount = if new.prorates {
                money::prorate(whole, end - start, end - full_start)
            } else {
                0
            };
        }
        line
    });
    lines.collect()
}

fn pending_total(world: &World, new: &NewSubscription) -> i64 {
    let pending = invoicing::pending_items(world, &new.customer, None);
    let amounts = pending.iter().map(|item| world.copy(item).number("amount"));
    amounts.sum()
}

/// With `default_incomplete` the intent waits for a confirmation; a default payment method is put into it.
fn prepare_intent(world: &mut World, invoice: &str) {
    let method = paying::default_method(world, &world.copy(invoice));
    let (Some(method), Some(intent)) = (method, invoicing::intent_of(world, invoice)) else {
        return;
    };
    world.edit(&intent, |intent| {
        set(intent, "payment_method", method);
        set(intent, "status", "requires_confirmation");
    });
}

fn first_method(world: &World, subscription: &str) -> Option<String> {
    let subscription = world.copy(subscription);
    let probe = json!({
        "customer": subscription["customer"],
        "default_payment_method": subscription["default_payment_method"],
    });
    paying::default_method(world, &probe)
}

/// What Stripe says where nothing could be charged.
pub(crate) fn no_method() -> ApiError {
    ApiError::invalid(
        "This customer has no attached payment source or default payment method. Please consider adding a default payment method. For more information, visit https://stripe.com/docs/billing/subscriptions/payment-methods-setting#payment-method-priority.",
    )
    .code("resource_missing")
}

/// A payment method must be attached to the customer.
pub(crate) fn check_method(world: &World, customer: &str, method: &str) -> Result<(), ApiError> {
    let found = world.get(method);
    if found.is_some_and(|method| method.link("customer") == Some(customer)) {
        return Ok(());
    }
    let error = ApiError::invalid(format!(
        "The customer does not have a payment method with the ID {method}. The payment method must be attached to the customer."
    ));
    Err(error
        .code("resource_missing")
        .param("default_payment_method"))
}

/// One currency per customer, as long as anything in another one lives.
pub(crate) fn check_currency(
    world: &World,
    customer: &Value,
    currency: &str,
) -> Result<(), ApiError> {
    let id = customer.text("id");
    let other = |object: &&Value| {
        object.link("customer") == Some(id) && object.text("currency") != currency
    };
    let mut subscriptions = world
        .all(Kind::Subscription)
        .filter(|s| !matches!(s.text("status"), "canceled" | "incomplete_expired"));
    let mut items = world
        .all(Kind::InvoiceItem)
        .filter(|item| item["invoice"].is_null() && !item.flag("deleted"));
    let credited = customer.number("balance") != 0
        && customer.link("currency").is_some_and(|own| own != currency);
    let in_use = subscriptions.find(other).or_else(|| items.find(other));
    let own = match (in_use, credited) {
        (Some(object), _) => object.text("currency"),
        (None, true) => customer.text("currency"),
        (None, false) => return Ok(()),
    };
    Err(ApiError::invalid(format!(
        "You cannot combine currencies on a single customer. This customer has an active subscription, subscription schedule, discount, quote, or invoice item with currency {own}."
    )))
}

/// All items of a subscription recur alike and in one currency.
pub(crate) fn common_cadence<'a>(
    mut prices: impl Iterator<Item = &'a Value>,
    currency: &str,
) -> Result<Cadence, ApiError> {
    let mut common = None;
    let differs = || {
        ApiError::invalid(
            "Currency and interval fields must match across all prices on this subscription (this double does not mix intervals).",
        )
        .param("items")
    };
    prices.try_for_each(|price| {
        let cadence = Cadence::of_price(price).ok_or_else(|| {
            ApiError::invalid(format!(
                "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`: {}.",
                price.text("id")
            ))
            .param("items[0][price]")
        })?;
        let alike = common.is_none_or(|known| known == cadence);
        common = Some(cadence);
        if alike && price.text("currency") == currency {
            Ok(())
        } else {
            Err(differs())
        }
    })?;
    common.ok_or_else(differs)
}

/// `error_if_incomplete`: what was done is undone, but for the charge that failed.
pub(crate) fn refuse(
    world: &mut World,
    saved: World,
    customer: &str,
    invoice: &str,
    outcome: Outcome,
) -> Result<(), ApiError> {
    let error = match outcome {
        Outcome::Paid => return Ok(()),
        Outcome::Failed(error) => error,
        Outcome::ActionRequired => ApiError::new(
            402,
            "card_error",
            "Payment for this subscription requires additional user action before it can be completed successfully.",
        )
        .code("subscription_payment_intent_requires_action"),
    };
    let intent = invoicing::intent_of(world, invoice).map(|id| world.copy(&id));
    let charge = error.fields.get("charge").and_then(Value::as_str);
    let charge = charge.map(|id| world.copy(id));
    let declines = world.copy(customer)["_declines"].clone();
    *world = saved;
    world.edit(customer, |customer| set(customer, "_declines", declines));
    if let Some(mut intent) = intent {
        set(&mut intent, "_invoice", Value::Null);
        set(&mut intent, "status", "canceled");
        set(&mut intent, "canceled_at", world.now);
        set(&mut intent, "next_action", Value::Null);
        let intent = world.insert(Kind::PaymentIntent, intent);
        if let Some(charge) = charge {
            let charge = world.insert(Kind::Charge, charge);
            world.emit("charge.failed", &charge);
            world.emit("payment_intent.payment_failed", &intent);
        }
        world.emit("payment_intent.canceled", &intent);
    }
    Err(error)
}
