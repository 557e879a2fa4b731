//! A subscription changes its items: what is credited, what is debited, and when.

use serde_json::{Value, json};

use super::ending::set_cancel_at_period_end;
use super::invoicing::{self, Bill, NewLine, merge, period_line, product_name};
use super::paying::{self, Attempt, Outcome};
use super::subscribing::{PaymentBehavior, common_cadence, refuse};
use crate::calendar::{Cadence, HOUR, date_words};
use crate::json::{Fields as _, set, visible};
use crate::money;
use crate::objects;
use crate::state::{World, random_text};
use crate::wire::error::ApiError;

/// What is to become of one item.
#[derive(Debug, Clone, Default)]
pub(crate) struct ItemChange {
    /// Without one, an item is added: Stripe does not guess which was meant.
    pub(crate) id: Option<String>,
    pub(crate) price: Option<Value>,
    pub(crate) quantity: Option<i64>,
    pub(crate) deleted: bool,
}

/// `proration_behavior`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proration {
    /// Pending items, taken up by the next invoice.
    Create,
    /// Invoiced at once.
    AlwaysInvoice,
    None,
}

impl Proration {
    pub(crate) const NAMES: [&str; 3] = ["always_invoice", "create_prorations", "none"];

    pub(crate) fn named(name: Option<&str>) -> Self {
        match name {
            Some("always_invoice") => Self::AlwaysInvoice,
            Some("none") => Self::None,
            _ => Self::Create,
        }
    }
}

/// A change of a subscription's items or cycle.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) items: Vec<ItemChange>,
    pub(crate) proration: Proration,
    /// As of when is prorated.
    pub(crate) date: i64,
    /// `billing_cycle_anchor=now`.
    pub(crate) anchor_now: bool,
    /// The trial ends now, or at another time.
    pub(crate) trial_end: Option<i64>,
}

/// Applies a change: replaces the items and makes pending items, or, where Stripe bills at once, a draft.
/// Returns the draft. Emits nothing about the subscription itself.
pub(crate) fn apply(
    world: &mut World,
    id: &str,
    change: &Change,
) -> Result<Option<String>, ApiError> {
    let subscription = world.copy(id);
    let currency = subscription.text("currency").to_owned();
    let old_items = subscription.rows("items").to_vec();
    let mut new_items = changed_items(world, &subscription, &change.items)?;
    let new_cadence = common_cadence(new_items.iter().map(|item| &item["price"]), &currency)?;
    let old_cadence = old_items
        .first()
        .and_then(|item| Cadence::of_price(&item["price"]));
    let (start, end) = period(&subscription);
    if change.date < start || change.date > end {
        return Err(ApiError::invalid(format!(
            "Invalid subscription_proration_date: must be within the current period ({start} to {end})."
        ))
        .param("proration_date"));
    }
    let was_trialing = subscription.text("status") == "trialing";
    if let Some(trial_end) = change.trial_end.filter(|end| *end > world.now) {
        extend_trial(world, id, trial_end, &mut new_items);
        return Ok(None);
    }
    let ends_trial = was_trialing && change.trial_end.is_some();
    if was_trialing && !ends_trial {
        // Nothing has been charged, so nothing is credited; the trial goes on with the new items.
        set_items(world, id, new_items);
        return Ok(None);
    }
    let total = |items: &[Value]| -> i64 {
        let amounts = items
            .iter()
            .map(|item| money::total(&item["price"], item.number("quantity")));
        amounts.sum()
    };
    let begins_to_cost = total(&old_items) == 0 && total(&new_items) > 0;
    let restarts =
        old_cadence != Some(new_cadence) || begins_to_cost || change.anchor_now || ends_trial;
    if restarts {
        let credits = if change.proration == Proration::None || ends_trial {
            Vec::new()
        } else {
            let unused = old_items
                .iter()
                .filter_map(|item| credit(world, &subscription, item, change.date));
            unused.collect()
        };
        return Ok(Some(restart(
            world,
            id,
            new_items,
            new_cadence,
            credits,
            ends_trial,
        )));
    }

    let lines = if change.proration == Proration::None {
        Vec::new()
    } else {
        prorations(world, &subscription, &old_items, &new_items, change.date)
    };
    keep_billed(&old_items, &mut new_items);
    set_items(world, id, new_items);
    if lines.is_empty() {
        return Ok(None);
    }
    let customer = subscription.text("customer").to_owned();
    for line in &lines {
        let pending = invoicing::pend(world, &customer, &currency, line);
        note_debit(world, id, line, &pending);
    }
    if change.proration == Proration::Create {
        return Ok(None);
    }
    let draft = invoicing::bill(
        world,
        Bill {
            customer: &customer,
            subscription: Some(id),
            reason: "subscription_update",
            currency: &currency,
            period: (start, world.now),
            lines: Vec::new(),
            proration_date: Some(change.date),
            with_pending: true,
        },
    );
    Ok(Some(draft))
}

/// The current period, which all items share.
pub(crate) fn period(subscription: &Value) -> (i64, i64) {
    let first = subscription.rows("items").first();
    first.map_or((0, 0), |item| {
        (
            item.number("current_period_start"),
            item.number("current_period_end"),
        )
    })
}

fn changed_items(
    world: &World,
    subscription: &Value,
    changes: &[ItemChange],
) -> Result<Vec<Value>, ApiError> {
    let mut items = subscription.rows("items").to_vec();
    let (start, end) = period(subscription);
    for (at, change) in changes.iter().enumerate() {
        let Some(item_id) = &change.id else {
            let Some(price) = &change.price else {
                return Err(ApiError::parameter_missing(&format!("items[{at}][price]")));
            };
            let id = format!("si_{}", random_text(14));
            let quantity = change.quantity.unwrap_or(1);
            let mut item = objects::subscription_item(
                &id,
                subscription.text("id"),
                price,
                quantity,
                world.now,
            );
            set(&mut item, "current_period_start", start);
            set(&mut item, "current_period_end", end);
            items.push(item);
            continue;
        };
        let place = items.iter().position(|item| item.text("id") == item_id);
        let Some(place) = place else {
            let param = format!("items[{at}][id]");
            return Err(ApiError::no_such(
                "subscription_item",
                item_id,
                &param,
                false,
            ));
        };
        if change.deleted {
            items.remove(place);
            continue;
        }
        let item = &mut items[place];
        if let Some(price) = &change.price {
            if item["price"]["id"] != price["id"] {
                set(item, "quantity", 1);
            }
            set(item, "plan", objects::plan(price));
            set(item, "price", price.clone());
        }
        if let Some(quantity) = change.quantity {
            set(item, "quantity", quantity);
        }
    }
    if items.is_empty() {
        return Err(ApiError::invalid(
            "A subscription must have at least one active plan. To cancel the subscription, please use the cancel API endpoint on subscriptions.",
        ));
    }
    let ids: Vec<_> = items
        .iter()
        .map(|item| item["price"]["id"].clone())
        .collect();
    if let Some(twice) = ids
        .iter()
        .enumerate()
        .find(|(at, id)| ids[..*at].contains(id))
    {
        let twice = twice.1.as_str().unwrap_or_default();
        return Err(ApiError::invalid(format!(
            "Cannot add multiple subscription items with the same plan: {twice}"
        )));
    }
    Ok(items)
}

fn set_items(world: &mut World, id: &str, items: Vec<Value>) {
    world.edit(id, |subscription| {
        set(&mut subscription["items"], "total_count", items.len());
        set(&mut subscription["items"], "data", items);
    });
}

/// What an item has been billed stays known when its price changes.
fn keep_billed(old_items: &[Value], new_items: &mut [Value]) {
    for item in new_items {
        let old = old_items.iter().find(|old| old["id"] == item["id"]);
        if let Some(old) = old {
            set(item, "_billed", old["_billed"].clone());
        }
    }
}

fn extend_trial(world: &mut World, id: &str, trial_end: i64, items: &mut [Value]) {
    let now = world.now;
    for item in items.iter_mut() {
        set(item, "current_period_start", now);
        set(item, "current_period_end", trial_end);
        set(item, "_billed", Value::Null);
    }
    set_items(world, id, items.to_vec());
    world.edit(id, |subscription| {
        let start = subscription["trial_start"].as_i64().unwrap_or(now);
        let fields = json!({
            "status": "trialing",
            "trial_start": start,
            "trial_end": trial_end,
            "billing_cycle_anchor": trial_end,
            "_trial_told": false,
        });
        merge(subscription, fields);
    });
}

/// A new cycle begins now: credits for what is unused, and the new items in full.
fn restart(
    world: &mut World,
    id: &str,
    mut items: Vec<Value>,
    cadence: Cadence,
    credits: Vec<NewLine>,
    ends_trial: bool,
) -> String {
    let now = world.now;
    let subscription = world.copy(id);
    let (old_start, _) = period(&subscription);
    let currency = subscription.text("currency").to_owned();
    let customer = subscription.text("customer").to_owned();
    let end = cadence.next_after(now, now);
    for item in &mut items {
        set(item, "current_period_start", now);
        set(item, "current_period_end", end);
        set(item, "_billed", Value::Null);
    }
    set_items(world, id, items.clone());
    world.edit(id, |subscription| {
        set(subscription, "billing_cycle_anchor", now);
        set(subscription, "_upcoming_told", Value::Null);
        if subscription.flag("cancel_at_period_end") {
            set(subscription, "cancel_at", end);
        }
        if ends_trial {
            set(subscription, "status", "active");
            set(subscription, "trial_end", now);
        }
    });
    for line in &credits {
        invoicing::pend(world, &customer, &currency, line);
    }
    let lines = items
        .iter()
        .map(|item| period_line(world, item, (now, end), false));
    let lines = lines.collect();
    invoicing::bill(
        world,
        Bill {
            customer: &customer,
            subscription: Some(id),
            reason: "subscription_update",
            currency: &currency,
            period: (old_start, now),
            lines,
            proration_date: Some(now),
            with_pending: true,
        },
    )
}

/// The lines that make up for a change within a period.
fn prorations(
    world: &World,
    subscription: &Value,
    old_items: &[Value],
    new_items: &[Value],
    date: i64,
) -> Vec<NewLine> {
    let mut lines = Vec::new();
    for old in old_items {
        let kept = new_items.iter().any(|new| same_charge(old, new));
        if !kept {
            lines.extend(credit(world, subscription, old, date));
        }
    }
    for new in new_items {
        let kept = old_items.iter().any(|old| same_charge(old, new));
        if !kept {
            lines.push(debit(world, new, date));
        }
    }
    lines
}

fn same_charge(old: &Value, new: &Value) -> bool {
    old["id"] == new["id"]
        && old["price"]["id"] == new["price"]["id"]
        && old["quantity"] == new["quantity"]
}

/// The credit for what is unused of an item. Flexible billing credits what was really debited, classic
/// billing the item's present price.
pub(crate) fn credit(
    world: &World,
    subscription: &Value,
    item: &Value,
    date: i64,
) -> Option<NewLine> {
    let end = item.number("current_period_end");
    let billed = &item["_billed"];
    let is_flexible = subscription["billing_mode"].text("type") == "flexible";
    let (amount, start) = if is_flexible {
        if billed.is_null() || billed.number("end") < date {
            return None;
        }
        (billed.number("amount"), billed.number("start"))
    } else {
        let whole = money::total(&item["price"], item.number("quantity"));
        (whole, item.number("current_period_start"))
    };
    let credited = match (billed.link("invoice"), billed.link("line")) {
        (Some(invoice), Some(line)) => Some((invoice.to_owned(), line.to_owned())),
        _ => None,
    };
    let price = item["price"].clone();
    Some(NewLine {
        amount: -money::prorate(amount, end - date.max(start), end - start),
        description: format!(
            "Unused time on {} after {}",
            words(world, item),
            date_words(date)
        ),
        period: (date, end),
        quantity: item.number("quantity"),
        item: Some((
            item.text("id").to_owned(),
            item.text("subscription").to_owned(),
        )),
        price,
        proration: true,
        credited,
    })
}

fn debit(world: &World, item: &Value, date: i64) -> NewLine {
    let start = item.number("current_period_start");
    let end = item.number("current_period_end");
    let whole = money::total(&item["price"], item.number("quantity"));
    NewLine {
        amount: money::prorate(whole, end - date, end - start),
        description: format!(
            "Remaining time on {} after {}",
            words(world, item),
            date_words(date)
        ),
        period: (date, end),
        quantity: item.number("quantity"),
        price: item["price"].clone(),
        item: Some((
            item.text("id").to_owned(),
            item.text("subscription").to_owned(),
        )),
        proration: true,
        credited: None,
    }
}

fn words(world: &World, item: &Value) -> String {
    let name = product_name(world, &item["price"]);
    match item.number("quantity") {
        0 | 1 => name,
        quantity => format!("{quantity} × {name}"),
    }
}

/// A debit is what the item has been billed from now on.
fn note_debit(world: &mut World, id: &str, line: &NewLine, pending: &str) {
    if line.amount < 0 {
        return;
    }
    let Some((item_id, _)) = &line.item else {
        return;
    };
    let billed = json!({
        "amount": line.amount,
        "start": line.period.0,
        "end": line.period.1,
        "pending": pending,
        "invoice": null,
        "line": null,
    });
    world.edit(id, |subscription| {
        let items = subscription["items"]["data"].as_array_mut();
        let own = items
            .into_iter()
            .flatten()
            .find(|i| i.text("id") == item_id);
        if let Some(own) = own {
            set(own, "_billed", billed);
        }
    });
}

/// How the invoice of a change is collected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Collection {
    pub(crate) behavior: PaymentBehavior,
    pub(crate) off_session: bool,
    /// Whether the request says that the subscription ends with its period, or that it does not.
    pub(crate) ends: Option<bool>,
}

/// Collects what a change has billed and announces the change. `saved` is the world before it.
pub(crate) fn collect(
    world: &mut World,
    id: &str,
    draft: Option<&str>,
    how: Collection,
    saved: World,
) -> Result<(), ApiError> {
    let before = visible(&saved.copy(id));
    let Some(draft) = draft else {
        announce(world, id, &before);
        return Ok(());
    };
    if how.behavior == PaymentBehavior::PendingIfIncomplete {
        world.edit(id, |s| set(s, "_pending_invoice", draft));
    } else {
        announce(world, id, &before);
    }
    world.edit(draft, |invoice| {
        set(invoice, "_off_session", how.off_session)
    });
    invoicing::finalize(world, draft)?;
    if world.copy(draft).text("status") == "paid" {
        world.edit(id, |s| set(s, "_pending_invoice", Value::Null));
        if how.behavior == PaymentBehavior::PendingIfIncomplete {
            announce(world, id, &before);
        }
        return Ok(());
    }
    if how.behavior == PaymentBehavior::DefaultIncomplete {
        world.update(id, "customer.subscription.updated", |subscription| {
            set(subscription, "status", "past_due");
        });
        return Ok(());
    }
    let attempt = Attempt {
        off_session: how.off_session,
        ..Attempt::default()
    };
    let customer = before.text("customer").to_owned();
    let outcome = paying::attempt(world, draft, &attempt);
    match how.behavior {
        PaymentBehavior::ErrorIfIncomplete => refuse(world, saved, &customer, draft, outcome),
        PaymentBehavior::PendingIfIncomplete => {
            match outcome {
                Outcome::Paid => {
                    world.edit(id, |s| set(s, "_pending_invoice", Value::Null));
                    announce(world, id, &before);
                }
                Outcome::Failed(_) | Outcome::ActionRequired => {
                    hold_back(world, id, draft, how.ends, &saved);
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn announce(world: &mut World, id: &str, before: &Value) {
    if visible(&world.copy(id)) != *before {
        world.emit_changed("customer.subscription.updated", id, before);
    }
}

/// The change waits for its payment: the subscription is as it was, with a `pending_update`
/// (<https://docs.stripe.com/billing/subscriptions/pending-updates>).
fn hold_back(world: &mut World, id: &str, draft: &str, ends: Option<bool>, saved: &World) {
    let wanted = world.copy(id);
    let old = saved.copy(id);
    let before = visible(&old);
    // "Either the trial end time or the current period end, whichever comes first", within 23 hours.
    let trial_end = old.time("trial_end").filter(|at| *at > world.now);
    let (_, period_end) = period(&old);
    let expires_at = (world.now + 23 * HOUR).min(trial_end.unwrap_or(period_end).min(period_end));
    let metadata = new_texts(&old["metadata"], &wanted["metadata"]);
    world.edit(id, |subscription| {
        *subscription = old;
        let items = wanted["items"]["data"].clone();
        merge(
            subscription,
            json!({
                "latest_invoice": draft,
                "pending_update": {
                    "billing_cycle_anchor": null,
                    "cancel_at_period_end": ends,
                    "discount": null,
                    "discounts": null,
                    "expires_at": expires_at,
                    "metadata": metadata,
                    "subscription_items": items,
                    "trial_end": null,
                    "trial_from_plan": null,
                },
                "_pending_invoice": draft,
                "_wanted": wanted,
            }),
        );
    });
    announce(world, id, &before);
}

/// The texts that are new, or other ones than before; null if there are none.
fn new_texts(old: &Value, new: &Value) -> Value {
    let texts = new.as_object().into_iter().flatten();
    let changed: serde_json::Map<_, _> = texts
        .filter(|(key, text)| old.get(*key) != Some(*text))
        .map(|(key, text)| (key.clone(), text.clone()))
        .collect();
    if changed.is_empty() {
        Value::Null
    } else {
        Value::Object(changed)
    }
}

/// The invoice of a pending update is paid: it takes effect.
pub(crate) fn apply_pending(world: &mut World, id: &str) {
    let before = visible(&world.copy(id));
    let ends = before["pending_update"]["cancel_at_period_end"].as_bool();
    world.edit(id, |subscription| {
        let texts = before["pending_update"]["metadata"].as_object();
        for (key, text) in texts.into_iter().flatten() {
            subscription["metadata"][key] = text.clone();
        }
        let wanted = subscription["_wanted"].clone();
        for key in ["items", "billing_cycle_anchor", "trial_end"] {
            set(subscription, key, wanted[key].clone());
        }
        for key in ["pending_update", "_pending_invoice", "_wanted"] {
            set(subscription, key, Value::Null);
        }
    });
    if let Some(ends) = ends {
        set_cancel_at_period_end(world, id, ends);
    }
    world.emit("customer.subscription.pending_update_applied", id);
    world.emit_changed("customer.subscription.updated", id, &before);
}

/// A pending update is discarded, and its invoice with it.
pub(crate) fn expire_pending(world: &mut World, id: &str) {
    if let Some(invoice) = world.copy(id).link("_pending_invoice") {
        invoicing::void_if_open(world, invoice);
    }
    if world.copy(id)["pending_update"].is_object() {
        drop_pending(world, id);
    }
}

/// A pending update will not take effect any more.
pub(crate) fn drop_pending(world: &mut World, id: &str) {
    let before = visible(&world.copy(id));
    world.edit(id, |subscription| {
        for key in ["pending_update", "_pending_invoice", "_wanted"] {
            set(subscription, key, Value::Null);
        }
    });
    world.emit("customer.subscription.pending_update_expired", id);
    world.emit_changed("customer.subscription.updated", id, &before);
}
