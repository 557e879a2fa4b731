//! What a store can answer besides a result.

use std::error::Error;
use std::fmt;

/// An error and all its causes in one line, outermost first, for logs and for whoever runs a command. A cause that the
/// error before it has told already is not told again.
///
/// ```
/// # use rawdrive_tenancy_core::{Causes, StoreError};
/// let source = std::io::Error::other("connection refused").into();
/// let error = StoreError::Unavailable { operation: "read a plan", source };
/// assert_eq!(
///     Causes(&error).to_string(),
///     "failed to read a plan: the database is unavailable: connection refused"
/// );
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Causes<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.0.to_string();
        f.write_str(&told)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if !told.ends_with(&text) {
                write!(f, ": {text}")?;
                told = text;
            }
            next = cause.source();
        }
        Ok(())
    }
}

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
    /// The database has no room to write. Reading goes on, and so does writing when there is room again. Nothing of the
    /// transaction took effect, unless it was the commit that failed.
    #[error("failed to {operation}: the database's storage is full")]
    Full {
        /// What was being done.
        operation: &'static str,
        /// The driver's own error; it never leaves the process.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The statement is not one that is run: a mistake in the program, which names it. Nothing was done.
    #[error("failed to {operation}: the statement is refused")]
    Refused {
        /// What was being done.
        operation: &'static str,
        /// What the statement must not be.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Link>>,
    }

    #[test]
    fn a_cause_that_was_told_is_not_told_again() {
        let link = |text, source: Option<Link>| Link {
            text,
            source: source.map(Box::new),
        };
        let refused = link("refused", None);
        let wrapped = link("failed to connect: refused", Some(refused));
        let start = link("failed to start", Some(wrapped));
        assert_eq!(
            Causes(&start).to_string(),
            "failed to start: failed to connect: refused"
        );
    }
}
