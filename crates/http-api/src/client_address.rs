//! Who the client is: the peer of the connection, or whom a proxy that the installation trusts speaks for. The one
//! place where either is read.
//!
//! Invariant: no header of an untrusted peer, and nothing in a header beyond the first hop that is not trusted, has
//! any influence. What cannot be read is never a client of its own: it falls back to the proxy that sent it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Once;

use actix_web::HttpRequest;
use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName};
use actix_web::web::Data;
use ipnet::IpNet;

use crate::app::App;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Networks whose word about their clients is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// A text that is no list of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected networks or addresses such as 10.0.0.0/8, 2001:db8::/32 or 127.0.0.1, separated by commas"
)]
pub struct InvalidNetworks;

impl FromStr for TrustedProxies {
    type Err = InvalidNetworks;

    fn from_str(text: &str) -> Result<Self, InvalidNetworks> {
        let network = |text: &str| {
            let text = text.trim();
            let network = text
                .parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| InvalidNetworks)
        };
        text.split(',')
            .map(network)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl TrustedProxies {
    /// Whether an address is that of a trusted proxy.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether every address there is would be trusted, so that any client could say who it is.
    #[must_use]
    pub fn trusts_everybody(&self) -> bool {
        self.0.iter().any(|network| network.prefix_len() == 0)
    }

    /// The client of a request that `peer` sent.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return peer;
        }
        let forwarded = lines(headers, &FORWARDED);
        let x_forwarded_for = lines(headers, &X_FORWARDED_FOR);
        match (forwarded.is_empty(), x_forwarded_for.is_empty()) {
            (true, true) => peer,
            (false, true) => self.nearest_client(peer, forwarded_hops(&forwarded)),
            (true, false) => self.nearest_client(peer, x_forwarded_for_hops(&x_forwarded_for)),
            (false, false) => {
                // A proxy writes one and passes the other on as the client sent it: which is which is not known.
                let by_forwarded = self.nearest_client(peer, forwarded_hops(&forwarded));
                let by_other = self.nearest_client(peer, x_forwarded_for_hops(&x_forwarded_for));
                if by_forwarded == by_other {
                    by_other
                } else {
                    peer
                }
            }
        }
    }

    /// From the nearest hop on: the first that is not trusted, otherwise the last that could be read.
    fn nearest_client(&self, peer: IpAddr, hops: Vec<Option<IpAddr>>) -> IpAddr {
        let mut client = peer;
        for hop in hops.into_iter().rev() {
            let Some(hop) = hop else { break };
            client = hop;
            if !self.trusts(hop) {
                break;
            }
        }
        client
    }
}

/// The client of a request.
#[must_use]
pub fn client_address(request: &HttpRequest) -> IpAddr {
    let peer = request
        .peer_addr()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |a| a.ip());
    let Some(app) = request.app_data::<Data<App>>() else {
        return peer.to_canonical();
    };
    let proxies = &app.settings.trusted_proxies;
    if proxies.0.is_empty() {
        hint_at_proxy(request.headers());
    }
    proxies.client(peer, request.headers())
}

/// Tells the operator, once, that there seems to be a proxy which nobody has named.
fn hint_at_proxy(headers: &HeaderMap) {
    static HINTED: Once = Once::new();
    if headers.contains_key(FORWARDED) || headers.contains_key(X_FORWARDED_FOR) {
        HINTED.call_once(|| {
            tracing::warn!(
                "a request came with Forwarded or X-Forwarded-For, which are ignored: if a proxy stands before this \
                 server, name its network in RAWDRIVE_TRUSTED_PROXIES; until then limits take everybody behind it for \
                 one client"
            );
        });
    }
}

/// All lines of a list header as one. `None` for text that no proxy writes.
fn lines(headers: &HeaderMap, name: &HeaderName) -> Vec<Option<String>> {
    let text =
        |value: &actix_web::http::header::HeaderValue| value.to_str().ok().map(str::to_owned);
    headers.get_all(name).map(text).collect()
}

/// The hops of `X-Forwarded-For`, the client first; `None` for one that is no address.
fn x_forwarded_for_hops(lines: &[Option<String>]) -> Vec<Option<IpAddr>> {
    let of_line = |line: &Option<String>| match line {
        Some(line) => line.split(',').map(|hop| address(hop.trim())).collect(),
        None => vec![None],
    };
    lines.iter().flat_map(of_line).collect()
}

/// The hops of `Forwarded` (RFC 7239), the client first; `None` for one without an address, and for a line that does
/// not keep to the grammar, wherever it breaks it: an open quote could swallow what a proxy has appended.
fn forwarded_hops(lines: &[Option<String>]) -> Vec<Option<IpAddr>> {
    let of_line = |line: &Option<String>| {
        let elements = line.as_deref().and_then(forwarded_elements);
        elements.unwrap_or_else(|| vec![None])
    };
    lines.iter().flat_map(of_line).collect()
}

fn forwarded_elements(line: &str) -> Option<Vec<Option<IpAddr>>> {
    let mut hops = Vec::new();
    let mut hop = None;
    let mut rest = line.trim();
    loop {
        let (name, after) = rest.split_once('=')?;
        let is_token = !name.is_empty() && name.bytes().all(is_token_byte);
        let (value, after) = value(after)?;
        if !is_token {
            return None;
        }
        if name.eq_ignore_ascii_case("for") {
            hop = address(&value);
        }
        let after = after.trim_start();
        match after.bytes().next() {
            None => {
                hops.push(hop);
                return Some(hops);
            }
            Some(b';') => {}
            Some(b',') => hops.push(hop.take()),
            Some(_) => return None,
        }
        rest = after[1..].trim_start();
    }
}

/// A token or a quoted string, and what comes after it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text
            .bytes()
            .position(|byte| !is_token_byte(byte))
            .unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            char => value.push(char),
        }
    }
    None
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// An address, perhaps in brackets, perhaps with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let bare = text.parse::<IpAddr>().ok();
    bare.or_else(|| bracketed().map(IpAddr::V6))
        .or_else(with_port)
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn client_of(proxies: &str, peer: &str, headers: &[(&str, &str)]) -> String {
        let proxies: TrustedProxies = proxies.parse().unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        proxies.client(peer.parse().unwrap(), &map).to_string()
    }

    const XFF: &str = "X-Forwarded-For";
    const FWD: &str = "Forwarded";

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_says() {
        for headers in [
            &[(XFF, "203.0.113.9")][..],
            &[(FWD, "for=203.0.113.9")],
            &[],
        ] {
            assert_eq!(
                client_of("10.0.0.0/8", "198.51.100.7", headers),
                "198.51.100.7"
            );
            assert_eq!(
                client_of("10.0.0.0/8", "::ffff:198.51.100.7", headers),
                "198.51.100.7"
            );
        }
    }

    #[test]
    fn the_nearest_hop_that_is_not_trusted_is_the_client() {
        let of = |value| client_of("10.0.0.0/8, ::1", "10.0.0.1", &[(XFF, value)]);
        assert_eq!(of("203.0.113.9"), "203.0.113.9");
        assert_eq!(
            of("1.1.1.1, 203.0.113.9"),
            "203.0.113.9",
            "what the client wrote itself"
        );
        assert_eq!(
            of("1.1.1.1,203.0.113.9 , 10.2.3.4"),
            "203.0.113.9",
            "two proxies"
        );
        assert_eq!(
            of("10.9.9.9, 10.2.3.4"),
            "10.9.9.9",
            "a client of the inner network"
        );
        assert_eq!(of("203.0.113.9:4711"), "203.0.113.9");
        assert_eq!(of("2001:db8::7"), "2001:db8::7");
        assert_eq!(of("[2001:db8::7]"), "2001:db8::7");
        assert_eq!(of("[2001:db8::7]:4711, ::ffff:10.0.0.2"), "2001:db8::7");
        assert_eq!(
            client_of(
                "10.0.0.0/8",
                "10.0.0.1",
                &[(XFF, "1.1.1.1"), (XFF, "203.0.113.9")]
            ),
            "203.0.113.9",
            "two lines are one list"
        );
        assert_eq!(
            client_of("::1", "::1", &[(XFF, "203.0.113.9")]),
            "203.0.113.9"
        );
        assert_eq!(
            client_of("127.0.0.1", "::ffff:127.0.0.1", &[(XFF, "203.0.113.9")]),
            "203.0.113.9"
        );
    }

    #[test]
    fn forwarded_is_read_as_its_standard_says() {
        let of = |value| client_of("10.0.0.0/8", "10.0.0.1", &[(FWD, value)]);
        assert_eq!(of("for=203.0.113.9"), "203.0.113.9");
        assert_eq!(
            of("For=\"203.0.113.9:80\";proto=https;by=10.0.0.1"),
            "203.0.113.9"
        );
        assert_eq!(of("proto=http;for=\"[2001:db8::7]:4711\""), "2001:db8::7");
        assert_eq!(
            of("for=1.1.1.1, for=203.0.113.9;host=\"a,b\", for=10.0.0.3"),
            "203.0.113.9"
        );
    }

    #[test]
    fn what_cannot_be_read_falls_back_to_the_proxy_that_sent_it() {
        for value in [
            "unknown",
            "",
            "203.0.113.9,",
            "203.0.113.9, nonsense",
            "203.0.113.999",
            "1.1.1.1 203.0.113.9",
        ] {
            assert_eq!(
                client_of("10.0.0.0/8", "10.0.0.1", &[(XFF, value)]),
                "10.0.0.1",
                "{value}"
            );
        }
        for value in [
            "for=unknown",
            "for=_hidden",
            "for",
            "",
            "for=",
            "proto=https",
            "for=\"",
            "for=1.1.1.1;x=\", for=203.0.113.9",
            "for=1.1.1.1;x=\", for=\"[2001:db8::7]\"",
            "for=203.0.113.9 for=1.1.1.1",
            "for=203.0.113.9;",
            "f or=203.0.113.9",
        ] {
            assert_eq!(
                client_of("10.0.0.0/8", "10.0.0.1", &[(FWD, value)]),
                "10.0.0.1",
                "{value}"
            );
        }
        assert_eq!(
            client_of(
                "10.0.0.0/8",
                "10.0.0.1",
                &[(XFF, "1.1.1.1, unknown, 10.0.0.2")]
            ),
            "10.0.0.2",
            "the farthest that is known"
        );
        assert_eq!(
            client_of(
                "10.0.0.0/8",
                "10.0.0.1",
                &[(FWD, "for=1.1.1.1"), (XFF, "203.0.113.9")]
            ),
            "10.0.0.1",
            "one of the two is the client's own word"
        );
        assert_eq!(
            client_of(
                "10.0.0.0/8",
                "10.0.0.1",
                &[(FWD, "for=203.0.113.9"), (XFF, "203.0.113.9")]
            ),
            "203.0.113.9"
        );
    }

    #[test]
    fn networks_are_read_or_refused() {
        for text in [
            "10.0.0.0/8",
            "10.1.2.3/8",
            "127.0.0.1",
            "::1",
            "2001:db8::/32,10.0.0.0/8 , ::1",
        ] {
            assert!(text.parse::<TrustedProxies>().is_ok(), "{text}");
        }
        for text in [
            "",
            ",",
            "10.0.0.0/33",
            "10.0.0/8",
            "proxy.internal",
            "10.0.0.0/8;::1",
            "10.0.0.0/8,",
            "*",
        ] {
            assert!(text.parse::<TrustedProxies>().is_err(), "{text}");
        }
        assert!(
            "0.0.0.0/0"
                .parse::<TrustedProxies>()
                .unwrap()
                .trusts_everybody()
        );
    }

    proptest! {
        /// A proxy appends whom it saw. Whatever a client wrote before that, the client is whom it saw, or, where
        /// what was written makes the line unreadable, the proxy.
        #[test]
        fn a_client_chooses_no_address(written in "[ -~]{0,60}", seen in any::<[u8; 4]>().prop_map(|mut a| { a[0] = 203; IpAddr::from(a) })) {
            let proxy = "10.0.0.1";
            let by_list = client_of("10.0.0.0/8", proxy, &[(XFF, &format!("{written}, {seen}"))]);
            prop_assert_eq!(by_list, seen.to_string());
            for appended in [format!("{written}, for={seen}"), format!("{written}, for=\"{seen}\";proto=https")] {
                let client = client_of("10.0.0.0/8", proxy, &[(FWD, &appended)]);
                prop_assert!(client == seen.to_string() || client == proxy, "{client} by {appended}");
            }
            let both = client_of("10.0.0.0/8", proxy, &[(FWD, &written), (XFF, &seen.to_string())]);
            prop_assert!(both == seen.to_string() || both == proxy);
        }
    }
}
