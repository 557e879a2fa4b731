//! Usage that happened elsewhere, reported by programs: recorded once for ever, also late, also beyond a limit.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::future::Future;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use rawdrive_plans::{Catalogue, Limit, Metric, MetricKind};
use rawdrive_tenancy_core::{Actor, Env, StoreError};

use crate::quota::mark;
use crate::{LedgerLine, LineKind, Period, QuotaKey, QuotaRow, UsageUnit};

/// The most events of one request.
pub const MAX_EVENTS: usize = 1_000;
/// How late an event may be reported.
pub const MAX_LATE: TimeDelta = TimeDelta::days(35);
/// How far ahead of this installation's clock a reporter's may be.
pub const MAX_AHEAD: TimeDelta = TimeDelta::minutes(5);
/// The most units of one event, and of one counter: the largest whole number that every JSON reader keeps.
pub const MAX_UNITS: u64 = (1 << 53) - 1;
/// The longest id of an event or of its subject, in bytes.
pub const MAX_ID: usize = 128;

/// An event as it was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The reporter's own id for it.
    pub id: String,
    /// The metric's name.
    pub metric: String,
    /// Units, where the report holds a whole number that fits.
    pub quantity: Option<i64>,
    /// When it happened: RFC 3339; now where it is left out.
    pub occurred_at: Option<String>,
    /// What it happened to.
    pub subject: Option<String>,
}

/// An event that can be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The reporter's own id for it.
    pub id: String,
    /// What is counted.
    pub metric: Metric,
    /// Level or flow.
    pub kind: MetricKind,
    /// Units; of a level negative where it fell.
    pub quantity: i64,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// What it happened to; empty where nothing was said.
    pub subject: String,
}

/// Whether a text may stand for what is counted apart, or for what something happened to: 1 to 128 visible ASCII
/// characters.
#[must_use]
pub fn is_subject(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Why an event is not recorded. Its id stays free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The id is not 1 to 128 visible ASCII characters.
    InvalidId,
    /// The subject is not 1 to 128 visible ASCII characters.
    InvalidSubject,
    /// No such metric is declared.
    UnknownMetric,
    /// The metric is counted by this installation itself.
    NotIngested,
    /// Of a flow: not 1 to 2^53 − 1. Of a level: 0, or beyond that in either direction.
    InvalidQuantity,
    /// The time is none.
    InvalidTime,
    /// It happened more than 35 days ago.
    TooOld,
    /// It happens more than 5 minutes ahead.
    InTheFuture,
    /// The level would fall below zero.
    BelowZero,
    /// The counter would pass 2^53 − 1.
    TooLarge,
}

impl Refusal {
    /// The code on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidId => "invalid_id",
            Self::InvalidSubject => "invalid_subject",
            Self::UnknownMetric => "unknown_metric",
            Self::NotIngested => "metric_not_ingested",
            Self::InvalidQuantity => "invalid_quantity",
            Self::InvalidTime => "invalid_occurred_at",
            Self::TooOld => "too_old",
            Self::InTheFuture => "in_the_future",
            Self::BelowZero => "below_zero",
            Self::TooLarge => "too_large",
        }
    }
}

/// Checks a report by itself.
///
/// # Errors
/// Why it is refused.
pub fn check(report: Report, catalogue: &Catalogue, now: DateTime<Utc>) -> Result<Event, Refusal> {
    if !is_subject(&report.id) {
        return Err(Refusal::InvalidId);
    }
    let metric: Metric = report.metric.parse().map_err(|_| Refusal::UnknownMetric)?;
    let definition = catalogue
        .definition(&metric)
        .ok_or(Refusal::UnknownMetric)?;
    if !definition.ingest {
        return Err(Refusal::NotIngested);
    }
    let quantity = report.quantity.ok_or(Refusal::InvalidQuantity)?;
    let signed = definition.kind == MetricKind::Level;
    if quantity == 0 || quantity.unsigned_abs() > MAX_UNITS || (quantity < 0 && !signed) {
        return Err(Refusal::InvalidQuantity);
    }
    let occurred_at = match &report.occurred_at {
        None => now,
        Some(text) => {
            let at = DateTime::parse_from_rfc3339(text).map_err(|_| Refusal::InvalidTime)?;
            // The finest that both databases keep, and that a statement's hashes are made of.
            at.with_timezone(&Utc)
                .duration_trunc(TimeDelta::microseconds(1))
                .map_err(|_| Refusal::InvalidTime)?
        }
    };
    if now - occurred_at > MAX_LATE {
        return Err(Refusal::TooOld);
    }
    if occurred_at - now > MAX_AHEAD {
        return Err(Refusal::InTheFuture);
    }
    let subject = report.subject.unwrap_or_default();
    if !subject.is_empty() && !is_subject(&subject) {
        return Err(Refusal::InvalidSubject);
    }
    Ok(Event {
        id: report.id,
        metric,
        kind: definition.kind,
        quantity,
        occurred_at,
        subject,
    })
}

/// The ids under which events were reported. With it a handle has all that [`ingest`] asks.
pub trait IngestTx: UsageUnit {
    /// Claims ids for ever, and answers those that were free.
    fn claim_events(
        &mut self,
        ids: &BTreeSet<&str>,
    ) -> impl Future<Output = Result<HashSet<String>, StoreError>> + Send;
    /// Gives back ids that were claimed in this transaction.
    fn give_back_events(
        &mut self,
        ids: &HashSet<String>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recorded {
    /// How many events count from now on.
    pub accepted: u64,
    /// How many had been counted before, by whichever key.
    pub duplicates: u64,
    /// Which could not be counted, and why.
    pub refused: Vec<(String, Refusal)>,
}

struct Counter {
    before: QuotaRow,
    used: u64,
}

impl Counter {
    fn take(&mut self, quantity: i64) -> Result<(), Refusal> {
        let used = self
            .used
            .checked_add_signed(quantity)
            .ok_or(Refusal::BelowZero)?;
        if used > MAX_UNITS {
            return Err(Refusal::TooLarge);
        }
        self.used = used;
        Ok(())
    }

    fn delta(&self) -> i64 {
        self.used.cast_signed() - self.before.used.cast_signed()
    }
}

/// Records batches of events in one transaction, each in its reporter's name: each new id counts once, whatever limit
/// it passes.
///
/// # Errors
/// The database's failure; nothing is recorded then, and everything can be sent again.
pub async fn ingest(
    tx: &mut impl IngestTx,
    env: &Env,
    batches: &[(Actor, Vec<Event>)],
) -> Result<Vec<Recorded>, StoreError> {
    let entitlements = tx.entitlements().await?;
    let (now, anchor) = (env.now(), entitlements.billing_anchor);
    let key = |event: &Event| match event.kind {
        MetricKind::Level => QuotaKey::level(event.metric.clone()),
        MetricKind::Flow => QuotaKey::flow(
            event.metric.clone(),
            // A late event counts in its own period.
            Period::containing(event.occurred_at, anchor),
        ),
    };
    let events = || batches.iter().flat_map(|(_, events)| events);
    let mut counters = BTreeMap::new();
    for key in events().map(key).collect::<BTreeSet<_>>() {
        let before = tx.lock(&key).await?;
        let used = before.used;
        counters.insert(key, Counter { before, used });
    }
    let ids = events().map(|event| event.id.as_str()).collect();
    let mut free = tx.claim_events(&ids).await?;
    let mut recorded = vec![Recorded::default(); batches.len()];
    for ((actor, batch), outcome) in batches.iter().zip(&mut recorded) {
        let mut lines = BTreeMap::new();
        // What raises a level first: a batch may hold the fall of what it raises.
        let (raising, lowering): (Vec<_>, Vec<_>) = batch
            .iter()
            .enumerate()
            .partition(|(_, event)| event.quantity > 0);
        for (n, event) in raising.into_iter().chain(lowering) {
            if !free.remove(&event.id) {
                outcome.duplicates += 1;
                continue;
            }
            let key = key(event);
            let Some(counter) = counters.get_mut(&key) else {
                continue;
            };
            if let Err(refusal) = counter.take(event.quantity) {
                free.insert(event.id.clone());
                outcome.refused.push((event.id.clone(), refusal));
                continue;
            }
            outcome.accepted += 1;
            lines.insert(
                n,
                LedgerLine {
                    kind: LineKind::Usage,
                    key,
                    quantity: event.quantity,
                    subject: event.subject.clone(),
                    occurred_at: event.occurred_at,
                    event_id: Some(event.id.clone()),
                },
            );
        }
        for line in lines.into_values() {
            tx.add_line_by(*actor, line);
        }
    }
    if !free.is_empty() {
        tx.give_back_events(&free).await?;
    }
    let current = Period::containing(now, anchor).start;
    for (key, counter) in counters {
        let delta = counter.delta();
        if delta == 0 {
            continue;
        }
        let row = tx.apply(&key, 0, delta, Limit::Unlimited).await?;
        // A period that is over warns nobody any more.
        if let Some(row) = row
            && (key.is_level() || key.period_start == current)
        {
            mark(tx, &entitlements, now, &key, row).await?;
        }
    }
    Ok(recorded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOGUE: &str = "[[metric]]\nname = \"api_calls\"\nkind = \"flow\"\ningest = true\n\
        [[metric]]\nname = \"devices\"\nkind = \"level\"\ningest = true\n\
        [[metric]]\nname = \"own\"\nkind = \"flow\"\n\
        [[plan]]\nslug = \"free\"\nversion = 1\nname = \"Free\"\n";

    fn report(metric: &str, quantity: i64) -> Report {
        Report {
            id: "e-1".into(),
            metric: metric.into(),
            quantity: Some(quantity),
            occurred_at: None,
            subject: None,
        }
    }

    #[test]
    fn each_fault_of_an_event_has_its_code() {
        let catalogue = Catalogue::parse(CATALOGUE).unwrap();
        let now: DateTime<Utc> = "2026-09-21T12:00:00Z".parse().unwrap();
        let good = || report("api_calls", 1);
        let at = |text: &str| Report {
            occurred_at: Some(text.into()),
            ..good()
        };
        let cases: Vec<(Report, Result<(), &str>)> = vec![
            (good(), Ok(())),
            (report("devices", -3), Ok(())),
            (report("api_calls", MAX_UNITS.cast_signed()), Ok(())),
            (at("2026-08-17T12:00:00Z"), Ok(())),
            (at("2026-09-21T14:05:00+02:00"), Ok(())),
            (report("api_calls", 0), Err("invalid_quantity")),
            (report("api_calls", -1), Err("invalid_quantity")),
            (report("devices", 0), Err("invalid_quantity")),
            (report("devices", i64::MIN), Err("invalid_quantity")),
            (report("api_calls", 1 << 53), Err("invalid_quantity")),
            (
                Report {
                    quantity: None,
                    ..good()
                },
                Err("invalid_quantity"),
            ),
            (report("own", 1), Err("metric_not_ingested")),
            (report("team_members", 1), Err("metric_not_ingested")),
            (report("nothing", 1), Err("unknown_metric")),
            (report("No Name", 1), Err("unknown_metric")),
            (at("2026-08-17T11:59:59.999999Z"), Err("too_old")),
            (at("2026-09-21T12:05:00.000001Z"), Err("in_the_future")),
            (at("yesterday"), Err("invalid_occurred_at")),
            (
                Report {
                    id: String::new(),
                    ..good()
                },
                Err("invalid_id"),
            ),
            (
                Report {
                    id: "x".repeat(129),
                    ..good()
                },
                Err("invalid_id"),
            ),
            (
                Report {
                    id: "a b".into(),
                    ..good()
                },
                Err("invalid_id"),
            ),
            (
                Report {
                    subject: Some("é".into()),
                    ..good()
                },
                Err("invalid_subject"),
            ),
        ];
        for (report, expected) in cases {
            let found = check(report.clone(), &catalogue, now);
            let found = found.map(drop).map_err(Refusal::as_str);
            assert_eq!(found, expected, "{report:?}");
        }
    }
}
