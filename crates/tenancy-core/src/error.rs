//! What a store can answer besides a result.

use std::error::Error;

/// A failure of the database behind a port. Absence is `Option`, a refusal is the domain's own error.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not answer, or not in time. Whether the statement took effect is unknown unless
    /// the transaction was not committed.
    #[error("failed to {operation}: the database is unavailable")]
    Unavailable {
        /// What was being done.
        operation: &'static str,
        /// The driver's own error; it may hold SQL and never leaves the process.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A unique key is taken: two requests met.
    #[error("failed to {operation}: the key is taken")]
    Taken {
        /// What was being done.
        operation: &'static str,
    },
    /// A row points at a row that is not there (any more).
    #[error("failed to {operation}: a row that it needs is gone")]
    Dangling {
        /// What was being done.
        operation: &'static str,
    },
    /// A row holds what its column must not hold. Never guessed around.
    #[error("failed to read {table}.{column} of {row}: {reason}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's id.
        row: String,
        /// What is wrong.
        reason: String,
    },
}
