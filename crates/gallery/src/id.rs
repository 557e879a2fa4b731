//! The ids of what photographers keep.

use rawdrive_tenancy_core::id::{HoldId, TypedId};

rawdrive_tenancy_core::typed_id! {
    /// A library: a shelf of galleries.
    LibraryId = "lib";
    /// A gallery: a delivery of photos.
    GalleryId = "gal";
    /// A photo; the same digits name its upload's hold and its blob.
    PhotoId = "pho";
    /// A client: somebody whom galleries are delivered to, without an account.
    ClientId = "cli";
    /// A link that was mailed to a client.
    ClientLinkId = "lnk";
}

impl PhotoId {
    /// The hold of the photo's upload.
    #[must_use]
    pub fn hold(self) -> HoldId {
        HoldId::from_uuid(self.uuid())
    }

    /// The photo whose upload a hold is of.
    #[must_use]
    pub fn of_hold(hold: HoldId) -> Self {
        Self::from_uuid(hold.uuid())
    }
}
