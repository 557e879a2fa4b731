//! A service with a table, a feature and limits of its own.
#![expect(
    clippy::print_stdout,
    reason = "this service tells its operator of thresholds on its terminal"
)]

mod login;

use std::error::Error;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use login::{App, Refused, Scoped};
use rawdrive_plans::Catalogue;
use rawdrive_runtime::Runtime;
use rawdrive_store::Store;
use rawdrive_store::extension::Extension;
use rawdrive_tenancy_core::{Commit as _, Env};
use serde::Deserialize;
use tokio::net::TcpListener;

rawdrive_tenancy_core::typed_id! {
    /// A contract.
    ContractId = "con";
}

const CONTRACTS: Extension = Extension::new("contracts", &[("0001", &[
    "CREATE TABLE contracts (workspace_id {uuid} NOT NULL, id {uuid} NOT NULL, title TEXT NOT NULL,
        PRIMARY KEY (workspace_id, id)){strict}",
    "CREATE TABLE contract_pages (workspace_id {uuid} NOT NULL, id {uuid} NOT NULL, contract_id {uuid} NOT NULL,
        PRIMARY KEY (workspace_id, id),
        FOREIGN KEY (workspace_id, contract_id) REFERENCES contracts (workspace_id, id)){strict}",
])]);

#[derive(Deserialize)]
struct New {
    title: String,
}

async fn create(
    State(app): State<App>,
    Scoped(scope): Scoped,
    Json(new): Json<New>,
) -> Result<(StatusCode, String), Refused> {
    let mut tx = app.store.begin(&scope).await?; // refuses a read-only workspace
    let id: ContractId = tx.new_id();
    tx.require(&app.feature).await?; // 402 feature_not_available
    tx.take(&app.contracts, 1, id).await?; // 402 quota_exceeded, never beyond
    let row = [
        rawdrive_tenancy_core::id::TypedId::uuid(id).into(),
        new.title.into(),
    ];
    let insert = "INSERT INTO contracts (workspace_id, id, title) VALUES ($1, $2, $3)"; // $1 is bound by the handle
    tx.execute("insert a contract", insert, row).await?;
    tx.commit().await?; // row, quota, ledger: all or none
    Ok((StatusCode::CREATED, id.to_string()))
}

async fn add_page(
    State(app): State<App>,
    Scoped(scope): Scoped,
    Path(contract): Path<String>,
) -> Result<StatusCode, Refused> {
    let contract: ContractId = contract.parse().map_err(|_| Refused::NotFound)?;
    let mut tx = app.store.begin(&scope).await?;
    let page = tx.env().uuid();
    tx.take_per(&app.pages, contract, 1, page).await?; // counted apart for each contract
    let row = [
        page.into(),
        rawdrive_tenancy_core::id::TypedId::uuid(contract).into(),
    ];
    let insert = "INSERT INTO contract_pages (workspace_id, id, contract_id) VALUES ($1, $2, $3)";
    tx.execute("insert a page", insert, row).await?; // another workspace's contract dangles: 404
    tx.commit().await?;
    Ok(StatusCode::CREATED)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let catalogue = Catalogue::parse(include_str!("../plans.toml"))?;
    let database = std::env::var("DATABASE_URL").unwrap_or_else(|_| "sqlite://contracts.db".into());
    let store = Store::open(&database.parse()?, Env::system(), &catalogue, &[CONTRACTS]).await?;
    let app = App {
        contracts: catalogue.metric("contracts")?, // an error at start for a name that no catalogue has
        pages: catalogue.metric("pages")?,
        feature: catalogue.feature("contracts")?,
        sessions: login::sessions(),
        store,
    };
    let runtime =
        Runtime::builder(app.store.clone()).on("usage.threshold_crossed", |_, event| async move {
            println!(
                "{} crossed {}",
                event.facts["metric"], event.facts["threshold"]
            );
            Ok(())
        });
    tokio::spawn(runtime.build().run());
    let router = Router::new()
        .route("/contracts", post(create))
        .route("/contracts/{id}/pages", post(add_page))
        .with_state(app);
    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".into());
    Ok(axum::serve(TcpListener::bind(address).await?, router).await?)
}
