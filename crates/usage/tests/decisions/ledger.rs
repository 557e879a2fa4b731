use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_plans::Metric;
use rawdrive_tenancy_core::audit::Change;
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::job::Job;
use rawdrive_tenancy_core::{Actor, SystemReason};
use rawdrive_usage::{
    LedgerBreak, LedgerEntry, LedgerHead, LedgerLine, LineKind, Pending, QuotaKey, extend_ledger,
    follow, line_hash,
};
use serde_json::{Value, json};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_790_000_000 + seconds)
}

fn workspace() -> WorkspaceId {
    "ws_000102030405060708090a0b0c0d0e0f"
        .parse()
        .expect("an id")
}

fn line(quantity: i64) -> (Actor, LedgerLine) {
    let key = QuotaKey::level(Metric::new("bytes"));
    let line = LedgerLine::usage(key, quantity, "doc_1".to_owned(), at(0));
    (Actor::System(SystemReason::JOB), line)
}

fn chain(quantities: &[i64]) -> (Vec<LedgerEntry>, LedgerHead) {
    let lines: Vec<_> = quantities.iter().map(|quantity| line(*quantity)).collect();
    extend_ledger(LedgerHead::default(), workspace(), at(1), &lines)
}

#[test]
fn a_line_hashes_to_what_an_auditor_computes() {
    let (entries, head) = chain(&[5]);
    let hex: String = entries[0]
        .hash
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // SHA-256 of the fourteen fields, each behind its length in eight bytes.
    assert_eq!(
        hex,
        "1934aeb345dade07f3e0b9e1c85741baf8d55dae4f576398d4cf9e59b7e4bbae"
    );
    assert_eq!(head.hash, entries[0].hash);
    let reported = LedgerEntry {
        event_id: Some("evt".to_owned()),
        ..entries[0].clone()
    };
    assert_ne!(line_hash(&[0; 32], workspace(), &reported), entries[0].hash);
}

#[test]
fn lines_are_numbered_and_chained_behind_the_head() {
    let (entries, head) = chain(&[1, -2, 3]);
    let numbers: Vec<_> = entries
        .iter()
        .map(|line| (line.seq, line.quantity))
        .collect();
    assert_eq!(numbers, [(1, 1), (2, -2), (3, 3)]);
    let mut follower = LedgerHead::default();
    for entry in &entries {
        follower = follow(follower, workspace(), entry).unwrap();
    }
    assert_eq!(follower, head);
    assert_eq!((head.seq, head.not_before), (3, Some(at(1))));
    let (none, same) = extend_ledger(head, workspace(), at(9), &[]);
    assert_eq!((none, same), (Vec::new(), head));
}

#[test]
fn a_line_follows_its_head_alone() {
    let (entries, _) = chain(&[1, 2, 3]);
    let first = follow(LedgerHead::default(), workspace(), &entries[0]).unwrap();
    let gap = |expected, found| Err(LedgerBreak::Gap { expected, found });
    assert_eq!(follow(first, workspace(), &entries[2]), gap(2, 3));
    assert_eq!(follow(first, workspace(), &entries[0]), gap(2, 1));
    let moved = LedgerHead {
        hash: [1; 32],
        ..first
    };
    let altered = Err(LedgerBreak::Altered { seq: 2 });
    assert_eq!(follow(moved, workspace(), &entries[1]), altered);
    // Recorded at the very time of the one before is in order; a microsecond earlier is not.
    for (later, ordered) in [(0, true), (1, false)] {
        let head = LedgerHead {
            not_before: Some(entries[1].recorded_at + TimeDelta::microseconds(later)),
            ..first
        };
        let followed = follow(head, workspace(), &entries[1]);
        let unordered = Err(LedgerBreak::Unordered { seq: 2 });
        assert_eq!(followed == unordered, !ordered, "{followed:?}");
    }
}

#[test]
fn kinds_of_lines_have_names() {
    for (kind, name) in [
        (LineKind::Usage, "usage"),
        (LineKind::Correction, "correction"),
        (LineKind::Carry, "carry"),
    ] {
        assert_eq!((kind.as_str(), kind.to_string().as_str()), (name, name));
        assert_eq!(name.parse(), Ok(kind));
    }
    assert!("refund".parse::<LineKind>().is_err());
}

#[test]
fn what_was_collected_since_a_mark_can_be_forgotten() {
    let job = || (Job::named("job", &json!({})).expect("a job"), None);
    let change = || {
        let change = Change {
            action: "note.written",
            subject: "not_1".to_owned(),
            before: Value::Null,
            after: Value::Null,
        };
        (Actor::System(SystemReason::JOB), change)
    };
    let mut pending = Pending::default();
    assert!(pending.is_empty());
    let nothing = pending.mark();
    pending.jobs.push(job());
    assert!(!pending.is_empty());
    pending.changes.extend([change(), change()]);
    pending.lines.extend([line(1), line(2), line(3)]);
    let mark = pending.mark();
    pending.jobs.push(job());
    pending.changes.push(change());
    pending.lines.push(line(4));
    pending.undo(mark);
    let counts = |pending: &Pending| {
        (
            pending.jobs.len(),
            pending.changes.len(),
            pending.lines.len(),
        )
    };
    assert_eq!(counts(&pending), (1, 2, 3));
    pending.undo(nothing);
    assert!(pending.is_empty());
    pending.changes.push(change());
    assert!(!pending.is_empty());
    pending.undo(nothing);
    pending.lines.push(line(1));
    assert!(!pending.is_empty());
}
