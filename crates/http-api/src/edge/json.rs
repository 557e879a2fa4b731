//! JSON bodies: syntax first, then NUL, then shape, each refusal naming its field.

use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::problem::{FieldError, Problem};

const LONGEST_FIELD: usize = 120;
const LONGEST_MESSAGE: usize = 200;

/// Reads a JSON object.
///
/// # Errors
/// 400 `malformed_request`: empty, not JSON, cut off, or nested beyond 128 levels. 422 `validation_failed`:
/// not an object, a NUL in any text, a field that is missing, unknown, twice or of the wrong type.
pub fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::malformed("The body is empty; a JSON object is expected."));
    }
    // A pass of its own, because syntax is refused before shape wherever in the body each fault lies.
    let mut scan = Scan::default();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    Any { scan: &mut scan }.deserialize(&mut deserializer).and_then(|()| deserializer.end()).map_err(syntax)?;
    if let Some(field) = scan.nul {
        return Err(Problem::invalid_field(field, "must not hold a NUL character"));
    }
    // Derived structs would take a sequence in the place of their fields.
    if !scan.top_is_object {
        return Err(Problem::invalid_field("body", "expected a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        match error.classify() {
            Category::Data => Problem::validation(vec![refused(&path, &error.to_string())]),
            Category::Syntax | Category::Eof | Category::Io => syntax(error),
        }
    })
}

fn syntax(error: serde_json::Error) -> Problem {
    let what = match error.classify() {
        Category::Eof => "The JSON ends too early",
        _ if error.to_string().starts_with("recursion limit") => "The JSON is nested too deeply",
        _ => "The body is not JSON",
    };
    Problem::malformed(format!("{what} (line {}, column {}).", error.line(), error.column()))
}

/// A field and a message out of serde's sentence, without the client's own input, which the sentence repeats.
pub(super) fn refused(path: &str, sentence: &str) -> FieldError {
    let sentence = sentence.rsplit_once(" at line ").map_or(sentence, |(text, _)| text);
    let parent = if path == "." { "" } else { path };
    for (prefix, message) in [
        ("missing field `", "is required"),
        ("unknown field `", "is not a known field"),
        ("duplicate field `", "is given twice"),
    ] {
        if let Some(rest) = sentence.strip_prefix(prefix) {
            // Our own field names hold no backtick; a client's may, and what follows the last one is serde's.
            let end = rest.find("`, expected ").or_else(|| rest.find("`, there are no fields"));
            let name = rest.get(..end.unwrap_or_else(|| rest.rfind('`').unwrap_or(rest.len()))).unwrap_or(rest);
            return FieldError::new(shortened(&child(parent, name), LONGEST_FIELD), message);
        }
    }
    let message = if sentence.starts_with("invalid type: ")
        || sentence.starts_with("invalid value: ")
        || sentence.starts_with("invalid length ")
    {
        sentence.rfind(", expected ").map_or("is not acceptable".to_owned(), |at| sentence[at + 2..].to_owned())
    } else if let Some(rest) = sentence.strip_prefix("unknown variant `") {
        let expected = rest.rfind("`, expected ").map_or("another value", |at| &rest[at + 12..]);
        format!("expected {expected}")
    } else {
        sentence.to_owned()
    };
    let field = if parent.is_empty() { "body" } else { parent };
    FieldError::new(shortened(field, LONGEST_FIELD), shortened(&message, LONGEST_MESSAGE))
}

fn child(parent: &str, name: &str) -> String {
    // The path may already end in the field that it is about.
    if parent.is_empty() {
        name.to_owned()
    } else if parent == name || parent.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')) {
        parent.to_owned()
    } else {
        format!("{parent}.{name}")
    }
}

/// At most so many characters, none of them a control character.
fn shortened(text: &str, most: usize) -> String {
    let mut out: String =
        text.chars().take(most).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    if text.chars().nth(most).is_some() {
        out.push('…');
    }
    out
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
        loop {
            // The step's own text is filled in place: one buffer per level, not one per key.
            let Some(Step::Key(mut key)) = self.scan.path.pop() else { break };
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
