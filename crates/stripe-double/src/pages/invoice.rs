//! The hosted page of an invoice, and the receipt of a charge.

use crate::cards;
use crate::engine::paying::{self, Attempt, Outcome};
use crate::engine::{invoicing, setting_up};
use crate::json::Fields as _;
use crate::money;
use crate::routes::payment_method_from_number;
use crate::state::{Kind, World};
use crate::wire::error::ApiError;
use crate::wire::params::Params;

use super::{CARD_FIELD, Page, card_number, error_line, escape, frame};

pub(super) fn show(world: &World, id: &str, error: Option<&ApiError>) -> Page {
    let Some(invoice) = world
        .get(id)
        .filter(|_| world.kind_of(id) == Some(Kind::Invoice))
    else {
        return Page::Missing;
    };
    let currency = invoice.text("currency");
    let lines = invoice.rows("lines").iter().map(|line| {
        format!(
            "<li>{}: {}</li>",
            escape(line.text("description")),
            money::words(line.number("amount"), currency)
        )
    });
    let form = if invoice.text("status") == "open" {
        format!("<form method=\"post\">{CARD_FIELD}<p><button>Pay</button></p></form>")
    } else {
        String::new()
    };
    let body = format!(
        "{}<p>{} ({})</p><ul>{}</ul><p>Due: {}</p>{form}",
        error_line(error),
        escape(invoice.text("number")),
        escape(invoice.text("status")),
        lines.collect::<String>(),
        money::words(invoice.number("amount_remaining"), currency),
    );
    Page::Html(frame("Invoice", &body))
}

pub(super) fn submit(world: &mut World, id: &str, params: &Params) -> Page {
    let invoice = world.copy(id);
    if invoice.text("object") != "invoice" || invoice.text("status") != "open" {
        return show(world, id, None);
    }
    let method = match payment_method_from_number(world, &card_number(params), (12, 2034)) {
        Ok(method) => method,
        Err(error) => return show(world, id, Some(&error)),
    };
    let attaches = cards::attach(&method).is_ok();
    let method = world.insert(Kind::PaymentMethod, method);
    if attaches {
        setting_up::attach(world, &method, invoice.text("customer"));
    }
    let attempt = Attempt {
        method: Some(method),
        ..Attempt::default()
    };
    match paying::attempt(world, id, &attempt) {
        Outcome::Paid => show(world, id, None),
        Outcome::Failed(error) => show(world, id, Some(&error)),
        Outcome::ActionRequired => {
            let intent = invoicing::intent_of(world, id).unwrap_or_default();
            let back = format!("{}/i/{id}", world.base_url);
            super::secure::return_to(world, &intent, &back);
            Page::Redirect(format!("/3d_secure/{intent}"))
        }
    }
}

pub(super) fn receipt(world: &World, id: &str) -> Page {
    let Some(charge) = world
        .get(id)
        .filter(|_| world.kind_of(id) == Some(Kind::Charge))
    else {
        return Page::Missing;
    };
    let amount = money::words(charge.number("amount"), charge.text("currency"));
    Page::Html(frame("Receipt", &format!("<p>Paid: {amount}</p>")))
}
