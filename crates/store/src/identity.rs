//! Users, memberships, sessions, signing keys, attempts.

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_identity::ports::{
    Attempt, Authenticated, Belonging, CounterKey, IdentityRead, IdentityTx, InsertUserError,
    NewRefresh, NewSession, NewWorkspace, PasswordAttempts, RefreshRow, SigningKeys, User,
    UserUpdate, WorkspaceStatus,
};
use rawdrive_identity::{
    AccessClaims, Count, EmailAddress, PasswordHash, PersonName, SealedKey, StrangerMailTx,
    WorkspaceName,
};
use rawdrive_tenancy_core::id::{RefreshId, SessionId, TypedId, UserId, WorkspaceId};
use rawdrive_tenancy_core::{Role, StoreError};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait, ConnectionTrait, QueryFilter, QueryResult, Set};

use crate::connection::Tx;
use crate::credential_row::{MEMBERSHIPS, authenticated, epoch, role_of, session_row, status_of};
use crate::entity::{memberships, refresh_tokens, sessions, signing_keys, users, workspaces};
use crate::reach::Reach;
use crate::scope::{
    Tenant, column, corrupt, execute, failed, global, global_insert, locks_rows, query,
};
use crate::store::{Store, WriteTx};

fn user_of(row: users::Model) -> Result<User, StoreError> {
    let id = UserId::from_uuid(row.id);
    Ok(User {
        id,
        email: EmailAddress::from_stored(row.email),
        name: PersonName::from_stored(row.name),
        password_hash: PasswordHash::from_stored(row.password_hash),
        session_epoch: epoch("users", row.session_epoch)?,
        created_at: row.created_at,
        email_verified_at: row.email_verified_at,
    })
}

async fn user_by_id(id: UserId, on: &impl ConnectionTrait) -> Result<Option<User>, StoreError> {
    let row = global::<users::Entity>()
        .filter(users::Column::Id.eq(id.uuid()))
        .one(on)
        .await;
    row.map_err(failed("read a user"))?.map(user_of).transpose()
}

// `users` is a global table and has no scope to begin with: these statements name one user by id.
const UPDATE_USER: &str = "UPDATE users SET name = coalesce($2, name), password_hash = coalesce($3, password_hash) WHERE id = $1";
const BUMP_EPOCH: &str =
    "UPDATE users SET session_epoch = session_epoch + 1 WHERE id = $1 RETURNING session_epoch";
const NOTE_LAST: &str = "UPDATE users SET last_workspace_id = $2 WHERE id = $1";
const REFRESH: &str =
    "SELECT r.secret_hash, r.expires_at, r.used_at, s.id AS session_id, s.revoked_at,
        s.expires_at AS session_expires_at, s.epoch, s.user_id, u.session_epoch, m.role, w.status
    FROM refresh_tokens r
    JOIN sessions s ON s.workspace_id = r.workspace_id AND s.id = r.session_id
    JOIN users u ON u.id = s.user_id
    JOIN workspaces w ON w.workspace_id = r.workspace_id
    LEFT JOIN memberships m ON m.workspace_id = r.workspace_id AND m.user_id = s.user_id
    WHERE r.workspace_id = $1 AND r.id = $2";

impl IdentityTx for WriteTx {
    fn workspace(&self) -> WorkspaceId {
        self.scope.workspace()
    }

    async fn insert_user(&mut self, user: &User) -> Result<(), InsertUserError> {
        let row = users::ActiveModel {
            id: Set(user.id.uuid()),
            email: Set(user.email.as_str().to_owned()),
            email_folded: Set(user.email.folded()),
            name: Set(user.name.as_str().to_owned()),
            password_hash: Set(user.password_hash.expose().to_owned()),
            session_epoch: Set(i64::from(user.session_epoch)),
            last_workspace_id: Set(None),
            created_at: Set(user.created_at),
            email_verified_at: Set(user.email_verified_at),
        };
        // A failed insert would end the transaction, where the caller may have more to say in it.
        let unless_taken = OnConflict::column(users::Column::EmailFolded)
            .do_nothing()
            .to_owned();
        let inserted = global_insert(row)
            .on_conflict(unless_taken)
            .exec_without_returning(&self.tx)
            .await
            .map_err(failed("insert a user"))?;
        if inserted == 1 {
            Ok(())
        } else {
            Err(InsertUserError::EmailTaken)
        }
    }

    async fn insert_workspace(&mut self, workspace: &NewWorkspace) -> Result<(), StoreError> {
        let row = workspaces::ActiveModel {
            name: Set(workspace.name.as_str().to_owned()),
            slug: Set(workspace.slug.clone()),
            billing_email: Set(workspace
                .billing_email
                .as_ref()
                .map(|e| e.as_str().to_owned())),
            currency: Set(workspace.currency.as_str().to_owned()),
            status: Set(WorkspaceStatus::Active.as_str().to_owned()),
            created_at: Set(workspace.created_at),
            updated_at: Set(workspace.created_at),
            version: Set(1),
            ..Default::default()
        };
        let insert = workspaces::Entity::scoped_insert(&self.scope, [row]);
        insert
            .exec_without_returning(&self.tx)
            .await
            .map_err(failed("insert a workspace"))?;
        Ok(())
    }

    async fn insert_membership(
        &mut self,
        user: UserId,
        role: Role,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let row = memberships::ActiveModel {
            user_id: Set(user.uuid()),
            role: Set(role.as_str().to_owned()),
            joined_at: Set(at),
            ..Default::default()
        };
        let insert = memberships::Entity::scoped_insert(&self.scope, [row]);
        insert
            .exec_without_returning(&self.tx)
            .await
            .map_err(failed("insert a membership"))?;
        Ok(())
    }

    async fn membership(&mut self, user: UserId) -> Result<Option<Role>, StoreError> {
        let row = memberships::Entity::scoped(&self.scope)
            .filter(memberships::Column::UserId.eq(user.uuid()))
            .one(&self.tx)
            .await
            .map_err(failed("read a membership"))?;
        row.map(|row| role_of(MEMBERSHIPS, &row.role)).transpose()
    }

    async fn user(&mut self, user: UserId) -> Result<Option<User>, StoreError> {
        user_by_id(user, &self.tx).await
    }

    async fn update_user(&mut self, user: UserId, update: &UserUpdate) -> Result<(), StoreError> {
        let name = update.name.as_ref().map(|name| name.as_str().to_owned());
        let hash = update
            .password_hash
            .as_ref()
            .map(|hash| hash.expose().to_owned());
        execute(
            &self.tx,
            "update a user",
            UPDATE_USER,
            [user.uuid().into(), name.into(), hash.into()],
        )
        .await?;
        Ok(())
    }

    async fn bump_session_epoch(&mut self, user: UserId) -> Result<u32, StoreError> {
        const NO_RESETS: &str =
            "DELETE FROM proofs WHERE user_id = $1 AND purpose = 'password_reset'";
        execute(&self.tx, "end resets", NO_RESETS, [user.uuid().into()]).await?;
        let rows = query(&self.tx, "end sessions", BUMP_EPOCH, [user.uuid().into()]).await?;
        let row = rows.first().ok_or(StoreError::Dangling {
            operation: "end sessions",
        })?;
        epoch("users", column(row, "session_epoch")?)
    }

    async fn note_last_workspace(&mut self, user: UserId) -> Result<(), StoreError> {
        let values = [user.uuid().into(), self.scope.workspace().uuid().into()];
        execute(&self.tx, "note the last workspace", NOTE_LAST, values).await?;
        Ok(())
    }

    async fn insert_session(&mut self, session: &NewSession) -> Result<(), StoreError> {
        let row = sessions::ActiveModel {
            id: Set(session.id.uuid()),
            user_id: Set(session.user.uuid()),
            epoch: Set(i64::from(session.epoch)),
            created_at: Set(session.created_at),
            expires_at: Set(session.expires_at),
            ..Default::default()
        };
        let insert = sessions::Entity::scoped_insert(&self.scope, [row]);
        insert
            .exec_without_returning(&self.tx)
            .await
            .map_err(failed("insert a session"))?;
        Ok(())
    }

    async fn restamp_session(&mut self, session: SessionId, epoch: u32) -> Result<(), StoreError> {
        sessions::Entity::scoped_update(&self.scope)
            .col_expr(sessions::Column::Epoch, Expr::value(i64::from(epoch)))
            .filter(sessions::Column::Id.eq(session.uuid()))
            .exec(&self.tx)
            .await
            .map_err(failed("restamp a session"))?;
        Ok(())
    }

    async fn revoke_session(
        &mut self,
        session: SessionId,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        sessions::Entity::scoped_update(&self.scope)
            .col_expr(sessions::Column::RevokedAt, Expr::value(at))
            .filter(sessions::Column::Id.eq(session.uuid()))
            .filter(sessions::Column::RevokedAt.is_null())
            .exec(&self.tx)
            .await
            .map_err(failed("revoke a session"))?;
        Ok(())
    }

    async fn insert_refresh(&mut self, refresh: &NewRefresh) -> Result<(), StoreError> {
        let row = refresh_tokens::ActiveModel {
            id: Set(refresh.id.uuid()),
            session_id: Set(refresh.session.uuid()),
            secret_hash: Set(refresh.secret_hash.to_vec()),
            issued_at: Set(refresh.issued_at),
            expires_at: Set(refresh.expires_at),
            ..Default::default()
        };
        let insert = refresh_tokens::Entity::scoped_insert(&self.scope, [row]);
        insert
            .exec_without_returning(&self.tx)
            .await
            .map_err(failed("insert a refresh token"))?;
        Ok(())
    }

    async fn refresh(&mut self, id: RefreshId) -> Result<Option<RefreshRow>, StoreError> {
        let values = [self.scope.workspace().uuid().into(), id.uuid().into()];
        let rows = query(&self.tx, "read a refresh token", REFRESH, values).await?;
        rows.first().map(|row| refresh_of(id, row)).transpose()
    }

    async fn mark_refresh_used(
        &mut self,
        id: RefreshId,
        at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let done = refresh_tokens::Entity::scoped_update(&self.scope)
            .col_expr(refresh_tokens::Column::UsedAt, Expr::value(at))
            .filter(refresh_tokens::Column::Id.eq(id.uuid()))
            .filter(refresh_tokens::Column::UsedAt.is_null())
            .exec(&self.tx)
            .await
            .map_err(failed("use a refresh token"))?;
        Ok(done.rows_affected == 1)
    }
}

fn refresh_of(id: RefreshId, row: &QueryResult) -> Result<RefreshRow, StoreError> {
    let hash: Vec<u8> = column(row, "secret_hash")?;
    let role: Option<String> = column(row, "role")?;
    Ok(RefreshRow {
        id,
        secret_hash: hash
            .try_into()
            .map_err(|_| corrupt("refresh_tokens", "secret_hash", id, "is not 32 bytes"))?,
        expires_at: column(row, "expires_at")?,
        used_at: column(row, "used_at")?,
        session: SessionId::from_uuid(column(row, "session_id")?),
        session_revoked: column::<Option<DateTime<Utc>>>(row, "revoked_at")?.is_some(),
        session_expires_at: column(row, "session_expires_at")?,
        session_epoch: epoch("sessions", column(row, "epoch")?)?,
        user: UserId::from_uuid(column(row, "user_id")?),
        user_epoch: epoch("users", column(row, "session_epoch")?)?,
        role: role
            .as_deref()
            .map(|role| role_of(MEMBERSHIPS, role))
            .transpose()?,
        workspace_status: status_of(&column::<String>(row, "status")?)?,
    })
}

impl IdentityRead for Store {
    async fn user_by_email(&self, folded: &str) -> Result<Option<User>, StoreError> {
        let row = global::<users::Entity>()
            .filter(users::Column::EmailFolded.eq(folded))
            .one(&self.reads(Reach::Installation))
            .await;
        row.map_err(failed("read a user"))?.map(user_of).transpose()
    }

    async fn user(&self, user: UserId) -> Result<Option<User>, StoreError> {
        user_by_id(user, &self.reads(Reach::Installation)).await
    }

    async fn workspaces_of(&self, user: UserId) -> Result<Vec<Belonging>, StoreError> {
        const MINE: &str = "SELECT w.workspace_id, w.name, w.status, m.role
            FROM memberships m JOIN workspaces w ON w.workspace_id = m.workspace_id JOIN users u ON u.id = m.user_id
            WHERE m.user_id = $1
            ORDER BY CASE WHEN u.last_workspace_id = w.workspace_id THEN 0 ELSE 1 END, m.joined_at, w.workspace_id";
        let rows = query(
            &self.reads(Reach::User(user)),
            "list a user's workspaces",
            MINE,
            [user.uuid().into()],
        )
        .await?;
        rows.iter()
            .map(|row| {
                let workspace = WorkspaceId::from_uuid(column(row, "workspace_id")?);
                Ok(Belonging {
                    workspace,
                    name: WorkspaceName::from_stored(column(row, "name")?),
                    role: role_of(MEMBERSHIPS, &column::<String>(row, "role")?)?,
                    status: status_of(&column::<String>(row, "status")?)?,
                })
            })
            .collect()
    }

    async fn authenticate(
        &self,
        claims: &AccessClaims,
    ) -> Result<Option<Authenticated>, StoreError> {
        let values = [
            claims.workspace.uuid().into(),
            claims.user.uuid().into(),
            claims.session.uuid().into(),
        ];
        let within = self.reads(Reach::Workspace(claims.workspace));
        let rows = query(&within, "authenticate", &session_row(1), values).await?;
        let row = rows.first().map(|row| authenticated(claims, row));
        row.transpose()
    }
}

/// Counts one attempt towards a key unless its window is full.
async fn take_attempt(
    on: &impl ConnectionTrait,
    key: [u8; 32],
    limit: u32,
    window: TimeDelta,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    const TAKE: &str =
        "INSERT INTO password_attempts (key_hash, attempts, window_ends_at) VALUES ($1, 1, $4)
        ON CONFLICT (key_hash) DO UPDATE SET
            attempts = CASE WHEN password_attempts.window_ends_at <= $3 THEN 1
                ELSE password_attempts.attempts + 1 END,
            window_ends_at = CASE WHEN password_attempts.window_ends_at <= $3 THEN $4
                ELSE password_attempts.window_ends_at END
        WHERE password_attempts.window_ends_at <= $3 OR password_attempts.attempts < $2";
    let values = [
        key.to_vec().into(),
        limit.into(),
        now.into(),
        (now + window).into(),
    ];
    Ok(execute(on, "count an attempt", TAKE, values).await? == 1)
}

/// When a full window ends.
async fn retry_after(
    on: &impl ConnectionTrait,
    key: [u8; 32],
    now: DateTime<Utc>,
) -> Result<Attempt, StoreError> {
    const ENDS: &str = "SELECT window_ends_at FROM password_attempts WHERE key_hash = $1";
    let rows = query(on, "read an attempt window", ENDS, [key.to_vec().into()]).await?;
    let seconds = match rows.first() {
        Some(row) => (column::<DateTime<Utc>>(row, "window_ends_at")? - now).num_seconds(),
        None => 1,
    };
    Ok(Attempt::RetryAfter {
        seconds: u32::try_from(seconds).unwrap_or(1).max(1),
    })
}

impl StrangerMailTx for WriteTx {
    async fn has_verified_owner(&mut self) -> Result<bool, StoreError> {
        const VERIFIED: &str = "SELECT 1 AS one FROM memberships m JOIN users u ON u.id = m.user_id
            WHERE m.workspace_id = $1 AND m.role = 'owner' AND u.email_verified_at IS NOT NULL LIMIT 1";
        let values = [self.scope.workspace().uuid().into()];
        let rows = query(&self.tx, "look for a verified owner", VERIFIED, values).await?;
        Ok(!rows.is_empty())
    }

    async fn count_mail(
        &mut self,
        key: [u8; 32],
        limit: u32,
        window: TimeDelta,
        now: DateTime<Utc>,
    ) -> Result<Attempt, StoreError> {
        if take_attempt(&self.tx, key, limit, window, now).await? {
            return Ok(Attempt::Allowed);
        }
        retry_after(&self.tx, key, now).await
    }
}

const COUNTERS: &str = "password_attempts";

/// A counter as its row says; rows that only lock a key have counted nothing.
fn count_of(row: &QueryResult) -> Result<Option<Count>, StoreError> {
    let used: i64 = column(row, "attempts")?;
    let used = u32::try_from(used).map_err(|e| corrupt(COUNTERS, "attempts", used, e))?;
    let ends_at = column(row, "window_ends_at")?;
    Ok((used > 0).then_some(Count { used, ends_at }))
}

impl PasswordAttempts for Store {
    async fn counts(&self, keys: &[CounterKey]) -> Result<Vec<Option<Count>>, StoreError> {
        let places: Vec<_> = (1..=keys.len()).map(|n| format!("${n}")).collect();
        let sql = format!(
            "SELECT key_hash, attempts, window_ends_at FROM password_attempts WHERE key_hash IN ({})",
            places.join(", ")
        );
        let values = keys.iter().map(|key| key.to_vec().into());
        let on = self.reads(Reach::Installation);
        let rows = query(&on, "read counters", &sql, values).await?;
        let mut counts = vec![None; keys.len()];
        for row in &rows {
            let found: Vec<u8> = column(row, "key_hash")?;
            if let Some(n) = keys.iter().position(|key| key[..] == found[..]) {
                counts[n] = count_of(row)?;
            }
        }
        Ok(counts)
    }

    async fn change<R: Send>(
        &self,
        keys: &[CounterKey],
        change: impl FnOnce(&mut [Option<Count>]) -> R + Send,
    ) -> Result<R, StoreError> {
        // Makes the row where there is none, so that there is one to lock.
        const LOCK: &str =
            "INSERT INTO password_attempts (key_hash, attempts, window_ends_at) VALUES ($1, 0, $2)
            ON CONFLICT (key_hash) DO UPDATE SET attempts = password_attempts.attempts
            RETURNING attempts, window_ends_at";
        const SET: &str =
            "UPDATE password_attempts SET attempts = $2, window_ends_at = $3 WHERE key_hash = $1";
        const DELETE: &str = "DELETE FROM password_attempts WHERE key_hash = $1";
        let operation = "change counters";
        // In one order, whatever the caller's: two changes of the same keys wait for each other, and not in a circle.
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|n| keys[*n]);
        let tx = self.begin_in(Reach::Installation, operation).await?;
        let mut before = vec![None; keys.len()];
        for n in &order {
            let values = [keys[*n].to_vec().into(), DateTime::<Utc>::UNIX_EPOCH.into()];
            let rows = query(&tx, operation, LOCK, values).await?;
            before[*n] = rows.first().map(count_of).transpose()?.flatten();
        }
        let mut after = before.clone();
        let result = change(&mut after);
        if after == before {
            // Also the rows that only lock: nothing of this transaction stays.
            return Ok(result);
        }
        for n in order {
            let key = keys[n].to_vec().into();
            match after[n] {
                None => execute(&tx, operation, DELETE, [key]).await?,
                same if same == before[n] => continue,
                Some(Count { used, ends_at }) => {
                    execute(&tx, operation, SET, [key, used.into(), ends_at.into()]).await?
                }
            };
        }
        tx.commit().await.map_err(failed(operation))?;
        Ok(result)
    }
}

fn key_row(key: &SealedKey) -> signing_keys::ActiveModel {
    signing_keys::ActiveModel {
        kid: Set(key.kid.clone()),
        public_key: Set(key.public.to_vec()),
        sealed: Set(key.sealed.clone()),
        created_at: Set(key.created_at),
        retire_at: Set(key.retired_at),
    }
}

impl Store {
    /// Whoever makes keys does so alone: of two servers that start at once one makes the first.
    async fn begin_for_signing_keys(&self, operation: &'static str) -> Result<Tx, StoreError> {
        /// Any number that nothing else of this product uses.
        const KEY_MAKING: i64 = 0x5244_6B65_7973;
        let tx = self.begin_in(Reach::Installation, operation).await?;
        if locks_rows(&tx) {
            const LOCK: &str = "SELECT pg_advisory_xact_lock($1)";
            query(&tx, operation, LOCK, [KEY_MAKING.into()]).await?;
        }
        Ok(tx)
    }
}

impl SigningKeys for Store {
    async fn signing_keys(&self) -> Result<Vec<SealedKey>, StoreError> {
        let rows = global::<signing_keys::Entity>()
            .all(&self.reads(Reach::Installation))
            .await
            .map_err(failed("read signing keys"))?;
        rows.into_iter()
            .map(|row| {
                let wrong = |_| corrupt("signing_keys", "public_key", &row.kid, "is not 32 bytes");
                Ok(SealedKey {
                    public: row.public_key.as_slice().try_into().map_err(wrong)?,
                    kid: row.kid.clone(),
                    sealed: row.sealed,
                    created_at: row.created_at,
                    retired_at: row.retire_at,
                })
            })
            .collect()
    }

    async fn insert_first_signing_key(&self, key: &SealedKey) -> Result<(), StoreError> {
        let tx = self.begin_for_signing_keys("make a signing key").await?;
        if crate::store::exists(global::<signing_keys::Entity>(), &tx).await? {
            return Ok(());
        }
        let insert = global_insert(key_row(key));
        insert
            .exec_without_returning(&tx)
            .await
            .map_err(failed("make a signing key"))?;
        tx.commit().await.map_err(failed("make a signing key"))
    }

    async fn rotate_signing_keys(
        &self,
        new: &SealedKey,
        retire_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        const RETIRE: &str = "UPDATE signing_keys SET retire_at = $1 WHERE retire_at IS NULL";
        let tx = self.begin_for_signing_keys("rotate signing keys").await?;
        execute(&tx, "rotate signing keys", RETIRE, [retire_at.into()]).await?;
        let insert = global_insert(key_row(new));
        insert
            .exec_without_returning(&tx)
            .await
            .map_err(failed("rotate signing keys"))?;
        tx.commit().await.map_err(failed("rotate signing keys"))
    }
}
