//! Every fault of a JSON body's shape, and not the first alone.
//!
//! Serde stops at the first. So what was refused is taken out, or something of its type is put in its place, and the body
//! is read again, until it is readable or nothing helps.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serde_path_to_error::Segment;

use super::problem::FieldError;
use super::strict_json::Strict;

pub(super) const LONGEST_FIELD: usize = 120;
const LONGEST_MESSAGE: usize = 200;

/// How many faults are told.
pub(super) const MOST_ERRORS: usize = 32;
/// How often a body is read at most.
const MOST_READS: usize = 200;

/// Reads a body, and collects what is wrong with it; nothing where it stays unreadable.
pub(super) fn search<T: DeserializeOwned>(mut body: Value) -> (Option<T>, Vec<FieldError>) {
    let mut errors = Vec::new();
    // Where something has been put, and which of the candidates was.
    let mut patched: Vec<(Vec<Step>, usize)> = Vec::new();
    for _ in 0..MOST_READS {
        let error = match serde_path_to_error::deserialize(Strict(body.clone())) {
            Ok(value) => return (Some(value), errors),
            Err(error) => error,
        };
        let mut path: Vec<Step> = error.path().iter().map_while(Step::of).collect();
        let (text, sentence) = (error.path().to_string(), error.inner().to_string());
        if let Some(name) = sentence.strip_prefix("missing field `") {
            path.push(Step::Key(
                name.split('`').next().unwrap_or_default().to_owned(),
            ));
        }
        let below = patched.iter().any(|(at, _)| path.starts_with(at));
        if !below {
            errors.push(refused(&text, &sentence));
        }
        if errors.len() >= MOST_ERRORS {
            break;
        }
        let helped = if sentence.starts_with("unknown field `") {
            remove(&mut body, &path)
        } else {
            let tried = patched.iter().position(|(at, _)| *at == path);
            let tried = tried.unwrap_or_else(|| {
                patched.push((path.clone(), 0));
                patched.len() - 1
            });
            let (_, next) = &mut patched[tried];
            let candidate = candidate(*next, &sentence);
            *next += 1;
            candidate.is_some_and(|candidate| put(&mut body, &path, candidate))
        };
        if !helped {
            break;
        }
    }
    (None, errors)
}

/// One step into a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl Step {
    fn of(segment: &Segment) -> Option<Self> {
        match segment {
            Segment::Map { key } => Some(Self::Key(key.clone())),
            Segment::Seq { index } => Some(Self::Index(*index)),
            Segment::Enum { .. } | Segment::Unknown => None,
        }
    }
}

/// What may be of the type that was expected: what the refusal names, otherwise one of each type.
fn candidate(tried: usize, sentence: &str) -> Option<Value> {
    if sentence.starts_with("unknown variant `") {
        let (_, expected) = sentence.rsplit_once("`, expected ")?;
        let mut names = expected.split('`').skip(1).step_by(2);
        return names.nth(tried).map(Value::from);
    }
    let each = [
        json!(""),
        json!(0),
        json!(false),
        json!([]),
        json!({}),
        json!(1),
        Value::Null,
    ];
    each.into_iter().nth(tried)
}

fn parent<'a>(body: &'a mut Value, path: &[Step]) -> Option<&'a mut Value> {
    let (_, above) = path.split_last()?;
    above.iter().try_fold(body, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(index),
    })
}

fn remove(body: &mut Value, path: &[Step]) -> bool {
    match (parent(body, path), path.last()) {
        (Some(Value::Object(members)), Some(Step::Key(key))) => members.remove(key).is_some(),
        _ => false,
    }
}

fn put(body: &mut Value, path: &[Step], value: Value) -> bool {
    match (parent(body, path), path.last()) {
        (Some(Value::Object(members)), Some(Step::Key(key))) => {
            members.insert(key.clone(), value);
            true
        }
        (Some(Value::Array(items)), Some(Step::Index(index))) => match items.get_mut(*index) {
            Some(item) => {
                *item = value;
                true
            }
            None => false,
        },
        _ => false,
    }
}

/// A field and a message out of serde's sentence, without the client's own input, which the sentence repeats.
pub(super) fn refused(path: &str, sentence: &str) -> FieldError {
    let sentence = sentence
        .rsplit_once(" at line ")
        .map_or(sentence, |(text, _)| text);
    let parent = if path == "." { "" } else { path };
    for (prefix, message) in [
        ("missing field `", "is required"),
        ("unknown field `", "is not a known field"),
        ("duplicate field `", "is given twice"),
    ] {
        let Some(rest) = sentence.strip_prefix(prefix) else {
            continue;
        };
        // The path of an unknown field ends in its name already; the other two are told of their parent, by
        // names of our own, which hold no backtick.
        let field = match (prefix, parent) {
            ("unknown field `", path) if !path.is_empty() => path.to_owned(),
            (_, "") => rest.split('`').next().unwrap_or_default().to_owned(),
            (_, parent) => format!("{parent}.{}", rest.split('`').next().unwrap_or_default()),
        };
        return FieldError::new(shortened(&field, LONGEST_FIELD), message);
    }
    let message = if sentence.starts_with("invalid type: ")
        || sentence.starts_with("invalid value: ")
        || sentence.starts_with("invalid length ")
    {
        sentence
            .rfind(", expected ")
            .map_or("is not acceptable".to_owned(), |at| {
                expected(&sentence[at + 11..])
            })
    } else if let Some(rest) = sentence.strip_prefix("unknown variant `") {
        let expected = rest
            .rfind("`, expected ")
            .map_or("another value", |at| &rest[at + 12..]);
        format!("expected {expected}")
    } else {
        sentence.to_owned()
    };
    let field = if parent.is_empty() { "body" } else { parent };
    FieldError::new(
        shortened(field, LONGEST_FIELD),
        shortened(&message, LONGEST_MESSAGE),
    )
}

/// What serde expected, in the words of JSON rather than of Rust.
fn expected(what: &str) -> String {
    let what = match what {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a map" => "an object",
        "a sequence" => "an array",
        "unit" => "null",
        _ if what.starts_with("struct ") => "an object",
        _ if what.starts_with("enum ") || what.starts_with("variant ") => "one of its names",
        other => other,
    };
    format!("expected {what}")
}

/// At most so many characters, none of them a control character.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let mut out: String = text
        .chars()
        .take(most)
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect();
    if text.chars().nth(most).is_some() {
        out.push('…');
    }
    out
}
