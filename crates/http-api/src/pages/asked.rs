//! What the address of the upgrade page says: what was refused, and how the plans are looked at. All of it may be missing,
//! and what is not known is passed over.

use rawdrive_plans::{Catalogue, Feature, Interval, Metric};

use crate::web::{UPGRADE_PATH, pairs};

/// How often the page looks by itself whether a payment has arrived.
pub(super) const LOOKS: u8 = 20;

/// The parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// A feature that the plan does not include.
    pub(super) feature: Option<Feature>,
    /// What has reached its limit.
    pub(super) metric: Option<Metric>,
    /// Prices by the month or by the year.
    pub(super) interval: Option<Interval>,
    /// The payer comes back from paying; how often it was looked since.
    pub(super) paid: Option<u8>,
    /// The plan was changed just now.
    pub(super) changed: bool,
}

impl Asked {
    pub(super) fn of(catalogue: &Catalogue, query: &str) -> Self {
        let Ok(pairs) = pairs(query) else {
            return Self::default();
        };
        let get = |name: &str| {
            let found = pairs.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str())
        };
        Self {
            feature: get("feature").and_then(|name| catalogue.feature(name).ok()),
            metric: get("metric").and_then(|name| {
                let mut metrics = catalogue.metrics().map(|(metric, _)| metric);
                metrics.find(|metric| metric.as_str() == name).cloned()
            }),
            interval: get("interval").and_then(|name| name.parse().ok()),
            paid: get("checkout")
                .filter(|text| *text == "done")
                .map(|_| get("looks").and_then(|n| n.parse().ok()).unwrap_or(0)),
            changed: get("changed") == Some("1"),
        }
    }

    /// The address, relative to the page itself. Names of the catalogue need no encoding.
    pub(super) fn address(&self) -> String {
        let page = UPGRADE_PATH.rsplit('/').next().unwrap_or_default();
        match self.query() {
            query if query.is_empty() => page.to_owned(),
            query => format!("{page}?{query}"),
        }
    }

    pub(super) fn query(&self) -> String {
        let paid = self.paid.map(|_| "checkout=done".to_owned());
        let looks = self.paid.filter(|looks| *looks > 0);
        let parts = [
            self.feature
                .as_ref()
                .map(|feature| format!("feature={feature}")),
            self.metric
                .as_ref()
                .map(|metric| format!("metric={metric}")),
            self.interval.map(|interval| format!("interval={interval}")),
            paid,
            looks.map(|looks| format!("looks={looks}")),
            self.changed.then(|| "changed=1".to_owned()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("&")
    }

    /// Without word of what was just done.
    pub(super) fn anew(&self) -> Self {
        Self {
            paid: None,
            changed: false,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_address_says_is_kept_and_what_is_unknown_is_passed_over() {
        let catalogue = Catalogue::parse(
            "[[plan]]\nslug = \"free\"\nversion = 1\nname = \"Free\"\nlimits = {}\nfeatures = { exports = false }\n",
        )
        .unwrap();
        let read = |query: &str| Asked::of(&catalogue, query);
        let all =
            "feature=exports&metric=team_members&interval=year&checkout=done&looks=3&changed=1";
        assert_eq!(read(all).query(), all);
        assert_eq!(read(all).address(), format!("upgrade?{all}"));
        assert_eq!(
            read(all).anew().query(),
            "feature=exports&metric=team_members&interval=year"
        );
        for nothing in [
            "",
            "feature=<script>&metric=x&interval=week&checkout=maybe&utm_source=mail",
            "feature=exports&feature=exports",
            "%ff",
        ] {
            assert_eq!(read(nothing), Asked::default(), "{nothing}");
            assert_eq!(read(nothing).address(), "upgrade");
        }
    }
}
