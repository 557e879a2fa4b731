//! The service as its clients meet it: started for real, killed for real.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and vouches for the workspaces that it makes"
)]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use futures_util::future::join_all;
use rawdrive_identity::{Currency, WorkspaceName};
use rawdrive_plans::{Catalogue, Slug};
use rawdrive_store::extension::Extension;
use rawdrive_store::{Store, Url};
use rawdrive_tenancy_core::id::{UserId, WorkspaceId};
use rawdrive_tenancy_core::{Actor, Env, SystemReason, WorkspaceScope};
use reqwest::{Client, Response};
use serde_json::{Value, json};

const PLANS: &str = include_str!("../plans.toml");

/// The service, and who may use it.
struct Service {
    process: Child,
    url: String,
    database: String,
    sessions: String,
}

impl Service {
    /// On a fresh database: `ada` is on the plan that has contracts, `free` is not, `eve` is another customer.
    async fn start(folder: &Path) -> Self {
        let file = folder.join("contracts.db");
        let database = format!("sqlite://{}", file.display());
        let catalogue = Catalogue::parse(PLANS).unwrap();
        // The service makes its tables when it first starts; the workspaces are this test's.
        let store = Store::open(&Url::sqlite(&file), Env::system(), &catalogue, &[]).await;
        let store = store.unwrap();
        let mut sessions = Vec::new();
        for (token, plan) in [("ada", "business"), ("free", "free"), ("eve", "business")] {
            let (workspace, user): (WorkspaceId, UserId) = (store.env().id(), store.env().id());
            let made_by = Actor::System(SystemReason::SIGN_UP);
            let scope = WorkspaceScope::trusted(workspace, made_by);
            let plan = catalogue.newest(&plan.parse::<Slug>().unwrap()).unwrap();
            let (name, currency) = (WorkspaceName::parse(token), Currency::parse("usd"));
            store
                .create_workspace(&scope, name.unwrap(), currency.unwrap(), &plan)
                .await
                .unwrap();
            sessions.push(format!("{token}:{workspace}:{user}"));
        }
        store.close().await;
        let sessions = sessions.join(",");
        let (process, url) = run(&database, &sessions).await;
        Self {
            process,
            url,
            database,
            sessions,
        }
    }

    /// Kills it as a power cut would, and starts it again on what is left.
    async fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        (self.process, self.url) = run(&self.database, &self.sessions).await;
    }

    async fn create(&self, token: &str) -> reqwest::Result<Response> {
        Client::new()
            .post(format!("{}/contracts", self.url))
            .bearer_auth(token)
            .json(&json!({ "title": "Agreed" }))
            .send()
            .await
    }

    /// Rows, the counter and the ledger's sum, of a workspace.
    async fn counted(&self, token: &str) -> [i64; 3] {
        const COUNTS: &str = "SELECT (SELECT count(*) FROM contracts WHERE workspace_id = $1) AS contracts,
            CAST(coalesce((SELECT sum(used) FROM quotas WHERE workspace_id = $1 AND metric = 'contracts'), 0) AS BIGINT) AS used,
            CAST(coalesce((SELECT sum(quantity) FROM ledger WHERE workspace_id = $1 AND metric = 'contracts'), 0) AS BIGINT) AS sum";
        let catalogue = Catalogue::parse(PLANS).unwrap();
        let url = self.database.parse().unwrap();
        // The service has made its tables; by their name the store knows that.
        let made = Extension::new("contracts", &[("0001", &[])]);
        let store = Store::open(&url, Env::system(), &catalogue, &[made])
            .await
            .unwrap();
        let mut entries = self.sessions.split(',');
        let entry = entries.find(|entry| entry.starts_with(token)).unwrap();
        let workspace = entry.split(':').nth(1).unwrap().parse().unwrap();
        let scope = WorkspaceScope::trusted(workspace, Actor::System(SystemReason::OPERATOR));
        let rows = store.read(&scope).query("count", COUNTS, []).await.unwrap();
        let number = |name| rawdrive_store::extension::column(&rows[0], name).unwrap();
        let found = [number("contracts"), number("used"), number("sum")];
        store.close().await;
        found
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn run(database: &str, sessions: &str) -> (Child, String) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let mut process = Command::new(env!("CARGO_BIN_EXE_example-contracts-axum"))
        .envs([
            ("DATABASE_URL", database),
            ("SESSIONS", sessions),
            ("LISTEN", &address),
        ])
        .spawn()
        .unwrap();
    let url = format!("http://{address}");
    for _ in 0..300 {
        if reqwest::get(&url).await.is_ok() {
            return (process, url);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    process.kill().unwrap();
    process.wait().unwrap();
    panic!("the service does not answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_creations_at_once_a_hundred_are_kept_whatever_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(folder.path()).await;
    let first = join_all((0..60).map(|_| service.create("ada"))).await;
    let mut created = first
        .iter()
        .filter(|a| a.as_ref().is_ok_and(|a| a.status() == 201))
        .count();
    assert_eq!(created, 60);
    // Killed while others are under way: what was answered stands, what was not may stand.
    let storm = async { join_all((0..70).map(|_| service.create("ada"))).await };
    let (answers, ()) = tokio::join!(storm, tokio::time::sleep(Duration::from_millis(1)));
    created += answers
        .iter()
        .filter(|a| a.as_ref().is_ok_and(|a| a.status() == 201))
        .count();
    service.restart().await;
    let last = join_all((0..70).map(|_| service.create("ada"))).await;
    created += last
        .iter()
        .filter(|a| a.as_ref().is_ok_and(|a| a.status() == 201))
        .count();
    let [rows, used, sum] = service.counted("ada").await;
    assert_eq!((rows, used, sum), (100, 100, 100));
    assert!(created <= 100, "{created} were acknowledged");
    let over = service.create("ada").await.unwrap();
    assert_eq!(over.status(), 402);
    assert_eq!(over.headers()["content-type"], "application/problem+json");
    let problem: Value = over.json().await.unwrap();
    assert_eq!(
        problem,
        json!({
            "type": "/problems/quota_exceeded", "status": 402, "code": "quota_exceeded",
            "detail": "The limit of contracts is 100: 100 are used or reserved, and 1 more were asked for.",
            "metric": "contracts", "subject": null, "current": 100, "used": 100, "reserved": 0, "requested": 1,
            "limit": 100, "hard_limit": 100, "plan": "business", "plan_version": 1, "cheapest_plan": null,
            "layers": [{ "origin": "plan", "limit": 100, "hard_limit": 100, "until": null, "wins": true }],
            "resets_at": null, "upgrade_url": "https://contracts.example/upgrade",
        })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plan_gates_the_limit_is_per_contract_and_nobody_sees_another_workspace() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path()).await;
    let denied = service.create("free").await.unwrap();
    assert_eq!(denied.status(), 402);
    let problem: Value = denied.json().await.unwrap();
    assert_eq!(problem["code"], "feature_not_available");
    assert_eq!(service.create("nobody").await.unwrap().status(), 401);

    let ids = [
        service.create("ada").await.unwrap(),
        service.create("ada").await.unwrap(),
    ];
    let client = Client::new();
    for id in ids {
        let contract = id.text().await.unwrap();
        let page = |token: &'static str| {
            let url = format!("{}/contracts/{contract}/pages", service.url);
            client.post(url).bearer_auth(token).send()
        };
        assert_eq!(
            page("eve").await.unwrap().status(),
            404,
            "it is another workspace's"
        );
        for _ in 0..20 {
            assert_eq!(page("ada").await.unwrap().status(), 201);
        }
        let over = page("ada").await.unwrap();
        assert_eq!(over.status(), 402, "each contract has twenty pages");
    }
    assert_eq!(service.counted("ada").await, [2; 3]);
    assert_eq!(service.counted("eve").await, [0; 3]);
}
