//! How the gallery's errors become problems.

use rawdrive_http_api::App;
use rawdrive_http_api::web::{Code, IfMatch, Problem, sentence};
use rawdrive_plans::PlansTx as _;
use rawdrive_store::WriteTx;
use rawdrive_tenancy_core::{StoreError, WorkspaceScope};

use crate::analysis::{AnalysisError, AnalyzeError, Unfit};
use crate::{BodyError, BrandingError, ChangeError, ClientError, InspectError, UploadError};

/// When to try again after the analyser's queue was full, in seconds.
const ANALYZER_BUSY_SECONDS: u64 = 5;

/// When to look for renditions again, in seconds.
const RENDITIONS_SECONDS: u64 = 2;

pub(super) async fn upload_problem(
    app: &App,
    scope: &WorkspaceScope,
    error: UploadError,
) -> Problem {
    match error {
        UploadError::ReadOnly(read_only) => app.read_only(&read_only),
        UploadError::NoGallery => Problem::not_found(),
        UploadError::Exceeded(exceeded) => {
            app.exceeded(app.store.read(scope).entitlements().await, &exceeded)
        }
        UploadError::TooLarge { limit } => Problem::payload_too_large(limit),
        UploadError::Empty => Problem::invalid_field("file", "must not be empty"),
        UploadError::Content(error) => match error {
            InspectError::WrongContent { .. } | InspectError::Damaged { .. } => {
                Problem::new(Code::UnsupportedMediaType, sentence(&error))
            }
            InspectError::Truncated { .. } => Problem::invalid_field("file", error.to_string()),
        },
        UploadError::Body(BodyError::Broken) => {
            Problem::malformed("The body broke off before the length that was announced.")
        }
        UploadError::Body(BodyError::TooSlow) => Problem::request_timeout(),
        UploadError::Body(BodyError::Malformed(detail)) => Problem::malformed(detail),
        UploadError::Body(BodyError::Refused { field, message }) => {
            Problem::invalid_field(field, message)
        }
        UploadError::Expired => Problem::request_timeout(),
        UploadError::Blob(error) if error.is_full() => Problem::insufficient_storage(error),
        UploadError::Blob(error) => Problem::dependency_unavailable(error),
        UploadError::Store(StoreError::Dangling { .. }) => Problem::not_found(),
        UploadError::Store(error) => error.into(),
    }
}

pub(super) async fn analysis_problem(
    app: &App,
    scope: &WorkspaceScope,
    error: AnalysisError,
) -> Problem {
    match error {
        AnalysisError::ReadOnly(read_only) => app.read_only(&read_only),
        AnalysisError::NoPhoto => Problem::not_found(),
        AnalysisError::Unfit(error @ Unfit::Format { .. }) => {
            Problem::new(Code::UnsupportedMediaType, sentence(&error))
        }
        AnalysisError::Unfit(Unfit::TooLarge(bound)) => {
            Problem::invalid_field("photo", bound.to_string())
        }
        AnalysisError::Exceeded(exceeded) => {
            app.exceeded(app.store.read(scope).entitlements().await, &exceeded)
        }
        AnalysisError::Analyzer(error) => match error {
            AnalyzeError::Damaged(_) => {
                Problem::invalid_field("photo", "has damaged pixels that cannot be decoded")
                    .caused_by(error)
            }
            AnalyzeError::TooLarge(bound) => Problem::invalid_field("photo", bound.to_string()),
            AnalyzeError::Busy => Problem::new(
                Code::DependencyUnavailable,
                "Too many photos are being analysed. Try again shortly.",
            )
            .retry_after(ANALYZER_BUSY_SECONDS),
            AnalyzeError::Unavailable(_) => Problem::dependency_unavailable(error),
        },
        AnalysisError::Expired => Problem::dependency_unavailable(error),
        AnalysisError::Store(error) => error.into(),
    }
}

/// Of a transaction that is still open.
pub(super) async fn change_problem(
    app: &App,
    tx: &mut WriteTx,
    condition: &IfMatch,
    error: ChangeError,
) -> Problem {
    match error {
        ChangeError::NoPhoto | ChangeError::NoGallery => Problem::not_found(),
        ChangeError::Exceeded(exceeded) => app.exceeded(tx.entitlements().await, &exceeded),
        ChangeError::Store(error) => condition.lost_to(error),
    }
}

/// The renditions of a photo are not there yet.
pub(super) fn not_ready() -> Problem {
    let detail = "The photo's renditions are being made. Try again shortly.";
    Problem::new(Code::NotReady, detail).retry_after(RENDITIONS_SECONDS)
}

pub(super) fn branding_problem(app: &App, error: BrandingError) -> Problem {
    match error {
        BrandingError::Refused(refused) => app.refused(refused),
        error @ BrandingError::UnknownLogo => {
            Problem::invalid_field("logo_photo_id", error.to_string())
        }
        BrandingError::Store(error) => error.into(),
    }
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::EmailTaken => Self::new(
                Code::Conflict,
                "Another client of this workspace has this e-mail address.",
            ),
            ClientError::Store(error) => error.into(),
        }
    }
}
