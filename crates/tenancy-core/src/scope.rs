//! Who acts, and in which workspace: the key to every tenant row and byte.
//!
//! There are two ways to a [`WorkspaceScope`]. With our accounts, `rawdrive_identity::authenticate` finds out who
//! presents a credential, and `Caller::admit` answers the scope. A service with its own login says who acts with
//! [`WorkspaceScope::trusted`], once, where it has just checked its own session.
//!
//! What an embedder has: a scope's fields are private, every handle is opened with one, and no method takes a
//! workspace besides; keys and, on PostgreSQL, row-level security hold what a statement says. What it has not: the
//! lints of this repository. Nothing stops its code from calling `trusted` with the wrong workspace, or from naming
//! what the feature `attest` shows: Cargo turns a feature on for everybody as soon as one crate of the build asks for
//! it, and the crates from `identity` on do. Those names are hidden, and may change in any release. Without them:
//!
#![cfg_attr(not(feature = "attest"), doc = "```compile_fail,E0599")]
#![cfg_attr(feature = "attest", doc = "```no_run")]
//! use rawdrive_tenancy_core::id::WorkspaceId;
//! use rawdrive_tenancy_core::{SystemReason, WorkspaceScope};
//! fn attempt(workspace: WorkspaceId) -> WorkspaceScope {
//!     WorkspaceScope::for_system(workspace, SystemReason::JOB)
//! }
//! ```

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::id::{ApiKeyId, SessionId, TypedId, UserId, WorkspaceId, parse_digits};
use crate::name::ShortName;

/// What a member may do. Ordered: each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Works with what the workspace holds.
    Member,
    /// Also manages people and settings.
    Admin,
    /// Also answers for money and for the workspace's existence.
    Owner,
}

impl Role {
    /// The name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no role.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected owner, admin or member")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        [Self::Member, Self::Admin, Self::Owner]
            .into_iter()
            .find(|r| r.as_str() == text)
            .ok_or(UnknownRole)
    }
}

/// Why something acts in a workspace without a member behind it: a stable name, which audit entries keep. An embedder
/// declares its own: `const NIGHTLY: SystemReason = SystemReason::new("nightly_report");`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SystemReason(ShortName);

impl SystemReason {
    /// A person is creating the workspace and becomes its owner in the same transaction.
    pub const SIGN_UP: Self = Self::new("sign_up");
    /// A password was proved; the session's workspace is being opened.
    pub const SIGN_IN: Self = Self::new("sign_in");
    /// A token that names the workspace is being checked inside it.
    pub const AUTHENTICATE: Self = Self::new("authenticate");
    /// An invitation was proved, and somebody becomes a member by it.
    pub const ACCEPT_INVITATION: Self = Self::new("accept_invitation");
    /// A leased job.
    pub const JOB: Self = Self::new("job");
    /// An operator at the command line.
    pub const OPERATOR: Self = Self::new("operator");
    /// `doctor` reads every workspace.
    pub const DOCTOR: Self = Self::new("doctor");

    /// A reason by its name.
    ///
    /// # Panics
    /// For a text that is no [`ShortName`]; in a constant, the compiler says so.
    #[must_use]
    pub const fn new(name: &str) -> Self {
        Self(ShortName::new(name))
    }
}

impl fmt::Display for SystemReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Somebody without an account, whom the product lets in by credentials of its own; known by a typed id of the
/// product's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guest {
    kind: ShortName,
    id: Uuid,
}

impl Guest {
    /// The guest of an id, whose prefix says of what kind they are.
    ///
    /// # Panics
    /// For a kind of id whose prefix is no [`ShortName`].
    #[must_use]
    pub fn of<T: TypedId>(id: T) -> Self {
        Self {
            kind: ShortName::new(T::PREFIX),
            id: id.uuid(),
        }
    }

    /// The id, where it is of this kind.
    #[must_use]
    pub fn id<T: TypedId>(&self) -> Option<T> {
        (self.kind.as_str() == T::PREFIX).then(|| T::from_uuid(self.id))
    }
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.kind, self.id.simple())
    }
}

/// Who did it, as audit and ledger record it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A member.
    User(UserId),
    /// A program, by an API key.
    Key(ApiKeyId),
    /// Somebody without an account.
    Guest(Guest),
    /// Nobody: the system, for a reason.
    System(SystemReason),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => id.fmt(f),
            Self::Key(id) => id.fmt(f),
            Self::Guest(guest) => guest.fmt(f),
            Self::System(reason) => write!(f, "system:{reason}"),
        }
    }
}

/// A text that names nobody who acts.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected an id of a user, a key or a guest, or system: and a reason")]
pub struct UnknownActor;

impl FromStr for Actor {
    type Err = UnknownActor;
    fn from_str(text: &str) -> Result<Self, UnknownActor> {
        if let Some(reason) = text.strip_prefix("system:") {
            let reason = reason.parse().map_err(|_| UnknownActor)?;
            return Ok(Self::System(SystemReason(reason)));
        }
        let (kind, digits) = text.rsplit_once('_').ok_or(UnknownActor)?;
        let id = parse_digits(digits).ok_or(UnknownActor)?;
        Ok(match kind {
            UserId::PREFIX => Self::User(UserId::from_uuid(id)),
            ApiKeyId::PREFIX => Self::Key(ApiKeyId::from_uuid(id)),
            kind => Self::Guest(Guest {
                kind: kind.parse().map_err(|_| UnknownActor)?,
                id,
            }),
        })
    }
}

/// A membership as it stands in the database at this request. It cannot be made up: its fields are
/// private, and its one constructor is the store's.
///
/// ```compile_fail
/// use rawdrive_tenancy_core::{Membership, Role};
/// let forged = Membership { role: Role::Owner };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    workspace: WorkspaceId,
    user: UserId,
    role: Role,
    session: SessionId,
}

impl Membership {
    /// States that the store has just read this membership. `clippy.toml` forbids it outside the store's own reading
    /// of the row.
    #[cfg(any(test, feature = "attest"))]
    #[doc(hidden)]
    #[must_use]
    pub const fn attest(
        workspace: WorkspaceId,
        user: UserId,
        role: Role,
        session: SessionId,
    ) -> Self {
        Self {
            workspace,
            user,
            role,
            session,
        }
    }

    /// The workspace.
    #[must_use]
    pub const fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    /// The member.
    #[must_use]
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// The member's role at this request.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The session that authenticated this request.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }
}

/// An API key as it stands in the database at this request: what a [`Membership`] is for a person. It
/// cannot be made up either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyGrant {
    workspace: WorkspaceId,
    key: ApiKeyId,
    role: Role,
}

impl KeyGrant {
    /// States that the store has just read this key and its secret was proved.
    #[cfg(any(test, feature = "attest"))]
    #[doc(hidden)]
    #[must_use]
    pub const fn attest(workspace: WorkspaceId, key: ApiKeyId, role: Role) -> Self {
        Self {
            workspace,
            key,
            role,
        }
    }

    /// The workspace.
    #[must_use]
    pub const fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> ApiKeyId {
        self.key
    }

    /// The key's role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }
}

/// The right to touch one workspace's rows and bytes, and the name under which it is done. How to get one, and what
/// it holds: see [the module](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkspaceScope {
    workspace: WorkspaceId,
    actor: Actor,
}

impl WorkspaceScope {
    /// The scope of a member's request.
    #[cfg(any(test, feature = "attest"))]
    #[doc(hidden)]
    #[must_use]
    pub const fn for_member(membership: &Membership) -> Self {
        Self {
            workspace: membership.workspace,
            actor: Actor::User(membership.user),
        }
    }

    /// The scope of a program's request.
    #[cfg(any(test, feature = "attest"))]
    #[doc(hidden)]
    #[must_use]
    pub const fn for_key(grant: &KeyGrant) -> Self {
        Self {
            workspace: grant.workspace,
            actor: Actor::Key(grant.key),
        }
    }

    /// The scope of a service that has its own way of knowing who acts: its own login, its own guests, its own jobs. The
    /// caller vouches that this actor may act in this workspace; nothing here checks it. Call it in one place, where
    /// the session has just been checked, with the workspace that the session names, never with one from a request's
    /// path or body. `clippy.toml` of this repository forbids it outside the places that say why they may.
    #[must_use]
    pub const fn trusted(workspace: WorkspaceId, actor: Actor) -> Self {
        Self { workspace, actor }
    }

    /// The scope of something that no member does. `clippy.toml` forbids it outside the few places that say why they
    /// may.
    #[cfg(any(test, feature = "attest"))]
    #[doc(hidden)]
    #[must_use]
    pub const fn for_system(workspace: WorkspaceId, reason: SystemReason) -> Self {
        Self {
            workspace,
            actor: Actor::System(reason),
        }
    }

    /// The same workspace, where what somebody has asked for is carried out later: they are who did it.
    #[cfg(any(test, feature = "attest"))]
    #[doc(hidden)]
    #[must_use]
    pub const fn on_behalf_of(self, actor: Actor) -> Self {
        Self { actor, ..self }
    }

    /// The workspace.
    #[must_use]
    pub const fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    /// Who acts.
    #[must_use]
    pub const fn actor(&self) -> Actor {
        self.actor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_acts_is_read_as_it_is_written() {
        let id = Uuid::from_u128(7);
        let guest = "cli_00000000000000000000000000000007";
        for actor in [
            Actor::User(UserId::from_uuid(id)),
            Actor::Key(ApiKeyId::from_uuid(id)),
            guest.parse().unwrap(),
            Actor::System(SystemReason::SIGN_UP),
            Actor::System(SystemReason::new("nightly_report")),
        ] {
            assert_eq!(actor.to_string().parse(), Ok(actor));
        }
        for text in [
            "",
            "usr_",
            "system:",
            "system:Nobody",
            "ws_1",
            "job",
            "_1",
            "A_1",
        ] {
            assert_eq!(text.parse::<Actor>(), Err(UnknownActor), "{text}");
        }
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the test looks at what is said, and opens nothing with it"
    )]
    fn what_is_attested_is_said_again() {
        let (here, user) = (
            WorkspaceId::from_uuid(Uuid::from_u128(1)),
            UserId::from_uuid(Uuid::from_u128(2)),
        );
        let session = SessionId::from_uuid(Uuid::from_u128(3));
        let member = Membership::attest(here, user, Role::Admin, session);
        assert_eq!((member.workspace(), member.user()), (here, user));
        assert_eq!((member.role(), member.session()), (Role::Admin, session));
        let scope = WorkspaceScope::for_member(&member);
        assert_eq!(
            (scope.workspace(), scope.actor()),
            (here, Actor::User(user))
        );

        let key = ApiKeyId::from_uuid(Uuid::from_u128(4));
        let grant = KeyGrant::attest(here, key, Role::Member);
        assert_eq!(
            (grant.workspace(), grant.key(), grant.role()),
            (here, key, Role::Member)
        );
        let scope = WorkspaceScope::for_key(&grant);
        assert_eq!((scope.workspace(), scope.actor()), (here, Actor::Key(key)));

        let system = WorkspaceScope::for_system(here, SystemReason::JOB);
        assert_eq!(
            (system.workspace(), system.actor()),
            (here, Actor::System(SystemReason::JOB))
        );
        let theirs = system.on_behalf_of(Actor::User(user));
        assert_eq!(
            (theirs.workspace(), theirs.actor()),
            (here, Actor::User(user))
        );
    }

    #[expect(unreachable_pub, reason = "ids are public where they are declared")]
    mod visitors {
        crate::typed_id! {
            /// A visitor.
            VisitorId = "vis";
        }
    }

    #[test]
    fn a_guest_is_known_by_an_id_of_its_own_kind_alone() {
        use visitors::VisitorId;
        let visitor = VisitorId::from_uuid(Uuid::from_u128(7));
        let guest = Guest::of(visitor);
        assert_eq!(guest.to_string(), visitor.to_string());
        assert_eq!((guest.id(), guest.id::<UserId>()), (Some(visitor), None));
    }
}
