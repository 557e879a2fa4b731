//! The HTTP edge: what every route has in common, and no route of the product.
//!
//! A handler takes [`Body`] rather than the framework's extractors, so that it decides the order of its
//! refusals (credential, role, body, fields), and answers `Result<_, Problem>`. [`Edge`] is the outermost
//! middleware, [`AllowedMethods::default_service`] the application's default service.
//!
//! Invariant: every refusal leaves as `application/problem+json`, and none holds more than its code's own
//! words, field names and limits; causes go to the log.

pub mod body;
pub mod cors;
mod email_token_pages;
pub mod etag;
pub(crate) mod html;
pub mod idempotency_key;
pub mod json;
pub mod method_not_allowed;
pub mod nullable;
pub mod page;
mod pages;
pub mod problem;
pub mod query;
pub mod range;
mod rate_limits;
mod representation;
pub mod request_id;
pub mod request_log;
mod shape;
mod strict_json;
mod trace_context;
pub mod validate;

pub use body::{Body, JSON_LIMIT_BYTES, Pace, PacedBody, drain, payload_problem, read_bounded};
pub use cors::{CorsOrigins, InvalidOrigins};
pub use email_token_pages::{EMAIL_VERIFICATION_PATH, PASSWORD_RESET_PATH};
pub use etag::{EntityTag, IfMatch, content_etag, etag_of, not_modified, tagged_view, view_etag};
pub use html::page_route;
pub use idempotency_key::{IdempotencyKey, body_digest, fingerprint};
pub use json::{parse_json, read_json};
pub use method_not_allowed::{AllowedMethods, extractor_errors, path_id};
pub use nullable::Nullable;
pub use page::{ListView, NoFilters, PageParams, PageQuery};
pub use pages::{INVITATION_PATH, UPGRADE_PATH};
pub(crate) use pages::{pages, prefers_html};
pub use problem::{Code, FieldError, PROBLEM_JSON, Problem, sentence};
pub(crate) use query::pairs;
pub use query::parse_query;
pub use range::{Wanted, parse_range, wanted};
pub(crate) use rate_limits::RateLimits;
pub use request_id::{RequestId, X_REQUEST_ID};
pub use request_log::Edge;
pub(crate) use request_log::{DrainedByServer, seal};
pub use validate::Validator;

#[cfg(test)]
mod tests;
