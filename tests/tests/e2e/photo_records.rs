//! A photo's record: found, sorted, renamed, moved, and deleted together with others.

use e2e::{Actor, Server, image, unknown_id};
use reqwest::Method;
use serde_json::{Value, json};

/// A JPEG that was taken at that time, by Exif.
fn taken_at(time: &str, seed: u64) -> Vec<u8> {
    let tiff = [
        &b"II*\0\x08\0\0\0"[..],
        // A directory of one entry, which leads to Exif's own.
        b"\x01\0\x69\x87\x04\0\x01\0\0\0\x1A\0\0\0\0\0\0\0",
        // That of the time of capture, twenty bytes behind it.
        b"\x01\0\x03\x90\x02\0\x14\0\0\0\x2C\0\0\0\0\0\0\0",
        time.as_bytes(),
        b"\0",
    ]
    .concat();
    let body = [&b"Exif\0\0"[..], &tiff].concat();
    let length = u16::try_from(body.len() + 2).expect("it is short");
    let segment = [&[0xFF, 0xE1], &length.to_be_bytes()[..], &body].concat();
    let plain = image::jpeg(1_000, seed);
    [&plain[..2], &segment, &plain[2..]].concat()
}

async fn upload(actor: &Actor, gallery: &str, name: &str, bytes: Vec<u8>) -> Value {
    let path = format!("/v1/galleries/{gallery}/photos?filename={name}");
    let request = actor
        .request(Method::POST, &path)
        .header("content-type", "image/jpeg")
        .body(bytes);
    actor.send(request).await.is(201).json()
}

/// The names of a list, page by page.
async fn names(actor: &Actor, gallery: &str, query: &str, limit: usize) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/galleries/{gallery}/photos?limit={limit}{query}{cursor}");
        let page = actor.get(&path).await.is(200).json();
        let items = page["items"].as_array().expect("a page has items");
        assert!(items.len() <= limit);
        let names = items.iter().map(|item| item["filename"].as_str());
        found.extend(names.map(|name| name.expect("a name").to_owned()));
        let Some(next) = page["next_cursor"].as_str() else {
            return found;
        };
        cursor = format!("&cursor={next}");
        assert!(found.len() < 1_000, "the list never ends");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn photos_are_found_by_name_and_time_and_sorted_by_either() {
    let server = Server::shared();
    let ada = server.sign_up("sorted").await;
    let gallery = ada.gallery("Sorted").await;
    let table = [
        ("b_2.jpg", Some("2024:05-02")),
        ("A_1.JPG", Some("2024:05-04")),
        ("a_10.jpg", None),
        ("%C3%84rger%20100%25.jpg", Some("2024:05-01")),
        ("a_1.jpg", Some("2024:05-03")),
    ];
    for (seed, (name, day)) in table.into_iter().enumerate() {
        let bytes = match day {
            Some(day) => taken_at(&format!("{} 12:00:00", day.replace('-', ":")), seed as u64),
            None => image::jpeg(1_000, seed as u64),
        };
        let made = upload(&ada, &gallery, name, bytes).await;
        assert_eq!(made["taken_at"].is_string(), day.is_some(), "{made}");
    }
    let uploaded = [
        "b_2.jpg",
        "A_1.JPG",
        "a_10.jpg",
        "Ärger 100%.jpg",
        "a_1.jpg",
    ];
    let by_name = [
        "A_1.JPG",
        "a_1.jpg",
        "a_10.jpg",
        "b_2.jpg",
        "Ärger 100%.jpg",
    ];
    // That without a time of capture stands by when it was uploaded: last.
    let taken = [
        "Ärger 100%.jpg",
        "b_2.jpg",
        "a_1.jpg",
        "A_1.JPG",
        "a_10.jpg",
    ];
    let backwards =
        |names: &[&'static str]| -> Vec<&'static str> { names.iter().rev().copied().collect() };
    for (query, expected) in [
        ("", uploaded.to_vec()),
        ("&sort=created_at", uploaded.to_vec()),
        ("&sort=-created_at", backwards(&uploaded)),
        ("&sort=filename", by_name.to_vec()),
        ("&sort=-filename", backwards(&by_name)),
        ("&sort=taken_at", taken.to_vec()),
        ("&sort=-taken_at", backwards(&taken)),
        ("&filename=A_1", vec!["A_1.JPG", "a_10.jpg", "a_1.jpg"]),
        (
            "&filename=A_1&sort=filename",
            vec!["A_1.JPG", "a_1.jpg", "a_10.jpg"],
        ),
        ("&filename=%C3%84RGER", vec!["Ärger 100%.jpg"]),
        // What means something to a database means itself.
        ("&filename=%25", vec!["Ärger 100%.jpg"]),
        ("&filename=_1.", vec!["A_1.JPG", "a_1.jpg"]),
        ("&filename=%5C", vec![]),
        (
            "&taken_after=2024-05-03T12:00:00Z",
            vec!["A_1.JPG", "a_1.jpg"],
        ),
        (
            "&taken_before=2024-05-03T12:00:00Z",
            vec!["b_2.jpg", "Ärger 100%.jpg"],
        ),
        (
            "&taken_after=2024-05-02T00:00:00%2B02:00&taken_before=2024-05-04T00:00:00Z&sort=-taken_at",
            vec!["a_1.jpg", "b_2.jpg"],
        ),
    ] {
        for limit in [1, 2, 50] {
            assert_eq!(
                names(&ada, &gallery, query, limit).await,
                expected,
                "{query} by {limit}"
            );
        }
    }
    let list = format!("/v1/galleries/{gallery}/photos");
    for (query, field) in [
        ("sort=size", "sort"),
        ("sort=--filename", "sort"),
        ("taken_after=yesterday", "taken_after"),
        (
            "taken_after=2024-05-04T00:00:00Z&taken_before=2024-05-03T00:00:00Z",
            "taken_before",
        ),
        ("filename=", "filename"),
        ("name=x", "name"),
    ] {
        let refused = ada.get(&format!("{list}?{query}")).await;
        let problem = refused.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let page = ada
        .get(&format!("{list}?limit=1&sort=filename"))
        .await
        .is(200);
    let cursor = page.text("next_cursor");
    for other in [
        "",
        "&sort=-filename",
        "&sort=filename&filename=a",
        "&sort=taken_at",
    ] {
        let refused = ada
            .get(&format!("{list}?limit=1{other}&cursor={cursor}"))
            .await;
        refused.problem(400, "invalid_cursor");
    }
    // A page goes on where it was, also when the photo that it ended with is gone.
    let first = page.json()["items"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let _ = ada.delete(&format!("/v1/photos/{first}")).await.is(204);
    let rest = ada
        .get(&format!("{list}?sort=filename&cursor={cursor}"))
        .await
        .is(200);
    assert_eq!(rest.json()["items"][0]["filename"], "a_1.jpg");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_photo_is_renamed_and_moved_in_the_version_that_its_owner_knows() {
    let server = Server::shared();
    let ada = server.sign_up("renamed").await;
    let (from, to) = (ada.gallery("From").await, ada.gallery("To").await);
    let made = upload(&ada, &from, "one.jpg", image::jpeg(2_000, 1)).await;
    let id = made["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1/photos/{id}");
    ada.rendered(&id).await;
    let shown = ada.get(&path).await.is(200);
    let tag = shown.header("etag").to_owned();
    let content = ada.get(&format!("{path}/content")).await.is(200);
    assert_ne!(
        content.header("etag"),
        tag,
        "the bytes have a tag of their own"
    );
    let change = async |tag: &str, body: &Value| {
        let request = ada.request(Method::PATCH, &path).header("if-match", tag);
        ada.send(request.json(body)).await
    };
    let renamed = change(&tag, &json!({ "filename": "two.jpg" }))
        .await
        .is(200);
    let newer = renamed.header("etag").to_owned();
    assert_eq!(renamed.json()["filename"], "two.jpg");
    assert_eq!(renamed.json()["created_at"], made["created_at"]);
    assert_ne!(newer, tag);
    let late = change(&tag, &json!({ "filename": "three.jpg" })).await;
    late.problem(412, "precondition_failed");
    // The same again is no change.
    let same = change(&newer, &json!({ "filename": "two.jpg" }))
        .await
        .is(200);
    assert_eq!(same.header("etag"), newer);
    let moved = change(&newer, &json!({ "gallery_id": to }))
        .await
        .is(200)
        .json();
    assert_eq!(moved["gallery_id"], to.as_str());
    assert_eq!(names(&ada, &from, "", 10).await, [""; 0]);
    assert_eq!(names(&ada, &to, "&filename=TWO", 10).await, ["two.jpg"]);
    for (gallery, count) in [(&from, 0), (&to, 1)] {
        let shown = ada.get(&format!("/v1/galleries/{gallery}")).await.is(200);
        assert_eq!(shown.json()["photo_count"], count);
    }
    assert_eq!(ada.usage("storage_bytes").await["used"], 2_000);
    let again = ada.get(&format!("{path}/content")).await.is(200);
    assert_eq!(again.header("etag"), content.header("etag"));
    assert!(again.header("content-disposition").contains("two.jpg"));

    let eve = server.sign_up("eve").await;
    let hers = eve.gallery("Hers").await;
    for (body, status, code) in [
        (json!({ "gallery_id": hers }), 404, "not_found"),
        (json!({ "gallery_id": unknown_id("gal") }), 404, "not_found"),
        (json!({ "filename": "../x" }), 422, "validation_failed"),
        (json!({ "filename": null }), 422, "validation_failed"),
    ] {
        ada.patch(&path, &body).await.problem(status, code);
    }
    eve.patch(&path, &json!({ "filename": "hers.jpg" }))
        .await
        .problem(404, "not_found");
    let both = ada
        .patch(&path, &json!({ "filename": 5, "gallery": "x" }))
        .await;
    let problem = both.problem(422, "validation_failed");
    assert_eq!(
        problem["errors"].as_array().map(Vec::len),
        Some(2),
        "{problem}"
    );
    let _ = ada.delete(&format!("/v1/galleries/{to}")).await.is(204);
    ada.patch(&path, &json!({ "filename": "x.jpg" }))
        .await
        .problem(404, "not_found");
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_photos_that_are_moved_at_once_as_many_go_as_the_gallery_takes() {
    let server = Server::start();
    let ada = server.sign_up("moved").await;
    server
        .override_limit(&ada, "max_photos_per_gallery=6")
        .await;
    let mut ids = Vec::new();
    let mut galleries = Vec::new();
    for n in 0..3 {
        let gallery = ada.gallery(&format!("From {n}")).await;
        for seed in 0..5 {
            let made = upload(&ada, &gallery, "x.jpg", image::jpeg(1_000, n * 10 + seed)).await;
            ids.push(made["id"].as_str().expect("an id").to_owned());
        }
        galleries.push(gallery);
    }
    let target = ada.gallery("To").await;
    // One by one and in batches, from both ends and towards each other.
    let body = json!({ "gallery_id": target });
    let single = ids[..5].iter().map(|id| {
        let (ada, body, path) = (ada.clone(), body.clone(), format!("/v1/photos/{id}"));
        tokio::spawn(async move { ada.patch(&path, &body).await })
    });
    let batches = [&ids[5..10], &ids[10..]].map(|some| {
        let body = json!({ "photo_ids": some, "gallery_id": target });
        let ada = ada.clone();
        tokio::spawn(async move { ada.post("/v1/photos/move", &body).await })
    });
    let mut moved = 0;
    for task in single.collect::<Vec<_>>() {
        let answer = task.await.expect("it did not panic");
        match answer.status {
            200 => moved += 1,
            _ => {
                let problem = answer.problem(402, "quota_exceeded");
                assert_eq!(
                    (&problem["metric"], &problem["limit"]),
                    (&json!("photos"), &json!(6))
                );
                assert_eq!(problem["subject"], target.as_str());
            }
        }
    }
    for task in batches {
        let answer = task.await.expect("it did not panic").is(200).json();
        let results = answer["results"].as_array().expect("results");
        assert_eq!(results.len(), 5);
        for one in results {
            match one["done"].as_bool() {
                Some(true) => moved += 1,
                _ => {
                    assert_eq!(one["error"]["code"], "quota_exceeded", "{one}");
                    assert_eq!(one["error"]["status"], 402, "{one}");
                }
            }
        }
    }
    assert_eq!(moved, 6);
    let shown = ada.get(&format!("/v1/galleries/{target}")).await.is(200);
    assert_eq!(shown.json()["photo_count"], 6);
    assert_eq!(
        ada.list_all(&format!("/v1/galleries/{target}/photos"), 4)
            .await
            .len(),
        6
    );
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_photo_of_a_batch_is_answered_by_itself() {
    let server = Server::shared();
    let ada = server.sign_up("batch").await;
    let eve = server.sign_up("batch-eve").await;
    let (from, to) = (ada.gallery("From").await, ada.gallery("To").await);
    let hers = eve.gallery("Hers").await;
    let id = |made: Value| made["id"].as_str().expect("an id").to_owned();
    let first = id(upload(&ada, &from, "1.jpg", image::jpeg(1_000, 1)).await);
    let second = id(upload(&ada, &to, "2.jpg", image::jpeg(1_000, 2)).await);
    let foreign = id(upload(&eve, &hers, "3.jpg", image::jpeg(1_000, 3)).await);
    let named = [
        &first,
        &foreign,
        "nonsense",
        &unknown_id("pho"),
        &second,
        &first,
    ];
    let done = |answer: &Value| -> Vec<bool> {
        let results = answer["results"].as_array().expect("results");
        let asked: Vec<_> = results.iter().map(|one| one["id"].as_str()).collect();
        assert_eq!(asked, named.map(Some));
        let of = |one: &Value| match one["done"].as_bool() {
            Some(true) => true,
            _ => {
                assert_eq!(one["error"]["code"], "not_found", "{one}");
                false
            }
        };
        results.iter().map(of).collect()
    };
    let expected = [true, false, false, false, true, true];
    let body = json!({ "photo_ids": named, "gallery_id": to });
    let moved = ada.post("/v1/photos/move", &body).await.is(200).json();
    assert_eq!(done(&moved), expected);
    assert_eq!(
        ada.list_all(&format!("/v1/galleries/{to}/photos"), 10)
            .await
            .len(),
        2
    );

    let delete = || {
        let body = json!({ "photo_ids": named });
        let request = ada.request(Method::POST, "/v1/photos/delete").json(&body);
        ada.send(request.header("idempotency-key", "the-same"))
    };
    let deleted = delete().await.is(200);
    assert_eq!(done(&deleted.json()), expected);
    let again = delete().await.is(200);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.body, deleted.body);
    assert_eq!(ada.usage("storage_bytes").await["used"], 0);
    let _ = eve.get(&format!("/v1/photos/{foreign}")).await.is(200);

    let too_many: Vec<_> = (0..101).map(|_| unknown_id("pho")).collect();
    for (path, body, fields) in [
        ("delete", json!({ "photo_ids": [] }), 1),
        ("delete", json!({ "photo_ids": too_many }), 1),
        ("delete", json!({}), 1),
        ("move", json!({ "photo_ids": [5], "to": "x" }), 3),
    ] {
        let refused = ada.post(&format!("/v1/photos/{path}"), &body).await;
        let problem = refused.problem(422, "validation_failed");
        assert_eq!(
            problem["errors"].as_array().map(Vec::len),
            Some(fields),
            "{problem}"
        );
    }
    let nowhere = json!({ "photo_ids": [first], "gallery_id": hers });
    let refused = ada.post("/v1/photos/move", &nowhere).await;
    refused.problem(404, "not_found");
    server.assert_healthy().await;
}
