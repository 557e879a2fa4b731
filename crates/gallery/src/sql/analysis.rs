//! Analyses of photos.

use rawdrive_store::extension::sea_orm::sea_query::OnConflict;
use rawdrive_store::extension::sea_orm::{ColumnTrait, QueryFilter as _, Set};
use rawdrive_store::extension::{column, corrupt};
use rawdrive_store::{Reader, WriteTx};
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::id::TypedId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::entities::photo_analyses;
use crate::analysis::{
    Analysis, Caption, DominantColor, Exposure, Findings, Measurements, PerceptualHash,
};
use crate::id::{GalleryId, PhotoId};
use crate::{AnalysisRead, AnalysisTx};

/// A colour as the database keeps it.
#[derive(Serialize, Deserialize)]
struct ColorColumn {
    color: String,
    share: f64,
}

/// What a model said, as the database keeps it.
#[derive(Serialize, Deserialize)]
struct CaptionColumn {
    description: String,
    tags: Vec<String>,
}

fn json<T: Serialize>(column: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| corrupt("photo_analyses", column, "new", e))
}

fn colors(photo: PhotoId, text: &str) -> Result<Vec<DominantColor>, StoreError> {
    let wrong =
        |e: &dyn ToString| corrupt("photo_analyses", "dominant_colors", photo, e.to_string());
    let columns: Vec<ColorColumn> = serde_json::from_str(text).map_err(|e| wrong(&e))?;
    columns
        .into_iter()
        .map(|found| {
            Ok(DominantColor {
                color: found.color.parse().map_err(|e| wrong(&e))?,
                share: found.share,
            })
        })
        .collect()
}

fn caption(photo: PhotoId, text: Option<&str>) -> Result<Option<Caption>, StoreError> {
    let read = |text| {
        let column: CaptionColumn = serde_json::from_str(text)
            .map_err(|e| corrupt("photo_analyses", "caption", photo, e))?;
        Ok(Caption {
            description: column.description,
            tags: column.tags,
        })
    };
    text.map(read).transpose()
}

fn analysis_of(row: &photo_analyses::Model) -> Result<Analysis, StoreError> {
    let photo = PhotoId::from_uuid(row.photo_id);
    Ok(Analysis {
        photo,
        findings: Findings {
            measured: Measurements {
                sharpness: row.sharpness,
                exposure: Exposure {
                    mean: row.exposure_mean,
                    shadows_clipped: row.shadows_clipped,
                    highlights_clipped: row.highlights_clipped,
                },
                dominant_colors: colors(photo, &row.dominant_colors)?,
                perceptual_hash: hash(row.perceptual_hash),
            },
            caption: caption(photo, row.caption.as_deref())?,
        },
        analyzer: row.analyzer.clone(),
        analyzed_at: row.analyzed_at,
    })
}

/// 64 bits, in the only 64-bit integer that both databases have.
fn hash(bits: i64) -> PerceptualHash {
    PerceptualHash::from_bits(bits.cast_unsigned())
}

impl AnalysisTx for WriteTx {
    async fn put_analysis(&mut self, analysis: &Analysis) -> Result<(), StoreError> {
        use photo_analyses::Column;
        let measured = &analysis.findings.measured;
        let colors: Vec<_> = measured
            .dominant_colors
            .iter()
            .map(|found| ColorColumn {
                color: found.color.to_string(),
                share: found.share,
            })
            .collect();
        let caption = analysis.findings.caption.as_ref().map(|caption| {
            json(
                "caption",
                &CaptionColumn {
                    description: caption.description.clone(),
                    tags: caption.tags.clone(),
                },
            )
        });
        let row = photo_analyses::ActiveModel {
            photo_id: Set(analysis.photo.uuid()),
            sharpness: Set(measured.sharpness),
            exposure_mean: Set(measured.exposure.mean),
            shadows_clipped: Set(measured.exposure.shadows_clipped),
            highlights_clipped: Set(measured.exposure.highlights_clipped),
            dominant_colors: Set(json("dominant_colors", &colors)?),
            perceptual_hash: Set(measured.perceptual_hash.bits().cast_signed()),
            caption: Set(caption.transpose()?),
            analyzer: Set(analysis.analyzer.clone()),
            analyzed_at: Set(analysis.analyzed_at),
            ..Default::default()
        };
        let replace = OnConflict::columns([Column::WorkspaceId, Column::PhotoId])
            .update_columns([
                Column::Sharpness,
                Column::ExposureMean,
                Column::ShadowsClipped,
                Column::HighlightsClipped,
                Column::DominantColors,
                Column::PerceptualHash,
                Column::Caption,
                Column::Analyzer,
                Column::AnalyzedAt,
            ])
            .to_owned();
        self.insert([row])
            .on_conflict(replace)
            .named("store an analysis")
            .exec()
            .await?;
        Ok(())
    }
}

impl AnalysisRead for Reader {
    async fn analysis(&self, photo: PhotoId) -> Result<Option<(GalleryId, Analysis)>, StoreError> {
        const GALLERY: &str = "SELECT p.gallery_id FROM photos p
            JOIN galleries g ON g.workspace_id = p.workspace_id AND g.id = p.gallery_id
            WHERE p.workspace_id = $1 AND p.id = $2 AND g.deleted_at IS NULL";
        let galleries = self
            .query("read a photo's gallery", GALLERY, [photo.uuid().into()])
            .await?;
        let Some(gallery) = galleries.first() else {
            return Ok(None);
        };
        let gallery = GalleryId::from_uuid(column(gallery, "gallery_id")?);
        let row = self
            .select::<photo_analyses::Entity>()
            .filter(photo_analyses::Column::PhotoId.eq(photo.uuid()))
            .named("read an analysis")
            .one()
            .await?;
        row.map(|row| Ok((gallery, analysis_of(&row)?))).transpose()
    }

    async fn hashes(
        &self,
        gallery: GalleryId,
        after: Option<PhotoId>,
        limit: u32,
    ) -> Result<Vec<(PhotoId, PerceptualHash)>, StoreError> {
        // By the index of a gallery's photos; each hash is then one look-up by key.
        const HASHES: &str = "SELECT a.photo_id, a.perceptual_hash FROM photos p
            JOIN photo_analyses a ON a.workspace_id = p.workspace_id AND a.photo_id = p.id
            WHERE p.workspace_id = $1 AND p.gallery_id = $2 AND p.id > $3 ORDER BY p.id LIMIT $4";
        let values = [
            gallery.uuid().into(),
            after.map_or(Uuid::nil(), TypedId::uuid).into(),
            i64::from(limit).into(),
        ];
        let rows = self.query("read hashes", HASHES, values).await?;
        rows.iter()
            .map(|row| {
                let photo = PhotoId::from_uuid(column(row, "photo_id")?);
                Ok((photo, hash(column(row, "perceptual_hash")?)))
            })
            .collect()
    }
}
