#![doc = include_str!("../README.md")]

#[cfg(feature = "live")]
mod cache_repair;
mod checks;
mod corrections;
mod counter;
mod history;
mod hold;
mod ingest;
mod ledger;
#[cfg(feature = "live")]
mod live_usage;
mod month;
mod pending;
mod period;
mod period_change;
mod ports;
mod quota;
#[cfg(feature = "redis")]
mod redis_link;
#[cfg(feature = "redis")]
mod redis_url;
#[cfg(feature = "redis")]
mod redis_usage_cache;
mod refusal;
mod reservation;
mod rollup;
mod statement;
mod statement_verify;
mod threshold;
#[cfg(feature = "live")]
mod usage_cache;

#[cfg(feature = "live")]
pub use cache_repair::{ChangedWorkspace, LiveSource, Republisher, cache_notes};
pub use checks::{FeatureCheck, QuotaCheck};
pub use corrections::{CorrectError, Corrected, Correction, correct};
pub use counter::{Charge, QuotaKey, QuotaRow};
pub use history::{Granularity, History, MAX_POINTS, Point, Window, WindowError, history};
pub use hold::{Hold, HoldEnded, HoldPurpose, HoldState};
pub use ingest::{
    Event, IngestTx, MAX_AHEAD, MAX_EVENTS, MAX_ID, MAX_LATE, MAX_UNITS, Recorded, Refusal, Report,
    check, ingest, is_subject,
};
pub use ledger::{
    LedgerBreak, LedgerEntry, LedgerHead, LedgerLine, LineKind, UnknownKind,
    extend as extend_ledger, follow, line_hash,
};
#[cfg(feature = "live")]
pub use live_usage::{Gap, LiveUsage, Reading};
pub use month::{Month, NoMonth};
pub use pending::{Pending, PendingMark};
pub use period::Period;
pub use period_change::{Carried, carry, move_anchor};
pub use ports::{UsageTx, UsageUnit};
pub use quota::{
    Exceeded, HOLD_SECONDS, SettleError, TakeError, add, expire_overdue, extend,
    give_back_reserved, hold, hold_all, hold_each, release, reserve, review, settle,
    settle_reserved, subtract,
};
#[cfg(feature = "redis")]
pub use redis_link::RedisLink;
#[cfg(feature = "redis")]
pub use redis_url::{InvalidRedisUrl, RedisUrl};
#[cfg(feature = "redis")]
pub use redis_usage_cache::RedisUsageCache;
pub use refusal::{Counted, Refused, counter, give_back, require, take};
pub use reservation::{
    MAX_OPEN_RESERVATIONS, MAX_RESERVATION_SECONDS, RESERVATION, Reservation, ReservationError,
    ReservationsTx, extend_reservation, make_reservation, release_reservation, settle_reservation,
};
pub use rollup::{MonthSums, Rollups, hour_of, is_late};
pub use statement::{
    ChainPoint, HeadDocument, LateDocument, LineDocument, LineFilter, MetricTotals, PointDocument,
    STATEMENT_FORMAT, SealTx, Statement, TotalsDocument, UsageRead, hex, statements,
};
pub use statement_verify::{Flaw, verify_statement, verify_succession};
pub use threshold::{Edges, THRESHOLD_CROSSED, edges};
#[cfg(feature = "live")]
pub use usage_cache::{
    CACHE_DAYS, CACHE_MAX, CACHE_PATIENCE, LiveRow, UsageCache, UsageCacheCondition,
    UsageCacheError, UsageCacheFuture, WorkspaceRows,
};
