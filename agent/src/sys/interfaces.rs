//! The kernel's network interfaces by ioctl (netdevice(7)), as the pod's network is set up with.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::network::{Address, Kernel, Route};

/// The largest number of an interface that is looked for.
const MOST_INDEX: libc::c_int = 64;
/// Flags of routes (Linux's route.h), in the type of their field.
const RTF_UP: u16 = 1;
const RTF_GATEWAY: u16 = 2;
const RTF_HOST: u16 = 4;

/// Sockets to ask by.
#[derive(Debug)]
pub(crate) struct Interfaces {
    v4: OwnedFd,
    /// None where there is no version 6.
    v6: Option<OwnedFd>,
}

/// `struct in6_ifreq` of Linux's ipv6.h.
#[repr(C)]
struct Address6 {
    ip: [u8; 16],
    prefix: u32,
    index: libc::c_int,
}

/// `struct in6_rtmsg` of Linux's ipv6_route.h.
#[repr(C)]
struct Route6 {
    to: [u8; 16],
    from: [u8; 16],
    gateway: [u8; 16],
    kind: u32,
    prefix: u16,
    from_prefix: u16,
    metric: u32,
    info: libc::c_ulong,
    flags: u32,
    index: libc::c_int,
}

impl Interfaces {
    /// # Errors
    /// `EAFNOSUPPORT` when the kernel has no networks.
    pub(crate) fn new() -> Result<Self, Errno> {
        let socket = |family| {
            rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        };
        Ok(Self {
            v4: socket(AddressFamily::INET)?,
            v6: socket(AddressFamily::INET6).ok(),
        })
    }

    fn v6(&self) -> Result<&OwnedFd, Errno> {
        self.v6.as_ref().ok_or(Errno::AFNOSUPPORT)
    }

    fn index(&self, name: &str) -> Result<libc::c_int, Errno> {
        let mut request = named(name)?;
        ask(&self.v4, libc::SIOCGIFINDEX, &mut request)?;
        // SAFETY: the kernel has written this field, a plain integer.
        Ok(unsafe { request.ifr_ifru.ifru_ifindex })
    }

    fn name(&self, index: libc::c_int) -> Result<String, Errno> {
        let mut request = named("")?;
        request.ifr_ifru.ifru_ifindex = index;
        ask(&self.v4, libc::SIOCGIFNAME, &mut request)?;
        let bytes = request.ifr_name.iter().take_while(|byte| **byte != 0);
        let bytes = bytes.map(|byte| byte.cast_unsigned()).collect();
        String::from_utf8(bytes).map_err(|_| Errno::ILSEQ)
    }

    fn mac(&self, name: &str) -> Result<[u8; 6], Errno> {
        let mut request = named(name)?;
        ask(&self.v4, libc::SIOCGIFHWADDR, &mut request)?;
        // SAFETY: the kernel has written this field, plain bytes.
        let address = unsafe { request.ifr_ifru.ifru_hwaddr };
        let mut mac = [0; 6];
        for (to, from) in mac.iter_mut().zip(address.sa_data) {
            *to = from.cast_unsigned();
        }
        Ok(mac)
    }

    fn add_address4(
        &self,
        name: &str,
        ip: Ipv4Addr,
        prefix: u8,
        number: usize,
    ) -> Result<(), Errno> {
        // One name has one address by these calls.
        let label = match number {
            0 => name.to_owned(),
            number => format!("{name}:{number}"),
        };
        let mut request = named(&label)?;
        request.ifr_ifru.ifru_addr = socket_address(ip);
        ask(&self.v4, libc::SIOCSIFADDR, &mut request)?;
        let mut request = named(&label)?;
        request.ifr_ifru.ifru_netmask = socket_address(mask(prefix));
        ask(&self.v4, libc::SIOCSIFNETMASK, &mut request)
    }

    fn add_address6(&self, name: &str, ip: Ipv6Addr, prefix: u8) -> Result<(), Errno> {
        let mut request = Address6 {
            ip: ip.octets(),
            prefix: prefix.into(),
            index: self.index(name)?,
        };
        ask(self.v6()?, libc::SIOCSIFADDR, &mut request)
    }

    fn add_route4(
        &self,
        to: Ipv4Addr,
        prefix: u8,
        gateway: Option<Ipv4Addr>,
        interface: &str,
    ) -> Result<(), Errno> {
        let mut name = named(interface)?.ifr_name;
        // SAFETY: `struct rtentry` is plain data, for which all zeros is a value.
        let mut request: libc::rtentry = unsafe { std::mem::zeroed() };
        request.rt_dst = socket_address(to);
        request.rt_genmask = socket_address(mask(prefix));
        request.rt_flags = RTF_UP;
        if prefix == 32 {
            request.rt_flags |= RTF_HOST;
        }
        if let Some(gateway) = gateway {
            request.rt_gateway = socket_address(gateway);
            request.rt_flags |= RTF_GATEWAY;
        }
        request.rt_dev = name.as_mut_ptr();
        ask(&self.v4, libc::SIOCADDRT, &mut request)
    }

    fn add_route6(
        &self,
        to: Ipv6Addr,
        prefix: u8,
        gateway: Option<Ipv6Addr>,
        interface: &str,
    ) -> Result<(), Errno> {
        let mut flags = RTF_UP;
        if gateway.is_some() {
            flags |= RTF_GATEWAY;
        }
        let mut request = Route6 {
            to: to.octets(),
            from: [0; 16],
            gateway: gateway.unwrap_or(Ipv6Addr::UNSPECIFIED).octets(),
            kind: 0,
            prefix: prefix.into(),
            from_prefix: 0,
            metric: 1,
            info: 0,
            flags: flags.into(),
            index: self.index(interface)?,
        };
        ask(self.v6()?, libc::SIOCADDRT, &mut request)
    }
}

impl Kernel for Interfaces {
    fn interfaces(&self) -> Result<Vec<(String, [u8; 6])>, Errno> {
        let mut all = Vec::new();
        for index in 1..=MOST_INDEX {
            match self.name(index) {
                Ok(name) => {
                    let mac = self.mac(&name)?;
                    all.push((name, mac));
                }
                // Numbers have gaps.
                Err(Errno::NODEV | Errno::NXIO) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(all)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        let mut request = named(from)?;
        request.ifr_ifru.ifru_newname = named(to)?.ifr_name;
        ask(&self.v4, libc::SIOCSIFNAME, &mut request)
    }

    fn set_mtu(&self, name: &str, mtu: u32) -> Result<(), Errno> {
        let mut request = named(name)?;
        request.ifr_ifru.ifru_mtu = libc::c_int::try_from(mtu).map_err(|_| Errno::INVAL)?;
        ask(&self.v4, libc::SIOCSIFMTU, &mut request)
    }

    fn add_address(&self, name: &str, address: Address, number: usize) -> Result<(), Errno> {
        match address.ip {
            IpAddr::V4(ip) => self.add_address4(name, ip, address.prefix, number),
            IpAddr::V6(ip) => self.add_address6(name, ip, address.prefix),
        }
    }

    fn bring_up(&self, name: &str) -> Result<(), Errno> {
        let mut request = named(name)?;
        ask(&self.v4, libc::SIOCGIFFLAGS, &mut request)?;
        // SAFETY: the kernel has written this field, a plain integer.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        let up = libc::c_short::try_from(libc::IFF_UP).map_err(|_| Errno::INVAL)?;
        request.ifr_ifru.ifru_flags = flags | up;
        ask(&self.v4, libc::SIOCSIFFLAGS, &mut request)
    }

    fn add_route(&self, route: &Route) -> Result<(), Errno> {
        let (prefix, interface) = (route.to.prefix, &route.interface);
        match (route.to.ip, route.gateway) {
            (IpAddr::V4(to), None) => self.add_route4(to, prefix, None, interface),
            (IpAddr::V4(to), Some(IpAddr::V4(via))) => {
                self.add_route4(to, prefix, Some(via), interface)
            }
            (IpAddr::V6(to), None) => self.add_route6(to, prefix, None, interface),
            (IpAddr::V6(to), Some(IpAddr::V6(via))) => {
                self.add_route6(to, prefix, Some(via), interface)
            }
            _ => Err(Errno::INVAL),
        }
    }

    /// Of version 4 only: no such call is there for the other.
    fn add_neighbour(&self, name: &str, ip: IpAddr, mac: [u8; 6]) -> Result<(), Errno> {
        let IpAddr::V4(ip) = ip else {
            return Err(Errno::AFNOSUPPORT);
        };
        // SAFETY: `struct arpreq` is plain data, for which all zeros is a value.
        let mut request: libc::arpreq = unsafe { std::mem::zeroed() };
        request.arp_pa = socket_address(ip);
        request.arp_ha.sa_family = libc::ARPHRD_ETHER;
        for (to, from) in request.arp_ha.sa_data.iter_mut().zip(mac) {
            *to = from.cast_signed();
        }
        request.arp_flags = libc::ATF_PERM | libc::ATF_COM;
        request.arp_dev = named(name)?.ifr_name;
        ask(&self.v4, libc::SIOCSARP, &mut request)
    }
}

/// A request about the interface of this name.
fn named(name: &str) -> Result<libc::ifreq, Errno> {
    // SAFETY: `struct ifreq` is plain data, for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(Errno::NAMETOOLONG);
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

fn mask(prefix: u8) -> Ipv4Addr {
    let bits = u32::MAX.checked_shl(32 - u32::from(prefix.min(32)));
    Ipv4Addr::from_bits(bits.unwrap_or(0))
}

fn socket_address(ip: Ipv4Addr) -> libc::sockaddr {
    let mut address = libc::sockaddr {
        sa_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap_or_default(),
        sa_data: [0; 14],
    };
    // Behind the port.
    for (to, from) in address.sa_data[2..].iter_mut().zip(ip.octets()) {
        *to = from.cast_signed();
    }
    address
}

/// Makes a request that the kernel reads and writes as one `T`.
fn ask<T>(socket: &OwnedFd, call: libc::c_ulong, request: &mut T) -> Result<(), Errno> {
    // SAFETY: each caller names a call of netdevice(7), arp(7) or Linux's route ioctls together with the structure
    // that this call is documented to take, which is borrowed for as long as the call lasts; so is what it points at.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), call, std::ptr::from_mut(request)) };
    match answer {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::process::Command;

    use agent_protocol::ConfigureNetworkRequest;
    use agent_protocol::configure_network_request as wire;
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

    use super::*;
    use crate::network;

    /// `ip` in a namespace, and what it says.
    fn ip(words: &[&str]) -> String {
        let output = Command::new("ip").args(words).output().expect("iproute2");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {words:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A namespace with a pair of interfaces, removed when dropped.
    struct Namespace(String);

    impl Drop for Namespace {
        fn drop(&mut self) {
            // One that is not there is as good.
            let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
        }
    }

    /// The same calls do on Linux what they are to do in the guest.
    #[test]
    fn a_plan_is_followed_by_the_hosts_kernel() {
        let has_ip = Command::new("ip").arg("-V").output().is_ok();
        if !rustix::process::geteuid().is_root() || !has_ip {
            println!("SKIPPED: not root, or no ip");
            return;
        }
        let namespace = Namespace(format!("nacre-agent-{}", std::process::id()));
        let name = namespace.0.as_str();
        ip(&["netns", "add", name]);
        let mac = "02:00:00:00:00:07";
        ip(&[
            "-n", name, "link", "add", "x", "address", mac, "type", "veth", "peer", "name", "y",
        ]);
        ip(&["-n", name, "link", "set", "y", "up"]);
        let there = File::open(format!("/run/netns/{name}")).expect("it is there");
        // This thread's only.
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(there.as_fd(), network).expect("we are root");
        let route = |destination: &str, gateway: &str| wire::Route {
            destination: destination.to_owned(),
            gateway: gateway.to_owned(),
            interface: "net7".to_owned(),
            ..Default::default()
        };
        let request = ConfigureNetworkRequest {
            interfaces: vec![wire::Interface {
                name: "net7".to_owned(),
                mac: mac.to_owned(),
                mtu: 1400,
                addresses: ["10.1.0.2/24", "10.2.0.2/16", "fd01::2/64"]
                    .map(str::to_owned)
                    .to_vec(),
                ..Default::default()
            }],
            routes: vec![
                route("10.9.0.1/32", ""),
                route("", "10.1.0.1"),
                route("", "fd01::1"),
            ],
            neighbours: vec![wire::Neighbour {
                address: "10.1.0.9".to_owned(),
                mac: "02:00:00:00:00:09".to_owned(),
                interface: "net7".to_owned(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let kernel = Interfaces::new().expect("sockets");
        network::configure(&kernel, &request).expect("Linux does it");
        // Again: all of it is there.
        network::configure(&kernel, &request).expect("Linux has it");
        let link = ip(&["-n", name, "addr", "show", "dev", "net7"]);
        for part in [
            "mtu 1400",
            "inet 10.1.0.2/24",
            "inet 10.2.0.2/16",
            "inet6 fd01::2/64",
            "UP",
        ] {
            assert!(link.contains(part), "{part} is not in {link}");
        }
        let routes = ip(&["-n", name, "route"]) + &ip(&["-n", name, "-6", "route"]);
        for part in [
            "10.9.0.1 dev",
            "default via 10.1.0.1",
            "default via fd01::1",
        ] {
            assert!(routes.contains(part), "{part} is not in {routes}");
        }
        let neighbours = ip(&["-n", name, "neigh"]);
        assert!(neighbours.contains("10.1.0.9 dev net7 lladdr 02:00:00:00:00:09 PERMANENT"));
    }
}
