//! `traceparent` (W3C Trace Context, version 00): which trace of the client's a request belongs to.

use actix_web::http::header::HeaderMap;

/// The trace's id, if the header is there once and well formed. It goes into the request's line of the log, and nowhere
/// else: what a stranger sends decides nothing.
pub(super) fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all("traceparent");
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let mut parts = value.to_str().ok()?.split('-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id = |text: &str, digits| is_hex(text, digits) && text.bytes().any(|b| b != b'0');
    // A later version may add parts; `ff` is none.
    let known =
        is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    (known && is_id(trace, 32) && is_id(parent, 16) && is_hex(flags, 2)).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn read(values: &[&str]) -> Option<String> {
        let request = values.iter().fold(TestRequest::default(), |r, v| {
            r.append_header(("traceparent", *v))
        });
        trace_id(request.to_http_request().headers()).map(str::to_owned)
    }

    #[test]
    fn a_well_formed_trace_is_known_by_its_id() {
        let parent = "00f067aa0ba902b7";
        for good in [
            format!("00-{TRACE}-{parent}-01"),
            format!("01-{TRACE}-{parent}-00-later"),
        ] {
            assert_eq!(read(&[&good]).as_deref(), Some(TRACE), "{good}");
        }
        let zeros = "0".repeat(32);
        for bad in [
            format!("ff-{TRACE}-{parent}-01"),
            format!("00-{TRACE}-{parent}-01-more"),
            format!("00-{zeros}-{parent}-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-{parent}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{parent}"),
            "\"; DROP".to_owned(),
        ] {
            assert_eq!(read(&[&bad]), None, "{bad}");
        }
        let good = format!("00-{TRACE}-{parent}-01");
        assert_eq!(read(&[&good, &good]), None);
        assert_eq!(read(&[]), None);
    }
}
