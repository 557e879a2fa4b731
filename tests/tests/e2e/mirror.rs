//! Live usage in Redis: it decides nothing, and whatever happens to it, usage is right again within seconds.
//!
//! What SQL holds is read at `GET /v1/entitlements`, which asks no mirror.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::{Actor, Backend, Redis, Server, image, rounds};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::crash::{swept_within_seconds, until};
use crate::stage::readiness;

const CLIENTS: u64 = 32;
const PHOTO_BYTES: u64 = 1_000;
/// Reached within seconds: from then on every upload needs a deletion first.
const LIMIT_BYTES: u64 = 60_000;
/// How soon after a fault usage is right.
const RIGHT_WITHIN: Duration = Duration::from_secs(5);
const FROZEN_FOR: Duration = Duration::from_secs(10);

fn with(redis: &Redis) -> Server {
    Server::start_with(&[("REDIS_URL", &redis.url())])
}

/// What usage says of a metric, and what SQL does: used and reserved.
async fn both(actor: &Actor, metric: &str) -> ([u64; 2], [u64; 2]) {
    let numbers =
        |of: &Value| ["used", "reserved"].map(|name| of[name].as_u64().expect("a number"));
    let live = numbers(&actor.usage(metric).await);
    let entitlements = actor.get("/v1/entitlements").await.is(200).json();
    let limits = entitlements["limits"].as_array().expect("a list");
    let limit = limits.iter().find(|limit| limit["metric"] == metric);
    (live, numbers(limit.expect("the metric is known")))
}

fn key(actor: &Actor) -> String {
    format!("usage:{{{}}}:1970-01-01T00:00:00Z", actor.workspace_id)
}

/// Waits until Redis itself holds what SQL does, filled by this run of it.
async fn until_redis_holds(redis: &Redis, actor: &Actor, used: u64) {
    until(5, "Redis holds the workspace's usage", async || {
        let held = redis.cli(&["HGET", &key(actor), "storage_bytes"]);
        let info = redis.cli(&["INFO", "server"]);
        let run = info
            .lines()
            .find_map(|line| line.trim().strip_prefix("run_id:"));
        held.ends_with(&format!(" {used} 0"))
            && Some(redis.cli(&["HGET", &key(actor), "@whole"]).as_str()) == run
    })
    .await;
}

/// What clients were told, and how long they waited.
#[derive(Default)]
struct Told {
    stored: AtomicUsize,
    deleted: AtomicUsize,
    refused: AtomicUsize,
    reads: AtomicUsize,
    slowest_read_ms: AtomicU64,
    slowest_write_ms: AtomicU64,
}

struct Load {
    told: Arc<Told>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

fn note(slowest: &AtomicU64, began: Instant) {
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    slowest.fetch_max(millis, Ordering::SeqCst);
}

/// Uploads, and deletes a photo of its own whenever the limit is in the way. Nothing else may happen to it.
async fn consume(
    actor: Actor,
    gallery: String,
    client: u64,
    told: Arc<Told>,
    stop: Arc<AtomicBool>,
) {
    let mut own = Vec::new();
    let mut seed = client << 32;
    while !stop.load(Ordering::SeqCst) {
        seed += 1;
        let bytes = image::jpeg(usize::try_from(PHOTO_BYTES).expect("small"), seed);
        let began = Instant::now();
        let answer = actor.upload(&gallery, bytes, "image/jpeg").await;
        note(&told.slowest_write_ms, began);
        if answer.status == 201 {
            own.push(answer.text("id"));
            told.stored.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        let problem = answer.problem(402, "quota_exceeded");
        assert_eq!(problem["limit"], LIMIT_BYTES);
        told.refused.fetch_add(1, Ordering::SeqCst);
        if let Some(id) = own.pop() {
            let _ = actor.delete(&format!("/v1/photos/{id}")).await.is(204);
            told.deleted.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Reads usage without a pause: it is answered, and never over the limit.
async fn watch(actor: Actor, told: Arc<Told>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::SeqCst) {
        let began = Instant::now();
        let usage = actor.usage("storage_bytes").await;
        note(&told.slowest_read_ms, began);
        told.reads.fetch_add(1, Ordering::SeqCst);
        let sum = usage["used"].as_u64().zip(usage["reserved"].as_u64());
        assert!(
            sum.is_some_and(|(used, reserved)| used + reserved <= LIMIT_BYTES),
            "{usage}"
        );
    }
}

impl Load {
    fn start(actor: &Actor, gallery: &str) -> Self {
        let (told, stop) = (Arc::<Told>::default(), Arc::<AtomicBool>::default());
        let mut clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (actor, gallery) = (actor.clone(), gallery.to_owned());
                tokio::spawn(consume(actor, gallery, client, told.clone(), stop.clone()))
            })
            .collect();
        clients.push(tokio::spawn(watch(
            actor.clone(),
            told.clone(),
            stop.clone(),
        )));
        Self {
            told,
            stop,
            clients,
        }
    }

    /// Waits until so many more photos were stored.
    async fn stores(&self, more: usize) {
        let enough = self.told.stored.load(Ordering::SeqCst) + more;
        until(60, "clients go on storing photos", async || {
            self.told.stored.load(Ordering::SeqCst) >= enough
        })
        .await;
    }

    async fn stop(self) -> Arc<Told> {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await.expect("the client did not panic");
        }
        self.told
    }
}

/// Something happens to Redis while 32 clients consume; when it is over, usage is right within 5 s, what clients
/// were told is what the ledger says, and the mirror is in use again.
async fn survives(name: &str, fault: impl AsyncFn(&Redis, &Load)) {
    let redis = Redis::start();
    let server = with(&redis);
    for round in 0..rounds(2) {
        let ada = server.sign_up("mirror").await;
        let gallery = ada.gallery("Mirror").await;
        server
            .override_limit(&ada, &format!("storage_bytes={LIMIT_BYTES}"))
            .await;
        let load = Load::start(&ada, &gallery);
        load.stores(80).await;
        fault(&redis, &load).await;
        let over = Instant::now();
        load.stores(40).await;
        let told = load.stop().await;
        let right_after = loop {
            let (live, sql) = both(&ada, "storage_bytes").await;
            if live == sql {
                break over.elapsed();
            }
            assert!(
                over.elapsed() < RIGHT_WITHIN,
                "{name}, round {round}: {live:?}, in fact {sql:?}"
            );
        };
        // Right is right: it does not fall back.
        for _ in 0..20 {
            let (live, sql) = both(&ada, "storage_bytes").await;
            assert_eq!(live, sql, "{name}, round {round}");
        }
        let (stored, deleted) = (
            told.stored.load(Ordering::SeqCst),
            told.deleted.load(Ordering::SeqCst),
        );
        let used = (stored - deleted) as u64 * PHOTO_BYTES;
        assert_eq!(
            ada.usage("storage_bytes").await["used"],
            used,
            "{name}, round {round}"
        );
        assert!(used <= LIMIT_BYTES && told.refused.load(Ordering::SeqCst) > 0);
        let lines = ada.list_all("/v1/usage/events", 200).await;
        let quantities = lines
            .iter()
            .filter(|line| line["metric"] == "storage_bytes");
        let quantities: Vec<_> = quantities
            .map(|line| line["quantity"].as_i64().expect("a number"))
            .collect();
        let of = |sign: i64| quantities.iter().filter(|n| n.signum() == sign).count();
        assert_eq!(
            (of(1), of(-1)),
            (stored, deleted),
            "{name}, round {round}: the ledger"
        );
        assert_eq!(
            quantities.iter().sum::<i64>(),
            i64::try_from(used).expect("small")
        );
        until_redis_holds(&redis, &ada, used).await;
        // Whoever is answered reads what they wrote.
        if used + PHOTO_BYTES <= LIMIT_BYTES {
            let _ = ada
                .upload(&gallery, image::jpeg(1_000, 1), "image/jpeg")
                .await
                .is(201);
            assert_eq!(ada.usage("storage_bytes").await["used"], used + PHOTO_BYTES);
        }
        #[expect(
            clippy::print_stdout,
            reason = "figures that a reader of the run wants"
        )]
        {
            println!(
                "{name}, round {round}: {stored} stored, {deleted} deleted, {} refused; right {} ms after it was over; \
                 slowest of {} reads {} ms, slowest upload {} ms",
                told.refused.load(Ordering::SeqCst),
                right_after.as_millis(),
                told.reads.load(Ordering::SeqCst),
                told.slowest_read_ms.load(Ordering::SeqCst),
                told.slowest_write_ms.load(Ordering::SeqCst),
            );
        }
    }
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_changes_nothing() {
    survives("FLUSHALL", async |redis, _| {
        assert_eq!(redis.cli(&["FLUSHALL"]), "OK");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_that_starts_empty_changes_nothing() {
    survives("SIGKILL", async |redis, load| {
        redis.kill9();
        load.stores(40).await;
        redis.forget();
        redis.run();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_redis_changes_nothing() {
    survives("SIGSTOP", async |redis, load| {
        redis.freeze();
        tokio::time::sleep(FROZEN_FOR).await;
        load.stores(1).await;
        redis.thaw();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_starts_from_an_old_dump_changes_nothing() {
    survives("old dump", async |redis, load| {
        redis.save();
        load.stores(80).await;
        redis.kill9();
        redis.run();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_leaves_nothing_stale_behind() {
    let redis = Redis::start();
    let server = with(&redis);
    for round in 0..rounds(2) {
        let ada = server.sign_up("mirror").await;
        let gallery = ada.gallery("Mirror").await;
        let stored = Arc::<AtomicUsize>::default();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (ada, gallery, stored) = (ada.clone(), gallery.clone(), stored.clone());
                tokio::spawn(async move {
                    for seed in 0.. {
                        let bytes = image::jpeg(1_000, client << 32 | seed);
                        let request = ada.upload_request(&gallery, bytes, "image/jpeg");
                        // The server's end is this client's, too.
                        let Ok(_) = ada.try_send(request).await else {
                            return;
                        };
                        stored.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        until(60, "photos are stored", async || {
            stored.load(Ordering::SeqCst) > 40
        })
        .await;
        server.kill9();
        for client in clients {
            client.await.expect("the client did not panic");
        }
        server.restart();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            let (live, sql) = both(&ada, "storage_bytes").await;
            // What broke off is given back meanwhile, so that the second reading may be newer.
            let (again, _) = both(&ada, "storage_bytes").await;
            assert!(
                live == sql || again == sql,
                "round {round}: {live:?}, in fact {sql:?}"
            );
        }
        until(swept_within_seconds(), "nothing is held", async || {
            both(&ada, "storage_bytes").await.1[1] == 0
        })
        .await;
        let (_, sql) = both(&ada, "storage_bytes").await;
        until_redis_holds(&redis, &ada, sql[0]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_down_at_start_is_named_and_taken_when_it_comes() {
    let redis = Redis::stopped();
    let server = with(&redis);
    assert_eq!(
        readiness(&server, "redis").await.as_deref(),
        Some("unavailable")
    );
    let ada = server.sign_up("down").await;
    let gallery = ada.gallery("Down").await;
    let _ = ada
        .upload(&gallery, image::jpeg(1_000, 1), "image/jpeg")
        .await
        .is(201);
    assert_eq!(ada.usage("storage_bytes").await["used"], 1_000);
    redis.run();
    until(5, "Redis is reached", async || {
        readiness(&server, "redis").await.as_deref() == Some("ok")
    })
    .await;
    until_redis_holds(&redis, &ada, 1_000).await;
    // One that forgets is said at start, which for it is now.
    until(5, "the operator is told", async || {
        server.log().contains("Redis keeps nothing on disk")
    })
    .await;
    redis.kill9();
    until(5, "Redis is missed", async || {
        readiness(&server, "redis").await.as_deref() == Some("unavailable")
    })
    .await;
    assert_eq!(ada.usage("storage_bytes").await["used"], 1_000);
    // Without one there is nothing to name.
    let shared = readiness(Server::shared(), "redis").await;
    assert_eq!(shared.is_some(), Backend::chosen().has_redis());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_read_from_redis_and_what_was_never_true_is_corrected() {
    let redis = Redis::start();
    let server = with(&redis);
    let ada = server.sign_up("mirror").await;
    let gallery = ada.gallery("Mirror").await;
    let _ = ada
        .upload(&gallery, image::jpeg(1_000, 1), "image/jpeg")
        .await
        .is(201);
    until_redis_holds(&redis, &ada, 1_000).await;
    // Its first reader fills the flows' period.
    let _ = ada.usage("storage_bytes").await;
    until(5, "a value of Redis is read", async || {
        let _ = redis.cli(&["HSET", &key(&ada), "storage_bytes", "1000000 777 0"]);
        ada.usage("storage_bytes").await["used"] == 777
    })
    .await;
    assert_eq!(
        both(&ada, "storage_bytes").await.1,
        [1_000, 0],
        "and decides nothing"
    );
    until(5, "it is corrected", async || {
        ada.usage("storage_bytes").await["used"] == 1_000
    })
    .await;
    let _ = ada
        .upload(&gallery, image::jpeg(1_000, 2), "image/jpeg")
        .await
        .is(201);
    assert_eq!(ada.usage("storage_bytes").await["used"], 2_000);
    // Nothing of one workspace is under another's key, and the key is its id whole.
    let bob = server.sign_up("bob").await;
    assert_eq!(bob.usage("storage_bytes").await["used"], 0);
    until_redis_holds(&redis, &ada, 2_000).await;
    let keys = redis.cli(&["--scan", "--pattern", "usage:*"]);
    for key in keys.lines() {
        let known = [&ada.workspace_id, &bob.workspace_id].map(|id| format!("usage:{{{id}}}:"));
        assert!(
            known.iter().any(|start| key.starts_with(start)) || key == "usage:{mirror}:covered",
            "{key}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_hears_what_redis_lacks() {
    let redis = Redis::start();
    assert_eq!(
        redis.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]),
        "OK"
    );
    assert_eq!(
        redis.cli(&["CONFIG", "SET", "requirepass", "hunter2secret"]),
        "OK"
    );
    let url = format!("{}?pass=hunter2secret", redis.url());
    let server = Server::start_with(&[("REDIS_URL", &url)]);
    until(5, "the operator is told", async || {
        server.log().contains("maxmemory-policy allkeys-lru")
    })
    .await;
    let report = server.admin(&["doctor", "--json"]).await.succeeded();
    let report: Value = serde_json::from_str(&report.stdout).expect("doctor prints JSON");
    assert_eq!(report["healthy"], true);
    let notes = report["notes"].to_string();
    assert!(notes.contains("maxmemory-policy allkeys-lru"), "{notes}");
    assert!(notes.contains("keeps nothing on disk"), "{notes}");
    redis.kill9();
    let output = server.admin(&["doctor"]).await.succeeded();
    assert!(
        output
            .stdout
            .contains("note: Redis: failed to reach the mirror"),
        "{output:?}"
    );
    assert!(!format!("{output:?}{}", server.log()).contains("hunter2secret"));
}
