//! Whatever the order, the number or the loss of events: one final state, and every keyed effect once.

use chrono::TimeDelta;
use rawdrive_billing::{
    BillingDirectory as _, BillingTx as _, Inbox as _, ProviderEvent, WaitingFor, replay,
};
use rawdrive_tenancy_core::{Commit as _, SystemReason, WorkspaceScope};
use rawdrive_testkit::{Card, MemoryGateway, Renewals, TestEnv};

use crate::studio::{Outcome, PLANS, Studio, order};

/// Another installation's workspace that the customer is linked to, beside the same provider.
async fn beside(studio: &Studio) -> Studio {
    let (test_env, gateway) = (studio.test_env.clone(), studio.gateway().clone());
    let other = Studio::beside(test_env, gateway, PLANS).await;
    for price in studio.billing.store.sold_prices().await.unwrap() {
        other.billing.store.put_price(&price).await.unwrap();
    }
    link(&other, studio).await;
    other
}

async fn link(to: &Studio, studio: &Studio) {
    let mut tx = to.billing.store.begin_despite_read_only(&to.scope).await;
    let mut account = tx.account().await.unwrap();
    account.customer = studio.gateway().books().customers.first().cloned();
    tx.put_account(&account).await.unwrap();
    tx.commit().await.unwrap();
}

/// A renewal that failed and was paid after all.
async fn story() -> Studio {
    let studio = Studio::open().await;
    studio.subscribe("professional", Card::Good).await.unwrap();
    let customer = studio.gateway().books().customers[0].clone();
    studio.gateway().set_card(&customer, Card::Declined);
    studio.pass(TimeDelta::days(31));
    studio.gateway().set_card(&customer, Card::Good);
    studio.pass(TimeDelta::days(5));
    studio
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(n - 1);
    let insert = |order: &Vec<usize>, at| {
        let mut order = order.clone();
        order.insert(at, n - 1);
        order
    };
    shorter
        .iter()
        .flat_map(|order| (0..n).map(move |at| insert(order, at)))
        .collect()
}

#[tokio::test]
async fn six_events_of_one_story_in_every_order_twice_each_by_one_to_eight_workers() {
    let studio = story().await;
    let kinds = [
        "customer.subscription.created",
        "invoice.created",
        "invoice.payment_failed",
        "invoice.paid",
        "customer.subscription.updated",
        "customer.updated",
    ];
    let history = studio.gateway().history();
    let last = |kind: &str| {
        history
            .iter()
            .rfind(|event| event.envelope.kind == kind)
            .unwrap()
    };
    let events: Vec<&ProviderEvent> = kinds.iter().map(|kind| last(kind)).collect();
    let mut expected: Option<(Outcome, _)> = None;
    let orders = permutations(events.len());
    assert_eq!(orders.len(), 720);
    for (n, order) in orders.iter().enumerate() {
        let studio = beside(&studio).await;
        for at in order {
            studio.deliver(events[*at]).await;
            if n % 2 == 0 {
                studio.work(n % 8 + 1).await;
            }
            studio.deliver(events[*at]).await;
        }
        studio.work(n % 8 + 1).await;
        let (outcome, audited) = (studio.outcome(), studio.audited());
        assert!(
            outcome.entitlements.starts_with("professional 1"),
            "{}",
            outcome.entitlements
        );
        let by_subject: Vec<_> = audited
            .iter()
            .filter(|((_, subject), _)| !subject.starts_with("ws_"))
            .map(|(key, count)| (key.clone(), *count))
            .collect();
        match &expected {
            None => expected = Some((outcome, by_subject)),
            Some((first, audited)) => {
                assert_eq!(&outcome, first, "order {order:?}");
                assert_eq!(&by_subject, audited, "order {order:?}");
            }
        }
    }
}

#[tokio::test]
async fn deleted_before_created_and_two_events_of_one_second_in_both_orders() {
    let studio = story().await;
    let subscription = studio.gateway().books().subscriptions[0].clone();
    rawdrive_billing::cancel(
        &studio.billing,
        &studio.scope,
        rawdrive_billing::CancelWhen::Now,
    )
    .await
    .unwrap();
    let history = studio.gateway().history();
    let find = |kind: &str| {
        history
            .iter()
            .find(|event| event.envelope.kind == kind)
            .unwrap()
    };
    let (created, deleted) = (
        find("customer.subscription.created"),
        find("customer.subscription.deleted"),
    );
    for pair in [[created, deleted], [deleted, created]] {
        let studio = beside(&studio).await;
        for event in pair {
            studio.deliver(event).await;
            studio.work(1).await;
        }
        let id = &subscription.id;
        assert_eq!(studio.plan(), "free 1");
        let audited = studio.audited();
        for action in ["subscription.created", "subscription.ended"] {
            assert_eq!(
                audited.get(&(action.to_owned(), id.to_string())),
                Some(&1),
                "{action}"
            );
        }
    }
    // A second holds both: nothing of an order can be read from their time.
    let same = |event: &&ProviderEvent| event.envelope.created == created.envelope.created;
    let of_one_second: Vec<_> = history.iter().filter(same).collect();
    assert!(of_one_second.len() > 2);
    let forth = beside(&studio).await;
    for event in &of_one_second {
        forth.deliver(event).await;
        forth.work(1).await;
    }
    let back = beside(&studio).await;
    for event in of_one_second.iter().rev() {
        back.deliver(event).await;
        back.work(1).await;
    }
    assert_eq!(forth.outcome(), back.outcome());
}

/// SplitMix64, so that a trace is its number.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % below as u64).unwrap()
    }
}

/// Something happens at the provider: by its clock, by the payer, by somebody in its own pages.
fn happen(studio: &Studio, dice: &mut Dice) {
    let gateway = studio.gateway();
    let books = gateway.books();
    let customer = books.customers.first().cloned().unwrap();
    let subscription = books.subscriptions.last().cloned().unwrap();
    let latest = subscription.latest_invoice.clone().unwrap();
    match dice.roll(10) {
        0..=2 => studio.pass(TimeDelta::days(6)),
        3 => studio.pass(TimeDelta::days(31)),
        4 => gateway.set_card(&customer, Card::Declined),
        5 => gateway.set_card(&customer, Card::Good),
        6 => gateway.collect(&latest),
        7 => gateway.void(&latest),
        8 => {
            let price = &subscription.items[0].price;
            gateway.reprice(&subscription.id, &price.id);
        }
        _ => {
            if let Some(charge) = books.charges.last() {
                gateway.refund(charge, 1);
            }
        }
    }
}

/// Twelve events of a life, delivered late, twice, out of order or not at all; then a reconcile.
async fn trace(number: u64) {
    let mut dice = Dice(number);
    let test_env = TestEnv::seeded(number);
    let gateway = MemoryGateway::new(test_env.env().clone());
    let studio = Studio::beside(test_env, gateway, PLANS).await;
    studio.subscribe("professional", Card::Good).await.unwrap();
    if dice.roll(2) == 0 {
        studio.gateway().set_renewals(Renewals::LeaveUnpaid);
    }
    let mut pending: Vec<ProviderEvent> = Vec::new();
    let (mut seen, mut delivered) = (0, 0);
    while delivered < 12 {
        happen(&studio, &mut dice);
        let history = studio.gateway().history();
        pending.extend(history[seen..].iter().cloned());
        seen = history.len();
        for _ in 0..dice.roll(4) {
            if pending.is_empty() {
                break;
            }
            let at = dice.roll(pending.len());
            let event = pending[at].clone();
            // One in three is lost, one in three comes again.
            match dice.roll(3) {
                0 => drop(pending.swap_remove(at)),
                1 => studio.deliver(&event).await,
                _ => {
                    studio.deliver(&event).await;
                    pending.swap_remove(at);
                }
            }
            delivered += 1;
            if dice.roll(2) == 0 {
                studio.work(dice.roll(8) + 1).await;
            }
        }
        delivered += 1;
    }
    studio.reconcile().await;
    assert_eq!(
        studio.reconcile().await,
        Vec::<String>::new(),
        "trace {number} drifts on"
    );
    // Whoever sees nothing but the end comes to the same.
    let fresh = beside(&studio).await;
    fresh.reconcile().await;
    let (outcome, expected) = (studio.outcome(), fresh.outcome());
    let books = studio.gateway().books();
    let projected: Vec<_> = outcome
        .subscriptions
        .iter()
        .map(|s| s.snapshot.clone())
        .collect();
    assert_eq!(projected, books.subscriptions, "trace {number}");
    // Each refund is told by itself, whoever saw what when. The sums are what an earlier release told them by.
    let is_sum = |key: &&String| key.contains(":refunded:");
    let lost = expected.effects.difference(&outcome.effects);
    let lost: Vec<_> = lost.filter(|key| !is_sum(key)).collect();
    assert!(lost.is_empty(), "trace {number} has not had {lost:?}");
    let more = outcome.effects.difference(&expected.effects);
    let more: Vec<_> = more.filter(|key| !is_sum(key)).collect();
    assert!(more.is_empty(), "trace {number} has had {more:?} beside");
    assert_eq!(
        (
            outcome.entitlements,
            outcome.invoices,
            outcome.subscriptions
        ),
        (
            expected.entitlements,
            expected.invoices,
            expected.subscriptions
        ),
        "trace {number}"
    );
    for ((action, subject), count) in studio.audited() {
        let keyed = [
            "subscription.created",
            "subscription.ended",
            "invoice.paid",
            "invoice.voided",
        ];
        assert!(
            !keyed.contains(&action.as_str()) || count == 1,
            "trace {number}: {action} {subject} {count}"
        );
    }
}

/// A quarter of the traces. `RAWDRIVE_TRACES` says how many there are, 20,000 by default.
async fn quarter(of: u64) {
    let traces = std::env::var("RAWDRIVE_TRACES").ok();
    let traces = traces.map_or(20_000, |text| text.parse().expect("a number of traces"));
    for number in (0..traces).filter(|number| number % 4 == of) {
        trace(number).await;
    }
}

#[tokio::test]
async fn random_traces_with_drops_followed_by_a_reconcile_1() {
    quarter(0).await;
}

#[tokio::test]
async fn random_traces_with_drops_followed_by_a_reconcile_2() {
    quarter(1).await;
}

#[tokio::test]
async fn random_traces_with_drops_followed_by_a_reconcile_3() {
    quarter(2).await;
}

#[tokio::test]
async fn random_traces_with_drops_followed_by_a_reconcile_4() {
    quarter(3).await;
}

#[tokio::test]
async fn what_comes_before_its_customer_is_linked_waits_and_is_applied_then() {
    let studio = story().await;
    let (test_env, gateway) = (studio.test_env.clone(), studio.gateway().clone());
    let other = Studio::beside(test_env, gateway, PLANS).await;
    for price in studio.billing.store.sold_prices().await.unwrap() {
        other.billing.store.put_price(&price).await.unwrap();
    }
    other.deliver_all().await;
    let waiting = other.billing.store.waiting(100).await.unwrap();
    assert!(
        waiting
            .iter()
            .all(|w| w.waiting_for == WaitingFor::Customer)
            && !waiting.is_empty()
    );
    assert_eq!(other.plan(), "free 1");
    link(&other, &studio).await;
    let customer = studio.gateway().books().customers[0].clone();
    other.billing.store.unpark(&customer).await.unwrap();
    other.work(3).await;
    assert_eq!(other.plan(), "professional 1");
    assert_eq!(other.billing.store.waiting(100).await.unwrap(), []);
}

#[tokio::test]
async fn metadata_that_names_another_workspace_changes_nothing_there() {
    let studio = Studio::open().await;
    let victim = {
        let free = studio
            .billing
            .catalogue
            .newest(&rawdrive_plans::Slug::free())
            .unwrap();
        studio.billing.store.workspace(&free).await.unwrap()
    };
    let made = studio.subscribe("professional", Card::Good).await.unwrap();
    let named = rawdrive_billing::Metadata::of(victim.workspace(), None);
    studio
        .gateway()
        .edit_subscription(&made.snapshot.id, |s| s.metadata = named);
    studio.deliver_all().await;
    studio.reconcile().await;
    let rows = studio.billing.store.rows(&victim);
    assert_eq!(
        (rows.entitlements.plan.slug.as_str(), rows.audit.len()),
        ("free", 0)
    );
    assert_eq!(studio.plan(), "professional 1");
}

#[tokio::test]
async fn an_object_of_the_other_mode_and_one_that_is_not_there_wait_for_an_operator() {
    let studio = Studio::open().await;
    let made = studio.subscribe("professional", Card::Good).await.unwrap();
    studio.deliver_all().await;
    let before = studio.outcome();
    studio.gateway().edit_subscription(&made.snapshot.id, |s| {
        s.livemode = true;
        s.status = rawdrive_billing::SubscriptionStatus::Canceled;
    });
    let ghost = rawdrive_billing::ObjectRef::new(rawdrive_billing::ObjectKind::Invoice, "in_ghost");
    studio.billing.store.touch(&ghost, None).await.unwrap();
    for event in studio.gateway().history() {
        studio.deliver(&event).await;
    }
    for _ in 0..10 {
        while rawdrive_billing::project_next(&studio.billing)
            .await
            .unwrap()
            .is_some()
        {}
        studio.test_env.advance_leases(TimeDelta::minutes(1));
    }
    assert_eq!(studio.outcome(), before);
    let waiting = studio.billing.store.waiting(10).await.unwrap();
    let names: Vec<_> = waiting
        .iter()
        .map(|w| (w.object.to_string(), w.waiting_for.clone()))
        .collect();
    let operator = |reason: &str| WaitingFor::Operator {
        reason: reason.to_owned(),
    };
    assert_eq!(
        names,
        [
            (
                format!("subscription {}", made.snapshot.id),
                operator("it is of the other mode (test or live)")
            ),
            (
                "invoice in_ghost".to_owned(),
                operator("the provider knows no such object")
            ),
        ]
    );
    studio
        .gateway()
        .edit_subscription(&made.snapshot.id, |s| s.livemode = false);
    assert_eq!(replay(&studio.billing).await.unwrap(), 2);
    studio.test_env.advance_leases(TimeDelta::minutes(1));
    while rawdrive_billing::project_next(&studio.billing)
        .await
        .unwrap()
        .is_some()
    {}
    assert_eq!(studio.plan(), "free 1");
}

#[tokio::test]
async fn an_unknown_state_grants_nothing_and_is_kept() {
    let studio = Studio::open().await;
    let made = studio.subscribe("professional", Card::Good).await.unwrap();
    studio
        .gateway()
        .set_unknown_status(&made.snapshot.id, "dormant");
    studio.deliver_all().await;
    assert_eq!(studio.plan(), "free 1");
    assert_eq!(
        studio.outcome().subscriptions[0].snapshot.status.as_str(),
        "dormant"
    );
}

#[tokio::test]
async fn disputes_refunds_and_a_deleted_customer_are_told_once() {
    let studio = Studio::open().await;
    studio.subscribe("professional", Card::Good).await.unwrap();
    let books = studio.gateway().books();
    let dispute = studio.gateway().dispute_charge(&books.charges[0]);
    studio.gateway().refund(&books.charges[0], 100);
    studio.deliver_all().await;
    studio.gateway().decide_dispute(&dispute, "lost");
    studio.gateway().delete_customer(&books.customers[0]);
    studio.deliver_all().await;
    studio.deliver_all().await;
    let audited = studio.audited();
    let count = |action: &str| {
        audited
            .iter()
            .filter(|((a, _), _)| a == action)
            .map(|(_, n)| *n)
            .sum::<usize>()
    };
    let actions = [
        "dispute.opened",
        "dispute.closed",
        "charge.refunded",
        "billing.customer_deleted",
        "subscription.ended",
    ];
    assert_eq!(actions.map(count), [1; 5], "{audited:?}");
    assert_eq!(studio.plan(), "free 1");
    // Who comes back gets another customer.
    studio.subscribe("basic", Card::Good).await.unwrap();
    assert_eq!(
        (
            studio.plan().as_str(),
            studio.gateway().books().customers.len()
        ),
        ("basic 1", 2)
    );
}

#[tokio::test]
async fn while_the_provider_is_down_everything_waits_and_converges_after() {
    let studio = story().await;
    let other = beside(&studio).await;
    studio.gateway().set_down(true);
    other.deliver_all().await;
    assert_eq!(other.plan(), "free 1");
    for _ in 0..30 {
        other.test_env.advance_leases(TimeDelta::seconds(20));
        other.work(2).await;
    }
    studio.gateway().set_down(false);
    other.test_env.advance_leases(TimeDelta::seconds(20));
    other.work(2).await;
    assert_eq!(other.plan(), "professional 1");
    assert_eq!(other.billing.store.waiting(1).await.unwrap(), []);
}

#[tokio::test]
async fn a_worker_whose_lease_ran_out_writes_nothing() {
    let studio = story().await;
    let other = beside(&studio).await;
    let event = studio
        .gateway()
        .history()
        .into_iter()
        .find(|e| e.envelope.kind == "customer.subscription.created")
        .unwrap();
    other.deliver(&event).await;
    let stale = other
        .billing
        .store
        .lease_next(TimeDelta::seconds(60))
        .await
        .unwrap()
        .unwrap();
    other.test_env.advance_leases(TimeDelta::seconds(61));
    other.work(1).await;
    let before = other.outcome();
    let mut tx = other
        .billing
        .store
        .begin_despite_read_only(&other.scope)
        .await;
    assert!(
        !rawdrive_billing::InboxTx::settle(&mut tx, &stale)
            .await
            .unwrap()
    );
    drop(tx);
    assert!(
        !other
            .billing
            .store
            .retry(&stale, TimeDelta::zero(), "late")
            .await
            .unwrap()
    );
    assert!(
        !other
            .billing
            .store
            .dead_letter(&stale, "late")
            .await
            .unwrap()
    );
    assert_eq!(other.outcome(), before);
    assert_eq!(other.plan(), "professional 1");
}

#[expect(
    clippy::disallowed_methods,
    reason = "a scope of a workspace that was never made"
)]
fn nowhere(studio: &Studio) -> WorkspaceScope {
    WorkspaceScope::for_system(studio.billing.env.id(), SystemReason::JOB)
}

#[tokio::test]
async fn a_customer_without_its_workspace_is_reported_and_a_dry_run_writes_nothing() {
    use rawdrive_billing::{Heal, NewCustomer, PaymentGateway as _, default_since, reconcile};
    let studio = Studio::open().await;
    for (key, scope) in [("k1", &studio.scope), ("k2", &nowhere(&studio))] {
        let new = NewCustomer {
            name: "Studio".to_owned(),
            email: Some("studio@example.com".to_owned()),
            metadata: rawdrive_billing::Metadata::of(scope.workspace(), None),
        };
        studio
            .gateway()
            .create_customer(&new, &key.parse().unwrap())
            .await
            .unwrap();
    }
    let since = default_since(studio.billing.env.now());
    let dry = reconcile(&studio.billing, since, Heal::DryRun)
        .await
        .unwrap();
    let customers = studio.gateway().books().customers;
    assert_eq!(
        studio
            .billing
            .store
            .workspace_of(&customers[0])
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        studio
            .billing
            .store
            .workspace_of(&customers[1])
            .await
            .unwrap(),
        None
    );
    let wet = reconcile(&studio.billing, since, Heal::Yes).await.unwrap();
    assert_eq!(dry, wet);
    let conflicts = wet
        .iter()
        .filter(|d| d.to_string().ends_with("which has another or is gone"))
        .count();
    assert_eq!((wet.len(), conflicts), (4, 1), "{wet:?}");
    let again = reconcile(&studio.billing, since, Heal::Yes).await.unwrap();
    assert_eq!(again.len(), 1, "{again:?}");
    // The one that was linked pays from now on.
    studio.subscribe("basic", Card::Good).await.unwrap();
    assert_eq!(studio.gateway().books().customers.len(), 2);
    let _ = order("basic");
}
