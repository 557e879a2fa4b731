//! What renditions photos have, in a column of their rows.

use rawdrive_store::Reader;
use rawdrive_store::extension::{column, corrupt};
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::id::TypedId as _;
use rawdrive_usage::hex;
use serde::{Deserialize, Serialize};

use crate::id::PhotoId;
use crate::pixel_format::PixelFormat;
use crate::renditions::model::{Obstacle, Rendition, Renditions};

/// Renditions as the database keeps them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RenditionsColumn {
    Ready {
        thumb: RenditionColumn,
        web: RenditionColumn,
    },
    Impossible(String),
}

#[derive(Serialize, Deserialize)]
struct RenditionColumn {
    width: u32,
    height: u32,
    size_bytes: u64,
    sha256: String,
}

impl From<&Rendition> for RenditionColumn {
    fn from(rendition: &Rendition) -> Self {
        Self {
            width: rendition.width,
            height: rendition.height,
            size_bytes: rendition.size_bytes,
            sha256: hex(&rendition.sha256),
        }
    }
}

impl RenditionColumn {
    fn read(&self) -> Option<Rendition> {
        Some(Rendition {
            width: self.width,
            height: self.height,
            size_bytes: self.size_bytes,
            sha256: unhex(&self.sha256)?,
        })
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    bytes.try_into().ok().filter(|_| rest.is_empty())
}

/// The column's text; nothing while they are pending.
pub(super) fn text_of(renditions: &Renditions) -> Result<Option<String>, StoreError> {
    let column = match renditions {
        Renditions::Pending => return Ok(None),
        Renditions::Ready { thumb, web } => RenditionsColumn::Ready {
            thumb: thumb.into(),
            web: web.into(),
        },
        Renditions::Impossible(obstacle) => {
            RenditionsColumn::Impossible(obstacle.as_str().to_owned())
        }
    };
    let text = serde_json::to_string(&column);
    text.map(Some)
        .map_err(|e| corrupt("photos", "renditions", "new", e))
}

/// What the column of a photo says.
pub(super) fn renditions_of(
    id: PhotoId,
    content_type: &str,
    text: Option<&str>,
) -> Result<Renditions, StoreError> {
    let wrong = |reason: &dyn ToString| corrupt("photos", "renditions", id, reason.to_string());
    let Some(text) = text else {
        // Of photos from before there were any: what cannot be made is not waited for.
        return Ok(Renditions::of_new(content_type));
    };
    match serde_json::from_str(text).map_err(|e| wrong(&e))? {
        RenditionsColumn::Ready { thumb, web } => {
            let read = |column: RenditionColumn| {
                column
                    .read()
                    .ok_or_else(|| wrong(&"a sha256 is not 64 hex digits"))
            };
            Ok(Renditions::Ready {
                thumb: read(thumb)?,
                web: read(web)?,
            })
        }
        RenditionsColumn::Impossible(name) => {
            let obstacle = Obstacle::ALL.into_iter().find(|o| o.as_str() == name);
            let obstacle = obstacle.ok_or_else(|| wrong(&"names no obstacle"))?;
            Ok(Renditions::Impossible(obstacle))
        }
    }
}

/// Photos behind `after`, in order of their ids, whose renditions are to be made: all that can have some, or those alone
/// whose were not made yet.
///
/// # Errors
/// The database does not answer.
pub async fn photos_to_render(
    reader: &Reader,
    after: Option<PhotoId>,
    missing_alone: bool,
    at_most: u32,
) -> Result<Vec<PhotoId>, StoreError> {
    let formats = PixelFormat::ALL.map(|format| format!("'{}'", format.content_type()));
    let missing = match missing_alone {
        true => "AND renditions IS NULL",
        false => "",
    };
    let sql = format!(
        "SELECT id FROM photos WHERE workspace_id = $1 AND id > $2 AND content_type IN ({}) {missing}
        ORDER BY id LIMIT $3",
        formats.join(", ")
    );
    let after = after.map_or(uuid::Uuid::nil(), |id| id.uuid());
    let values = [after.into(), i64::from(at_most).into()];
    let rows = reader.query("list photos to render", &sql, values).await?;
    rows.iter()
        .map(|row| Ok(PhotoId::from_uuid(column(row, "id")?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_is_read_as_it_was_written_and_what_it_must_not_hold_is_named() {
        let id = PhotoId::from_uuid(uuid::Uuid::from_u128(1));
        let rendition = |width| Rendition {
            width,
            height: 2,
            size_bytes: 3,
            sha256: [0xAB; 32],
        };
        let ready = Renditions::Ready {
            thumb: rendition(1),
            web: rendition(9),
        };
        let impossible = Obstacle::ALL.map(Renditions::Impossible);
        for renditions in [ready, Renditions::Pending].into_iter().chain(impossible) {
            let text = text_of(&renditions).unwrap();
            let read = renditions_of(id, "image/jpeg", text.as_deref()).unwrap();
            assert_eq!(read, renditions);
        }
        let old = renditions_of(id, "image/heic", None).unwrap();
        assert_eq!(old, Renditions::Impossible(Obstacle::Format));
        let text = text_of(&ready).unwrap().unwrap();
        for wrong in [
            "",
            "{}",
            "{\"impossible\":\"mood\"}",
            &text.replace("abab", "ab"),
        ] {
            let error = renditions_of(id, "image/jpeg", Some(wrong)).unwrap_err();
            assert!(
                matches!(
                    error,
                    StoreError::Corrupt {
                        column: "renditions",
                        ..
                    }
                ),
                "{error}"
            );
        }
    }
}
