//! The scope of a client's request, from the link in its path alone.

use std::future::Future;
use std::pin::Pin;

use crate::id::ClientId;
use crate::{ClientLinkToken, ClientLinks, OpenLink};
use actix_web::{FromRequest, HttpRequest, dev, web};
use chrono::TimeDelta;
use rawdrive_tenancy_core::{Causes, WorkspaceScope};

use rawdrive_http_api::App;
use rawdrive_http_api::web::Problem;

/// How exactly it is known when a client was last seen: a page of photos is one visit, not a hundred writes.
const SEEN_EVERY: TimeDelta = TimeDelta::minutes(1);

/// A request by a client's link, as it stands in the database at this request. A link that is malformed,
/// revoked or foreign, and one of a workspace that is not active, are one 404.
#[derive(Debug)]
pub(super) struct Shared {
    /// The right to touch the workspace; what of it the client may see is asked for by
    /// [`client`](Self::client).
    pub(super) scope: WorkspaceScope,
    /// The link.
    pub(super) link: OpenLink,
}

impl Shared {
    /// Whose link it is.
    #[must_use]
    pub(super) fn client(&self) -> ClientId {
        self.link.grant.client()
    }
}

impl FromRequest for Shared {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let app = request
                .app_data::<web::Data<App>>()
                .ok_or_else(|| Problem::internal("no App is configured"))?;
            let token = request.match_info().get("token").unwrap_or_default();
            let token = ClientLinkToken::parse(token).map_err(|_| Problem::not_found())?;
            let link = app
                .store
                .open_link(&token, &app.pepper)
                .await?
                .ok_or_else(Problem::not_found)?;
            let scope = link.grant.scope();
            let shared = Self { scope, link };
            note_seen(app, &shared);
            Ok(shared)
        })
    }
}

/// Notes beside the request that the client was here: a full writers' queue must not slow a gallery down.
fn note_seen(app: &web::Data<App>, shared: &Shared) {
    let now = app.env().now();
    let unless_after = now - SEEN_EVERY;
    // A time to come is a clock that was set back.
    let known = |seen| unless_after < seen && seen <= now;
    if shared.link.last_seen_at.is_some_and(known) {
        return;
    }
    let (app, scope, client) = (app.clone(), shared.scope, shared.client());
    tokio::spawn(async move {
        let noted = app.store.note_seen(&scope, client, now, unless_after).await;
        if let Err(error) = noted {
            tracing::warn!(
                error = %Causes(&error),
                "that a client was seen is not noted"
            );
        }
    });
}
