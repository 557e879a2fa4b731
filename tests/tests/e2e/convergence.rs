//! Whatever the order, the number or the loss of Stripe's events: one final state, and every keyed effect once.
//!
//! What the double would send by itself is dropped; the tests send its events, signed, as they see fit. Each order and
//! each trace has a workspace and a customer of its own, all beside one server and one double.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use chrono::TimeDelta;
use e2e::{Actor, Api, event_orders, event_traces};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::crash::until;
use crate::stage::{BEGIN, FORM, SECRET_KEY, Stage, WEBHOOK_SECRET, form_of, subscription};
use crate::webhooks::{post, tag};

/// How many workspaces are worked on at a time.
const AT_ONCE: usize = 8;
/// Which traces share a story, beside a workspace that is told everything.
const TRACES_OF_A_STORY: usize = 4;
/// What a fact of Stripe's calls for, whoever saw how much of the way to it.
const KEYED: [&str; 9] = [
    "subscription.created",
    "subscription.ended",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.payment_action_required",
    "invoice.voided",
    "invoice.marked_uncollectible",
    "dispute.opened",
    "dispute.closed",
];

/// SplitMix64, so that an order or a trace is its number.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % below as u64).expect("small")
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.roll(at + 1));
        }
    }
}

/// Does the same for each, several at a time, and keeps their order.
async fn each<T, R>(items: &[T], work: impl AsyncFn(&T) -> R) -> Vec<R> {
    let work = &work;
    let tasks = items.iter().map(|item| work(item));
    futures_util::stream::iter(tasks)
        .buffered(AT_ONCE)
        .collect()
        .await
}

/// A workspace whose customer has a subscription that was made past the server.
struct Life {
    actor: Actor,
    api: Api,
    customer: String,
    subscription: String,
}

/// What has become of a workspace: what must be the same, however it was come to.
#[derive(Debug, Clone, PartialEq)]
struct Outcome {
    subscription: Value,
    entitlements: Value,
    invoices: Vec<Value>,
}

/// How often something was audited or mailed: for each action the counts of its subjects, for each subject line one.
type Counts = BTreeMap<String, Vec<usize>>;

/// The stage, and Stripe as somebody uses it in its own pages.
pub(crate) struct Shop {
    pub(crate) stage: Stage,
    pub(crate) teller: Api,
    stripe: reqwest::Client,
    /// The prices by their lookup keys.
    prices: HashMap<String, String>,
}

impl Shop {
    async fn open() -> Self {
        Self::open_with(&[]).await
    }

    pub(crate) async fn open_with(extra: &[(&str, &str)]) -> Self {
        let stage = Stage::start_with(extra).await;
        stage.faults().drop_webhooks(usize::MAX, "*");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let prices = stage.state().objects("price");
        let prices = prices
            .iter()
            .map(|p| (text(&p["lookup_key"]), text(&p["id"])));
        Self {
            teller: stage.server.anonymous(),
            stripe: reqwest::Client::builder()
                .no_proxy()
                .tls_certs_only([])
                .pool_idle_timeout(e2e::IDLE)
                .build()
                .expect("a client"),
            prices: prices.collect(),
            stage,
        }
    }

    fn price(&self, plan: &str) -> &str {
        &self.prices[&format!("rawdrive_{plan}_v1_usd_month")]
    }

    /// A call of Stripe's API, past the server.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        form: &[(&str, &str)],
    ) -> (u16, Value) {
        let request = self
            .stripe
            .request(method, format!("{}{path}", self.stage.double.url()));
        let request = request.bearer_auth(SECRET_KEY).header("content-type", FORM);
        let answer = request
            .body(form_of(form))
            .send()
            .await
            .expect("the double answers");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("the double answers wholly");
        (
            status,
            serde_json::from_str(&text).expect("the double answers in JSON"),
        )
    }

    /// As [`Shop::ask`], for what must be done. Returns the object's id.
    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> String {
        let (status, body) = self.ask(Method::POST, path, form).await;
        assert_eq!(status, 200, "{path}: {body}");
        body["id"].as_str().expect("an id").to_owned()
    }

    /// Workspaces whose customers have subscriptions that nobody was told of.
    async fn lives(
        &self,
        name: &str,
        count: usize,
        terms: impl Fn(usize) -> Vec<(String, String)>,
    ) -> Vec<Life> {
        let numbers: Vec<_> = (0..count).collect();
        let owners = each(&numbers, async |_| {
            let (actor, api) = self.stage.owner(name).await;
            // A checkout that nobody completes: it links a customer to the workspace.
            let order = json!({
                "plan": "professional", "interval": "month",
                "success_url": "https://studio.example/done", "cancel_url": "https://studio.example/back",
            });
            let _ = api.post("/v1/billing/checkout", &order).await.is(200);
            (actor, api)
        })
        .await;
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let customers = self.stage.state().objects("customer");
        let customers: HashMap<_, _> = customers
            .iter()
            .map(|c| (text(&c["metadata"]["rawdrive_workspace"]), text(&c["id"])))
            .collect();
        each(&numbers, async |number| {
            let (actor, api) = owners[*number].clone();
            let customer = customers[&actor.workspace_id].clone();
            let attach = "/v1/payment_methods/pm_card_visa/attach";
            let card = self.post(attach, &[("customer", &customer)]).await;
            let card = [("invoice_settings[default_payment_method]", card.as_str())];
            let _ = self.post(&format!("/v1/customers/{customer}"), &card).await;
            let terms = terms(*number);
            let mut form = vec![
                ("customer", customer.as_str()),
                ("items[0][price]", self.price("professional")),
            ];
            form.extend(
                terms
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str())),
            );
            let subscription = self.post("/v1/subscriptions", &form).await;
            Life {
                actor,
                api,
                customer,
                subscription,
            }
        })
        .await
    }

    /// What has happened to each customer, oldest first, from the event of that number on.
    fn history(&self, from: usize) -> (HashMap<String, Vec<Value>>, usize) {
        let events = self.stage.state().events();
        let mut of: HashMap<_, Vec<_>> = HashMap::new();
        for event in &events[from..] {
            let object = &event["data"]["object"];
            let customer = if object["object"] == "customer" {
                &object["id"]
            } else {
                &object["customer"]
            };
            if let Some(customer) = customer.as_str() {
                of.entry(customer.to_owned())
                    .or_default()
                    .push(event.clone());
            }
        }
        (of, events.len())
    }

    /// Delivers an event as Stripe does, by several clients at once.
    async fn deliver(&self, event: &Value, clients: usize) {
        let body = serde_json::to_string_pretty(event).expect("JSON");
        let time = self.stage.now().timestamp();
        let signature = format!("t={time},v1={}", tag(WEBHOOK_SECRET, time, body.as_bytes()));
        let posts = (0..clients).map(|_| post(&self.teller, Some(&signature), body.clone()));
        for answer in join_all(posts).await {
            assert_eq!(answer.is(200).json(), json!({ "received": true }));
        }
    }

    async fn outcome(&self, life: &Life) -> Outcome {
        let mut invoices = life.api.list_all("/v1/billing/invoices", 50).await;
        for invoice in &mut invoices {
            let members = invoice.as_object_mut().expect("an object");
            // What names it is another in each workspace.
            for name in ["id", "number", "hosted_url", "pdf_url"] {
                assert!(members.remove(name).is_some(), "{members:?}");
            }
        }
        invoices.sort_by_key(Value::to_string);
        Outcome {
            subscription: subscription(&life.api).await,
            entitlements: life.api.get("/v1/entitlements").await.is(200).json(),
            invoices,
        }
    }

    /// How often each action was audited, by subject.
    async fn audited(&self, life: &Life) -> Counts {
        let mut by_subject: BTreeMap<(String, String), usize> = BTreeMap::new();
        for entry in life.api.list_all("/v1/workspace/audit", 200).await {
            let text = |name: &str| entry[name].as_str().expect("a text").to_owned();
            *by_subject
                .entry((text("action"), text("subject")))
                .or_default() += 1;
        }
        let mut counts = Counts::new();
        for ((action, _), count) in by_subject {
            counts.entry(action).or_default().push(count);
        }
        counts
            .values_mut()
            .for_each(|counts| counts.sort_unstable());
        counts
    }

    /// What was mailed to each address, by the subject's words.
    fn letters(&self) -> HashMap<String, Counts> {
        let mut letters: HashMap<String, Counts> = HashMap::new();
        for file in self.stage.server.all_files() {
            if file.extension().is_none_or(|e| e != "eml") {
                continue;
            }
            let letter = fs::read_to_string(&file).expect("a mail is text");
            let letter = letter.replace("\r\n ", " ").replace("\r\n", "\n");
            let header = |name: &str| {
                let line = letter.lines().find_map(|line| line.strip_prefix(name));
                line.expect("a header").to_owned()
            };
            let (to, subject) = (header("To: "), header("Subject: "));
            let words = subject.rsplit(": ").next().expect("one").to_owned();
            let counts = letters
                .entry(to)
                .or_default()
                .entry(words)
                .or_insert_with(|| vec![0]);
            counts[0] += 1;
        }
        letters
    }

    fn letters_to(&self, life: &Life) -> Counts {
        self.letters().remove(&life.actor.email).unwrap_or_default()
    }

    /// Waits until nobody has asked Stripe for anything for a while: what is to be projected has been.
    pub(crate) async fn quiet(&self) {
        let (mut calls, mut still) = (0, 0);
        until(120, "the server has asked for everything", async || {
            let now = self.stage.state().calls().len();
            still = if now == calls { still + 1 } else { 0 };
            calls = now;
            still >= 5
        })
        .await;
    }

    async fn reconcile(&self, more: &[&str]) -> Value {
        let arguments = [&["stripe", "reconcile", "--json"], more].concat();
        let output = self.stage.server.admin(&arguments).await.succeeded();
        serde_json::from_str(&output.stdout).expect("reconcile prints JSON")
    }
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(n - 1);
    let insert = |order: &Vec<usize>, at| {
        let mut order = order.clone();
        order.insert(at, n - 1);
        order
    };
    shorter
        .iter()
        .flat_map(|order| (0..n).map(move |at| insert(order, at)))
        .collect()
}

fn counts(expected: &[(&str, &[usize])]) -> Counts {
    expected
        .iter()
        .map(|(name, counts)| ((*name).to_owned(), counts.to_vec()))
        .collect()
}

/// What billing has put down: neither the workspace's nor its owner's own doing.
fn of_billing(mut audited: Counts) -> Counts {
    let about = [
        "subscription.",
        "invoice.",
        "charge.",
        "dispute.",
        "plan.",
        "access.",
        "billing.",
    ];
    audited.retain(|action, _| about.iter().any(|start| action.starts_with(start)));
    audited
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_events_of_one_story_in_any_order_by_several_clients_at_once() {
    let shop = Shop::open().await;
    let mut orders = permutations(6);
    assert_eq!(orders.len(), 720);
    Dice(6).shuffle(&mut orders);
    orders.truncate(event_orders(24));
    // A renewal that failed, was paid after all, and was given back in part.
    let lives = shop.lives("order", orders.len(), |_| Vec::new()).await;
    for life in &lives {
        let declined = shop
            .stage
            .faults()
            .decline_next_charge(&life.customer, "insufficient_funds");
        declined.expect("a customer");
    }
    shop.stage.turn(TimeDelta::days(30) + TimeDelta::hours(2));
    shop.stage.turn(TimeDelta::days(4));
    each(&lives, async |life| {
        let charges = shop.stage.state().paid_charges(&life.customer);
        let renewal = charges.last().expect("it was paid")["id"]
            .as_str()
            .expect("an id");
        shop.post("/v1/refunds", &[("charge", renewal), ("amount", "500")])
            .await
    })
    .await;
    let kinds = [
        "customer.subscription.created",
        "invoice.created",
        "invoice.payment_failed",
        "invoice.paid",
        "customer.subscription.updated",
        "charge.refunded",
    ];
    let (history, _) = shop.history(0);
    let before = shop.outcome(&lives[0]).await;
    assert_eq!(
        before.subscription["plan"], "free",
        "nobody was told anything"
    );

    let numbers: Vec<_> = (0..orders.len()).collect();
    each(&numbers, async |number| {
        let (life, order) = (&lives[*number], &orders[*number]);
        let told = &history[&life.customer];
        let last = |kind: &str| {
            told.iter()
                .rfind(|e| e["type"] == kind)
                .expect("it happened")
        };
        let events = kinds.map(last);
        for at in order {
            shop.deliver(events[*at], number % 4 + 1).await;
        }
        // And once more, all at once.
        join_all(order.iter().rev().map(|at| shop.deliver(events[*at], 2))).await;
    })
    .await;

    // The first invoice is named by none of the six.
    let renewed = json!({
        "plan": "professional", "plan_version": 1, "status": "active", "interval": "month", "currency": "usd",
        "current_period_end": "2027-01-24T10:00:00Z", "cancel_at_period_end": false, "grace_until": null,
        "trial_end": null, "scheduled": null, "grant": null, "cancel_at": null, "paused": null, "discount": null,
        "collection_method": "charge_automatically", "quantity": 1, "addons": [],
    });
    let audited = counts(&[
        ("subscription.created", &[1]),
        ("plan.changed", &[1]),
        ("invoice.payment_failed", &[1]),
        ("invoice.paid", &[1]),
        ("charge.refunded", &[1]),
    ]);
    let letters = counts(&[("a payment was given back", &[1])]);
    let mut expected: Option<Outcome> = None;
    for (life, order) in lives.iter().zip(&orders) {
        until(60, "what happened is known", async || {
            of_billing(shop.audited(life).await) == audited && shop.letters_to(life) == letters
        })
        .await;
        let outcome = shop.outcome(life).await;
        assert_eq!(
            &outcome,
            expected.get_or_insert(outcome.clone()),
            "{order:?}"
        );
    }
    let expected = expected.expect("there are orders");
    assert_eq!(expected.subscription, renewed);
    let [renewal] = expected.invoices.as_slice() else {
        panic!("{:#?}", expected.invoices)
    };
    let facts =
        ["status", "amount_paid", "attempt_count", "currency"].map(|name| renewal[name].clone());
    assert_eq!(facts, [json!("paid"), json!(2900), json!(2), json!("usd")]);

    // Nothing comes of it later, and whatever was not told is the same for all.
    shop.quiet().await;
    let _ = shop.reconcile(&["--since", BEGIN]).await;
    shop.quiet().await;
    assert_eq!(
        shop.reconcile(&["--since", BEGIN]).await["drift"],
        json!([])
    );
    let paid_twice = counts(&[("invoice.paid", &[1, 1])]);
    let audited: Counts = audited.into_iter().chain(paid_twice).collect();
    let all_letters = shop.letters();
    let mut expected: Option<Outcome> = None;
    for (life, order) in lives.iter().zip(&orders) {
        let outcome = shop.outcome(life).await;
        assert_eq!(outcome.subscription, renewed, "{order:?}");
        assert_eq!(outcome.invoices.len(), 2, "{order:?}");
        assert_eq!(of_billing(shop.audited(life).await), audited, "{order:?}");
        assert_eq!(
            all_letters.get(&life.actor.email),
            Some(&letters),
            "{order:?}"
        );
        assert_eq!(
            &outcome,
            expected.get_or_insert(outcome.clone()),
            "{order:?}"
        );
    }
    shop.stage.server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_one_second_in_both_orders_and_the_end_before_the_beginning() {
    let shop = Shop::open().await;
    let lives = shop.lives("second", 6, |_| Vec::new()).await;
    let [forth, back, ended, reversed, first, last] = lives.as_slice() else {
        panic!("six of them")
    };
    let path = |life: &Life| format!("/v1/subscriptions/{}", life.subscription);
    let find = |life: &Life, kind: &str| {
        let (mut history, _) = shop.history(0);
        let told = history.remove(&life.customer).expect("events");
        let found = told.iter().rfind(|event| event["type"] == kind);
        found.expect("it happened").clone()
    };
    let (created, updated, deleted) = (
        "customer.subscription.created",
        "customer.subscription.updated",
        "customer.subscription.deleted",
    );
    let until_is = async |life: &Life, member: &str, value: Value| {
        until(60, "it is shown", async || {
            subscription(&life.api).await[member] == value
        })
        .await;
    };

    // What was known of a second is not all of it.
    shop.deliver(&find(first, created), 2).await;
    until_is(first, "plan", json!("professional")).await;
    for life in [first, last] {
        let _ = shop
            .post(&path(life), &[("cancel_at_period_end", "true")])
            .await;
    }
    let later = find(first, updated);
    assert_eq!(later["created"], find(first, created)["created"]);
    shop.deliver(&later, 2).await;
    until_is(first, "cancel_at_period_end", json!(true)).await;
    // The other way round.
    shop.deliver(&find(last, updated), 2).await;
    until_is(last, "cancel_at_period_end", json!(true)).await;
    shop.deliver(&find(last, created), 2).await;

    // A life of one second, told forth and back, and of two events alone.
    for life in [forth, back, ended, reversed] {
        let _ = shop
            .post(&path(life), &[("cancel_at_period_end", "true")])
            .await;
        let (status, body) = shop.ask(Method::DELETE, &path(life), &[]).await;
        assert_eq!(status, 200, "{body}");
    }
    let (mut history, _) = shop.history(0);
    let mut told = |life: &Life| history.remove(&life.customer).expect("events");
    let (all, mut all_back) = (told(forth), told(back));
    assert!(
        all.iter().all(|e| e["created"] == all[0]["created"]) && all.len() > 6,
        "{all:#?}"
    );
    all_back.reverse();
    for event in all.iter().chain(&all_back) {
        shop.deliver(event, 1).await;
    }
    for (life, kinds) in [(ended, [created, deleted]), (reversed, [deleted, created])] {
        for kind in kinds {
            shop.deliver(&find(life, kind), 1).await;
            until_is(life, "status", json!("canceled")).await;
        }
    }
    for life in [forth, back, ended, reversed] {
        until_is(life, "status", json!("canceled")).await;
    }
    shop.quiet().await;

    let once = |audited: &Counts, action: &str| audited.get(action) == Some(&vec![1]);
    for life in [forth, back, ended, reversed] {
        let audited = shop.audited(life).await;
        let told = ["subscription.created", "subscription.ended", "invoice.paid"];
        assert!(
            told.iter().all(|action| once(&audited, action)),
            "{audited:#?}"
        );
        assert_eq!(subscription(&life.api).await["plan"], "free");
    }
    for life in [first, last] {
        let audited = shop.audited(life).await;
        let told = ["subscription.created", "plan.changed", "invoice.paid"];
        assert!(
            told.iter().all(|action| once(&audited, action)),
            "{audited:#?}"
        );
    }
    assert_eq!(shop.outcome(forth).await, shop.outcome(back).await);
    assert_eq!(shop.outcome(ended).await, shop.outcome(reversed).await);
    assert_eq!(shop.outcome(first).await, shop.outcome(last).await);
    let _ = shop.reconcile(&["--since", BEGIN]).await;
    let expected = shop.outcome(forth).await;
    for life in [back, ended, reversed] {
        assert_eq!(shop.outcome(life).await, expected);
    }
}

/// Something happens at Stripe: by the payer, by somebody in its own pages. Returns what it came to.
async fn happen(shop: &Shop, life: &Life, what: usize) -> u16 {
    let faults = shop.stage.faults();
    let path = format!("/v1/subscriptions/{}", life.subscription);
    let charge = async || {
        let path = format!("/v1/charges?limit=10&customer={}", life.customer);
        let (_, charges) = shop.ask(Method::GET, &path, &[]).await;
        let charges = charges["data"].as_array().expect("a list");
        let newest = charges.iter().find(|charge| charge["paid"] == true)?;
        newest["id"].as_str().map(str::to_owned)
    };
    let of_invoice = async |verb: &str| {
        let (_, s) = shop.ask(Method::GET, &path, &[]).await;
        let latest = s["latest_invoice"].as_str().expect("an invoice").to_owned();
        shop.ask(Method::POST, &format!("/v1/invoices/{latest}/{verb}"), &[])
            .await
            .0
    };
    match what {
        0..=3 => {
            faults
                .decline_next_charge(&life.customer, "insufficient_funds")
                .expect("a customer");
            0
        }
        4 => {
            shop.ask(Method::POST, &path, &[("cancel_at_period_end", "true")])
                .await
                .0
        }
        5 => {
            shop.ask(Method::POST, &path, &[("cancel_at_period_end", "false")])
                .await
                .0
        }
        6 | 7 => {
            let (_, s) = shop.ask(Method::GET, &path, &[]).await;
            let item = s["items"]["data"][0]["id"].as_str().expect("an item");
            let plan = if what == 6 { "studio" } else { "professional" };
            let form = [
                ("items[0][id]", item),
                ("items[0][price]", shop.price(plan)),
            ];
            shop.ask(Method::POST, &path, &form).await.0
        }
        8 => of_invoice("pay").await,
        9 => of_invoice("void").await,
        10 | 11 => match charge().await {
            Some(charge) => {
                shop.ask(
                    Method::POST,
                    "/v1/refunds",
                    &[("charge", &charge), ("amount", "100")],
                )
                .await
                .0
            }
            None => 0,
        },
        12 => match charge().await {
            Some(charge) => u16::from(faults.dispute(&charge, "fraudulent").is_ok()),
            None => 0,
        },
        13 => shop.ask(Method::DELETE, &path, &[]).await.0,
        _ => {
            let path = format!("/v1/customers/{}", life.customer);
            shop.ask(Method::POST, &path, &[("name", "Another name")])
                .await
                .0
        }
    }
}

/// How long the chapters of a story last, in days. A renewal falls into the second; Stripe lists the events of thirty
/// days.
const CHAPTERS: [i64; 4] = [5, 4, 8, 8];
const EVENTS_OF_A_CHAPTER: usize = 3;

/// What a trace does with the events of a chapter: three are lost, come twice, or come, among them old ones.
async fn deliver_some(shop: &Shop, dice: &mut Dice, pending: &mut Vec<Value>) {
    for _ in 0..EVENTS_OF_A_CHAPTER {
        if pending.is_empty() {
            return;
        }
        let at = dice.roll(pending.len());
        match dice.roll(3) {
            0 => drop(pending.swap_remove(at)),
            // It may come again, in this chapter or later.
            1 => shop.deliver(&pending[at].clone(), 2).await,
            _ => shop.deliver(&pending.swap_remove(at), 1).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_traces_with_drops_end_as_if_nothing_had_been_lost() {
    let shop = Shop::open().await;
    let traces = event_traces(100);
    let stories = traces.div_ceil(TRACES_OF_A_STORY);
    // One of each story is told everything, in order.
    let told_all = |number: usize| number.is_multiple_of(TRACES_OF_A_STORY + 1);
    let story_of = |number: usize| number / (TRACES_OF_A_STORY + 1);
    let renews = (shop.stage.now() + TimeDelta::days(7))
        .timestamp()
        .to_string();
    let lives = shop
        .lives("trace", traces + stories, |number| {
            let term = ["trial_end", "billing_cycle_anchor"][story_of(number) % 2];
            vec![(term.to_owned(), renews.clone())]
        })
        .await;
    let numbers: Vec<_> = (0..lives.len()).collect();
    let mut plots: Vec<_> = (0..stories).map(|story| Dice(story as u64)).collect();
    let mut told: Vec<(Dice, Vec<Value>)> = numbers
        .iter()
        .map(|n| (Dice(1_000_000 + *n as u64), Vec::new()))
        .collect();
    let mut seen = 0;
    for days in CHAPTERS {
        let happens: Vec<_> = plots
            .iter_mut()
            .map(|dice| [0; 3].map(|_: usize| dice.roll(15)))
            .collect();
        let came_to = each(&numbers, async |number| {
            let mut came_to = Vec::new();
            for what in happens[story_of(*number)] {
                came_to.push(happen(&shop, &lives[*number], what).await);
            }
            came_to
        })
        .await;
        for number in numbers.iter().filter(|number| !told_all(**number)) {
            let twin = story_of(*number) * (TRACES_OF_A_STORY + 1);
            assert_eq!(
                came_to[*number], came_to[twin],
                "a story is the same for all"
            );
        }
        shop.stage.turn(TimeDelta::days(days));
        let (mut history, all) = shop.history(seen);
        seen = all;
        let chapter =
            numbers
                .iter()
                .zip(told.drain(..))
                .map(|(number, (mut dice, mut pending))| {
                    pending.extend(history.remove(&lives[*number].customer).unwrap_or_default());
                    let shop = &shop;
                    async move {
                        if told_all(*number) {
                            for event in pending.drain(..) {
                                shop.deliver(&event, 1).await;
                            }
                        } else {
                            deliver_some(shop, &mut dice, &mut pending).await;
                        }
                        (dice, pending)
                    }
                });
        told = futures_util::stream::iter(chapter)
            .buffered(AT_ONCE)
            .collect()
            .await;
    }
    shop.quiet().await;

    // The last three days of events, and every object of every customer.
    let found = shop.reconcile(&[]).await;
    assert!(
        found["drift"]
            .as_array()
            .is_some_and(|drift| !drift.is_empty()),
        "nothing was lost"
    );
    shop.quiet().await;
    let outcomes = each(&lives, async |life| shop.outcome(life).await).await;
    for number in &numbers {
        let twin = story_of(*number) * (TRACES_OF_A_STORY + 1);
        assert_eq!(outcomes[*number], outcomes[twin], "trace {number}");
    }
    // All that Stripe could not deliver: also what was given back, and what is disputed.
    let _ = shop.reconcile(&["--since", BEGIN]).await;
    shop.quiet().await;
    let shown = each(&lives, async |life| subscription(&life.api).await).await;
    let before = outcomes.into_iter().map(|outcome| outcome.subscription);
    assert_eq!(shown, before.collect::<Vec<_>>());
    let audited = each(&lives, async |life| shop.audited(life).await).await;
    for number in &numbers {
        let (own, twin) = (
            &audited[*number],
            &audited[story_of(*number) * (TRACES_OF_A_STORY + 1)],
        );
        for action in KEYED {
            assert_eq!(
                own.get(action),
                twin.get(action),
                "trace {number}: {action}"
            );
            let repeats = action == "invoice.payment_failed";
            let once = own
                .get(action)
                .is_none_or(|counts| counts.iter().all(|count| *count == 1));
            assert!(repeats || once, "trace {number}: {action} {own:?}");
        }
        // What was given back bit by bit is told bit by bit to who sees it.
        let refunded = |audited: &Counts| audited.get("charge.refunded").map(Vec::len);
        assert_eq!(refunded(own), refunded(twin), "trace {number}");
    }
    shop.stage.server.assert_healthy().await;
}
