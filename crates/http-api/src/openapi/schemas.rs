//! Schemas as a client wants them: named for what they are, with formats, identifiers and examples.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use utoipa::PartialSchema;

use super::words::RoleName;
use super::{MEDIA_TYPES, Object, Words, referenced};
use crate::extension::Resource;
use crate::web::FieldError;

/// What every time looks like in an example.
const TIME: &str = "2026-09-14T10:32:00Z";
/// The digits of an id in an example.
const DIGITS: &str = "0192f0c1a2b37c4d8e5f60718293a4b5";

/// Adds schemas to the document, and those that they refer to.
pub(super) fn declare(document: &mut Value, schemas: Object) {
    let declared = &mut document["components"]["schemas"];
    if declared.is_null() {
        *declared = json!({});
    }
    declared["Role"] = serde_json::to_value(RoleName::schema()).unwrap_or_default();
    declared["FieldError"] = serde_json::to_value(FieldError::schema()).unwrap_or_default();
    if let Some(declared) = declared.as_object_mut() {
        declared.extend(schemas);
    }
}

/// Names the schemas for what they are, makes one object of what is composed of several, and takes `null` from what
/// can only be left out.
pub(super) fn tidy(document: &mut Value, words: Words<'_>) {
    declare_items(document);
    let names = names(document);
    rename(document, &names);
    let schemas = document["components"]["schemas"].take();
    let mut tidied = Object::new();
    for (name, schema) in schemas.as_object().into_iter().flatten() {
        let new = names.get(name).unwrap_or(name).clone();
        tidied.insert(new, merged(schema, &schemas, &names));
    }
    document["components"]["schemas"] = tidied.into();
    for item in document["paths"].as_object_mut().into_iter().flatten() {
        for operation in item.1.as_object_mut().into_iter().flatten() {
            let parameters = operation.1.get_mut("parameters");
            let parameters = parameters.and_then(Value::as_array_mut);
            for parameter in parameters.into_iter().flatten() {
                refine_parameter(item.0, parameter, words);
            }
        }
    }
}

/// Gives what a list holds a name of its own: generators make a type of that.
fn declare_items(document: &mut Value) {
    let schemas = &mut document["components"]["schemas"];
    let mut found = Object::new();
    for (name, list) in schemas.as_object_mut().into_iter().flatten() {
        if let Some(item) = name.strip_prefix("ListView_") {
            let items = list.pointer_mut("/properties/items/items");
            if let Some(items) = items.filter(|items| items["$ref"].is_null()) {
                let schema = std::mem::replace(items, super::reference("schemas", item));
                found.insert(item.to_owned(), schema);
            }
        }
    }
    for (name, schema) in found {
        if schemas[&name].is_null() {
            schemas[&name] = schema;
        }
    }
}

/// The new names of schemas: a view is called by what it shows.
fn names(document: &Value) -> BTreeMap<String, String> {
    let schemas = document["components"]["schemas"].as_object();
    let old: BTreeSet<&String> = schemas
        .into_iter()
        .flat_map(serde_json::Map::keys)
        .collect();
    let mut new = BTreeSet::new();
    let mut names = BTreeMap::new();
    for name in &old {
        let shown = match name.strip_prefix("ListView_") {
            Some(item) => format!("{}List", item.strip_suffix("View").unwrap_or(item)),
            None => {
                let plain = name.strip_suffix("View").or(name.strip_suffix("Name"));
                plain.unwrap_or(name).to_owned()
            }
        };
        // Two of one name would be one.
        if shown != **name && !old.contains(&shown) && new.insert(shown.clone()) {
            names.insert((*name).clone(), shown);
        }
    }
    names
}

fn rename(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(target)) = members.get_mut("$ref") {
                let name = target.strip_prefix("#/components/schemas/");
                if let Some(new) = name.and_then(|name| names.get(name)) {
                    *target = format!("#/components/schemas/{new}");
                }
            }
            members
                .values_mut()
                .for_each(|member| rename(member, names));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, names)),
        _ => {}
    }
}

/// One object for what serde flattens: generators make better types of it than of `allOf`.
fn merged(schema: &Value, all: &Value, names: &BTreeMap<String, String>) -> Value {
    let Some(parts) = schema["allOf"].as_array() else {
        let mut schema = schema.clone();
        rename(&mut schema, names);
        return schema;
    };
    let mut properties = Object::new();
    let mut required = Vec::new();
    for part in parts {
        let part = match referenced(part, "schemas") {
            // Its reference has its new name, and its target the old one.
            Some(name) => {
                let old = names.iter().find(|(_, new)| *new == name);
                merged(&all[old.map_or(name, |(old, _)| old)], all, names)
            }
            None => merged(part, all, names),
        };
        properties.extend(part["properties"].as_object().cloned().unwrap_or_default());
        required.extend(part["required"].as_array().cloned().unwrap_or_default());
    }
    let mut schema = schema.clone();
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("allOf");
        schema.insert("type".to_owned(), "object".into());
        schema.insert("properties".to_owned(), properties.into());
        schema.insert("required".to_owned(), required.into());
    }
    rename(&mut schema, names);
    schema
}

fn refine_parameter(path: &str, parameter: &mut Value, words: Words<'_>) {
    let name = parameter["name"].as_str().unwrap_or_default().to_owned();
    if parameter["in"] == "query" {
        without_null(&mut parameter["schema"]);
    }
    if parameter["in"] != "path" {
        return;
    }
    let before = path.split(&format!("/{{{name}}}")).next();
    let kind = before.and_then(|before| before.rsplit('/').next());
    let kind = kind.and_then(|kind| words.resources().find(|one| one.segment == kind));
    if let Some(kind) = kind {
        identify(&mut parameter["schema"], kind.prefix);
        if parameter["description"].is_null() {
            parameter["description"] = format!("The {}'s id.", kind.noun).into();
        }
    }
    if parameter["description"].is_null() {
        parameter["description"] = format!("The {}.", name.replace('_', " ")).into();
    }
}

/// What can only be left out is never `null`.
fn without_null(schema: &mut Value) {
    let Some(types) = schema["type"].as_array_mut() else {
        return;
    };
    types.retain(|one| one != "null");
    if let [one] = types.as_slice() {
        schema["type"] = one.clone();
    }
}

/// How the ids of a member begin: by its own name, or for `id` by what it is the id of.
fn prefix_of(schema: &str, member: &str, words: Words<'_>) -> Option<&'static str> {
    let is_named = |one: &&Resource| match member {
        "id" => one.schemas.contains(&schema),
        member => one.members.contains(&member),
    };
    words.resources().find(is_named).map(|one| one.prefix)
}

fn identify(schema: &mut Value, prefix: &str) {
    schema["pattern"] = format!("^{prefix}_[0-9a-f]{{32}}$").into();
    schema["examples"] = json!([format!("{prefix}_{DIGITS}")]);
}

/// Gives formats, identifiers and an example to every schema.
pub(super) fn illustrate(document: &mut Value, words: Words<'_>) {
    let mut schemas = document["components"]["schemas"].take();
    for (name, schema) in schemas.as_object_mut().into_iter().flatten() {
        refine(name, schema, words);
    }
    let all = schemas.clone();
    for (name, schema) in schemas.as_object_mut().into_iter().flatten() {
        if schema["examples"].is_null() {
            let examples = Examples { all: &all, words };
            schema["examples"] = json!([examples.of(name, name, schema, 0)]);
        }
        // One is enough, and the other word for it is of an older release of the format.
        if let Some(schema) = schema.as_object_mut() {
            schema.remove("example");
        }
    }
    document["components"]["schemas"] = schemas;
}

/// Formats and identifiers of an object's members, by their names: one name means one thing throughout the API.
fn refine(name: &str, schema: &mut Value, words: Words<'_>) {
    let members = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (member, schema) in members.into_iter().flatten() {
        let mut target = schema;
        if target["items"].is_object() {
            target = &mut target["items"];
        }
        if !is_plain_text(target) {
            continue;
        }
        if let Some(prefix) = prefix_of(name, member, words) {
            identify(target, prefix);
        } else if let Some(format) = format_of(member) {
            target["format"] = format.into();
        } else if matches!(
            member.as_str(),
            "sha256" | "hash" | "digest" | "previous_digest"
        ) {
            target["pattern"] = "^[0-9a-f]{64}$".into();
        } else if matches!(member.as_str(), "primary_color" | "color") {
            target["pattern"] = "^#[0-9a-fA-F]{6}$".into();
        }
    }
}

/// Text of which nothing more was said.
fn is_plain_text(schema: &Value) -> bool {
    let of_type = |name: &str| match &schema["type"] {
        Value::String(one) => one == name,
        Value::Array(several) => several.iter().any(|one| one == name),
        _ => false,
    };
    let said = ["format", "pattern", "enum", "const"];
    of_type("string") && said.iter().all(|key| schema[*key].is_null())
}

fn format_of(member: &str) -> Option<&'static str> {
    let is_time = member.ends_with("_at")
        || matches!(
            member,
            "at" | "since" | "until" | "grace_until" | "start" | "end" | "from" | "to"
        )
        || matches!(
            member,
            "current_period_end" | "trial_end" | "period_start" | "cancel_at"
        );
    if is_time {
        Some("date-time")
    } else if member == "email" || member.ends_with("_email") {
        Some("email")
    } else if member == "url" || member == "website" || member.ends_with("_url") {
        Some("uri")
    } else {
        None
    }
}

/// Makes examples of schemas.
struct Examples<'a> {
    all: &'a Value,
    words: Words<'a>,
}

impl Examples<'_> {
    /// An example of a schema: its own, or one made of its parts. `owner` is the schema that the member `name` is of.
    fn of(&self, owner: &str, name: &str, schema: &Value, depth: usize) -> Value {
        // What holds itself would have no end.
        if depth > 16 {
            return Value::Null;
        }
        if let Some(own) = schema["examples"].get(0) {
            return own.clone();
        }
        for key in ["example", "const"] {
            if !schema[key].is_null() {
                return schema[key].clone();
            }
        }
        if let Some(word) = schema["enum"].get(0) {
            return word.clone();
        }
        if let Some(target) = referenced(schema, "schemas") {
            return self.of(target, target, &self.all[target], depth + 1);
        }
        let alternatives = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
        let first = alternatives.and_then(|some| some.iter().find(|one| one["type"] != "null"));
        if let Some(first) = first {
            return self.of(owner, name, first, depth + 1);
        }
        match kind(schema) {
            "object" => {
                let members = schema["properties"].as_object().into_iter().flatten();
                let mut object: Object = members
                    .map(|(member, schema)| {
                        let value = self.of(owner, member, schema, depth + 1);
                        (member.clone(), value)
                    })
                    .collect();
                if schema["additionalProperties"].is_object() {
                    let (member, value) = self.entry(&schema["additionalProperties"]);
                    object.insert(member.to_owned(), value);
                }
                object.into()
            }
            "array" => json!([self.of(owner, name, &schema["items"], depth + 1)]),
            "integer" => number(name, schema).into(),
            "number" => json!(0.5),
            "boolean" => true.into(),
            "string" => self.text(owner, name, schema).into(),
            // Anything: what an audit entry keeps, for one.
            _ => json!({ "name": "Weddings" }),
        }
    }

    /// An entry of a map by names.
    fn entry(&self, value: &Value) -> (&'static str, Value) {
        let named = |member: &str| self.words.example("", member);
        match kind(value) {
            "boolean" => (named("feature").unwrap_or(FEATURE), true.into()),
            "integer" => (
                named("metric").unwrap_or(METRIC),
                536_870_912_000_u64.into(),
            ),
            _ => ("name", "value".into()),
        }
    }

    fn text(&self, owner: &str, member: &str, schema: &Value) -> String {
        match schema["format"].as_str() {
            Some("date-time") => return TIME.to_owned(),
            Some("email") => return "ada@example.org".to_owned(),
            Some("password") => return "correct horse battery staple".to_owned(),
            Some("uri") => return uri(member).to_owned(),
            _ => {}
        }
        if let Some(pattern) = schema["pattern"].as_str() {
            return match pattern {
                "^[0-9a-f]{64}$" => {
                    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned()
                }
                _ => "#1f6feb".to_owned(),
            };
        }
        let example = match self.words.example(owner, member) {
            Some(example) => example,
            None => plain(owner, member),
        };
        example.to_owned()
    }
}

fn kind(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(one) => one,
        Value::Array(several) => several
            .iter()
            .filter_map(Value::as_str)
            .find(|one| *one != "null")
            .unwrap_or_default(),
        _ => "",
    }
}

fn number(member: &str, schema: &Value) -> i64 {
    let usual = match member {
        "size_bytes" => 4_821_733,
        "width" => 6_000,
        "height" => 4_000,
        "expires_in" => 900,
        "amount" | "amount_now" | "amount_next" | "amount_due" | "amount_paid" | "total" => 2_900,
        "limit" | "value" => 5_368_709_120,
        "used" => 4_294_967_296,
        "remaining" => 1_073_741_824,
        "progress_percentage" => 50,
        "amount_remaining" | "reserved" => 0,
        _ => 1,
    };
    let bound = |key: &str| schema[key].as_i64();
    usual.clamp(
        bound("minimum").unwrap_or(i64::MIN),
        bound("maximum").unwrap_or(i64::MAX),
    )
}

/// What a feature and a metric are called where no product says.
const FEATURE: &str = "priority_support";
const METRIC: &str = "api_calls";

/// What the core's members are called like.
fn plain(owner: &str, member: &str) -> &'static str {
    match (owner, member) {
        ("User" | "Member" | "SignUp" | "UpdateMe" | "AcceptInvitation", "name") => "Ada Lovelace",
        (owner, "name") if owner.contains("Key") => "meter",
        ("Workspace" | "Belonging" | "UpdateWorkspace", "name") | (_, "workspace_name") => {
            "Ada's Studio"
        }
        ("Workspace", "slug") => "adas-studio",
        ("Plan", "name") => "Professional",
        ("Dependency", "name") => "database",
        ("Invoice", "id") => "in_1PabcXYZ",
        ("Step", "id") | (_, "completed") => "profile",
        ("Limit", "name") | (_, "metric") => METRIC,
        (_, "name") => "Weddings 2026",
        (_, "slug" | "plan") => "professional",
        (_, "feature") => FEATURE,
        (_, "content_type") => "application/octet-stream",
        (_, "currency") => "usd",
        (_, "month") => "2026-09",
        (_, "token_type") => "Bearer",
        (_, "access_token") => "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ1c3JfMDE5MiJ9.c2lnbmF0dXJl",
        (_, "refresh_token") => "rdr_0192f0c1a2b3_7c4d8e5f60718293a4b5",
        (_, "device_token") => "rdd_0192f0c1a2b3_7c4d8e5f60718293a4b5",
        (_, "commit_token" | "token") => "0192f0c1a2b3_7c4d8e5f60718293a4b5",
        (_, "secret") => "rd_0192f0c1a2b3_7c4d8e5f60718293a4b5",
        (_, "code") => "483920",
        (_, "next_cursor") => "b3BhcXVlLWFuZC1zaWduZWQ",
        (_, "actor" | "created_by" | "sponsor" | "invited_by" | "members") => {
            "usr_0192f0c1a2b37c4d8e5f60718293a4b5"
        }
        (_, "subject" | "counted_for") => "project-7",
        (_, "payment_method_id") => "pm_1PabcXYZ",
        (_, "number") => "RD-0001",
        (_, "action") => "plan.changed",
        (_, "title") => "Complete the profile",
        (_, "unit") => "bytes",
        (_, "status") => "ok",
        (_, "message") => "must not be empty",
        (_, "field") => "name",
        (_, "detail") => "If the address is an account's, a mail is on its way.",
        (_, "reason") => "payment_failed",
        (_, "format") => "rawdrive.usage-statement.v1",
        (_, "id" | "event_id") => "evt-2026-09-14-0001",
        _ => "text",
    }
}

fn uri(member: &str) -> &'static str {
    match member {
        "url" => "https://checkout.stripe.com/c/pay/cs_test_a1b2c3",
        "hosted_url" => "https://invoice.stripe.com/i/acct_1/test_a1b2c3",
        "pdf_url" => "https://invoice.stripe.com/i/acct_1/test_a1b2c3/pdf",
        "upgrade_url" => "https://rawdrive.example.org/settings/billing/upgrade",
        _ => "https://studio.example.org/",
    }
}

/// Takes out what was for us alone, and the components that nothing refers to.
pub(super) fn prune(document: &mut Value) {
    without(document, MEDIA_TYPES);
    let mut used = BTreeSet::new();
    let mut new = BTreeSet::new();
    collect(&document["paths"], &mut new);
    while let Some(pointer) = new.pop_first() {
        if !used.insert(pointer.clone()) {
            continue;
        }
        if let Some(target) = document.pointer(&pointer) {
            let mut found = BTreeSet::new();
            collect(target, &mut found);
            new.extend(found.difference(&used).cloned().collect::<Vec<_>>());
        }
    }
    for kind in ["schemas", "responses", "headers", "parameters"] {
        let components = document["components"].get_mut(kind);
        let Some(components) = components.and_then(Value::as_object_mut) else {
            continue;
        };
        components.retain(|name, _| used.contains(&format!("/components/{kind}/{name}")));
    }
    if let Some(components) = document["components"].as_object_mut() {
        components.retain(|_, some| some.as_object().is_none_or(|some| !some.is_empty()));
    }
}

fn without(value: &mut Value, name: &str) {
    match value {
        Value::Object(members) => {
            members.remove(name);
            members
                .values_mut()
                .for_each(|member| without(member, name));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| without(item, name)),
        _ => {}
    }
}

/// Every pointer within the document that a value refers to.
fn collect(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(target) if name == "$ref" => {
                        found.extend(target.strip_prefix('#').map(str::to_owned));
                    }
                    member => collect(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}
