//! Which price is of which plan version.

use rawdrive_plans::{Catalogue, Interval, Plan};

use crate::ids::{ItemId, PriceId};
use crate::money::Currency;
use crate::ports::{Sold, SoldPrice};
use crate::provider_objects::ItemSnapshot;

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

    /// Which line of a subscription is a plan of ours, and which plan: the one at a price that we sell, otherwise the
    /// first at another price of a product that we sell, as one that was negotiated.
    #[must_use]
    pub fn plan_of<'a>(&'a self, items: &'a [ItemSnapshot]) -> Option<(&'a ItemId, &'a Sold)> {
        let by_price =
            |item: &'a ItemSnapshot| Some((&item.id, &self.sold_by(&item.price.id)?.sold));
        let by_product = |item: &'a ItemSnapshot| {
            let product = item.price.product.as_str();
            let sells = self
                .0
                .iter()
                .find(|noted| product_of(&noted.sold) == product);
            sells.map(|noted| (&item.id, &noted.sold))
        };
        items
            .iter()
            .find_map(by_price)
            .or_else(|| items.iter().find_map(by_product))
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

/// The provider's product of a plan version: its id is ours to choose, so that it is found again.
#[must_use]
pub fn product_of(sold: &Sold) -> String {
    format!("rawdrive_{}_v{}", sold.plan, sold.version)
}

/// A plan version's name.
#[must_use]
pub fn sold(plan: &Plan) -> Sold {
    Sold {
        plan: plan.slug.clone(),
        version: plan.version,
    }
}
