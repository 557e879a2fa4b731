//! An embedder reads and writes rows of its own tables on the core's handles.

use rawdrive_store::extension::{Extension, column, sea_orm};
use rawdrive_store::{Reader, WriteTx};
use rawdrive_tenancy_core::StoreError;
use sea_orm::{ColumnTrait, QueryFilter, QueryOrder, QuerySelect, Set};

const NOTES: Extension = Extension::new(
    "notes",
    &[(
        "0001",
        &["CREATE TABLE notes (workspace_id {uuid} NOT NULL, id {uuid} NOT NULL, text TEXT NOT NULL,
            PRIMARY KEY (workspace_id, id)){strict}"],
    )],
);

rawdrive_store::tenant_entity! {
    mod notes("notes", [id: Uuid]) { text: String }
}

async fn reads(reader: &Reader) -> Result<Vec<String>, StoreError> {
    let select = reader.select::<notes::Entity>();
    let select = select.filter(notes::Column::Text.ne("")).order_by_asc(notes::Column::Id);
    let mut texts: Vec<_> = select.limit(10).all().await?.into_iter().map(|row| row.text).collect();
    let all = "SELECT text FROM notes WHERE workspace_id = $1 AND text <> $2";
    for row in reader.query("read notes", all, ["".into()]).await? {
        texts.push(column(&row, "text")?);
    }
    Ok(texts)
}

async fn writes(tx: &mut WriteTx) -> Result<(), StoreError> {
    let row = notes::ActiveModel {
        id: Set(tx.env().uuid()),
        text: Set("new".to_owned()),
        ..Default::default()
    };
    tx.insert([row]).exec().await?;
    tx.delete::<notes::Entity>().filter(notes::Column::Text.eq("old")).exec().await?;
    Ok(())
}

fn main() {
    let _ = (reads, writes, NOTES);
}
