//! Statements: what each calendar month recorded, chained month to month and line to line.
//!
//! A month counts what was *recorded* in it, so that a closed statement never changes: an event that arrives
//! late is listed in the month it arrived in, with its own time and period. Of each metric
//! `opening + events − corrections = closing`.
//!
//! A statement is a document of its own: a head, which holds the totals, the number of lines, the hashes of
//! the ledger before the first line and after the last, the digest of the month before and its own; and the
//! lines, each with the hash that chains it to the one before. [`verify`](crate::verify_statement) needs
//! nothing else.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;

use chrono::{DateTime, SecondsFormat, Utc};
use rawdrive_plans::Metric;
use rawdrive_tenancy_core::audit::{GENESIS, Hash};
use rawdrive_tenancy_core::id::{TypedId, WorkspaceId};
use rawdrive_tenancy_core::{StoreError, page};
use serde::{Deserialize, Serialize};

use crate::rollup::is_late;
use crate::{LedgerEntry, LedgerHead, LineKind, Month, MonthSums, QuotaKey};
use rawdrive_tenancy_core::audit::sha256;

/// The format's name and version.
pub const STATEMENT_FORMAT: &str = "rawdrive.usage-statement.v1";

/// Which lines of the ledger are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LineFilter {
    /// Of one metric.
    pub metric: Option<Metric>,
    /// Of one kind.
    pub kind: Option<LineKind>,
    /// That happened then or later.
    pub from: Option<DateTime<Utc>>,
    /// That happened before.
    pub to: Option<DateTime<Utc>>,
}

/// Reads the ledger and its sums in the handle's workspace.
pub trait UsageRead {
    /// The sum of a metric's lines that happened before the hour `before`.
    fn total_before(
        &self,
        metric: &Metric,
        before: DateTime<Utc>,
    ) -> impl Future<Output = Result<i64, StoreError>> + Send;
    /// A metric's sums by hour of `[from, to)`, both whole hours, in order; hours without a line are left out.
    fn hours(
        &self,
        metric: &Metric,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> impl Future<Output = Result<Vec<(DateTime<Utc>, i64)>, StoreError>> + Send;
    /// The sums of every month of recording that has lines, in order.
    fn months(
        &self,
    ) -> impl Future<Output = Result<Vec<(Month, Metric, MonthSums)>, StoreError>> + Send;
    /// Where the ledger ends.
    fn ledger_head(&self) -> impl Future<Output = Result<LedgerHead, StoreError>> + Send;
    /// The hashes of these lines.
    fn line_hashes(
        &self,
        seqs: &[u64],
    ) -> impl Future<Output = Result<HashMap<u64, Hash>, StoreError>> + Send;
    /// The lines `after + 1 ..= until`, in order, at most `limit`.
    fn lines(
        &self,
        after: u64,
        until: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<LedgerEntry>, StoreError>> + Send;
    /// Lines that pass a filter, newest first.
    fn find_lines(
        &self,
        filter: &LineFilter,
        request: page::PageRequest,
    ) -> impl Future<Output = Result<page::Page<LedgerEntry>, StoreError>> + Send;
}

/// Closes months.
pub trait SealTx {
    /// From the commit on, no line is recorded before `until`. Waits for those who are appending.
    fn seal_ledger(
        &mut self,
        until: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A place in the chain: a line's number and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainPoint {
    /// The line's number; 0 before the first.
    pub seq: u64,
    /// Its hash; zeros before the first.
    pub hash: Hash,
}

/// What a month did to one metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricTotals {
    /// The metric.
    pub metric: Metric,
    /// The sum of everything recorded before the month.
    pub opening: i64,
    /// What was used less what was freed.
    pub events: i64,
    /// By how much corrections lowered it; negative where they raised it.
    pub corrections: i64,
    /// `opening + events − corrections`.
    pub closing: i64,
    /// How many lines happened before the month.
    pub late_lines: u64,
    /// Their sum.
    pub late_quantity: i64,
}

/// A statement's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Whose.
    pub workspace: WorkspaceId,
    /// The calendar month of recording, in UTC.
    pub month: Month,
    /// Whether the month is over and sealed: it never changes any more.
    pub closed: bool,
    /// The ledger before the first line.
    pub opening: ChainPoint,
    /// The ledger after the last line.
    pub closing: ChainPoint,
    /// The totals, by name of the metric.
    pub metrics: Vec<MetricTotals>,
    /// The digest of the month before; nothing for the first.
    pub previous: Option<Hash>,
    /// This statement's own digest, over everything above.
    pub digest: Hash,
}

impl Statement {
    /// How many lines it has.
    #[must_use]
    pub const fn line_count(&self) -> u64 {
        self.closing.seq.saturating_sub(self.opening.seq)
    }

    /// What the digest must be.
    #[must_use]
    pub fn computed_digest(&self) -> Hash {
        let mut bytes = Vec::with_capacity(512);
        let mut field = |value: &[u8]| {
            bytes.extend_from_slice(&(value.len() as u64).to_be_bytes());
            bytes.extend_from_slice(value);
        };
        field(STATEMENT_FORMAT.as_bytes());
        field(self.workspace.uuid().as_bytes());
        field(&self.month.index().to_be_bytes());
        field(&[u8::from(self.closed)]);
        for point in [&self.opening, &self.closing] {
            field(&point.seq.to_be_bytes());
            field(&point.hash);
        }
        field(self.previous.as_ref().map_or(&[], Hash::as_slice));
        field(&(self.metrics.len() as u64).to_be_bytes());
        for totals in &self.metrics {
            field(totals.metric.as_str().as_bytes());
            for number in [
                totals.opening,
                totals.events,
                totals.corrections,
                totals.closing,
                totals.late_lines.cast_signed(),
                totals.late_quantity,
            ] {
                field(&number.to_be_bytes());
            }
        }
        sha256(&bytes)
    }
}

/// All statements of a workspace, oldest first; the last is of the month that is still open. Two reads of a
/// month that is closed are the same, whatever was recorded between them.
///
/// # Errors
/// The database fails, or lacks a line that its sums count.
pub async fn statements(
    read: &(impl UsageRead + Sync),
    workspace: WorkspaceId,
    now: DateTime<Utc>,
) -> Result<Vec<Statement>, StoreError> {
    // The head first: what is sealed by then is whole in the sums that are read after it.
    let sealed = read.ledger_head().await?.not_before;
    let months = read.months().await?;
    let ends = ends(&months, Month::containing(now));
    let seqs: Vec<_> = ends.iter().map(|(_, seq)| *seq).collect();
    let hashes = read.line_hashes(&seqs).await?;
    chain(workspace, &months, &ends, &hashes, sealed)
}

/// The last line's number of each month up to `through`, months without lines included.
fn ends(months: &[(Month, Metric, MonthSums)], through: Month) -> Vec<(Month, u64)> {
    let (Some((first, ..)), Some((last, ..))) = (months.first(), months.last()) else {
        return Vec::new();
    };
    let (mut month, mut seq, mut ends) = (*first, 0, Vec::new());
    let mut rows = months.iter().peekable();
    while month <= through.max(*last) {
        while let Some((.., sums)) = rows.next_if(|(of, ..)| *of == month) {
            seq += sums.lines;
        }
        ends.push((month, seq));
        month = month.next();
    }
    ends
}

fn chain(
    workspace: WorkspaceId,
    months: &[(Month, Metric, MonthSums)],
    ends: &[(Month, u64)],
    hashes: &HashMap<u64, Hash>,
    sealed: Option<DateTime<Utc>>,
) -> Result<Vec<Statement>, StoreError> {
    let mut totals: BTreeMap<&Metric, i64> = BTreeMap::new();
    let mut rows = months.iter().peekable();
    let mut chained: Vec<Statement> = Vec::with_capacity(ends.len());
    for (month, seq) in ends {
        let mut sums: BTreeMap<&Metric, MonthSums> = BTreeMap::new();
        while let Some((_, metric, found)) = rows.next_if(|(of, ..)| of == month) {
            sums.insert(metric, *found);
            totals.entry(metric).or_default();
        }
        let metrics = totals.iter_mut().map(|(metric, total)| {
            let sums = sums.get(metric).copied().unwrap_or_default();
            let opening = *total;
            *total = opening
                .saturating_add(sums.events)
                .saturating_add(sums.corrections);
            MetricTotals {
                metric: (*metric).clone(),
                opening,
                events: sums.events,
                corrections: sums.corrections.saturating_neg(),
                closing: *total,
                late_lines: sums.late_lines,
                late_quantity: sums.late_quantity,
            }
        });
        let metrics = metrics.collect();
        let opening = chained.last().map_or(
            ChainPoint {
                seq: 0,
                hash: GENESIS,
            },
            |before| before.closing,
        );
        let hash = if *seq == opening.seq {
            opening.hash
        } else {
            *hashes.get(seq).ok_or_else(|| StoreError::Corrupt {
                table: "ledger",
                column: "seq",
                row: seq.to_string(),
                reason: "is counted by its month, and is not there".to_owned(),
            })?
        };
        let mut statement = Statement {
            workspace,
            month: *month,
            closed: sealed.is_some_and(|at| month.end() <= at),
            opening,
            closing: ChainPoint { seq: *seq, hash },
            metrics,
            previous: chained.last().map(|before| before.digest),
            digest: GENESIS,
        };
        statement.digest = statement.computed_digest();
        chained.push(statement);
    }
    Ok(chained)
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n & 15)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}

fn unhex(text: &str) -> Option<Hash> {
    let nibble = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut hash = GENESIS;
    let bytes = text.as_bytes();
    if bytes.len() != 64 {
        return None;
    }
    for (to, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
        *to = (nibble(pair[0])? << 4) | nibble(pair[1])?;
    }
    Some(hash)
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

fn read_time(text: &str) -> Option<DateTime<Utc>> {
    Some(DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc))
}

/// A place in the chain, as a document writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointDocument {
    seq: u64,
    hash: String,
}

impl From<ChainPoint> for PointDocument {
    fn from(point: ChainPoint) -> Self {
        Self {
            seq: point.seq,
            hash: hex(&point.hash),
        }
    }
}

impl PointDocument {
    fn read(&self) -> Option<ChainPoint> {
        Some(ChainPoint {
            seq: self.seq,
            hash: unhex(&self.hash)?,
        })
    }
}

/// What arrived late, as a document writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LateDocument {
    lines: u64,
    quantity: i64,
}

/// A metric's totals, as a document writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TotalsDocument {
    metric: String,
    opening: i64,
    events: i64,
    corrections: i64,
    closing: i64,
    late: LateDocument,
}

/// A statement's head, as a document writes it. The lines follow it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadDocument {
    format: String,
    workspace: String,
    month: String,
    from: String,
    to: String,
    status: String,
    opening: PointDocument,
    closing: PointDocument,
    line_count: u64,
    metrics: Vec<TotalsDocument>,
    // A document without the member is another document.
    #[serde(deserialize_with = "Option::deserialize")]
    previous_digest: Option<String>,
    digest: String,
}

impl From<&Statement> for HeadDocument {
    fn from(statement: &Statement) -> Self {
        let totals = |totals: &MetricTotals| TotalsDocument {
            metric: totals.metric.to_string(),
            opening: totals.opening,
            events: totals.events,
            corrections: totals.corrections,
            closing: totals.closing,
            late: LateDocument {
                lines: totals.late_lines,
                quantity: totals.late_quantity,
            },
        };
        Self {
            format: STATEMENT_FORMAT.to_owned(),
            workspace: statement.workspace.to_string(),
            month: statement.month.to_string(),
            from: time(statement.month.start()),
            to: time(statement.month.end()),
            status: if statement.closed { "closed" } else { "open" }.to_owned(),
            opening: statement.opening.into(),
            closing: statement.closing.into(),
            line_count: statement.line_count(),
            metrics: statement.metrics.iter().map(totals).collect(),
            previous_digest: statement.previous.map(|digest| hex(&digest)),
            digest: hex(&statement.digest),
        }
    }
}

impl HeadDocument {
    /// The head that the document writes; nothing where it writes none in the one right way.
    pub(crate) fn read(&self) -> Option<Statement> {
        let totals = |totals: &TotalsDocument| {
            Some(MetricTotals {
                metric: totals.metric.parse().ok()?,
                opening: totals.opening,
                events: totals.events,
                corrections: totals.corrections,
                closing: totals.closing,
                late_lines: totals.late.lines,
                late_quantity: totals.late.quantity,
            })
        };
        let statement = Statement {
            workspace: self.workspace.parse().ok()?,
            month: self.month.parse().ok()?,
            closed: self.status == "closed",
            opening: self.opening.read()?,
            closing: self.closing.read()?,
            metrics: self.metrics.iter().map(totals).collect::<Option<_>>()?,
            previous: match &self.previous_digest {
                None => None,
                Some(text) => Some(unhex(text)?),
            },
            digest: unhex(&self.digest)?,
        };
        (Self::from(&statement) == *self).then_some(statement)
    }
}

/// A line, as a document writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineDocument {
    seq: u64,
    kind: String,
    metric: String,
    counted_for: String,
    #[serde(deserialize_with = "Option::deserialize")]
    period_start: Option<String>,
    quantity: i64,
    subject: String,
    #[serde(deserialize_with = "Option::deserialize")]
    event_id: Option<String>,
    actor: String,
    occurred_at: String,
    recorded_at: String,
    late: bool,
    hash: String,
}

impl LineDocument {
    /// A line of the statement of `month`.
    #[must_use]
    pub fn of(line: &LedgerEntry, month: Month) -> Self {
        Self {
            seq: line.seq,
            kind: line.kind.to_string(),
            metric: line.key.metric.to_string(),
            counted_for: line.key.subject.clone(),
            period_start: (!line.key.is_level()).then(|| time(line.key.period_start)),
            quantity: line.quantity,
            subject: line.subject.clone(),
            event_id: line.event_id.clone(),
            actor: line.actor.clone(),
            occurred_at: time(line.occurred_at),
            recorded_at: time(line.recorded_at),
            late: is_late(line, month),
            hash: hex(&line.hash),
        }
    }

    /// The line that the document writes; nothing where it writes none in the one right way.
    pub(crate) fn read(&self, month: Month) -> Option<LedgerEntry> {
        let line = LedgerEntry {
            seq: self.seq,
            kind: self.kind.parse().ok()?,
            key: QuotaKey {
                metric: self.metric.parse().ok()?,
                subject: self.counted_for.clone(),
                period_start: match &self.period_start {
                    None => DateTime::UNIX_EPOCH,
                    Some(text) => read_time(text)?,
                },
            },
            quantity: self.quantity,
            subject: self.subject.clone(),
            event_id: self.event_id.clone(),
            actor: self.actor.clone(),
            occurred_at: read_time(&self.occurred_at)?,
            recorded_at: read_time(&self.recorded_at)?,
            hash: unhex(&self.hash)?,
        };
        (Self::of(&line, month) == *self).then_some(line)
    }

    /// The number it says it has.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }
}
