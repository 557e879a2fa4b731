//! Stripe's test cards: what each number does, and the ready-made payment methods named after them
//! (<https://docs.stripe.com/testing>).

use serde_json::{Value, json};

use crate::json::Fields as _;
use crate::wire::error::ApiError;

/// Why a card is declined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decline {
    pub(crate) code: &'static str,
    pub(crate) decline_code: &'static str,
    pub(crate) message: &'static str,
}

impl Decline {
    const GENERIC: Self = Self::declined("generic_decline", "Your card was declined.");
    const FUNDS: Self = Self::declined("insufficient_funds", "Your card has insufficient funds.");
    const LOST: Self = Self::declined("lost_card", "Your card was declined.");
    const STOLEN: Self = Self::declined("stolen_card", "Your card was declined.");
    const EXPIRED: Self = Self {
        code: "expired_card",
        decline_code: "expired_card",
        message: "Your card has expired.",
    };
    const CVC: Self = Self {
        code: "incorrect_cvc",
        decline_code: "incorrect_cvc",
        message: "Your card's security code is incorrect.",
    };
    const PROCESSING: Self = Self {
        code: "processing_error",
        decline_code: "processing_error",
        message: "An error occurred while processing your card. Try again in a little bit.",
    };
    /// What an off-session payment gets from a card that wants its holder present.
    pub(crate) const AUTHENTICATION: Self = Self {
        code: "authentication_required",
        decline_code: "authentication_required",
        message: "Your card was declined. This transaction requires authentication.",
    };

    const fn declined(decline_code: &'static str, message: &'static str) -> Self {
        Self {
            code: "card_declined",
            decline_code,
            message,
        }
    }

    /// The decline that an issuer's code stands for, as a fault asks for it.
    pub(crate) fn named(decline_code: &str) -> Option<Self> {
        let all = [
            Self::GENERIC,
            Self::FUNDS,
            Self::LOST,
            Self::STOLEN,
            Self::EXPIRED,
            Self::CVC,
            Self::PROCESSING,
            Self::AUTHENTICATION,
        ];
        all.into_iter()
            .find(|decline| decline.decline_code == decline_code)
    }

    /// Whether retries are pointless until there is another card: scheduled, counted, but not executed.
    pub(crate) fn is_final(decline_code: &str) -> bool {
        matches!(
            decline_code,
            "lost_card" | "stolen_card" | "authentication_required"
        )
    }

    pub(crate) fn error(self) -> ApiError {
        ApiError::card(self.code, Some(self.decline_code), self.message)
    }
}

/// What a card does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Pays,
    /// Declined whenever it is used, attaching included.
    Declines(Decline),
    /// Attaches, then every charge is declined.
    DeclinesCharges(Decline),
    /// Wants authentication until it has been set up for later payments.
    AuthenticatesOnce,
    /// Wants authentication each time.
    AuthenticatesAlways,
    /// Pays, and the payment is disputed as fraudulent.
    Disputes,
}

struct TestCard {
    number: &'static str,
    token: &'static str,
    brand: &'static str,
    behaviour: Behaviour,
}

const fn card(
    number: &'static str,
    token: &'static str,
    brand: &'static str,
    behaviour: Behaviour,
) -> TestCard {
    TestCard {
        number,
        token,
        brand,
        behaviour,
    }
}

const CARDS: [TestCard; 15] = [
    card("4242424242424242", "pm_card_visa", "visa", Behaviour::Pays),
    card(
        "5555555555554444",
        "pm_card_mastercard",
        "mastercard",
        Behaviour::Pays,
    ),
    card("378282246310005", "pm_card_amex", "amex", Behaviour::Pays),
    card(
        "4000000000000002",
        "pm_card_chargeDeclined",
        "visa",
        Behaviour::Declines(Decline::GENERIC),
    ),
    card(
        "4000000000009995",
        "pm_card_chargeDeclinedInsufficientFunds",
        "visa",
        Behaviour::Declines(Decline::FUNDS),
    ),
    card(
        "4000000000009987",
        "pm_card_chargeDeclinedLostCard",
        "visa",
        Behaviour::Declines(Decline::LOST),
    ),
    card(
        "4000000000009979",
        "pm_card_chargeDeclinedStolenCard",
        "visa",
        Behaviour::Declines(Decline::STOLEN),
    ),
    card(
        "4000000000000069",
        "pm_card_chargeDeclinedExpiredCard",
        "visa",
        Behaviour::Declines(Decline::EXPIRED),
    ),
    card(
        "4000000000000127",
        "pm_card_chargeDeclinedIncorrectCvc",
        "visa",
        Behaviour::Declines(Decline::CVC),
    ),
    card(
        "4000000000000119",
        "pm_card_chargeDeclinedProcessingError",
        "visa",
        Behaviour::Declines(Decline::PROCESSING),
    ),
    card(
        "4000000000000341",
        "pm_card_chargeCustomerFail",
        "visa",
        Behaviour::DeclinesCharges(Decline::GENERIC),
    ),
    card(
        "4000002500003155",
        "pm_card_authenticationRequiredOnSetup",
        "visa",
        Behaviour::AuthenticatesOnce,
    ),
    card(
        "4000002760003184",
        "pm_card_authenticationRequired",
        "visa",
        Behaviour::AuthenticatesAlways,
    ),
    card(
        "4000000000000259",
        "pm_card_createDispute",
        "visa",
        Behaviour::Disputes,
    ),
    card(
        "4000000000005126",
        "pm_card_refundFail",
        "visa",
        Behaviour::Pays,
    ),
];

/// Declines whose ready-made payment methods have two names: the older one, and the one with the card's brand,
/// which the documentation lists now.
const BRANDED: [(&str, &str); 4] = [
    ("pm_card_visa_chargeDeclined", "pm_card_chargeDeclined"),
    (
        "pm_card_visa_chargeDeclinedInsufficientFunds",
        "pm_card_chargeDeclinedInsufficientFunds",
    ),
    (
        "pm_card_visa_chargeDeclinedLostCard",
        "pm_card_chargeDeclinedLostCard",
    ),
    (
        "pm_card_visa_chargeDeclinedStolenCard",
        "pm_card_chargeDeclinedStolenCard",
    ),
];

/// The number behind a ready-made payment method such as `pm_card_visa`.
pub(crate) fn number_of_token(token: &str) -> Option<&'static str> {
    let branded = BRANDED.iter().find(|(name, _)| *name == token);
    let token = branded.map_or(token, |(_, token)| *token);
    let card = CARDS.iter().find(|card| card.token == token);
    card.map(|card| card.number)
}

/// What a number does; one that is no test card is refused as Stripe refuses it in test mode.
pub(crate) fn behaviour(number: &str) -> Result<Behaviour, ApiError> {
    find(number).map(|card| card.behaviour)
}

fn find(number: &str) -> Result<&'static TestCard, ApiError> {
    let known = CARDS.iter().find(|card| card.number == number);
    known.ok_or_else(|| {
        if !number.chars().all(|c| c.is_ascii_digit()) || !passes_luhn(number) {
            ApiError::card("incorrect_number", None, "Your card number is incorrect.")
                .param("number")
        } else {
            ApiError::card(
                "card_declined",
                Some("test_mode_live_card"),
                "Your card was declined. Your request was in test mode, but used a non test card. For a list of valid test cards, visit: https://stripe.com/docs/testing.",
            )
        }
    })
}

fn passes_luhn(number: &str) -> bool {
    let digits = number.bytes().rev().map(|byte| u32::from(byte - b'0'));
    let sum: u32 = digits
        .enumerate()
        .map(|(at, digit)| match at % 2 {
            1 if digit > 4 => digit * 2 - 9,
            1 => digit * 2,
            _ => digit,
        })
        .sum();
    number.len() > 11 && sum.is_multiple_of(10)
}

/// A new card payment method, not attached to anybody.
pub(crate) fn payment_method(
    id: &str,
    number: &str,
    expiry: (i64, i64),
    created: i64,
) -> Result<Value, ApiError> {
    let card = find(number)?;
    let (exp_month, exp_year) = expiry;
    let last4 = &number[number.len() - 4..];
    Ok(json!({
        "id": id,
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": {
            "address": address(),
            "email": null,
            "name": null,
            "phone": null,
            "tax_id": null,
        },
        "card": {
            "brand": card.brand,
            "checks": {
                "address_line1_check": null,
                "address_postal_code_check": null,
                "cvc_check": "pass",
            },
            "country": "US",
            "display_brand": card.brand,
            "exp_month": exp_month,
            "exp_year": exp_year,
            "fingerprint": format!("double{last4}{}", card.brand),
            "funding": "credit",
            "generated_from": null,
            "last4": last4,
            "networks": { "available": [card.brand], "preferred": null },
            "regulated_status": "unregulated",
            "three_d_secure_usage": { "supported": true },
            "wallet": null,
        },
        "created": created,
        "customer": null,
        "customer_account": null,
        "livemode": false,
        "metadata": {},
        "type": "card",
        "_number": number,
        "_set_up": false,
    }))
}

/// An address of which nothing is known.
pub(crate) fn address() -> Value {
    json!({
        "city": null,
        "country": null,
        "line1": null,
        "line2": null,
        "postal_code": null,
        "state": null,
    })
}

/// What using a payment method comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pays {
        disputed: bool,
    },
    Declined(Decline),
    /// Its holder must authenticate; possible only while present.
    Authenticate,
}

/// What charging a payment method comes to.
pub(crate) fn charge(payment_method: &Value, off_session: bool) -> Verdict {
    let wants_holder = match behaviour(payment_method.text("_number")) {
        Ok(Behaviour::Pays) | Err(_) => return Verdict::Pays { disputed: false },
        Ok(Behaviour::Disputes) => return Verdict::Pays { disputed: true },
        Ok(Behaviour::Declines(why) | Behaviour::DeclinesCharges(why)) => {
            return Verdict::Declined(why);
        }
        Ok(Behaviour::AuthenticatesOnce) => !payment_method.flag("_set_up"),
        Ok(Behaviour::AuthenticatesAlways) => true,
    };
    match (wants_holder, off_session) {
        (false, _) => Verdict::Pays { disputed: false },
        (true, true) => Verdict::Declined(Decline::AUTHENTICATION),
        (true, false) => Verdict::Authenticate,
    }
}

/// What attaching a payment method to a customer comes to: cards that always decline cannot be attached.
pub(crate) fn attach(payment_method: &Value) -> Result<(), Decline> {
    match behaviour(payment_method.text("_number")) {
        Ok(Behaviour::Declines(why)) => Err(why),
        _ => Ok(()),
    }
}

/// What setting a payment method up for later comes to.
pub(crate) fn set_up(payment_method: &Value) -> Verdict {
    match behaviour(payment_method.text("_number")) {
        Ok(Behaviour::Declines(why)) => Verdict::Declined(why),
        Ok(Behaviour::AuthenticatesOnce | Behaviour::AuthenticatesAlways)
            if !payment_method.flag("_set_up") =>
        {
            Verdict::Authenticate
        }
        _ => Verdict::Pays { disputed: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_card_is_a_valid_number() {
        assert!(CARDS.iter().all(|card| passes_luhn(card.number)));
    }

    #[test]
    fn a_number_that_is_no_test_card_is_declined() {
        let error = behaviour("4111111111111111").unwrap_err();
        assert_eq!(error.fields["decline_code"], "test_mode_live_card");
        assert_eq!(
            behaviour("4242424242424241").unwrap_err().fields["code"],
            "incorrect_number"
        );
    }

    #[test]
    fn a_card_set_up_once_pays_without_its_holder() {
        let mut card = payment_method("pm_1", "4000002500003155", (8, 2030), 0).unwrap();
        assert_eq!(
            charge(&card, true),
            Verdict::Declined(Decline::AUTHENTICATION)
        );
        assert_eq!(charge(&card, false), Verdict::Authenticate);
        card["_set_up"] = json!(true);
        assert_eq!(charge(&card, true), Verdict::Pays { disputed: false });
    }
}
