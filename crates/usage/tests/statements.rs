//! Statements are whole, and whatever is done to one names the first line that is not what was recorded.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

use std::collections::HashMap;
use std::sync::LazyLock;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use rawdrive_plans::Metric;
use rawdrive_tenancy_core::audit::Hash;
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::page::{Page, PageRequest};
use rawdrive_tenancy_core::{Actor, Env, StoreError};
use rawdrive_usage::{
    Flaw, HeadDocument, LedgerEntry, LedgerHead, LedgerLine, LineDocument, LineFilter, LineKind,
    Month, MonthSums, QuotaKey, Rollups, Statement, UsageRead, extend_ledger, statements,
    verify_statement, verify_succession,
};

fn workspace() -> WorkspaceId {
    Env::system().id()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A ledger and its sums, as a store keeps them.
struct Ledger {
    workspace: WorkspaceId,
    lines: Vec<LedgerEntry>,
    head: LedgerHead,
}

impl Ledger {
    fn new() -> Self {
        Self {
            workspace: workspace(),
            lines: Vec::new(),
            head: LedgerHead::default(),
        }
    }

    fn append(&mut self, now: DateTime<Utc>, lines: &[LedgerLine]) {
        let key: Actor = "key_01890000000070008000000000000001".parse().unwrap();
        let lines: Vec<_> = lines.iter().map(|line| (key, line.clone())).collect();
        let (entries, head) = extend_ledger(self.head, self.workspace, now, &lines);
        self.lines.extend(entries);
        self.head = head;
    }

    fn seal(&mut self, at: DateTime<Utc>) {
        self.head.not_before = self.head.not_before.max(Some(at));
    }

    fn statements(&self, now: DateTime<Utc>) -> Vec<Statement> {
        let read = statements(self, self.workspace, now);
        futures(read).unwrap()
    }

    fn ndjson(&self, statement: &Statement) -> Vec<String> {
        let head = serde_json::to_string(&HeadDocument::from(statement)).unwrap();
        let lines = self.lines_of(statement);
        std::iter::once(head)
            .chain(
                lines
                    .map(|l| serde_json::to_string(&LineDocument::of(l, statement.month)).unwrap()),
            )
            .collect()
    }

    fn json(&self, statement: &Statement) -> String {
        let mut document = serde_json::to_value(HeadDocument::from(statement)).unwrap();
        let lines = self.lines_of(statement);
        document["lines"] = lines
            .map(|l| serde_json::to_value(LineDocument::of(l, statement.month)).unwrap())
            .collect();
        document.to_string()
    }

    fn lines_of(&self, statement: &Statement) -> impl Iterator<Item = &LedgerEntry> {
        let (after, until) = (statement.opening.seq, statement.closing.seq);
        self.lines
            .iter()
            .filter(move |line| after < line.seq && line.seq <= until)
    }
}

/// Everything here is ready at once.
fn futures<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("it waits for nothing"),
    }
}

impl UsageRead for Ledger {
    async fn total_before(&self, _: &Metric, _: DateTime<Utc>) -> Result<i64, StoreError> {
        panic!("statements do not ask for it")
    }
    async fn hours(
        &self,
        _: &Metric,
        _: DateTime<Utc>,
        _: DateTime<Utc>,
    ) -> Result<Vec<(DateTime<Utc>, i64)>, StoreError> {
        panic!("statements do not ask for it")
    }
    async fn months(&self) -> Result<Vec<(Month, Metric, MonthSums)>, StoreError> {
        let months = Rollups::of(&self.lines).months.into_iter();
        Ok(months
            .map(|((m, metric), sums)| (m, metric, sums))
            .collect())
    }
    async fn ledger_head(&self) -> Result<LedgerHead, StoreError> {
        Ok(self.head)
    }
    async fn line_hashes(&self, seqs: &[u64]) -> Result<HashMap<u64, Hash>, StoreError> {
        let lines = self.lines.iter().filter(|l| seqs.contains(&l.seq));
        Ok(lines.map(|l| (l.seq, l.hash)).collect())
    }
    async fn lines(&self, _: u64, _: u64, _: u32) -> Result<Vec<LedgerEntry>, StoreError> {
        panic!("statements do not ask for it")
    }
    async fn find_lines(
        &self,
        _: &LineFilter,
        _: PageRequest,
    ) -> Result<Page<LedgerEntry>, StoreError> {
        panic!("statements do not ask for it")
    }
}

fn line(n: i64, occurred_at: DateTime<Utc>) -> LedgerLine {
    let flow = n % 3 == 0;
    let metric: Metric = if flow { "api_calls" } else { "storage_bytes" }
        .parse()
        .unwrap();
    let key = QuotaKey {
        metric,
        subject: String::new(),
        period_start: if flow {
            at("2026-08-01T00:00:00Z")
        } else {
            DateTime::UNIX_EPOCH
        },
    };
    LedgerLine {
        kind: if n % 7 == 0 {
            LineKind::Correction
        } else {
            LineKind::Usage
        },
        event_id: flow.then(|| format!("e-{n}")),
        ..LedgerLine::usage(key, n - 4, format!("pho_{n}"), occurred_at)
    }
}

/// Three months of lines, some late, and a month between without any.
fn ledger(per_month: i64) -> Ledger {
    let mut ledger = Ledger::new();
    for (n, month) in ["2026-07", "2026-08", "2026-10"].iter().enumerate() {
        for i in 0..per_month {
            let now = at(&format!("{month}-02T00:00:00.25Z")) + TimeDelta::hours(i);
            let late = TimeDelta::days(if i % 5 == 0 { 20 } else { 0 });
            ledger.append(now, &[line(i + n as i64, now - late)]);
        }
    }
    ledger.seal(at("2026-11-01T00:00:00Z"));
    ledger
}

const NOW: &str = "2026-11-24T00:00:00Z";

#[test]
fn months_add_up_and_follow_each_other() {
    let ledger = ledger(30);
    let all = ledger.statements(at(NOW));
    let months: Vec<_> = all.iter().map(|s| s.month.to_string()).collect();
    assert_eq!(
        months,
        ["2026-07", "2026-08", "2026-09", "2026-10", "2026-11"]
    );
    let closed: Vec<_> = all.iter().map(|s| s.closed).collect();
    assert_eq!(closed, [true, true, true, true, false]);
    assert_eq!(all[2].line_count(), 0);
    assert_eq!(all.iter().map(Statement::line_count).sum::<u64>(), 90);
    for statement in &all {
        for totals in &statement.metrics {
            assert_eq!(
                totals.opening + totals.events - totals.corrections,
                totals.closing
            );
        }
        let ndjson = ledger.ndjson(statement).join("\n");
        assert_eq!(verify_statement(ndjson.as_bytes()).as_ref(), Ok(statement));
        let json = ledger.json(statement);
        assert_eq!(verify_statement(json.as_bytes()).as_ref(), Ok(statement));
    }
    let sum: i64 = ledger.lines.iter().map(|l| l.quantity).sum();
    let closing: i64 = all[4].metrics.iter().map(|m| m.closing).sum();
    assert_eq!(closing, sum);
    for pair in all.windows(2) {
        assert_eq!(verify_succession(&pair[0], &pair[1]), Ok(()));
    }
    assert!(verify_succession(&all[0], &all[2]).is_err());
    assert!(verify_succession(&all[1], &all[1]).is_err());
    assert!(verify_succession(&all[1], &all[0]).is_err());
}

#[test]
fn a_closed_statement_is_the_same_whatever_comes_later() {
    let mut ledger = ledger(10);
    let before = ledger.statements(at(NOW));
    ledger.append(
        at("2026-10-03T00:00:00Z"),
        &[line(9, at("2026-07-03T00:00:00Z"))],
    );
    let after = ledger.statements(at("2027-03-01T00:00:00Z"));
    assert_eq!(after[..4], before[..4]);
    assert_eq!(after[4].line_count(), 1);
    assert_eq!(
        after[4].metrics[0].late_lines + after[4].metrics[1].late_lines,
        1
    );
    assert!(!after[5].closed, "nobody has sealed it yet");
}

/// A history that was rewritten as a whole verifies by itself, and does not follow what was issued before.
#[test]
fn a_rewritten_month_does_not_follow_the_one_before() {
    let honest = ledger(10);
    let mut other = ledger(10);
    other.workspace = honest.workspace;
    other.lines.clear();
    other.head = LedgerHead::default();
    for line in &honest.lines {
        let quantity = line.quantity + i64::from(line.seq == 3);
        let copy = LedgerLine {
            kind: line.kind,
            key: line.key.clone(),
            quantity,
            subject: line.subject.clone(),
            occurred_at: line.occurred_at,
            event_id: line.event_id.clone(),
        };
        other.append(line.recorded_at, &[copy]);
    }
    other.seal(at("2026-11-01T00:00:00Z"));
    let (issued, forged) = (honest.statements(at(NOW)), other.statements(at(NOW)));
    let text = other.ndjson(&forged[1]).join("\n");
    assert!(verify_statement(text.as_bytes()).is_ok());
    assert!(verify_succession(&issued[0], &forged[1]).is_err());
}

/// A month's statement as it was issued, and the number of the line before its first: made once, altered in every way.
static ISSUED: LazyLock<(Vec<String>, u64)> = LazyLock::new(|| {
    let ledger = ledger(12);
    let statement = &ledger.statements(at(NOW))[1];
    (ledger.ndjson(statement), statement.opening.seq)
});

/// What may happen to a file, and the line that must be named; 0 is the head.
#[derive(Debug, Clone)]
enum Mutation {
    Byte { line: usize, at: usize, to: u8 },
    Delete(usize),
    Swap(usize, usize),
    Repeat(usize),
    Truncate(usize),
    CutWithin { line: usize, at: usize },
}

fn mutation(lines: usize) -> impl Strategy<Value = Mutation> {
    let any_line = 0..=lines;
    let own = 1..=lines;
    prop_oneof![
        (any_line, any::<usize>(), 0x20_u8..0x7f).prop_map(|(line, at, to)| Mutation::Byte {
            line,
            at,
            to
        }),
        own.clone().prop_map(Mutation::Delete),
        (own.clone(), own.clone()).prop_map(|(a, b)| Mutation::Swap(a, b)),
        own.clone().prop_map(Mutation::Repeat),
        (0..lines).prop_map(Mutation::Truncate),
        (own, any::<usize>()).prop_map(|(line, at)| Mutation::CutWithin { line, at }),
    ]
}

/// The mutated text and the first line that is wrong, or nothing where nothing was changed.
fn mutate(mut text: Vec<String>, mutation: &Mutation) -> Option<(String, usize)> {
    let wrong = match *mutation {
        Mutation::Byte { line, at, to } => {
            let mut bytes = text[line].clone().into_bytes();
            let at = at % bytes.len();
            if bytes[at] == to {
                return None;
            }
            bytes[at] = to;
            text[line] = String::from_utf8(bytes).unwrap();
            line
        }
        Mutation::Delete(line) => {
            text.remove(line);
            line
        }
        Mutation::Swap(a, b) => {
            if a == b {
                return None;
            }
            text.swap(a, b);
            a.min(b)
        }
        Mutation::Repeat(line) => {
            text.insert(line, text[line].clone());
            line + 1
        }
        Mutation::Truncate(keep) => {
            text.truncate(keep + 1);
            keep + 1
        }
        Mutation::CutWithin { line, at } => {
            let at = at % text[line].len();
            text.truncate(line + 1);
            text[line].truncate(at);
            line
        }
    };
    Some((text.join("\n"), wrong))
}

fn named(flaw: &Flaw, opening: u64) -> usize {
    match flaw {
        Flaw::UnreadableHead(_) | Flaw::AlteredHead | Flaw::Totals(_) => 0,
        Flaw::Line { seq, .. } => usize::try_from(seq - opening).unwrap(),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_first_bad_line_is_named(mutation in mutation(12)) {
        let (text, opening) = &*ISSUED;
        if let Some((text, wrong)) = mutate(text.clone(), &mutation) {
            let flaw = verify_statement(text.as_bytes()).expect_err("it was changed");
            prop_assert_eq!(named(&flaw, *opening), wrong, "{}", flaw);
        }
    }

    #[test]
    fn in_one_document_too(mutation in mutation(12)) {
        let (text, opening) = &*ISSUED;
        // As the API writes it: the head opened, a line each, the head closed.
        if let Some((text, wrong)) = mutate(text.clone(), &mutation) {
            let mut lines = text.split('\n');
            let mut head = lines.next().unwrap().to_owned();
            // A head that lost its end is nothing that a document could be made of.
            prop_assume!(head.pop() == Some('}'));
            let lines: Vec<_> = lines.collect();
            let whole = !matches!(mutation, Mutation::CutWithin { .. } | Mutation::Truncate(_));
            let mut document = format!("{head},\"lines\":[\n{}", lines.join(",\n"));
            if whole {
                document.push_str("]}");
            }
            let flaw = verify_statement(document.as_bytes()).expect_err("it was changed");
            prop_assert_eq!(named(&flaw, *opening), wrong, "{}", flaw);
        }
    }
}

#[test]
fn no_member_can_be_left_out_whatever_it_says() {
    let ledger = ledger(5);
    // The first month has none before it, a level no period and what was not reported no event: those say null.
    for statement in &ledger.statements(at(NOW))[..2] {
        let text = ledger.ndjson(statement);
        for (line, whole) in text.iter().enumerate() {
            let document: serde_json::Value = serde_json::from_str(whole).unwrap();
            for name in document.as_object().unwrap().keys() {
                let mut less = document.clone();
                less.as_object_mut().unwrap().remove(name);
                let mut changed = text.clone();
                changed[line] = less.to_string();
                let flaw = verify_statement(changed.join("\n").as_bytes());
                let flaw = flaw.expect_err(&format!("line {line} has no {name}"));
                assert_eq!(named(&flaw, statement.opening.seq), line, "{name}: {flaw}");
            }
        }
    }
}

#[test]
fn fields_may_stand_in_another_order_and_not_twice() {
    let ledger = ledger(5);
    let statement = &ledger.statements(at(NOW))[0];
    let json: serde_json::Value = serde_json::from_str(&ledger.json(statement)).unwrap();
    let (mut first, mut rest) = (String::new(), String::new());
    for (name, value) in json.as_object().unwrap() {
        let target = if name == "lines" {
            &mut first
        } else {
            &mut rest
        };
        target.push_str(&format!(",\n \"{name}\": {value}"));
    }
    let reordered = format!("{{{}{rest}}}\n", &first[1..]);
    assert_eq!(
        verify_statement(reordered.as_bytes()).as_ref(),
        Ok(statement)
    );
    let twice = format!("{{{}{rest}{first}}}", &first[1..]);
    assert!(verify_statement(twice.as_bytes()).is_err());
    let tail = format!("{} {{}}", ledger.json(statement));
    assert!(matches!(
        verify_statement(tail.as_bytes()),
        Err(Flaw::UnreadableHead(_) | Flaw::Tail(_))
    ));
    assert!(verify_statement(b"").is_err());
    assert!(verify_statement(b"{}").is_err());
    assert!(verify_statement(b"[]").is_err());
}
