//! Servers of one database share one directory of photos: a server that has another one is refused at its start.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use e2e::{Actor, Server, image};
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use tokio::sync::Notify;

pub(crate) const MARK: &str = "rawdrive-blobs.mark";

pub(crate) fn mark_in(blobs: &Path) -> Option<String> {
    let text = fs::read_to_string(blobs.join(MARK)).ok()?;
    text.lines().next().map(str::to_owned)
}

pub(crate) fn url_of(blobs: &Path) -> String {
    format!("file://{}", blobs.display())
}

pub(crate) async fn photo(owner: &Actor) -> String {
    let gallery = owner.gallery("Marked").await;
    let bytes = image::jpeg(3_000, 1);
    owner
        .upload(&gallery, bytes, "image/jpeg")
        .await
        .is(201)
        .text("id")
}

fn refused(server: Result<Server, String>) -> String {
    let log = server.expect_err("a server of other photos is not to be started");
    assert!(log.contains("ended before it was ready"), "{log}");
    log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_with_a_directory_of_its_own_is_refused_with_the_reason() {
    let first = Server::start();
    let blobs = first.data_dir().join("blobs");
    let mark = mark_in(&blobs).expect("the first start marks the directory");
    // Before there is any photo, and after; where there is no directory, an empty one, and another installation's.
    let other = Server::start();
    let others = other.data_dir().join("blobs");
    let another_mark = mark_in(&others).expect("a mark");
    assert_ne!(mark, another_mark);
    let empty = first.scratch("empty");
    fs::create_dir(&empty).expect("failed to make a directory");
    let owner = first.sign_up_on("marked", "professional").await;
    for round in 0..2 {
        for (extra, found) in [
            (vec![], "it carries no mark"),
            (vec![("BLOB_URL", url_of(&empty))], "it carries no mark"),
            (vec![("BLOB_URL", url_of(&others))], another_mark.as_str()),
        ] {
            let extra: Vec<_> = extra.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let log = refused(Server::start_beside(&first, &extra));
            for told in [
                found,
                &mark,
                "RAWDRIVE_DATA_DIR",
                "BLOB_URL",
                "rawdrive blobs adopt",
            ] {
                assert!(log.contains(told), "{told} is not in: {log}");
            }
        }
        if round == 0 {
            let _ = photo(&owner).await;
        }
    }
    assert_eq!(mark_in(&empty), None);
    assert_eq!(mark_in(&others), Some(another_mark));
    first.assert_healthy().await;
    let id = photo(&owner).await;
    let _ = owner.get(&format!("/v1/photos/{id}/content")).await.is(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_of_the_same_directory_starts_and_nothing_is_left_behind() {
    let first = Server::start();
    let blobs = url_of(&first.data_dir().join("blobs"));
    let public_url = first.url();
    let extra = [
        ("BLOB_URL", blobs.as_str()),
        ("RAWDRIVE_PUBLIC_URL", &public_url),
    ];
    let second = Server::start_beside(&first, &extra).expect("it starts");
    let owner = first.sign_up_on("both", "professional").await;
    for turn in 0..6 {
        let id = photo(&owner).await;
        let by = if turn % 2 == 0 { &first } else { &second };
        let api = by.bearer(&owner.token);
        let _ = api.get(&format!("/v1/photos/{id}/content")).await.is(200);
        let _ = api.delete(&format!("/v1/photos/{id}")).await.is(204);
    }
    crate::crash::until(15, "the bytes are gone, whoever deletes them", async || {
        first.files_of(&owner.workspace_id).is_empty()
    })
    .await;
    second.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_that_starts_breaks_off_no_upload_of_the_first() {
    let first = Server::start();
    let owner = first.sign_up_on("amid", "professional").await;
    let gallery = owner.gallery("Amid").await;
    let mut begin = image::jpeg(700_000, 7);
    let end = begin.split_off(400_000);
    let goes_on = Arc::new(Notify::new());
    let waits = goes_on.clone();
    let rest = stream::once(async move {
        waits.notified().await;
        Ok::<_, std::io::Error>(end)
    });
    let body = reqwest::Body::wrap_stream(stream::iter([Ok(begin)]).chain(rest));
    let request = owner.upload_request(&gallery, body, "image/jpeg");
    let api = first.bearer(&owner.token);
    let upload = tokio::spawn(async move { api.send(request).await });
    crate::crash::until(10, "the upload is under way", async || {
        !first.files_of(&owner.workspace_id).is_empty()
    })
    .await;
    let blobs = url_of(&first.data_dir().join("blobs"));
    let second = Server::start_beside(&first, &[("BLOB_URL", &blobs)]).expect("it starts");
    goes_on.notify_one();
    let photo = upload
        .await
        .expect("the upload did not panic")
        .is(201)
        .text("id");
    let _ = owner
        .get(&format!("/v1/photos/{photo}/content"))
        .await
        .is(200);
    second.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_looks_at_other_photos_is_told_and_a_directory_can_be_adopted() {
    let server = Server::start();
    let owner = server.sign_up_on("adopts", "professional").await;
    let id = photo(&owner).await;
    let restored = server.scratch("restored");
    let elsewhere = url_of(&restored);
    let elsewhere = [("BLOB_URL", elsewhere.as_str())];
    fs::create_dir(&restored).expect("failed to make a directory");

    let report = server.admin_with(&elsewhere, &["doctor", "--json"]).await;
    assert_eq!(report.code, Some(1), "{report:#?}");
    let told: Value = serde_json::from_str(&report.stdout).expect("JSON");
    let findings = told["findings"].as_array().expect("a list");
    assert_eq!(findings.len(), 1, "{told:#}");
    assert_eq!(findings[0]["invariant"], "the_blobs_are_the_databases");
    // What needs no photos is done all the same.
    let verified = server.admin_with(&elsewhere, &["audit", "verify"]).await;
    assert_eq!(verified.code, Some(0), "{verified:#?}");
    let migrated = server.admin_with(&elsewhere, &["migrate"]).await;
    assert_eq!(migrated.code, Some(0), "{migrated:#?}");

    // An empty directory is not adopted by mistake.
    let adopt = server.admin_with(&elsewhere, &["blobs", "adopt"]).await;
    assert_eq!(adopt.code, Some(1), "{adopt:#?}");
    assert!(
        adopt
            .stderr
            .contains("of 1 that were looked for 0 are there"),
        "{adopt:#?}"
    );
    assert_eq!(mark_in(&restored), None);

    // A copy of the photos without their mark, as of an older backup.
    owner.rendered(&id).await;
    let from = server.data_dir().join("blobs");
    let of_it = server.files_of(&owner.workspace_id).into_iter();
    for file in of_it.chain(server.renditions_of(&owner.workspace_id)) {
        let within = file.strip_prefix(&from).expect("it lies among the blobs");
        let to = restored.join(within);
        fs::create_dir_all(to.parent().expect("a folder")).expect("failed to make a directory");
        fs::copy(&file, to).expect("failed to copy a photo");
    }
    server.kill9();
    let serve = server.admin_with(&elsewhere, &["serve"]).await;
    assert_eq!(serve.code, Some(1), "{serve:#?}");
    assert!(serve.stderr.contains("rawdrive blobs adopt"), "{serve:#?}");
    let adopt = server.admin_with(&elsewhere, &["blobs", "adopt"]).await;
    assert_eq!(adopt.code, Some(0), "{adopt:#?}");
    assert!(adopt.stdout.contains("1 are there"), "{adopt:#?}");
    assert_eq!(
        mark_in(&restored),
        mark_in(&server.data_dir().join("blobs"))
    );
    let report = server.admin_with(&elsewhere, &["doctor", "--json"]).await;
    assert_eq!(report.code, Some(0), "{report:#?}");
    // And both are right now: which one is served from is the operator's.
    server.restart();
    server.assert_healthy().await;
}
