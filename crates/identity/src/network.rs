//! Whom limits and queues count as one client.

use std::net::{IpAddr, Ipv6Addr};

/// Where a client calls from: an IPv4 address, or of IPv6 the first 64 bits, because one subscriber has them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network([u8; 16]);

impl Network {
    /// The network of an address; an IPv4 address that is written as IPv6 is the IPv4 address.
    #[must_use]
    pub fn of(client: IpAddr) -> Self {
        Self(match client.to_canonical() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).octets(),
        })
    }

    /// Its bytes, for a key.
    #[must_use]
    pub fn octets(&self) -> &[u8; 16] {
        &self.0
    }
}
