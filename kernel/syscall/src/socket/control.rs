//! Control messages (cmsg(3)): descriptors and credentials, from and to user memory.

use abi::raw::net as raw;
use abi::{Errno, Result};
use fs::Capabilities;
use fs::job_control::PidRef;
use machine::UserAddr;
use memory::user;
use net::{AboutPacket, Ancillary, Peer, ReceiveFlags, Socket};
use process::Pid;
use process::rlimit::Resource;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::header::MessageHeader;
use super::insert;
use crate::context::Context;

/// Most bytes of control messages taken (`net.core.optmem_max`).
const CONTROL_MAX: usize = 20_480;
/// Most files in one message (`SCM_MAX_FD`).
const FILES_MAX: usize = 253;
const HEADER: usize = size_of::<ControlHeader>();
/// Bytes of `struct ucred`.
const CREDENTIALS: usize = 12;

/// `struct cmsghdr`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct ControlHeader {
    len: u64,
    level: u32,
    kind: u32,
}

/// Reads what goes along with a message: files, and credentials that the caller may claim.
pub(super) fn read(
    cx: &Context<'_>,
    header: &MessageHeader,
    socket: &dyn Socket,
) -> Result<Ancillary> {
    let mut ancillary = Ancillary {
        files_uid: cx.credentials().uid,
        ..Ancillary::default()
    };
    let len = usize::try_from(header.control_len).unwrap_or(usize::MAX);
    if len == 0 {
        return Ok(ancillary);
    }
    if len > CONTROL_MAX {
        return Err(Errno::ENOBUFS);
    }
    let control = user::read_array::<u8>(UserAddr(header.control), len)?;
    if socket.family() != raw::AF_UNIX {
        return Ok(ancillary);
    }
    let mut rest = &control[..];
    while let Ok((head, _)) = ControlHeader::read_from_prefix(rest) {
        let len = usize::try_from(head.len).unwrap_or(usize::MAX);
        let data = rest.get(HEADER..len).ok_or(Errno::EINVAL)?;
        match (head.level, head.kind) {
            // Other levels are other families' business.
            (level, _) if level != raw::SOL_SOCKET => {}
            (raw::SOL_SOCKET, raw::SCM_RIGHTS) => read_files(cx, data, &mut ancillary)?,
            (raw::SOL_SOCKET, raw::SCM_CREDENTIALS) => {
                ancillary.sender = Some(claimed(cx, data)?);
            }
            _ => return Err(Errno::EINVAL),
        }
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or_default();
    }
    may_have_in_flight(cx, &ancillary)?;
    Ok(ancillary)
}

fn read_files(cx: &Context<'_>, data: &[u8], ancillary: &mut Ancillary) -> Result<()> {
    if data.len() / 4 + ancillary.files.len() > FILES_MAX {
        return Err(Errno::EINVAL);
    }
    for fd in data.chunks_exact(4) {
        let fd = i32::from_ne_bytes([fd[0], fd[1], fd[2], fd[3]]);
        ancillary.files.try_push(cx.own.files.get_counted(fd)?)?;
    }
    Ok(())
}

/// `ETOOMANYREFS` for an unprivileged user who has more files in flight than one may have open.
fn may_have_in_flight(cx: &Context<'_>, ancillary: &Ancillary) -> Result<()> {
    if ancillary.files.is_empty() {
        return Ok(());
    }
    let limit = cx.process().limits().soft(Resource::OpenFiles);
    let credentials = cx.credentials();
    let is_over = net::files_in_flight(ancillary.files_uid) as u64 > limit;
    let privileges = [Capabilities::SYS_RESOURCE, Capabilities::SYS_ADMIN];
    if is_over && !privileges.iter().any(|one| credentials.capable(*one)) {
        return Err(Errno::ETOOMANYREFS);
    }
    Ok(())
}

/// The credentials in `data`, when the caller may go by them.
fn claimed(cx: &Context<'_>, data: &[u8]) -> Result<Peer> {
    let words: [[u8; 4]; 3] = match data.len() {
        CREDENTIALS => [0, 4, 8].map(|at| [data[at], data[at + 1], data[at + 2], data[at + 3]]),
        _ => return Err(Errno::EINVAL),
    };
    let pid = i32::from_ne_bytes(words[0]);
    let credentials = cx.credentials();
    let names = &credentials.user_namespace;
    let uid = names
        .kuid(u32::from_ne_bytes(words[1]))
        .ok_or(Errno::EINVAL)?;
    let gid = names
        .kgid(u32::from_ne_bytes(words[2]))
        .ok_or(Errno::EINVAL)?;
    let own_uids = [credentials.uid, credentials.euid, credentials.suid];
    let own_gids = [credentials.gid, credentials.egid, credentials.sgid];
    let is_own = pid == cx.process().pid().number();
    let pids_owner = cx.process().pid_namespace().owner();
    let pid_ok = is_own || credentials.ns_capable(&pids_owner, Capabilities::SYS_ADMIN);
    let uid_ok = own_uids.contains(&uid) || credentials.own_ns_capable(Capabilities::SETUID);
    let gid_ok = own_gids.contains(&gid) || credentials.own_ns_capable(Capabilities::SETGID);
    if !(pid_ok && uid_ok && gid_ok) {
        return Err(Errno::EPERM);
    }
    // Not only a number: somebody must have it.
    cx.find_process(pid).ok_or(Errno::ESRCH)?;
    let pid = cx.find_pid(pid).ok_or(Errno::ESRCH)?;
    let pid = Some(PidRef::new(pid));
    Ok(Peer { pid, uid, gid })
}

/// What the caller calls the process of `peer`, though that may be gone; 0 when it does not see it.
pub(super) fn peer_number(cx: &Context<'_>, peer: &Peer) -> i32 {
    let pid = peer.pid.as_ref().and_then(|pid| pid.downcast::<Pid>());
    pid.map_or(0, |pid| cx.shown(pid))
}

/// Room for control messages in user memory, which fills (`put_cmsg`).
struct Room {
    at: UserAddr,
    left: usize,
    used: usize,
    was_cut: bool,
}

impl Room {
    /// Adds a message. One that does not fit is cut, header and all when there is no room for that.
    fn put(&mut self, level: u32, kind: u32, data: &[u8]) {
        if self.left < HEADER {
            self.was_cut = true;
            return;
        }
        let whole = HEADER + data.len();
        let len = whole.min(self.left);
        self.was_cut |= len < whole;
        let head = ControlHeader {
            len: len as u64,
            level,
            kind,
        };
        let at = self.at;
        let written = user::write(at, &head).and_then(|()| match at.checked_add(HEADER as u64) {
            Some(behind) => user::write_bytes(behind, &data[..len - HEADER]),
            None => Err(Errno::EFAULT),
        });
        if written.is_ok() {
            self.advance(whole.next_multiple_of(8).min(self.left));
        }
    }

    fn advance(&mut self, len: usize) {
        self.at = UserAddr(self.at.0.wrapping_add(len as u64));
        self.left -= len;
        self.used += len;
    }

    /// Adds what an internet socket tells of a packet, in Linux's order.
    fn put_about(&mut self, about: &AboutPacket) {
        const IP: u32 = 0;
        const IPV6: u32 = 41;
        if about.is_v6 {
            if let Some((ip, interface)) = about.target {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&ip.to_v6());
                info[16..].copy_from_slice(&interface.to_ne_bytes());
                self.put(IPV6, raw::IPV6_PKTINFO, &info);
            }
            if let Some(hops) = about.ttl {
                self.put(IPV6, raw::IPV6_HOPLIMIT, &u32::from(hops).to_ne_bytes());
            }
            if let Some(class) = about.tos {
                self.put(IPV6, raw::IPV6_TCLASS, &u32::from(class).to_ne_bytes());
            }
            return;
        }
        if let Some((ip, interface)) = about.target {
            let words = [interface.to_ne_bytes(), ip.to_v4(), ip.to_v4()];
            self.put(IP, raw::IP_PKTINFO, words.as_flattened());
        }
        if let Some(ttl) = about.ttl {
            self.put(IP, raw::IP_TTL, &u32::from(ttl).to_ne_bytes());
        }
        if let Some(tos) = about.tos {
            self.put(IP, raw::IP_TOS, &[tos]);
        }
    }

    /// Adds descriptors for as many of `files` as find room and numbers.
    fn put_files(&mut self, cx: &mut Context<'_>, ancillary: Ancillary, close_on_exec: bool) {
        let wanted = ancillary.files.len();
        let fits = self.left.saturating_sub(HEADER) / 4;
        let mut count = 0;
        for file in ancillary.files.into_iter().take(fits) {
            let Some(at) = self.at.checked_add((HEADER + count * 4) as u64) else {
                break;
            };
            let Ok(fd) = insert(cx, file, close_on_exec) else {
                break;
            };
            if user::write(at, &fd).is_err() {
                drop(cx.own.files.remove(fd));
                break;
            }
            count += 1;
        }
        self.was_cut |= count < wanted;
        if count > 0 {
            let whole = HEADER + count * 4;
            let head = ControlHeader {
                len: whole as u64,
                level: raw::SOL_SOCKET,
                kind: raw::SCM_RIGHTS,
            };
            if user::write(self.at, &head).is_ok() {
                self.advance(whole.next_multiple_of(8).min(self.left));
            }
        }
    }
}

/// Writes what came along; bytes written, and whether something found no room. What cannot be written is
/// lost, and no reason to fail: the message has been received.
pub(super) fn write(
    cx: &mut Context<'_>,
    header: &MessageHeader,
    ancillary: Ancillary,
    flags: ReceiveFlags,
) -> (usize, bool) {
    let left = usize::try_from(header.control_len).unwrap_or(usize::MAX);
    let mut room = Room {
        at: UserAddr(header.control),
        left: if header.control == 0 { 0 } else { left },
        used: 0,
        was_cut: false,
    };
    if let Some(sender) = &ancillary.sender {
        let words = [
            peer_number(cx, sender).to_ne_bytes(),
            cx.shown_uid(sender.uid).to_ne_bytes(),
            cx.shown_gid(sender.gid).to_ne_bytes(),
        ];
        room.put(raw::SOL_SOCKET, raw::SCM_CREDENTIALS, words.as_flattened());
    }
    if let Some(about) = &ancillary.about {
        room.put_about(about);
    }
    if !ancillary.files.is_empty() {
        let close_on_exec = flags.contains(ReceiveFlags::CMSG_CLOEXEC);
        room.put_files(cx, ancillary, close_on_exec);
    }
    (room.used, room.was_cut)
}
