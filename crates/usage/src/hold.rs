//! Holds: amounts of counters that an operation under way has for itself.

use std::borrow::Cow;

use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::id::HoldId;
use rawdrive_tenancy_core::job::Job;
use serde::{Deserialize, Serialize};

use crate::Charge;

/// The state of a hold. `Held` is the only one that changes, by compare-and-set, and expiry is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldState {
    /// The operation is under way.
    Held,
    /// It succeeded: its amounts are usage.
    Committed,
    /// It failed and gave its amounts back.
    Released,
    /// It was not heard of in time; its amounts were given back.
    Expired,
}

impl HoldState {
    /// The name in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Committed => "committed",
            Self::Released => "released",
            Self::Expired => "expired",
        }
    }

    /// The state of a name in the database.
    #[must_use]
    pub fn stored(name: &str) -> Option<Self> {
        let all = [Self::Held, Self::Committed, Self::Released, Self::Expired];
        all.into_iter().find(|state| state.as_str() == name)
    }
}

/// What a hold is for: a stable name, and the job that its end leaves where the operation came to nothing.
///
/// ```
/// use rawdrive_usage::HoldPurpose;
/// const EXPORT: HoldPurpose = HoldPurpose::new("export");
/// const UPLOAD: HoldPurpose = HoldPurpose::leaving("upload", "upload_ended");
/// assert_eq!((EXPORT.cleanup(), UPLOAD.cleanup()), (None, Some("upload_ended")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldPurpose {
    name: Cow<'static, str>,
    cleanup: Option<Cow<'static, str>>,
}

impl HoldPurpose {
    /// A purpose whose end leaves nothing behind.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            cleanup: None,
        }
    }

    /// A purpose whose hold, when it is released or expires, enqueues a job of this kind; its payload is [`HoldEnded`].
    #[must_use]
    pub const fn leaving(name: &'static str, job: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            cleanup: Some(Cow::Borrowed(job)),
        }
    }

    /// As it was stored.
    #[must_use]
    pub fn stored(name: String, cleanup: Option<String>) -> Self {
        Self {
            name: Cow::Owned(name),
            cleanup: cleanup.map(Cow::Owned),
        }
    }

    /// The name in the database.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kind of the job that its end leaves.
    #[must_use]
    pub fn cleanup(&self) -> Option<&str> {
        self.cleanup.as_deref()
    }
}

/// The payload of the job that a hold leaves behind: see [`HoldPurpose::leaving`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldEnded {
    /// The hold.
    pub hold: HoldId,
}

/// A hold with its amounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its id.
    pub id: HoldId,
    /// What it is for.
    pub purpose: HoldPurpose,
    /// What it holds, by key.
    pub charges: Vec<Charge>,
}

impl Hold {
    /// Where a charge is settled: by the counter that is held for it, which is another than it was when the
    /// billing day moved meanwhile.
    pub(crate) fn settled(&self, charge: &Charge) -> Charge {
        let of = |held: &&Charge| {
            held.key.metric == charge.key.metric && held.key.subject == charge.key.subject
        };
        let exact = self.charges.iter().any(|held| held.key == charge.key);
        let moved = self.charges.iter().find(of).filter(|_| !exact);
        Charge {
            key: moved.map_or_else(|| charge.key.clone(), |held| held.key.clone()),
            amount: charge.amount,
        }
    }

    /// What must be done when the operation came to nothing.
    pub(crate) fn left_behind(&self) -> Result<Option<Job>, StoreError> {
        let ended = HoldEnded { hold: self.id };
        let job = |kind: &str| Job::named(kind, &ended);
        self.purpose.cleanup().map(job).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rawdrive_tenancy_core::Env;

    #[test]
    fn what_came_to_nothing_leaves_the_job_that_its_purpose_names() {
        let id = Env::system().id();
        let hold = |purpose| Hold {
            id,
            purpose,
            charges: Vec::new(),
        };
        let upload = HoldPurpose::leaving("upload", "upload_ended");
        let job = hold(upload).left_behind().unwrap().unwrap();
        assert_eq!(
            (job.kind(), job.payload().unwrap()),
            ("upload_ended", HoldEnded { hold: id })
        );
        assert_eq!(hold(HoldPurpose::new("look")).left_behind().unwrap(), None);
    }
}
