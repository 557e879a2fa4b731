//! The API's document, and the pages that show it.

use std::sync::Arc;

use actix_web::guard::Get;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
};
use actix_web::web::{self, Path, ServiceConfig};
use actix_web::{HttpResponse, Resource};
use bytes::Bytes;
use serde_json::Value;
use utoipa_swagger_ui::{Config, serve};

use crate::openapi::compact;
use crate::web::Problem;

/// Swagger UI brings its scripts along, asks this server alone, draws some icons from its own style sheet, and styles
/// elements one by one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The page that leads there.
const REDIRECT_POLICY: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The page itself lies below the slash, where its relative links hold.
const REDIRECT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>RawDrive API</title>\
                        <meta http-equiv=\"refresh\" content=\"0; url=docs/\">\
                        <p><a href=\"docs/\">The API's documentation</a></p></html>";

/// Serves `GET /openapi.json`, `GET /docs` and what lies below.
pub(crate) fn docs(document: &Value) -> impl Fn(&mut ServiceConfig) + Clone + use<> {
    let document = Bytes::from(compact(document));
    // Otherwise a script of somebody else's would be asked what it thinks of the document.
    let config = Arc::new(Config::from("../openapi.json").validator_url("none"));
    move |service| {
        let (document, config) = (document.clone(), Arc::clone(&config));
        service
            .service(got("/openapi.json").to(move || {
                let answer = HttpResponse::Ok()
                    .insert_header((CONTENT_TYPE, "application/json"))
                    .body(document.clone());
                std::future::ready(answer)
            }))
            .service(got("/docs").to(|| std::future::ready(html(REDIRECT_POLICY).body(REDIRECT))))
            .service(got("/docs/{file:.*}").to(move |path: Path<String>| {
                std::future::ready(file(&path, Arc::clone(&config)))
            }));
    }
}

fn got(path: &str) -> Resource {
    web::resource(path.to_owned()).guard(Get())
}

fn html(policy: &'static str) -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((CONTENT_SECURITY_POLICY, policy));
    response
}

fn file(path: &str, config: Arc<Config<'static>>) -> Result<HttpResponse, Problem> {
    let file = serve(path, config)
        .map_err(|error| Problem::internal(error.to_string()))?
        .ok_or_else(Problem::not_found)?;
    // Not only on the page: a script or an image that is opened by itself is bound as well.
    let mut response = html(POLICY);
    response
        .insert_header((CONTENT_TYPE, file.content_type))
        .insert_header((CACHE_CONTROL, "public, max-age=3600"));
    if file.gzpipped {
        response.insert_header((CONTENT_ENCODING, "gzip"));
    }
    Ok(response.body(file.bytes.into_owned()))
}
