//! What answers when no route does, and what replaces the framework's own errors.

use std::sync::Arc;

use actix_web::dev::ResourceDef;
use actix_web::http::{Method, header};
use actix_web::{HttpRequest, HttpResponse, Route, web};
use rawdrive_tenancy_core::id::TypedId;
use utoipa::openapi::{OpenApi, PathItem};

use super::pages::{PAGE_PATHS, missing_page, prefers_html};
use super::problem::{Code, FieldError, Problem};

/// What some address or other answers.
const EVERY_METHOD: &str = "GET, HEAD, POST, PATCH, DELETE, OPTIONS";

/// Which methods each path of the API's document answers.
#[derive(Debug, Clone)]
pub struct AllowedMethods {
    paths: Arc<[(ResourceDef, Vec<&'static str>)]>,
    prefix: Arc<str>,
}

impl AllowedMethods {
    /// Reads the document once, at the start, and adds the pages that are not in it: the core's, and `pages`. All of it
    /// is mounted below `prefix`.
    #[must_use]
    pub fn of<'a>(
        document: &'a OpenApi,
        pages: impl IntoIterator<Item = &'a str>,
        prefix: &str,
    ) -> Self {
        let documented = document
            .paths
            .paths
            .iter()
            .map(|(path, item)| (path.as_str(), methods(item)));
        let pages = pages.into_iter().map(|path| (path, &["GET"][..]));
        let pages = PAGE_PATHS.into_iter().chain(pages);
        Self {
            paths: documented
                .chain(pages.map(|(path, methods)| (path, methods.to_vec())))
                .map(|(path, methods)| (ResourceDef::new(format!("{prefix}{path}")), methods))
                .collect(),
            prefix: prefix.into(),
        }
    }

    /// The value of `Allow` for a path, or nothing if the path does not exist.
    #[must_use]
    pub fn allow(&self, path: &str) -> Option<String> {
        // Two patterns can match one path (`/members/{id}`, `/members/me`); routing tries them all.
        let mut allowed: Vec<&str> = Vec::new();
        for (_, methods) in self
            .paths
            .iter()
            .filter(|(pattern, _)| pattern.is_match(path))
        {
            allowed.extend(
                methods
                    .iter()
                    .filter(|method| !allowed.contains(method))
                    .copied()
                    .collect::<Vec<_>>(),
            );
        }
        if allowed.is_empty() {
            return None;
        }
        if allowed.contains(&"GET") && !allowed.contains(&"HEAD") {
            // `Edge` answers HEAD as GET without its body.
            allowed.push("HEAD");
        }
        if !allowed.contains(&"OPTIONS") {
            allowed.push("OPTIONS");
        }
        Some(allowed.join(", "))
    }

    /// The answer to a request that no route took.
    ///
    /// # Errors
    /// 405 with `Allow` if the path exists, otherwise 404.
    pub fn answer(&self, method: &Method, path: &str) -> Result<HttpResponse, Problem> {
        // `OPTIONS *` asks for what the server can do, and `CONNECT` names no path at all.
        let whole_server = method == Method::CONNECT || method == Method::OPTIONS && path == "*";
        let allow = if whole_server {
            EVERY_METHOD.to_owned()
        } else {
            self.allow(path).ok_or_else(Problem::not_found)?
        };
        if method == Method::OPTIONS {
            return Ok(HttpResponse::NoContent()
                .insert_header((header::ALLOW, allow))
                .finish());
        }
        Err(Problem::new(
            Code::MethodNotAllowed,
            format!("This address answers {allow}."),
        )
        .header(header::ALLOW, allow))
    }

    /// The default service of the application.
    pub fn default_service(&self) -> Route {
        let allowed = self.clone();
        web::to(move |request: HttpRequest| {
            // The path as the router saw it: with needless percent-encoding undone.
            let answer = allowed.answer(request.method(), request.match_info().as_str());
            std::future::ready(match answer {
                Err(problem)
                    if problem.code == Code::NotFound && prefers_html(request.headers()) =>
                {
                    Ok(missing_page(&allowed.prefix))
                }
                answer => answer,
            })
        })
    }
}

fn methods(item: &PathItem) -> Vec<&'static str> {
    [
        ("GET", &item.get),
        ("HEAD", &item.head),
        ("POST", &item.post),
        ("PUT", &item.put),
        ("PATCH", &item.patch),
        ("DELETE", &item.delete),
        ("OPTIONS", &item.options),
        ("TRACE", &item.trace),
    ]
    .into_iter()
    .filter(|(_, operation)| operation.is_some())
    .map(|(name, _)| name)
    .collect()
}

/// An id out of a path. A malformed one answers exactly as an unknown one.
///
/// # Errors
/// 404.
pub fn path_id<I: TypedId>(text: &str) -> Result<I, Problem> {
    text.parse().map_err(|_| Problem::not_found())
}

/// Makes the framework's own extractors refuse with problems. Our handlers read bodies and queries by
/// [`Body`](super::Body) and [`parse_query`](super::parse_query); this is for the others.
pub fn extractor_errors(config: &mut web::ServiceConfig) {
    config
        .app_data(web::PathConfig::default().error_handler(|_, _| Problem::not_found().into()))
        .app_data(web::QueryConfig::default().error_handler(|_, _| {
            Problem::invalid_field("query", "a parameter is missing, unknown or unreadable").into()
        }))
        .app_data(web::JsonConfig::default().error_handler(|error, _| json_problem(error).into()))
        .app_data(web::FormConfig::default().error_handler(|error, _| form_problem(error).into()));
}

fn json_problem(error: actix_web::error::JsonPayloadError) -> Problem {
    use actix_web::error::JsonPayloadError as E;
    match error {
        E::OverflowKnownLength { limit, .. } | E::Overflow { limit } => {
            Problem::payload_too_large(limit as u64)
        }
        E::ContentType => Problem::unsupported_media_type("application/json"),
        E::Deserialize(e) if e.is_data() => Problem::validation(vec![FieldError::new(
            "body",
            "a field is missing, unknown or of the wrong type",
        )]),
        _ => Problem::malformed("The body could not be read as JSON."),
    }
}

fn form_problem(error: actix_web::error::UrlencodedError) -> Problem {
    use actix_web::error::UrlencodedError as E;
    match error {
        E::Overflow { limit, .. } => Problem::payload_too_large(limit as u64),
        E::ContentType => Problem::unsupported_media_type("application/x-www-form-urlencoded"),
        _ => Problem::malformed("The body could not be read as a form."),
    }
}
