//! Where a packet goes: to the namespace itself, or by an interface to a neighbour.

use abi::{Errno, Result};

use super::Stack;
use crate::inet::interface::Interface;
use crate::inet::ip::Ip;

/// Routes that a namespace may have.
const ROUTES_MAX: usize = 4096;
/// Bytes of the headers in front of TCP's payload.
const HEADERS_4: u32 = 40;
const HEADERS_6: u32 = 60;

/// A way to a network that was set, besides those that interfaces' addresses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) target: Ip,
    pub(crate) prefix: u8,
    /// `None`: who is there is a neighbour.
    pub(crate) gateway: Option<Ip>,
    pub(crate) interface: u32,
    pub(crate) metric: u32,
}

/// Where a packet goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) interface: u32,
    pub(crate) next: Ip,
}

impl Stack {
    /// The interface with this number.
    pub(crate) fn interface(&self, index: u32) -> Option<&Interface> {
        self.interfaces
            .iter()
            .find(|interface| interface.index == index)
    }

    /// As [`Self::interface`], to change it.
    pub(crate) fn interface_mut(&mut self, index: u32) -> Option<&mut Interface> {
        self.interfaces
            .iter_mut()
            .find(|interface| interface.index == index)
    }

    /// The way to `ip`, which is not of the namespace: the narrowest network, of those the cheapest.
    pub(crate) fn way(&self, ip: Ip) -> Option<Way> {
        let outside = || {
            self.interfaces
                .iter()
                .filter(|interface| interface.is_up && interface.device.is_some())
        };
        if ip.is_broadcast() || ip.is_multicast() || ip.is_link_local() {
            return outside().next().map(|interface| Way {
                interface: interface.index,
                next: ip,
            });
        }
        let links = outside().flat_map(|interface| {
            let near = interface
                .addresses
                .iter()
                .filter(move |local| ip.is_within(local.ip, local.prefix));
            near.map(move |local| {
                (
                    local.prefix,
                    0,
                    Way {
                        interface: interface.index,
                        next: ip,
                    },
                )
            })
        });
        let is_up = |index: u32| outside().any(|interface| interface.index == index);
        let set = self
            .routes
            .iter()
            .filter(|route| ip.is_within(route.target, route.prefix) && is_up(route.interface));
        let set = set.map(|route| {
            let way = Way {
                interface: route.interface,
                next: route.gateway.unwrap_or(ip),
            };
            (route.prefix, route.metric, way)
        });
        let better = |(prefix, metric, _): &(u8, u32, Way)| (*prefix, u32::MAX - *metric);
        links.chain(set).max_by_key(better).map(|(.., way)| way)
    }

    /// Whether what is sent to `ip` comes here.
    pub(crate) fn is_local(&self, ip: Ip) -> bool {
        self.interfaces.iter().any(|interface| interface.has(ip))
    }

    /// Whether a socket may have the address `ip`. As long as no interface has any, Linux does not know better.
    pub(crate) fn may_bind(&self, ip: Ip) -> bool {
        let is_bare = || {
            self.interfaces
                .iter()
                .all(|interface| interface.addresses.is_empty())
        };
        let is_of_all = ip.is_any() || ip.is_multicast() || self.is_broadcast(ip);
        is_of_all || self.is_local(ip) || ip.is_v4() && is_bare()
    }

    /// Whether `ip` stands for all of a network.
    pub(crate) fn is_broadcast(&self, ip: Ip) -> bool {
        self.interfaces
            .iter()
            .any(|interface| interface.is_broadcast(ip))
    }

    /// The address that what is sent to `ip` comes from.
    ///
    /// # Errors
    /// `ENETUNREACH` without a way there.
    pub(crate) fn source_for(&self, ip: Ip) -> Result<Ip> {
        if let Some(own) = self.interfaces.iter().find(|interface| interface.has(ip)) {
            return own.source_of_own(ip).ok_or(Errno::ENETUNREACH);
        }
        let way = self.way(ip).ok_or(Errno::ENETUNREACH)?;
        let interface = self.interface(way.interface).ok_or(Errno::ENETUNREACH)?;
        let none = if ip.is_v4() {
            Errno::ENETUNREACH
        } else {
            Errno::EADDRNOTAVAIL
        };
        interface.source_for(way.next).ok_or(none)
    }

    /// The largest packet on the way to `ip`.
    pub(crate) fn mtu(&self, ip: Ip) -> u32 {
        let interface = if self.is_local(ip) {
            self.interfaces.first()
        } else {
            self.way(ip).and_then(|way| self.interface(way.interface))
        };
        interface.map_or(1500, |interface| interface.mtu)
    }

    /// The most that a segment to `ip` carries.
    pub(crate) fn mss(&self, ip: Ip) -> u16 {
        let headers = if ip.is_v4() { HEADERS_4 } else { HEADERS_6 };
        // Longer IP packets than of 64 KiB there are not.
        let packet = self.mtu(ip).min(65535);
        u16::try_from(packet.saturating_sub(headers)).unwrap_or(u16::MAX)
    }

    /// Adds a route.
    ///
    /// # Errors
    /// `EEXIST` when there is one to that network already, `ENODEV`, `ENETUNREACH` for a gateway that is no neighbour.
    pub(crate) fn add_route(&mut self, mut route: Route) -> Result<()> {
        if route.interface == 0 {
            let gateway = route.gateway.ok_or(Errno::ENODEV)?;
            route.interface = self.way(gateway).ok_or(Errno::ENETUNREACH)?.interface;
        }
        let interface = self.interface(route.interface).ok_or(Errno::ENODEV)?;
        if !interface.is_up {
            return Err(Errno::ENETDOWN);
        }
        if let Some(gateway) = route.gateway {
            let is_near = |target: Ip, prefix: u8| gateway.is_within(target, prefix);
            let by_address = interface
                .addresses
                .iter()
                .any(|local| is_near(local.ip, local.prefix));
            let by_route = self.routes.iter().any(|known| {
                known.gateway.is_none()
                    && known.interface == route.interface
                    && is_near(known.target, known.prefix)
            });
            if !by_address && !by_route && !gateway.is_link_local() {
                return Err(Errno::ENETUNREACH);
            }
        }
        let is_same = |known: &Route| {
            known.target == route.target
                && known.prefix == route.prefix
                && known.metric == route.metric
        };
        if self.routes.iter().any(is_same) {
            return Err(Errno::EEXIST);
        }
        if self.routes.len() >= ROUTES_MAX {
            return Err(Errno::ENOBUFS);
        }
        self.routes.try_push(route)?;
        Ok(())
    }

    /// Removes the first route to that network (by that gateway or interface, where they are named).
    ///
    /// # Errors
    /// `ESRCH` when there is none.
    pub(crate) fn remove_route(&mut self, wanted: &Route) -> Result<()> {
        let is_meant = |known: &Route| {
            known.target == wanted.target
                && known.prefix == wanted.prefix
                && (wanted.gateway.is_none() || wanted.gateway == known.gateway)
                && (wanted.interface == 0 || wanted.interface == known.interface)
        };
        let at = self.routes.iter().position(is_meant).ok_or(Errno::ESRCH)?;
        self.routes.remove(at);
        Ok(())
    }
}
