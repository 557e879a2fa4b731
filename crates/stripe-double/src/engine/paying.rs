//! Attempts on cards: charges, declines, authentication, and what follows a decline.

use serde_json::{Value, json};

use super::invoicing::{self, intent_of, merge, subscription_of};
use super::outcomes;
use crate::calendar::DAY;
use crate::cards::{self, Decline, Verdict};
use crate::json::{Fields as _, set, visible};
use crate::objects::{self, NewCharge};
use crate::state::{Kind, World};
use crate::wire::error::ApiError;

/// How an invoice is to be paid.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attempt {
    /// Made by Stripe, not by a request: only these advance the schedule of retries after the first.
    pub(crate) automatic: bool,
    /// Nobody is there to authenticate.
    pub(crate) off_session: bool,
    /// Instead of the default payment method.
    pub(crate) method: Option<String>,
}

/// What an attempt came to.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Paid,
    /// The card was declined, or there is none.
    Failed(ApiError),
    /// The card's holder must authenticate.
    ActionRequired,
}

/// The payment method that an invoice is collected from.
pub(crate) fn default_method(world: &World, invoice: &Value) -> Option<String> {
    let subscription = subscription_of(invoice).and_then(|id| world.get(id));
    let customer = world.get(invoice.text("customer"));
    let own = invoice.link("default_payment_method");
    let by_subscription = subscription.and_then(|s| s.link("default_payment_method"));
    let by_customer = customer.and_then(|c| c["invoice_settings"].link("default_payment_method"));
    own.or(by_subscription)
        .or(by_customer)
        .filter(|id| world.get(id).is_some_and(|m| m.link("customer").is_some()))
        .map(str::to_owned)
}

/// Attempts to pay an open invoice.
pub(crate) fn attempt(world: &mut World, invoice_id: &str, how: &Attempt) -> Outcome {
    let invoice = world.copy(invoice_id);
    let Some(intent_id) = intent_of(world, invoice_id) else {
        return Outcome::Paid;
    };
    let method = how
        .method
        .clone()
        .or_else(|| default_method(world, &invoice));
    let Some(method_id) = method else {
        let error = ApiError::invalid(
            "Cannot charge a customer that has no active card or default payment method.",
        )
        .code("resource_missing");
        failed(world, invoice_id, how);
        return Outcome::Failed(error);
    };
    if how.automatic && is_pointless(&invoice, &method_id) {
        failed(world, invoice_id, how);
        return Outcome::Failed(Decline::GENERIC_RETRY.error());
    }
    world.edit(invoice_id, |invoice| {
        set(invoice, "_last_method", method_id.clone());
        set(invoice, "_last_decline", Value::Null);
    });
    let customer = invoice.text("customer").to_owned();
    let verdict = match next_decline(world, &customer) {
        Some(why) => Verdict::Declined(why),
        None => cards::charge(&world.copy(&method_id), how.off_session),
    };
    match verdict {
        Verdict::Pays { disputed } => {
            count_attempt(world, invoice_id, how);
            succeed(world, &intent_id, &method_id, false, disputed);
            Outcome::Paid
        }
        Verdict::Declined(why) => {
            let error = decline(world, &intent_id, &method_id, why);
            world.edit(invoice_id, |invoice| {
                set(invoice, "_last_decline", why.decline_code);
            });
            if why == Decline::AUTHENTICATION {
                world.emit("invoice.payment_action_required", invoice_id);
            }
            failed(world, invoice_id, how);
            Outcome::Failed(error)
        }
        Verdict::Authenticate => {
            require_action(world, &intent_id, &method_id);
            world.emit("invoice.payment_action_required", invoice_id);
            failed(world, invoice_id, how);
            Outcome::ActionRequired
        }
    }
}

impl Decline {
    /// What a retry that is not executed comes to.
    const GENERIC_RETRY: Self = Self {
        code: "card_declined",
        decline_code: "do_not_try_again",
        message: "Your card was declined.",
    };
}

/// After some declines Stripe counts retries without executing them until there is another payment method.
fn is_pointless(invoice: &Value, method: &str) -> bool {
    Decline::is_final(invoice.text("_last_decline")) && invoice.link("_last_method") == Some(method)
}

/// The decline that a fault has put in front of a customer's next charge.
fn next_decline(world: &mut World, customer: &str) -> Option<Decline> {
    let queued = world.copy(customer).rows("_declines").to_vec();
    let (first, rest) = queued.split_first()?;
    let rest = rest.to_vec();
    world.edit(customer, |customer| set(customer, "_declines", rest));
    first.as_str().and_then(Decline::named)
}

/// A charge that succeeds, and everything that is paid by it.
fn succeed(
    world: &mut World,
    intent_id: &str,
    method_id: &str,
    authenticated: bool,
    disputed: bool,
) {
    let charge_id = world.new_id(Kind::Charge);
    let intent = world.copy(intent_id);
    let method = world.copy(method_id);
    let amount = intent.number("amount");
    let mut charge = objects::charge(NewCharge {
        id: charge_id.clone(),
        intent: &intent,
        payment_method: &method,
        decline: None,
        authenticated,
        base_url: &world.base_url,
        now: world.now,
    });
    set(&mut charge, "_dispute_due", disputed);
    world.insert(Kind::Charge, charge);
    world.edit(intent_id, |intent| {
        merge(
            intent,
            json!({
                "status": "succeeded",
                "amount_received": amount,
                "latest_charge": charge_id,
                "payment_method": method_id,
                "last_payment_error": null,
                "next_action": null,
            }),
        );
    });
    if authenticated {
        // A payment with `setup_future_usage` sets the card up for the ones that follow.
        world.edit(method_id, |method| set(method, "_set_up", true));
    }
    world.emit("charge.succeeded", &charge_id);
    world.emit("payment_intent.succeeded", intent_id);
    if let Some(invoice) = intent.link("_invoice") {
        let invoice = invoice.to_owned();
        outcomes::save_method(world, &invoice, method_id);
        invoicing::mark_paid(world, &invoice, amount);
    }
}

/// A charge that fails. Returns the error that a request answers.
fn decline(world: &mut World, intent_id: &str, method_id: &str, why: Decline) -> ApiError {
    let charge_id = world.new_id(Kind::Charge);
    let intent = world.copy(intent_id);
    let method = world.copy(method_id);
    let charge = objects::charge(NewCharge {
        id: charge_id.clone(),
        intent: &intent,
        payment_method: &method,
        decline: Some(why),
        authenticated: false,
        base_url: &world.base_url,
        now: world.now,
    });
    world.insert(Kind::Charge, charge);
    let error = why
        .error()
        .with("charge", json!(charge_id))
        .with("payment_method", visible(&method));
    let shown = Value::Object(error.fields.clone());
    world.edit(intent_id, |intent| {
        merge(
            intent,
            json!({
                "status": "requires_payment_method",
                "latest_charge": charge_id,
                "payment_method": null,
                "last_payment_error": shown,
                "next_action": null,
            }),
        );
    });
    world.emit("charge.failed", &charge_id);
    world.emit("payment_intent.payment_failed", intent_id);
    error.with("payment_intent", visible(&world.copy(intent_id)))
}

fn require_action(world: &mut World, intent_id: &str, method_id: &str) {
    let next_action = next_action(world, intent_id);
    world.edit(intent_id, |intent| {
        merge(
            intent,
            json!({
                "status": "requires_action",
                "payment_method": method_id,
                "next_action": next_action,
                "last_payment_error": null,
            }),
        );
    });
    world.emit("payment_intent.requires_action", intent_id);
}

/// How the holder authenticates: on the double's page.
pub(crate) fn next_action(world: &World, intent: &str) -> Value {
    json!({
        "redirect_to_url": {
            "return_url": null,
            "url": format!("{}/3d_secure/{intent}", world.base_url),
        },
        "type": "redirect_to_url",
    })
}

fn count_attempt(world: &mut World, invoice_id: &str, how: &Attempt) -> i64 {
    let attempts = world.copy(invoice_id).number("attempt_count");
    let counted = if attempts == 0 || how.automatic {
        attempts + 1
    } else {
        attempts
    };
    world.edit(invoice_id, |invoice| {
        set(invoice, "attempt_count", counted);
        set(invoice, "attempted", true);
    });
    counted
}

/// An attempt has failed: counts it, plans the next one, and tells the subscription.
fn failed(world: &mut World, invoice_id: &str, how: &Attempt) {
    let before = world.copy(invoice_id);
    let attempts = count_attempt(world, invoice_id, how);
    let is_planned = how.automatic || before.number("attempt_count") == 0;
    let retries = is_planned && retries(world, &before);
    if retries {
        let gap = usize::try_from(attempts - 1)
            .ok()
            .and_then(|at| world.account.retry_days.get(at).copied());
        let next = gap.map(|days| world.now + days * DAY);
        world.edit(invoice_id, |invoice| {
            set(invoice, "next_payment_attempt", next);
        });
    }
    world.emit_changed("invoice.updated", invoice_id, &before);
    world.emit("invoice.payment_failed", invoice_id);
    let planned = world.copy(invoice_id).time("next_payment_attempt");
    outcomes::failed(world, invoice_id, retries && planned.is_none());
}

/// Whether Stripe tries again by itself: never for the first invoice of a subscription that is incomplete,
/// nor once collection has been stopped.
fn retries(world: &World, invoice: &Value) -> bool {
    let subscription = subscription_of(invoice).and_then(|id| world.get(id));
    let waiting = subscription.is_some_and(|s| {
        matches!(
            s.text("status"),
            "incomplete" | "incomplete_expired" | "canceled" | "paused"
        )
    });
    invoice.flag("auto_advance") && !waiting
}

/// The holder has come back from authenticating an intent to pay or to set up.
pub(crate) fn authenticate(
    world: &mut World,
    intent_id: &str,
    succeeded: bool,
) -> Result<(), ApiError> {
    let intent = world.copy(intent_id);
    if intent.text("status") != "requires_action" {
        return Err(ApiError::invalid(format!(
            "This intent does not wait for authentication (status: {}).",
            intent.text("status")
        )));
    }
    if world.kind_of(intent_id) == Some(Kind::SetupIntent) {
        super::setting_up::authenticated(world, intent_id, succeeded);
        return Ok(());
    }
    let method = intent.text("payment_method").to_owned();
    if succeeded {
        succeed(world, intent_id, &method, true, false);
        return Ok(());
    }
    let error = json!({
        "code": "payment_intent_authentication_failure",
        "doc_url": "https://docs.stripe.com/error-codes/payment-intent-authentication-failure",
        "message": "The provided PaymentMethod has failed authentication. You can provide payment_method_data or a new PaymentMethod to attempt to fulfill this PaymentIntent again.",
        "payment_method": visible(&world.copy(&method)),
        "type": "invalid_request_error",
    });
    world.edit(intent_id, |intent| {
        merge(
            intent,
            json!({
                "status": "requires_payment_method",
                "payment_method": null,
                "next_action": null,
                "last_payment_error": error,
            }),
        );
    });
    world.emit("payment_intent.payment_failed", intent_id);
    if let Some(invoice) = intent.link("_invoice") {
        world.emit("invoice.payment_failed", invoice);
    }
    Ok(())
}

/// A charge is disputed by the card's holder; the money is taken back at once.
pub(crate) fn dispute(
    world: &mut World,
    charge_id: &str,
    reason: &str,
) -> Result<String, ApiError> {
    let charge = world.find(Kind::Charge, charge_id, "charge", false)?;
    if charge.flag("disputed") || charge.text("status") != "succeeded" {
        return Err(ApiError::invalid(
            "This charge cannot be disputed: it failed, or is disputed already.",
        ));
    }
    world.edit(charge_id, |charge| {
        set(charge, "disputed", true);
        set(charge, "_dispute_due", false);
    });
    let id = world.new_id(Kind::Dispute);
    let dispute = objects::dispute(&id, &charge, reason, world.now);
    world.insert(Kind::Dispute, dispute);
    world.emit("charge.dispute.created", &id);
    world.emit("charge.dispute.funds_withdrawn", &id);
    Ok(id)
}
