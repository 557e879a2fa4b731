//! The gallery's tables. Those of releases in which the core made them are adopted as they are.

use rawdrive_store::extension::sea_orm::TryGetable;
use rawdrive_store::extension::{DataMigration, DbErr, MigrationTx, Row};
use uuid::Uuid;

use crate::FileName;

/// Each once per database, oldest first.
pub(super) const MIGRATIONS: &[(&str, &[&str])] = &[
    ("0001_galleries", GALLERIES),
    ("0002_clients", CLIENTS),
    ("0003_analyses", ANALYSES),
    ("0004_orientation", ORIENTATION),
    ("0005_blob_mark", BLOB_MARK),
    ("0006_photo_records", PHOTO_RECORDS),
    ("0007_renditions", RENDITIONS),
    ("0008_names", NAMES),
];

/// What is computed of rows that were there before.
pub(super) const DATA: &[(&str, DataMigration)] = &[
    ("0006_photo_records", |tx| {
        Box::pin(fold_names(tx, "photos", "filename"))
    }),
    ("0008_names", |tx| {
        Box::pin(async {
            fold_names(tx, "libraries", "name").await?;
            fold_names(tx, "galleries", "name").await
        })
    }),
];

/// Which migrations of the core's did the same, in releases that had the gallery's tables in the core.
pub(super) const ADOPTS: &[(&str, &str)] = &[
    ("0001_galleries", "m0001_first"),
    ("0002_clients", "m0004_clients"),
    ("0003_analyses", "m0006_analysis"),
    ("0004_orientation", "m0024_orientation"),
    ("0005_blob_mark", "m0025_blob_mark"),
];

/// Tables that belong to no workspace.
pub(super) const GLOBALS: &[(&str, &str)] = &[(
    "blob_marks",
    "one blob store holds the photos of every workspace, and is known by its mark",
)];

const GALLERIES: &[&str] = &[
    "CREATE TABLE libraries (
        workspace_id {uuid} NOT NULL,
        id {uuid} NOT NULL,
        name TEXT NOT NULL,
        created_at {time} NOT NULL,
        updated_at {time} NOT NULL,
        version {int} NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE TABLE galleries (
        workspace_id {uuid} NOT NULL,
        id {uuid} NOT NULL,
        library_id {uuid} NOT NULL,
        name TEXT NOT NULL,
        download TEXT NOT NULL CHECK (download IN ('none', 'web', 'original')),
        deleted_at {time},
        created_at {time} NOT NULL,
        updated_at {time} NOT NULL,
        version {int} NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id, library_id) REFERENCES libraries (workspace_id, id)
    ){strict}",
    "CREATE INDEX galleries_by_library ON galleries (workspace_id, library_id, id)",
    "CREATE TABLE photos (
        workspace_id {uuid} NOT NULL,
        id {uuid} NOT NULL,
        gallery_id {uuid} NOT NULL,
        filename TEXT NOT NULL,
        content_type TEXT NOT NULL,
        size_bytes {int} NOT NULL CHECK (size_bytes > 0),
        sha256 {bytes} NOT NULL,
        width {int},
        height {int},
        taken_at {time},
        created_at {time} NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id, gallery_id) REFERENCES galleries (workspace_id, id)
    ){strict}",
    "CREATE INDEX photos_by_gallery ON photos (workspace_id, gallery_id, id)",
    "CREATE TABLE branding (
        workspace_id {uuid} NOT NULL PRIMARY KEY REFERENCES workspaces (workspace_id),
        display_name TEXT NOT NULL,
        primary_color TEXT NOT NULL,
        logo_photo_id {uuid},
        website TEXT,
        updated_at {time} NOT NULL
    ){strict}",
];

const CLIENTS: &[&str] = &[
    "CREATE TABLE clients (
        workspace_id {uuid} NOT NULL,
        id {uuid} NOT NULL,
        name TEXT NOT NULL,
        email TEXT NOT NULL,
        email_folded TEXT NOT NULL,
        last_seen_at {time},
        created_at {time} NOT NULL,
        updated_at {time} NOT NULL,
        version {int} NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id) REFERENCES workspaces (workspace_id)
    ){strict}",
    "CREATE UNIQUE INDEX clients_by_email ON clients (workspace_id, email_folded)",
    // A link that is revoked is deleted: nothing is left that could be compared with.
    "CREATE TABLE client_links (
        workspace_id {uuid} NOT NULL,
        id {uuid} NOT NULL,
        client_id {uuid} NOT NULL,
        secret_hash {bytes} NOT NULL,
        created_at {time} NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id, client_id) REFERENCES clients (workspace_id, id) ON DELETE CASCADE
    ){strict}",
    "CREATE UNIQUE INDEX client_links_by_client ON client_links (workspace_id, client_id)",
    "CREATE TABLE gallery_clients (
        workspace_id {uuid} NOT NULL,
        gallery_id {uuid} NOT NULL,
        client_id {uuid} NOT NULL,
        PRIMARY KEY (workspace_id, gallery_id, client_id),
        FOREIGN KEY (workspace_id, gallery_id) REFERENCES galleries (workspace_id, id) ON DELETE CASCADE,
        FOREIGN KEY (workspace_id, client_id) REFERENCES clients (workspace_id, id) ON DELETE CASCADE
    ){strict}",
    "CREATE INDEX gallery_clients_by_client ON gallery_clients (workspace_id, client_id, gallery_id)",
];

const ANALYSES: &[&str] = &["CREATE TABLE photo_analyses (
        workspace_id {uuid} NOT NULL,
        photo_id {uuid} NOT NULL,
        sharpness {real} NOT NULL,
        exposure_mean {real} NOT NULL,
        shadows_clipped {real} NOT NULL,
        highlights_clipped {real} NOT NULL,
        dominant_colors TEXT NOT NULL,
        perceptual_hash {int} NOT NULL,
        caption TEXT,
        analyzer TEXT NOT NULL,
        analyzed_at {time} NOT NULL,
        PRIMARY KEY (workspace_id, photo_id),
        FOREIGN KEY (workspace_id, photo_id) REFERENCES photos (workspace_id, id) ON DELETE CASCADE
    ){strict}"];

/// Photos from before keep the sides that were stored with them, and say nothing of how they are turned: their bytes
/// would have to be read again.
const ORIENTATION: &[&str] =
    &["ALTER TABLE photos ADD COLUMN orientation {int} CHECK (orientation BETWEEN 1 AND 8)"];

const BLOB_MARK: &[&str] = &["CREATE TABLE blob_marks (
        holds TEXT NOT NULL PRIMARY KEY CHECK (holds = 'photos'),
        mark {uuid} NOT NULL,
        marked_at {time} NOT NULL
    ){strict}"];

/// A photo's record changes: it is renamed and moved. Lists are sorted and searched by name, and sorted by time.
const PHOTO_RECORDS: &[&str] = &[
    "ALTER TABLE photos ADD COLUMN version {int} NOT NULL DEFAULT 1",
    "ALTER TABLE photos ADD COLUMN updated_at {time}",
    "ALTER TABLE photos ADD COLUMN filename_folded TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX photos_by_filename ON photos (workspace_id, gallery_id, filename_folded, id)",
    "CREATE INDEX photos_by_time ON photos (workspace_id, gallery_id, (coalesce(taken_at, created_at)), id)",
];

/// What renditions there are, as JSON; nothing before they were made.
const RENDITIONS: &[&str] = &["ALTER TABLE photos ADD COLUMN renditions TEXT"];

/// Lists of libraries and of galleries are sorted and searched by name.
const NAMES: &[&str] = &[
    "ALTER TABLE libraries ADD COLUMN name_folded TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX libraries_by_name ON libraries (workspace_id, name_folded, id)",
    "ALTER TABLE galleries ADD COLUMN name_folded TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX galleries_by_name ON galleries (workspace_id, name_folded, id)",
    "CREATE INDEX galleries_by_name_in_library ON galleries (workspace_id, library_id, name_folded, id)",
];

/// So many rows are read at a time.
const AT_ONCE: i64 = 1_000;

/// Names as they are compared: no database folds them as we do.
async fn fold_names(
    tx: &mut MigrationTx,
    table: &'static str,
    name: &'static str,
) -> Result<(), DbErr> {
    let some = format!(
        "SELECT workspace_id, id, {name} AS name FROM {table}
        WHERE (workspace_id, id) > ($1, $2) ORDER BY workspace_id, id LIMIT $3"
    );
    let fold = format!("UPDATE {table} SET {name}_folded = $3 WHERE workspace_id = $1 AND id = $2");
    fn column<T: TryGetable>(row: &Row, name: &str) -> Result<T, DbErr> {
        row.try_get("", name)
    }
    tx.open_workspaces(&[table]).await?;
    let mut after = (Uuid::nil(), Uuid::nil());
    loop {
        let values = [after.0.into(), after.1.into(), AT_ONCE.into()];
        let rows = tx.query(&some, values).await?;
        for row in &rows {
            after = (column(row, "workspace_id")?, column(row, "id")?);
            let name = FileName::from_stored(column(row, "name")?);
            let values = [after.0.into(), after.1.into(), name.folded().into()];
            tx.execute(&fold, values).await?;
        }
        if (rows.len() as i64) < AT_ONCE {
            return Ok(());
        }
    }
}
