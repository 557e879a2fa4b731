//! A service that mounts the core's API below a path, beside its own addresses.

mod notes;

use std::error::Error;
use std::sync::Arc;

use actix_web::HttpServer;
use actix_web::web::{Data, get};
use rawdrive_http_api::{App, configure};
use rawdrive_identity::{MasterKey, load_keyring};
use rawdrive_onboarding::PROFILE;
use rawdrive_plans::Catalogue;
use rawdrive_runtime::Runtime;
use rawdrive_store::Store;
use rawdrive_tenancy_core::Env;

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = setting("LISTEN", "127.0.0.1:8080");
    let catalogue = Catalogue::parse(include_str!("../plans.toml"))?;
    let limit = catalogue.metric("notes")?; // an error at start for a name that no catalogue has
    let url = setting("DATABASE_URL", "sqlite://notes.db").parse()?;
    let store = Store::open(&url, Env::system(), &catalogue, &[notes::NOTES]).await?;
    let master = MasterKey::new(&std::env::var("SECRET_KEY")?)?;
    let keyring = load_keyring(&store, store.env(), &master).await?;
    let app = App::builder(store.clone(), Arc::new(catalogue), &master, keyring)
        .public_url(format!("http://{address}"))
        .prefix("/saas")
        .steps([PROFILE, notes::FIRST_NOTE])
        .routes(notes::routes(limit))
        .build();
    let app = Data::new(app);

    let runtime = Runtime::builder(store)
        .review_thresholds(app.steps.clone())
        .on(notes::NOTE_WRITTEN, notes::count_later)
        .job(notes::count)
        .build();
    tokio::spawn(runtime.run());

    let server = HttpServer::new(move || {
        actix_web::App::new()
            .configure(configure(app.clone()))
            .route("/", get().to(|| async { "What this service itself does." }))
            .wrap(app.edge())
    });
    Ok(server.bind(address)?.run().await?)
}
