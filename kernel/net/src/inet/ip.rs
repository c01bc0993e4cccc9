//! [`Ip`]: an address of either version, and [`Endpoint`], one with a port.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

/// Where IPv4 addresses are among those of IPv6 (RFC 4291, 2.5.5.2).
const MAPPED: u128 = 0xffff_0000_0000;

/// An IP address. One of version 4 is its mapped address of version 6, as both kinds of socket may have it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ip(u128);

impl Ip {
    /// 0.0.0.0.
    pub const ANY4: Ip = Ip(MAPPED);
    /// ::.
    pub const ANY6: Ip = Ip(0);
    /// 127.0.0.1.
    pub const LOOPBACK4: Ip = Ip(MAPPED | 0x7f00_0001);
    /// ::1.
    pub const LOOPBACK6: Ip = Ip(1);

    /// From the bytes of a packet or of `struct in_addr`.
    #[must_use]
    pub const fn v4(bytes: [u8; 4]) -> Ip {
        Ip(MAPPED | u32::from_be_bytes(bytes) as u128)
    }

    /// From the bytes of a packet or of `struct in6_addr`.
    #[must_use]
    pub const fn v6(bytes: [u8; 16]) -> Ip {
        Ip(u128::from_be_bytes(bytes))
    }

    /// Whether it is one of version 4.
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.0 >> 32 == MAPPED >> 32
    }

    /// The bytes of version 4; of the last four of another.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low half is what is asked for"
    )]
    pub const fn to_v4(self) -> [u8; 4] {
        (self.0 as u32).to_be_bytes()
    }

    /// The bytes of version 6.
    #[must_use]
    pub const fn to_v6(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Whether it stands for all addresses of its version.
    #[must_use]
    pub const fn is_any(self) -> bool {
        self.0 == 0 || self.0 == MAPPED
    }

    /// Whether it is of the machine itself by definition.
    #[must_use]
    pub const fn is_loopback(self) -> bool {
        self.0 == 1 || (self.is_v4() && self.to_v4()[0] == 127)
    }

    /// Whether it is a group's.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        if self.is_v4() {
            self.to_v4()[0] & 0xf0 == 0xe0
        } else {
            self.to_v6()[0] == 0xff
        }
    }

    /// Whether it is 255.255.255.255.
    #[must_use]
    pub const fn is_broadcast(self) -> bool {
        self.0 == MAPPED | 0xffff_ffff
    }

    /// Whether it is fe80::/10, which means something on one link only.
    #[must_use]
    pub const fn is_link_local(self) -> bool {
        self.0 >> 118 == 0xfe80 >> 6
    }

    /// Whether its first `prefix` bits (of its own version) are those of `other`.
    #[must_use]
    pub fn is_within(self, other: Ip, prefix: u8) -> bool {
        if self.is_v4() != other.is_v4() {
            return false;
        }
        let width: u32 = if self.is_v4() { 32 } else { 128 };
        let prefix = u32::from(prefix).min(width);
        prefix == 0 || (self.0 ^ other.0) >> (width - prefix) == 0
    }
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_v4() {
            Ipv4Addr::from(self.to_v4()).fmt(f)
        } else {
            Ipv6Addr::from(self.to_v6()).fmt(f)
        }
    }
}

impl fmt::Debug for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address and a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address.
    pub ip: Ip,
    /// The port; 0 is none.
    pub port: u16,
}

impl Endpoint {
    /// Of its parts.
    #[must_use]
    pub const fn new(ip: Ip, port: u16) -> Endpoint {
        Endpoint { ip, port }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]:{}", self.ip, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_know_what_they_are() {
        let local = Ip::v4([127, 1, 2, 3]);
        assert!(local.is_v4() && local.is_loopback() && !local.is_any());
        assert!(Ip::ANY4.is_any() && Ip::ANY4.is_v4() && Ip::ANY6.is_any() && !Ip::ANY6.is_v4());
        assert!(Ip::v4([224, 0, 0, 1]).is_multicast() && Ip::v4([255; 4]).is_broadcast());
        let link = Ip::v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        assert!(link.is_link_local() && !link.is_multicast() && !local.is_link_local());
    }

    #[test]
    fn prefixes_are_of_the_version() {
        let here = Ip::v4([10, 1, 2, 3]);
        assert!(here.is_within(Ip::v4([10, 1, 2, 0]), 24));
        assert!(!here.is_within(Ip::v4([10, 1, 3, 0]), 24));
        assert!(here.is_within(Ip::v4([99, 0, 0, 0]), 0));
        assert!(!here.is_within(Ip::ANY6, 0));
        assert!(Ip::LOOPBACK6.is_within(Ip::LOOPBACK6, 128));
    }
}
