//! A connection to PostgreSQL that fails: cut, delayed or silent at every single message.
//!
//! Between the real server and the real database stands a proxy that reads the protocol's frames. After each fault:
//! acknowledged ⊆ durable ⊆ attempted, an answer within five seconds, and the server goes on by itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use e2e::{Actor, Api, Backend, Server, storage_faults};
use futures_util::future::join;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinHandle;

/// What becomes of the message that is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The connection ends before it, on both sides.
    Cut,
    /// It arrives, and the connection ends after it.
    CutAfter,
    /// It arrives late.
    Delay,
    /// It never arrives, nor does anything after it on this connection.
    Silence,
}

/// The longest that a route may take while the database is silent: five seconds, and what a loaded machine adds.
const ANSWERED_WITHIN: Duration = Duration::from_secs(7);

#[derive(Default)]
struct Orders {
    /// Messages to let pass before the fault; below nought there is none.
    left: AtomicI64,
    /// The fault's number.
    fault: AtomicU64,
    seen: AtomicI64,
    made: AtomicI64,
    /// Nothing passes at all.
    is_frozen: AtomicBool,
}

const KINDS: [Fault; 4] = [Fault::Cut, Fault::CutAfter, Fault::Delay, Fault::Silence];

impl Orders {
    fn next(&self) -> Option<Fault> {
        self.seen.fetch_add(1, Ordering::SeqCst);
        if self.left.load(Ordering::SeqCst) < 0 {
            return None;
        }
        if self.left.fetch_sub(1, Ordering::SeqCst) != 0 {
            return None;
        }
        self.made.fetch_add(1, Ordering::SeqCst);
        let kind = usize::try_from(self.fault.load(Ordering::SeqCst)).expect("a small number");
        Some(KINDS[kind])
    }

    fn fail_after(&self, messages: i64, fault: usize) {
        self.seen.store(0, Ordering::SeqCst);
        self.made.store(0, Ordering::SeqCst);
        self.fault.store(fault as u64, Ordering::SeqCst);
        self.left.store(messages, Ordering::SeqCst);
    }

    fn repair(&self) -> (i64, i64) {
        self.left.store(-1, Ordering::SeqCst);
        (
            self.seen.load(Ordering::SeqCst),
            self.made.load(Ordering::SeqCst),
        )
    }

    async fn thawed(&self) {
        while self.is_frozen.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Passes messages on until one side ends or a fault says so. A start-up message has no kind before its length.
async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    orders: Arc<Orders>,
    mut is_start: bool,
) -> std::io::Result<()> {
    loop {
        let mut message = vec![0; if is_start { 4 } else { 5 }];
        from.read_exact(&mut message).await?;
        let head = message.len();
        let length: [u8; 4] = message[head - 4..].try_into().expect("four bytes");
        let rest = usize::try_from(u32::from_be_bytes(length)).expect("a length") - 4;
        message.resize(head + rest, 0);
        from.read_exact(&mut message[head..]).await?;
        is_start = false;
        orders.thawed().await;
        match orders.next() {
            None => {}
            Some(Fault::Cut) => return Ok(()),
            Some(Fault::CutAfter) => return to.write_all(&message).await,
            Some(Fault::Delay) => tokio::time::sleep(Duration::from_millis(300)).await,
            Some(Fault::Silence) => std::future::pending().await,
        }
        to.write_all(&message).await?;
    }
}

struct Proxied {
    server: Server,
    orders: Arc<Orders>,
    proxy: JoinHandle<()>,
}

impl Drop for Proxied {
    fn drop(&mut self) {
        self.proxy.abort();
    }
}

impl Proxied {
    async fn start() -> Self {
        let orders = Arc::new(Orders::default());
        orders.left.store(-1, Ordering::SeqCst);
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("failed to listen");
        let port = listener.local_addr().expect("an address").port();
        let socket = Backend::postgres_socket();
        let shared = orders.clone();
        let proxy = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    continue;
                };
                let _ = client.set_nodelay(true);
                let Ok(database) = UnixStream::connect(&socket).await else {
                    continue;
                };
                let orders = shared.clone();
                tokio::spawn(async move {
                    let (read, write) = client.into_split();
                    let (answers, questions) = database.into_split();
                    // Whichever ends, both sides are closed.
                    tokio::select! {
                        _ = pass(read, questions, orders.clone(), true) => {}
                        _ = pass(answers, write, orders, false) => {}
                    }
                });
            }
        });
        let server = tokio::task::spawn_blocking(move || Server::start_through(port));
        Self {
            server: server.await.expect("the server's start did not panic"),
            orders,
            proxy,
        }
    }

    async fn sign_in(&self, ada: &Actor) -> Api {
        let body = json!({ "email": ada.email, "password": Actor::PASSWORD });
        let answer = self
            .server
            .anonymous()
            .post("/v1/sessions", &body)
            .await
            .is(201);
        self.server.bearer(&answer.text("access_token"))
    }
}

#[derive(Default)]
struct Known {
    acknowledged: BTreeSet<String>,
    attempted: BTreeSet<String>,
}

impl Known {
    /// Makes a library, which takes at most five seconds whatever becomes of it.
    async fn make(&mut self, api: &Api, name: String) -> bool {
        self.attempted.insert(name.clone());
        let start = Instant::now();
        let answer = api.post("/v1/libraries", &json!({ "name": name })).await;
        let waited = start.elapsed();
        assert!(
            waited < ANSWERED_WITHIN,
            "answered after {waited:?}: {answer:?}"
        );
        match answer.status {
            201 => {
                self.acknowledged.insert(name);
                true
            }
            503 => false,
            _ => panic!("a write while the database fails: {answer:?}"),
        }
    }

    async fn check(&self, api: &Api, when: &str) {
        let rows = api.list_all("/v1/libraries", 200).await;
        let there: BTreeSet<String> = rows
            .iter()
            .map(|row| row["name"].as_str().expect("a name").to_owned())
            .collect();
        assert_eq!(there.len(), rows.len(), "{when}: one was made twice");
        let lost: Vec<_> = self.acknowledged.difference(&there).collect();
        assert!(lost.is_empty(), "{when}: acknowledged and gone: {lost:?}");
        assert!(
            there.is_subset(&self.attempted),
            "{when}: nobody asked for one"
        );
    }
}

/// Two clients at a time, each of which reads as well.
async fn mixed(known: &mut Known, api: &Api, number: usize) {
    let (mut one, mut other) = (Known::default(), Known::default());
    join(
        async {
            one.make(api, format!("a-{number}")).await;
            let usage = api.get("/v1/usage").await;
            assert!([200, 503].contains(&usage.status), "{usage:?}");
        },
        async {
            let libraries = api.get("/v1/libraries?limit=1").await;
            assert!([200, 503].contains(&libraries.status), "{libraries:?}");
            other.make(api, format!("b-{number}")).await;
        },
    )
    .await;
    for mut part in [one, other] {
        known.acknowledged.append(&mut part.acknowledged);
        known.attempted.append(&mut part.attempted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "is about PostgreSQL alone, where cargo xtask test runs it"]
async fn whatever_message_fails_what_was_acknowledged_is_durable() {
    Backend::Postgres.assert_chosen();
    let proxied = Proxied::start().await;
    let ada = proxied.server.sign_up_on("wire", "enterprise").await;
    let mut api = proxied.server.bearer(&ada.token);
    let mut known = Known::default();
    let positions = storage_faults(400);
    let (mut calls, mut faults) = (40, 0);
    for position in 0..positions {
        // Silence costs its time: one position in fifty.
        let fault = if position % 50 == 49 { 3 } else { position % 3 };
        let at = i64::try_from(position / 3).expect("a small number") % (calls + 6);
        proxied.orders.fail_after(at, fault);
        mixed(&mut known, &api, position).await;
        let (seen, made) = proxied.orders.repair();
        if made == 0 {
            calls = calls.max(seen).min(120);
        }
        faults += usize::from(made > 0);
        let when = format!("message {at} of {seen}, {:?}", KINDS[fault]);
        let goes_on = known.make(&api, format!("after-{position}")).await;
        assert!(goes_on, "{when}: writing does not go on");
        if position % 100 == 99 || position + 1 == positions {
            proxied.server.restart();
            api = proxied.sign_in(&ada).await;
            known.check(&api, &when).await;
        }
    }
    assert!(
        faults * 2 >= positions,
        "only {faults} of {positions} faults were met"
    );
    proxied.server.assert_healthy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "is about PostgreSQL alone, where cargo xtask test runs it"]
async fn a_frozen_database_is_told_within_five_seconds_on_every_route() {
    Backend::Postgres.assert_chosen();
    let proxied = Proxied::start().await;
    let ada = proxied.server.sign_up_on("frozen", "enterprise").await;
    let gallery = ada.gallery("Frozen").await;
    let api = proxied.server.bearer(&ada.token);
    let anonymous = proxied.server.anonymous();
    proxied.orders.is_frozen.store(true, Ordering::SeqCst);
    let photo = e2e::image::jpeg(2_000, 7);
    // More than there are connections: most wait for one.
    let mut asked = Vec::new();
    for round in 0..12 {
        let sign_in = json!({ "email": ada.email, "password": Actor::PASSWORD });
        let sign_up = json!({ "email": format!("frozen-{round}@example.test"), "password": Actor::PASSWORD, "name": "F", "workspace_name": "F" });
        let requests = [
            api.request(reqwest::Method::GET, "/v1/usage"),
            api.request(reqwest::Method::GET, &format!("/v1/galleries/{gallery}")),
            api.request(reqwest::Method::POST, "/v1/libraries")
                .json(&json!({ "name": "x" })),
            api.upload_request(&gallery, photo.clone(), "image/jpeg"),
            anonymous
                .request(reqwest::Method::POST, "/v1/sessions")
                .json(&sign_in),
            anonymous
                .request(reqwest::Method::POST, "/v1/signup")
                .json(&sign_up),
            anonymous.request(reqwest::Method::GET, "/readyz"),
        ];
        for request in requests {
            let api = api.clone();
            asked.push(tokio::spawn(async move {
                let start = Instant::now();
                (api.send(request).await, start.elapsed())
            }));
        }
    }
    for asked in asked {
        let (answer, waited) = asked.await.expect("no client panicked");
        assert!([503, 429].contains(&answer.status), "{answer:?}");
        assert!(
            waited < ANSWERED_WITHIN,
            "answered after {waited:?}: {answer:?}"
        );
    }
    proxied.orders.is_frozen.store(false, Ordering::SeqCst);
    let start = Instant::now();
    let mut known = Known::default();
    assert!(
        known.make(&api, "thawed".to_owned()).await,
        "it goes on at once"
    );
    assert!(start.elapsed() < Duration::from_secs(2));
    known.attempted.extend(["Frozen", "x"].map(str::to_owned));
    let rows = api.list_all("/v1/libraries", 200).await;
    assert!(rows.iter().any(|row| row["name"] == "thawed"));
}
