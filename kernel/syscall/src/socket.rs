//! Sockets: socket(2) to shutdown(2). Arguments are decoded here, [`net`] acts.

use alloc::sync::Arc;

use abi::{Errno, Result};
use fs::job_control::PidRef;
use fs::{Caller, Credentials, FdRef, File, OpenFlags, Path};
use machine::UserAddr;
use memory::user;
use net::{Address, Owner, Peer, Requester, Shutdown, Socket, SocketFile, SocketType};
use process::rlimit::Resource;

use crate::context::Context;
use crate::entry::Entry;

mod control;
mod header;
mod many;
mod message;
mod option;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(41, "socket", sys_socket),
    Entry::new(42, "connect", sys_connect),
    Entry::new(43, "accept", sys_accept),
    Entry::new(44, "sendto", message::sys_sendto),
    Entry::new(45, "recvfrom", message::sys_recvfrom),
    Entry::new(46, "sendmsg", message::sys_sendmsg),
    Entry::new(47, "recvmsg", message::sys_recvmsg),
    Entry::new(48, "shutdown", sys_shutdown),
    Entry::new(49, "bind", sys_bind),
    Entry::new(50, "listen", sys_listen),
    Entry::new(51, "getsockname", sys_getsockname),
    Entry::new(52, "getpeername", sys_getpeername),
    Entry::new(53, "socketpair", sys_socketpair),
    Entry::new(54, "setsockopt", option::sys_setsockopt),
    Entry::new(55, "getsockopt", option::sys_getsockopt),
    Entry::new(288, "accept4", sys_accept4),
    Entry::new(299, "recvmmsg", many::sys_recvmmsg),
    Entry::new(307, "sendmmsg", many::sys_sendmmsg),
];

/// The largest address taken (`struct sockaddr_storage`).
const ADDRESS_MAX: usize = 128;
/// Bytes of one transfer (`MAX_RW_COUNT`).
const TRANSFER_MAX: usize = 0x7fff_f000;
/// `SOMAXCONN`.
const BACKLOG_MAX: usize = 4096;
const SOCK_NONBLOCK: u32 = 0o4000;
const SOCK_CLOEXEC: u32 = 0o2_000_000;

/// Who calls, held so that requests can borrow it.
struct Asker {
    fs: Arc<fs::FsContext>,
    owner: Owner,
    base: Path,
}

impl Asker {
    fn new(cx: &Context<'_>) -> Asker {
        let fs = cx.fs().clone();
        let base = fs.cwd();
        let owner = owner(cx);
        Asker { fs, owner, base }
    }

    fn requester(&self) -> Requester<'_> {
        let caller = Caller {
            fs: &self.fs,
            credentials: &self.owner.credentials,
        };
        Requester {
            caller,
            base: &self.base,
            owner: &self.owner,
        }
    }
}

/// The caller, as the sockets it makes have it.
fn owner(cx: &Context<'_>) -> Owner {
    let credentials = cx.credentials().clone();
    let peer = Peer {
        pid: Some(PidRef::new(cx.process().pid().clone())),
        uid: credentials.euid,
        gid: credentials.egid,
    };
    Owner { peer, credentials }
}

/// Who calls, as `SCM_CREDENTIALS` tells: by the real ids. For [`net::set_caller`].
#[must_use]
pub fn caller() -> Option<Owner> {
    let thread = process::task::thread::current()?;
    let credentials: Arc<Credentials> = thread.credentials();
    let peer = Peer {
        pid: Some(PidRef::new(thread.process().pid().clone())),
        uid: credentials.uid,
        gid: credentials.gid,
    };
    Some(Owner { peer, credentials })
}

/// Flags of socket(2), socketpair(2) and accept4(2).
#[derive(Debug, Clone, Copy)]
struct NewFlags {
    file: OpenFlags,
    close_on_exec: bool,
}

impl NewFlags {
    fn new(bits: u32) -> Result<NewFlags> {
        if bits & !(SOCK_NONBLOCK | SOCK_CLOEXEC) != 0 {
            return Err(Errno::EINVAL);
        }
        let mut file = OpenFlags::RDWR;
        file.set(OpenFlags::NONBLOCK, bits & SOCK_NONBLOCK != 0);
        Ok(NewFlags {
            file,
            close_on_exec: bits & SOCK_CLOEXEC != 0,
        })
    }

    /// Splits the type argument of socket(2), which is for `family`.
    fn split(family: u32, argument: u32) -> Result<(SocketType, NewFlags)> {
        const TYPE_MASK: u32 = 0xf;
        let flags = NewFlags::new(argument & !TYPE_MASK)?;
        Ok((SocketType::of(family, argument & TYPE_MASK)?, flags))
    }
}

/// The open file behind descriptor argument `index`.
fn file<'a>(cx: &'a Context<'_>, index: usize) -> Result<FdRef<'a>> {
    cx.own.files.get(cx.int(index))
}

/// The socket behind descriptor argument `index`, and whether it is nonblocking.
fn socket(cx: &Context<'_>, index: usize) -> Result<(Arc<dyn Socket>, bool)> {
    let file = file(cx, index)?;
    Ok((SocketFile::of(&file)?.clone(), file.is_nonblocking()))
}

/// Gives a socket a descriptor.
fn install(cx: &mut Context<'_>, socket: Arc<dyn Socket>, flags: NewFlags) -> Result<i32> {
    let file = SocketFile::open(socket, flags.file, cx.credentials())?;
    insert(cx, file, flags.close_on_exec)
}

fn insert(cx: &mut Context<'_>, file: Arc<File>, close_on_exec: bool) -> Result<i32> {
    let limit = cx.process().limits().soft(Resource::OpenFiles);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    cx.own.files.insert(file, close_on_exec, limit)
}

fn number(fd: i32) -> u64 {
    u64::from(fd.unsigned_abs())
}

/// Reads a `struct sockaddr` of `len` bytes.
fn read_address(at: UserAddr, len: usize) -> Result<Address> {
    if len > ADDRESS_MAX {
        return Err(Errno::EINVAL);
    }
    let mut bytes = [0; ADDRESS_MAX];
    user::read_bytes(at, &mut bytes[..len])?;
    Address::from_bytes(&bytes[..len])
}

/// Writes an address as getsockname(2) does: what fits, and the length it has.
fn write_address(address: &Address, at: UserAddr, len_at: UserAddr) -> Result<()> {
    let room: i32 = user::read(len_at)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let bytes = address.to_bytes();
    user::write_bytes(at, &bytes[..bytes.len().min(room)])?;
    let len = u32::try_from(bytes.len()).map_err(|_| Errno::EINVAL)?;
    user::write(len_at, &len)
}

fn sys_socket(cx: &mut Context<'_>) -> Result<u64> {
    let (kind, flags) = NewFlags::split(cx.uint(0), cx.uint(1))?;
    let socket = net::create(
        cx.uint(0),
        kind,
        cx.uint(2),
        owner(cx),
        &cx.thread.network(),
    )?;
    install(cx, socket, flags).map(number)
}

fn sys_socketpair(cx: &mut Context<'_>) -> Result<u64> {
    let (kind, flags) = NewFlags::split(cx.uint(0), cx.uint(1))?;
    let (one, other) = net::create_pair(
        cx.uint(0),
        kind,
        cx.uint(2),
        owner(cx),
        &cx.thread.network(),
    )?;
    let first = install(cx, one, flags)?;
    let second = install(cx, other, flags).inspect_err(|_| drop(cx.own.files.remove(first)))?;
    user::write(cx.addr(3), &[first, second]).inspect_err(|_| {
        drop(cx.own.files.remove(first));
        drop(cx.own.files.remove(second));
    })?;
    Ok(0)
}

fn sys_bind(cx: &mut Context<'_>) -> Result<u64> {
    let (socket, _) = socket(cx, 0)?;
    let address = read_address(cx.addr(1), cx.uint(2) as usize)?;
    socket.bind(&address, &Asker::new(cx).requester())?;
    Ok(0)
}

fn sys_listen(cx: &mut Context<'_>) -> Result<u64> {
    let (socket, _) = socket(cx, 0)?;
    // A negative backlog is the largest one, as on Linux.
    let backlog = usize::try_from(cx.int(1))
        .unwrap_or(BACKLOG_MAX)
        .min(BACKLOG_MAX);
    socket.listen(backlog, &Asker::new(cx).requester())?;
    Ok(0)
}

fn sys_connect(cx: &mut Context<'_>) -> Result<u64> {
    let (socket, nonblocking) = socket(cx, 0)?;
    let address = read_address(cx.addr(1), cx.uint(2) as usize)?;
    socket.connect(&address, nonblocking, &Asker::new(cx).requester())?;
    Ok(0)
}

fn sys_accept(cx: &mut Context<'_>) -> Result<u64> {
    accept(cx, 0)
}

fn sys_accept4(cx: &mut Context<'_>) -> Result<u64> {
    let flags = cx.uint(3);
    accept(cx, flags)
}

fn accept(cx: &mut Context<'_>, flags: u32) -> Result<u64> {
    let flags = NewFlags::new(flags)?;
    let (socket, nonblocking) = socket(cx, 0)?;
    let accepted = socket.accept(nonblocking)?;
    if let Some(at) = cx.optional_addr(1) {
        // The other end may be gone again; it has a name nevertheless.
        let peer = accepted.peer_name().unwrap_or(Address::Unspecified);
        write_address(&peer, at, cx.addr(2))?;
    }
    install(cx, accepted, flags).map(number)
}

fn sys_getsockname(cx: &mut Context<'_>) -> Result<u64> {
    let (socket, _) = socket(cx, 0)?;
    write_address(&socket.name(), cx.addr(1), cx.addr(2))?;
    Ok(0)
}

fn sys_getpeername(cx: &mut Context<'_>) -> Result<u64> {
    let (socket, _) = socket(cx, 0)?;
    write_address(&socket.peer_name()?, cx.addr(1), cx.addr(2))?;
    Ok(0)
}

fn sys_shutdown(cx: &mut Context<'_>) -> Result<u64> {
    let (socket, _) = socket(cx, 0)?;
    socket.shutdown(Shutdown::from_raw(cx.int(1))?)?;
    Ok(0)
}

/// A user buffer as a list of one.
fn one_slice(addr: UserAddr, len: usize) -> Result<[memory::io::UserSlice; 1]> {
    check_slice(addr, len.min(TRANSFER_MAX)).map(|slice| [slice])
}

fn check_slice(addr: UserAddr, len: usize) -> Result<memory::io::UserSlice> {
    let end = addr.checked_add(len as u64);
    if len > 0 && end.is_none_or(|end| end > UserAddr::LIMIT) {
        return Err(Errno::EFAULT);
    }
    Ok(memory::io::UserSlice { addr, len })
}
