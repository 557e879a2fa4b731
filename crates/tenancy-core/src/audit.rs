//! The audit chain: who changed what, in an order that cannot be rewritten unseen.
//!
//! `hash = H(previous ‖ seq ‖ at ‖ actor ‖ action ‖ subject ‖ H(salt ‖ payload))`. Payload and salt lie apart
//! so that they can be erased while the chain stays verifiable.

use chrono::{DateTime, Utc};
use serde_json::Value;

/// A SHA-256 value.
pub type Hash = [u8; 32];

/// What the entry before the first one is taken to hash to.
pub const GENESIS: Hash = [0; 32];

/// A change to be recorded; the handle that records it knows the workspace and the actor.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// `noun.verb`, such as `plan.changed`.
    pub action: &'static str,
    /// The id of what changed.
    pub subject: String,
    /// The state before, `null` when there was none.
    pub before: Value,
    /// The state after, `null` when there is none.
    pub after: Value,
}

/// An entry of the chain as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// 1, 2, 3 … per workspace, without a gap.
    pub seq: u64,
    /// When it was recorded.
    pub at: DateTime<Utc>,
    /// Who did it.
    pub actor: String,
    /// `noun.verb`.
    pub action: String,
    /// The id of what changed.
    pub subject: String,
    /// `H(salt ‖ payload)`.
    pub payload_hash: Hash,
    /// This entry's own hash.
    pub hash: Hash,
    /// The payload, unless it was erased.
    pub payload: Option<Payload>,
}

/// The erasable part of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// 16 random bytes, so that an erased payload cannot be guessed from its hash.
    pub salt: [u8; 16],
    /// `{"before": …, "after": …}` exactly as it was hashed.
    pub text: String,
}

impl Payload {
    /// The payload of a change.
    #[must_use]
    pub fn of(change: &Change, salt: [u8; 16]) -> Self {
        let text =
            serde_json::json!({ "before": change.before, "after": change.after }).to_string();
        Self { salt, text }
    }

    /// `H(salt ‖ payload)`.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let mut context = hmac_sha256::Hash::new();
        context.update(self.salt);
        context.update(self.text.as_bytes());
        context.finalize()
    }
}

/// The hash that chains an entry to the one before it. Every field is length-prefixed, so that no two
/// different entries are the same bytes.
#[must_use]
pub fn chain_hash(previous: &Hash, entry: &Entry) -> Hash {
    let mut bytes = Vec::with_capacity(256);
    let at = entry.at.timestamp_micros().to_be_bytes();
    let seq = entry.seq.to_be_bytes();
    let fields: [&[u8]; 7] = [
        previous,
        &seq,
        &at,
        entry.actor.as_bytes(),
        entry.action.as_bytes(),
        entry.subject.as_bytes(),
        &entry.payload_hash,
    ];
    for field in fields {
        bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
        bytes.extend_from_slice(field);
    }
    sha256(&bytes)
}

/// SHA-256 (FIPS 180-4), the digest of all that is chained.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Hash {
    hmac_sha256::Hash::hash(bytes)
}

/// Where a chain breaks.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChainBreak {
    /// An entry is missing or stands in the wrong place.
    #[error("entry {expected} is missing: {found} stands in its place")]
    Gap {
        /// The sequence number that should follow.
        expected: u64,
        /// The one that does.
        found: u64,
    },
    /// An entry was changed after it was written.
    #[error("entry {seq} does not hash to what it says")]
    Altered {
        /// The entry.
        seq: u64,
    },
    /// The chain ends before its recorded head, or after it.
    #[error("the chain ends at {found}, its head says {expected}")]
    Cut {
        /// The head's sequence number.
        expected: u64,
        /// The last entry's.
        found: u64,
    },
}

/// Verifies a whole chain, oldest first, against its head.
///
/// # Errors
/// The first break.
pub fn verify<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
    head: (u64, Hash),
) -> Result<(), ChainBreak> {
    let (mut seq, mut previous) = (0, GENESIS);
    for entry in entries {
        if entry.seq != seq + 1 {
            return Err(ChainBreak::Gap {
                expected: seq + 1,
                found: entry.seq,
            });
        }
        let honest = entry
            .payload
            .as_ref()
            .is_none_or(|p| p.hash() == entry.payload_hash);
        if !honest || chain_hash(&previous, entry) != entry.hash {
            return Err(ChainBreak::Altered { seq: entry.seq });
        }
        (seq, previous) = (entry.seq, entry.hash);
    }
    if (seq, previous) == head {
        Ok(())
    } else {
        Err(ChainBreak::Cut {
            expected: head.0,
            found: seq,
        })
    }
}

/// Appends to the chain of the handle's workspace.
pub trait AuditTx {
    /// Records a change in this transaction: it stands exactly when the change does. The chain's head is locked and
    /// the entry written at commit.
    fn record(&mut self, change: Change);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(n: u64) -> Vec<Entry> {
        let mut previous = GENESIS;
        (1..=n)
            .map(|seq| {
                let change = Change {
                    action: "plan.changed",
                    subject: "ws_1".into(),
                    before: Value::from(seq),
                    after: Value::Null,
                };
                let payload = Payload::of(&change, [7; 16]);
                let mut entry = Entry {
                    seq,
                    at: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
                    actor: "system:operator".into(),
                    action: change.action.into(),
                    subject: change.subject,
                    payload_hash: payload.hash(),
                    hash: GENESIS,
                    payload: Some(payload),
                };
                entry.hash = chain_hash(&previous, &entry);
                previous = entry.hash;
                entry
            })
            .collect()
    }

    fn head(entries: &[Entry]) -> (u64, Hash) {
        entries.last().map_or((0, GENESIS), |e| (e.seq, e.hash))
    }

    /// FIPS 180-4's own example, and one that is longer than a block.
    #[test]
    fn digests_are_those_of_the_standard() {
        let hex = |bytes: &[u8]| {
            sha256(bytes)
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect::<String>()
        };
        assert_eq!(
            hex(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            hex(b""),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            hex(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        );
    }

    #[test]
    fn an_honest_chain_verifies_also_after_erasure() {
        let mut entries = chain(5);
        assert_eq!(verify(&entries, head(&entries)), Ok(()));
        entries[2].payload = None;
        assert_eq!(verify(&entries, head(&entries)), Ok(()));
        assert_eq!(verify(&[], (0, GENESIS)), Ok(()));
    }

    #[test]
    fn any_change_deletion_reordering_or_cut_is_named() {
        let entries = chain(5);
        let intact = head(&entries);
        let mut altered = entries.clone();
        altered[3].actor = "usr_x".into();
        assert_eq!(
            verify(&altered, intact),
            Err(ChainBreak::Altered { seq: 4 })
        );
        let mut forged = entries.clone();
        forged[1].payload.as_mut().unwrap().text = "{}".into();
        assert_eq!(verify(&forged, intact), Err(ChainBreak::Altered { seq: 2 }));
        let mut missing = entries.clone();
        missing.remove(1);
        assert_eq!(
            verify(&missing, intact),
            Err(ChainBreak::Gap {
                expected: 2,
                found: 3
            })
        );
        assert_eq!(
            verify(&entries[..4], intact),
            Err(ChainBreak::Cut {
                expected: 5,
                found: 4
            })
        );
    }
}
