//! What photos count.

use rawdrive_usage::{Charge, QuotaKey};

use crate::id::GalleryId;
use crate::metering::{PHOTOS, STORAGE_BYTES};

/// What one photo charges: a unit of its gallery, and its bytes.
pub(crate) fn charges(gallery: GalleryId, size_bytes: u64) -> [Charge; 2] {
    [
        Charge {
            key: QuotaKey::level_of(PHOTOS, gallery),
            amount: 1,
        },
        Charge {
            key: QuotaKey::level(STORAGE_BYTES),
            amount: size_bytes,
        },
    ]
}
