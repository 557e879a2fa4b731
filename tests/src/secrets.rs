//! What must never be read in a log: every secret that a test hands to a server or gets from one.
//!
//! They are gathered on the way: from a server's settings, from the requests and the answers of its clients, from
//! its mails and its data directory. Whatever the server prints is searched for them, as are the answers that
//! refuse and the output of its subcommands.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use serde_json::Value;

/// Shorter texts are no secrets of this harness: they would be found in words.
const SHORTEST: usize = 12;
/// How much of what was searched before is searched again, for a secret that came later than its line.
const AGAIN_BYTES: u64 = 16 * 1024;
/// How much is shown around what was found.
const AROUND_BYTES: usize = 120;

/// A secret in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// What it is.
    pub what: &'static str,
    /// The text around it.
    pub around: String,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in: {}", self.what, self.around)
    }
}

/// Secrets, and where they occur.
#[derive(Debug, Default)]
pub struct Secrets {
    all: HashSet<String>,
    by_start: HashMap<[u8; 4], Vec<(Vec<u8>, &'static str)>>,
}

impl Secrets {
    /// Notes a secret, as it is and as an address would carry it.
    pub fn add(&mut self, what: &'static str, secret: &str) {
        if secret.len() < SHORTEST || self.all.contains(secret) {
            return;
        }
        self.all.insert(secret.to_owned());
        self.note(what, secret);
        let escaped = escaped(secret);
        if escaped != secret {
            self.note(what, &escaped);
        }
        // The last part of a token of ours is the secret in it.
        match secret.strip_prefix("rd").and_then(|s| s.rsplit_once('_')) {
            Some((_, last)) if last.len() >= SHORTEST => self.note(what, last),
            _ => {}
        }
    }

    fn note(&mut self, what: &'static str, secret: &str) {
        let start = secret
            .as_bytes()
            .first_chunk()
            .expect("no secret is so short");
        let bucket = self.by_start.entry(*start).or_default();
        bucket.push((secret.as_bytes().to_vec(), what));
    }

    /// Notes what is secret in a variable: all of it, or the password in an address.
    pub fn add_setting(&mut self, name: &str, value: &str) {
        let is_secret = ["KEY", "SECRET", "TOKEN", "PASSWORD"]
            .iter()
            .any(|end| name.ends_with(end));
        if is_secret {
            for one in value.split(',') {
                self.add("a setting", one);
            }
        }
        if let Some((_, rest)) = value.split_once("://") {
            let authority = rest.split(['/', '?']).next().unwrap_or_default();
            if let Some((user, _)) = authority.rsplit_once('@')
                && let Some((_, password)) = user.split_once(':')
            {
                self.add("a password in an address", password);
            }
            let query = rest.split_once('?').map_or("", |(_, query)| query);
            for pair in query.split('&') {
                if let Some(("pass" | "password", password)) = pair.split_once('=') {
                    self.add("a password in an address", password);
                }
            }
        }
    }

    /// Notes what is secret in JSON that a client sends or gets.
    pub fn add_json(&mut self, json: &Value) {
        match json {
            Value::Object(members) => {
                for (name, value) in members {
                    match (what_is(name), value) {
                        (Some(what), Value::String(text)) => self.add(what, text),
                        _ => self.add_json(value),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.add_json(item)),
            _ => {}
        }
    }

    /// Notes the tokens in the links of a mail.
    pub fn add_mail(&mut self, mail: &str) {
        for (at, found) in mail.match_indices("?token=") {
            let rest = &mail[at + found.len()..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            self.add("a mailed token", &rest[..end.unwrap_or(rest.len())]);
        }
    }

    /// Where secrets occur in a text, in their order.
    #[must_use]
    pub fn find(&self, text: &[u8]) -> Vec<Leak> {
        let mut starts = vec![false; 1 << 16];
        for [first, second, ..] in self.by_start.keys() {
            starts[usize::from(*first) << 8 | usize::from(*second)] = true;
        }
        let mut leaks = Vec::new();
        for at in 0..text.len().saturating_sub(SHORTEST - 1) {
            if !starts[usize::from(text[at]) << 8 | usize::from(text[at + 1])] {
                continue;
            }
            let rest = &text[at..];
            let bucket = rest
                .first_chunk()
                .and_then(|start| self.by_start.get(start));
            let here = bucket.into_iter().flatten();
            if let Some((_, what)) = here
                .into_iter()
                .find(|(secret, _)| rest.starts_with(secret))
            {
                let from = at.saturating_sub(AROUND_BYTES);
                let to = text.len().min(at + AROUND_BYTES);
                let around = String::from_utf8_lossy(&text[from..to]).into_owned();
                leaks.push(Leak { what, around });
            }
        }
        leaks
    }
}

/// What a member of that name holds, if that is a secret.
fn what_is(name: &str) -> Option<&'static str> {
    Some(match name {
        "password" | "current_password" | "new_password" => "a password",
        "access_token" => "an access token",
        "refresh_token" => "a refresh token",
        "device_token" => "a device token",
        "token" => "a token",
        "secret" => "the secret of a key",
        "client_secret" => CLIENT_SECRET,
        _ => return None,
    })
}

/// It is given to the payer's browser, so that an answer may well hold it.
const CLIENT_SECRET: &str = "a payment's client secret";

fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// The secrets of one server, and what it has printed.
#[derive(Debug)]
pub(crate) struct Watch {
    log: PathBuf,
    secrets: Mutex<Secrets>,
    /// How much of the log was searched.
    searched: Mutex<u64>,
    /// Whether the log is searched answer by answer.
    follows: AtomicBool,
}

impl Watch {
    pub(crate) fn new(log: PathBuf) -> Self {
        Self {
            log,
            secrets: Mutex::default(),
            searched: Mutex::default(),
            follows: AtomicBool::new(false),
        }
    }

    pub(crate) fn log_path(&self) -> &Path {
        &self.log
    }

    pub(crate) fn secrets(&self) -> MutexGuard<'_, Secrets> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a server whose end nobody sees: the log is searched while it grows.
    pub(crate) fn follow(&self) {
        self.follows.store(true, Ordering::Relaxed);
    }

    /// Notes the secrets of a request.
    pub(crate) fn sent(&self, request: &reqwest::Request) {
        let bearer = request.headers().get(AUTHORIZATION);
        let bearer = bearer.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        // What is no token of ours stands for something else in a test.
        if let Some(token) = bearer.filter(|t| t.starts_with("rd") || t.starts_with("eyJ")) {
            self.secrets().add("a bearer token", token);
        }
        if is_json(request.headers()) {
            let body = request.body().and_then(reqwest::Body::as_bytes);
            self.noted(body.unwrap_or_default());
        }
    }

    /// Searches an answer that refuses, and notes the secrets of every answer.
    ///
    /// # Panics
    /// A secret was found.
    pub(crate) fn answered(&self, status: u16, headers: &HeaderMap, body: &[u8]) {
        if status >= 400 {
            let mut leaks = self.secrets().find(body);
            leaks.retain(|leak| leak.what != CLIENT_SECRET);
            assert_none(&leaks, "an answer");
        }
        if is_json(headers) {
            self.noted(body);
        }
        if self.follows.load(Ordering::Relaxed) {
            self.search_news();
        }
    }

    fn noted(&self, body: &[u8]) {
        let speaks_of_one = |word: &str| body.windows(word.len()).any(|w| w == word.as_bytes());
        if !["password\"", "token\"", "secret\""]
            .into_iter()
            .any(speaks_of_one)
        {
            return;
        }
        if let Ok(json) = serde_json::from_slice::<Value>(body) {
            self.secrets().add_json(&json);
        }
    }

    /// Searches what a subcommand printed.
    ///
    /// # Panics
    /// A secret was found.
    pub(crate) fn printed(&self, text: &str) {
        assert_none(
            &self.secrets().find(text.as_bytes()),
            "a subcommand's output",
        );
    }

    fn search_news(&self) {
        // Whoever searches already sees to it.
        let Ok(mut searched) = self.searched.try_lock() else {
            return;
        };
        let mut news = Vec::new();
        let read = File::open(&self.log).and_then(|mut log| {
            log.seek(SeekFrom::Start(searched.saturating_sub(AGAIN_BYTES)))?;
            log.read_to_end(&mut news)
        });
        if let Ok(read) = read {
            *searched = searched.saturating_sub(AGAIN_BYTES) + read as u64;
            drop(searched);
            let leaks = self.secrets().find(&news);
            assert_none(&leaks, "the log");
        }
    }

    /// Searches everything that the server has printed, also for what its data directory holds.
    pub(crate) fn leaks(&self, data_dir: &Path) -> Vec<Leak> {
        let mut secrets = self.secrets();
        if let Ok(key) = fs::read_to_string(data_dir.join("secret.key")) {
            secrets.add("the secret key", key.trim());
        }
        let mails = fs::read_dir(data_dir.join("mail"));
        for mail in mails.into_iter().flatten().flatten() {
            let mail = fs::read_to_string(mail.path()).unwrap_or_default();
            // Long lines are folded.
            secrets.add_mail(&mail.replace("=\r\n", "").replace("=3D", "="));
        }
        secrets.find(&fs::read(&self.log).unwrap_or_default())
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    kind.is_some_and(|kind| {
        kind.starts_with(b"application/") && kind.windows(4).any(|w| w == b"json")
    })
}

/// Panics over what was found in `place`.
pub(crate) fn assert_none(leaks: &[Leak], place: &str) {
    let shown: Vec<_> = leaks.iter().take(5).map(Leak::to_string).collect();
    assert!(
        leaks.is_empty(),
        "{place} holds secrets, {} times:\n{}",
        leaks.len(),
        shown.join("\n")
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn whats(secrets: &Secrets, text: &str) -> Vec<&'static str> {
        let leaks = secrets.find(text.as_bytes());
        leaks.iter().map(|leak| leak.what).collect()
    }

    #[test]
    fn a_secret_is_found_wherever_it_stands() {
        let mut secrets = Secrets::default();
        secrets.add("a token", "rd_0000workspace_0000id_0123456789abcdef");
        secrets.add("a password", "correct horse battery staple");
        for (text, expected) in [
            ("", vec![]),
            ("rd_", vec![]),
            ("a request of rd_0000workspace_0000id", vec![]),
            ("correct horse battery", vec![]),
            (
                "rd_0000workspace_0000id_0123456789abcdef",
                vec!["a token", "a token"],
            ),
            ("the last part, 0123456789abcdef", vec!["a token"]),
            (
                "\"password\":\"correct horse battery staple\"}",
                vec!["a password"],
            ),
            ("?p=correct%20horse%20battery%20staple", vec!["a password"]),
            (
                "rd_ correct correct horse battery staple correct horse battery staple",
                vec!["a password", "a password"],
            ),
        ] {
            assert_eq!(whats(&secrets, text), expected, "{text}");
        }
    }

    #[test]
    fn settings_and_messages_tell_what_is_secret() {
        let mut secrets = Secrets::default();
        for (name, value) in [
            (
                "STRIPE_WEBHOOK_SECRET",
                "whsec_the_next_one,whsec_the_old_one",
            ),
            ("STRIPE_SECRET_KEY", "sk_test_of_somebody"),
            (
                "DATABASE_URL",
                "postgres://server:database-password@db.example/rd",
            ),
            (
                "REDIS_URL",
                "redis+unix:///run/redis?pass=redis-password&db=1",
            ),
            ("RAWDRIVE_PUBLIC_URL", "https://photos.example/somewhere"),
        ] {
            secrets.add_setting(name, value);
        }
        secrets.add_json(&json!({
            "user": { "name": "somebody else entirely" }, "password": "a new password",
            "items": [{ "access_token": "eyJhbGciOiJFZERTQSJ9" }], "token": null,
        }));
        secrets.add_mail("see http://localhost/shared?token=rd_a_b_0123456789ab.\n");
        for (text, what) in [
            ("whsec_the_old_one", "a setting"),
            ("whsec_the_next_one", "a setting"),
            ("sk_test_of_somebody", "a setting"),
            ("server:database-password@", "a password in an address"),
            ("redis-password", "a password in an address"),
            ("a new password", "a password"),
            ("eyJhbGciOiJFZERTQSJ9", "an access token"),
            ("rd_a_b_0123456789ab", "a mailed token"),
        ] {
            assert_eq!(whats(&secrets, text).first(), Some(&what), "{text}");
        }
        let harmless = "https://photos.example/somewhere of somebody else entirely";
        assert_eq!(whats(&secrets, harmless), Vec::<&str>::new());
    }

    #[test]
    fn a_log_is_searched_as_it_grows_and_whole_at_the_end() {
        let folder = tempfile::tempdir().expect("a directory");
        let watch = Watch::new(folder.path().join("server.log"));
        watch.follow();
        watch
            .secrets()
            .add("a password", "correct horse battery staple");
        let none = HeaderMap::new();
        fs::write(watch.log_path(), "began\n".repeat(10_000)).expect("a log");
        watch.answered(200, &none, b"");
        assert_eq!(watch.leaks(folder.path()), []);
        let leaking = format!("{}correct horse battery staple", "began\n".repeat(10_000));
        fs::write(watch.log_path(), leaking).expect("a log");
        assert_eq!(watch.leaks(folder.path()).len(), 1);
        let followed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            watch.answered(200, &none, b"");
        }));
        assert!(followed.is_err(), "the news hold a secret");
    }

    #[test]
    fn an_answer_that_refuses_is_searched() {
        let watch = Watch::new(PathBuf::from("no log"));
        watch
            .secrets()
            .add("a password", "correct horse battery staple");
        let refuse = |body: &[u8]| {
            let answered = std::panic::AssertUnwindSafe(|| {
                watch.answered(422, &HeaderMap::new(), body);
            });
            std::panic::catch_unwind(answered)
        };
        assert!(refuse(b"{\"detail\":\"a password is too short\"}").is_ok());
        assert!(refuse(b"correct horse battery staple is too short").is_err());
    }
}
