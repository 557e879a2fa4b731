//! How the workspace looks to its clients.

use actix_web::{HttpRequest, HttpResponse, get, post, web};
use rawdrive_http_api::App;
use rawdrive_http_api::auth::{Admin, Member, Scoped};
use rawdrive_http_api::idempotent_write::{Answer, Begin, mutate};
use rawdrive_http_api::openapi::headers::Idempotent;
use rawdrive_http_api::web::{Body, Nullable, Problem, read_json};
use rawdrive_tenancy_core::id::TypedId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problems::branding_problem;
use crate::id::PhotoId;
use crate::{Branding, Color, GalleryRead, Title, Website};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SaveBranding {
    display_name: String,
    /// `#rrggbb`.
    primary_color: String,
    /// A photo of this workspace.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    logo_photo_id: Nullable<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    website: Nullable<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct BrandingView {
    #[schema(required = true)]
    display_name: Option<String>,
    #[schema(required = true)]
    primary_color: Option<String>,
    #[schema(required = true)]
    logo_photo_id: Option<String>,
    #[schema(required = true)]
    website: Option<String>,
}

impl From<Option<&Branding>> for BrandingView {
    fn from(branding: Option<&Branding>) -> Self {
        Self {
            display_name: branding.map(|b| b.display_name.to_string()),
            primary_color: branding.map(|b| b.primary_color.to_string()),
            logo_photo_id: branding.and_then(|b| b.logo_photo).map(|id| id.to_string()),
            website: branding
                .and_then(|b| b.website.as_ref())
                .map(ToString::to_string),
        }
    }
}

/// The branding; members are `null` until it is saved.
#[utoipa::path(tag = "branding", security(("bearer" = [])), responses((status = 200, body = BrandingView), (status = 401)))]
#[get("/v1/branding")]
pub(crate) async fn show_branding(
    app: web::Data<App>,
    scoped: Scoped<Member>,
) -> Result<HttpResponse, Problem> {
    let branding = app.store.read(&scoped.scope).branding().await?;
    Ok(HttpResponse::Ok().json(BrandingView::from(branding.as_ref())))
}

/// Saves the branding, on plans that include it.
#[utoipa::path(tag = "branding", security(("bearer" = [])), params(Idempotent), request_body = SaveBranding, responses((status = 201, body = BrandingView), (status = 402, description = "workspace_read_only or feature_not_available"), (status = 403), (status = 422)))]
#[post("/v1/branding")]
pub(crate) async fn save_branding(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let (input, mut v): (SaveBranding, _) = read_json(bytes)?;
        let name = v.check("display_name", input.display_name.parse::<Title>());
        let color = v.check("primary_color", input.primary_color.parse::<Color>());
        let website = v.check_some("website", input.website.value(), |text| {
            text.parse::<Website>()
        });
        // A malformed id answers as an unknown photo.
        let logo_photo = input
            .logo_photo_id
            .value()
            .map(|id| id.parse().unwrap_or(PhotoId::from_uuid(uuid::Uuid::nil())));
        let (display_name, primary_color) = v.finish_with(name.zip(color))?;
        Ok(Branding {
            display_name,
            primary_color,
            logo_photo,
            website,
        })
    };
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        Begin::Writable,
        read,
        async |tx, _, branding| {
            let saved = crate::save_branding(tx, app.env(), &branding).await;
            saved.map_err(|error| branding_problem(&app, error))?;
            app.review_onboarding(tx).await?;
            Answer::created(&BrandingView::from(Some(&branding)))
        },
    )
    .await
}
