//! `rawdrive stripe …`: beside a running server or without one.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rawdrive_billing::{
    Adoption, Billing, CustomerId, Drift, Heal, PaymentGateway, PortalFinding, PriceFinding,
    Provenance, ReconcileError, Step, SyncPlansError, SyncedPrice, adopt, default_since,
    project_next, reconcile, replay, sync_plans, sync_portal,
};
use rawdrive_store::Store;
use rawdrive_tenancy_core::StoreError;
use rawdrive_tenancy_core::id::WorkspaceId;
use serde_json::{Value, json};

use crate::cli::Stripe;

/// Why a command came to nothing, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StripeError {
    #[error(transparent)]
    Plans(#[from] SyncPlansError),
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "failed to sync the plans: a price at Stripe is not what the catalogue says; nothing was made"
    )]
    Conflict,
    #[error("failed to read {}", path.display())]
    Pairs {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}, line {line}: expected CUSTOMER,WORKSPACE, each customer once", path.display())]
    Pair { path: PathBuf, line: usize },
    #[error("failed to write the answer")]
    Output(#[from] io::Error),
}

/// Carries the command out and says what it found.
///
/// # Errors
/// See [`StripeError`].
pub(crate) async fn run<G: PaymentGateway>(
    billing: &Billing<Store, G>,
    command: Stripe,
    out: &mut dyn Write,
) -> Result<(), StripeError> {
    match command {
        Stripe::SyncPlans(common) => {
            let (catalogue, store) = (&billing.catalogue, &billing.store);
            let found = sync_plans(catalogue, &billing.gateway, store, common.dry_run).await?;
            let portal = sync_portal(&billing.gateway, common.dry_run).await?;
            let portal = match portal {
                PortalFinding::Present => "present",
                PortalFinding::Made => "made",
                PortalFinding::Missing => "missing",
            };
            if common.json {
                let prices: Vec<_> = found.iter().map(price_json).collect();
                writeln!(
                    out,
                    "{}",
                    json!({ "dry_run": common.dry_run, "prices": prices, "portal": portal })
                )?;
            } else {
                for price in &found {
                    writeln!(out, "{}", price_text(price))?;
                }
                if found.is_empty() {
                    writeln!(out, "the catalogue has no prices: nothing is sold")?;
                }
                writeln!(out, "settings of the customer portal: {portal}")?;
            }
            if found.iter().any(SyncedPrice::is_conflict) {
                return Err(StripeError::Conflict);
            }
        }
        Stripe::Reconcile { since, common } => {
            let since = since.unwrap_or_else(|| default_since(billing.env.now()));
            let heal = if common.dry_run {
                Heal::DryRun
            } else {
                Heal::Yes
            };
            let found = reconcile(billing, since, heal).await?;
            let projected = match heal {
                Heal::Yes => project_all(billing).await?,
                Heal::DryRun => 0,
            };
            if common.json {
                let drift: Vec<_> = found.iter().map(drift_json).collect();
                let answer =
                    json!({ "dry_run": common.dry_run, "drift": drift, "projected": projected });
                writeln!(out, "{answer}")?;
            } else {
                for drift in &found {
                    writeln!(out, "{drift}")?;
                }
                let what = if common.dry_run {
                    "would be healed"
                } else {
                    "were found"
                };
                writeln!(out, "{} differences {what}", found.len())?;
            }
        }
        Stripe::Adopt { pairs, common } => {
            let known = Provenance {
                pairs: pairs.as_deref().map_or(Ok(BTreeMap::new()), read_pairs)?,
                owners: billing.store.verified_owners().await?,
            };
            let heal = if common.dry_run {
                Heal::DryRun
            } else {
                Heal::Yes
            };
            let told = adopt(billing, &known, heal).await?;
            let projected = match heal {
                Heal::Yes => project_all(billing).await?,
                Heal::DryRun => 0,
            };
            if common.json {
                let customers: Vec<_> = told.iter().map(adoption_json).collect();
                let answer = json!({ "dry_run": common.dry_run, "customers": customers, "projected": projected });
                writeln!(out, "{answer}")?;
            } else {
                for adoption in &told {
                    writeln!(out, "{adoption}")?;
                }
                let linked = told.iter();
                let linked = linked.filter(|told| matches!(told, Adoption::Linked { .. }));
                let would = if common.dry_run { "would be" } else { "were" };
                writeln!(
                    out,
                    "{} of {} customers {would} linked",
                    linked.count(),
                    told.len()
                )?;
            }
        }
        Stripe::Replay { json } => {
            let touched = replay(billing).await?;
            let projected = project_all(billing).await?;
            if json {
                writeln!(
                    out,
                    "{}",
                    json!({ "touched": touched, "projected": projected })
                )?;
            } else {
                writeln!(
                    out,
                    "{touched} objects were taken up again, {projected} are up to date now"
                )?;
            }
        }
    }
    Ok(())
}

/// Projects until nothing is due, so that the command's effect does not wait for a server. Returns how many objects
/// are up to date now; a running server's workers take their share.
async fn project_all<G: PaymentGateway>(billing: &Billing<Store, G>) -> Result<usize, StoreError> {
    let mut projected = 0;
    while let Some(step) = project_next(billing).await? {
        projected += usize::from(step == Step::Projected);
    }
    Ok(projected)
}

/// Pairs of a customer and its workspace, a line each; empty lines and those that begin with # are left out.
fn read_pairs(path: &Path) -> Result<BTreeMap<CustomerId, WorkspaceId>, StripeError> {
    let text = std::fs::read_to_string(path).map_err(|source| StripeError::Pairs {
        path: path.to_owned(),
        source,
    })?;
    let mut pairs = BTreeMap::new();
    for (n, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let pair = line.split_once(',').and_then(|(customer, workspace)| {
            let customer: CustomerId = customer.trim().parse().ok()?;
            let workspace: WorkspaceId = workspace.trim().parse().ok()?;
            pairs.insert(customer, workspace).is_none().then_some(())
        });
        if pair.is_none() {
            return Err(StripeError::Pair {
                path: path.to_owned(),
                line: n + 1,
            });
        }
    }
    Ok(pairs)
}

fn adoption_json(adoption: &Adoption) -> Value {
    let mut value = match adoption {
        Adoption::Linked {
            customer,
            workspace,
            found_by,
            subscriptions,
        } => {
            let subscriptions: Vec<_> = subscriptions
                .iter()
                .map(|subscription| {
                    let sold = subscription.sold.as_ref();
                    json!({
                        "id": subscription.id, "plan": sold.map(|sold| &sold.plan),
                        "plan_version": sold.map(|sold| sold.version),
                    })
                })
                .collect();
            json!({
                "kind": "linked", "customer": customer, "workspace": workspace,
                "found_by": found_by.as_str(), "subscriptions": subscriptions,
            })
        }
        Adoption::HasAnother {
            customer,
            workspace,
        } => json!({ "kind": "has_another", "customer": customer, "workspace": workspace }),
        Adoption::OtherCurrency {
            customer,
            workspace,
            currency,
        } => json!({
            "kind": "other_currency", "customer": customer, "workspace": workspace,
            "currency": currency.as_str(),
        }),
        Adoption::Ambiguous {
            customer,
            workspaces,
        } => json!({ "kind": "ambiguous", "customer": customer, "workspaces": workspaces }),
        Adoption::NoWorkspace { customer } => {
            json!({ "kind": "no_workspace", "customer": customer })
        }
        Adoption::NotThere { customer } => json!({ "kind": "not_there", "customer": customer }),
    };
    value["detail"] = json!(adoption.to_string());
    value
}

fn finding_word(finding: &PriceFinding) -> &'static str {
    match finding {
        PriceFinding::Present(_) => "present",
        PriceFinding::Made(_) => "made",
        PriceFinding::Missing => "missing",
        PriceFinding::Named(_) => "named",
        PriceFinding::Differs(..) => "differs",
    }
}

fn price_text(price: &SyncedPrice) -> String {
    let name = &price.lookup_key;
    match &price.finding {
        PriceFinding::Present(id) if price.noted => format!("{name}: {id} is there"),
        PriceFinding::Present(id) => {
            format!("{name}: {id} is there, and would be noted to be sold")
        }
        PriceFinding::Made(id) => format!("{name}: {id} was made"),
        PriceFinding::Missing => format!("{name}: would be made"),
        PriceFinding::Named(id) => format!("{name}: {id}, as the catalogue names it"),
        PriceFinding::Differs(id, differences) => {
            let differences: Vec<_> = differences.iter().map(ToString::to_string).collect();
            format!("{name}: {id} DIFFERS: {}", differences.join("; "))
        }
    }
}

fn price_json(price: &SyncedPrice) -> Value {
    let (id, differences) = match &price.finding {
        PriceFinding::Present(id) | PriceFinding::Made(id) | PriceFinding::Named(id) => {
            (Some(id), Vec::new())
        }
        PriceFinding::Missing => (None, Vec::new()),
        PriceFinding::Differs(id, differences) => (
            Some(id),
            differences.iter().map(ToString::to_string).collect(),
        ),
    };
    json!({
        "plan": price.sold.plan, "version": price.sold.version, "currency": price.currency,
        "interval": price.interval.as_str(), "lookup_key": price.lookup_key,
        "finding": finding_word(&price.finding), "price": id, "noted": price.noted, "differences": differences,
    })
}

fn drift_json(drift: &Drift) -> Value {
    let mut value = match drift {
        Drift::MissedEvent { event, kind } => {
            json!({ "kind": "missed_event", "event": event, "type": kind })
        }
        Drift::MissingSubscription {
            workspace,
            subscription,
        } => {
            json!({ "kind": "missing_subscription", "workspace": workspace, "subscription": subscription })
        }
        Drift::StaleSubscription {
            workspace,
            subscription,
            differs,
        } => {
            json!({ "kind": "stale_subscription", "workspace": workspace, "subscription": subscription, "differs": differs })
        }
        Drift::UnknownSubscription {
            workspace,
            subscription,
        } => {
            json!({ "kind": "unknown_subscription", "workspace": workspace, "subscription": subscription })
        }
        Drift::UnknownCustomer {
            workspace,
            customer,
        } => {
            json!({ "kind": "unknown_customer", "workspace": workspace, "customer": customer })
        }
        Drift::StaleCustomer {
            workspace,
            customer,
        } => {
            json!({ "kind": "stale_customer", "workspace": workspace, "customer": customer })
        }
        Drift::Refused {
            workspace,
            customer,
            code,
        } => {
            json!({ "kind": "refused", "workspace": workspace, "customer": customer, "code": code })
        }
        Drift::StaleInvoice { workspace, invoice } => {
            json!({ "kind": "stale_invoice", "workspace": workspace, "invoice": invoice })
        }
        Drift::UnlinkedCustomer {
            workspace,
            customer,
            conflict,
        } => {
            json!({ "kind": "unlinked_customer", "workspace": workspace, "customer": customer, "conflict": conflict })
        }
    };
    value["detail"] = json!(drift.to_string());
    value
}
