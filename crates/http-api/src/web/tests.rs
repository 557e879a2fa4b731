//! The edge as a client meets it, over real connections where the connection is the point.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use actix_web::body::{MessageBody, to_bytes};
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::{Method, StatusCode};
use actix_web::test::{TestRequest, init_service};
use actix_web::{App, HttpResponse, HttpServer, Responder, web};
use rawdrive_tenancy_core::Env;
use rawdrive_tenancy_core::id::WorkspaceId;
use serde::Deserialize;
use serde_json::Value;
use utoipa::openapi::path::{HttpMethod, Operation, PathItem, Paths};
use utoipa::openapi::{Info, OpenApi};

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewThing {
    name: String,
    #[serde(default)]
    size_bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Never {
    #[expect(dead_code, reason = "its absence is the test")]
    never: u8,
}

async fn create(body: Body) -> Result<impl Responder, Problem> {
    let thing: NewThing = body.json().await?;
    Ok(HttpResponse::Created()
        .json(serde_json::json!({ "name": thing.name, "size_bytes": thing.size_bytes })))
}

async fn read(id: web::Path<String>) -> Result<impl Responder, Problem> {
    let id: WorkspaceId = path_id(&id)?;
    Ok(HttpResponse::Ok().json(id))
}

async fn locked() -> Result<HttpResponse, Problem> {
    Err(Problem::unauthenticated())
}

async fn upload(body: Body) -> Result<String, Problem> {
    let mut stream = body.stream(1 << 20, Pace::BODY)?;
    while stream.chunk().await?.is_some() {}
    Ok(stream.read_bytes().to_string())
}

fn document() -> OpenApi {
    let path = |methods: &[HttpMethod]| {
        let mut item = PathItem::default();
        for method in methods {
            let operation = Some(Operation::new());
            match method {
                HttpMethod::Get => item.get = operation,
                HttpMethod::Post => item.post = operation,
                HttpMethod::Delete => item.delete = operation,
                _ => item.patch = operation,
            }
        }
        item
    };
    let mut paths = Paths::new();
    paths
        .paths
        .insert("/v1/things".into(), path(&[HttpMethod::Post]));
    paths.paths.insert(
        "/v1/things/{id}".into(),
        path(&[HttpMethod::Get, HttpMethod::Delete]),
    );
    paths
        .paths
        .insert("/v1/things/mine".into(), path(&[HttpMethod::Patch]));
    OpenApi::new(Info::new("t", "1"), paths)
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .configure(extractor_errors)
        .configure(pages("", "Ask <us>."))
        .service(
            web::resource("/v1/things")
                .guard(actix_web::guard::Post())
                .to(create),
        )
        .service(
            web::resource("/v1/things/{id}")
                .guard(actix_web::guard::Get())
                .to(read),
        )
        .service(web::resource("/locked").to(locked))
        .service(web::resource("/upload").to(upload))
        .service(web::resource("/number/{n}").to(async |n: web::Path<u8>| n.to_string()))
        .service(web::resource("/json").to(async |_: web::Json<Never>| "never"))
        .service(web::resource("/query").to(async |_: web::Query<Never>| "never"))
        .service(web::resource("/bytes").to(async |_: web::Bytes| "bytes"))
        .service(
            web::resource("/own").to(async || {
                Err::<&str, _>(actix_web::error::ErrorImATeapot("a framework's text"))
            }),
        )
        .service(web::resource("/public").to(async || {
            HttpResponse::Ok()
                .insert_header(("cache-control", "public, max-age=60"))
                .json(1)
        }))
        .default_service(AllowedMethods::of(&document(), [], "").default_service());
}

macro_rules! client {
    () => {
        init_service(App::new().configure(routes).wrap(Edge::new(Env::system()))).await
    };
}

struct Answer {
    status: StatusCode,
    headers: actix_web::http::header::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
    fn code(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{:?}",
            String::from_utf8_lossy(&self.body)
        );
        let body = self.json();
        assert_eq!(body["status"], self.status.as_u16());
        format!(
            "{} {}",
            self.status.as_u16(),
            body["code"].as_str().unwrap()
        )
    }
}

// A macro, since the test request's type has no public name.
macro_rules! ask {
    ($client:expr, $request:expr) => {
        answer($client.call($request.to_request()).await)
    };
}

async fn answer<B: MessageBody + 'static>(
    result: Result<ServiceResponse<B>, actix_web::Error>,
) -> Answer {
    let response = match result {
        Ok(response) => response.into_parts().1.map_into_boxed_body(),
        Err(error) => error.error_response(),
    };
    let (status, headers) = (response.status(), response.headers().clone());
    let Ok(body) = to_bytes(response.into_body()).await else {
        panic!("the body failed")
    };
    Answer {
        status,
        headers,
        body: body.to_vec(),
    }
}

fn request(method: Method, path: &str) -> TestRequest {
    TestRequest::with_uri(path).method(method)
}

#[actix_web::test]
async fn an_answer_carries_its_id_and_the_security_headers() {
    let client = client!();
    let ok = ask!(
        client,
        request(Method::POST, "/v1/things").set_payload(r#"{"name":"a"}"#)
    )
    .await;
    assert_eq!(
        (ok.status, ok.json()["name"].as_str()),
        (StatusCode::CREATED, Some("a"))
    );
    for answer in [ok, ask!(client, request(Method::GET, "/nowhere")).await] {
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert_eq!(answer.header("x-frame-options"), "DENY");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin");
        assert_eq!(answer.header("strict-transport-security"), "");
        assert_eq!(answer.header("cache-control"), "no-store");
        let id: uuid::Uuid = answer.header("x-request-id").parse().unwrap();
        assert_eq!(id.get_version_num(), 7);
    }
    let own = ask!(
        client,
        request(Method::GET, "/nowhere").insert_header(("x-request-id", "abc-1"))
    )
    .await;
    assert_eq!(own.header("x-request-id"), "abc-1");
    let public = ask!(client, request(Method::GET, "/public")).await;
    assert_eq!(public.header("cache-control"), "public, max-age=60");
}

#[actix_web::test]
async fn below_a_path_pages_methods_and_problems_are_found_there() {
    let below = |config: &mut web::ServiceConfig| {
        config
            .configure(pages("/saas", ""))
            .service(
                web::resource("/v1/things")
                    .guard(actix_web::guard::Post())
                    .to(create),
            )
            .service(web::resource("/locked").to(locked))
            .default_service(AllowedMethods::of(&document(), [], "/saas").default_service());
    };
    let edge = Edge::new(Env::system()).problems_under("/saas");
    let app = App::new().service(web::scope("/saas").configure(below));
    let client = init_service(app.wrap(edge)).await;
    let problem = async |path: &'static str| ask!(client, request(Method::GET, path)).await;
    let refused = problem("/saas/v1/things").await;
    assert_eq!(refused.code(), "405 method_not_allowed");
    assert_eq!(refused.header("allow"), "POST, OPTIONS");
    assert_eq!(refused.json()["type"], "/saas/problems/method_not_allowed");
    let locked = problem("/saas/locked").await;
    assert_eq!(locked.json()["type"], "/saas/problems/unauthenticated");
    assert_eq!(locked.header("www-authenticate"), "Bearer");
    for elsewhere in ["/saas/nothing", "/v1/things"] {
        let missing = problem(elsewhere).await;
        assert_eq!(missing.json()["type"], "/saas/problems/not_found");
    }
    assert_eq!(problem("/saas/problems/not_found").await.status, 200);
    assert_eq!(problem("/saas").await.header("location"), "/saas/");
    let places = problem("/saas/").await.json();
    assert_eq!(places["documentation"], "/saas/docs");
}

#[actix_web::test]
async fn a_path_that_exists_refuses_other_methods_with_405_and_allow() {
    let client = client!();
    for (method, path, allow) in [
        (Method::GET, "/v1/things", "POST, OPTIONS"),
        (Method::HEAD, "/v1/things", "POST, OPTIONS"),
        (Method::PUT, "/v1/things/ws_1", "GET, DELETE, HEAD, OPTIONS"),
        (Method::POST, "/v1/thing%73/x", "GET, DELETE, HEAD, OPTIONS"),
        (Method::POST, "/problems/not_found", "GET, HEAD, OPTIONS"),
        (
            Method::DELETE,
            "/settings/billing/upgrade",
            "GET, POST, HEAD, OPTIONS",
        ),
    ] {
        let answer = ask!(client, request(method.clone(), path)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("allow")),
            (405, allow),
            "{method} {path}"
        );
        if method != Method::HEAD {
            assert_eq!(answer.code(), "405 method_not_allowed");
        }
    }
    let both = ask!(client, request(Method::POST, "/v1/things/mine")).await;
    let mut allow: Vec<_> = both.header("allow").split(", ").collect();
    allow.sort_unstable();
    assert_eq!(allow, ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH"]);
    let options = ask!(client, request(Method::OPTIONS, "/v1/things")).await;
    assert_eq!(
        (options.status.as_u16(), options.header("allow")),
        (204, "POST, OPTIONS")
    );
}

#[actix_web::test]
async fn an_unknown_path_and_a_malformed_id_are_the_same_404() {
    let client = client!();
    let expected = Problem::not_found().body();
    for (method, path) in [
        (Method::GET, "/nowhere"),
        (Method::OPTIONS, "/nowhere"),
        (Method::GET, "/v1/things/"),
        (Method::GET, "/v1/things/ws_x"),
        (Method::GET, "/v1/things/%ff%00"),
        (
            Method::GET,
            "/v1/things/lib_01890000000070008000000000000001",
        ),
        (Method::GET, "/problems/none"),
        (Method::GET, "/problems/%3Cscript%3E"),
        (Method::GET, "/number/300"),
    ] {
        let answer = ask!(client, request(method, path)).await;
        assert_eq!(
            (answer.code(), &answer.body),
            ("404 not_found".into(), &expected),
            "{path}"
        );
    }
}

#[actix_web::test]
async fn the_frameworks_own_errors_come_out_as_problems() {
    let client = client!();
    let json = |text: &str| {
        request(Method::POST, "/json")
            .insert_header(("content-type", "application/json"))
            .set_payload(text.to_owned())
    };
    for (request, expected) in [
        (json("{"), "400 malformed_request"),
        (json("{}"), "422 validation_failed"),
        (
            request(Method::POST, "/json").set_payload("{}"),
            "415 unsupported_media_type",
        ),
        (request(Method::GET, "/query"), "422 validation_failed"),
        (
            request(Method::POST, "/bytes").set_payload(vec![0; 300_000]),
            "413 payload_too_large",
        ),
        (request(Method::GET, "/own"), "400 malformed_request"),
    ] {
        assert_eq!(
            ask!(client, request)
                .await
                .code()
                .split_once(' ')
                .unwrap()
                .1,
            expected.split_once(' ').unwrap().1
        );
    }
}

#[actix_web::test]
async fn a_body_is_refused_by_type_then_syntax_then_shape() {
    let client = client!();
    let post = |kind: &str, body: &str| {
        request(Method::POST, "/v1/things")
            .insert_header(("content-type", kind))
            .set_payload(body.to_owned())
    };
    for (case, request, expected) in [
        ("xml", post("text/xml", "{"), "415 unsupported_media_type"),
        (
            "empty",
            post("application/json", ""),
            "400 malformed_request",
        ),
        (
            "syntax",
            post("application/json;charset=utf-8", "{"),
            "400 malformed_request",
        ),
        (
            "unknown",
            post("application/json", r#"{"name":"a","workspace_id":"ws_1"}"#),
            "422 validation_failed",
        ),
        (
            "large",
            post("application/json", &format!("\"{}\"", "x".repeat(1 << 20))),
            "413 payload_too_large",
        ),
    ] {
        assert_eq!(ask!(client, request).await.code(), expected, "{case}");
    }
    // Without a body at all the payload is empty, not absent.
    assert_eq!(
        ask!(client, request(Method::POST, "/v1/things"))
            .await
            .code(),
        "400 malformed_request"
    );
}

#[actix_web::test]
async fn each_code_has_a_page_and_what_a_product_says_is_escaped() {
    let client = client!();
    for code in Code::ALL {
        let page = ask!(
            client,
            request(Method::GET, &format!("/problems/{}", code.as_str()))
        )
        .await;
        assert_eq!(
            (page.status.as_u16(), page.header("content-type")),
            (200, "text/html; charset=utf-8")
        );
        assert!(
            String::from_utf8(page.body)
                .unwrap()
                .contains(code.as_str())
        );
    }
    let home = request(Method::GET, "/").insert_header(("accept", "text/html"));
    let page = String::from_utf8(ask!(client, home).await.body).unwrap();
    assert!(page.contains("<p>Ask &lt;us&gt;.</p>"), "{page}");
}

/// No bytes that a client can send make the edge answer 500 or panic.
#[actix_web::test]
async fn arbitrary_bytes_never_give_a_500() {
    let client = client!();
    for (seed, bytes) in arbitrary(400) {
        let post = request(Method::POST, "/v1/things").set_payload(bytes.clone());
        let answer = ask!(client, post).await;
        assert!(
            matches!(answer.status.as_u16(), 201 | 400 | 413 | 422),
            "seed {seed}: {}",
            answer.status
        );
        let query: String = bytes.iter().map(|b| format!("%{b:02x}")).collect();
        assert!(
            parse_query::<NewThing>(&query).is_err_and(|p| p.code.number() < 500),
            "seed {seed}"
        );
        let _ = parse_query::<NewThing>(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn a_range_always_lies_within_its_content() {
    for (seed, bytes) in arbitrary(20_000) {
        let text = String::from_utf8_lossy(&bytes);
        for length in [0, 1, 2, 10, u64::MAX] {
            for value in [
                text.to_string(),
                format!("bytes={text}"),
                format!("bytes={}-{}", seed % 12, bytes.len()),
            ] {
                if let Wanted::Part { first, last } = parse_range(&value, length) {
                    assert!(first <= last && last < length, "{value:?} of {length}");
                }
            }
        }
    }
}

/// Byte strings from a small generator with a fixed seed: half of them noise, half of them shuffled pieces of
/// what the parsers look for, so that they get beyond the first byte.
fn arbitrary(count: u64) -> impl Iterator<Item = (u64, Vec<u8>)> {
    const PIECES: [&[u8]; 22] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"name\"",
        b":",
        b",",
        b"\"a\"",
        b"\"\\u0000\"",
        b"\"\\ud800\"",
        b"-1",
        b"1e99",
        b"null",
        b"\"size_bytes\"",
        b"\xff",
        b"\0",
        b"-",
        b"0",
        b"99999999999999999999",
        b" ",
        b"=",
        b"&",
    ];
    (0..count).map(|seed| {
        let mut state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap()
        };
        let length = next() % 24;
        let bytes = if seed % 2 == 0 {
            (0..length).map(|_| (next() % 256) as u8).collect()
        } else {
            (0..length)
                .flat_map(|_| PIECES[next() % PIECES.len()])
                .copied()
                .collect()
        };
        (seed, bytes)
    })
}

fn serve() -> SocketAddr {
    let server = HttpServer::new(|| App::new().configure(routes).wrap(Edge::new(Env::system())))
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))
        .unwrap();
    let address = server.addrs()[0];
    actix_web::rt::spawn(server.run());
    address
}

/// Writes everything, reads until the server closes or has been silent for a moment.
async fn exchange(address: SocketAddr, pieces: Vec<Vec<u8>>) -> Result<String, std::io::Error> {
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        for piece in pieces {
            stream.write_all(&piece)?;
        }
        stream.shutdown(Shutdown::Write)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    })
    .await
    .unwrap()
}

fn head(line: &str, length: usize) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n").into_bytes()
}

#[actix_web::test]
async fn a_refused_body_is_drained_and_the_connection_goes_on() {
    let address = serve();
    let big = vec![b'x'; 8 << 20];
    for line in [
        "POST /locked",
        "POST /v1/things",
        "POST /upload",
        "POST /nowhere",
    ] {
        let pieces = vec![
            head(line, big.len()),
            big.clone(),
            head("GET /problems/conflict", 0),
        ];
        let answer = exchange(address, pieces).await.unwrap();
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            2,
            "{line}: {}",
            &answer[..answer.len().min(400)]
        );
        assert!(answer.starts_with("HTTP/1.1 4"), "{line}");
        assert!(answer.contains("<code>conflict</code>"), "{line}");
    }
}

#[actix_web::test]
async fn a_refused_chunked_body_is_drained_as_well() {
    let address = serve();
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    let mut pieces =
        vec![b"POST /upload HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()];
    pieces.extend(vec![chunk; 64]);
    pieces.push(b"0\r\n\r\n".to_vec());
    let answer = exchange(address, pieces).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.contains("\"limit\":1048576"),
        "{answer}"
    );
}

#[actix_web::test]
async fn beyond_16_mib_the_answer_comes_with_a_close() {
    let address = serve();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
            .write_all(&head("POST /v1/things", 64 << 20))
            .unwrap();
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..16 {
            stream.write_all(&piece).unwrap();
        }
        stream.write_all(b"x").unwrap();
        let mut answer = vec![0; 4096];
        let n = stream.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..n]).to_lowercase()
    })
    .await
    .unwrap();
    assert!(answer.starts_with("http/1.1 413 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[actix_web::test]
async fn head_answers_as_get_without_its_body() {
    let client = client!();
    let silent = ask!(client, request(Method::HEAD, "/problems/conflict")).await;
    assert_eq!(
        (silent.status.as_u16(), silent.body.len()),
        (200, 0),
        "the body is not even produced"
    );
    let address = serve();
    let answer = exchange(
        address,
        vec![head("HEAD /problems/conflict", 0), head("GET /public", 0)],
    )
    .await
    .unwrap();
    let (first, rest) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        first.starts_with("HTTP/1.1 200 ") && first.to_lowercase().contains("content-length: "),
        "{first}"
    );
    assert!(
        rest.starts_with("HTTP/1.1 200 "),
        "the next answer follows at once: {rest}"
    );
    let answer = exchange(address, vec![head("HEAD /nowhere", 0)])
        .await
        .unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 404 ") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
}
