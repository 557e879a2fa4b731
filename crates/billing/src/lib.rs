//! Money: what a workspace has bought, whether it is paid, and what follows from that.
//!
//! The payment provider is the truth about subscriptions; kept here is a projection of it. An event of the provider
//! only says that an object has changed: it is stored ([`Inbox::receive`]), its object is leased and *then* fetched
//! ([`PaymentGateway`]), and one transaction writes what was fetched, the workspace's entitlements, and the effects that
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

mod adopt;
mod apply_entitlements;
mod entitlement_policy;
mod event;
#[cfg(test)]
mod fixtures;
mod gateway;
mod grants;
mod ids;
mod manual_gateway;
mod money;
mod operation;
mod operation_runner;
mod ports;
mod preview;
mod price_catalog;
mod projection;
mod provider_objects;
mod reconcile;
mod signature;
#[cfg(feature = "stripe")]
mod stripe_gateway;
mod subscriptions;
mod sync_plans;
mod sync_worker;

pub use adopt::{AdoptedSubscription, Adoption, FoundBy, Provenance, adopt};
pub use apply_entitlements::{
    ACCESS_CHANGED, GRACE_REACHED, PLAN_CHANGED, Policy, Reversal, UnknownReversal,
    apply_entitlements,
};
pub use entitlement_policy::{
    Basis, Grace, GraceStage, PAYMENT_FAILED, PAYMENT_REVERSED, SUBSCRIPTION_PAUSED, TRIAL_ENDED,
    arrears, basis, current, ended_unpaid, grace, next_due, read_only, ruling,
};
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
pub use manual_gateway::ManualGateway;
pub use money::{Currency, Money};
pub use operation::{Lane, OPERATION_LEASE_SECONDS, Operation, OperationOutcome, OperationRequest};
pub use operation_runner::recover_operations;
pub use ports::{
    Account, Billed, BillingDirectory, BillingRead, BillingStore, BillingTx, Dirty, Grant, Inbox,
    InboxTx, Leasing, OperationsTx, Payer, Receipt, Sold, SoldPrice, Subscription, Waiting,
    WaitingFor,
};
pub use preview::{Broken, Effective, Preview, PreviewKey, preview};
pub use price_catalog::{PriceCatalog, product_of, sold};
pub use projection::{
    CHARGE_REFUNDED, CUSTOMER_DELETED, DISPUTE_CLOSED, DISPUTE_OPENED, FINALIZATION_FAILED,
    Fetched, INVOICE_PAID, INVOICE_UNCOLLECTIBLE, INVOICE_VOIDED, PAYMENT_ACTION_REQUIRED,
    PAYMENT_FAILED_EVENT, ProjectionContext, REVERSAL, SUBSCRIPTION_CHANGED, SUBSCRIPTION_CREATED,
    SUBSCRIPTION_ENDED, project,
};
pub use provider_objects::{
    Attempt, AttemptOutcome, ChargeSnapshot, CheckoutSnapshot, CollectionMethod, CustomerSnapshot,
    DiscountSnapshot, DisputeSnapshot, InvoiceSnapshot, InvoiceStatus, ItemSnapshot, Metadata,
    OPERATION_KEY, Pause, Paused, PriceSnapshot, RefundSnapshot, ScheduledChange,
    SubscriptionSnapshot, SubscriptionStatus, WORKSPACE_KEY,
};
pub use reconcile::{Drift, Heal, ReconcileError, default_since, reconcile, replay};
pub use signature::{SignatureError, TOLERANCE, WebhookSecrets, verify_signature};
#[cfg(feature = "stripe")]
pub use stripe_gateway::{StripeGateway, StripeSettings, StripeSetupError};
pub use subscriptions::{
    BillingError, Order, cancel, cancel_all, change_plan, checkout, portal, resume, subscribe,
};
pub use sync_plans::{
    PLAN_KEY, PLAN_VERSION_KEY, PortalFinding, PriceDifference, PriceFinding, SyncPlansError,
    SyncedPrice, sync_plans, sync_portal,
};
pub use sync_worker::{
    Billing, LEASE_SECONDS, Step, WebhookError, project_next, project_object, review, review_due,
    take_webhook,
};
