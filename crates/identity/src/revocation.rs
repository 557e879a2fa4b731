//! A key ends, and with it what it has made.

use rawdrive_tenancy_core::id::ApiKeyId;
use rawdrive_tenancy_core::{Env, StoreError};

use crate::api_key::record_revoked;
use crate::invitation::{give_seats_back, record_ended};
use crate::team_ports::{IdentityUnit, Inviter};

/// Revokes a key from the next request on, and audits `api_key.revoked`. With it end the invitations that it made.
/// `false`: there is none, or none any more.
///
/// # Errors
/// The store fails.
pub async fn revoke_api_key(
    tx: &mut impl IdentityUnit,
    env: &Env,
    id: ApiKeyId,
) -> Result<bool, StoreError> {
    tx.lock_team().await?;
    let invitations = tx.take_invitations(Inviter::Key(id)).await?;
    give_seats_back(tx, &invitations).await?;
    let Some(key) = tx.delete_api_key(id).await? else {
        return Ok(false);
    };
    record_revoked(tx, &key).await?;
    record_ended(tx, env, &invitations).await?;
    Ok(true)
}
