//! What follows, for an operation, from what its route declares.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use utoipa::IntoParams as _;

use super::problems::{RetryAfter, named, retry_after, union, usual};
use super::{MEDIA_TYPES, Object, headers, operations_of, pascal, reference, referenced};
use crate::web::{Code, PROBLEM_JSON};

/// Completes every operation, and declares the answers and headers that they share.
pub(super) fn complete(document: &mut Value) {
    let resources = Resources::of(document);
    let mut shared = Object::new();
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, item) in paths {
        let methods = item.as_object_mut().into_iter().flatten();
        for (method, operation) in methods {
            if let Some(operation) = operation.as_object_mut() {
                resources.declare_conditions(method, operation);
                let route = Route::of(path, method, operation);
                route.complete(operation, &resources, &mut shared);
            }
        }
    }
    let components = &mut document["components"];
    components["responses"] = shared.into();
    components["headers"] = headers::components();
}

/// What the document says of resources: the schemas that carry an `ETag`, and those that have an address of their own.
struct Resources {
    tagged: BTreeSet<String>,
    addressed: BTreeSet<String>,
}

impl Resources {
    fn of(document: &Value) -> Self {
        let mut resources = Self {
            tagged: BTreeSet::new(),
            addressed: BTreeSet::new(),
        };
        for (path, method, operation) in operations_of(document) {
            let Some(schema) = answered(operation) else {
                continue;
            };
            let conditional = ["get", "patch", "delete"].into_iter().any(|method| {
                let beside = document["paths"][path][method].as_object();
                beside.is_some_and(|o| reads(o, "If-Match") || reads(o, "If-None-Match"))
            });
            if method == "get" && conditional {
                resources.tagged.insert(schema.to_owned());
            }
            // `/v1/projects/{id}`, and not what lies below another thing.
            let names = path.matches('{').count();
            if method == "get" && names == 1 && path.ends_with("/{id}") {
                resources.addressed.insert(schema.to_owned());
            }
            // What is shown once more than it is shown later, such as a secret, has the same address.
            let one = &document["paths"][format!("{path}/{{id}}")]["get"];
            if method == "post" && names == 0 && one.is_object() {
                resources.addressed.insert(schema.to_owned());
            }
        }
        resources
    }
}

impl Resources {
    /// Adds the headers that are read wherever a resource's version or address is told: whoever has that version is told
    /// so, and whoever changes it need not be shown it.
    fn declare_conditions(&self, method: &str, operation: &mut Object) {
        let schema = answered(operation).unwrap_or_default();
        let (tagged, addressed) = (
            self.tagged.contains(schema),
            self.addressed.contains(schema),
        );
        let mut parameters = Vec::new();
        if method == "get" && tagged && !reads(operation, "If-None-Match") {
            parameters.extend(headers::Revalidated::into_params(|| None));
        }
        let created = operation
            .get("responses")
            .is_some_and(|responses| !responses["201"].is_null());
        if method != "get" && (if created { addressed } else { tagged }) {
            parameters.extend(headers::Preferring::into_params(|| None));
        }
        if parameters.is_empty() {
            return;
        }
        // Names and texts alone: there is nothing that could fail to serialize.
        let added = serde_json::to_value(parameters).unwrap_or_default();
        let all = operation.entry("parameters").or_insert_with(|| json!([]));
        if let (Some(all), Value::Array(added)) = (all.as_array_mut(), added) {
            all.extend(added);
        }
    }
}

/// The schema of what an operation answers when all goes well.
fn answered(operation: &Object) -> Option<&str> {
    let responses = operation.get("responses")?.as_object()?;
    let response = responses
        .iter()
        .find_map(|(status, response)| status.starts_with('2').then_some(response))?;
    referenced(
        &response["content"]["application/json"]["schema"],
        "schemas",
    )
}

fn reads(operation: &Object, header: &str) -> bool {
    parameters(operation).any(|p| p["in"] == "header" && p["name"] == header)
}

fn parameters(operation: &Object) -> impl Iterator<Item = &Value> {
    operation
        .get("parameters")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// What matters of a route for its answers.
struct Route {
    reads_only: bool,
    creates: bool,
    secured: bool,
    /// Whether a scope is asked for.
    scoped: bool,
    /// Whether the route itself says that it forbids something.
    forbids: bool,
    has_path: bool,
    has_query: bool,
    has_cursor: bool,
    body: Body,
    idempotent: bool,
    conditional: bool,
    revalidated: bool,
    preferring: bool,
    ranged: bool,
}

#[derive(PartialEq, Eq)]
enum Body {
    None,
    /// Bytes of a declared type, whose route says itself what is refused.
    Bytes,
    Json,
}

impl Route {
    fn of(path: &str, method: &str, operation: &Object) -> Self {
        let has = |place: &str| parameters(operation).any(|p| p["in"] == place);
        let body = operation.get("requestBody").map(|body| &body["content"]);
        Self {
            reads_only: method == "get",
            creates: method == "post",
            // A requirement that asks for nothing makes the others a choice.
            secured: operation
                .get("security")
                .and_then(Value::as_array)
                .is_some_and(|any| {
                    !any.iter()
                        .any(|one| one.as_object().is_some_and(Object::is_empty))
                }),
            scoped: operation
                .get("security")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .any(|one| one["bearer"].as_array().is_some_and(|all| !all.is_empty())),
            forbids: operation
                .get("responses")
                .is_some_and(|responses| !responses["403"].is_null()),
            has_path: path.contains('{'),
            has_query: has("query"),
            has_cursor: parameters(operation).any(|p| p["name"] == "cursor"),
            body: match body {
                None => Body::None,
                Some(content) => {
                    let json = &content["application/json"]["schema"];
                    if referenced(json, "schemas").is_some() {
                        Body::Json
                    } else {
                        Body::Bytes
                    }
                }
            },
            idempotent: reads(operation, "Idempotency-Key"),
            conditional: reads(operation, "If-Match"),
            revalidated: reads(operation, "If-None-Match"),
            preferring: reads(operation, "Prefer"),
            ranged: reads(operation, "Range"),
        }
    }

    fn complete(&self, operation: &mut Object, resources: &Resources, shared: &mut Object) {
        name(operation);
        summarize(operation);
        write_out(operation);
        // Said, so that it cannot be taken for forgotten.
        operation.entry("security").or_insert_with(|| json!([]));
        let declared = operation
            .remove("responses")
            .and_then(|responses| match responses {
                Value::Object(responses) => Some(responses),
                _ => None,
            })
            .unwrap_or_default();
        let mut refusals: BTreeMap<u16, Refusal> = BTreeMap::new();
        let mut responses = Object::new();
        for (status, mut response) in declared {
            let number: u16 = status.parse().unwrap_or_default();
            let described = response["description"].as_str().unwrap_or_default();
            if number < 400 {
                self.succeed(number, &mut response, resources);
                responses.insert(status, response);
                continue;
            }
            let codes = named(number, described);
            let exact = !codes.is_empty();
            refusals.insert(
                number,
                Refusal {
                    codes: if exact {
                        codes.into_iter().collect()
                    } else {
                        usual(number).iter().copied().collect()
                    },
                    exact,
                    description: says_more(number, described).then(|| described.to_owned()),
                    content: response["content"].as_object().cloned().unwrap_or_default(),
                },
            );
        }
        if self.revalidated {
            responses
                .entry("304")
                .or_insert_with(|| json!({ "description": "" }));
            if let Some(response) = responses.get_mut("304") {
                self.succeed(304, response, resources);
            }
        }
        if self.preferring && responses.contains_key("200") {
            let mut response =
                json!({ "description": "Done, and not shown: `Prefer: return=minimal`." });
            self.succeed(204, &mut response, resources);
            response["headers"]["ETag"] = reference("headers", "ETag");
            responses.insert("204".to_owned(), response);
        }
        self.refuse(&mut refusals);
        for (status, refusal) in refusals {
            responses.insert(status.to_string(), self.refusal(refusal, shared));
        }
        operation.insert("responses".to_owned(), responses.into());
    }

    /// Adds the refusals that every route of its kind has.
    fn refuse(&self, refusals: &mut BTreeMap<u16, Refusal>) {
        let mut add = |codes: &[Code]| {
            for code in codes {
                let refusal = refusals.entry(code.number()).or_default();
                // A route that names what is forbidden names all of it: some are open to an inactive workspace.
                if !(refusal.exact && *code == Code::WorkspaceInactive) {
                    refusal.codes.insert(*code);
                }
            }
        };
        add(&[
            Code::RateLimited,
            Code::RequestHeadTooLarge,
            Code::Internal,
            Code::DependencyUnavailable,
            Code::Overloaded,
        ]);
        if !self.reads_only {
            add(&[Code::InsufficientStorage]);
        }
        if self.secured {
            add(&[Code::Unauthenticated]);
            if self.scoped {
                add(&[Code::InsufficientScope]);
            }
            // Where nothing is forbidden to whoever has a credential, a closed workspace's is one.
            if self.scoped || self.forbids {
                add(&[Code::WorkspaceInactive]);
            }
        }
        if self.has_path {
            add(&[Code::NotFound]);
        }
        if self.has_query {
            add(&[Code::MalformedRequest, Code::ValidationFailed]);
        }
        if self.has_cursor {
            add(&[Code::InvalidCursor]);
        }
        if self.body != Body::None || self.idempotent {
            add(&[
                Code::MalformedRequest,
                Code::RequestTimeout,
                Code::PayloadTooLarge,
            ]);
        }
        // Where nothing is to be said, a body that says something is refused.
        if self.body == Body::Json || self.idempotent && self.creates {
            add(&[Code::ValidationFailed]);
        }
        if self.body == Body::Json || self.idempotent {
            add(&[Code::UnsupportedMediaType]);
        }
        if self.idempotent {
            add(&[
                Code::Conflict,
                Code::IdempotencyInFlight,
                Code::IdempotencyKeyReused,
            ]);
        }
        if self.conditional {
            add(&[Code::PreconditionFailed]);
        }
        if self.ranged {
            add(&[Code::RangeNotSatisfiable]);
        }
    }

    /// Completes an answer that is no refusal.
    fn succeed(&self, status: u16, response: &mut Value, resources: &Resources) {
        if response["description"]
            .as_str()
            .unwrap_or_default()
            .is_empty()
        {
            response["description"] = usual_description(status).into();
        }
        let content = response["content"].as_object();
        let schema = content
            .and_then(|content| content.get("application/json"))
            .and_then(|json| referenced(&json["schema"], "schemas"));
        let tagged = schema.is_some_and(|schema| resources.tagged.contains(schema));
        let addressed = schema.is_some_and(|schema| resources.addressed.contains(schema));
        let bytes = self.ranged && matches!(status, 200 | 206);
        let mut headers = Self::headers();
        if tagged || self.revalidated {
            headers.push(("ETag", "ETag"));
        }
        if status == 201 && addressed {
            headers.push(("Location", "Location"));
        }
        if self.idempotent {
            headers.push(("Idempotency-Replayed", "IdempotencyReplayed"));
        }
        if self.preferring {
            headers.push(("Preference-Applied", "PreferenceApplied"));
        }
        if bytes {
            headers.push(("Accept-Ranges", "AcceptRanges"));
            headers.push(("Content-Disposition", "ContentDisposition"));
        }
        if bytes && status == 206 {
            headers.push(("Content-Range", "ContentRange"));
        }
        response["headers"] = described(headers);
    }

    /// The headers of every answer.
    fn headers() -> Vec<(&'static str, &'static str)> {
        vec![
            ("X-Request-Id", "XRequestId"),
            ("RateLimit", "RateLimit"),
            ("RateLimit-Policy", "RateLimitPolicy"),
        ]
    }

    /// The answer of a status that refuses. Those that say nothing of their own are shared between routes.
    fn refusal(&self, refusal: Refusal, shared: &mut Object) -> Value {
        let codes: Vec<Code> = refusal.codes.into_iter().collect();
        let status = codes.first().map_or(0, |code| code.number());
        let mut headers = Self::headers();
        match retry_after(&codes) {
            RetryAfter::Always => headers.push(("Retry-After", "RetryAfter")),
            RetryAfter::Sometimes => headers.push(("Retry-After", "SometimesRetryAfter")),
            RetryAfter::Never => {}
        }
        if status == 401 {
            headers.push(("WWW-Authenticate", "WwwAuthenticate"));
        }
        // A refusal of the body's fields is kept under the key, and answered again.
        if status == 422 && self.idempotent {
            headers.push(("Idempotency-Replayed", "IdempotencyReplayed"));
        }
        if status == 416 {
            headers.push(("Content-Range", "ContentRange"));
        }
        let titles = codes
            .iter()
            .map(|code| format!("{} (`{}`)", code.title(), code.as_str()));
        let general = titles.collect::<Vec<_>>().join(", or: ");
        let own = refusal.description.is_some() || !refusal.content.is_empty();
        let mut content = refusal.content;
        content.insert(PROBLEM_JSON.to_owned(), json!({ "schema": union(&codes) }));
        let response = json!({
            "description": refusal.description.unwrap_or(general),
            "content": content,
            "headers": described(headers),
        });
        if own || (status == 422 && self.idempotent) {
            return response;
        }
        let names = codes.iter().map(|code| pascal(code.as_str()));
        let name = names.collect::<Vec<_>>().join("Or");
        shared.insert(name.clone(), response);
        reference("responses", &name)
    }
}

/// What is known of one status that refuses.
#[derive(Default)]
struct Refusal {
    codes: BTreeSet<Code>,
    /// The route named the codes.
    exact: bool,
    description: Option<String>,
    /// What is answered besides a problem.
    content: Object,
}

fn described(headers: Vec<(&str, &str)>) -> Value {
    let entries = headers
        .into_iter()
        .map(|(name, component)| (name.to_owned(), reference("headers", component)));
    Value::Object(entries.collect())
}

/// Whether a description is more than the names of codes.
fn says_more(status: u16, description: &str) -> bool {
    let codes = named(status, description);
    description
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty() && *word != "or")
        .any(|word| codes.iter().all(|code| code.as_str() != word))
}

const fn usual_description(status: u16) -> &'static str {
    match status {
        201 => "Created.",
        202 => "Accepted.",
        204 => "Done. There is nothing to show.",
        206 => "The range that was asked for.",
        304 => "Nothing has changed since the version that the client has.",
        _ => "What was asked for.",
    }
}

/// The body of a request by each of its media types: see [`binary`](super::binary).
fn write_out(operation: &mut Object) {
    let content = operation
        .get_mut("requestBody")
        .map(|body| &mut body["content"]);
    let Some(content) = content.and_then(Value::as_object_mut) else {
        return;
    };
    let ranges: Vec<String> = content
        .keys()
        .filter(|t| t.ends_with("/*"))
        .cloned()
        .collect();
    for range in ranges {
        let types = content[&range]["schema"][MEDIA_TYPES].as_array().cloned();
        let Some(body) = types.as_ref().and_then(|_| content.remove(&range)) else {
            continue;
        };
        for one in types.iter().flatten().filter_map(Value::as_str) {
            content.insert(one.to_owned(), body.clone());
        }
    }
}

/// The first sentence of what is said of a route stands for it in lists.
fn summarize(operation: &mut Object) {
    let said = operation.get("summary").and_then(Value::as_str);
    let Some(said) = said.filter(|_| !operation.contains_key("description")) else {
        return;
    };
    let end = said.find(". ").or(said.find(".\n")).unwrap_or(said.len());
    let first = said.get(..end).unwrap_or(said).trim_end_matches('.');
    let (first, said) = (first.to_owned(), said.to_owned());
    operation.insert("summary".to_owned(), first.into());
    operation.insert("description".to_owned(), said.into());
}

/// A method's name: what is shown here is what a client gets.
fn name(operation: &mut Object) {
    let id = operation.get("operationId").and_then(Value::as_str);
    if let Some(shown) = id.and_then(|id| id.strip_prefix("show_")) {
        let id = format!("get_{shown}");
        operation.insert("operationId".to_owned(), id.into());
    }
}
