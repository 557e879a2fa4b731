//! What is said about money: a payment that failed and is forgiven for a while, one that waits for a confirmation, one
//! that is disputed or was given back.

use chrono::{DateTime, Utc};
use rawdrive_billing::{
    CHARGE_REFUNDED, Currency, DISPUTE_OPENED, GRACE_REACHED, PAYMENT_ACTION_REQUIRED,
};
use rawdrive_tenancy_core::event::DomainEvent;
use serde_json::Value;

use super::Mail;
use super::name::Name;

/// The mail about an event of money, if there is anything to say.
pub(super) fn mail(event: &DomainEvent, workspace: &Name, billing_url: &str) -> Option<Mail> {
    let Name {
        subject: called,
        text: workspace,
    } = workspace;
    let (subject, text) = match event.kind.as_str() {
        GRACE_REACHED => grace(&event.facts, workspace)?,
        PAYMENT_ACTION_REQUIRED => (
            "a payment waits for your confirmation".to_owned(),
            format!(
                "The bank asks the holder of the card to confirm a payment of {workspace}: {}.",
                amount(&event.facts, "amount")?
            ),
        ),
        DISPUTE_OPENED => (
            "a payment is disputed".to_owned(),
            format!(
                "The bank was asked to give back a payment of {workspace}: {}. Nothing changes for the workspace \
                 until that is decided.",
                amount(&event.facts, "amount")?
            ),
        ),
        CHARGE_REFUNDED => (
            "a payment was given back".to_owned(),
            format!(
                "{} were given back to the card that pays for {workspace}.",
                amount(&event.facts, "refunded")?
            ),
        ),
        _ => return None,
    };
    Some(Mail {
        subject: format!("{called}: {subject}"),
        text: format!("{text}\n\nCards, plan and invoices: {billing_url}\n"),
    })
}

fn grace(facts: &Value, workspace: &str) -> Option<(String, String)> {
    let until: DateTime<Utc> = facts.get("until")?.as_str()?.parse().ok()?;
    let until = until.format("%-d %B %Y, %H:%M UTC");
    let is = |name: &str| facts.get(name).and_then(Value::as_bool) == Some(true);
    let stage = facts.get("stage")?.as_str()?;
    if is("ended") {
        return ended(stage, workspace, &until.to_string());
    }
    let subject = match stage {
        "started" if is("overdue") => "an invoice is overdue".to_owned(),
        "started" => "a payment failed".to_owned(),
        "half" => "a payment is still missing".to_owned(),
        "last_day" => "the last day to pay".to_owned(),
        "over" => {
            let owed = facts.get("owed").and_then(Value::as_u64).unwrap_or(1);
            let way_out = match owed {
                0 | 1 => "A payment makes the workspace writable again at once.".to_owned(),
                // Of several, the latest decides: one payment may not be enough.
                owed => format!(
                    "{owed} invoices are open. Once they are paid, the workspace is writable again at once."
                ),
            };
            let text = format!(
                "A payment of {workspace} is missing, and since {until} nothing new is taken.\n\n\
                 What you share stays online; everything can be seen, downloaded and deleted. {way_out}"
            );
            return Some(("read-only until it is paid".to_owned(), text));
        }
        _ => return None,
    };
    let what = if is("overdue") {
        format!("An invoice of {workspace} was not paid by its due date.")
    } else {
        format!("A payment of {workspace} failed.")
    };
    let text = format!(
        "{what} Everything goes on until {until}; after that nothing new is taken until it is paid, while what you share \
         stay online."
    );
    Some((subject, text))
}

/// The payment provider has ended the subscription: a payment does not bring it back, and nobody is told so.
fn ended(stage: &str, workspace: &str, until: &str) -> Option<(String, String)> {
    let subject = match stage {
        "started" => "the subscription has ended",
        "half" => "the subscription has ended, and its plan ends soon",
        "last_day" => "the last day of the plan",
        "over" => "the plan has ended",
        _ => return None,
    };
    let text = format!(
        "The subscription of {workspace} has ended because a payment was missing. Its plan goes on until {until}; after \
         that it is the free plan, and nothing is deleted. To keep the plan, subscribe again."
    );
    Some((subject.to_owned(), text))
}

/// An amount as people write it, in the currency of the same facts.
fn amount(facts: &Value, name: &str) -> Option<String> {
    let minor = facts.get(name)?.as_i64()?;
    let currency = Currency::parse(facts.get("currency")?.as_str()?).ok()?;
    Some(money(minor, currency))
}

/// An amount in minor units, for people: `29.00 USD`.
#[must_use]
pub fn money(minor: i64, currency: Currency) -> String {
    let code = currency.as_str().to_uppercase();
    match decimals(currency.as_str()) {
        0 => format!("{minor} {code}"),
        places => {
            let unit = 10_u64.pow(places);
            let sign = if minor < 0 { "-" } else { "" };
            let (whole, part) = (minor.unsigned_abs() / unit, minor.unsigned_abs() % unit);
            format!(
                "{sign}{whole}.{part:0width$} {code}",
                width = places as usize
            )
        }
    }
}

/// How many digits of an amount are minor units (Stripe, "Supported currencies": zero- and three-decimal ones).
fn decimals(currency: &str) -> u32 {
    match currency {
        "bif" | "clp" | "djf" | "gnf" | "jpy" | "kmf" | "krw" | "mga" | "pyg" | "rwf" | "vnd"
        | "vuv" | "xaf" | "xof" | "xpf" => 0,
        "bhd" | "jod" | "kwd" | "omr" | "tnd" => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(kind: &str, facts: Value) -> Mail {
        let event = DomainEvent {
            kind: kind.to_owned(),
            subject: "in_1".to_owned(),
            facts,
        };
        mail(&event, &Name::of("Studio"), "https://x/billing").unwrap()
    }

    #[test]
    fn each_stage_of_a_grace_says_until_when() {
        for (stage, subject, word) in [
            (
                "started",
                "Studio: a payment failed",
                "until 15 December 2026, 10:00 UTC",
            ),
            (
                "half",
                "Studio: a payment is still missing",
                "until 15 December 2026",
            ),
            (
                "last_day",
                "Studio: the last day to pay",
                "until 15 December 2026",
            ),
            (
                "over",
                "Studio: read-only until it is paid",
                "since 15 December 2026",
            ),
        ] {
            let facts =
                json!({ "stage": stage, "until": "2026-12-15T10:00:00Z", "invoice": "in_1" });
            let mail = said(GRACE_REACHED, facts);
            assert_eq!(mail.subject, subject);
            assert!(
                mail.text.contains(word) && mail.text.contains("https://x/billing"),
                "{}",
                mail.text
            );
        }
    }

    #[test]
    fn what_has_ended_is_not_said_to_come_back_by_a_payment() {
        for stage in ["started", "half", "last_day", "over"] {
            let facts = json!({
                "stage": stage, "until": "2026-12-15T10:00:00Z", "invoice": "in_1", "ended": true,
            });
            let mail = said(GRACE_REACHED, facts);
            assert!(mail.text.contains("subscribe again"), "{}", mail.text);
            assert!(!mail.text.contains("until it is paid"), "{}", mail.text);
        }
        let facts = json!({
            "stage": "started", "until": "2026-12-15T10:00:00Z", "invoice": "in_1", "overdue": true,
        });
        let mail = said(GRACE_REACHED, facts);
        assert_eq!(mail.subject, "Studio: an invoice is overdue");
        assert!(mail.text.contains("due date"), "{}", mail.text);
    }

    #[test]
    fn an_amount_is_written_in_its_currencys_way() {
        for (minor, currency, text) in [
            (2900, "usd", "29.00 USD"),
            (5, "eur", "0.05 EUR"),
            (-50, "usd", "-0.50 USD"),
            (1200, "jpy", "1200 JPY"),
            (1234, "kwd", "1.234 KWD"),
        ] {
            let mail = said(
                DISPUTE_OPENED,
                json!({ "amount": minor, "currency": currency }),
            );
            assert!(mail.text.contains(text), "{}", mail.text);
        }
        let mail = said(
            CHARGE_REFUNDED,
            json!({ "refunded": 100, "currency": "usd" }),
        );
        assert!(
            mail.text.starts_with("1.00 USD were given back"),
            "{}",
            mail.text
        );
    }

    #[test]
    fn what_is_not_understood_is_not_said() {
        for (kind, facts) in [
            (
                GRACE_REACHED,
                json!({ "stage": "dusk", "until": "2026-12-15T10:00:00Z" }),
            ),
            (GRACE_REACHED, json!({ "stage": "half" })),
            (DISPUTE_OPENED, json!({ "amount": 1 })),
            ("invoice.paid", json!({})),
        ] {
            let event = DomainEvent {
                kind: kind.to_owned(),
                subject: String::new(),
                facts,
            };
            assert_eq!(mail(&event, &Name::of("Studio"), "u"), None, "{event:?}");
        }
    }
}
