//! Billing: the projection of a workspace, the operation log, and the inbox that belongs to none.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_billing::{
    Account, Billed, BillingDirectory, BillingStore, BillingTx, CustomerId, Dirty, Disposition,
    Inbox, InboxTx, InvoiceId, InvoiceSnapshot, InvoiceStatus, Lane, Leasing, ObjectRef, Operation,
    OperationOutcome, OperationRequest, OperationsTx, Payer, ProviderEvent, ProviderEventId,
    Receipt, Sold, SoldPrice, Subscription, SubscriptionId, Waiting, WaitingFor,
};
use rawdrive_plans::{Catalogue, Plan};
use rawdrive_tenancy_core::id::{OperationId, UserId, WorkspaceId};
use rawdrive_tenancy_core::{Actor, StoreError, WorkspaceScope};

use super::billing_rows::{BillingRows, Global, ObjectRow};
use super::{MemoryStore, MemoryTx};

impl MemoryStore {
    /// Publishes every plan version of a catalogue; workspaces that are made from now on know its metrics.
    pub async fn publish(&self, catalogue: &Catalogue) {
        let _turn = self.turn.lock().await;
        let mut state = self.state();
        let global = Arc::make_mut(&mut state.billing);
        global.plans = catalogue.versions().to_vec();
        global.metrics = Arc::clone(catalogue.declared());
    }

    /// Changes what a workspace is to billing: its currency, its members.
    ///
    /// # Panics
    /// There is no such workspace.
    pub async fn edit_billing(&self, scope: &WorkspaceScope, edit: impl FnOnce(&mut BillingRows)) {
        let _turn = self.turn.lock().await;
        let mut state = self.state();
        let rows = state.workspaces.get_mut(&scope.workspace());
        edit(&mut Arc::make_mut(rows.expect("the workspace was made")).billing);
    }

    /// The objects of the inbox.
    #[must_use]
    pub fn objects(&self) -> BTreeMap<ObjectRef, ObjectRow> {
        self.state().billing.objects.clone()
    }

    async fn billing_statement<T>(
        &self,
        operation: &'static str,
        run: impl FnOnce(&mut Global) -> T,
    ) -> Result<T, StoreError> {
        self.statement(operation, |state| run(Arc::make_mut(&mut state.billing)))
            .await
    }
}

impl Inbox for MemoryStore {
    async fn receive(
        &self,
        event: &ProviderEvent,
        disposition: &Disposition,
    ) -> Result<Receipt, StoreError> {
        self.billing_statement("receive an event", |global| {
            let id = event.envelope.id.clone();
            if global.events.contains_key(&id) {
                return Receipt::Known;
            }
            global
                .events
                .insert(id, (event.clone(), disposition.clone()));
            if let Disposition::Touches(object) = disposition {
                global.touch(object, event.envelope.customer.as_ref());
            }
            Receipt::New
        })
        .await
    }

    async fn has_event(&self, event: &ProviderEventId) -> Result<bool, StoreError> {
        self.look("look for an event", |state| {
            state.billing.events.contains_key(event)
        })
    }

    async fn touch(
        &self,
        object: &ObjectRef,
        customer: Option<&CustomerId>,
    ) -> Result<(), StoreError> {
        self.billing_statement("touch an object", |global| global.touch(object, customer))
            .await
    }

    async fn lease_next(&self, lease: TimeDelta) -> Result<Option<Dirty>, StoreError> {
        let real = self.env.lease_now();
        self.billing_statement("lease an object", |global| {
            let due = |row: &ObjectRow| {
                row.version > row.settled
                    && row.waiting.is_none()
                    && row.retry_at.is_none_or(|at| at <= real)
                    && !row.is_leased(real)
            };
            let mut objects = global.objects.iter_mut();
            let (object, row) = objects.find(|(_, row)| due(row))?;
            Some(row.lease(object, real + lease))
        })
        .await
    }

    async fn lease_object(
        &self,
        object: &ObjectRef,
        lease: TimeDelta,
    ) -> Result<Leasing, StoreError> {
        let real = self.env.lease_now();
        self.billing_statement("lease an object", |global| {
            match global.objects.get_mut(object) {
                Some(row) if row.is_leased(real) => Leasing::Held,
                Some(row) if row.version > row.settled => {
                    Leasing::Leased(row.lease(object, real + lease))
                }
                Some(_) | None => Leasing::Settled,
            }
        })
        .await
    }

    async fn close(&self, dirty: &Dirty) -> Result<bool, StoreError> {
        self.billing_statement("close an object", |global| global.settle(dirty))
            .await
    }

    async fn retry(&self, dirty: &Dirty, after: TimeDelta, _: &str) -> Result<bool, StoreError> {
        let at = self.env.lease_now() + after;
        self.billing_statement("retry an object", |global| {
            let held = global.held(dirty).map(|row| {
                row.leased_until = None;
                row.retry_at = Some(at);
            });
            held.is_some()
        })
        .await
    }

    async fn dead_letter(&self, dirty: &Dirty, reason: &str) -> Result<bool, StoreError> {
        let waiting = WaitingFor::Operator {
            reason: reason.to_owned(),
        };
        self.billing_statement("bury an object", |global| {
            let held = global.held(dirty).map(|row| {
                row.leased_until = None;
                row.waiting = Some(waiting);
            });
            held.is_some()
        })
        .await
    }

    async fn park(&self, dirty: &Dirty, customer: &CustomerId) -> Result<bool, StoreError> {
        self.billing_statement("park an object", |global| {
            let held = global.held(dirty).map(|row| {
                row.leased_until = None;
                row.customer = Some(customer.clone());
                row.waiting = Some(WaitingFor::Customer);
            });
            held.is_some()
        })
        .await
    }

    async fn unpark(&self, customer: &CustomerId) -> Result<u64, StoreError> {
        self.billing_statement("unpark objects", |global| {
            let waits = |row: &&mut ObjectRow| {
                row.waiting == Some(WaitingFor::Customer) && row.customer.as_ref() == Some(customer)
            };
            let mut count = 0;
            for row in global.objects.values_mut().filter(waits) {
                row.waiting = None;
                count += 1;
            }
            count
        })
        .await
    }

    async fn waiting(&self, limit: u32) -> Result<Vec<Waiting>, StoreError> {
        self.look("list what waits", |state| {
            let objects = state.billing.objects.iter();
            let waiting = objects.filter_map(|(object, row)| {
                Some(Waiting {
                    object: object.clone(),
                    customer: row.customer.clone(),
                    waiting_for: row.waiting.clone()?,
                })
            });
            waiting.take(limit as usize).collect()
        })
    }

    async fn ignored_events(
        &self,
        after: Option<&ProviderEventId>,
        limit: u32,
    ) -> Result<Vec<ProviderEvent>, StoreError> {
        self.look("list ignored events", |state| {
            let events = state.billing.events.iter();
            let ignored = events.filter(|(id, (_, disposition))| {
                matches!(disposition, Disposition::Ignored(_))
                    && after.is_none_or(|after| *id > after)
            });
            let page = ignored.take(limit as usize);
            page.map(|(_, (event, _))| event.clone()).collect()
        })
    }

    async fn reconsider(
        &self,
        event: &ProviderEventId,
        object: &ObjectRef,
        customer: Option<&CustomerId>,
    ) -> Result<(), StoreError> {
        self.billing_statement("reconsider an event", |global| {
            if let Some((_, disposition)) = global.events.get_mut(event) {
                *disposition = Disposition::Touches(object.clone());
                global.touch(object, customer);
            }
        })
        .await
    }
}

impl BillingDirectory for MemoryStore {
    async fn workspace_of(&self, customer: &CustomerId) -> Result<Option<WorkspaceId>, StoreError> {
        self.look("look for a customer", |state| {
            state.billing.customers.get(customer).copied()
        })
    }

    async fn billed(&self, after: Option<&Billed>, limit: u32) -> Result<Vec<Billed>, StoreError> {
        self.look("list customers", |state| {
            let all = state.billing.customers.iter();
            let mut all: Vec<_> = all
                .map(|(customer, workspace)| Billed {
                    workspace: *workspace,
                    customer: customer.clone(),
                })
                .collect();
            all.sort_by(|a, b| (a.workspace, &a.customer).cmp(&(b.workspace, &b.customer)));
            let later = |b: &Billed| {
                after.is_none_or(|a| (b.workspace, &b.customer) > (a.workspace, &a.customer))
            };
            all.into_iter().filter(later).take(limit as usize).collect()
        })
    }

    async fn exists(&self, workspace: WorkspaceId) -> Result<bool, StoreError> {
        self.look("look for a workspace", |state| {
            state.workspaces.contains_key(&workspace)
        })
    }

    async fn due_reviews(
        &self,
        after: Option<WorkspaceId>,
        limit: u32,
    ) -> Result<Vec<WorkspaceId>, StoreError> {
        let now = self.env.now();
        self.look("look for reviews", |state| {
            let due =
                |rows: &super::Rows| rows.billing.account.review_at.is_some_and(|at| at <= now);
            let workspaces = state.workspaces.iter();
            let workspaces =
                workspaces.filter(|(id, rows)| after.is_none_or(|after| **id > after) && due(rows));
            workspaces.map(|(id, _)| *id).take(limit as usize).collect()
        })
    }

    async fn abandoned_operations(
        &self,
        limit: u32,
    ) -> Result<Vec<(WorkspaceId, OperationId)>, StoreError> {
        let real = self.env.lease_now();
        self.look("look for operations", |state| {
            let all = state.workspaces.iter().flat_map(|(workspace, rows)| {
                let operations = rows.billing.operations.values();
                let left =
                    operations.filter(|(o, ended)| ended.is_none() && o.leased_until <= real);
                left.map(|(operation, _)| (*workspace, operation.id))
            });
            all.take(limit as usize).collect()
        })
    }

    async fn actor_of(
        &self,
        workspace: WorkspaceId,
        operation: OperationId,
    ) -> Result<Option<Actor>, StoreError> {
        self.look("look for who asked", |state| {
            let found = state.workspaces.get(&workspace)?;
            let (operation, ended) = found.billing.operations.get(&operation)?;
            ended.is_none().then_some(operation.actor)
        })
    }

    async fn sold_prices(&self) -> Result<Vec<SoldPrice>, StoreError> {
        self.look("list prices", |state| {
            state.billing.prices.values().cloned().collect()
        })
    }

    async fn put_price(&self, price: &SoldPrice) -> Result<(), StoreError> {
        self.billing_statement("note a price", |global| {
            let noted = global.prices.entry(price.price.clone());
            noted.or_insert_with(|| price.clone());
        })
        .await
    }
}

impl BillingStore for MemoryStore {
    type Tx = MemoryTx;

    async fn begin_billing(&self, scope: &WorkspaceScope) -> Result<MemoryTx, StoreError> {
        self.call("begin")?;
        Ok(self.begin_despite_read_only(scope).await)
    }
}

impl MemoryTx {
    pub(super) fn publish(&mut self, plan: &Plan) {
        let plans = &mut Arc::make_mut(&mut self.state.billing).plans;
        let same = |p: &Arc<Plan>| p.slug == plan.slug && p.version == plan.version;
        if !plans.iter().any(same) {
            plans.push(Arc::new(plan.clone()));
        }
    }

    fn global(&mut self, operation: &'static str) -> Result<&mut Global, StoreError> {
        self.store.call(operation)?;
        Ok(Arc::make_mut(&mut self.state.billing))
    }
}

impl InboxTx for MemoryTx {
    async fn settle(&mut self, dirty: &Dirty) -> Result<bool, StoreError> {
        Ok(self.global("settle an object")?.settle(dirty))
    }

    async fn touch(
        &mut self,
        object: &ObjectRef,
        customer: Option<&CustomerId>,
    ) -> Result<(), StoreError> {
        self.global("touch an object")?.touch(object, customer);
        Ok(())
    }
}

impl BillingTx for MemoryTx {
    async fn payer(&mut self) -> Result<Payer, StoreError> {
        let currency = self.read("read the payer")?.billing.currency;
        Ok(Payer {
            workspace: self.scope.workspace(),
            name: "Studio".to_owned(),
            email: Some("studio@example.com".to_owned()),
            currency,
        })
    }

    async fn account(&mut self) -> Result<Account, StoreError> {
        Ok(self.read("read the account")?.billing.account.clone())
    }

    async fn put_account(&mut self, account: &Account) -> Result<(), StoreError> {
        const OPERATION: &str = "write the account";
        if let Some(customer) = &account.customer
            && !self.link_customer(customer).await?
        {
            return Err(StoreError::Taken {
                operation: OPERATION,
            });
        }
        self.write(OPERATION)?.billing.account = account.clone();
        Ok(())
    }

    async fn link_customer(&mut self, customer: &CustomerId) -> Result<bool, StoreError> {
        let workspace = self.scope.workspace();
        let customers = &mut self.global("link a customer")?.customers;
        Ok(*customers.entry(customer.clone()).or_insert(workspace) == workspace)
    }

    async fn published(&mut self, sold: &Sold) -> Result<Option<Arc<Plan>>, StoreError> {
        let plans = &self.global("read a plan")?.plans;
        let found = plans
            .iter()
            .find(|p| p.slug == sold.plan && p.version == sold.version);
        Ok(found.cloned())
    }

    async fn subscriptions(&mut self) -> Result<Vec<Subscription>, StoreError> {
        let rows = &self.read("read subscriptions")?.billing;
        Ok(rows.subscriptions.values().cloned().collect())
    }

    async fn put_subscription(&mut self, subscription: &Subscription) -> Result<(), StoreError> {
        let rows = &mut self.write("write a subscription")?.billing.subscriptions;
        rows.insert(subscription.snapshot.id.clone(), subscription.clone());
        Ok(())
    }

    async fn invoice(&mut self, id: &InvoiceId) -> Result<Option<InvoiceSnapshot>, StoreError> {
        Ok(self
            .read("read an invoice")?
            .billing
            .invoices
            .get(id)
            .cloned())
    }

    async fn owed_invoices(&mut self) -> Result<Vec<InvoiceSnapshot>, StoreError> {
        let invoices = self.read("read invoices")?.billing.invoices.values();
        Ok(invoices
            .filter(|invoice| invoice.is_owed())
            .cloned()
            .collect())
    }

    async fn invoices_of(
        &mut self,
        subscription: &SubscriptionId,
    ) -> Result<Vec<InvoiceSnapshot>, StoreError> {
        let rows = &self
            .read("read a subscription's invoices")?
            .billing
            .invoices;
        let of = rows
            .values()
            .filter(|i| i.subscription.as_ref() == Some(subscription));
        let mut newest: Vec<_> = of.cloned().collect();
        newest.sort_by_key(|invoice| std::cmp::Reverse(invoice.position()));
        Ok(newest)
    }

    async fn was_paid(&mut self, subscription: &SubscriptionId) -> Result<bool, StoreError> {
        let mut invoices = self.read("look for a payment")?.billing.invoices.values();
        Ok(invoices.any(|i| {
            let of = i.subscription.as_ref() == Some(subscription);
            of && i.status == InvoiceStatus::Paid && i.amount_paid > 0
        }))
    }

    async fn put_invoice(&mut self, invoice: &InvoiceSnapshot) -> Result<(), StoreError> {
        let rows = &mut self.write("write an invoice")?.billing.invoices;
        rows.insert(invoice.id.clone(), invoice.clone());
        Ok(())
    }

    async fn members_beyond(&mut self, seats: u64) -> Result<Vec<UserId>, StoreError> {
        let members = self.read("read members")?.billing.members.iter();
        let seats = usize::try_from(seats).unwrap_or(usize::MAX);
        Ok(members.skip(seats).copied().collect())
    }

    async fn record_effect(&mut self, key: &str) -> Result<bool, StoreError> {
        let effects = &mut self.write("note an effect")?.billing.effects;
        Ok(effects.insert(key.to_owned()))
    }
}

impl OperationsTx for MemoryTx {
    async fn begin_operation(&mut self, operation: &Operation) -> Result<bool, StoreError> {
        let operations = &mut self.write("begin an operation")?.billing.operations;
        let lane = operation.request.lane();
        let is_taken = |(o, ended): &(Operation, _)| {
            Option::<OperationOutcome>::is_none(ended) && o.request.lane() == lane
        };
        if operations.values().any(is_taken) {
            return Ok(false);
        }
        operations.insert(operation.id, (operation.clone(), None));
        Ok(true)
    }

    async fn live_operation(&mut self, lane: Lane) -> Result<Option<Operation>, StoreError> {
        let operations = self.read("read an operation")?.billing.operations.values();
        let mut live = operations.filter(|(o, ended)| ended.is_none() && o.request.lane() == lane);
        Ok(live.next().map(|(operation, _)| operation.clone()))
    }

    async fn take_up(
        &mut self,
        id: OperationId,
        leased_until: DateTime<Utc>,
    ) -> Result<Option<Operation>, StoreError> {
        let real = self.store.env.lease_now();
        let operations = &mut self.write("take up an operation")?.billing.operations;
        let Some((operation, None)) = operations.get_mut(&id) else {
            return Ok(None);
        };
        if operation.leased_until > real {
            return Ok(None);
        }
        operation.fence += 1;
        operation.leased_until = leased_until;
        Ok(Some(operation.clone()))
    }

    async fn next_attempt(
        &mut self,
        operation: &Operation,
        leased_until: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let ours = ours(self, "begin an attempt", operation)?;
        let done = ours.map(|(row, _)| {
            row.attempt += 1;
            row.leased_until = leased_until;
            row.unanswered = false;
        });
        Ok(done.is_some())
    }

    async fn put_down(
        &mut self,
        operation: &Operation,
        until: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let ours = ours(self, "put an operation down", operation)?;
        let done = ours.map(|(row, _)| {
            row.leased_until = until;
            row.unanswered = true;
        });
        Ok(done.is_some())
    }

    async fn end_operation(
        &mut self,
        operation: &Operation,
        outcome: &OperationOutcome,
    ) -> Result<bool, StoreError> {
        let ours = ours(self, "end an operation", operation)?;
        Ok(ours
            .map(|(_, ended)| *ended = Some(outcome.clone()))
            .is_some())
    }

    async fn ended_last(&mut self, lane: Lane) -> Result<Option<OperationRequest>, StoreError> {
        let operations = &self.read("read the last operation")?.billing.operations;
        let of = |o: &Operation| o.request.lane() == lane;
        let ended = operations
            .values()
            .filter(|(o, ended)| ended.is_some() && of(o));
        let last = ended.max_by_key(|(o, _)| (o.leased_until, o.id));
        Ok(last.map(|(operation, _)| operation.request.clone()))
    }

    async fn outcome(&mut self, id: OperationId) -> Result<Option<OperationOutcome>, StoreError> {
        let operations = &self.read("read an operation's outcome")?.billing.operations;
        Ok(operations.get(&id).and_then(|(_, ended)| ended.clone()))
    }
}

/// A live operation that is still this driver's.
fn ours<'a>(
    tx: &'a mut MemoryTx,
    name: &'static str,
    operation: &Operation,
) -> Result<Option<&'a mut (Operation, Option<OperationOutcome>)>, StoreError> {
    let operations = &mut tx.write(name)?.billing.operations;
    let row = operations.get_mut(&operation.id);
    Ok(row.filter(|(row, ended)| row.fence == operation.fence && ended.is_none()))
}
