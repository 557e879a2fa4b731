//! The cache in a real Redis: a server for each test, that is killed, frozen and given old dumps.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::DateTime;
use proptest::prelude::*;
use rawdrive_testkit::contract::usage_cache::{converges, level, workspace};
use rawdrive_usage::{
    CACHE_PATIENCE, LiveRow, LiveUsage, Reading, RedisUrl, RedisUsageCache, UsageCache,
    WorkspaceRows,
};
use server::{RedisServer, start};

rawdrive_testkit::usage_cache_contract!(crate::start);

async fn connected(server: &RedisServer) -> RedisUsageCache {
    let cache = server.cache();
    cache.connect().await.unwrap();
    cache
}

#[tokio::test]
async fn a_period_lasts_for_35_days_from_its_last_publication() {
    let server = start().await;
    let cache = connected(&server).await;
    let rows = [(workspace(1), vec![level(1, 10, 2)])];
    cache.publish(&rows).await.unwrap();
    let key = format!("usage:{{{}}}:1970-01-01T00:00:00Z", workspace(1));
    let ttl = |answer: String| answer.trim().parse::<u32>().unwrap();
    assert_eq!(server.cli(&["KEYS", "*"]), format!("{key}\n"));
    assert_eq!(server.cli(&["HGETALL", &key]), "stored_bytes\n1 10 2\n");
    assert!((3_023_990..=3_024_000).contains(&ttl(server.cli(&["TTL", &key]))));
    // What is not newer keeps the counter alive all the same.
    server.cli(&["EXPIRE", &key, "60"]);
    cache.publish(&rows).await.unwrap();
    assert!(ttl(server.cli(&["TTL", &key])) > 3_000_000);
}

#[tokio::test]
async fn somebody_elses_value_under_a_key_of_ours_gives_way() {
    let server = start().await;
    let cache = connected(&server).await;
    let key = format!("usage:{{{}}}:1970-01-01T00:00:00Z", workspace(1));
    server.cli(&["SET", &key, "1"]);
    cache
        .publish(&[(workspace(1), vec![level(1, 10, 2)])])
        .await
        .unwrap();
    assert_eq!(server.cli(&["HGETALL", &key]), "stored_bytes\n1 10 2\n");
    // Nor is a text that is no counter.
    for text in ["", "x", "9", "9 1", "9007199254740993 1 1", "-9 1 1"] {
        server.cli(&["HSET", &key, "stored_bytes", text]);
        cache
            .fill(workspace(1), &[], &[level(2, 20, 0)])
            .await
            .unwrap();
        let held = cache
            .read(workspace(1), &[level(1, 1, 0).key])
            .await
            .unwrap();
        let is_older = text.starts_with('9') && text.len() < 16;
        assert_eq!(held, (!is_older).then(|| vec![level(2, 20, 0)]), "{text}");
    }
}

#[tokio::test]
async fn an_operator_is_told_of_the_servers_condition() {
    let server = start().await;
    let cache = connected(&server).await;
    let condition = cache.inspect().await.unwrap();
    assert_eq!(condition.eviction.as_deref(), Some("noeviction"));
    assert_eq!(condition.persistent, Some(false));
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    server.cli(&["CONFIG", "SET", "save", "60 1"]);
    let condition = cache.inspect().await.unwrap();
    assert_eq!(condition.eviction.as_deref(), Some("allkeys-lru"));
    assert_eq!(condition.persistent, Some(true));
    server.cli(&["CONFIG", "SET", "save", ""]);
    server.cli(&["CONFIG", "SET", "appendonly", "yes"]);
    assert_eq!(cache.inspect().await.unwrap().persistent, Some(true));
}

#[tokio::test]
async fn a_password_is_sent_and_a_wrong_one_is_an_error_that_does_not_repeat_it() {
    let server = start().await;
    server.cli(&["CONFIG", "SET", "requirepass", "s3cret"]);
    let with = |password: &str| {
        let url = format!("{}?pass={password}", server.url());
        RedisUsageCache::new(RedisUrl::parse(&url).unwrap())
    };
    with("s3cret").connect().await.unwrap();
    let error = with("wr0ng").connect().await.unwrap_err();
    let told = format!("{error} {error:?} {:?}", with("wr0ng"));
    assert!(!told.contains("wr0ng"), "{told}");
}

#[tokio::test]
async fn a_cluster_is_written_to_as_one_server_is() {
    let server = RedisServer::cluster();
    let url = RedisUrl::parse(&format!("redis+cluster://127.0.0.1:{}", server.port())).unwrap();
    let cache = RedisUsageCache::new(url);
    cache.connect().await.unwrap();
    // Workspaces of different slots, and two keys of each in one script.
    let rows: Vec<WorkspaceRows> = (1..50)
        .map(|n| (workspace(n), vec![level(1, 10, 2)]))
        .collect();
    cache.publish(&rows).await.unwrap();
    let other = DateTime::UNIX_EPOCH + chrono::TimeDelta::days(20_000);
    for n in 1..50 {
        let key = level(1, 1, 0).key;
        assert_eq!(
            cache
                .read(workspace(n), std::slice::from_ref(&key))
                .await
                .unwrap(),
            None
        );
        let periods = [DateTime::UNIX_EPOCH, other];
        cache.fill(workspace(n), &periods, &[]).await.unwrap();
        let of_other = rawdrive_usage::QuotaKey {
            period_start: other,
            ..key.clone()
        };
        let held = cache
            .read(workspace(n), &[of_other.clone(), key])
            .await
            .unwrap();
        assert_eq!(
            held,
            Some(vec![LiveRow::untouched(of_other), level(1, 10, 2)])
        );
    }
    cache.cover(other).await.unwrap();
    assert_eq!(cache.covered().await.unwrap(), Some(other));
    assert!(cache.inspect().await.unwrap().eviction.is_some());
    cache
        .forget(workspace(1), &[DateTime::UNIX_EPOCH, other])
        .await
        .unwrap();
    assert_eq!(
        cache
            .read(workspace(1), &[level(1, 1, 0).key])
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn sentinels_lead_to_the_server_that_they_name() {
    let server = RedisServer::on_port();
    let sentinel = RedisServer::sentinel(server.port());
    let url = format!("redis+sentinel://127.0.0.1:{}/mymaster/3", sentinel.port());
    let cache = RedisUsageCache::new(RedisUrl::parse(&url).unwrap());
    cache.connect().await.unwrap();
    cache
        .publish(&[(workspace(1), vec![level(1, 10, 2)])])
        .await
        .unwrap();
    assert_eq!(server.cli(&["-n", "3", "DBSIZE"]), "1\n");
    let unknown = format!("redis+sentinel://127.0.0.1:{}/another", sentinel.port());
    let unknown = RedisUsageCache::new(RedisUrl::parse(&unknown).unwrap());
    assert!(unknown.connect().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_is_waited_for_once() {
    let server = start().await;
    let (live, mut republisher) = server.live();
    republisher.step().await;
    assert!(live.is_live());
    live.publish(workspace(1), vec![level(1, 1, 0)]).await;
    server.freeze();
    let began = Instant::now();
    live.publish(workspace(1), vec![level(2, 2, 0)]).await;
    let first = began.elapsed();
    assert!(first < CACHE_PATIENCE + Duration::from_secs(2), "{first:?}");
    // The writer gives up as the publisher does: which of the two is first, nobody says.
    while live.answers() && began.elapsed() < 20 * CACHE_PATIENCE {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!live.answers());
    let began = Instant::now();
    for version in 3..1000 {
        live.publish(workspace(1), vec![level(version, 2, 0)]).await;
        assert_eq!(
            live.read(workspace(1), &[level(1, 1, 0).key]).await,
            Reading::Unavailable
        );
    }
    let others = began.elapsed();
    // Were it waited for, each would take its patience.
    assert!(others < 10 * CACHE_PATIENCE, "{others:?}");
    // Nor does connecting to it take for ever.
    let began = Instant::now();
    republisher.step().await;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(!live.answers());
    server.thaw();
    republisher.step().await;
    assert!(live.is_live());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_come_at_once_share_few_round_trips() {
    let server = start().await;
    let (live, mut republisher) = server.live();
    republisher.step().await;
    let calls = |server: &RedisServer| -> u64 {
        let stats = server.cli(&["INFO", "commandstats"]);
        let lines = stats
            .lines()
            .filter_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        lines
            .filter_map(|rest| rest.split(',').next()?.parse::<u64>().ok())
            .sum()
    };
    let before = calls(&server);
    let mut commits = tokio::task::JoinSet::new();
    for version in 1..=2_000 {
        let live = live.clone();
        commits.spawn(async move {
            live.publish(workspace(1), vec![level(version, version, 0)])
                .await
        });
    }
    while let Some(ended) = commits.join_next().await {
        ended.unwrap();
    }
    let spent = calls(&server) - before;
    assert!(
        (1..1_000).contains(&spent),
        "{spent} scripts for 2,000 commits"
    );
    let cache = connected(&server).await;
    cache
        .fill(workspace(1), &[DateTime::UNIX_EPOCH], &[])
        .await
        .unwrap();
    let held = cache
        .read(workspace(1), &[level(1, 1, 0).key])
        .await
        .unwrap();
    assert_eq!(held, Some(vec![level(2_000, 2_000, 0)]));
    assert!(live.is_live());
}

#[test]
fn publications_converge_to_the_newest_in_any_order() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(1)
        .build()
        .unwrap();
    let server = runtime.block_on(start());
    let cache: Arc<dyn UsageCache> = Arc::new(runtime.block_on(connected(&server)));
    let versions = prop::collection::vec((any::<bool>(), 1..20_u64), 0..30);
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(200)
    };
    proptest!(config, |(versions in versions)| {
        runtime.block_on(converges(&cache, workspace(9), &versions));
    });
}

/// What is published while the server is being told apart from another is not lost on a clone.
#[tokio::test]
async fn all_clones_are_one() {
    let server = start().await;
    let (live, mut republisher) = server.live();
    let clone: LiveUsage = live.clone();
    republisher.step().await;
    assert!(clone.is_live());
}
