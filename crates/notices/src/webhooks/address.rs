//! Which addresses a webhook may call: those of the open internet. A workspace names an address that this server then
//! calls, from inside of a network where others are trusted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// The longest address, in bytes.
const MAX_URL_BYTES: usize = 2_048;

/// Whether webhooks may call addresses that are not on the open internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Public addresses alone, by `https://`.
    Public,
    /// Any address, also by `http://`: for development, and for receivers within one's own network.
    Anywhere,
}

/// Why a text is no address that webhooks may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWebhookUrl {
    /// It does not read as an address.
    #[error("expected an address such as https://example.com/hooks, of at most 2048 characters")]
    Malformed,
    /// It is not encrypted.
    #[error("expected an address that begins with https://")]
    NotHttps,
    /// It holds a name and a password.
    #[error("must hold no user name and no password: verify the signature instead")]
    Credentials,
    /// It leads into a private network.
    #[error("must not be an address within a private network")]
    Private,
}

/// An address that events may be sent to. Its host's name is looked up at each call, and judged then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookUrl(Url);

impl WebhookUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// See [`InvalidWebhookUrl`].
    pub fn parse(text: &str, reach: Reach) -> Result<Self, InvalidWebhookUrl> {
        if text.len() > MAX_URL_BYTES {
            return Err(InvalidWebhookUrl::Malformed);
        }
        let mut url = Url::parse(text).map_err(|_| InvalidWebhookUrl::Malformed)?;
        match url.scheme() {
            "https" => {}
            "http" if reach == Reach::Anywhere => {}
            "http" => return Err(InvalidWebhookUrl::NotHttps),
            _ => return Err(InvalidWebhookUrl::Malformed),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidWebhookUrl::Credentials);
        }
        url.set_fragment(None);
        let this = Self(url);
        match this.literal() {
            Some(address) if !may_call(address, reach) => Err(InvalidWebhookUrl::Private),
            _ => Ok(this),
        }
    }

    /// As it was stored: it is judged again when it is called.
    ///
    /// # Errors
    /// It is no address.
    pub fn from_stored(text: &str) -> Result<Self, InvalidWebhookUrl> {
        Url::parse(text)
            .map(Self)
            .map_err(|_| InvalidWebhookUrl::Malformed)
    }

    /// The address as it is called.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The host that is called.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The IP address that stands in it, however it is written, if one does.
    pub(super) fn literal(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        }
    }

    #[cfg(feature = "http")]
    pub(super) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }
}

/// Whether webhooks may call an address.
#[must_use]
pub fn may_call(address: IpAddr, reach: Reach) -> bool {
    reach == Reach::Anywhere
        || match address {
            IpAddr::V4(address) => is_public_v4(address),
            IpAddr::V6(address) => is_public_v6(address),
        }
}

/// The networks of the IANA registry of special-purpose addresses, multicast, and what is reserved.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !special
}

/// What is given out for the internet (2000::/3), less protocols, documentation and 6to4, which holds an IPv4 address.
/// Everything else, such as mapped addresses and the prefixes of translators, is not.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let global = a & 0xe000 == 0x2000;
    let special =
        (a == 0x2001 && (b < 0x0200 || b == 0x0db8)) || a == 0x2002 || a & 0xfff0 == 0x3ff0;
    global && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_the_open_internet_is_called() {
        for url in [
            "https://example.com/hooks?a=b",
            "https://93.184.216.34/",
            "https://[2606:4700::1111]:8443/x",
            "https://example.com:8443/",
        ] {
            assert!(WebhookUrl::parse(url, Reach::Public).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_private_address_is_refused_however_it_is_written() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:8.8.8.8]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::1]",
            "[fe80::1]",
            "[fc00::1]",
            "[fd12::1]",
            "[fec0::1]",
            "[ff02::1]",
            "[2001::1]",
            "[2001:db8::1]",
            "[2002:7f00:1::]",
            "[100::1]",
            "[3fff::1]",
        ] {
            let url = format!("https://{host}/");
            let parsed = WebhookUrl::parse(&url, Reach::Public);
            assert_eq!(parsed, Err(InvalidWebhookUrl::Private), "{host}");
            assert!(WebhookUrl::parse(&url, Reach::Anywhere).is_ok(), "{host}");
        }
        // Just outside of those.
        for host in [
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.1.1.1",
            "9.9.9.9",
            "11.0.0.1",
            "[2001:200::1]",
            "[2003::1]",
        ] {
            let url = format!("https://{host}/");
            assert!(WebhookUrl::parse(&url, Reach::Public).is_ok(), "{host}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_by_name() {
        use InvalidWebhookUrl::{Credentials, Malformed, NotHttps};
        let long = format!("https://example.com/{}", "x".repeat(MAX_URL_BYTES));
        for (text, why) in [
            ("", Malformed),
            ("example.com", Malformed),
            ("ftp://example.com", Malformed),
            ("https://", Malformed),
            (&long, Malformed),
            ("http://example.com", NotHttps),
            ("https://me:secret@example.com", Credentials),
            ("https://me@example.com", Credentials),
        ] {
            assert_eq!(WebhookUrl::parse(text, Reach::Public), Err(why), "{text}");
        }
        let url = WebhookUrl::parse("http://localhost:1/x#part", Reach::Anywhere).unwrap();
        assert_eq!(url.as_str(), "http://localhost:1/x");
    }
}
