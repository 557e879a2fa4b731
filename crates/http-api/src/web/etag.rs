//! Entity tags and the conditions upon them (RFC 9110, sections 8.8.3 and 13.1).

use std::convert::Infallible;
use std::fmt::Display;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
pub use actix_web::http::header::EntityTag;
use actix_web::http::header::{self, Header, HeaderMap};
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use rawdrive_usage::hex;
use serde::Serialize;

use rawdrive_tenancy_core::StoreError;

use super::idempotency_key::body_digest;
use super::problem::{Code, Problem};

/// The strong tag of one version of a resource.
#[must_use]
pub fn etag_of(id: impl Display, version: impl Display) -> EntityTag {
    content_etag(&format!("{id}.{version}"))
}

/// The strong tag of immutable content, by its digest or another text. What a tag cannot hold is left out.
#[must_use]
pub fn content_etag(text: &str) -> EntityTag {
    EntityTag::new_strong(
        text.chars()
            .filter(|c| matches!(c, '!' | '#'..='~'))
            .collect(),
    )
}

/// The strong tag of what is shown of a version, where some of that changes by itself: what is counted, granted or seen.
/// A reader has it only as long as it shows the same; as a condition of a write it stands for the version
/// ([`IfMatch::check`]).
#[must_use]
pub fn view_etag(version: &EntityTag, json: &[u8]) -> EntityTag {
    let digest = hex(&body_digest(json)[..8]);
    EntityTag::new(version.weak, format!("{}.{digest}", version.tag()))
}

/// 200 with what is shown of a version, under its [`view_etag`].
///
/// # Errors
/// 500: the view has no JSON text.
pub fn tagged_view(version: &EntityTag, view: &impl Serialize) -> Result<HttpResponse, Problem> {
    let json = serde_json::to_vec(view).map_err(Problem::internal)?;
    Ok(HttpResponse::Ok()
        .insert_header(etag_header(&view_etag(version, &json)))
        .content_type(header::ContentType::json())
        .body(json))
}

/// The request's `If-Match`, to be checked against the version that the transaction read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// No condition.
    Absent,
    /// `*`: any version that exists.
    Any,
    /// One of these versions; none, if the header held no tag.
    OneOf(Vec<EntityTag>),
}

impl IfMatch {
    /// The condition of a request. A header that holds no tag is a condition that nothing meets.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        match tags(headers, &header::IF_MATCH) {
            None => Self::Absent,
            Some(Tags::Any) => Self::Any,
            Some(Tags::OneOf(tags)) => Self::OneOf(tags),
        }
    }

    /// What a write that lost a race comes to: whoever named a version hears that it is another now.
    #[must_use]
    pub fn lost_to(&self, error: StoreError) -> Problem {
        match (self, error) {
            (Self::OneOf(_), StoreError::Taken { .. }) => changed(),
            (_, error) => error.into(),
        }
    }

    /// # Errors
    /// 412 if the condition names other versions. Strong comparison: a weak tag matches nothing.
    pub fn check(&self, current: &EntityTag) -> Result<(), Problem> {
        match self {
            Self::Absent | Self::Any => Ok(()),
            Self::OneOf(tags) if tags.iter().any(|tag| is_of(tag, current)) => Ok(()),
            Self::OneOf(_) => Err(changed()),
        }
    }
}

/// Whether a tag names this version, or what was shown of it.
fn is_of(tag: &EntityTag, version: &EntityTag) -> bool {
    let shown = tag.tag().strip_prefix(version.tag());
    tag.strong_eq(version) || !tag.weak && shown.is_some_and(|digest| digest.starts_with('.'))
}

fn changed() -> Problem {
    Problem::new(
        Code::PreconditionFailed,
        "The resource has changed since the version that If-Match names.",
    )
}

impl FromRequest for IfMatch {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self::of(request.headers())))
    }
}

/// Whether `If-None-Match` says that the client has this version: answer 304. Weak comparison.
#[must_use]
pub fn not_modified(headers: &HeaderMap, current: &EntityTag) -> bool {
    match tags(headers, &header::IF_NONE_MATCH) {
        None => false,
        Some(Tags::Any) => true,
        Some(Tags::OneOf(tags)) => tags.iter().any(|tag| tag.weak_eq(current)),
    }
}

/// The content codings that answers are sent in, as their tags name them.
pub(super) const CODINGS: [&str; 3] = ["br", "zstd", "gzip"];

/// The tag of a representation in a content coding: another one, since its bytes are others (RFC 9110, section 8.8.3.3).
pub(super) fn coded(tag: &EntityTag, coding: &str) -> EntityTag {
    EntityTag::new(tag.weak, format!("{}-{coding}", tag.tag()))
}

/// Whether `If-None-Match` names the representation in that coding.
pub(super) fn names_coded(headers: &HeaderMap, tag: &EntityTag, coding: &str) -> bool {
    let coded = coded(tag, coding);
    let mut named = headers.get_all(header::IF_NONE_MATCH);
    named.any(|value| {
        value.to_str().is_ok_and(|text| {
            let mut tags = text.split(',').filter_map(|tag| tag.trim().parse().ok());
            tags.any(|tag: EntityTag| tag.weak_eq(&coded))
        })
    })
}

/// The version's own tag: whichever representation of it the client has, it is that version.
fn uncoded(tag: EntityTag) -> EntityTag {
    let own = CODINGS
        .iter()
        .find_map(|coding| tag.tag().strip_suffix(coding)?.strip_suffix('-'));
    match own {
        Some(own) => EntityTag::new(tag.weak, own.to_owned()),
        None => tag,
    }
}

enum Tags {
    Any,
    OneOf(Vec<EntityTag>),
}

fn tags(headers: &HeaderMap, name: &header::HeaderName) -> Option<Tags> {
    let mut found = None;
    for value in headers.get_all(name) {
        let tags = found.get_or_insert_with(Vec::new);
        let Ok(text) = value.to_str() else { continue };
        if text.trim() == "*" {
            return Some(Tags::Any);
        }
        // Our own tags hold no comma, so a tag that is cut apart here could not have matched.
        tags.extend(
            text.split(',')
                .filter_map(|tag| tag.trim().parse().ok().map(uncoded)),
        );
    }
    found.map(Tags::OneOf)
}

/// The name under which actix-web knows the header; kept here so that answers are written one way.
#[must_use]
pub fn etag_header(tag: &EntityTag) -> (header::HeaderName, String) {
    (header::ETag::name(), tag.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn if_match(values: &[&str]) -> IfMatch {
        let request = values.iter().fold(TestRequest::default(), |r, v| {
            r.append_header(("if-match", *v))
        });
        IfMatch::of(request.to_http_request().headers())
    }

    #[test]
    fn what_was_shown_of_a_version_stands_for_it_and_for_no_other() {
        let version = etag_of("gal_1", 3);
        let shown = view_etag(&version, b"{}").to_string();
        assert_ne!(shown, view_etag(&version, b"[]").to_string());
        let condition = if_match(&[&shown]);
        assert!(condition.check(&version).is_ok());
        for other in [
            etag_of("gal_1", 30),
            etag_of("gal_1", 4),
            etag_of("gal_2", 3),
        ] {
            assert!(condition.check(&other).is_err(), "{other}");
        }
        assert!(if_match(&[&format!("W/{shown}")]).check(&version).is_err());
        assert!(if_match(&["\"gal_1.30\""]).check(&version).is_err());
    }

    #[test]
    fn if_match_holds_for_this_version_a_star_and_no_condition() {
        let tag = etag_of("gal_1", 3);
        assert_eq!(tag.to_string(), "\"gal_1.3\"");
        for values in [
            &[] as &[&str],
            &["*"],
            &["\"gal_1.3\""],
            &["\"x\", \"gal_1.3\""],
            &["\"x\"", "\"gal_1.3\""],
            &["\"gal_1.3-gzip\""],
        ] {
            assert!(if_match(values).check(&tag).is_ok(), "{values:?}");
        }
        for values in [
            &["\"gal_1.2\""] as &[&str],
            &["W/\"gal_1.3\""],
            &["\"gal_1.3-lzma\""],
            &["gal_1.3"],
            &[""],
            &["\"x\",,"],
        ] {
            assert_eq!(
                if_match(values).check(&tag).unwrap_err().code,
                Code::PreconditionFailed,
                "{values:?}"
            );
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        let tag = content_etag("a\"b\u{0}c\u{e9}");
        assert_eq!(tag.to_string(), "\"abc\"");
        let headers = |v: &str| {
            TestRequest::default()
                .insert_header(("if-none-match", v))
                .to_http_request()
        };
        for same in ["*", "\"abc\"", "W/\"abc\"", "\"x\", W/\"abc\""] {
            assert!(not_modified(headers(same).headers(), &tag), "{same}");
        }
        assert!(!not_modified(headers("\"x\"").headers(), &tag));
        assert!(!not_modified(
            TestRequest::default().to_http_request().headers(),
            &tag
        ));
    }
}
