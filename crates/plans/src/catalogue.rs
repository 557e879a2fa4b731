//! The plan catalogue: data, checked when it is read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use rawdrive_tenancy_core::audit::sha256;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::allowance::MAX_TOLERANCE_PERCENT;
use crate::{Allowance, Feature, Limit, Metric, Slug, Thresholds};

/// The longest grace or trial: Stripe takes trials of up to two years.
const MAX_DAYS: u16 = 730;

/// How a metric behaves over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// An amount held: it never resets.
    Level,
    /// An amount used: it resets with the billing period.
    Flow,
}

/// A metric as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricDefinition {
    /// Level or flow.
    pub kind: MetricKind,
    /// Whether embedding services may report it from outside.
    pub ingest: bool,
    /// What it is counted apart for, such as `folder`; nothing where it is counted for the whole workspace.
    pub per: Option<Cow<'static, str>>,
    /// What a unit is, for people: `bytes`, `calls`.
    pub unit: Option<Cow<'static, str>>,
    /// Whether reaching a threshold of its limit is worth a notice.
    pub warns: bool,
    /// The thresholds, of notices and of levels.
    pub warn_at: Thresholds,
    /// Further names of its limit in plans, each with how many units one of it is. The first one whose unit is 1 is
    /// the name on the wire.
    pub limit_names: Cow<'static, [(&'static str, u64)]>,
}

impl MetricDefinition {
    /// A metric of the whole workspace that warns.
    #[must_use]
    pub const fn new(kind: MetricKind) -> Self {
        Self {
            kind,
            ingest: false,
            per: None,
            unit: None,
            warns: true,
            warn_at: Thresholds::DEFAULT,
            limit_names: Cow::Borrowed(&[]),
        }
    }

    /// Counted apart for each subject of a type.
    #[must_use]
    pub fn per(self, subject: &'static str) -> Self {
        Self {
            per: Some(Cow::Borrowed(subject)),
            ..self
        }
    }

    /// With thresholds of its own.
    #[must_use]
    pub fn warned_at(self, warn_at: Thresholds) -> Self {
        Self { warn_at, ..self }
    }

    /// With further names of its limit.
    #[must_use]
    pub fn limited_as(self, names: &'static [(&'static str, u64)]) -> Self {
        Self {
            limit_names: Cow::Borrowed(names),
            ..self
        }
    }
}

/// Every metric that an installation declares, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics(BTreeMap<Metric, MetricDefinition>);

impl Default for Metrics {
    /// What the core itself counts: seats. They are taken by people who know it: nobody is warned.
    fn default() -> Self {
        let seats = MetricDefinition {
            warns: false,
            ..MetricDefinition::new(MetricKind::Level)
        };
        let seats = seats.limited_as(&[("max_team_members", 1)]);
        Self(BTreeMap::from([(Metric::team_members(), seats)]))
    }
}

impl Metrics {
    /// Declares one more; one of the same name is replaced.
    #[must_use]
    pub fn with(mut self, metric: Metric, definition: MetricDefinition) -> Self {
        self.0.insert(metric, definition);
        self
    }

    /// A metric's definition.
    #[must_use]
    pub fn get(&self, metric: &Metric) -> Option<&MetricDefinition> {
        self.0.get(metric)
    }

    /// The metric that a limit's name in a plan means, and how many units one of it is.
    #[must_use]
    pub fn limited_by(&self, name: &str) -> Option<(&Metric, u64)> {
        let also = |(metric, definition): (_, &MetricDefinition)| {
            let names = definition.limit_names.iter();
            let known = names.clone().find(|(known, _)| *known == name);
            known.map(|(_, units)| (metric, *units))
        };
        let own = self.0.keys().find(|metric| metric.as_str() == name);
        own.map(|metric| (metric, 1))
            .or_else(|| self.0.iter().find_map(also))
    }

    /// A metric's thresholds; the usual ones of a metric that is not declared.
    #[must_use]
    pub fn thresholds(&self, metric: &Metric) -> &Thresholds {
        const USUAL: &Thresholds = &Thresholds::DEFAULT;
        self.get(metric)
            .map_or(USUAL, |definition| &definition.warn_at)
    }

    /// A limit as a plan says it: by the name with the largest unit in which it is whole.
    fn written<'a>(&'a self, metric: &'a Metric, allowance: Allowance) -> (&'a str, toml::Value) {
        let also = self.0.get(metric).map_or(&[][..], |d| &d.limit_names);
        let Some(bound) = allowance.limit().bound() else {
            let name = also.first().map_or(metric.as_str(), |(name, _)| name);
            return (name, "unlimited".into());
        };
        let whole = also.iter().filter(|(_, units)| bound % units == 0);
        let (name, units) = whole
            .max_by_key(|(_, units)| *units)
            .map_or((metric.as_str(), 1), |(name, units)| (*name, *units));
        // What is read is bounded by what SQL keeps.
        let max = toml::Value::from(i64::try_from(bound / units).unwrap_or(i64::MAX));
        let table = |key: &str, value: toml::Value| {
            let entries = [("max".to_owned(), max.clone()), (key.to_owned(), value)];
            toml::Value::Table(entries.into_iter().collect())
        };
        let value = match allowance {
            Allowance::Unlimited | Allowance::Hard(_) => max,
            Allowance::Tolerant {
                tolerance_percent, ..
            } => table(
                "tolerance_percent",
                i64::from(tolerance_percent.get()).into(),
            ),
            Allowance::Soft(_) => table("soft", true.into()),
        };
        (name, value)
    }

    /// The name of a metric's limit on the wire.
    #[must_use]
    pub fn limit_name<'a>(&'a self, metric: &'a Metric) -> &'a str {
        let definition = self.0.get(metric);
        let names = definition.map_or(&[][..], |definition| &definition.limit_names);
        let plain = names.iter().find(|(_, units)| *units == 1);
        plain.map_or(metric.as_str(), |(name, _)| name)
    }
}

/// How often a price is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    /// Once a month.
    Month,
    /// Once a year.
    Year,
}

impl Interval {
    /// The name on the wire, in the catalogue and at Stripe.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// Months between two charges.
    #[must_use]
    pub const fn months(self) -> u32 {
        match self {
            Self::Month => 1,
            Self::Year => 12,
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no interval.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("must be month or year")]
pub struct UnknownInterval;

impl FromStr for Interval {
    type Err = UnknownInterval;
    fn from_str(text: &str) -> Result<Self, UnknownInterval> {
        [Self::Month, Self::Year]
            .into_iter()
            .find(|interval| interval.as_str() == text)
            .ok_or(UnknownInterval)
    }
}

/// A price of a plan. A plan has at most one for a currency and an interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// ISO 4217, lower case.
    pub currency: String,
    /// How often it is charged.
    pub interval: Interval,
    /// Minor units of the currency.
    pub amount: u64,
    /// The payment provider's id of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_price: Option<String>,
}

/// One published version of a plan. What it grants never changes, and neither does an amount; it may be sold at
/// further prices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The plan's stable name.
    pub slug: Slug,
    /// 1, 2, 3 …
    pub version: u32,
    /// The name for people.
    pub name: String,
    /// Limits by metric.
    limits: BTreeMap<Metric, Allowance>,
    /// Switches by feature.
    features: BTreeMap<Feature, bool>,
    /// What it costs; a plan without a price can only be granted.
    #[serde(default)]
    pub prices: Vec<Price>,
    /// For how many days a failed payment is forgiven; without it, as the installation is configured.
    // What a version does not say, its canonical text does not name: published digests stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_days: Option<u16>,
    /// For how many days a first subscription is on trial; without it, there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_days: Option<u16>,
}

impl Plan {
    /// The limit of a metric; one that the plan does not name is unlimited.
    #[must_use]
    pub fn limit(&self, metric: &Metric) -> Limit {
        self.allowance(metric).limit()
    }

    /// The limit of a metric, and how strict it is; one that the plan does not name is unlimited.
    #[must_use]
    pub fn allowance(&self, metric: &Metric) -> Allowance {
        let named = self.limits.get(metric).copied();
        named.unwrap_or(Allowance::Unlimited)
    }

    /// Whether a feature is on; one that the plan does not name is off.
    #[must_use]
    pub fn feature(&self, feature: &Feature) -> bool {
        self.features.get(feature).copied().unwrap_or(false)
    }

    /// All limits that the plan names.
    pub fn limits(&self) -> impl Iterator<Item = (&Metric, Allowance)> {
        self.limits
            .iter()
            .map(|(metric, allowance)| (metric, *allowance))
    }

    /// All features that the plan names.
    pub fn features(&self) -> impl Iterator<Item = (&Feature, bool)> {
        self.features.iter().map(|(feature, on)| (feature, *on))
    }

    /// The price in a currency (ISO 4217, lower case), charged so often.
    #[must_use]
    pub fn price(&self, currency: &str, interval: Interval) -> Option<&Price> {
        self.prices
            .iter()
            .find(|price| price.currency == currency && price.interval == interval)
    }

    /// The version's canonical text: what the database keeps of a published version.
    #[must_use]
    pub fn canonical(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// SHA-256 of [`Plan::canonical`]: two definitions of one version are the same or they are an error.
    #[must_use]
    pub fn digest(&self) -> Vec<u8> {
        sha256(self.canonical().as_bytes()).to_vec()
    }

    /// What is published of this version once another definition of it is known: the same terms, and the prices of
    /// both. A price's id at the payment provider is bookkeeping, and the newer one stands.
    ///
    /// # Errors
    /// The first thing that the two say differently.
    pub fn amended(&self, newer: &Self) -> Result<Self, Contradiction> {
        let same = [
            ("name", self.name == newer.name),
            ("limits", self.limits == newer.limits),
            ("features", self.features == newer.features),
            ("grace_days", self.grace_days == newer.grace_days),
            ("trial_days", self.trial_days == newer.trial_days),
        ];
        if let Some((field, _)) = same.into_iter().find(|(_, same)| !same) {
            return Err(Contradiction::Terms(field));
        }
        let mut amended = self.clone();
        for price in &newer.prices {
            let known = amended
                .prices
                .iter_mut()
                .find(|p| p.currency == price.currency && p.interval == price.interval);
            match known {
                None => amended.prices.push(price.clone()),
                Some(known) if known.amount != price.amount => {
                    return Err(Contradiction::Amount {
                        currency: price.currency.clone(),
                        interval: price.interval,
                        published: known.amount,
                        newer: price.amount,
                    });
                }
                Some(known) => {
                    if price.stripe_price.is_some() {
                        known.stripe_price.clone_from(&price.stripe_price);
                    }
                }
            }
        }
        Ok(amended)
    }
}

/// What two definitions of one plan version say differently.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum Contradiction {
    /// What is granted, by the field's name.
    #[error("other {0}")]
    Terms(&'static str),
    /// What is asked for it, in minor units.
    #[error("{published} instead of {newer} as its price in {currency} by the {interval}")]
    Amount {
        /// ISO 4217, lower case.
        currency: String,
        /// How often it is charged.
        interval: Interval,
        /// What was published.
        published: u64,
        /// What the newer definition says.
        newer: u64,
    },
}

/// What a service counts or gates, and no catalogue knows.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum NotInCatalogue {
    /// No such metric is declared.
    #[error(
        "there is no metric `{name}`: declare it as a [[metric]] in the plan catalogue, which has {known}"
    )]
    Metric {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No plan names such a feature.
    #[error(
        "there is no feature `{name}`: name it in a plan's features; the plan catalogue has {known}"
    )]
    Feature {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

/// Why a `plans.toml` is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CatalogueError {
    /// The file is no TOML of this shape.
    #[error("failed to read the plan catalogue: {0}")]
    Syntax(String),
    /// A value is not what it must be.
    #[error("failed to read the plan catalogue: line {line}, {field}: {message}")]
    Value {
        /// 1 is the first.
        line: usize,
        /// The field, as `plan.limits.storage_gb`.
        field: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The catalogue as a whole lacks something.
    #[error("failed to read the plan catalogue: {0}")]
    Whole(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    metric: Vec<FileMetric>,
    #[serde(default)]
    plan: Vec<FilePlan>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileMetric {
    name: Spanned<String>,
    kind: MetricKind,
    #[serde(default)]
    ingest: bool,
    per: Option<Spanned<String>>,
    unit: Option<String>,
    warn_at: Option<Spanned<Vec<u8>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePlan {
    slug: Spanned<String>,
    version: Spanned<u32>,
    name: String,
    #[serde(default)]
    limits: BTreeMap<Spanned<String>, Spanned<toml::Value>>,
    #[serde(default)]
    features: BTreeMap<Spanned<String>, Spanned<toml::Value>>,
    #[serde(default)]
    prices: Vec<Spanned<Price>>,
    grace_days: Option<Spanned<u16>>,
    trial_days: Option<Spanned<u16>>,
}

/// All plan versions and metrics an installation knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    plans: Vec<Arc<Plan>>,
    metrics: Arc<Metrics>,
}

impl Catalogue {
    /// Reads a `plans.toml`.
    ///
    /// # Errors
    /// The first mistake, with its line and field.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        Self::parse_with(Metrics::default(), text)
    }

    /// As [`Catalogue::parse`], where metrics are declared already: by a product that counts them itself.
    ///
    /// # Errors
    /// The first mistake, with its line and field.
    pub fn parse_with(mut metrics: Metrics, text: &str) -> Result<Self, CatalogueError> {
        let file: File = toml::from_str(text).map_err(|e| CatalogueError::Syntax(e.to_string()))?;
        let refuse = |span: Range<usize>, field: &str, message: String| CatalogueError::Value {
            line: text[..span.start.min(text.len())].matches('\n').count() + 1,
            field: field.to_owned(),
            message,
        };
        for metric in file.metric {
            let name: Metric = metric
                .name
                .get_ref()
                .parse()
                .map_err(|e| refuse(metric.name.span(), "metric.name", format!("{e}")))?;
            let per = metric.per.map(|per| {
                let span = per.span();
                let subject = per.into_inner();
                let good = subject.parse::<rawdrive_tenancy_core::ShortName>();
                let good = good.map_err(|e| refuse(span, "metric.per", e.to_string()));
                good.map(|_| Cow::Owned(subject))
            });
            let warn_at = metric.warn_at.map(|percents| {
                let span = percents.span();
                let thresholds = Thresholds::new(percents.into_inner());
                thresholds.map_err(|e| refuse(span, "metric.warn_at", e.to_string()))
            });
            let definition = MetricDefinition {
                warn_at: warn_at.transpose()?.unwrap_or_default(),
                ingest: metric.ingest,
                per: per.transpose()?,
                unit: metric.unit.map(Cow::Owned),
                ..MetricDefinition::new(metric.kind)
            };
            if metrics.0.insert(name, definition).is_some() {
                return Err(refuse(
                    metric.name.span(),
                    "metric.name",
                    "is declared already".into(),
                ));
            }
        }
        let mut plans: Vec<Arc<Plan>> = Vec::new();
        for plan in file.plan {
            let slug: Slug = plan
                .slug
                .get_ref()
                .parse()
                .map_err(|e| refuse(plan.slug.span(), "plan.slug", format!("{e}")))?;
            let version = *plan.version.get_ref();
            if version == 0 {
                return Err(refuse(
                    plan.version.span(),
                    "plan.version",
                    "must be 1 or more".into(),
                ));
            }
            if plans.iter().any(|p| p.slug == slug && p.version == version) {
                let message = format!("`{slug}` has a version {version} already");
                return Err(refuse(plan.version.span(), "plan.version", message));
            }
            let mut limits = BTreeMap::new();
            for (key, value) in &plan.limits {
                let field = format!("plan.limits.{}", key.get_ref());
                let name = key.get_ref();
                let Some((metric, factor)) = metrics.limited_by(name) else {
                    let message = match name.parse::<Metric>() {
                        Ok(_) => "is no declared metric: add a [[metric]] of this name".to_owned(),
                        Err(error) => error.to_string(),
                    };
                    return Err(refuse(key.span(), &field, message));
                };
                let metric = metric.clone();
                let allowance = read_allowance(value.get_ref(), factor)
                    .map_err(|message| refuse(value.span(), &field, message))?;
                if limits.insert(metric, allowance).is_some() {
                    return Err(refuse(
                        key.span(),
                        &field,
                        "limits a metric that is limited already".into(),
                    ));
                }
            }
            let mut features = BTreeMap::new();
            for (key, value) in &plan.features {
                let field = format!("plan.features.{}", key.get_ref());
                let name: Feature = key
                    .get_ref()
                    .parse()
                    .map_err(|e| refuse(key.span(), &field, format!("{e}")))?;
                // Truthiness would turn a number into a switch.
                let toml::Value::Boolean(on) = value.get_ref() else {
                    return Err(refuse(value.span(), &field, "must be true or false".into()));
                };
                features.insert(name, *on);
            }
            for price in &plan.prices {
                let p = price.get_ref();
                if p.currency.len() != 3 || !p.currency.bytes().all(|b| b.is_ascii_lowercase()) {
                    let message = "must be three lower-case letters, as \"usd\"".to_owned();
                    return Err(refuse(price.span(), "plan.prices.currency", message));
                }
                if i64::try_from(p.amount).is_err() {
                    let message = "must be a whole number from 0".to_owned();
                    return Err(refuse(price.span(), "plan.prices.amount", message));
                }
                if is_three_decimal(&p.currency) && p.amount % 10 != 0 {
                    let message = format!(
                        "must end in 0: amounts in {} have three decimals, of which card networks charge two",
                        p.currency
                    );
                    return Err(refuse(price.span(), "plan.prices.amount", message));
                }
                let twice = plan.prices.iter().filter(|q| {
                    let q = q.get_ref();
                    q.currency == p.currency && q.interval == p.interval
                });
                if twice.count() > 1 {
                    let message =
                        format!("a {} price in {} is there already", p.interval, p.currency);
                    return Err(refuse(price.span(), "plan.prices", message));
                }
            }
            let days = |field: &str, days: Option<Spanned<u16>>| match days {
                Some(days) if *days.get_ref() > MAX_DAYS => {
                    let message = format!("must be a whole number from 0 to {MAX_DAYS}");
                    Err(refuse(days.span(), field, message))
                }
                days => Ok(days.map(Spanned::into_inner)),
            };
            let grace_days = days("plan.grace_days", plan.grace_days)?;
            let trial_days = days("plan.trial_days", plan.trial_days)?;
            let prices = plan.prices.into_iter().map(Spanned::into_inner).collect();
            plans.push(Arc::new(Plan {
                slug,
                version,
                name: plan.name,
                limits,
                features,
                prices,
                grace_days,
                trial_days,
            }));
        }
        let catalogue = Self {
            plans,
            metrics: Arc::new(metrics),
        };
        if catalogue.newest(&Slug::free()).is_none() {
            let message = "a plan with slug \"free\" is required: every workspace begins on it";
            return Err(CatalogueError::Whole(message.into()));
        }
        Ok(catalogue)
    }

    /// The newest version of a plan.
    #[must_use]
    pub fn newest(&self, slug: &Slug) -> Option<Arc<Plan>> {
        self.plans
            .iter()
            .filter(|p| p.slug == *slug)
            .max_by_key(|p| p.version)
            .cloned()
    }

    /// One version of a plan.
    #[must_use]
    pub fn version(&self, slug: &Slug, version: u32) -> Option<Arc<Plan>> {
        self.plans
            .iter()
            .find(|p| p.slug == *slug && p.version == version)
            .cloned()
    }

    /// Every version, in the order of the file.
    #[must_use]
    pub fn versions(&self) -> &[Arc<Plan>] {
        &self.plans
    }

    /// The newest version of each plan, in the order of the file: what can be had today.
    pub fn current(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.plans.iter().filter(|p| {
            !self
                .plans
                .iter()
                .any(|q| q.slug == p.slug && q.version > p.version)
        })
    }

    /// A metric's definition.
    #[must_use]
    pub fn definition(&self, metric: &Metric) -> Option<&MetricDefinition> {
        self.metrics.get(metric)
    }

    /// The declared metric of a name: to be asked for once, when a service starts.
    ///
    /// # Errors
    /// No such metric is declared: counting it would mean that it is unlimited.
    pub fn metric(&self, name: &str) -> Result<Metric, NotInCatalogue> {
        let found = self.metrics.0.keys().find(|metric| metric.as_str() == name);
        found.cloned().ok_or_else(|| NotInCatalogue::Metric {
            name: name.to_owned(),
            known: self.known_metrics(),
        })
    }

    /// The feature of a name that some plan names: to be asked for once, when a service starts.
    ///
    /// # Errors
    /// No plan names it: it would be off for everybody.
    pub fn feature(&self, name: &str) -> Result<Feature, NotInCatalogue> {
        let found = self.features().find(|feature| feature.as_str() == name);
        found.cloned().ok_or_else(|| NotInCatalogue::Feature {
            name: name.to_owned(),
            known: self.known_features(),
        })
    }

    /// Checks that what a service counts and gates is in the catalogue.
    ///
    /// # Errors
    /// The first metric or feature that is not.
    pub fn require(&self, metrics: &[Metric], features: &[Feature]) -> Result<(), NotInCatalogue> {
        for metric in metrics {
            self.metric(metric.as_str())?;
        }
        for feature in features {
            self.feature(feature.as_str())?;
        }
        Ok(())
    }

    /// All metrics, by name.
    pub fn metrics(&self) -> impl Iterator<Item = (&Metric, &MetricDefinition)> {
        self.metrics.0.iter()
    }

    /// All metrics' declarations.
    #[must_use]
    pub fn declared(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Whether a metric is declared.
    #[must_use]
    pub fn declares(&self, metric: &Metric) -> bool {
        self.metrics.get(metric).is_some()
    }

    /// Whether any plan names a feature.
    #[must_use]
    pub fn has_feature(&self, feature: &Feature) -> bool {
        self.features().any(|f| f == feature)
    }

    /// Every feature that any plan names, each once, by name.
    pub fn features(&self) -> impl Iterator<Item = &Feature> {
        self.plans
            .iter()
            .flat_map(|p| p.features.keys())
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
    }

    /// The catalogue as a `plans.toml`: [`Catalogue::parse_with`] reads the same from it, with the same `product`
    /// metrics declared already.
    #[must_use]
    pub fn to_toml(&self, product: &Metrics) -> String {
        let mut out = String::new();
        for (name, metric) in self.metrics() {
            if product.get(name).is_some() {
                continue;
            }
            let mut entry = toml::Table::new();
            entry.insert("name".to_owned(), name.as_str().into());
            entry.insert("kind".to_owned(), kind_name(metric.kind).into());
            if metric.ingest {
                entry.insert("ingest".to_owned(), true.into());
            }
            for (key, text) in [("per", &metric.per), ("unit", &metric.unit)] {
                if let Some(text) = text {
                    entry.insert(key.to_owned(), text.as_ref().into());
                }
            }
            if metric.warn_at != Thresholds::DEFAULT {
                let percents = metric.warn_at.warnings().iter();
                let percents: Vec<_> = percents.map(|p| i64::from(*p)).collect();
                entry.insert("warn_at".to_owned(), percents.into());
            }
            section(
                &mut out,
                "metric",
                &entry,
                &["name", "kind", "ingest", "per", "unit", "warn_at"],
            );
        }
        for plan in &self.plans {
            section(&mut out, "plan", &self.plan_entry(plan), PLAN_KEYS);
        }
        out
    }

    fn plan_entry(&self, plan: &Plan) -> toml::Table {
        let mut entry = toml::Table::new();
        entry.insert("slug".to_owned(), plan.slug.as_str().into());
        entry.insert("version".to_owned(), i64::from(plan.version).into());
        entry.insert("name".to_owned(), plan.name.as_str().into());
        let limits = plan.limits().map(|(metric, limit)| {
            let (name, value) = self.metrics.written(metric, limit);
            (name.to_owned(), value)
        });
        entry.insert("limits".to_owned(), toml::Value::Table(limits.collect()));
        let features = plan
            .features()
            .map(|(f, on)| (f.as_str().to_owned(), on.into()));
        entry.insert(
            "features".to_owned(),
            toml::Value::Table(features.collect()),
        );
        let prices = plan.prices.iter().map(|price| {
            let mut one = toml::Table::new();
            one.insert("currency".to_owned(), price.currency.as_str().into());
            one.insert("interval".to_owned(), price.interval.as_str().into());
            // What is read is bounded by what SQL keeps.
            let amount = i64::try_from(price.amount).unwrap_or(i64::MAX);
            one.insert("amount".to_owned(), amount.into());
            if let Some(id) = &price.stripe_price {
                one.insert("stripe_price".to_owned(), id.as_str().into());
            }
            toml::Value::Table(one)
        });
        let prices: Vec<_> = prices.collect();
        if !prices.is_empty() {
            entry.insert("prices".to_owned(), prices.into());
        }
        for (key, days) in [
            ("grace_days", plan.grace_days),
            ("trial_days", plan.trial_days),
        ] {
            if let Some(days) = days {
                entry.insert(key.to_owned(), i64::from(days).into());
            }
        }
        entry
    }

    pub(crate) fn known_plans(&self) -> String {
        list(self.current().map(|p| p.slug.as_str()))
    }
    pub(crate) fn known_metrics(&self) -> String {
        list(self.metrics.0.keys().map(Metric::as_str))
    }
    pub(crate) fn known_features(&self) -> String {
        list(self.features().map(Feature::as_str))
    }
}

/// A limit as a plan says it, in units of `factor`: a number, "unlimited", or a table.
fn read_allowance(value: &toml::Value, factor: u64) -> Result<Allowance, String> {
    let whole = |value: &toml::Value| {
        let n = value.as_integer().and_then(|n| u64::try_from(n).ok());
        let n = n.and_then(|n| n.checked_mul(factor));
        // SQL keeps amounts in signed 64 bits.
        n.filter(|n| i64::try_from(*n).is_ok())
    };
    match value {
        toml::Value::String(s) if s == "unlimited" => Ok(Allowance::Unlimited),
        toml::Value::Table(table) => {
            const KEYS: [&str; 3] = ["max", "tolerance_percent", "soft"];
            if let Some(unknown) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
                return Err(format!("has no `{unknown}`: expected {}", KEYS.join(", ")));
            }
            let max = table.get("max").and_then(whole).ok_or(
                "needs a `max` that is a whole number from 0; without a limit write \"unlimited\" alone",
            )?;
            let tolerance = match table.get("tolerance_percent") {
                None => None,
                Some(value) => {
                    let percent = value.as_integer().and_then(|n| u16::try_from(n).ok());
                    let percent = percent.filter(|n| *n <= MAX_TOLERANCE_PERCENT);
                    Some(percent.ok_or_else(|| {
                        format!("needs a `tolerance_percent` that is a whole number from 0 to {MAX_TOLERANCE_PERCENT}")
                    })?)
                }
            };
            let soft = match table.get("soft") {
                None => false,
                Some(toml::Value::Boolean(soft)) => *soft,
                Some(_) => return Err("needs a `soft` that is true or false".to_owned()),
            };
            match (soft, tolerance) {
                (true, None) => Ok(Allowance::Soft(max)),
                (true, Some(_)) => {
                    Err("is soft and admits everything: leave tolerance_percent out".to_owned())
                }
                (false, tolerance) => Ok(Allowance::tolerant(max, tolerance.unwrap_or(0))),
            }
        }
        value => whole(value)
            .map(Allowance::Hard)
            .ok_or_else(|| {
                "must be a whole number from 0, \"unlimited\", or { max = 100, tolerance_percent = 10 } or { max = 100, soft = true }".to_owned()
            }),
    }
}

/// The keys of a plan, in the order in which a person reads them.
const PLAN_KEYS: &[&str] = &[
    "slug",
    "version",
    "name",
    "limits",
    "features",
    "prices",
    "grace_days",
    "trial_days",
];

const fn kind_name(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Level => "level",
        MetricKind::Flow => "flow",
    }
}

/// One entry of a `plans.toml`, each key on a line of its own.
fn section(out: &mut String, name: &str, entry: &toml::Table, keys: &[&str]) {
    if !out.is_empty() {
        out.push('\n');
    }
    out.push_str(&format!("[[{name}]]\n"));
    for key in keys {
        if let Some(value) = entry.get(*key) {
            // A value's own text is what stands behind `=`, tables inline.
            out.push_str(&format!("{key} = {value}\n"));
        }
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// Whether a currency has thousandths as its minor unit (Stripe, "Three-decimal currencies").
fn is_three_decimal(currency: &str) -> bool {
    matches!(currency, "bhd" | "jod" | "kwd" | "omr" | "tnd")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a product brings along.
    fn counted() -> Metrics {
        let bytes = MetricDefinition::new(MetricKind::Level);
        let folders = MetricDefinition::new(MetricKind::Level).per("folder");
        Metrics::default()
            .with(
                Metric::new("storage_bytes"),
                bytes.limited_as(&[("storage_gb", 1 << 30)]),
            )
            .with(
                Metric::new("pages"),
                folders.limited_as(&[("max_pages_per_folder", 1)]),
            )
    }

    /// And sells.
    fn sold() -> Catalogue {
        let text = "[[plan]]\nslug = \"free\"\nversion = 1\nname = \"Free\"\n\
            limits = { storage_gb = 5, max_pages_per_folder = 100, max_team_members = 1 }\n\
            features = { exports = false }\n\
            [[plan]]\nslug = \"pro\"\nversion = 1\nname = \"Pro\"\n\
            limits = { storage_gb = 500, pages = \"unlimited\" }\nfeatures = { exports = true }\n\
            prices = [{ currency = \"usd\", interval = \"month\", amount = 2900 }]\n";
        Catalogue::parse_with(counted(), text).unwrap()
    }

    #[test]
    fn limits_are_read_by_their_names_in_plans_and_in_their_units() {
        let catalogue = sold();
        let slugs: Vec<_> = catalogue.current().map(|p| p.slug.to_string()).collect();
        assert_eq!(slugs, ["free", "pro"]);
        let (free, pro) = (
            catalogue.newest(&Slug::free()).unwrap(),
            catalogue.newest(&Slug::new("pro")).unwrap(),
        );
        let (bytes, pages) = (Metric::new("storage_bytes"), Metric::new("pages"));
        assert_eq!(free.limit(&bytes), Limit::AtMost(5 << 30));
        assert_eq!(free.limit(&pages), Limit::AtMost(100));
        assert_eq!(free.limit(&Metric::team_members()), Limit::AtMost(1));
        assert_eq!(pro.limit(&bytes), Limit::AtMost(500 << 30));
        assert_eq!(pro.limit(&pages), Limit::Unlimited);
        let exports = Feature::new("exports");
        assert_eq!(
            (free.feature(&exports), pro.feature(&exports)),
            (false, true)
        );
        assert_eq!(
            pro.price("usd", Interval::Month).map(|p| p.amount),
            Some(2_900)
        );
        let declared = catalogue.declared();
        let seats = Metric::team_members();
        let names = [&bytes, &pages, &seats].map(|metric| declared.limit_name(metric));
        assert_eq!(
            names,
            ["storage_bytes", "max_pages_per_folder", "max_team_members"]
        );
    }

    #[test]
    fn what_is_printed_is_read_as_the_same_catalogue() {
        let text = "[[metric]]\nname = \"api_calls\"\nkind = \"flow\"\ningest = true\nper = \"folder\"\nunit = \"calls\"\nwarn_at = [70, 85]\n\
            [[metric]]\nname = \"quiet\"\nkind = \"flow\"\nwarn_at = []\n\
            [[metric]]\nname = \"seats\"\nkind = \"level\"\n\
            [[plan]]\nslug = \"free\"\nversion = 1\nname = \"Free \\\"as in\\\" beer\"\n\
            limits = { storage_bytes = 5, pages = 0, api_calls = { max = 10, soft = true }, max_team_members = 1 }\nfeatures = { exports = false }\n\
            [[plan]]\nslug = \"free\"\nversion = 2\nname = \"Free\"\nlimits = { storage_gb = \"unlimited\" }\n\
            [[plan]]\nslug = \"pro\"\nversion = 1\nname = \"Pro\"\ngrace_days = 0\ntrial_days = 14\nlimits = { storage_gb = { max = 500, tolerance_percent = 5 }, seats = { max = 3, tolerance_percent = 0 } }\n\
            prices = [{ currency = \"usd\", interval = \"month\", amount = 2900, stripe_price = \"price_1\" },\
            { currency = \"eur\", interval = \"year\", amount = 0 }]\n";
        for catalogue in [sold(), Catalogue::parse_with(counted(), text).unwrap()] {
            let printed = catalogue.to_toml(&counted());
            let read = Catalogue::parse_with(counted(), &printed);
            assert_eq!(read.as_ref(), Ok(&catalogue), "{printed}");
        }
        assert!(sold().to_toml(&counted()).contains("storage_gb = 500"));
        let printed = Catalogue::parse_with(counted(), text).unwrap();
        let printed = printed.to_toml(&counted());
        for line in [
            "warn_at = [70, 85]",
            "warn_at = []",
            "api_calls = { max = 10, soft = true }",
            "storage_gb = { max = 500, tolerance_percent = 5 }",
            "seats = 3",
        ] {
            assert!(printed.contains(line), "{line}: {printed}");
        }
    }

    #[test]
    fn a_limit_says_how_strict_it_is() {
        let text = "[[metric]]\nname = \"calls\"\nkind = \"flow\"\nwarn_at = [70, 85]\n\
            [[plan]]\nslug = \"free\"\nversion = 1\nname = \"Free\"\n\
            limits = { calls = { max = 100, soft = true }, storage_gb = { max = 5, tolerance_percent = 10 } }\n";
        let catalogue = Catalogue::parse_with(counted(), text).unwrap();
        let (calls, bytes) = (Metric::new("calls"), Metric::new("storage_bytes"));
        let free = catalogue.newest(&Slug::free()).unwrap();
        assert_eq!(free.allowance(&calls), Allowance::Soft(100));
        assert_eq!(free.allowance(&bytes), Allowance::tolerant(5 << 30, 10));
        assert_eq!(free.limit(&bytes), Limit::AtMost(5 << 30));
        assert_eq!(free.allowance(&Metric::new("pages")), Allowance::Unlimited);
        let declared = catalogue.declared();
        assert_eq!(declared.thresholds(&calls).warnings(), [70, 85]);
        assert_eq!(declared.thresholds(&bytes), &Thresholds::DEFAULT);
        assert_eq!(
            declared.thresholds(&Metric::new("nothing")),
            &Thresholds::DEFAULT
        );
        // What is published reads back, and another strictness is another limit.
        let back: Plan = serde_json::from_str(&free.canonical()).unwrap();
        assert_eq!(back, *free);
        let hard = text.replace("{ max = 100, soft = true }", "100");
        let hard = Catalogue::parse_with(counted(), &hard).unwrap();
        let hard = hard.newest(&Slug::free()).unwrap();
        assert_eq!(free.amended(&hard), Err(Contradiction::Terms("limits")));
    }

    #[test]
    fn a_limit_that_no_database_keeps_is_refused() {
        let plan = "[[plan]]\nslug = \"free\"\nversion = 1\nname = \"Free\"\n";
        let text = format!("{plan}limits = {{ storage_gb = 99999999999999 }}\n");
        let error = Catalogue::parse_with(counted(), &text).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("line 5, plan.limits.storage_gb: must be a whole number"),
            "{error}"
        );
    }

    #[test]
    fn a_metric_that_is_declared_nowhere_is_an_error_and_not_unlimited() {
        let catalogue = sold();
        assert_eq!(catalogue.metric("pages"), Ok(Metric::new("pages")));
        assert_eq!(catalogue.feature("exports"), Ok(Feature::new("exports")));
        let typo = catalogue.metric("page").unwrap_err().to_string();
        assert!(
            typo.contains("`page`") && typo.contains("pages, storage_bytes, team_members"),
            "{typo}"
        );
        let typo = catalogue.feature("export").unwrap_err().to_string();
        assert!(
            typo.contains("`export`") && typo.contains("exports"),
            "{typo}"
        );
        let (metrics, features) = ([Metric::new("pages")], [Feature::new("exports")]);
        assert_eq!(catalogue.require(&metrics, &features), Ok(()));
        assert!(
            catalogue
                .require(&metrics, &[Feature::new("exprts")])
                .is_err()
        );
        assert!(
            catalogue
                .require(&[Metric::new("pges")], &features)
                .is_err()
        );
    }

    #[test]
    fn a_mistake_is_named_with_line_and_field() {
        let free = "[[plan]]\nslug = \"free\"\nversion = 1\nname = \"Free\"\n";
        let cases = [
            (
                "limits = { max_team_members = -1 }",
                "line 5, plan.limits.max_team_members: must be a whole number",
            ),
            (
                "limits = { team_member = 1 }",
                "line 5, plan.limits.team_member: is no declared metric",
            ),
            (
                "limits = { max_team_members = 1, team_members = 5 }",
                "limits a metric that is limited already",
            ),
            (
                "limits = { max_team_members = { max = 5, sofd = true } }",
                "line 5, plan.limits.max_team_members: has no `sofd`: expected max, tolerance_percent, soft",
            ),
            (
                "limits = { max_team_members = { soft = true } }",
                "needs a `max` that is a whole number from 0",
            ),
            (
                "limits = { max_team_members = { max = \"unlimited\" } }",
                "write \"unlimited\" alone",
            ),
            (
                "limits = { max_team_members = { max = 5, tolerance_percent = 1001 } }",
                "needs a `tolerance_percent` that is a whole number from 0 to 1000",
            ),
            (
                "limits = { max_team_members = { max = 5, soft = 1 } }",
                "needs a `soft` that is true or false",
            ),
            (
                "limits = { max_team_members = { max = 5, soft = true, tolerance_percent = 5 } }",
                "is soft and admits everything: leave tolerance_percent out",
            ),
            (
                "[[metric]]\nname = \"pages\"\nkind = \"level\"\nwarn_at = [90, 80]",
                "line 8, metric.warn_at: must be up to 7 whole percentages from 10 to 99, ascending",
            ),
            (
                "features = { exports = 1 }",
                "line 5, plan.features.exports: must be true or false",
            ),
            (
                "prices = [{ currency = \"USD\", interval = \"month\", amount = 1 }]",
                "plan.prices.currency",
            ),
            (
                "prices = [{ currency = \"kwd\", interval = \"month\", amount = 9999 }]",
                "line 5, plan.prices.amount: must end in 0: amounts in kwd",
            ),
            (
                "prices = [{ currency = \"usd\", interval = \"week\", amount = 1 }]",
                "unknown variant `week`, expected `month` or `year`",
            ),
            (
                "prices = [{ currency = \"usd\", interval = \"month\", amount = 1 }, { currency = \"usd\", interval = \"month\", amount = 2 }]",
                "plan.prices: a month price in usd is there already",
            ),
            (
                "grace_days = 731",
                "line 5, plan.grace_days: must be a whole number from 0 to 730",
            ),
            ("colour = 1", "unknown field `colour`"),
            (
                "[[metric]]\nname = \"pages\"\nkind = \"level\"\nper = \"A folder\"",
                "line 8, metric.per: expected 1 to 30 of a-z",
            ),
        ];
        for good in [
            "kwd\", interval = \"month\", amount = 9990",
            "jpy\", interval = \"month\", amount = 9999",
        ] {
            let text = format!("{free}prices = [{{ currency = \"{good} }}]\n");
            assert!(Catalogue::parse(&text).is_ok(), "{good}");
        }
        for (line, expected) in cases {
            let error = Catalogue::parse(&format!("{free}{line}\n"))
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
        assert!(
            Catalogue::parse("")
                .unwrap_err()
                .to_string()
                .contains("\"free\" is required")
        );
        let twice = Catalogue::parse(&format!("{free}{free}"))
            .unwrap_err()
            .to_string();
        assert!(twice.contains("line 7, plan.version"), "{twice}");
    }

    #[test]
    fn a_published_version_reads_back_as_it_was() {
        let plan = sold().newest(&Slug::free()).unwrap();
        let back: Plan = serde_json::from_str(&plan.canonical()).unwrap();
        assert_eq!(back, *plan);
        // By other code, before limits said how strict they are.
        let digest: String = plan.digest().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            digest,
            "b933736a37371d14595489949c00319c4129bf56d0671ab4614d9d2c30450169"
        );
        // Digests of versions that were published before there was grace or trial stand.
        assert!(!plan.canonical().contains("days"), "{}", plan.canonical());
    }

    #[test]
    fn a_published_version_may_be_sold_at_further_prices_and_changes_in_nothing_else() {
        let free = "[[plan]]\nslug = \"free\"\nversion = 1\nname = \"Free\"\n";
        let plan = |more: &str| {
            let catalogue = Catalogue::parse(&format!("{free}{more}")).unwrap();
            catalogue.newest(&Slug::free()).unwrap()
        };
        let monthly = "prices = [{ currency = \"usd\", interval = \"month\", amount = 2900 }]\n";
        let both = "prices = [{ currency = \"usd\", interval = \"year\", amount = 29000 }, { currency = \"usd\", interval = \"month\", amount = 2900, stripe_price = \"price_1\" }]\n";
        let published = plan("").amended(&plan(monthly)).unwrap();
        assert_eq!(published, *plan(monthly));
        let published = published.amended(&plan(both)).unwrap();
        assert_eq!(published.prices.len(), 2);
        let month = published.price("usd", Interval::Month).unwrap();
        assert_eq!(month.stripe_price.as_deref(), Some("price_1"));
        // A server that starts with an older file takes nothing away.
        assert_eq!(published.amended(&plan("")), Ok(published.clone()));
        assert_eq!(published.amended(&plan(monthly)), Ok(published.clone()));
        let dearer = monthly.replace("2900", "3900");
        assert_eq!(
            published.amended(&plan(&dearer)).unwrap_err().to_string(),
            "2900 instead of 3900 as its price in usd by the month"
        );
        for (field, more) in [
            ("limits", "limits = { team_members = 5 }\n"),
            ("features", "features = { exports = true }\n"),
            ("trial_days", "trial_days = 14\n"),
            ("grace_days", "grace_days = 3\n"),
        ] {
            assert_eq!(
                published.amended(&plan(more)),
                Err(Contradiction::Terms(field))
            );
        }
    }

    #[test]
    fn a_price_is_found_by_currency_and_interval() {
        let text = "[[plan]]\nslug = \"free\"\nversion = 1\nname = \"Free\"\ntrial_days = 14\nprices = [{ currency = \"usd\", interval = \"month\", amount = 2900 }, { currency = \"usd\", interval = \"year\", amount = 29000 }]\n";
        let plan = Catalogue::parse(text)
            .unwrap()
            .newest(&Slug::free())
            .unwrap();
        let amount = |currency, interval| plan.price(currency, interval).map(|p| p.amount);
        assert_eq!(amount("usd", Interval::Year), Some(29_000));
        assert_eq!(amount("eur", Interval::Year), None);
        assert_eq!((plan.trial_days, plan.grace_days), (Some(14), None));
    }
}
