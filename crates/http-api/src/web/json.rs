//! JSON bodies: syntax first, then NUL, then shape, each refusal naming its field.

use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::problem::Problem;
use super::shape::{self, LONGEST_FIELD, refused, shortened};
use super::strict_json::Strict;
use super::validate::Validator;

/// The largest body that is searched for all of its faults; of a larger one the first is told.
const LARGEST_SEARCHED: usize = 64 * 1024;

/// Reads a JSON object.
///
/// # Errors
/// 400 `malformed_request`: empty, not JSON, cut off, or nested beyond 128 levels. 422 `validation_failed`:
/// not an object, a NUL in any text, a field that is missing, unknown, twice or of the wrong type, `null` where the
/// field is no [`Nullable`](super::Nullable).
pub fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let (value, fields) = read_json(body)?;
    fields.finish()?;
    Ok(value)
}

/// As [`parse_json`], for a route that looks at values too: what is wrong with the shape is in the [`Validator`], so that
/// it is told together with what is wrong with the values. Nothing may be done before the validator has finished: in the
/// place of a refused field stands any value of its type.
///
/// # Errors
/// As [`parse_json`], where nothing can stand in a refused field's place.
pub fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<(T, Validator), Problem> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::malformed(
            "The body is empty; a JSON object is expected.",
        ));
    }
    // A pass of its own, because syntax is refused before shape wherever in the body each fault lies.
    let mut scan = Scan::default();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    Any { scan: &mut scan }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .map_err(syntax)?;
    if let Some(field) = scan.nul {
        return Err(Problem::invalid_field(
            field,
            "must not hold a NUL character",
        ));
    }
    // Derived structs would take a sequence in the place of their fields.
    if !scan.top_is_object {
        return Err(Problem::invalid_field("body", "expected a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let error = match serde_path_to_error::deserialize(Strict(&mut deserializer)) {
        Ok(value) => return Ok((value, Validator::new())),
        Err(error) => error,
    };
    if error.inner().classify() != Category::Data {
        return Err(syntax(error.into_inner()));
    }
    let first = refused(&error.path().to_string(), &error.inner().to_string());
    // Twice is once in a value: the rest is looked for in what is there.
    if body.len() > LARGEST_SEARCHED {
        return Err(Problem::validation(vec![first]));
    }
    let value = serde_json::from_slice(body).map_err(syntax)?;
    let (found, mut errors) = shape::search(value);
    if !errors.contains(&first) {
        errors.insert(0, first);
        errors.truncate(shape::MOST_ERRORS);
    }
    match found {
        Some(found) => Ok((found, Validator::after(errors))),
        None => Err(Problem::validation(errors)),
    }
}

fn syntax(error: serde_json::Error) -> Problem {
    let what = match error.classify() {
        Category::Eof => "The JSON ends too early",
        _ if error.to_string().starts_with("recursion limit") => "The JSON is nested too deeply",
        _ => "The body is not JSON",
    };
    Problem::malformed(format!(
        "{what} (line {}, column {}).",
        error.line(),
        error.column()
    ))
}

#[derive(Default)]
struct Scan {
    path: Vec<Step>,
    nul: Option<String>,
    top_is_object: bool,
}

enum Step {
    Key(String),
    Index(usize),
}

impl Scan {
    fn see(&mut self, text: &str) {
        if self.nul.is_none() && memchr::memchr(0, text.as_bytes()).is_some() {
            let mut field = String::new();
            for step in &self.path {
                match step {
                    Step::Key(key) if field.is_empty() => field.push_str(key),
                    Step::Key(key) => {
                        field.push('.');
                        field.push_str(key);
                    }
                    Step::Index(index) => field.push_str(&format!("[{index}]")),
                }
            }
            let field = if field.is_empty() { "body" } else { &field };
            self.nul = Some(shortened(field, LONGEST_FIELD));
        }
    }
}

/// Reads any value and keeps only whether a text holds NUL; serde_json bounds the depth.
struct Any<'s> {
    scan: &'s mut Scan,
}

impl<'de> DeserializeSeed<'de> for Any<'_> {
    type Value = ();
    fn deserialize<D: de::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.scan.see(text);
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut index = 0;
        self.scan.path.push(Step::Index(index));
        while items.next_element_seed(Any { scan: self.scan })?.is_some() {
            index += 1;
            if let Some(step) = self.scan.path.last_mut() {
                *step = Step::Index(index);
            }
        }
        self.scan.path.pop();
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.scan.top_is_object |= self.scan.path.is_empty();
        self.scan.path.push(Step::Key(String::new()));
        // The step's own text is filled in place: one buffer per level, not one per key.
        while let Some(Step::Key(mut key)) = self.scan.path.pop() {
            key.clear();
            let more = entries.next_key_seed(Key(&mut key))?.is_some();
            let key_has_nul = memchr::memchr(0, key.as_bytes()).is_some();
            self.scan.path.push(Step::Key(key));
            if !more {
                break;
            }
            if key_has_nul {
                self.scan.see("\0");
            }
            entries.next_value_seed(Any { scan: self.scan })?;
        }
        self.scan.path.pop();
        Ok(())
    }
}

struct Key<'b>(&'b mut String);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();
    fn deserialize<D: de::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::{Code, Nullable};
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read through Debug alone")]
    struct Batch {
        name: String,
        size_bytes: Option<u64>,
        grain: Option<Grain>,
        #[serde(default)]
        events: Vec<Event>,
        #[serde(default)]
        note: Nullable<String>,
        #[serde(default)]
        extra: Nullable<serde_json::Value>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read through Debug alone")]
    struct Event {
        id: String,
        #[serde(default)]
        events: Option<Box<Event>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Grain {
        Hour,
        Day,
    }

    /// The status and, of a 422, the first field and message.
    fn refusal(body: &[u8]) -> String {
        let problem = parse_json::<Batch>(body).unwrap_err();
        match problem.code {
            Code::ValidationFailed => {
                let first = &problem.members["errors"][0];
                format!(
                    "{} {}",
                    first["field"].as_str().unwrap(),
                    first["message"].as_str().unwrap()
                )
            }
            code => format!("{} {}", code.number(), problem.detail),
        }
    }

    #[test]
    fn what_is_no_json_is_400() {
        for (case, body, expected) in [
            (
                "empty",
                "",
                "400 The body is empty; a JSON object is expected.",
            ),
            (
                "blank",
                " \n",
                "400 The body is empty; a JSON object is expected.",
            ),
            (
                "cut off",
                r#"{"name": "a"#,
                "400 The JSON ends too early (line 1, column 11).",
            ),
            (
                "no json",
                "name=a",
                "400 The body is not JSON (line 1, column 2).",
            ),
            (
                "two values",
                r#"{"name":"a"} {}"#,
                "400 The body is not JSON (line 1, column 14).",
            ),
            (
                "comma",
                r#"{"name":"a",}"#,
                "400 The body is not JSON (line 1, column 13).",
            ),
            (
                "lone surrogate",
                r#"{"name":"\ud800"}"#,
                "400 The body is not JSON (line 1, column 16).",
            ),
            (
                "raw control",
                "{\"name\":\"a\u{1}\"}",
                "400 The body is not JSON (line 1, column 11).",
            ),
            (
                "huge number",
                r#"{"name":"a","size_bytes":1e999}"#,
                "400 The body is not JSON (line 1, column 30).",
            ),
            (
                "syntax after a wrong type",
                r#"{"name":1,"#,
                "400 The JSON ends too early (line 1, column 10).",
            ),
        ] {
            assert_eq!(refusal(body.as_bytes()), expected, "{case}");
        }
        assert!(
            refusal(b"{\"name\":\"\xff\"}").starts_with("400 "),
            "not UTF-8"
        );
        let deep = format!("{{\"name\":{}", "[".repeat(100_000));
        assert!(
            refusal(deep.as_bytes()).starts_with("400 The JSON is nested too deeply"),
            "deep"
        );
    }

    #[test]
    fn a_wrong_shape_is_422_and_names_the_field() {
        for (case, body, expected) in [
            ("array on top", r#"["a"]"#, "body expected a JSON object"),
            ("text on top", r#""a""#, "body expected a JSON object"),
            ("null on top", "null", "body expected a JSON object"),
            ("missing", "{}", "name is required"),
            (
                "unknown",
                r#"{"name":"a","workspace_id":"ws_1"}"#,
                "workspace_id is not a known field",
            ),
            ("twice", r#"{"name":"a","name":"b"}"#, "name is given twice"),
            ("wrong type", r#"{"name":5}"#, "name expected a string"),
            ("null", r#"{"name":null}"#, "name expected a string"),
            (
                "null for an absent member",
                r#"{"name":"a","size_bytes":null}"#,
                "size_bytes must not be null",
            ),
            (
                "nested null",
                r#"{"name":"a","events":[{"id":"x","events":null}]}"#,
                "events[0].events must not be null",
            ),
            (
                "a wrong type in the place of null",
                r#"{"name":"a","note":5}"#,
                "note expected a string",
            ),
            (
                "negative",
                r#"{"name":"a","size_bytes":-1}"#,
                "size_bytes expected a whole number that is not negative",
            ),
            (
                "fraction",
                r#"{"name":"a","size_bytes":1.5}"#,
                "size_bytes expected a whole number that is not negative",
            ),
            (
                "variant",
                r#"{"name":"a","grain":"week"}"#,
                "grain expected `hour` or `day`",
            ),
            (
                "nested missing",
                r#"{"name":"a","events":[{"id":"x"},{}]}"#,
                "events[1].id is required",
            ),
            (
                "nested unknown",
                r#"{"name":"a","events":[{"id":"x","b":1}]}"#,
                "events[0].b is not a known field",
            ),
            (
                "nested twice",
                r#"{"name":"a","events":[{"id":"x","id":"y"}]}"#,
                "events[0].id is given twice",
            ),
            (
                "namesake unknown",
                r#"{"name":"a","extra":1,"events":[{"id":"x","name":{}}]}"#,
                "events[0].name is not a known field",
            ),
            (
                "namesake missing",
                r#"{"name":"a","events":[{"id":"x","events":{}}]}"#,
                "events[0].events.id is required",
            ),
            (
                "no object",
                r#"{"name":"a","events":[7]}"#,
                "events[0] expected an object",
            ),
            (
                "array for an object",
                r#"{"name":"a","events":[["x",null]]}"#,
                "events[0] expected an object",
            ),
            (
                "no array",
                r#"{"name":"a","events":{}}"#,
                "events expected an array",
            ),
            (
                "a deceiving name",
                r#"{"name":"a","x`, expected `y":1}"#,
                "x`, expected `y is not a known field",
            ),
            (
                "an empty name",
                r#"{"name":"a","":1}"#,
                " is not a known field",
            ),
        ] {
            assert_eq!(refusal(body.as_bytes()), expected, "{case}");
        }
    }

    #[test]
    fn all_faults_of_a_shape_are_told_at_once() {
        for (body, expected) in [
            (r#"{"size_bytes":-1,"a":1,"b":2}"#, "name,size_bytes,a,b"),
            (
                r#"{"name":5,"grain":"week","events":[{"x":1},7,{"id":"x"}],"note":5}"#,
                "name,grain,events[0].x,events[0].id,events[1],note",
            ),
            (r#"{"name":"a","name":"b","c":1}"#, "name,c"),
            (r#"{"name":null,"size_bytes":null}"#, "name,size_bytes"),
            (r#"{"events":{}}"#, "events,name"),
        ] {
            let problem = parse_json::<Batch>(body.as_bytes()).unwrap_err();
            let errors = problem.members["errors"].as_array().unwrap();
            let mut fields: Vec<_> = errors
                .iter()
                .map(|e| e["field"].as_str().unwrap())
                .collect();
            let mut expected: Vec<_> = expected.split(',').collect();
            fields.sort_unstable();
            expected.sort_unstable();
            assert_eq!(fields, expected, "{body}");
        }
    }

    #[test]
    fn what_is_wrong_with_values_is_told_together_with_the_shape() {
        let body = br#"{"size_bytes":7,"x":1}"#;
        let (batch, mut v) = read_json::<Batch>(body).unwrap();
        v.require("size_bytes", batch.size_bytes == Some(8), "must be 8");
        // The value that stands in for a missing one is not judged.
        v.require("name", !batch.name.is_empty(), "must not be empty");
        let problem = v.finish().unwrap_err();
        let text = serde_json::Value::from(problem.members).to_string();
        assert!(
            text.contains("must be 8") && text.contains("is required"),
            "{text}"
        );
        assert!(
            text.contains("is not a known field") && !text.contains("empty"),
            "{text}"
        );
    }

    #[test]
    fn a_search_for_faults_ends() {
        let many: String = (0..5_000).map(|n| format!(",\"f{n}\":1")).collect();
        let body = format!("{{\"name\":5{many}}}");
        let started = std::time::Instant::now();
        let problem = parse_json::<Batch>(body.as_bytes()).unwrap_err();
        let errors = problem.members["errors"].as_array().unwrap();
        assert!(
            (1..=shape::MOST_ERRORS).contains(&errors.len()),
            "{}",
            errors.len()
        );
        assert!(started.elapsed() < std::time::Duration::from_secs(5));
    }

    #[test]
    fn null_is_told_from_absence_where_it_is_taken() {
        for (body, note) in [
            (r#"{"name":"a"}"#, Nullable::Absent),
            (r#"{"name":"a","note":null}"#, Nullable::Null),
            (
                r#"{"name":"a","note":"x"}"#,
                Nullable::Value("x".to_owned()),
            ),
        ] {
            let batch = parse_json::<Batch>(body.as_bytes()).unwrap();
            assert_eq!(batch.note, note, "{body}");
            // Any other deserializer tells the same.
            let batch = serde_json::from_str::<Batch>(body).unwrap();
            assert_eq!(batch.note, note, "{body}");
        }
        let inner = parse_json::<Batch>(br#"{"name":"a","extra":{"x":null}}"#).unwrap();
        assert_eq!(
            inner.extra,
            Nullable::Value(serde_json::json!({ "x": null }))
        );
    }

    #[test]
    fn a_nul_in_any_text_is_422_and_names_the_field() {
        for (case, body, field) in [
            ("value", r#"{"name":"a\u0000"}"#, "name"),
            (
                "nested",
                r#"{"name":"a","extra":{"x":[1,{"y":"\u0000"}]}}"#,
                "extra.x[1].y",
            ),
            (
                "key",
                r#"{"name":"a","extra":{"b\u0000":1}}"#,
                "extra.b\u{fffd}",
            ),
            (
                "before a wrong type",
                r#"{"name":5,"extra":"\u0000"}"#,
                "extra",
            ),
            ("text on top", r#""\u0000""#, "body"),
        ] {
            assert_eq!(
                refusal(body.as_bytes()),
                format!("{field} must not hold a NUL character"),
                "{case}"
            );
        }
        assert!(
            refusal(b"{\"name\":\"\0\"}").starts_with("400 "),
            "a raw NUL is no JSON"
        );
    }

    #[test]
    fn a_refusal_never_repeats_much_of_the_input() {
        let long = "x".repeat(100_000);
        for body in [
            format!(r#"{{"name":"a","{long}":1}}"#),
            format!(r#"{{"name":"a","size_bytes":"{long}"}}"#),
            format!(r#"{{"name":"a","grain":"{long}"}}"#),
            format!(r#"{{"name":"a","extra":{{"{long}":"\u0000"}}}}"#),
        ] {
            let problem = parse_json::<Batch>(body.as_bytes()).unwrap_err();
            assert_eq!(problem.code, Code::ValidationFailed);
            assert!(problem.body().len() < 900, "{}", problem.body().len());
        }
    }
}
