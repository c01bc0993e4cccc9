//! The ioctls of netdevice(7), arp(7) and route(8) that sockets of any family take: what ifconfig and route ask and set.

use alloc::sync::Arc;

use abi::{Errno, Result};
use fs::{Capabilities, Credentials};
use machine::UserAddr;
use memory::user;

use super::interface::{Interface, Local, NAME_SIZE, QUEUE, name_of};
use super::ip::Ip;
use super::stack::frames::announce;
use super::stack::{Route, Stack};
use crate::namespace::NetNamespace;

const SIOCADDRT: u32 = 0x890b;
const SIOCDELRT: u32 = 0x890c;
const SIOCGIFNAME: u32 = 0x8910;
const SIOCGIFCONF: u32 = 0x8912;
const SIOCGIFFLAGS: u32 = 0x8913;
const SIOCSIFFLAGS: u32 = 0x8914;
const SIOCGIFADDR: u32 = 0x8915;
const SIOCSIFADDR: u32 = 0x8916;
const SIOCGIFDSTADDR: u32 = 0x8917;
const SIOCGIFBRDADDR: u32 = 0x8919;
const SIOCSIFBRDADDR: u32 = 0x891a;
const SIOCGIFNETMASK: u32 = 0x891b;
const SIOCSIFNETMASK: u32 = 0x891c;
const SIOCGIFMETRIC: u32 = 0x891d;
const SIOCGIFMTU: u32 = 0x8921;
const SIOCSIFMTU: u32 = 0x8922;
const SIOCSIFNAME: u32 = 0x8923;
const SIOCGIFHWADDR: u32 = 0x8927;
const SIOCGIFINDEX: u32 = 0x8933;
const SIOCDIFADDR: u32 = 0x8936;
const SIOCGIFTXQLEN: u32 = 0x8942;
const SIOCSARP: u32 = 0x8955;
const SIOCGIFMAP: u32 = 0x8970;

/// Bytes of `struct ifreq`: a name and 24 bytes.
const REQUEST: usize = 40;
const IFF_UP: u16 = 1;
const IFF_BROADCAST: u16 = 2;
const IFF_LOOPBACK: u16 = 8;
const IFF_RUNNING: u16 = 0x40;
const IFF_MULTICAST: u16 = 0x1000;
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;
const AF_INET: u16 = 2;

type Request = [u8; REQUEST];

/// Whether `command` is one of a network's.
pub(crate) fn is_known(command: u32) -> bool {
    (SIOCADDRT..=SIOCGIFMAP).contains(&command)
}

/// Does what `command` says, for a program whose structure is at `at`; `is_v6`: for a socket of version 6, whose structures of
/// addresses and routes are other ones.
///
/// # Errors
/// `ENODEV` for an interface that is not there, `EPERM`, `ENOTTY` for a command that is not known, `EFAULT`.
pub(crate) fn ioctl(
    namespace: &Arc<NetNamespace>,
    who: &Credentials,
    command: u32,
    at: UserAddr,
    is_v6: bool,
) -> Result<u64> {
    let sets = matches!(
        command,
        SIOCADDRT
            | SIOCDELRT
            | SIOCSIFFLAGS
            | SIOCSIFADDR
            | SIOCSIFBRDADDR
            | SIOCSIFNETMASK
            | SIOCSIFMTU
            | SIOCSIFNAME
            | SIOCDIFADDR
            | SIOCSARP
    );
    if sets && !who.ns_capable(namespace.owner(), Capabilities::NET_ADMIN) {
        return Err(Errno::EPERM);
    }
    match command {
        SIOCGIFCONF => list(namespace, at),
        SIOCADDRT | SIOCDELRT => {
            let (route, name) = if is_v6 {
                (route6(at)?, None)
            } else {
                route4(at)?
            };
            namespace.look(|stack| change_route(stack, route, name, command == SIOCADDRT))??;
            Ok(0)
        }
        SIOCSIFADDR | SIOCDIFADDR if is_v6 => {
            let request: [u8; 24] = user::read(at)?;
            let local = Local {
                ip: Ip::v6(array(&request, 0)?),
                prefix: u8::try_from(u32::from_ne_bytes(array(&request, 16)?))
                    .map_err(|_| Errno::EINVAL)?,
            };
            let index = u32::from_ne_bytes(array(&request, 20)?);
            namespace
                .look(|stack| change_address6(stack, index, local, command == SIOCSIFADDR))??;
            Ok(0)
        }
        SIOCSARP => {
            let request: [u8; 68] = user::read(at)?;
            namespace.look(|stack| set_neighbour(stack, &request))??;
            Ok(0)
        }
        _ => {
            let mut request: Request = user::read(at)?;
            namespace.look(|stack| by_name(stack, command, &mut request))??;
            if !sets {
                user::write(at, &request)?;
            }
            Ok(0)
        }
    }
}

fn array<const LEN: usize>(bytes: &[u8], at: usize) -> Result<[u8; LEN]> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<LEN>())
        .copied()
        .ok_or(Errno::EINVAL)
}

/// The address in a `struct sockaddr_in`, if it is one.
fn inet(bytes: &[u8], at: usize) -> Result<Option<Ip>> {
    let is_inet = u16::from_ne_bytes(array(bytes, at)?) == AF_INET;
    Ok(if is_inet {
        Some(Ip::v4(array(bytes, at + 4)?))
    } else {
        None
    })
}

/// Bits of a mask, which has no gaps.
fn prefix_of(mask: Ip) -> Result<u8> {
    let bits = u32::from_be_bytes(mask.to_v4());
    let prefix = bits.leading_ones();
    if bits.count_ones() != prefix {
        return Err(Errno::EINVAL);
    }
    u8::try_from(prefix).map_err(|_| Errno::EINVAL)
}

/// `struct rtentry`, and the name of the interface that it points to.
fn route4(at: UserAddr) -> Result<(Route, Option<[u8; NAME_SIZE]>)> {
    const GATEWAY: u16 = 2;
    const HOST: u16 = 4;
    let entry: [u8; 120] = user::read(at)?;
    let flags = u16::from_ne_bytes(array(&entry, 56)?);
    let target = inet(&entry, 8)?.ok_or(Errno::EAFNOSUPPORT)?;
    let mask = inet(&entry, 40)?;
    let prefix = if flags & HOST != 0 {
        32
    } else {
        prefix_of(mask.unwrap_or(Ip::ANY4))?
    };
    let gateway = inet(&entry, 24)?.filter(|_| flags & GATEWAY != 0);
    let metric = u32::from(u16::from_ne_bytes(array(&entry, 80)?)).saturating_sub(1);
    let device = u64::from_ne_bytes(array(&entry, 88)?);
    let name = if device == 0 {
        None
    } else {
        Some(user::read(UserAddr(device))?)
    };
    Ok((
        Route {
            target,
            prefix,
            gateway,
            interface: 0,
            metric,
        },
        name,
    ))
}

/// `struct in6_rtmsg`.
fn route6(at: UserAddr) -> Result<Route> {
    const GATEWAY: u32 = 2;
    let entry: [u8; 80] = user::read(at)?;
    let prefix = u16::from_ne_bytes(array(&entry, 52)?);
    let flags = u32::from_ne_bytes(array(&entry, 72)?);
    let gateway = Ip::v6(array(&entry, 32)?);
    Ok(Route {
        target: Ip::v6(array(&entry, 0)?),
        prefix: u8::try_from(prefix)
            .ok()
            .filter(|prefix| *prefix <= 128)
            .ok_or(Errno::EINVAL)?,
        gateway: Some(gateway).filter(|_| flags & GATEWAY != 0),
        interface: u32::from_ne_bytes(array(&entry, 76)?),
        metric: u32::from_ne_bytes(array(&entry, 56)?),
    })
}

fn change_route(
    stack: &mut Stack,
    mut route: Route,
    name: Option<[u8; NAME_SIZE]>,
    adds: bool,
) -> Result<()> {
    if let Some(name) = name {
        route.interface = find(stack, &name)?.index;
    }
    if adds {
        stack.add_route(route)
    } else {
        stack.remove_route(&route)
    }
}

fn change_address6(stack: &mut Stack, index: u32, local: Local, adds: bool) -> Result<()> {
    if local.prefix > 128 {
        return Err(Errno::EINVAL);
    }
    let interface = stack.interface_mut(index).ok_or(Errno::ENODEV)?;
    let has = interface.addresses.iter().any(|known| known.ip == local.ip);
    match (adds, has) {
        (true, true) => return Err(Errno::EEXIST),
        (true, false) => interface.add(local)?,
        (false, true) => interface.addresses.retain(|known| known.ip != local.ip),
        (false, false) => return Err(Errno::EADDRNOTAVAIL),
    }
    Ok(())
}

/// `struct arpreq`: an entry that stays.
fn set_neighbour(stack: &mut Stack, request: &[u8]) -> Result<()> {
    let ip = inet(request, 0)?.ok_or(Errno::EPFNOSUPPORT)?;
    let mac = array(request, 18)?;
    let name: [u8; NAME_SIZE] = array(request, 52)?;
    let index = if name[0] == 0 {
        stack.way(ip).ok_or(Errno::ENETUNREACH)?.interface
    } else {
        find(stack, &name)?.index
    };
    let interface = stack.interface_mut(index).ok_or(Errno::ENODEV)?;
    let waiting = interface.neighbours.set(ip, mac)?;
    for packet in waiting {
        stack.send(packet)?;
    }
    Ok(())
}

/// The interface called so; what follows a colon is a label of one of its addresses.
fn find<'a>(stack: &'a mut Stack, name: &[u8]) -> Result<&'a mut Interface> {
    let end = name
        .iter()
        .position(|byte| matches!(byte, 0 | b':'))
        .unwrap_or(NAME_SIZE - 1);
    let name = name.get(..end.min(NAME_SIZE - 1)).unwrap_or_default();
    stack
        .interfaces
        .iter_mut()
        .find(|interface| interface.name() == name)
        .ok_or(Errno::ENODEV)
}

fn by_name(stack: &mut Stack, command: u32, request: &mut Request) -> Result<()> {
    if command == SIOCGIFNAME {
        let index = u32::from_ne_bytes(array(request, NAME_SIZE)?);
        let name = stack.interface(index).ok_or(Errno::ENODEV)?.name;
        request[..NAME_SIZE].copy_from_slice(&name);
        return Ok(());
    }
    if command == SIOCSIFNAME {
        return rename(stack, request);
    }
    let has_label = request[..NAME_SIZE].contains(&b':');
    let interface = find(stack, &request[..NAME_SIZE])?;
    answer(interface, command, &mut request[NAME_SIZE..], has_label)
}

fn rename(stack: &mut Stack, request: &Request) -> Result<()> {
    let wanted = &request[NAME_SIZE..2 * NAME_SIZE];
    let len = wanted
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(NAME_SIZE);
    let is_odd = |byte: &u8| matches!(byte, b'/' | b':') || byte.is_ascii_whitespace();
    if len == 0 || len >= NAME_SIZE || wanted[..len].iter().any(is_odd) {
        return Err(Errno::EINVAL);
    }
    let name = name_of(&wanted[..len]);
    if stack
        .interfaces
        .iter()
        .any(|interface| interface.name == name)
    {
        return Err(Errno::EEXIST);
    }
    let interface = find(stack, &request[..NAME_SIZE])?;
    if interface.is_up {
        return Err(Errno::EBUSY);
    }
    interface.name = name;
    Ok(())
}

/// Asks or sets one thing of `interface`.
fn answer(
    interface: &mut Interface,
    command: u32,
    value: &mut [u8],
    has_label: bool,
) -> Result<()> {
    let address = interface
        .addresses
        .iter()
        .find(|local| local.ip.is_v4())
        .copied();
    let own = address.ok_or(Errno::EADDRNOTAVAIL);
    let given = u32::from_ne_bytes(array(value, 0)?);
    match command {
        SIOCGIFFLAGS => put(value, &flags(interface).to_ne_bytes()),
        SIOCSIFFLAGS => {
            let was_up = interface.is_up;
            interface.set_up(given & u32::from(IFF_UP) != 0)?;
            if !was_up {
                announce(interface);
            }
        }
        SIOCGIFADDR | SIOCGIFDSTADDR => put_address(value, own?.ip),
        SIOCSIFADDR => {
            set_address(interface, inet(value, 0)?.ok_or(Errno::EINVAL)?, has_label)?;
            announce(interface);
        }
        SIOCGIFBRDADDR => put_address(value, broadcast(own?, interface)),
        // It follows from the mask.
        SIOCSIFBRDADDR => drop(own?),
        SIOCGIFNETMASK => put_address(value, mask(own?.prefix)),
        SIOCSIFNETMASK => {
            let prefix = prefix_of(inet(value, 0)?.ok_or(Errno::EINVAL)?)?;
            // Of the address that was set last: that is what the label is of.
            let last = interface
                .addresses
                .iter_mut()
                .rfind(|local| local.ip.is_v4());
            last.ok_or(Errno::EADDRNOTAVAIL)?.prefix = prefix;
        }
        SIOCGIFMETRIC => put(value, &0_u32.to_ne_bytes()),
        SIOCGIFMTU => put(value, &interface.mtu.to_ne_bytes()),
        SIOCSIFMTU => interface.set_mtu(given)?,
        SIOCGIFHWADDR => {
            value.fill(0);
            let kind = if interface.device.is_some() {
                ARPHRD_ETHER
            } else {
                ARPHRD_LOOPBACK
            };
            put(value, &kind.to_ne_bytes());
            put(&mut value[2..], &interface.mac().unwrap_or_default());
        }
        SIOCGIFINDEX => put(value, &interface.index.to_ne_bytes()),
        SIOCGIFTXQLEN => put(value, &u32::try_from(QUEUE).unwrap_or(0).to_ne_bytes()),
        SIOCGIFMAP => value.fill(0),
        _ => return Err(Errno::ENOTTY),
    }
    Ok(())
}

fn flags(interface: &Interface) -> u16 {
    let kind = if interface.device.is_some() {
        IFF_BROADCAST | IFF_MULTICAST
    } else {
        IFF_LOOPBACK
    };
    let up = if interface.is_up { IFF_UP } else { 0 };
    let running = if interface.is_up && interface.has_carrier {
        IFF_RUNNING
    } else {
        0
    };
    kind | up | running
}

/// Sets the address, in place of the one that was there, or a further one for a label. Its network is that of its class,
/// until a mask is set.
fn set_address(interface: &mut Interface, ip: Ip, has_label: bool) -> Result<()> {
    let prefix = match ip.to_v4()[0] {
        0..128 => 8,
        128..192 => 16,
        192..224 => 24,
        _ => return Err(Errno::EINVAL),
    };
    if !has_label {
        interface.addresses.retain(|local| !local.ip.is_v4());
    }
    if ip.is_any() {
        Ok(())
    } else {
        interface.add(Local { ip, prefix })
    }
}

fn mask(prefix: u8) -> Ip {
    Ip::v4(
        u32::MAX
            .checked_shl(32 - u32::from(prefix))
            .unwrap_or(0)
            .to_be_bytes(),
    )
}

fn broadcast(local: Local, interface: &Interface) -> Ip {
    if interface.device.is_none() || local.prefix >= 31 {
        return Ip::ANY4;
    }
    let host = u32::MAX.checked_shr(local.prefix.into()).unwrap_or(0);
    Ip::v4((u32::from_be_bytes(local.ip.to_v4()) | host).to_be_bytes())
}

fn put(value: &mut [u8], bytes: &[u8]) {
    if let Some(room) = value.get_mut(..bytes.len()) {
        room.copy_from_slice(bytes);
    }
}

/// A `struct sockaddr_in` without a port.
fn put_address(value: &mut [u8], ip: Ip) {
    value[..16].fill(0);
    put(value, &AF_INET.to_ne_bytes());
    put(&mut value[4..], &ip.to_v4());
}

/// `SIOCGIFCONF`: the interfaces that have an address of version 4, or, without a buffer, the room that they take.
fn list(namespace: &Arc<NetNamespace>, at: UserAddr) -> Result<u64> {
    let [len, _, low, high]: [u32; 4] = user::read(at)?;
    let buffer = u64::from(low) | u64::from(high) << 32;
    let room = i32::try_from(len)
        .map_err(|_| Errno::EINVAL)?
        .unsigned_abs() as usize;
    let mut entries: collections::Vec<Request> = collections::Vec::new();
    namespace.look(|stack| {
        for interface in &stack.interfaces {
            for local in interface.addresses.iter().filter(|local| local.ip.is_v4()) {
                let mut entry = [0; REQUEST];
                entry[..NAME_SIZE].copy_from_slice(&interface.name);
                put_address(&mut entry[NAME_SIZE..], local.ip);
                entries.try_push(entry)?;
            }
        }
        Ok::<(), Errno>(())
    })??;
    let mut used = entries.len() * REQUEST;
    if buffer != 0 {
        used = used.min(room / REQUEST * REQUEST);
        user::write_bytes(UserAddr(buffer), &entries.as_flattened()[..used])?;
    }
    user::write(at, &u32::try_from(used).map_err(|_| Errno::EINVAL)?)?;
    Ok(0)
}
