//! What a first purchase or a change would cost, as Stripe reckons it: credit, discounts, taxes, quantities and what
//! stands beside the plan are all in its previews, and in none of our own sums.

use chrono::{DateTime, TimeDelta, Utc};
use stripe_billing::invoice::{
    CreatePreviewInvoice, CreatePreviewInvoicePreviewMode, CreatePreviewInvoiceSubscriptionDetails,
    CreatePreviewInvoiceSubscriptionDetailsItems,
    CreatePreviewInvoiceSubscriptionDetailsProrationBehavior as Proration,
    CreatePreviewInvoiceSubscriptionDetailsTrialEnd as TrialEnd,
};
use stripe_client_core::{RequestBuilder, StripeRequest as _};

use super::http_client::Deadline;
use super::responses::Preview;
use super::{StripeGateway, rejected, seconds, unset};
use crate::gateway::{ChangeTiming, ChargePreview, GatewayError, PreviewRequest};
use crate::money::Money;
use crate::provider_objects::{ItemSnapshot, SubscriptionSnapshot, SubscriptionStatus};

impl StripeGateway {
    pub(super) async fn preview_change(
        &self,
        within: Deadline,
        request: &PreviewRequest,
    ) -> Result<ChargePreview, GatewayError> {
        let Some((subscription, _)) = &request.change else {
            let from = match request.timing {
                ChangeTiming::Now { proration_date } => proration_date,
                ChangeTiming::AtPeriodEnd => self.http.now(),
            };
            let days = request.trial_days.filter(|days| *days > 0);
            let trial_end = days.map(|days| from + TimeDelta::days(i64::from(days)));
            let first = first_invoice(request, None, trial_end);
            let first = self.previewed(within, first).await?;
            return self.priced(within, request, Some(&first), None).await;
        };
        let found = self.find_subscription(within, subscription).await?;
        let present = found.ok_or(GatewayError::NotFound)?;
        let request = &within_period(request, &present);
        let charges_now = matches!(request.timing, ChangeTiming::Now { .. })
            && present.status != SubscriptionStatus::Trialing
            && plan_item(request, &present).is_some_and(|item| item.price.id != request.price);
        let at_once = if charges_now {
            let first = first_invoice(request, Some(&present), None);
            Some(self.previewed(within, first).await?)
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
        let regular = regular_invoice(request, present);
        let next = self.previewed(within, regular).await?.total();
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
}

/// The line that would change.
fn plan_item<'a>(
    request: &PreviewRequest,
    present: &'a SubscriptionSnapshot,
) -> Option<&'a ItemSnapshot> {
    let (_, item) = request.change.as_ref()?;
    present.item_of(item)
}

/// The request with its time moved into the current period: Stripe refuses any other.
fn within_period(request: &PreviewRequest, present: &SubscriptionSnapshot) -> PreviewRequest {
    let item = plan_item(request, present);
    let mut request = request.clone();
    if let (ChangeTiming::Now { proration_date }, Some(item)) = (&mut request.timing, item) {
        *proration_date = item.within_period(*proration_date);
    }
    request
}

/// The invoice that the change, or a first purchase, would make at once.
fn first_invoice(
    request: &PreviewRequest,
    present: Option<&SubscriptionSnapshot>,
    trial_end: Option<DateTime<Utc>>,
) -> RequestBuilder {
    let mut details = details(request, present);
    if let (ChangeTiming::Now { proration_date }, Some(_)) = (request.timing, &request.change) {
        details.proration_behavior = Some(Proration::AlwaysInvoice);
        details.proration_date = Some(seconds(proration_date));
    }
    details.trial_end = trial_end.map(|end| TrialEnd::Timestamp(seconds(end)));
    without_date(preview(request, details).build(), present)
}

/// The invoice that comes with each period once the change is made.
fn regular_invoice(
    request: &PreviewRequest,
    present: Option<&SubscriptionSnapshot>,
) -> RequestBuilder {
    let mut details = details(request, present);
    if request.change.is_some() {
        details.proration_behavior = Some(Proration::None);
    }
    let regular = preview(request, details)
        .preview_mode(CreatePreviewInvoicePreviewMode::Recurring)
        .build();
    without_date(regular, present)
}

/// Whether a subscription ends at a date that has nothing to do with its period.
fn ends_at_date(present: Option<&SubscriptionSnapshot>) -> bool {
    present.is_some_and(|present| present.ends_at().is_some() && !present.cancel_at_period_end)
}

/// A change takes an end back, also one that was set as a date.
fn without_date(
    mut preview: RequestBuilder,
    present: Option<&SubscriptionSnapshot>,
) -> RequestBuilder {
    if ends_at_date(present) {
        unset(&mut preview, "subscription_details[cancel_at]");
    }
    preview
}

fn details(
    request: &PreviewRequest,
    present: Option<&SubscriptionSnapshot>,
) -> CreatePreviewInvoiceSubscriptionDetails {
    let mut item = CreatePreviewInvoiceSubscriptionDetailsItems::new();
    item.price = Some(request.price.to_string());
    item.quantity = Some(request.quantity);
    item.id = request.change.as_ref().map(|(_, item)| item.to_string());
    let mut details = CreatePreviewInvoiceSubscriptionDetails::new();
    details.items = Some(vec![item]);
    let is_change = request.change.is_some() && !ends_at_date(present);
    details.cancel_at_period_end = is_change.then_some(false);
    details
}

fn preview(
    request: &PreviewRequest,
    details: CreatePreviewInvoiceSubscriptionDetails,
) -> CreatePreviewInvoice {
    let mut preview = CreatePreviewInvoice::new().subscription_details(details);
    if let Some(customer) = &request.customer {
        preview = preview.customer(customer.as_str());
    }
    match &request.change {
        Some((subscription, _)) => preview.subscription(subscription.as_str()),
        None => preview,
    }
}
