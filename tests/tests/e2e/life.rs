//! A workspace's life by the clock, over HTTP and webhooks: tried, bought, renewed, unpaid, forgiven, closed to writes,
//! paid, made larger, made smaller, ended. At each stage everybody says the same: the subscription, the limits, the
//! invoices, the letters and the audit log.

use chrono::{DateTime, Utc};
use e2e::{Actor, Answer, Api, image};
use serde_json::{Value, json};

use crate::crash::until;
use crate::stage::{Stage, access, subscribe, subscription, until_shown};

const GIB: u64 = 1 << 30;

fn at(time: &str) -> DateTime<Utc> {
    time.parse().expect("a time")
}

/// Somebody whose life is told, stage by stage.
struct Story {
    stage: Stage,
    ada: Actor,
    api: Api,
    photo: String,
    /// How many entries of the audit log were told before.
    told: usize,
    /// How many letters were told before.
    letters: usize,
}

impl Story {
    async fn begin(name: &str) -> Self {
        let stage = Stage::start().await;
        let (ada, api) = stage.owner(name).await;
        let gallery = api.gallery("Coffee").await;
        let photo = api
            .upload(&gallery, image::COFFEE_JPEG, "image/jpeg")
            .await
            .is(201)
            .text("id");
        let mut story = Self {
            told: 0,
            letters: stage.server.letters_to(&ada.email, 0).await.len(),
            stage,
            ada,
            api,
            photo,
        };
        story.told = story.audit().await.len();
        story
    }

    /// The audit log, oldest first.
    async fn audit(&self) -> Vec<Value> {
        let mut entries = self.api.list_all("/v1/workspace/audit", 100).await;
        entries.reverse();
        entries
    }

    async fn analyse(&self) -> Answer {
        let path = format!("/v1/photos/{}/analysis", self.photo);
        self.api.post(&path, &json!({})).await
    }

    async fn analysed(&self) -> Value {
        self.api.usage("ai_analysis").await["used"].clone()
    }

    async fn turn_to(&self, time: &str) {
        self.stage.turn_to(at(time));
        self.stage.settled().await;
    }

    async fn try_to_write(&self) -> Answer {
        let body = json!({ "name": "A shelf" });
        self.api.post("/v1/libraries", &body).await
    }

    /// That the subscription, the access and the limits are these.
    async fn has(&self, plan: &str, status: &str, wanted_access: &str) -> Value {
        let shown = subscription(&self.api).await;
        assert_eq!(
            (&shown["plan"], &shown["plan_version"], &shown["status"]),
            (&json!(plan), &json!(1), &json!(status)),
            "{shown}"
        );
        let workspace = self.api.get("/v1/workspace").await.is(200).json();
        assert_eq!(
            (&workspace["access"], &workspace["plan"]),
            (&json!(wanted_access), &json!(plan)),
            "{workspace}"
        );
        // Of the version that was sold, all of them.
        let (storage, photos, seats, analyses) = match plan {
            "free" => (5, json!(100), 1, 0),
            "trial" => (50, json!(50), 2, 5),
            "professional" => (500, json!(1), 10, 500),
            "studio" => (2000, Value::Null, 50, 5000),
            other => panic!("no plan {other}"),
        };
        for (metric, limit) in [
            ("storage_bytes", json!(storage * GIB)),
            ("photos", photos),
            ("team_members", json!(seats)),
            ("ai_analysis", json!(analyses)),
        ] {
            let entitlements = self.api.get("/v1/entitlements").await.is(200).json();
            let limits = entitlements["limits"].as_array().expect("limits");
            let found = limits.iter().find(|entry| entry["metric"] == metric);
            assert_eq!(
                found.expect("a limit")["value"],
                limit,
                "{metric} of {plan}: {entitlements}"
            );
        }
        let written = self.try_to_write().await;
        if wanted_access == "read_only" {
            written.problem(402, "workspace_read_only");
        } else {
            let _ = written.is(201);
        }
        shown
    }

    /// That invoices are these, newest first: status, total, paid.
    async fn owes(&self, wanted: &[(&str, i64, i64)]) {
        let shown = self.api.list_all("/v1/billing/invoices", 50).await;
        let of = |invoice: &Value| {
            let number = |name: &str| invoice[name].as_i64().expect("an amount");
            let status = invoice["status"].as_str().expect("a status").to_owned();
            (status, number("total"), number("amount_paid"))
        };
        let found: Vec<_> = shown.iter().map(of).collect();
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(status, total, paid)| ((*status).to_owned(), *total, *paid))
            .collect();
        assert_eq!(found, wanted, "{shown:#?}");
    }

    /// That since the last time the audit log told these, in this order but for what came about at one moment, and the
    /// letters said these.
    async fn tells(&mut self, actions: &[&str], letters: &[&str]) {
        self.stage.settled().await;
        let entries = self.audit().await;
        let mut found: Vec<_> = entries[self.told..]
            .iter()
            .map(|entry| entry["action"].as_str().expect("an action"))
            .filter(|action| !action.starts_with("library."))
            .collect();
        // Objects that one moment changed are projected by several workers.
        found.sort_unstable();
        let mut wanted = actions.to_vec();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{:#?}", &entries[self.told..]);
        self.told = entries.len();

        let all = self.letters + letters.len();
        let mut subjects = Vec::new();
        for letter in &self.stage.server.letters_to(&self.ada.email, all).await[self.letters..] {
            let subject = letter.lines().find(|line| line.starts_with("Subject: "));
            let subject = subject.expect("a letter has a subject");
            let said = subject.rsplit_once(": ").map(|(_, said)| said.to_owned());
            subjects.push(said.expect("a subject names the workspace"));
        }
        assert_eq!(subjects, letters);
        self.letters = all;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::print_stderr,
    reason = "the audit log is the evidence that the story was told"
)]
async fn a_life_from_the_trial_to_the_end_is_told_alike_by_everything() {
    let mut story = Story::begin("life").await;
    let _ = story.has("free", "none", "full").await;
    story.analyse().await.problem(402, "quota_exceeded");
    story.owes(&[]).await;

    // Tried: nothing is charged, and everything of the plan is there.
    let body = json!({ "plan": "trial", "interval": "month", "payment_method_id": "pm_card_visa" });
    let _ = story
        .api
        .post("/v1/billing/subscription", &body)
        .await
        .is(201);
    story.stage.settled().await;
    let shown = story.has("trial", "trialing", "full").await;
    assert_eq!(shown["trial_end"], "2026-12-08T10:00:00Z");
    let customer = story.stage.customer(&story.ada);
    let charged = |story: &Story| -> Vec<i64> {
        let paid = story.stage.state().paid_charges(&customer);
        let amount = |charge: &Value| charge["amount"].as_i64().expect("an amount");
        paid.iter().map(amount).collect()
    };
    story.owes(&[("paid", 0, 0)]).await;
    assert_eq!(charged(&story), Vec::<i64>::new());
    for used in 1..=2 {
        let _ = story.analyse().await.is(201);
        assert_eq!(story.analysed().await, used);
    }
    story
        .tells(
            &["subscription.created", "plan.changed", "invoice.paid"],
            &[],
        )
        .await;

    // Active: the trial is over, and its end is charged.
    story.turn_to("2026-12-08T09:59:59Z").await;
    let _ = story.has("trial", "trialing", "full").await;
    assert_eq!(story.analysed().await, 2);
    story.turn_to("2026-12-08T12:00:00Z").await;
    let shown = story.has("trial", "active", "full").await;
    assert_eq!(shown["current_period_end"], "2027-01-08T10:00:00Z");
    story.owes(&[("paid", 1900, 1900), ("paid", 0, 0)]).await;
    assert_eq!(charged(&story), [1900]);
    assert_eq!(story.analysed().await, 0, "another period began");
    for used in 1..=3 {
        let _ = story.analyse().await.is(201);
        assert_eq!(story.analysed().await, used);
    }
    story
        .tells(&["subscription.changed", "invoice.paid"], &[])
        .await;

    // Renewed.
    story.turn_to("2027-01-08T12:00:00Z").await;
    let shown = story.has("trial", "active", "full").await;
    assert_eq!(shown["current_period_end"], "2027-02-08T10:00:00Z");
    story
        .owes(&[("paid", 1900, 1900), ("paid", 1900, 1900), ("paid", 0, 0)])
        .await;
    assert_eq!(charged(&story), [1900, 1900]);
    assert_eq!(story.analysed().await, 0);
    story.tells(&["invoice.paid"], &[]).await;

    // The card fails: forgiven for fourteen days from that moment, and everything goes on.
    for _ in 0..3 {
        let faults = story.stage.faults();
        faults
            .decline_next_charge(&customer, "insufficient_funds")
            .expect("a customer");
    }
    story.turn_to("2027-02-08T12:00:00Z").await;
    let shown = story.has("trial", "past_due", "grace").await;
    assert_eq!(shown["grace_until"], "2027-02-22T11:00:00Z");
    let paid = [("paid", 1900, 1900), ("paid", 1900, 1900), ("paid", 0, 0)];
    let owing = |newest| [&[newest][..], &paid].concat();
    story.owes(&owing(("open", 1900, 0))).await;
    story
        .tells(
            &[
                "subscription.changed",
                "invoice.payment_failed",
                "access.changed",
            ],
            &["a payment failed"],
        )
        .await;

    // It fails again, and that moves nothing.
    story.turn_to("2027-02-11T12:00:00Z").await;
    story.tells(&["invoice.payment_failed"], &[]).await;
    story.turn_to("2027-02-16T12:00:00Z").await;
    story
        .tells(&["invoice.payment_failed"], &["a payment is still missing"])
        .await;
    story.turn_to("2027-02-22T10:59:59Z").await;
    let shown = story.has("trial", "past_due", "grace").await;
    assert_eq!(shown["grace_until"], "2027-02-22T11:00:00Z");
    story.tells(&[], &["the last day to pay"]).await;

    let anchor = async |story: &Story| {
        let anchor = story.api.get("/v1/workspace/audit/anchor").await;
        anchor.is(200).json()
    };
    let half_way = anchor(&story).await;

    // Read-only.
    story.turn_to("2027-02-22T11:00:01Z").await;
    let _ = story.has("trial", "past_due", "read_only").await;
    let problem = story
        .try_to_write()
        .await
        .problem(402, "workspace_read_only");
    assert_eq!(
        (&problem["reason"], &problem["since"]),
        (&json!("payment_failed"), &json!("2027-02-22T11:00:00Z")),
        "{problem}"
    );
    story.analyse().await.problem(402, "workspace_read_only");
    story.owes(&owing(("open", 1900, 0))).await;
    story.tells(&[], &["read-only until it is paid"]).await;

    // Paid.
    let invoices = story.api.list_all("/v1/billing/invoices", 50).await;
    let open = invoices[0]["id"].as_str().expect("an id");
    let _ = story
        .stage
        .stripe(&format!("/v1/invoices/{open}/pay"), &[])
        .await;
    until(5, "a payment opens it at once", async || {
        access(&story.api).await == "full"
    })
    .await;
    story.stage.settled().await;
    let shown = story.has("trial", "active", "full").await;
    assert_eq!(shown["grace_until"], Value::Null);
    story.owes(&owing(("paid", 1900, 1900))).await;
    assert_eq!(charged(&story), [1900, 1900, 1900]);
    story
        .tells(
            &["subscription.changed", "invoice.paid", "access.changed"],
            &[],
        )
        .await;
    for used in 1..=3 {
        let _ = story.analyse().await.is(201);
        assert_eq!(story.analysed().await, used);
    }

    // Larger, in the middle of the period: what is left of it is charged, to the second.
    story.turn_to("2027-02-22T16:00:00Z").await;
    let mut body = json!({ "plan": "studio", "interval": "month" });
    let seen = story
        .api
        .post("/v1/billing/subscription/preview", &body)
        .await
        .is(200)
        .json();
    // 13 days and 18 hours of 28 days: 9900 less 1900, each rounded.
    let share = |amount: i64| (amount * 55 * 2 + 112) / (112 * 2);
    let difference = share(9900) - share(1900);
    assert_eq!(
        (
            &seen["effective"],
            &seen["amount_now"],
            &seen["amount_next"]
        ),
        (&json!("now"), &json!(difference), &json!(9900)),
        "{seen}"
    );
    body["commit_token"] = seen["commit_token"].clone();
    let _ = story
        .api
        .patch("/v1/billing/subscription", &body)
        .await
        .is(200);
    story.stage.settled().await;
    let shown = story.has("studio", "active", "full").await;
    assert_eq!(shown["current_period_end"], "2027-03-08T10:00:00Z");
    assert_eq!(charged(&story), [1900, 1900, 1900, difference]);
    let paid = [&[("paid", 1900, 1900)][..], &paid].concat();
    let paid = [&[("paid", difference, difference)][..], &paid].concat();
    story.owes(&paid).await;
    assert_eq!(story.analysed().await, 3, "a larger plan grants the rest");
    let _ = story.analyse().await.is(201);
    story
        .tells(
            &["subscription.changed", "plan.changed", "invoice.paid"],
            &[],
        )
        .await;

    // Smaller, when the period ends; until then what was paid for is there.
    let body = json!({ "plan": "professional", "interval": "month" });
    let _ = story
        .api
        .patch("/v1/billing/subscription", &body)
        .await
        .is(200);
    story.stage.settled().await;
    let shown = story.has("studio", "active", "full").await;
    assert_eq!(
        shown["scheduled"],
        json!({ "plan": "professional", "interval": "month", "at": "2027-03-08T10:00:00Z" })
    );
    story.owes(&paid).await;
    story.tells(&["subscription.changed"], &[]).await;
    story.turn_to("2027-03-08T09:59:59Z").await;
    let _ = story.has("studio", "active", "full").await;
    assert_eq!(story.analysed().await, 4);
    story.turn_to("2027-03-08T12:00:00Z").await;
    let shown = story.has("professional", "active", "full").await;
    assert_eq!(shown["scheduled"], Value::Null);
    let paid = [&[("paid", 2900, 2900)][..], &paid].concat();
    story.owes(&paid).await;
    assert_eq!(charged(&story), [1900, 1900, 1900, difference, 2900]);
    assert_eq!(story.analysed().await, 0);
    story
        .tells(
            &["subscription.changed", "plan.changed", "invoice.paid"],
            // The one photo is all that a gallery of this plan may hold.
            &["100 % of photos is used"],
        )
        .await;

    // Ended, when what was paid for is over.
    let _ = story
        .api
        .post("/v1/billing/subscription/cancel", &json!({}))
        .await
        .is(200);
    story.stage.settled().await;
    let shown = story.has("professional", "active", "full").await;
    assert_eq!(
        (&shown["cancel_at_period_end"], &shown["current_period_end"]),
        (&json!(true), &json!("2027-04-08T10:00:00Z"))
    );
    story.tells(&["subscription.changed"], &[]).await;
    story.turn_to("2027-04-08T09:59:59Z").await;
    let _ = story.has("professional", "active", "full").await;
    story.tells(&[], &[]).await;
    story.turn_to("2027-04-08T12:00:00Z").await;
    let shown = story.has("free", "canceled", "full").await;
    assert_eq!(
        (&shown["current_period_end"], &shown["cancel_at_period_end"]),
        (&Value::Null, &json!(true))
    );
    story.owes(&paid).await;
    assert_eq!(charged(&story), [1900, 1900, 1900, difference, 2900]);
    story.analyse().await.problem(402, "quota_exceeded");
    story
        .tells(&["subscription.ended", "plan.changed"], &[])
        .await;

    // The evidence: one line per entry, without a gap, ending where the anchor says, and the chain holds.
    let entries = story.audit().await;
    for entry in &entries {
        let text = |name: &str| entry[name].as_str().unwrap_or_default();
        eprintln!(
            "{:>3} {} {} {} {} {} -> {}",
            entry["seq"],
            text("at"),
            text("actor"),
            text("action"),
            text("subject"),
            entry["before"],
            entry["after"]
        );
    }
    for (place, entry) in (1..).zip(&entries) {
        assert_eq!(entry["seq"], json!(place), "{entry}");
    }
    let last = entries.last().expect("entries");
    let head = anchor(&story).await;
    assert_eq!(head, json!({ "seq": last["seq"], "hash": last["hash"] }));
    let server = &story.stage.server;
    let kept = server.scratch("anchors");
    let verify = async |anchors: &str| {
        std::fs::write(&kept, anchors).expect("failed to write a file");
        let kept = kept.to_str().expect("a path of text");
        let command = ["audit", "verify", "--json", "--anchor", kept];
        let said = server.admin(&command).await;
        (said.code, said.stdout)
    };
    let (code, said) = verify(&format!("{half_way}\n{head}\n")).await;
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        said,
        json!({
            "holds": true, "workspaces": 1, "entries": entries.len(), "anchors": 2, "broken": [],
            "missing_anchors": [],
        })
    );
    // A head that the chain does not have: it would have been cut, or written anew.
    let mut other = head.clone();
    other["seq"] = json!(entries.len() + 1);
    let (code, said) = verify(&other.to_string()).await;
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        (code, &said["missing_anchors"]),
        (Some(1), &json!([other])),
        "{said}"
    );
    assert_eq!(verify("[]").await.0, Some(1));
    assert_eq!(verify("").await.0, Some(1));
    server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_analysed_before_subscribing_is_not_granted_anew_by_the_billing_day() {
    let story = Story::begin("before").await;
    // A favour for some hours, and some of it used: the month is the calendar's.
    let (workspace, end) = (story.ada.workspace_id.as_str(), "2026-11-24T16:00:00Z");
    let grant = [
        "admin",
        "set-plan",
        "--workspace",
        workspace,
        "--plan",
        "trial",
        "--until",
        end,
        "--reason",
        "a favour",
    ];
    let _ = story.stage.server.admin(&grant).await.succeeded();
    for _ in 0..4 {
        let _ = story.analyse().await.is(201);
    }
    story.turn_to("2026-11-24T17:00:00Z").await;
    assert_eq!(subscription(&story.api).await["plan"], "free");
    let _ = subscribe(&story.api, "trial", "pm_card_visa").await.is(201);
    story.stage.settled().await;
    assert_eq!(story.analysed().await, 4);
    let _ = story.analyse().await.is(201);
    story.analyse().await.problem(402, "quota_exceeded");

    // Nor does ending and beginning again, on another day of the month.
    story.turn_to("2026-11-27T17:00:00Z").await;
    let _ = story
        .api
        .post(
            "/v1/billing/subscription/cancel",
            &json!({ "at_period_end": false }),
        )
        .await
        .is(200);
    let _ = subscribe(&story.api, "trial", "pm_card_visa").await.is(201);
    until_shown(&story.api, 20, "it is paid for", |shown| {
        shown["status"] == "active"
    })
    .await;
    story.stage.settled().await;
    assert_eq!(story.analysed().await, 5);
    story.analyse().await.problem(402, "quota_exceeded");
    // The next period is another's.
    story.turn_to("2026-12-27T18:30:00Z").await;
    assert_eq!(story.analysed().await, 0);
    let _ = story.analyse().await.is(201);
    story.stage.server.assert_healthy().await;
}
