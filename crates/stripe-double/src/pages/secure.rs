//! The bank's page on which a card's holder authenticates.

use serde_json::json;

use crate::engine::paying;
use crate::json::Fields as _;
use crate::state::{Kind, World};
use crate::wire::params::Params;

use super::{Page, error_line, frame};

/// Where the holder goes afterwards.
pub(super) fn return_to(world: &mut World, intent: &str, url: &str) {
    world.edit(intent, |intent| {
        intent["next_action"]["redirect_to_url"]["return_url"] = json!(url);
    });
}

fn is_intent(world: &World, id: &str) -> bool {
    matches!(
        world.kind_of(id),
        Some(Kind::PaymentIntent | Kind::SetupIntent)
    )
}

pub(super) fn show(world: &World, id: &str) -> Page {
    if !is_intent(world, id) {
        return Page::Missing;
    }
    if world.copy(id).text("status") != "requires_action" {
        let body = "<p>There is nothing to authenticate.</p>";
        return Page::Html(frame("3D Secure", body));
    }
    let body = "<form method=\"post\">\
        <button name=\"outcome\" value=\"complete\">Complete</button> \
        <button name=\"outcome\" value=\"fail\">Fail</button></form>";
    Page::Html(frame("3D Secure", body))
}

pub(super) fn submit(world: &mut World, id: &str, params: &Params) -> Page {
    if !is_intent(world, id) {
        return Page::Missing;
    }
    let succeeds = params.text("outcome").ok().flatten().as_deref() == Some("complete");
    let back = world.copy(id)["next_action"]["redirect_to_url"]
        .link("return_url")
        .map(str::to_owned);
    if let Err(error) = paying::authenticate(world, id, succeeds) {
        return Page::Html(frame("3D Secure", &error_line(Some(&error))));
    }
    match back {
        Some(url) => Page::Redirect(url),
        None => Page::Html(frame("3D Secure", "<p>You can close this page.</p>")),
    }
}
