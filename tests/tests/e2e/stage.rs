//! A server that bills by a double of Stripe, both on one clock that the test turns.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use e2e::{Actor, Api, Server};
use rawdrive_stripe_double::{Account, Config, Faults, State, StripeDouble};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::crash::until;

/// What the webhooks of a stage are signed with.
pub(crate) const WEBHOOK_SECRET: &str = "whsec_stage_of_the_end_to_end_tests";
pub(crate) const SECRET_KEY: &str = "sk_test_stage_of_the_end_to_end_tests";
/// When every stage begins.
pub(crate) const BEGIN: &str = "2026-11-24T10:00:00Z";

/// Small enough that a test can pass its limits.
pub(crate) const PLANS: &str = r#"
[[plan]]
slug = "free"
version = 1
name = "Free"
limits = { storage_gb = 5, max_photos_per_gallery = 100, max_team_members = 1, ai_analysis_monthly = 0 }
features = { custom_branding = false }

[[plan]]
slug = "professional"
version = 1
name = "Professional"
limits = { storage_gb = 500, max_photos_per_gallery = 1, max_team_members = 10, ai_analysis_monthly = 500 }
features = { custom_branding = true }
prices = [{ currency = "usd", interval = "month", amount = 2900 }, { currency = "usd", interval = "year", amount = 29000 }]

[[plan]]
slug = "studio"
version = 1
name = "Studio"
limits = { storage_gb = 2000, max_photos_per_gallery = "unlimited", max_team_members = 50, ai_analysis_monthly = 5000 }
features = { custom_branding = true }
prices = [{ currency = "usd", interval = "month", amount = 9900 }, { currency = "eur", interval = "month", amount = 9000 }]

[[plan]]
slug = "trial"
version = 1
name = "Trial"
trial_days = 14
limits = { storage_gb = 50, max_photos_per_gallery = 50, max_team_members = 2, ai_analysis_monthly = 5 }
features = { custom_branding = true }
prices = [{ currency = "usd", interval = "month", amount = 1900 }]
"#;

pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) double: StripeDouble,
    clock: Arc<Mutex<DateTime<Utc>>>,
    /// How far the server's clock goes ahead of the double's; negative where it goes behind.
    skew: Mutex<TimeDelta>,
    folder: TempDir,
}

impl Stage {
    pub(crate) async fn start() -> Self {
        // Reconciliation would heal what a test of the webhooks is about.
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(extra: &[(&str, &str)]) -> Self {
        Self::start_on(extra, |_| {}).await
    }

    /// As [`Stage::start`], with other settings of the Stripe account.
    pub(crate) async fn start_at(adjust: impl FnOnce(&mut Account)) -> Self {
        Self::start_on(&[], adjust).await
    }

    async fn start_on(extra: &[(&str, &str)], adjust: impl FnOnce(&mut Account)) -> Self {
        let folder = tempfile::tempdir().expect("failed to make a directory");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("failed to write a file");
            path.to_str().expect("a path of text").to_owned()
        };
        let (plans, clock_file) = (file("plans.toml", PLANS), file("clock", BEGIN));
        let clock = Arc::new(Mutex::new(BEGIN.parse().expect("a time")));
        let port = Server::free_port();
        let mut config = Config::new(SECRET_KEY);
        let time = clock.clone();
        config.clock = Arc::new(move || *time.lock().expect("nobody panicked with the clock"));
        let webhook = format!("http://127.0.0.1:{port}/v1/webhooks/stripe");
        config.webhook = vec![(webhook, WEBHOOK_SECRET.to_owned())];
        config.record = std::env::var_os("STRIPE_DOUBLE_RECORD").map(Into::into);
        adjust(&mut config.account);
        config.webhook_backoff = vec![Duration::from_millis(200); 100];
        let double = StripeDouble::start(config).expect("the double starts");
        let url = double.url();
        let variables = [
            &[
                ("RAWDRIVE_DEV", "1"),
                ("RAWDRIVE_DEV_CLOCK", clock_file.as_str()),
                ("RAWDRIVE_PLANS", plans.as_str()),
                ("STRIPE_SECRET_KEY", SECRET_KEY),
                ("STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET),
                ("STRIPE_API_URL", url.as_str()),
            ],
            extra,
        ]
        .concat();
        // Whoever is told the address has to know it before the server does.
        let said: Vec<_> = variables
            .iter()
            .map(|(name, value)| (*name, value.replace("{port}", &port.to_string())))
            .collect();
        let variables: Vec<_> = said.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let server = Server::start_on(port, &variables);
        let stage = Self {
            server,
            double,
            clock,
            skew: Mutex::new(TimeDelta::zero()),
            folder,
        };
        let _ = stage
            .server
            .admin(&["stripe", "sync-plans"])
            .await
            .succeeded();
        stage
    }

    pub(crate) fn faults(&self) -> Faults {
        self.double.faults()
    }

    pub(crate) fn state(&self) -> State {
        self.double.state()
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        *self.clock.lock().expect("nobody panicked with the clock")
    }

    /// Turns the clock of both, and has the double do what that makes due.
    pub(crate) fn turn_to(&self, at: DateTime<Utc>) {
        let (path, new) = (
            self.folder.path().join("clock"),
            self.folder.path().join("new"),
        );
        let skew = *self.skew.lock().expect("nobody panicked with the clock");
        // Renamed, so that nobody reads half a time; the server first, or it would think a signature too new.
        std::fs::write(&new, (at + skew).to_rfc3339()).expect("failed to write the time");
        std::fs::rename(new, path).expect("failed to set the clock");
        *self.clock.lock().expect("nobody panicked with the clock") = at;
        self.double.settle();
    }

    /// Lets the server's clock go ahead of the double's from now on.
    pub(crate) fn skew(&self, ahead: TimeDelta) {
        *self.skew.lock().expect("nobody panicked with the clock") = ahead;
        self.turn_to(self.now());
    }

    pub(crate) fn turn(&self, by: TimeDelta) {
        self.turn_to(self.now() + by);
    }

    /// Somebody with a workspace, and a key of theirs that outlives every turn of the clock.
    pub(crate) async fn owner(&self, name: &str) -> (Actor, Api) {
        let actor = self.server.sign_up(name).await;
        let api = self.key_of(&actor).await;
        (actor, api)
    }

    pub(crate) async fn key_of(&self, actor: &Actor) -> Api {
        let body = json!({ "name": "time traveller", "role": "owner" });
        let made = actor.post("/v1/api-keys", &body).await.is(201);
        self.server.bearer(&made.text("secret"))
    }

    /// As [`Stage::owner`], in a currency.
    pub(crate) async fn owner_in(&self, name: &str, currency: &str) -> Api {
        let email = format!("{name}-{currency}@example.test");
        let body = json!({
            "email": email, "password": Actor::PASSWORD, "name": name, "workspace_name": name, "currency": currency,
        });
        let made = self
            .server
            .anonymous()
            .post("/v1/signup", &body)
            .await
            .is(201);
        self.server.bearer(&made.text("access_token"))
    }

    /// As [`Stage::owner`], who has subscribed by a card that pays.
    pub(crate) async fn subscriber(&self, name: &str, plan: &str) -> (Actor, Api) {
        let (actor, api) = self.owner(name).await;
        let _ = subscribe(&api, plan, "pm_card_visa").await.is(201);
        (actor, api)
    }

    /// The customer that was made for a workspace.
    pub(crate) fn customer(&self, actor: &Actor) -> String {
        let all = self.state().objects("customer");
        let ours: Vec<_> = all
            .iter()
            .filter(|c| c["metadata"]["rawdrive_workspace"] == actor.workspace_id.as_str())
            .collect();
        assert_eq!(ours.len(), 1, "{ours:#?}");
        ours[0]["id"].as_str().expect("an id").to_owned()
    }

    /// Every subscription of a customer at the double.
    pub(crate) fn subscriptions(&self, customer: &str) -> Vec<Value> {
        let mut all = self.state().objects("subscription");
        all.retain(|subscription| subscription["customer"] == customer);
        all
    }

    /// Waits until the double has been told that everything arrived.
    pub(crate) fn webhooks_arrived(&self) {
        assert!(
            self.double.wait_for_webhooks(Duration::from_secs(20)),
            "webhooks did not arrive: {:#?}",
            self.state().deliveries()
        );
    }

    /// Waits until the server knows all that the double has to tell: every webhook has arrived, every object that one
    /// touched is projected, and no operation is under way. Whoever turns the clock, or loses what is told from now on,
    /// waits for it first: a fetch that is still under way would see what comes after.
    pub(crate) async fn settled(&self) {
        self.settled_within(60).await;
    }

    /// As [`Stage::settled`], by a deadline.
    pub(crate) async fn settled_within(&self, seconds: u32) {
        self.webhooks_arrived();
        all_projected(&self.server, seconds).await;
    }

    /// What is under way with Stripe, as the operator sees it.
    pub(crate) async fn under_way(&self) -> Value {
        under_way(&self.server).await
    }

    /// A call of Stripe's API, past the server.
    pub(crate) async fn stripe(&self, path: &str, form: &[(&str, &str)]) -> Value {
        self.call(reqwest::Method::POST, path, form).await
    }

    /// Deletes something at Stripe, past the server.
    pub(crate) async fn stripe_delete(&self, path: &str) -> Value {
        self.call(reqwest::Method::DELETE, path, &[]).await
    }

    /// What a person does on a hosted page: opens its address, and sends a form.
    pub(crate) async fn page(&self, url: &str, form: &[(&str, &str)]) {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client");
        let request = client.post(url).header("content-type", FORM);
        let answer = request.body(form_of(form)).send().await;
        let answer = answer.expect("the page answers");
        assert_eq!(answer.status(), 303, "{url} {form:?}");
    }

    async fn call(&self, method: reqwest::Method, path: &str, form: &[(&str, &str)]) -> Value {
        let request = reqwest::Client::new()
            .request(method, format!("{}{path}", self.double.url()))
            .bearer_auth(SECRET_KEY)
            .header("content-type", FORM)
            .body(form_of(form));
        let answer = request.send().await.expect("the double answers");
        let status = answer.status();
        let text = answer.text().await.expect("the double answers wholly");
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).expect("the double answers in JSON")
    }
}

/// An object's id.
pub(crate) fn id(object: &Value) -> String {
    object["id"].as_str().expect("an id").to_owned()
}

/// A point in time of an answer.
pub(crate) fn time_of(value: &Value) -> DateTime<Utc> {
    let text = value.as_str().unwrap_or_else(|| panic!("no time: {value}"));
    text.parse().expect("a time")
}

/// A point in time as Stripe gives it.
pub(crate) fn stripe_time(value: &Value) -> DateTime<Utc> {
    let seconds = value.as_i64().unwrap_or_else(|| panic!("no time: {value}"));
    DateTime::from_timestamp(seconds, 0).expect("a time")
}

/// The media type of a form.
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

/// A form's text.
pub(crate) fn form_of(fields: &[(&str, &str)]) -> String {
    let encoded = |text: &str| -> String {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            other => format!("%{other:02x}"),
        };
        text.bytes().map(byte).collect()
    };
    let pairs = fields
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

pub(crate) async fn subscribe(api: &Api, plan: &str, method: &str) -> e2e::Answer {
    let body = json!({ "plan": plan, "interval": "month", "payment_method_id": method });
    api.post("/v1/billing/subscription", &body).await
}

pub(crate) async fn subscription(api: &Api) -> Value {
    api.get("/v1/billing/subscription").await.is(200).json()
}

/// Waits until the subscription, as shown, is as it should be.
pub(crate) async fn until_shown(
    api: &Api,
    seconds: u32,
    what: &str,
    good: impl Fn(&Value) -> bool,
) {
    until(seconds, what, async || good(&subscription(api).await)).await;
}

/// What the server says of a dependency, if it names it. It must be ready for it.
pub(crate) async fn readiness(server: &Server, name: &str) -> Option<String> {
    let ready = server.anonymous().get("/readyz").await.is(200).json();
    let all = ready["dependencies"].as_array().expect("a list").clone();
    let one = all.iter().find(|dependency| dependency["name"] == name)?;
    Some(one["status"].as_str().expect("a status").to_owned())
}

pub(crate) async fn access(api: &Api) -> Value {
    api.get("/v1/workspace").await.is(200).json()["access"].clone()
}

/// The audit log's actions, oldest first.
pub(crate) async fn actions(api: &Api) -> Vec<String> {
    let mut entries = api.list_all("/v1/workspace/audit", 100).await;
    entries.reverse();
    let action = |entry: &Value| entry["action"].as_str().expect("an action").to_owned();
    entries.iter().map(action).collect()
}

pub(crate) async fn count_of(api: &Api, action: &str) -> usize {
    let all = actions(api).await;
    all.iter().filter(|a| *a == action).count()
}

/// What a server has under way with Stripe, as its operator sees it.
async fn under_way(server: &Server) -> Value {
    let report = server.admin(&["doctor", "--json"]).await.succeeded();
    let report: Value = serde_json::from_str(&report.stdout).expect("JSON");
    report["billing"].clone()
}

/// Waits until a server has projected all that it was told, and drives no operation. What one that is killed meanwhile
/// had leased stays its own for most of a minute.
pub(crate) async fn all_projected(server: &Server, seconds: u32) {
    until(seconds, "all that Stripe told is projected", async || {
        let billing = under_way(server).await;
        (&billing["unprojected"], &billing["live_operations"]) == (&json!(0), &json!(0))
    })
    .await;
}
