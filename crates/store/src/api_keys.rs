//! API keys.

use chrono::{DateTime, Utc};
use rawdrive_identity::{
    ApiKeyList, ApiKeyName, ApiKeyRead, ApiKeyRow, ApiKeyToken, ApiKeysTx, ListedKey, Scopes,
    StoredKey, worth,
};
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::id::{ApiKeyId, TypedId, UserId, WorkspaceId};
use rawdrive_tenancy_core::page::{Page, PageRequest, Position};
use sea_orm::sea_query::{Expr, LockType};
use sea_orm::{ColumnTrait, Condition, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Set};

use crate::credential_row::{KeyProof, key_row, stored_key};
use crate::entity::api_keys::{ActiveModel, Column, Entity, Model};
use crate::reach::Reach;
use crate::scope::{Tenant, corrupt, failed, query};
use crate::store::{Reader, Store, WriteTx};

const TABLE: &str = "api_keys";

fn key_of(row: Model) -> Result<ApiKeyRow, StoreError> {
    let id = ApiKeyId::from_uuid(row.id);
    Ok(ApiKeyRow {
        id,
        name: ApiKeyName::from_stored(row.name),
        role: row
            .role
            .parse()
            .map_err(|e| corrupt(TABLE, "role", id, e))?,
        scopes: Scopes::of_text(row.scopes.as_deref()),
        sponsor: row.sponsor_id.map(UserId::from_uuid),
        created_by: row.created_by,
        created_at: row.created_at,
        expires_at: row.expires_at,
        last_used_at: row.last_used_at,
    })
}

impl ApiKeyRead for Store {
    async fn presented_key(&self, token: &ApiKeyToken) -> Result<Option<StoredKey>, StoreError> {
        self.named_key(token.workspace(), token.id()).await
    }

    async fn named_key(
        &self,
        workspace: WorkspaceId,
        key: ApiKeyId,
    ) -> Result<Option<StoredKey>, StoreError> {
        // Nothing more is read here, and so nothing depends on the secret.
        let values = [workspace.uuid().into(), key.uuid().into(), "".into()];
        let within = self.reads(Reach::Workspace(workspace));
        let row = key_row(1, KeyProof::Secret);
        let rows = query(&within, "read an API key", &row, values).await?;
        rows.first().map(stored_key).transpose()
    }
}

impl ApiKeyList for Reader {
    async fn api_keys(&self, page: PageRequest) -> Result<Page<ListedKey>, StoreError> {
        let rows = Entity::scoped(&self.scope)
            .filter(Column::Id.gt(page.after_id()))
            .order_by_asc(Column::Id)
            .limit(u64::from(page.limit) + 1)
            .all(self.db())
            .await
            .map_err(failed("list API keys"))?;
        let roles = self
            .roles_of(rows.iter().filter_map(|row| row.sponsor_id))
            .await?;
        let listed = |row: Model| {
            let key = key_of(row)?;
            let sponsor = key.sponsor.and_then(|sponsor| roles.get(&sponsor).copied());
            let worth = worth(key.role, sponsor);
            Ok(ListedKey { key, worth })
        };
        let items = rows
            .into_iter()
            .map(listed)
            .collect::<Result<_, StoreError>>()?;
        Ok(Page::cut(items, page.limit, |listed: &ListedKey| {
            Position::Id(listed.key.id.uuid())
        }))
    }
}

impl ApiKeysTx for WriteTx {
    async fn count_api_keys(&mut self) -> Result<u64, StoreError> {
        // The workspace's row is the lock that makers of keys queue at.
        self.workspace_row().await?;
        Entity::scoped(&self.scope)
            .count(&self.tx)
            .await
            .map_err(failed("count API keys"))
    }

    async fn insert_api_key(
        &mut self,
        key: &ApiKeyRow,
        secret_hash: &str,
    ) -> Result<(), StoreError> {
        let row = ActiveModel {
            id: Set(key.id.uuid()),
            name: Set(key.name.as_str().to_owned()),
            role: Set(key.role.as_str().to_owned()),
            scopes: Set(key.scopes.text()),
            sponsor_id: Set(key.sponsor.map(|sponsor| sponsor.uuid())),
            secret_hash: Set(secret_hash.to_owned()),
            created_by: Set(key.created_by.clone()),
            created_at: Set(key.created_at),
            expires_at: Set(key.expires_at),
            last_used_at: Set(key.last_used_at),
            ..Default::default()
        };
        Entity::scoped_insert(&self.scope, [row])
            .exec_without_returning(&self.tx)
            .await
            .map_err(failed("insert an API key"))?;
        Ok(())
    }

    async fn api_key(&mut self, id: ApiKeyId) -> Result<Option<ApiKeyRow>, StoreError> {
        let row = Entity::scoped(&self.scope)
            .filter(Column::Id.eq(id.uuid()))
            .one(&self.tx)
            .await;
        let row = row.map_err(failed("read an API key"))?;
        row.map(key_of).transpose()
    }

    async fn delete_api_keys_of(&mut self, sponsor: UserId) -> Result<Vec<ApiKeyRow>, StoreError> {
        let keys = self.lock_api_keys_of(sponsor).await?;
        if !keys.is_empty() {
            Entity::scoped_delete(&self.scope)
                .filter(Column::SponsorId.eq(sponsor.uuid()))
                .exec(&self.tx)
                .await
                .map_err(failed("delete a member's API keys"))?;
        }
        Ok(keys)
    }

    async fn hand_over_api_keys(
        &mut self,
        from: UserId,
        to: UserId,
    ) -> Result<Vec<ApiKeyRow>, StoreError> {
        let keys = self.lock_api_keys_of(from).await?;
        if !keys.is_empty() {
            Entity::scoped_update(&self.scope)
                .col_expr(Column::SponsorId, Expr::value(to.uuid()))
                .filter(Column::SponsorId.eq(from.uuid()))
                .exec(&self.tx)
                .await
                .map_err(failed("hand over a member's API keys"))?;
        }
        Ok(keys)
    }

    async fn delete_api_key(&mut self, id: ApiKeyId) -> Result<Option<ApiKeyRow>, StoreError> {
        let deleted = Entity::scoped_delete(&self.scope)
            .filter(Column::Id.eq(id.uuid()))
            .exec_with_returning(&self.tx)
            .await
            .map_err(failed("delete an API key"))?;
        deleted.into_iter().next().map(key_of).transpose()
    }

    async fn note_key_use(&mut self, id: ApiKeyId, at: DateTime<Utc>) -> Result<(), StoreError> {
        let earlier = Condition::any()
            .add(Column::LastUsedAt.is_null())
            .add(Column::LastUsedAt.lt(at));
        Entity::scoped_update(&self.scope)
            .col_expr(Column::LastUsedAt, Expr::value(at))
            .filter(Column::Id.eq(id.uuid()))
            .filter(earlier)
            .exec(&self.tx)
            .await
            .map_err(failed("note a key's use"))?;
        Ok(())
    }
}

impl WriteTx {
    /// The keys that a member answers for, locked one after the other by their ids: whoever notes their use holds
    /// them too.
    async fn lock_api_keys_of(&mut self, sponsor: UserId) -> Result<Vec<ApiKeyRow>, StoreError> {
        let rows = Entity::scoped(&self.scope)
            .filter(Column::SponsorId.eq(sponsor.uuid()))
            .order_by_asc(Column::Id)
            .lock(LockType::Update)
            .all(&self.tx)
            .await
            .map_err(failed("read a member's API keys"))?;
        rows.into_iter().map(key_of).collect()
    }
}
