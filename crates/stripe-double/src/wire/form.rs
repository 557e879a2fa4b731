//! `application/x-www-form-urlencoded` with bracket nesting, as Stripe's clients send it:
//! `items[0][price]=price_1&expand[]=customer&metadata[key]=value`.

use serde_json::{Map, Value};

/// How deep brackets may nest; Stripe's own parameters need fewer.
const MAX_DEPTH: usize = 12;

/// Why a body is no form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormError {
    #[error("failed to read the parameters: {0} is not percent-encoded UTF-8")]
    Encoding(String),
    #[error("failed to read the parameters: {0} is nested too deeply or its brackets do not match")]
    Nesting(String),
}

/// The parameters as a tree of texts, arrays and objects.
pub(crate) fn decode(input: &str) -> Result<Map<String, Value>, FormError> {
    let mut root = Map::new();
    for pair in input.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = unescape(name)?;
        let path = segments(&name)?;
        insert(&mut root, &path, unescape(value)?);
    }
    Ok(root
        .into_iter()
        .map(|(key, value)| {
            // The keys of metadata are the caller's: `metadata[0]` is no array.
            let value = if key == "metadata" {
                value
            } else {
                arrays(value)
            };
            (key, value)
        })
        .collect())
}

fn unescape(text: &str) -> Result<String, FormError> {
    let broken = || FormError::Encoding(text.to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let high = digit(rest.next()).ok_or_else(broken)?;
                let low = digit(rest.next()).ok_or_else(broken)?;
                bytes.push(u8::try_from(high * 16 + low).map_err(|_| broken())?);
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).map_err(|_| broken())
}

/// `items[0][price]` as `items`, `0`, `price`.
fn segments(name: &str) -> Result<Vec<String>, FormError> {
    let broken = || FormError::Nesting(name.to_owned());
    let Some((head, tail)) = name.split_once('[') else {
        return Ok(vec![name.to_owned()]);
    };
    let inner = tail.strip_suffix(']').ok_or_else(broken)?;
    let mut path = vec![head.to_owned()];
    path.extend(inner.split("][").map(str::to_owned));
    let clean = path.iter().all(|part| !part.contains(['[', ']']));
    if !clean || path.len() > MAX_DEPTH {
        return Err(broken());
    }
    Ok(path)
}

fn insert(into: &mut Map<String, Value>, path: &[String], value: String) {
    let Some((head, rest)) = path.split_first() else {
        return;
    };
    // `expand[]` counts up.
    let key = if head.is_empty() {
        into.len().to_string()
    } else {
        head.clone()
    };
    if rest.is_empty() {
        into.insert(key, Value::String(value));
        return;
    }
    let child = into.entry(key).or_insert_with(|| Value::Object(Map::new()));
    if !child.is_object() {
        *child = Value::Object(Map::new());
    }
    if let Value::Object(fields) = child {
        insert(fields, rest, value);
    }
}

/// Objects whose keys are all numbers become arrays, in the order of the numbers.
fn arrays(value: Value) -> Value {
    let Value::Object(fields) = value else {
        return value;
    };
    let numbers: Option<Vec<u32>> = fields.keys().map(|key| key.parse().ok()).collect();
    let converted = fields.into_iter().map(|(key, value)| {
        let value = if key == "metadata" {
            value
        } else {
            arrays(value)
        };
        (key, value)
    });
    match numbers {
        Some(numbers) if !numbers.is_empty() => {
            let mut rows: Vec<_> = numbers.into_iter().zip(converted.map(|(_, v)| v)).collect();
            rows.sort_by_key(|(number, _)| *number);
            Value::Array(rows.into_iter().map(|(_, value)| value).collect())
        }
        _ => Value::Object(converted.collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn brackets_become_objects_and_arrays() {
        let tree = decode("items[0][price]=price_1&items%5B1%5D%5Bprice%5D=b&expand[]=a.b&expand[]=c&name=J+%C3%BC").unwrap();
        assert_eq!(
            Value::Object(tree),
            json!({
                "items": [{ "price": "price_1" }, { "price": "b" }],
                "expand": ["a.b", "c"],
                "name": "J ü",
            })
        );
    }

    #[test]
    fn keys_of_metadata_are_the_callers() {
        let tree = decode("metadata[0]=zero&metadata[1]=one").unwrap();
        assert_eq!(
            Value::Object(tree),
            json!({ "metadata": { "0": "zero", "1": "one" } })
        );
    }

    #[test]
    fn what_is_no_form_is_refused() {
        assert!(decode("a=%zz").is_err());
        assert!(decode("a[b=1").is_err());
        assert!(decode(&format!("a{}=1", "[b]".repeat(40))).is_err());
    }
}
