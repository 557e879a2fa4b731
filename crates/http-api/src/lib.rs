//! The HTTP API, mountable in any actix application.
//!
//! ```
//! let document = rawdrive_http_api::document(&[], "https://saas.example.org");
//! assert!(document["paths"]["/v1/signup"]["post"].is_object());
//! ```
//!
//! [`App::builder`] puts an application together and [`configure`] mounts it, at the root or below a path. A product's own
//! routes ([`extension::Routes`]) take the same extractors, answer the same problems and stand in the same document.
//!
//! Invariant: the workspace of a request comes from its credential alone: [`auth::Scoped`], [`auth::Reading`],
//! [`auth::Personal`] and [`auth::Program`] are the only extractors that yield a scope, and no route reads a workspace's id
//! from path, query, header or body (but for `POST /v1/sessions/switch` and the page that does the same, which check it
//! against membership). A page's cookie is taken by that page alone, and by no route of the API.

pub mod app;
pub mod auth;
mod billing;
mod client_address;
pub mod extension;
pub mod idempotent_write;
mod ingest_queue;
mod key_uses;
pub mod openapi;
mod pages;
mod problems;
pub mod routes;
pub mod server;
pub mod throttle;
mod vocabulary;
pub mod web;

pub use app::{App, AppBuilder, Dependency, Settings, time};
pub use billing::{Asked, BillingDesk, Desk};
pub use client_address::{InvalidNetworks, TrustedProxies, client_address};
pub use ingest_queue::IngestQueue;
pub use key_uses::{KeyUses, record_key_uses};
pub use routes::{configure, document};
