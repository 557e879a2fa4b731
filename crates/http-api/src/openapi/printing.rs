//! The document as text, in the order in which it is read.

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::Value;

/// What comes first among the members of an object; the others follow by name. Generators that know one type of body take
/// the first, and a form is what all of them can send.
const FIRST: [&str; 9] = [
    "openapi",
    "info",
    "servers",
    "tags",
    "paths",
    "multipart/form-data",
    "application/json",
    "summary",
    "description",
];

/// On one line.
#[must_use]
pub fn compact(document: &Value) -> String {
    // Names, texts and numbers alone: there is nothing that could fail to serialize.
    serde_json::to_string(&Ordered(document)).unwrap_or_default()
}

/// For people, and for comparing line by line.
#[must_use]
pub fn pretty(document: &Value) -> String {
    serde_json::to_string_pretty(&Ordered(document)).unwrap_or_default()
}

struct Ordered<'a>(&'a Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(members) => {
                let place = |name: &str| FIRST.iter().position(|first| *first == name);
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by_key(|(name, _)| (place(name).unwrap_or(FIRST.len()), *name));
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, member) in members {
                    map.serialize_entry(name, &Ordered(member))?;
                }
                map.end()
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(Ordered)),
            other => other.serialize(serializer),
        }
    }
}
