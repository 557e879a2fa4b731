//! The workspace and its audit log.

use actix_web::{HttpRequest, HttpResponse, get, patch, web};
use chrono::{DateTime, Utc};
use rawdrive_identity::{EmailAddress, WorkspaceName};
use rawdrive_plans::{Access, Entitlements, PlansTx};
use rawdrive_store::{AuditFilter, WorkspaceRow};
use rawdrive_tenancy_core::audit::{AuditTx, Change, Entry};
use rawdrive_usage::hex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, time};
use crate::auth::{Admin, Member, Scoped};
use crate::idempotent_write::{Answer, Begin, mutate};
use crate::openapi::headers::{Conditional, Idempotent};
use crate::openapi::words::{AccessName, WorkspaceStatusName};
use crate::web::{
    Body, EntityTag, IfMatch, ListView, Nullable, PageParams, PageQuery, Problem, Validator,
    etag_of, read_json, tagged_view,
};

#[derive(Serialize, ToSchema)]
pub(crate) struct WorkspaceView {
    id: String,
    name: String,
    slug: String,
    #[schema(required = true)]
    billing_email: Option<String>,
    /// The plan's slug.
    plan: String,
    plan_version: u32,
    currency: String,
    #[schema(value_type = WorkspaceStatusName)]
    status: &'static str,
    /// `full`, `grace`, `read_only` or `closed`.
    #[schema(value_type = AccessName)]
    access: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_until: Option<String>,
    created_at: String,
}

impl WorkspaceView {
    pub(crate) fn of(app: &App, row: &WorkspaceRow, entitlements: &Entitlements) -> Self {
        let now = app.env().now();
        let (access, plan) = (entitlements.access(now), entitlements.plan_at(now));
        Self {
            id: row.id.to_string(),
            name: row.name.clone(),
            slug: row.slug.clone(),
            billing_email: row.billing_email.clone(),
            plan: plan.slug.to_string(),
            plan_version: plan.version,
            currency: row.currency.clone(),
            status: row.status.as_str(),
            access: access.as_str(),
            grace_until: if let Access::Grace { until } = access {
                Some(time(until))
            } else {
                None
            },
            created_at: time(row.created_at),
        }
    }
}

fn tag(row: &WorkspaceRow) -> EntityTag {
    etag_of(row.id, row.version)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateWorkspace {
    #[schema(nullable = false)]
    name: Option<String>,
    /// Where invoices go; `null` removes it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    billing_email: Nullable<String>,
}

/// The workspace of this credential.
#[utoipa::path(tag = "workspace", security(("bearer" = [])), responses((status = 200, body = WorkspaceView), (status = 401)))]
#[get("/v1/workspace")]
pub(crate) async fn show_workspace(
    app: web::Data<App>,
    scoped: Scoped<Member>,
) -> Result<HttpResponse, Problem> {
    let reader = app.store.read(&scoped.scope);
    let (row, entitlements) = (reader.workspace().await?, reader.entitlements().await?);
    // Plan and access change without a new version of the row.
    tagged_view(&tag(&row), &WorkspaceView::of(&app, &row, &entitlements))
}

/// Changes the workspace's name or billing address.
#[utoipa::path(tag = "workspace", security(("bearer" = [])), params(Idempotent, Conditional), request_body = UpdateWorkspace, responses((status = 200, body = WorkspaceView), (status = 403), (status = 412), (status = 422), (status = 402, description = "workspace_read_only")))]
#[patch("/v1/workspace")]
pub(crate) async fn update_workspace(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    request: HttpRequest,
    condition: IfMatch,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let read = |bytes: &[u8]| {
        let (input, mut v): (UpdateWorkspace, _) = read_json(bytes)?;
        let name = v.check_some("name", input.name.as_deref(), WorkspaceName::parse);
        let email = (input.billing_email.change())
            .map(|email| v.check_some("billing_email", email, |text| EmailAddress::parse(&text)));
        v.finish()?;
        Ok((name, email))
    };
    mutate(&app, &scoped.scope, &request, body, Begin::Writable, read, async |tx, _, (name, email)| {
        let mut row = tx.workspace_row().await?;
        condition.check(&tag(&row))?;
        let settings = |row: &WorkspaceRow| json!({ "name": row.name, "billing_email": row.billing_email });
        let before = settings(&row);
        if let Some(name) = name {
            name.as_str().clone_into(&mut row.name);
        }
        if let Some(email) = email {
            row.billing_email = email.map(|e| e.as_str().to_owned());
        }
        let after = settings(&row);
        if after != before {
            row.version += 1;
            tx.update_workspace(&row).await?;
            tx.record(Change { action: "workspace.updated", subject: row.id.to_string(), before, after });
            app.review_onboarding(tx).await?;
        }
        let entitlements = tx.entitlements().await?;
        Ok(Answer::ok(&WorkspaceView::of(&app, &row, &entitlements))?.tagged_view(&tag(&row)))
    })
    .await
}

#[derive(Serialize, ToSchema)]
pub(crate) struct AuditView {
    seq: u64,
    at: String,
    actor: String,
    action: String,
    subject: String,
    before: Value,
    after: Value,
    /// Hex.
    hash: String,
}

impl From<Entry> for AuditView {
    fn from(entry: Entry) -> Self {
        let payload: Option<Value> = entry
            .payload
            .and_then(|p| serde_json::from_str(&p.text).ok());
        let member = |name: &str| {
            payload
                .as_ref()
                .and_then(|p| p.get(name))
                .cloned()
                .unwrap_or_default()
        };
        Self {
            seq: entry.seq,
            at: time(entry.at),
            actor: entry.actor,
            action: entry.action,
            subject: entry.subject,
            before: member("before"),
            after: member("after"),
            hash: hex(&entry.hash),
        }
    }
}

/// Which entries are asked for.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditParams {
    /// What was done, exactly, such as `api_key.created`: one action.
    #[param(required = false, nullable = false, example = "api_key.created")]
    action: Option<String>,
    /// Who did it, as entries name them.
    #[param(
        required = false,
        nullable = false,
        example = "usr_0192f0c1a2b37c4d8e5f60718293a4b5"
    )]
    actor: Option<String>,
    /// Entries from then on, RFC 3339.
    #[param(required = false, nullable = false, value_type = String, format = DateTime)]
    from: Option<String>,
    /// Entries before then, RFC 3339.
    #[param(required = false, nullable = false, value_type = String, format = DateTime)]
    to: Option<String>,
}

impl AuditParams {
    fn filter(self) -> Result<AuditFilter, Problem> {
        let mut v = Validator::new();
        let moment = |text: String| match DateTime::parse_from_rfc3339(&text) {
            Ok(at) => Ok(at.with_timezone(&Utc)),
            Err(_) => Err("must be an RFC 3339 time such as 2027-01-31T12:00:00Z"),
        };
        let from = v.check_some("from", self.from, moment);
        let to = v.check_some("to", self.to, moment);
        let ordered = from.zip(to).is_none_or(|(from, to)| from <= to);
        v.require("to", ordered, "must not be before from");
        v.finish()?;
        Ok(AuditFilter {
            action: self.action,
            actor: self.actor,
            from,
            to,
        })
    }
}

/// The audit log, newest first.
#[utoipa::path(tag = "workspace", security(("bearer" = [])), params(AuditParams, PageParams), responses((status = 200, body = ListView<AuditView>), (status = 403)))]
#[get("/v1/workspace/audit")]
pub(crate) async fn list_audit(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (page, params): (_, AuditParams) = PageQuery::read(
        request.query_string(),
        &app.cursors,
        scoped.scope.workspace(),
        "audit",
    )?;
    let filter = params.filter()?;
    let reader = app.store.read(&scoped.scope);
    let entries = reader.audit(page.request, &filter).await?;
    Ok(HttpResponse::Ok().json(page.view(entries, &app.cursors, AuditView::from)))
}

#[derive(Serialize, ToSchema)]
pub(crate) struct AnchorView {
    seq: u64,
    /// Hex.
    hash: String,
}

/// The chain's head: kept elsewhere, it shows a cut tail.
#[utoipa::path(operation_id = "get_audit_anchor", tag = "workspace", security(("bearer" = [])), responses((status = 200, body = AnchorView), (status = 403)))]
#[get("/v1/workspace/audit/anchor")]
pub(crate) async fn audit_anchor(
    app: web::Data<App>,
    scoped: Scoped<Admin>,
) -> Result<HttpResponse, Problem> {
    let (seq, hash) = app.store.read(&scoped.scope).audit_head().await?;
    Ok(HttpResponse::Ok().json(AnchorView {
        seq,
        hash: hex(&hash),
    }))
}
