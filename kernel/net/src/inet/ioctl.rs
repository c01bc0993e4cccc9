//! The ioctls of netdevice(7) that sockets of any family take: what ifconfig asks and sets. Here of the loopback interface.

use alloc::sync::Arc;

use abi::{Errno, Result};
use fs::{Capabilities, Credentials};
use machine::UserAddr;
use memory::user;

use super::interface::{Interface, LOOPBACK, NAME_SIZE};
use super::ip::Ip;
use crate::namespace::NetNamespace;

const SIOCGIFNAME: u32 = 0x8910;
const SIOCGIFCONF: u32 = 0x8912;
const SIOCGIFFLAGS: u32 = 0x8913;
const SIOCSIFFLAGS: u32 = 0x8914;
const SIOCGIFADDR: u32 = 0x8915;
const SIOCGIFDSTADDR: u32 = 0x8917;
const SIOCGIFBRDADDR: u32 = 0x8919;
const SIOCGIFNETMASK: u32 = 0x891b;
const SIOCGIFMETRIC: u32 = 0x891d;
const SIOCGIFMTU: u32 = 0x8921;
const SIOCSIFMTU: u32 = 0x8922;
const SIOCGIFHWADDR: u32 = 0x8927;
const SIOCGIFINDEX: u32 = 0x8933;
const SIOCGIFTXQLEN: u32 = 0x8942;
const SIOCGIFMAP: u32 = 0x8970;

/// Bytes of `struct ifreq`: a name and 24 bytes.
const REQUEST: usize = 40;
const IFF_UP: u16 = 1;
const IFF_LOOPBACK: u16 = 8;
const IFF_RUNNING: u16 = 0x40;
const ARPHRD_LOOPBACK: u16 = 772;
const AF_INET: u16 = 2;
/// `TXQUEUELEN` of the loopback interface.
const QUEUE: u32 = 1000;

type Request = [u8; REQUEST];

/// Whether `command` is one of a network's.
pub(crate) fn is_known(command: u32) -> bool {
    (SIOCGIFNAME..=SIOCGIFMAP).contains(&command)
}

/// Does what `command` says, for a program whose `struct ifreq` or `struct ifconf` is at `at`.
///
/// # Errors
/// `ENODEV` for an interface that is not there, `EPERM`, `ENOTTY` for a command that is not known, `EFAULT`.
pub(crate) fn ioctl(
    namespace: &Arc<NetNamespace>,
    who: &Credentials,
    command: u32,
    at: UserAddr,
) -> Result<u64> {
    if command == SIOCGIFCONF {
        return list(namespace, at);
    }
    let mut request: Request = user::read(at)?;
    let set = matches!(command, SIOCSIFFLAGS | SIOCSIFMTU);
    if set && !who.ns_capable(namespace.owner(), Capabilities::NET_ADMIN) {
        return Err(Errno::EPERM);
    }
    namespace.look(|stack| {
        let interface = &mut stack.loopback;
        if command == SIOCGIFNAME {
            let index = u32::from_ne_bytes([request[16], request[17], request[18], request[19]]);
            if index != LOOPBACK {
                return Err(Errno::ENODEV);
            }
            put_name(&mut request, interface);
            return Ok(());
        }
        let end = request[..NAME_SIZE]
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(NAME_SIZE - 1);
        if &request[..end] != interface.name.as_bytes() {
            return Err(Errno::ENODEV);
        }
        answer(interface, command, &mut request)
    })??;
    if !set {
        user::write(at, &request)?;
    }
    Ok(0)
}

fn put_name(request: &mut [u8], interface: &Interface) {
    request[..NAME_SIZE].fill(0);
    request[..interface.name.len()].copy_from_slice(interface.name.as_bytes());
}

/// Asks or sets one thing of `interface`.
fn answer(interface: &mut Interface, command: u32, request: &mut Request) -> Result<()> {
    let address = interface
        .addresses
        .iter()
        .find(|local| local.ip.is_v4())
        .copied();
    let value = &mut request[NAME_SIZE..];
    let given = u32::from_ne_bytes([value[0], value[1], value[2], value[3]]);
    match command {
        SIOCGIFFLAGS => {
            let up = if interface.is_up {
                IFF_UP | IFF_RUNNING
            } else {
                0
            };
            put(value, &(IFF_LOOPBACK | up).to_ne_bytes());
        }
        SIOCSIFFLAGS => interface.set_up(given & u32::from(IFF_UP) != 0)?,
        SIOCGIFADDR | SIOCGIFDSTADDR => put_address(value, address.ok_or(Errno::EADDRNOTAVAIL)?.ip),
        SIOCGIFBRDADDR => {
            address.ok_or(Errno::EADDRNOTAVAIL)?;
            put_address(value, Ip::ANY4);
        }
        SIOCGIFNETMASK => {
            let prefix = address.ok_or(Errno::EADDRNOTAVAIL)?.prefix;
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            put_address(value, Ip::v4(mask.to_be_bytes()));
        }
        SIOCGIFMETRIC => put(value, &0_u32.to_ne_bytes()),
        SIOCGIFMTU => put(value, &interface.mtu.to_ne_bytes()),
        SIOCSIFMTU => interface.set_mtu(given)?,
        SIOCGIFHWADDR => {
            value.fill(0);
            put(value, &ARPHRD_LOOPBACK.to_ne_bytes());
        }
        SIOCGIFINDEX => put(value, &interface.index.to_ne_bytes()),
        SIOCGIFTXQLEN => put(value, &QUEUE.to_ne_bytes()),
        SIOCGIFMAP => value.fill(0),
        _ => return Err(Errno::ENOTTY),
    }
    Ok(())
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
    let mut entry: Request = [0; REQUEST];
    let count = namespace.look(|stack| {
        let own = stack
            .loopback
            .addresses
            .iter()
            .find(|local| local.ip.is_v4());
        own.map_or(0, |local| {
            put_name(&mut entry, &stack.loopback);
            put_address(&mut entry[NAME_SIZE..], local.ip);
            1
        })
    })?;
    let room = i32::try_from(len)
        .map_err(|_| Errno::EINVAL)?
        .unsigned_abs() as usize;
    let mut used = count * REQUEST;
    if buffer != 0 {
        used = used.min(room / REQUEST * REQUEST);
        if used > 0 {
            user::write_bytes(UserAddr(buffer), &entry)?;
        }
    }
    user::write(at, &u32::try_from(used).map_err(|_| Errno::EINVAL)?)?;
    Ok(0)
}
