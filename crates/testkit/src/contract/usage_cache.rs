//! What a cache of usage promises, put to every adapter over a server that can be emptied and restarted.

use std::future::Future;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_plans::Metric;
use rawdrive_tenancy_core::id::{TypedId as _, WorkspaceId};
use rawdrive_usage::{CACHE_MAX, LiveRow, QuotaKey, UsageCache, UsageCacheError};

use crate::product;
use crate::usage_cache::MemoryUsageCacheServer;

/// A server of a cache, and the clients of it. Its methods panic where the server cannot do it.
pub trait UsageCacheSubject {
    /// A client of its own, not connected yet.
    fn client(&self) -> Arc<dyn UsageCache>;
    /// The server forgets everything.
    fn empty(&self) -> impl Future<Output = ()>;
    /// The server writes down what it has.
    fn save(&self) -> impl Future<Output = ()>;
    /// The server is killed and starts again, with what was saved last or with nothing.
    fn restart(&self, with_what_was_saved: bool) -> impl Future<Output = ()>;
}

/// The server in memory, with what it saved.
#[derive(Debug, Default)]
pub struct MemorySubject {
    server: MemoryUsageCacheServer,
    saved: std::sync::Mutex<crate::usage_cache::Dump>,
}

impl UsageCacheSubject for MemorySubject {
    fn client(&self) -> Arc<dyn UsageCache> {
        Arc::new(self.server.client())
    }

    async fn empty(&self) {
        self.server.empty();
    }

    async fn save(&self) {
        *self.saved.lock().expect("no test panicked") = self.server.dump();
    }

    async fn restart(&self, with_what_was_saved: bool) {
        let saved = self.saved.lock().expect("no test panicked").clone();
        let found = if with_what_was_saved {
            saved
        } else {
            Default::default()
        };
        self.server.restart(found);
    }
}

/// The same workspace for the same number.
#[must_use]
pub fn workspace(number: u128) -> WorkspaceId {
    WorkspaceId::from_uuid(
        format!("{:032x}", (0x0199 << 112) | number)
            .parse()
            .expect("a UUID"),
    )
}

/// A level of the workspace, at a version.
#[must_use]
pub fn level(version: u64, used: u64, reserved: u64) -> LiveRow {
    LiveRow {
        key: QuotaKey::level(product::BYTES),
        version,
        used,
        reserved,
    }
}

fn flow(version: u64, used: u64) -> LiveRow {
    LiveRow {
        key: QuotaKey {
            metric: product::REPORTS,
            subject: String::new(),
            period_start: period(),
        },
        version,
        used,
        reserved: 0,
    }
}

fn levels() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

fn period() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_790_000_000)
}

async fn connected(subject: &impl UsageCacheSubject) -> Arc<dyn UsageCache> {
    let client = subject.client();
    client.connect().await.expect("the server is there");
    client
}

async fn publish(cache: &Arc<dyn UsageCache>, workspace: WorkspaceId, row: LiveRow) {
    let rows = [(workspace, vec![row])];
    cache.publish(&rows).await.expect("the server is there");
}

async fn read(
    cache: &Arc<dyn UsageCache>,
    workspace: WorkspaceId,
    keys: &[QuotaKey],
) -> Option<Vec<LiveRow>> {
    let read = cache.read(workspace, keys).await;
    read.expect("the server is there")
}

/// Until it has connected a client fails at once.
pub async fn nothing_is_asked_of_it_before_it_is_connected(subject: &impl UsageCacheSubject) {
    let client = subject.client();
    let read = client.read(workspace(1), &[level(1, 1, 0).key]).await;
    assert!(
        matches!(read, Err(UsageCacheError::NotConnected)),
        "{read:?}"
    );
    let published = client
        .publish(&[(workspace(1), vec![level(1, 1, 0)])])
        .await;
    assert!(matches!(published, Err(UsageCacheError::NotConnected)));
    client.connect().await.expect("the server is there");
    assert_eq!(
        self::read(&client, workspace(1), &[level(1, 1, 0).key]).await,
        None
    );
}

/// What arrives late does not undo what is newer, and what arrives twice changes nothing.
pub async fn the_newest_version_stays(subject: &impl UsageCacheSubject) {
    let cache = connected(subject).await;
    let key = level(1, 1, 0).key;
    cache
        .fill(workspace(1), &[], &[level(3, 30, 1)])
        .await
        .expect("it fits");
    for row in [level(1, 10, 0), level(3, 31, 0), level(2, 20, 0)] {
        publish(&cache, workspace(1), row).await;
        assert_eq!(
            read(&cache, workspace(1), std::slice::from_ref(&key)).await,
            Some(vec![level(3, 30, 1)])
        );
    }
    publish(&cache, workspace(1), level(10, 5, 0)).await;
    assert_eq!(
        read(&cache, workspace(1), &[key]).await,
        Some(vec![level(10, 5, 0)])
    );
}

/// A counter that was published says nothing of the others of its period.
pub async fn a_period_is_whole_only_once_it_is_filled(subject: &impl UsageCacheSubject) {
    let cache = connected(subject).await;
    let keys = [flow(1, 1).key, level(1, 1, 0).key];
    publish(&cache, workspace(1), level(1, 10, 0)).await;
    assert_eq!(read(&cache, workspace(1), &keys).await, None);
    cache
        .fill(workspace(1), &[levels()], &[level(1, 10, 0)])
        .await
        .expect("it fits");
    assert_eq!(
        read(&cache, workspace(1), &keys[1..]).await,
        Some(vec![level(1, 10, 0)])
    );
    assert_eq!(
        read(&cache, workspace(1), &keys).await,
        None,
        "one period is not filled"
    );
    cache
        .fill(workspace(1), &[period()], &[])
        .await
        .expect("it fits");
    // In the order of asking, and what is not there was never taken from.
    let untouched = LiveRow::untouched(keys[0].clone());
    assert_eq!(
        read(&cache, workspace(1), &keys).await,
        Some(vec![untouched, level(1, 10, 0)])
    );
    // A fill that was overtaken takes nothing back.
    publish(&cache, workspace(1), flow(2, 2)).await;
    cache
        .fill(workspace(1), &[period()], &[flow(1, 1)])
        .await
        .expect("it fits");
    assert_eq!(
        read(&cache, workspace(1), &keys[..1]).await,
        Some(vec![flow(2, 2)])
    );
}

/// One workspace's counters say nothing of another's, and a subject's are not the workspace's.
pub async fn counters_are_told_apart(subject: &impl UsageCacheSubject) {
    let cache = connected(subject).await;
    let of_subject = LiveRow {
        key: QuotaKey::level_of(product::BYTES, "gal_1"),
        ..level(7, 70, 7)
    };
    let rows = [
        (workspace(1), vec![level(1, 10, 1), of_subject.clone()]),
        (workspace(2), vec![level(2, 20, 2)]),
    ];
    cache.publish(&rows).await.expect("they fit");
    let key = level(1, 1, 0).key;
    cache
        .fill(workspace(1), &[levels()], &[])
        .await
        .expect("it fits");
    assert_eq!(
        read(&cache, workspace(2), std::slice::from_ref(&key)).await,
        None
    );
    cache
        .fill(workspace(2), &[levels()], &[])
        .await
        .expect("it fits");
    assert_eq!(
        read(&cache, workspace(2), std::slice::from_ref(&key)).await,
        Some(vec![level(2, 20, 2)])
    );
    let keys = [key, of_subject.key.clone()];
    assert_eq!(
        read(&cache, workspace(1), &keys).await,
        Some(vec![level(1, 10, 1), of_subject])
    );
}

/// A number that a script could not tell from the next is refused, and its neighbours with it.
pub async fn what_does_not_fit_is_not_written(subject: &impl UsageCacheSubject) {
    let cache = connected(subject).await;
    cache
        .fill(workspace(1), &[levels()], &[level(1, 1, 1)])
        .await
        .expect("it fits");
    let neighbour = LiveRow {
        key: QuotaKey::level(Metric::team_members()),
        ..level(9, 9, 9)
    };
    for unfit in [
        level(CACHE_MAX + 1, 2, 2),
        level(2, CACHE_MAX + 1, 2),
        level(2, 2, CACHE_MAX + 1),
        level(u64::MAX, 2, 2),
    ] {
        let rows = [(workspace(1), vec![neighbour.clone(), unfit])];
        assert!(cache.publish(&rows).await.is_err());
    }
    let keys = [level(1, 1, 1).key, neighbour.key.clone()];
    let untouched = LiveRow::untouched(neighbour.key);
    assert_eq!(
        read(&cache, workspace(1), &keys).await,
        Some(vec![level(1, 1, 1), untouched])
    );
    publish(&cache, workspace(1), level(2, CACHE_MAX, CACHE_MAX)).await;
    assert_eq!(
        read(&cache, workspace(1), &keys[..1]).await,
        Some(vec![level(2, CACHE_MAX, CACHE_MAX)])
    );
}

/// What is forgotten is not whole, and may come back older.
pub async fn what_is_forgotten_is_not_whole(subject: &impl UsageCacheSubject) {
    let cache = connected(subject).await;
    let keys = [level(1, 1, 0).key];
    cache
        .fill(workspace(1), &[levels(), period()], &[level(5, 50, 0)])
        .await
        .expect("it fits");
    cache
        .fill(workspace(2), &[levels()], &[level(6, 60, 0)])
        .await
        .expect("it fits");
    cache
        .forget(workspace(1), &[levels()])
        .await
        .expect("the server is there");
    assert_eq!(read(&cache, workspace(1), &keys).await, None);
    assert!(
        read(&cache, workspace(1), &[flow(1, 1).key])
            .await
            .is_some()
    );
    assert_eq!(
        read(&cache, workspace(2), &keys).await,
        Some(vec![level(6, 60, 0)])
    );
    cache
        .fill(workspace(1), &[levels()], &[level(4, 40, 0)])
        .await
        .expect("it fits");
    assert_eq!(
        read(&cache, workspace(1), &keys).await,
        Some(vec![level(4, 40, 0)])
    );
    cache
        .forget(workspace(1), &[])
        .await
        .expect("nothing is forgotten");
}

/// An emptied cache holds nothing whole and covers nothing, also where single counters have come back.
pub async fn an_emptied_cache_says_so(subject: &impl UsageCacheSubject) {
    let cache = connected(subject).await;
    let keys = [level(1, 1, 0).key];
    let until = period() + TimeDelta::milliseconds(1);
    assert_eq!(cache.covered().await.expect("the server is there"), None);
    cache.cover(until).await.expect("the server is there");
    assert_eq!(
        cache.covered().await.expect("the server is there"),
        Some(until)
    );
    cache
        .fill(workspace(1), &[levels()], &[level(5, 50, 0)])
        .await
        .expect("it fits");
    subject.empty().await;
    assert_eq!(cache.covered().await.expect("the server is there"), None);
    assert_eq!(read(&cache, workspace(1), &keys).await, None);
    publish(&cache, workspace(1), level(6, 60, 0)).await;
    assert_eq!(read(&cache, workspace(1), &keys).await, None);
}

/// After a restart a client has to connect again, and nothing passes for what was published to this run.
pub async fn a_restart_leaves_nothing_whole(subject: &impl UsageCacheSubject) {
    let cache = connected(subject).await;
    let keys = [level(1, 1, 0).key];
    for with_what_was_saved in [true, false] {
        cache
            .fill(workspace(1), &[levels()], &[level(5, 50, 0)])
            .await
            .expect("it fits");
        cache.cover(period()).await.expect("the server is there");
        subject.save().await;
        publish(&cache, workspace(1), level(6, 60, 0)).await;
        subject.restart(with_what_was_saved).await;
        assert!(
            cache.read(workspace(1), &keys).await.is_err(),
            "the connection was another run's"
        );
        cache.connect().await.expect("the server is there again");
        assert_eq!(read(&cache, workspace(1), &keys).await, None);
        assert_eq!(cache.covered().await.expect("the server is there"), None);
        publish(&cache, workspace(1), level(5, 50, 0)).await;
        assert_eq!(read(&cache, workspace(1), &keys).await, None);
        cache
            .fill(workspace(1), &[levels()], &[level(6, 60, 0)])
            .await
            .expect("it fits");
        assert_eq!(
            read(&cache, workspace(1), &keys).await,
            Some(vec![level(6, 60, 0)])
        );
        subject.empty().await;
    }
}

/// Many clients at once, each with its own order: what stays is the newest.
pub async fn concurrent_writers_leave_the_newest(subject: &impl UsageCacheSubject) {
    let first = connected(subject).await;
    first
        .fill(workspace(1), &[levels()], &[])
        .await
        .expect("it fits");
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8_u64 {
        let cache = connected(subject).await;
        writers.spawn(async move {
            // Coprime to 64: a permutation, another one for each.
            for step in 0..64 {
                let version = (step * (2 * writer + 1) + writer * 7) % 64 + 1;
                publish(
                    &cache,
                    workspace(1),
                    level(version, version * 10, 64 - version),
                )
                .await;
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.expect("no writer panicked");
    }
    let held = read(&first, workspace(1), &[level(1, 1, 0).key]).await;
    assert_eq!(held, Some(vec![level(64, 640, 0)]));
}

/// Whatever the order and the duplication of publications, the cache ends with the newest of each counter.
pub async fn converges(
    cache: &Arc<dyn UsageCache>,
    workspace: WorkspaceId,
    versions: &[(bool, u64)],
) {
    cache
        .forget(workspace, &[levels(), period()])
        .await
        .expect("the server is there");
    cache
        .fill(workspace, &[levels(), period()], &[])
        .await
        .expect("it fits");
    let row = |of_flow, version| {
        if of_flow {
            flow(version, version * 3)
        } else {
            level(version, version * 2, version)
        }
    };
    for (of_flow, version) in versions {
        publish(cache, workspace, row(*of_flow, *version)).await;
    }
    let newest = |of_flow: bool| {
        let of = versions
            .iter()
            .filter(|(f, _)| *f == of_flow)
            .map(|(_, version)| *version);
        of.max().map_or_else(
            || LiveRow::untouched(row(of_flow, 0).key),
            |version| row(of_flow, version),
        )
    };
    let keys = [level(1, 1, 0).key, flow(1, 1).key];
    assert_eq!(
        read(cache, workspace, &keys).await,
        Some(vec![newest(false), newest(true)])
    );
}

/// Makes a test of each promise, for a server that a function starts: an `async fn() -> impl UsageCacheSubject` that
/// is named by a path from the crate's root.
#[macro_export]
macro_rules! usage_cache_contract {
    ($start:path) => {
        $crate::usage_cache_contract! { $start =>
            nothing_is_asked_of_it_before_it_is_connected,
            the_newest_version_stays,
            a_period_is_whole_only_once_it_is_filled,
            counters_are_told_apart,
            what_does_not_fit_is_not_written,
            what_is_forgotten_is_not_whole,
            an_emptied_cache_says_so,
            a_restart_leaves_nothing_whole,
            concurrent_writers_leave_the_newest,
        }
    };
    ($start:path => $($name:ident,)+) => {$(
        #[tokio::test]
        async fn $name() {
            let subject = $start().await;
            $crate::contract::usage_cache::$name(&subject).await;
        }
    )+};
}
