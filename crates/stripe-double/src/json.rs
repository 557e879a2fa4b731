//! Reading and merging JSON objects, which is what Stripe's resources are here.
//!
//! A field whose name begins with `_` is the double's own note on an object (how its card behaves, what it has
//! billed); [`visible`] leaves such fields out, so none ever reaches an answer or an event.

use serde_json::{Map, Value, json};

/// Short readers for objects whose shape this crate wrote itself: an absent field reads as empty.
pub(crate) trait Fields {
    fn text(&self, key: &str) -> &str;
    fn number(&self, key: &str) -> i64;
    fn flag(&self, key: &str) -> bool;
    /// An optional point in time, or any optional integer.
    fn time(&self, key: &str) -> Option<i64>;
    /// An optional reference to another object, or any optional text.
    fn link(&self, key: &str) -> Option<&str>;
    /// The members of an array, or of a list object's `data`.
    fn rows(&self, key: &str) -> &[Value];
}

impl Fields for Value {
    fn text(&self, key: &str) -> &str {
        self[key].as_str().unwrap_or_default()
    }

    fn number(&self, key: &str) -> i64 {
        self[key].as_i64().unwrap_or_default()
    }

    fn flag(&self, key: &str) -> bool {
        self[key].as_bool().unwrap_or_default()
    }

    fn time(&self, key: &str) -> Option<i64> {
        self[key].as_i64()
    }

    fn link(&self, key: &str) -> Option<&str> {
        self[key].as_str()
    }

    fn rows(&self, key: &str) -> &[Value] {
        let value = &self[key];
        let array = value.as_array().or_else(|| value["data"].as_array());
        array.map_or(&[], Vec::as_slice)
    }
}

/// An object without the double's own notes.
pub(crate) fn visible(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let shown = fields.iter().filter(|(key, _)| !key.starts_with('_'));
            Value::Object(shown.map(|(k, v)| (k.clone(), visible(v))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(visible).collect()),
        other => other.clone(),
    }
}

/// What `previous_attributes` of an event holds: the old value of each field that changed, nested objects
/// narrowed to the fields that did, arrays and lists whole.
pub(crate) fn previous_attributes(before: &Value, after: &Value) -> Map<String, Value> {
    let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else {
        return Map::new();
    };
    let mut changed = Map::new();
    for (key, old) in before {
        let new = after.get(key).unwrap_or(&Value::Null);
        if old == new {
            continue;
        }
        let narrowed = match (old, new) {
            (Value::Object(_), Value::Object(_)) if old.get("object").is_none() => {
                Value::Object(previous_attributes(old, new))
            }
            _ => old.clone(),
        };
        changed.insert(key.clone(), narrowed);
    }
    for key in after.keys().filter(|key| !before.contains_key(*key)) {
        changed.insert(key.clone(), Value::Null);
    }
    changed
}

/// A list object that is embedded in another object.
pub(crate) fn embedded_list(data: Vec<Value>, url: &str) -> Value {
    let total = data.len();
    json!({ "object": "list", "data": data, "has_more": false, "total_count": total, "url": url })
}

/// Sets a field of an object; anything that is not an object stays as it is.
pub(crate) fn set(target: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(fields) = target.as_object_mut() {
        fields.insert(key.to_owned(), value.into());
    }
}

/// Takes away a field that Stripe leaves out where it does not apply.
pub(crate) fn unset(target: &mut Value, key: &str) {
    if let Some(fields) = target.as_object_mut() {
        fields.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_never_visible() {
        let object =
            json!({ "id": "pm_1", "_card": "4242", "items": [{ "_billed": 1, "price": "p" }] });
        assert_eq!(
            visible(&object),
            json!({ "id": "pm_1", "items": [{ "price": "p" }] })
        );
    }

    #[test]
    fn only_what_changed_is_a_previous_attribute() {
        let before = json!({ "status": "active", "details": { "a": 1, "b": 2 }, "same": 3 });
        let after =
            json!({ "status": "canceled", "details": { "a": 1, "b": 5 }, "same": 3, "new": 4 });
        assert_eq!(
            Value::Object(previous_attributes(&before, &after)),
            json!({ "status": "active", "details": { "b": 2 }, "new": null })
        );
    }
}
