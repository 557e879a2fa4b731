//! A worker without HTTP that keeps subscriptions in step with the payment provider.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use rawdrive_billing::{Billing, Policy, StripeGateway, StripeSettings};
use rawdrive_plans::Catalogue;
use rawdrive_runtime::{Provider, Runtime};
use rawdrive_store::Store;
use rawdrive_tenancy_core::Env;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let catalogue = Catalogue::parse(include_str!("../plans.toml"))?;
    let database = std::env::var("DATABASE_URL").unwrap_or_else(|_| "sqlite://billing.db".into());
    let store = Store::open(&database.parse()?, Env::system(), &catalogue, &[]).await?;
    let mut stripe = StripeSettings::new(std::env::var("STRIPE_SECRET_KEY")?.into());
    stripe.api_url = std::env::var("STRIPE_API_URL").ok();
    let every = std::env::var("RECONCILE_SECONDS").unwrap_or_else(|_| "3600".into());
    let billing = Billing {
        gateway: StripeGateway::new(&stripe, Env::system())?,
        store: store.clone(),
        env: Env::system(),
        catalogue,
        policy: Policy::default(),
    };
    let provider = Provider::Present {
        reconcile_every: Duration::from_secs(every.parse()?),
    };
    let worker = Runtime::builder(store).billing(Arc::new(billing), provider);
    let asked_to_end = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    // What has begun may take five seconds to end.
    worker
        .build()
        .run_until(asked_to_end, Duration::from_secs(5))
        .await;
    Ok(())
}
