//! The API's document as a client reads it: whatever a server answers in these tests must be what the document says.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// Headers that the document must name where they come.
const TOLD: [&str; 10] = [
    "etag",
    "location",
    "retry-after",
    "ratelimit",
    "ratelimit-policy",
    "idempotency-replayed",
    "www-authenticate",
    "content-range",
    "accept-ranges",
    "content-disposition",
];

/// The committed document; a test of its own compares it with the one that is served.
pub(crate) fn committed() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        let text = fs::read_to_string(path).expect("there is a docs/openapi.json");
        serde_json::from_str(&text).expect("docs/openapi.json is JSON")
    })
}

/// Compares an answer with the document.
///
/// # Panics
/// The document says otherwise.
pub(crate) fn check(method: &Method, path: &str, status: u16, headers: &HeaderMap, body: &[u8]) {
    let document = committed();
    let Some(operation) = operation(document, method, path) else {
        return;
    };
    let told = |what: &str| {
        let shown = String::from_utf8_lossy(&body[..body.len().min(1_000)]);
        panic!("docs/openapi.json, {method} {path}: {what}\n{status} {headers:?}\n{shown}")
    };
    let response = &operation["responses"][status.to_string()];
    if response.is_null() {
        told(&format!("the status {status} is not documented"));
    }
    let response = resolved(document, response);
    check_headers(document, response, headers).unwrap_or_else(|problem| told(&problem));
    // What is compressed is looked at where it is not.
    if body.is_empty() || headers.contains_key("content-encoding") {
        return;
    }
    let content_type = headers.get("content-type").and_then(|v| v.to_str().ok());
    let essence = content_type
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    let range = format!("{}/*", essence.split('/').next().unwrap_or_default());
    let content = &response["content"];
    let media = [essence, &range].map(|name| &content[name]);
    let Some(media) = media.into_iter().find(|media| !media.is_null()) else {
        return told(&format!("the media type {essence} is not documented"));
    };
    // Not `application/x-ndjson`, which is one JSON text a line.
    if essence == "application/json" || essence.ends_with("+json") {
        let value = serde_json::from_slice(body).expect("what is called JSON is JSON");
        if let Err(problem) = validate(document, &media["schema"], &value, "body") {
            told(&problem);
        }
    }
}

fn check_headers(document: &Value, response: &Value, headers: &HeaderMap) -> Result<(), String> {
    let documented = response["headers"].as_object().into_iter().flatten();
    let documented: Vec<(String, &Value)> = documented
        .map(|(name, header)| (name.to_ascii_lowercase(), resolved(document, header)))
        .collect();
    for (name, header) in &documented {
        if header["required"] == true && !headers.contains_key(name) {
            return Err(format!("the header {name} is missing"));
        }
    }
    let known = |name: &str| documented.iter().any(|(known, _)| known == name);
    match TOLD
        .into_iter()
        .find(|name| headers.contains_key(*name) && !known(name))
    {
        Some(name) => Err(format!("the header {name} is not documented")),
        None => Ok(()),
    }
}

/// The operation that answers a path: of several patterns that fit, the one with the fewest names in it.
fn operation<'a>(document: &'a Value, method: &Method, path: &str) -> Option<&'a Value> {
    let path = path.split('?').next().unwrap_or_default();
    let paths = document["paths"].as_object()?;
    let fits = |template: &&String| {
        let (there, here) = (template.split('/'), path.split('/'));
        there.clone().count() == here.clone().count()
            && there
                .zip(here)
                .all(|(t, h)| t == h || t.starts_with('{') && !h.is_empty())
    };
    let template = paths
        .keys()
        .filter(fits)
        .min_by_key(|t| t.matches('{').count())?;
    paths[template].get(method.as_str().to_ascii_lowercase())
}

fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"]
        .as_str()
        .and_then(|target| target.strip_prefix('#'))
    {
        Some(pointer) => document
            .pointer(pointer)
            .expect("a reference leads somewhere"),
        None => value,
    }
}

/// What of JSON Schema the document uses. A member that is not declared is a mistake of the document, whatever a schema
/// would let pass.
fn validate(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let schema = resolved(document, schema);
    if let Some(alternatives) = schema["oneOf"].as_array() {
        let property = schema["discriminator"]["propertyName"].as_str();
        let Some(property) = property else {
            let fits = |one: &&Value| validate(document, one, value, at).is_ok();
            return match alternatives.iter().find(fits) {
                Some(_) => Ok(()),
                None => Err(format!("{at} is none of its alternatives: {value}")),
            };
        };
        let name = value[property].as_str().unwrap_or_default();
        let target = schema["discriminator"]["mapping"][name].as_str();
        let target = target.ok_or_else(|| format!("{at}.{property}: {name} is not documented"))?;
        return validate(document, &serde_json::json!({ "$ref": target }), value, at);
    }
    let of_type = |name: &Value| match name.as_str() {
        Some("null") => value.is_null(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => false,
    };
    let typed = match &schema["type"] {
        Value::Null => true,
        Value::Array(types) => types.iter().any(of_type),
        one => of_type(one),
    };
    if !typed {
        return Err(format!("{at} is not of type {}: {value}", schema["type"]));
    }
    let constant = &schema["const"];
    let words = schema["enum"].as_array();
    if !constant.is_null() && constant != value || words.is_some_and(|words| !words.contains(value))
    {
        return Err(format!("{at} is another word: {value}"));
    }
    if let Some(text) = value.as_str() {
        check_text(schema, text).map_err(|problem| format!("{at} {problem}: {text}"))?;
    }
    if let Some(number) = value.as_f64() {
        let bound = |key: &str, usual| schema[key].as_f64().unwrap_or(usual);
        if number < bound("minimum", f64::MIN) || number > bound("maximum", f64::MAX) {
            return Err(format!("{at} is out of bounds: {value}"));
        }
    }
    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
        validate(document, &schema["items"], item, &format!("{at}[{n}]"))?;
    }
    let Some(members) = value.as_object() else {
        return Ok(());
    };
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        if !members.contains_key(name) {
            return Err(format!("{at}.{name} is missing"));
        }
    }
    for (name, member) in members {
        let at = format!("{at}.{name}");
        let (declared, further) = (&schema["properties"][name], &schema["additionalProperties"]);
        match (declared, further) {
            (Value::Null, Value::Null) if schema["properties"].is_object() => {
                return Err(format!("{at} is not documented"));
            }
            (Value::Null, Value::Null) => {}
            (Value::Null, further) => validate(document, further, member, &at)?,
            (declared, _) => validate(document, declared, member, &at)?,
        }
    }
    Ok(())
}

fn check_text(schema: &Value, text: &str) -> Result<(), String> {
    let hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let good = match schema["pattern"].as_str() {
        None => true,
        Some("^[0-9a-f]{64}$") => hex(text, 64),
        Some("^#[0-9a-fA-F]{6}$") => text.strip_prefix('#').is_some_and(|text| hex(text, 6)),
        Some("^(ok|warning_[1-9][0-9]|full|over)$") => {
            let warning = |text: &str| {
                let percent = text.strip_prefix("warning_");
                percent.is_some_and(|p| p.parse().is_ok_and(|p: u8| (10..100).contains(&p)))
            };
            ["ok", "full", "over"].contains(&text) || warning(text)
        }
        Some(pattern) => {
            let prefix = pattern
                .strip_prefix('^')
                .and_then(|rest| rest.strip_suffix("[0-9a-f]{32}$"))
                .ok_or_else(|| format!("has a pattern that this test does not know, {pattern}"))?;
            text.strip_prefix(prefix)
                .is_some_and(|digits| hex(digits, 32))
        }
    };
    if !good {
        return Err(format!("does not match {}", schema["pattern"]));
    }
    // RFC 3339 in UTC, as every time on the wire.
    if schema["format"] == "date-time"
        && !(text.len() >= 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T')
    {
        return Err("is no time".to_owned());
    }
    Ok(())
}
