//! The catalogue's prices at the payment provider: made where they are missing, checked where they are.
//!
//! A price is found by its lookup key, which names the plan version, the currency and the interval. Prices are
//! immutable at the provider, as published plan versions are here: one that differs is an error that somebody must
//! look at, never an overwrite. Running it again changes nothing.

use std::fmt;

use rawdrive_plans::{Catalogue, Interval, Plan, Price};
use rawdrive_tenancy_core::StoreError;

use crate::gateway::{GatewayError, NewPrice, PaymentGateway};
use crate::ids::{IdempotencyKey, PriceId, ProductId};
use crate::money::Currency;
use crate::ports::{BillingDirectory, Sold, SoldPrice};
use crate::price_catalog::{product_of, sold};
use crate::provider_objects::{Metadata, PriceSnapshot};

/// The key of the plan's slug in the metadata of its products and prices.
pub const PLAN_KEY: &str = "rawdrive_plan";
/// The key of the plan's version in the metadata of its products and prices.
pub const PLAN_VERSION_KEY: &str = "rawdrive_plan_version";

/// How often a price is tried to be made under another key, when the provider keeps answering a stored failure.
const ATTEMPTS: u32 = 3;

/// Something in which a price at the provider differs from the catalogue's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceDifference {
    /// What differs: `amount`, `currency`, `interval`, `product`, `metadata`.
    pub what: &'static str,
    /// As the catalogue says it.
    pub catalogue: String,
    /// As the provider says it.
    pub provider: String,
}

impl fmt::Display for PriceDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            catalogue,
            provider,
        } = self;
        write!(
            f,
            "{what} is {provider} at the provider, {catalogue} in the catalogue"
        )
    }
}

/// What was found, or done, about one of the catalogue's prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PriceFinding {
    /// It is there, and as the catalogue says.
    Present(PriceId),
    /// It was missing and has been made.
    Made(PriceId),
    /// It is missing; a run that is not dry makes it.
    Missing,
    /// The catalogue names it by its id; that was noted, and nothing asked of the provider.
    Named(PriceId),
    /// It is there and is something else. Nothing was made.
    Differs(PriceId, Vec<PriceDifference>),
}

/// One of the catalogue's prices, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncedPrice {
    /// What is sold by it.
    pub sold: Sold,
    /// Its currency.
    pub currency: Currency,
    /// How often it is charged.
    pub interval: Interval,
    /// The name under which it is found.
    pub lookup_key: String,
    /// What was found or done.
    pub finding: PriceFinding,
    /// Whether it is noted here what is sold by it: before that nothing is.
    pub noted: bool,
}

impl SyncedPrice {
    /// Whether somebody must look at it.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(self.finding, PriceFinding::Differs(..))
    }
}

/// Why the catalogue's prices could not be compared or made.
#[derive(Debug, thiserror::Error)]
pub enum SyncPlansError {
    /// The provider's failure.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The store's failure.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalogue holds a price that no provider could have.
    #[error("failed to read a price of {plan} version {version}: {what}")]
    Price {
        /// The plan.
        plan: String,
        /// Its version.
        version: u32,
        /// What is wrong.
        what: &'static str,
    },
}

/// Compares every price of every plan version with the provider, and unless `dry_run` makes what is missing and
/// notes in the directory which price sells what. Where one differs, nothing is made at all: see
/// [`SyncedPrice::is_conflict`].
///
/// # Errors
/// The provider or the store fails. What was made until then is found by the next run.
pub async fn sync_plans(
    catalogue: &Catalogue,
    gateway: &impl PaymentGateway,
    directory: &impl BillingDirectory,
    dry_run: bool,
) -> Result<Vec<SyncedPrice>, SyncPlansError> {
    let known = directory.sold_prices().await?;
    let mut report = Vec::new();
    let mut missing = Vec::new();
    for plan in catalogue.versions() {
        for price in &plan.prices {
            let wanted = Wanted::new(plan, price)?;
            let finding = wanted.compare(gateway).await?;
            if finding == PriceFinding::Missing {
                missing.push((report.len(), wanted.new_price(plan)));
            }
            let price = finding.price();
            let noted = known.iter().any(|known| Some(&known.price) == price);
            report.push(wanted.reported(finding, noted));
        }
    }
    if dry_run || report.iter().any(SyncedPrice::is_conflict) {
        return Ok(report);
    }
    for (place, new) in missing {
        report[place].finding = PriceFinding::Made(make(gateway, &new).await?);
    }
    for synced in &mut report {
        if let Some(price) = synced.finding.price() {
            let noted = SoldPrice {
                price: price.clone(),
                sold: synced.sold.clone(),
                currency: synced.currency,
                interval: synced.interval,
            };
            directory.put_price(&noted).await?;
            synced.noted = true;
        }
    }
    Ok(report)
}

/// What was found, or done, about the settings of the hosted page where cards and invoices are managed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortalFinding {
    /// They are there.
    Present,
    /// They were missing and have been made.
    Made,
    /// They are missing; a run that is not dry makes them.
    Missing,
}

/// Makes the settings of the hosted page where they are missing: an account whose owner has saved none in the
/// provider's own pages opens no page without.
///
/// # Errors
/// The provider fails.
pub async fn sync_portal(
    gateway: &impl PaymentGateway,
    dry_run: bool,
) -> Result<PortalFinding, SyncPlansError> {
    let mut attempt = 1;
    loop {
        let key = format!("sync-portal-{attempt}");
        let key = key.parse().expect("a word and a number are a key");
        match gateway.sync_portal(dry_run, &key).await {
            Ok(true) if dry_run => return Ok(PortalFinding::Missing),
            Ok(true) => return Ok(PortalFinding::Made),
            Ok(false) => return Ok(PortalFinding::Present),
            Err(GatewayError::ReplayedFailure) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

impl PriceFinding {
    const fn price(&self) -> Option<&PriceId> {
        match self {
            Self::Present(price) | Self::Made(price) | Self::Named(price) => Some(price),
            Self::Missing | Self::Differs(..) => None,
        }
    }
}

/// Makes a price. A failure that the provider has stored under a key is stepped over by looking again, and then by
/// another key.
async fn make(gateway: &impl PaymentGateway, new: &NewPrice) -> Result<PriceId, SyncPlansError> {
    let mut attempt = 1;
    loop {
        let made = gateway.create_price(new, &key(new, attempt)).await;
        match made {
            Ok(price) => return Ok(price.id),
            Err(GatewayError::ReplayedFailure) if attempt < ATTEMPTS => {
                if let Some(price) = gateway.price(&new.lookup_key).await? {
                    return Ok(price.id);
                }
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The same price is made under the same key by whoever makes it.
fn key(new: &NewPrice, attempt: u32) -> IdempotencyKey {
    let NewPrice {
        lookup_key, amount, ..
    } = new;
    let text = format!("sync-{lookup_key}-{amount}-{attempt}");
    text.parse()
        .expect("a slug, a currency and numbers are a key")
}

/// A price as the catalogue wants it.
struct Wanted {
    sold: Sold,
    currency: Currency,
    interval: Interval,
    amount: u64,
    named: Option<PriceId>,
    product: ProductId,
    lookup_key: String,
}

impl Wanted {
    fn new(plan: &Plan, price: &Price) -> Result<Self, SyncPlansError> {
        let wrong = |what| SyncPlansError::Price {
            plan: plan.slug.to_string(),
            version: plan.version,
            what,
        };
        let currency = Currency::parse(&price.currency).map_err(|_| wrong("its currency"))?;
        let stem = product_of(&sold(plan));
        let named = price.stripe_price.as_deref().map(str::parse).transpose();
        Ok(Self {
            sold: Sold {
                plan: plan.slug.clone(),
                version: plan.version,
            },
            currency,
            interval: price.interval,
            amount: price.amount,
            named: named.map_err(|_| wrong("its stripe_price is no id"))?,
            lookup_key: format!("{stem}_{currency}_{}", price.interval),
            product: stem.parse().map_err(|_| wrong("its plan's slug"))?,
        })
    }

    async fn compare(&self, gateway: &impl PaymentGateway) -> Result<PriceFinding, SyncPlansError> {
        if let Some(named) = &self.named {
            return Ok(PriceFinding::Named(named.clone()));
        }
        let Some(found) = gateway.price(&self.lookup_key).await? else {
            return Ok(PriceFinding::Missing);
        };
        let differences = self.differences(&found);
        Ok(if differences.is_empty() {
            PriceFinding::Present(found.id)
        } else {
            PriceFinding::Differs(found.id, differences)
        })
    }

    fn differences(&self, found: &PriceSnapshot) -> Vec<PriceDifference> {
        let none = || "none".to_owned();
        let marks = |metadata: &Metadata| {
            let text = |key| metadata.0.get(key).map_or("none", String::as_str);
            format!("{} version {}", text(PLAN_KEY), text(PLAN_VERSION_KEY))
        };
        let pairs = [
            (
                "amount",
                self.amount.to_string(),
                found.amount.map_or_else(none, |amount| amount.to_string()),
            ),
            (
                "currency",
                self.currency.to_string(),
                found.currency.to_string(),
            ),
            (
                "interval",
                self.interval.to_string(),
                found
                    .interval
                    .map_or_else(none, |interval| interval.to_string()),
            ),
            (
                "product",
                self.product.to_string(),
                found.product.to_string(),
            ),
            ("metadata", marks(&self.metadata()), marks(&found.metadata)),
        ];
        let differing = pairs.into_iter().filter(|(_, ours, theirs)| ours != theirs);
        let named = differing.map(|(what, catalogue, provider)| PriceDifference {
            what,
            catalogue,
            provider,
        });
        named.collect()
    }

    fn metadata(&self) -> Metadata {
        let pairs = [
            (PLAN_KEY, self.sold.plan.to_string()),
            (PLAN_VERSION_KEY, self.sold.version.to_string()),
        ];
        Metadata(pairs.map(|(key, value)| (key.to_owned(), value)).into())
    }

    fn new_price(&self, plan: &Plan) -> NewPrice {
        NewPrice {
            product: self.product.clone(),
            product_name: plan.name.clone(),
            lookup_key: self.lookup_key.clone(),
            currency: self.currency,
            interval: self.interval,
            amount: self.amount,
            metadata: self.metadata(),
        }
    }

    fn reported(self, finding: PriceFinding, noted: bool) -> SyncedPrice {
        SyncedPrice {
            sold: self.sold,
            currency: self.currency,
            interval: self.interval,
            lookup_key: self.lookup_key,
            finding,
            noted,
        }
    }
}
