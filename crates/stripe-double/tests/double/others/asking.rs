//! One call, asked of two servers.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::encode;

type Form = Vec<(&'static str, &'static str)>;

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    Both,
    /// Only one: what the other needs no call, or another one, to have.
    Double,
    Other,
}

/// A call, what is kept of its answers for later ones, and what is compared.
///
/// `{name}` in a path or a value stands for what a server's own answer said when `name` was kept.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) name: &'static str,
    method: &'static str,
    path: &'static str,
    form: Form,
    /// The parameters by which the other says the same.
    other_form: Option<Form>,
    key: Option<&'static str>,
    is_anonymous: bool,
    keeps: Vec<(&'static str, &'static str)>,
    fields: Vec<&'static str>,
    whom: Whom,
}

/// The status of an answer, as a field.
const STATUS: &str = "HTTP status";

impl Call {
    fn new(name: &'static str, method: &'static str, path: &'static str) -> Self {
        Self {
            name,
            method,
            path,
            form: Vec::new(),
            other_form: None,
            key: None,
            is_anonymous: false,
            keeps: Vec::new(),
            fields: vec![STATUS],
            whom: Whom::Both,
        }
    }

    pub(super) fn get(name: &'static str, path: &'static str) -> Self {
        Self::new(name, "GET", path)
    }

    pub(super) fn post(
        name: &'static str,
        path: &'static str,
        form: &[(&'static str, &'static str)],
    ) -> Self {
        let mut call = Self::new(name, "POST", path);
        call.form = form.to_vec();
        call
    }

    pub(super) fn delete(name: &'static str, path: &'static str) -> Self {
        Self::new(name, "DELETE", path)
    }

    /// The other takes other parameters for the same.
    pub(super) fn of_other(mut self, form: &[(&'static str, &'static str)]) -> Self {
        self.other_form = Some(form.to_vec());
        self
    }

    pub(super) fn keyed(mut self, key: &'static str) -> Self {
        self.key = Some(key);
        self
    }

    pub(super) fn anonymous(mut self) -> Self {
        self.is_anonymous = true;
        self
    }

    /// Keeps what an answer says in a field under a name.
    pub(super) fn keep(mut self, name: &'static str, field: &'static str) -> Self {
        self.keeps.push((name, field));
        self
    }

    /// What is to agree, beside the status. `a|b` is the first of both that is there, as the gateway reads fields
    /// that have moved; an object where an id may be is its id; what is absent is null.
    pub(super) fn agree(mut self, fields: &[&'static str]) -> Self {
        self.fields.extend(fields);
        self
    }

    pub(super) fn double_alone(mut self) -> Self {
        self.whom = Whom::Double;
        self
    }

    pub(super) fn other_alone(mut self) -> Self {
        self.whom = Whom::Other;
        self
    }

    /// Whether a call that is no question about a refusal was refused by the double: two refusals agree about
    /// nothing.
    pub(super) fn is_in_vain(&self, ours: &Said) -> bool {
        let asks_of_refusal = self.fields.iter().any(|field| field.starts_with("error."));
        ours.status != 200 && !asks_of_refusal
    }

    /// Each field with what the double and the other say.
    pub(super) fn fields(&self, ours: &Said, theirs: &Said) -> Vec<(&'static str, String, String)> {
        let fields = self.fields.iter();
        fields
            .map(|field| (*field, ours.field(field), theirs.field(field)))
            .collect()
    }
}

/// A server that is asked, with what it has said so far.
pub(super) struct Place {
    url: String,
    key: String,
    http: reqwest::Client,
    names: BTreeMap<&'static str, String>,
}

/// An answer, with the names of what the server has said before.
#[derive(Debug)]
pub(super) struct Said {
    status: u16,
    replayed: bool,
    body: Value,
    names: Vec<(String, &'static str)>,
}

impl Place {
    pub(super) fn new(url: &str, key: &str) -> Self {
        Self {
            url: url.to_owned(),
            key: key.to_owned(),
            http: reqwest::Client::builder()
                .timeout(std::time::Duration::from_secs(60))
                .build()
                .expect("a client without TLS needs nothing"),
            names: BTreeMap::new(),
        }
    }

    pub(super) async fn ask_as_double(&mut self, call: &Call) -> Option<Said> {
        if call.whom == Whom::Other {
            return None;
        }
        Some(self.send(call, &call.form).await)
    }

    pub(super) async fn ask(&mut self, call: &Call) -> Option<Said> {
        if call.whom == Whom::Double {
            return None;
        }
        Some(
            self.send(call, call.other_form.as_ref().unwrap_or(&call.form))
                .await,
        )
    }

    async fn send(&mut self, call: &Call, form: &[(&'static str, &'static str)]) -> Said {
        let url = format!("{}{}", self.url, self.filled(call, call.path));
        let method = call.method.parse().expect("a method");
        let mut request = self.http.request(method, url);
        if !call.is_anonymous {
            request = request.bearer_auth(&self.key);
        }
        if let Some(key) = call.key {
            request = request.header("Idempotency-Key", key);
        }
        if call.method == "POST" {
            let form: Vec<_> = form
                .iter()
                .map(|(name, value)| (*name, self.filled(call, value)))
                .collect();
            let form: Vec<_> = form
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            request = request
                .header("Content-Type", "application/x-www-form-urlencoded")
                .body(encode(&form));
        }
        let response = request
            .send()
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", call.name));
        let status = response.status().as_u16();
        let replayed = response
            .headers()
            .get("Idempotent-Replayed")
            .is_some_and(|value| value == "true");
        let text = response
            .text()
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", call.name));
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        for (name, field) in &call.keeps {
            // What only one of both has is of use to that one alone.
            if let Some(kept) = read(&body, field).as_str() {
                self.names.insert(name, kept.to_owned());
            }
        }
        Said {
            status,
            replayed,
            body,
            names: self
                .names
                .iter()
                .map(|(name, id)| (id.clone(), *name))
                .collect(),
        }
    }

    /// A text with what its names stand for.
    fn filled(&self, call: &Call, text: &str) -> String {
        let mut filled = text.to_owned();
        for (name, value) in &self.names {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        assert!(
            !filled.contains('{'),
            "{}: nothing is kept for {filled}",
            call.name
        );
        filled
    }
}

impl Said {
    fn field(&self, field: &str) -> String {
        match field {
            STATUS => self.status.to_string(),
            "Idempotent-Replayed" => self.replayed.to_string(),
            _ => self.named(&read(&self.body, field)),
        }
    }

    /// A value, with what has a name as its name, and ids without one as no more than what they are of.
    fn named(&self, value: &Value) -> String {
        match value {
            Value::String(text) => {
                let mut text = text.clone();
                for (kept, name) in &self.names {
                    text = text.replace(kept, &format!("{{{name}}}"));
                }
                Value::String(without_id(text)).to_string()
            }
            Value::Array(rows) => {
                let rows: Vec<_> = rows.iter().map(|row| self.named(row)).collect();
                format!("[{}]", rows.join(","))
            }
            other => other.to_string(),
        }
    }
}

/// `in_…` for an invoice's id, and so on.
fn without_id(text: String) -> String {
    let is_random =
        |part: &str| part.len() >= 14 && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match text.split_once('_') {
        Some((kind, random)) if kind.len() <= 5 && is_random(random) => format!("{kind}_…"),
        _ => text,
    }
}

/// What the gateway would read.
fn read(body: &Value, field: &str) -> Value {
    let found = field.split('|').map(|path| at(body, path));
    found
        .into_iter()
        .find(|value| !value.is_null())
        .unwrap_or(Value::Null)
}

fn at(body: &Value, path: &str) -> Value {
    let mut value = body;
    for (n, part) in path.split('.').enumerate() {
        if part == "*" {
            let rest: Vec<_> = path.split('.').skip(n + 1).collect();
            let rows = value.as_array().map(Vec::as_slice).unwrap_or_default();
            return rows.iter().map(|row| at(row, &rest.join("."))).collect();
        }
        value = match part.parse::<usize>() {
            Ok(row) => &value[row],
            Err(_) => &value[part],
        };
    }
    match &value["id"] {
        Value::Null => value.clone(),
        id => id.clone(),
    }
}
