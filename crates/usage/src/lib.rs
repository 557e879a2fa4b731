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
//! SQL decides and records. [`LiveUsage`] repeats what was committed to a [`UsageMirror`], from where it is read
//! in real time; losing the mirror changes no decision, and a [`Republisher`] makes it right again.

mod anchor;
mod correct;
mod history;
mod ingest;
mod ledger;
mod live;
mod mirror;
mod month;
mod period;
mod quota;
#[cfg(feature = "redis")]
mod redis_mirror;
#[cfg(feature = "redis")]
mod redis_url;
mod republish;
mod rollup;
mod statement;
mod threshold;
mod verify;

pub use anchor::{Carried, carry, move_anchor};
pub use correct::{CorrectError, Corrected, Correction, correct};
pub use history::{Granularity, History, MAX_POINTS, Point, Window, WindowError, history};
pub use ingest::{
    Event, IngestTx, MAX_AHEAD, MAX_EVENTS, MAX_ID, MAX_LATE, MAX_UNITS, Recorded, Refusal, Report,
    check, ingest,
};
pub use ledger::{
    LedgerBreak, LedgerEntry, LedgerHead, LedgerLine, LineKind, UnknownKind,
    extend as extend_ledger, follow, line_hash,
};
pub use live::{Gap, LiveUsage, Reading};
pub use mirror::{
    LiveRow, MIRROR_DAYS, MIRROR_MAX, MIRROR_PATIENCE, MirrorCondition, MirrorError, Mirrored,
    UsageMirror, WorkspaceRows,
};
pub use month::{Month, NoMonth};
pub use period::Period;
pub use quota::{
    Charge, Exceeded, HOLD_SECONDS, Hold, HoldPurpose, HoldState, QuotaKey, QuotaRow, SettleError,
    TakeError, UnknownPurpose, UsageTx, add, expire_overdue, extend, give_back_reserved, hold,
    hold_all, hold_each, release, reserve, review, settle, settle_reserved, subtract,
};
#[cfg(feature = "redis")]
pub use redis_mirror::RedisMirror;
#[cfg(feature = "redis")]
pub use redis_url::{InvalidRedisUrl, RedisUrl};
pub use republish::{ChangedWorkspace, LiveSource, Republisher, mirror_notes};
pub use rollup::{MonthSums, Rollups, hour_of, is_late};
pub use statement::{
    ChainPoint, HeadDocument, LateDocument, LineDocument, LineFilter, MetricTotals, PointDocument,
    STATEMENT_FORMAT, SealTx, Statement, TotalsDocument, UsageRead, hex, statements,
};
pub use threshold::{Edges, THRESHOLD_CROSSED, edges};
pub use verify::{Flaw, verify_statement, verify_succession};
