//! Buying, changing, ending; previews that are kept; grants.

use chrono::TimeDelta;
use proptest::prelude::*;
use rawdrive_billing::{
    BillingError, CancelWhen, Effective, ManualGateway, NewGrant, Order, Subscription, cancel,
    change_plan, checkout, grant_plan, portal, preview, resume,
};
use rawdrive_plans::{GrantError, Interval, Metric};
use rawdrive_tenancy_core::Commit as _;
use rawdrive_testkit::Card;
use rawdrive_usage::{Charge, QuotaKey, add};

use crate::studio::{PLANS, Studio, order, preview_key};

async fn use_up(studio: &Studio, metric: Metric, amount: u64) {
    let mut tx = studio
        .billing
        .store
        .begin_despite_read_only(&studio.scope)
        .await;
    let charge = Charge {
        key: QuotaKey::level(metric),
        amount,
    };
    add(&mut tx, &studio.billing.env, charge, "x".to_owned())
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

async fn change(
    studio: &Studio,
    plan: &str,
    token: Option<&str>,
) -> Result<Subscription, BillingError> {
    change_plan(
        &studio.billing,
        &studio.scope,
        &preview_key(),
        &order(plan),
        token,
    )
    .await
}

#[tokio::test]
async fn a_price_in_another_currency_is_refused_before_anybody_is_called() {
    let studio = Studio::open().await;
    let euro = rawdrive_billing::Currency::parse("eur").unwrap();
    studio
        .billing
        .store
        .edit_billing(&studio.scope, |rows| rows.currency = euro)
        .await;
    let asked = studio.gateway().asked();
    let refused = studio.subscribe("professional", Card::Good).await;
    assert!(
        matches!(refused, Err(BillingError::CurrencyMismatch { workspace }) if workspace == euro),
        "{refused:?}"
    );
    assert_eq!(studio.gateway().asked(), asked);
    studio.subscribe("basic", Card::Good).await.unwrap();
    let refused = change(&studio, "professional", None).await;
    assert!(
        matches!(refused, Err(BillingError::CurrencyMismatch { .. })),
        "{refused:?}"
    );
    assert_eq!(
        studio.outcome().subscriptions[0].snapshot.items[0]
            .price
            .currency,
        euro
    );
}

#[tokio::test]
async fn what_is_not_sold_cannot_be_bought() {
    let studio = Studio::open().await;
    let yearly = Order {
        interval: Interval::Year,
        ..order("basic")
    };
    let method = || Some(Card::Good.method().parse().unwrap());
    let subscribe = async |order: &Order, method| {
        rawdrive_billing::subscribe(&studio.billing, &studio.scope, order, method)
            .await
            .unwrap_err()
    };
    assert!(matches!(
        subscribe(&yearly, method()).await,
        BillingError::NotForSale { .. }
    ));
    assert!(matches!(
        subscribe(&order("free"), method()).await,
        BillingError::NotForSale { .. }
    ));
    assert!(matches!(
        subscribe(&order("golden"), method()).await,
        BillingError::UnknownPlan { .. }
    ));
    assert!(matches!(
        subscribe(&order("basic"), None).await,
        BillingError::NoPaymentMethod
    ));
    assert!(matches!(
        change(&studio, "basic", None).await,
        Err(BillingError::NoSubscription)
    ));
    assert_eq!(studio.gateway().calls(), 0);
}

#[tokio::test]
async fn more_counts_at_once_and_less_when_the_period_ends() {
    let studio = Studio::open().await;
    let made = studio.subscribe("basic", Card::Good).await.unwrap();
    studio.test_env.advance(TimeDelta::days(15));
    change(&studio, "professional", None).await.unwrap();
    assert_eq!(studio.plan(), "professional 1");
    let lower = change(&studio, "basic", None).await.unwrap();
    assert_eq!(
        (studio.plan().as_str(), lower.snapshot.scheduled.is_some()),
        ("professional 1", true)
    );
    // Asking for what is had takes back what was to follow.
    let kept = change(&studio, "professional", None).await.unwrap();
    assert_eq!(kept.snapshot.scheduled, None);
    change(&studio, "basic", None).await.unwrap();
    studio.pass(made.snapshot.period_end().unwrap() - studio.billing.env.now());
    studio.deliver_all().await;
    assert_eq!(studio.plan(), "basic 1");
    // A plan without a price is the end of this one.
    let ending = change(&studio, "free", None).await.unwrap();
    assert!(ending.snapshot.cancel_at_period_end);
    assert_eq!(studio.plan(), "basic 1");
    assert!(
        !resume(&studio.billing, &studio.scope)
            .await
            .unwrap()
            .snapshot
            .cancel_at_period_end
    );
    change(&studio, "free", None).await.unwrap();
    studio.pass(TimeDelta::days(32));
    studio.deliver_all().await;
    assert_eq!(studio.plan(), "free 1");
    let changes = studio
        .audited()
        .into_iter()
        .find(|((action, _), _)| action == "plan.changed");
    assert_eq!(
        changes.map(|(_, count)| count),
        Some(4),
        "free, basic, professional, basic, free"
    );
}

#[tokio::test]
async fn a_declined_upgrade_leaves_everything_as_it_was() {
    let studio = Studio::open().await;
    let made = studio.subscribe("basic", Card::Good).await.unwrap();
    studio
        .gateway()
        .set_card(&made.snapshot.customer, Card::Declined);
    let declined = change(&studio, "professional", None).await;
    assert!(
        matches!(declined, Err(BillingError::Declined(_))),
        "{declined:?}"
    );
    studio.deliver_all().await;
    assert_eq!(
        (
            studio.plan().as_str(),
            studio.gateway().books().charges.len()
        ),
        ("basic 1", 1)
    );
}

#[tokio::test]
async fn a_preview_names_what_breaks_and_holds_the_change_to_it() {
    let studio = Studio::open().await;
    studio.subscribe("professional", Card::Good).await.unwrap();
    use_up(&studio, Metric::new("storage_bytes"), 60 << 30).await;
    use_up(&studio, Metric::team_members(), 3).await;
    let members: Vec<rawdrive_tenancy_core::id::UserId> =
        (0..3).map(|_| studio.billing.env.id()).collect();
    let third = members[2];
    studio
        .billing
        .store
        .edit_billing(&studio.scope, |rows| rows.members = members)
        .await;
    let shown = preview(
        &studio.billing,
        &studio.scope,
        &preview_key(),
        &order("basic"),
    )
    .await
    .unwrap();
    assert_eq!(
        (
            shown.effective,
            shown.charged_now.minor,
            shown.charged_next.minor
        ),
        (Effective::AtPeriodEnd, 0, 1_000)
    );
    let broken: Vec<_> = shown
        .broken
        .iter()
        .map(|b| (b.metric.to_string(), b.over(), b.members.clone()))
        .collect();
    assert_eq!(
        broken,
        [
            ("storage_bytes".to_owned(), 10 << 30, vec![]),
            ("team_members".to_owned(), 1, vec![third]),
        ]
    );
    // Another byte, and the preview is not what is.
    use_up(&studio, Metric::new("storage_bytes"), 1).await;
    let stale = change(&studio, "basic", Some(&shown.commit_token)).await;
    assert!(
        matches!(stale, Err(BillingError::PlanChangeStale)),
        "{stale:?}"
    );
    let shown = preview(
        &studio.billing,
        &studio.scope,
        &preview_key(),
        &order("basic"),
    )
    .await
    .unwrap();
    let wrong = format!("{}0", &shown.commit_token[..shown.commit_token.len() - 1]);
    for forged in ["", "1", "0.00", wrong.as_str()] {
        if forged != shown.commit_token {
            let refused = change(&studio, "basic", Some(forged)).await;
            assert!(
                matches!(refused, Err(BillingError::PlanChangeStale)),
                "{forged}: {refused:?}"
            );
        }
    }
    let other = change(&studio, "tried", Some(&shown.commit_token)).await;
    assert!(
        matches!(other, Err(BillingError::PlanChangeStale)),
        "{other:?}"
    );
    change(&studio, "basic", Some(&shown.commit_token))
        .await
        .unwrap();
    // Creation stops when it takes effect; what is there stays.
    studio.pass(TimeDelta::days(32));
    studio.deliver_all().await;
    let mut tx = studio
        .billing
        .store
        .begin_despite_read_only(&studio.scope)
        .await;
    let charge = Charge {
        key: QuotaKey::level(Metric::new("storage_bytes")),
        amount: 1,
    };
    let refused = add(&mut tx, &studio.billing.env, charge, "x".to_owned()).await;
    assert!(
        matches!(refused, Err(rawdrive_usage::TakeError::Exceeded(_))),
        "{refused:?}"
    );
    assert_eq!(studio.access(), rawdrive_plans::Access::Full);
}

#[tokio::test]
async fn a_trial_costs_nothing_until_it_ends_as_its_preview_says() {
    let studio = Studio::open().await;
    let shown = preview(
        &studio.billing,
        &studio.scope,
        &preview_key(),
        &order("tried"),
    )
    .await
    .unwrap();
    let made = studio.subscribe("tried", Card::Good).await.unwrap();
    let trial_end = made.snapshot.trial_end.unwrap();
    assert_eq!(shown.charged_now.minor, 0);
    assert!(shown.charged_next.minor > 0, "{shown:?}");
    assert_eq!(shown.next_at, Some(trial_end));
}

#[tokio::test]
async fn a_token_goes_stale_with_time_and_is_no_other_workspaces() {
    let studio = Studio::open().await;
    studio.subscribe("basic", Card::Good).await.unwrap();
    let shown = preview(
        &studio.billing,
        &studio.scope,
        &preview_key(),
        &order("professional"),
    )
    .await
    .unwrap();
    studio.test_env.advance(TimeDelta::minutes(31));
    let stale = change(&studio, "professional", Some(&shown.commit_token)).await;
    assert!(
        matches!(stale, Err(BillingError::PlanChangeStale)),
        "{stale:?}"
    );
    let shown = preview(
        &studio.billing,
        &studio.scope,
        &preview_key(),
        &order("professional"),
    )
    .await
    .unwrap();
    let foreign = rawdrive_billing::PreviewKey::new(&[8; 32]);
    let refused = change_plan(
        &studio.billing,
        &studio.scope,
        &foreign,
        &order("professional"),
        Some(&shown.commit_token),
    )
    .await;
    assert!(
        matches!(refused, Err(BillingError::PlanChangeStale)),
        "{refused:?}"
    );
    assert_eq!(studio.plan(), "basic 1");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_previews_amounts_are_what_is_charged(
        seconds in 0_i64..27 * 86_400, delay in 0_i64..1_700,
        from in 0_usize..2, to in 0_usize..3,
    ) {
        let orders = [order("basic"), order("professional"), Order { interval: Interval::Year, ..order("professional") }];
        prop_assume!(from != to);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let studio = Studio::open().await;
            let method = Card::Good.method().parse().unwrap();
            rawdrive_billing::subscribe(&studio.billing, &studio.scope, &orders[from], Some(method)).await.unwrap();
            studio.test_env.advance(TimeDelta::seconds(seconds));
            let key = preview_key();
            let shown = preview(&studio.billing, &studio.scope, &key, &orders[to]).await.unwrap();
            studio.test_env.advance(TimeDelta::seconds(delay));
            let before: std::collections::BTreeSet<_> = studio.gateway().books().invoices.into_iter().collect();
            change_plan(&studio.billing, &studio.scope, &key, &orders[to], Some(&shown.commit_token)).await.unwrap();
            studio.deliver_all().await;
            let now: i64 = studio.outcome().invoices.iter().filter(|i| !before.contains(&i.id)).map(|i| i.total).sum();
            assert_eq!(now, shown.charged_now.minor);
            studio.pass(shown.next_at.unwrap() - studio.billing.env.now());
            studio.deliver_all().await;
            let latest = studio.gateway().books().subscriptions[0].latest_invoice.clone().unwrap();
            let next = studio.outcome().invoices.into_iter().find(|i| i.id == latest).unwrap();
            assert_eq!((next.total, next.created), (shown.charged_next.minor, shown.next_at.unwrap()));
        });
    }
}

#[tokio::test]
async fn a_second_version_of_a_plan_moves_nobody() {
    let studio = Studio::open().await;
    studio.subscribe("basic", Card::Good).await.unwrap();
    let second = format!(
        "{PLANS}\n[[plan]]\nslug = \"basic\"\nversion = 2\nname = \"Basic\"\nlimits = {{ storage_bytes = 1073741824 }}\nprices = [{{ currency = \"usd\", interval = \"month\", amount = 1000 }}]\n"
    );
    let (test_env, gateway) = (studio.test_env.clone(), studio.gateway().clone());
    let catalogue = rawdrive_plans::Catalogue::parse(&second).unwrap();
    studio.billing.store.publish(&catalogue).await;
    let studio = Studio {
        billing: rawdrive_billing::Billing {
            catalogue,
            store: studio.billing.store.clone(),
            gateway,
            env: test_env.env().clone(),
            policy: studio.billing.policy,
        },
        test_env,
        scope: studio.scope,
    };
    studio.pass(TimeDelta::days(32));
    studio.deliver_all().await;
    studio.reconcile().await;
    rawdrive_billing::review(&studio.billing, &studio.scope)
        .await
        .unwrap();
    assert_eq!(studio.plan(), "basic 1");
}

#[tokio::test]
async fn a_grant_stands_above_the_subscription_and_ends_by_itself() {
    let studio = Studio::open().await;
    studio.subscribe("basic", Card::Good).await.unwrap();
    let now = studio.billing.env.now();
    let grant = async |plan: &str, until| {
        let new = NewGrant {
            plan: plan.parse().unwrap(),
            until,
            reason: "a favour".to_owned(),
        };
        let mut tx = studio
            .billing
            .store
            .begin_despite_read_only(&studio.scope)
            .await;
        grant_plan(
            &mut tx,
            &studio.billing.catalogue,
            studio.billing.policy,
            &studio.billing.env,
            &new,
        )
        .await?;
        tx.commit().await?;
        Ok::<_, GrantError>(())
    };
    grant("professional", Some(now + TimeDelta::hours(2)))
        .await
        .unwrap();
    assert_eq!(studio.plan(), "professional 1");
    studio
        .test_env
        .advance(TimeDelta::hours(2) - TimeDelta::seconds(1));
    assert_eq!(studio.plan(), "professional 1");
    // Nothing runs, and it is over all the same.
    studio.test_env.advance(TimeDelta::seconds(1));
    assert_eq!(studio.plan(), "basic 1");
    studio.work(1).await;
    let entitlements = studio
        .billing
        .store
        .rows(&studio.scope)
        .entitlements
        .clone();
    assert_eq!(
        (entitlements.plan.slug.as_str(), entitlements.ends),
        ("basic", None)
    );
    grant("professional", None).await.unwrap();
    studio.deliver_all().await;
    assert_eq!(studio.plan(), "professional 1");
    // What everybody has anyway cannot end.
    let ends = grant("free", Some(now + TimeDelta::days(9))).await;
    assert!(matches!(ends, Err(GrantError::FreeHasNoEnd)), "{ends:?}");
    assert_eq!(studio.plan(), "professional 1");
    grant("free", None).await.unwrap();
    assert_eq!(studio.plan(), "basic 1");
}

#[tokio::test]
async fn a_checkout_that_was_paid_subscribes_and_one_that_was_left_is_closed() {
    let studio = Studio::open().await;
    let open = async || {
        checkout(
            &studio.billing,
            &studio.scope,
            &order("basic"),
            "https://a/ok".to_owned(),
            "https://a/no".to_owned(),
        )
        .await
    };
    let first = open().await.unwrap();
    let second = open().await.unwrap();
    let id = |url: &str| url.rsplit('/').next().unwrap().parse().unwrap();
    // Who pays in the first after all finds it closed.
    studio.gateway().complete_checkout(&id(&first));
    assert_eq!(studio.gateway().books().subscriptions.len(), 0);
    studio.gateway().complete_checkout(&id(&second));
    let late = studio.subscribe("professional", Card::Good).await;
    assert!(
        matches!(late, Err(BillingError::AlreadySubscribed)),
        "{late:?}"
    );
    studio.deliver_all().await;
    assert_eq!(
        (
            studio.plan().as_str(),
            studio.gateway().books().subscriptions.len()
        ),
        ("basic 1", 1)
    );
    assert!(
        portal(&studio.billing, &studio.scope, "https://a")
            .await
            .unwrap()
            .starts_with("https://portal")
    );
    cancel(&studio.billing, &studio.scope, CancelWhen::Now)
        .await
        .unwrap();
    assert_eq!(studio.plan(), "free 1");
}

#[tokio::test]
async fn without_a_provider_nothing_is_sold() {
    let studio = Studio::open().await;
    let billing = rawdrive_billing::Billing {
        gateway: ManualGateway,
        store: studio.billing.store.clone(),
        env: studio.billing.env.clone(),
        catalogue: studio.billing.catalogue.clone(),
        policy: studio.billing.policy,
    };
    let method = Card::Good.method().parse().unwrap();
    let refused =
        rawdrive_billing::subscribe(&billing, &studio.scope, &order("basic"), Some(method)).await;
    assert!(
        matches!(refused, Err(BillingError::NotConfigured)),
        "{refused:?}"
    );
    let rows = studio.billing.store.rows(&studio.scope);
    assert!(
        rows.billing
            .operations
            .values()
            .all(|(_, ended)| ended.is_some())
    );
}
