//! Completes the document of the routes that were declared.
//!
//! A route declares what it alone knows: its bodies, the headers that it reads ([`headers`]), and the refusals that are
//! its own, by the names of their codes. What follows from that is the same for every route and is added here: the
//! refusals that come with a credential, a body, a path or a header; the schema of each problem and its further
//! members; the headers of answers; formats, identifiers and examples of schemas. So it works on any set of routes,
//! also on one that an embedder has merged.
//!
//! Invariant: what is added is what the server does. The black-box tests compare every answer that they get with the
//! document.

pub mod headers;
mod operations;
mod printing;
mod problems;
mod schemas;
pub mod scopes;
pub mod words;

pub use printing::{compact, pretty};
use serde_json::{Map, Value, json};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{OpenApi, RefOr};

use crate::extension::{Resource, Vocabulary};

/// The members of a JSON object.
type Object = Map<String, Value>;

const DESCRIPTION: &str = "\
**Credentials.** `Authorization: Bearer` takes an access token (from signing up or in), an API key, or a token for a page \
(`POST /v1/tokens`). The workspace of a request comes from its credential alone. Each operation names the scope that an \
API key or a page's token needs for it, where theirs are restricted.

**Limits.** Requests are limited by credential, and by address where there is none. `RateLimit` says what is left, \
`RateLimit-Policy` how much there is; beyond it the answer is 429 with `Retry-After`.

**Errors** are `application/problem+json` (RFC 9457). The stable member `code` says which one it is, and which further \
members there are; each has a page under `/problems/`.

**Retries.** Routes that take `Idempotency-Key` answer a repeated request as they answered the first, with \
`Idempotency-Replayed: true`. `Retry-After` is in seconds.

**Conditions.** What carries an `ETag` may take it back in `If-None-Match` (304 if it has not changed) and `If-Match` (412 \
if it has).

**Lists** come in pages: pass `next_cursor` back as `cursor` until it is `null`.

**Times** are RFC 3339 in UTC. **Money** is in minor units of its currency.";

/// The complete document of the routes that `declared` lists, for an installation at `base_url`. `words` say what the
/// routes do not, the core's first.
#[must_use]
pub fn complete(declared: &OpenApi, words: &[Vocabulary], base_url: &str) -> Value {
    let words = Words(words);
    // Names, texts and numbers alone: there is nothing that could fail to serialize.
    let mut document = serde_json::to_value(declared).unwrap_or_default();
    let about = words
        .0
        .iter()
        .map(|one| one.about)
        .filter(|one| !one.is_empty());
    let description: Vec<&str> = about.chain([DESCRIPTION]).collect();
    document["info"]["description"] = description.join("\n\n").into();
    document["info"]["license"] =
        json!({ "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" });
    document["info"]["contact"] = json!({ "name": "The operator of this installation" });
    document["servers"] = json!([{ "url": base_url, "description": "This installation" }]);
    schemas::declare(&mut document, problems::schemas());
    schemas::tidy(&mut document, words);
    scopes::show(&mut document);
    operations::complete(&mut document);
    schemas::illustrate(&mut document, words);
    document["tags"] = tags(&document, words);
    schemas::prune(&mut document);
    document
}

/// The extension of a schema of bytes that lists their media types, until [`complete`] has written each out.
const MEDIA_TYPES: &str = "x-media-types";

/// The schema of a body's bytes, each of these media types. A request's body that a route declares with it as
/// `image/*`, say, is written out by its types: generators know nothing of ranges there.
#[must_use]
pub fn binary(media_types: &[&str]) -> RefOr<Schema> {
    let mut object = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)))
        .build();
    let types = media_types.iter().map(|one| Value::from(*one)).collect();
    object.extensions = Some(
        utoipa::openapi::extensions::ExtensionsBuilder::new()
            .add(MEDIA_TYPES, Value::Array(types))
            .build(),
    );
    RefOr::T(Schema::Object(object))
}

/// Every operation of a document, with its path and method.
fn operations_of(document: &Value) -> impl Iterator<Item = (&str, &str, &Object)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten();
        methods.filter_map(move |(method, operation)| {
            Some((path.as_str(), method.as_str(), operation.as_object()?))
        })
    })
}

/// What routes do not say themselves.
#[derive(Clone, Copy)]
struct Words<'a>(&'a [Vocabulary]);

impl<'a> Words<'a> {
    fn tags(self) -> impl Iterator<Item = &'a (&'static str, &'static str)> {
        self.0.iter().flat_map(|words| words.tags)
    }

    fn resources(self) -> impl Iterator<Item = &'a Resource> {
        self.0.iter().flat_map(|words| words.resources)
    }

    /// The example of a member: of this schema, otherwise of any. What a product says goes before what the core does.
    fn example(self, schema: &str, member: &str) -> Option<&'static str> {
        let of = |owner: &str| {
            let mut examples = self.0.iter().rev().flat_map(|words| words.examples);
            let found = examples.find(|one| one.0 == owner && one.1 == member);
            found.map(|one| one.2)
        };
        of(schema).or_else(|| of(""))
    }
}

/// The tags in use, in the order of the vocabularies, then any others.
fn tags(document: &Value, words: Words<'_>) -> Value {
    let mut used: Vec<&str> = operations_of(document)
        .filter_map(|(_, _, operation)| operation.get("tags")?.as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let place = |tag: &str| words.tags().position(|(name, _)| *name == tag);
    used.sort_by_key(|tag| (place(tag).unwrap_or(usize::MAX), *tag));
    used.dedup();
    used.into_iter()
        .map(|tag| match words.tags().find(|(name, _)| *name == tag) {
            Some((_, description)) => json!({ "name": tag, "description": description }),
            None => json!({ "name": tag }),
        })
        .collect()
}

fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

/// The name in a reference to a component of that kind.
fn referenced<'a>(value: &'a Value, kind: &str) -> Option<&'a str> {
    let target = value.get("$ref")?.as_str()?;
    target
        .strip_prefix("#/components/")?
        .strip_prefix(kind)?
        .strip_prefix('/')
}

/// `not_found` as `NotFound`.
fn pascal(name: &str) -> String {
    name.split('_')
        .flat_map(|word| {
            let mut letters = word.chars();
            letters
                .next()
                .map(|first| first.to_uppercase().chain(letters).collect::<String>())
        })
        .collect()
}

#[cfg(test)]
mod tests;
