//! Money moves once: answers that are lost, failures that are replayed for ever, a server that is killed at every
//! moment around a call, and everybody asking at once. Afterwards there is one customer, one subscription, one charge
//! for each invoice, and the workspace is as Stripe has it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use e2e::{Actor, Answer, Api, Backend, rounds};
use futures_util::future::join_all;
use rawdrive_stripe_double::{Fault, Matching};
use reqwest::Method;
use serde_json::{Value, json};

use crate::crash::until;
use crate::stage::{Stage, subscribe, subscription};

const PATH: &str = "/v1/billing/subscription";
/// How long nothing may be stuck after a server is back. A file's only server knows at its start that whoever drove
/// what is under way is dead; where several servers work, leases of 45 seconds say so.
fn stuck_seconds() -> u32 {
    if Backend::chosen().is_postgres() {
        60
    } else {
        25
    }
}

fn order(plan: &str) -> Value {
    json!({ "plan": plan, "interval": "month" })
}

fn text<'a>(object: &'a Value, member: &str) -> &'a str {
    object[member]
        .as_str()
        .unwrap_or_else(|| panic!("no text {member}: {object}"))
}

/// The plan of a subscription at the double, by the name of its price.
fn plan_of(subscription: &Value) -> String {
    let price = &subscription["items"]["data"][0]["price"];
    let key = text(price, "lookup_key");
    let plan = ["free", "professional", "studio", "trial"]
        .into_iter()
        .find(|plan| key.contains(plan));
    plan.unwrap_or_else(|| panic!("no plan in {key}"))
        .to_owned()
}

/// That at the double there is one customer for the workspace and one subscription, that each of its invoices was
/// charged once and for what it says, `charges` times in all, and that the workspace says what the double says.
async fn paid_once(stage: &Stage, actor: &Actor, api: &Api, charges: usize) {
    let customer = stage.customer(actor);
    let subscriptions = stage.subscriptions(&customer);
    let [theirs] = subscriptions.as_slice() else {
        panic!("{subscriptions:#?}")
    };
    let paid = stage.state().paid_charges(&customer);
    let mut by_invoice = BTreeMap::new();
    for charge in &paid {
        let intent = text(charge, "payment_intent").to_owned();
        *by_invoice.entry(intent).or_insert(0) += 1;
    }
    assert!(by_invoice.values().all(|times| *times == 1), "{paid:#?}");
    let mut invoices = stage.state().objects("invoice");
    invoices.retain(|invoice| {
        invoice["customer"] == customer.as_str() && invoice["amount_paid"] != json!(0)
    });
    let sum = |all: &[Value], member: &str| -> i64 {
        all.iter().filter_map(|one| one[member].as_i64()).sum()
    };
    assert_eq!(
        (paid.len(), invoices.len()),
        (charges, charges),
        "{paid:#?} {invoices:#?}"
    );
    assert_eq!(sum(&paid, "amount"), sum(&invoices, "amount_paid"));
    let ours = subscription(api).await;
    assert_eq!(
        (text(&ours, "plan"), text(&ours, "status")),
        (plan_of(theirs).as_str(), text(theirs, "status")),
        "{ours} {theirs}"
    );
}

/// Asks until it is answered that it is so; whoever lost an answer does.
async fn insist(what: &str, ask: impl AsyncFn() -> Answer, good: impl Fn(&Answer) -> bool) {
    until(stuck_seconds(), what, async || {
        let answer = ask().await;
        let known = [200, 201, 409, 503].contains(&answer.status);
        assert!(known, "{what}: {answer:?}");
        good(&answer)
    })
    .await;
}

fn is_subscribed(answer: &Answer) -> bool {
    answer.status == 201 || (answer.status == 409 && answer.json()["code"] == "conflict")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_lost_are_found_however_often() {
    let stage = Stage::start().await;
    // Once, so that the call's own next try finds it; and so often that the call is given up, and taken up again.
    for times in [1, 6] {
        let (ada, api) = stage.owner("lost").await;
        for path in [
            "/v1/customers",
            "/v1/payment_methods/*/attach",
            "/v1/subscriptions",
        ] {
            stage
                .faults()
                .next(times, Matching::new("POST", path), Fault::DropAnswer);
        }
        insist(
            "it subscribes",
            async || subscribe(&api, "professional", "pm_card_visa").await,
            is_subscribed,
        )
        .await;
        stage.settled_within(stuck_seconds()).await;
        paid_once(&stage, &ada, &api, 1).await;

        stage.turn(chrono::TimeDelta::days(7));
        stage.settled().await;
        stage.faults().next(
            times,
            Matching::new("POST", "/v1/subscriptions/*"),
            Fault::DropAnswer,
        );
        insist(
            "it changes",
            async || api.patch(PATH, &order("studio")).await,
            |answer| answer.status == 200 && answer.json()["plan"] == "studio",
        )
        .await;
        stage.settled_within(stuck_seconds()).await;
        paid_once(&stage, &ada, &api, 2).await;
    }
    stage.server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_under_which_a_failure_is_kept_for_ever_is_overcome() {
    let stage = Stage::start().await;
    for committed in [false, true] {
        let (ada, api) = stage.owner("kept").await;
        let kept = Fault::ServerError { committed };
        let before = stage.state().calls().len();
        let subscriptions = Matching::new("POST", "/v1/subscriptions");
        stage.faults().next(1, subscriptions, kept.clone());
        insist(
            "it subscribes",
            async || subscribe(&api, "professional", "pm_card_visa").await,
            is_subscribed,
        )
        .await;
        stage.settled().await;
        paid_once(&stage, &ada, &api, 1).await;
        let calls = stage.state().calls();
        let mut keys = BTreeSet::new();
        let mut replayed = 0;
        for call in &calls[before..] {
            if call.method == "POST" && call.path == "/v1/subscriptions" {
                keys.insert(call.idempotency_key.clone().expect("a key"));
                replayed += usize::from(call.replayed && call.status == Some(500));
            }
        }
        // Asked again under its key the failure comes again; another key follows only where nothing was made.
        assert!(replayed >= 1, "{:#?}", &calls[before..]);
        assert_eq!(keys.len(), if committed { 1 } else { 2 }, "{keys:#?}");

        stage.turn(chrono::TimeDelta::days(7));
        stage.settled().await;
        // What is sent first names the operation; what follows changes the price.
        let changes = || Matching::new("POST", "/v1/subscriptions/*");
        stage
            .faults()
            .next(1, changes(), Fault::Delay(Duration::ZERO));
        stage.faults().next(1, changes(), kept);
        insist(
            "it changes",
            async || api.patch(PATH, &order("studio")).await,
            |answer| answer.status == 200 && answer.json()["plan"] == "studio",
        )
        .await;
        stage.settled().await;
        paid_once(&stage, &ada, &api, 2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_at_once_subscribe_once() {
    let stage = Stage::start().await;
    for round in 0..rounds(2) {
        let (ada, api) = stage.owner("pair").await;
        // While one is at Stripe, the other asks.
        let slow = Fault::Delay(Duration::from_millis(300));
        let path = ["/v1/customers", "/v1/subscriptions"][round % 2];
        stage.faults().next(1, Matching::new("POST", path), slow);
        let answers =
            join_all((0..2).map(|_| subscribe(&api, "professional", "pm_card_visa"))).await;
        let made = answers.iter().filter(|a| a.status == 201).count();
        assert!(made >= 1, "{answers:#?}");
        for answer in answers.iter().filter(|a| a.status != 201) {
            assert_eq!(answer.status, 409, "{answer:?}");
        }
        stage.settled().await;
        paid_once(&stage, &ada, &api, 1).await;
    }
}

/// Whether a change was made, or refused for another that is under way or was first.
fn of_a_crowd(answer: &Answer) -> bool {
    match answer.status {
        200 => true,
        409 => {
            let code = text(&answer.json(), "code").to_owned();
            assert!(
                ["operation_in_progress", "plan_change_stale"].contains(&code.as_str()),
                "{answer:?}"
            );
            false
        }
        _ => panic!("{answer:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_changes_at_once_one_is_live_and_nothing_is_charged_twice() {
    let stage = Stage::start().await;
    let (ada, api) = stage.subscriber("crowd", "professional").await;
    stage.settled().await;
    stage.turn(chrono::TimeDelta::days(11));
    stage.settled().await;
    let customer = stage.customer(&ada);
    let preview = async |plan: &str| {
        api.post(&format!("{PATH}/preview"), &order(plan))
            .await
            .is(200)
            .json()
    };
    let seen = preview("studio").await;
    let crowd = async |bodies: Vec<Value>| {
        let asked = bodies.into_iter().map(|body| {
            let api = api.clone();
            tokio::spawn(async move { api.patch(PATH, &body).await })
        });
        let answers = join_all(asked).await;
        let answers = answers.into_iter().map(|answer| answer.expect("no panic"));
        answers.collect::<Vec<_>>()
    };

    // Half of them hold to what they were shown, half do not.
    let mut bodies = vec![order("studio"); 100];
    for body in bodies.iter_mut().step_by(2) {
        body["commit_token"] = seen["commit_token"].clone();
    }
    // The change itself takes a while: the others come meanwhile, and an operator sees one under way.
    let changes = || Matching::new("POST", "/v1/subscriptions/*");
    stage
        .faults()
        .next(2, changes(), Fault::Delay(Duration::from_millis(1500)));
    let (answers, live) = tokio::join!(crowd(bodies), async {
        let mut most = 0;
        for _ in 0..3 {
            let live = &stage.under_way().await["live_operations"];
            most = most.max(live.as_u64().expect("a number"));
        }
        most
    });
    assert!(live <= 1, "{live} operations were live at once");
    let made = answers.iter().filter(|answer| of_a_crowd(answer)).count();
    assert!(made >= 1, "{answers:#?}");
    assert!(
        answers.iter().any(|answer| answer.status == 409),
        "nobody came amid the change"
    );
    stage.settled().await;
    assert_eq!(subscription(&api).await["plan"], "studio");
    paid_once(&stage, &ada, &api, 2).await;
    let charges = stage.state().paid_charges(&customer);
    assert_eq!(charges[1]["amount"], seen["amount_now"], "{charges:#?}");

    // Now to and fro: what was shown, what is had, and what is smaller.
    let seen = preview("professional").await;
    let bodies = (0..100).map(|number| match number % 3 {
        0 => order("studio"),
        1 => order("professional"),
        _ => {
            let mut body = order("professional");
            body["commit_token"] = seen["commit_token"].clone();
            body
        }
    });
    let answers = crowd(bodies.collect()).await;
    let made = answers.iter().filter(|answer| of_a_crowd(answer)).count();
    assert!(made >= 1, "{answers:#?}");
    stage.settled().await;
    paid_once(&stage, &ada, &api, 2).await;
    let theirs = stage.subscriptions(&customer).remove(0);
    let ours = subscription(&api).await;
    let comes = theirs["schedule"]
        .as_str()
        .and_then(|schedule| stage.state().object(schedule))
        .is_some_and(|schedule| schedule["status"] == "active");
    assert_eq!(
        comes,
        ours["scheduled"]["plan"] == "professional",
        "{ours} {theirs}"
    );
    stage.server.assert_healthy().await;
}

/// Where a server is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Before the operation is written down: the call that precedes it is not answered. (Of a subscribing that is the
    /// making of the customer, of a change the preview by which it is decided.)
    BeforeItIsWritten,
    /// It is written down, and the call is not made: what is asked before the call is not answered.
    BeforeTheCall,
    /// Stripe has done it, and does not answer.
    AfterStripeHasDoneIt,
    /// Stripe has answered, and what the answer calls for is being fetched: how it ended is not written down.
    BeforeItsEndIsWritten,
    /// Stripe is at it, and does it after the server has died.
    AmidTheCall,
    /// It may be over, and the client's answer is on its way: killed a moment after the workspace shows it.
    BeforeTheClientKnows,
}

const MOMENTS: [Moment; 6] = [
    Moment::BeforeItIsWritten,
    Moment::BeforeTheCall,
    Moment::AfterStripeHasDoneIt,
    Moment::BeforeItsEndIsWritten,
    Moment::AmidTheCall,
    Moment::BeforeTheClientKnows,
];

/// A call by method and path, whose arrival shows how far somebody has come.
type Sign = (&'static str, String);

/// Somebody whose request is amid something when the server dies.
struct Client {
    moment: Moment,
    /// Nothing for one who subscribes; otherwise the subscription that is changed.
    changes: Option<String>,
    actor: Actor,
    api: Api,
}

impl Client {
    async fn new(stage: &Stage, moment: Moment, is_changing: bool) -> Self {
        let (actor, api) = if is_changing {
            stage.subscriber("changes", "professional").await
        } else {
            stage.owner("subscribes").await
        };
        let changes = is_changing.then(|| {
            let own = stage.subscriptions(&stage.customer(&actor));
            text(&own[0], "id").to_owned()
        });
        Self {
            moment,
            changes,
            actor,
            api,
        }
    }

    async fn try_ask(&self) -> reqwest::Result<Answer> {
        let (method, mut body) = match self.changes {
            None => (Method::POST, order("professional")),
            Some(_) => (Method::PATCH, order("studio")),
        };
        if self.changes.is_none() {
            body["payment_method_id"] = json!("pm_card_visa");
        }
        let request = self.api.request(method, PATH).json(&body);
        self.api.try_send(request).await
    }

    /// The faults that stop it at its moment, in the order of its calls, and the call by whose arrival that shows.
    fn stops(&self) -> (Vec<(Matching, Fault)>, Option<Sign>) {
        let on = |method: &str, path: &str, fault| (Matching::new(method, path), fault);
        let nothing = Fault::Delay(Duration::ZERO);
        let slow = Fault::Delay(Duration::from_secs(4));
        match (&self.changes, self.moment) {
            (_, Moment::BeforeTheClientKnows) => (Vec::new(), None),
            (None, Moment::BeforeItIsWritten) => (
                vec![on("POST", "/v1/customers", Fault::HangAnswer)],
                Some(("POST", "/v1/customers".to_owned())),
            ),
            (None, Moment::BeforeTheCall) => (
                vec![on("GET", "/v1/subscriptions", Fault::Hang)],
                Some(("GET", "/v1/subscriptions".to_owned())),
            ),
            (None, Moment::AfterStripeHasDoneIt) => (
                vec![on("POST", "/v1/subscriptions", Fault::HangAnswer)],
                Some(("POST", "/v1/subscriptions".to_owned())),
            ),
            (None, Moment::BeforeItsEndIsWritten) => (
                vec![on("GET", "/v1/subscriptions/*", Fault::Hang)],
                Some(("GET", "/v1/subscriptions/*".to_owned())),
            ),
            // The call before it is answered: then it is on its way.
            (None, Moment::AmidTheCall) => (
                vec![on("POST", "/v1/subscriptions", slow)],
                Some(("POST", "/v1/payment_methods/*/attach".to_owned())),
            ),
            (Some(_), Moment::BeforeItIsWritten) => (
                vec![on("POST", "/v1/invoices/create_preview", Fault::Hang)],
                Some(("POST", "/v1/invoices/create_preview".to_owned())),
            ),
            (Some(id), moment) => {
                let path = format!("/v1/subscriptions/{id}");
                let (get, post) = (
                    |fault| on("GET", &path, fault),
                    |fault| on("POST", &path, fault),
                );
                // It is looked at for the preview and before the call, named by its operation, changed, and fetched.
                let (stops, method) = match moment {
                    Moment::BeforeTheCall => (vec![get(nothing), get(Fault::Hang)], "GET"),
                    Moment::AfterStripeHasDoneIt => {
                        (vec![post(nothing), post(Fault::HangAnswer)], "POST")
                    }
                    Moment::BeforeItsEndIsWritten => (
                        vec![get(nothing.clone()), get(nothing), get(Fault::Hang)],
                        "GET",
                    ),
                    _ => (vec![post(nothing), post(slow)], "POST"),
                };
                (stops, Some((method, path)))
            }
        }
    }

    /// Brings the request to its moment; what it is answered nobody will know.
    async fn bring_to_its_moment(&self, stage: &Stage) {
        let (stops, shows) = self.stops();
        let times = match (self.moment, &self.changes) {
            // The slow call itself is not noted before its end.
            (Moment::AmidTheCall, _) => 1,
            _ => stops.len(),
        };
        let seen = |(method, path): &Sign| stage.state().calls_to(method, path);
        let before = shows.as_ref().map_or(0, seen);
        for (matching, fault) in stops {
            stage.faults().next(1, matching, fault);
        }
        let asked = Self {
            moment: self.moment,
            changes: self.changes.clone(),
            actor: self.actor.clone(),
            api: self.api.clone(),
        };
        // Whatever becomes of it: the server may die before it answers, or just after.
        tokio::spawn(async move { asked.try_ask().await });
        if let Some(shows) = &shows {
            until(30, "the call has come", async || {
                seen(shows) >= before + times
            })
            .await;
        }
    }

    /// The client who lost its answer asks again until it is so.
    async fn ask_again(&self) {
        match self.changes {
            None => {
                let ask = async || subscribe(&self.api, "professional", "pm_card_visa").await;
                insist("it subscribes after all", ask, is_subscribed).await;
            }
            Some(_) => {
                let ask = async || self.api.patch(PATH, &order("studio")).await;
                let good =
                    |answer: &Answer| answer.status == 200 && answer.json()["plan"] == "studio";
                insist("it changes after all", ask, good).await;
            }
        }
    }
}

/// Kills a server while clients are at every moment of both operations, and looks at what comes of them. Where
/// `they_ask` the clients ask again at once; otherwise what was begun goes on by itself, and they ask afterwards.
async fn kill_round(round: usize) {
    let they_ask = round % 2 == 1;
    let stage = Stage::start().await;
    let mut clients = Vec::new();
    for is_changing in [false, true] {
        for moment in MOMENTS {
            clients.push(Client::new(&stage, moment, is_changing).await);
        }
    }
    stage.settled().await;
    stage.turn(chrono::TimeDelta::days(9));
    stage.settled().await;
    // What Stripe tells meanwhile is told when the server is back.
    stage.faults().hold_webhooks(true);
    // One after the other, so that each is stopped by its own faults; the server waits 15 seconds for an answer.
    let began = Instant::now();
    for moment in MOMENTS {
        for client in clients.iter().filter(|client| client.moment == moment) {
            client.bring_to_its_moment(&stage).await;
        }
    }
    let watched = &clients[if they_ask { 11 } else { 5 }];
    assert_eq!(watched.moment, Moment::BeforeTheClientKnows);
    let wanted = if they_ask { "studio" } else { "professional" };
    until(30, "it is shown", async || {
        subscription(&watched.api).await["plan"] == wanted
    })
    .await;
    tokio::time::sleep(Duration::from_millis((round * 7 % 30) as u64)).await;
    stage.server.kill9();
    let nobody_went_on = began.elapsed() < Duration::from_secs(14);
    stage.faults().clear();
    stage.server.restart();
    let back = Instant::now();

    if they_ask {
        join_all(clients.iter().map(Client::ask_again)).await;
    }
    stage.settled_within(stuck_seconds()).await;
    assert!(
        back.elapsed() < Duration::from_secs(u64::from(stuck_seconds()) + 5),
        "stuck for {:?}",
        back.elapsed()
    );
    for client in &clients {
        // What was begun has come to its end by itself; what was not even written down has not.
        let was_begun = client.moment != Moment::BeforeItIsWritten;
        let shown = subscription(&client.api).await;
        let (had, wanted) = match client.changes {
            None => ("free", "professional"),
            Some(_) => ("professional", "studio"),
        };
        if was_begun || they_ask {
            assert_eq!(shown["plan"], wanted, "{:?}: {shown}", client.moment);
        } else if nobody_went_on {
            assert_eq!(shown["plan"], had, "{:?}: {shown}", client.moment);
        }
    }
    join_all(clients.iter().map(Client::ask_again)).await;
    stage.settled().await;
    for client in &clients {
        let charges = if client.changes.is_some() { 2 } else { 1 };
        paid_once(&stage, &client.actor, &client.api, charges).await;
    }
    stage.server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_around_a_call_makes_no_second_one_and_nothing_is_stuck() {
    let all: Vec<_> = (0..rounds(2)).collect();
    // Two at a time: what a dead server had leased is waited for by the clock.
    for pair in all.chunks(2) {
        join_all(pair.iter().map(|round| kill_round(*round))).await;
    }
}
