//! What a change would cost.

use stripe_billing::invoice::{
    CreatePreviewInvoice, CreatePreviewInvoicePreviewMode, CreatePreviewInvoiceSubscriptionDetails,
    CreatePreviewInvoiceSubscriptionDetailsItems,
    CreatePreviewInvoiceSubscriptionDetailsProrationBehavior as Proration,
};
use stripe_client_core::{RequestBuilder, StripeRequest as _};

use super::http_client::Deadline;
use super::responses::Preview;
use super::{StripeGateway, rejected, seconds};
use crate::gateway::{ChangeTiming, ChargePreview, GatewayError, PreviewRequest};
use crate::money::Money;
use crate::provider_objects::{SubscriptionSnapshot, SubscriptionStatus};

impl StripeGateway {
    pub(super) async fn preview_change(
        &self,
        within: Deadline,
        request: &PreviewRequest,
    ) -> Result<ChargePreview, GatewayError> {
        let Some((subscription, _)) = &request.change else {
            let first = self.previewed(within, first_invoice(request)).await?;
            return self.priced(within, request, Some(&first), None).await;
        };
        let found = self.find_subscription(within, subscription).await?;
        let present = found.ok_or(GatewayError::NotFound)?;
        let request = &within_period(request, &present);
        let charges_now = matches!(request.timing, ChangeTiming::Now { .. })
            && present.status != SubscriptionStatus::Trialing
            && present
                .item()
                .is_some_and(|item| item.price.id != request.price);
        let at_once = if charges_now {
            Some(self.previewed(within, first_invoice(request)).await?)
        } else {
            None
        };
        self.priced(within, request, at_once.as_ref(), Some(&present))
            .await
    }

    async fn previewed(
        &self,
        within: Deadline,
        preview: RequestBuilder,
    ) -> Result<Preview, GatewayError> {
        // It makes nothing: no key, and always counted anew.
        Ok(self.http.send(within, preview).await?)
    }

    /// What is charged at once, if anything, and what then comes regularly.
    async fn priced(
        &self,
        within: Deadline,
        request: &PreviewRequest,
        at_once: Option<&Preview>,
        present: Option<&SubscriptionSnapshot>,
    ) -> Result<ChargePreview, GatewayError> {
        let next = self.regularly(within, request).await?;
        let next_at = at_once
            .and_then(Preview::until)
            .or_else(|| present.and_then(SubscriptionSnapshot::period_end));
        Ok(ChargePreview {
            now: at_once.map_or(Money::new(0, next.currency), Preview::charged),
            next,
            next_at: next_at.ok_or_else(|| rejected("no_period", "the preview names no period"))?,
            proration_date: match (request.timing, present) {
                (ChangeTiming::Now { proration_date }, Some(_)) => Some(proration_date),
                _ => None,
            },
        })
    }

    /// What comes with each period. A server that cannot preview it says what the price is, which is the same where
    /// there is neither tax nor discount.
    async fn regularly(
        &self,
        within: Deadline,
        request: &PreviewRequest,
    ) -> Result<Money, GatewayError> {
        match self.previewed(within, regular_invoice(request)).await {
            Ok(regular) => Ok(regular.total()),
            Err(error @ GatewayError::Rejected { .. }) => {
                let price = self.find_price_by_id(within, &request.price).await?;
                let amount =
                    price.and_then(|price| Some(Money::new(price.amount?, price.currency)));
                amount.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }
}

/// The request with its time moved into the current period: Stripe refuses any other.
fn within_period(request: &PreviewRequest, present: &SubscriptionSnapshot) -> PreviewRequest {
    let mut request = request.clone();
    if let (ChangeTiming::Now { proration_date }, Some(item)) =
        (&mut request.timing, present.item())
    {
        *proration_date = item.within_period(*proration_date);
    }
    request
}

/// The invoice that the change would make at once.
fn first_invoice(request: &PreviewRequest) -> RequestBuilder {
    let mut details = details(request);
    if let (ChangeTiming::Now { proration_date }, Some(_)) = (request.timing, &request.change) {
        details.proration_behavior = Some(Proration::AlwaysInvoice);
        details.proration_date = Some(seconds(proration_date));
    }
    preview(request, details).build()
}

/// The invoice that comes with each period once the change is made.
fn regular_invoice(request: &PreviewRequest) -> RequestBuilder {
    let mut details = details(request);
    if request.change.is_some() {
        details.proration_behavior = Some(Proration::None);
    }
    preview(request, details)
        .preview_mode(CreatePreviewInvoicePreviewMode::Recurring)
        .build()
}

fn details(request: &PreviewRequest) -> CreatePreviewInvoiceSubscriptionDetails {
    let mut item = CreatePreviewInvoiceSubscriptionDetailsItems::new();
    item.price = Some(request.price.to_string());
    item.id = request.change.as_ref().map(|(_, item)| item.to_string());
    let mut details = CreatePreviewInvoiceSubscriptionDetails::new();
    details.items = Some(vec![item]);
    // A change takes an end back.
    details.cancel_at_period_end = request.change.is_some().then_some(false);
    details
}

fn preview(
    request: &PreviewRequest,
    details: CreatePreviewInvoiceSubscriptionDetails,
) -> CreatePreviewInvoice {
    let preview = CreatePreviewInvoice::new()
        .customer(request.customer.as_str())
        .subscription_details(details);
    match &request.change {
        Some((subscription, _)) => preview.subscription(subscription.as_str()),
        None => preview,
    }
}
