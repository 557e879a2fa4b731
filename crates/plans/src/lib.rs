//! What a workspace may do: plans, their limits and features, overrides, and pure decisions over them.
//!
//! ```
//! use rawdrive_plans::{Catalogue, Limit, Metric, Slug};
//! let catalogue = Catalogue::built_in();
//! let free = catalogue.newest(&Slug::free()).expect("the built-in catalogue has a free plan");
//! assert_eq!(free.limit(&Metric::storage_bytes()), Limit::AtMost(5 * 1024 * 1024 * 1024));
//! let enterprise = catalogue.newest(&"enterprise".parse()?).expect("and an enterprise plan");
//! assert_eq!(enterprise.limit(&Metric::storage_bytes()), Limit::Unlimited);
//! # Ok::<(), rawdrive_plans::NameError>(())
//! ```
//!
//! Invariant: unlimited is a variant. No number, and no arithmetic on one, ever means "unlimited".

mod catalogue;
mod entitlements;
mod names;
mod overrides;
mod quota;

pub use catalogue::{
    Catalogue, CatalogueError, Contradiction, Interval, MetricDefinition, MetricKind, Plan, Price,
    UnknownInterval,
};
pub use entitlements::{
    Access, BeginError, Entitlement, Entitlements, Origin, PlanEnd, ReadOnly, Schedule,
};
pub use names::{Feature, Limit, Metric, NameError, Slug};
pub use overrides::{
    GrantError, Override, PlansTx, ReviewThresholds, Setting, override_setting, set_plan,
};
pub use quota::{Decision, Denied, Level, THRESHOLDS, decide, level, percent, reached, rearmed};
