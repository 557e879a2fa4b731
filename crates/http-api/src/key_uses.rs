//! When API keys were used last: noted in memory by the requests, written to the database behind them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix_web::web::Data;
use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, TimeDelta, Utc};
use quick_cache::sync::Cache;
use rawdrive_identity::{ApiKeysTx, ProvenKey};
use rawdrive_store::Release;
use rawdrive_tenancy_core::id::{ApiKeyId, WorkspaceId};
use rawdrive_tenancy_core::{Causes, Commit, StoreError, SystemReason, WorkspaceScope};
use tokio::sync::Notify;

use crate::app::App;

/// How exact the time of the last use is.
const RESOLUTION: TimeDelta = TimeDelta::minutes(1);
/// How long uses are collected before they are written.
const COLLECT: Duration = Duration::from_secs(1);
/// How many keys' uses wait at most; beyond it a use is not noted.
const MAX_WAITING: usize = 10_000;

type Waiting = HashMap<(WorkspaceId, ApiKeyId), DateTime<Utc>>;

/// How many keys are remembered as proved.
const MAX_PROVEN: usize = 10_000;

/// A presented key, for the memory of those that were proved.
pub(crate) type TokenHash = [u8; 32];

/// The uses that wait to be written. What a crash takes with it is a minute's knowledge.
#[derive(Debug)]
pub struct KeyUses {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    proven: Cache<TokenHash, ApiKeyId>,
}

impl Default for KeyUses {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            arrived: Notify::default(),
            proven: Cache::new(MAX_PROVEN),
        }
    }
}

/// What a presented key is remembered by.
pub(crate) fn token_hash(text: &str) -> TokenHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

impl KeyUses {
    /// Notes a use, unless one within the last minute is known.
    pub(crate) fn note(&self, key: &ProvenKey, now: DateTime<Utc>) {
        let known = |at: DateTime<Utc>| at <= now && now - at < RESOLUTION;
        if key.last_used_at.is_some_and(known) {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (key.grant.workspace(), key.grant.key());
        if waiting.len() < MAX_WAITING || waiting.contains_key(&name) {
            waiting.insert(name, now);
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Remembers a key as proved. That says whom its requests count against and gives it no right: each is proved anew.
    pub(crate) fn remember(&self, hash: TokenHash, key: &ProvenKey) {
        self.proven.insert(hash, key.grant.key());
    }

    /// The key that was proved by this text, if that is remembered.
    pub(crate) fn remembered(&self, hash: &TokenHash) -> Option<ApiKeyId> {
        self.proven.get(hash)
    }

    fn take(&self) -> Waiting {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes uses as they come, a transaction for each workspace, until it is dropped. Run one in each server.
pub async fn record_key_uses(app: Data<App>) {
    loop {
        app.key_uses.arrived.notified().await;
        tokio::time::sleep(COLLECT).await;
        let mut by_workspace: HashMap<_, Vec<_>> = HashMap::new();
        for ((workspace, key), at) in app.key_uses.take() {
            by_workspace.entry(workspace).or_default().push((key, at));
        }
        for (workspace, keys) in by_workspace {
            if let Err(error) = write(&app, workspace, keys).await {
                tracing::warn!(
                    error = %Causes(&error),
                    "uses of API keys were not noted"
                );
            }
        }
    }
}

async fn write(
    app: &App,
    workspace: WorkspaceId,
    keys: Vec<(ApiKeyId, DateTime<Utc>)>,
) -> Result<(), StoreError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the keys were proved inside this workspace; what is written is their use alone"
    )]
    let scope = WorkspaceScope::for_system(workspace, SystemReason::AUTHENTICATE);
    let mut tx = app
        .store
        .begin_despite_read_only(&scope, Release::Identity)
        .await?;
    for (key, at) in keys {
        tx.note_key_use(key, at).await?;
    }
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use rawdrive_identity::ports::WorkspaceStatus;
    use rawdrive_tenancy_core::id::TypedId;
    use rawdrive_tenancy_core::{Env, KeyGrant, Role};

    use super::*;

    fn key(last_used_at: Option<DateTime<Utc>>) -> ProvenKey {
        let env = Env::system();
        #[expect(clippy::disallowed_methods, reason = "a key that nobody has to prove")]
        let grant = KeyGrant::attest(WorkspaceId::from_uuid(env.uuid()), env.id(), Role::Member);
        ProvenKey {
            grant,
            scopes: rawdrive_identity::Scopes::all(),
            name: rawdrive_identity::ApiKeyName::parse("key").unwrap(),
            expires_at: None,
            workspace_status: WorkspaceStatus::Active,
            last_used_at,
        }
    }

    #[test]
    fn a_use_waits_once_a_key_and_once_a_minute() {
        let uses = KeyUses::default();
        let now = Env::system().now();
        uses.note(&key(Some(now - TimeDelta::seconds(59))), now);
        assert_eq!(uses.take().len(), 0);
        let old = key(Some(now - TimeDelta::seconds(60)));
        uses.note(&old, now);
        uses.note(&old, now + TimeDelta::seconds(1));
        uses.note(&key(None), now);
        let waiting = uses.take();
        assert_eq!(waiting.len(), 2);
        assert_eq!(
            waiting[&(old.grant.workspace(), old.grant.key())],
            now + TimeDelta::seconds(1)
        );
        assert_eq!(uses.take().len(), 0);
    }

    #[test]
    fn what_waits_is_bounded() {
        let uses = KeyUses::default();
        let now = Env::system().now();
        for _ in 0..MAX_WAITING + 10 {
            uses.note(&key(None), now);
        }
        assert_eq!(uses.take().len(), MAX_WAITING);
    }
}
