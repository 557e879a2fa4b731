//! The main job, from nothing to the first limit.

use e2e::{Server, image, sha256};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_signs_up_uploads_downloads_and_meets_the_limit() {
    let server = Server::start();
    let ada = server.sign_up("ada").await;
    let me = ada.get("/v1/me").await.is(200).json();
    assert_eq!(me["user"]["id"], ada.user_id.as_str());
    assert_eq!(me["workspace"]["id"], ada.workspace_id.as_str());
    assert_eq!(me["role"], "owner");

    let library = ada.library("Weddings").await;
    let gallery = ada.gallery_in(&library, "Ada and Charles").await;
    let photo = ada
        .upload(&gallery, image::COFFEE_JPEG, "image/jpeg")
        .await
        .is(201)
        .json();
    assert_eq!(photo["sha256"], sha256(image::COFFEE_JPEG));
    let path = format!(
        "/v1/photos/{}/content",
        photo["id"].as_str().expect("an id")
    );
    assert_eq!(ada.get(&path).await.is(200).body, image::COFFEE_JPEG);

    let size = image::COFFEE_JPEG.len();
    let usage = ada.usage("storage_bytes").await;
    assert_eq!(usage["used"], size);
    assert_eq!(usage["limit"], 5_u64 << 30);
    assert_eq!(usage["level"], "ok");

    server
        .override_limit(&ada, &format!("storage_bytes={}", size + 1_000))
        .await;
    let refused = ada
        .upload(&gallery, image::jpeg(1_001, 1), "image/jpeg")
        .await;
    let problem = refused.problem(402, "quota_exceeded");
    assert_eq!(problem["metric"], "storage_bytes");
    assert_eq!(problem["current"], size);
    assert_eq!(problem["requested"], 1_001);
    assert_eq!(problem["limit"], size + 1_000);
    assert_eq!(problem["plan"], "free");
    assert!(
        problem
            .get("resets_at")
            .is_some_and(serde_json::Value::is_null),
        "{problem}"
    );
    assert_eq!(
        problem["upgrade_url"],
        format!("{}/settings/billing/upgrade", server.url())
    );

    let _ = ada
        .upload(&gallery, image::jpeg(1_000, 1), "image/jpeg")
        .await
        .is(201);
    assert_eq!(ada.usage("storage_bytes").await["level"], "full");

    let branding = json!({ "display_name": "Ada", "primary_color": "#112233" });
    ada.post("/v1/branding", &branding)
        .await
        .problem(402, "feature_not_available");
    server.assert_healthy().await;
}
