//! Which price is of which plan version.

use rawdrive_plans::{Catalogue, Interval, Plan};

use crate::ids::PriceId;
use crate::money::Currency;
use crate::ports::{Sold, SoldPrice};

/// Every price that is or was sold.
#[derive(Debug, Clone, Default)]
pub struct PriceCatalog(Vec<SoldPrice>);

impl PriceCatalog {
    /// The prices that were noted when they were made, and those that the catalogue names by their id.
    #[must_use]
    pub fn new(noted: Vec<SoldPrice>, catalogue: &Catalogue) -> Self {
        let named = catalogue
            .versions()
            .iter()
            .flat_map(|plan| plan.prices.iter().map(move |price| (plan, price)))
            .filter_map(|(plan, price)| {
                Some(SoldPrice {
                    price: price.stripe_price.as_ref()?.parse().ok()?,
                    sold: sold(plan),
                    currency: Currency::parse(&price.currency).ok()?,
                    interval: price.interval,
                })
            });
        // What was noted when it was sold stands, whatever the catalogue says today.
        let mut prices = noted;
        for price in named {
            if !prices.iter().any(|noted| noted.price == price.price) {
                prices.push(price);
            }
        }
        Self(prices)
    }

    /// What a price is a price of.
    #[must_use]
    pub fn sold_by(&self, price: &PriceId) -> Option<&SoldPrice> {
        self.0.iter().find(|noted| noted.price == *price)
    }

    /// The provider's price of a plan version. Of several (one that the catalogue names beside one that was made),
    /// the one that was noted last.
    #[must_use]
    pub fn price_of(
        &self,
        plan: &Plan,
        currency: Currency,
        interval: Interval,
    ) -> Option<&PriceId> {
        let of = |noted: &&SoldPrice| {
            noted.sold == sold(plan) && noted.currency == currency && noted.interval == interval
        };
        self.0.iter().rfind(of).map(|noted| &noted.price)
    }
}

/// A plan version's name.
#[must_use]
pub fn sold(plan: &Plan) -> Sold {
    Sold {
        plan: plan.slug.clone(),
        version: plan.version,
    }
}
