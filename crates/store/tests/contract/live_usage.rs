//! What commits publish, what readers read, and what the republisher finds.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_plans::Limit;
use rawdrive_tenancy_core::{Commit, WorkspaceScope};
use rawdrive_testkit::contract::Stage;
use rawdrive_testkit::usage_cache::{MemoryUsageCacheServer, Mood};
use rawdrive_usage::{
    Charge, LiveRow, LiveSource, LiveUsage, QuotaKey, Republisher, UsageCache, UsageTx,
};

use crate::subject::{Opened, stage};
use crate::support::Engine;

on_every_database! {
    what_a_commit_leaves_is_published_and_what_is_dropped_is_not,
    readers_are_told_the_same_with_the_cache_and_without,
    the_republisher_finds_what_changed_by_workspace_and_time,
    a_lost_publication_is_repeated_by_the_next_round,
}

fn bytes() -> QuotaKey {
    QuotaKey::level(rawdrive_gallery::STORAGE_BYTES)
}

fn row(version: u64, used: u64, reserved: u64) -> LiveRow {
    LiveRow {
        key: bytes(),
        version,
        used,
        reserved,
    }
}

async fn take(stage: &Stage<Opened>, scope: &WorkspaceScope, amount: u64) {
    let mut tx = stage.store.store.begin(scope).await.unwrap();
    let charge = Charge {
        key: bytes(),
        amount,
    };
    assert!(tx.reserve(&charge, Limit::Unlimited).await.unwrap());
    let grown = i64::try_from(amount).unwrap();
    let applied = tx.apply(&bytes(), amount, grown, Limit::Unlimited).await;
    assert!(applied.unwrap().is_some());
    tx.commit().await.unwrap();
}

/// A cache of the stage's store, which is live.
async fn cached(
    stage: &Stage<Opened>,
) -> (MemoryUsageCacheServer, Republisher<rawdrive_store::Store>) {
    let server = MemoryUsageCacheServer::default();
    let live = LiveUsage::new(Arc::new(server.client()));
    stage.store.store.cache_usage_in(live.clone());
    let mut republisher = Republisher::new(live, stage.store.store.clone());
    republisher.step().await;
    (server, republisher)
}

async fn held(server: &MemoryUsageCacheServer, scope: &WorkspaceScope) -> Option<Vec<LiveRow>> {
    let client = server.client();
    client.connect().await.unwrap();
    client.read(scope.workspace(), &[bytes()]).await.unwrap()
}

async fn what_a_commit_leaves_is_published_and_what_is_dropped_is_not(engine: Engine) {
    let stage = stage(engine).await;
    let (server, _republisher) = cached(&stage).await;
    take(&stage, &stage.scope, 10).await;
    assert_eq!(held(&server, &stage.scope).await, Some(vec![row(2, 10, 0)]));
    let mut tx = stage.begin().await;
    let charge = Charge {
        key: bytes(),
        amount: 5,
    };
    assert!(tx.reserve(&charge, Limit::Unlimited).await.unwrap());
    drop(tx);
    assert_eq!(held(&server, &stage.scope).await, Some(vec![row(2, 10, 0)]));
    // A refusal changes nothing.
    let mut tx = stage.begin().await;
    assert!(!tx.reserve(&charge, Limit::AtMost(14)).await.unwrap());
    assert!(tx.reserve(&charge, Limit::AtMost(15)).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(held(&server, &stage.scope).await, Some(vec![row(3, 10, 5)]));
    assert_eq!(held(&server, &stage.other).await, Some(vec![row(0, 0, 0)]));
}

async fn readers_are_told_the_same_with_the_cache_and_without(engine: Engine) {
    let stage = stage(engine).await;
    let flow = QuotaKey {
        metric: rawdrive_gallery::AI_ANALYSIS,
        subject: String::new(),
        period_start: stage.env().now(),
    };
    let keys = [flow.clone(), bytes()];
    let right = vec![LiveRow::untouched(flow), row(2, 10, 0)];
    take(&stage, &stage.scope, 10).await;
    let reader = stage.store.store.read(&stage.scope);
    assert_eq!(
        reader.live_quotas(&keys).await.unwrap(),
        right,
        "there is no cache"
    );
    let (server, _republisher) = cached(&stage).await;
    // The first reader fills the flows' period, beside its answer; the next are told by the cache.
    let filled = async || {
        let client = server.client();
        client.connect().await.unwrap();
        let read = client.read(stage.scope.workspace(), &keys).await;
        read.unwrap().is_some()
    };
    let mut readings = 0;
    while !filled().await {
        assert!(readings < 1000, "the cache is not filled");
        assert_eq!(reader.live_quotas(&keys).await.unwrap(), right);
        tokio::time::sleep(Duration::from_millis(10)).await;
        readings += 1;
    }
    assert_ne!(readings, 0, "nobody but a reader fills it");
    assert_eq!(reader.live_quotas(&keys).await.unwrap(), right);
    server.put(stage.scope.workspace(), row(100, 77, 0));
    assert_eq!(reader.live_quotas(&keys).await.unwrap()[1], row(100, 77, 0));
    server.set_mood(Mood::Away);
    assert_eq!(
        reader.live_quotas(&keys).await.unwrap(),
        right,
        "it does not answer"
    );
}

async fn the_republisher_finds_what_changed_by_workspace_and_time(engine: Engine) {
    let stage = stage(engine).await;
    let store = &stage.store.store;
    let start = LiveSource::now(store);
    take(&stage, &stage.scope, 10).await;
    stage.test_env.advance(TimeDelta::seconds(10));
    let later = LiveSource::now(store);
    take(&stage, &stage.other, 20).await;
    let find = async |since: DateTime<Utc>, after, limit| {
        let found = store
            .changed(since, after, limit)
            .await
            .unwrap()
            .into_iter();
        let found = found.map(|changed| (changed.workspace, changed.rows, changed.versions));
        found.collect::<Vec<_>>()
    };
    let (one, two) = (stage.scope.workspace(), stage.other.workspace());
    assert_eq!(find(later, None, 9).await, [(two, 1, 2)]);
    let mut both = [(one, 1, 2), (two, 1, 2)];
    both.sort_unstable();
    assert_eq!(find(start, None, 9).await, both);
    assert_eq!(find(start, None, 1).await, both[..1]);
    assert_eq!(find(start, Some(both[0].0), 9).await, both[1..]);
    assert_eq!(find(later + TimeDelta::seconds(1), None, 9).await, []);
    assert_eq!(
        store.rows_changed(one, start).await.unwrap(),
        [row(2, 10, 0)]
    );
    assert_eq!(store.rows_changed(one, later).await.unwrap(), []);
    assert_eq!(
        LiveSource::rows(store, two, later).await.unwrap(),
        [row(2, 20, 0)]
    );
    assert_eq!(
        store.workspaces(None, 9).await.unwrap(),
        [both[0].0, both[1].0]
    );
    assert_eq!(
        store.workspaces(Some(both[0].0), 9).await.unwrap(),
        [both[1].0]
    );
}

async fn a_lost_publication_is_repeated_by_the_next_round(engine: Engine) {
    let stage = stage(engine).await;
    let (server, mut republisher) = cached(&stage).await;
    server.lose(1);
    take(&stage, &stage.scope, 10).await;
    assert_eq!(held(&server, &stage.scope).await, Some(vec![row(0, 0, 0)]));
    let reader = stage.store.store.read(&stage.scope);
    assert_eq!(
        reader.live_quotas(&[bytes()]).await.unwrap(),
        [row(2, 10, 0)]
    );
    republisher.step().await;
    assert_eq!(held(&server, &stage.scope).await, Some(vec![row(2, 10, 0)]));
}
