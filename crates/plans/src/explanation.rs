//! Why a value is what it is, and the cheapest plan that would allow what it does not.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::{
    Allowance, Decision, Entitlement, Entitlements, Feature, Interval, Metric, Plan, Price, Slug,
    decide,
};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// A feature, to be on.
    Feature(&'a Feature),
    /// Units beside those that are used and reserved.
    Units {
        /// What is counted.
        metric: &'a Metric,
        /// Used and reserved together.
        current: u64,
        /// How many more.
        requested: u64,
    },
}

/// A plan, and what it costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The newest version of the plan.
    pub plan: Arc<Plan>,
    /// By the month where the plan is sold so, otherwise by the year.
    pub price: Price,
}

/// Everything that set a value, and what could change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation<T> {
    /// The plan in force.
    pub plan: Slug,
    /// Its version.
    pub plan_version: u32,
    /// The lowest first; the last one wins. Never empty.
    pub layers: Vec<Entitlement<T>>,
    /// The cheapest plan under which what was asked for would be allowed.
    pub cheapest_plan: Option<Offer>,
}

impl<T> Explanation<T> {
    fn of(
        entitlements: &Entitlements,
        layers: Vec<Entitlement<T>>,
        wanted: Wanted<'_>,
        now: DateTime<Utc>,
    ) -> Self {
        let plan = entitlements.plan_at(now);
        Self {
            plan: plan.slug.clone(),
            plan_version: plan.version,
            layers,
            cheapest_plan: entitlements.cheapest_plan(wanted, now),
        }
    }
}

impl Entitlements {
    /// Why a metric's limit is what it is, and what would admit `requested` units beside `current` (used and reserved).
    #[must_use]
    pub fn explain_limit(
        &self,
        metric: &Metric,
        current: u64,
        requested: u64,
        now: DateTime<Utc>,
    ) -> Explanation<Allowance> {
        let wanted = Wanted::Units {
            metric,
            current,
            requested,
        };
        Explanation::of(self, self.limit_layers(metric, now), wanted, now)
    }

    /// Why a feature is on or off, and what would turn it on.
    #[must_use]
    pub fn explain_feature(&self, feature: &Feature, now: DateTime<Utc>) -> Explanation<bool> {
        let layers = self.feature_layers(feature, now);
        Explanation::of(self, layers, Wanted::Feature(feature), now)
    }

    /// The cheapest plan, among those sold in the workspace's currency, under which what is wanted would be allowed at
    /// `now`; of two equal ones the first of the catalogue. Overrides stay above every plan, so that there is none where an
    /// override is what refuses. Prices by the year are compared by their month.
    #[must_use]
    pub fn cheapest_plan(&self, wanted: Wanted<'_>, now: DateTime<Utc>) -> Option<Offer> {
        let offers = self.plans_today.iter().filter_map(|plan| {
            let price = [Interval::Month, Interval::Year]
                .into_iter()
                .find_map(|interval| plan.price(&self.currency, interval))?;
            self.allows_on(plan, wanted, now).then(|| Offer {
                plan: plan.clone(),
                price: price.clone(),
            })
        });
        offers.min_by_key(|offer| {
            let charges_a_year = 12 / offer.price.interval.months();
            u128::from(offer.price.amount) * u128::from(charges_a_year)
        })
    }

    /// Whether something would be allowed if this were the plan in force.
    fn allows_on(&self, plan: &Arc<Plan>, wanted: Wanted<'_>, now: DateTime<Utc>) -> bool {
        let moved = Self {
            plan: plan.clone(),
            ends: None,
            ..self.clone()
        };
        match wanted {
            Wanted::Feature(feature) => moved.feature(feature, now).value,
            Wanted::Units {
                metric,
                current,
                requested,
            } => decide(current, requested, moved.allowance(metric, now).value) == Decision::Allow,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Catalogue, Limit, Origin, Override, PlanEnd, ReadOnly, Setting};
    use chrono::TimeDelta;
    use proptest::prelude::*;
    use rawdrive_tenancy_core::id::{OverrideId, TypedId as _, WorkspaceId};

    const CALLS: Metric = Metric::new("calls");
    const EXPORTS: Feature = Feature::new("exports");

    const PLANS: &str = r#"
        [[metric]]
        name = "calls"
        kind = "flow"
        [[plan]]
        slug = "free"
        version = 1
        name = "Free"
        limits = { calls = 10 }
        [[plan]]
        slug = "small"
        version = 1
        name = "Small"
        limits = { calls = { max = 100, tolerance_percent = 10 } }
        prices = [{ currency = "usd", interval = "month", amount = 900 }, { currency = "usd", interval = "year", amount = 9000 }]
        [[plan]]
        slug = "yearly"
        version = 1
        name = "Yearly"
        limits = { calls = 1000 }
        features = { exports = true }
        prices = [{ currency = "usd", interval = "year", amount = 12000 }]
        [[plan]]
        slug = "large"
        version = 1
        name = "Large"
        limits = { calls = 10 }
        features = { exports = true }
        prices = [{ currency = "usd", interval = "month", amount = 1 }]
        [[plan]]
        slug = "large"
        version = 2
        name = "Large"
        limits = { calls = { max = 1000, soft = true } }
        features = { exports = true }
        prices = [{ currency = "usd", interval = "month", amount = 2900 }, { currency = "eur", interval = "month", amount = 2500 }]
        [[plan]]
        slug = "partner"
        version = 1
        name = "Partner"
        limits = { calls = "unlimited" }
    "#;

    fn now() -> DateTime<Utc> {
        "2026-09-21T12:00:00Z".parse().unwrap()
    }

    fn uuid<I: rawdrive_tenancy_core::id::TypedId>() -> I {
        rawdrive_tenancy_core::Env::system().id()
    }

    fn on(slug: &str) -> Entitlements {
        let catalogue = Catalogue::parse(PLANS).unwrap();
        Entitlements {
            workspace: uuid::<WorkspaceId>(),
            plan: catalogue.newest(&slug.parse().unwrap()).unwrap(),
            overrides: Vec::new(),
            billing_anchor: None,
            grace_until: None,
            read_only: None,
            ends: None,
            metrics: catalogue.declared().clone(),
            currency: "usd".to_owned(),
            plans_today: catalogue.current().cloned().collect(),
        }
    }

    fn set(setting: Setting, until: Option<DateTime<Utc>>) -> Override {
        Override {
            id: OverrideId::from_uuid(uuid::<OverrideId>().uuid()),
            setting,
            reason: "agreed".to_owned(),
            until,
        }
    }

    fn cheapest(
        entitlements: &Entitlements,
        current: u64,
        requested: u64,
    ) -> Option<(String, u64)> {
        let offer = entitlements
            .explain_limit(&CALLS, current, requested, now())
            .cheapest_plan;
        offer.map(|offer| (offer.plan.slug.to_string(), offer.price.amount))
    }

    #[test]
    fn the_cheapest_plan_is_the_first_that_admits_what_was_asked_for() {
        let free = on("free");
        let offer = |slug: &str, amount| Some((slug.to_owned(), amount));
        assert_eq!(cheapest(&free, 10, 1), offer("small", 900));
        // Its tolerance counts.
        assert_eq!(cheapest(&free, 10, 100), offer("small", 900));
        assert_eq!(cheapest(&free, 10, 101), offer("yearly", 12_000));
        // A soft limit admits everything; the newest version is what is sold.
        assert_eq!(cheapest(&free, 10, 991), offer("large", 2_900));
        let exports = |e: &Entitlements| e.explain_feature(&EXPORTS, now()).cheapest_plan;
        assert_eq!(exports(&free).unwrap().plan.slug.as_str(), "yearly");
        assert_eq!(exports(&free).unwrap().price.interval, Interval::Year);
        let euros = Entitlements {
            currency: "eur".to_owned(),
            ..free.clone()
        };
        assert_eq!(cheapest(&euros, 0, 1), offer("large", 2_500));
        let pounds = Entitlements {
            currency: "gbp".to_owned(),
            ..free
        };
        assert_eq!(cheapest(&pounds, 0, 1), None);
        assert_eq!(exports(&pounds), None);
    }

    #[test]
    fn what_an_override_refuses_no_plan_allows() {
        let mut free = on("free");
        free.overrides = vec![
            set(Setting::Limit(CALLS, Limit::AtMost(5)), None),
            set(Setting::Feature(EXPORTS, false), None),
        ];
        assert_eq!(free.explain_feature(&EXPORTS, now()).cheapest_plan, None);
        // The number is the override's; how strict it is, the plan's.
        assert_eq!(cheapest(&free, 5, 1), Some(("large".to_owned(), 2_900)));
        free.overrides[0] = set(Setting::Limit(CALLS, Limit::AtMost(5)), Some(now()));
        assert_eq!(cheapest(&free, 10, 1), Some(("small".to_owned(), 900)));
    }

    #[test]
    fn every_layer_is_told_and_the_last_one_wins() {
        let later = now() + TimeDelta::days(3);
        let mut small = on("small");
        small.grace_until = Some(later);
        small.overrides = vec![
            set(Setting::Limit(CALLS, Limit::AtMost(200)), None),
            set(
                Setting::Limit(Metric::team_members(), Limit::AtMost(1)),
                None,
            ),
            set(Setting::Limit(CALLS, Limit::AtMost(7)), Some(now())),
            set(Setting::Limit(CALLS, Limit::AtMost(300)), Some(later)),
        ];
        let explanation = small.explain_limit(&CALLS, 0, 1, now());
        assert_eq!(
            (explanation.plan.as_str(), explanation.plan_version),
            ("small", 1)
        );
        let told: Vec<_> = explanation
            .layers
            .iter()
            .map(|l| (l.origin, l.value, l.until))
            .collect();
        let tolerant = |max| Allowance::tolerant(max, 10);
        assert_eq!(
            told,
            [
                (Origin::Plan, tolerant(100), None),
                (Origin::Grace, tolerant(100), Some(later)),
                (Origin::Override, tolerant(200), None),
                (Origin::Override, tolerant(300), Some(later)),
            ]
        );
        assert_eq!(small.limit(&CALLS, now()).value, Limit::AtMost(300));
        let exports = small.feature(&EXPORTS, now());
        assert_eq!(
            (exports.origin, exports.until),
            (Origin::Grace, Some(later))
        );
    }

    #[test]
    fn a_plan_that_ends_says_when_and_gives_way() {
        let later = now() + TimeDelta::days(3);
        let mut large = on("large");
        large.ends = Some(PlanEnd {
            at: later,
            then: on("free").plan,
        });
        assert_eq!(large.feature(&EXPORTS, now()).until, Some(later));
        let after = large.explain_feature(&EXPORTS, later);
        assert_eq!((after.plan.as_str(), after.layers[0].until), ("free", None));
        assert_eq!(after.cheapest_plan.unwrap().plan.slug.as_str(), "yearly");
        // What is bought follows no grant's end.
        assert_eq!(cheapest(&large, 0, 1), Some(("small".to_owned(), 900)));
    }

    #[test]
    fn grace_ends_at_its_instant_and_read_only_begins_at_its_own() {
        let mut small = on("small");
        small.grace_until = Some(now());
        small.read_only = Some(ReadOnly {
            reason: "payment_failed".to_owned(),
            since: now(),
        });
        let before = now() - TimeDelta::microseconds(1);
        assert_eq!(small.limit(&CALLS, before).origin, Origin::Grace);
        assert_eq!(small.limit(&CALLS, now()).origin, Origin::Plan);
        assert_eq!(small.access(before).as_str(), "grace");
        assert_eq!(small.access(now()).as_str(), "read_only");
    }

    fn settings() -> impl Strategy<Value = Vec<(Setting, Option<i64>)>> {
        let setting = prop_oneof![
            proptest::option::of(0_u64..500)
                .prop_map(|n| Setting::Limit(CALLS, Limit::from_bound(n))),
            any::<bool>().prop_map(|on| Setting::Feature(EXPORTS, on)),
        ];
        proptest::collection::vec((setting, proptest::option::of(-2_i64..3)), 0..6)
    }

    proptest! {
        #[test]
        fn what_is_in_force_is_the_last_layer(settings in settings(), grace in proptest::option::of(-2_i64..3)) {
            let mut small = on("small");
            small.grace_until = grace.map(|h| now() + TimeDelta::hours(h));
            small.overrides = settings.into_iter()
                .map(|(setting, until)| set(setting, until.map(|h| now() + TimeDelta::hours(h))))
                .collect();
            prop_assert_eq!(small.limit_layers(&CALLS, now()).last().copied(), Some(small.allowance(&CALLS, now())));
            prop_assert_eq!(small.feature_layers(&EXPORTS, now()).last().copied(), Some(small.feature(&EXPORTS, now())));
        }

        #[test]
        fn no_plan_that_would_allow_it_is_cheaper(current in 0_u64..2000, requested in 0_u64..2000) {
            let free = on("free");
            let wanted = Wanted::Units { metric: &CALLS, current, requested };
            let monthly = |price: &Price| price.amount / u64::from(price.interval.months());
            let found = free.cheapest_plan(wanted, now());
            for plan in free.plans_today.iter() {
                let Some(price) = plan.prices.iter().find(|p| p.currency == "usd") else { continue };
                if decide(current, requested, plan.allowance(&CALLS)) == Decision::Allow {
                    prop_assert!(found.as_ref().is_some_and(|f| monthly(&f.price) <= monthly(price)));
                }
            }
        }
    }
}
