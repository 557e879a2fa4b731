//! The names that can be configured.

use super::ENVIRONMENT;

/// What this release does with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is obeyed.
    InForce,
    /// It is checked and kept, and changes nothing yet.
    WithoutEffect,
    /// It belongs to a later release: obeying it silently in part would be worse than refusing it.
    Later,
}

/// One thing that can be configured.
#[derive(Debug)]
pub(super) struct Key {
    /// The environment variable.
    pub(super) variable: &'static str,
    /// The key in the file.
    pub(super) name: &'static str,
    /// As it would be written in the environment.
    pub(super) default: Option<&'static str>,
    /// What this release does with it.
    pub(super) standing: Standing,
}

const fn key(variable: &'static str, name: &'static str, default: Option<&'static str>) -> Key {
    Key {
        variable,
        name,
        default,
        standing: Standing::InForce,
    }
}

impl Key {
    const fn without_effect(mut self) -> Self {
        self.standing = Standing::WithoutEffect;
        self
    }

    const fn later(mut self) -> Self {
        self.standing = Standing::Later;
        self
    }

    pub(super) fn of_variable(variable: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.variable == variable)
    }

    pub(super) fn of_name(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The key's name as it stands in a layer.
    pub(super) fn written_in(&self, origin: &str) -> &'static str {
        if origin == ENVIRONMENT {
            self.variable
        } else {
            self.name
        }
    }
}

/// Every key. The file's name is the variable's, less the prefix `RAWDRIVE_`, in lower case.
pub(super) const KEYS: &[Key] = &[
    key("RAWDRIVE_LISTEN", "listen", Some("127.0.0.1:8080")),
    key("RAWDRIVE_PUBLIC_URL", "public_url", None),
    key("RAWDRIVE_DATA_DIR", "data_dir", Some("./data")),
    key("RAWDRIVE_PLANS", "plans", None),
    key("DATABASE_URL", "database_url", None),
    key("DATABASE_OWNER_URL", "database_owner_url", None),
    key("REDIS_URL", "redis_url", None),
    key("BLOB_URL", "blob_url", None),
    key("STRIPE_SECRET_KEY", "stripe_secret_key", None),
    key("STRIPE_WEBHOOK_SECRET", "stripe_webhook_secret", None),
    key("STRIPE_API_URL", "stripe_api_url", None),
    key("RAWDRIVE_SMTP_URL", "smtp_url", None),
    key("RAWDRIVE_SECRET_KEY", "secret_key", None),
    key("RAWDRIVE_CURRENCY", "currency", Some("usd")),
    key("RAWDRIVE_GRACE_DAYS", "grace_days", Some("14")),
    key("RAWDRIVE_REVERSAL_POLICY", "reversal_policy", Some("keep")),
    key(
        "RAWDRIVE_RECONCILE_SECONDS",
        "reconcile_seconds",
        Some("3600"),
    ),
    key("RAWDRIVE_RETENTION_DAYS", "retention_days", Some("30")).without_effect(),
    // 5 GiB.
    key(
        "RAWDRIVE_MAX_UPLOAD_BYTES",
        "max_upload_bytes",
        Some("5368709120"),
    ),
    key("RAWDRIVE_RATE_LIMITS", "rate_limits", Some("on")),
    key("RAWDRIVE_TRUSTED_PROXIES", "trusted_proxies", None),
    key("RAWDRIVE_ANALYSIS_URL", "analysis_url", None),
    key("RAWDRIVE_ANALYSIS_KEY", "analysis_key", None),
    key("RAWDRIVE_ANALYSIS_MODEL", "analysis_model", None),
    key("RAWDRIVE_CORS_ORIGINS", "cors_origins", None).later(),
    key("RAWDRIVE_METRICS_TOKEN", "metrics_token", None).later(),
    key(
        "RAWDRIVE_WEBHOOKS_ALLOW_PRIVATE",
        "webhooks_allow_private",
        Some("false"),
    )
    .without_effect(),
    key(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "otel_exporter_otlp_endpoint",
        None,
    )
    .later(),
    key("RAWDRIVE_DEV", "dev", Some("off")),
    key("RAWDRIVE_DEV_CLOCK", "dev_clock", None),
    key("RAWDRIVE_LOG", "log", Some("info")),
    key("RAWDRIVE_LOG_FORMAT", "log_format", None),
];

/// The known name that an unknown one was probably meant to be.
pub(super) fn nearest(
    unknown: &str,
    name_of: impl Fn(&Key) -> &'static str,
) -> Option<&'static str> {
    KEYS.iter()
        .map(name_of)
        .map(|known| {
            (
                strsim::normalized_damerau_levenshtein(unknown, known),
                known,
            )
        })
        .filter(|(likeness, _)| *likeness > 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}
