//! One value above a plan.

use chrono::{DateTime, Utc};
use rawdrive_tenancy_core::id::OverrideId;

use crate::{Feature, Limit, Metric};

/// One value of a plan, replaced for one workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// A metric's limit.
    Limit(Metric, Limit),
    /// A feature's switch.
    Feature(Feature, bool),
}

/// An override above the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// Its id.
    pub id: OverrideId,
    /// What it sets.
    pub setting: Setting,
    /// Why; shown in the audit log.
    pub reason: String,
    /// When it ends by itself.
    pub until: Option<DateTime<Utc>>,
}
