//! Which blob store holds the photos of this database.

use rawdrive_gallery::BlobMark;
use rawdrive_tenancy_core::StoreError;

use crate::connection::Reach;
use crate::scope::{column, execute, query};
use crate::store::Store;

impl Store {
    /// The mark of the blob store that holds the photos; nothing before a server was started.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn blob_mark(&self) -> Result<Option<BlobMark>, StoreError> {
        const MARK: &str = "SELECT mark FROM blob_marks WHERE holds = 'photos'";
        let on = self.reads(Reach::Installation);
        let rows = query(&on, "read the blob store's mark", MARK, []).await?;
        rows.first()
            .map(|row| Ok(BlobMark::from_uuid(column(row, "mark")?)))
            .transpose()
    }

    /// Keeps the mark of the blob store that holds the photos, unless one is known: answers the one that then is.
    /// Several servers may do so at once.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn know_blob_mark(&self, mark: BlobMark) -> Result<BlobMark, StoreError> {
        const KNOW: &str = "INSERT INTO blob_marks (holds, mark, marked_at) VALUES ('photos', $1, $2) ON CONFLICT DO NOTHING";
        let values = [mark.uuid().into(), self.env().now().into()];
        let on = self.writes(Reach::Installation);
        execute(&on, "keep the blob store's mark", KNOW, values).await?;
        Ok(self.blob_mark().await?.unwrap_or(mark))
    }
}
