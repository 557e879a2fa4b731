#![doc = include_str!("../README.md")]

pub mod audit;
#[cfg(feature = "cursors")]
mod cursor;
pub mod env;
pub mod error;
pub mod event;
pub mod id;
pub mod job;
pub mod name;
pub mod page;
pub mod scope;
#[cfg(feature = "text")]
pub mod text;

pub use env::Env;
pub use error::{Causes, StoreError};
pub use name::ShortName;
pub use scope::{
    Actor, Guest, KeyGrant, Membership, Role, SystemReason, UnknownActor, WorkspaceScope,
};

/// A transaction that stands only when it is committed; dropping it rolls back.
pub trait Commit: Send {
    /// Makes everything durable.
    fn commit(self) -> impl Future<Output = Result<(), StoreError>> + Send;
}
