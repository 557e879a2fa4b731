//! Sums that are kept beside the ledger, in the ledger's own transactions: by the hour in which something
//! happened, for histories, and by the month in which it was recorded, for statements.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use rawdrive_plans::Metric;

use crate::{LedgerEntry, LineKind, Month};

/// What a month recorded of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MonthSums {
    /// How many lines.
    pub lines: u64,
    /// The sum of usage, and of what was carried between periods, which is 0.
    pub events: i64,
    /// The sum of corrections, negative where they lowered the usage.
    pub corrections: i64,
    /// How many of the lines happened before the month.
    pub late_lines: u64,
    /// Their sum.
    pub late_quantity: i64,
}

impl MonthSums {
    /// Adds a line that was recorded in `month`.
    pub fn add(&mut self, month: Month, line: &LedgerEntry) {
        self.lines += 1;
        match line.kind {
            LineKind::Correction => {
                self.corrections = self.corrections.saturating_add(line.quantity);
            }
            LineKind::Usage | LineKind::Carry => {
                self.events = self.events.saturating_add(line.quantity);
            }
        }
        if is_late(line, month) {
            self.late_lines += 1;
            self.late_quantity = self.late_quantity.saturating_add(line.quantity);
        }
    }
}

/// Whether a line happened before the month that it was recorded in.
#[must_use]
pub fn is_late(line: &LedgerEntry, month: Month) -> bool {
    line.occurred_at < month.start()
}

/// The hour that contains a time.
#[must_use]
pub fn hour_of(at: DateTime<Utc>) -> DateTime<Utc> {
    at.duration_trunc(TimeDelta::hours(1)).unwrap_or(at)
}

/// The sums of some lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rollups {
    /// Quantities by metric and hour of happening.
    pub hours: BTreeMap<(Metric, DateTime<Utc>), i64>,
    /// Sums by month of recording and metric.
    pub months: BTreeMap<(Month, Metric), MonthSums>,
}

impl Rollups {
    /// The sums of these lines.
    pub fn of<'a>(lines: impl IntoIterator<Item = &'a LedgerEntry>) -> Self {
        let mut sums = Self::default();
        for line in lines {
            sums.add(line);
        }
        sums
    }

    /// Adds a line.
    pub fn add(&mut self, line: &LedgerEntry) {
        let metric = &line.key.metric;
        let hour = (metric.clone(), hour_of(line.occurred_at));
        let quantity = self.hours.entry(hour).or_default();
        *quantity = quantity.saturating_add(line.quantity);
        let month = Month::containing(line.recorded_at);
        let sums = self.months.entry((month, metric.clone())).or_default();
        sums.add(month, line);
    }

    /// Adds other sums.
    pub fn merge(&mut self, other: &Self) {
        for (hour, quantity) in &other.hours {
            *self.hours.entry(hour.clone()).or_default() += quantity;
        }
        for (month, sums) in &other.months {
            let own = self.months.entry(month.clone()).or_default();
            own.lines += sums.lines;
            own.events += sums.events;
            own.corrections += sums.corrections;
            own.late_lines += sums.late_lines;
            own.late_quantity += sums.late_quantity;
        }
    }
}
