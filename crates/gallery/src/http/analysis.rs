//! Analyses of photos.

use crate::analysis::{Analyzed, NearDuplicate, analyze, near_duplicates};
use crate::id::PhotoId;
use crate::{AnalysisRead as _, Companion};
use actix_web::{HttpRequest, HttpResponse, get, post, web};
use rawdrive_store::{Claim, WriteTx, in_request};
use rawdrive_tenancy_core::StoreError;
use serde::Serialize;
use utoipa::ToSchema;

use super::GalleryApi;
use super::problems::analysis_problem;
use rawdrive_http_api::auth::{Member, Scoped};
use rawdrive_http_api::idempotent_write::{
    Answer, KeyOutcome, claim, nothing, replay, settle_refusal,
};
use rawdrive_http_api::openapi::headers::Idempotent;
use rawdrive_http_api::web::{Body, Problem, body_digest, path_id};
use rawdrive_http_api::{App, time};

#[derive(Serialize, ToSchema)]
pub(crate) struct ExposureView {
    /// Mean luma, from 0 (black) to 1 (white).
    mean: f64,
    /// The share of pixels that are black, or nearly.
    shadows_clipped: f64,
    /// The share of pixels that are white, or nearly.
    highlights_clipped: f64,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ColorView {
    /// `#rrggbb`.
    color: String,
    /// From 0 to 1; all together at most 1.
    share: f64,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct NearDuplicateView {
    photo_id: String,
    /// Bits of 64 in which the perceptual hashes differ: at most 10.
    distance: u32,
}

impl From<&NearDuplicate> for NearDuplicateView {
    fn from(near: &NearDuplicate) -> Self {
        Self {
            photo_id: near.photo.to_string(),
            distance: near.distance,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct AnalysisView {
    photo_id: String,
    /// Variance of the Laplacian of the luma (0 to 255), the longer side scaled to 512 pixels: 0 for a plain
    /// surface, below about 100 for a blurred photo, at most 1,040,400.
    sharpness: f64,
    exposure: ExposureView,
    /// At most five, the largest share first.
    dominant_colors: Vec<ColorView>,
    /// 64 bits as 16 hex digits.
    perceptual_hash: String,
    /// Analysed photos of the same gallery that look nearly the same, nearest first, at most 50.
    near_duplicates: Vec<NearDuplicateView>,
    /// A sentence or two; `null` where the installation asks no model.
    #[schema(required = true)]
    description: Option<String>,
    /// Keywords; empty where the installation asks no model.
    tags: Vec<String>,
    /// Who analysed, by name and version.
    analyzer: String,
    analyzed_at: String,
}

impl From<&Analyzed> for AnalysisView {
    fn from(analyzed: &Analyzed) -> Self {
        let analysis = &analyzed.analysis;
        let (measured, caption) = (&analysis.findings.measured, &analysis.findings.caption);
        Self {
            photo_id: analysis.photo.to_string(),
            sharpness: measured.sharpness,
            exposure: ExposureView {
                mean: measured.exposure.mean,
                shadows_clipped: measured.exposure.shadows_clipped,
                highlights_clipped: measured.exposure.highlights_clipped,
            },
            dominant_colors: measured
                .dominant_colors
                .iter()
                .map(|found| ColorView {
                    color: found.color.to_string(),
                    share: found.share,
                })
                .collect(),
            perceptual_hash: measured.perceptual_hash.to_string(),
            near_duplicates: analyzed.near_duplicates.iter().map(Into::into).collect(),
            description: caption.as_ref().map(|c| c.description.clone()),
            tags: caption.as_ref().map_or_else(Vec::new, |c| c.tags.clone()),
            analyzer: analysis.analyzer.clone(),
            analyzed_at: time(analysis.analyzed_at),
        }
    }
}

/// Holds on to the idempotency key while the model looks, and puts the answer under it into the analysis' own
/// transaction.
struct KeepAnswer(Option<Claim>);

impl Companion<WriteTx, Analyzed> for KeepAnswer {
    async fn renew(&self, tx: &mut WriteTx) -> Result<(), StoreError> {
        match &self.0 {
            Some(claim) => tx.renew_key(claim).await,
            None => Ok(()),
        }
    }

    async fn stored(self, tx: &mut WriteTx, analyzed: &Analyzed) -> Result<(), StoreError> {
        let Some(claim) = self.0 else { return Ok(()) };
        // A view of plain fields always has a JSON text.
        let Ok(answer) = Answer::created(&AnalysisView::from(analyzed)) else {
            return Ok(());
        };
        tx.complete_key(&claim, &answer.stored(None)).await
    }
}

/// Analyses a photo anew: one unit of `ai_analysis`, consumed only if it succeeds.
#[utoipa::path(
    tag = "photos", security(("bearer" = [])), params(("id" = String, Path), Idempotent),
    responses(
        (status = 201, body = AnalysisView), (status = 402, description = "workspace_read_only or quota_exceeded"), (status = 404),
        (status = 415, description = "Its format cannot be decoded: JPEG, PNG and WebP can"),
        (status = 422, description = "Its pixels are damaged, too many, or take more memory to decode than there is for it: the message says the bound"),
        (status = 503, description = "The analyser is busy or unavailable")
    )
)]
#[post("/v1/photos/{id}/analysis")]
pub(crate) async fn analyze_photo(
    app: web::Data<App>,
    gallery: web::Data<GalleryApi>,
    scoped: Scoped<Member>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let bytes = body.json_bytes().await?;
    let claim = match claim(&app, &scoped.scope, &request, &body_digest(&bytes)).await? {
        KeyOutcome::Go(claim) => claim,
        KeyOutcome::Replay(stored) => return Ok(replay(&app, stored)),
    };
    let outcome = async {
        nothing(&bytes)?;
        run(&app, &gallery, &scoped, &id, claim.clone()).await
    };
    match outcome.await {
        Ok(analyzed) => Ok(Answer::created(&AnalysisView::from(&analyzed))?.send(&app)),
        Err(problem) => {
            settle_refusal(&app, &scoped.scope, claim.as_ref(), &problem).await;
            Err(problem)
        }
    }
}

/// In a task of its own: a cancelled request drops this handler, and not what it holds.
async fn run(
    app: &web::Data<App>,
    gallery: &web::Data<GalleryApi>,
    scoped: &Scoped<Member>,
    id: &str,
    claim: Option<Claim>,
) -> Result<Analyzed, Problem> {
    let photo: PhotoId = path_id(id)?;
    let (task_app, gallery, scope) = (app.clone(), gallery.clone(), scoped.scope);
    let task = tokio::spawn(in_request(async move {
        let store = &task_app.store;
        analyze(
            store,
            &store.read(&scope),
            &gallery.blobs,
            gallery.analyzer.as_ref(),
            store.env(),
            &scope,
            photo,
            KeepAnswer(claim),
        )
        .await
    }));
    match task.await.map_err(Problem::internal)? {
        Ok(analyzed) => Ok(analyzed),
        Err(error) => Err(analysis_problem(app, &scoped.scope, error).await),
    }
}

/// A photo's latest analysis, with the near duplicates as they are now.
#[utoipa::path(tag = "photos", security(("bearer" = [])), params(("id" = String, Path)), responses((status = 200, body = AnalysisView), (status = 404, description = "There is no such photo, or it was never analysed")))]
#[get("/v1/photos/{id}/analysis")]
pub(crate) async fn show_analysis(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let read = app.store.read(&scoped.scope);
    let found = read.analysis(path_id(&id)?).await?;
    let (gallery, analysis) = found.ok_or_else(Problem::not_found)?;
    let hash = analysis.findings.measured.perceptual_hash;
    let near_duplicates = near_duplicates(&read, gallery, analysis.photo, hash).await?;
    Ok(HttpResponse::Ok().json(AnalysisView::from(&Analyzed {
        analysis,
        near_duplicates,
    })))
}
