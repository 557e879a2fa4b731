//! Domain events and the outbox port: what happened, told to whoever must act on it after commit.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::EventId;
use crate::job::JobKind;

/// Something that happened in a workspace. The handle that emits it adds workspace, id and time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DomainEvent {
    /// `noun.verb`, such as `usage.threshold_crossed`.
    pub kind: String,
    /// The id of what it happened to.
    pub subject: String,
    /// Its facts, by id; no personal data.
    pub facts: Value,
}

/// The job that tells an event to its consumers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliverEvent {
    /// The event.
    pub event: DomainEvent,
}

impl JobKind for DeliverEvent {
    const NAME: &'static str = "deliver_event";
}

/// An event as its workspace's feed keeps it. Every event is there, and every audited change by its action: the feed says
/// what happened, in the order of the commits.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedEvent {
    /// Its id: the same wherever it is told, however often.
    pub id: EventId,
    /// 1, 2, 3 … per workspace, without a gap.
    pub seq: u64,
    /// When it was recorded.
    pub at: DateTime<Utc>,
    /// What happened.
    pub event: DomainEvent,
}

/// The most kinds that a selection names.
pub const MAX_SELECTED_KINDS: usize = 50;
/// The longest name in a selection, in bytes.
const MAX_KIND_BYTES: usize = 100;

/// Which events are wanted: those of the named kinds, where `noun.*` stands for every kind of a noun; all of them, where
/// none is named.
///
/// ```
/// use rawdrive_tenancy_core::event::EventSelection;
/// let money = EventSelection::of(["subscription.*".to_owned(), "plan.changed".to_owned()]).unwrap();
/// assert!(money.wants("plan.changed") && money.wants("subscription.ended"));
/// assert!(!money.wants("plan.changed_back") && EventSelection::all().wants("anything.at_all"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventSelection(Vec<String>);

/// A text that names no kind of event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSelection {
    /// One of the names is none.
    #[error(
        "expected a kind such as plan.changed, or subscription.* for all of a noun; found {0:?}"
    )]
    Kind(String),
    /// There are too many.
    #[error("expected at most {MAX_SELECTED_KINDS} kinds")]
    TooMany,
}

impl EventSelection {
    /// Every event.
    #[must_use]
    pub const fn all() -> Self {
        Self(Vec::new())
    }

    /// Those of the named kinds; of none, every event.
    ///
    /// # Errors
    /// See [`InvalidSelection`].
    pub fn of(kinds: impl IntoIterator<Item = String>) -> Result<Self, InvalidSelection> {
        let mut known = Vec::new();
        for kind in kinds {
            if !is_kind_or_noun(&kind) {
                return Err(InvalidSelection::Kind(kind));
            }
            if !known.contains(&kind) {
                known.push(kind);
            }
        }
        if known.len() > MAX_SELECTED_KINDS {
            return Err(InvalidSelection::TooMany);
        }
        Ok(Self(known))
    }

    /// Whether events of a kind are wanted.
    #[must_use]
    pub fn wants(&self, kind: &str) -> bool {
        let is_wanted = |wanted: &String| match wanted.strip_suffix('*') {
            Some(noun) => kind.starts_with(noun),
            None => kind == wanted,
        };
        self.0.is_empty() || self.0.iter().any(is_wanted)
    }

    /// The names; none for every event.
    #[must_use]
    pub fn kinds(&self) -> &[String] {
        &self.0
    }
}

/// `noun.verb` or `noun.*`.
fn is_kind_or_noun(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && (word.bytes()).all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    };
    let parts = text.split_once('.');
    text.len() <= MAX_KIND_BYTES
        && parts.is_some_and(|(noun, verb)| is_word(noun) && (verb == "*" || is_word(verb)))
}

/// The outbox: events stand exactly when the transaction does, and are delivered at least once after it.
pub trait EventsTx {
    /// Puts an event into the outbox, at commit.
    fn emit(&mut self, event: DomainEvent);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_names_kinds() {
        let of = |kinds: &[&str]| EventSelection::of(kinds.iter().map(|kind| (*kind).to_owned()));
        for wrong in [
            "",
            "plan",
            "plan.",
            ".changed",
            "*",
            "plan.*.x",
            "Plan.changed",
            "plan.ch*",
            "plan changed.x",
        ] {
            assert_eq!(of(&[wrong]), Err(InvalidSelection::Kind(wrong.to_owned())));
        }
        let long = format!("{}.x", "n".repeat(MAX_KIND_BYTES));
        assert!(of(&[&long]).is_err());
        let many: Vec<_> = (0..=MAX_SELECTED_KINDS)
            .map(|n| format!("noun.verb{n}"))
            .collect();
        assert_eq!(
            EventSelection::of(many.clone()),
            Err(InvalidSelection::TooMany)
        );
        assert!(EventSelection::of(many[1..].to_vec()).is_ok());
        assert_eq!(of(&["a.b", "a.b"]).unwrap().kinds(), ["a.b"]);
        assert_eq!(of(&[]), Ok(EventSelection::all()));
    }
}
