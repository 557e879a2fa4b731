//! Idempotency keys, as <https://docs.stripe.com/api/idempotent_requests> describes them: the first answer to a
//! POST is kept, 500s included, and given again; other parameters under the same key are an error; so is a
//! second request while the first is under way. Keys are forgotten after a day.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::calendar::DAY;
use crate::wire::error::ApiError;

/// An answer as it went out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) request_id: String,
}

#[derive(Debug)]
enum Slot {
    InFlight,
    Done(Stored),
}

#[derive(Debug)]
struct Entry {
    /// Method, path and parameters.
    fingerprint: String,
    since: i64,
    slot: Slot,
}

/// A key with its answer, as it is kept beyond a run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeptKey {
    key: String,
    fingerprint: String,
    since: i64,
    answer: Stored,
}

/// What a key that comes in means.
#[derive(Debug)]
pub(crate) enum Claim {
    /// Nobody has used it: do the work, then [`Keys::settle`].
    New,
    Replay(Stored),
    Refused(ApiError),
}

/// All keys of the last day.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    entries: HashMap<String, Entry>,
    changes: u64,
}

impl Keys {
    /// Counts the answers that came about.
    pub(crate) const fn changes(&self) -> u64 {
        self.changes
    }

    /// The keys with an answer: work that is under way ends with the run.
    pub(crate) fn kept(&self) -> Vec<KeptKey> {
        let kept = self.entries.iter().filter_map(|(key, entry)| {
            let Slot::Done(answer) = &entry.slot else {
                return None;
            };
            Some(KeptKey {
                key: key.clone(),
                fingerprint: entry.fingerprint.clone(),
                since: entry.since,
                answer: answer.clone(),
            })
        });
        kept.collect()
    }

    pub(crate) fn restore(&mut self, kept: Vec<KeptKey>) {
        for kept in kept {
            let entry = Entry {
                fingerprint: kept.fingerprint,
                since: kept.since,
                slot: Slot::Done(kept.answer),
            };
            self.entries.insert(kept.key, entry);
        }
    }

    pub(crate) fn claim(&mut self, key: &str, fingerprint: &str, now: i64) -> Claim {
        self.entries.retain(|_, entry| entry.since > now - DAY);
        if let Some(entry) = self.entries.get(key) {
            if entry.fingerprint != fingerprint {
                return Claim::Refused(mismatch(key));
            }
            return match &entry.slot {
                Slot::InFlight => Claim::Refused(in_use(key)),
                Slot::Done(stored) => Claim::Replay(stored.clone()),
            };
        }
        let entry = Entry {
            fingerprint: fingerprint.to_owned(),
            since: now,
            slot: Slot::InFlight,
        };
        self.entries.insert(key.to_owned(), entry);
        Claim::New
    }

    /// Keeps the answer, or, where no work had begun, frees the key.
    pub(crate) fn settle(&mut self, key: &str, answer: Option<Stored>) {
        self.changes += 1;
        match (answer, self.entries.get_mut(key)) {
            (Some(stored), Some(entry)) => entry.slot = Slot::Done(stored),
            _ => {
                self.entries.remove(key);
            }
        }
    }
}

fn mismatch(key: &str) -> ApiError {
    let mut error = ApiError::new(
        400,
        "idempotency_error",
        format!(
            "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '{key}' if you meant to execute a different request."
        ),
    );
    error.begun = false;
    error
}

fn in_use(key: &str) -> ApiError {
    let mut error = ApiError::new(
        409,
        "idempotency_error",
        format!(
            "There is currently another in-progress request using this Idempotent Key ('{key}'). Please try again later."
        ),
    )
    .code("idempotency_key_in_use");
    error.begun = false;
    error
}
