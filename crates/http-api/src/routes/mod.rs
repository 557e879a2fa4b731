//! The routes, one module a subject; this list is the router and the OpenAPI document at once.

pub(crate) mod accounts;
pub(crate) mod api_keys;
pub(crate) mod billing;
pub(crate) mod checks;
mod docs;
pub(crate) mod email_tokens;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod onboarding;
pub(crate) mod plans;
pub(crate) mod reservations;
pub(crate) mod team;
pub(crate) mod tokens;
pub(crate) mod usage;
pub(crate) mod webhook_endpoints;
pub(crate) mod webhooks;
pub(crate) mod workspace;

use actix_web::web::{Data, ServiceConfig, scope};
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

use crate::app::App;
use crate::extension::{Routes, Vocabulary};
use crate::openapi::complete;
use crate::openapi::scopes::OperationScopes;
use crate::pages::person_pages;
use crate::vocabulary::VOCABULARY;
use crate::web::{AllowedMethods, extractor_errors, pages};

fn core() -> Routes {
    crate::routes! { Core:
    accounts::sign_up, accounts::sign_in, accounts::refresh_session, accounts::switch_workspace, accounts::sign_out,
    accounts::show_me, accounts::update_me, accounts::jwks,
    email_tokens::request_password_reset, email_tokens::complete_password_reset,
    email_tokens::request_email_verification, email_tokens::complete_email_verification,
    api_keys::list_api_keys, api_keys::create_api_key, api_keys::revoke_api_key, tokens::create_token,
    workspace::show_workspace, workspace::update_workspace, workspace::list_audit, workspace::audit_anchor,
    onboarding::show_onboarding, onboarding::skip_step, onboarding::unskip_step,
    team::list_members, team::change_member, team::remove_member, team::leave_workspace, team::transfer_workspace,
    team::list_invitations, team::create_invitation, team::revoke_invitation, team::accept_invitation,
    plans::list_plans, plans::show_entitlements, checks::check_entitlement, plans::show_usage,
    usage::show_usage_history, usage::list_usage_events, usage::report_usage_events, usage::list_statements,
    usage::show_statement,
    reservations::create_reservation, reservations::show_reservation, reservations::settle_reserved_units,
    reservations::extend_reserved_units, reservations::delete_reservation,
    billing::show_subscription, billing::create_subscription, billing::preview_subscription,
    billing::change_subscription, billing::cancel_subscription, billing::resume_subscription,
    billing::open_checkout, billing::open_portal, billing::list_invoices, webhooks::stripe_webhook,
    events::list_events,
    webhook_endpoints::list_webhook_endpoints, webhook_endpoints::create_webhook_endpoint,
    webhook_endpoints::show_webhook_endpoint, webhook_endpoints::update_webhook_endpoint,
    webhook_endpoints::delete_webhook_endpoint, webhook_endpoints::rotate_webhook_secret,
    webhook_endpoints::list_webhook_deliveries, webhook_endpoints::resend_webhook_delivery,
    health::livez, health::readyz,
    }
    .vocabulary(VOCABULARY)
}

/// The routes as they declare themselves, before [`complete`].
pub(crate) fn declared<'a>(products: impl IntoIterator<Item = &'a Routes>) -> OpenApi {
    let mut document = core().declared;
    for routes in products {
        document.merge(routes.declared.clone());
    }
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .build();
    let components = document.components.get_or_insert_with(Default::default);
    components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    document.info.title = "RawDrive".to_owned();
    document
}

/// The OpenAPI document of the core's routes and of `products`, for an installation at `base_url`.
#[must_use]
pub fn document(products: &[Routes], base_url: &str) -> serde_json::Value {
    let words = vocabularies(products);
    complete(&declared(products), &words, base_url)
}

/// The core's words, then the products'.
fn vocabularies(products: &[Routes]) -> Vec<Vocabulary> {
    let products = products.iter().map(|routes| routes.vocabulary);
    [VOCABULARY].into_iter().chain(products).collect()
}

/// Mounts everything into an actix application, below the app's prefix: `App::new().configure(configure(app.clone()))`.
/// Wrap the application in [`App::edge`], which adds request ids, logs and draining.
pub fn configure(app: Data<App>) -> impl Fn(&mut ServiceConfig) + Clone {
    let declared = declared(&app.routes);
    let scopes = Data::new(OperationScopes::of(&declared));
    let paths = app.routes.iter().flat_map(|routes| &routes.pages).copied();
    let allowed = AllowedMethods::of(&declared, paths, app.prefix());
    let about = app
        .vocabularies()
        .map(|words| words.about)
        .find(|about| !about.is_empty());
    let pages = pages(app.prefix(), about.unwrap_or_default());
    let words = vocabularies(&app.routes);
    let docs = docs::docs(&complete(&declared, &words, &app.settings.public_url));
    let core = core();
    move |config| {
        config
            .app_data(app.clone())
            .app_data(scopes.clone())
            .configure(extractor_errors);
        let mount = |config: &mut ServiceConfig| {
            core.register(config);
            for routes in &app.routes {
                routes.register(config);
            }
            config
                .configure(pages.clone())
                .configure(person_pages)
                .configure(docs.clone())
                .default_service(allowed.default_service());
        };
        match app.prefix() {
            "" => mount(config),
            prefix => {
                config.service(scope(prefix).configure(mount));
            }
        }
    }
}
