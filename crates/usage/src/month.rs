//! Calendar months in UTC: the periods of statements.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Utc};

/// A calendar month in UTC, of the years 1 to 9998.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    /// Months since January of the year 0.
    index: u32,
}

/// A text that is no month.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("expected a month such as 2026-09")]
pub struct NoMonth;

const FIRST: u32 = 12;
const LAST: u32 = 9_998 * 12 + 11;

impl Month {
    /// The month that contains a time.
    #[must_use]
    pub fn containing(at: DateTime<Utc>) -> Self {
        let year = u32::try_from(at.year()).unwrap_or(0);
        Self {
            index: (year.saturating_mul(12) + at.month0()).clamp(FIRST, LAST),
        }
    }

    /// The month of that number.
    #[must_use]
    pub fn from_index(index: u64) -> Option<Self> {
        let index = u32::try_from(index).ok()?;
        (FIRST..=LAST).contains(&index).then_some(Self { index })
    }

    /// Its number: consecutive months have consecutive ones.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.index as u64
    }

    /// Its first instant.
    #[must_use]
    pub fn start(self) -> DateTime<Utc> {
        let year = i32::try_from(self.index / 12).unwrap_or(i32::MAX);
        NaiveDate::from_ymd_opt(year, self.index % 12 + 1, 1)
            .map_or(DateTime::<Utc>::MAX_UTC, |day| {
                day.and_time(NaiveTime::MIN).and_utc()
            })
    }

    /// The first instant of the next.
    #[must_use]
    pub fn end(self) -> DateTime<Utc> {
        self.next().start()
    }

    /// The month after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self {
            index: self.index + 1,
        }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.index / 12, self.index % 12 + 1)
    }
}

impl FromStr for Month {
    type Err = NoMonth;
    fn from_str(text: &str) -> Result<Self, NoMonth> {
        let (year, month) = text.split_once('-').ok_or(NoMonth)?;
        let digits = |text: &str, n| text.len() == n && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(year, 4) || !digits(month, 2) {
            return Err(NoMonth);
        }
        let (year, month): (u32, u32) = (
            year.parse().map_err(|_| NoMonth)?,
            month.parse().map_err(|_| NoMonth)?,
        );
        if !(1..=12).contains(&month) {
            return Err(NoMonth);
        }
        Self::from_index(u64::from(year * 12 + month - 1)).ok_or(NoMonth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_written_and_read_alike() {
        let december: Month = "2026-12".parse().unwrap();
        assert_eq!(december.to_string(), "2026-12");
        assert_eq!(december.next().to_string(), "2027-01");
        assert_eq!(december.start().to_rfc3339(), "2026-12-01T00:00:00+00:00");
        assert_eq!(december.end().to_rfc3339(), "2027-01-01T00:00:00+00:00");
        let last: DateTime<Utc> = "2026-12-31T23:59:59.999999Z".parse().unwrap();
        assert_eq!(Month::containing(last), december);
        assert_eq!(Month::containing(december.end()), december.next());
        for wrong in [
            "",
            "2026",
            "2026-0",
            "2026-00",
            "2026-13",
            "26-01",
            "2026-1",
            "+026-01",
            "0000-01",
            "9999-01",
            "2026-01-01",
        ] {
            assert_eq!(wrong.parse::<Month>(), Err(NoMonth), "{wrong}");
        }
    }
}
