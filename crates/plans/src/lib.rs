//! What a workspace may do: plans, their limits and features, overrides, and pure decisions over them.
//!
//! ```
//! use rawdrive_plans::{Catalogue, Limit};
//! let catalogue = Catalogue::parse(r#"
//!     [[metric]]
//!     name = "contracts"
//!     kind = "level"
//!     [[plan]]
//!     slug = "free"
//!     version = 1
//!     name = "Free"
//!     limits = { contracts = 100 }
//!     [[plan]]
//!     slug = "business"
//!     version = 1
//!     name = "Business"
//!     limits = { contracts = "unlimited" }
//! "#)?;
//! let contracts = catalogue.metric("contracts")?; // an error for a name that is declared nowhere
//! let limit = |plan: &str| catalogue.newest(&plan.parse().ok()?).map(|plan| plan.limit(&contracts));
//! assert_eq!(limit("free"), Some(Limit::AtMost(100)));
//! assert_eq!(limit("business"), Some(Limit::Unlimited));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Invariant: unlimited is a variant. No number, and no arithmetic on one, ever means "unlimited".

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
