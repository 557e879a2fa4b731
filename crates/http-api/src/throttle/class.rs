//! Which limit a request counts against, and how large each is.

use std::num::NonZeroU32;
use std::str::FromStr;

use actix_web::http::Method;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap};

use crate::web::body::require_json;

/// The longest window, in seconds: a day.
const MAX_WINDOW_SECONDS: u32 = 86_400;

macro_rules! classes {
    ($($(#[$doc:meta])* $class:ident = $name:literal, $quota:literal / $window:literal;)+) => {
        /// The kinds of requests, each with a limit of its own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum RouteClass {
            $($(#[$doc])* $class,)+
        }

        impl RouteClass {
            /// Every class.
            pub const ALL: &[Self] = &[$(Self::$class),+];

            /// Its name, in the configuration and in the `RateLimit` headers.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$class => $name,)+
                }
            }

            const fn standard(self) -> (u32, u32) {
                match self {
                    $(Self::$class => ($quota, $window),)+
                }
            }
        }
    };
}

// No honest client meets them: a page that shows 200 pictures asks for each of them, and an office has one address.
classes! {
    /// Reads by a credential.
    Read = "read", 30_000 / 60;
    /// Changes by a credential.
    Write = "write", 12_000 / 60;
    /// Bodies that are not JSON, by a credential.
    Upload = "upload", 6_000 / 60;
    /// Usage that is reported by the batch, by a credential.
    Ingest = "ingest", 6_000 / 60;
    /// Reads without a credential, by address: plans, pages, clients' links.
    Public = "public", 12_000 / 60;
    /// Changes without a credential, by address: signing in and up, resets. Passwords and mails have further limits.
    SignIn = "sign_in", 600 / 60;
    /// What is sent by others' servers and signed, by address.
    Webhook = "webhook", 12_000 / 60;
    /// Credentials that are wrong, or not known to be right yet, by address.
    Unproven = "unproven", 600 / 60;
}

/// Who sent a request, as far as that is known before the database is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// There is no credential.
    Anonymous,
    /// There is one, about which nothing is known.
    Unproven,
    /// A credential that was proved.
    Proven,
}

impl RouteClass {
    /// The class of a request; none for what is never limited: preflights, and what a supervisor asks.
    pub(super) fn of(
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        known: Known,
    ) -> Option<Self> {
        if method == Method::OPTIONS || matches!(path, "/livez" | "/readyz" | "/metrics") {
            return None;
        }
        let reads = method == Method::GET || method == Method::HEAD;
        let content_type = headers.get(CONTENT_TYPE);
        let is_json = require_json(content_type.map(|v| v.to_str().unwrap_or_default())).is_ok();
        Some(match known {
            Known::Unproven => Self::Unproven,
            Known::Anonymous if reads => Self::Public,
            Known::Anonymous if path.starts_with("/v1/webhooks/") => Self::Webhook,
            Known::Anonymous => Self::SignIn,
            Known::Proven if reads => Self::Read,
            Known::Proven if path == "/v1/usage/events" => Self::Ingest,
            Known::Proven if is_json => Self::Write,
            Known::Proven => Self::Upload,
        })
    }
}

/// So many requests in so many seconds, all at once if need be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Requests in a window.
    pub quota: NonZeroU32,
    /// The window's length.
    pub window_seconds: NonZeroU32,
}

/// The limits of all classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLimits(Vec<(RouteClass, Allowance)>);

/// A text that sets no limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected 1, true or on, or 0, false or off, or limits such as read=600/60,write=off (requests / seconds) of the \
     classes read, write, upload, ingest, public, sign_in, webhook and unproven"
)]
pub struct InvalidLimits;

impl Default for RequestLimits {
    fn default() -> Self {
        let standard = |class: &RouteClass| {
            let (quota, window) = class.standard();
            let allowance = Allowance {
                quota: NonZeroU32::new(quota)?,
                window_seconds: NonZeroU32::new(window)?,
            };
            Some((*class, allowance))
        };
        Self(RouteClass::ALL.iter().filter_map(standard).collect())
    }
}

impl RequestLimits {
    /// No limits, not even on attempts at passwords.
    #[must_use]
    pub const fn off() -> Self {
        Self(Vec::new())
    }

    /// Whether there are any.
    #[must_use]
    pub const fn are_on(&self) -> bool {
        !self.0.is_empty()
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (RouteClass, Allowance)> {
        self.0.iter().copied()
    }
}

impl FromStr for RequestLimits {
    type Err = InvalidLimits;

    fn from_str(text: &str) -> Result<Self, InvalidLimits> {
        match text {
            "1" | "true" | "on" => return Ok(Self::default()),
            "0" | "false" | "off" => return Ok(Self::off()),
            _ => {}
        }
        let mut limits = Self::default();
        let mut named = Vec::new();
        for one in text.split(',') {
            let (name, allowance) = one.trim().split_once('=').ok_or(InvalidLimits)?;
            let known = RouteClass::ALL.iter().find(|class| class.as_str() == name);
            let class = *known.ok_or(InvalidLimits)?;
            if named.contains(&class) {
                return Err(InvalidLimits);
            }
            named.push(class);
            limits.0.retain(|(other, _)| *other != class);
            if allowance == "off" {
                continue;
            }
            let (quota, window) = allowance.split_once('/').ok_or(InvalidLimits)?;
            let number = |text: &str| {
                let digits = text.bytes().all(|b| b.is_ascii_digit());
                let number: Option<NonZeroU32> = text.parse().ok();
                number.filter(|_| digits).ok_or(InvalidLimits)
            };
            let window_seconds = number(window)?;
            if window_seconds.get() > MAX_WINDOW_SECONDS {
                return Err(InvalidLimits);
            }
            let quota = number(quota)?;
            limits.0.push((
                class,
                Allowance {
                    quota,
                    window_seconds,
                },
            ));
        }
        Ok(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn class(method: Method, path: &str, content_type: &str, known: Known) -> &'static str {
        let mut request = TestRequest::default();
        if !content_type.is_empty() {
            request = request.insert_header((CONTENT_TYPE, content_type));
        }
        let request = request.to_http_request();
        RouteClass::of(&method, path, request.headers(), known).map_or("none", RouteClass::as_str)
    }

    #[test]
    fn a_request_has_the_class_of_what_it_asks_and_who_asks() {
        use Known::{Anonymous, Proven, Unproven};
        let json = "application/json";
        for (method, path, content_type, known, expected) in [
            (Method::GET, "/v1/usage", "", Proven, "read"),
            (Method::HEAD, "/v1/usage", "", Proven, "read"),
            (Method::PATCH, "/v1/workspace", json, Proven, "write"),
            (Method::DELETE, "/v1/api-keys/x", "", Proven, "write"),
            (Method::POST, "/v1/things", "image/jpeg", Proven, "upload"),
            (Method::POST, "/v1/usage/events", json, Proven, "ingest"),
            (Method::GET, "/v1/plans", "", Anonymous, "public"),
            (Method::POST, "/v1/signup", json, Anonymous, "sign_in"),
            (
                Method::POST,
                "/v1/webhooks/stripe",
                json,
                Anonymous,
                "webhook",
            ),
            (Method::GET, "/v1/usage", "", Unproven, "unproven"),
            (Method::OPTIONS, "/v1/usage", "", Anonymous, "none"),
            (Method::GET, "/readyz", "", Anonymous, "none"),
        ] {
            let seen = class(method.clone(), path, content_type, known);
            assert_eq!(seen, expected, "{method} {path} {known:?}");
        }
    }

    #[test]
    fn limits_are_read_class_by_class() {
        let read = |text: &str| text.parse::<RequestLimits>();
        assert_eq!(read("on"), Ok(RequestLimits::default()));
        assert!(!read("off").unwrap().are_on());
        let limits = read("read=600/60, write=off").unwrap();
        let of = |class| limits.each().find(|(known, _)| *known == class);
        let (_, allowance) = of(RouteClass::Read).unwrap();
        assert_eq!(
            (allowance.quota.get(), allowance.window_seconds.get()),
            (600, 60)
        );
        assert_eq!(of(RouteClass::Write), None);
        assert!(of(RouteClass::SignIn).is_some(), "the others stay");
        for bad in [
            "",
            "yes",
            "read",
            "read=600",
            "read=0/60",
            "read=1/0",
            "read=1/86401",
            "read=+1/60",
            "read=1/60,read=2/60",
            "reads=1/60",
            "read=1/60,",
        ] {
            assert_eq!(read(bad), Err(InvalidLimits), "{bad}");
        }
    }
}
