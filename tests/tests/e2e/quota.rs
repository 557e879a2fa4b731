//! Hard limits under races.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use e2e::{Actor, Answer, Server, image, rounds};
use futures_util::future::join_all;
use serde_json::json;

const MEBIBYTE: u64 = 1_048_576;
const PHOTO_BYTES: usize = 100_000;

/// `count` uploads at once, each of other bytes.
async fn upload_at_once(
    actor: &Actor,
    gallery: &str,
    count: u64,
    size_bytes: usize,
) -> Vec<Answer> {
    let requests = (0..count).map(|seed| {
        let (actor, gallery) = (actor.clone(), gallery.to_owned());
        tokio::spawn(async move {
            actor
                .upload(&gallery, image::jpeg(size_bytes, seed), "image/jpeg")
                .await
        })
    });
    join_all(requests)
        .await
        .into_iter()
        .map(|answer| answer.expect("the upload's task did not panic"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_as_many_photos_as_fit_are_stored_however_many_come_at_once() {
    let server = Server::shared();
    for round in 0..rounds(5) {
        let ada = server.sign_up("storage").await;
        let gallery = ada.gallery("Race").await;
        server.override_limit(&ada, "storage_bytes=1048576").await;
        let answers = upload_at_once(&ada, &gallery, 200, PHOTO_BYTES).await;
        let (stored, refused): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.status == 201);
        assert_eq!((stored.len(), refused.len()), (10, 190), "round {round}");
        for answer in &refused {
            let problem = answer.problem(402, "quota_exceeded");
            assert_eq!(problem["metric"], "storage_bytes");
            assert_eq!(problem["requested"], PHOTO_BYTES);
            assert_eq!(problem["limit"], MEBIBYTE);
            assert_eq!(problem["current"], 1_000_000);
        }
        let usage = ada.usage("storage_bytes").await;
        assert_eq!(usage["used"], 1_000_000, "round {round}");
        assert_eq!(usage["reserved"], 0);
        assert_eq!(usage["limit"], MEBIBYTE);
        assert_eq!(usage["level"], "warning_90");
        let percent = usage["percent"].as_f64().expect("a percentage");
        assert!((95.0..95.4).contains(&percent), "{usage}");
        assert_eq!(
            server.mails_to(&ada.email, 2).await,
            ["80 % of storage_bytes", "90 % of storage_bytes"],
            "each crossing is told once"
        );
        assert_eq!(
            ada.list_all(&format!("/v1/galleries/{gallery}/photos"), 4)
                .await
                .len(),
            10
        );
        assert_eq!(
            server.files_of(&ada.workspace_id).len(),
            10,
            "a refused upload left bytes"
        );

        // Room that is given back can be taken again, once.
        let _ = ada
            .delete(&format!("/v1/photos/{}", stored[0].text("id")))
            .await
            .is(204);
        let answers = upload_at_once(&ada, &gallery, 8, PHOTO_BYTES).await;
        let again = answers.iter().filter(|answer| answer.status == 201).count();
        assert_eq!(again, 1, "round {round}");
        assert_eq!(ada.usage("storage_bytes").await["used"], 1_000_000);
    }
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gallery_takes_exactly_its_photos_however_many_come_at_once() {
    let server = Server::shared();
    for round in 0..rounds(5) {
        let ada = server.sign_up("photos").await;
        let gallery = ada.gallery("Race").await;
        server
            .override_limit(&ada, "max_photos_per_gallery=10")
            .await;
        let answers = upload_at_once(&ada, &gallery, 200, 1_000).await;
        let (stored, refused): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.status == 201);
        assert_eq!((stored.len(), refused.len()), (10, 190), "round {round}");
        for answer in &refused {
            let problem = answer.problem(402, "quota_exceeded");
            assert_eq!(problem["metric"], "photos");
            assert_eq!(problem["requested"], 1);
            assert_eq!(problem["limit"], 10);
            assert_eq!(problem["current"], 10);
        }
        let shown = ada
            .get(&format!("/v1/galleries/{gallery}"))
            .await
            .is(200)
            .json();
        assert_eq!(
            (&shown["photo_count"], &shown["photo_limit"]),
            (&json!(10), &json!(10))
        );
        let usage = ada.usage("storage_bytes").await;
        assert_eq!(
            (&usage["used"], &usage["reserved"]),
            (&json!(10_000), &json!(0))
        );
        // The limit is one gallery's, not the workspace's.
        let other = ada.gallery("Other").await;
        let _ = ada
            .upload(&other, image::jpeg(1_000, 1), "image/jpeg")
            .await
            .is(201);
    }
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_nothing_is_a_quota_and_not_a_feature() {
    let server = Server::shared();
    let ada = server.sign_up("nothing").await;
    let gallery = ada.gallery("Nothing").await;
    server.override_limit(&ada, "storage_bytes=0").await;
    let refused = ada
        .upload(&gallery, image::jpeg(1_000, 1), "image/jpeg")
        .await;
    let problem = refused.problem(402, "quota_exceeded");
    assert_eq!(
        (&problem["limit"], &problem["current"]),
        (&json!(0), &json!(0))
    );
    assert!(ada.usage("storage_bytes").await["percent"].is_null());
}

/// Eight clients upload without a pause; after `before` photos the limit falls to a mebibyte. Returns how
/// many were stored in all, and the statuses of those that began after the operator's command had ended.
async fn lower_the_limit_under_load(server: &Server, before: usize) -> (Actor, usize, Vec<u16>) {
    let ada = server.sign_up_on("downgrade", "professional").await;
    let gallery = ada.gallery("Downgrade").await;
    let (stored, lowered) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let clients: Vec<_> = (0..8_u64)
        .map(|client| {
            let (ada, gallery) = (ada.clone(), gallery.clone());
            let (stored, lowered) = (stored.clone(), lowered.clone());
            tokio::spawn(async move {
                let mut late = Vec::new();
                for seed in 0..2_000 {
                    let began_late = lowered.load(Ordering::SeqCst);
                    let bytes = image::jpeg(PHOTO_BYTES, client << 32 | seed);
                    let answer = ada.upload(&gallery, bytes, "image/jpeg").await;
                    match answer.status {
                        201 => {
                            stored.fetch_add(1, Ordering::SeqCst);
                        }
                        _ => {
                            answer.problem(402, "quota_exceeded");
                        }
                    }
                    if began_late {
                        late.push(answer.status);
                    }
                    if late.len() == 5 {
                        break;
                    }
                }
                late
            })
        })
        .collect();
    for _ in 0..6_000 {
        if stored.load(Ordering::SeqCst) >= before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(
        stored.load(Ordering::SeqCst) >= before,
        "the uploads never got going"
    );
    server.override_limit(&ada, "storage_bytes=1048576").await;
    lowered.store(true, Ordering::SeqCst);
    let mut late = Vec::new();
    for client in clients {
        late.extend(client.await.expect("the client did not panic"));
    }
    let stored = stored.load(Ordering::SeqCst);
    (ada, stored, late)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_upload_passes_a_limit_that_fell_below_what_is_used() {
    let server = Server::shared();
    for _ in 0..rounds(3) {
        let (ada, stored, late) = lower_the_limit_under_load(server, 15).await;
        assert_eq!(late, vec![402; 40]);
        let usage = ada.usage("storage_bytes").await;
        assert_eq!(usage["used"], stored * PHOTO_BYTES);
        assert_eq!(usage["reserved"], 0);
        assert_eq!(usage["level"], "over");
        // Over the limit one still reads and deletes.
        let photos = ada.list_all("/v1/galleries", 50).await;
        assert_eq!(photos[0]["photo_count"], stored);
    }
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_lowered_amid_uploads_is_never_passed_by_a_later_one() {
    let server = Server::shared();
    for _ in 0..rounds(3) {
        let (ada, stored, late) = lower_the_limit_under_load(server, 2).await;
        assert_eq!(late.len(), 40);
        assert!(
            late.contains(&402),
            "40 photos of 100 kB cannot all fit into a mebibyte"
        );
        let usage = ada.usage("storage_bytes").await;
        assert_eq!(usage["used"], stored * PHOTO_BYTES);
        assert_eq!(usage["reserved"], 0);
        if late.contains(&201) {
            assert!(stored <= 10, "{stored} photos, of which some came late");
        }
    }
}
