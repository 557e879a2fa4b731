//! `rawdrive doctor` beside servers at work: nothing that is right is told, and what is wrong always is.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use e2e::{Actor, Server, image, rounds};
use serde_json::Value;

/// What the doctor says, and whether its exit status agrees.
async fn examine(server: &Server) -> Value {
    let output = server.admin(&["doctor", "--json"]).await;
    let report: Value = serde_json::from_str(&output.stdout)
        .unwrap_or_else(|error| panic!("doctor --json printed no JSON ({error}): {output:#?}"));
    let expected = if report["healthy"] == true { 0 } else { 1 };
    assert_eq!(output.code, Some(expected), "{output:#?}");
    report
}

/// The findings, each as its invariant and its detail.
fn findings(report: &Value) -> Vec<(String, String)> {
    let all = report["findings"].as_array().expect("a list");
    let text = |of: &Value| of.as_str().expect("a text").to_owned();
    let mut all: Vec<_> = all
        .iter()
        .map(|one| (text(&one["invariant"]), text(&one["detail"])))
        .collect();
    all.sort();
    all
}

/// Uploads, deletes and gives up, until it is told to end.
async fn storm(server: &Server, owner: &Actor, number: usize, ends: Arc<AtomicBool>) -> usize {
    let api = server.bearer(&owner.token);
    let mut done = 0;
    while !ends.load(Ordering::SeqCst) {
        let gallery = owner.gallery(&format!("Storm {number} {done}")).await;
        let mut photos = Vec::new();
        for size in [2_000, 150_000, 700_000] {
            let bytes = image::jpeg(size + number * 10, (number * 1_000 + done) as u64);
            photos.push(
                api.upload(&gallery, bytes.clone(), "image/jpeg")
                    .await
                    .is(201)
                    .text("id"),
            );
            // Cut off: refused, and gone again.
            let cut = bytes[..size / 2].to_vec();
            let refused = api.upload(&gallery, cut, "image/jpeg").await;
            assert!((400..500).contains(&refused.status), "{refused:?}");
        }
        let _ = api
            .delete(&format!("/v1/photos/{}", photos[0]))
            .await
            .is(204);
        if done % 2 == 0 {
            // The others in one job.
            let path = format!("/v1/galleries/{gallery}?permanent=true");
            let _ = api.delete(&path).await.is(204);
        }
        done += 1;
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_right_is_told_beside_a_storm_of_uploads_and_deletions() {
    let server = Arc::new(Server::start());
    let owner = Arc::new(server.sign_up_on("storm", "enterprise").await);
    let ends = Arc::new(AtomicBool::new(false));
    let storms: Vec<_> = (0..6)
        .map(|number| {
            let (server, owner, ends) = (server.clone(), owner.clone(), ends.clone());
            tokio::spawn(async move { storm(&server, &owner, number, ends).await })
        })
        .collect();
    let told = AtomicUsize::new(0);
    for _ in 0..rounds(3) * 10 {
        let report = examine(&server).await;
        assert_eq!(findings(&report), [], "{report:#}");
        told.fetch_add(1, Ordering::SeqCst);
    }
    ends.store(true, Ordering::SeqCst);
    let mut done = 0;
    for storm in storms {
        done += storm.await.expect("the storm did not panic");
    }
    assert!(done > 5, "only {done} galleries were made meanwhile");
}

/// Where a workspace's photos lie.
fn photos_of(server: &Server, owner: &Actor) -> PathBuf {
    let path = server
        .data_dir()
        .join("blobs/workspaces")
        .join(&owner.workspace_id)
        .join("photos");
    assert!(path.is_dir(), "{}", path.display());
    path
}

fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("failed to make a folder");
    fs::write(path, text).expect("failed to put a file there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_bytes_is_told_also_beside_uploads() {
    let server = Arc::new(Server::start());
    let owner = Arc::new(server.sign_up_on("hurt", "enterprise").await);
    let gallery = owner.gallery("Hurt").await;
    let mut photos = Vec::new();
    for seed in 0..4 {
        let bytes = image::jpeg(3_000, seed);
        photos.push(
            owner
                .upload(&gallery, bytes, "image/jpeg")
                .await
                .is(201)
                .text("id"),
        );
    }
    let folder = photos_of(&server, &owner);
    assert_eq!(findings(&examine(&server).await), []);

    fs::remove_file(folder.join(&photos[0])).expect("failed to remove a blob");
    put(&folder.join(&photos[1]), "other bytes");
    let unknown = e2e::unknown_id("pho");
    put(&folder.join(&unknown), "nobody's");
    put(&folder.join(format!("{}#1", photos[2])), "half");
    put(&folder.join("notes.txt"), "a stray file");
    put(&server.data_dir().join("blobs/stray"), "a stray file");
    put(
        &server.data_dir().join("blobs/workspaces/ws_1/photos/pho_1"),
        "a stray file",
    );
    let foreign = e2e::unknown_id("ws");
    let elsewhere = format!("blobs/workspaces/{foreign}/photos/{unknown}");
    put(
        &server.data_dir().join(&elsewhere),
        "a workspace's that is not there",
    );

    let ends = Arc::new(AtomicBool::new(false));
    let storms: Vec<_> = (0..3)
        .map(|number| {
            let (server, owner, ends) = (server.clone(), owner.clone(), ends.clone());
            tokio::spawn(async move { storm(&server, &owner, number, ends).await })
        })
        .collect();
    let workspace = &owner.workspace_id;
    let none = "has no photo, no hold and no job";
    let mut expected: Vec<_> = [
        (
            "photos_have_bytes",
            format!("{workspace}: {} has no bytes", photos[0]),
        ),
        (
            "photos_have_bytes",
            format!("{workspace}: {} has 11 bytes instead of 3000", photos[1]),
        ),
        (
            "bytes_have_a_photo",
            format!("{workspace}: {unknown}, 8 bytes, {none}"),
        ),
        (
            "bytes_have_a_photo",
            format!(
                "{workspace}: the beginning of {}, 4 bytes, {none}",
                photos[2]
            ),
        ),
        (
            "bytes_have_a_photo",
            format!("{workspace}: a file of another name (\"notes.txt\"), 12 bytes, {none}"),
        ),
        (
            "bytes_have_a_photo",
            format!("{foreign}: {unknown}, 31 bytes, {none}"),
        ),
        (
            "bytes_have_a_photo",
            "stray lies beside the workspaces' photos".to_owned(),
        ),
        (
            "bytes_have_a_photo",
            "workspaces/ws_1/ lies beside the workspaces' photos".to_owned(),
        ),
    ]
    .map(|(invariant, detail)| (invariant.to_owned(), detail))
    .into();
    expected.sort();
    for _ in 0..5 {
        assert_eq!(findings(&examine(&server).await), expected);
    }
    ends.store(true, Ordering::SeqCst);
    for storm in storms {
        let _ = storm.await.expect("the storm did not panic");
    }
    let told = server.admin(&["doctor"]).await;
    assert_eq!(told.code, Some(1), "{told:#?}");
    assert!(
        told.stdout.contains(&format!(
            "FAILED photos_have_bytes: {workspace}: {} has no bytes",
            photos[0]
        )),
        "{told:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_killed_amid_uploads_leaves_nothing_that_is_told() {
    let server = Arc::new(Server::start());
    let owner = Arc::new(server.sign_up_on("killed", "enterprise").await);
    let gallery = owner.gallery("Killed").await;
    for round in 0..2 {
        let uploads: Vec<_> = (0..12)
            .map(|number| {
                let (api, gallery) = (server.bearer(&owner.token), gallery.clone());
                tokio::spawn(async move {
                    let bytes = image::jpeg(400_000, round * 100 + number);
                    let request = api.upload_request(&gallery, bytes, "image/jpeg");
                    // The broken connection is the point.
                    let _ = api.try_send(request).await;
                })
            })
            .collect();
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        server.kill9();
        for upload in uploads {
            upload.await.expect("the upload did not panic");
        }
        // Beside no server, and beside one that sweeps.
        assert_eq!(findings(&examine(&server).await), []);
        server.restart();
        for _ in 0..3 {
            assert_eq!(findings(&examine(&server).await), []);
        }
    }
}
