//! Libraries.

use crate::id::LibraryId;
use crate::{GalleryRead, GalleryTx, Library, LibraryDeletion, Title};
use actix_web::{HttpRequest, HttpResponse, delete, get, patch, post, web};
use rawdrive_plans::PlansTx as _;
use rawdrive_store::Release;
use rawdrive_tenancy_core::id::TypedId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::listing::name_listing;
use super::vocabulary::NameSortName;
use rawdrive_http_api::auth::{Member, Reading, Scoped};
use rawdrive_http_api::idempotent_write::{Answer, Begin, mutate, no_body};
use rawdrive_http_api::openapi::headers::{Conditional, Idempotent, Revalidated};
use rawdrive_http_api::web::etag::etag_header;
use rawdrive_http_api::web::{
    Body, Code, EntityTag, IfMatch, ListView, PageParams, PageQuery, Problem, etag_of,
    not_modified, path_id, read_json,
};
use rawdrive_http_api::{App, time};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewLibrary {
    /// 1 to 200 characters.
    name: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateLibrary {
    #[schema(nullable = false)]
    name: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct LibraryView {
    id: String,
    name: String,
    created_at: String,
    updated_at: String,
}

impl From<&Library> for LibraryView {
    fn from(library: &Library) -> Self {
        Self {
            id: library.id.to_string(),
            name: library.name.to_string(),
            created_at: time(library.created_at),
            updated_at: time(library.updated_at),
        }
    }
}

fn tag(library: &Library) -> EntityTag {
    etag_of(library.id, library.version)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LibraryFilters {
    /// Only those whose name holds this text, whatever the case.
    #[param(
        required = false,
        nullable = false,
        min_length = 1,
        max_length = 200,
        example = "wedding"
    )]
    name: Option<String>,
    /// In which order: by when they were made (the default), or by name whatever the case. With `-` before it the other way
    /// round.
    #[param(inline, required = false, nullable = false, value_type = NameSortName)]
    sort: Option<String>,
}

/// Libraries, oldest first unless `sort` says otherwise.
#[utoipa::path(tag = "galleries", security(("bearer" = [])), params(PageParams, LibraryFilters), responses((status = 200, body = ListView<LibraryView>), (status = 401), (status = 422)))]
#[get("/v1/libraries")]
pub(crate) async fn list_libraries(
    app: web::Data<App>,
    reading: Reading<Member>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let body = reading.read(&app, async |reader| {
        let (mut page, filters): (_, LibraryFilters) = PageQuery::read_sorted(
            request.query_string(),
            &app.cursors,
            reader.scope().workspace(),
            "libraries",
        )?;
        let listing = name_listing(filters.name, filters.sort, page.after_key.take())?;
        let libraries = reader.libraries(&listing, page.request).await?;
        let key = |last: &Library| listing.order.key_of(&last.name);
        Ok(page.view_sorted(libraries, &app.cursors, key, |l| LibraryView::from(&l)))
    });
    Ok(HttpResponse::Ok().json(body.await?))
}

/// Makes a library.
#[utoipa::path(tag = "galleries", security(("bearer" = [])), params(Idempotent), request_body = NewLibrary, responses((status = 201, body = LibraryView), (status = 422), (status = 402, description = "workspace_read_only")))]
#[post("/v1/libraries")]
pub(crate) async fn create_library(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let (input, mut v): (NewLibrary, _) = read_json(bytes)?;
        let name = v.check("name", input.name.parse::<Title>());
        v.finish_with(name)
    };
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        Begin::Writable,
        read,
        async |tx, id, name| {
            let now = app.env().now();
            let library = Library {
                id: LibraryId::from_uuid(id),
                name,
                created_at: now,
                updated_at: now,
                version: 1,
            };
            // The step is done by the first; a further one changes nothing of it.
            if tx.insert_library(&library).await? {
                app.review_onboarding(tx).await?;
            }
            Ok(Answer::created(&LibraryView::from(&library))?.tagged(tag(&library)))
        },
    )
    .await
}

/// A library.
#[utoipa::path(tag = "galleries", security(("bearer" = [])), params(("id" = String, Path), Revalidated), responses((status = 200, body = LibraryView), (status = 404)))]
#[get("/v1/libraries/{id}")]
pub(crate) async fn show_library(
    app: web::Data<App>,
    reading: Reading<Member>,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let read = reading.read(&app, async |reader| {
        let found = reader.library(path_id(&id)?).await?;
        found.ok_or_else(Problem::not_found)
    });
    let library = read.await?;
    let tag = tag(&library);
    if not_modified(request.headers(), &tag) {
        return Ok(HttpResponse::NotModified()
            .insert_header(etag_header(&tag))
            .finish());
    }
    Ok(HttpResponse::Ok()
        .insert_header(etag_header(&tag))
        .json(LibraryView::from(&library)))
}

/// Renames a library.
#[utoipa::path(tag = "galleries", security(("bearer" = [])), params(("id" = String, Path), Idempotent, Conditional), request_body = UpdateLibrary, responses((status = 200, body = LibraryView), (status = 404), (status = 412), (status = 422), (status = 402, description = "workspace_read_only")))]
#[patch("/v1/libraries/{id}")]
pub(crate) async fn update_library(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    id: web::Path<String>,
    request: HttpRequest,
    condition: IfMatch,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let (input, mut v): (UpdateLibrary, _) = read_json(bytes)?;
        let name = v.check_some("name", input.name.as_deref(), str::parse::<Title>);
        v.finish()?;
        Ok(name)
    };
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        Begin::Writable,
        read,
        async |tx, _, name| {
            let mut library = tx
                .library(path_id(&id)?)
                .await?
                .ok_or_else(Problem::not_found)?;
            condition.check(&tag(&library))?;
            if let Some(name) = name.filter(|name| *name != library.name) {
                library = Library {
                    name,
                    updated_at: app.env().now(),
                    version: library.version + 1,
                    ..library
                };
                tx.update_library(&library).await?;
            }
            Ok(Answer::ok(&LibraryView::from(&library))?.tagged(tag(&library)))
        },
    )
    .await
}

/// Deletes a library that holds no gallery, soft-deleted ones included.
#[utoipa::path(tag = "galleries", security(("bearer" = [])), params(("id" = String, Path), Idempotent, Conditional), responses((status = 204), (status = 404), (status = 409, description = "not_empty")))]
#[delete("/v1/libraries/{id}")]
pub(crate) async fn delete_library(
    app: web::Data<App>,
    scoped: Scoped<Member>,
    id: web::Path<String>,
    request: HttpRequest,
    condition: IfMatch,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let begin = Begin::Despite(Release::Emptying);
    mutate(
        &app,
        &scoped.scope,
        &request,
        body,
        begin,
        no_body,
        async |tx, _, ()| {
            let id = path_id(&id)?;
            tx.entitlements().await?;
            let library = tx.library(id).await?.ok_or_else(Problem::not_found)?;
            condition.check(&tag(&library))?;
            match tx.delete_library(id).await? {
                LibraryDeletion::Deleted => Ok(Answer::no_content()),
                LibraryDeletion::Missing => Err(Problem::not_found()),
                LibraryDeletion::NotEmpty => Err(Problem::new(
                    Code::NotEmpty,
                    "The library holds galleries; delete them permanently first.",
                )),
            }
        },
    )
    .await
}
