//! The service as its clients meet it: started for real.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::process::{Child, Command};
use std::time::Duration;

use reqwest::{Client, Response};
use serde_json::{Value, json};

/// Ends with the test.
struct Service {
    process: Child,
    url: String,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Service {
    async fn start(folder: &std::path::Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let database = format!("sqlite://{}", folder.join("notes.db").display());
        let process = Command::new(env!("CARGO_BIN_EXE_example-notes-actix"))
            .envs([
                ("DATABASE_URL", database.as_str()),
                ("SECRET_KEY", "a text of thirty-two bytes at least"),
                ("LISTEN", &address),
            ])
            .spawn()
            .unwrap();
        let url = format!("http://{address}");
        let service = Self { process, url };
        for _ in 0..300 {
            if reqwest::get(format!("{}/saas/readyz", service.url))
                .await
                .is_ok()
            {
                return service;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the service does not answer");
    }

    async fn post(&self, path: &str, token: &str, key: &str, body: Value) -> Response {
        Client::new()
            .post(format!("{}{path}", self.url))
            .bearer_auth(token)
            .header("idempotency-key", key)
            .json(&body)
            .send()
            .await
            .unwrap()
    }

    async fn get(&self, path: &str, token: &str) -> Value {
        let answer = Client::new()
            .get(format!("{}{path}", self.url))
            .bearer_auth(token)
            .send();
        answer.await.unwrap().json().await.unwrap()
    }

    async fn sign_up(&self) -> String {
        let who = json!({
            "email": "ada@example.org", "password": "correct horse", "name": "Ada", "workspace_name": "Ada's",
        });
        let answer = Client::new()
            .post(format!("{}/saas/v1/signup", self.url))
            .json(&who)
            .send();
        let tokens: Value = answer.await.unwrap().json().await.unwrap();
        tokens["access_token"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_product_below_a_path_has_all_that_the_core_has() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path()).await;
    let own = reqwest::get(&service.url)
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(own, "What this service itself does.");
    let ada = service.sign_up().await;

    let text = json!({ "text": "three small words" });
    let made = service
        .post("/saas/v1/notes", &ada, "one", text.clone())
        .await;
    assert_eq!(made.status(), 201);
    let address = made.headers()["location"].to_str().unwrap().to_owned();
    let note: Value = made.json().await.unwrap();
    assert_eq!(
        address,
        format!("/saas/v1/notes/{}", note["id"].as_str().unwrap())
    );
    let again = service
        .post("/saas/v1/notes", &ada, "one", text.clone())
        .await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(again.json::<Value>().await.unwrap(), note);
    assert_eq!(
        service
            .post("/saas/v1/notes", &ada, "two", text.clone())
            .await
            .status(),
        201
    );

    let over = service.post("/saas/v1/notes", &ada, "three", text).await;
    assert_eq!(over.status(), 402);
    let problem: Value = over.json().await.unwrap();
    assert_eq!(problem["type"], "/saas/problems/quota_exceeded");
    assert_eq!(
        (&problem["metric"], &problem["limit"]),
        (&json!("notes"), &json!(2))
    );
    let upgrade = problem["upgrade_url"].as_str().unwrap();
    assert!(
        upgrade.starts_with(&format!("{}/saas/", service.url)),
        "{upgrade}"
    );
    for page in [
        upgrade.to_owned(),
        format!("{}/saas/problems/quota_exceeded", service.url),
    ] {
        assert_eq!(reqwest::get(page).await.unwrap().status(), 200);
    }

    // The event was consumed, and the job has counted.
    let mut words = Value::Null;
    for _ in 0..200 {
        words = service.get(&address, &ada).await["words"].clone();
        if !words.is_null() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(words, 3);
    let steps = service.get("/saas/v1/onboarding", &ada).await;
    assert!(
        steps["completed"]
            .as_array()
            .unwrap()
            .contains(&json!("first_note")),
        "{steps}"
    );

    let refused = service.get("/saas/v1/notes", &ada).await;
    assert_eq!(refused["code"], "method_not_allowed");
    let foreign = service
        .get("/saas/v1/notes/nte_0192f0c1a2b37c4d8e5f60718293a4b5", &ada)
        .await;
    assert_eq!(foreign["code"], "not_found");
    let document = service.get("/saas/openapi.json", &ada).await;
    assert_eq!(
        document["servers"][0]["url"],
        format!("{}/saas", service.url)
    );
    let posted = &document["paths"]["/v1/notes"]["post"];
    assert_eq!(
        posted["responses"]["201"]["headers"]["Location"]["$ref"],
        "#/components/headers/Location"
    );
    assert!(document["paths"]["/v1/signup"]["post"].is_object());
}
