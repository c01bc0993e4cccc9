//! The pod's network in the guest: the host's plan, made with whatever the kernel is asked by ([`Kernel`]).
//!
//! The host says everything (addresses, routes, name servers); nothing is asked of the network. An interface is found
//! by its hardware address. All of a plan is checked before anything of it is done.

use std::net::IpAddr;

use agent_protocol::ConfigureNetworkRequest;
use rustix::io::Errno;

use crate::refusal::{Answer, Refusal};

/// Where resolv.conf(5) of the pod is, in the agent's view; containers have it bound to theirs.
pub(crate) const RESOLV_CONF: &str = "/run/nacre/resolv.conf";
/// The most bytes of it.
const RESOLV_CONF_MOST: usize = 4096;

/// The longest name of an interface (`IFNAMSIZ` less the NUL).
const NAME_MOST: usize = 15;

/// What the guest's kernel is asked for.
pub(crate) trait Kernel {
    /// All interfaces: name and hardware address.
    fn interfaces(&self) -> Result<Vec<(String, [u8; 6])>, Errno>;
    fn rename(&self, from: &str, to: &str) -> Result<(), Errno>;
    fn set_mtu(&self, name: &str, mtu: u32) -> Result<(), Errno>;
    /// `number` says which of the interface's addresses of this protocol it is.
    fn add_address(&self, name: &str, address: Address, number: usize) -> Result<(), Errno>;
    fn bring_up(&self, name: &str) -> Result<(), Errno>;
    fn add_route(&self, route: &Route) -> Result<(), Errno>;
    fn add_neighbour(&self, name: &str, ip: IpAddr, mac: [u8; 6]) -> Result<(), Errno>;
}

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) ip: IpAddr,
    pub(crate) prefix: u8,
}

/// A route; without a destination to everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) to: Address,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) interface: String,
}

/// A plan that makes sense.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    interfaces: Vec<Interface>,
    routes: Vec<Route>,
    neighbours: Vec<(String, IpAddr, [u8; 6])>,
    resolv_conf: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Interface {
    name: String,
    mac: [u8; 6],
    mtu: u32,
    addresses: Vec<Address>,
}

/// Sets the pod's network up.
pub(crate) fn configure(kernel: &impl Kernel, request: &ConfigureNetworkRequest) -> Answer<()> {
    let plan = Plan::of(request)?;
    plan.apply(kernel)?;
    match plan.resolv_conf {
        Some(text) => std::fs::write(RESOLV_CONF, text)
            .map_err(|error| Refusal::io("write the pod's resolv.conf", &error)),
        None => Ok(()),
    }
}

impl Plan {
    fn of(request: &ConfigureNetworkRequest) -> Answer<Plan> {
        let interfaces = request.interfaces.iter().map(|wanted| {
            Ok(Interface {
                name: name(&wanted.name)?,
                mac: mac(&wanted.mac)?,
                mtu: wanted.mtu,
                addresses: wanted
                    .addresses
                    .iter()
                    .map(|text| address(text))
                    .collect::<Answer<_>>()?,
            })
        });
        let interfaces: Vec<Interface> = interfaces.collect::<Answer<_>>()?;
        let of_plan = |wanted: &str| match interfaces.iter().any(|one| one.name == wanted) {
            true => Ok(wanted.to_owned()),
            false => Err(Refusal::invalid(format!(
                "a route or neighbour is of the interface \"{wanted}\", which the plan does not have"
            ))),
        };
        let routes = request.routes.iter().map(|route| {
            let gateway = Some(&route.gateway).filter(|text| !text.is_empty());
            let gateway = gateway.map(|text| ip(text)).transpose()?;
            let to = match (&route.destination[..], gateway) {
                ("", Some(gateway)) => everywhere(gateway),
                ("", None) => everywhere(std::net::Ipv4Addr::UNSPECIFIED.into()),
                (text, _) => address(text)?,
            };
            if gateway.is_some_and(|gateway| gateway.is_ipv4() != to.ip.is_ipv4()) {
                return Err(Refusal::invalid(format!(
                    "the route to {} goes through a gateway of another protocol",
                    route.destination
                )));
            }
            let interface = of_plan(&route.interface)?;
            Ok(Route {
                to,
                gateway,
                interface,
            })
        });
        let neighbours = request
            .neighbours
            .iter()
            .map(|one| Ok((of_plan(&one.interface)?, ip(&one.address)?, mac(&one.mac)?)));
        Ok(Plan {
            routes: routes.collect::<Answer<_>>()?,
            neighbours: neighbours.collect::<Answer<_>>()?,
            resolv_conf: resolv_conf(request)?,
            interfaces,
        })
    }

    fn apply(&self, kernel: &impl Kernel) -> Answer<()> {
        let failed = |what: String| move |errno| Refusal::system(what, errno);
        if !self.interfaces.is_empty() {
            kernel
                .bring_up("lo")
                .map_err(failed("bring the loopback interface up".to_owned()))?;
        }
        for interface in &self.interfaces {
            let Interface { name, mac, mtu, .. } = interface;
            let there = kernel
                .interfaces()
                .map_err(failed("list the guest's interfaces".to_owned()))?;
            let Some((now, _)) = there.iter().find(|(_, of)| of == mac) else {
                return Err(Refusal::state(format!(
                    "the guest has no interface with the hardware address of {name}; \
                     it has {} others",
                    there.len()
                )));
            };
            if now != name {
                kernel
                    .rename(now, name)
                    .map_err(failed(format!("name the interface {now} {name}")))?;
            }
            if *mtu != 0 {
                kernel
                    .set_mtu(name, *mtu)
                    .map_err(failed(format!("set the MTU of {name} to {mtu}")))?;
            }
            // Addresses of version 6 go when an interface goes down, so it is up first.
            kernel
                .bring_up(name)
                .map_err(failed(format!("bring {name} up")))?;
            let (mut of_v4, mut of_v6) = (0, 0);
            for address in &interface.addresses {
                let number = if address.ip.is_ipv4() {
                    &mut of_v4
                } else {
                    &mut of_v6
                };
                let Address { ip, prefix } = address;
                unless_there(kernel.add_address(name, *address, *number))
                    .map_err(failed(format!("give {name} the address {ip}/{prefix}")))?;
                *number += 1;
            }
        }
        for route in &self.routes {
            let Address { ip, prefix } = route.to;
            unless_there(kernel.add_route(route))
                .map_err(failed(format!("add the route to {ip}/{prefix}")))?;
        }
        for (name, ip, mac) in &self.neighbours {
            unless_there(kernel.add_neighbour(name, *ip, *mac))
                .map_err(failed(format!("add the neighbour {ip}")))?;
        }
        Ok(())
    }
}

/// What the kernel has made by itself meanwhile is as good.
fn unless_there(made: Result<(), Errno>) -> Result<(), Errno> {
    match made {
        Err(Errno::EXIST) => Ok(()),
        made => made,
    }
}

fn everywhere(of: IpAddr) -> Address {
    let ip = match of {
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    };
    Address { ip, prefix: 0 }
}

fn name(text: &str) -> Answer<String> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    let fits = (1..=NAME_MOST).contains(&text.len()) && text.bytes().all(is_plain);
    match fits && !matches!(text, "." | "..") {
        true => Ok(text.to_owned()),
        false => Err(Refusal::invalid(format!(
            "{text:?} is no name of an interface"
        ))),
    }
}

fn mac(text: &str) -> Answer<[u8; 6]> {
    let refused = || Refusal::invalid(format!("{text:?} is no hardware address"));
    let bytes = text.split(':').map(|byte| match byte.len() {
        2 => u8::from_str_radix(byte, 16).ok(),
        _ => None,
    });
    let bytes: Option<Vec<u8>> = bytes.collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(refused)
}

fn ip(text: &str) -> Answer<IpAddr> {
    text.parse()
        .map_err(|_| Refusal::invalid(format!("{text:?} is no address")))
}

fn address(text: &str) -> Answer<Address> {
    let refused = || Refusal::invalid(format!("{text:?} is no address with a prefix's length"));
    let (address, prefix) = text.split_once('/').ok_or_else(refused)?;
    let ip = ip(address)?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.parse().ok().filter(|prefix| *prefix <= most);
    Ok(Address {
        ip,
        prefix: prefix.ok_or_else(refused)?,
    })
}

/// The file's text, if there is anything to say.
fn resolv_conf(request: &ConfigureNetworkRequest) -> Answer<Option<String>> {
    let mut text = String::new();
    for server in &request.name_servers {
        text.push_str(&format!("nameserver {}\n", ip(server)?));
    }
    let is_plain = |byte: u8| byte.is_ascii_graphic();
    if let Some(domain) = request
        .search_domains
        .iter()
        .find(|domain| domain.is_empty() || !domain.bytes().all(is_plain))
    {
        return Err(Refusal::invalid(format!("{domain:?} is no domain")));
    }
    if !request.search_domains.is_empty() {
        text.push_str(&format!("search {}\n", request.search_domains.join(" ")));
    }
    if text.len() > RESOLV_CONF_MOST {
        return Err(Refusal::invalid(
            "the pod's name servers and domains are too many",
        ));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests;
