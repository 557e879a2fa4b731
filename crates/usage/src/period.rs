//! Billing periods.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, Utc};

/// `[start, end)` in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// The first instant of the period.
    pub start: DateTime<Utc>,
    /// The first instant of the next.
    pub end: DateTime<Utc>,
}

impl Period {
    /// The period that contains `at`: months counted from the billing anchor, each boundary clamped to its
    /// month's length; calendar months without an anchor.
    #[must_use]
    pub fn containing(at: DateTime<Utc>, anchor: Option<DateTime<Utc>>) -> Self {
        let day = anchor.map_or(1, |a| a.day());
        let time = anchor.map_or(NaiveTime::MIN, |a| a.time());
        let first = |months: i32| -> Option<DateTime<Utc>> {
            let month = NaiveDate::from_ymd_opt(at.year(), at.month(), 1)?;
            let month = if months < 0 {
                month.checked_sub_months(Months::new(months.unsigned_abs()))?
            } else {
                month.checked_add_months(Months::new(months.unsigned_abs()))?
            };
            let last = month
                .checked_add_months(Months::new(1))?
                .checked_sub_days(Days::new(1))?
                .day();
            Some(month.with_day(day.min(last))?.and_time(time).and_utc())
        };
        let boundary = |months| {
            first(months).unwrap_or(if months < 1 {
                DateTime::<Utc>::MIN_UTC
            } else {
                DateTime::<Utc>::MAX_UTC
            })
        };
        if boundary(0) <= at {
            Self {
                start: boundary(0),
                end: boundary(1),
            }
        } else {
            Self {
                start: boundary(-1),
                end: boundary(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn the_31st_is_clamped_and_comes_back() {
        let anchor = Some(at("2026-01-31T10:00:00Z"));
        let february = Period::containing(at("2026-02-28T10:00:00Z"), anchor);
        assert_eq!(
            (february.start, february.end),
            (at("2026-02-28T10:00:00Z"), at("2026-03-31T10:00:00Z"))
        );
        let before = Period::containing(at("2026-02-28T09:59:59.999Z"), anchor);
        assert_eq!(
            (before.start, before.end),
            (at("2026-01-31T10:00:00Z"), at("2026-02-28T10:00:00Z"))
        );
    }

    proptest! {
        #[test]
        fn periods_tile_time(seconds in 1_600_000_000_i64..2_000_000_000, anchor in proptest::option::of(1_600_000_000_i64..1_700_000_000)) {
            let t = DateTime::from_timestamp(seconds, 0).unwrap();
            let anchor = anchor.map(|a| DateTime::from_timestamp(a, 0).unwrap());
            let period = Period::containing(t, anchor);
            prop_assert!(period.start <= t && t < period.end);
            prop_assert_eq!(Period::containing(period.end, anchor).start, period.end);
            prop_assert_eq!(Period::containing(period.start, anchor), period);
        }
    }
}
