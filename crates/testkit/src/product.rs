//! A small product for the contracts: it keeps notes in folders, counts their bytes and sells reports.

use rawdrive_plans::{Catalogue, Metric, MetricDefinition, MetricKind, Metrics, Slug};

/// Bytes of all notes. A level.
pub const BYTES: Metric = Metric::new("stored_bytes");
/// Notes in one folder; its subject is the folder. A level. Its rows are locked before that of [`BYTES`].
pub const NOTES: Metric = Metric::new("notes");
/// Reports in a period. A flow.
pub const REPORTS: Metric = Metric::new("reports");

/// A plan whose limits are not all hard: 100 bytes with a tolerance of a tenth, and 10 notes a folder, softly.
pub const LENIENT: Slug = Slug::new("lenient");

/// The plans of the product: `free`, `unlimited`, which limits nothing, and [`LENIENT`].
///
/// # Panics
/// Never.
#[must_use]
pub fn catalogue() -> Catalogue {
    let level = MetricDefinition::new(MetricKind::Level);
    let metrics = Metrics::default()
        .with(BYTES, level.clone())
        .with(NOTES, level.per("folder"))
        .with(REPORTS, MetricDefinition::new(MetricKind::Flow));
    Catalogue::parse_with(metrics, PLANS).expect("the plans are valid")
}

const PLANS: &str = r#"
[[plan]]
slug = "free"
version = 1
name = "Free"
limits = { team_members = 1, stored_bytes = 5000, notes = 100, reports = 0 }

[[plan]]
slug = "unlimited"
version = 1
name = "Unlimited"
limits = { team_members = "unlimited", stored_bytes = "unlimited", notes = "unlimited", reports = "unlimited" }

[[plan]]
slug = "lenient"
version = 1
name = "Lenient"
limits = { stored_bytes = { max = 100, tolerance_percent = 10 }, notes = { max = 10, soft = true } }
"#;
