//! The routes, one module a subject; this list is the router and the OpenAPI document at once.

pub(crate) mod accounts;
pub(crate) mod analysis;
pub(crate) mod api_keys;
pub(crate) mod billing;
pub(crate) mod checks;
pub(crate) mod clients;
mod docs;
pub(crate) mod email_tokens;
pub(crate) mod galleries;
pub(crate) mod health;
pub(crate) mod libraries;
pub(crate) mod onboarding;
pub(crate) mod photos;
pub(crate) mod plans;
pub(crate) mod reservations;
pub(crate) mod shared;
pub(crate) mod team;
pub(crate) mod usage;
pub(crate) mod webhooks;
pub(crate) mod workspace;

use actix_web::web::{Data, ServiceConfig};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

use crate::app::App;
use crate::openapi::complete;
use crate::web::{
    AllowedMethods, email_token_pages, extractor_errors, home_page, problem_pages, shared_page,
};

macro_rules! routes {
    ($($module:ident :: $handler:ident),+ $(,)?) => {
        fn register(config: &mut ServiceConfig) {
            $(config.service($module::$handler);)+
        }

        #[derive(OpenApi)]
        #[openapi(
            info(
                title = "RawDrive"
            ),
            paths($($module::$handler),+),
            modifiers(&BearerToken),
        )]
        struct Document;
    };
}

routes! {
    accounts::sign_up, accounts::sign_in, accounts::refresh_session, accounts::switch_workspace, accounts::sign_out,
    accounts::show_me, accounts::update_me, accounts::jwks,
    email_tokens::request_password_reset, email_tokens::complete_password_reset,
    email_tokens::request_email_verification, email_tokens::complete_email_verification,
    api_keys::list_api_keys, api_keys::create_api_key, api_keys::revoke_api_key,
    workspace::show_workspace, workspace::update_workspace, workspace::list_audit, workspace::audit_anchor,
    onboarding::show_onboarding, onboarding::skip_step, onboarding::unskip_step,
    team::list_members, team::change_member, team::remove_member, team::leave_workspace, team::transfer_workspace,
    team::list_invitations, team::create_invitation, team::revoke_invitation, team::accept_invitation,
    plans::list_plans, plans::show_entitlements, checks::check_entitlement, plans::show_usage,
    usage::show_usage_history, usage::list_usage_events, usage::report_usage_events, usage::list_statements,
    usage::show_statement,
    reservations::create_reservation, reservations::show_reservation, reservations::settle_reserved_units,
    reservations::extend_reserved_units, reservations::delete_reservation,
    libraries::list_libraries, libraries::create_library, libraries::show_library, libraries::update_library,
    libraries::delete_library,
    galleries::list_galleries, galleries::create_gallery, galleries::show_gallery, galleries::update_gallery,
    galleries::delete_gallery, galleries::restore_gallery,
    photos::upload, photos::list_photos, photos::show_photo, photos::delete_photo, photos::download,
    analysis::analyze_photo, analysis::show_analysis,
    photos::show_branding, photos::save_branding,
    clients::list_clients, clients::create_client, clients::show_client, clients::update_client, clients::delete_client,
    clients::invite_client, clients::revoke_invite,
    shared::show_shared, shared::list_shared_photos, shared::download_shared, shared::shared_logo,
    billing::show_subscription, billing::create_subscription, billing::preview_subscription,
    billing::change_subscription, billing::cancel_subscription, billing::resume_subscription,
    billing::open_checkout, billing::open_portal, billing::list_invoices, webhooks::stripe_webhook,
    health::livez, health::readyz,
}

struct BearerToken;

impl utoipa::Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .build();
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// The routes as they declare themselves, before [`complete`].
fn declared() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// The OpenAPI document of all routes, for an installation at `public_url`.
#[must_use]
pub fn document(public_url: &str) -> serde_json::Value {
    complete(&declared(), public_url)
}

/// Mounts everything into an actix application: `App::new().configure(configure(app))`. Wrap the application
/// in [`Edge`](crate::web::Edge), which adds request ids, logs and draining.
pub fn configure(app: Data<App>) -> impl Fn(&mut ServiceConfig) + Clone {
    let declared = declared();
    let allowed = AllowedMethods::of(&declared);
    let docs = docs::docs(&complete(&declared, &app.settings.public_url));
    move |config| {
        let upgrade = "The workspace's owners and admins choose a larger plan in their application, which asks \
                       `POST /v1/billing/checkout` for a page to pay on, or `PATCH /v1/billing/subscription` for a \
                       change.\n\nWhere this installation takes no payments, ask its operator: `rawdrive admin \
                       set-plan` moves a workspace at once.\n\nWhat is stored stays, and can be read, downloaded and deleted on every plan.";
        config
            .app_data(app.clone())
            .configure(extractor_errors)
            .configure(register)
            .configure(problem_pages(upgrade))
            .configure(home_page)
            .configure(shared_page)
            .configure(email_token_pages)
            .configure(docs.clone())
            .default_service(allowed.default_service());
    }
}
