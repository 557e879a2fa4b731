//! Which blob store holds the photos of this database.

use rawdrive_store::Store;
use rawdrive_store::extension::column;
use rawdrive_tenancy_core::StoreError;

use crate::BlobMark;

/// The mark of the blob store that holds the photos; nothing before a server was started.
///
/// # Errors
/// The database does not answer.
pub async fn blob_mark(store: &Store) -> Result<Option<BlobMark>, StoreError> {
    const MARK: &str = "SELECT mark FROM blob_marks WHERE holds = 'photos'";
    let globals = store.globals();
    let rows = globals.query("read the blob store's mark", MARK, []);
    rows.await?
        .first()
        .map(|row| Ok(BlobMark::from_uuid(column(row, "mark")?)))
        .transpose()
}

/// Keeps the mark of the blob store that holds the photos, unless one is known: answers the one that then is.
/// Several servers may do so at once.
///
/// # Errors
/// The database does not answer.
pub async fn know_blob_mark(store: &Store, mark: BlobMark) -> Result<BlobMark, StoreError> {
    const KNOW: &str = "INSERT INTO blob_marks (holds, mark, marked_at) VALUES ('photos', $1, $2) ON CONFLICT DO NOTHING";
    let values = [mark.uuid().into(), store.env().now().into()];
    let globals = store.globals();
    globals
        .execute("keep the blob store's mark", KNOW, values)
        .await?;
    Ok(blob_mark(store).await?.unwrap_or(mark))
}
