//! One byte range of a content (RFC 9110, section 14).

use actix_web::http::header::{self, EntityTag, HeaderMap};

use super::problem::{Code, Problem};

/// What part of a content a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of it: no range, one that is not understood, several, or one that `If-Range` called off.
    Whole,
    /// The bytes `first..=last`, both within the content.
    Part {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte.
        last: u64,
    },
    /// A range that lies outside the content.
    Unsatisfiable,
}

impl Wanted {
    /// How many bytes of a content of this length.
    #[must_use]
    pub fn length(self, content_length: u64) -> u64 {
        match self {
            Self::Whole => content_length,
            Self::Part { first, last } => last - first + 1,
            Self::Unsatisfiable => 0,
        }
    }

    /// The value of `Content-Range` for a part.
    #[must_use]
    pub fn content_range(self, content_length: u64) -> Option<String> {
        match self {
            Self::Part { first, last } => Some(format!("bytes {first}-{last}/{content_length}")),
            Self::Whole | Self::Unsatisfiable => None,
        }
    }
}

/// Reads `Range` and `If-Range` for a content of that length and tag.
///
/// # Errors
/// 416 with `Content-Range: bytes */length`.
pub fn wanted(
    headers: &HeaderMap,
    content_length: u64,
    tag: &EntityTag,
) -> Result<Wanted, Problem> {
    let mut ranges = headers.get_all(header::RANGE);
    let (Some(range), None) = (ranges.next(), ranges.next()) else {
        return Ok(Wanted::Whole);
    };
    if let Some(condition) = headers.get(header::IF_RANGE) {
        // A date is never met: the content has a strong tag and no Last-Modified.
        let met = condition
            .to_str()
            .ok()
            .and_then(|text| text.trim().parse::<EntityTag>().ok());
        if !met.is_some_and(|t| t.strong_eq(tag)) {
            return Ok(Wanted::Whole);
        }
    }
    match range
        .to_str()
        .map_or(Wanted::Whole, |text| parse_range(text, content_length))
    {
        Wanted::Unsatisfiable => Err(Problem::new(
            Code::RangeNotSatisfiable,
            "The range lies outside the content.",
        )
        .header(header::CONTENT_RANGE, format!("bytes */{content_length}"))),
        wanted => Ok(wanted),
    }
}

/// Reads the value of a `Range` header for a content of that length.
#[must_use]
pub fn parse_range(value: &str, content_length: u64) -> Wanted {
    understood(value, content_length).unwrap_or(Wanted::Whole)
}

fn understood(value: &str, content_length: u64) -> Option<Wanted> {
    let (unit, set) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    let (first, last) = (first.trim_end(), last.trim_start());
    let end = content_length.checked_sub(1);
    if first.is_empty() {
        let suffix = position(last)?;
        return Some(match end {
            Some(end) if suffix > 0 => Wanted::Part {
                first: content_length.saturating_sub(suffix),
                last: end,
            },
            _ => Wanted::Unsatisfiable,
        });
    }
    let first = position(first)?;
    let last = if last.is_empty() {
        u64::MAX
    } else {
        position(last)?
    };
    if last < first {
        return None;
    }
    Some(match end {
        Some(end) if first <= end => Wanted::Part {
            first,
            last: last.min(end),
        },
        _ => Wanted::Unsatisfiable,
    })
}

/// Digits alone; a number beyond 64 bits is beyond every content all the same.
fn position(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::etag::content_etag;
    use actix_web::test::TestRequest;

    fn part(first: u64, last: u64) -> Wanted {
        Wanted::Part { first, last }
    }

    #[test]
    fn the_forms_of_rfc_9110() {
        for (value, expected) in [
            ("bytes=0-499", part(0, 499)),
            ("bytes=500-999", part(500, 999)),
            ("bytes=9500-", part(9500, 9999)),
            ("bytes=-500", part(9500, 9999)),
            ("bytes=-20000", part(0, 9999)),
            ("bytes=0-20000", part(0, 9999)),
            ("bytes=0-99999999999999999999999", part(0, 9999)),
            ("BYTES=0-0", part(0, 0)),
            ("bytes=9999-9999", part(9999, 9999)),
            ("bytes=10000-", Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=0-1,5-6", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=--1", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
            ("0-1", Wanted::Whole),
        ] {
            assert_eq!(parse_range(value, 10_000), expected, "{value}");
        }
    }

    #[test]
    fn an_empty_content_satisfies_no_range() {
        for value in ["bytes=0-", "bytes=-1", "bytes=0-0"] {
            assert_eq!(parse_range(value, 0), Wanted::Unsatisfiable, "{value}");
        }
    }

    #[test]
    fn if_range_calls_a_range_off_when_the_content_changed() {
        let tag = content_etag("abc");
        let ask = |condition: &str| {
            let request = TestRequest::default()
                .insert_header(("range", "bytes=1-2"))
                .insert_header(("if-range", condition))
                .to_http_request();
            wanted(request.headers(), 10, &tag).unwrap()
        };
        assert_eq!(ask("\"abc\""), part(1, 2));
        for other in ["\"x\"", "W/\"abc\"", "Sat, 29 Oct 1994 19:43:31 GMT", "abc"] {
            assert_eq!(ask(other), Wanted::Whole, "{other}");
        }
    }

    #[test]
    fn an_unsatisfiable_range_is_416_with_the_length() {
        let request = TestRequest::default()
            .insert_header(("range", "bytes=10-"))
            .to_http_request();
        let problem = wanted(request.headers(), 10, &content_etag("a")).unwrap_err();
        assert_eq!(problem.code, Code::RangeNotSatisfiable);
        assert_eq!(problem.headers[0].1, "bytes */10");
    }
}
