//! Who collects the money: Stripe where a key is configured, a double of it in development, otherwise nobody.

use std::path::PathBuf;
use std::sync::Arc;

use rawdrive_billing::{
    Billing, ManualGateway, PaymentGateway, PreviewKey, StripeGateway, StripeSettings,
    StripeSetupError, SyncPlansError, WebhookSecrets, sync_plans, sync_portal,
};
use rawdrive_http_api::{BillingDesk, Desk};
use rawdrive_identity::MasterKey;
use rawdrive_runtime::{Builder, Provider};
use rawdrive_store::Store;
use secrecy::SecretString;

use crate::commands::Installation;
use crate::config::StripeConfig;
use crate::own_stripe::{self, OwnStripe, OwnStripeError};

/// Where Stripe's webhooks arrive, on the server's own address.
const WEBHOOK_PATH: &str = "/v1/webhooks/stripe";

/// Why there is nobody to collect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectError {
    /// Key or address of Stripe.
    #[error("STRIPE_SECRET_KEY")]
    Stripe(#[from] StripeSetupError),
    /// There is no Stripe of the development's own.
    #[error(transparent)]
    Double(#[from] OwnStripeError),
    /// Its prices cannot be made.
    #[error("failed to make the plans' prices at the double of Stripe")]
    Plans(#[from] SyncPlansError),
}

/// Billing as the server runs it.
pub(crate) struct Collecting {
    /// For the routes.
    pub(crate) desk: Arc<dyn BillingDesk>,
    /// Registers what must go on beside requests.
    pub(crate) background: Box<dyn FnOnce(Builder) -> Builder>,
    /// The development's own Stripe; it ends when this is dropped.
    pub(crate) double: Option<OwnStripe>,
}

/// Billing's use cases with a gateway.
pub(crate) fn assemble<G>(
    installation: &Installation,
    store: Store,
    gateway: G,
) -> Billing<Store, G> {
    Billing {
        store,
        gateway,
        env: installation.env.clone(),
        catalogue: installation.catalogue.as_ref().clone(),
        policy: installation.policy(),
    }
}

/// A gateway to Stripe as configured. Nothing is sent yet.
///
/// # Errors
/// Key or address cannot be used.
pub(crate) fn stripe_gateway(
    installation: &Installation,
    stripe: &StripeConfig,
) -> Result<StripeGateway, StripeSetupError> {
    let mut settings = StripeSettings::new(stripe.secret_key.clone());
    settings.api_url = stripe.api_url.as_ref().map(|url| url.as_str().to_owned());
    StripeGateway::new(&settings, installation.env.clone())
}

/// Sets billing up for a server whose own address is `local_url`. The development's own Stripe goes on from what is
/// in the file `double_state`, if there is to be one.
///
/// # Errors
/// See [`CollectError`].
pub(crate) async fn collect(
    installation: &Installation,
    store: Store,
    master: &MasterKey,
    local_url: &str,
    double_state: Option<PathBuf>,
) -> Result<Collecting, CollectError> {
    let config = &installation.config;
    let (stripe, double) = match &config.stripe {
        Some(stripe) => (stripe.clone(), None),
        None if config.dev => {
            let webhook_url = format!("{local_url}{WEBHOOK_PATH}");
            let (stripe, double) = own_stripe::start(&installation.env, webhook_url, double_state)?;
            (stripe, Some(double))
        }
        None => {
            let billing = assemble(installation, store, ManualGateway);
            let provider = Provider::Absent;
            return Ok(collecting(billing, master, Vec::new(), provider, None));
        }
    };
    let gateway = stripe_gateway(installation, &stripe)?;
    let billing = assemble(installation, store, gateway);
    if double.is_some() {
        sync_plans(&billing.catalogue, &billing.gateway, &billing.store, false).await?;
        sync_portal(&billing.gateway, false).await?;
    }
    let provider = Provider::Present {
        reconcile_every: config.reconcile_every,
    };
    Ok(collecting(
        billing,
        master,
        stripe.webhook_secrets,
        provider,
        double,
    ))
}

fn collecting<G: PaymentGateway + 'static>(
    billing: Billing<Store, G>,
    master: &MasterKey,
    secrets: Vec<SecretString>,
    provider: Provider,
    double: Option<OwnStripe>,
) -> Collecting {
    let billing = Arc::new(billing);
    let previews = PreviewKey::new(&master.derive("plan previews"));
    let desk = Desk::new(billing.clone(), previews, WebhookSecrets::new(secrets));
    Collecting {
        desk: Arc::new(desk),
        background: Box::new(move |builder| builder.billing(billing, provider)),
        double,
    }
}
