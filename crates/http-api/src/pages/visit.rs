//! What a browser brings along: its cookies, a form, and word of where it comes from.

use std::collections::BTreeMap;
use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::Uri;
use actix_web::http::header::{COOKIE, HeaderValue};
use rawdrive_identity::ports::AccessClaims;

use super::keys::SESSION_LIFE;
use crate::app::App;
use crate::web::{Body, Problem, UPGRADE_PATH, pairs};

/// The largest form.
const FORM_LIMIT_BYTES: u64 = 16 * 1024;
const FORM: &str = "application/x-www-form-urlencoded";
const DEVICE_SECONDS: i64 = 180 * 24 * 60 * 60;

/// The cookies of the pages. No other address of this server is sent them, and none reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cookie {
    /// Who signed in.
    Session,
    /// Who has not: what a form's token is of.
    Visitor,
    /// A device that somebody signed in on before: strangers' attempts do not keep it out.
    Device,
}

impl Cookie {
    const fn name(self) -> &'static str {
        match self {
            Self::Session => "rawdrive_page",
            Self::Visitor => "rawdrive_visitor",
            Self::Device => "rawdrive_device",
        }
    }

    fn seconds(self) -> i64 {
        match self {
            Self::Session | Self::Visitor => SESSION_LIFE.num_seconds(),
            Self::Device => DEVICE_SECONDS,
        }
    }

    /// A browser takes the prefix's word that no plain connection has set the cookie.
    fn full_name(self, transport: Transport) -> String {
        let prefix = if transport == Transport::Https {
            "__Secure-"
        } else {
            ""
        };
        format!("{prefix}{}", self.name())
    }

    /// The texts that came under its name.
    fn of<'a>(self, app: &App, request: &'a HttpRequest) -> impl Iterator<Item = &'a str> {
        let name = self.full_name(transport(app));
        let lines = request.headers().get_all(COOKIE);
        let pairs = lines.filter_map(|line| line.to_str().ok());
        pairs
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter_map(move |(known, text)| (known == name).then_some(text))
    }

    /// Has the browser keep a text.
    pub(super) fn set(self, app: &App, text: &str) -> Result<HeaderValue, Problem> {
        self.header(app, text, self.seconds())
    }

    /// Has the browser forget.
    pub(super) fn forget(self, app: &App) -> Result<HeaderValue, Problem> {
        self.header(app, "", 0)
    }

    fn header(self, app: &App, text: &str, seconds: i64) -> Result<HeaderValue, Problem> {
        let transport = transport(app);
        let secure = if transport == Transport::Https {
            "; Secure"
        } else {
            ""
        };
        let (name, path) = (self.full_name(transport), cookie_path(app));
        let text = format!(
            "{name}={text}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
        );
        HeaderValue::from_str(&text).map_err(Problem::internal)
    }
}

/// How browsers come here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// Encrypted.
    Https,
    /// Not, but from this machine.
    Loopback,
    /// Not, over a network: nobody should sign in.
    Plain,
}

pub(super) fn transport(app: &App) -> Transport {
    transport_of(&app.settings.public_url)
}

fn transport_of(public_url: &str) -> Transport {
    if public_url.starts_with("https://") {
        return Transport::Https;
    }
    let uri: Option<Uri> = public_url.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address: Option<IpAddr> = host.parse().ok();
    let here = address.map_or_else(
        || host == "localhost" || host.ends_with(".localhost"),
        |address| address.is_loopback(),
    );
    if here {
        Transport::Loopback
    } else {
        Transport::Plain
    }
}

/// The page's path as the browser knows it: the public URL may have one, which a proxy takes away.
fn cookie_path(app: &App) -> String {
    let uri: Option<Uri> = app.settings.public_url.parse().ok();
    let base = uri.as_ref().map_or("", Uri::path).trim_end_matches('/');
    format!("{base}{UPGRADE_PATH}")
}

/// The session that the request's cookie names, if it is one of ours and has not ended.
pub(super) fn session_claims(app: &App, request: &HttpRequest) -> Option<AccessClaims> {
    Cookie::Session
        .of(app, request)
        .find_map(|text| app.page_keys.open(app.env(), text))
}

/// What this browser was given when somebody signed in on it.
pub(super) fn device(app: &App, request: &HttpRequest) -> Option<String> {
    Cookie::Device.of(app, request).next().map(str::to_owned)
}

/// The visitor's name, which is none; made up where there is no cookie yet, which is to be set then.
pub(super) fn visitor(
    app: &App,
    request: &HttpRequest,
) -> Result<(String, Option<HeaderValue>), Problem> {
    if let Some(known) = known_visitor(app, request) {
        return Ok((known, None));
    }
    let bytes: [u8; 16] = app.env().bytes();
    let name: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let cookie = Cookie::Visitor.set(app, &name)?;
    Ok((name, Some(cookie)))
}

/// The visitor's name, where the browser brings it along.
pub(super) fn known_visitor(app: &App, request: &HttpRequest) -> Option<String> {
    let is_ours = |text: &&str| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let mut known = Cookie::Visitor.of(app, request);
    known.find(is_ours).map(str::to_owned)
}

/// Where a request began, as the browser tells (Fetch Metadata); nothing of a program or of an old browser.
pub(super) fn fetch_site(request: &HttpRequest) -> Option<&str> {
    request.headers().get("sec-fetch-site")?.to_str().ok()
}

/// Whether a browser says that another site's page sent this.
pub(super) fn is_anothers(request: &HttpRequest) -> bool {
    fetch_site(request).is_some_and(|site| site != "same-origin")
}

/// A form as it was sent.
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    /// # Errors
    /// 400, 408, 413, 415 or 422.
    pub(super) async fn read(body: Body) -> Result<Self, Problem> {
        let essence = body.content_type().unwrap_or_default().split(';').next();
        if !essence
            .unwrap_or_default()
            .trim()
            .eq_ignore_ascii_case(FORM)
        {
            return Err(Problem::unsupported_media_type(FORM));
        }
        let bytes = body.bytes(FORM_LIMIT_BYTES).await?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| Problem::malformed("The form is not UTF-8."))?;
        Ok(Self(pairs(text)?.into_iter().collect()))
    }

    /// A field; nothing where it was left empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let text = self.0.get(name).map(String::as_str);
        text.filter(|text| !text.is_empty())
    }

    /// A field, empty where it is missing.
    pub(super) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_travels_encrypted_or_not_at_all() {
        for (url, expected) in [
            ("https://saas.example", Transport::Https),
            ("http://127.0.0.1:8080", Transport::Loopback),
            ("http://[::1]:8080/saas", Transport::Loopback),
            ("http://localhost:8080", Transport::Loopback),
            ("http://app.localhost", Transport::Loopback),
            ("http://saas.example", Transport::Plain),
            ("http://192.168.1.4:8080", Transport::Plain),
            ("http://localhost.example", Transport::Plain),
        ] {
            assert_eq!(transport_of(url), expected, "{url}");
        }
    }
}
