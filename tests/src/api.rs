//! Clients of the HTTP API: anonymous, with a token, and people with a workspace.

use std::fs;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::Server;
use crate::document;
use crate::secrets::Watch;

/// A client of one server, with or without a credential.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    base: String,
    token: Option<String>,
    watch: Arc<Watch>,
}

/// How long a connection may stand idle and be used again: a server closes one after five seconds, and what is sent at
/// that moment is lost.
pub const IDLE: Duration = Duration::from_secs(2);

impl Api {
    pub(crate) fn new(base: String, token: Option<String>, watch: Arc<Watch>) -> Self {
        Self::following(Policy::default(), base, token, watch)
    }

    /// The same, which is told where it is sent instead of going there.
    #[must_use]
    pub fn without_redirects(&self) -> Self {
        let (base, token, watch) = (self.base.clone(), self.token.clone(), self.watch.clone());
        Self::following(Policy::none(), base, token, watch)
    }

    fn following(
        redirects: Policy,
        base: String,
        token: Option<String>,
        watch: Arc<Watch>,
    ) -> Self {
        // A client of its own: connections do not outlive the runtime of the test that made them.
        let client = Client::builder()
            .redirect(redirects)
            .no_proxy()
            // Reading the system's certificates takes longer than a test's request, and nothing here needs them.
            .tls_certs_only([])
            .timeout(Duration::from_secs(120))
            .pool_idle_timeout(IDLE)
            .build()
            .expect("failed to make a client");
        Self {
            client,
            base,
            token,
            watch,
        }
    }

    /// A request to be completed and then handed to [`Api::send`].
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends and reads the whole answer. Whatever the status, it has a request id.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let answer = self
            .try_send(request)
            .await
            .expect("failed to get an answer");
        assert!(
            answer.headers.contains_key("x-request-id"),
            "the answer has no X-Request-Id: {answer:?}"
        );
        answer
    }

    /// Sends and reads the whole answer; an error when the connection breaks.
    ///
    /// # Errors
    ///
    /// Those of the connection. A status of any kind is an answer.
    pub async fn try_send(&self, request: RequestBuilder) -> reqwest::Result<Answer> {
        let request = request.build()?;
        self.watch.sent(&request);
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let response = self.client.execute(request).await?;
        let answer = Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await?.to_vec(),
            watch: self.watch.clone(),
        };
        self.watch
            .answered(answer.status, &answer.headers, &answer.body);
        document::check(&method, &path, answer.status, &answer.headers, &answer.body);
        Ok(answer)
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// `PATCH` of JSON.
    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(body))
            .await
    }

    /// Makes a library and returns its id.
    pub async fn library(&self, name: &str) -> String {
        let answer = self
            .post("/v1/libraries", &json!({ "name": name }))
            .await
            .is(201);
        answer.text("id")
    }

    /// Makes a library with a gallery in it and returns the gallery's id.
    pub async fn gallery(&self, name: &str) -> String {
        let library = self.library(name).await;
        self.gallery_in(&library, name).await
    }

    /// Makes a gallery in a library and returns its id.
    pub async fn gallery_in(&self, library: &str, name: &str) -> String {
        let body = json!({ "library_id": library, "name": name, "download": "original" });
        self.post("/v1/galleries", &body).await.is(201).text("id")
    }

    /// The request that uploads `bytes` as the raw body.
    pub fn upload_request(
        &self,
        gallery: &str,
        bytes: impl Into<reqwest::Body>,
        content_type: &str,
    ) -> RequestBuilder {
        self.request(
            Method::POST,
            &format!("/v1/galleries/{gallery}/photos?filename=photo"),
        )
        .header("content-type", content_type)
        .body(bytes)
    }

    /// Uploads `bytes` as the raw body.
    pub async fn upload(
        &self,
        gallery: &str,
        bytes: impl Into<reqwest::Body>,
        content_type: &str,
    ) -> Answer {
        self.send(self.upload_request(gallery, bytes, content_type))
            .await
    }

    /// Reads a list to its end, `limit` items at a time.
    pub async fn list_all(&self, path: &str, limit: usize) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self
                .get(&format!("{path}?limit={limit}{cursor}"))
                .await
                .is(200)
                .json();
            let found = page["items"].as_array().expect("a page has items").clone();
            assert!(
                found.len() <= limit,
                "a page of {} for limit {limit}",
                found.len()
            );
            items.extend(found);
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
            assert!(items.len() < 100_000, "the list never ends");
        }
    }

    /// Waits until it is known what renditions a photo has, and answers its record.
    pub async fn rendered(&self, photo: &str) -> Value {
        // A job of a server that was killed is another's after a minute.
        for _ in 0..1_200 {
            let path = format!("/v1/photos/{photo}");
            let shown = self.get(&path).await.is(200).json();
            if shown["renditions"]["status"] != "pending" {
                return shown;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the renditions of {photo} were not made within 120 s");
    }

    /// One metric of `GET /v1/usage`.
    pub async fn usage(&self, metric: &str) -> Value {
        let usage = self.get("/v1/usage").await.is(200).json();
        usage["metrics"]
            .as_array()
            .expect("usage has metrics")
            .iter()
            .find(|entry| entry["metric"] == metric)
            .unwrap_or_else(|| panic!("usage lacks {metric}: {usage}"))
            .clone()
    }
}

/// Somebody who signed up, with the workspace they own.
#[derive(Debug, Clone)]
pub struct Actor {
    /// The access token.
    pub token: String,
    /// The refresh token.
    pub refresh: String,
    /// The workspace.
    pub workspace_id: String,
    /// The user.
    pub user_id: String,
    /// The address they signed up with.
    pub email: String,
    api: Api,
}

impl Actor {
    /// Everybody's password.
    pub const PASSWORD: &'static str = "correct horse battery staple";

    pub(crate) fn from_sign_up(server: &Server, email: String, answer: Value) -> Self {
        let text = |value: &Value| {
            value
                .as_str()
                .unwrap_or_else(|| panic!("sign-up lacks a member: {answer}"))
                .to_owned()
        };
        let token = text(&answer["access_token"]);
        Self {
            refresh: text(&answer["refresh_token"]),
            workspace_id: text(&answer["workspace"]["id"]),
            user_id: text(&answer["user"]["id"]),
            email,
            api: server.bearer(&token),
            token,
        }
    }
}

impl Deref for Actor {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

/// A whole answer.
#[derive(Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    watch: Arc<Watch>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = String::from_utf8_lossy(&self.body[..self.body.len().min(2_000)]);
        write!(f, "{} {:?}\n{shown}", self.status, self.headers)
    }
}

impl Answer {
    /// Asserts the status.
    #[must_use = "or is it enough that it is that? then drop it"]
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}{}", self.evidence());
        self
    }

    /// Asserts a status of success.
    #[must_use = "or is it enough that it is that? then drop it"]
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert!(
            (200..300).contains(&self.status),
            "{self:?}{}",
            self.evidence()
        );
        self
    }

    /// Asserts a whole problem document and returns it.
    #[track_caller]
    #[expect(
        clippy::must_use_candidate,
        reason = "the assertion is often all that is wanted"
    )]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(
            self.status,
            status,
            "expected {code}: {self:?}{}",
            self.evidence()
        );
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["code"], code, "{self:?}");
        assert_eq!(problem["status"], status, "{self:?}");
        for member in ["type", "title", "detail"] {
            let text = problem[member].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "the problem lacks {member}: {self:?}");
        }
        let uri = problem["type"].as_str().unwrap_or_default();
        assert!(
            uri.contains("/problems/"),
            "the type is not under /problems/: {self:?}"
        );
        let text = String::from_utf8_lossy(&self.body).to_lowercase();
        for secret in [
            "sqlite",
            "sqlx",
            "sea_orm",
            "select ",
            "insert into",
            "panicked",
            ".rs:",
            "rawdrive.db",
        ] {
            assert!(
                !text.contains(secret),
                "the problem tells of {secret:?}: {self:?}"
            );
        }
        problem
    }

    /// The body as JSON.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// A text member of the JSON body.
    #[must_use]
    #[track_caller]
    pub fn text(&self, member: &str) -> String {
        self.json()[member]
            .as_str()
            .unwrap_or_else(|| panic!("no text {member}: {self:?}"))
            .to_owned()
    }

    /// A header field that must be there.
    #[must_use]
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no header {name}: {self:?}"))
            .to_str()
            .expect("the header is text")
    }

    /// All that two answers must share to be the same to a client: everything but what counts requests.
    #[must_use]
    pub fn essence(&self) -> (u16, Vec<(HeaderName, String)>, Vec<u8>) {
        let mut headers: Vec<_> = self
            .headers
            .iter()
            .filter(|(name, _)| !["x-request-id", "date", "ratelimit"].contains(&name.as_str()))
            .map(|(name, value)| {
                (
                    name.clone(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        headers.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        (self.status, headers, self.body.clone())
    }

    fn evidence(&self) -> String {
        if self.status < 500 {
            return String::new();
        }
        let log = fs::read_to_string(self.watch.log_path()).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        format!("\nthe server's log, newest first:\n{}", lines.join("\n"))
    }
}
