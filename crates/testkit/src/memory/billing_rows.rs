//! What billing keeps: of a workspace, and of none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rawdrive_billing::{
    Account, Currency, CustomerId, Dirty, Disposition, InvoiceId, InvoiceSnapshot, ObjectRef,
    Operation, OperationOutcome, PriceId, ProviderEvent, ProviderEventId, SoldPrice, Subscription,
    SubscriptionId, WaitingFor,
};
use rawdrive_plans::{Metrics, Plan};
use rawdrive_tenancy_core::id::{OperationId, UserId, WorkspaceId};

/// What billing keeps of a workspace.
#[derive(Debug, Clone)]
pub struct BillingRows {
    /// What it pays in.
    pub currency: Currency,
    /// Who its members are, owners first, then by joining.
    pub members: Vec<UserId>,
    /// The account.
    pub account: Account,
    /// Subscriptions.
    pub subscriptions: BTreeMap<SubscriptionId, Subscription>,
    /// Invoices.
    pub invoices: BTreeMap<InvoiceId, InvoiceSnapshot>,
    /// Effects that were had.
    pub effects: BTreeSet<String>,
    /// Operations, and how they ended.
    pub operations: BTreeMap<OperationId, (Operation, Option<OperationOutcome>)>,
}

impl Default for BillingRows {
    fn default() -> Self {
        Self {
            currency: Currency::parse("usd").expect("three letters"),
            members: Vec::new(),
            account: Account::default(),
            subscriptions: BTreeMap::new(),
            invoices: BTreeMap::new(),
            effects: BTreeSet::new(),
            operations: BTreeMap::new(),
        }
    }
}

/// An object of the inbox.
#[derive(Debug, Clone, Default)]
pub struct ObjectRow {
    /// Whose it is, as far as is known.
    pub customer: Option<CustomerId>,
    /// How often it was touched.
    pub version: u64,
    /// Up to which version it is settled.
    pub settled: u64,
    /// How often it was leased.
    pub fence: u64,
    /// How often it was leased since it was settled.
    pub attempts: u32,
    /// Until when it is somebody's.
    pub leased_until: Option<DateTime<Utc>>,
    /// When it is tried again.
    pub retry_at: Option<DateTime<Utc>>,
    /// What it waits for.
    pub waiting: Option<WaitingFor>,
}

impl ObjectRow {
    pub(super) fn is_leased(&self, real: DateTime<Utc>) -> bool {
        self.leased_until.is_some_and(|until| real < until)
    }

    pub(super) fn touch(&mut self, customer: Option<&CustomerId>) {
        self.version += 1;
        if customer.is_some() {
            self.customer = customer.cloned();
        }
        if matches!(self.waiting, Some(WaitingFor::Operator { .. })) {
            self.waiting = None;
            self.retry_at = None;
        }
    }

    pub(super) fn lease(&mut self, object: &ObjectRef, until: DateTime<Utc>) -> Dirty {
        self.fence += 1;
        self.attempts += 1;
        self.leased_until = Some(until);
        Dirty {
            object: object.clone(),
            customer: self.customer.clone(),
            version: self.version,
            fence: self.fence,
            attempts: self.attempts,
        }
    }

    pub(super) fn settle(&mut self, version: u64) {
        *self = Self {
            customer: self.customer.take(),
            version: self.version,
            fence: self.fence,
            settled: version,
            ..Self::default()
        };
    }
}

/// What belongs to no workspace.
#[derive(Debug, Clone, Default)]
pub(super) struct Global {
    pub(super) plans: Vec<Arc<Plan>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) prices: BTreeMap<PriceId, SoldPrice>,
    pub(super) customers: BTreeMap<CustomerId, WorkspaceId>,
    pub(super) events: BTreeMap<ProviderEventId, (ProviderEvent, Disposition)>,
    pub(super) objects: BTreeMap<ObjectRef, ObjectRow>,
}

impl Global {
    pub(super) fn touch(&mut self, object: &ObjectRef, customer: Option<&CustomerId>) {
        self.objects
            .entry(object.clone())
            .or_default()
            .touch(customer);
    }

    /// The row, where the lease is still this worker's.
    pub(super) fn held(&mut self, dirty: &Dirty) -> Option<&mut ObjectRow> {
        let row = self.objects.get_mut(&dirty.object)?;
        (row.fence == dirty.fence && row.leased_until.is_some()).then_some(row)
    }

    pub(super) fn settle(&mut self, dirty: &Dirty) -> bool {
        let held = self.held(dirty);
        held.map(|row| row.settle(dirty.version)).is_some()
    }
}
