//! Options of the levels `IPPROTO_IP`, `IPPROTO_IPV6`, `IPPROTO_TCP` and `IPPROTO_UDP` (ip(7), ipv6(7), tcp(7), udp(7)).
//!
//! [`Wishes`] are those of the first two, which both kinds of socket have; [`tcp`] has those of a connection.

mod tcp;

use core::sync::atomic::{AtomicI32, AtomicU8, AtomicU16, Ordering};

use abi::raw::net as raw;
use abi::{Errno, Result};
use bitflags::bitflags;
use fs::Credentials;

use super::ip::Ip;
use super::socket::datagram::DatagramSocket;
use super::socket::stream::StreamSocket;
use super::socket::{Common, IPPROTO_TCP};
use crate::socket::OPTION_MAX;

const IPPROTO_IP: u32 = 0;
const IPPROTO_IPV6: u32 = 41;
/// What is sent with, unless set (`net.ipv4.ip_default_ttl`).
const DEFAULT_TTL: u8 = 64;

bitflags! {
    /// What is on or off.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct Wish: u16 {
        const PKTINFO4 = 1 << 0;
        const PKTINFO6 = 1 << 1;
        const TTL4 = 1 << 2;
        const TTL6 = 1 << 3;
        const TOS4 = 1 << 4;
        const TOS6 = 1 << 5;
        /// `IP_RECVERR`: nothing is put into the queue of errors, but an unconnected socket hears of them.
        const ERRORS4 = 1 << 6;
        const ERRORS6 = 1 << 7;
        /// `IP_BIND_ADDRESS_NO_PORT`.
        const NO_PORT = 1 << 8;
        const FREEBIND = 1 << 9;
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Wishes {
    wishes: AtomicU16,
    /// `IP_TTL`, `IPV6_UNICAST_HOPS`; 0 for what is usual.
    ttl: [AtomicU8; 2],
    /// `IP_TOS`, `IPV6_TCLASS`.
    tos: [AtomicU8; 2],
    /// `IP_MTU_DISCOVER`, `IPV6_MTU_DISCOVER`: nothing is longer than the way takes yet.
    discovery: [AtomicI32; 2],
}

impl Default for Wishes {
    fn default() -> Self {
        Wishes {
            wishes: AtomicU16::new(0),
            ttl: [const { AtomicU8::new(0) }; 2],
            tos: [const { AtomicU8::new(0) }; 2],
            discovery: [const { AtomicI32::new(1) }; 2],
        }
    }
}

impl Wishes {
    pub(super) fn has(&self, wish: Wish) -> bool {
        self.wishes.load(Ordering::Relaxed) & wish.bits() != 0
    }

    fn set(&self, wish: Wish, is_on: bool) {
        if is_on {
            self.wishes.fetch_or(wish.bits(), Ordering::Relaxed);
        } else {
            self.wishes.fetch_and(!wish.bits(), Ordering::Relaxed);
        }
    }

    pub(super) fn ttl(&self, is_v4: bool) -> u8 {
        match self.ttl[usize::from(!is_v4)].load(Ordering::Relaxed) {
            0 => DEFAULT_TTL,
            set => set,
        }
    }

    pub(super) fn tos(&self, is_v4: bool) -> u8 {
        self.tos[usize::from(!is_v4)].load(Ordering::Relaxed)
    }

    /// Takes over what a listening socket has.
    pub(super) fn copy_from(&self, other: &Wishes) {
        self.wishes
            .store(other.wishes.load(Ordering::Relaxed), Ordering::Relaxed);
        for version in 0..2 {
            let copy = |to: &AtomicU8, from: &AtomicU8| {
                to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            };
            copy(&self.ttl[version], &other.ttl[version]);
            copy(&self.tos[version], &other.tos[version]);
        }
    }
}

/// An option's value as a number: of one byte where no more was given, as these levels take it.
fn number(value: &[u8]) -> Result<i32> {
    match (value.first_chunk::<4>(), value.first()) {
        (Some(bytes), _) => Ok(i32::from_ne_bytes(*bytes)),
        (None, Some(byte)) => Ok(i32::from(*byte)),
        (None, None) => Err(Errno::EINVAL),
    }
}

/// As [`number`], where only four bytes are taken.
fn word(value: &[u8]) -> Result<i32> {
    value
        .first_chunk::<4>()
        .map(|bytes| i32::from_ne_bytes(*bytes))
        .ok_or(Errno::EINVAL)
}

fn byte(value: i32) -> Result<u8> {
    u8::try_from(value).map_err(|_| Errno::EINVAL)
}

pub(super) fn put(to: &mut [u8; OPTION_MAX], bytes: &[u8]) -> Result<usize> {
    to.get_mut(..bytes.len())
        .ok_or(Errno::EINVAL)?
        .copy_from_slice(bytes);
    Ok(bytes.len())
}

fn wish4(name: u32) -> Option<Wish> {
    Some(match name {
        raw::IP_PKTINFO => Wish::PKTINFO4,
        raw::IP_RECVTTL => Wish::TTL4,
        raw::IP_RECVTOS => Wish::TOS4,
        raw::IP_RECVERR => Wish::ERRORS4,
        raw::IP_BIND_ADDRESS_NO_PORT => Wish::NO_PORT,
        raw::IP_FREEBIND => Wish::FREEBIND,
        _ => return None,
    })
}

fn wish6(name: u32) -> Option<Wish> {
    Some(match name {
        raw::IPV6_RECVPKTINFO => Wish::PKTINFO6,
        raw::IPV6_RECVHOPLIMIT => Wish::TTL6,
        raw::IPV6_RECVTCLASS => Wish::TOS6,
        raw::IPV6_RECVERR => Wish::ERRORS6,
        _ => return None,
    })
}

impl Common {
    fn set_ip(&self, name: u32, value: &[u8]) -> Result<()> {
        let store = |to: &AtomicU8, value| to.store(value, Ordering::Relaxed);
        match name {
            raw::IP_TOS => store(&self.wishes.tos[0], number(value)?.to_ne_bytes()[0] & !3),
            raw::IP_TTL => match number(value)? {
                -1 => store(&self.wishes.ttl[0], 0),
                0 => return Err(Errno::EINVAL),
                ttl => store(&self.wishes.ttl[0], byte(ttl)?),
            },
            raw::IP_MTU_DISCOVER => set_discovery(&self.wishes.discovery[0], number(value)?)?,
            // Only where privileged as on Linux: nothing here sends for addresses of others.
            raw::IP_TRANSPARENT | raw::IP_OPTIONS => return Err(Errno::ENOPROTOOPT),
            _ => {
                let wish = wish4(name).ok_or(Errno::ENOPROTOOPT)?;
                self.wishes.set(wish, number(value)? != 0);
            }
        }
        Ok(())
    }

    fn set_ip6(&self, name: u32, value: &[u8]) -> Result<()> {
        let store = |to: &AtomicU8, value| to.store(value, Ordering::Relaxed);
        match name {
            raw::IPV6_UNICAST_HOPS => match word(value)? {
                -1 => store(&self.wishes.ttl[1], 0),
                hops => store(&self.wishes.ttl[1], byte(hops)?),
            },
            raw::IPV6_TCLASS => match word(value)? {
                -1 => store(&self.wishes.tos[1], 0),
                class => store(&self.wishes.tos[1], byte(class)?),
            },
            raw::IPV6_MTU_DISCOVER => set_discovery(&self.wishes.discovery[1], word(value)?)?,
            _ => {
                let wish = wish6(name).ok_or(Errno::ENOPROTOOPT)?;
                self.wishes.set(wish, word(value)? != 0);
            }
        }
        Ok(())
    }

    fn get_ip(&self, name: u32) -> Result<i32> {
        Ok(match name {
            raw::IP_TOS => self.wishes.tos(true).into(),
            raw::IP_TTL => self.wishes.ttl(true).into(),
            raw::IP_MTU_DISCOVER => self.wishes.discovery[0].load(Ordering::Relaxed),
            _ => self
                .wishes
                .has(wish4(name).ok_or(Errno::ENOPROTOOPT)?)
                .into(),
        })
    }

    fn get_ip6(&self, name: u32) -> Result<i32> {
        Ok(match name {
            raw::IPV6_UNICAST_HOPS => self.wishes.ttl(false).into(),
            raw::IPV6_TCLASS => self.wishes.tos(false).into(),
            raw::IPV6_MTU_DISCOVER => self.wishes.discovery[1].load(Ordering::Relaxed),
            _ => self
                .wishes
                .has(wish6(name).ok_or(Errno::ENOPROTOOPT)?)
                .into(),
        })
    }
}

fn set_discovery(to: &AtomicI32, how: i32) -> Result<()> {
    if !(0..=5).contains(&how) {
        return Err(Errno::EINVAL);
    }
    to.store(how, Ordering::Relaxed);
    Ok(())
}

pub(super) fn set_stream(
    socket: &StreamSocket,
    level: u32,
    name: u32,
    value: &[u8],
    _: &Credentials,
) -> Result<()> {
    let common = &socket.common;
    match level {
        IPPROTO_IP => common.set_ip(name, value)?,
        IPPROTO_IPV6 if common.is_v6 && name == raw::IPV6_V6ONLY => {
            let is_only = word(value)? != 0;
            return socket.look(|tcb| {
                if tcb.pair.local.port != 0 {
                    return Err(Errno::EINVAL);
                }
                tcb.is_v6_only = is_only;
                Ok(())
            })?;
        }
        IPPROTO_IPV6 if common.is_v6 => common.set_ip6(name, value)?,
        IPPROTO_TCP => return tcp::set(socket, name, value),
        _ => return Err(Errno::ENOPROTOOPT),
    }
    // A connection sends by itself.
    socket.look(|tcb| {
        let is_v4 = tcb.pair.remote.ip.is_v4();
        tcb.ttl = common.wishes.ttl(is_v4);
        tcb.tos = common.wishes.tos(is_v4);
    })
}

pub(super) fn get_stream(
    socket: &StreamSocket,
    level: u32,
    name: u32,
    to: &mut [u8; OPTION_MAX],
) -> Result<usize> {
    let common = &socket.common;
    let value = match level {
        IPPROTO_IP if name == raw::IP_MTU => mtu(common, socket.look(|tcb| tcb.pair.remote.ip)?)?,
        IPPROTO_IP => common.get_ip(name)?,
        IPPROTO_IPV6 if common.is_v6 && name == raw::IPV6_V6ONLY => {
            socket.look(|tcb| tcb.is_v6_only)?.into()
        }
        IPPROTO_IPV6 if common.is_v6 => common.get_ip6(name)?,
        IPPROTO_TCP => return tcp::get(socket, name, to),
        _ => return Err(unknown_level(common)),
    };
    put(to, &value.to_ne_bytes())
}

fn mtu(common: &Common, remote: Ip) -> Result<i32> {
    if remote.is_any() {
        return Err(Errno::ENOTCONN);
    }
    let mtu = common.namespace.look(|stack| stack.mtu(remote))?;
    i32::try_from(mtu).map_err(|_| Errno::EINVAL)
}

pub(super) fn set_datagram(
    socket: &DatagramSocket,
    level: u32,
    name: u32,
    value: &[u8],
    _: &Credentials,
) -> Result<()> {
    let common = &socket.common;
    match level {
        IPPROTO_IP => common.set_ip(name, value),
        IPPROTO_IPV6 if common.is_v6 && name == raw::IPV6_V6ONLY => {
            let is_only = word(value)? != 0;
            socket.look(|udp| {
                if udp.local.port != 0 {
                    return Err(Errno::EINVAL);
                }
                udp.is_v6_only = is_only;
                Ok(())
            })?
        }
        IPPROTO_IPV6 if common.is_v6 => common.set_ip6(name, value),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

pub(super) fn get_datagram(
    socket: &DatagramSocket,
    level: u32,
    name: u32,
    to: &mut [u8; OPTION_MAX],
) -> Result<usize> {
    let common = &socket.common;
    let value = match level {
        IPPROTO_IP if name == raw::IP_MTU => mtu(
            common,
            socket
                .look(|udp| udp.remote)?
                .map_or(Ip::ANY4, |remote| remote.ip),
        )?,
        IPPROTO_IP => common.get_ip(name)?,
        IPPROTO_IPV6 if common.is_v6 && name == raw::IPV6_V6ONLY => {
            socket.look(|udp| udp.is_v6_only)?.into()
        }
        IPPROTO_IPV6 if common.is_v6 => common.get_ip6(name)?,
        _ => return Err(unknown_level(common)),
    };
    put(to, &value.to_ne_bytes())
}

/// getsockopt(2) of a level that the socket does not have.
fn unknown_level(common: &Common) -> Errno {
    if common.is_v6 {
        Errno::ENOPROTOOPT
    } else {
        Errno::EOPNOTSUPP
    }
}
