//! Billing's ports in SQL: what must be atomic is, and what was fetched is projected the same in every order.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use rawdrive_billing::{
    Account, Billed, Billing, BillingDirectory as _, BillingRead as _, BillingStore as _,
    BillingTx as _, CancelWhen, CollectionMethod, CustomerId, Dirty, Heal, Inbox, InboxTx as _,
    InvoiceSnapshot, InvoiceStatus, Lane, Leasing, Metadata, NewCustomer, ObjectKind, ObjectRef,
    Operation, OperationOutcome, OperationRequest, OperationsTx as _, Order, Policy, ProviderEvent,
    Receipt, WaitingFor, cancel, default_since, project_next, reconcile, subscribe,
};
use rawdrive_identity::ports::{IdentityTx as _, NewWorkspace};
use rawdrive_identity::{Currency, WorkspaceName};
use rawdrive_plans::{Catalogue, Interval, PlansTx as _, Slug};
use rawdrive_store::{AuditFilter, Release, Store, Url};
use rawdrive_tenancy_core::page::PageRequest;
use rawdrive_tenancy_core::{Actor, Commit as _, StoreError, WorkspaceScope};
use rawdrive_testkit::{Card, MemoryGateway, TestEnv, scope};
use tempfile::TempDir;

const PLANS: &str = r#"
[[plan]]
slug = "free"
version = 1
name = "Free"
limits = { storage_gb = 5 }

[[plan]]
slug = "basic"
version = 1
name = "Basic"
limits = { storage_gb = 50 }
prices = [{ currency = "usd", interval = "month", amount = 1000 }]
"#;

const LEASE: TimeDelta = TimeDelta::seconds(60);

struct House {
    test_env: TestEnv,
    catalogue: Catalogue,
    store: Store,
    _folder: TempDir,
}

impl House {
    async fn open() -> Self {
        let (test_env, folder) = (TestEnv::seeded(1), tempfile::tempdir().unwrap());
        let catalogue = rawdrive_gallery::catalogue(PLANS).unwrap();
        let url = Url::sqlite(folder.path().join("rawdrive.db"));
        let store = Store::open(&url, test_env.env().clone(), &catalogue, &[]).await;
        Self {
            store: store.unwrap(),
            test_env,
            catalogue,
            _folder: folder,
        }
    }

    async fn workspace(&self) -> WorkspaceScope {
        let env = self.test_env.env();
        let scope = scope(env.id());
        let mut tx = self
            .store
            .begin_despite_read_only(&scope, Release::System)
            .await
            .unwrap();
        let workspace = NewWorkspace {
            name: WorkspaceName::parse("Studio").unwrap(),
            slug: "studio".to_owned(),
            billing_email: None,
            currency: Currency::parse("usd").unwrap(),
            created_at: env.now(),
        };
        tx.insert_workspace(&workspace).await.unwrap();
        tx.insert_entitlements(&self.catalogue.newest(&Slug::free()).unwrap())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        scope
    }

    async fn billing(&self, gateway: MemoryGateway) -> Billing<Store, MemoryGateway> {
        for price in gateway.sell(&self.catalogue) {
            self.store.put_price(&price).await.unwrap();
        }
        Billing {
            store: self.store.clone(),
            gateway,
            env: self.test_env.env().clone(),
            catalogue: self.catalogue.clone(),
            policy: Policy::default(),
        }
    }

    async fn lease(&self) -> Option<Dirty> {
        self.store.lease_next(LEASE).await.unwrap()
    }
}

fn event(id: &str) -> ProviderEvent {
    let json = format!(
        r#"{{"id":"{id}","type":"invoice.paid","livemode":false,"data":{{"object":{{"id":"in_1","customer":"cus_1"}}}}}}"#
    );
    ProviderEvent::read(json.into_bytes()).unwrap()
}

fn invoice_one() -> ObjectRef {
    ObjectRef::new(ObjectKind::Invoice, "in_1")
}

fn cus(id: &str) -> CustomerId {
    id.parse().unwrap()
}

async fn receive(store: &Store, event: &ProviderEvent) -> Receipt {
    let disposition = event.envelope.disposition(Some(false));
    store.receive(event, &disposition).await.unwrap()
}

#[tokio::test]
async fn events_are_forgotten_when_nobody_lists_them_any_more() {
    let house = House::open().await;
    let (applied, unknown) = (event("evt_1"), event("evt_2"));
    let (kept, ignored) = (
        applied.envelope.disposition(Some(false)),
        unknown.envelope.disposition(Some(true)),
    );
    let receive = async |event, disposition| house.store.receive(event, disposition).await.unwrap();
    assert_eq!(receive(&applied, &kept).await, Receipt::New);
    assert_eq!(receive(&unknown, &ignored).await, Receipt::New);
    for (days, of_applied) in [(89, Receipt::Known), (2, Receipt::New)] {
        house.test_env.advance(TimeDelta::days(days));
        house.test_env.advance_leases(TimeDelta::days(days));
        house.store.sweep().await.unwrap();
        assert_eq!(receive(&applied, &kept).await, of_applied, "{days}");
        // What was not applied waits for an operator, however long.
        assert_eq!(receive(&unknown, &ignored).await, Receipt::Known, "{days}");
    }
}

#[tokio::test]
async fn an_event_is_stored_once_and_touches_its_object_once() {
    let house = House::open().await;
    let one = event("evt_1");
    let received = join_all((0..100).map(|_| receive(&house.store, &one))).await;
    assert_eq!(received.iter().filter(|r| **r == Receipt::New).count(), 1);
    assert!(house.store.has_event(&one.envelope.id).await.unwrap());
    let dirty = house.lease().await.unwrap();
    assert_eq!((dirty.version, dirty.fence, dirty.attempts), (1, 1, 1));
    assert_eq!(
        (dirty.object.clone(), dirty.customer.clone()),
        (invoice_one(), Some(cus("cus_1")))
    );
    assert_eq!(house.lease().await, None, "it is leased");
    // What comes meanwhile keeps it dirty.
    assert_eq!(receive(&house.store, &event("evt_2")).await, Receipt::New);
    assert!(Inbox::close(&house.store, &dirty).await.unwrap());
    let again = house.lease().await.unwrap();
    assert_eq!((again.version, again.fence, again.attempts), (2, 2, 1));
    assert!(Inbox::close(&house.store, &again).await.unwrap());
    assert_eq!(house.lease().await, None);
    assert_eq!(
        house
            .store
            .lease_object(&invoice_one(), LEASE)
            .await
            .unwrap(),
        Leasing::Settled
    );
}

#[tokio::test]
async fn who_lost_a_lease_settles_nothing() {
    let house = House::open().await;
    receive(&house.store, &event("evt_1")).await;
    let slow = house.lease().await.unwrap();
    assert_eq!(
        house
            .store
            .lease_object(&invoice_one(), LEASE)
            .await
            .unwrap(),
        Leasing::Held
    );
    house.test_env.advance_leases(LEASE);
    let fast = house.lease().await.unwrap();
    assert_eq!((fast.fence, fast.attempts), (2, 2));
    assert!(!Inbox::close(&house.store, &slow).await.unwrap());
    assert!(!house.store.retry(&slow, LEASE, "late").await.unwrap());
    assert!(!house.store.dead_letter(&slow, "late").await.unwrap());
    assert!(!house.store.park(&slow, &cus("cus_1")).await.unwrap());
    let scope = house.workspace().await;
    let mut tx = house.store.begin_billing(&scope).await.unwrap();
    assert!(!tx.settle(&slow).await.unwrap());
    assert!(tx.settle(&fast).await.unwrap());
    drop(tx);
    // Dropped, it is not settled.
    assert!(Inbox::close(&house.store, &fast).await.unwrap());
}

#[tokio::test]
async fn many_workers_lease_each_object_once() {
    let house = House::open().await;
    for n in 0..20 {
        let object = ObjectRef::new(ObjectKind::Customer, format!("cus_{n}"));
        house.store.touch(&object, None).await.unwrap();
    }
    let leased = join_all((0..40).map(|_| house.lease())).await;
    let objects: Vec<_> = leased
        .into_iter()
        .flatten()
        .map(|dirty| dirty.object)
        .collect();
    assert_eq!(objects.len(), 20);
    assert_eq!(objects.iter().collect::<BTreeSet<_>>().len(), 20);
}

#[tokio::test]
async fn what_waits_is_left_alone_until_its_time() {
    let house = House::open().await;
    let store = &house.store;
    receive(store, &event("evt_1")).await;
    let dirty = house.lease().await.unwrap();
    assert!(
        store
            .retry(&dirty, TimeDelta::seconds(5), "no answer")
            .await
            .unwrap()
    );
    assert_eq!(house.lease().await, None);
    house.test_env.advance_leases(TimeDelta::seconds(5));
    let dirty = house.lease().await.unwrap();
    assert_eq!(dirty.attempts, 2);
    assert!(store.park(&dirty, &cus("cus_1")).await.unwrap());
    // A customer who waits, waits on, however often it is told of.
    receive(store, &event("evt_2")).await;
    assert_eq!(house.lease().await, None);
    assert_eq!(
        store.waiting(9).await.unwrap()[0].waiting_for,
        WaitingFor::Customer
    );
    assert_eq!(store.unpark(&cus("cus_2")).await.unwrap(), 0);
    assert_eq!(store.unpark(&cus("cus_1")).await.unwrap(), 1);
    let dirty = house.lease().await.unwrap();
    assert!(store.dead_letter(&dirty, "it is none").await.unwrap());
    assert_eq!(house.lease().await, None);
    let waiting = store.waiting(9).await.unwrap();
    let reason = "it is none".to_owned();
    assert_eq!(waiting[0].waiting_for, WaitingFor::Operator { reason });
    // An operator's wait ends when it is told of again.
    receive(store, &event("evt_3")).await;
    assert_eq!(house.lease().await.unwrap().attempts, 1);
    assert!(store.waiting(9).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_ignored_event_is_kept_and_reconsidered_once() {
    let house = House::open().await;
    let json = r#"{"id":"evt_9","type":"starship.launched","livemode":false,"data":{"object":{"id":"in_1"}}}"#;
    let odd = ProviderEvent::read(json.as_bytes().to_vec()).unwrap();
    assert_eq!(receive(&house.store, &odd).await, Receipt::New);
    assert_eq!(house.lease().await, None);
    assert_eq!(
        house.store.ignored_events(None, 9).await.unwrap(),
        std::slice::from_ref(&odd)
    );
    for _ in 0..2 {
        house
            .store
            .reconsider(&odd.envelope.id, &invoice_one(), None)
            .await
            .unwrap();
    }
    assert!(
        house
            .store
            .ignored_events(None, 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(house.lease().await.unwrap().version, 1);
}

#[tokio::test]
async fn a_customer_is_one_workspaces_for_ever() {
    let house = House::open().await;
    let [ours, theirs] = [house.workspace().await, house.workspace().await];
    let account = Account {
        customer: Some(cus("cus_1")),
        ..Account::default()
    };
    let mut tx = house.store.begin_billing(&ours).await.unwrap();
    tx.put_account(&account).await.unwrap();
    assert!(tx.link_customer(&cus("cus_1")).await.unwrap());
    assert!(tx.link_customer(&cus("cus_2")).await.unwrap());
    tx.commit().await.unwrap();
    let mut tx = house.store.begin_billing(&theirs).await.unwrap();
    assert!(!tx.link_customer(&cus("cus_1")).await.unwrap());
    let taken = tx.put_account(&account).await;
    assert!(matches!(taken, Err(StoreError::Taken { .. })), "{taken:?}");
    drop(tx);
    assert_eq!(
        house.store.workspace_of(&cus("cus_2")).await.unwrap(),
        Some(ours.workspace())
    );
    assert_eq!(house.store.workspace_of(&cus("cus_3")).await.unwrap(), None);
    let billed = |customer: &str| Billed {
        workspace: ours.workspace(),
        customer: cus(customer),
    };
    let first = house.store.billed(None, 1).await.unwrap();
    assert_eq!(first, [billed("cus_1")]);
    assert_eq!(
        house.store.billed(first.first(), 9).await.unwrap(),
        [billed("cus_2")]
    );
    let (read, _) = house.store.read(&ours).billing().await.unwrap();
    assert_eq!(read, account);
    assert_eq!(
        house.store.read(&theirs).billing().await.unwrap().0,
        Account::default()
    );
}

fn operation(house: &House, id: u64) -> Operation {
    let env = house.test_env.env();
    Operation {
        id: env.id(),
        request: OperationRequest::CreateCustomer(NewCustomer {
            name: format!("Studio {id}"),
            email: None,
            metadata: Metadata::default(),
        }),
        actor: Actor::User(env.id()),
        attempt: 1,
        fence: 1,
        created_at: env.now(),
        leased_until: env.lease_now() + LEASE,
        unanswered: false,
    }
}

#[tokio::test]
async fn one_operation_of_a_lane_lives_at_a_time_and_the_fence_says_whose_it_is() {
    let house = House::open().await;
    let [scope, other] = [house.workspace().await, house.workspace().await];
    let [first, second] = [operation(&house, 1), operation(&house, 2)];
    let mut tx = house.store.begin_billing(&scope).await.unwrap();
    assert!(tx.begin_operation(&first).await.unwrap());
    assert!(!tx.begin_operation(&second).await.unwrap());
    assert_eq!(
        tx.live_operation(Lane::Customer).await.unwrap().as_ref(),
        Some(&first)
    );
    assert_eq!(tx.live_operation(Lane::Subscription).await.unwrap(), None);
    tx.commit().await.unwrap();
    // Another workspace's is another.
    let mut tx = house.store.begin_billing(&other).await.unwrap();
    assert!(tx.begin_operation(&second).await.unwrap());
    let until = house.test_env.env().lease_now() + LEASE;
    assert_eq!(
        tx.take_up(first.id, until).await.unwrap(),
        None,
        "it is not this workspace's"
    );
    drop(tx);

    let mut tx = house.store.begin_billing(&scope).await.unwrap();
    assert_eq!(
        tx.take_up(first.id, until).await.unwrap(),
        None,
        "somebody drives it"
    );
    drop(tx);
    assert!(
        house
            .store
            .abandoned_operations(9)
            .await
            .unwrap()
            .is_empty()
    );
    house.test_env.advance_leases(LEASE);
    assert_eq!(
        house.store.abandoned_operations(9).await.unwrap(),
        [(scope.workspace(), first.id)]
    );
    let until = until + LEASE;
    let mut tx = house.store.begin_billing(&scope).await.unwrap();
    let taken = tx.take_up(first.id, until).await.unwrap().unwrap();
    assert_eq!((taken.fence, taken.attempt), (2, 1));
    assert!(!tx.next_attempt(&first, until).await.unwrap());
    assert!(!tx.put_down(&first, until).await.unwrap());
    let outcome = OperationOutcome::Customer {
        customer: cus("cus_1"),
    };
    assert!(!tx.end_operation(&first, &outcome).await.unwrap());
    assert!(tx.put_down(&taken, until).await.unwrap());
    let live = tx.live_operation(Lane::Customer).await.unwrap().unwrap();
    assert_eq!((live.attempt, live.unanswered), (1, true));
    assert!(tx.next_attempt(&taken, until).await.unwrap());
    let live = tx.live_operation(Lane::Customer).await.unwrap().unwrap();
    assert_eq!((live.attempt, live.unanswered), (2, false));
    assert_eq!(tx.outcome(first.id).await.unwrap(), None);
    assert!(tx.end_operation(&taken, &outcome).await.unwrap());
    assert_eq!(tx.outcome(first.id).await.unwrap(), Some(outcome));
    assert!(
        tx.begin_operation(&second).await.unwrap(),
        "the lane is free"
    );
}

#[tokio::test]
async fn what_a_dead_server_had_leased_is_free_at_once_and_lost_to_it() {
    let house = House::open().await;
    let scope = house.workspace().await;
    let driven = operation(&house, 1);
    let mut tx = house.store.begin_billing(&scope).await.unwrap();
    assert!(tx.begin_operation(&driven).await.unwrap());
    tx.commit().await.unwrap();
    receive(&house.store, &event("evt_1")).await;
    let leased = house.lease().await.unwrap();
    assert_eq!(house.lease().await, None);

    assert_eq!(house.store.recover().await.unwrap(), 2);
    assert_eq!(
        house.store.abandoned_operations(9).await.unwrap(),
        [(scope.workspace(), driven.id)]
    );
    let again = house.lease().await.unwrap();
    assert_eq!((again.fence, again.attempts), (2, 2));
    assert!(!house.store.retry(&leased, LEASE, "late").await.unwrap());
    // What has ended, and what nobody holds, stays as it is.
    assert!(house.store.retry(&again, LEASE, "later").await.unwrap());
    let until = house.test_env.env().lease_now() + LEASE;
    let mut tx = house.store.begin_billing(&scope).await.unwrap();
    let taken = tx.take_up(driven.id, until).await.unwrap().unwrap();
    let outcome = OperationOutcome::Customer {
        customer: cus("cus_1"),
    };
    assert!(tx.end_operation(&taken, &outcome).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(house.store.recover().await.unwrap(), 0);
    assert_eq!(house.lease().await, None, "it is tried again later");
}

#[tokio::test]
async fn an_effect_is_had_once_and_a_rolled_back_one_is_not_had() {
    let house = House::open().await;
    let [scope, other] = [house.workspace().await, house.workspace().await];
    let mut tx = house.store.begin_billing(&scope).await.unwrap();
    assert!(tx.record_effect("paid:in_1").await.unwrap());
    drop(tx);
    let mut tx = house.store.begin_billing(&scope).await.unwrap();
    assert!(tx.record_effect("paid:in_1").await.unwrap());
    assert!(!tx.record_effect("paid:in_1").await.unwrap());
    tx.commit().await.unwrap();
    let mut tx = house.store.begin_billing(&other).await.unwrap();
    assert!(tx.record_effect("paid:in_1").await.unwrap());
}

fn invoice(n: i64, created: DateTime<Utc>) -> InvoiceSnapshot {
    InvoiceSnapshot {
        id: format!("in_{n}").parse().unwrap(),
        customer: cus("cus_1"),
        subscription: None,
        number: Some(format!("RD-{n}")),
        status: if n % 2 == 0 {
            InvoiceStatus::Paid
        } else {
            InvoiceStatus::Open
        },
        billing_reason: None,
        currency: Currency::parse("usd").unwrap(),
        total: 100 * n,
        amount_due: 100 * n,
        amount_paid: 0,
        amount_remaining: 0,
        created,
        period_start: created,
        period_end: created,
        collection_method: CollectionMethod::default(),
        due_at: None,
        reversed_at: None,
        finalized_at: None,
        paid_at: None,
        voided_at: None,
        marked_uncollectible_at: None,
        attempts: Vec::new(),
        attempt_count: 0,
        next_attempt: None,
        finalization_error: None,
        hosted_url: None,
        pdf_url: None,
        livemode: false,
        metadata: Metadata::default(),
    }
}

#[tokio::test]
async fn invoices_come_newest_first_page_by_page() {
    let house = House::open().await;
    let scope = house.workspace().await;
    let now = house.test_env.env().now();
    let mut tx = house.store.begin_billing(&scope).await.unwrap();
    assert!(tx.link_customer(&cus("cus_1")).await.unwrap());
    for n in [3, 1, 5, 2, 4] {
        // Two of one second, too.
        let made = invoice(n, now + TimeDelta::seconds(n / 2));
        tx.put_invoice(&made).await.unwrap();
        tx.put_invoice(&made).await.unwrap();
    }
    let owed = tx.owed_invoices().await.unwrap();
    assert_eq!(owed.len(), 3);
    // What was paid with nothing, as a trial's first invoice is, was not paid for.
    for (n, status, amount, paid) in [
        (6, InvoiceStatus::Paid, 0, false),
        (7, InvoiceStatus::Open, 500, false),
        (8, InvoiceStatus::Paid, 500, true),
    ] {
        let mut made = invoice(n, now - TimeDelta::days(1));
        made.subscription = Some("sub_tried".parse().unwrap());
        (made.status, made.amount_paid) = (status, amount);
        tx.put_invoice(&made).await.unwrap();
        let of = made.subscription.unwrap();
        assert_eq!(tx.was_paid(&of).await.unwrap(), paid, "{n}");
        assert!(!tx.was_paid(&"sub_other".parse().unwrap()).await.unwrap());
    }
    tx.commit().await.unwrap();
    let reader = house.store.read(&scope);
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = reader
            .invoices(&PageRequest { limit: 2, after })
            .await
            .unwrap();
        assert!(page.items.len() <= 2);
        seen.extend(page.items.iter().map(|i| (i.created, i.id.clone())));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 8);
    assert!(
        seen.is_sorted_by(|newer, older| newer.0 >= older.0),
        "{seen:?}"
    );
    let stranger = house.workspace().await;
    let page = house
        .store
        .read(&stranger)
        .invoices(&PageRequest {
            limit: 9,
            after: None,
        })
        .await;
    assert!(page.unwrap().items.is_empty());
}

/// What was told of a story, in whatever order it was met.
async fn told(house: &House, scope: &WorkspaceScope) -> Vec<String> {
    let all = PageRequest {
        limit: 200,
        after: None,
    };
    let entries = house
        .store
        .read(scope)
        .audit(all, &AuditFilter::default())
        .await
        .unwrap();
    let mut actions: Vec<_> = entries
        .items
        .into_iter()
        .map(|entry| format!("{} {}", entry.action, entry.subject))
        .collect();
    actions.sort();
    actions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_story_told_in_any_order_by_many_workers_ends_as_the_provider_has_it() {
    // One installation lives the story; others are told of it, each in another order.
    let teller = House::open().await;
    let scope = teller.workspace().await;
    let gateway = MemoryGateway::new(teller.test_env.env().clone());
    let billing = teller.billing(gateway.clone()).await;
    let order = Order {
        plan: "basic".parse().unwrap(),
        interval: Interval::Month,
    };
    let method = Card::Good.method().parse().unwrap();
    subscribe(&billing, &scope, &order, Some(method))
        .await
        .unwrap();
    cancel(&billing, &scope, CancelWhen::Now).await.unwrap();
    let history = gateway.history();
    assert!(history.len() >= 4, "{history:?}");
    while project_next(&billing).await.unwrap().is_some() {}
    for event in &history {
        receive(&teller.store, event).await;
    }
    while project_next(&billing).await.unwrap().is_some() {}
    let (account, subscriptions) = teller.store.read(&scope).billing().await.unwrap();
    let customer = account.customer.unwrap();
    assert_eq!(
        told(&teller, &scope)
            .await
            .iter()
            .filter(|action| action.starts_with("subscription.ended"))
            .count(),
        1
    );

    for seed in 0..12_usize {
        let listener = House::open().await;
        let listens = listener.workspace().await;
        let billing = listener.billing(gateway.clone()).await;
        // What the teller sold the plan at is known to whoever listens.
        for price in teller.store.sold_prices().await.unwrap() {
            listener.store.put_price(&price).await.unwrap();
        }
        let mut events = history.clone();
        let places = events.len();
        for place in 0..places {
            events.swap(place, (place * 7 + seed * 5) % places);
        }
        // The customer is linked amid the story; what came before has waited for it.
        for (n, event) in events.iter().chain(&events).enumerate() {
            if n == seed % 4 {
                let mut tx = listener.store.begin_billing(&listens).await.unwrap();
                assert!(tx.link_customer(&customer).await.unwrap());
                tx.commit().await.unwrap();
                listener.store.unpark(&customer).await.unwrap();
            }
            receive(&listener.store, event).await;
            let steps = join_all((0..1 + seed % 4).map(|_| project_next(&billing))).await;
            assert!(steps.iter().all(Result::is_ok), "{steps:?}");
        }
        while project_next(&billing).await.unwrap().is_some() {}
        let (_, projected) = listener.store.read(&listens).billing().await.unwrap();
        assert_eq!(projected, subscriptions, "seed {seed}");
        let told = told(&listener, &listens).await;
        let once: BTreeSet<_> = told
            .iter()
            .filter(|action| !action.starts_with("plan.changed"))
            .collect();
        let keyed = told
            .iter()
            .filter(|action| !action.starts_with("plan.changed"))
            .count();
        assert_eq!(once.len(), keyed, "seed {seed}: {told:#?}");
        let ended = told
            .iter()
            .filter(|action| action.starts_with("subscription.ended"))
            .count();
        assert_eq!(ended, 1, "seed {seed}: {told:#?}");
        let since = default_since(listener.test_env.env().now());
        let drift = reconcile(&billing, since, Heal::DryRun).await.unwrap();
        assert!(drift.is_empty(), "seed {seed}: {drift:?}");
    }
}
