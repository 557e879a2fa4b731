//! What the product counts, gates and sells.

use rawdrive_plans::{
    Catalogue, CatalogueError, Feature, Metric, MetricDefinition, MetricKind, Metrics,
};

const BYTES_PER_GB: u64 = 1024 * 1024 * 1024;

/// Bytes of all stored originals of a workspace. A level.
pub const STORAGE_BYTES: Metric = Metric::new("storage_bytes");
/// Photos in one gallery; its subject is the gallery. A level.
pub const PHOTOS: Metric = Metric::new("photos");
/// Analyses in a period. A flow.
pub const AI_ANALYSIS: Metric = Metric::new("ai_analysis");
/// A gallery in the photographer's own colours.
pub const CUSTOM_BRANDING: Feature = Feature::new("custom_branding");

/// The core's metrics and the product's.
#[must_use]
pub fn metrics() -> Metrics {
    let bytes =
        MetricDefinition::new(MetricKind::Level).limited_as(&[("storage_gb", BYTES_PER_GB)]);
    let photos = MetricDefinition::new(MetricKind::Level)
        .per("gallery")
        .limited_as(&[("max_photos_per_gallery", 1)]);
    let analyses =
        MetricDefinition::new(MetricKind::Flow).limited_as(&[("ai_analysis_monthly", 1)]);
    Metrics::default()
        .with(STORAGE_BYTES, bytes)
        .with(PHOTOS, photos)
        .with(AI_ANALYSIS, analyses)
}

/// Reads a `plans.toml` of the product, which may limit what [`metrics`] declares.
///
/// # Errors
/// The first mistake, with its line and field.
pub fn catalogue(text: &str) -> Result<Catalogue, CatalogueError> {
    Catalogue::parse_with(metrics(), text)
}

/// The catalogue that ships with the product.
///
/// # Panics
/// Never: a unit test reads the same text.
#[must_use]
pub fn built_in_catalogue() -> Catalogue {
    catalogue(include_str!("../plans.toml")).expect("the built-in catalogue is valid")
}

#[cfg(test)]
mod tests {
    use rawdrive_plans::{Interval, Limit, Slug};

    use super::*;

    #[test]
    fn the_built_in_catalogue_is_the_sold_one() {
        let catalogue = built_in_catalogue();
        let slugs: Vec<_> = catalogue.current().map(|p| p.slug.to_string()).collect();
        assert_eq!(slugs, ["free", "professional", "enterprise"]);
        let professional = catalogue.newest(&Slug::new("professional")).unwrap();
        assert_eq!(professional.limit(&STORAGE_BYTES), Limit::AtMost(500 << 30));
        assert_eq!(professional.limit(&PHOTOS), Limit::AtMost(1000));
        assert_eq!(professional.limit(&AI_ANALYSIS), Limit::AtMost(500));
        assert!(professional.feature(&CUSTOM_BRANDING));
        assert_eq!(
            professional.price("usd", Interval::Month).map(|p| p.amount),
            Some(2_900)
        );
        let metrics = [STORAGE_BYTES, PHOTOS, AI_ANALYSIS];
        assert_eq!(catalogue.require(&metrics, &[CUSTOM_BRANDING]), Ok(()));
    }

    #[test]
    fn a_published_version_keeps_its_text() {
        // What lies in databases since the first release: its digest must stand.
        let free = built_in_catalogue().newest(&Slug::free()).unwrap();
        assert_eq!(
            free.canonical(),
            r#"{"slug":"free","version":1,"name":"Free","limits":{"ai_analysis":0,"photos":100,"storage_bytes":5368709120,"team_members":1},"features":{"custom_branding":false},"prices":[]}"#
        );
    }
}
