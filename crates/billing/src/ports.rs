//! What billing needs of a store.
//!
//! The inbox and the directory are global: an event names a customer, and whose that is comes out only behind them.
//! Everything else belongs to the workspace that the transaction knows; no method takes a workspace's id.
//!
//! `Err(StoreError)` of a write means: drop the handle, nothing of the transaction stands.

use std::future::Future;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_plans::{Interval, Plan, PlansTx, Slug};
use rawdrive_tenancy_core::audit::AuditTx;
use rawdrive_tenancy_core::event::EventsTx;
use rawdrive_tenancy_core::id::{OperationId, UserId, WorkspaceId};
use rawdrive_tenancy_core::job::JobsTx;
use rawdrive_tenancy_core::page::{Page, PageRequest};
use rawdrive_tenancy_core::{Actor, Commit, StoreError, WorkspaceScope};
use rawdrive_usage::UsageTx;
use serde::{Deserialize, Serialize};

use crate::event::{Disposition, ObjectRef, ProviderEvent};
use crate::ids::{CheckoutId, CustomerId, InvoiceId, PriceId, ProviderEventId, SubscriptionId};
use crate::money::Currency;
use crate::operation::{Lane, Operation, OperationOutcome, OperationRequest};
use crate::provider_objects::{InvoiceSnapshot, SubscriptionSnapshot};

/// Whether an event was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// It is stored now, and its object is dirty.
    New,
    /// It was stored already; nothing was changed.
    Known,
}

/// An object that is to be fetched and projected, held by this worker until its lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirty {
    /// Which.
    pub object: ObjectRef,
    /// Whose it is, as far as events have said.
    pub customer: Option<CustomerId>,
    /// The dirty version that was claimed: what is touched after it stays dirty.
    pub version: u64,
    /// How often it was leased in its life: who settles with an older number has lost it.
    pub fence: u64,
    /// How often it was tried since it was last settled, this time included.
    pub attempts: u32,
}

/// What came of leasing one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leasing {
    /// It is this worker's.
    Leased(Dirty),
    /// Another worker has it.
    Held,
    /// Nothing is to be done: its version is settled, or nobody ever touched it.
    Settled,
}

/// Why an object waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitingFor {
    /// Its customer belongs to no workspace yet.
    Customer,
    /// Somebody who looks at it: it was given up.
    Operator {
        /// Why.
        reason: String,
    },
}

/// An object that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub object: ObjectRef,
    /// Whose it is, if that is known.
    pub customer: Option<CustomerId>,
    /// What for.
    pub waiting_for: WaitingFor,
}

/// Events as they arrive, and the objects that they made dirty. Global.
pub trait Inbox: Send + Sync {
    /// Stores an event unless one of its id is stored, and touches its object: one transaction. When this answers,
    /// the event survives anything.
    fn receive(
        &self,
        event: &ProviderEvent,
        disposition: &Disposition,
    ) -> impl Future<Output = Result<Receipt, StoreError>> + Send;
    /// Whether an event is stored.
    fn has_event(
        &self,
        event: &ProviderEventId,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Makes an object dirty (again): the version grows by one, in one statement. One that waits, waits on; but for
    /// an operator, it waits no more.
    fn touch(
        &self,
        object: &ObjectRef,
        customer: Option<&CustomerId>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Leases an object whose version was not settled, that does not wait, whose time to be tried again has come,
    /// and that nobody holds.
    fn lease_next(
        &self,
        lease: TimeDelta,
    ) -> impl Future<Output = Result<Option<Dirty>, StoreError>> + Send;
    /// Leases this object, whatever it waits for and whenever it is to be tried again.
    fn lease_object(
        &self,
        object: &ObjectRef,
        lease: TimeDelta,
    ) -> impl Future<Output = Result<Leasing, StoreError>> + Send;
    /// Settles an object that concerns no workspace. As [`InboxTx::settle`].
    fn close(&self, dirty: &Dirty) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Gives an object back, to be tried again after a while (real time). False where the lease was lost.
    fn retry(
        &self,
        dirty: &Dirty,
        after: TimeDelta,
        failure: &str,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Gives an object up: it waits for an operator. False where the lease was lost.
    fn dead_letter(
        &self,
        dirty: &Dirty,
        reason: &str,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Lets an object wait until its customer is linked. False where the lease was lost. Afterwards the caller
    /// looks at the link again: it may have been made meanwhile.
    fn park(
        &self,
        dirty: &Dirty,
        customer: &CustomerId,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Lets what waits for a customer wait no more; returns how many. Called after the link is committed.
    fn unpark(&self, customer: &CustomerId)
    -> impl Future<Output = Result<u64, StoreError>> + Send;
    /// What waits, longest first.
    fn waiting(&self, limit: u32) -> impl Future<Output = Result<Vec<Waiting>, StoreError>> + Send;
    /// Stored events that touched nothing, by id, after one.
    fn ignored_events(
        &self,
        after: Option<&ProviderEventId>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<ProviderEvent>, StoreError>> + Send;
    /// Notes that a stored event has touched an object after all, and touches it: one transaction.
    fn reconsider(
        &self,
        event: &ProviderEventId,
        object: &ObjectRef,
        customer: Option<&CustomerId>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// The inbox as a workspace's transaction reaches it.
pub trait InboxTx {
    /// Marks the claimed version as settled and gives the lease back, where it is still this worker's (compare the
    /// fence). False: somebody else has it; drop the transaction, what was projected is stale.
    fn settle(&mut self, dirty: &Dirty) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Makes another object dirty, as [`Inbox::touch`], when the transaction stands.
    fn touch(
        &mut self,
        object: &ObjectRef,
        customer: Option<&CustomerId>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A plan version that a price is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sold {
    /// The plan.
    pub plan: Slug,
    /// Its version: it is what was sold, whatever is published later.
    pub version: u32,
}

/// A price at the provider and what it is a price of. Written once, never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoldPrice {
    /// The provider's price.
    pub price: PriceId,
    /// What is sold by it.
    pub sold: Sold,
    /// Its currency.
    pub currency: Currency,
    /// How often it is charged.
    pub interval: Interval,
}

/// A workspace with the customer that pays for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Billed {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The customer.
    pub customer: CustomerId,
}

/// What the worker may know across workspaces: which one to enter, and nothing more of it.
pub trait BillingDirectory: Send + Sync {
    /// The workspace that a customer is linked to, former customers included.
    fn workspace_of(
        &self,
        customer: &CustomerId,
    ) -> impl Future<Output = Result<Option<WorkspaceId>, StoreError>> + Send;
    /// Linked customers, by workspace and customer, after one.
    fn billed(
        &self,
        after: Option<&Billed>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Billed>, StoreError>> + Send;
    /// Whether there is such a workspace, deleted ones included.
    fn exists(
        &self,
        workspace: WorkspaceId,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Workspaces whose [`Account::review_at`] has come (decision time), by id, after this one.
    fn due_reviews(
        &self,
        after: Option<WorkspaceId>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<WorkspaceId>, StoreError>> + Send;
    /// Live operations that nobody drives any more (real time).
    fn abandoned_operations(
        &self,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<(WorkspaceId, OperationId)>, StoreError>> + Send;
    /// Who asked for an operation; nothing where it has ended, or there is none.
    fn actor_of(
        &self,
        workspace: WorkspaceId,
        operation: OperationId,
    ) -> impl Future<Output = Result<Option<Actor>, StoreError>> + Send;
    /// Every price that was ever sold.
    fn sold_prices(&self) -> impl Future<Output = Result<Vec<SoldPrice>, StoreError>> + Send;
    /// Notes a price; one that is noted stays as it is.
    fn put_price(&self, price: &SoldPrice) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A plan that an operator has granted. It stands above the subscription while it lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What was granted.
    pub sold: Sold,
    /// When it ends by itself.
    pub until: Option<DateTime<Utc>>,
}

/// What billing keeps of a workspace as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// Who pays now.
    pub customer: Option<CustomerId>,
    /// A hosted checkout that may still be open.
    pub checkout: Option<CheckoutId>,
    /// What an operator has granted.
    pub grant: Option<Grant>,
    /// When something changes by the passing of time alone: a grace warning, the end of a grant.
    pub review_at: Option<DateTime<Utc>>,
}

/// Who the workspace is to the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payer {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// Its name.
    pub name: String,
    /// Where its invoices go: the address that was named, otherwise that of its first owner.
    pub email: Option<String>,
    /// The one currency it pays in.
    pub currency: Currency,
}

/// A subscription of the handle's workspace, as it was projected last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// What was fetched.
    pub snapshot: SubscriptionSnapshot,
    /// What was sold; nothing for a price that is none of ours, which grants nothing.
    pub sold: Option<Sold>,
}

/// The projection of the provider's objects in the handle's workspace. Every use case takes the entitlements' lock first
/// ([`PlansTx::entitlements`]): two transactions of one workspace do not decide at a time.
pub trait BillingTx {
    /// Who the workspace is.
    fn payer(&mut self) -> impl Future<Output = Result<Payer, StoreError>> + Send;
    /// The account, locked until the transaction ends; the default where nothing was written yet.
    fn account(&mut self) -> impl Future<Output = Result<Account, StoreError>> + Send;
    /// Writes the account, and makes its customer the workspace's, as [`BillingTx::link_customer`].
    fn put_account(
        &mut self,
        account: &Account,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Links a customer to this workspace, for ever. False where it is another's: customers are unique across
    /// workspaces, the one reasoned exception.
    fn link_customer(
        &mut self,
        customer: &CustomerId,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// A published plan version.
    fn published(
        &mut self,
        sold: &Sold,
    ) -> impl Future<Output = Result<Option<Arc<Plan>>, StoreError>> + Send;
    /// Every subscription, ended ones too.
    fn subscriptions(
        &mut self,
    ) -> impl Future<Output = Result<Vec<Subscription>, StoreError>> + Send;
    /// Inserts or replaces a subscription.
    fn put_subscription(
        &mut self,
        subscription: &Subscription,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// An invoice.
    fn invoice(
        &mut self,
        id: &InvoiceId,
    ) -> impl Future<Output = Result<Option<InvoiceSnapshot>, StoreError>> + Send;
    /// Invoices that are open or uncollectible.
    fn owed_invoices(
        &mut self,
    ) -> impl Future<Output = Result<Vec<InvoiceSnapshot>, StoreError>> + Send;
    /// The newest invoices of a subscription, newest first by [`InvoiceSnapshot::position`]: as many as a grace is
    /// looked for in.
    fn invoices_of(
        &mut self,
        subscription: &SubscriptionId,
    ) -> impl Future<Output = Result<Vec<InvoiceSnapshot>, StoreError>> + Send;
    /// Whether money was ever paid for a subscription, as far as its invoices are known.
    fn was_paid(
        &mut self,
        subscription: &SubscriptionId,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Inserts or replaces an invoice.
    fn put_invoice(
        &mut self,
        invoice: &InvoiceSnapshot,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// The members beyond the first `seats`, by role (owners first) and then by the time at which they joined.
    fn members_beyond(
        &mut self,
        seats: u64,
    ) -> impl Future<Output = Result<Vec<UserId>, StoreError>> + Send;
    /// Notes that the effect of a fact is had in this transaction. True the first time in the workspace's life, and
    /// never again: insert on conflict do nothing.
    fn record_effect(&mut self, key: &str)
    -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// The operation log of the handle's workspace.
pub trait OperationsTx {
    /// Begins an operation where none of its lane is live: a unique partial index decides. False otherwise.
    fn begin_operation(
        &mut self,
        operation: &Operation,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// The live operation of a lane.
    fn live_operation(
        &mut self,
        lane: Lane,
    ) -> impl Future<Output = Result<Option<Operation>, StoreError>> + Send;
    /// Takes up a live operation whose lease is over: the fence grows by one. Nothing where somebody drives it, or
    /// it has ended.
    fn take_up(
        &mut self,
        id: OperationId,
        leased_until: DateTime<Utc>,
    ) -> impl Future<Output = Result<Option<Operation>, StoreError>> + Send;
    /// Begins the next attempt, where the fence is still ours: the number grows by one and the lease is renewed.
    /// False where it was lost.
    fn next_attempt(
        &mut self,
        operation: &Operation,
        leased_until: DateTime<Utc>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Gives the lease back, because the provider did not answer: the operation stays live, and whoever comes next
    /// takes it up at this time (real time).
    fn put_down(
        &mut self,
        operation: &Operation,
        until: DateTime<Utc>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Ends an operation, where the fence is still ours. False where it was lost; then somebody else ends it.
    fn end_operation(
        &mut self,
        operation: &Operation,
        outcome: &OperationOutcome,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// The operation of a lane that ended last, by real time.
    fn ended_last(
        &mut self,
        lane: Lane,
    ) -> impl Future<Output = Result<Option<OperationRequest>, StoreError>> + Send;
    /// How an operation ended; nothing while it is live.
    fn outcome(
        &mut self,
        id: OperationId,
    ) -> impl Future<Output = Result<Option<OperationOutcome>, StoreError>> + Send;
}

/// Reads of a workspace's billing.
pub trait BillingRead {
    /// The account and every subscription.
    fn billing(
        &self,
    ) -> impl Future<Output = Result<(Account, Vec<Subscription>), StoreError>> + Send;
    /// Invoices, newest first: by [`InvoiceSnapshot::position`], falling.
    fn invoices(
        &self,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<InvoiceSnapshot>, StoreError>> + Send;
    /// A subscription of the workspace.
    fn subscription(
        &self,
        id: &SubscriptionId,
    ) -> impl Future<Output = Result<Option<Subscription>, StoreError>> + Send;
}

/// A store that billing works on.
pub trait BillingStore: Inbox + BillingDirectory {
    /// Its transaction.
    type Tx: BillingTx
        + InboxTx
        + OperationsTx
        + PlansTx
        + UsageTx
        + AuditTx
        + EventsTx
        + JobsTx
        + Commit;

    /// Begins a write, also while the workspace takes none: billing goes on, or it could never become writable.
    fn begin_billing(
        &self,
        scope: &WorkspaceScope,
    ) -> impl Future<Output = Result<Self::Tx, StoreError>> + Send;
}
