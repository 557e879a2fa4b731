//! One request: sent, and shown as the line that one could paste.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::{self, StatusCode};

/// Longer than any step needs on a slow machine: a password's hash takes a second there.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How much of a secret is shown, in characters.
const SHOWN_CHARS: usize = 12;

/// What is asked of the server.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) path: String,
    /// Sent as `Authorization: Bearer`; shown as `$TOKEN`.
    pub(super) token: Option<String>,
    pub(super) range: Option<&'static str>,
    pub(super) body: Body,
}

/// What a request carries.
#[derive(Debug, Default)]
pub(super) enum Body {
    #[default]
    Nothing,
    Json(Value),
    /// An image, and the file in which the reader finds it.
    Image {
        file: PathBuf,
        content_type: &'static str,
        bytes: &'static [u8],
    },
}

/// What the server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// The way to the server.
pub(super) trait Wire {
    /// Where it is, without a slash at the end.
    fn base(&self) -> &str;
    /// Sends a request; whatever its status, an answer is an answer.
    fn send(&mut self, request: &Request) -> Result<Answer, String>;
}

/// The real way.
pub(super) struct Http {
    agent: Agent,
    base: String,
}

impl Http {
    pub(super) fn new(base: String) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            // A proxy of the environment has no business between here and loopback.
            .proxy(None)
            .build()
            .new_agent();
        Self { agent, base }
    }
}

impl Wire for Http {
    fn base(&self) -> &str {
        &self.base
    }

    fn send(&mut self, request: &Request) -> Result<Answer, String> {
        let mut builder = http::Request::builder()
            .method(request.method)
            .uri(format!("{}{}", self.base, request.path));
        if let Some(token) = &request.token {
            builder = builder.header("Authorization", format!("Bearer {token}"));
        }
        if let Some(range) = request.range {
            builder = builder.header("Range", range);
        }
        let body = match &request.body {
            Body::Nothing => None,
            Body::Json(value) => {
                builder = builder.header("Content-Type", "application/json");
                Some(value.to_string().into_bytes())
            }
            Body::Image {
                content_type,
                bytes,
                ..
            } => {
                builder = builder.header("Content-Type", *content_type);
                Some(bytes.to_vec())
            }
        };
        let mut response = match body {
            None => self.agent.run(builder.body(()).map_err(|e| e.to_string())?),
            Some(body) => self
                .agent
                .run(builder.body(body).map_err(|e| e.to_string())?),
        }
        .map_err(|error| error.to_string())?;
        Ok(Answer {
            status: response.status().as_u16(),
            body: response
                .body_mut()
                .read_to_vec()
                .map_err(|e| e.to_string())?,
        })
    }
}

impl Request {
    /// The line that one could paste, after `TOKEN` has been set.
    pub(super) fn as_curl(&self, base: &str) -> String {
        let mut line = "curl -sS".to_owned();
        if self.method != "GET" {
            let _ = write!(line, " -X {}", self.method);
        }
        let _ = write!(line, " {}", quoted(&format!("{base}{}", self.path)));
        if self.token.is_some() {
            line.push_str(r#" -H "Authorization: Bearer $TOKEN""#);
        }
        if let Some(range) = self.range {
            let _ = write!(line, " -H {}", quoted(&format!("Range: {range}")));
        }
        match &self.body {
            Body::Nothing => {}
            Body::Json(value) => {
                let _ = write!(
                    line,
                    " -H 'Content-Type: application/json' -d {}",
                    quoted(&value.to_string())
                );
            }
            Body::Image {
                file, content_type, ..
            } => {
                let _ = write!(
                    line,
                    " -H 'Content-Type: {content_type}' --data-binary {}",
                    quoted(&format!("@{}", file.display()))
                );
            }
        }
        if self.range.is_some() {
            line.push_str(" | od -An -tx1");
        }
        line
    }
}

impl Answer {
    /// The body as JSON; `null` when it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Status and body for people; secrets shortened.
    pub(super) fn shown(&self) -> String {
        let reason = StatusCode::from_u16(self.status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or_default();
        let body = match self.json() {
            Value::Null if self.body.is_empty() => String::new(),
            Value::Null => match std::str::from_utf8(&self.body) {
                Ok(text) => text.to_owned(),
                Err(_) => bytes(&self.body),
            },
            json => pretty(json),
        };
        format!("{} {reason}\n{body}", self.status)
            .trim_end()
            .to_owned()
    }
}

/// JSON for people; secrets shortened.
pub(super) fn pretty(mut json: Value) -> String {
    shorten(&mut json);
    serde_json::to_string_pretty(&json).unwrap_or_default()
}

fn shorten(json: &mut Value) {
    match json {
        Value::Object(members) => {
            for (name, value) in members {
                let is_secret = name == "token" || name == "secret" || name.ends_with("_token");
                match value {
                    Value::String(text) if is_secret => {
                        let count = text.chars().count();
                        let start: String = text.chars().take(SHOWN_CHARS.min(count / 2)).collect();
                        *text = format!("{start}… ({count} characters)");
                    }
                    other => shorten(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(shorten),
        _ => {}
    }
}

fn bytes(body: &[u8]) -> String {
    let shown: Vec<_> = body
        .iter()
        .take(32)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let more = if body.len() > shown.len() { " …" } else { "" };
    format!("({} bytes) {}{more}", body.len(), shown.join(" "))
}

/// As a POSIX shell reads it back.
pub(super) fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@,".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_shown_as_a_line_to_paste() {
        let post = Request {
            method: "POST",
            path: "/v1/libraries".to_owned(),
            token: Some("ey.secret".to_owned()),
            body: Body::Json(json!({ "name": "Anna's" })),
            ..Request::default()
        };
        assert_eq!(
            post.as_curl("http://127.0.0.1:1"),
            r#"curl -sS -X POST http://127.0.0.1:1/v1/libraries -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{"name":"Anna'\''s"}'"#
        );
        let upload = Request {
            method: "POST",
            path: "/v1/galleries/gal_1/photos?filename=a.jpg".to_owned(),
            body: Body::Image {
                file: "/tmp/x y/a.jpg".into(),
                content_type: "image/jpeg",
                bytes: b"",
            },
            ..Request::default()
        };
        assert_eq!(
            upload.as_curl("http://h"),
            "curl -sS -X POST 'http://h/v1/galleries/gal_1/photos?filename=a.jpg' -H 'Content-Type: image/jpeg' --data-binary '@/tmp/x y/a.jpg'"
        );
    }

    #[test]
    fn secrets_are_shortened_wherever_they_stand() {
        let long = "abcdefghijklmnopqrstuvwxyz";
        let body =
            json!({ "access_token": long, "next": [{ "secret": long }], "token_type": "Bearer" });
        let shown = Answer {
            status: 201,
            body: body.to_string().into_bytes(),
        }
        .shown();
        assert!(shown.starts_with("201 Created\n{"), "{shown}");
        assert!(!shown.contains(long), "{shown}");
        assert!(shown.contains("abcdefghijkl… (26 characters)"), "{shown}");
        assert!(shown.contains("Bearer"), "{shown}");
    }

    #[test]
    fn bytes_are_shown_as_digits() {
        let answer = Answer {
            status: 206,
            body: vec![0xff, 0xd8, 0xff],
        };
        assert_eq!(answer.shown(), "206 Partial Content\n(3 bytes) ff d8 ff");
        assert_eq!(
            Answer {
                status: 204,
                body: vec![]
            }
            .shown(),
            "204 No Content"
        );
    }

    #[test]
    fn an_answer_is_an_answer_whatever_its_status() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"{}") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            stream
                .write_all(b"HTTP/1.1 402 Payment Required\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
                .unwrap();
            String::from_utf8(head).unwrap().to_lowercase()
        });
        let request = Request {
            method: "POST",
            path: "/v1/branding".to_owned(),
            token: Some("t0ken".to_owned()),
            range: Some("bytes=0-1"),
            body: Body::Json(json!({})),
        };
        let answer = Http::new(base).send(&request).unwrap();
        assert_eq!((answer.status, answer.json()), (402, json!({})));
        let head = server.join().unwrap();
        for line in [
            "post /v1/branding http/1.1",
            "authorization: bearer t0ken",
            "range: bytes=0-1",
            "content-length: 2",
        ] {
            assert!(head.contains(line), "{head}");
        }
    }
}
