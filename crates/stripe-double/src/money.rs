//! Amounts in minor units. No float ever stands for money.

use serde_json::Value;

use crate::json::Fields as _;

/// The share of an amount for `left` of `whole` seconds.
///
/// Stripe prorates to the second and rounds each line by itself to the nearest minor unit; exactly half goes
/// away from zero, so that a credit is the mirror of the debit over the same time
/// (<https://docs.stripe.com/billing/subscriptions/prorations>).
pub(crate) fn prorate(amount: i64, left: i64, whole: i64) -> i64 {
    if whole <= 0 {
        return 0;
    }
    let left = left.clamp(0, whole);
    let product = i128::from(amount) * i128::from(left);
    let whole = i128::from(whole);
    let half = if product < 0 { -whole / 2 } else { whole / 2 };
    i64::try_from((product + half) / whole).unwrap_or(amount)
}

/// Below this a card is not charged: the invoice counts as paid and the sum moves to the customer's balance
/// (<https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts>).
pub(crate) fn minimum_charge(currency: &str) -> i64 {
    match currency {
        "gbp" => 30,
        "dkk" => 250,
        "nok" | "sek" => 300,
        "czk" => 1500,
        "huf" => 17500,
        "mxn" => 1000,
        "hkd" => 400,
        "pln" | "aed" | "ron" | "myr" => 200,
        _ => 50,
    }
}

/// How many digits of an amount are minor units (<https://docs.stripe.com/currencies>).
pub(crate) fn decimals(currency: &str) -> u32 {
    match currency {
        "bif" | "clp" | "djf" | "gnf" | "jpy" | "kmf" | "krw" | "mga" | "pyg" | "rwf" | "vnd"
        | "vuv" | "xaf" | "xof" | "xpf" => 0,
        "bhd" | "jod" | "kwd" | "omr" | "tnd" => 3,
        _ => 2,
    }
}

/// `$29.00`, for descriptions.
pub(crate) fn words(amount: i64, currency: &str) -> String {
    let sign = if amount < 0 { "-" } else { "" };
    let amount = amount.unsigned_abs();
    let number = match decimals(currency) {
        0 => amount.to_string(),
        places => {
            let unit = 10_u64.pow(places);
            let (whole, part) = (amount / unit, amount % unit);
            format!("{whole}.{part:0width$}", width = places as usize)
        }
    };
    match currency {
        "usd" => format!("{sign}${number}"),
        "eur" => format!("{sign}€{number}"),
        "gbp" => format!("{sign}£{number}"),
        other => format!("{sign}{number} {}", other.to_uppercase()),
    }
}

/// What a price costs for a quantity and a whole period.
pub(crate) fn total(price: &Value, quantity: i64) -> i64 {
    price.number("unit_amount").saturating_mul(quantity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_amount_is_written_in_its_currencys_way() {
        for (amount, currency, expected) in [
            (2_900, "usd", "$29.00"),
            (-5, "eur", "-€0.05"),
            (1_200, "jpy", "1200 JPY"),
            (1_200, "pyg", "1200 PYG"),
            (1_230, "kwd", "1.230 KWD"),
        ] {
            assert_eq!(words(amount, currency), expected);
        }
    }

    #[test]
    fn exactly_half_goes_away_from_zero() {
        assert_eq!(prorate(1, 1, 2), 1);
        assert_eq!(prorate(-1, 1, 2), -1);
        assert_eq!(prorate(3, 1, 2), 2);
        assert_eq!(prorate(2900, 1, 3), 967);
    }

    proptest! {
        #[test]
        fn a_credit_mirrors_the_debit(amount in 0_i64..100_000_000, whole in 1_i64..40_000_000, left in 0_i64..40_000_000) {
            prop_assert_eq!(prorate(-amount, left, whole), -prorate(amount, left, whole));
        }

        #[test]
        fn both_parts_of_a_period_make_the_whole_within_one_unit(amount in -100_000_000_i64..100_000_000, whole in 1_i64..40_000_000, cut in 0_i64..40_000_000) {
            let cut = cut.min(whole);
            let sum = prorate(amount, cut, whole) + prorate(amount, whole - cut, whole);
            prop_assert!((sum - amount).abs() <= 1);
        }

        #[test]
        fn less_time_never_costs_more(amount in 0_i64..100_000_000, whole in 1_i64..40_000_000, a in 0_i64..40_000_000, b in 0_i64..40_000_000) {
            let (short, long) = (a.min(b).min(whole), a.max(b).min(whole));
            prop_assert!(prorate(amount, short, whole) <= prorate(amount, long, whole));
            prop_assert!(prorate(amount, long, whole) <= amount);
        }
    }
}
