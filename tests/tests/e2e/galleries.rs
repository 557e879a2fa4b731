//! Libraries and galleries: what holds what, and what a deletion frees.

use e2e::{Server, image};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_library_goes_only_when_it_is_empty() {
    let server = Server::shared();
    let ada = server.sign_up("libraries").await;
    let library = ada.library("Weddings").await;
    let path = format!("/v1/libraries/{library}");
    let gallery = ada.gallery_in(&library, "One").await;
    ada.delete(&path).await.problem(409, "not_empty");
    let _ = ada.get(&path).await.is(200);
    let _ = ada
        .delete(&format!("/v1/galleries/{gallery}?permanent=true"))
        .await
        .is(204);
    let _ = ada.delete(&path).await.is(204);
    ada.get(&path).await.problem(404, "not_found");
    ada.delete(&path).await.problem(404, "not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_gallery_counts_until_it_is_deleted_for_good() {
    let server = Server::shared();
    let ada = server.sign_up("galleries").await;
    let gallery = ada.gallery("Wedding").await;
    let path = format!("/v1/galleries/{gallery}");
    let mut photos = Vec::new();
    for seed in 0..3 {
        let answer = ada
            .upload(&gallery, image::jpeg(10_000, seed), "image/jpeg")
            .await
            .is(201);
        photos.push(answer.text("id"));
    }
    let shown = ada.get(&path).await.is(200).json();
    assert_eq!(shown["photo_count"], 3);
    assert_eq!(shown["photo_limit"], 100);
    assert_eq!(shown["download"], "original");
    assert_eq!(server.files_of(&ada.workspace_id).len(), 3);

    let _ = ada.delete(&path).await.is(204);
    ada.get(&format!("/v1/photos/{}", photos[0]))
        .await
        .problem(404, "not_found");
    let upload = ada
        .upload(&gallery, image::jpeg(10_000, 9), "image/jpeg")
        .await;
    upload.problem(404, "not_found");
    assert!(ada.list_all("/v1/galleries", 50).await.is_empty());
    assert_eq!(ada.usage("storage_bytes").await["used"], 30_000);

    let _ = ada
        .post(&format!("{path}/restore"), &json!({}))
        .await
        .succeeded();
    assert_eq!(ada.get(&path).await.is(200).json()["photo_count"], 3);
    let _ = ada
        .get(&format!("/v1/photos/{}/content", photos[0]))
        .await
        .is(200);
    assert_eq!(ada.usage("storage_bytes").await["used"], 30_000);

    let _ = ada.delete(&format!("{path}?permanent=true")).await.is(204);
    let usage = ada.usage("storage_bytes").await;
    assert_eq!((&usage["used"], &usage["reserved"]), (&json!(0), &json!(0)));
    ada.post(&format!("{path}/restore"), &json!({}))
        .await
        .problem(404, "not_found");
    for photo in &photos {
        ada.get(&format!("/v1/photos/{photo}"))
            .await
            .problem(404, "not_found");
    }
    crate::crash::until(
        15,
        "the files of a gallery deleted for good are gone",
        async || server.files_of(&ada.workspace_id).is_empty(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gallery_needs_a_library_and_a_known_kind_of_download() {
    let server = Server::shared();
    let ada = server.sign_up("kinds").await;
    let library = ada.library("Weddings").await;
    for download in ["none", "web", "original"] {
        let body = json!({ "library_id": library, "name": download, "download": download });
        let made = ada.post("/v1/galleries", &body).await.is(201).json();
        assert_eq!(made["download"], download);
        assert_eq!(made["library_id"], library.as_str());
    }
    let body = json!({ "library_id": library, "name": "x", "download": "everything" });
    ada.post("/v1/galleries", &body)
        .await
        .problem(422, "validation_failed");
    let body = json!({ "name": "x", "download": "web" });
    ada.post("/v1/galleries", &body)
        .await
        .problem(422, "validation_failed");
    assert_eq!(ada.list_all("/v1/galleries", 2).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libraries_and_galleries_are_found_and_sorted_by_name() {
    let server = Server::shared();
    let ada = server.sign_up("by-name").await;
    let shelf = ada.library("zebra").await;
    for name in ["Äpfel", "apples"] {
        let _ = ada.library(name).await;
    }
    for name in ["Wedding B", "wedding a", "Portraits"] {
        let _ = ada.gallery_in(&shelf, name).await;
    }
    let elsewhere = ada.gallery("Wedding elsewhere").await;
    let _ = ada
        .delete(&format!("/v1/galleries/{elsewhere}"))
        .await
        .is(204);
    let names = async |path: &str| {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = ada
                .get(&format!("{path}&limit=2{cursor}"))
                .await
                .is(200)
                .json();
            let items = page["items"].as_array().expect("items");
            let names = items.iter().map(|item| item["name"].as_str());
            found.extend(names.map(|name| name.expect("a name").to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return found,
            }
        }
    };
    // The last library is that of the gallery elsewhere.
    let made = ["zebra", "Äpfel", "apples", "Wedding elsewhere"];
    let mut newest = made;
    newest.reverse();
    let in_shelf = format!("/v1/galleries?library_id={shelf}");
    for (path, expected) in [
        ("/v1/libraries?sort=created_at".to_owned(), made.to_vec()),
        ("/v1/libraries?sort=-created_at".to_owned(), newest.to_vec()),
        (
            "/v1/libraries?sort=name".to_owned(),
            vec!["apples", "Wedding elsewhere", "zebra", "Äpfel"],
        ),
        ("/v1/libraries?name=%C3%84PF".to_owned(), vec!["Äpfel"]),
        (
            format!("{in_shelf}&sort=name"),
            vec!["Portraits", "wedding a", "Wedding B"],
        ),
        (
            format!("{in_shelf}&sort=-name&name=WEDDING"),
            vec!["Wedding B", "wedding a"],
        ),
        ("/v1/galleries?name=elsewhere".to_owned(), vec![]),
        (
            "/v1/galleries?name=elsewhere&deleted=true".to_owned(),
            vec!["Wedding elsewhere"],
        ),
    ] {
        assert_eq!(names(&path).await, expected, "{path}");
    }
    for path in ["/v1/libraries", "/v1/galleries"] {
        let page = ada.get(&format!("{path}?limit=1&sort=name")).await.is(200);
        let cursor = page.text("next_cursor");
        let other = ada.get(&format!("{path}?limit=1&cursor={cursor}")).await;
        other.problem(400, "invalid_cursor");
        let refused = ada.get(&format!("{path}?sort=size&name=")).await;
        let problem = refused.problem(422, "validation_failed");
        assert_eq!(
            problem["errors"].as_array().map(Vec::len),
            Some(2),
            "{problem}"
        );
    }
}
