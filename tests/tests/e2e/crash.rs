//! A server that is killed, and what its clients find afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::{Actor, Api, Backend, Server, image, rounds, sha256, uploads_per_round};
use futures_util::future::{join, join_all};
use reqwest::Method;
use serde_json::json;

const CLIENTS: usize = 16;
/// Of the photos that an earlier round has read, one in so many is read again.
const SAMPLE: usize = 97;
/// How soon after a restart nothing of the broken uploads is left.
///
/// A file's only server knows at its start that what was held is nobody's any more; where several servers work, the
/// lease of a minute says so.
pub(crate) fn swept_within_seconds() -> u32 {
    if Backend::chosen().is_postgres() {
        90
    } else {
        15
    }
}

/// Waits until `done` holds.
pub(crate) async fn until(seconds: u32, what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..seconds * 10 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not within {seconds} s: {what}");
}

fn size_of(upload: usize) -> usize {
    20_000 + upload * 37 % 50_000
}

/// The photos that clients were told are stored: id, digest.
type Stored = Arc<Mutex<BTreeMap<String, String>>>;

/// Uploads the photos numbered `first..first + count` until the server is killed after `kill_after` of them.
/// Returns how many answers were seen.
async fn upload_and_kill(
    server: &Server,
    actor: &Api,
    gallery: &str,
    stored: &Stored,
    (first, count, kill_after): (usize, usize, usize),
) -> usize {
    let (next, seen) = (
        Arc::new(AtomicUsize::new(first)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (actor, gallery, stored) = (actor.clone(), gallery.to_owned(), stored.clone());
            let (next, seen) = (next.clone(), seen.clone());
            tokio::spawn(async move {
                loop {
                    let upload = next.fetch_add(1, Ordering::SeqCst);
                    if upload >= first + count {
                        return;
                    }
                    let bytes = image::jpeg(size_of(upload), upload as u64);
                    let digest = sha256(&bytes);
                    let request = actor.upload_request(&gallery, bytes, "image/jpeg");
                    // A broken connection is what this test is about.
                    let Ok(answer) = actor.try_send(request).await else {
                        continue;
                    };
                    let id = answer.is(201).text("id");
                    stored
                        .lock()
                        .expect("no client panicked")
                        .insert(id, digest);
                    seen.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    until(
        120,
        "enough uploads to kill the server amid them",
        async || seen.load(Ordering::SeqCst) >= kill_after,
    )
    .await;
    server.kill9();
    for client in clients {
        client.await.expect("the client did not panic");
    }
    seen.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_server_acknowledged_is_there_and_nothing_else_is_left() {
    let rounds = rounds(3);
    let uploads = uploads_per_round(334);
    let server = Server::start();
    let ada = server.sign_up_on("crash", "enterprise").await;
    let gallery = ada.gallery("Crash").await;
    let stored: Stored = Arc::default();
    let mut killed_amid = 0;
    // Photos never change, so that each is read once: of what earlier rounds left, a sample.
    let mut read_before = BTreeSet::new();
    let mut attempted = BTreeSet::new();
    let mut api = server.bearer(&ada.token);
    for round in 0..rounds {
        // Early, in the middle, late; at least 16 before the last, so that uploads are under way.
        let kill_after =
            (uploads * (2 * (round % 3) + 1) / 6).clamp(1, uploads.saturating_sub(CLIENTS).max(1));
        let plan = (round * uploads, uploads, kill_after);
        let seen = upload_and_kill(&server, &api, &gallery, &stored, plan).await;
        killed_amid += usize::from(seen < uploads);
        server.restart();
        server.assert_healthy().await;

        // Access tokens last minutes; a long run outlives them.
        let body = json!({ "email": ada.email, "password": Actor::PASSWORD });
        let token = server
            .anonymous()
            .post("/v1/sessions", &body)
            .await
            .is(201)
            .text("access_token");
        api = server.bearer(&token);

        attempted.extend(
            (round * uploads..(round + 1) * uploads)
                .map(|upload| sha256(&image::jpeg(size_of(upload), upload as u64))),
        );
        let acknowledged = stored.lock().expect("no client panicked").clone();
        assert!(acknowledged.len() >= kill_after);
        let rows = api
            .list_all(&format!("/v1/galleries/{gallery}/photos"), 200)
            .await;
        let by_id: BTreeMap<_, _> = rows
            .iter()
            .map(|row| {
                (
                    row["id"].as_str().expect("an id").to_owned(),
                    row["sha256"].as_str().expect("a digest").to_owned(),
                )
            })
            .collect();
        assert_eq!(by_id.len(), rows.len(), "a photo is listed twice");
        for (id, digest) in &acknowledged {
            assert_eq!(
                by_id.get(id),
                Some(digest),
                "round {round}: an acknowledged photo is lost"
            );
        }
        for (i, (id, digest)) in by_id.iter().enumerate() {
            if !read_before.insert(id.clone()) && i % SAMPLE != 0 {
                continue;
            }
            assert!(
                attempted.contains(digest),
                "round {round}: {id} is nobody's upload"
            );
            let content = api.get(&format!("/v1/photos/{id}/content")).await.is(200);
            assert_eq!(
                &sha256(&content.body),
                digest,
                "round {round}: {id} has other bytes"
            );
        }
        let bytes: u64 = rows
            .iter()
            .map(|row| row["size_bytes"].as_u64().expect("a size"))
            .sum();
        until(
            swept_within_seconds(),
            "broken uploads hold nothing and leave no file",
            async || {
                let usage = api.usage("storage_bytes").await;
                usage["reserved"] == 0
                    && usage["used"] == bytes
                    && server.files_of(&ada.workspace_id).len() == rows.len()
            },
        )
        .await;
        let shown = api
            .get(&format!("/v1/galleries/{gallery}"))
            .await
            .is(200)
            .json();
        assert_eq!(shown["photo_count"], rows.len());
        server.assert_healthy().await;
    }
    assert_eq!(
        killed_amid, rounds,
        "a server was killed when all uploads were done"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_amid_a_write_takes_nothing_of_others_along() {
    let server = Server::start();
    let ada = server.sign_up_on("away", "enterprise").await;
    let named = |name: String| json!({ "name": name });
    let mut kept = BTreeSet::new();
    for round in 0..rounds(12) * 10 {
        let leaving = (0..4).map(|n| {
            let (ada, body) = (ada.clone(), named(format!("away-{round}-{n}")));
            let patience = Duration::from_micros(((round * 4 + n) as u64 * 370) % 12_000);
            async move {
                let request = ada.request(Method::POST, "/v1/libraries").json(&body);
                // Not to wait for the answer is the point.
                let _ = tokio::time::timeout(patience, ada.try_send(request)).await;
            }
        });
        let body = named(format!("kept-{round}"));
        let (_, made) = join(join_all(leaving), ada.post("/v1/libraries", &body)).await;
        kept.insert(made.is(201).text("id"));
    }
    server.restart();
    let rows = ada.list_all("/v1/libraries", 200).await;
    let there: BTreeSet<_> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    let lost: Vec<_> = kept
        .iter()
        .filter(|id| !there.contains(id.as_str()))
        .collect();
    assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
    server.assert_healthy().await;
}
