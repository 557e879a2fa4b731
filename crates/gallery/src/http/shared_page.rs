//! The page that a client's link leads to.

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::web::ServiceConfig;
use rawdrive_http_api::web::page_route;

/// Where the link that is mailed to a client points, on the installation's public URL.
pub(super) const SHARED_PATH: &str = "/shared";
const SHARED_SCRIPT_PATH: &str = "/shared.js";

/// The page and its script.
pub(super) const PATHS: [&str; 2] = [SHARED_PATH, SHARED_SCRIPT_PATH];

/// Serves `GET /shared`, which shows a client's galleries by asking the API with the token in its own address,
/// and the script that does so.
pub(super) fn register(config: &mut ServiceConfig) {
    // The address holds a token: nobody keeps the page under it. The script is the same for everybody.
    const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    config
        .service(page_route(SHARED_PATH).to(|| async {
            HttpResponse::Ok()
                .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
                .insert_header((CACHE_CONTROL, "no-store"))
                .insert_header((CONTENT_SECURITY_POLICY, POLICY))
                .body(include_str!("shared.html"))
        }))
        .service(page_route(SHARED_SCRIPT_PATH).to(|| async {
            HttpResponse::Ok()
                .insert_header((CONTENT_TYPE, "text/javascript; charset=utf-8"))
                .insert_header((CACHE_CONTROL, "public, max-age=3600"))
                .body(include_str!("shared.js"))
        }));
}
