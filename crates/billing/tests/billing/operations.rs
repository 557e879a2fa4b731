//! Money moves once, whatever is lost on the way.

use chrono::TimeDelta;
use futures_util::future::join_all;
use rawdrive_billing::{
    BillingError, CancelWhen, OperationOutcome, cancel, change_plan, recover_operations, subscribe,
};
use rawdrive_testkit::{Card, Fault, Faults, GatewayFault};

use crate::studio::{Studio, order, preview_key};

/// What is left when everybody has tried as long as they do: recovered, asked again, every event delivered.
async fn settle(studio: &Studio) {
    for _ in 0..40 {
        studio.test_env.advance_leases(TimeDelta::seconds(60));
        recover_operations(&studio.billing).await.unwrap();
    }
    studio.deliver_all().await;
}

fn counts(studio: &Studio) -> (usize, usize, usize) {
    let books = studio.gateway().books();
    let alive = books.subscriptions.iter().filter(|s| s.status.is_live());
    (books.customers.len(), alive.count(), books.charges.len())
}

fn none_is_live(studio: &Studio) -> bool {
    let rows = studio.billing.store.rows(&studio.scope);
    rows.billing
        .operations
        .values()
        .all(|(_, ended)| ended.is_some())
}

#[tokio::test]
async fn however_a_call_fails_there_is_one_customer_one_subscription_and_one_charge() {
    use GatewayFault as F;
    let kinds = [
        F::Refused,
        F::AnswerLost,
        F::DoneAndFailed,
        F::Failed,
        F::RateLimited,
    ];
    for first in kinds {
        for second in kinds {
            for at in 0..3 {
                let studio = Studio::open().await;
                studio.gateway().fail([(at, first), (at + 1, second)]);
                let _ = studio.subscribe("professional", Card::Good).await;
                settle(&studio).await;
                // Whoever was told that it did not work asks again.
                let again = studio.subscribe("professional", Card::Good).await;
                assert!(
                    matches!(
                        again,
                        Ok(_)
                            | Err(
                                BillingError::AlreadySubscribed | BillingError::Unavailable { .. }
                            )
                    ),
                    "{again:?}"
                );
                settle(&studio).await;
                let case = format!("{first:?} and {second:?} at {at}");
                assert_eq!(counts(&studio), (1, 1, 1), "{case}");
                assert!(none_is_live(&studio), "{case}");
                assert_eq!(studio.plan(), "professional 1", "{case}");
            }
        }
    }
}

#[tokio::test]
async fn a_crash_at_any_point_makes_no_second_customer_subscription_or_charge() {
    let method = || Card::Good.method().parse().unwrap();
    let all = {
        let studio = Studio::open().await;
        let faults = Faults::default();
        let billing = studio.failing(faults.clone());
        subscribe(
            &billing,
            &studio.scope,
            &order("professional"),
            Some(method()),
        )
        .await
        .unwrap();
        faults.calls()
    };
    assert!(
        all > 20,
        "{all} calls of the store are as many points to crash at"
    );
    for at in 0..all {
        for fault in [Fault::Refused, Fault::AnswerLost] {
            let studio = Studio::open().await;
            let billing = studio.failing(Faults::at([(at, fault)]));
            let _ = subscribe(
                &billing,
                &studio.scope,
                &order("professional"),
                Some(method()),
            )
            .await;
            settle(&studio).await;
            let again = studio.subscribe("professional", Card::Good).await;
            assert!(
                matches!(again, Ok(_) | Err(BillingError::AlreadySubscribed)),
                "{at} {fault:?}: {again:?}"
            );
            settle(&studio).await;
            assert_eq!(counts(&studio), (1, 1, 1), "{fault:?} of call {at}");
            assert!(none_is_live(&studio), "{fault:?} of call {at}");
            assert_eq!(studio.plan(), "professional 1", "{fault:?} of call {at}");
        }
    }
}

#[tokio::test]
async fn who_dies_between_call_and_answer_is_succeeded_by_who_asks_the_same_again() {
    let studio = Studio::open().await;
    studio.gateway().fail([(1, GatewayFault::AnswerLost)]);
    let lost = studio.subscribe("professional", Card::Good).await;
    assert!(
        matches!(lost, Err(BillingError::Unavailable { .. })),
        "{lost:?}"
    );
    // The answer is still being waited for, whatever is asked.
    for plan in ["professional", "basic"] {
        let early = studio.subscribe(plan, Card::Good).await;
        let waits = matches!(early, Err(BillingError::Unavailable { retry_after }) if !retry_after.is_zero());
        assert!(waits, "{plan}: {early:?}");
    }
    studio.test_env.advance_leases(TimeDelta::seconds(3));
    let joined = studio.subscribe("professional", Card::Good).await.unwrap();
    assert_eq!(joined.snapshot.status.as_str(), "active");
    assert_eq!(counts(&studio), (1, 1, 1));
}

#[tokio::test]
async fn a_key_that_replays_a_failure_for_ever_is_overcome() {
    let studio = Studio::open().await;
    studio.gateway().fail([(1, GatewayFault::Failed)]);
    let _ = studio.subscribe("professional", Card::Good).await;
    studio.test_env.advance_leases(TimeDelta::seconds(3));
    assert_eq!(recover_operations(&studio.billing).await.unwrap(), 1);
    let rows = studio.billing.store.rows(&studio.scope);
    let mut attempts: Vec<_> = rows
        .billing
        .operations
        .values()
        .map(|(o, _)| o.attempt)
        .collect();
    attempts.sort_unstable();
    assert_eq!(attempts, [1, 2]);
    assert_eq!(
        (counts(&studio), studio.plan().as_str()),
        ((1, 1, 1), "professional 1")
    );
}

#[tokio::test]
async fn two_at_once_subscribe_once() {
    let studio = Studio::open().await;
    let tries = (0..8).map(|_| studio.subscribe("professional", Card::Good));
    let answers = join_all(tries).await;
    let good = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(good, 1, "{answers:?}");
    assert_eq!(counts(&studio), (1, 1, 1));
}

#[tokio::test]
async fn of_a_hundred_changes_at_once_one_is_live() {
    let studio = Studio::open().await;
    studio.subscribe("basic", Card::Good).await.unwrap();
    studio.gateway().fail([(0, GatewayFault::AnswerLost)]);
    let (key, order) = (preview_key(), order("professional"));
    let change = || change_plan(&studio.billing, &studio.scope, &key, &order, None);
    let answers = join_all((0..100).map(|_| change())).await;
    assert!(answers.iter().all(Result::is_err));
    let rows = studio.billing.store.rows(&studio.scope);
    let live = rows
        .billing
        .operations
        .values()
        .filter(|(_, ended)| ended.is_none());
    assert_eq!(live.count(), 1);
    settle(&studio).await;
    assert_eq!(
        (
            studio.plan().as_str(),
            studio.gateway().books().charges.len()
        ),
        ("professional 1", 2)
    );
}

#[tokio::test]
async fn changes_and_ends_survive_a_lost_answer() {
    use GatewayFault as F;
    for fault in [
        F::Refused,
        F::AnswerLost,
        F::DoneAndFailed,
        F::Failed,
        F::RateLimited,
    ] {
        let studio = Studio::open().await;
        studio.subscribe("basic", Card::Good).await.unwrap();
        studio.test_env.advance(TimeDelta::days(10));
        studio.gateway().fail([(0, fault)]);
        let _ = change_plan(
            &studio.billing,
            &studio.scope,
            &preview_key(),
            &order("professional"),
            None,
        )
        .await;
        settle(&studio).await;
        assert_eq!(
            (studio.plan().as_str(), counts(&studio)),
            ("professional 1", (1, 1, 2)),
            "{fault:?}"
        );
        studio.gateway().fail([(0, fault)]);
        let _ = cancel(&studio.billing, &studio.scope, CancelWhen::AtPeriodEnd).await;
        settle(&studio).await;
        assert!(
            studio.outcome().subscriptions[0]
                .snapshot
                .cancel_at_period_end,
            "{fault:?}"
        );
        studio.gateway().fail([(0, fault)]);
        let _ = cancel(&studio.billing, &studio.scope, CancelWhen::Now).await;
        settle(&studio).await;
        assert_eq!(studio.plan(), "free 1", "{fault:?}");
    }
}

#[tokio::test]
async fn a_declined_card_leaves_nothing_and_the_next_one_subscribes() {
    for fault in [
        None,
        Some(GatewayFault::AnswerLost),
        Some(GatewayFault::DoneAndFailed),
    ] {
        let studio = Studio::open().await;
        studio.gateway().fail(fault.map(|fault| (1, fault)));
        let declined = studio.subscribe("professional", Card::Declined).await;
        if fault.is_none() {
            assert!(
                matches!(&declined, Err(BillingError::Declined(d)) if d.decline_code == "generic_decline"),
                "{declined:?}"
            );
        }
        settle(&studio).await;
        let rows = studio.billing.store.rows(&studio.scope);
        let declined = rows
            .billing
            .operations
            .values()
            .filter(|(_, o)| matches!(o, Some(OperationOutcome::Declined(_))));
        assert_eq!(declined.count(), 1, "{fault:?}");
        assert_eq!(
            (studio.plan().as_str(), counts(&studio)),
            ("free 1", (1, 0, 0)),
            "{fault:?}"
        );
        assert!(
            !studio
                .audited()
                .keys()
                .any(|(action, _)| action == "subscription.created")
        );
        studio.subscribe("professional", Card::Good).await.unwrap();
        assert_eq!(
            (studio.plan().as_str(), counts(&studio)),
            ("professional 1", (1, 1, 1)),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_payment_that_must_be_confirmed_grants_when_it_is() {
    let studio = Studio::open().await;
    let asked = studio.subscribe("professional", Card::Confirms).await;
    let Err(BillingError::ActionRequired(secret)) = &asked else {
        panic!("{asked:?}");
    };
    assert!(!format!("{secret:?} {asked:?}").contains("_secret"));
    studio.deliver_all().await;
    assert_eq!(studio.plan(), "free 1");
    let latest = studio.gateway().books().subscriptions[0]
        .latest_invoice
        .clone()
        .unwrap();
    studio.gateway().confirm(&latest);
    studio.deliver_all().await;
    assert_eq!(
        (studio.plan().as_str(), counts(&studio)),
        ("professional 1", (1, 1, 1))
    );
}

#[tokio::test]
async fn a_payment_that_nobody_confirms_can_be_called_off() {
    let studio = Studio::open().await;
    let _ = studio.subscribe("professional", Card::Confirms).await;
    studio.deliver_all().await;
    let (billing, scope) = (&studio.billing, &studio.scope);
    let woken = rawdrive_billing::resume(billing, scope).await;
    assert!(
        matches!(woken, Err(BillingError::FirstPaymentDue)),
        "{woken:?}"
    );
    let ended = cancel(billing, scope, CancelWhen::AtPeriodEnd).await;
    assert!(ended.unwrap().snapshot.status.is_final());
    for invoice in studio.gateway().books().invoices {
        studio.gateway().confirm(&invoice);
    }
    studio.deliver_all().await;
    assert_eq!((studio.plan().as_str(), counts(&studio).2), ("free 1", 0));
}

#[tokio::test]
async fn who_does_not_confirm_and_subscribes_again_has_one_subscription() {
    let studio = Studio::open().await;
    let _ = studio.subscribe("professional", Card::Confirms).await;
    studio.subscribe("professional", Card::Good).await.unwrap();
    studio.deliver_all().await;
    let first = studio.gateway().books().invoices;
    for invoice in first {
        studio.gateway().confirm(&invoice);
    }
    studio.deliver_all().await;
    assert_eq!(
        (studio.plan().as_str(), counts(&studio).1),
        ("professional 1", 1)
    );
}
