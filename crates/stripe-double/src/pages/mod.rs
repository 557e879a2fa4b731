//! The hosted pages: plain forms that do what Stripe's do.

mod checkout;
mod invoice;
mod portal;
mod secure;

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::header;

use crate::json::Fields as _;
use crate::shared::Shared;
use crate::state::{Cause, World};
use crate::wire::error::ApiError;
use crate::wire::form;
use crate::wire::params::Params;

/// What a page answers.
enum Page {
    Html(String),
    /// The browser goes somewhere else.
    Redirect(String),
    Missing,
}

/// Answers a request to a page.
pub(crate) fn answer(shared: &Arc<Shared>, method: &str, path: &str, body: &str) -> HttpResponse {
    let Ok(fields) = form::decode(body) else {
        return HttpResponse::BadRequest().finish();
    };
    let params = Params::new(fields);
    let path: Vec<_> = path.trim_start_matches('/').split('/').collect();
    let mut inner = shared.lock();
    shared.catch_up(&mut inner);
    let real_now = inner.world.now;
    let id = path.last().copied().unwrap_or_default();
    if let Some(clock) = inner.world.clock_of(id) {
        inner.world.now = inner.world.copy(&clock).number("frozen_time");
    }
    inner.world.cause = Cause::default();
    let page = show(&mut inner.world, method, &path, &params);
    inner.world.now = real_now;
    shared.take_up(&mut inner);
    shared.catch_up_after(&mut inner);
    drop(inner);
    match page {
        Page::Html(html) => HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8"))
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .body(html),
        Page::Redirect(to) => HttpResponse::SeeOther()
            .insert_header((header::LOCATION, to))
            .finish(),
        Page::Missing => HttpResponse::NotFound()
            .insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8"))
            .body(frame("Not found", "<p>There is nothing here.</p>")),
    }
}

fn show(world: &mut World, method: &str, path: &[&str], params: &Params) -> Page {
    match (method, path) {
        ("GET", ["c", "pay", id]) => checkout::show(world, id, None),
        ("POST", ["c", "pay", id]) => checkout::submit(world, id, params),
        ("GET", ["p", "session", id]) => portal::show(world, id, None),
        ("POST", ["p", "session", id]) => portal::submit(world, id, params),
        ("GET", ["3d_secure", id]) => secure::show(world, id),
        ("POST", ["3d_secure", id]) => secure::submit(world, id, params),
        ("GET", ["i", id]) => invoice::show(world, id, None),
        ("POST", ["i", id]) => invoice::submit(world, id, params),
        ("GET", ["receipts", id]) => invoice::receipt(world, id),
        _ => Page::Missing,
    }
}

/// A whole page around a body.
fn frame(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:3rem auto;padding:0 1rem}}\
         label{{display:block;margin:.7rem 0}}input,select,button{{font:inherit;padding:.3rem .5rem}}\
         .error{{color:#a00}}form{{margin:1rem 0}}</style></head>\n\
         <body>\n<h1>{title}</h1>\n{body}\n<p><small>A double of Stripe. No money moves.</small></p>\n</body>\n</html>\n"
    )
}

/// Text for HTML, in content and in quoted attributes.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// An error above a form.
fn error_line(error: Option<&ApiError>) -> String {
    let message = error
        .and_then(|error| error.fields.get("message"))
        .and_then(serde_json::Value::as_str);
    message.map_or_else(String::new, |message| {
        format!("<p class=\"error\" role=\"alert\">{}</p>", escape(message))
    })
}

/// The choice of a card, as every form that asks for one shows it.
const CARD_FIELD: &str = "<label>Card number \
<input name=\"card\" inputmode=\"numeric\" autocomplete=\"off\" value=\"4242424242424242\" list=\"cards\"></label>\
<datalist id=\"cards\">\
<option value=\"4242424242424242\">Pays</option>\
<option value=\"4000002500003155\">Asks for authentication</option>\
<option value=\"4000002760003184\">Asks for authentication each time</option>\
<option value=\"4000000000000341\">Attaches, then fails</option>\
<option value=\"4000000000000002\">Declined</option>\
<option value=\"4000000000009995\">Insufficient funds</option>\
<option value=\"4000000000000259\">Disputed later</option>\
</datalist>";

/// The card number of a form, without its spaces.
fn card_number(params: &Params) -> String {
    let number = params.text("card").ok().flatten().unwrap_or_default();
    number.replace([' ', '-'], "")
}
