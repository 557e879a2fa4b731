//! Which price is of which plan version.

use rawdrive_plans::{Catalogue, Interval, Plan};

use crate::ids::{ItemId, PriceId, ProductId};
use crate::money::Currency;
use crate::ports::{Sold, SoldPrice};
use crate::provider_objects::ItemSnapshot;

/// Every price that is or was sold.
#[derive(Debug, Clone, Default)]
pub struct PriceCatalog {
    prices: Vec<SoldPrice>,
    /// Products that were made elsewhere, of prices that the catalogue names.
    products: Vec<(ProductId, Sold)>,
}

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
        Self {
            prices,
            products: Vec::new(),
        }
    }

    /// The prices that the catalogue names by their id: of what product they are, only the provider knows.
    pub(crate) fn named<'a>(
        catalogue: &'a Catalogue,
    ) -> impl Iterator<Item = (PriceId, Sold)> + 'a {
        catalogue.versions().iter().flat_map(|plan| {
            let ids = plan
                .prices
                .iter()
                .filter_map(|price| price.stripe_price.as_ref());
            ids.filter_map(|id| Some((id.parse().ok()?, sold(plan))))
        })
    }

    /// Learns the product of a price that the catalogue names.
    pub(crate) fn learn(&mut self, product: ProductId, sold: Sold) {
        self.products.push((product, sold));
    }

    /// What a price is a price of.
    #[must_use]
    pub fn sold_by(&self, price: &PriceId) -> Option<&SoldPrice> {
        self.prices.iter().find(|noted| noted.price == *price)
    }

    /// Which line of a subscription is a plan of ours, and which plan: the one at a price that we sell, otherwise the
    /// first at another price of a product that we sell, as one that was negotiated.
    #[must_use]
    pub fn plan_of<'a>(&'a self, items: &'a [ItemSnapshot]) -> Option<(&'a ItemId, &'a Sold)> {
        let by_price =
            |item: &'a ItemSnapshot| Some((&item.id, &self.sold_by(&item.price.id)?.sold));
        let by_product = |item: &'a ItemSnapshot| {
            let product = item.price.product.as_str();
            let mut ours = self.prices.iter().map(|noted| &noted.sold);
            let sold = ours.find(|sold| product_of(sold) == product);
            let sold = sold.or_else(|| {
                let mut elsewhere = self.products.iter();
                elsewhere
                    .find(|(id, _)| id.as_str() == product)
                    .map(|(_, sold)| sold)
            });
            sold.map(|sold| (&item.id, sold))
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
        self.prices.iter().rfind(of).map(|noted| &noted.price)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::subscription;

    #[test]
    fn the_plan_is_found_by_its_price_then_by_its_product_wherever_it_stands() {
        const PLANS: &str = "[[plan]]\nslug = \"free\"\nversion = 1\nname = \"Free\"\n[[plan]]\nslug = \"pro\"\nversion = 2\nname = \"Pro\"\nprices = [{ currency = \"usd\", interval = \"month\", amount = 1000, stripe_price = \"price_pro\" }]\n";
        let catalogue = Catalogue::parse(PLANS).unwrap();
        let mut book = PriceCatalog::new(Vec::new(), &catalogue);
        let line = |id: &str, price: &str, product: &str| {
            let mut item = subscription("sub_1").snapshot.items.remove(0);
            item.id = id.parse().unwrap();
            item.price.id = price.parse().unwrap();
            item.price.product = product.parse().unwrap();
            item
        };
        let found = |book: &PriceCatalog, items: &[ItemSnapshot]| {
            let found = book.plan_of(items);
            found.map(|(item, sold)| format!("{item} {} {}", sold.plan, sold.version))
        };
        let extra = line("si_1", "price_extra", "prod_extra");
        let by_product = line("si_2", "price_deal", "rawdrive_pro_v2");
        let by_price = line("si_3", "price_pro", "prod_elsewhere");
        assert_eq!(found(&book, std::slice::from_ref(&extra)), None);
        let items = [extra.clone(), by_product.clone()];
        assert_eq!(found(&book, &items).as_deref(), Some("si_2 pro 2"));
        let items = [by_product, by_price];
        assert_eq!(found(&book, &items).as_deref(), Some("si_3 pro 2"));
        // A product that was made elsewhere is learnt from the price that the catalogue names.
        let deal = [extra, line("si_4", "price_deal", "prod_elsewhere")];
        assert_eq!(found(&book, &deal), None);
        for (price, sold) in PriceCatalog::named(&catalogue) {
            assert_eq!(price.as_str(), "price_pro");
            book.learn("prod_elsewhere".parse().unwrap(), sold);
        }
        assert_eq!(found(&book, &deal).as_deref(), Some("si_4 pro 2"));
    }
}
