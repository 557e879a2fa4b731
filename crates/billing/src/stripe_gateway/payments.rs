//! Invoices, and what their payments say: when an attempt failed, and what an unpaid one waits for.
//!
//! Since 2025-03-31.basil an invoice does not name its payment: its payments are a list of their own. A server that
//! lacks one of these lists answers 404 or 400; then what it says is nothing, and the domain has a fallback.

use serde::Serialize;
use stripe_billing::invoice::{
    FinalizeInvoiceInvoice, ListInvoice, PayInvoice, RetrieveInvoice, VoidInvoiceInvoice,
};
use stripe_billing::invoice_payment::ListInvoicePayment;
use stripe_client_core::{RequestBuilder, StripeMethod, StripeRequest as _};
use stripe_core::charge::ListCharge;
use stripe_core::payment_intent::RetrievePaymentIntent;

use super::http_client::{Deadline, Failure, segment};
use super::responses::{
    Charge, Confirmable, Expandable, Intent, Invoice, InvoicePayment, Named, Page, Refund,
    generic_decline,
};
use super::subscriptions::End;
use super::{PAGE, StripeGateway, refused};
use crate::gateway::{ClientSecret, Decline, GatewayError, Listed, Outcome};
use crate::ids::{CustomerId, IdempotencyKey, InvoiceId, SubscriptionId};
use crate::provider_objects::{
    Attempt, InvoiceSnapshot, InvoiceStatus, Metadata, RefundSnapshot, SubscriptionSnapshot,
};

/// How many payments of one invoice are looked at, newest first. An invoice has one unless somebody split it.
const MAX_INTENTS: usize = 10;

/// What an invoice waits for.
pub(super) enum Wait {
    /// Nobody: it is paid, or a payment is under way, or none was tried.
    Nobody,
    /// Another card.
    Card(Decline),
    /// The payer's confirmation.
    Payer(ClientSecret),
}

impl StripeGateway {
    pub(super) async fn find_invoice(
        &self,
        within: Deadline,
        id: &InvoiceId,
    ) -> Result<Option<InvoiceSnapshot>, GatewayError> {
        let Some(invoice) = self.retrieve_invoice(within, id).await? else {
            return Ok(None);
        };
        let attempts = if invoice.was_attempted() {
            self.attempts(within, id).await?
        } else {
            Vec::new()
        };
        Ok(Some(invoice.snapshot(attempts)))
    }

    async fn retrieve_invoice(
        &self,
        within: Deadline,
        id: &InvoiceId,
    ) -> Result<Option<Invoice>, GatewayError> {
        let Ok(id) = segment(id.as_str()) else {
            return Ok(None);
        };
        let retrieve = RetrieveInvoice::new(id).build();
        self.http.find(within, retrieve).await
    }

    pub(super) async fn list_invoices(
        &self,
        within: Deadline,
        customer: &CustomerId,
        after: Option<String>,
    ) -> Result<Listed<InvoiceSnapshot>, GatewayError> {
        let mut list = ListInvoice::new().customer(customer.as_str()).limit(PAGE);
        if let Some(after) = after {
            list = list.starting_after(after);
        }
        let page: Page<Invoice> = self.http.get(within, list.build()).await?;
        page.listed(
            |invoice: &InvoiceSnapshot| invoice.id.to_string(),
            |invoice| Ok(invoice.snapshot(Vec::new())),
        )
    }

    /// Every attempt that Stripe tells of, oldest first.
    async fn attempts(
        &self,
        within: Deadline,
        invoice: &InvoiceId,
    ) -> Result<Vec<Attempt>, GatewayError> {
        let mut attempts = Vec::new();
        for intent in self.intents(within, invoice).await? {
            let list = ListCharge::new()
                .payment_intent(intent.id.as_str())
                .limit(PAGE);
            let page: Option<Page<Charge>> = self.if_told(within, list.build()).await?;
            let charges = page.map(|page| page.data).unwrap_or_default();
            let told: Vec<_> = charges.iter().filter_map(Charge::attempt).collect();
            if told.is_empty() {
                attempts.extend(intent.attempt());
            }
            attempts.extend(told);
        }
        attempts.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        Ok(attempts)
    }

    /// What was given back of a charge, oldest first.
    pub(super) async fn refunds(
        &self,
        within: Deadline,
        charge: &str,
    ) -> Result<Vec<RefundSnapshot>, GatewayError> {
        #[derive(Serialize)]
        struct List<'a> {
            charge: &'a str,
            limit: i64,
        }
        let list = List {
            charge,
            limit: PAGE,
        };
        let list = RequestBuilder::new(StripeMethod::Get, "/refunds").query(&list);
        let page: Option<Page<Refund>> = self.if_told(within, list).await?;
        let refunds = page.map(|page| page.data).unwrap_or_default();
        let mut made: Vec<_> = refunds.into_iter().filter_map(Refund::snapshot).collect();
        made.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(made)
    }

    /// The invoice that a payment has paid, if one is told.
    pub(super) async fn invoice_paid_by(
        &self,
        within: Deadline,
        intent: Option<&str>,
    ) -> Result<Option<InvoiceId>, GatewayError> {
        let Some(intent) = intent else {
            return Ok(None);
        };
        #[derive(Serialize)]
        struct Of<'a> {
            #[serde(rename = "type")]
            kind: &'a str,
            payment_intent: &'a str,
        }
        #[derive(Serialize)]
        struct List<'a> {
            payment: Of<'a>,
            limit: i64,
        }
        let list = List {
            payment: Of {
                kind: "payment_intent",
                payment_intent: intent,
            },
            limit: 1,
        };
        let list = RequestBuilder::new(StripeMethod::Get, "/invoice_payments").query(&list);
        let page: Option<Page<InvoicePayment>> = self.if_told(within, list).await?;
        let payments = page.map(|page| page.data).unwrap_or_default();
        Ok(payments
            .into_iter()
            .find_map(|payment| Some(payment.invoice?.0)))
    }

    /// Finalizes and pays all that an unpaid subscription owes, oldest first.
    pub(super) async fn collect_all(
        &self,
        within: Deadline,
        id: &SubscriptionId,
        metadata: &Metadata,
        key: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        self.mark(within, id, End::AsItIs, metadata, key).await?;
        let list = ListInvoice::new().subscription(id.as_str()).limit(PAGE);
        let page: Page<Invoice> = self.http.get(within, list.build()).await?;
        let all = page
            .data
            .into_iter()
            .map(|invoice| invoice.snapshot(Vec::new()));
        let mut owed: Vec<_> = all
            .filter(|i| matches!(i.status, InvoiceStatus::Open | InvoiceStatus::Draft))
            .collect();
        owed.sort_by_key(InvoiceSnapshot::position);
        for invoice in owed {
            let path = segment(invoice.id.as_str())?;
            if invoice.status == InvoiceStatus::Draft {
                let finalize = FinalizeInvoiceInvoice::new(path).auto_advance(false);
                let finalize = finalize.build();
                match self.http.post_part::<Named>(within, finalize, key).await {
                    // Somebody else was faster.
                    Ok(_) => {}
                    Err(Failure::Gateway(GatewayError::Rejected { .. }))
                        if self.invoice_status(within, &invoice.id).await?
                            != Some(InvoiceStatus::Draft) => {}
                    Err(failure) => return Err(failure.into()),
                }
            }
            let pay = PayInvoice::new(path).off_session(false).build();
            match self.http.post_part::<Named>(within, pay, key).await {
                Ok(_) => {}
                Err(Failure::Gateway(error @ GatewayError::Rejected { .. })) => {
                    // Paid by somebody else, or by what was on the account.
                    let now = self.invoice_status(within, &invoice.id).await?;
                    if now != Some(InvoiceStatus::Paid) {
                        return Err(error);
                    }
                }
                Err(failure) => return refused(failure),
            }
        }
        let now = self.find_subscription(within, id).await?;
        Ok(Outcome::Done(now.ok_or(GatewayError::NotFound)?))
    }

    /// What a subscription's card waits for before it can be charged later, where its first invoice came to nothing.
    async fn setup_of(
        &self,
        within: Deadline,
        subscription: Option<&SubscriptionId>,
    ) -> Result<Option<ClientSecret>, GatewayError> {
        let Some(subscription) = subscription else {
            return Ok(None);
        };
        self.pending_setup(within, subscription).await
    }

    /// The payments of an invoice, newest first.
    async fn intents(
        &self,
        within: Deadline,
        invoice: &InvoiceId,
    ) -> Result<Vec<Intent>, GatewayError> {
        let list = ListInvoicePayment::new()
            .invoice(invoice.as_str())
            .limit(PAGE)
            .expand(["data.payment.payment_intent".to_owned()]);
        let page: Option<Page<InvoicePayment>> = self.if_told(within, list.build()).await?;
        let payments = page.map(|page| page.data).unwrap_or_default();
        let named = payments
            .into_iter()
            .filter_map(|payment| payment.payment?.payment_intent);
        let mut intents = Vec::new();
        for intent in named.take(MAX_INTENTS) {
            match intent {
                Expandable::Object(intent) => intents.push(intent),
                Expandable::Id(id) => {
                    let retrieve = RetrievePaymentIntent::new(segment(&id)?).build();
                    intents.extend(self.if_told(within, retrieve).await?);
                }
            }
        }
        intents.sort_by_key(|intent: &Intent| std::cmp::Reverse(intent.created));
        Ok(intents)
    }

    /// What a server says, if it has the route at all.
    async fn if_told<T: serde::de::DeserializeOwned>(
        &self,
        within: Deadline,
        request: RequestBuilder,
    ) -> Result<Option<T>, GatewayError> {
        match self.http.find(within, request).await {
            Err(GatewayError::Rejected { code, .. }) => {
                tracing::debug!(code, "Stripe does not tell of an invoice's payments");
                Ok(None)
            }
            told => told,
        }
    }

    pub(super) async fn unpaid_invoice_waits_for(
        &self,
        within: Deadline,
        id: &InvoiceId,
    ) -> Result<Option<Outcome<()>>, GatewayError> {
        let Some(invoice) = self.retrieve_invoice(within, id).await? else {
            return Ok(None);
        };
        let was_attempted = invoice.was_attempted();
        let invoice = invoice.snapshot(Vec::new());
        let left = None;
        if invoice.amount_due == 0 {
            let subscription = invoice.subscription.as_ref();
            let secret = self.setup_of(within, subscription).await?;
            return Ok(secret.map(|client_secret| Outcome::ActionRequired {
                client_secret,
                left,
            }));
        }
        if !invoice.is_owed() {
            return Ok(None);
        }
        Ok(match self.wait(within, id).await? {
            Wait::Payer(client_secret) => Some(Outcome::ActionRequired {
                client_secret,
                left,
            }),
            Wait::Card(decline) if was_attempted => Some(Outcome::Declined { decline, left }),
            Wait::Card(_) | Wait::Nobody => None,
        })
    }

    /// What an open invoice waits for, by its newest payment.
    pub(super) async fn wait(
        &self,
        within: Deadline,
        invoice: &InvoiceId,
    ) -> Result<Wait, GatewayError> {
        let intents = self.intents(within, invoice).await?;
        let Some(newest) = intents.into_iter().find(|intent| !intent.is_canceled()) else {
            let secret = self.confirmation_secret(within, invoice).await?;
            return Ok(secret.map_or_else(|| Wait::Card(generic_decline()), Wait::Payer));
        };
        if newest.wants_payer() {
            let secret = match newest.client_secret.as_ref() {
                Some(secret) => Some(secret.reveal()),
                None => self.confirmation_secret(within, invoice).await?,
            };
            if let Some(secret) = secret {
                return Ok(Wait::Payer(secret));
            }
        }
        Ok(match newest.last_payment_error {
            Some(refusal) if newest.status == "requires_payment_method" => {
                Wait::Card(refusal.decline())
            }
            None if newest.status == "requires_payment_method" => Wait::Card(generic_decline()),
            _ => Wait::Nobody,
        })
    }

    /// What a browser needs to confirm an invoice, by the invoice itself.
    async fn confirmation_secret(
        &self,
        within: Deadline,
        invoice: &InvoiceId,
    ) -> Result<Option<ClientSecret>, GatewayError> {
        let retrieve = RetrieveInvoice::new(segment(invoice.as_str())?)
            .expand(["confirmation_secret".to_owned()])
            .build();
        let invoice: Option<Confirmable> = self.if_told(within, retrieve).await?;
        let confirmation = invoice.and_then(|invoice| invoice.confirmation_secret);
        Ok(confirmation.map(|confirmation| confirmation.client_secret.reveal()))
    }

    /// Why the payment of an invoice was refused at last, also of one that was withdrawn since.
    pub(super) async fn last_decline(
        &self,
        within: Deadline,
        invoice: &InvoiceId,
    ) -> Result<Decline, GatewayError> {
        let intents = self.intents(within, invoice).await?;
        let refusal = intents
            .into_iter()
            .find_map(|intent| intent.last_payment_error);
        Ok(refusal.map_or_else(generic_decline, |refusal| refusal.decline()))
    }

    pub(super) async fn invoice_status(
        &self,
        within: Deadline,
        id: &InvoiceId,
    ) -> Result<Option<InvoiceStatus>, GatewayError> {
        let invoice = self.retrieve_invoice(within, id).await?;
        Ok(invoice.map(|invoice| invoice.snapshot(Vec::new()).status))
    }

    /// Withdraws an invoice; one that is over is left as it is.
    pub(super) async fn void(
        &self,
        within: Deadline,
        invoice: &InvoiceId,
        key: &IdempotencyKey,
    ) -> Result<(), GatewayError> {
        let void = VoidInvoiceInvoice::new(segment(invoice.as_str())?).build();
        match self.http.post_part::<Named>(within, void, key).await {
            Ok(_) | Err(Failure::Gateway(GatewayError::Rejected { .. })) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }
}
