//! Reconciliation: walking both ways between the provider and our rows, so that nothing depends on an event that came.

use std::collections::BTreeSet;
use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_plans::PlansTx as _;
use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::{Commit as _, StoreError};

use crate::event::{Disposition, ObjectKind, ObjectRef};
use crate::gateway::{CustomerQuery, EventQuery, GatewayError, PaymentGateway};
use crate::ids::{CustomerId, InvoiceId, ProviderEventId, SubscriptionId};
use crate::operation_runner::begin_update;
use crate::ports::{Billed, BillingStore, BillingTx as _, Inbox, Receipt, Subscription};
use crate::provider_objects::{
    CustomerSnapshot, InvoiceSnapshot, InvoiceStatus, SubscriptionSnapshot,
};
use crate::sync_worker::{Billing, receive, scope};

/// The most pages of a list that are read in one walk.
const MAX_PAGES: usize = 100;
/// How many of our rows are read at once.
const BATCH: u32 = 100;

/// Whether what is found is healed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heal {
    /// What drifted is made dirty, and projected by the worker; a customer is linked where its workspace has none.
    Yes,
    /// Nothing is written.
    DryRun,
}

/// A difference between the provider and our rows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drift {
    /// An event that never arrived.
    MissedEvent {
        /// Which.
        event: ProviderEventId,
        /// Its type.
        kind: String,
    },
    /// A subscription of a linked customer that we do not have.
    MissingSubscription {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        subscription: SubscriptionId,
    },
    /// A subscription that the provider has otherwise.
    StaleSubscription {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        subscription: SubscriptionId,
        /// What differs, for a person.
        differs: String,
    },
    /// A subscription of ours, not ended, that the provider does not know. Nothing heals it: a wrong key would look
    /// the same, and end everything.
    UnknownSubscription {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        subscription: SubscriptionId,
    },
    /// An invoice that we do not have, or have otherwise.
    StaleInvoice {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        invoice: InvoiceId,
    },
    /// A linked customer that the provider does not know. Nothing heals it: a wrong key would look the same.
    UnknownCustomer {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        customer: CustomerId,
    },
    /// A customer whose name or address is not the workspace's.
    StaleCustomer {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        customer: CustomerId,
    },
    /// A customer that the provider refuses to list something of.
    Refused {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        customer: CustomerId,
        /// The provider's code.
        code: String,
    },
    /// A customer that we made for a workspace and never linked.
    UnlinkedCustomer {
        /// The workspace that it names.
        workspace: WorkspaceId,
        /// Which.
        customer: CustomerId,
        /// Whether the workspace has another, or is not there: then nothing heals it.
        conflict: bool,
    },
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissedEvent { event, kind } => write!(f, "event {event} ({kind}) never arrived"),
            Self::MissingSubscription {
                workspace,
                subscription,
            } => {
                write!(
                    f,
                    "{workspace}: subscription {subscription} is not known here"
                )
            }
            Self::StaleSubscription {
                workspace,
                subscription,
                differs,
            } => {
                write!(
                    f,
                    "{workspace}: subscription {subscription} differs in {differs}"
                )
            }
            Self::UnknownSubscription {
                workspace,
                subscription,
            } => {
                write!(
                    f,
                    "{workspace}: subscription {subscription} is not known to the provider"
                )
            }
            Self::UnknownCustomer {
                workspace,
                customer,
            } => {
                write!(
                    f,
                    "{workspace}: customer {customer} is not known to the provider"
                )
            }
            Self::StaleCustomer {
                workspace,
                customer,
            } => {
                write!(
                    f,
                    "{workspace}: customer {customer} has another name or address"
                )
            }
            Self::Refused {
                workspace,
                customer,
                code,
            } => {
                write!(
                    f,
                    "{workspace}: the provider refuses to tell of customer {customer}: {code}"
                )
            }
            Self::StaleInvoice { workspace, invoice } => {
                write!(
                    f,
                    "{workspace}: invoice {invoice} differs or is not known here"
                )
            }
            Self::UnlinkedCustomer {
                workspace,
                customer,
                conflict,
            } => {
                let why = if *conflict {
                    ", which has another or is gone"
                } else {
                    ""
                };
                write!(f, "customer {customer} is not linked to {workspace}{why}")
            }
        }
    }
}

/// Why a reconciliation stops. What was healed before stays healed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The provider does not answer.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Walks the provider's undelivered events and customers since a time, and every linked customer's subscriptions and
/// invoices; reports what drifted, sorted. What it heals is dirty afterwards: the worker projects it.
///
/// # Errors
/// [`ReconcileError`].
pub async fn reconcile<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    since: DateTime<Utc>,
    heal: Heal,
) -> Result<Vec<Drift>, ReconcileError> {
    let mut found = BTreeSet::new();
    missed_events(billing, since, heal, &mut found).await?;
    unlinked_customers(billing, since, heal, &mut found).await?;
    let mut after: Option<Billed> = None;
    loop {
        let batch = billing.store.billed(after.as_ref(), BATCH).await?;
        for billed in &batch {
            match compare(billing, billed, heal, &mut found).await {
                // One that the provider refuses keeps no other from being looked at.
                Err(ReconcileError::Gateway(GatewayError::Rejected { code, .. })) => {
                    found.insert(Drift::Refused {
                        workspace: billed.workspace,
                        customer: billed.customer.clone(),
                        code,
                    });
                }
                Err(ReconcileError::Gateway(GatewayError::NotFound)) => {
                    found.insert(Drift::UnknownCustomer {
                        workspace: billed.workspace,
                        customer: billed.customer.clone(),
                    });
                }
                compared => compared?,
            }
        }
        match batch.last() {
            Some(last) if batch.len() == BATCH as usize => after = Some(last.clone()),
            _ => break,
        }
    }
    Ok(found.into_iter().collect())
}

async fn missed_events<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    since: DateTime<Utc>,
    heal: Heal,
    found: &mut BTreeSet<Drift>,
) -> Result<(), ReconcileError> {
    let mut query = EventQuery {
        created_from: since,
        undelivered: true,
        after: None,
    };
    for _ in 0..MAX_PAGES {
        let page = billing.gateway.events(&query).await?;
        for event in page.items {
            let is_new = match heal {
                Heal::Yes => receive(billing, &event).await? == Receipt::New,
                Heal::DryRun => !billing.store.has_event(&event.envelope.id).await?,
            };
            if is_new {
                found.insert(Drift::MissedEvent {
                    event: event.envelope.id,
                    kind: event.envelope.kind,
                });
            }
        }
        if page.next.is_none() {
            break;
        }
        query.after = page.next;
    }
    Ok(())
}

async fn unlinked_customers<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    since: DateTime<Utc>,
    heal: Heal,
    found: &mut BTreeSet<Drift>,
) -> Result<(), ReconcileError> {
    let mut query = CustomerQuery {
        created_from: Some(since),
        after: None,
    };
    for _ in 0..MAX_PAGES {
        let page = billing.gateway.customers(&query).await?;
        for customer in page.items {
            let names = customer.metadata.workspace().filter(|_| !customer.deleted);
            if let Some(workspace) = names
                && billing.store.workspace_of(&customer.id).await?.is_none()
            {
                let conflict = !link(billing, workspace, &customer, heal).await?;
                found.insert(Drift::UnlinkedCustomer {
                    workspace,
                    customer: customer.id,
                    conflict,
                });
            }
        }
        if page.next.is_none() {
            break;
        }
        query.after = page.next;
    }
    Ok(())
}

/// Links a customer to the workspace that it was made for, where that has none. Only we write that metadata, and a
/// customer that is another workspace's never comes here.
pub(crate) async fn link<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    workspace: WorkspaceId,
    customer: &CustomerSnapshot,
    heal: Heal,
) -> Result<bool, StoreError> {
    if !billing.store.exists(workspace).await? {
        return Ok(false);
    }
    let mut tx = billing.store.begin_billing(&scope(workspace)).await?;
    tx.entitlements().await?;
    let mut account = tx.account().await?;
    if account.customer.is_some() {
        return Ok(false);
    }
    if heal == Heal::Yes {
        account.customer = Some(customer.id.clone());
        tx.put_account(&account).await?;
        tx.commit().await?;
        billing.store.unpark(&customer.id).await?;
    }
    Ok(true)
}

async fn compare<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    billed: &Billed,
    heal: Heal,
    found: &mut BTreeSet<Drift>,
) -> Result<(), ReconcileError> {
    let (workspace, customer) = (billed.workspace, &billed.customer);
    let touch = async |kind, id: &(dyn fmt::Display + Sync)| match heal {
        Heal::Yes => Inbox::touch(&billing.store, &ObjectRef::new(kind, id), Some(customer)).await,
        Heal::DryRun => Ok(()),
    };
    if heal == Heal::Yes {
        // Whatever waited for the link and was missed when it was made.
        billing.store.unpark(customer).await?;
    }
    let known = billing.gateway.customer(customer).await?;
    let theirs = match &known {
        Some(known) => {
            compare_payer(billing, workspace, known, heal, found).await?;
            billing.gateway.subscriptions_of(customer).await?
        }
        None => {
            found.insert(Drift::UnknownCustomer {
                workspace,
                customer: customer.clone(),
            });
            Vec::new()
        }
    };
    let (ours, invoices) = rows(billing, workspace).await?;
    for snapshot in &theirs {
        let subscription = snapshot.id.clone();
        let drift = match ours.iter().find(|row| row.snapshot.id == snapshot.id) {
            None => Drift::MissingSubscription {
                workspace,
                subscription,
            },
            Some(row) => match differs(&row.snapshot, snapshot) {
                Some(differs) => Drift::StaleSubscription {
                    workspace,
                    subscription,
                    differs,
                },
                None => continue,
            },
        };
        touch(ObjectKind::Subscription, &snapshot.id).await?;
        found.insert(drift);
    }
    for row in &ours {
        let s = &row.snapshot;
        let listed = theirs.iter().any(|snapshot| snapshot.id == s.id);
        if s.customer == *customer && !s.status.is_final() && !listed {
            // A list may be bounded; only what is asked for by name and is not there is unknown.
            if billing.gateway.subscription(&s.id).await?.is_none() {
                found.insert(Drift::UnknownSubscription {
                    workspace,
                    subscription: s.id.clone(),
                });
            } else {
                touch(ObjectKind::Subscription, &s.id).await?;
            }
        }
    }
    if known.is_none() {
        return Ok(());
    }
    let mut after = None;
    for _ in 0..MAX_PAGES {
        let page = billing.gateway.invoices_of(customer, after).await?;
        for invoice in &page.items {
            let ours = match invoices.iter().find(|row| row.id == invoice.id) {
                Some(row) => Some(row.clone()),
                None => invoice_row(billing, workspace, &invoice.id).await?,
            };
            if ours.is_none_or(|row| invoice_differs(&row, invoice)) {
                touch(ObjectKind::Invoice, &invoice.id).await?;
                found.insert(Drift::StaleInvoice {
                    workspace,
                    invoice: invoice.id.clone(),
                });
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(())
}

/// Whether the provider knows who pays as the workspace says it. Former customers are left as they were.
async fn compare_payer<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
    workspace: WorkspaceId,
    known: &CustomerSnapshot,
    heal: Heal,
    found: &mut BTreeSet<Drift>,
) -> Result<(), StoreError> {
    let scope = scope(workspace);
    let mut tx = billing.store.begin_billing(&scope).await?;
    tx.entitlements().await?;
    let is_current = tx.account().await?.customer.as_ref() == Some(&known.id);
    let payer = tx.payer().await?;
    let differs =
        (known.name.as_deref(), &known.email) != (Some(payer.name.as_str()), &payer.email);
    if known.deleted || !is_current || !differs {
        return Ok(());
    }
    found.insert(Drift::StaleCustomer {
        workspace,
        customer: known.id.clone(),
    });
    if heal == Heal::Yes {
        begin_update(billing, &scope, &mut tx, known.id.clone(), payer).await?;
        tx.commit().await?;
    }
    Ok(())
}

async fn rows<S: BillingStore, G>(
    billing: &Billing<S, G>,
    workspace: WorkspaceId,
) -> Result<(Vec<Subscription>, Vec<InvoiceSnapshot>), StoreError> {
    let mut tx = billing.store.begin_billing(&scope(workspace)).await?;
    tx.entitlements().await?;
    Ok((tx.subscriptions().await?, tx.owed_invoices().await?))
}

async fn invoice_row<S: BillingStore, G>(
    billing: &Billing<S, G>,
    workspace: WorkspaceId,
    id: &InvoiceId,
) -> Result<Option<InvoiceSnapshot>, StoreError> {
    let mut tx = billing.store.begin_billing(&scope(workspace)).await?;
    tx.invoice(id).await
}

/// In which fields two snapshots of a subscription differ.
fn differs(ours: &SubscriptionSnapshot, theirs: &SubscriptionSnapshot) -> Option<String> {
    // Which line is the plan is ours to say.
    let theirs = &SubscriptionSnapshot {
        plan_item: ours.plan_item.clone(),
        ..theirs.clone()
    };
    if ours == theirs {
        return None;
    }
    let price = |s: &SubscriptionSnapshot| s.item().map(|item| item.price.id.clone());
    let named = [
        ("status", ours.status != theirs.status),
        ("price", price(ours) != price(theirs)),
        (
            "items",
            price(ours) == price(theirs) && ours.items != theirs.items,
        ),
        ("period", ours.period_end() != theirs.period_end()),
        (
            "end",
            (ours.cancel_at_period_end, ours.cancel_at, ours.ended_at)
                != (
                    theirs.cancel_at_period_end,
                    theirs.cancel_at,
                    theirs.ended_at,
                ),
        ),
        (
            "latest invoice",
            ours.latest_invoice != theirs.latest_invoice,
        ),
        ("scheduled change", ours.scheduled != theirs.scheduled),
        (
            "collection",
            (&ours.pause, &ours.collection_method) != (&theirs.pause, &theirs.collection_method),
        ),
    ];
    let names: Vec<_> = named
        .iter()
        .filter(|(_, differs)| *differs)
        .map(|(name, _)| *name)
        .collect();
    Some(if names.is_empty() {
        "details".to_owned()
    } else {
        names.join(", ")
    })
}

/// Whether an invoice differs from a listed one, whose attempts are not listed.
fn invoice_differs(ours: &InvoiceSnapshot, theirs: &InvoiceSnapshot) -> bool {
    if matches!(ours.status, InvoiceStatus::Paid | InvoiceStatus::Void)
        && ours.status == theirs.status
    {
        return false;
    }
    let told = |i: &InvoiceSnapshot| {
        (
            i.status.clone(),
            i.attempt_count,
            i.amount_due,
            i.amount_paid,
            i.next_attempt,
            i.finalization_error.clone(),
        )
    };
    told(ours) != told(theirs)
}

/// How far back events and customers are walked unless somebody says otherwise.
#[must_use]
pub fn default_since(now: DateTime<Utc>) -> DateTime<Utc> {
    now - TimeDelta::days(3)
}

/// Looks again at stored events that touched nothing, and at what waits for an operator: what means something to
/// this version is made dirty. Returns how many objects were.
///
/// # Errors
/// The database's.
pub async fn replay<S: BillingStore, G: PaymentGateway>(
    billing: &Billing<S, G>,
) -> Result<usize, StoreError> {
    let mut touched = 0;
    for waiting in billing.store.waiting(BATCH * 10).await? {
        Inbox::touch(&billing.store, &waiting.object, waiting.customer.as_ref()).await?;
        touched += 1;
    }
    let mut after: Option<ProviderEventId> = None;
    loop {
        let batch = billing.store.ignored_events(after.as_ref(), BATCH).await?;
        for event in &batch {
            let envelope = &event.envelope;
            let disposition = envelope.disposition(billing.gateway.livemode());
            if let Disposition::Touches(object) = disposition {
                let customer = envelope.customer.as_ref();
                billing
                    .store
                    .reconsider(&envelope.id, &object, customer)
                    .await?;
                touched += 1;
            }
        }
        match batch.last() {
            Some(last) if batch.len() == BATCH as usize => after = Some(last.envelope.id.clone()),
            _ => break,
        }
    }
    Ok(touched)
}
