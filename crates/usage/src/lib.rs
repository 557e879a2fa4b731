//! Metered usage: what is taken is held, settled or released, and every settled unit is a ledger line.
//!
//! A [`hold`] reserves amounts before the work, in one conditional update each, so that no
//! interleaving passes a limit; settling turns it into usage and ledger lines in the same transaction as
//! the row it counts. The [ledger](LedgerEntry) is chained line to line; hourly and monthly sums kept beside it
//! make [histories](history) and [statements], and a statement can be [verified](verify_statement) by anybody who
//! has the file. What happened elsewhere is [ingested](ingest()), once for ever.
//!
//! ```
//! use chrono::{DateTime, Utc};
//! use rawdrive_usage::Period;
//! let anchor: DateTime<Utc> = "2026-01-31T00:00:00Z".parse()?;
//! let period = Period::containing("2026-02-28T12:00:00Z".parse()?, Some(anchor));
//! assert_eq!(period.start.to_rfc3339(), "2026-02-28T00:00:00+00:00");
//! assert_eq!(period.end.to_rfc3339(), "2026-03-31T00:00:00+00:00");
//! # Ok::<(), chrono::ParseError>(())
//! ```
//!
//! Invariant: at every admission `used + reserved ≤ limit`, and `used` equals the sum of the ledger.
//!
//! SQL decides and records. [`LiveUsage`] repeats what was committed to a [`UsageCache`], from where it is read
//! in real time; losing the cache changes no decision, and a [`Republisher`] makes it right again.

mod cache_repair;
mod corrections;
mod history;
mod ingest;
mod ledger;
mod live_usage;
mod month;
mod pending;
mod period;
mod period_change;
mod quota;
#[cfg(feature = "redis")]
mod redis_link;
#[cfg(feature = "redis")]
mod redis_url;
#[cfg(feature = "redis")]
mod redis_usage_cache;
mod refusal;
mod rollup;
mod statement;
mod statement_verify;
mod threshold;
mod usage_cache;

pub use cache_repair::{ChangedWorkspace, LiveSource, Republisher, cache_notes};
pub use corrections::{CorrectError, Corrected, Correction, correct};
pub use history::{Granularity, History, MAX_POINTS, Point, Window, WindowError, history};
pub use ingest::{
    Event, IngestTx, MAX_AHEAD, MAX_EVENTS, MAX_ID, MAX_LATE, MAX_UNITS, Recorded, Refusal, Report,
    check, ingest,
};
pub use ledger::{
    LedgerBreak, LedgerEntry, LedgerHead, LedgerLine, LineKind, UnknownKind,
    extend as extend_ledger, follow, line_hash,
};
pub use live_usage::{Gap, LiveUsage, Reading};
pub use month::{Month, NoMonth};
pub use pending::{Pending, PendingMark};
pub use period::Period;
pub use period_change::{Carried, carry, move_anchor};
pub use quota::{
    Charge, Exceeded, HOLD_SECONDS, Hold, HoldEnded, HoldPurpose, HoldState, QuotaKey, QuotaRow,
    SettleError, TakeError, UsageTx, add, expire_overdue, extend, give_back_reserved, hold,
    hold_all, hold_each, release, reserve, review, settle, settle_reserved, subtract,
};
#[cfg(feature = "redis")]
pub use redis_link::RedisLink;
#[cfg(feature = "redis")]
pub use redis_url::{InvalidRedisUrl, RedisUrl};
#[cfg(feature = "redis")]
pub use redis_usage_cache::RedisUsageCache;
pub use refusal::{Counted, Refused, give_back, require, take};
pub use rollup::{MonthSums, Rollups, hour_of, is_late};
pub use statement::{
    ChainPoint, HeadDocument, LateDocument, LineDocument, LineFilter, MetricTotals, PointDocument,
    STATEMENT_FORMAT, SealTx, Statement, TotalsDocument, UsageRead, hex, statements,
};
pub use statement_verify::{Flaw, verify_statement, verify_succession};
pub use threshold::{Edges, THRESHOLD_CROSSED, edges};
pub use usage_cache::{
    CACHE_DAYS, CACHE_MAX, CACHE_PATIENCE, LiveRow, UsageCache, UsageCacheCondition,
    UsageCacheError, UsageCacheFuture, WorkspaceRows,
};
