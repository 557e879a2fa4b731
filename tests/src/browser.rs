//! A real Chromium without a window, by WebDriver (<https://www.w3.org/TR/webdriver2/>): the handful of commands that a
//! person's ways need. Why no crate does it is in decision 0036.
//!
//! Invariant: the browser ends with its test, however that ends: a shell that waits at a pipe kills it.

use std::io::BufReader;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How WebDriver names an element in JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// One browser with one window and a profile of its own.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    /// The address of the session.
    session: String,
    driver: Child,
    watchdog: Child,
    leash: Option<ChildStdin>,
    // Last: removed when nobody writes to it any more.
    profile: TempDir,
}

impl Browser {
    /// Starts one.
    ///
    /// # Panics
    /// It does not start: `cargo xtask test` installs it.
    pub async fn start() -> Self {
        let profile =
            TempDir::with_prefix("rawdrive-browser-").expect("failed to make a directory");
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("failed to start chromedriver: Debian's package chromium-driver has it");
        let stdout = driver.stdout.take().expect("it has a standard output");
        let port = port_of(BufReader::new(stdout));
        let client = Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .timeout(Duration::from_secs(60))
            .build()
            .expect("failed to make a client");
        let base = format!("http://127.0.0.1:{port}/session");
        let made = command(&client, Method::POST, &base, &capabilities(profile.path())).await;
        let id = made["sessionId"].as_str().expect("a session's id");
        let browser = made["capabilities"]["goog:processID"].as_u64();
        let (browser, own) = (browser.expect("a process id"), driver.id());
        let mut watchdog = Command::new("/bin/sh")
            .args([
                "-c",
                "cat >/dev/null; kill -KILL \"$1\" \"$2\" 2>/dev/null",
                "sh",
            ])
            .args([browser.to_string(), own.to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .expect("failed to start a shell");
        Self {
            session: format!("{base}/{id}"),
            leash: watchdog.stdin.take(),
            client,
            driver,
            watchdog,
            profile,
        }
    }

    /// Opens an address as a person does who types it, and waits until the page is loaded.
    pub async fn open(&self, url: &str) {
        self.post("url", &json!({ "url": url })).await;
    }

    /// The address that is shown.
    pub async fn url(&self) -> String {
        let url = self.command(Method::GET, "url", &Value::Null).await;
        url.as_str().expect("an address").to_owned()
    }

    /// Types into the field that a CSS selector finds, in place of what stands there.
    pub async fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.post(&format!("element/{element}/clear"), &json!({}))
            .await;
        self.post(
            &format!("element/{element}/value"),
            &json!({ "text": text }),
        )
        .await;
    }

    /// Clicks on what a CSS selector finds.
    pub async fn click(&self, selector: &str) {
        let element = self.element(selector).await;
        self.post(&format!("element/{element}/click"), &json!({}))
            .await;
    }

    /// What the page says.
    pub async fn text(&self) -> String {
        let script = "return document.body ? document.body.innerText : ''";
        let text = self.run(script).await;
        text.as_str().expect("text").to_owned()
    }

    /// What a script returns on the page.
    pub async fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
            .await
    }

    /// Waits until the page says something; answers all that it says then.
    ///
    /// # Panics
    /// It does not within 20 seconds.
    pub async fn until_says(&self, text: &str) -> String {
        let begun = std::time::Instant::now();
        loop {
            let said = self.text().await;
            if said.contains(text) {
                return said;
            }
            let at = self.url().await;
            assert!(
                begun.elapsed() < PATIENCE,
                "{at} does not say {text:?}, but: {said}\n{:#?}",
                self.complaints().await
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// What the browser has complained of since it was asked last: errors of scripts, what a policy forbade, what could
    /// not be loaded.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.post("se/log", &json!({ "type": "browser" })).await;
        let entries = log.as_array().expect("a list").iter();
        let text = |entry: &Value| format!("{} {}", entry["source"], entry["message"]);
        entries.map(text).collect()
    }

    async fn element(&self, selector: &str) -> String {
        let query = json!({ "using": "css selector", "value": selector });
        let begun = std::time::Instant::now();
        loop {
            let (status, found) = ask(
                &self.client,
                Method::POST,
                &format!("{}/element", self.session),
                &query,
            )
            .await;
            if let Some(id) = found[ELEMENT].as_str() {
                return id.to_owned();
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{status}: nothing is {selector} on {}: {}",
                self.url().await,
                self.text().await
            );
            tokio::time::sleep(POLL).await;
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        self.command(Method::POST, path, body).await
    }

    async fn command(&self, method: Method, path: &str, body: &Value) -> Value {
        command(
            &self.client,
            method,
            &format!("{}/{path}", self.session),
            body,
        )
        .await
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The watchdog's end of the pipe: it kills both, and ends.
        drop(self.leash.take());
        let _ = self.watchdog.wait();
        let _ = self.driver.wait();
        // The browser's helpers end a moment after it, and write until then.
        for _ in 0..40 {
            if std::fs::remove_dir_all(self.profile.path()).is_ok() {
                break;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The port that chromedriver has chosen. Whatever else it says is read, too: a full pipe would stop it.
fn port_of(output: impl std::io::BufRead + Send + 'static) -> u16 {
    let mut lines = output.lines();
    let port = loop {
        let line = lines
            .next()
            .expect("chromedriver says its port")
            .expect("text");
        let named = line
            .rsplit_once("on port ")
            .filter(|_| line.contains("started successfully"));
        if let Some(port) = named.and_then(|(_, port)| port.trim_end_matches('.').parse().ok()) {
            break port;
        }
    };
    std::thread::spawn(move || lines.for_each(drop));
    port
}

fn capabilities(profile: &Path) -> Value {
    let profile = format!("--user-data-dir={}", profile.display());
    let args = [
        "--headless=new",
        // Containers have neither the rights for its sandbox nor a large /dev/shm. It sees our own pages alone.
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--no-first-run",
        "--no-proxy-server",
        "--disable-background-networking",
        "--disable-component-update",
        profile.as_str(),
    ];
    json!({ "capabilities": { "alwaysMatch": {
        "browserName": "chrome",
        "goog:loggingPrefs": { "browser": "WARNING" },
        "goog:chromeOptions": { "args": args },
    }}})
}

async fn command(client: &Client, method: Method, url: &str, body: &Value) -> Value {
    let (status, value) = ask(client, method, url, body).await;
    assert_eq!(status, 200, "{url} {body}: {value:#}");
    value
}

async fn ask(client: &Client, method: Method, url: &str, body: &Value) -> (u16, Value) {
    let mut request = client.request(method, url);
    if !body.is_null() {
        request = request.json(body);
    }
    let answer = request.send().await.expect("chromedriver answers");
    let status = answer.status().as_u16();
    let mut answer: Value = answer.json().await.expect("it answers in JSON");
    (status, answer["value"].take())
}
