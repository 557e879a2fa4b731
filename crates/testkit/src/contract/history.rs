//! The chained ledger, its sums, reported events, corrections and a billing day that moves.

#![expect(
    clippy::unwrap_used,
    reason = "each function is a test, and a failing store is its failure"
)]

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_plans::{Limit, Metric, MetricKind, PlansTx};
use rawdrive_tenancy_core::Commit;
use rawdrive_tenancy_core::id::HoldId;
use rawdrive_tenancy_core::page::PageRequest;
use rawdrive_usage::{
    Charge, CorrectError, Correction, Event, HoldPurpose, LedgerHead, LedgerLine, LineFilter,
    LineKind, Month, Period, QuotaKey, Recorded, Rollups, SealTx, UsageRead, UsageTx, correct,
    follow, hold, hour_of, ingest, move_anchor, settle, statements,
};

use super::{Stage, Subject, begin};

const ALL: PageRequest = PageRequest {
    limit: 200,
    after: None,
};
use crate::product;

fn calls() -> Metric {
    "api_calls".parse().unwrap()
}

async fn append<S: Subject>(stage: &Stage<S>, quantity: i64, occurred_at: DateTime<Utc>) {
    let key = QuotaKey::level(product::BYTES);
    let mut tx = stage.begin().await;
    tx.lock(&key).await.unwrap();
    tx.apply(&key, 0, quantity, Limit::Unlimited).await.unwrap();
    let line = LedgerLine::usage(key, quantity, "pho".to_owned(), occurred_at);
    tx.add_line(line);
    tx.commit().await.unwrap();
}

/// Each line follows the one before it, to the head; the sums are those of the lines.
pub async fn lines_are_chained_and_summed<S: Subject>(stage: &Stage<S>) {
    let start = stage.env().now();
    for n in 1..=7 {
        append(stage, n, start - TimeDelta::hours(n)).await;
        stage.test_env.advance(TimeDelta::days(9));
    }
    let lines = stage.store.ledger(&stage.scope).await;
    let mut at = LedgerHead::default();
    for line in &lines {
        at = follow(at, stage.scope.workspace(), line).unwrap();
    }
    let read = stage.store.read(&stage.scope);
    assert_eq!(read.ledger_head().await.unwrap(), at);
    let right = Rollups::of(&lines);
    let months = read.months().await.unwrap();
    assert!(months.len() >= 2);
    for (month, metric, sums) in months {
        assert_eq!(right.months[&(month, metric)], sums);
    }
    assert_eq!(read.lines(2, 5, 2).await.unwrap(), lines[2..4]);
    assert_eq!(read.lines(2, 3, 9).await.unwrap(), lines[2..3]);
    let hashes = read.line_hashes(&[1, 7, 8]).await.unwrap();
    assert_eq!(hashes.len(), 2);
    assert_eq!(hashes[&7], at.hash);
    assert!(stage.store.discrepancies(&stage.scope).await.is_empty());
    let other = stage.store.read(&stage.other);
    assert_eq!(other.ledger_head().await.unwrap(), LedgerHead::default());
    assert!(other.months().await.unwrap().is_empty());
}

/// A history goes by the time of happening, whenever it was recorded.
pub async fn hours_and_totals_are_those_of_happening<S: Subject>(stage: &Stage<S>) {
    let hour = hour_of(stage.env().now());
    let at = |minutes| hour + TimeDelta::minutes(minutes);
    for (quantity, minutes) in [(5, 0), (7, 59), (-4, 60), (11, -1), (2, 180)] {
        append(stage, quantity, at(minutes)).await;
    }
    let read = stage.store.read(&stage.scope);
    let metric = product::BYTES;
    let hours = read.hours(&metric, hour, at(180)).await.unwrap();
    assert_eq!(hours, [(hour, 12), (at(60), -4)]);
    assert_eq!(read.total_before(&metric, hour).await.unwrap(), 11);
    assert_eq!(read.total_before(&metric, at(240)).await.unwrap(), 21);
    assert_eq!(
        read.total_before(&product::NOTES, at(240)).await.unwrap(),
        0
    );
    let other = stage.store.read(&stage.other);
    assert!(
        other
            .hours(&metric, hour, at(180))
            .await
            .unwrap()
            .is_empty()
    );
}

/// What a statement says of a closed month, it says for ever, even where a clock is behind.
pub async fn a_sealed_month_takes_no_line_any_more<S: Subject>(stage: &Stage<S>) {
    let read = stage.store.read(&stage.scope);
    let workspace = stage.scope.workspace();
    append(stage, 5, stage.env().now()).await;
    let month = Month::containing(stage.env().now());
    // The month is not over here: a server whose clock is ahead has sealed it.
    let mut tx = stage.begin().await;
    tx.seal_ledger(month.end()).await.unwrap();
    tx.seal_ledger(month.start()).await.unwrap();
    tx.commit().await.unwrap();
    let ahead = month.end() + TimeDelta::hours(1);
    let before = statements(&read, workspace, ahead).await.unwrap();
    assert_eq!(
        (before.len(), before[0].closed, before[1].closed),
        (2, true, false)
    );
    append(stage, 7, stage.env().now()).await;
    let after = statements(&read, workspace, ahead).await.unwrap();
    assert_eq!(after[0], before[0]);
    assert_eq!(after[1].previous, Some(before[0].digest));
    assert_eq!(
        (after[1].metrics[0].opening, after[1].metrics[0].closing),
        (5, 12)
    );
    assert_eq!(after[1].metrics[0].late_lines, 1);
    let lines = stage.store.ledger(&stage.scope).await;
    assert_eq!(lines[1].recorded_at, month.end());
}

/// By metric, by kind, by when they happened; newest first, page by page.
pub async fn lines_are_found_by_what_they_are<S: Subject>(stage: &Stage<S>) {
    let start = stage.env().now();
    for n in 0..6 {
        append(stage, n + 1, start + TimeDelta::minutes(n)).await;
    }
    report(stage, &[event("late", 3, start - TimeDelta::days(30))]).await;
    let read = stage.store.read(&stage.scope);
    let found = async |filter: LineFilter| {
        let page = read.find_lines(&filter, ALL).await.unwrap();
        page.items.iter().map(|line| line.seq).collect::<Vec<_>>()
    };
    let any = LineFilter::default;
    assert_eq!(found(any()).await, [7, 6, 5, 4, 3, 2, 1]);
    let metric = Some(calls());
    assert_eq!(found(LineFilter { metric, ..any() }).await, [7]);
    let kind = Some(LineKind::Correction);
    assert!(found(LineFilter { kind, ..any() }).await.is_empty());
    let from = Some(start + TimeDelta::minutes(2));
    let to = Some(start + TimeDelta::minutes(4));
    assert_eq!(found(LineFilter { from, to, ..any() }).await, [4, 3]);
    let to = Some(start);
    assert_eq!(found(LineFilter { to, ..any() }).await, [7]);
    let pages = PageRequest {
        limit: 4,
        after: None,
    };
    let first = read.find_lines(&any(), pages).await.unwrap();
    let next = PageRequest {
        after: first.next,
        ..pages
    };
    let second = read.find_lines(&any(), next).await.unwrap();
    assert_eq!((first.items.len(), second.items.len()), (4, 3));
    assert_eq!(second.next, None);
}

fn event(id: &str, quantity: i64, occurred_at: DateTime<Utc>) -> Event {
    Event {
        id: id.to_owned(),
        metric: calls(),
        kind: MetricKind::Flow,
        quantity,
        occurred_at,
        subject: String::new(),
    }
}

async fn report<S: Subject>(stage: &Stage<S>, events: &[Event]) -> Recorded {
    let mut tx = stage.begin().await;
    let batches = [(stage.scope.actor(), events.to_vec())];
    let recorded = ingest(&mut tx, stage.env(), &batches).await.unwrap();
    tx.commit().await.unwrap();
    recorded.into_iter().next().unwrap()
}

/// In one batch and across batches; in another workspace the id is another.
pub async fn an_event_counts_once_for_ever<S: Subject>(stage: &Stage<S>) {
    let now = stage.env().now();
    let first = report(
        stage,
        &[event("a", 1, now), event("b", 2, now), event("a", 99, now)],
    )
    .await;
    assert_eq!((first.accepted, first.duplicates), (2, 1));
    stage.test_env.advance(TimeDelta::days(400));
    let second = report(stage, &[event("b", 2, now), event("c", 4, now)]).await;
    assert_eq!((second.accepted, second.duplicates), (1, 1));
    let lines = stage.store.ledger(&stage.scope).await;
    let counted: Vec<_> = lines
        .iter()
        .map(|l| (l.event_id.as_deref().unwrap(), l.quantity))
        .collect();
    assert_eq!(counted, [("a", 1), ("b", 2), ("c", 4)]);
    let mut tx = begin(&stage.store, &stage.other).await;
    let batches = [(stage.other.actor(), vec![event("a", 1, now)])];
    let there = ingest(&mut tx, stage.env(), &batches).await.unwrap();
    assert_eq!(there[0].accepted, 1);
    drop(tx);
    // What was rolled back never was.
    let mut tx = stage.begin().await;
    let batches = [(stage.scope.actor(), vec![event("d", 1, now)])];
    let dropped = ingest(&mut tx, stage.env(), &batches).await.unwrap();
    assert_eq!(dropped[0].accepted, 1);
    drop(tx);
    assert_eq!(report(stage, &[event("d", 1, now)]).await.accepted, 1);
    assert!(stage.store.discrepancies(&stage.scope).await.is_empty());
}

/// A level does not fall below zero; the event that would make it may come again.
pub async fn what_is_given_back_may_come_again<S: Subject>(stage: &Stage<S>) {
    let now = stage.env().now();
    let level = |id: &str, quantity| Event {
        metric: "devices".parse().unwrap(),
        kind: MetricKind::Level,
        ..event(id, quantity, now)
    };
    let refused = report(stage, &[level("down", -2), level("up", 1)]).await;
    assert_eq!((refused.accepted, refused.refused.len()), (1, 1));
    assert_eq!(refused.refused[0].1.as_str(), "below_zero");
    // In one batch, the order in which it was told does not matter.
    let both = report(stage, &[level("down", -2), level("more", 5)]).await;
    assert_eq!((both.accepted, both.duplicates), (2, 0));
    let key = QuotaKey::level("devices".parse().unwrap());
    let mut tx = stage.begin().await;
    assert_eq!(tx.quota(&key).await.unwrap().used, 4);
    drop(tx);
    assert!(stage.store.discrepancies(&stage.scope).await.is_empty());
}

/// What happened happened, and counts when it happened.
pub async fn events_count_beyond_a_limit_and_in_their_own_period<S: Subject>(stage: &Stage<S>) {
    let now = stage.env().now();
    stage.limit(calls(), Limit::AtMost(10)).await;
    let long_ago = now - TimeDelta::days(30);
    let (current, earlier) = (
        Period::containing(now, None),
        Period::containing(long_ago, None),
    );
    assert_ne!(current, earlier);
    let recorded = report(
        stage,
        &[
            event("a", 8, now),
            event("b", 7, now),
            event("c", 3, long_ago),
        ],
    )
    .await;
    assert_eq!((recorded.accepted, recorded.refused.len()), (3, 0));
    let mut tx = stage.begin().await;
    let row = tx.quota(&QuotaKey::flow(calls(), current)).await.unwrap();
    // All three thresholds are in an episode.
    assert_eq!((row.used, row.fired), (15, 0b111));
    let row = tx.quota(&QuotaKey::flow(calls(), earlier)).await.unwrap();
    assert_eq!((row.used, row.fired), (3, 0));
    drop(tx);
    assert!(stage.store.discrepancies(&stage.scope).await.is_empty());
}

/// It changes the count, says why in the audit chain, and warns as usage does.
pub async fn a_correction_is_a_line_and_an_entry<S: Subject>(stage: &Stage<S>) {
    append(stage, 50, stage.env().now()).await;
    stage.limit(product::BYTES, Limit::AtMost(100)).await;
    let correction = |quantity| Correction {
        metric: product::BYTES,
        subject: None,
        quantity,
        at: None,
        reason: "counted twice".to_owned(),
    };
    let catalogue = product::catalogue();
    let mut tx = stage.begin().await;
    let made = correct(&mut tx, stage.env(), &catalogue, &correction(35)).await;
    let made = made.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((made.before, made.after), (50, 85));
    let mut tx = stage.begin().await;
    assert_eq!(tx.quota(&made.key).await.unwrap().fired, 0b001);
    let below = correct(&mut tx, stage.env(), &catalogue, &correction(-86)).await;
    assert!(matches!(
        below,
        Err(CorrectError::OutOfRange { used: 85, .. })
    ));
    drop(tx);
    let mut tx = stage.begin().await;
    correct(&mut tx, stage.env(), &catalogue, &correction(-85))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let lines = stage.store.ledger(&stage.scope).await;
    let corrections: Vec<_> = lines
        .iter()
        .filter(|line| line.kind == LineKind::Correction)
        .map(|line| line.quantity)
        .collect();
    assert_eq!(corrections, [35, -85]);
    let (chain, _) = stage.store.audit(&stage.scope).await;
    let corrected = chain.iter().filter(|e| e.action == "usage.corrected");
    assert_eq!(corrected.count(), 2);
    let read = stage.store.read(&stage.scope);
    let (_, _, sums) = read.months().await.unwrap()[0];
    assert_eq!((sums.events, sums.corrections), (50, -50));
    assert!(stage.store.discrepancies(&stage.scope).await.is_empty());
}

async fn analyses<S: Subject>(stage: &Stage<S>, anchor: Option<DateTime<Utc>>) -> (u64, u64, u8) {
    let period = Period::containing(stage.env().now(), anchor);
    let mut tx = stage.begin().await;
    let key = QuotaKey::flow(product::REPORTS, period);
    let row = tx.quota(&key).await.unwrap();
    (row.used, row.reserved, row.fired)
}

async fn take<S: Subject>(stage: &Stage<S>, anchor: Option<DateTime<Utc>>, amount: u64) -> HoldId {
    let period = Period::containing(stage.env().now(), anchor);
    let charge = Charge {
        key: QuotaKey::flow(product::REPORTS, period),
        amount,
    };
    let id = stage.id();
    let mut tx = stage.begin().await;
    hold(
        &mut tx,
        stage.env(),
        id,
        HoldPurpose::new("look"),
        vec![charge],
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    id
}

async fn finish<S: Subject>(stage: &Stage<S>, anchor: Option<DateTime<Utc>>, id: HoldId, n: u64) {
    let period = Period::containing(stage.env().now(), anchor);
    let charge = Charge {
        key: QuotaKey::flow(product::REPORTS, period),
        amount: n,
    };
    let mut tx = stage.begin().await;
    settle(&mut tx, stage.env(), id, &[(charge, "pho".to_owned())])
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

async fn shift<S: Subject>(
    stage: &Stage<S>,
    old: Option<DateTime<Utc>>,
    new: Option<DateTime<Utc>>,
) {
    let mut tx = stage.begin().await;
    tx.entitlements().await.unwrap();
    move_anchor(&mut tx, stage.env(), old, new).await.unwrap();
    tx.commit().await.unwrap();
}

/// Wherever it moves, and however often, as much is used as was; the same usage is not told of twice.
pub async fn an_anchor_that_moves_grants_nothing_anew<S: Subject>(stage: &Stage<S>) {
    stage.limit(product::REPORTS, Limit::AtMost(10)).await;
    let id = take(stage, None, 9).await;
    finish(stage, None, id, 9).await;
    assert_eq!(analyses(stage, None).await, (9, 0, 0b011));
    let jobs = stage.store.due_jobs(&stage.scope).await.len();
    let now = stage.env().now();
    let mut anchor = None;
    for days in [0, 1, 11, 29, 3, 0] {
        let next = Some(now - TimeDelta::days(days));
        shift(stage, anchor, next).await;
        assert_eq!(analyses(stage, next).await, (9, 0, 0b011), "{days}");
        anchor = next;
    }
    shift(stage, anchor, None).await;
    assert_eq!(analyses(stage, None).await, (9, 0, 0b011));
    assert_eq!(stage.store.due_jobs(&stage.scope).await.len(), jobs);
    let lines = stage.store.ledger(&stage.scope).await;
    let carried = lines.iter().filter(|line| line.kind == LineKind::Carry);
    assert_eq!(carried.map(|line| line.quantity).sum::<i64>(), 0);
    assert!(stage.store.discrepancies(&stage.scope).await.is_empty());
}

/// Work under way counts in the period that replaces the one in which it began.
pub async fn what_is_held_moves_with_the_anchor<S: Subject>(stage: &Stage<S>) {
    stage.limit(product::REPORTS, Limit::AtMost(10)).await;
    let id = take(stage, None, 4).await;
    let anchor = Some(stage.env().now());
    shift(stage, None, anchor).await;
    assert_eq!(analyses(stage, None).await, (0, 0, 0));
    assert_eq!(analyses(stage, anchor).await, (0, 4, 0));
    // As whoever began it names it.
    finish(stage, None, id, 3).await;
    assert_eq!(analyses(stage, None).await, (0, 0, 0));
    assert_eq!(analyses(stage, anchor).await, (3, 0, 0));
    assert!(stage.store.discrepancies(&stage.scope).await.is_empty());
}
