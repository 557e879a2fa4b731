//! The headers that routes read, as they declare them, and those of answers.
//!
//! A route lists the types of this module among its `params(…)`. What else follows from each (the refusals, the status
//! 304, the headers of the answer) is added by [`complete`](super::complete).

use serde_json::{Value, json};
use utoipa::IntoParams;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

fn header(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema.schema_type(Type::String)))
        .build()
}

/// The route answers a repeated request as it answered the first.
#[derive(Debug)]
pub enum Idempotent {}

impl IntoParams for Idempotent {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let key = ObjectBuilder::new()
            .min_length(Some(1))
            .max_length(Some(255))
            .pattern(Some("^[!-~]+$"))
            .examples(["01JB8XJ6G5Q2W9-upload-1"]);
        vec![header(
            "Idempotency-Key",
            "Names this request: a repetition with the same key is answered as the first was. Use a fresh one for each \
             new action.",
            key,
        )]
    }
}

/// The route changes what it names only in the version that the client knows.
#[derive(Debug)]
pub enum Conditional {}

impl IntoParams for Conditional {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![header(
            "If-Match",
            "The `ETag` of the version that is to be changed, several of them, or `*`. Another version is 412.",
            ObjectBuilder::new().examples(["\"ws_0192f0c1a2b37c4d8e5f60718293a4b5.3\""]),
        )]
    }
}

/// The route does not repeat what the client has already.
#[derive(Debug)]
pub enum Revalidated {}

impl IntoParams for Revalidated {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![header(
            "If-None-Match",
            "The `ETag` of the version that the client has, several of them, or `*`. The same version is 304.",
            ObjectBuilder::new().examples(["\"ws_0192f0c1a2b37c4d8e5f60718293a4b5.1\""]),
        )]
    }
}

/// The route need not show what it has changed.
#[derive(Debug)]
pub enum Preferring {}

impl IntoParams for Preferring {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![header(
            "Prefer",
            "`return=minimal` (RFC 7240): the answer has no body; `ETag` and `Location` tell the rest.",
            ObjectBuilder::new().examples(["return=minimal"]),
        )]
    }
}

/// The route answers bytes, whole or in part.
#[derive(Debug)]
pub enum Ranged {}

impl IntoParams for Ranged {
    fn into_params(given: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut headers = Revalidated::into_params(given);
        headers.push(header(
            "Range",
            "One range of bytes (RFC 9110, 14). Several, or other units, are answered with the whole.",
            ObjectBuilder::new().examples(["bytes=0-1023"]),
        ));
        headers.push(header(
            "If-Range",
            "The `ETag` that the range belongs to; the whole is answered where it has changed.",
            ObjectBuilder::new().examples(["\"9f86d081884c7d659a2feaa0c55ad015\""]),
        ));
        headers
    }
}

/// The headers of answers, by the names of their components.
pub(super) fn components() -> Value {
    let text = |required: bool, description: &str, example: &str| {
        json!({
            "description": description, "required": required,
            "schema": { "type": "string", "examples": [example] },
        })
    };
    json!({
        "XRequestId": text(true, "Names the request in the server's log. A client's own well-formed one is kept.", "req-01JB8XJ6G5Q2W9"),
        "ETag": text(true, "The version of what is shown, for `If-Match` and `If-None-Match`.", "\"ws_0192f0c1a2b37c4d8e5f60718293a4b5.3\""),
        "Location": {
            "description": "The address of what was created.", "required": true,
            "schema": { "type": "string", "format": "uri-reference", "examples": ["/v1/usage/reservations/hld_0192f0c1a2b37c4d8e5f60718293a4b5"] },
        },
        "RetryAfter": {
            "description": "After how many seconds it is worth trying again.", "required": true,
            "schema": { "type": "integer", "minimum": 0, "examples": [30] },
        },
        "SometimesRetryAfter": {
            "description": "After how many seconds it is worth trying again, where that can be said.", "required": false,
            "schema": { "type": "integer", "minimum": 0, "examples": [30] },
        },
        "RateLimit": text(false, "What is left of each limit that the request counted against, where limits are on.", "\"address\";r=9;t=60"),
        "RateLimitPolicy": text(false, "The limits that the request counted against, where limits are on.", "\"address\";q=10;w=60"),
        "IdempotencyReplayed": {
            "description": "`true` where this is the stored answer to an earlier request with the same `Idempotency-Key`.", "required": false,
            "schema": { "type": "string", "enum": ["true"], "examples": ["true"] },
        },
        "PreferenceApplied": text(false, "Which preference was followed.", "return=minimal"),
        "WwwAuthenticate": text(true, "The scheme of the credential that is asked for.", "Bearer"),
        "AcceptRanges": text(true, "Ranges are counted in bytes.", "bytes"),
        "ContentRange": text(true, "Which part this is, and of how many bytes.", "bytes 0-1023/4821733"),
        "ContentDisposition": text(true, "How the file is to be shown, and its name: in ASCII, and by RFC 6266.", "inline; filename=\"IMG_0042.jpg\""),
    })
}
