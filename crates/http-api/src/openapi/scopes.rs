//! Which scope each operation asks for.
//!
//! An operation that says nothing asks for its tag's: `usage:read` where it reads, `usage:write` otherwise. One that asks
//! for another names it in its own `security(("bearer" = ["plans:read"]))`, and one that any credential may use names
//! [`ANY`]. The document shows the same.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};
use utoipa::openapi::OpenApi;

use super::{Object, operations_of};

/// In the place of a scope: any credential may use the operation, whatever its scopes.
pub const ANY: &str = "any";

const SCHEME: &str = "bearer";

/// What an operation asks of a credential's scopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Needed {
    /// Nothing.
    Nothing,
    /// This one.
    Scope(String),
    /// The operation is in no document: what is restricted may not use it.
    Everything,
}

/// Which scopes there are, and which operation asks for which.
#[derive(Debug, Clone, Default)]
pub struct OperationScopes {
    by_operation: HashMap<(String, String), Needed>,
    names: BTreeSet<String>,
}

impl OperationScopes {
    /// Reads the routes' declarations once, at the start.
    #[must_use]
    pub fn of(declared: &OpenApi) -> Self {
        // Names and texts alone: there is nothing that could fail to serialize.
        let document = serde_json::to_value(declared).unwrap_or_default();
        let mut scopes = Self::default();
        for (path, method, operation) in operations_of(&document) {
            let Some(needed) = needed(method, operation) else {
                continue;
            };
            if let Needed::Scope(name) = &needed {
                scopes.names.insert(name.clone());
            }
            let key = (method.to_ascii_uppercase(), path.to_owned());
            scopes.by_operation.insert(key, needed);
        }
        scopes
    }

    /// Every scope there is.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether there is a scope of that name.
    #[must_use]
    pub fn is_known(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// What the operation at a route's pattern asks for. Routes may be mounted below another path.
    pub(crate) fn needed(&self, method: &str, pattern: &str) -> Needed {
        let find = |path: &str| self.by_operation.get(&(method.to_owned(), path.to_owned()));
        let below = || {
            let starts = pattern.match_indices('/').map(|(at, _)| at).skip(1);
            starts.filter_map(|at| find(pattern.get(at..)?)).next()
        };
        let found = find(pattern).or_else(below);
        found.cloned().unwrap_or(Needed::Everything)
    }
}

/// What an operation asks for; nothing where it asks for no credential.
fn needed(method: &str, operation: &Object) -> Option<Needed> {
    let requirements = operation.get("security")?.as_array()?;
    let declared = requirements.first()?.get(SCHEME)?.as_array()?;
    if requirements.len() != 1 {
        return None;
    }
    match declared.first().and_then(Value::as_str) {
        Some(ANY) => Some(Needed::Nothing),
        Some(scope) => Some(Needed::Scope(scope.to_owned())),
        None => {
            let tag = operation.get("tags")?.as_array()?.first()?.as_str()?;
            let kind = if method == "get" { "read" } else { "write" };
            Some(Needed::Scope(format!("{tag}:{kind}")))
        }
    }
}

/// Shows in the document what each operation asks for.
pub(super) fn show(document: &mut Value) {
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (_, item) in paths {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            let Some(operation) = operation.as_object_mut() else {
                continue;
            };
            let scopes = match needed(method, operation) {
                None => continue,
                Some(Needed::Scope(scope)) => vec![scope],
                Some(Needed::Nothing | Needed::Everything) => Vec::new(),
            };
            operation.insert("security".to_owned(), json!([{ SCHEME: scopes }]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(tag: &str, security: Value) -> Object {
        let operation = json!({ "tags": [tag], "security": security });
        operation.as_object().unwrap().clone()
    }

    #[test]
    fn an_operation_asks_for_its_tags_scope_unless_it_names_another() {
        let scope = |name: &str| Some(Needed::Scope(name.to_owned()));
        let own = operation("usage", json!([{ "bearer": [] }]));
        assert_eq!(needed("get", &own), scope("usage:read"));
        assert_eq!(needed("delete", &own), scope("usage:write"));
        let named = operation("plans", json!([{ "bearer": ["plans:read"] }]));
        assert_eq!(needed("post", &named), scope("plans:read"));
        let any = operation("identity", json!([{ "bearer": ["any"] }]));
        assert_eq!(needed("get", &any), Some(Needed::Nothing));
        for public in [json!([]), json!([{}, { "bearer": [] }])] {
            assert_eq!(needed("get", &operation("shared", public)), None);
        }
    }

    #[test]
    fn routes_are_found_below_another_path_and_unknown_ones_ask_for_everything() {
        let scopes = OperationScopes::of(&crate::routes::declared(&[]));
        let usage = Needed::Scope("usage:read".to_owned());
        assert_eq!(scopes.needed("GET", "/v1/usage"), usage);
        assert_eq!(scopes.needed("GET", "/api/v1/usage"), usage);
        assert_eq!(scopes.needed("GET", "/v1/me"), Needed::Nothing);
        assert_eq!(scopes.needed("GET", "/elsewhere"), Needed::Everything);
        assert!(scopes.is_known("usage:read") && scopes.is_known("usage:write"));
    }
}
