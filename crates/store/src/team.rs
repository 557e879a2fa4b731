//! Members and invitations.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use rawdrive_identity::ports::WorkspaceStatus;
use rawdrive_identity::{
    EmailAddress, FoundInvitation, Invitation, InvitationRead, InvitationToken, InvitationTx,
    Inviter, ListedInvitation, Member, PersonName, TeamTx, WorkspaceName, worth,
};
use rawdrive_tenancy_core::id::{InvitationId, TypedId, UserId, WorkspaceId};
use rawdrive_tenancy_core::page::{Page, PageRequest, Position};
use rawdrive_tenancy_core::{Actor, Role, StoreError};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait, QueryFilter, QueryOrder, QueryResult, QuerySelect, Set};
use uuid::Uuid;

use crate::credential_row::{MEMBERSHIPS, role_of};
use crate::entity::{invitations, memberships, sessions};
use crate::reach::Reach;
use crate::scope::{Tenant, column, corrupt, count, failed, query};
use crate::store::{Reader, Store, WriteTx};

const MEMBER: &str = "SELECT m.user_id, m.role, m.joined_at, u.name, u.email
    FROM memberships m JOIN users u ON u.id = m.user_id
    WHERE m.workspace_id = $1 AND m.user_id = $2";

fn member_of(row: &QueryResult) -> Result<Member, StoreError> {
    let user = UserId::from_uuid(column(row, "user_id")?);
    Ok(Member {
        user,
        name: PersonName::from_stored(column(row, "name")?),
        email: EmailAddress::from_stored(column(row, "email")?),
        role: role_of(MEMBERSHIPS, &column::<String>(row, "role")?)?,
        joined_at: column(row, "joined_at")?,
    })
}

fn invitation_of(row: invitations::Model) -> Result<Invitation, StoreError> {
    let id = InvitationId::from_uuid(row.id);
    Ok(Invitation {
        id,
        email: EmailAddress::from_stored(row.email),
        role: role_of("invitations", &row.role)?,
        sponsor: row.sponsor_id.map(UserId::from_uuid),
        invited_by: row.invited_by,
        created_at: row.created_at,
        expires_at: row.expires_at,
    })
}

impl TeamTx for WriteTx {
    fn actor(&self) -> Actor {
        self.scope.actor()
    }

    async fn lock_team(&mut self) -> Result<(), StoreError> {
        // The workspace's row stands for its team.
        self.workspace_row().await.map(|_| ())
    }

    async fn member(&mut self, user: UserId) -> Result<Option<Member>, StoreError> {
        let values = [self.scope.workspace().uuid().into(), user.uuid().into()];
        let rows = query(&self.tx, "read a member", MEMBER, values).await?;
        rows.first().map(member_of).transpose()
    }

    async fn owners(&mut self) -> Result<u64, StoreError> {
        const OWNERS: &str =
            "SELECT count(*) AS owners FROM memberships WHERE workspace_id = $1 AND role = 'owner'";
        let values = [self.scope.workspace().uuid().into()];
        let rows = query(&self.tx, "count owners", OWNERS, values).await?;
        let owners = rows.first().map_or(Ok(0), |row| column(row, "owners"))?;
        count("memberships", "role", owners)
    }

    async fn set_role(&mut self, user: UserId, role: Role) -> Result<(), StoreError> {
        memberships::Entity::scoped_update(&self.scope)
            .col_expr(memberships::Column::Role, Expr::value(role.as_str()))
            .filter(memberships::Column::UserId.eq(user.uuid()))
            .exec(&self.tx)
            .await
            .map_err(failed("change a role"))?;
        // Bills may go to an owner.
        self.review_payer().await
    }

    async fn delete_membership(
        &mut self,
        user: UserId,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        memberships::Entity::scoped_delete(&self.scope)
            .filter(memberships::Column::UserId.eq(user.uuid()))
            .exec(&self.tx)
            .await
            .map_err(failed("delete a membership"))?;
        sessions::Entity::scoped_update(&self.scope)
            .col_expr(sessions::Column::RevokedAt, Expr::value(at))
            .filter(sessions::Column::UserId.eq(user.uuid()))
            .filter(sessions::Column::RevokedAt.is_null())
            .exec(&self.tx)
            .await
            .map_err(failed("end a member's sessions"))?;
        self.review_payer().await
    }
}

impl InvitationTx for WriteTx {
    async fn is_member(&mut self, email: &EmailAddress) -> Result<bool, StoreError> {
        const IS_MEMBER: &str = "SELECT 1 AS one FROM users u
            JOIN memberships m ON m.workspace_id = $1 AND m.user_id = u.id WHERE u.email_folded = $2";
        let values = [self.scope.workspace().uuid().into(), email.folded().into()];
        let rows = query(&self.tx, "look for a member", IS_MEMBER, values).await?;
        Ok(!rows.is_empty())
    }

    async fn insert_invitation(
        &mut self,
        invitation: &Invitation,
        secret_hash: &[u8; 32],
    ) -> Result<bool, StoreError> {
        let row = invitations::ActiveModel {
            id: Set(invitation.id.uuid()),
            email: Set(invitation.email.as_str().to_owned()),
            email_folded: Set(invitation.email.folded()),
            role: Set(invitation.role.as_str().to_owned()),
            sponsor_id: Set(invitation.sponsor.map(|sponsor| sponsor.uuid())),
            secret_hash: Set(secret_hash.to_vec()),
            invited_by: Set(invitation.invited_by.clone()),
            created_at: Set(invitation.created_at),
            expires_at: Set(invitation.expires_at),
            ..Default::default()
        };
        let insert = invitations::Entity::scoped_insert(&self.scope, [row]);
        let address = [
            invitations::Column::WorkspaceId,
            invitations::Column::EmailFolded,
        ];
        let inserted = insert
            .on_conflict(OnConflict::columns(address).do_nothing().to_owned())
            .exec_without_returning(&self.tx)
            .await
            .map_err(failed("insert an invitation"))?;
        Ok(inserted == 1)
    }

    async fn take_invitation(
        &mut self,
        id: InvitationId,
    ) -> Result<Option<Invitation>, StoreError> {
        let found = invitations::Entity::scoped(&self.scope)
            .filter(invitations::Column::Id.eq(id.uuid()))
            .one(&self.tx)
            .await
            .map_err(failed("read an invitation"))?;
        let Some(row) = found else { return Ok(None) };
        let deleted = invitations::Entity::scoped_delete(&self.scope)
            .filter(invitations::Column::Id.eq(id.uuid()))
            .exec(&self.tx)
            .await
            .map_err(failed("use an invitation up"))?;
        if deleted.rows_affected == 0 {
            return Ok(None);
        }
        invitation_of(row).map(Some)
    }

    async fn take_invitations(&mut self, inviter: Inviter) -> Result<Vec<Invitation>, StoreError> {
        let theirs = match inviter {
            Inviter::Sponsor(user) => invitations::Column::SponsorId.eq(user.uuid()),
            Inviter::Key(key) => invitations::Column::InvitedBy.eq(key.to_string()),
        };
        let rows = invitations::Entity::scoped(&self.scope)
            .filter(theirs.clone())
            .order_by_asc(invitations::Column::Id)
            .all(&self.tx)
            .await
            .map_err(failed("read somebody's invitations"))?;
        if !rows.is_empty() {
            invitations::Entity::scoped_delete(&self.scope)
                .filter(theirs)
                .exec(&self.tx)
                .await
                .map_err(failed("delete somebody's invitations"))?;
        }
        rows.into_iter().map(invitation_of).collect()
    }

    async fn take_expired_invitations(&mut self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let deleted = invitations::Entity::scoped_delete(&self.scope)
            .filter(invitations::Column::ExpiresAt.lte(now))
            .exec(&self.tx)
            .await
            .map_err(failed("delete expired invitations"))?;
        Ok(deleted.rows_affected)
    }

    async fn workspace_name(&mut self) -> Result<WorkspaceName, StoreError> {
        let row = self.workspace_row().await?;
        Ok(WorkspaceName::from_stored(row.name))
    }
}

impl InvitationRead for Store {
    async fn invitation(
        &self,
        token: &InvitationToken,
    ) -> Result<Option<FoundInvitation>, StoreError> {
        const FIND: &str =
            "SELECT i.email, i.role, i.sponsor_id, i.secret_hash, i.invited_by, i.created_at,
                i.expires_at, w.status, m.role AS sponsor_role
            FROM invitations i JOIN workspaces w ON w.workspace_id = i.workspace_id
            LEFT JOIN memberships m ON m.workspace_id = i.workspace_id AND m.user_id = i.sponsor_id
            WHERE i.workspace_id = $1 AND i.id = $2";
        let values = [token.workspace().uuid().into(), token.id().uuid().into()];
        let within = self.reads(Reach::Workspace(token.workspace()));
        let rows = query(&within, "find an invitation", FIND, values).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let id = token.id();
        let status: String = column(row, "status")?;
        let sponsor: Option<Uuid> = column(row, "sponsor_id")?;
        let sponsor_role: Option<String> = column(row, "sponsor_role")?;
        Ok(Some(FoundInvitation {
            invitation: Invitation {
                id,
                email: EmailAddress::from_stored(column(row, "email")?),
                role: role_of("invitations", &column::<String>(row, "role")?)?,
                sponsor: sponsor.map(UserId::from_uuid),
                invited_by: column(row, "invited_by")?,
                created_at: column(row, "created_at")?,
                expires_at: column(row, "expires_at")?,
            },
            sponsor_role: sponsor_role
                .map(|role| role_of(MEMBERSHIPS, &role))
                .transpose()?,
            secret_hash: column(row, "secret_hash")?,
            workspace_status: status
                .parse::<WorkspaceStatus>()
                .map_err(|e| corrupt("workspaces", "status", token.workspace(), e))?,
        }))
    }
}

fn after(request: PageRequest) -> Option<Uuid> {
    match request.after {
        Some(Position::Id(id)) => Some(id),
        _ => None,
    }
}

impl Reader {
    /// The members, by user id: the oldest accounts first.
    ///
    /// # Errors
    /// The database does not answer, or a row is corrupt.
    pub async fn members(&self, request: PageRequest) -> Result<Page<Member>, StoreError> {
        const MEMBERS: &str = "SELECT m.user_id, m.role, m.joined_at, u.name, u.email
            FROM memberships m JOIN users u ON u.id = m.user_id
            WHERE m.workspace_id = $1 AND m.user_id > $2 ORDER BY m.user_id LIMIT $3";
        let values = [
            self.scope.workspace().uuid().into(),
            after(request).unwrap_or_default().into(),
            (i64::from(request.limit) + 1).into(),
        ];
        let rows = query(self.db(), "list members", MEMBERS, values).await?;
        let members = rows.iter().map(member_of).collect::<Result<_, _>>()?;
        Ok(Page::cut(members, request.limit, |member: &Member| {
            Position::Id(member.user.uuid())
        }))
    }

    /// The open invitations, oldest first.
    ///
    /// # Errors
    /// The database does not answer, or a row is corrupt.
    pub async fn invitations(
        &self,
        request: PageRequest,
    ) -> Result<Page<ListedInvitation>, StoreError> {
        let mut select = invitations::Entity::scoped(&self.scope)
            .filter(invitations::Column::ExpiresAt.gt(self.store.env().now()))
            .order_by_asc(invitations::Column::Id)
            .limit(u64::from(request.limit) + 1);
        if let Some(id) = after(request) {
            select = select.filter(invitations::Column::Id.gt(id));
        }
        let rows = select
            .all(self.db())
            .await
            .map_err(failed("list invitations"))?;
        let roles = self
            .roles_of(rows.iter().filter_map(|row| row.sponsor_id))
            .await?;
        let listed = |row| {
            let invitation = invitation_of(row)?;
            let sponsor = (invitation.sponsor).and_then(|sponsor| roles.get(&sponsor).copied());
            let worth = worth(invitation.role, sponsor);
            Ok(ListedInvitation { invitation, worth })
        };
        let items = rows
            .into_iter()
            .map(listed)
            .collect::<Result<_, StoreError>>()?;
        Ok(Page::cut(items, request.limit, |i: &ListedInvitation| {
            Position::Id(i.invitation.id.uuid())
        }))
    }

    /// The roles of those among these people who are members.
    pub(crate) async fn roles_of(
        &self,
        users: impl Iterator<Item = Uuid>,
    ) -> Result<BTreeMap<UserId, Role>, StoreError> {
        let users: BTreeSet<Uuid> = users.collect();
        if users.is_empty() {
            return Ok(BTreeMap::new());
        }
        let rows = memberships::Entity::scoped(&self.scope)
            .filter(memberships::Column::UserId.is_in(users))
            .all(self.db())
            .await
            .map_err(failed("read roles"))?;
        let role = |row: memberships::Model| {
            let role = role_of(MEMBERSHIPS, &row.role)?;
            Ok((UserId::from_uuid(row.user_id), role))
        };
        rows.into_iter().map(role).collect()
    }
}

impl Store {
    /// Workspaces that have invitations past their expiry.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn workspaces_with_expired_invitations(
        &self,
    ) -> Result<Vec<WorkspaceId>, StoreError> {
        const EXPIRED: &str =
            "SELECT DISTINCT workspace_id FROM invitations WHERE expires_at <= $1 LIMIT 1000";
        let values = [self.0.env.now().into()];
        let rows = query(
            &self.reads(Reach::Worker),
            "look for expired invitations",
            EXPIRED,
            values,
        )
        .await?;
        rows.iter()
            .map(|row| Ok(WorkspaceId::from_uuid(column(row, "workspace_id")?)))
            .collect()
    }
}
