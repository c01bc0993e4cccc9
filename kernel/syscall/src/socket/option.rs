//! Socket options: level `SOL_SOCKET` (socket(7)). Other levels are `ENOPROTOOPT`.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::raw::net as raw;
use abi::{Errno, Result};
use memory::user;
use net::Socket;

use super::socket;
use crate::context::Context;

/// Level of `AF_VSOCK`'s own options, and its buffer sizes: accepted as hints.
const AF_VSOCK: u32 = raw::AF_VSOCK;
const VSOCK_BUFFER_OPTIONS: core::ops::RangeInclusive<u32> = 0..=2;
const SO_PASSCRED: u32 = 16;
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
        return Err(other_level(socket.as_ref()));
    }
    let options = socket.options();
    if matches!(name, raw::SO_RCVTIMEO_OLD | raw::SO_SNDTIMEO_OLD) {
        let timeout_ns = read_timeout(cx, len)?;
        if name == raw::SO_RCVTIMEO_OLD {
            options.set_receive_timeout_ns(timeout_ns);
        } else {
            options.set_send_timeout_ns(timeout_ns);
        }
        return Ok(0);
    }
    if len < 4 {
        return Err(Errno::EINVAL);
    }
    let value: u32 = user::read(cx.addr(3))?;
    match name {
        raw::SO_SNDBUF | raw::SO_SNDBUFFORCE => options.set_send_buffer(value),
        raw::SO_RCVBUF | raw::SO_RCVBUFFORCE => options.set_receive_buffer(value),
        SO_PASSCRED => options
            .pass_credentials
            .store(value != 0, Ordering::Relaxed),
        raw::SO_REUSEADDR | raw::SO_REUSEPORT => {
            options.reuse_address.store(value != 0, Ordering::Relaxed);
        }
        raw::SO_KEEPALIVE => options.keep_alive.store(value != 0, Ordering::Relaxed),
        raw::SO_BROADCAST => options.broadcast.store(value != 0, Ordering::Relaxed),
        raw::SO_LINGER => {
            if len < 8 {
                return Err(Errno::EINVAL);
            }
            let [is_on, seconds]: [u32; 2] = user::read(cx.addr(3))?;
            options.set_linger((is_on != 0).then_some(seconds));
        }
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(0)
}

/// Unix sockets have no options of their own at all.
fn other_level(socket: &dyn Socket) -> Errno {
    if socket.family() == raw::AF_UNIX {
        Errno::EOPNOTSUPP
    } else {
        Errno::ENOPROTOOPT
    }
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
        return Err(other_level(socket.as_ref()));
    }
    let value = value_of(cx, socket.as_ref(), cx.uint(2))?;
    let value = &value[..value.len().min(room)];
    user::write_bytes(cx.addr(3), value)?;
    user::write(cx.addr(4), &u32::try_from(value.len()).unwrap_or(u32::MAX))?;
    Ok(0)
}

/// The bytes of an option.
fn value_of(cx: &Context<'_>, socket: &dyn Socket, name: u32) -> Result<Vec<u8>> {
    let options = socket.options();
    let number = |value: u32| Ok(value.to_ne_bytes().to_vec());
    let timeout = |ns: u64| {
        let mut bytes = (ns / NS_PER_S).to_ne_bytes().to_vec();
        bytes.extend((ns % NS_PER_S / NS_PER_US).to_ne_bytes());
        Ok(bytes)
    };
    match name {
        raw::SO_TYPE => number(socket.socket_type().to_raw()),
        raw::SO_DOMAIN => number(socket.family()),
        raw::SO_PROTOCOL => number(0),
        raw::SO_ERROR => number(socket.take_error().map_or(0, |errno| errno.get().into())),
        raw::SO_ACCEPTCONN => number(socket.is_listening().into()),
        raw::SO_SNDBUF => number(options.send_buffer()),
        raw::SO_RCVBUF => number(options.receive_buffer()),
        SO_PASSCRED => number(options.pass_credentials.load(Ordering::Relaxed).into()),
        raw::SO_REUSEADDR | raw::SO_REUSEPORT => {
            number(options.reuse_address.load(Ordering::Relaxed).into())
        }
        raw::SO_KEEPALIVE => number(options.keep_alive.load(Ordering::Relaxed).into()),
        raw::SO_RCVTIMEO_OLD => timeout(options.receive_timeout_ns()),
        raw::SO_SNDTIMEO_OLD => timeout(options.send_timeout_ns()),
        raw::SO_BROADCAST => number(options.broadcast.load(Ordering::Relaxed).into()),
        raw::SO_RCVLOWAT | raw::SO_SNDLOWAT => number(1),
        raw::SO_LINGER => {
            let linger = options.linger();
            let mut bytes = u32::from(linger.is_some()).to_ne_bytes().to_vec();
            bytes.extend(linger.unwrap_or(0).to_ne_bytes());
            Ok(bytes)
        }
        raw::SO_PEERCRED => {
            let peer = socket.peer();
            let mut bytes = cx.shown(peer.pid).to_ne_bytes().to_vec();
            bytes.extend(peer.uid.to_ne_bytes());
            bytes.extend(peer.gid.to_ne_bytes());
            Ok(bytes)
        }
        _ => Err(Errno::ENOPROTOOPT),
    }
}
