//! The gateway of an installation that sells nothing: an operator grants plans.

use crate::event::ProviderEvent;
use crate::gateway::{
    CancelWhen, ChangePrice, ChargePreview, CustomerQuery, EventQuery, GatewayError, Listed,
    NewCheckout, NewCustomer, NewPrice, Outcome, PaymentGateway, PreviewRequest, Subscribe,
};
use crate::ids::{
    ChargeId, CheckoutId, CustomerId, DisputeId, IdempotencyKey, InvoiceId, PaymentMethodId,
    PriceId, SubscriptionId,
};
use crate::provider_objects::{
    ChargeSnapshot, CheckoutSnapshot, CustomerSnapshot, DisputeSnapshot, InvoiceSnapshot, Metadata,
    PriceSnapshot, SubscriptionSnapshot,
};

/// Has nothing and makes nothing: what is looked for is not there, and what is asked for is
/// [`GatewayError::NotConfigured`]. Grants are rows of ours and need no gateway.
#[derive(Debug, Clone, Copy, Default)]
pub struct ManualGateway;

const NOTHING: GatewayError = GatewayError::NotConfigured;

const fn none<T>() -> Listed<T> {
    Listed {
        items: Vec::new(),
        next: None,
    }
}

impl PaymentGateway for ManualGateway {
    fn livemode(&self) -> Option<bool> {
        None
    }
    async fn create_customer(
        &self,
        _: &NewCustomer,
        _: &IdempotencyKey,
    ) -> Result<CustomerSnapshot, GatewayError> {
        Err(NOTHING)
    }
    async fn customer(&self, _: &CustomerId) -> Result<Option<CustomerSnapshot>, GatewayError> {
        Ok(None)
    }
    async fn customers(&self, _: &CustomerQuery) -> Result<Listed<CustomerSnapshot>, GatewayError> {
        Ok(none())
    }
    async fn attach_payment_method(
        &self,
        _: &CustomerId,
        _: &PaymentMethodId,
        _: &IdempotencyKey,
    ) -> Result<Outcome<CustomerSnapshot>, GatewayError> {
        Err(NOTHING)
    }
    async fn subscribe(
        &self,
        _: &Subscribe,
        _: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        Err(NOTHING)
    }
    async fn subscription(
        &self,
        _: &SubscriptionId,
    ) -> Result<Option<SubscriptionSnapshot>, GatewayError> {
        Ok(None)
    }
    async fn subscriptions_of(
        &self,
        _: &CustomerId,
    ) -> Result<Vec<SubscriptionSnapshot>, GatewayError> {
        Ok(Vec::new())
    }
    async fn change_price(
        &self,
        _: &ChangePrice,
        _: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        Err(NOTHING)
    }
    async fn preview(&self, _: &PreviewRequest) -> Result<ChargePreview, GatewayError> {
        Err(NOTHING)
    }
    async fn cancel(
        &self,
        _: &SubscriptionId,
        _: CancelWhen,
        _: &Metadata,
        _: &IdempotencyKey,
    ) -> Result<SubscriptionSnapshot, GatewayError> {
        Err(NOTHING)
    }
    async fn withdraw(
        &self,
        _: &SubscriptionId,
        _: &IdempotencyKey,
    ) -> Result<SubscriptionSnapshot, GatewayError> {
        Err(NOTHING)
    }
    async fn resume(
        &self,
        _: &SubscriptionId,
        _: &Metadata,
        _: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        Err(NOTHING)
    }
    async fn update_customer(
        &self,
        _: &CustomerId,
        _: &str,
        _: Option<&str>,
        _: &IdempotencyKey,
    ) -> Result<CustomerSnapshot, GatewayError> {
        Err(NOTHING)
    }
    async fn collect_unpaid(
        &self,
        _: &SubscriptionId,
        _: &Metadata,
        _: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        Err(NOTHING)
    }
    async fn sync_portal(&self, _: bool, _: &IdempotencyKey) -> Result<bool, GatewayError> {
        Err(NOTHING)
    }
    async fn invoice(&self, _: &InvoiceId) -> Result<Option<InvoiceSnapshot>, GatewayError> {
        Ok(None)
    }
    async fn invoices_of(
        &self,
        _: &CustomerId,
        _: Option<String>,
    ) -> Result<Listed<InvoiceSnapshot>, GatewayError> {
        Ok(none())
    }
    async fn waits_for(&self, _: &InvoiceId) -> Result<Option<Outcome<()>>, GatewayError> {
        Ok(None)
    }
    async fn checkout(
        &self,
        _: &NewCheckout,
        _: &IdempotencyKey,
    ) -> Result<CheckoutSnapshot, GatewayError> {
        Err(NOTHING)
    }
    async fn checkout_session(
        &self,
        _: &CheckoutId,
    ) -> Result<Option<CheckoutSnapshot>, GatewayError> {
        Ok(None)
    }
    async fn expire_checkout(&self, _: &CheckoutId) -> Result<CheckoutSnapshot, GatewayError> {
        Err(NOTHING)
    }
    async fn portal(&self, _: &CustomerId, _: &str) -> Result<String, GatewayError> {
        Err(NOTHING)
    }
    async fn charge(&self, _: &ChargeId) -> Result<Option<ChargeSnapshot>, GatewayError> {
        Ok(None)
    }
    async fn dispute(&self, _: &DisputeId) -> Result<Option<DisputeSnapshot>, GatewayError> {
        Ok(None)
    }
    async fn events(&self, _: &EventQuery) -> Result<Listed<ProviderEvent>, GatewayError> {
        Ok(none())
    }
    async fn price(&self, _: &str) -> Result<Option<PriceSnapshot>, GatewayError> {
        Ok(None)
    }
    async fn price_by_id(&self, _: &PriceId) -> Result<Option<PriceSnapshot>, GatewayError> {
        Ok(None)
    }
    async fn create_price(
        &self,
        _: &NewPrice,
        _: &IdempotencyKey,
    ) -> Result<PriceSnapshot, GatewayError> {
        Err(NOTHING)
    }
}
