//! The development's own Stripe: a double of it in the process, where the feature `dev` has built it in.

use std::path::PathBuf;

use rawdrive_tenancy_core::Env;

use crate::config::StripeConfig;

#[cfg(not(feature = "dev"))]
pub(crate) use absent::{OwnStripe, OwnStripeError};
#[cfg(feature = "dev")]
pub(crate) use present::{OwnStripe, OwnStripeError};

/// Starts it on loopback, with the clock of `env`. It sends webhooks to `webhook_url`, and goes on from what is in the
/// file `state`, if there is to be one.
///
/// # Errors
/// It does not start, or is not built in.
pub(crate) fn start(
    env: &Env,
    webhook_url: String,
    state: Option<PathBuf>,
) -> Result<(StripeConfig, OwnStripe), OwnStripeError> {
    OwnStripe::start(env, webhook_url, state)
}

#[cfg(feature = "dev")]
mod present {
    use std::path::PathBuf;
    use std::sync::Arc;

    use rawdrive_stripe_double::{Config, StartError, StripeDouble};
    use rawdrive_tenancy_core::Env;

    use crate::config::{PublicUrl, StripeConfig};

    /// It does not start.
    #[derive(Debug, thiserror::Error)]
    #[error("failed to start the double of Stripe")]
    pub(crate) struct OwnStripeError(#[from] StartError);

    /// Ends when this is dropped.
    pub(crate) struct OwnStripe {
        double: StripeDouble,
        /// No secret: it listens on loopback alone, and moves no money.
        secret_key: String,
    }

    impl OwnStripe {
        pub(super) fn start(
            env: &Env,
            webhook_url: String,
            state: Option<PathBuf>,
        ) -> Result<(StripeConfig, Self), OwnStripeError> {
            let (secret_key, webhook_secret) = (secret(env, "sk_test_"), secret(env, "whsec_"));
            let mut config = Config::new(secret_key.clone());
            let clock = env.clone();
            config.clock = Arc::new(move || clock.now());
            config.state = state;
            config.webhook = vec![(webhook_url, webhook_secret.clone())];
            let double = StripeDouble::start(config)?;
            let stripe = StripeConfig {
                secret_key: secret_key.clone().into(),
                webhook_secrets: vec![webhook_secret.into()],
                api_url: PublicUrl::parse(&double.url()).ok(),
            };
            Ok((stripe, Self { double, secret_key }))
        }

        /// How a newcomer is told of it; `url` is the server's own address.
        pub(crate) fn welcome(&self, url: &str) -> String {
            format!(
                "  stripe  a double of Stripe, with checkout pages of its own: POST {url}/v1/billing/checkout leads there, \
                 and pm_card_visa pays. Stripe's\n          SDKs call it by\n          STRIPE_API_URL={}\n          STRIPE_SECRET_KEY={}\n",
                self.double.url(),
                self.secret_key
            )
        }
    }

    fn secret(env: &Env, prefix: &str) -> String {
        let digits: String = env
            .bytes::<24>()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{prefix}{digits}")
    }
}

#[cfg(not(feature = "dev"))]
mod absent {
    use std::path::PathBuf;

    use rawdrive_tenancy_core::Env;

    use crate::config::StripeConfig;

    /// It is not built in.
    #[derive(Debug, thiserror::Error)]
    #[error(
        "development needs a Stripe, and this binary was built without the double of it (feature dev): set \
         STRIPE_SECRET_KEY, STRIPE_WEBHOOK_SECRET and, for a double that runs elsewhere, STRIPE_API_URL"
    )]
    pub(crate) struct OwnStripeError;

    /// Nothing is one.
    pub(crate) enum OwnStripe {}

    impl OwnStripe {
        pub(super) fn start(
            _: &Env,
            _: String,
            _: Option<PathBuf>,
        ) -> Result<(StripeConfig, Self), OwnStripeError> {
            Err(OwnStripeError)
        }

        pub(crate) fn welcome(&self, _: &str) -> String {
            match *self {}
        }
    }
}
