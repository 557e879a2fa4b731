//! Money: what a workspace has bought, whether it is paid, and what follows from that.
//!
//! The payment provider is the truth about subscriptions; kept here is a projection of it. An event of the provider
//! only says that an object has changed: it is stored ([`Inbox::receive`]), its object is leased and *then* fetched
//! ([`PaymentGateway`]), and one transaction writes what was fetched, the workspace's standing, and the effects that
//! the facts call for. So events may come in any order, twice, or never: what is fetched is the same.
//!
//! ```
//! use rawdrive_billing::{Disposition, EventEnvelope, ObjectKind, ObjectRef};
//! let event = br#"{ "id": "evt_1", "type": "invoice.paid", "livemode": false,
//!                   "data": { "object": { "id": "in_1", "customer": "cus_1" } } }"#;
//! let envelope = EventEnvelope::parse(event)?;
//! let touched = Disposition::Touches(ObjectRef::new(ObjectKind::Invoice, "in_1"));
//! assert_eq!(envelope.disposition(Some(false)), touched);
//! # Ok::<(), rawdrive_billing::NoEvent>(())
//! ```
//!
//! Invariant: any order, duplication or loss of events, followed by a reconcile, ends in the provider's own state,
//! with every keyed effect once. No call to the provider happens inside a transaction.

mod book;
mod decide;
mod drive;
mod event;
#[cfg(test)]
mod fixtures;
mod gateway;
mod grants;
mod ids;
mod manual;
mod money;
mod operation;
mod ports;
mod preview;
mod project;
mod reconcile;
mod sell;
mod settle;
mod signature;
mod snapshot;
#[cfg(feature = "stripe")]
mod stripe_gateway;
mod sync_plans;
mod work;

pub use book::{PriceBook, sold};
pub use decide::{
    Basis, Grace, GraceStage, PAYMENT_FAILED, TRIAL_ENDED, basis, current, grace, read_only, ruling,
};
pub use drive::recover_operations;
pub use event::{
    Disposition, EventEnvelope, Ignored, NoEvent, ObjectKind, ObjectRef, ProviderEvent,
    UnknownObjectKind,
};
pub use gateway::{
    CALL_SECONDS, CancelWhen, ChangePrice, ChangeTiming, ChargePreview, ClientSecret,
    CustomerQuery, Decline, EventQuery, GatewayError, Listed, NOTHING_TO_PAY_WITH, NewCheckout,
    NewCustomer, NewPrice, Outcome, PaymentGateway, PreviewRequest, Subscribe,
};
pub use grants::{NewGrant, PLAN_GRANTED, grant_plan};
pub use ids::{
    ChargeId, CheckoutId, CustomerId, DisputeId, IdempotencyKey, InvoiceId, ItemId,
    PaymentMethodId, PriceId, ProductId, ProviderEventId, ProviderIdError, SubscriptionId,
};
pub use manual::ManualGateway;
pub use money::{Currency, Money};
pub use operation::{Lane, OPERATION_LEASE_SECONDS, Operation, OperationOutcome, OperationRequest};
pub use ports::{
    Account, Billed, BillingDirectory, BillingRead, BillingStore, BillingTx, Dirty, Grant, Inbox,
    InboxTx, Leasing, OperationsTx, Payer, Receipt, Sold, SoldPrice, Subscription, Waiting,
    WaitingFor,
};
pub use preview::{Broken, Effective, Preview, PreviewKey, preview};
pub use project::{
    CHARGE_REFUNDED, CUSTOMER_DELETED, DISPUTE_CLOSED, DISPUTE_OPENED, FINALIZATION_FAILED,
    Fetched, INVOICE_PAID, INVOICE_UNCOLLECTIBLE, INVOICE_VOIDED, Lens, PAYMENT_ACTION_REQUIRED,
    PAYMENT_FAILED_EVENT, SUBSCRIPTION_CHANGED, SUBSCRIPTION_CREATED, SUBSCRIPTION_ENDED, project,
};
pub use reconcile::{Drift, Heal, ReconcileError, default_since, reconcile, replay};
pub use sell::{
    BillingError, Order, cancel, cancel_all, change_plan, checkout, portal, resume, subscribe,
};
pub use settle::{ACCESS_CHANGED, GRACE_REACHED, PLAN_CHANGED, Policy, settle_standing};
pub use signature::{SignatureError, TOLERANCE, WebhookSecrets, verify_signature};
pub use snapshot::{
    Attempt, AttemptOutcome, ChargeSnapshot, CheckoutSnapshot, CustomerSnapshot, DisputeSnapshot,
    InvoiceSnapshot, InvoiceStatus, ItemSnapshot, Metadata, OPERATION_KEY, Pause, PriceSnapshot,
    ScheduledChange, SubscriptionSnapshot, SubscriptionStatus, WORKSPACE_KEY,
};
#[cfg(feature = "stripe")]
pub use stripe_gateway::{StripeGateway, StripeSettings, StripeSetupError};
pub use sync_plans::{
    PLAN_KEY, PLAN_VERSION_KEY, PriceDifference, PriceFinding, SyncPlansError, SyncedPrice,
    sync_plans,
};
pub use work::{
    Billing, LEASE_SECONDS, Step, WebhookError, project_next, project_object, review, review_due,
    take_webhook,
};
