//! Sending and receiving: send(2), recv(2), sendmsg(2), recvmsg(2).

use alloc::sync::Arc;

use abi::raw::net as raw;
use abi::{Errno, Result};
use machine::UserAddr;
use memory::io::{IoReader, IoWriter};
use memory::user;
use net::{Ancillary, ReceiveFlags, Received, SendFlags, Socket, SocketType};
use process::signal::Signal;

use super::control;
use super::header::{CONTROL_LEN_AT, FLAGS_AT, MessageHeader, NAME_LEN_AT};
use super::write_address;
use super::{Asker, one_slice, read_address, socket};
use crate::context::Context;
use crate::file::read_write::raise;

pub(super) fn field(header: UserAddr, offset: u64) -> Result<UserAddr> {
    header.checked_add(offset).ok_or(Errno::EFAULT)
}

/// A failed send into a stream raises SIGPIPE unless that is not wanted.
pub(super) fn raise_pipe(
    cx: &Context<'_>,
    socket: &dyn Socket,
    result: Result<usize>,
    flags: u32,
) -> Result<usize> {
    let is_stream = socket.socket_type() == SocketType::Stream;
    if result == Err(Errno::EPIPE) && is_stream && flags & raw::MSG_NOSIGNAL == 0 {
        raise(cx, Signal::PIPE);
    }
    result
}

fn send_flags(bits: u32, is_nonblocking: bool) -> Result<SendFlags> {
    const UNSUPPORTED: u32 = raw::MSG_OOB;
    if bits & UNSUPPORTED != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    // Linux ignores flags that a family does not know.
    let mut flags = SendFlags::from_bits_truncate(bits);
    flags.set(
        SendFlags::DONTWAIT,
        is_nonblocking || flags.contains(SendFlags::DONTWAIT),
    );
    Ok(flags)
}

pub(super) fn receive_flags(bits: u32, is_nonblocking: bool) -> Result<ReceiveFlags> {
    const UNSUPPORTED: u32 = raw::MSG_OOB;
    if bits & UNSUPPORTED != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let mut flags = ReceiveFlags::from_bits_truncate(bits);
    flags.set(
        ReceiveFlags::DONTWAIT,
        is_nonblocking || flags.contains(ReceiveFlags::DONTWAIT),
    );
    Ok(flags)
}

/// sendto(fd, buffer, len, flags, address, address_len).
pub(super) fn sys_sendto(cx: &mut Context<'_>) -> Result<u64> {
    let slices = one_slice(cx.addr(1), cx.size(2))?;
    let (socket, nonblocking) = socket(cx, 0)?;
    let flags = cx.uint(3);
    let address = match cx.optional_addr(4) {
        Some(at) => Some(read_address(at, cx.uint(5) as usize)?),
        None => None,
    };
    let asker = Asker::new(cx);
    let requester = asker.requester();
    let to = address.as_ref().map(|address| (address, &requester));
    let ancillary = Ancillary::default();
    let sent = send_flags(flags, nonblocking)
        .and_then(|flags| socket.send(&mut IoReader::vector(&slices), flags, to, ancillary));
    raise_pipe(cx, socket.as_ref(), sent, flags).map(|count| count as u64)
}

/// recvfrom(fd, buffer, len, flags, address, address_len).
pub(super) fn sys_recvfrom(cx: &mut Context<'_>) -> Result<u64> {
    let slices = one_slice(cx.addr(1), cx.size(2))?;
    let (socket, nonblocking) = socket(cx, 0)?;
    let flags = receive_flags(cx.uint(3), nonblocking)?;
    let received = socket.receive(&mut IoWriter::vector(&slices), flags)?;
    if let Some(at) = cx.optional_addr(4) {
        match &received.from {
            Some(from) => write_address(from, at, cx.addr(5))?,
            None => user::write(cx.addr(5), &0_u32)?,
        }
    }
    Ok(reported(&received, flags) as u64)
}

/// What a receive returns: the message's length with MSG_TRUNC, else what was copied.
fn reported(received: &Received, flags: ReceiveFlags) -> usize {
    if flags.contains(ReceiveFlags::TRUNC) {
        received.full_len
    } else {
        received.len
    }
}

/// sendmsg(fd, message, flags).
pub(super) fn sys_sendmsg(cx: &mut Context<'_>) -> Result<u64> {
    let (socket, nonblocking) = socket(cx, 0)?;
    let flags = cx.uint(2);
    let sent = send_message(cx, &socket, nonblocking, cx.addr(1), flags);
    sent.map(|(count, _)| count as u64)
}

/// Sends one message; how much of it, and whether that was all.
pub(super) fn send_message(
    cx: &Context<'_>,
    socket: &Arc<dyn Socket>,
    nonblocking: bool,
    at: UserAddr,
    flags: u32,
) -> Result<(usize, bool)> {
    let header = MessageHeader::read(at)?;
    let slices = header.slices()?;
    let address = header.address()?;
    let asker = Asker::new(cx);
    let requester = asker.requester();
    let ancillary = control::read(cx, &header, socket.as_ref())?;
    let to = address.as_ref().map(|address| (address, &requester));
    let mut from = IoReader::vector(&slices);
    let sent = send_flags(flags, nonblocking)
        .and_then(|flags| socket.send(&mut from, flags, to, ancillary));
    let sent = raise_pipe(cx, socket.as_ref(), sent, flags)?;
    Ok((sent, from.remaining() == 0))
}

pub(super) fn sys_recvmsg(cx: &mut Context<'_>) -> Result<u64> {
    let (socket, nonblocking) = socket(cx, 0)?;
    let flags = receive_flags(cx.uint(2), nonblocking)?;
    receive_message(cx, &socket, cx.addr(1), flags).map(|count| count as u64)
}

pub(super) fn receive_message(
    cx: &mut Context<'_>,
    socket: &Arc<dyn Socket>,
    at: UserAddr,
    flags: ReceiveFlags,
) -> Result<usize> {
    let header = MessageHeader::read(at)?;
    let slices = header.slices()?;
    let received = socket.receive(&mut IoWriter::vector(&slices), flags)?;
    let mut out_flags = 0;
    if flags.contains(ReceiveFlags::CMSG_CLOEXEC) {
        out_flags |= raw::MSG_CMSG_CLOEXEC;
    }
    if received.full_len > received.len {
        out_flags |= raw::MSG_TRUNC;
    }
    let reported = reported(&received, flags);
    let from = received.from;
    let (control_len, was_cut) = control::write(cx, &header, received.ancillary, flags);
    if was_cut {
        out_flags |= raw::MSG_CTRUNC;
    }
    if header.name != 0 {
        let name_len_at = field(at, NAME_LEN_AT)?;
        match &from {
            Some(from) => write_address(from, UserAddr(header.name), name_len_at)?,
            None => user::write(name_len_at, &0_u32)?,
        }
    }
    user::write(field(at, FLAGS_AT)?, &out_flags)?;
    user::write(field(at, CONTROL_LEN_AT)?, &(control_len as u64))?;
    Ok(reported)
}
