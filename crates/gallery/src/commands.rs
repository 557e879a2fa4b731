//! Deleting galleries, and branding.

use std::collections::BTreeSet;

use crate::id::GalleryId;
use rawdrive_plans::PlansTx;
use rawdrive_tenancy_core::audit::{AuditTx, Change};
use rawdrive_tenancy_core::event::EventsTx;
use rawdrive_tenancy_core::job::JobsTx;
use rawdrive_tenancy_core::{Env, StoreError};
use rawdrive_usage::{Refused, UsageTx, require, subtract};

use crate::charges::charges;
use crate::{
    BLOBS_PER_JOB, Branding, CUSTOM_BRANDING, ClientsTx, DeleteBlobs, GalleryTx, set_clients,
};

/// Deletes a gallery with everything in it, soft-deleted or not, and frees what it took. False when there
/// is none.
///
/// # Errors
/// The database's failure.
pub async fn delete_gallery_permanently(
    tx: &mut (impl GalleryTx + ClientsTx + UsageTx + PlansTx + AuditTx + EventsTx + JobsTx + Send),
    env: &Env,
    id: GalleryId,
) -> Result<bool, StoreError> {
    tx.entitlements().await?;
    let photos = tx.take_photos_of(id).await?;
    if !photos.is_empty() {
        let [mut count, bytes] = charges(id, photos.iter().map(|(_, size)| size).sum());
        count.amount = photos.len() as u64;
        for charge in [count, bytes] {
            subtract(tx, env, charge, id.to_string()).await?;
        }
    }
    for some in photos.chunks(BLOBS_PER_JOB) {
        let photos = some.iter().map(|(photo, _)| *photo).collect();
        tx.enqueue(&DeleteBlobs { photos }, None)?;
    }
    set_clients(tx, id, &BTreeSet::new()).await?;
    tx.delete_gallery(id).await
}

/// Why branding is not saved.
#[derive(Debug, thiserror::Error)]
pub enum BrandingError {
    /// The plan does not include it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The logo is no photo of this workspace.
    #[error("must be a photo of this workspace")]
    UnknownLogo,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Saves the branding, audited as `branding.changed`.
///
/// # Errors
/// The plan does not include it, the logo is unknown, or the database failed.
pub async fn save_branding(
    tx: &mut (impl GalleryTx + PlansTx + AuditTx + Send),
    env: &Env,
    branding: &Branding,
) -> Result<(), BrandingError> {
    let entitlements = tx.entitlements().await?;
    if let Some(logo) = branding.logo_photo
        && tx.photo(logo).await?.is_none()
    {
        return Err(BrandingError::UnknownLogo);
    }
    require(tx, env, &CUSTOM_BRANDING).await?;
    let before = tx.branding().await?;
    tx.put_branding(branding).await?;
    let json = |b: Option<&Branding>| serde_json::to_value(b).unwrap_or_default();
    tx.record(Change {
        action: "branding.changed",
        subject: entitlements.workspace.to_string(),
        before: json(before.as_ref()),
        after: json(Some(branding)),
    });
    Ok(())
}
