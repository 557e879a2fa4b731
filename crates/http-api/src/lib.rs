//! The HTTP API, mountable in any actix application.
//!
//! ```
//! let document = rawdrive_http_api::document("https://photos.example.org");
//! assert!(document["paths"]["/v1/signup"]["post"].is_object());
//! ```
//!
//! Invariant: the workspace of a request comes from its credential alone: [`auth::Scoped`] and
//! [`auth::Personal`] and [`auth::Program`], and for a client's link [`shared::Shared`], are the only extractors that yield a scope, and no route reads a workspace's id from path, query, header or body
//! (but for `POST /v1/sessions/switch`, which checks it against membership).

pub mod app;
pub mod auth;
mod billing;
mod client_address;
mod downloads;
mod file_name;
mod form;
mod idempotent_write;
mod ingest_queue;
mod key_uses;
pub mod openapi;
pub mod routes;
pub mod server;
pub mod shared;
pub mod web;

pub use app::{App, Settings};
pub use billing::{Asked, BillingDesk, Desk};
pub use client_address::{InvalidNetworks, TrustedProxies, client_address};
pub use downloads::Downloads;
pub use ingest_queue::IngestQueue;
pub use key_uses::{KeyUses, record_key_uses};
pub use routes::{configure, document};
