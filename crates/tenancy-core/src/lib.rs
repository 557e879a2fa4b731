//! The vocabulary every other crate speaks: who acts, in which workspace, at what time.
//!
//! A [`WorkspaceScope`] is the only key to tenant data: `rawdrive_identity::authenticate` answers one for a credential
//! of ours, [`WorkspaceScope::trusted`] is the way of a service with its own login.
//!
//! ```
//! use rawdrive_tenancy_core::id::{SessionId, WorkspaceId};
//! let id: WorkspaceId = "ws_01890000000070008000000000000001".parse()?;
//! assert_eq!(id.to_string(), "ws_01890000000070008000000000000001");
//! assert!("ses_01890000000070008000000000000001".parse::<WorkspaceId>().is_err());
//! assert!("ses_01890000000070008000000000000001".parse::<SessionId>().is_ok());
//! # Ok::<(), rawdrive_tenancy_core::id::IdError>(())
//! ```
//!
//! Invariant: nothing in this workspace reads the wall clock, makes an id or draws a random byte except
//! through [`Env`].

pub mod audit;
pub mod env;
pub mod error;
pub mod event;
pub mod id;
pub mod job;
pub mod name;
pub mod page;
pub mod scope;
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
