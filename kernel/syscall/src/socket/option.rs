//! Socket options: level `SOL_SOCKET` (socket(7)). What other levels have the socket knows.

use core::sync::atomic::Ordering;

use abi::raw::net as raw;
use abi::{Errno, Result};
use collections::Vec;
use fs::Capabilities;
use memory::user;
use net::{OPTION_MAX, Peer, Socket, Switches};

use super::control::peer_number;
use super::socket;
use crate::context::Context;

/// Level of `AF_VSOCK`'s own options, and its buffer sizes: accepted as hints.
const AF_VSOCK: u32 = raw::AF_VSOCK;
const VSOCK_BUFFER_OPTIONS: core::ops::RangeInclusive<u32> = 0..=2;
const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_US: u64 = 1_000;

/// setsockopt(fd, level, name, value, len).
pub(super) fn sys_setsockopt(cx: &mut Context<'_>) -> Result<u64> {
    let (socket, _) = socket(cx, 0)?;
    let (level, name) = (cx.uint(1), cx.uint(2));
    let len = usize::try_from(cx.int(4)).map_err(|_| Errno::EINVAL)?;
    if level == AF_VSOCK && socket.family() == AF_VSOCK && VSOCK_BUFFER_OPTIONS.contains(&name) {
        return Ok(0);
    }
    if level != raw::SOL_SOCKET {
        let mut value = [0; OPTION_MAX];
        let value = &mut value[..len.min(OPTION_MAX)];
        user::read_bytes(cx.addr(3), value)?;
        socket.set_option(level, name, value, cx.credentials())?;
        return Ok(0);
    }
    set(cx, socket.as_ref(), name, len)?;
    socket.option_changed(name);
    Ok(0)
}

/// The options that are on or off, by their numbers (`asm-generic/socket.h`).
const SWITCHES: [(u32, Switches); 15] = [
    (1, Switches::DEBUG),
    (2, Switches::REUSEADDR),
    (5, Switches::DONTROUTE),
    (6, Switches::BROADCAST),
    (9, Switches::KEEPALIVE),
    (10, Switches::OOBINLINE),
    (11, Switches::NO_CHECK),
    (15, Switches::REUSEPORT),
    (16, Switches::PASSCRED),
    (29, Switches::TIMESTAMP),
    (34, Switches::PASSSEC),
    (35, Switches::TIMESTAMPNS),
    (40, Switches::RXQ_OVFL),
    (41, Switches::WIFI_STATUS),
    (45, Switches::SELECT_ERR_QUEUE),
];
const SO_PRIORITY: u32 = 12;
const SO_MARK: u32 = 36;
const SO_PEERNAME: u32 = 28;
const SO_PEERGROUPS: u32 = 59;
/// Priorities that everybody may set.
const PRIORITIES: core::ops::RangeInclusive<i32> = 0..=6;

fn switch(name: u32) -> Option<Switches> {
    SWITCHES
        .iter()
        .find(|(number, _)| *number == name)
        .map(|(_, switch)| *switch)
}

fn set(cx: &Context<'_>, socket: &dyn Socket, name: u32, len: usize) -> Result<()> {
    if len < 4 {
        return Err(Errno::EINVAL);
    }
    let options = socket.options();
    let value: i32 = user::read(cx.addr(3))?;
    let credentials = cx.credentials();
    let may = |capability, errno| {
        let has = credentials.capable(capability);
        if has { Ok(()) } else { Err(errno) }
    };
    match name {
        raw::SO_RCVTIMEO_OLD | raw::SO_RCVTIMEO_NEW => {
            options.set_receive_timeout_ns(read_timeout(cx, len)?);
        }
        raw::SO_SNDTIMEO_OLD | raw::SO_SNDTIMEO_NEW => {
            options.set_send_timeout_ns(read_timeout(cx, len)?);
        }
        raw::SO_SNDBUF => options.set_send_buffer(value.cast_unsigned()),
        raw::SO_RCVBUF => options.set_receive_buffer(value.cast_unsigned()),
        raw::SO_SNDBUFFORCE => {
            may(Capabilities::NET_ADMIN, Errno::EPERM)?;
            options.force_send_buffer(value);
        }
        raw::SO_RCVBUFFORCE => {
            may(Capabilities::NET_ADMIN, Errno::EPERM)?;
            options.force_receive_buffer(value);
        }
        raw::SO_RCVLOWAT => options.set_receive_low_water(value),
        SO_PRIORITY => {
            if !PRIORITIES.contains(&value) {
                may(Capabilities::NET_ADMIN, Errno::EPERM)?;
            }
            options.priority.store(value, Ordering::Relaxed);
        }
        SO_MARK => {
            may(Capabilities::NET_ADMIN, Errno::EPERM)?;
            options.mark.store(value.cast_unsigned(), Ordering::Relaxed);
        }
        raw::SO_LINGER => {
            if len < 8 {
                return Err(Errno::EINVAL);
            }
            let [is_on, seconds]: [u32; 2] = user::read(cx.addr(3))?;
            options.set_linger((is_on != 0).then_some(seconds));
        }
        _ => {
            let switch = switch(name).ok_or(Errno::ENOPROTOOPT)?;
            if switch == Switches::DEBUG && value != 0 {
                may(Capabilities::NET_ADMIN, Errno::EACCES)?;
            }
            options.set(switch, value != 0);
        }
    }
    Ok(())
}

/// A `struct timeval` in nanoseconds; 0 waits for ever.
fn read_timeout(cx: &Context<'_>, len: usize) -> Result<u64> {
    if len < 16 {
        return Err(Errno::EINVAL);
    }
    let [seconds, microseconds]: [i64; 2] = user::read(cx.addr(3))?;
    if !(0..1_000_000).contains(&microseconds) {
        return Err(Errno::EDOM);
    }
    // A negative time-out does not wait at all: the shortest wait there is.
    let Ok(seconds) = u64::try_from(seconds) else {
        return Ok(1);
    };
    let ns = seconds.saturating_mul(NS_PER_S);
    Ok(ns.saturating_add(microseconds.unsigned_abs() * NS_PER_US))
}

/// getsockopt(fd, level, name, value, len).
pub(super) fn sys_getsockopt(cx: &mut Context<'_>) -> Result<u64> {
    let (socket, _) = socket(cx, 0)?;
    let room: i32 = user::read(cx.addr(4))?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    if cx.uint(1) != raw::SOL_SOCKET {
        let mut value = [0; OPTION_MAX];
        let len = socket.option(cx.uint(1), cx.uint(2), &mut value)?;
        return put(cx, &value[..len.min(room)]);
    }
    if cx.uint(2) == SO_PEERGROUPS {
        return peer_groups(cx, socket.as_ref(), room);
    }
    let value = value_of(cx, socket.as_ref(), cx.uint(2))?;
    if cx.uint(2) == SO_PEERNAME && value.len < room {
        return Err(Errno::EINVAL);
    }
    put(cx, &value.bytes[..value.len.min(room)])
}

/// Answers getsockopt(2).
fn put(cx: &Context<'_>, value: &[u8]) -> Result<u64> {
    user::write_bytes(cx.addr(3), value)?;
    user::write(cx.addr(4), &u32::try_from(value.len()).unwrap_or(u32::MAX))?;
    Ok(0)
}

/// `SO_PEERGROUPS`: the supplementary groups of who is at the other end; `ERANGE`, and the room needed, where
/// there is too little.
fn peer_groups(cx: &Context<'_>, socket: &dyn Socket, room: usize) -> Result<u64> {
    let credentials = socket.peer_credentials().ok_or(Errno::ENODATA)?;
    let groups = &credentials.groups;
    let len = u32::try_from(groups.len() * 4).map_err(|_| Errno::EINVAL)?;
    user::write(cx.addr(4), &len)?;
    if room < len as usize {
        return Err(Errno::ERANGE);
    }
    let mut bytes = Vec::try_with_capacity(len as usize)?;
    for group in groups.iter() {
        bytes.try_extend_from_slice(&cx.shown_gid(*group).to_ne_bytes())?;
    }
    user::write_bytes(cx.addr(3), &bytes)?;
    Ok(0)
}

/// The bytes of an option; an address is the longest.
struct Value {
    bytes: [u8; 128],
    len: usize,
}

impl Value {
    fn new(bytes: &[u8]) -> Value {
        let mut value = Value {
            bytes: [0; 128],
            len: bytes.len().min(128),
        };
        value.bytes[..value.len].copy_from_slice(&bytes[..value.len]);
        value
    }

    fn number(number: u32) -> Value {
        Value::new(&number.to_ne_bytes())
    }

    fn words(words: [u32; 2]) -> Value {
        Value::new(words.map(u32::to_ne_bytes).as_flattened())
    }

    fn timeout(ns: u64) -> Value {
        let words = [ns / NS_PER_S, ns % NS_PER_S / NS_PER_US];
        Value::new(words.map(u64::to_ne_bytes).as_flattened())
    }

    fn peer(cx: &Context<'_>, peer: &Peer) -> Value {
        // Who is not there has no number, rather than the one of those who are elsewhere.
        let (uid, gid) = match peer.pid {
            None => (u32::MAX, u32::MAX),
            Some(_) => (cx.shown_uid(peer.uid), cx.shown_gid(peer.gid)),
        };
        let words = [
            peer_number(cx, peer).to_ne_bytes(),
            uid.to_ne_bytes(),
            gid.to_ne_bytes(),
        ];
        Value::new(words.as_flattened())
    }
}

fn value_of(cx: &Context<'_>, socket: &dyn Socket, name: u32) -> Result<Value> {
    let options = socket.options();
    Ok(match name {
        raw::SO_TYPE => Value::number(socket.socket_type().to_raw()),
        raw::SO_DOMAIN => Value::number(socket.family()),
        raw::SO_PROTOCOL => Value::number(socket.protocol()),
        raw::SO_ERROR => Value::number(socket.take_error().map_or(0, |errno| errno.get().into())),
        raw::SO_ACCEPTCONN => Value::number(socket.is_listening().into()),
        raw::SO_SNDBUF => Value::number(options.send_buffer()),
        raw::SO_RCVBUF => Value::number(options.receive_buffer()),
        raw::SO_RCVTIMEO_OLD | raw::SO_RCVTIMEO_NEW => Value::timeout(options.receive_timeout_ns()),
        raw::SO_SNDTIMEO_OLD | raw::SO_SNDTIMEO_NEW => Value::timeout(options.send_timeout_ns()),
        raw::SO_RCVLOWAT => Value::number(options.receive_low_water()),
        raw::SO_SNDLOWAT => Value::number(1),
        SO_PRIORITY => Value::new(&options.priority.load(Ordering::Relaxed).to_ne_bytes()),
        SO_MARK => Value::number(options.mark.load(Ordering::Relaxed)),
        raw::SO_LINGER => {
            let linger = options.linger();
            Value::words([linger.is_some().into(), linger.unwrap_or(0)])
        }
        raw::SO_PEERCRED => Value::peer(cx, &socket.peer()),
        SO_PEERNAME => Value::new(&socket.peer_name()?.to_bytes()),
        _ => {
            let switch = switch(name).ok_or(Errno::ENOPROTOOPT)?;
            Value::number(options.has(switch).into())
        }
    })
}
