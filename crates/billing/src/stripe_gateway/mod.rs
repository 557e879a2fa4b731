//! The payment gateway that is Stripe.
//!
//! Parameters are the typed builders of Stripe's bindings (decision 0001); what they build is sent by `http_client`, which
//! owns idempotency keys, tries and time; answers are read by `responses`, which looks at what is used and at nothing
//! else. A call that takes several of Stripe's is made so that the same call again ends in the same state: each
//! part has a key that follows from the port's and from what is sent.

mod http_client;
mod payments;
mod preview;
mod responses;
mod schedules;
mod selling;
mod subscriptions;

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::Env;
use secrecy::{ExposeSecret as _, SecretString};
use stripe_client_core::{RequestBuilder, StripeRequest as _};
use stripe_core::charge::RetrieveCharge;
use stripe_core::customer::{
    CreateCustomer, ListCustomer, RetrieveCustomer, UpdateCustomer, UpdateCustomerInvoiceSettings,
};
use stripe_core::dispute::RetrieveDispute;
use stripe_core::event::ListEvent;
use stripe_payment::payment_method::AttachPaymentMethod;
use stripe_types::RangeQueryTs;

use self::http_client::{Deadline, Failure, HttpClient, segment};
use self::responses::{Charge, Customer, Dispute, Events, Expandable, Named, Page};
use crate::event::ProviderEvent;
use crate::gateway::{
    CALL_SECONDS, CancelWhen, ChangePrice, ChargePreview, CustomerQuery, EventQuery, GatewayError,
    Listed, NewCheckout, NewCustomer, NewPrice, Outcome, PaymentGateway, PreviewRequest, Subscribe,
};
use crate::ids::{
    ChargeId, CheckoutId, CustomerId, DisputeId, IdempotencyKey, InvoiceId, PaymentMethodId,
    PriceId, SubscriptionId,
};
use crate::provider_objects::{
    ChargeSnapshot, CheckoutSnapshot, CustomerSnapshot, DisputeSnapshot, InvoiceSnapshot, Metadata,
    PriceSnapshot, SubscriptionSnapshot,
};

/// How many objects a page holds; Stripe gives 100 at most.
const PAGE: i64 = 100;

/// How Stripe is reached.
#[derive(Clone)]
pub struct StripeSettings {
    /// `sk_…` or, with fewer rights, `rk_…`.
    pub secret_key: SecretString,
    /// Another address than Stripe's own: a double, a proxy.
    pub api_url: Option<String>,
    /// How long one call of the port may take, every try and every part of it included.
    pub call_timeout: Duration,
    /// How long one try may take. A bank can need many seconds.
    pub try_timeout: Duration,
    /// How often one call of Stripe's is tried at most.
    pub tries: u32,
}

impl StripeSettings {
    /// Stripe itself, by this key.
    #[must_use]
    pub const fn new(secret_key: SecretString) -> Self {
        Self {
            secret_key,
            api_url: None,
            // What is left of the port's time is for what comes after the last answer.
            call_timeout: Duration::from_secs(CALL_SECONDS - 2),
            try_timeout: Duration::from_secs(15),
            tries: 5,
        }
    }

    /// Whether the key moves real money.
    ///
    /// # Errors
    /// It is no secret key.
    pub fn livemode(&self) -> Result<bool, StripeSetupError> {
        let key = self.secret_key.expose_secret();
        let begins = |prefixes: [&str; 2]| prefixes.iter().any(|prefix| key.starts_with(prefix));
        match (
            begins(["sk_live_", "rk_live_"]),
            begins(["sk_test_", "rk_test_"]),
        ) {
            (true, _) => Ok(true),
            (_, true) => Ok(false),
            _ => Err(StripeSetupError::Key),
        }
    }
}

impl fmt::Debug for StripeSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StripeSettings")
            .field("api_url", &self.api_url)
            .field("call_timeout", &self.call_timeout)
            .field("try_timeout", &self.try_timeout)
            .field("tries", &self.tries)
            .finish_non_exhaustive()
    }
}

/// Why Stripe cannot be used as configured. Never says the key.
#[derive(Debug, thiserror::Error)]
pub enum StripeSetupError {
    /// The key is a publishable one, or something else.
    #[error(
        "failed to use the secret key: it must begin with sk_live_, rk_live_, sk_test_ or rk_test_"
    )]
    Key,
    /// The address is none.
    #[error("failed to use the address: it must be one such as https://api.stripe.com")]
    Address,
    /// A live key would cross the network in the clear.
    #[error("failed to use the address: a live key is sent over https alone")]
    Clear,
    /// The machine's TLS cannot be used.
    #[error("failed to set up the client")]
    Client(#[source] reqwest::Error),
}

/// Stripe.
pub struct StripeGateway {
    http: HttpClient,
    livemode: bool,
    /// The portal's settings that we made, once they were found.
    portal_configuration: Mutex<Option<String>>,
}

impl fmt::Debug for StripeGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StripeGateway")
            .field("url", &self.http.base())
            .field("livemode", &self.livemode)
            .finish_non_exhaustive()
    }
}

impl StripeGateway {
    /// A gateway to Stripe. Nothing is sent yet.
    ///
    /// # Errors
    /// Key or address cannot be used.
    pub fn new(settings: &StripeSettings, env: Env) -> Result<Self, StripeSetupError> {
        Ok(Self {
            livemode: settings.livemode()?,
            portal_configuration: Mutex::new(None),
            http: HttpClient::new(settings, env)?,
        })
    }

    /// Attaches a payment method and makes it the default. A method such as `pm_card_visa` stands for a new one,
    /// whose id the answer says.
    async fn attach(
        &self,
        within: Deadline,
        customer: &CustomerId,
        method: &PaymentMethodId,
        key: &IdempotencyKey,
    ) -> Result<Customer, Failure> {
        let attach =
            AttachPaymentMethod::new(segment(method.as_str())?).customer(customer.as_str());
        let attached: Named = self.http.post_part(within, attach.build(), key).await?;
        let mut settings = UpdateCustomerInvoiceSettings::new();
        settings.default_payment_method = Some(attached.id);
        let update = UpdateCustomer::new(segment(customer.as_str())?).invoice_settings(settings);
        self.http.post_part(within, update.build(), key).await
    }
}

impl PaymentGateway for StripeGateway {
    fn livemode(&self) -> Option<bool> {
        Some(self.livemode)
    }

    fn answers(&self) -> Option<bool> {
        Some(self.http.answers())
    }

    async fn create_customer(
        &self,
        new: &NewCustomer,
        key: &IdempotencyKey,
    ) -> Result<CustomerSnapshot, GatewayError> {
        let mut create = CreateCustomer::new()
            .name(&new.name)
            .metadata(texts(&new.metadata));
        if let Some(email) = &new.email {
            create = create.email(email);
        }
        let within = self.http.deadline();
        let customer: Customer = self.http.post(within, create.build(), key).await?;
        Ok(customer.snapshot(self.livemode))
    }

    async fn customer(&self, id: &CustomerId) -> Result<Option<CustomerSnapshot>, GatewayError> {
        let Ok(id) = segment(id.as_str()) else {
            return Ok(None);
        };
        let within = self.http.deadline();
        let retrieve = RetrieveCustomer::new(id).build();
        let found = self.http.find::<Customer>(within, retrieve).await?;
        Ok(found.map(|customer| customer.snapshot(self.livemode)))
    }

    async fn update_customer(
        &self,
        customer: &CustomerId,
        name: &str,
        email: Option<&str>,
        key: &IdempotencyKey,
    ) -> Result<CustomerSnapshot, GatewayError> {
        let within = self.http.deadline();
        let update = UpdateCustomer::new(segment(customer.as_str())?)
            .name(name)
            // An empty text removes it.
            .email(email.unwrap_or_default());
        let updated: Customer = self.http.post(within, update.build(), key).await?;
        Ok(updated.snapshot(self.livemode))
    }

    async fn customers(
        &self,
        query: &CustomerQuery,
    ) -> Result<Listed<CustomerSnapshot>, GatewayError> {
        let mut list = ListCustomer::new().limit(PAGE);
        if let Some(from) = query.created_from {
            list = list.created(RangeQueryTs::gte(from.timestamp()));
        }
        if let Some(after) = &query.after {
            list = list.starting_after(after);
        }
        let within = self.http.deadline();
        let page: Page<Customer> = self.http.get(within, list.build()).await?;
        page.listed(
            |customer: &CustomerSnapshot| customer.id.to_string(),
            |customer| Ok(customer.snapshot(self.livemode)),
        )
    }

    async fn attach_payment_method(
        &self,
        customer: &CustomerId,
        method: &PaymentMethodId,
        key: &IdempotencyKey,
    ) -> Result<Outcome<CustomerSnapshot>, GatewayError> {
        let within = self.http.deadline();
        match self.attach(within, customer, method, key).await {
            Ok(customer) => Ok(Outcome::Done(customer.snapshot(self.livemode))),
            Err(failure) => refused(failure),
        }
    }

    async fn subscribe(
        &self,
        new: &Subscribe,
        key: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        self.begin_subscription(self.http.deadline(), new, key)
            .await
    }

    async fn subscription(
        &self,
        id: &SubscriptionId,
    ) -> Result<Option<SubscriptionSnapshot>, GatewayError> {
        self.find_subscription(self.http.deadline(), id).await
    }

    async fn subscriptions_of(
        &self,
        customer: &CustomerId,
    ) -> Result<Vec<SubscriptionSnapshot>, GatewayError> {
        self.list_subscriptions(self.http.deadline(), customer)
            .await
    }

    async fn change_price(
        &self,
        change: &ChangePrice,
        key: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        self.change_subscription(self.http.deadline(), change, key)
            .await
    }

    async fn preview(&self, request: &PreviewRequest) -> Result<ChargePreview, GatewayError> {
        self.preview_change(self.http.short_deadline(), request)
            .await
    }

    async fn cancel(
        &self,
        id: &SubscriptionId,
        when: CancelWhen,
        metadata: &Metadata,
        key: &IdempotencyKey,
    ) -> Result<SubscriptionSnapshot, GatewayError> {
        self.end_subscription(self.http.deadline(), id, when, metadata, key)
            .await
    }

    async fn withdraw(
        &self,
        id: &SubscriptionId,
        key: &IdempotencyKey,
    ) -> Result<SubscriptionSnapshot, GatewayError> {
        self.withdraw_payment(self.http.deadline(), id, key).await
    }

    async fn resume(
        &self,
        id: &SubscriptionId,
        metadata: &Metadata,
        key: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        self.resume_subscription(self.http.deadline(), id, metadata, key)
            .await
    }

    async fn collect_unpaid(
        &self,
        id: &SubscriptionId,
        metadata: &Metadata,
        key: &IdempotencyKey,
    ) -> Result<Outcome<SubscriptionSnapshot>, GatewayError> {
        self.collect_all(self.http.deadline(), id, metadata, key)
            .await
    }

    async fn invoice(&self, id: &InvoiceId) -> Result<Option<InvoiceSnapshot>, GatewayError> {
        self.find_invoice(self.http.deadline(), id).await
    }

    async fn invoices_of(
        &self,
        customer: &CustomerId,
        after: Option<String>,
    ) -> Result<Listed<InvoiceSnapshot>, GatewayError> {
        self.list_invoices(self.http.deadline(), customer, after)
            .await
    }

    async fn waits_for(&self, invoice: &InvoiceId) -> Result<Option<Outcome<()>>, GatewayError> {
        self.unpaid_invoice_waits_for(self.http.deadline(), invoice)
            .await
    }

    async fn checkout(
        &self,
        new: &NewCheckout,
        key: &IdempotencyKey,
    ) -> Result<CheckoutSnapshot, GatewayError> {
        self.open_checkout(self.http.deadline(), new, key).await
    }

    async fn checkout_session(
        &self,
        id: &CheckoutId,
    ) -> Result<Option<CheckoutSnapshot>, GatewayError> {
        self.find_checkout(self.http.deadline(), id).await
    }

    async fn expire_checkout(&self, id: &CheckoutId) -> Result<CheckoutSnapshot, GatewayError> {
        self.close_checkout(self.http.deadline(), id).await
    }

    async fn portal(
        &self,
        customer: &CustomerId,
        return_url: &str,
    ) -> Result<String, GatewayError> {
        self.open_portal(self.http.short_deadline(), customer, return_url)
            .await
    }

    async fn sync_portal(&self, dry_run: bool, key: &IdempotencyKey) -> Result<bool, GatewayError> {
        self.ensure_portal(self.http.deadline(), dry_run, key).await
    }

    async fn charge(&self, id: &ChargeId) -> Result<Option<ChargeSnapshot>, GatewayError> {
        let Ok(id) = segment(id.as_str()) else {
            return Ok(None);
        };
        let within = self.http.deadline();
        let retrieve = RetrieveCharge::new(id).build();
        let Some(charge) = self.http.find::<Charge>(within, retrieve).await? else {
            return Ok(None);
        };
        if !charge.was_refunded() {
            return Ok(Some(charge.snapshot(Vec::new(), None)));
        }
        let refunds = self.refunds(within, id).await?;
        let intent = charge.payment_intent.as_ref().map(|id| id.0.as_str());
        let invoice = self.invoice_paid_by(within, intent).await?;
        Ok(Some(charge.snapshot(refunds, invoice)))
    }

    async fn dispute(&self, id: &DisputeId) -> Result<Option<DisputeSnapshot>, GatewayError> {
        let Ok(id) = segment(id.as_str()) else {
            return Ok(None);
        };
        let within = self.http.deadline();
        let retrieve = RetrieveDispute::new(id).expand(["charge".to_owned()]);
        let Some(mut dispute) = self.http.find::<Dispute>(within, retrieve.build()).await? else {
            return Ok(None);
        };
        if let Some(Expandable::Id(charge)) = &dispute.charge {
            let retrieve = RetrieveCharge::new(segment(charge)?).build();
            let charge = self.http.find(within, retrieve).await?;
            dispute.charge = charge.map(Expandable::Object).or(dispute.charge);
        }
        let intent = dispute.payment_intent().filter(|_| dispute.is_lost());
        let invoice = self.invoice_paid_by(within, intent).await?;
        Ok(Some(dispute.snapshot(invoice)))
    }

    async fn events(&self, query: &EventQuery) -> Result<Listed<ProviderEvent>, GatewayError> {
        let from = query.created_from.timestamp();
        let mut list = ListEvent::new()
            .limit(PAGE)
            .created(RangeQueryTs::gte(from));
        if query.undelivered {
            list = list.delivery_success(false);
        }
        if let Some(after) = &query.after {
            list = list.starting_after(after);
        }
        let within = self.http.deadline();
        let page: Events = self.http.get(within, list.build()).await?;
        let last: Option<Named> = match page.data.last() {
            Some(raw) if page.has_more => serde_json::from_str(raw.get()).ok(),
            _ => None,
        };
        let events = page.data.iter().filter_map(|raw| {
            let read = ProviderEvent::read(raw.get().as_bytes().to_vec());
            // One without an id or a type could be neither stored nor told from another.
            read.inspect_err(
                |error| tracing::warn!(%error, "an event in Stripe's list is left out"),
            )
            .ok()
        });
        Ok(Listed {
            items: events.collect(),
            next: last.map(|event| event.id),
        })
    }

    async fn price(&self, lookup_key: &str) -> Result<Option<PriceSnapshot>, GatewayError> {
        self.find_price(self.http.deadline(), lookup_key).await
    }

    async fn price_by_id(&self, id: &PriceId) -> Result<Option<PriceSnapshot>, GatewayError> {
        self.find_price_by_id(self.http.deadline(), id).await
    }

    async fn create_price(
        &self,
        new: &NewPrice,
        key: &IdempotencyKey,
    ) -> Result<PriceSnapshot, GatewayError> {
        self.make_price(self.http.deadline(), new, key).await
    }
}

/// The outcome of a payment that was refused on the spot, where nothing is left of it.
fn refused<T>(failure: Failure) -> Result<Outcome<T>, GatewayError> {
    let card = match failure {
        Failure::Gateway(error) => return Err(error),
        Failure::Card(card) => card,
    };
    Ok(match card.confirmable {
        Some(client_secret) => Outcome::ActionRequired {
            client_secret,
            left: None,
        },
        None => Outcome::Declined {
            decline: card.decline,
            left: None,
        },
    })
}

fn texts(metadata: &Metadata) -> HashMap<String, String> {
    metadata.0.clone().into_iter().collect()
}

/// Adds a parameter that is empty, by which Stripe unsets what it names. The bindings have no word for that.
fn unset(request: &mut RequestBuilder, parameter: &str) {
    let pair = format!("{parameter}=");
    request.body = Some(match request.body.take() {
        Some(body) if !body.is_empty() => format!("{body}&{pair}"),
        _ => pair,
    });
}

/// The period and price of what was sold, as Stripe counts time.
const fn seconds(at: DateTime<Utc>) -> i64 {
    at.timestamp()
}

/// A call that is refused before it is made, because it could only be refused.
fn rejected(code: &str, message: &str) -> GatewayError {
    GatewayError::Rejected {
        code: code.to_owned(),
        message: message.to_owned(),
    }
}
