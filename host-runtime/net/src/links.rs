//! From what netlink tells of a namespace to the guest's [`Plan`]. Data alone.

use std::net::IpAddr;

use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};

use crate::NetError;
use crate::plan::{Address, Interface, Neighbour, Route};

/// The longest packet that the guest takes.
const MOST_MTU: u32 = 65_520;

/// An interface of the namespace that the guest gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) interface: Interface,
}

/// The interface of a message, if the guest is to have it: one that is up and is not the loopback interface.
pub(crate) fn link(message: &LinkMessage) -> Result<Option<Link>, NetError> {
    let header = &message.header;
    if header.flags.contains(LinkFlags::Loopback) || !header.flags.contains(LinkFlags::Up) {
        return Ok(None);
    }
    let (mut name, mut mac, mut mtu) = (String::new(), None, 1500);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(of) => name.clone_from(of),
            LinkAttribute::Address(of) => mac = <[u8; 6]>::try_from(&of[..]).ok(),
            LinkAttribute::Mtu(of) => mtu = *of,
            _ => {}
        }
    }
    let mac = mac.filter(|_| header.link_layer_type == LinkLayerType::Ether);
    let Some(mac) = mac else {
        let what = format!("the interface {name}, which is no Ethernet device");
        return Err(NetError::Unsupported { what });
    };
    Ok(Some(Link {
        index: header.index,
        interface: Interface {
            name,
            mac,
            mtu: u16::try_from(mtu.min(MOST_MTU)).unwrap_or(u16::MAX),
            addresses: Vec::new(),
        },
    }))
}

/// Gives its interface the address of a message.
pub(crate) fn add_address(links: &mut [Link], message: &AddressMessage) {
    let header = &message.header;
    let Some(link) = links.iter_mut().find(|link| link.index == header.index) else {
        return;
    };
    // Of two, the one called local is the interface's own.
    let mut ip = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(local) => ip = Some(*local),
            AddressAttribute::Address(address) => ip = ip.or(Some(*address)),
            _ => {}
        }
    }
    let prefix = header.prefix_len;
    link.interface
        .addresses
        .extend(ip.map(|ip| Address { ip, prefix }));
}

/// The route of a message, if the guest is to have it: not those that come with an address by themselves.
pub(crate) fn route(links: &[Link], message: &RouteMessage) -> Result<Option<Route>, NetError> {
    let header = &message.header;
    let is_ours = header.table == RouteHeader::RT_TABLE_MAIN
        && header.kind == RouteType::Unicast
        && header.protocol != RouteProtocol::Kernel;
    if !is_ours {
        return Ok(None);
    }
    let (mut to, mut gateway, mut index) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(address),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Oif(of) => index = Some(*of),
            RouteAttribute::MultiPath(_) | RouteAttribute::Via(_) | RouteAttribute::Encap(_) => {
                let what = "a route over several ways, or in another protocol".to_owned();
                return Err(NetError::Unsupported { what });
            }
            _ => {}
        }
    }
    let link = links.iter().find(|link| Some(link.index) == index);
    let prefix = header.destination_prefix_length;
    Ok(link.map(|link| Route {
        destination: to.map(|ip| Address { ip, prefix }),
        gateway,
        interface: link.interface.name.clone(),
    }))
}

/// The neighbour of a message, if its hardware address is fixed.
pub(crate) fn neighbour(links: &[Link], message: &NeighbourMessage) -> Option<Neighbour> {
    let header = &message.header;
    let link = links.iter().find(|link| link.index == header.ifindex)?;
    let (mut ip, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(of)) => ip = Some((*of).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(of)) => ip = Some((*of).into()),
            NeighbourAttribute::LinkLayerAddress(of) => mac = <[u8; 6]>::try_from(&of[..]).ok(),
            _ => {}
        }
    }
    let is_fixed = header.state == NeighbourState::Permanent;
    Some(Neighbour {
        ip: ip.filter(|_| is_fixed)?,
        mac: mac?,
        interface: link.interface.name.clone(),
    })
}

/// Puts routes on the link before those through a gateway, which may be reached by one of them.
pub(crate) fn in_order(mut routes: Vec<Route>) -> Vec<Route> {
    routes.sort_by_key(|route| route.gateway.is_some());
    routes
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}
