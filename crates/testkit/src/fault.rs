//! Calls that fail when a test says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rawdrive_tenancy_core::StoreError;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does nothing, and says so.
    Refused,
    /// It does what it was asked, and its answer is lost. Where nothing of a call outlives its transaction
    /// this is as good as refused; a commit stands.
    AnswerLost,
}

/// Which calls fail, by their number: whoever shares it counts along, from 0.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Schedule>>);

#[derive(Debug, Default)]
struct Schedule {
    calls: usize,
    faults: BTreeMap<usize, Fault>,
}

impl Faults {
    /// The calls of these numbers fail; a later entry for the same number stands.
    #[must_use]
    pub fn at(faults: impl IntoIterator<Item = (usize, Fault)>) -> Self {
        Self(Arc::new(Mutex::new(Schedule {
            calls: 0,
            faults: faults.into_iter().collect(),
        })))
    }

    /// Counts a call, and says how it fails if it does.
    #[must_use]
    pub fn strike(&self) -> Option<Fault> {
        let mut schedule = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let call = schedule.calls;
        schedule.calls += 1;
        schedule.faults.get(&call).copied()
    }

    /// How many calls were counted.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).calls
    }
}

/// What a store answers when it fails on purpose.
pub(crate) fn unavailable(operation: &'static str, why: &'static str) -> StoreError {
    StoreError::Unavailable {
        operation,
        source: why.into(),
    }
}
