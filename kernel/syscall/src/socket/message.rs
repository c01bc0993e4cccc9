//! Sending and receiving: send(2), recv(2), sendmsg(2), recvmsg(2), and several at once.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::raw::net as raw;
use abi::{Errno, Result};
use fs::Capabilities;
use machine::UserAddr;
use memory::io::{IoReader, IoWriter, UserSlice};
use memory::user;
use net::{Ancillary, Peer, ReceiveFlags, Received, SendFlags, Socket};
use process::rlimit::Resource;
use process::signal::{SigInfo, Signal, send};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Asker, check_slice, insert, one_slice, read_address, socket, write_address};
use crate::context::Context;

/// Most pieces of a message (`UIO_MAXIOV`).
const PIECES_MAX: usize = 1024;
/// Most messages of one sendmmsg(2).
const MESSAGES_MAX: usize = 1024;
/// Most bytes of control messages taken.
const CONTROL_MAX: usize = 20_480;
/// Most files in one message (`SCM_MAX_FD`).
const FILES_MAX: usize = 253;
/// recvmmsg(2): do not wait after the first message.
const MSG_WAITFORONE: u32 = 0x10000;
/// Bytes of one transfer (`MAX_RW_COUNT`).
const TRANSFER_MAX: usize = 0x7fff_f000;
const CONTROL_HEADER: usize = size_of::<ControlHeader>();

/// `struct msghdr`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct MessageHeader {
    name: u64,
    name_len: u32,
    padding: u32,
    pieces: u64,
    pieces_len: u64,
    control: u64,
    control_len: u64,
    flags: u32,
    padding2: u32,
}

/// Where fields of `struct msghdr` are that recvmsg(2) writes.
const NAME_LEN_AT: u64 = 8;
const CONTROL_LEN_AT: u64 = 40;
const FLAGS_AT: u64 = 48;
/// Size of `struct mmsghdr`, and where it has the length.
const MANY_LEN: u64 = 64;
const MANY_COUNT_AT: u64 = 56;

/// `struct cmsghdr`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct ControlHeader {
    len: u64,
    level: u32,
    kind: u32,
}

/// `struct iovec`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Piece {
    base: u64,
    len: u64,
}

impl MessageHeader {
    fn slices(&self) -> Result<Vec<UserSlice>> {
        let count = usize::try_from(self.pieces_len).unwrap_or(usize::MAX);
        if count > PIECES_MAX {
            return Err(Errno::EMSGSIZE);
        }
        let mut left = TRANSFER_MAX;
        let pieces: Vec<Piece> = user::read_array(UserAddr(self.pieces), count)?;
        let slice = |piece: &Piece| {
            let len = isize::try_from(piece.len).map_err(|_| Errno::EINVAL)?;
            let len = len.unsigned_abs().min(left);
            left -= len;
            check_slice(UserAddr(piece.base), len)
        };
        pieces.iter().map(slice).collect()
    }
}

fn field(header: UserAddr, offset: u64) -> Result<UserAddr> {
    header.checked_add(offset).ok_or(Errno::EFAULT)
}

/// A failed send raises SIGPIPE unless that is not wanted.
fn raise_pipe(cx: &Context<'_>, result: Result<usize>, flags: u32) -> Result<usize> {
    if result == Err(Errno::EPIPE) && flags & raw::MSG_NOSIGNAL == 0 {
        send::to_thread(cx.thread, &SigInfo::kernel(Signal::PIPE))?;
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

fn receive_flags(bits: u32, is_nonblocking: bool) -> Result<ReceiveFlags> {
    const UNSUPPORTED: u32 = raw::MSG_OOB | raw::MSG_ERRQUEUE;
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
    let (socket, nonblocking) = socket(cx, 0)?;
    let flags = cx.uint(3);
    let slices = one_slice(cx.addr(1), cx.size(2).min(TRANSFER_MAX))?;
    let address = match cx.optional_addr(4) {
        Some(at) => Some(read_address(at, cx.uint(5) as usize)?),
        None => None,
    };
    let asker = Asker::new(cx);
    let requester = asker.requester();
    let to = address.as_ref().map(|address| (address, &requester));
    let ancillary = Ancillary {
        sender: Some(asker.peer()),
        ..Ancillary::default()
    };
    let sent = send_flags(flags, nonblocking)
        .and_then(|flags| socket.send(&mut IoReader::vector(&slices), flags, to, ancillary));
    raise_pipe(cx, sent, flags).map(|count| count as u64)
}

/// recvfrom(fd, buffer, len, flags, address, address_len).
pub(super) fn sys_recvfrom(cx: &mut Context<'_>) -> Result<u64> {
    let (socket, nonblocking) = socket(cx, 0)?;
    let flags = receive_flags(cx.uint(3), nonblocking)?;
    let slices = one_slice(cx.addr(1), cx.size(2).min(TRANSFER_MAX))?;
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

pub(super) fn sys_sendmsg(cx: &mut Context<'_>) -> Result<u64> {
    let (socket, nonblocking) = socket(cx, 0)?;
    let flags = cx.uint(2);
    let sent = send_message(cx, &socket, nonblocking, cx.addr(1), flags);
    raise_pipe(cx, sent, flags).map(|count| count as u64)
}

fn send_message(
    cx: &Context<'_>,
    socket: &Arc<dyn Socket>,
    nonblocking: bool,
    at: UserAddr,
    flags: u32,
) -> Result<usize> {
    let header: MessageHeader = user::read(at)?;
    let slices = header.slices()?;
    let address = match header.name {
        0 => None,
        _ if header.name_len == 0 => None,
        name => Some(read_address(UserAddr(name), header.name_len as usize)?),
    };
    let asker = Asker::new(cx);
    let requester = asker.requester();
    let ancillary = read_control(cx, &header, asker.peer())?;
    let to = address.as_ref().map(|address| (address, &requester));
    let flags = send_flags(flags, nonblocking)?;
    socket.send(&mut IoReader::vector(&slices), flags, to, ancillary)
}

/// Reads control messages: files, and credentials that the caller may claim.
fn read_control(cx: &Context<'_>, header: &MessageHeader, own: Peer) -> Result<Ancillary> {
    let mut ancillary = Ancillary {
        files: Vec::new(),
        files_uid: own.uid,
        sender: Some(own),
    };
    let len = usize::try_from(header.control_len).unwrap_or(usize::MAX);
    if header.control == 0 || len == 0 {
        return Ok(ancillary);
    }
    if len > CONTROL_MAX {
        return Err(Errno::ENOBUFS);
    }
    let control: Vec<u8> = user::read_array(UserAddr(header.control), len)?;
    let mut rest = &control[..];
    while let Ok((head, _)) = ControlHeader::read_from_prefix(rest) {
        let len = usize::try_from(head.len).unwrap_or(usize::MAX);
        let data = rest.get(CONTROL_HEADER..len).ok_or(Errno::EINVAL)?;
        match (head.level, head.kind) {
            // Other levels are other families' business.
            (level, _) if level != raw::SOL_SOCKET => {}
            (raw::SOL_SOCKET, raw::SCM_RIGHTS) => read_files(cx, data, &mut ancillary)?,
            (raw::SOL_SOCKET, raw::SCM_CREDENTIALS) => {
                ancillary.sender = Some(claimed(cx, data, own)?);
            }
            _ => return Err(Errno::EINVAL),
        }
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(ancillary)
}

fn read_files(cx: &Context<'_>, data: &[u8], ancillary: &mut Ancillary) -> Result<()> {
    let files = cx.thread.files();
    if data.len() / 4 + ancillary.files.len() > FILES_MAX {
        return Err(Errno::EINVAL);
    }
    let limit = cx.process().limits().soft(Resource::OpenFiles);
    let credentials = cx.thread.credentials();
    let is_over = net::files_in_flight(ancillary.files_uid) as u64 > limit;
    let privileges = [Capabilities::SYS_RESOURCE, Capabilities::SYS_ADMIN];
    if is_over && !privileges.iter().any(|one| credentials.has(*one)) {
        return Err(Errno::ETOOMANYREFS);
    }
    for fd in data.chunks_exact(4) {
        let fd = i32::from_ne_bytes([fd[0], fd[1], fd[2], fd[3]]);
        ancillary.files.push(files.get(fd)?);
    }
    Ok(())
}

/// The credentials in `data`, when the caller may go by them.
fn claimed(cx: &Context<'_>, data: &[u8], own: Peer) -> Result<Peer> {
    let word = |index: usize| -> Result<[u8; 4]> {
        data.get(index * 4..index * 4 + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(Errno::EINVAL)
    };
    if data.len() != 12 {
        return Err(Errno::EINVAL);
    }
    let claim = Peer {
        pid: cx
            .process()
            .find(i32::from_ne_bytes(word(0)?))
            .ok_or(Errno::ESRCH)?,
        uid: u32::from_ne_bytes(word(1)?),
        gid: u32::from_ne_bytes(word(2)?),
    };
    let credentials = cx.thread.credentials();
    let own_uids = [credentials.uid, credentials.euid, credentials.suid];
    let own_gids = [credentials.gid, credentials.egid, credentials.sgid];
    let pid_ok = claim.pid == own.pid || credentials.has(Capabilities::SYS_ADMIN);
    let uid_ok = own_uids.contains(&claim.uid) || credentials.has(Capabilities::SETUID);
    let gid_ok = own_gids.contains(&claim.gid) || credentials.has(Capabilities::SETGID);
    if pid_ok && uid_ok && gid_ok {
        Ok(claim)
    } else {
        Err(Errno::EPERM)
    }
}

pub(super) fn sys_recvmsg(cx: &mut Context<'_>) -> Result<u64> {
    let (socket, nonblocking) = socket(cx, 0)?;
    let flags = receive_flags(cx.uint(2), nonblocking)?;
    receive_message(cx, &socket, cx.addr(1), flags).map(|count| count as u64)
}

fn receive_message(
    cx: &Context<'_>,
    socket: &Arc<dyn Socket>,
    at: UserAddr,
    flags: ReceiveFlags,
) -> Result<usize> {
    let header: MessageHeader = user::read(at)?;
    let slices = header.slices()?;
    let received = socket.receive(&mut IoWriter::vector(&slices), flags)?;
    let mut out_flags = 0;
    if flags.contains(ReceiveFlags::CMSG_CLOEXEC) {
        out_flags |= raw::MSG_CMSG_CLOEXEC;
    }
    if received.full_len > received.len {
        out_flags |= raw::MSG_TRUNC;
    }
    if header.name != 0 {
        let name_len_at = field(at, NAME_LEN_AT)?;
        match &received.from {
            Some(from) => write_address(from, UserAddr(header.name), name_len_at)?,
            None => user::write(name_len_at, &0_u32)?,
        }
    }
    let (control_len, was_cut) = write_control(cx, &header, &received.ancillary, flags)?;
    if was_cut {
        out_flags |= raw::MSG_CTRUNC;
    }
    user::write(field(at, CONTROL_LEN_AT)?, &(control_len as u64))?;
    user::write(field(at, FLAGS_AT)?, &out_flags)?;
    Ok(reported(&received, flags))
}

/// Writes control messages; bytes written, and whether something found no room.
fn write_control(
    cx: &Context<'_>,
    header: &MessageHeader,
    ancillary: &Ancillary,
    flags: ReceiveFlags,
) -> Result<(usize, bool)> {
    let room = usize::try_from(header.control_len).unwrap_or(usize::MAX);
    let room = if header.control == 0 {
        0
    } else {
        room.min(CONTROL_MAX)
    };
    let mut control = Vec::new();
    let mut was_cut = false;
    if let Some(sender) = ancillary.sender {
        let mut data = Vec::new();
        data.extend(cx.shown(sender.pid).to_ne_bytes());
        data.extend(sender.uid.to_ne_bytes());
        data.extend(sender.gid.to_ne_bytes());
        was_cut |= !push_control(&mut control, raw::SCM_CREDENTIALS, &data, room);
    }
    if !ancillary.files.is_empty() {
        let fits = room.saturating_sub(control.len() + CONTROL_HEADER) / 4;
        let close_on_exec = flags.contains(ReceiveFlags::CMSG_CLOEXEC);
        let mut data = Vec::new();
        for file in ancillary.files.iter().take(fits) {
            match insert(cx, file.clone(), close_on_exec) {
                Ok(fd) => data.extend(fd.to_ne_bytes()),
                Err(_) => break,
            }
        }
        was_cut |= data.len() / 4 < ancillary.files.len();
        if !data.is_empty() {
            push_control(&mut control, raw::SCM_RIGHTS, &data, room);
        }
    }
    control.truncate(room);
    user::write_bytes(UserAddr(header.control), &control)?;
    Ok((control.len(), was_cut))
}

/// Adds a control message, padded; `false` when there is no room for all of it.
fn push_control(control: &mut Vec<u8>, kind: u32, data: &[u8], room: usize) -> bool {
    let len = CONTROL_HEADER + data.len();
    if control.len() + len > room {
        return false;
    }
    let head = ControlHeader {
        len: len as u64,
        level: raw::SOL_SOCKET,
        kind,
    };
    control.extend(head.as_bytes());
    control.extend(data);
    control.resize(control.len().next_multiple_of(8), 0);
    true
}

/// sendmmsg(fd, messages, count, flags).
pub(super) fn sys_sendmmsg(cx: &mut Context<'_>) -> Result<u64> {
    let (socket, nonblocking) = socket(cx, 0)?;
    let flags = cx.uint(3);
    many(cx, |cx, at| {
        let sent = send_message(cx, &socket, nonblocking, at, flags);
        raise_pipe(cx, sent, flags)
    })
}

/// recvmmsg(fd, messages, count, flags, timeout). The time-out counts only between messages.
pub(super) fn sys_recvmmsg(cx: &mut Context<'_>) -> Result<u64> {
    let (socket, nonblocking) = socket(cx, 0)?;
    let bits = cx.uint(3);
    let wait_for_one = bits & MSG_WAITFORONE != 0;
    let mut flags = receive_flags(bits, nonblocking)?;
    many(cx, |cx, at| {
        let received = receive_message(cx, &socket, at, flags);
        flags.set(
            ReceiveFlags::DONTWAIT,
            wait_for_one || flags.contains(ReceiveFlags::DONTWAIT),
        );
        received
    })
}

/// Does something with each of an array of `struct mmsghdr`; how many were done.
fn many(
    cx: &Context<'_>,
    mut act: impl FnMut(&Context<'_>, UserAddr) -> Result<usize>,
) -> Result<u64> {
    let count = (cx.uint(2) as usize).min(MESSAGES_MAX);
    let mut at = cx.addr(1);
    for done in 0..count as u64 {
        let step = act(cx, at).and_then(|len| {
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            user::write(field(at, MANY_COUNT_AT)?, &len)
        });
        match step {
            Ok(()) => {}
            Err(_) if done > 0 => return Ok(done),
            Err(errno) => return Err(errno),
        }
        at = field(at, MANY_LEN)?;
    }
    Ok(count as u64)
}
