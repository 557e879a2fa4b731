//! Who acts, and in which workspace: the key to every tenant row and byte.

use std::fmt;
use std::str::FromStr;

use crate::id::{ApiKeyId, ClientId, SessionId, UserId, WorkspaceId};

/// What a member may do. Ordered: each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Works with photos.
    Member,
    /// Also manages people, branding and settings.
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

/// Why something acts in a workspace without a member behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SystemReason {
    /// A person is creating the workspace and becomes its owner in the same transaction.
    SignUp,
    /// A password was proved; the session's workspace is being opened.
    SignIn,
    /// A token that names the workspace is being checked inside it.
    Authenticate,
    /// An invitation was proved, and somebody becomes a member by it.
    AcceptInvitation,
    /// The leased job runner.
    Job,
    /// An operator at the command line.
    Operator,
    /// `doctor` reads every workspace.
    Doctor,
}

impl SystemReason {
    /// The name in audit entries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignUp => "sign_up",
            Self::SignIn => "sign_in",
            Self::Authenticate => "authenticate",
            Self::AcceptInvitation => "accept_invitation",
            Self::Job => "job",
            Self::Operator => "operator",
            Self::Doctor => "doctor",
        }
    }

    const ALL: [Self; 7] = [
        Self::SignUp,
        Self::SignIn,
        Self::Authenticate,
        Self::AcceptInvitation,
        Self::Job,
        Self::Operator,
        Self::Doctor,
    ];
}

/// Who did it, as audit and ledger record it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A member.
    User(UserId),
    /// A program, by an API key.
    Key(ApiKeyId),
    /// A client, by the link that was mailed to them.
    Client(ClientId),
    /// Nobody: the system, for a reason.
    System(SystemReason),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => id.fmt(f),
            Self::Key(id) => id.fmt(f),
            Self::Client(id) => id.fmt(f),
            Self::System(reason) => write!(f, "system:{}", reason.as_str()),
        }
    }
}

/// A text that names nobody who acts.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected an id of a user, a key or a client, or system: and a reason")]
pub struct UnknownActor;

impl FromStr for Actor {
    type Err = UnknownActor;
    fn from_str(text: &str) -> Result<Self, UnknownActor> {
        if let Some(reason) = text.strip_prefix("system:") {
            let mut all = SystemReason::ALL.into_iter();
            let known = all.find(|r| r.as_str() == reason);
            return known.map(Self::System).ok_or(UnknownActor);
        }
        let user = text.parse().map(Self::User);
        let key = |_| text.parse().map(Self::Key);
        let client = |_| text.parse().map(Self::Client);
        user.or_else(key).or_else(client).map_err(|_| UnknownActor)
    }
}

/// A membership as it stands in the database at this request. It cannot be made up: its fields are
/// private, and the one constructor is forbidden by lint outside the store.
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
    /// States that the store has just read this membership. Loud on purpose: `clippy.toml` forbids it
    /// outside the store's own reading of the row.
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
    /// States that the store has just read this key and its secret was proved. Loud on purpose, as
    /// [`Membership::attest`].
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

/// A client's link as it stands in the database at this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkGrant {
    workspace: WorkspaceId,
    client: ClientId,
}

impl LinkGrant {
    /// States that the store has just read this link and its secret was proved. Loud on purpose, as
    /// [`Membership::attest`].
    #[must_use]
    pub const fn attest(workspace: WorkspaceId, client: ClientId) -> Self {
        Self { workspace, client }
    }

    /// The workspace.
    #[must_use]
    pub const fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    /// Whose link it is.
    #[must_use]
    pub const fn client(&self) -> ClientId {
        self.client
    }
}

/// The right to touch one workspace's rows and bytes, and the name under which it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkspaceScope {
    workspace: WorkspaceId,
    actor: Actor,
}

impl WorkspaceScope {
    /// The scope of a member's request.
    #[must_use]
    pub const fn for_member(membership: &Membership) -> Self {
        Self {
            workspace: membership.workspace,
            actor: Actor::User(membership.user),
        }
    }

    /// The scope of a program's request.
    #[must_use]
    pub const fn for_key(grant: &KeyGrant) -> Self {
        Self {
            workspace: grant.workspace,
            actor: Actor::Key(grant.key),
        }
    }

    /// The scope of a client's request. What the client may see of the workspace, the routes of shared
    /// galleries ask for by the client's id.
    #[must_use]
    pub const fn for_client(grant: &LinkGrant) -> Self {
        Self {
            workspace: grant.workspace,
            actor: Actor::Client(grant.client),
        }
    }

    /// The scope of something that no member does. Loud on purpose: `clippy.toml` forbids it outside the
    /// few places that say why they may.
    #[must_use]
    pub const fn for_system(workspace: WorkspaceId, reason: SystemReason) -> Self {
        Self {
            workspace,
            actor: Actor::System(reason),
        }
    }

    /// The same workspace, where what somebody has asked for is carried out later: they are who did it. Loud on
    /// purpose, as [`WorkspaceScope::for_system`].
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
    use uuid::Uuid;

    use super::*;
    use crate::id::TypedId as _;

    #[test]
    fn who_acts_is_read_as_it_is_written() {
        let id = Uuid::from_u128(7);
        let people = [
            Actor::User(UserId::from_uuid(id)),
            Actor::Key(ApiKeyId::from_uuid(id)),
            Actor::Client(ClientId::from_uuid(id)),
        ];
        for actor in people
            .into_iter()
            .chain(SystemReason::ALL.map(Actor::System))
        {
            assert_eq!(actor.to_string().parse(), Ok(actor));
        }
        for text in ["", "usr_", "system:", "system:nobody", "ws_1", "job"] {
            assert_eq!(text.parse::<Actor>(), Err(UnknownActor), "{text}");
        }
    }
}
