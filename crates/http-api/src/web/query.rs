//! Query strings: every parameter known, given once, and named when it is refused.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use serde::de::value::{Error as ValueError, MapDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};

use super::problem::Problem;
use super::shape::refused;

/// Reads a query string into a struct with `deny_unknown_fields`.
///
/// # Errors
/// 400 if it is not UTF-8; 422 naming the parameter that is unknown, twice, missing or unreadable.
pub fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    from_pairs(pairs(query)?)
}

/// More than any list has filters; each parameter is compared with those before it.
const MOST_PARAMETERS: usize = 64;

/// The decoded parameters of a query string.
pub(crate) fn pairs(query: &str) -> Result<Vec<(String, String)>, Problem> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        if pairs.len() == MOST_PARAMETERS {
            return Err(Problem::malformed(
                "The query string has too many parameters.",
            ));
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
            return Err(Problem::malformed("The query string is not UTF-8."));
        };
        if name.contains('\0') || value.contains('\0') {
            return Err(Problem::validation(vec![refused(
                &name,
                "must not hold a NUL character",
            )]));
        }
        if pairs.iter().any(|(n, _)| *n == name) {
            return Err(Problem::validation(vec![refused(&name, "is given twice")]));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// As [`parse_query`], of parameters that are decoded already.
pub(super) fn from_pairs<T: DeserializeOwned>(pairs: Vec<(String, String)>) -> Result<T, Problem> {
    let entries = MapDeserializer::new(pairs.into_iter().map(|(name, value)| (name, Text(value))));
    serde_path_to_error::deserialize(entries).map_err(|error| {
        let path = error.path().to_string();
        let mut refused = refused(&path, &error.into_inner().to_string());
        if refused.field == "body" {
            refused.field = "query".to_owned();
        }
        Problem::validation(vec![refused])
    })
}

/// `+` and `%XX` decoded; a `%` that introduces nothing stands for itself, as in the URL standard.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let digit = |at: usize| after.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'+', ..) => bytes.push(b' '),
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).ok()?);
                rest = &after[2..];
            }
            _ => bytes.push(first),
        }
    }
    String::from_utf8(bytes).ok()
}

/// One parameter's text, which serde may want as a number, a switch, a name or a text.
struct Text(String);

impl IntoDeserializer<'_, ValueError> for Text {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl Text {
    fn read<T: FromStr<Err: Display>>(&self, expected: &str) -> Result<T, ValueError> {
        self.0
            .parse()
            .map_err(|_| de::Error::custom(Cow::Owned::<str>(format!("expected {expected}"))))
    }
}

macro_rules! read_as {
    ($($method:ident $visit:ident $expected:literal)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            visitor.$visit(self.read($expected)?)
        }
    )+};
}

impl<'de> Deserializer<'de> for Text {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_string(self.0)
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_enum(self.0.into_deserializer())
    }
    read_as! {
        deserialize_bool visit_bool "true or false"
        deserialize_u8 visit_u8 "a number from 0 to 255"
        deserialize_u16 visit_u16 "a number from 0 to 65535"
        deserialize_u32 visit_u32 "a whole number"
        deserialize_u64 visit_u64 "a whole number"
        deserialize_i8 visit_i8 "a whole number"
        deserialize_i16 visit_i16 "a whole number"
        deserialize_i32 visit_i32 "a whole number"
        deserialize_i64 visit_i64 "a whole number"
        deserialize_f32 visit_f32 "a number"
        deserialize_f64 visit_f64 "a number"
    }
    serde::forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Grain {
        Hour,
        Day,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Query {
        metric: String,
        granularity: Option<Grain>,
        #[serde(default)]
        permanent: bool,
        from: Option<u32>,
    }

    fn refusal(query: &str) -> (u16, String) {
        let problem = parse_query::<Query>(query).unwrap_err();
        let errors = problem
            .members
            .get("errors")
            .map(ToString::to_string)
            .unwrap_or_default();
        (problem.code.number(), errors)
    }

    #[test]
    fn a_query_is_decoded() {
        assert_eq!(
            parse_query::<Query>("metric=a%20b+c%C3%A9%2&granularity=day&permanent=true&&from=7")
                .unwrap(),
            Query {
                metric: "a b c\u{e9}%2".into(),
                granularity: Some(Grain::Day),
                permanent: true,
                from: Some(7)
            }
        );
    }

    #[test]
    fn each_fault_names_its_parameter() {
        for (query, errors) in [
            (
                "metric=a&workspace_id=1",
                r#"[{"field":"workspace_id","message":"is not a known field"}]"#,
            ),
            (
                "metric=a&metric=b",
                r#"[{"field":"metric","message":"is given twice"}]"#,
            ),
            ("", r#"[{"field":"metric","message":"is required"}]"#),
            (
                "metric=a&from=-1",
                r#"[{"field":"from","message":"expected a whole number"}]"#,
            ),
            (
                "metric=a&permanent=yes",
                r#"[{"field":"permanent","message":"expected true or false"}]"#,
            ),
            (
                "metric=a&granularity=week",
                r#"[{"field":"granularity","message":"expected `hour` or `day`"}]"#,
            ),
            (
                "metric=%00",
                r#"[{"field":"metric","message":"must not hold a NUL character"}]"#,
            ),
        ] {
            assert_eq!(refusal(query), (422, errors.to_owned()), "{query}");
        }
        assert_eq!(refusal("metric=%ff").0, 400);
        let many: String = (0..65).map(|n| format!("p{n}&")).collect();
        assert_eq!(refusal(&many).0, 400);
    }
}
