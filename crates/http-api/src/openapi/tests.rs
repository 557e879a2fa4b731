use std::collections::BTreeSet;

use rawdrive_billing::SubscriptionStatus;
use rawdrive_plans::{Interval, Origin};
use rawdrive_tenancy_core::Role;
use serde_json::Value;

use super::*;
use crate::routes;
use crate::web::{Code, PROBLEM_JSON};

fn document() -> Value {
    routes::document(&[], "https://saas.example.org")
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"]
        .as_str()
        .and_then(|target| target.strip_prefix('#'))
    {
        Some(pointer) => document.pointer(pointer).unwrap(),
        None => value,
    }
}

/// Every answer of every operation: where it is, its status, and the answer.
fn answers(document: &Value) -> Vec<(String, u16, &Value)> {
    let mut all = Vec::new();
    for (path, method, operation) in operations_of(document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let status = status.parse().unwrap();
            all.push((
                format!("{method} {path} {status}"),
                status,
                resolve(document, response),
            ));
        }
    }
    all
}

/// The codes that an answer's problem can have.
fn codes(document: &Value, response: &Value) -> Vec<String> {
    let schema = &response["content"][PROBLEM_JSON]["schema"];
    let one = [schema.clone()];
    let schemas = schema["oneOf"].as_array().map_or(&one[..], Vec::as_slice);
    let code = |schema| resolve(document, schema)["properties"]["code"]["const"].clone();
    schemas
        .iter()
        .map(|s| code(s).as_str().unwrap().to_owned())
        .collect()
}

fn of<'a>(document: &'a Value, method: &str, path: &str, status: &str) -> &'a Value {
    resolve(
        document,
        &document["paths"][path][method]["responses"][status],
    )
}

#[test]
fn every_answer_is_described_and_every_refusal_is_a_problem_by_its_code() {
    let document = document();
    let all = answers(&document);
    assert!(all.len() > 300, "{}", all.len());
    for (place, status, response) in all {
        assert!(
            !response["description"].as_str().unwrap().is_empty(),
            "{place}"
        );
        assert!(response["headers"]["X-Request-Id"].is_object(), "{place}");
        if status < 400 {
            continue;
        }
        let codes = codes(&document, response);
        assert!(!codes.is_empty(), "{place}");
        for code in &codes {
            assert_eq!(Code::from_name(code).unwrap().number(), status, "{place}");
        }
        if codes.len() > 1 {
            let schema = &response["content"][PROBLEM_JSON]["schema"];
            assert_eq!(schema["discriminator"]["propertyName"], "code", "{place}");
            for code in codes {
                let target = &schema["discriminator"]["mapping"][&code];
                let schema = document.pointer(&target.as_str().unwrap()[1..]).unwrap();
                assert_eq!(schema["properties"]["code"]["const"], code, "{place}");
            }
        }
    }
}

#[test]
fn a_refusal_says_its_further_members() {
    let document = document();
    let denied = of(&document, "post", "/v1/workspace/invitations", "402");
    assert_eq!(
        codes(&document, denied),
        ["quota_exceeded", "workspace_read_only"]
    );
    let quota = &document["components"]["schemas"]["QuotaExceededProblem"];
    for member in [
        "metric",
        "current",
        "requested",
        "limit",
        "plan",
        "resets_at",
        "upgrade_url",
    ] {
        assert!(quota["properties"][member].is_object(), "{member}");
        assert!(
            quota["required"]
                .as_array()
                .unwrap()
                .contains(&member.into()),
            "{member}"
        );
    }
    let too_many = of(&document, "post", "/v1/sessions", "429");
    assert_eq!(codes(&document, too_many), ["rate_limited"]);
    for header in ["Retry-After", "RateLimit", "RateLimit-Policy"] {
        assert!(too_many["headers"][header].is_object(), "{header}");
    }
}

#[test]
fn what_follows_from_a_credential_a_body_and_a_header_is_added() {
    let document = document();
    let says = |method: &str, path: &str, status: &str, code: &str| {
        let response = of(&document, method, path, status);
        !response.is_null() && codes(&document, response).iter().any(|c| c == code)
    };
    let update = ("patch", "/v1/workspace");
    for (status, code) in [
        ("401", "unauthenticated"),
        ("403", "workspace_inactive"),
        ("409", "idempotency_in_flight"),
        ("412", "precondition_failed"),
        ("413", "payload_too_large"),
        ("415", "unsupported_media_type"),
        ("422", "idempotency_key_reused"),
        ("422", "validation_failed"),
        ("431", "request_head_too_large"),
        ("503", "insufficient_storage"),
    ] {
        assert!(says(update.0, update.1, status, code), "{code}");
    }
    // A person may see to their own account also while the workspace is closed.
    assert!(says("patch", "/v1/me", "403", "insufficient_role"));
    assert!(!says("patch", "/v1/me", "403", "workspace_inactive"));
    assert!(of(&document, "get", "/v1/me", "403").is_null());
    // Scopes are a key's: what takes a person asks for none.
    assert!(says("get", "/v1/usage", "403", "insufficient_scope"));
    assert!(!says("patch", "/v1/me", "403", "insufficient_scope"));
    let scopes =
        |method: &str, path: &str| document["paths"][path][method]["security"][0]["bearer"].clone();
    assert_eq!(scopes("get", "/v1/usage"), json!(["usage:read"]));
    assert_eq!(scopes("patch", "/v1/me"), json!([]));
    // A version that is told is one that can be asked about.
    assert!(of(&document, "get", "/v1/workspace", "304")["headers"]["ETag"].is_object());
    assert!(
        of(&document, "patch", "/v1/workspace", "204")["headers"]["Preference-Applied"].is_object()
    );
    assert!(!says("get", "/v1/plans", "401", "unauthenticated"));
    assert!(says("get", "/v1/usage/events", "400", "invalid_cursor"));
    assert!(says("delete", "/v1/api-keys/{id}", "404", "not_found"));
    assert_eq!(document["paths"]["/v1/plans"]["get"]["security"], json!([]));
}

#[test]
fn every_component_is_used_and_every_schema_has_an_example() {
    let document = document();
    let text = document.to_string();
    for (kind, components) in document["components"].as_object().unwrap() {
        if kind == "securitySchemes" {
            continue;
        }
        for (name, component) in components.as_object().unwrap() {
            let pointer = format!("\"#/components/{kind}/{name}\"");
            assert!(text.contains(&pointer), "{pointer} is not used");
            if kind == "schemas" {
                assert!(component["examples"][0] != Value::Null, "{name}");
            }
        }
    }
}

#[test]
fn operations_have_names_of_their_own() {
    let document = document();
    let mut names = BTreeSet::new();
    for (_, _, operation) in operations_of(&document) {
        let name = operation["operationId"].as_str().unwrap();
        assert!(name.contains('_') && !name.starts_with("show_"), "{name}");
        assert!(names.insert(name.to_owned()), "{name}");
    }
}

#[test]
fn what_the_core_has_an_address_for_is_said_to_be_there_and_is() {
    let document = document();
    let addresses = crate::vocabulary::VOCABULARY
        .resources
        .iter()
        .filter_map(|one| one.address);
    let mut looked_at = 0;
    for list in addresses {
        assert!(
            document["paths"][format!("{list}/{{id}}")]["get"].is_object(),
            "{list}"
        );
        let made = &document["paths"][list]["post"]["responses"]["201"];
        assert!(made["headers"]["Location"].is_object(), "{list}");
        looked_at += 1;
    }
    assert!(looked_at > 0);
}

#[test]
fn the_words_are_the_domains() {
    let document = document();
    let words = |schema: &str| document["components"]["schemas"][schema]["enum"].clone();
    let roles = [Role::Owner, Role::Admin, Role::Member].map(Role::as_str);
    assert_eq!(words("Role"), json!(roles));
    assert_eq!(
        words("Origin"),
        json!([Origin::Plan, Origin::Grace, Origin::Override].map(Origin::as_str))
    );
    let intervals = [Interval::Month, Interval::Year].map(Interval::as_str);
    assert_eq!(words("Interval"), json!(intervals));
    for status in words("SubscriptionStatus").as_array().unwrap() {
        let name = status.as_str().unwrap();
        let known = SubscriptionStatus::from(name.to_owned());
        let is_known = !matches!(known, SubscriptionStatus::Unknown(_));
        assert!(name == "none" || is_known, "{name}");
    }
}
