//! Clients, and the links that are mailed to them.

use crate::id::ClientId;
use crate::{Client, ClientsRead, ClientsTx, GalleryTx};
use actix_web::{HttpRequest, HttpResponse, delete, get, patch, post, web};
use rawdrive_identity::{EmailAddress, PersonName};
use rawdrive_notices::{Letter, Mail, Name};
use rawdrive_store::{Release, WriteTx};
use rawdrive_tenancy_core::id::TypedId;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::shared_page::SHARED_PATH;
use rawdrive_http_api::auth::{Member, Scoped};
use rawdrive_http_api::idempotent_write::{Answer, Begin, mutate, no_body, nothing};
use rawdrive_http_api::openapi::headers::{Conditional, Idempotent};
use rawdrive_http_api::web::{
    Body, EntityTag, IfMatch, ListView, NoFilters, PageParams, PageQuery, Problem, etag_of,
    path_id, read_json, tagged_view,
};
use rawdrive_http_api::{App, time};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewClient {
    /// 1 to 200 characters.
    name: String,
    /// Where the link is mailed to; no two clients of a workspace have one address.
    email: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateClient {
    #[schema(nullable = false)]
    name: Option<String>,
    /// Another address revokes the link that was mailed to the old one.
    #[schema(nullable = false)]
    email: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ClientView {
    id: String,
    name: String,
    email: String,
    /// When the link that holds now was mailed; `null` while none holds.
    #[schema(required = true)]
    invited_at: Option<String>,
    /// When they last used a link, to the minute.
    #[schema(required = true)]
    last_seen_at: Option<String>,
    created_at: String,
    updated_at: String,
}

impl From<&Client> for ClientView {
    fn from(client: &Client) -> Self {
        Self {
            id: client.id.to_string(),
            name: client.name.to_string(),
            email: client.email.to_string(),
            invited_at: client.invited_at.map(time),
            last_seen_at: client.last_seen_at.map(time),
            created_at: time(client.created_at),
            updated_at: time(client.updated_at),
        }
    }
}

fn tag(client: &Client) -> EntityTag {
    etag_of(client.id, client.version)
}

async fn known(tx: &mut WriteTx, id: &str) -> Result<Client, Problem> {
    tx.client(path_id(id)?)
        .await?
        .ok_or_else(Problem::not_found)
}

/// Clients, oldest first.
#[utoipa::path(tag = "clients", security(("bearer" = [])), params(PageParams), responses((status = 200, body = ListView<ClientView>), (status = 401)))]
#[get("/v1/clients")]
pub(crate) async fn list_clients(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (page, NoFilters {}) = PageQuery::read(
        request.query_string(),
        &app.cursors,
        scoped.scope.workspace(),
        "clients",
    )?;
    let clients = app.store.read(&scoped.scope).clients(page.request).await?;
    Ok(HttpResponse::Ok().json(page.view(clients, &app.cursors, |c| ClientView::from(&c))))
}

/// Adds a client, who sees nothing until a gallery lists them and they are invited.
#[utoipa::path(tag = "clients", security(("bearer" = [])), params(Idempotent), request_body = NewClient, responses((status = 201, body = ClientView), (status = 409, description = "conflict"), (status = 422), (status = 402, description = "workspace_read_only")))]
#[post("/v1/clients")]
pub(crate) async fn create_client(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let (input, mut v): (NewClient, _) = read_json(bytes)?;
        let name = v.check("name", PersonName::parse(&input.name));
        let email = v.check("email", EmailAddress::parse(&input.email));
        v.finish_with(name.zip(email))
    };
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        Begin::Writable,
        read,
        async |tx, id, (name, email)| {
            let id = ClientId::from_uuid(id);
            let client = crate::add_client(tx, app.env(), id, name, email).await?;
            Ok(Answer::created(&ClientView::from(&client))?.tagged_view(&tag(&client)))
        },
    )
    .await
}

/// A client.
#[utoipa::path(tag = "clients", security(("bearer" = [])), params(("id" = String, Path)), responses((status = 200, body = ClientView), (status = 404)))]
#[get("/v1/clients/{id}")]
pub(crate) async fn show_client(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let client = app
        .store
        .read(&scoped.scope)
        .client(path_id(&id)?)
        .await?
        .ok_or_else(Problem::not_found)?;
    // The client is seen, and their link revoked, without a new version of the client.
    tagged_view(&tag(&client), &ClientView::from(&client))
}

/// Changes a client's name or address. Another address revokes the link that was mailed to the old one.
#[utoipa::path(tag = "clients", security(("bearer" = [])), params(("id" = String, Path), Idempotent, Conditional), request_body = UpdateClient, responses((status = 200, body = ClientView), (status = 404), (status = 409, description = "conflict"), (status = 412), (status = 422), (status = 402, description = "workspace_read_only")))]
#[patch("/v1/clients/{id}")]
pub(crate) async fn update_client(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    id: web::Path<String>,
    request: HttpRequest,
    condition: IfMatch,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let (input, mut v): (UpdateClient, _) = read_json(bytes)?;
        let name = v.check_some("name", input.name.as_deref(), PersonName::parse);
        let email = v.check_some("email", input.email.as_deref(), EmailAddress::parse);
        v.finish()?;
        Ok((name, email))
    };
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        Begin::Writable,
        read,
        async |tx, _, (name, email)| {
            let client = known(tx, &id).await?;
            condition.check(&tag(&client))?;
            let client = crate::update_client(tx, app.env(), client, name, email).await?;
            Ok(Answer::ok(&ClientView::from(&client))?.tagged_view(&tag(&client)))
        },
    )
    .await
}

/// Deletes a client: their link ends, and no gallery lists them any more.
#[utoipa::path(tag = "clients", security(("bearer" = [])), params(("id" = String, Path), Idempotent, Conditional), responses((status = 204), (status = 404), (status = 412)))]
#[delete("/v1/clients/{id}")]
pub(crate) async fn delete_client(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    id: web::Path<String>,
    request: HttpRequest,
    condition: IfMatch,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let begin = Begin::Despite(Release::Freeing);
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        begin,
        no_body,
        async |tx, _, ()| {
            let client = known(tx, &id).await?;
            condition.check(&tag(&client))?;
            crate::delete_client(tx, &client).await?;
            Ok(Answer::no_content())
        },
    )
    .await
}

/// Mails a client a link to their galleries. Inviting again mails a new link, and the old one ends.
#[utoipa::path(tag = "clients", security(("bearer" = [])), params(("id" = String, Path), Idempotent), responses((status = 201, body = ClientView), (status = 403, description = "workspace_inactive, or email_not_verified where mail leaves the machine"), (status = 404), (status = 429), (status = 402, description = "workspace_read_only")))]
#[post("/v1/clients/{id}/invite")]
pub(crate) async fn invite_client(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        Begin::Writable,
        nothing,
        async |tx, _, ()| {
            let client = known(tx, &id).await?;
            let studio = match GalleryTx::branding(tx).await? {
                Some(branding) => branding.display_name.to_string(),
                None => tx.workspace_row().await?.name,
            };
            let (client, token) = crate::invite_client(tx, app.env(), &app.pepper, client).await?;
            let link = app.mailed_link(SHARED_PATH, token.text().expose_secret());
            let (to, name) = (client.email.as_str(), client.name.as_str());
            let letter = client_invitation(to, name, &studio, &link);
            app.review_onboarding(tx).await?;
            app.post_to_stranger(tx, &client.email, &letter).await?;
            Ok(Answer::created(&ClientView::from(&client))?.tagged_view(&tag(&client)))
        },
    )
    .await
}

/// Revokes a client's link at once.
#[utoipa::path(tag = "clients", security(("bearer" = [])), params(("id" = String, Path), Idempotent), responses((status = 204), (status = 404, description = "No such client, or no link")))]
#[delete("/v1/clients/{id}/invite")]
pub(crate) async fn revoke_invite(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let begin = Begin::Despite(Release::Freeing);
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        begin,
        no_body,
        async |tx, _, ()| {
            let client = known(tx, &id).await?;
            if crate::revoke_link(tx, &client).await? {
                Ok(Answer::no_content())
            } else {
                Err(Problem::not_found())
            }
        },
    )
    .await
}

/// The letter that brings a client their link. `studio` is what the client knows the workspace by.
fn client_invitation(to: &str, client: &str, studio: &str, link: &str) -> Letter {
    let (client, studio) = (Name::of(client), Name::of(studio));
    Letter {
        to: vec![to.to_owned()],
        mail: Mail {
            subject: format!("{}: your galleries", studio.subject),
            text: format!(
                "Hello {},\n\n\
                 {} shares galleries with you. This link shows them, without an account:\n\n\
                 {link}\n\n\
                 It is meant for you alone: whoever has it sees what you see.\n",
                client.text, studio.text
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_is_one_line_of_subject_and_a_link_of_its_own_line() {
        let letter = client_invitation(
            "mia@example.com",
            "Mia",
            "Evil\r\nBcc: all",
            "https://x/shared?token=rdc_1",
        );
        assert_eq!(letter.to, ["mia@example.com"]);
        assert_eq!(letter.mail.subject, "Evil  Bcc: all: your galleries");
        assert!(
            letter
                .mail
                .text
                .lines()
                .any(|line| line == "https://x/shared?token=rdc_1")
        );
        assert_eq!(Letter::parse(&letter.text()), Some(letter));
    }
}
