//! What the guest is to do with its network devices.

use std::fmt;
use std::net::IpAddr;

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The interfaces.
    pub interfaces: Vec<Interface>,
    /// The routes, in an order in which each gateway can be reached when its turn comes.
    pub routes: Vec<Route>,
    /// Neighbours that are not asked for.
    pub neighbours: Vec<Neighbour>,
    /// Name servers.
    pub name_servers: Vec<IpAddr>,
    /// Domains that short names are looked up in.
    pub search_domains: Vec<String>,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the pod.
    pub name: String,
    /// Its hardware address, by which the guest finds it.
    pub mac: [u8; 6],
    /// The most bytes of a packet.
    pub mtu: u16,
    /// Its addresses.
    pub addresses: Vec<Address>,
}

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Bits.
    pub prefix: u8,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to; `None` for everywhere.
    pub destination: Option<Address>,
    /// Through whom; `None` for what is on the link.
    pub gateway: Option<IpAddr>,
    /// The interface's name.
    pub interface: String,
}

/// A neighbour whose hardware address is fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub ip: IpAddr,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The interface's name.
    pub interface: String,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

/// A hardware address as people write it.
#[must_use]
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

impl Interface {
    /// Its hardware address as people write it.
    #[must_use]
    pub fn mac_text(&self) -> String {
        mac_text(self.mac)
    }
}

impl Neighbour {
    /// Its hardware address as people write it.
    #[must_use]
    pub fn mac_text(&self) -> String {
        mac_text(self.mac)
    }
}
