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
    /// What it is for: the rest of a sentence that begins with its name.
    pub(super) meaning: &'static str,
    /// How much of its value may be shown.
    pub(super) shown: Shown,
    /// What this release does with it.
    pub(super) standing: Standing,
}

/// How much of a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// All of it.
    Whole,
    /// An address, without what may be a credential in it.
    Address,
    /// That there is one.
    Nothing,
}

const fn key(
    variable: &'static str,
    name: &'static str,
    default: Option<&'static str>,
    meaning: &'static str,
) -> Key {
    Key {
        variable,
        name,
        default,
        meaning,
        shown: Shown::Whole,
        standing: Standing::InForce,
    }
}

impl Key {
    const fn secret(mut self) -> Self {
        self.shown = Shown::Nothing;
        self
    }

    const fn address(mut self) -> Self {
        self.shown = Shown::Address;
        self
    }

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
    key("RAWDRIVE_LISTEN", "listen", Some("127.0.0.1:8080"), "the address to listen on; port 0 takes a free one"),
    key("RAWDRIVE_PUBLIC_URL", "public_url", None, "the base of links, `iss` and `aud` of tokens; from the address where it is not set"),
    key("RAWDRIVE_DATA_DIR", "data_dir", Some("./data"), "where SQLite's file (`rawdrive.db`), the photos (`blobs/`), mail files (`mail/`) and the secret key (`secret.key`) lie"),
    key("RAWDRIVE_PLANS", "plans", None, "a `plans.toml` instead of the built-in plans: `rawdrive plans print` prints one to start from"),
    key("DATABASE_URL", "database_url", None, "`postgres://…` (with `?pgbouncer=1` behind PgBouncer in transaction mode) or `sqlite://…`; SQLite in the data directory where it is not set").address(),
    key("DATABASE_OWNER_URL", "database_owner_url", None, "PostgreSQL: the role that owns the schema, used by `rawdrive migrate` alone; the role of `DATABASE_URL` where it is not set").address(),
    key("REDIS_URL", "redis_url", None, "where usage is mirrored for reading: `redis://…`, `redis+unix://…`, `redis+cluster://…` or `redis+sentinel://…`; the database alone where it is not set").address(),
    key("BLOB_URL", "blob_url", None, "where photos lie: `file:///…`; in the data directory where it is not set").address(),
    key("STRIPE_SECRET_KEY", "stripe_secret_key", None, "Stripe's secret key; an operator grants plans by hand where it is not set").secret(),
    key("STRIPE_WEBHOOK_SECRET", "stripe_webhook_secret", None, "what Stripe signs webhooks with; two, with a comma between them, while one is being replaced").secret(),
    key("STRIPE_API_URL", "stripe_api_url", None, "another address than Stripe's own").address(),
    key("RAWDRIVE_SMTP_URL", "smtp_url", None, "the mail server: `smtp://…` or `smtps://…`; mails are written to files in the data directory where it is not set").address(),
    key("RAWDRIVE_SECRET_KEY", "secret_key", None, "what seals signing keys and secrets at rest: any text of at least 32 bytes. Required with PostgreSQL; made in the data directory otherwise").secret(),
    key("RAWDRIVE_CURRENCY", "currency", Some("usd"), "ISO 4217: what a workspace pays in whose sign-up names no currency"),
    key("RAWDRIVE_GRACE_DAYS", "grace_days", Some("14"), "for how many days a failed payment is forgiven, where the plan does not say"),
    key("RAWDRIVE_REVERSAL_POLICY", "reversal_policy", Some("keep"), "what follows where a dispute is lost or a charge is refunded in full: `keep` (the plan stays), `read_only` or `end`"),
    key(
        "RAWDRIVE_RECONCILE_SECONDS",
        "reconcile_seconds",
        Some("3600"), "how often subscriptions are compared with Stripe's"),
    key("RAWDRIVE_RETENTION_DAYS", "retention_days", Some("30"), "for how many days a deleted workspace can be restored").without_effect(),
    // 5 GiB.
    key(
        "RAWDRIVE_MAX_UPLOAD_BYTES",
        "max_upload_bytes",
        Some("5368709120"), "the largest photo"),
    key("RAWDRIVE_RATE_LIMITS", "rate_limits", Some("on"), "whether requests, attempts at passwords and mails to strangers are limited: `on`, `off` for tests, or limits that differ from the standard, such as `read=600/60,write=off` (requests / seconds) of the classes `read`, `write`, `upload` and `ingest` by credential, and `public`, `sign_in`, `webhook` and `unproven` by address"),
    key("RAWDRIVE_TRUSTED_PROXIES", "trusted_proxies", None, "the networks of proxies whose `Forwarded` or `X-Forwarded-For` says who the client is, with commas between them; nobody's word is taken where it is not set"),
    key("RAWDRIVE_ANALYSIS_URL", "analysis_url", None, "the base of an endpoint that speaks OpenAI's chat completions and describes photos; photos are measured on this machine alone where it is not set").address(),
    key("RAWDRIVE_ANALYSIS_KEY", "analysis_key", None, "its key, where it wants one").secret(),
    key("RAWDRIVE_ANALYSIS_MODEL", "analysis_model", None, "the model to ask; required with `RAWDRIVE_ANALYSIS_URL`"),
    key("RAWDRIVE_CORS_ORIGINS", "cors_origins", None, "the origins whose pages may call the API, such as `https://app.example`, with commas between them, or `*` for every origin; none but its own where it is not set"),
    key("RAWDRIVE_METRICS_TOKEN", "metrics_token", None, "what may read `/metrics`").secret().later(),
    key(
        "RAWDRIVE_WEBHOOKS_ALLOW_PRIVATE",
        "webhooks_allow_private",
        Some("false"), "whether outbound webhooks may call private addresses, also by `http://`"),
    key(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "otel_exporter_otlp_endpoint",
        None, "where traces are sent").address()
    .later(),
    key("RAWDRIVE_DEV", "dev", Some("off"), "development, on loopback alone: a Stripe of its own runs in the process, as with `rawdrive serve --dev`"),
    key("RAWDRIVE_DEV_CLOCK", "dev_clock", None, "development: a file whose RFC 3339 time is the server's now"),
    key("RAWDRIVE_LOG", "log", Some("info"), "the log's filter, such as `info` or `warn,rawdrive=debug`"),
    key("RAWDRIVE_LOG_FORMAT", "log_format", None, "`text` or `json`; text on a terminal and JSON elsewhere where it is not set"),
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
