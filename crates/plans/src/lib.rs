#![doc = include_str!("../README.md")]

mod allowance;
mod catalogue;
mod entitlements;
mod explanation;
mod names;
mod overrides;
mod quota;
mod thresholds;

pub use allowance::Allowance;
pub use catalogue::{
    Catalogue, CatalogueError, Contradiction, Interval, MetricDefinition, MetricKind, Metrics,
    NotInCatalogue, Plan, Price, UnknownInterval,
};
pub use entitlements::{
    Access, BeginError, Entitlement, Entitlements, Origin, PlanEnd, ReadOnly, Schedule, UnitOfWork,
};
pub use explanation::{Explanation, Offer, Wanted};
pub use names::{Feature, Limit, Metric, NameError, Slug};
pub use overrides::{
    GrantError, Override, PlansTx, ReviewThresholds, Setting, override_setting, set_plan,
};
pub use quota::{Decision, Denied, decide};
pub use thresholds::{
    Level, Threshold, Thresholds, ThresholdsError, level, percent, reached, rearmed,
};
