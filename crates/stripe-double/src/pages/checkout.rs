//! The page of a Checkout session.

use crate::json::Fields as _;
use crate::routes::{self, complete_checkout, price_words};
use crate::state::{Kind, World};
use crate::wire::error::ApiError;
use crate::wire::params::Params;

use super::{CARD_FIELD, Page, card_number, error_line, escape, frame};

pub(super) fn show(world: &mut World, id: &str, error: Option<&ApiError>) -> Page {
    if world.kind_of(id) != Some(Kind::CheckoutSession) {
        return Page::Missing;
    }
    let session = world.copy(id);
    let is_back = session.text("status") == "open" && session.link("_subscription").is_some();
    if is_back && error.is_none() {
        // Back from authentication.
        return finish(world, id, &Params::default());
    }
    match session.text("status") {
        "open" => {}
        "complete" => {
            let body = "<p>This session is complete.</p>";
            return Page::Html(frame("Checkout", body));
        }
        _ => {
            let body = "<p>This session has expired.</p>";
            return Page::Html(frame("Checkout", body));
        }
    }
    let lines = session.rows("_line_items").iter();
    let lines: String = lines
        .map(|line| format!("<li>{}</li>", escape(&price_words(line))))
        .collect();
    let email = if session["customer"].is_null() {
        format!(
            "<label>E-mail <input name=\"email\" type=\"email\" required value=\"{}\"></label>",
            escape(session.text("customer_email"))
        )
    } else {
        String::new()
    };
    let trial = match session.time("_trial_days") {
        Some(days) => format!("<p>{days} days free.</p>"),
        None => String::new(),
    };
    let back = session.link("cancel_url").map_or_else(String::new, |url| {
        format!("<p><a href=\"{}\">Back</a></p>", escape(url))
    });
    let body = format!(
        "{}<ul>{lines}</ul>{trial}<form method=\"post\">{email}{CARD_FIELD}\
         <p><button>Subscribe</button></p></form>{back}",
        error_line(error)
    );
    Page::Html(frame("Checkout", &body))
}

pub(super) fn submit(world: &mut World, id: &str, params: &Params) -> Page {
    if world.kind_of(id) != Some(Kind::CheckoutSession) {
        return Page::Missing;
    }
    finish(world, id, params)
}

fn finish(world: &mut World, id: &str, params: &Params) -> Page {
    match complete_checkout(world, id, &card_number(params), params) {
        Ok(routes::Completion::Done(to)) => Page::Redirect(to),
        Ok(routes::Completion::Authenticate(intent)) => {
            let back = format!("{}/c/pay/{id}", world.base_url);
            super::secure::return_to(world, &intent, &back);
            Page::Redirect(format!("/3d_secure/{intent}"))
        }
        Err(error) => show(world, id, Some(&error)),
    }
}
