//! Typed access to a request's parameters, with Stripe's answers to what is malformed.

use serde_json::{Map, Value};

use super::error::ApiError;

/// The parameters of a request, or of a nested object within it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params {
    fields: Map<String, Value>,
    /// How the caller named this object: `items[0]`, empty at the top.
    prefix: String,
}

impl Params {
    pub(crate) fn new(fields: Map<String, Value>) -> Self {
        Self {
            fields,
            prefix: String::new(),
        }
    }

    /// How the caller named the parameter.
    pub(crate) fn name(&self, key: &str) -> String {
        if self.prefix.is_empty() {
            key.to_owned()
        } else {
            format!("{}[{key}]", self.prefix)
        }
    }

    /// Refuses whatever the endpoint does not know. What Stripe knows and the double does not is refused too:
    /// ignoring a discount would be a lie.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), ApiError> {
        let unknown = |key: &&String| !known.contains(&key.as_str()) && key.as_str() != "expand";
        match self.fields.keys().find(unknown) {
            Some(key) => Err(ApiError::parameter_unknown(&self.name(key))),
            None => Ok(()),
        }
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    /// Whether a parameter was sent empty, which unsets.
    pub(crate) fn unset(&self, key: &str) -> bool {
        self.fields.get(key).and_then(Value::as_str) == Some("")
    }

    /// A text that cannot be unset.
    pub(crate) fn text(&self, key: &str) -> Result<Option<String>, ApiError> {
        match self.fields.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => {
                let name = self.name(key);
                Err(ApiError::malformed(
                    &name,
                    Some("parameter_invalid_empty"),
                    format!(
                        "You passed an empty string for '{name}'. We assume empty values are an attempt to unset a parameter; however '{name}' cannot be unset. You should remove '{name}' from your request or supply a non-empty value."
                    ),
                ))
            }
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => {
                let name = self.name(key);
                Err(ApiError::malformed(
                    &name,
                    None,
                    format!("Invalid string for {name}"),
                ))
            }
        }
    }

    pub(crate) fn require(&self, key: &str) -> Result<String, ApiError> {
        self.text(key)?
            .ok_or_else(|| ApiError::parameter_missing(&self.name(key)))
    }

    /// A text that an empty one unsets: `None` leaves the field, `Some(Null)` clears it.
    pub(crate) fn nullable(&self, key: &str) -> Result<Option<Value>, ApiError> {
        if self.unset(key) {
            return Ok(Some(Value::Null));
        }
        Ok(self.text(key)?.map(Value::String))
    }

    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(ApiError::malformed(
                &self.name(key),
                Some("parameter_invalid_integer"),
                format!("Invalid integer: {text}"),
            )),
        }
    }

    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, ApiError> {
        match self.text(key)?.as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(ApiError::malformed(
                &self.name(key),
                None,
                format!("Invalid boolean: {other}"),
            )),
        }
    }

    /// One of an enumeration's values.
    pub(crate) fn one_of(&self, key: &str, values: &[&str]) -> Result<Option<String>, ApiError> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        if values.contains(&text.as_str()) {
            return Ok(Some(text));
        }
        let name = self.name(key);
        let listed = match values.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{}, or {last}", rest.join(", ")),
            _ => values.join(""),
        };
        Err(ApiError::malformed(
            &name,
            None,
            format!("Invalid {name}: must be one of {listed}"),
        ))
    }

    /// A nested object. Absent, or sent empty, is `None`.
    pub(crate) fn child(&self, key: &str) -> Option<Params> {
        match self.fields.get(key) {
            Some(Value::Object(fields)) => Some(Params {
                fields: fields.clone(),
                prefix: self.name(key),
            }),
            _ => None,
        }
    }

    /// The same parameters with others beside them.
    pub(crate) fn with(&self, more: Map<String, Value>) -> Params {
        let mut fields = self.fields.clone();
        fields.extend(more);
        Params {
            fields,
            prefix: self.prefix.clone(),
        }
    }

    /// The members of an array of objects.
    pub(crate) fn children(&self, key: &str) -> Vec<Params> {
        let name = self.name(key);
        let rows = match self.fields.get(key) {
            Some(Value::Array(rows)) => rows.as_slice(),
            _ => &[],
        };
        let member = |(at, row): (usize, &Value)| {
            let fields = row.as_object()?.clone();
            let prefix = format!("{name}[{at}]");
            Some(Params { fields, prefix })
        };
        rows.iter().enumerate().filter_map(member).collect()
    }

    /// The members of an array of texts.
    pub(crate) fn texts(&self, key: &str) -> Vec<String> {
        let rows = self.fields.get(key).and_then(Value::as_array);
        let rows = rows.into_iter().flatten();
        rows.filter_map(|row| row.as_str().map(str::to_owned))
            .collect()
    }

    /// Merges `metadata` into an object as Stripe does: keys are added or replaced, an empty value unsets one
    /// key, an empty `metadata` all of them.
    pub(crate) fn merge_metadata(&self, object: &mut Value) -> Result<(), ApiError> {
        if self.unset("metadata") {
            object["metadata"] = Value::Object(Map::new());
            return Ok(());
        }
        let Some(sent) = self.child("metadata") else {
            return Ok(());
        };
        let mut merged = object["metadata"].as_object().cloned().unwrap_or_default();
        for (key, value) in &sent.fields {
            match value.as_str() {
                Some("") => {
                    merged.remove(key);
                }
                Some(text) => {
                    check_metadata(&sent, key, text)?;
                    merged.insert(key.clone(), Value::String(text.to_owned()));
                }
                None => {
                    return Err(ApiError::malformed(
                        &sent.name(key),
                        None,
                        "Metadata values must be strings",
                    ));
                }
            }
        }
        if merged.len() > 50 {
            return Err(ApiError::malformed(
                "metadata",
                None,
                "Metadata can have at most 50 keys",
            ));
        }
        object["metadata"] = Value::Object(merged);
        Ok(())
    }
}

fn check_metadata(sent: &Params, key: &str, text: &str) -> Result<(), ApiError> {
    let param = sent.name(key);
    if key.chars().count() > 40 {
        return Err(ApiError::malformed(
            &param,
            None,
            "Metadata keys can be at most 40 characters long",
        ));
    }
    if text.chars().count() > 500 {
        return Err(ApiError::malformed(
            &param,
            None,
            "Metadata values can have up to 500 characters",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::form;
    use serde_json::json;

    fn params(text: &str) -> Params {
        Params::new(form::decode(text).unwrap())
    }

    #[test]
    fn metadata_merges_and_empty_values_unset() {
        let mut object = json!({ "metadata": { "keep": "1", "drop": "2", "change": "3" } });
        params("metadata[drop]=&metadata[change]=4&metadata[new]=5")
            .merge_metadata(&mut object)
            .unwrap();
        assert_eq!(
            object["metadata"],
            json!({ "keep": "1", "change": "4", "new": "5" })
        );
        params("metadata=").merge_metadata(&mut object).unwrap();
        assert_eq!(object["metadata"], json!({}));
    }

    #[test]
    fn errors_name_the_nested_parameter() {
        let items = params("items[0][quantity]=two").children("items");
        let error = items[0].integer("quantity").unwrap_err();
        assert_eq!(error.fields["param"], "items[0][quantity]");
        assert_eq!(error.fields["code"], "parameter_invalid_integer");
        assert!(!error.begun);
    }

    #[test]
    fn unknown_parameters_are_refused() {
        let error = params("nickname=a&colour=b")
            .only(&["nickname"])
            .unwrap_err();
        assert_eq!(error.fields["code"], "parameter_unknown");
        assert_eq!(error.fields["param"], "colour");
    }
}
