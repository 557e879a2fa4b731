//! What is sold, and the hosted pages where it is bought and managed.

use std::sync::PoisonError;

use serde::Serialize;
use stripe_billing::billing_portal_session::CreateBillingPortalSession;
use stripe_checkout::checkout_session::{
    CreateCheckoutSession, CreateCheckoutSessionLineItems, CreateCheckoutSessionSubscriptionData,
    CreateCheckoutSessionSubscriptionDataTrialSettings,
    CreateCheckoutSessionSubscriptionDataTrialSettingsEndBehavior,
    CreateCheckoutSessionSubscriptionDataTrialSettingsEndBehaviorMissingPaymentMethod as MissingMethod,
    ExpireCheckoutSession, RetrieveCheckoutSession,
};
use stripe_client_core::{RequestBuilder, StripeMethod, StripeRequest as _};
use stripe_product::price::{
    CreatePrice, CreatePriceRecurring, CreatePriceRecurringInterval, ListPrice, RetrievePrice,
};
use stripe_product::product::{CreateProduct, RetrieveProduct};
use stripe_shared::CheckoutSessionMode;
use stripe_types::Currency;

use rawdrive_plans::Interval;

use super::http_client::{Deadline, Failure, segment};
use super::responses::{Checkout, Named, Page, Portal, PortalConfiguration, Price};
use super::{PAGE, StripeGateway, rejected, texts};
use crate::gateway::{GatewayError, NewCheckout, NewPrice};
use crate::ids::{CheckoutId, CustomerId, IdempotencyKey, PriceId};
use crate::provider_objects::{CheckoutSnapshot, PriceSnapshot};

/// Where the portal's settings are.
const PORTAL: &str = "/billing_portal/configurations";
/// The key of what we leave on ours.
const PORTAL_MARK: &str = "rawdrive_portal";
const PORTAL_METADATA: &str = "metadata[rawdrive_portal]";

/// What Stripe says of an id that is taken.
const TAKEN: &str = "resource_already_exists";

impl StripeGateway {
    pub(super) async fn open_checkout(
        &self,
        within: Deadline,
        new: &NewCheckout,
        key: &IdempotencyKey,
    ) -> Result<CheckoutSnapshot, GatewayError> {
        let mut line = CreateCheckoutSessionLineItems::new();
        line.price = Some(new.price.to_string());
        line.quantity = Some(1);
        let mut subscription = CreateCheckoutSessionSubscriptionData::new();
        subscription.metadata = Some(texts(&new.metadata));
        if let Some(days) = new.trial_days {
            let end = CreateCheckoutSessionSubscriptionDataTrialSettingsEndBehavior::new(
                MissingMethod::Pause,
            );
            subscription.trial_period_days = Some(u32::from(days));
            subscription.trial_settings =
                Some(CreateCheckoutSessionSubscriptionDataTrialSettings::new(end));
        }
        let create = CreateCheckoutSession::new()
            .mode(CheckoutSessionMode::Subscription)
            .customer(new.customer.as_str())
            .line_items([line])
            .subscription_data(subscription)
            .success_url(&new.success_url)
            .cancel_url(&new.cancel_url)
            .metadata(texts(&new.metadata));
        let checkout: Checkout = self.http.post(within, create.build(), key).await?;
        Ok(checkout.into())
    }

    pub(super) async fn find_checkout(
        &self,
        within: Deadline,
        id: &CheckoutId,
    ) -> Result<Option<CheckoutSnapshot>, GatewayError> {
        let Ok(id) = segment(id.as_str()) else {
            return Ok(None);
        };
        let retrieve = RetrieveCheckoutSession::new(id).build();
        let found = self.http.find::<Checkout>(within, retrieve).await?;
        Ok(found.map(CheckoutSnapshot::from))
    }

    pub(super) async fn close_checkout(
        &self,
        within: Deadline,
        id: &CheckoutId,
    ) -> Result<CheckoutSnapshot, GatewayError> {
        let expire = ExpireCheckoutSession::new(segment(id.as_str())?).build();
        // It closes what is open, and refuses what is not: no key is needed for that to happen once.
        match self.http.send::<Checkout>(within, expire).await {
            Ok(expired) => Ok(expired.into()),
            Err(Failure::Gateway(error @ GatewayError::Rejected { .. })) => {
                let now = self.find_checkout(within, id).await?;
                let now = now.ok_or(GatewayError::NotFound)?;
                if now.status == "open" {
                    Err(error)
                } else {
                    Ok(now)
                }
            }
            Err(failure) => Err(failure.into()),
        }
    }

    pub(super) async fn open_portal(
        &self,
        within: Deadline,
        customer: &CustomerId,
        return_url: &str,
    ) -> Result<String, GatewayError> {
        let mut create = CreateBillingPortalSession::new()
            .customer(customer.as_str())
            .return_url(return_url);
        // Without one of ours it is the account's own, if somebody has saved any.
        if let Some(configuration) = self.portal_configuration(within).await? {
            create = create.configuration(configuration);
        }
        let opened = self.http.send::<Portal>(within, create.build()).await;
        if opened.is_err() {
            // It may have been switched off: looked for again next time.
            self.remember_portal(None);
        }
        Ok(opened?.url)
    }

    fn remember_portal(&self, configuration: Option<String>) {
        let known = self.portal_configuration.lock();
        *known.unwrap_or_else(PoisonError::into_inner) = configuration;
    }

    /// The portal's settings that [`StripeGateway::ensure_portal`] made.
    async fn portal_configuration(&self, within: Deadline) -> Result<Option<String>, GatewayError> {
        let known = self.portal_configuration.lock();
        let known = known.unwrap_or_else(PoisonError::into_inner).clone();
        if known.is_some() {
            return Ok(known);
        }
        #[derive(Serialize)]
        struct List {
            active: bool,
            limit: i64,
        }
        let list = List {
            active: true,
            limit: PAGE,
        };
        let list = RequestBuilder::new(StripeMethod::Get, PORTAL).query(&list);
        let page: Page<PortalConfiguration> = self.http.get(within, list).await?;
        let ours = page
            .data
            .into_iter()
            .find(|found| found.has_mark(PORTAL_MARK));
        let ours = ours.map(|found| found.id);
        self.remember_portal(ours.clone());
        Ok(ours)
    }

    /// Makes the portal's settings where they are missing. The name and address on invoices are the workspace's own and
    /// follow it, so that they are not changed there; nor is the plan, whose limits the portal knows nothing of.
    pub(super) async fn ensure_portal(
        &self,
        within: Deadline,
        dry_run: bool,
        key: &IdempotencyKey,
    ) -> Result<bool, GatewayError> {
        self.remember_portal(None);
        if self.portal_configuration(within).await?.is_some() {
            return Ok(false);
        }
        if dry_run {
            return Ok(true);
        }
        let pairs = [
            ("features[invoice_history][enabled]", "true"),
            ("features[payment_method_update][enabled]", "true"),
            ("features[subscription_cancel][enabled]", "true"),
            ("features[subscription_cancel][mode]", "at_period_end"),
            (PORTAL_METADATA, "1"),
        ];
        let mut create = RequestBuilder::new(StripeMethod::Post, PORTAL);
        let pairs = pairs.map(|(name, value)| format!("{name}={value}"));
        create.body = Some(pairs.join("&"));
        let made: PortalConfiguration = self.http.post(within, create, key).await?;
        self.remember_portal(Some(made.id));
        Ok(true)
    }

    pub(super) async fn find_price(
        &self,
        within: Deadline,
        lookup_key: &str,
    ) -> Result<Option<PriceSnapshot>, GatewayError> {
        let list = ListPrice::new()
            .lookup_keys([lookup_key.to_owned()])
            .active(true)
            .limit(1);
        let page: Page<Price> = self.http.get(within, list.build()).await?;
        Ok(page.data.into_iter().next().map(PriceSnapshot::from))
    }

    pub(super) async fn find_price_by_id(
        &self,
        within: Deadline,
        id: &PriceId,
    ) -> Result<Option<PriceSnapshot>, GatewayError> {
        let Ok(id) = segment(id.as_str()) else {
            return Ok(None);
        };
        let retrieve = RetrievePrice::new(id).build();
        let found = self.http.find::<Price>(within, retrieve).await?;
        Ok(found.map(PriceSnapshot::from))
    }

    pub(super) async fn make_price(
        &self,
        within: Deadline,
        new: &NewPrice,
        key: &IdempotencyKey,
    ) -> Result<PriceSnapshot, GatewayError> {
        let amount = i64::try_from(new.amount)
            .map_err(|_| rejected("amount_too_large", "no such amount can be charged"))?;
        self.ensure_product(within, new, key).await?;
        let interval = match new.interval {
            Interval::Month => CreatePriceRecurringInterval::Month,
            Interval::Year => CreatePriceRecurringInterval::Year,
        };
        let mut create = CreatePrice::new(currency(new))
            .product(new.product.as_str())
            .unit_amount(amount)
            .recurring(CreatePriceRecurring::new(interval))
            .lookup_key(&new.lookup_key);
        // Sent empty, it would ask for all to be unset, which what is new does not take.
        if !new.metadata.0.is_empty() {
            create = create.metadata(texts(&new.metadata));
        }
        let price: Price = self.http.post(within, create.build(), key).await?;
        Ok(price.into())
    }

    async fn ensure_product(
        &self,
        within: Deadline,
        new: &NewPrice,
        key: &IdempotencyKey,
    ) -> Result<(), GatewayError> {
        let retrieve = RetrieveProduct::new(segment(new.product.as_str())?).build();
        if self.http.find::<Named>(within, retrieve).await?.is_some() {
            return Ok(());
        }
        let mut create = CreateProduct::new(&new.product_name).id(new.product.as_str());
        if !new.metadata.0.is_empty() {
            create = create.metadata(texts(&new.metadata));
        }
        let create = create.build();
        match self.http.post_part::<Named>(within, create, key).await {
            Ok(_) => Ok(()),
            // Somebody else made it in between.
            Err(Failure::Gateway(GatewayError::Rejected { code, .. })) if code == TAKEN => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// A currency that the bindings do not know is sent as it is.
fn currency(new: &NewPrice) -> Currency {
    let text = new.currency.as_str();
    text.parse()
        .unwrap_or_else(|_| Currency::Unknown(text.to_owned()))
}
