//! The schema of each problem, and which problems stand behind a status.

use serde_json::{Value, json};

use super::{Object, pascal, reference};
use crate::web::Code;

/// The further members of a code, each with its schema, and those of them that are always there.
fn members(code: Code) -> (Value, &'static [&'static str]) {
    let upgrade_url = json!({
        "type": "string", "format": "uri", "description": "Where the workspace is upgraded.",
        "examples": ["https://rawdrive.example.org/settings/billing/upgrade"],
    });
    let plan = json!({ "type": "string", "description": "The plan in force, by its slug.", "examples": ["free"] });
    let count = |description: &str, example: u64| {
        json!({
            "type": "integer", "format": "int64", "minimum": 0, "description": description, "examples": [example],
        })
    };
    let plan_version = json!({
        "type": "integer", "format": "int32", "minimum": 1, "description": "Its version.", "examples": [1],
    });
    let layers = json!({
        "type": "array", "description": "Everything that sets the value now, the lowest first; the last one wins.",
        "items": reference("schemas", "Layer"),
    });
    let cheapest_plan = json!({
        "description": "The cheapest plan in the workspace's currency that would allow it; `null` where there is none.",
        "oneOf": [{ "type": "null" }, reference("schemas", "Offer")],
    });
    match code {
        Code::FeatureNotAvailable => (
            json!({
                "feature": { "type": "string", "description": "What the plan does not include." },
                "plan": plan,
                "plan_version": plan_version,
                "layers": layers,
                "cheapest_plan": cheapest_plan,
                "upgrade_url": upgrade_url,
            }),
            &[
                "feature",
                "plan",
                "plan_version",
                "layers",
                "cheapest_plan",
                "upgrade_url",
            ],
        ),
        Code::QuotaExceeded => (
            json!({
                "metric": { "type": "string", "description": "What is limited." },
                "subject": {
                    "type": ["string", "null"], "description": "What it is counted for apart; `null` for the whole workspace.",
                },
                "current": count("What is used and reserved.", 5_368_709_000),
                "used": count("What is used.", 5_368_709_000),
                "reserved": count("What is reserved.", 0),
                "requested": count("What the request would have added.", 4_821_733),
                "limit": count("The most there may be.", 5_368_709_120),
                "hard_limit": count("The most that is admitted: the limit with its tolerance.", 5_368_709_120),
                "plan": plan,
                "plan_version": plan_version,
                "layers": layers,
                "cheapest_plan": cheapest_plan,
                "resets_at": {
                    "type": ["string", "null"], "format": "date-time",
                    "description": "When the count begins anew; `null` for what never resets.", "examples": ["2026-10-01T00:00:00Z"],
                },
                "upgrade_url": upgrade_url,
            }),
            &[
                "metric",
                "subject",
                "current",
                "used",
                "reserved",
                "requested",
                "limit",
                "hard_limit",
                "plan",
                "plan_version",
                "layers",
                "cheapest_plan",
                "resets_at",
                "upgrade_url",
            ],
        ),
        Code::WorkspaceReadOnly => (
            json!({
                "reason": { "type": "string", "description": "Why nothing can be written, such as `payment_failed`.", "examples": ["payment_failed"] },
                "since": { "type": "string", "format": "date-time", "description": "Since when.", "examples": ["2026-09-14T10:32:00Z"] },
                "upgrade_url": upgrade_url,
            }),
            &["reason", "since", "upgrade_url"],
        ),
        Code::PaymentDeclined => (
            json!({
                "decline_code": { "type": "string", "description": "The card network's reason, by Stripe's names.", "examples": ["insufficient_funds"] },
            }),
            &["decline_code"],
        ),
        Code::PaymentActionRequired => (
            json!({
                "client_secret": { "type": "string", "description": "What the payment provider's own code confirms the payment with.", "examples": ["pi_3Pabc_secret_xyz"] },
            }),
            &["client_secret"],
        ),
        Code::InsufficientRole => (
            json!({ "required_role": reference("schemas", "Role") }),
            &["required_role"],
        ),
        Code::InsufficientScope => (
            json!({
                "required_scope": { "type": "string", "description": "The scope that the credential would need.", "examples": ["usage:write"] },
            }),
            &["required_scope"],
        ),
        Code::ValidationFailed => (
            json!({
                "errors": { "type": "array", "description": "The refused fields.", "items": reference("schemas", "FieldError") },
            }),
            &["errors"],
        ),
        Code::PayloadTooLarge => (
            json!({ "limit": count("The most bytes that this address takes.", 1_048_576) }),
            &[],
        ),
        Code::RateLimited => (
            json!({
                "code_mailed": { "type": "boolean", "description": "Whether a code in the account's mailbox gets its owner in at once.", "examples": [true] },
            }),
            &[],
        ),
        Code::CurrencyMismatch => (
            json!({
                "currency": { "type": "string", "description": "What the workspace pays in.", "examples": ["eur"] },
            }),
            &["currency"],
        ),
        Code::Conflict => (
            json!({
                "provider_code": { "type": "string", "description": "The payment provider's own code, where it was the provider who refused.", "examples": ["resource_missing"] },
            }),
            &[],
        ),
        Code::MalformedRequest
        | Code::InvalidCursor
        | Code::InvalidSignature
        | Code::Unauthenticated
        | Code::WorkspaceInactive
        | Code::EmailNotVerified
        | Code::NotFound
        | Code::NotReady
        | Code::MethodNotAllowed
        | Code::RequestTimeout
        | Code::EmailTaken
        | Code::LastOwner
        | Code::NotEmpty
        | Code::IdempotencyInFlight
        | Code::PlanChangeStale
        | Code::OperationInProgress
        | Code::PreconditionFailed
        | Code::UnsupportedMediaType
        | Code::RangeNotSatisfiable
        | Code::IdempotencyKeyReused
        | Code::RequestHeadTooLarge
        | Code::Internal
        | Code::DependencyUnavailable
        | Code::InsufficientStorage
        | Code::Overloaded
        | Code::BillingNotConfigured => (json!({}), &[]),
    }
}

/// The component of a code.
pub(super) fn schema_name(code: Code) -> String {
    format!("{}Problem", pascal(code.as_str()))
}

/// The schemas of all problems.
pub(super) fn schemas() -> Object {
    Code::ALL
        .iter()
        .map(|code| (schema_name(*code), schema(*code)))
        .collect()
}

fn schema(code: Code) -> Value {
    let (further, always) = members(code);
    let uri = format!("/problems/{}", code.as_str());
    let mut properties = json!({
        "type": { "type": "string", "format": "uri-reference", "description": "The page that explains the code.", "examples": [uri] },
        "title": { "type": "string", "description": "The code's summary.", "examples": [code.title()] },
        "status": { "type": "integer", "format": "int32", "description": "The HTTP status.", "examples": [code.number()] },
        "detail": { "type": "string", "description": "What happened this time, for a person.", "examples": [detail(code)] },
        "code": { "type": "string", "const": code.as_str(), "description": "The stable code." },
    });
    let mut required = vec!["type", "title", "status", "detail", "code"];
    required.extend(always);
    if let (Some(properties), Value::Object(further)) = (properties.as_object_mut(), further) {
        properties.extend(further);
    }
    json!({
        // No title: some generators would call their types by it.
        "type": "object", "description": code.explanation(), "required": required,
        "properties": properties,
    })
}

/// A detail, for the example.
fn detail(code: Code) -> String {
    let text = code.explanation();
    let end = text.find(". ").map_or(text.len(), |end| end + 1);
    text.get(..end).unwrap_or(text).to_owned()
}

/// The codes of that status which a text names.
pub(super) fn named(status: u16, text: &str) -> Vec<Code> {
    let words: Vec<&str> = text
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .collect();
    Code::ALL
        .iter()
        .copied()
        .filter(|code| code.number() == status && words.contains(&code.as_str()))
        .collect()
}

/// What a status means where the route names no code.
pub(super) fn usual(status: u16) -> &'static [Code] {
    match status {
        400 => &[Code::MalformedRequest],
        401 => &[Code::Unauthenticated],
        403 => &[Code::InsufficientRole, Code::WorkspaceInactive],
        404 => &[Code::NotFound],
        408 => &[Code::RequestTimeout],
        409 => &[Code::Conflict],
        412 => &[Code::PreconditionFailed],
        413 => &[Code::PayloadTooLarge],
        415 => &[Code::UnsupportedMediaType],
        416 => &[Code::RangeNotSatisfiable],
        422 => &[Code::ValidationFailed],
        429 => &[Code::RateLimited],
        431 => &[Code::RequestHeadTooLarge],
        500 => &[Code::Internal],
        503 => &[Code::DependencyUnavailable],
        // 402 means several things: a route names which.
        _ => &[],
    }
}

/// When `Retry-After` comes with a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryAfter {
    Always,
    Sometimes,
    Never,
}

pub(super) fn retry_after(codes: &[Code]) -> RetryAfter {
    let says = |code: &Code| {
        matches!(
            code,
            Code::RateLimited
                | Code::NotReady
                | Code::IdempotencyInFlight
                | Code::OperationInProgress
                | Code::DependencyUnavailable
                | Code::InsufficientStorage
                | Code::Overloaded
        )
    };
    if codes.iter().all(says) {
        RetryAfter::Always
    } else if codes.iter().any(says) {
        RetryAfter::Sometimes
    } else {
        RetryAfter::Never
    }
}

/// The schema of the problems behind one status of a route.
pub(super) fn union(codes: &[Code]) -> Value {
    if let [code] = codes {
        return reference("schemas", &schema_name(*code));
    }
    let one_of: Vec<Value> = codes
        .iter()
        .map(|code| reference("schemas", &schema_name(*code)))
        .collect();
    let mapping: Object = codes
        .iter()
        .map(|code| {
            let target = format!("#/components/schemas/{}", schema_name(*code));
            (code.as_str().to_owned(), target.into())
        })
        .collect();
    json!({
        "oneOf": one_of,
        "discriminator": { "propertyName": "code", "mapping": mapping },
    })
}
