//! A payment fails gently: full until the grace is over, to the second, and full again at once when it is paid.

use chrono::{DateTime, TimeDelta, Utc};
use rawdrive_billing::{GRACE_REACHED, Grant, Sold, review_due};
use rawdrive_plans::{Access, Slug};
use rawdrive_tenancy_core::job::Work;
use rawdrive_testkit::{BillingRows, Card, Renewals};

use crate::studio::Studio;

/// A renewal has failed just now.
async fn failed() -> (Studio, DateTime<Utc>) {
    let studio = Studio::open().await;
    let made = studio.subscribe("professional", Card::Good).await.unwrap();
    studio.gateway().set_renewals(Renewals::LeaveUnpaid);
    let customer = made.snapshot.customer.clone();
    studio.gateway().set_card(&customer, Card::Declined);
    let renewal = made.snapshot.period_end().unwrap();
    studio.pass(renewal - studio.billing.ambient.now());
    (studio, renewal)
}

fn move_to(studio: &Studio, at: DateTime<Utc>) {
    let by = at - studio.billing.ambient.now();
    studio.pass(by);
}

fn stages(studio: &Studio) -> Vec<String> {
    let jobs = &studio.billing.store.rows(&studio.scope).jobs;
    let stages = jobs.iter().filter_map(|(work, _)| match work {
        Work::DeliverEvent { event } if event.kind == GRACE_REACHED => {
            event.facts["stage"].as_str().map(str::to_owned)
        }
        _ => None,
    });
    stages.collect()
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
    let now = studio.billing.ambient.now();
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
    assert_eq!(store.rows(&broken).standing.plan.slug, Slug::free());
}
