//! Texts read into values. An error says what would be right and never repeats the text.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use actix_web::http::Uri;
use rawdrive_http_api::TrustedProxies;
use rawdrive_http_api::throttle::RequestLimits;
use rawdrive_http_api::web::CorsOrigins;
use rawdrive_notices::SmtpUrl;
use rawdrive_store::{Backend, Url};
use rawdrive_usage::RedisUrl;
use secrecy::SecretString;

use crate::telemetry;

/// The shortest secret key, in bytes: as much as the keys that are derived from it.
const SECRET_KEY_BYTES: usize = 32;

/// Ten years: beyond it a number of days is a mistake.
const MAX_DAYS: u16 = 3650;

/// A day: beyond it what is to happen now and then happens too seldom to be relied on.
const MAX_SECONDS: u64 = 86_400;

/// The base of links: `http://` or `https://`, a host, perhaps a path; never a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicUrl(String);

impl PublicUrl {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || "expected an http or https address such as https://photos.example".to_owned();
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let known_scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let authority = uri.authority().ok_or_else(wrong)?;
        // `Uri` drops a fragment without a word, and takes a port that is no number.
        let readable = !authority.host().is_empty()
            && authority.as_str().len()
                == authority.host().len() + authority.port().map_or(0, |p| p.as_str().len() + 1)
            && uri.query().is_none()
            && !text.contains('#');
        if known_scheme && readable {
            Ok(Self(text.trim_end_matches('/').to_owned()))
        } else {
            Err(wrong())
        }
    }

    pub(super) fn of_address(host: &str, port: u16) -> Self {
        Self(format!("http://{host}:{port}"))
    }

    /// The text, without a slash at its end.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected an IP address and a port such as 127.0.0.1:8080 or [::1]:8080".to_owned()
    })
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.trim().is_empty() || text.contains('\0') {
        return Err("expected a path".to_owned());
    }
    Ok(PathBuf::from(text))
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "true" | "on" => Ok(true),
        "0" | "false" | "off" => Ok(false),
        _ => Err("expected 1, true or on, or 0, false or off".to_owned()),
    }
}

pub(super) fn networks(text: &str) -> Result<TrustedProxies, String> {
    text.parse()
        .map_err(|error: rawdrive_http_api::InvalidNetworks| error.to_string())
}

pub(super) fn request_limits(text: &str) -> Result<RequestLimits, String> {
    text.parse()
        .map_err(|error: rawdrive_http_api::throttle::InvalidLimits| error.to_string())
}

pub(super) fn origins(text: &str) -> Result<CorsOrigins, String> {
    text.parse()
        .map_err(|error: rawdrive_http_api::web::InvalidOrigins| error.to_string())
}

pub(super) fn database_url(text: &str) -> Result<Url, String> {
    if text.starts_with("postgres") {
        postgres_url(text)
    } else {
        sqlite_path(text).map(Url::sqlite)
    }
}

pub(super) fn postgres_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if url.backend() == Backend::Postgres {
        Ok(url)
    } else {
        Err("must begin with postgres://".to_owned())
    }
}

fn sqlite_path(text: &str) -> Result<PathBuf, String> {
    let path = text
        .strip_prefix("sqlite://")
        .or_else(|| text.strip_prefix("sqlite:"));
    // Options (`?mode=…`) would weaken what the store relies on, and a database in memory forgets.
    match path {
        Some(path) if !path.contains(['?', '#']) && !path.contains(":memory:") => file_path(path),
        _ => None,
    }
    .ok_or_else(|| {
        "expected sqlite:// and the path of a file, without options, or postgres:// and a server"
            .to_owned()
    })
}

pub(super) fn file_url_path(text: &str) -> Result<PathBuf, String> {
    if ["s3://", "gs://", "az://"]
        .iter()
        .any(|scheme| text.starts_with(scheme))
    {
        return Err("object storage is not part of this release: unset it".to_owned());
    }
    text.strip_prefix("file://")
        .and_then(file_path)
        .ok_or_else(|| "expected file:// and the path of a directory".to_owned())
}

fn file_path(text: &str) -> Option<PathBuf> {
    path(text).ok().filter(|path| path != Path::new("/"))
}

pub(super) fn secret_key(text: &str) -> Result<SecretString, String> {
    if text.len() < SECRET_KEY_BYTES {
        return Err(format!("expected at least {SECRET_KEY_BYTES} bytes"));
    }
    Ok(SecretString::from(text))
}

pub(super) fn smtp_url(text: &str) -> Result<SmtpUrl, String> {
    SmtpUrl::parse(text).map_err(|error| error.to_string())
}

pub(super) fn redis_url(text: &str) -> Result<RedisUrl, String> {
    RedisUrl::parse(text).map_err(|error| error.to_string())
}

/// A key for another service: what a header can hold.
pub(super) fn service_key(text: &str) -> Result<SecretString, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("expected visible ASCII characters without spaces".to_owned());
    }
    Ok(SecretString::from(text))
}

/// Stripe's secret key, or a restricted one.
pub(super) fn stripe_key(text: &str) -> Result<SecretString, String> {
    let begins = ["sk_live_", "rk_live_", "sk_test_", "rk_test_"];
    let known = begins.iter().any(|prefix| text.starts_with(prefix));
    let wrong = || format!("expected a key that begins with {}", begins.join(", "));
    service_key(text).ok().filter(|_| known).ok_or_else(wrong)
}

/// The webhook's signing secret; two while one is being rotated.
pub(super) fn webhook_secrets(text: &str) -> Result<Vec<SecretString>, String> {
    let secrets: Result<Vec<_>, _> = text.split(',').map(|s| service_key(s.trim())).collect();
    secrets
        .ok()
        .filter(|secrets| secrets.len() <= 2)
        .ok_or_else(|| {
            "expected a signing secret such as whsec_…, or two, separated by a comma".to_owned()
        })
}

/// A time between two runs.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    whole_number(text)
        .filter(|seconds| (1..=MAX_SECONDS).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| format!("expected a whole number of seconds from 1 to {MAX_SECONDS}"))
}

/// The name of a model, as its service spells it.
pub(super) fn model(text: &str) -> Result<String, String> {
    if (1..=100).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("expected a model's name of 1 to 100 visible ASCII characters".to_owned())
    }
}

pub(super) fn currency(text: &str) -> Result<String, String> {
    if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_lowercase()) {
        Ok(text.to_owned())
    } else {
        Err("expected three lower-case letters such as usd".to_owned())
    }
}

pub(super) fn days(text: &str) -> Result<u16, String> {
    whole_number(text)
        .and_then(|days| u16::try_from(days).ok())
        .filter(|days| *days <= MAX_DAYS)
        .ok_or_else(|| format!("expected a whole number of days from 0 to {MAX_DAYS}"))
}

pub(super) fn size_bytes(text: &str) -> Result<u64, String> {
    whole_number(text)
        // SQL keeps sizes in signed 64 bits.
        .filter(|size| *size > 0 && i64::try_from(*size).is_ok())
        .ok_or_else(|| "expected a whole number of bytes from 1".to_owned())
}

/// Digits alone: `str::parse` also takes a sign.
fn whole_number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    telemetry::filter(text)
        .map(|_| text.to_owned())
        .map_err(|_| {
            "expected a level (error, warn, info, debug, trace, off) and perhaps target=level \
             pairs, separated by commas, such as info,rawdrive_store=debug"
                .to_owned()
        })
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected text or json".to_owned()),
    }
}
