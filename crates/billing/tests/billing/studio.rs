//! A workspace, a provider, and what runs between them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use futures_util::future::join_all;
use rawdrive_billing::{
    Billing, BillingError, Heal, InvoiceSnapshot, Order, Policy, PreviewKey, ProviderEvent, Step,
    Subscription, default_since, project_next, reconcile, review_due, subscribe,
};
use rawdrive_billing::{BillingDirectory as _, Inbox as _};
use rawdrive_plans::{Access, Catalogue, Interval, Slug};
use rawdrive_tenancy_core::WorkspaceScope;
use rawdrive_testkit::{Card, Faults, MemoryGateway, MemoryStore, TestEnv};

pub(crate) const PLANS: &str = r#"
[[metric]]
name = "storage_bytes"
kind = "level"

[[plan]]
slug = "free"
version = 1
name = "Free"
limits = { storage_bytes = 5368709120, max_team_members = 1 }

[[plan]]
slug = "basic"
version = 1
name = "Basic"
limits = { storage_bytes = 53687091200, max_team_members = 2 }
prices = [{ currency = "usd", interval = "month", amount = 1000 }, { currency = "eur", interval = "month", amount = 900 }]

[[plan]]
slug = "professional"
version = 1
name = "Professional"
limits = { storage_bytes = 536870912000, max_team_members = 10 }
prices = [{ currency = "usd", interval = "month", amount = 2900 }, { currency = "usd", interval = "year", amount = 29000 }]

[[plan]]
slug = "tried"
version = 1
name = "Tried"
trial_days = 14
grace_days = 3
limits = { storage_bytes = 10737418240 }
prices = [{ currency = "usd", interval = "month", amount = 500 }]
"#;

pub(crate) struct Studio {
    pub(crate) test_env: TestEnv,
    pub(crate) billing: Billing<MemoryStore, MemoryGateway>,
    pub(crate) scope: WorkspaceScope,
}

pub(crate) fn order(plan: &str) -> Order {
    Order {
        plan: plan.parse().unwrap(),
        interval: Interval::Month,
    }
}

pub(crate) fn preview_key() -> PreviewKey {
    PreviewKey::new(&[7; 32])
}

impl Studio {
    pub(crate) async fn open() -> Self {
        let test_env = TestEnv::seeded(1);
        let gateway = MemoryGateway::new(test_env.env().clone());
        Self::beside(test_env, gateway, PLANS).await
    }

    /// A workspace of another installation beside the same provider.
    pub(crate) async fn beside(test_env: TestEnv, gateway: MemoryGateway, plans: &str) -> Self {
        let catalogue = Catalogue::parse(plans).unwrap();
        let store = MemoryStore::new(test_env.env().clone());
        store.publish(&catalogue).await;
        for price in gateway.sell(&catalogue) {
            store.put_price(&price).await.unwrap();
        }
        let free = catalogue.newest(&Slug::free()).unwrap();
        let scope = store.workspace(&free).await.unwrap();
        let billing = Billing {
            store,
            gateway,
            env: test_env.env().clone(),
            catalogue,
            policy: Policy::default(),
        };
        Self {
            test_env,
            billing,
            scope,
        }
    }

    pub(crate) fn gateway(&self) -> &MemoryGateway {
        &self.billing.gateway
    }

    /// The same, whose store's calls fail as the faults say.
    pub(crate) fn failing(&self, faults: Faults) -> Billing<MemoryStore, MemoryGateway> {
        Billing {
            store: self.billing.store.failing(faults),
            gateway: self.billing.gateway.clone(),
            env: self.billing.env.clone(),
            catalogue: self.billing.catalogue.clone(),
            policy: self.billing.policy,
        }
    }

    pub(crate) async fn subscribe(
        &self,
        plan: &str,
        card: Card,
    ) -> Result<Subscription, BillingError> {
        let method = card.method().parse().unwrap();
        subscribe(&self.billing, &self.scope, &order(plan), Some(method)).await
    }

    /// Time passes, and the provider does what is due.
    pub(crate) fn pass(&self, by: TimeDelta) {
        self.test_env.advance(by);
        self.gateway().pass();
    }

    pub(crate) async fn deliver(&self, event: &ProviderEvent) {
        let disposition = event.envelope.disposition(Some(false));
        self.billing
            .store
            .receive(event, &disposition)
            .await
            .unwrap();
    }

    /// Delivers everything that ever happened.
    pub(crate) async fn deliver_all(&self) {
        for event in self.gateway().history() {
            self.deliver(&event).await;
        }
        self.work(1).await;
    }

    /// So many workers, until there is nothing to do.
    pub(crate) async fn work(&self, workers: usize) {
        let worker = async || {
            while let Some(step) = project_next(&self.billing).await.unwrap() {
                assert_ne!(step, Step::DeadLetter);
            }
        };
        join_all((0..workers).map(|_| worker())).await;
        review_due(&self.billing).await.unwrap();
    }

    /// What reconciliation finds; heals it, and does the work that follows.
    pub(crate) async fn reconcile(&self) -> Vec<String> {
        let since = default_since(self.billing.env.now()) - TimeDelta::days(400);
        let drift = reconcile(&self.billing, since, Heal::Yes).await.unwrap();
        self.work(1).await;
        drift.iter().map(ToString::to_string).collect()
    }

    pub(crate) fn access(&self) -> Access {
        let entitlements = &self.billing.store.rows(&self.scope).entitlements;
        entitlements.access(self.billing.env.now())
    }

    /// The plan in force.
    pub(crate) fn plan(&self) -> String {
        let entitlements = &self.billing.store.rows(&self.scope).entitlements;
        let plan = entitlements.plan_at(self.billing.env.now());
        format!("{} {}", plan.slug, plan.version)
    }

    /// What has become of everything: what must be the same, however it was come to.
    pub(crate) fn outcome(&self) -> Outcome {
        let rows = self.billing.store.rows(&self.scope);
        let entitlements = &rows.entitlements;
        Outcome {
            subscriptions: rows.billing.subscriptions.values().cloned().collect(),
            invoices: rows.billing.invoices.values().cloned().collect(),
            entitlements: format!(
                "{} {} {:?}",
                entitlements.plan.slug,
                entitlements.plan.version,
                entitlements.schedule()
            ),
            effects: rows
                .billing
                .effects
                .iter()
                .filter(|key| !key.starts_with("grace:"))
                .cloned()
                .collect(),
        }
    }

    /// How often each action was audited.
    pub(crate) fn audited(&self) -> BTreeMap<(String, String), usize> {
        let mut counts = BTreeMap::new();
        for entry in &self.billing.store.rows(&self.scope).audit {
            *counts
                .entry((entry.action.clone(), entry.subject.clone()))
                .or_default() += 1;
        }
        counts
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) invoices: Vec<InvoiceSnapshot>,
    pub(crate) entitlements: String,
    pub(crate) effects: BTreeSet<String>,
}
