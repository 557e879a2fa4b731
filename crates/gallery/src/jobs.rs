//! The jobs that galleries leave behind: bytes to be deleted.

use rawdrive_tenancy_core::job::JobKind;
use rawdrive_usage::{HoldEnded, HoldPurpose};
use serde::{Deserialize, Serialize};

use crate::id::PhotoId;

/// The most blobs that one job deletes: well within a lease, and one request to stores that delete in bulk.
pub const BLOBS_PER_JOB: usize = 500;

/// Deletes a photo's blob. Deleting what is not there succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteBlob {
    /// The photo, which names its blob.
    pub photo: PhotoId,
}

impl JobKind for DeleteBlob {
    const NAME: &'static str = "delete_blob";
}

/// Deletes the blobs of many photos, at most [`BLOBS_PER_JOB`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteBlobs {
    /// The photos.
    pub photos: Vec<PhotoId>,
}

impl JobKind for DeleteBlobs {
    const NAME: &'static str = "delete_blobs";
}

/// Deletes what an upload that came to nothing may have stored, whole or in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UploadEnded(pub HoldEnded);

impl JobKind for UploadEnded {
    const NAME: &'static str = "upload_ended";
}

impl UploadEnded {
    /// Whose bytes may be there.
    #[must_use]
    pub fn photo(self) -> PhotoId {
        PhotoId::of_hold(self.0.hold)
    }
}

/// A photo that comes in. The hold has the photo's digits.
pub const UPLOAD: HoldPurpose = HoldPurpose::leaving("upload", UploadEnded::NAME);

/// A look at a photo that is there already.
pub const ANALYSIS: HoldPurpose = HoldPurpose::new("analysis");
