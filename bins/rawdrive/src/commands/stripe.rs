//! `rawdrive stripe …`: beside a running server or without one.

use std::io::{self, Write};

use rawdrive_billing::{
    Billing, Drift, Heal, PaymentGateway, PortalFinding, PriceFinding, ReconcileError, Step,
    SyncPlansError, SyncedPrice, default_since, project_next, reconcile, replay, sync_plans,
    sync_portal,
};
use rawdrive_store::Store;
use rawdrive_tenancy_core::StoreError;
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
