#![doc = include_str!("../README.md")]

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
