//! The server as strangers meet it, over real connections.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use actix_web::body::{BodyStream, SizedStream};
use actix_web::{App, HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use rawdrive_tenancy_core::Env;
use tokio::time::sleep;

use super::*;
use crate::web::{Body, Edge, Pace, Problem};

/// So long a test waits for what ought to happen, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// What happens at once takes far less than this, and far less than any wait of the server.
const AT_ONCE: Duration = Duration::from_secs(3);
/// More than the system's buffers hold.
const LARGE_BYTES: usize = 32 << 20;

async fn hello(request: HttpRequest) -> String {
    format!("hello {}", request.path())
}

async fn slowly(request: HttpRequest) -> String {
    sleep(Duration::from_millis(5)).await;
    format!("slowly {}", request.path())
}

async fn length(body: Body) -> Result<String, Problem> {
    Ok(body.bytes(1 << 20).await?.len().to_string())
}

async fn refuse() -> Result<String, Problem> {
    Err(Problem::unauthenticated())
}

async fn pieces() -> HttpResponse {
    let pieces = ["one ", "", "two ", "three"].map(|piece| Ok::<_, io::Error>(Bytes::from(piece)));
    HttpResponse::Ok().body(BodyStream::new(stream::iter(pieces)))
}

async fn large() -> HttpResponse {
    const PIECE: usize = 64 << 10;
    let pieces = stream::unfold(0, |sent| async move {
        tokio::task::yield_now().await;
        let piece = Bytes::from_static(&[b'x'; PIECE]);
        (sent < LARGE_BYTES).then_some((Ok::<_, io::Error>(piece), sent + PIECE))
    });
    HttpResponse::Ok().body(SizedStream::new(LARGE_BYTES as u64, pieces))
}

async fn forever() -> String {
    std::future::pending().await
}

struct Served {
    address: SocketAddr,
    stop: Stop,
}

fn serve(limits: Limits) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let application = || {
        App::new()
            .service(web::resource("/refuse").to(refuse))
            .service(web::resource("/length").to(length))
            .service(web::resource("/pieces").to(pieces))
            .service(web::resource("/large").to(large))
            .service(web::resource("/forever").to(forever))
            .service(web::resource("/slowly/{n}").to(slowly))
            .service(web::resource("/{n}").to(hello))
            .wrap(Edge::new(Env::system()))
    };
    let running = Server::new(Env::system(), application)
        .limits(limits)
        .workers(1)
        .listen(listener)
        .unwrap();
    let stop = running.stop_handle();
    actix_web::rt::spawn(running);
    Served { address, stop }
}

/// A client that does as it is told.
struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            read: Vec::new(),
        }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        // The server may have closed already: what it said is read.
        let _ = self.stream.write_all(bytes.as_ref());
        self
    }

    fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n"))
            .answer(false)
    }

    /// Reads more; nothing at the connection's end.
    fn more(&mut self) -> usize {
        let mut piece = [0; 64 << 10];
        let read = self.stream.read(&mut piece).unwrap_or_default();
        self.read.extend_from_slice(&piece[..read]);
        read
    }

    fn line(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self
                .read
                .windows(end.len())
                .position(|w| w == end.as_bytes())
            {
                let rest = self.read.split_off(at + end.len());
                let line = std::mem::replace(&mut self.read, rest);
                return String::from_utf8(line[..at].to_vec()).unwrap();
            }
            let so_far = String::from_utf8_lossy(&self.read).into_owned();
            assert_ne!(self.more(), 0, "the connection ended within {so_far:?}");
        }
    }

    fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            assert_ne!(self.more(), 0, "the connection ended within a body");
        }
        let rest = self.read.split_off(length);
        std::mem::replace(&mut self.read, rest)
    }

    /// The next answer, whose length is that of its own framing.
    fn answer(&mut self, to_head: bool) -> Answer {
        let head = self.line("\r\n\r\n");
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .or_else(|| head.strip_prefix("HTTP/1.0 "))
            .unwrap_or_else(|| panic!("no status line: {head}"))[..3]
            .parse()
            .unwrap();
        let mut answer = Answer {
            status,
            head,
            body: Vec::new(),
        };
        if to_head || status < 200 || status == 204 {
            return answer;
        }
        if let Some(length) = answer.header("content-length") {
            let length = length.parse().unwrap();
            answer.body = self.exactly(length);
        } else if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&self.line("\r\n"), 16).unwrap();
                let mut piece = self.exactly(size + 2);
                piece.truncate(size);
                answer.body.extend(piece);
                if size == 0 {
                    break;
                }
            }
        } else {
            while self.more() > 0 {}
            answer.body = std::mem::take(&mut self.read);
        }
        answer
    }

    /// Waits until the server has closed; what it still sends is forgotten.
    fn closed(&mut self) -> bool {
        loop {
            match self.stream.read(&mut [0; 4096]) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }
}

/// Runs what blocks beside the server.
async fn client<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[actix_web::test]
async fn pipelined_requests_are_answered_in_order_whatever_their_methods() {
    let served = serve(Limits::default());
    client(move || {
        // Every order of five kinds, one after the other on one connection, all sent before the first answer is read.
        let kinds = 6_usize.pow(3);
        let mut client = Client::connect(served.address);
        for case in 0..kinds {
            let picked = [case % 6, case / 6 % 6, case / 36, 0];
            let mut sent = Vec::new();
            for (at, kind) in picked.iter().enumerate() {
                let request = match kind {
                    0 => format!("GET /{at} HTTP/1.1\r\nHost: t\r\n\r\n"),
                    1 => format!("HEAD /{at} HTTP/1.1\r\nHost: t\r\n\r\n"),
                    2 => "POST /length HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nHEAD "
                        .to_owned(),
                    3 => "POST /length HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n\
                          3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
                        .to_owned(),
                    4 => format!("HEAD /slowly/{at} HTTP/1.1\r\nHost: t\r\n\r\n"),
                    _ => "GET /pieces HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(),
                };
                sent.extend(request.into_bytes());
            }
            client.send(&sent);
            for (at, kind) in picked.iter().enumerate() {
                let answer = client.answer(matches!(kind, 1 | 4));
                let expected = match kind {
                    0 => format!("hello /{at}"),
                    2 => "5".to_owned(),
                    3 => "7".to_owned(),
                    5 => "one two three".to_owned(),
                    _ => String::new(),
                };
                assert_eq!(
                    (answer.status, answer.text()),
                    (200, expected),
                    "{picked:?} at {at}: {answer:?}"
                );
                if *kind == 1 {
                    assert_eq!(answer.header("content-length"), Some("8"));
                }
            }
        }
        assert!(client.read.is_empty());
    })
    .await;
}

#[actix_web::test]
async fn what_one_request_says_of_the_connection_holds_for_its_own_answer() {
    let served = serve(Limits::default());
    client(move || {
        let mut client = Client::connect(served.address);
        client.send(
            "GET /slowly/1 HTTP/1.1\r\nHost: t\r\n\r\nGET /2 HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n\
             GET /3 HTTP/1.1\r\nHost: t\r\n\r\n",
        );
        assert!(!client.answer(false).closes());
        assert!(client.answer(false).closes());
        assert!(client.closed());

        // HTTP/1.0 knows no chunks, and keeps a connection only when asked.
        let mut client = Client::connect(served.address);
        client.send("GET /pieces HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let answer = client.answer(false);
        assert_eq!(answer.text(), "one two three");
        assert_eq!(answer.header("transfer-encoding"), None);
        let mut client = Client::connect(served.address);
        client.send("GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n");
        assert_eq!(client.answer(false).text(), "hello /1");
        assert_eq!(client.answer(false).text(), "hello /2");
        assert!(client.closed());

        // Who has said all still gets the answer.
        let mut client = Client::connect(served.address);
        client.send("GET /slowly/1 HTTP/1.1\r\nHost: t\r\n\r\n");
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.answer(false).text(), "slowly /slowly/1");
        assert!(client.closed());
    })
    .await;
}

#[actix_web::test]
async fn an_expectation_is_met_when_the_body_is_wanted_and_not_before() {
    let served = serve(Limits::default());
    client(move || {
        let head = |path: &str| {
            format!("POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        };
        let started = Instant::now();
        for (path, status) in [("/refuse", 401), ("/a/b", 404)] {
            let mut client = Client::connect(served.address);
            let answer = client.send(head(path)).answer(false);
            assert_eq!((answer.status, answer.closes()), (status, true), "{answer:?}");
            assert!(client.closed(), "{path}");
        }
        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());

        let mut client = Client::connect(served.address);
        for _ in 0..2 {
            assert_eq!(client.send(head("/length")).answer(false).status, 100);
            let answer = client.send("12345").answer(false);
            assert_eq!((answer.status, answer.text()), (200, "5".to_owned()));
        }
        // Who does not wait is not told to go on.
        let answer = client
            .send(format!("{}12345", head("/length")))
            .answer(false);
        assert_eq!((answer.status, answer.text()), (200, "5".to_owned()));
        // A body that has been sent all the same is not taken for a request.
        let mut client = Client::connect(served.address);
        let answer = client
            .send(format!("{}GET /1", head("/refuse")))
            .answer(false);
        assert_eq!(answer.status, 401);
        assert!(client.closed());
    })
    .await;
}

#[actix_web::test]
async fn a_refusal_does_not_wait_for_the_body() {
    let served = serve(Limits::default());
    client(move || {
        let head = |bytes: u64| {
            format!("POST /refuse HTTP/1.1\r\nHost: t\r\nContent-Length: {bytes}\r\n\r\n")
        };
        // Not a byte of three gigabytes is sent, or a little.
        for sent in [0, 1000] {
            let mut client = Client::connect(served.address);
            let started = Instant::now();
            client.send(head(3 << 30)).send(vec![b'x'; sent]);
            let answer = client.answer(false);
            assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
            assert_eq!((answer.status, answer.closes()), (401, true));
            assert!(client.closed());
        }
        // What comes at the pace of the client is read behind the answer, and the connection goes on.
        let mut client = Client::connect(served.address);
        let answer = client.send(head(8 << 20)).answer(false);
        assert_eq!((answer.status, answer.closes()), (401, false));
        client.send(vec![b'x'; 8 << 20]);
        assert_eq!(client.get("/1").text(), "hello /1");
        // Who sends everything before anything is read reads the answer, and no reset.
        let mut client = Client::connect(served.address);
        client.send(head(15 << 20)).send(vec![b'x'; 15 << 20]);
        assert_eq!(client.answer(false).status, 401);
        assert_eq!(client.get("/1").text(), "hello /1");
        let mut client = Client::connect(served.address);
        client.send(head(1 << 30)).send(vec![b'x'; 15 << 20]);
        assert_eq!(client.answer(false).status, 401);
        assert!(client.closed());
    })
    .await;
}

#[actix_web::test]
async fn other_protocols_and_targets_are_answered_at_once_in_this_one() {
    let served = serve(Limits::default());
    client(move || {
        let started = Instant::now();
        for (request, status) in [
            ("GET /1 HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\n\r\n", 200),
            ("GET /1 HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 200),
            ("GET /pieces HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 200),
            (
                "GET /1 HTTP/1.1\r\nHost: t\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
                200,
            ),
            (
                "POST /length HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
                200,
            ),
            ("CONNECT t:443 HTTP/1.1\r\nHost: t:443\r\n\r\n", 404),
            ("GET t:443 HTTP/1.1\r\nHost: t:443\r\n\r\n", 404),
            ("GET http://t/1 HTTP/1.1\r\nHost: t\r\n\r\n", 200),
            ("OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n", 404),
        ] {
            let answer = Client::connect(served.address).send(request).answer(false);
            assert_eq!(answer.status, status, "{request}: {answer:?}");
            assert_ne!(answer.header("connection"), Some("upgrade"), "{request}");
            if status == 200 && request.contains("/pieces") {
                assert_eq!(answer.text(), "one two three");
            }
        }
        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    })
    .await;
}

#[actix_web::test]
async fn what_cannot_be_read_is_a_problem_with_an_id_and_ends_the_connection() {
    let served = serve(Limits::default());
    client(move || {
        let many: String = (0..200).map(|n| format!("X-{n}: a\r\n")).collect();
        let cases = [
            ("no host", "GET /1 HTTP/1.1\r\n\r\n".to_owned(), 400),
            ("two hosts", "GET /1 HTTP/1.1\r\nHost: t\r\nHost: u\r\n\r\n".to_owned(), 400),
            (
                "two framings",
                "POST /length HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                    .to_owned(),
                400,
            ),
            (
                "two framings the other way round",
                "POST /length HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"
                    .to_owned(),
                400,
            ),
            (
                "two lengths",
                "POST /length HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd".to_owned(),
                400,
            ),
            (
                "no length",
                "POST /length HTTP/1.1\r\nHost: t\r\nContent-Length: x\r\n\r\n".to_owned(),
                400,
            ),
            (
                "unknown coding",
                "POST /length HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned(),
                400,
            ),
            (
                "bad chunk",
                "POST /length HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"
                    .to_owned(),
                400,
            ),
            ("no request line", "\u{1}\u{2}\r\n\r\n".to_owned(), 400),
            ("two spaces", "GET  /1 HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(), 400),
            ("version", "GET /1 HTTP/3.0\r\nHost: t\r\n\r\n".to_owned(), 400),
            ("preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400),
            ("target", "GET /\u{7f}<> HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(), 400),
            ("field", "GET /1 HTTP/1.1\r\nHost: t\r\nB ad: x\r\n\r\n".to_owned(), 400),
            ("folded", "GET /1 HTTP/1.1\r\nHost: t\r\nA: x\r\n y\r\n\r\n".to_owned(), 400),
            ("many fields", format!("GET /1 HTTP/1.1\r\nHost: t\r\n{many}\r\n"), 431),
            (
                "long field",
                format!("GET /1 HTTP/1.1\r\nHost: t\r\nX: {}\r\n\r\n", "x".repeat(300_000)),
                431,
            ),
            ("long target", format!("GET /{} HTTP/1.1\r\nHost: t\r\n\r\n", "x".repeat(300_000)), 431),
        ];
        for (case, request, status) in cases {
            // Behind a request that is answered, and alone.
            for before in ["", "HEAD /0 HTTP/1.1\r\nHost: t\r\n\r\n"] {
                let mut client = Client::connect(served.address);
                client.send(format!("{before}{request}"));
                if !before.is_empty() {
                    assert_eq!(client.answer(true).status, 200, "{case}");
                }
                let answer = client.answer(false);
                assert_eq!(answer.status, status, "{case}: {answer:?}");
                assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{case}");
                let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                assert_eq!(problem["status"], status, "{case}");
                let id = answer.header("x-request-id").unwrap();
                assert!(id.parse::<uuid::Uuid>().is_ok(), "{case}: {id}");
                assert!(answer.closes(), "{case}: {answer:?}");
                assert!(client.closed(), "{case}");
            }
        }
    })
    .await;
}

/// Limits in which each wait is short, and differs from the others.
fn brief() -> Limits {
    Limits {
        head: Duration::from_millis(400),
        idle: Duration::from_millis(900),
        answer: Pace {
            window: Duration::from_millis(1500),
            least_bytes: 16 * 1024,
        },
        ..Limits::default()
    }
}

#[actix_web::test]
async fn every_wait_for_a_client_ends() {
    let served = serve(brief());
    let address = served.address;
    let silent = client(move || Client::connect(address).closed());
    let slow_head = client(move || {
        let mut client = Client::connect(address);
        assert_eq!(client.get("/1").status, 200);
        // The first request was honest. The second one comes by the byte.
        let line = b"GET /2 HTTP/1.1\r\nHost: t\r\nX: "
            .iter()
            .chain(&[b'x'; 400]);
        for byte in line {
            std::thread::sleep(Duration::from_millis(20));
            if client.stream.write_all(&[*byte]).is_err() {
                break;
            }
            client.stream.set_nonblocking(true).unwrap();
            let answered = client.more() > 0;
            client.stream.set_nonblocking(false).unwrap();
            if answered {
                break;
            }
        }
        let answer = client.answer(false);
        (answer.status, client.closed())
    });
    let idle = client(move || {
        let mut client = Client::connect(address);
        assert_eq!(client.get("/1").status, 200);
        let since = Instant::now();
        assert!(client.closed());
        since.elapsed()
    });
    let stalled = client(move || {
        let mut client = Client::connect(address);
        client.send("GET /large HTTP/1.1\r\nHost: t\r\n\r\n");
        std::thread::sleep(Duration::from_secs(5));
        let mut read = 0;
        loop {
            client.read.clear();
            match client.more() {
                0 => return read,
                more => read += more,
            }
        }
    });
    assert!(silent.await);
    assert_eq!(slow_head.await, (408, true));
    assert!(idle.await >= Duration::from_millis(800));
    let read = stalled.await;
    assert!(
        read < LARGE_BYTES,
        "a stalled reader was waited for: {read}"
    );
}

#[actix_web::test]
async fn a_slow_reader_that_moves_gets_everything() {
    let served = serve(brief());
    let read = client(move || {
        let mut client = Client::connect(served.address);
        client.send("GET /large HTTP/1.1\r\nHost: t\r\n\r\n");
        let mut read = 0;
        let started = Instant::now();
        while read < LARGE_BYTES {
            client.read.clear();
            let more = client.more();
            assert_ne!(more, 0, "cut after {read} bytes in {:?}", started.elapsed());
            read += more;
            // For four windows, slowly; then as fast as it goes.
            if started.elapsed() < Duration::from_secs(6) {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        read
    });
    assert!(read.await >= LARGE_BYTES);
}

#[actix_web::test]
async fn a_head_leaves_together_with_the_beginning_of_its_body() {
    let served = serve(Limits::default());
    client(move || {
        let mut client = Client::connect(served.address);
        for _ in 0..20 {
            client.send("GET /pieces HTTP/1.1\r\nHost: t\r\n\r\n");
            assert_ne!(client.more(), 0);
            let first = String::from_utf8_lossy(&client.read).into_owned();
            assert!(first.ends_with("0\r\n\r\n"), "in pieces: {first}");
            client.read.clear();
        }
        client.send("GET /large HTTP/1.1\r\nHost: t\r\n\r\n");
        assert_ne!(client.more(), 0);
        let first = String::from_utf8_lossy(&client.read);
        let (_, body) = first.split_once("\r\n\r\n").unwrap();
        assert!(!body.is_empty(), "the head came alone");
    })
    .await;
}

#[actix_web::test]
async fn small_packets_are_not_held_back() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (accepted, _) = tokio::join!(listener.accept(), tokio::net::TcpStream::connect(address));
    let (stream, _) = accepted.unwrap();
    set_options(&stream);
    assert!(stream.nodelay().unwrap());
    #[cfg(target_os = "linux")]
    assert_eq!(
        SockRef::from(&stream).tcp_notsent_lowat().unwrap(),
        UNSENT_BYTES
    );
}

#[actix_web::test]
async fn clients_that_do_nothing_keep_nobody_out() {
    let limits = Limits {
        connections: 20,
        connections_per_address: 20,
        ..Limits::default()
    };
    let served = serve(limits);
    client(move || {
        let mut holders = Vec::new();
        for n in 0..60 {
            let mut holder = Client::connect(served.address);
            match n % 3 {
                0 => {}
                1 => drop(holder.send("GET /1 HTTP/1.1\r\nX")),
                _ => drop(holder.send("GET /large HTTP/1.1\r\nHost: t\r\n\r\n")),
            }
            holders.push(holder);
        }
        std::thread::sleep(Duration::from_millis(500));
        for _ in 0..40 {
            let mut honest = Client::connect(served.address);
            let started = Instant::now();
            assert_eq!(honest.get("/1").status, 200);
            assert!(started.elapsed() < AT_ONCE);
        }
        // The first ones had to give way.
        assert!(holders[0].closed());
    })
    .await;
}

#[actix_web::test]
async fn when_everybody_is_being_served_a_newcomer_is_told_so() {
    let limits = Limits {
        connections: 4,
        connections_per_address: 4,
        ..Limits::default()
    };
    let served = serve(limits);
    client(move || {
        let busy: Vec<_> = (0..4)
            .map(|_| {
                let mut client = Client::connect(served.address);
                client.send("GET /forever HTTP/1.1\r\nHost: t\r\n\r\n");
                // Its end is a reset: an end of what it says would not take the request back.
                let socket = SockRef::from(&client.stream);
                socket.set_linger(Some(Duration::ZERO)).unwrap();
                client
            })
            .collect();
        std::thread::sleep(Duration::from_millis(500));
        let mut newcomer = Client::connect(served.address);
        let answer = newcomer.get("/1");
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.text().contains("\"overloaded\""), "{answer:?}");
        assert!(answer.header("retry-after").is_some() && answer.closes());
        drop(busy);
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(Client::connect(served.address).get("/1").status, 200);
    })
    .await;
}

#[actix_web::test]
async fn a_server_that_is_asked_to_end_waits_for_who_moves_alone() {
    let limits = Limits {
        stalled_at_stop: Duration::from_secs(2),
        ..Limits::default()
    };
    let served = serve(limits);
    let address = served.address;
    let clients = client(move || {
        let mut stalled: Vec<_> = (0..5)
            .map(|n| {
                let mut client = Client::connect(address);
                client.send(if n % 2 == 0 {
                    "GET /large HTTP/1.1\r\nHost: t\r\n\r\n"
                } else {
                    "POST /length HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\nabc"
                });
                client
            })
            .collect();
        let mut idle = Client::connect(address);
        assert_eq!(idle.get("/1").status, 200);
        stalled.push(idle);
        let mut honest = Client::connect(address);
        honest.send("POST /length HTTP/1.1\r\nHost: t\r\nContent-Length: 40\r\n\r\n");
        (stalled, honest)
    })
    .await;
    sleep(Duration::from_millis(300)).await;
    let since = Instant::now();
    let honest = client(move || {
        let (stalled, mut honest) = clients;
        for _ in 0..40 {
            std::thread::sleep(Duration::from_millis(100));
            honest.send("x");
        }
        let answer = honest.answer(false);
        drop(stalled);
        answer
    });
    let stop = served.stop.clone();
    let stopped = actix_web::rt::spawn(async move { stop.stop().await });
    let answer = honest.await;
    assert_eq!((answer.status, answer.text()), (200, "40".to_owned()));
    assert!(answer.closes());
    stopped.await.unwrap();
    assert!(
        since.elapsed() < Duration::from_secs(15),
        "{:?}",
        since.elapsed()
    );
}
