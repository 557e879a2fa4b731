//! What is due when, and doing it in the order of time.
//!
//! Each object states the next thing that time will do to it; the world keeps these wishes sorted. After a
//! jump of months everything in between is done at its own time, in its own order, as if nobody had jumped.

use serde_json::Value;

use super::invoicing;
use super::{changing, cycling, outcomes, paying, scheduling};
use crate::calendar::{DAY, HOUR};
use crate::config::Account;
use crate::json::{Fields as _, set};
use crate::state::{Kind, World};

/// What time does to an object. What comes first here is done first when several are due at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deed {
    EnterPhase,
    TellTrialEnds,
    TellUpcoming,
    ExpireIncomplete,
    ExpirePending,
    ExpireResumption,
    ResumeCollection,
    Cancel,
    EndTrial,
    Renew,
    Finalize,
    Retry,
    PassDue,
    ExpireSession,
    Dispute,
}

/// The next thing that time will do to an object.
pub(crate) fn wish(kind: Kind, object: &Value, account: &Account) -> Option<(i64, Deed)> {
    match kind {
        Kind::Subscription => subscription_wish(object, account),
        Kind::Invoice => invoice_wish(object),
        Kind::Schedule if object.text("status") == "active" => object["current_phase"]
            .time("end_date")
            .map(|at| (at, Deed::EnterPhase)),
        Kind::CheckoutSession if object.text("status") == "open" => {
            Some((object.number("expires_at"), Deed::ExpireSession))
        }
        Kind::Charge if object.flag("_dispute_due") => {
            Some((object.number("created"), Deed::Dispute))
        }
        _ => None,
    }
}

fn invoice_wish(invoice: &Value) -> Option<(i64, Deed)> {
    match invoice.text("status") {
        "draft" => invoice
            .time("automatically_finalizes_at")
            .map(|at| (at, Deed::Finalize)),
        "open" if invoice.flag("auto_advance") => match invoice.time("next_payment_attempt") {
            Some(at) => Some((at, Deed::Retry)),
            None if invoice.flag("_past_due") => None,
            None => invoice.time("due_date").map(|at| (at, Deed::PassDue)),
        },
        _ => None,
    }
}

fn subscription_wish(subscription: &Value, account: &Account) -> Option<(i64, Deed)> {
    let status = subscription.text("status");
    if status == "incomplete" {
        let at = subscription.number("created") + 23 * HOUR;
        return Some((at, Deed::ExpireIncomplete));
    }
    if !matches!(
        status,
        "active" | "trialing" | "past_due" | "unpaid" | "paused"
    ) {
        return None;
    }
    let first = subscription.rows("items").first()?;
    let start = first.number("current_period_start");
    let end = first.number("current_period_end");
    let mut wishes = Vec::new();
    let mut wish = |at: Option<i64>, deed: Deed| wishes.extend(at.map(|at| (at, deed)));
    wish(subscription.time("cancel_at"), Deed::Cancel);
    wish(
        subscription["pending_update"].time("expires_at"),
        Deed::ExpirePending,
    );
    wish(
        subscription["pause_collection"].time("resumes_at"),
        Deed::ResumeCollection,
    );
    match status {
        "trialing" => {
            let trial_end = subscription.time("trial_end");
            if !subscription.flag("_trial_told") {
                let told = trial_end.map(|at| (at - 3 * DAY).max(start));
                wish(told, Deed::TellTrialEnds);
            }
            wish(trial_end, Deed::EndTrial);
        }
        "paused" => wish(
            subscription.time("_resumption_expires"),
            Deed::ExpireResumption,
        ),
        _ => {
            let told_at = end - account.upcoming_days * DAY;
            let is_told = subscription.time("_upcoming_told") == Some(end);
            if !is_told && told_at > start && status != "unpaid" {
                wish(Some(told_at), Deed::TellUpcoming);
            }
            wish(Some(end), Deed::Renew);
        }
    }
    wishes.into_iter().min()
}

/// How many deeds one run does at most; more means that one wishes itself again for ever.
const MOST_DEEDS: usize = 1_000_000;

/// Does everything that is due on one clock up to `horizon`, in the order of time. Leaves `now` at the horizon.
pub(crate) fn run(world: &mut World, clock: Option<&str>, horizon: i64) {
    for _ in 0..MOST_DEEDS {
        let Some((at, deed, id)) = world.next_due(clock, horizon) else {
            world.now = horizon;
            return;
        };
        world.now = at;
        perform(world, deed, &id);
        if world.next_due(clock, horizon) == Some((at, deed, id.clone())) {
            // Never again: an object whose wish is not fulfilled would stop the clock.
            tracing::error!(%id, ?deed, "what was due could not be done");
            world.silence_wish(&id);
        }
    }
    tracing::error!("too much was due at once");
    world.now = horizon;
}

fn perform(world: &mut World, deed: Deed, id: &str) {
    match deed {
        Deed::EnterPhase => scheduling::advance(world, id),
        Deed::TellTrialEnds => {
            world.edit(id, |s| set(s, "_trial_told", true));
            world.emit("customer.subscription.trial_will_end", id);
        }
        Deed::TellUpcoming => tell_upcoming(world, id),
        Deed::ExpireIncomplete => expire_incomplete(world, id),
        Deed::ExpirePending => changing::expire_pending(world, id),
        Deed::ExpireResumption => {
            world.edit(id, |s| set(s, "_resumption_expires", Value::Null));
            if let Some(invoice) = world.copy(id).link("_resumption") {
                invoicing::void_if_open(world, invoice);
            }
            world.edit(id, |s| set(s, "_resumption", Value::Null));
        }
        Deed::ResumeCollection => {
            world.update(id, "customer.subscription.updated", |s| {
                set(s, "pause_collection", Value::Null);
            });
        }
        Deed::Cancel => cycling::cancel_now(world, id, "cancellation_requested"),
        Deed::EndTrial => cycling::end_trial(world, id),
        Deed::Renew => cycling::renew(world, id),
        Deed::Finalize => cycling::finalize_due(world, id),
        Deed::Retry => cycling::retry(world, id),
        Deed::PassDue => {
            world.edit(id, |invoice| set(invoice, "_past_due", true));
            world.emit("invoice.overdue", id);
            outcomes::failed(world, id, false);
        }
        Deed::ExpireSession => {
            world.update(id, "checkout.session.expired", |session| {
                set(session, "status", "expired");
                set(session, "url", Value::Null);
            });
        }
        Deed::Dispute => {
            world.edit(id, |charge| set(charge, "_dispute_due", false));
            if let Err(error) = paying::dispute(world, id, "fraudulent") {
                tracing::error!(error = ?error.fields, "a charge could not be disputed");
            }
        }
    }
}

fn tell_upcoming(world: &mut World, id: &str) {
    let (_, end) = changing::period(&world.copy(id));
    world.edit(id, |s| set(s, "_upcoming_told", end));
    if let Ok(mut invoice) = super::previewing::upcoming(world.clone(), id) {
        // The event's invoice has no id: it does not exist yet.
        if let Some(fields) = invoice.as_object_mut() {
            fields.remove("id");
        }
        set(&mut invoice, "billing_reason", "upcoming");
        world.emit_object("invoice.upcoming", &invoice, None);
    }
}

fn expire_incomplete(world: &mut World, id: &str) {
    let invoice = world.copy(id).text("latest_invoice").to_owned();
    outcomes::expire(world, id);
    invoicing::void_if_open(world, &invoice);
}
