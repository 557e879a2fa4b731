//! Smaller copies of photos: when they are there, what is sent of them, and that none is left behind.

use std::fs;

use e2e::{Actor, Server, image, rounds, unknown_id};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::crash::until;

async fn photo(owner: &Actor, gallery: &str, bytes: Vec<u8>, content_type: &str) -> String {
    let answer = owner.upload(gallery, bytes, content_type).await;
    answer.is(201).text("id")
}

fn url(record: &Value, name: &str) -> String {
    let url = &record["renditions"][name]["url"];
    url.as_str().expect("it is ready").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_photo_is_soon_shown_in_two_sizes_that_may_be_kept_for_ever() {
    let server = Server::shared();
    let ada = server.sign_up("sizes").await;
    let gallery = ada.gallery("Sizes").await;
    let made = ada
        .upload(&gallery, image::COFFEE_JPEG, "image/jpeg")
        .await
        .is(201);
    let (id, tag) = (made.text("id"), made.header("etag").to_owned());
    assert_eq!(made.json()["renditions"]["status"], "pending");
    let path = format!("/v1/photos/{id}/renditions/thumb");
    let early = ada.get(&path).await;
    if early.status != 200 {
        early.problem(404, "not_ready");
        assert!(early.header("retry-after").parse::<u32>().is_ok());
    }
    let record = ada.rendered(&id).await;
    assert_eq!(record["renditions"]["status"], "ready");
    let shown = ada.get(&format!("/v1/photos/{id}")).await.is(200);
    assert_ne!(shown.header("etag"), tag, "what is shown has changed");
    for (name, sides) in [("thumb", (400, 267)), ("web", (600, 400))] {
        let rendition = &record["renditions"][name];
        assert_eq!(rendition["width"], sides.0, "{name}");
        assert_eq!(rendition["height"], sides.1, "{name}");
        let kept = ada.get(&url(&record, name)).await.is(200);
        assert_eq!(kept.header("content-type"), "image/jpeg");
        assert_eq!(
            kept.header("cache-control"),
            "private, max-age=31536000, immutable"
        );
        assert!(kept.body.starts_with(&[0xFF, 0xD8]) && kept.body.ends_with(&[0xFF, 0xD9]));
        for metadata in [&b"Exif"[..], b"xmp", b"ICC_PROFILE"] {
            let holds = kept.body.windows(metadata.len()).any(|w| w == metadata);
            assert!(!holds, "{name} holds {}", metadata.escape_ascii());
        }
        let address = format!("/v1/photos/{id}/renditions/{name}");
        for other in [address.clone(), format!("{address}?v=0123456789abcdef")] {
            let asked = ada.get(&other).await.is(200);
            assert_eq!(
                asked.header("cache-control"),
                "private, no-cache",
                "{other}"
            );
            assert_eq!(asked.body, kept.body);
        }
        let again = ada.request(Method::GET, &address);
        let again = again.header("if-none-match", kept.header("etag"));
        assert!(ada.send(again).await.is(304).body.is_empty());
        let part = ada.request(Method::GET, &address);
        let part = ada.send(part.header("range", "bytes=2-9")).await.is(206);
        assert_eq!(part.body, &kept.body[2..10]);
    }
    ada.get(&format!("/v1/photos/{id}/renditions/huge"))
        .await
        .problem(404, "not_found");
    ada.get(&format!("{path}?x=1"))
        .await
        .problem(422, "validation_failed");
    let eve = server.sign_up("eve").await;
    let foreign = eve.get(&path).await;
    let unknown = format!("/v1/photos/{}/renditions/thumb", unknown_id("pho"));
    assert_eq!(foreign.essence(), eve.get(&unknown).await.essence());
    // Nobody asked for these bytes, and nobody pays for them.
    let used = ada.usage("storage_bytes").await;
    assert_eq!(used["used"], image::COFFEE_JPEG.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_photo_says_that_it_cannot_be_shown() {
    let server = Server::shared();
    let ada = server.sign_up("cannot").await;
    let gallery = ada.gallery("Cannot").await;
    let raw = photo(
        &ada,
        &gallery,
        b"II*\0 camera".to_vec(),
        "image/x-nikon-nef",
    )
    .await;
    let damaged = photo(&ada, &gallery, image::damaged_png(), "image/png").await;
    let bomb = photo(&ada, &gallery, image::bomb(65_535, 65_535), "image/png").await;
    let large = image::progressive_jpeg(20_000, 6_100, 3);
    let large = photo(&ada, &gallery, large, "image/jpeg").await;
    for id in [raw, damaged, bomb, large] {
        let record = ada.rendered(&id).await;
        assert_eq!(
            record["renditions"],
            json!({ "status": "unavailable", "thumb": null, "web": null }),
            "{record}"
        );
        let path = format!("/v1/photos/{id}/renditions/web");
        ada.get(&path).await.problem(404, "not_found");
    }
    assert!(server.renditions_of(&ada.workspace_id).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_photos_leave_no_renditions() {
    let server = Server::start();
    let ada = server.sign_up("leave").await;
    let gallery = ada.gallery("Leave").await;
    let mut ids = Vec::new();
    for seed in 0..6 {
        let bytes = image::jpeg(3_000, seed);
        ids.push(photo(&ada, &gallery, bytes, "image/jpeg").await);
    }
    for id in &ids {
        ada.rendered(id).await;
    }
    let left = || server.renditions_of(&ada.workspace_id).len();
    assert_eq!(left(), 12);
    let _ = ada.delete(&format!("/v1/photos/{}", ids[0])).await.is(204);
    let body = json!({ "photo_ids": ids[1..3] });
    let _ = ada.post("/v1/photos/delete", &body).await.is(200);
    until(15, "three photos' renditions are gone", async || {
        left() == 6
    })
    .await;
    // Deleted before they could be made, and amid it.
    for seed in 10..30 {
        let id = photo(&ada, &gallery, image::jpeg(3_000, seed), "image/jpeg").await;
        if seed % 2 == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(seed)).await;
        }
        let _ = ada.delete(&format!("/v1/photos/{id}")).await.is(204);
    }
    until(30, "those of photos that went at once too", async || {
        left() == 6
    })
    .await;
    let path = format!("/v1/galleries/{gallery}?permanent=true");
    let _ = ada.delete(&path).await.is(204);
    until(15, "and a gallery's", async || left() == 0).await;
    until(30, "nothing is under way", async || {
        let report = server.admin(&["doctor", "--json"]).await;
        !report.stdout.contains("is under way")
    })
    .await;
    server.assert_healthy().await;
    assert_eq!(left(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_amid_uploads_makes_every_photos_renditions_in_the_end() {
    let server = Server::start();
    let ada = server.sign_up_on("killed", "enterprise").await;
    let gallery = ada.gallery("Killed").await;
    for round in 0..rounds(3) {
        let uploads = (0..24).map(|n| {
            let seed = (round * 100 + n) as u64;
            let request = ada.upload_request(&gallery, image::jpeg(30_000, seed), "image/jpeg");
            let ada = ada.clone();
            async move {
                let made = ada.try_send(request).await.ok()?;
                let id = (made.status == 201).then(|| made.text("id"))?;
                // Every third is deleted again, while its renditions are made.
                if n % 3 == 0 {
                    let gone = ada.request(Method::DELETE, &format!("/v1/photos/{id}"));
                    let _ = ada.try_send(gone).await;
                }
                Some(id)
            }
        });
        let killing = async {
            tokio::time::sleep(std::time::Duration::from_millis(150 + 120 * round as u64)).await;
            server.kill9();
        };
        let (made, ()) = futures_util::future::join(join_all(uploads), killing).await;
        assert!(
            made.iter().any(Option::is_some),
            "nothing was uploaded in time"
        );
        server.restart();
    }
    let photos = format!("/v1/galleries/{gallery}/photos");
    let rows = ada.list_all(&photos, 200).await;
    assert!(!rows.is_empty());
    for row in &rows {
        let id = row["id"].as_str().expect("an id");
        let record = ada.rendered(id).await;
        assert_eq!(record["renditions"]["status"], "ready", "{record}");
        let _ = ada.get(&url(&record, "web")).await.is(200);
    }
    until(
        crate::crash::swept_within_seconds(),
        "each photo has its two, and nobody else",
        async || server.renditions_of(&ada.workspace_id).len() == 2 * rows.len(),
    )
    .await;
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_is_told_and_made_anew_by_command() {
    let server = Server::start();
    let ada = server.sign_up("anew").await;
    let gallery = ada.gallery("Anew").await;
    let id = photo(&ada, &gallery, image::COFFEE_JPEG.to_vec(), "image/jpeg").await;
    let record = ada.rendered(&id).await;
    let before = ada.get(&url(&record, "web")).await.is(200).body;
    let files = server.renditions_of(&ada.workspace_id);
    let web = files
        .iter()
        .find(|file| file.ends_with(format!("{id}.web")));
    let web = web.expect("there is a file of that name");
    fs::remove_file(web).expect("failed to remove it");
    let stray = web.with_file_name(format!("{}.thumb", unknown_id("pho")));
    fs::write(&stray, "nobody's").expect("failed to put a file there");
    let told = server.admin(&["doctor"]).await;
    assert_eq!(told.code, Some(1), "{told:#?}");
    for expected in [
        format!("renditions/{id}.web has no bytes"),
        format!(
            "renditions/{}.thumb, 8 bytes, has no photo",
            unknown_id("pho")
        ),
    ] {
        assert!(told.stdout.contains(&expected), "{expected}: {told:#?}");
    }
    fs::remove_file(&stray).expect("failed to remove it");

    let workspace = ada.workspace_id.clone();
    let rebuild = ["renditions", "rebuild", "--json", "--workspace", &workspace];
    let missing = [&rebuild[..], &["--missing"]].concat();
    for (arguments, photos) in [(&missing[..], 0), (&rebuild[..], 1)] {
        let said = server.admin(arguments).await;
        let said: Value = serde_json::from_str(&said.stdout).expect("it is JSON");
        assert_eq!(said, json!({ "workspaces": 1, "photos": photos }));
    }
    until(30, "the file is there again", async || web.exists()).await;
    assert_eq!(fs::read(web).expect("it is there"), before);
    let again = ada.rendered(&id).await;
    assert_eq!(again["renditions"], record["renditions"]);
    until(15, "nothing is under way", async || {
        let report = server.admin(&["doctor", "--json"]).await;
        !report.stdout.contains("is under way")
    })
    .await;
    server.assert_healthy().await;
    let nobody = unknown_id("ws");
    let refused = server
        .admin(&["renditions", "rebuild", "--workspace", &nobody])
        .await;
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(refused.stderr.contains(&nobody), "{refused:#?}");
}
