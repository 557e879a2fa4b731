//! What was used when: points of an hour, a day or a calendar month, in UTC, that sum to the ledger.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use rawdrive_plans::MetricKind;

use crate::Month;
use crate::rollup::hour_of;

/// The most points of one history.
pub const MAX_POINTS: u64 = 1_000;

/// How long a point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// An hour.
    Hour,
    /// A day in UTC.
    Day,
    /// A calendar month in UTC.
    Month,
}

impl Granularity {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The start of the point that contains a time.
    #[must_use]
    pub fn floor(self, at: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::Hour => hour_of(at),
            Self::Day => at.duration_trunc(TimeDelta::days(1)).unwrap_or(at),
            Self::Month => Month::containing(at).start(),
        }
    }

    /// The end of the point that starts there.
    #[must_use]
    pub fn after(self, start: DateTime<Utc>) -> DateTime<Utc> {
        let end = match self {
            Self::Hour => start.checked_add_signed(TimeDelta::hours(1)),
            Self::Day => start.checked_add_signed(TimeDelta::days(1)),
            Self::Month => Some(Month::containing(start).end()),
        };
        end.unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    fn points(self, from: DateTime<Utc>, to: DateTime<Utc>) -> u64 {
        let points = match self {
            Self::Hour => (to - from).num_hours(),
            Self::Day => (to - from).num_days(),
            Self::Month => Month::containing(to)
                .index()
                .saturating_sub(Month::containing(from).index())
                .cast_signed(),
        };
        u64::try_from(points).unwrap_or(0)
    }

    /// The whole points that cover a span: where they start, where they end, how many they are.
    fn cover(self, from: DateTime<Utc>, to: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>, u64) {
        let (start, last) = (self.floor(from), self.floor(to));
        let end = if last == to { to } else { self.after(last) };
        (start, end, self.points(start, end))
    }
}

/// Whole points that cover a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How long a point is.
    pub granularity: Granularity,
    /// The start of the first point.
    pub from: DateTime<Utc>,
    /// The end of the last.
    pub to: DateTime<Utc>,
}

/// Why there is no such window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowError {
    /// It ends before it starts, or holds nothing.
    Empty,
    /// It lies outside the years 1970 to 9998.
    OutOfRange,
    /// It would hold too many points.
    TooMany {
        /// How many.
        points: u64,
        /// The finest granularity of which the span holds few enough, if there is one.
        fitting: Option<Granularity>,
    },
}

impl Window {
    /// The points that cover `[from, to)`: widened to whole ones at both ends.
    ///
    /// # Errors
    /// See [`WindowError`].
    pub fn new(
        granularity: Granularity,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Self, WindowError> {
        let latest = Month::from_index(9_998 * 12).map_or(from, Month::start);
        if from < DateTime::UNIX_EPOCH || to > latest {
            return Err(WindowError::OutOfRange);
        }
        if from >= to {
            return Err(WindowError::Empty);
        }
        let (start, end, points) = granularity.cover(from, to);
        if points > MAX_POINTS {
            let fitting = [Granularity::Hour, Granularity::Day, Granularity::Month]
                .into_iter()
                .find(|granularity| granularity.cover(from, to).2 <= MAX_POINTS);
            return Err(WindowError::TooMany { points, fitting });
        }
        Ok(Self {
            granularity,
            from: start,
            to: end,
        })
    }
}

/// One point of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Its first instant.
    pub start: DateTime<Utc>,
    /// The first instant of the next.
    pub end: DateTime<Utc>,
    /// What was used in it; of a level, by how much it rose or fell.
    pub quantity: i64,
    /// Of a level, where it stood at the end.
    pub closing: Option<i64>,
}

/// What was used in a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The window.
    pub window: Window,
    /// Of a level, where it stood at the start.
    pub opening: Option<i64>,
    /// Every point, also those in which nothing happened.
    pub points: Vec<Point>,
    /// The sum of all points.
    pub total: i64,
}

/// Puts hours into the points of a window. `opening` is the sum of everything before it.
#[must_use]
pub fn history(
    window: Window,
    kind: MetricKind,
    opening: i64,
    hours: &[(DateTime<Utc>, i64)],
) -> History {
    let level = kind == MetricKind::Level;
    let mut hours = hours.iter().peekable();
    let (mut points, mut total, mut start) = (Vec::new(), 0_i64, window.from);
    while start < window.to {
        let end = window.granularity.after(start);
        let mut quantity = 0_i64;
        while let Some((_, units)) = hours.next_if(|(hour, _)| *hour < end) {
            quantity = quantity.saturating_add(*units);
        }
        total = total.saturating_add(quantity);
        points.push(Point {
            start,
            end,
            quantity,
            closing: level.then_some(opening.saturating_add(total)),
        });
        start = end;
    }
    History {
        window,
        opening: level.then_some(opening),
        points,
        total,
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
    fn a_window_is_widened_to_whole_points() {
        let (from, to) = (at("2026-01-31T12:34:56Z"), at("2026-03-01T00:00:00Z"));
        let window = |granularity| Window::new(granularity, from, to).unwrap();
        let hours = window(Granularity::Hour);
        assert_eq!(
            (hours.from, hours.to),
            (at("2026-01-31T12:00:00Z"), at("2026-03-01T00:00:00Z"))
        );
        let months = window(Granularity::Month);
        assert_eq!(
            (months.from, months.to),
            (at("2026-01-01T00:00:00Z"), at("2026-03-01T00:00:00Z"))
        );
        assert_eq!(history(months, MetricKind::Flow, 0, &[]).points.len(), 2);
    }

    #[test]
    fn too_many_points_name_what_would_fit() {
        let (from, to) = (at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
        assert_eq!(
            Window::new(Granularity::Hour, from, to),
            Err(WindowError::TooMany {
                points: 8_760,
                fitting: Some(Granularity::Day)
            })
        );
        assert_eq!(
            Window::new(Granularity::Day, at("1970-01-01T00:00:00Z"), to),
            Err(WindowError::TooMany {
                points: 20_819,
                fitting: Some(Granularity::Month)
            })
        );
        assert_eq!(
            Window::new(Granularity::Day, to, from),
            Err(WindowError::Empty)
        );
        assert_eq!(
            Window::new(Granularity::Day, at("1969-12-31T23:59:59Z"), to),
            Err(WindowError::OutOfRange)
        );
    }

    proptest! {
        #[test]
        fn points_tile_the_window_and_sum_to_the_hours(
            from in 1_600_000_000_i64..1_700_000_000, span in 1_i64..2_000_000,
            opening in -1_000_i64..1_000,
            units in proptest::collection::btree_map(0_i64..600, -50_i64..50, 0..60),
        ) {
            let (from, to) = (
                DateTime::from_timestamp(from, 0).unwrap(),
                DateTime::from_timestamp(from + span, 0).unwrap(),
            );
            for granularity in [Granularity::Hour, Granularity::Day, Granularity::Month] {
                let window = Window::new(granularity, from, to).unwrap();
                prop_assert!(window.from <= from && to <= window.to);
                let hours: Vec<_> = units.iter()
                    .map(|(n, units)| (window.from + TimeDelta::hours(*n), *units))
                    .filter(|(hour, _)| *hour < window.to)
                    .collect();
                let sum: i64 = hours.iter().map(|(_, units)| units).sum();
                let found = history(window, MetricKind::Level, opening, &hours);
                prop_assert_eq!(found.total, sum);
                prop_assert_eq!(found.points.iter().map(|p| p.quantity).sum::<i64>(), sum);
                prop_assert_eq!(found.points.first().map(|p| p.start), Some(window.from));
                prop_assert_eq!(found.points.last().map(|p| p.end), Some(window.to));
                prop_assert_eq!(found.points.last().and_then(|p| p.closing), Some(opening + sum));
                prop_assert!(found.points.windows(2).all(|w| w[0].end == w[1].start
                    && w[0].closing.unwrap() + w[1].quantity == w[1].closing.unwrap()));
            }
        }
    }
}
