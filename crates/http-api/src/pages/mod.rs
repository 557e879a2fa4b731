//! The pages on which a person does something: choosing a plan, accepting an invitation. Plain forms, rendered here; no
//! script is needed, and but for one line that takes a token out of the address, none is there.
//!
//! Who signs in on a page has a cookie that these pages alone take (see [`keys`]). What a page does, the API's own use
//! cases do, with the same roles, limits and queues (decision 0035).

mod answer;
mod asked;
mod comparison;
mod invitation;
pub(crate) mod keys;
mod overview;
mod sign_in;
mod upgrade;
mod visit;

use actix_web::web::{ServiceConfig, get, post};

pub(crate) use answer::refusal_page;

use crate::web::html::form_route;
use crate::web::{INVITATION_PATH, UPGRADE_PATH};

/// Serves both pages.
pub(crate) fn person_pages(config: &mut ServiceConfig) {
    config
        .service(
            form_route(UPGRADE_PATH)
                .route(get().to(upgrade::show))
                .route(post().to(upgrade::act)),
        )
        .service(
            form_route(INVITATION_PATH)
                .route(get().to(invitation::show))
                .route(post().to(invitation::act)),
        );
}
