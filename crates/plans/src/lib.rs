#![doc = include_str!("../README.md")]

mod allowance;
mod catalogue;
mod entitlements;
mod explanation;
mod names;
mod overrides;
mod ports;
mod quota;
mod setting;
mod thresholds;

pub use allowance::Allowance;
pub use catalogue::{
    Catalogue, CatalogueError, Contradiction, Interval, MetricDefinition, MetricKind, Metrics,
    NotInCatalogue, Plan, Price, UnknownInterval,
};
pub use entitlements::{Access, Entitlement, Entitlements, Origin, PlanEnd, ReadOnly, Schedule};
pub use explanation::{Explanation, Offer, Wanted};
pub use names::{Feature, Limit, Metric, NameError, Slug};
pub use overrides::{GrantError, ReviewThresholds, override_setting, set_plan};
pub use ports::{BeginError, PlansTx, PlansUnit, UnitOfWork};
pub use quota::{Decision, Denied, decide};
pub use setting::{Override, Setting};
pub use thresholds::{
    Level, Threshold, Thresholds, ThresholdsError, level, percent, reached, rearmed,
};
