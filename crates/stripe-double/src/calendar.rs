//! Stripe's billing calendar: periods count from an anchor, whose day is clamped to the month's length.
//!
//! A subscription anchored on 31 January renews on 28 (or 29) February, 31 March, 30 April: each boundary is
//! computed from the anchor, never from the boundary before, so that a short month does not shift the day for
//! ever (<https://docs.stripe.com/billing/subscriptions/billing-cycle>).

use chrono::{DateTime, Months};
use serde_json::Value;

use crate::json::Fields as _;

pub(crate) const MINUTE: i64 = 60;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// How often a price recurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cadence {
    Days(i64),
    Months(i64),
}

impl Cadence {
    pub(crate) fn new(interval: &str, count: i64) -> Option<Self> {
        let count = count.max(1);
        match interval {
            "day" => Some(Self::Days(count)),
            "week" => Some(Self::Days(7 * count)),
            "month" => Some(Self::Months(count)),
            "year" => Some(Self::Months(12 * count)),
            _ => None,
        }
    }

    /// That of a recurring price.
    pub(crate) fn of_price(price: &Value) -> Option<Self> {
        let recurring = &price["recurring"];
        Self::new(
            recurring.text("interval"),
            recurring.number("interval_count"),
        )
    }

    /// The boundary `n` periods from the anchor.
    pub(crate) fn nth(self, anchor: i64, n: i64) -> i64 {
        match self {
            Self::Days(days) => anchor + n * days * DAY,
            Self::Months(months) => add_months(anchor, n * months),
        }
    }

    /// The first boundary after a point in time.
    pub(crate) fn next_after(self, anchor: i64, at: i64) -> i64 {
        let length = match self {
            Self::Days(days) => days * DAY,
            Self::Months(months) => months * 31 * DAY,
        };
        // A guess that is never too late, since no month is longer than 31 days.
        let mut n = (at - anchor).div_euclid(length) - 1;
        while self.nth(anchor, n) <= at {
            n += 1;
        }
        while self.nth(anchor, n - 1) > at {
            n -= 1;
        }
        self.nth(anchor, n)
    }
}

fn add_months(at: i64, months: i64) -> i64 {
    let magnitude = Months::new(u32::try_from(months.unsigned_abs()).unwrap_or(u32::MAX));
    let moved = DateTime::from_timestamp(at, 0).and_then(|time| {
        if months < 0 {
            time.checked_sub_months(magnitude)
        } else {
            time.checked_add_months(magnitude)
        }
    });
    // Beyond chrono's calendar nothing is due.
    moved.map_or(i64::MAX / 4, |time| time.timestamp())
}

/// `24 Nov 2026`, as Stripe writes dates in a line's description.
pub(crate) fn date_words(at: i64) -> String {
    DateTime::from_timestamp(at, 0).map_or_else(String::new, |t| t.format("%d %b %Y").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp()
    }

    #[test]
    fn the_anchor_day_is_clamped_and_comes_back() {
        let anchor = at("2027-01-31T10:20:30Z");
        let monthly = Cadence::Months(1);
        let mut dates = Vec::new();
        let mut time = anchor;
        for _ in 0..4 {
            time = monthly.next_after(anchor, time);
            dates.push(time);
        }
        assert_eq!(
            dates,
            [
                at("2027-02-28T10:20:30Z"),
                at("2027-03-31T10:20:30Z"),
                at("2027-04-30T10:20:30Z"),
                at("2027-05-31T10:20:30Z"),
            ]
        );
    }

    #[test]
    fn a_leap_day_renews_on_the_28th_until_the_next_leap_year() {
        let anchor = at("2028-02-29T00:00:00Z");
        let yearly = Cadence::Months(12);
        assert_eq!(
            yearly.next_after(anchor, anchor),
            at("2029-02-28T00:00:00Z")
        );
        assert_eq!(yearly.nth(anchor, 4), at("2032-02-29T00:00:00Z"));
    }

    proptest! {
        #[test]
        fn the_next_boundary_is_the_first_after(
            anchor in 0_i64..4_000_000_000,
            at in 0_i64..4_000_000_000,
            cadence in prop_oneof![
                (1_i64..40).prop_map(Cadence::Days),
                (1_i64..25).prop_map(Cadence::Months),
            ],
        ) {
            let next = cadence.next_after(anchor, at);
            prop_assert!(next > at);
            let n = (0..).map(|n| (n, -n)).find_map(|(up, down)| {
                [up, down].into_iter().find(|n| cadence.nth(anchor, *n) == next)
            }).unwrap();
            prop_assert!(cadence.nth(anchor, n - 1) <= at);
        }
    }
}
