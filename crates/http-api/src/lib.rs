#![doc = include_str!("../README.md")]

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
