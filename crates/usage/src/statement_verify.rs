//! Checks statements offline: every line against the one before it, the lines against the totals, the head
//! against its digest, and each month against the one before.

use std::collections::BTreeMap;
use std::fmt;

use rawdrive_plans::Metric;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::ledger::follow;
use crate::statement::{HeadDocument, LineDocument, Statement};
use crate::{LedgerBreak, LedgerHead, Month, MonthSums};

/// The first thing that is wrong with a statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The head cannot be read.
    #[error("the head cannot be read: {0}")]
    UnreadableHead(String),
    /// The head was changed.
    #[error("the head does not hash to its digest")]
    AlteredHead,
    /// A line is not what was recorded, or is not where it was.
    #[error("line {seq}: {reason}")]
    Line {
        /// The number of the line that should stand there.
        seq: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The lines are whole, and what follows them is not.
    #[error("after the last line: {0}")]
    Tail(String),
    /// The lines do not add up to what the head says.
    #[error("the lines do not add up to the head's totals of {0}")]
    Totals(Metric),
    /// The statement does not follow the one before it.
    #[error("{month} does not follow {before}: {reason}")]
    Unchained {
        /// The month.
        month: Month,
        /// The month of the statement before.
        before: Month,
        /// Why not.
        reason: &'static str,
    },
}

/// A statement that verifies, line by line.
#[derive(Debug)]
struct Verifier {
    head: Statement,
    at: LedgerHead,
    sums: BTreeMap<Metric, MonthSums>,
}

impl Verifier {
    fn begin(document: &HeadDocument) -> Result<Self, Flaw> {
        let statement = document.read().ok_or_else(|| {
            Flaw::UnreadableHead("a field is not written as statements write it".to_owned())
        })?;
        if statement.computed_digest() != statement.digest {
            return Err(Flaw::AlteredHead);
        }
        Ok(Self {
            at: LedgerHead {
                seq: statement.opening.seq,
                hash: statement.opening.hash,
                not_before: Some(statement.month.start()),
            },
            head: statement,
            sums: BTreeMap::new(),
        })
    }

    fn next(&self) -> u64 {
        self.at.seq + 1
    }

    fn line_flaw(&self, reason: impl Into<String>) -> Flaw {
        Flaw::Line {
            seq: self.next(),
            reason: reason.into(),
        }
    }

    fn unreadable(&self, reason: impl fmt::Display) -> Flaw {
        if self.at.seq < self.head.closing.seq {
            self.line_flaw(format!("cannot be read: {reason}"))
        } else {
            Flaw::Tail(format!("cannot be read: {reason}"))
        }
    }

    fn line(&mut self, document: &LineDocument) -> Result<(), Flaw> {
        if self.at.seq >= self.head.closing.seq {
            return Err(self.line_flaw("is one too many"));
        }
        let month = self.head.month;
        let line = document
            .read(month)
            .ok_or_else(|| self.line_flaw("a field is not written as statements write it"))?;
        let at = follow(self.at, self.head.workspace, &line).map_err(|broken| match broken {
            LedgerBreak::Gap { found, .. } => {
                self.line_flaw(format!("is missing, line {found} stands in its place"))
            }
            LedgerBreak::Altered { .. } => self.line_flaw("does not hash to what it says"),
            other => self.line_flaw(other.to_string()),
        })?;
        if month.end() <= line.recorded_at {
            return Err(self.line_flaw("was recorded after the month"));
        }
        self.at = at;
        let sums = self.sums.entry(line.key.metric.clone()).or_default();
        sums.add(month, &line);
        Ok(())
    }

    fn finish(mut self) -> Result<Statement, Flaw> {
        let head = self.head;
        if self.at.seq < head.closing.seq {
            return Err(Flaw::Line {
                seq: self.at.seq + 1,
                reason: "is missing: the statement ends before it".to_owned(),
            });
        }
        if self.at.hash != head.closing.hash {
            return Err(Flaw::AlteredHead);
        }
        for totals in &head.metrics {
            let sums = self.sums.remove(&totals.metric).unwrap_or_default();
            let closing = totals
                .opening
                .checked_add(totals.events)
                .and_then(|sum| sum.checked_sub(totals.corrections));
            let holds = sums.events == totals.events
                && sums.corrections.checked_neg() == Some(totals.corrections)
                && sums.late_lines == totals.late_lines
                && sums.late_quantity == totals.late_quantity
                && closing == Some(totals.closing);
            if !holds {
                return Err(Flaw::Totals(totals.metric.clone()));
            }
        }
        match self.sums.into_keys().next() {
            Some(metric) => Err(Flaw::Totals(metric)),
            None => Ok(head),
        }
    }
}

/// Verifies one statement: JSON, or newline-delimited JSON whose first line is the head.
///
/// # Errors
/// The first flaw: the first line that is not what was recorded where it was recorded.
pub fn verify_statement(document: &[u8]) -> Result<Statement, Flaw> {
    let mut lines = document.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    match serde_json::from_slice::<Map<String, Value>>(first) {
        Ok(head) if !head.contains_key("lines") => verify_ndjson(first, lines),
        _ => verify_json(document),
    }
}

fn verify_ndjson<'a>(
    head: &[u8],
    lines: impl Iterator<Item = &'a [u8]>,
) -> Result<Statement, Flaw> {
    let head = serde_json::from_slice(head).map_err(|e| Flaw::UnreadableHead(e.to_string()))?;
    let mut verifier = Verifier::begin(&head)?;
    let mut lines = lines.peekable();
    while let Some(text) = lines.next() {
        // What follows the last newline.
        if text.is_empty() && lines.peek().is_none() {
            break;
        }
        let line = serde_json::from_slice(text).map_err(|e| verifier.unreadable(e))?;
        verifier.line(&line)?;
    }
    verifier.finish()
}

fn verify_json(document: &[u8]) -> Result<Statement, Flaw> {
    // Lines may stand before the head's fields, in whatever order a tool left them: the head is read first.
    let mut fields = Map::new();
    let whole = read(document, &mut fields, None, &mut None);
    let head = serde_json::from_value(Value::Object(fields));
    let head = head.map_err(|missing| {
        let reason = whole.as_ref().err().unwrap_or(&missing);
        Flaw::UnreadableHead(reason.to_string())
    })?;
    let mut verifier = Verifier::begin(&head)?;
    let mut flaw = None;
    let end = read(document, &mut Map::new(), Some(&mut verifier), &mut flaw);
    match (flaw, end) {
        (Some(flaw), _) => Err(flaw),
        (None, Err(error)) => Err(verifier.unreadable(error)),
        (None, Ok(())) => verifier.finish(),
    }
}

fn read(
    document: &[u8],
    head: &mut Map<String, Value>,
    verifier: Option<&mut Verifier>,
    flaw: &mut Option<Flaw>,
) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_slice(document);
    let fields = Fields {
        head,
        verifier,
        flaw,
    };
    fields.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// The fields of a document: those of the head are kept, the lines are verified if there is a verifier.
struct Fields<'a> {
    head: &'a mut Map<String, Value>,
    verifier: Option<&'a mut Verifier>,
    flaw: &'a mut Option<Flaw>,
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();
    fn deserialize<D: de::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a statement")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut verifier = self.verifier;
        let mut had_lines = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == "lines" {
                if had_lines {
                    return Err(de::Error::custom("lines are given twice"));
                }
                had_lines = true;
                match verifier.take() {
                    Some(verifier) => map.next_value_seed(Lines {
                        verifier,
                        flaw: &mut *self.flaw,
                    })?,
                    None => drop(map.next_value::<IgnoredAny>()?),
                }
                continue;
            }
            let value = map.next_value()?;
            if self.head.insert(name, value).is_some() {
                return Err(de::Error::custom("a field is given twice"));
            }
        }
        Ok(())
    }
}

struct Lines<'a> {
    verifier: &'a mut Verifier,
    flaw: &'a mut Option<Flaw>,
}

impl<'de> DeserializeSeed<'de> for Lines<'_> {
    type Value = ();
    fn deserialize<D: de::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Lines<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the lines of a statement")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(line) = seq.next_element::<LineDocument>()? {
            if let Err(flaw) = self.verifier.line(&line) {
                *self.flaw = Some(flaw);
                return Err(de::Error::custom("a flaw"));
            }
        }
        Ok(())
    }
}

/// Checks that a statement follows the one before it.
///
/// # Errors
/// It does not: another workspace's, another month, or another history.
pub fn verify_succession(before: &Statement, next: &Statement) -> Result<(), Flaw> {
    let unchained = |reason| {
        Err(Flaw::Unchained {
            month: next.month,
            before: before.month,
            reason,
        })
    };
    if before.workspace != next.workspace {
        return unchained("they are of two workspaces");
    }
    if before.month.next() != next.month {
        return unchained("months between them are missing, or one is given twice");
    }
    if !before.closed {
        return unchained("the month before was still open when its statement was fetched");
    }
    if next.previous != Some(before.digest) {
        return unchained("it names another statement as the one before");
    }
    if next.opening != before.closing {
        return unchained("its lines do not begin where the month before ended");
    }
    let opened = |metric: &Metric| {
        let found = before.metrics.iter().find(|m| m.metric == *metric);
        found.map_or(0, |m| m.closing)
    };
    let carried = next.metrics.iter().all(|m| opened(&m.metric) == m.opening)
        && before
            .metrics
            .iter()
            .all(|m| next.metrics.iter().any(|n| n.metric == m.metric));
    if carried {
        Ok(())
    } else {
        unchained("its opening totals are not the closing ones of the month before")
    }
}
