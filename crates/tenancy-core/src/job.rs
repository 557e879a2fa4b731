//! The jobs port: durable intents that leased runners carry out after commit. Kinds are open: each is a type with a
//! stable name, declared by whoever enqueues it.

use chrono::{DateTime, TimeDelta, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::StoreError;
use crate::id::{JobId, WorkspaceId};

/// A kind of job: the type is its payload, which serializes as an object.
///
/// Carrying a job out twice must do no more than once: a runner that dies is followed by another.
///
/// ```
/// use rawdrive_tenancy_core::job::{Job, JobKind};
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct SendReport { month: String }
/// impl JobKind for SendReport { const NAME: &'static str = "send_report"; }
/// let job = Job::of(&SendReport { month: "2026-11".into() }).unwrap();
/// assert_eq!((job.kind(), job.payload::<SendReport>().unwrap().month.as_str()), ("send_report", "2026-11"));
/// ```
pub trait JobKind: Serialize + DeserializeOwned {
    /// The name in the database: stable, and unique in an installation.
    const NAME: &'static str;
}

/// What is to be done: a kind and its payload, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    kind: String,
    #[serde(flatten)]
    payload: Map<String, Value>,
}

impl Job {
    /// A job of a kind.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for a payload that is no object: a mistake in the kind's type.
    pub fn of<K: JobKind>(payload: &K) -> Result<Self, StoreError> {
        Self::named(K::NAME, payload)
    }

    /// A job whose kind is known by name alone, such as the one that a hold's purpose names.
    ///
    /// # Errors
    /// As [`Job::of`].
    pub fn named(kind: &str, payload: &impl Serialize) -> Result<Self, StoreError> {
        let wrong = |reason: String| StoreError::Corrupt {
            table: "jobs",
            column: "work",
            row: kind.to_owned(),
            reason,
        };
        match serde_json::to_value(payload) {
            Ok(Value::Object(payload)) => Ok(Self {
                kind: kind.to_owned(),
                payload,
            }),
            Ok(other) => Err(wrong(format!("{other} is no object"))),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    /// The kind's name.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The payload.
    ///
    /// # Errors
    /// It has another shape.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_value(Value::Object(self.payload.clone()))
    }

    /// The payload, where the job is of this kind and has its shape.
    #[must_use]
    pub fn as_kind<K: JobKind>(&self) -> Option<K> {
        (self.kind == K::NAME)
            .then(|| self.payload().ok())
            .flatten()
    }
}

/// A job that this runner holds until its lease ends.
#[derive(Debug, Clone, PartialEq)]
pub struct LeasedJob {
    /// Its id.
    pub id: JobId,
    /// The workspace it belongs to.
    pub workspace: WorkspaceId,
    /// What is to be done.
    pub job: Job,
    /// How often it was leased, this time included.
    pub attempts: u32,
}

/// How long to wait before the next attempt: 1 s doubling to 5 min.
#[must_use]
pub fn backoff(attempts: u32) -> TimeDelta {
    TimeDelta::seconds(1_i64 << attempts.saturating_sub(1).min(9)).min(TimeDelta::minutes(5))
}

/// Enqueues durable intents.
pub trait JobsTx {
    /// The job stands exactly when the transaction does: it is written at commit. It becomes due at `due` (decision
    /// time; `None` means at once).
    fn enqueue_job(&mut self, job: Job, due: Option<DateTime<Utc>>);

    /// As [`JobsTx::enqueue_job`], of a kind's payload.
    ///
    /// # Errors
    /// See [`Job::of`].
    fn enqueue<K: JobKind>(
        &mut self,
        payload: &K,
        due: Option<DateTime<Utc>>,
    ) -> Result<(), StoreError> {
        self.enqueue_job(Job::of(payload)?, due);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_and_is_bounded() {
        assert_eq!(backoff(1), TimeDelta::seconds(1));
        assert_eq!(backoff(4), TimeDelta::seconds(8));
        assert_eq!(backoff(u32::MAX), TimeDelta::minutes(5));
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Empty {}
    impl JobKind for Empty {
        const NAME: &'static str = "empty";
    }

    #[derive(Serialize, Deserialize)]
    struct Bare(u8);
    impl JobKind for Bare {
        const NAME: &'static str = "bare";
    }

    #[test]
    fn a_job_is_stored_with_its_kind_beside_its_payload() {
        let job = Job::of(&Empty {}).unwrap();
        let stored = serde_json::to_string(&job).unwrap();
        assert_eq!(stored, r#"{"kind":"empty"}"#);
        let read: Job = serde_json::from_str(&stored).unwrap();
        assert_eq!((read.as_kind(), read), (Some(Empty {}), job));
    }

    #[test]
    fn a_kind_that_this_release_does_not_know_is_kept_as_it_is() {
        let stored = r#"{"kind":"later","a":1,"b":{"c":[2]}}"#;
        let job: Job = serde_json::from_str(stored).unwrap();
        assert_eq!(job.kind(), "later");
        assert_eq!(job.as_kind::<Empty>(), None);
        assert_eq!(serde_json::to_string(&job).unwrap(), stored);
    }

    #[test]
    fn a_payload_is_an_object() {
        let refused = Job::of(&Bare(7)).unwrap_err().to_string();
        assert!(refused.contains("bare"), "{refused}");
    }
}
