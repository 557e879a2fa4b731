//! A payment fails gently: full until the grace is over, to the second, and full again at once when it is paid.

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_billing::{
    BillingError, CancelWhen, Effective, GRACE_REACHED, Grant, Outcome, PaymentGateway as _, Sold,
    SubscriptionStatus, cancel, change_plan, preview, recover_operations, resume, review_due,
    subscribe,
};
use rawdrive_plans::{Access, Slug};
use rawdrive_tenancy_core::event::DeliverEvent;
use rawdrive_testkit::{BillingRows, Card, Renewals};

use crate::studio::{Studio, preview_key};

/// A renewal has failed just now.
async fn failed() -> (Studio, DateTime<Utc>) {
    let studio = Studio::open().await;
    let made = studio.subscribe("professional", Card::Good).await.unwrap();
    studio.gateway().set_renewals(Renewals::LeaveUnpaid);
    let customer = made.snapshot.customer.clone();
    studio.gateway().set_card(&customer, Card::Declined);
    let renewal = made.snapshot.period_end().unwrap();
    studio.pass(renewal - studio.billing.env.now());
    (studio, renewal)
}

fn move_to(studio: &Studio, at: DateTime<Utc>) {
    let by = at - studio.billing.env.now();
    studio.pass(by);
}

fn stages(studio: &Studio) -> Vec<String> {
    let jobs = &studio.billing.store.rows(&studio.scope).jobs;
    jobs.iter()
        .filter_map(|(job, _)| job.as_kind::<DeliverEvent>())
        .filter(|told| told.event.kind == GRACE_REACHED)
        .filter_map(|told| told.event.facts["stage"].as_str().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn one_second_before_its_end_it_is_full_and_one_second_after_it_is_read_only() {
    let (studio, renewal) = failed().await;
    studio.deliver_all().await;
    let until = renewal + TimeDelta::days(14);
    assert_eq!(studio.access(), Access::Grace { until });
    move_to(&studio, until - TimeDelta::seconds(1));
    assert_eq!(studio.access(), Access::Grace { until });
    assert_eq!(studio.plan(), "professional 1");
    // Nothing runs meanwhile: the passing of time alone ends it.
    move_to(&studio, until + TimeDelta::seconds(1));
    let Access::ReadOnly(read_only) = studio.access() else {
        panic!("{:?}", studio.access());
    };
    assert_eq!(
        (read_only.reason.as_str(), read_only.since),
        ("payment_failed", until)
    );
    assert_eq!(studio.plan(), "professional 1");
}

#[tokio::test]
async fn a_later_failure_does_not_extend_it_and_a_payment_ends_it_at_once() {
    let (studio, renewal) = failed().await;
    studio.deliver_all().await;
    let until = renewal + TimeDelta::days(14);
    studio.pass(TimeDelta::days(6));
    studio.deliver_all().await;
    let attempts: Vec<_> = studio
        .outcome()
        .invoices
        .iter()
        .map(|i| i.attempts.len())
        .collect();
    assert!(attempts.contains(&2), "{attempts:?}");
    assert_eq!(studio.access(), Access::Grace { until });
    move_to(&studio, until + TimeDelta::days(3));
    studio.deliver_all().await;
    assert!(matches!(studio.access(), Access::ReadOnly(r) if r.since == until));
    let books = studio.gateway().books();
    studio.gateway().set_card(&books.customers[0], Card::Good);
    let latest = books.subscriptions[0].latest_invoice.clone().unwrap();
    studio.gateway().collect(&latest);
    studio.deliver_all().await;
    assert_eq!(studio.access(), Access::Full);
    assert_eq!(studio.plan(), "professional 1");
}

#[tokio::test]
async fn where_the_first_failures_event_is_lost_the_grace_ends_when_it_would_have() {
    let (studio, renewal) = failed().await;
    let lost = |kind: &str| kind.starts_with("invoice.");
    for event in studio.gateway().history() {
        if !lost(&event.envelope.kind) {
            studio.deliver(&event).await;
        }
    }
    studio.work(1).await;
    let until = renewal + TimeDelta::days(14);
    // The subscription's own event leads to the invoice.
    assert_eq!(studio.access(), Access::Grace { until });

    // And where every event is lost for a week, reconciliation does.
    let (studio, renewal) = failed().await;
    studio.pass(TimeDelta::days(7));
    assert_eq!(studio.access(), Access::Full);
    let drift = studio.reconcile().await;
    assert!(
        drift.iter().any(|d| d.contains("differs in status")),
        "{drift:?}"
    );
    assert_eq!(
        studio.access(),
        Access::Grace {
            until: renewal + TimeDelta::days(14)
        }
    );
}

#[tokio::test]
async fn somebody_is_told_at_the_start_half_way_on_the_last_day_and_at_the_end_once_each() {
    let (studio, renewal) = failed().await;
    studio.deliver_all().await;
    for day in 0..20 {
        move_to(&studio, renewal + TimeDelta::days(day));
        studio.work(1).await;
        studio.work(1).await;
    }
    assert_eq!(stages(&studio), ["started", "half", "last_day", "over"]);
    // Who looks late is told what is, and not what was.
    let (studio, renewal) = failed().await;
    move_to(&studio, renewal + TimeDelta::days(8));
    studio.deliver_all().await;
    assert_eq!(stages(&studio), ["half"]);
}

#[tokio::test]
async fn the_plan_says_how_long_and_a_trial_without_a_card_ends_read_only() {
    let studio = Studio::open().await;
    let order = crate::studio::order("tried");
    let made = rawdrive_billing::subscribe(&studio.billing, &studio.scope, &order, None)
        .await
        .unwrap();
    assert_eq!(
        (made.snapshot.status.as_str(), studio.plan().as_str()),
        ("trialing", "tried 1")
    );
    let trial_end = made.snapshot.trial_end.unwrap();
    move_to(&studio, trial_end);
    studio.deliver_all().await;
    assert!(
        matches!(studio.access(), Access::ReadOnly(r) if r.reason == "trial_ended" && r.since == trial_end)
    );
    // A card that is refused leaves it as it is; one that is good wakes it.
    let customer = made.snapshot.customer.clone();
    studio.gateway().set_card(&customer, Card::Good);
    let woken = rawdrive_billing::resume(&studio.billing, &studio.scope)
        .await
        .unwrap();
    assert_eq!(woken.snapshot.status.as_str(), "active");
    assert_eq!(studio.access(), Access::Full);
    // Three days of grace, says the plan.
    studio.gateway().set_card(&customer, Card::Declined);
    let renewal = woken.snapshot.period_end().unwrap();
    move_to(&studio, renewal);
    studio.deliver_all().await;
    assert_eq!(
        studio.access(),
        Access::Grace {
            until: renewal + TimeDelta::days(3)
        }
    );
}

/// A workspace whose trial has ended without a card.
async fn over() -> Studio {
    let studio = Studio::open().await;
    let order = crate::studio::order("tried");
    let made = subscribe(&studio.billing, &studio.scope, &order, None).await;
    move_to(&studio, made.unwrap().snapshot.trial_end.unwrap());
    studio.deliver_all().await;
    studio
}

fn is_closed(studio: &Studio) -> bool {
    matches!(studio.access(), Access::ReadOnly(r) if r.reason == "trial_ended")
}

#[tokio::test]
async fn after_a_trial_without_a_card_who_subscribes_with_one_goes_on_with_one_subscription() {
    let studio = over().await;
    let (billing, scope) = (&studio.billing, &studio.scope);
    let order = crate::studio::order("tried");
    // Nothing is there to pay with: a change and a waking say what to do.
    let (key, other) = (preview_key(), crate::studio::order("professional"));
    let changed = change_plan(billing, scope, &key, &other, None).await;
    assert!(
        matches!(changed, Err(BillingError::TrialEnded)),
        "{changed:?}"
    );
    let woken = resume(billing, scope).await;
    assert!(matches!(woken, Err(BillingError::TrialEnded)), "{woken:?}");
    let without = subscribe(billing, scope, &order, None).await;
    assert!(
        matches!(without, Err(BillingError::NoPaymentMethod)),
        "{without:?}"
    );
    // There is no second trial, says the preview too.
    let shown = preview(billing, scope, &preview_key(), &order)
        .await
        .unwrap();
    assert_eq!(
        (shown.effective, shown.charged_now.minor),
        (Effective::Now, 500)
    );
    // A card that is refused leaves everything as it is.
    let declined = studio.subscribe("tried", Card::Declined).await;
    assert!(
        matches!(declined, Err(BillingError::Declined(_))),
        "{declined:?}"
    );
    studio.deliver_all().await;
    assert!(is_closed(&studio));
    let made = studio.subscribe("tried", Card::Good).await.unwrap();
    assert_eq!(
        (made.snapshot.status.as_str(), made.snapshot.trial_end),
        ("active", None)
    );
    assert_eq!(studio.access(), Access::Full);
    // The first ends, once, whoever else may be at it.
    studio.deliver_all().await;
    assert_eq!(recover_operations(billing).await.unwrap(), 1);
    studio.deliver_all().await;
    assert_eq!(recover_operations(billing).await.unwrap(), 0);
    let books = studio.gateway().books().subscriptions;
    let lasting: Vec<_> = books.iter().filter(|s| !s.status.is_final()).collect();
    assert_eq!(lasting.len(), 1, "{books:?}");
    assert_eq!(lasting[0].id, made.snapshot.id);
    let ended = studio.audited().into_iter();
    let ended: Vec<_> = ended
        .filter(|((action, _), _)| action == "subscription.ended")
        .map(|(_, times)| times)
        .collect();
    assert_eq!(ended, [1]);
    // So that the end of the second is the end.
    cancel(billing, scope, CancelWhen::Now).await.unwrap();
    assert_eq!(
        (studio.plan().as_str(), studio.access()),
        ("free 1", Access::Full)
    );
}

#[tokio::test]
async fn after_a_trial_nothing_else_is_paid_beside_what_is_resumed() {
    let studio = over().await;
    let (billing, scope) = (&studio.billing, &studio.scope);
    // A hosted page that is open, and a subscription whose payment waits to be confirmed.
    let address = || "https://example.com".to_owned();
    let order = crate::studio::order("tried");
    let page = rawdrive_billing::checkout(billing, scope, &order, address(), address()).await;
    page.unwrap();
    let rows = studio.billing.store.rows(scope);
    let page = rows.billing.account.checkout.clone().unwrap();
    let waits = studio.subscribe("tried", Card::Confirms).await;
    assert!(matches!(waits, Err(BillingError::ActionRequired(_))));
    let customer = studio.gateway().books().subscriptions[0].customer.clone();
    studio.gateway().set_card(&customer, Card::Good);
    resume(billing, scope).await.unwrap();
    studio.gateway().complete_checkout(&page);
    for invoice in studio.gateway().books().invoices {
        studio.gateway().confirm(&invoice);
    }
    studio.deliver_all().await;
    let books = studio.gateway().books();
    let lasting = books.subscriptions.iter().filter(|s| !s.status.is_final());
    assert_eq!((lasting.count(), books.charges.len()), (1, 1));
    assert_eq!(studio.access(), Access::Full);
}

#[tokio::test]
async fn a_waking_that_waits_is_not_paid_for_once_somebody_subscribes() {
    let studio = over().await;
    let (billing, scope) = (&studio.billing, &studio.scope);
    let customer = studio.gateway().books().subscriptions[0].customer.clone();
    studio.gateway().set_card(&customer, Card::Confirms);
    let waits = resume(billing, scope).await;
    assert!(
        matches!(waits, Err(BillingError::ActionRequired(_))),
        "{waits:?}"
    );
    studio.subscribe("tried", Card::Good).await.unwrap();
    for invoice in studio.gateway().books().invoices {
        studio.gateway().confirm(&invoice);
    }
    studio.deliver_all().await;
    recover_operations(billing).await.unwrap();
    studio.deliver_all().await;
    let books = studio.gateway().books();
    let lasting = books.subscriptions.iter().filter(|s| !s.status.is_final());
    assert_eq!((lasting.count(), books.charges.len()), (1, 1));
}

#[tokio::test]
async fn what_was_paid_for_lasts_until_its_end_whatever_was_known_of_it() {
    // Confirmed, and nobody has told us yet.
    let studio = Studio::open().await;
    let (billing, scope) = (&studio.billing, &studio.scope);
    let _ = studio.subscribe("tried", Card::Confirms).await;
    let _ = studio.subscribe("professional", Card::Confirms).await;
    studio.deliver_all().await;
    for invoice in studio.gateway().books().invoices {
        studio.gateway().confirm(&invoice);
    }
    let ending = cancel(billing, scope, CancelWhen::AtPeriodEnd)
        .await
        .unwrap();
    assert!(ending.snapshot.cancel_at_period_end && !ending.snapshot.status.is_final());

    // Paused at the provider by hand, amid a period that was paid for.
    let studio = Studio::open().await;
    let (billing, scope) = (&studio.billing, &studio.scope);
    let made = studio.subscribe("professional", Card::Good).await.unwrap();
    let at = made.snapshot.created;
    studio.gateway().edit_subscription(&made.snapshot.id, |s| {
        s.status = SubscriptionStatus::Paused;
        s.trial_end = Some(at);
    });
    studio.deliver_all().await;
    let another = studio.subscribe("professional", Card::Good).await;
    assert!(
        matches!(another, Err(BillingError::AlreadySubscribed)),
        "{another:?}"
    );
    let ending = cancel(billing, scope, CancelWhen::AtPeriodEnd)
        .await
        .unwrap();
    assert!(ending.snapshot.cancel_at_period_end && !ending.snapshot.status.is_final());
}

#[tokio::test]
async fn a_trial_that_is_over_is_retired_through_lost_answers_and_not_once_it_is_paid_for() {
    for lost in 0..6 {
        let studio = over().await;
        studio.subscribe("tried", Card::Good).await.unwrap();
        let first = studio.gateway().books().subscriptions;
        let first = first
            .iter()
            .find(|s| s.trial_end.is_some())
            .unwrap()
            .clone();
        if lost == 0 {
            // Somebody wakes it at the provider before the worker comes.
            let key = "by-hand".parse().unwrap();
            let woken = studio
                .gateway()
                .resume(&first.id, &first.metadata, &key)
                .await;
            assert!(matches!(woken, Ok(Outcome::Done(_))), "{woken:?}");
        } else {
            studio
                .gateway()
                .fail([(lost - 1, rawdrive_testkit::GatewayFault::AnswerLost)]);
        }
        for _ in 0..4 {
            recover_operations(&studio.billing).await.unwrap();
            studio.test_env.advance_leases(TimeDelta::minutes(1));
            studio.work(1).await;
        }
        let now = studio.gateway().books().subscriptions;
        let now = now.into_iter().find(|s| s.id == first.id).unwrap();
        let expected = if lost == 0 { "active" } else { "canceled" };
        assert_eq!(now.status.as_str(), expected, "answer {lost} was lost");
    }
}

#[tokio::test]
async fn after_a_trial_without_a_card_an_end_or_a_free_plan_comes_at_once() {
    let studio = over().await;
    let made = cancel(&studio.billing, &studio.scope, CancelWhen::AtPeriodEnd).await;
    assert_eq!(made.unwrap().snapshot.status.as_str(), "canceled");
    assert_eq!(
        (studio.plan().as_str(), studio.access()),
        ("free 1", Access::Full)
    );
    let studio = over().await;
    let free = crate::studio::order("free");
    let (billing, scope, key) = (&studio.billing, &studio.scope, preview_key());
    let shown = preview(billing, scope, &key, &free).await.unwrap();
    assert_eq!(shown.effective, Effective::Now);
    let token = Some(shown.commit_token.as_str());
    let made = change_plan(billing, scope, &key, &free, token).await;
    assert_eq!(made.unwrap().snapshot.status.as_str(), "canceled");
    assert_eq!(
        (studio.plan().as_str(), studio.access()),
        ("free 1", Access::Full)
    );
}

#[tokio::test]
async fn a_subscription_that_nobody_pays_is_canceled_and_leaves_the_free_plan_in_full() {
    let (studio, _) = failed().await;
    studio.gateway().set_renewals(Renewals::Cancel);
    studio.pass(TimeDelta::days(30));
    studio.deliver_all().await;
    assert_eq!(
        (studio.plan().as_str(), studio.access()),
        ("free 1", Access::Full)
    );
}

#[tokio::test]
async fn a_workspace_that_cannot_be_reviewed_keeps_no_other_from_it() {
    let studio = Studio::open().await;
    let store = &studio.billing.store;
    let free = studio.billing.catalogue.newest(&Slug::free()).unwrap();
    let now = studio.billing.env.now();
    let broken = store.workspace(&free).await.unwrap();
    for (scope, version) in [(broken, 99), (studio.scope, 1)] {
        let grant = Grant {
            sold: Sold {
                plan: "professional".parse().unwrap(),
                version,
            },
            until: None,
        };
        let edit = |rows: &mut BillingRows| {
            rows.account.grant = Some(grant);
            rows.account.review_at = Some(now);
        };
        store.edit_billing(&scope, edit).await;
    }
    assert_eq!(review_due(&studio.billing).await.unwrap(), 1);
    assert_eq!(studio.plan(), "professional 1");
    assert_eq!(store.rows(&broken).entitlements.plan.slug, Slug::free());
}
