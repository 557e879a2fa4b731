//! The configuration: defaults, under `rawdrive.toml`, under the environment.
//!
//! Invariant: no error and no `Debug` of this module holds a value that was configured under a secret's
//! key, nor one that could not be read. Errors name the key and what would be right.

mod keys;
mod listing;
mod values;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use rawdrive_billing::{Reversal, UnknownReversal};
use rawdrive_gallery::analysis::VisionSettings;
use rawdrive_http_api::TrustedProxies;
use rawdrive_http_api::throttle::RequestLimits;
use rawdrive_http_api::web::CorsOrigins;
use rawdrive_notices::SmtpUrl;
use rawdrive_store::{Backend, Url};
use rawdrive_usage::RedisUrl;
use secrecy::SecretString;

use keys::{KEYS, Key, Standing};
pub(crate) use listing::Listing;
pub(crate) use values::{LogFormat, PublicUrl};

/// The file, looked for in the working directory.
pub(crate) const FILE: &str = "rawdrive.toml";
/// How long a vision endpoint may take: well below the minute for which a request's idempotency key is its
/// own.
const VISION_TIMEOUT: Duration = Duration::from_secs(45);
const ENVIRONMENT: &str = "environment";
const DEFAULTS: &str = "defaults";

/// Whether an environment variable is one of ours, known or not.
#[must_use]
pub(crate) fn is_variable(name: &str) -> bool {
    name.starts_with("RAWDRIVE_") || Key::of_variable(name).is_some()
}

/// Everything that can be configured, checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Where the server listens; port 0 takes a free one.
    pub(crate) listen: SocketAddr,
    /// The base of links as configured; [`Config::public_url`] has the one in force.
    public_url: Option<PublicUrl>,
    /// Where database, photos and the secret key are, unless said otherwise.
    pub(crate) data_dir: PathBuf,
    /// A `plans.toml` instead of the built-in catalogue.
    pub(crate) plans: Option<PathBuf>,
    /// Where the server's data are, and as whom it works there.
    pub(crate) database: Url,
    /// PostgreSQL: the role that owns the schema, where it is another than the server's.
    pub(crate) database_owner: Option<Url>,
    /// Where usage is cached, if anywhere.
    pub(crate) redis: Option<RedisUrl>,
    /// The directory of the photos.
    pub(crate) blobs: PathBuf,
    /// What seals secrets at rest, instead of the data directory's `secret.key`.
    pub(crate) secret_key: Option<SecretString>,
    /// The mail server; mails are written to files without one.
    pub(crate) smtp_url: Option<SmtpUrl>,
    /// ISO 4217, lower case: the currency of a sign-up that names none.
    pub(crate) currency: String,
    /// Days for which a failed payment is forgiven, where the plan does not say.
    pub(crate) grace_days: u16,
    /// What becomes of a workspace whose payment is taken back.
    pub(crate) reversal: Reversal,
    /// Stripe; an operator grants plans without it.
    pub(crate) stripe: Option<StripeConfig>,
    /// How often our rows are compared with Stripe's.
    pub(crate) reconcile_every: Duration,
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "validated, and warned about at start: deleting a workspace is not part of this release"
        )
    )]
    /// Days for which a deleted workspace can be restored. No effect yet.
    pub(crate) retention_days: u16,
    /// The largest photo, in bytes.
    pub(crate) max_upload_bytes: u64,
    /// The model that describes photos, where one is asked.
    pub(crate) vision: Option<VisionSettings>,
    /// How many requests are taken in which time.
    pub(crate) rate_limits: RequestLimits,
    /// The networks of the proxies whose `Forwarded` or `X-Forwarded-For` says who the client is.
    pub(crate) trusted_proxies: TrustedProxies,
    /// The origins whose pages may call the API.
    pub(crate) cors_origins: CorsOrigins,
    /// Whether outbound webhooks may call private addresses.
    pub(crate) webhooks_allow_private: bool,
    /// Development: loopback only.
    pub(crate) dev: bool,
    /// A file whose RFC 3339 time is the server's now.
    pub(crate) dev_clock: Option<PathBuf>,
    /// The log's filter, known to be readable.
    pub(crate) log: String,
    /// The log's format; by default text on a terminal and JSON elsewhere.
    pub(crate) log_format: Option<LogFormat>,
    /// What the operator should hear at start.
    pub(crate) warnings: Vec<String>,
}

/// How Stripe is reached. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub(crate) struct StripeConfig {
    /// The secret key.
    pub(crate) secret_key: SecretString,
    /// What webhooks are signed with; none are taken without one.
    pub(crate) webhook_secrets: Vec<SecretString>,
    /// Another address than Stripe's own.
    pub(crate) api_url: Option<PublicUrl>,
}

/// Why a configuration is refused. Finishes the sentence "failed to configure: …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file is there and cannot be read.
    #[error("{FILE}: {0}")]
    Unreadable(std::io::ErrorKind),
    /// The file is no TOML. The parser's own message is left out: it quotes the line, secrets included.
    #[error("{FILE}, line {0}: is not valid TOML")]
    Syntax(usize),
    /// A key that does not exist.
    #[error("{key} ({origin}): is no known key{}", suggestion.map(|s| format!("; did you mean {s}?")).unwrap_or_default())]
    Unknown {
        /// As it was written.
        key: String,
        /// Where it was written.
        origin: &'static str,
        /// The nearest known name.
        suggestion: Option<&'static str>,
    },
    /// A key of a later release.
    #[error("{key} ({origin}): is not part of this release: unset it")]
    NotYet {
        /// As it was written.
        key: &'static str,
        /// Where it was written.
        origin: &'static str,
    },
    /// A value that cannot be read.
    #[error("{key} ({origin}): {expected}")]
    Value {
        /// As it was written.
        key: &'static str,
        /// Where it was written.
        origin: &'static str,
        /// What would be right.
        expected: String,
    },
}

impl Config {
    /// Reads the process's environment and the working directory's file.
    ///
    /// # Errors
    /// The first thing wrong; see [`ConfigError`].
    pub(crate) fn from_process(dev: bool) -> Result<Self, ConfigError> {
        let (mut variables, file) = process()?;
        if dev {
            variables.push(("RAWDRIVE_DEV".to_owned(), "1".to_owned()));
        }
        Self::load(variables.into_iter(), file.as_deref())
    }

    /// Reads a configuration from an environment (of two variables of one name the last counts) and the
    /// text of a file.
    ///
    /// # Errors
    /// The first thing wrong; see [`ConfigError`].
    pub(crate) fn load(
        environment: impl Iterator<Item = (String, String)>,
        file: Option<&str>,
    ) -> Result<Self, ConfigError> {
        let sources = Sources::read(environment, file)?;
        sources.refuse_later_releases()?;

        let listen = sources.required("listen", values::socket_address)?;
        let data_dir: PathBuf = sources.required("data_dir", values::path)?;
        let dev = sources.required("dev", values::switch)?;
        let dev_clock = sources.optional("dev_clock", values::path)?;
        if dev && !listen.ip().is_loopback() {
            return Err(sources.refuse(
                "dev",
                "needs a loopback address to listen on, such as 127.0.0.1:8080",
            ));
        }
        if dev_clock.is_some() && !dev {
            return Err(sources.refuse(
                "dev_clock",
                "is for development alone: set RAWDRIVE_DEV=1 as well, or unset it",
            ));
        }
        let mut config = Self {
            listen,
            public_url: sources.optional("public_url", PublicUrl::parse)?,
            plans: sources.optional("plans", values::path)?,
            database: sources
                .optional("database_url", values::database_url)?
                .unwrap_or_else(|| Url::sqlite(data_dir.join("rawdrive.db"))),
            database_owner: sources.optional("database_owner_url", values::postgres_url)?,
            redis: sources.optional("redis_url", values::redis_url)?,
            blobs: sources
                .optional("blob_url", values::file_url_path)?
                .unwrap_or_else(|| data_dir.join("blobs")),
            secret_key: sources.optional("secret_key", values::secret_key)?,
            smtp_url: sources.optional("smtp_url", values::smtp_url)?,
            currency: sources.required("currency", values::currency)?,
            grace_days: sources.required("grace_days", values::days)?,
            reversal: sources.required("reversal_policy", |text| {
                text.parse()
                    .map_err(|error: UnknownReversal| error.to_string())
            })?,
            stripe: sources.stripe()?,
            reconcile_every: sources.required("reconcile_seconds", values::seconds)?,
            retention_days: sources.required("retention_days", values::days)?,
            max_upload_bytes: sources.required("max_upload_bytes", values::size_bytes)?,
            vision: sources.vision()?,
            rate_limits: sources.required("rate_limits", values::request_limits)?,
            trusted_proxies: sources
                .optional("trusted_proxies", values::networks)?
                .unwrap_or_default(),
            cors_origins: sources
                .optional("cors_origins", values::origins)?
                .unwrap_or_default(),
            webhooks_allow_private: sources.required("webhooks_allow_private", values::switch)?,
            log: sources.required("log", values::log_filter)?,
            log_format: sources.optional("log_format", values::log_format)?,
            data_dir,
            dev,
            dev_clock,
            warnings: Vec::new(),
        };
        let on_postgres = config.database.backend() == Backend::Postgres;
        if on_postgres && config.secret_key.is_none() {
            return Err(sources.refuse(
                "secret_key",
                "is required with PostgreSQL, where servers share what it seals: any text of at least 32 bytes",
            ));
        }
        if !on_postgres && config.database_owner.is_some() {
            return Err(sources.refuse(
                "database_owner_url",
                "needs a DATABASE_URL of PostgreSQL: set it as well, or unset this",
            ));
        }
        config.warnings = sources.without_effect();
        if config
            .stripe
            .as_ref()
            .is_some_and(|stripe| stripe.webhook_secrets.is_empty())
        {
            config.warnings.push(
                "STRIPE_WEBHOOK_SECRET is not set: webhooks are refused, and what changes at Stripe is seen by \
                 reconciliation alone"
                    .to_owned(),
            );
        }
        if config.trusted_proxies.trusts_everybody() {
            config.warnings.push(
                "RAWDRIVE_TRUSTED_PROXIES trusts every address: whoever reaches this server says who they are"
                    .to_owned(),
            );
        }
        if config.public_url.is_none() && config.listen.ip().is_unspecified() {
            config.warnings.push(format!(
                "RAWDRIVE_PUBLIC_URL is not set: links say {}, which only this machine can follow",
                config.public_url(config.listen)
            ));
        }
        Ok(config)
    }

    /// The base of links and the `iss` and `aud` of tokens: as configured, otherwise from the address
    /// that the server is bound to.
    #[must_use]
    pub(crate) fn public_url(&self, bound: SocketAddr) -> PublicUrl {
        self.public_url.clone().unwrap_or_else(|| {
            let host = match bound.ip() {
                ip if ip.is_unspecified() => "localhost".to_owned(),
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            };
            PublicUrl::of_address(&host, bound.port())
        })
    }
}

/// One source of values: all as text, under the keys of the file.
struct Layer {
    name: &'static str,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }
    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

impl Layer {
    fn defaults() -> Self {
        let values = KEYS
            .iter()
            .filter_map(|key| Some((key.name.to_owned(), Value::from(key.default?))));
        Self {
            name: DEFAULTS,
            values: values.collect(),
        }
    }

    fn of_environment(
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut values = Dict::new();
        for (variable, value) in variables {
            if let Some(key) = Key::of_variable(&variable) {
                values.insert(key.name.to_owned(), Value::from(value));
            } else if variable.starts_with("RAWDRIVE_") {
                return Err(ConfigError::Unknown {
                    suggestion: keys::nearest(&variable, |key| key.variable),
                    key: variable,
                    origin: ENVIRONMENT,
                });
            }
        }
        Ok(Self {
            name: ENVIRONMENT,
            values,
        })
    }

    fn of_file(text: &str) -> Result<Self, ConfigError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            let before = &text.as_bytes()[..start];
            ConfigError::Syntax(before.iter().filter(|byte| **byte == b'\n').count() + 1)
        })?;
        let mut values = Dict::new();
        for (name, value) in table {
            let Some(key) = Key::of_name(&name) else {
                return Err(ConfigError::Unknown {
                    suggestion: keys::nearest(&name, |key| key.name),
                    key: name,
                    origin: FILE,
                });
            };
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(on) => on.to_string(),
                // What is refused whatever it says, such as a list of origins.
                _ if key.standing == Standing::Later => String::new(),
                _ => {
                    return Err(ConfigError::Value {
                        key: key.name,
                        origin: FILE,
                        expected: "expected a string, a whole number, true or false".to_owned(),
                    });
                }
            };
            values.insert(name, Value::from(text));
        }
        Ok(Self { name: FILE, values })
    }
}

/// Variables by name, with their values.
type Variables = Vec<(String, String)>;

/// The process's environment, and the text of the working directory's file.
fn process() -> Result<(Variables, Option<String>), ConfigError> {
    let mut variables = Variables::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        if let Some(key) = Key::of_variable(name) {
            let value = value.into_string().map_err(|_| ConfigError::Value {
                key: key.variable,
                origin: ENVIRONMENT,
                expected: "expected UTF-8 text".to_owned(),
            })?;
            variables.push((name.to_owned(), value));
        } else {
            // Only the name of a foreign variable is looked at.
            variables.push((name.to_owned(), String::new()));
        }
    }
    let file = match std::fs::read_to_string(FILE) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(ConfigError::Unreadable(error.kind())),
    };
    Ok((variables, file))
}

/// The merged layers.
struct Sources(Figment);

impl Sources {
    fn read(
        environment: impl Iterator<Item = (String, String)>,
        file: Option<&str>,
    ) -> Result<Self, ConfigError> {
        Ok(Self(
            Figment::new()
                .merge(Layer::defaults())
                .merge(Layer::of_file(file.unwrap_or_default())?)
                .merge(Layer::of_environment(environment)?),
        ))
    }

    /// The value in force, and the name of its layer.
    fn find(&self, name: &str) -> Option<(String, &'static str)> {
        let value = self.0.find_value(name).ok()?;
        let metadata = self.0.find_metadata(name)?;
        let origin = [ENVIRONMENT, FILE]
            .into_iter()
            .find(|origin| metadata.name == *origin)
            .unwrap_or(DEFAULTS);
        Some((value.into_string()?, origin))
    }

    fn refuse(&self, name: &'static str, expected: impl Into<String>) -> ConfigError {
        let origin = self.find(name).map_or(DEFAULTS, |(_, origin)| origin);
        let known = Key::of_name(name);
        ConfigError::Value {
            key: match known {
                Some(key) if origin == ENVIRONMENT => key.variable,
                _ => name,
            },
            origin,
            expected: expected.into(),
        }
    }

    fn optional<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        self.find(name)
            .map(|(text, _)| read(&text).map_err(|expected| self.refuse(name, expected)))
            .transpose()
    }

    fn required<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        self.optional(name, read)?
            .ok_or_else(|| self.refuse(name, "is required"))
    }

    /// Stripe: its key, and what goes with it.
    fn stripe(&self) -> Result<Option<StripeConfig>, ConfigError> {
        let secret_key = self.optional("stripe_secret_key", values::stripe_key)?;
        let webhook_secrets = self.optional("stripe_webhook_secret", values::webhook_secrets)?;
        let api_url = self.optional("stripe_api_url", PublicUrl::parse)?;
        let Some(secret_key) = secret_key else {
            let alone = match (webhook_secrets, api_url) {
                (Some(_), _) => "stripe_webhook_secret",
                (None, Some(_)) => "stripe_api_url",
                (None, None) => return Ok(None),
            };
            return Err(self.refuse(
                alone,
                "needs STRIPE_SECRET_KEY: set it as well, or unset this",
            ));
        };
        Ok(Some(StripeConfig {
            secret_key,
            webhook_secrets: webhook_secrets.unwrap_or_default(),
            api_url,
        }))
    }

    /// The vision endpoint: address and model together, perhaps with a key.
    fn vision(&self) -> Result<Option<VisionSettings>, ConfigError> {
        let url = self.optional("analysis_url", PublicUrl::parse)?;
        let key = self.optional("analysis_key", values::service_key)?;
        let model = self.optional("analysis_model", values::model)?;
        let Some(url) = url else {
            let alone = match (key, model) {
                (Some(_), _) => "analysis_key",
                (None, Some(_)) => "analysis_model",
                (None, None) => return Ok(None),
            };
            return Err(self.refuse(
                alone,
                "needs RAWDRIVE_ANALYSIS_URL: set it as well, or unset this",
            ));
        };
        let model = model.ok_or_else(|| {
            self.refuse(
                "analysis_url",
                "needs RAWDRIVE_ANALYSIS_MODEL: set it as well",
            )
        })?;
        Ok(Some(VisionSettings {
            url: url.as_str().to_owned(),
            key,
            model,
            timeout: VISION_TIMEOUT,
        }))
    }

    fn refuse_later_releases(&self) -> Result<(), ConfigError> {
        let later = KEYS.iter().filter(|key| key.standing == Standing::Later);
        for key in later {
            if let Some((_, origin)) = self.find(key.name) {
                return Err(ConfigError::NotYet {
                    key: key.written_in(origin),
                    origin,
                });
            }
        }
        Ok(())
    }

    fn without_effect(&self) -> Vec<String> {
        KEYS.iter()
            .filter(|key| key.standing == Standing::WithoutEffect)
            .filter_map(|key| {
                let (_, origin) = self.find(key.name).filter(|(_, o)| *o != DEFAULTS)?;
                let written = key.written_in(origin);
                Some(format!("{written} ({origin}) has no effect yet"))
            })
            .collect()
    }
}
