//! The ledger: append-only lines whose sum is the usage, each chained to the one before it.
//!
//! `hash = H(previous ‖ workspace ‖ every field of the line)`. A line that is changed, taken out, moved or
//! added afterwards no longer fits what follows it, in the database as in a statement.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::Actor;
use rawdrive_tenancy_core::audit::{GENESIS, Hash, sha256};
use rawdrive_tenancy_core::id::{TypedId, WorkspaceId};

use crate::QuotaKey;

/// Why a line stands in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LineKind {
    /// Something was used, or freed.
    Usage,
    /// An operator put the count right.
    Correction,
    /// Usage moved into another period, because the billing day did. Such lines come in pairs of one sum: 0.
    Carry,
}

impl LineKind {
    const ALL: [Self; 3] = [Self::Usage, Self::Correction, Self::Carry];

    /// The name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Correction => "correction",
            Self::Carry => "carry",
        }
    }
}

impl fmt::Display for LineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no kind of line.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("expected usage, correction or carry")]
pub struct UnknownKind;

impl FromStr for LineKind {
    type Err = UnknownKind;
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(UnknownKind)
    }
}

/// A line to be appended; the handle adds workspace, actor, time of recording, `seq` and hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerLine {
    /// Why it is appended.
    pub kind: LineKind,
    /// What is counted, for which subject, in which period.
    pub key: QuotaKey,
    /// Units, negative when freed.
    pub quantity: i64,
    /// The id of what was counted (a document, a member). Ids only: a ledger is never erased.
    pub subject: String,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// The id under which a program reported it.
    pub event_id: Option<String>,
}

impl LedgerLine {
    /// A line of usage that this installation counted itself.
    #[must_use]
    pub fn usage(
        key: QuotaKey,
        quantity: i64,
        subject: String,
        occurred_at: DateTime<Utc>,
    ) -> Self {
        Self {
            kind: LineKind::Usage,
            key,
            quantity,
            subject,
            occurred_at,
            event_id: None,
        }
    }
}

/// A line as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// 1, 2, 3 … per workspace, without a gap, in order of commit.
    pub seq: u64,
    /// Why it stands there.
    pub kind: LineKind,
    /// The counter that it belongs to: metric, the subject it is counted for, period.
    pub key: QuotaKey,
    /// Units, negative when freed.
    pub quantity: i64,
    /// The id of what was counted.
    pub subject: String,
    /// The id under which a program reported it.
    pub event_id: Option<String>,
    /// Who did it.
    pub actor: String,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// When it was written down; never earlier than the line before.
    pub recorded_at: DateTime<Utc>,
    /// What chains it to the line before.
    pub hash: Hash,
}

/// Where a workspace's ledger ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LedgerHead {
    /// The last line's number; 0 before the first.
    pub seq: u64,
    /// The last line's hash.
    pub hash: Hash,
    /// No line is recorded before this time any more: the last line's, or that of a seal.
    pub not_before: Option<DateTime<Utc>>,
}

/// The hash that chains a line to the one before it. Every field is length-prefixed, so that no two
/// different lines are the same bytes.
#[must_use]
pub fn line_hash(previous: &Hash, workspace: WorkspaceId, line: &LedgerEntry) -> Hash {
    let mut bytes = Vec::with_capacity(384);
    let micros = |at: DateTime<Utc>| at.timestamp_micros().to_be_bytes();
    let event: (&[u8], &[u8]) = match &line.event_id {
        Some(id) => (&[1], id.as_bytes()),
        None => (&[0], &[]),
    };
    let workspace = workspace.uuid().into_bytes();
    let fields: [&[u8]; 14] = [
        previous,
        &workspace,
        &line.seq.to_be_bytes(),
        line.kind.as_str().as_bytes(),
        line.key.metric.as_str().as_bytes(),
        line.key.subject.as_bytes(),
        &micros(line.key.period_start),
        &line.quantity.to_be_bytes(),
        line.subject.as_bytes(),
        event.0,
        event.1,
        line.actor.as_bytes(),
        &micros(line.occurred_at),
        &micros(line.recorded_at),
    ];
    for field in fields {
        bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
        bytes.extend_from_slice(field);
    }
    sha256(&bytes)
}

/// Numbers, dates and chains lines behind a head: what every store appends. The head must be locked.
#[must_use]
pub fn extend(
    head: LedgerHead,
    workspace: WorkspaceId,
    now: DateTime<Utc>,
    lines: &[(Actor, LedgerLine)],
) -> (Vec<LedgerEntry>, LedgerHead) {
    let mut head = head;
    // A clock that is behind another server's, or behind a seal, must not write into a closed month.
    let recorded_at = head.not_before.map_or(now, |earliest| earliest.max(now));
    let entries = lines.iter().map(|(actor, line)| {
        let mut entry = LedgerEntry {
            seq: head.seq + 1,
            kind: line.kind,
            key: line.key.clone(),
            quantity: line.quantity,
            subject: line.subject.clone(),
            event_id: line.event_id.clone(),
            actor: actor.to_string(),
            occurred_at: line.occurred_at,
            recorded_at,
            hash: GENESIS,
        };
        entry.hash = line_hash(&head.hash, workspace, &entry);
        head = LedgerHead {
            seq: entry.seq,
            hash: entry.hash,
            not_before: Some(recorded_at),
        };
        entry
    });
    (entries.collect(), head)
}

/// Where the chain of a ledger breaks.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LedgerBreak {
    /// A line is missing or stands in the wrong place.
    #[error("line {expected} is missing: {found} stands in its place")]
    Gap {
        /// The number that should follow.
        expected: u64,
        /// The one that does.
        found: u64,
    },
    /// A line was changed after it was written, or the one before it.
    #[error("line {seq} does not hash to what it says")]
    Altered {
        /// The line.
        seq: u64,
    },
    /// A line was recorded before the one it follows.
    #[error("line {seq} is recorded before the line before it")]
    Unordered {
        /// The line.
        seq: u64,
    },
    /// The ledger ends before its head, or after it.
    #[error("the ledger ends at line {found}, its head says {expected}")]
    Cut {
        /// The head's number.
        expected: u64,
        /// The last line's.
        found: u64,
    },
}

/// Checks that a line follows a head, and answers the head behind it.
///
/// # Errors
/// The line does not follow.
pub fn follow(
    head: LedgerHead,
    workspace: WorkspaceId,
    line: &LedgerEntry,
) -> Result<LedgerHead, LedgerBreak> {
    let seq = line.seq;
    if seq != head.seq + 1 {
        return Err(LedgerBreak::Gap {
            expected: head.seq + 1,
            found: seq,
        });
    }
    if line_hash(&head.hash, workspace, line) != line.hash {
        return Err(LedgerBreak::Altered { seq });
    }
    if head.not_before.is_some_and(|at| line.recorded_at < at) {
        return Err(LedgerBreak::Unordered { seq });
    }
    Ok(LedgerHead {
        seq,
        hash: line.hash,
        not_before: Some(line.recorded_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use rawdrive_plans::Metric;
    use rawdrive_tenancy_core::Env;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap()
    }

    fn line(quantity: i64) -> LedgerLine {
        let key = QuotaKey::level(Metric::new("storage_bytes"));
        LedgerLine::usage(key, quantity, "doc_1".into(), at(0))
    }

    fn by_a_key(lines: impl IntoIterator<Item = LedgerLine>) -> Vec<(Actor, LedgerLine)> {
        let key = Actor::Key(Env::system().id());
        lines.into_iter().map(|line| (key, line)).collect()
    }

    #[test]
    fn time_of_recording_never_goes_back() {
        let workspace = Env::system().id();
        let none = LedgerHead::default();
        let (first, head) = extend(none, workspace, at(10), &by_a_key([line(1)]));
        let (second, head) = extend(head, workspace, at(5), &by_a_key([line(2), line(3)]));
        assert_eq!(second[1].recorded_at, first[0].recorded_at);
        assert_eq!((head.seq, head.not_before), (3, Some(at(10))));
        let sealed = LedgerHead {
            not_before: Some(at(60)),
            ..head
        };
        let (third, _) = extend(sealed, workspace, at(11), &by_a_key([line(4)]));
        assert_eq!(third[0].recorded_at, at(60));
    }

    #[test]
    fn every_field_of_a_line_is_in_its_hash() {
        let workspace: WorkspaceId = Env::system().id();
        let (entries, _) = extend(
            LedgerHead::default(),
            workspace,
            at(1),
            &by_a_key([line(1)]),
        );
        let entry = &entries[0];
        assert_eq!(
            follow(LedgerHead::default(), workspace, entry).map(|head| head.seq),
            Ok(1)
        );
        let changes: [fn(&mut LedgerEntry); 10] = [
            |e| e.kind = LineKind::Correction,
            |e| e.key.metric = Metric::team_members(),
            |e| e.key.subject = "fol_1".into(),
            |e| e.key.period_start = at(0),
            |e| e.quantity += 1,
            |e| e.subject.push('x'),
            |e| e.event_id = Some(String::new()),
            |e| e.actor.push('x'),
            |e| e.occurred_at += TimeDelta::microseconds(1),
            |e| e.recorded_at += TimeDelta::microseconds(1),
        ];
        for (n, change) in changes.iter().enumerate() {
            let mut altered = entry.clone();
            change(&mut altered);
            assert_eq!(
                follow(LedgerHead::default(), workspace, &altered),
                Err(LedgerBreak::Altered { seq: 1 }),
                "change {n}"
            );
        }
        assert!(follow(LedgerHead::default(), Env::system().id(), entry).is_err());
    }
}
