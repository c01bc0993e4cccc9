//! The agent's only `unsafe`: what neither std nor rustix offers as a safe call.
//!
//! That is `fork` and what may follow it in the child, `execve` with prepared arrays, filters of system calls, the default
//! dispositions of signals, the address of a vsock socket, and the ioctls of network interfaces.

#![allow(unsafe_code, reason = "the agent's one module for it")]

mod interfaces;

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, Signal};
use rustix::thread::UnshareFlags;

pub(crate) use interfaces::Interfaces;

/// A null-terminated array of C strings, as `execve` takes it; built before the fork.
#[derive(Debug)]
pub(crate) struct CStrings {
    /// Owns what `pointers` points at; the heap blocks stay where they are.
    _strings: Vec<CString>,
    /// The strings in order and a null at the end.
    pointers: Vec<*const c_char>,
}

impl CStrings {
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self {
            _strings: strings,
            pointers,
        }
    }
}

/// Forks; the child runs `child` and is then gone.
///
/// `child` runs in a copy of a process whose other threads may have held any lock, so it must
/// keep to system calls: no allocation, no locks, no panics. Every caller's closure does.
pub(crate) fn fork(child: impl FnOnce()) -> io::Result<Pid> {
    // SAFETY: in the parent fork has no preconditions; the child runs only `child`, whose callers
    // keep to system calls as required above, and `_exit`, so no state of another thread is used.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => {
            child();
            exit_now(127)
        }
        pid => Pid::from_raw(pid)
            .filter(|_| pid > 0)
            .ok_or_else(io::Error::last_os_error),
    }
}

/// As [`fork`], with the child as the init of a PID namespace of its own.
pub(crate) fn fork_in_pid_namespace(child: impl FnOnce()) -> io::Result<Pid> {
    match clone(libc::CLONE_NEWPID)? {
        Some(pid) => Ok(pid),
        None => {
            child();
            exit_now(127)
        }
    }
}

/// Makes a sibling of this process, itself a child made by [`fork`] and bound by its rules. The sibling
/// gets `None`, this process the sibling's pid.
pub(crate) fn fork_sibling() -> Result<Option<Pid>, Errno> {
    clone(libc::CLONE_PARENT).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// clone(2) without a new stack; `None` in the child, which must keep to system calls.
fn clone(flags: libc::c_int) -> io::Result<Option<Pid>> {
    let flags = libc::c_long::from(flags | libc::SIGCHLD);
    let none: libc::c_long = 0;
    // SAFETY: without CLONE_VM the child has a copy of all memory, its stack included, and the null
    // pointers are not used without the flags that name them. The C library does not learn of this fork:
    // the child, as its callers promise, uses nothing of the library but bare system calls.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    match i32::try_from(pid) {
        Ok(0) => Ok(None),
        Ok(pid @ 1..) => Ok(Pid::from_raw(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends the process without running anything of its own, as a forked child must.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes any status and touches no memory of ours.
    unsafe { libc::_exit(status) }
}

/// Replaces the program; returns only the reason why it could not.
pub(crate) fn execve(program: &CStr, args: &CStrings, env: &CStrings) -> Errno {
    // SAFETY: all three are NUL-terminated strings or null-terminated arrays of such, which
    // `CStrings::new` makes and the borrows keep alive; the kernel only reads them.
    unsafe {
        libc::execve(
            program.as_ptr(),
            args.pointers.as_ptr(),
            env.pointers.as_ptr(),
        );
    }
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Heeds every signal again that whoever started this process ignores, as nohup(1) does and a shell for what runs in the
/// background: programs would inherit that. PID 1 of a guest inherits nothing.
pub(crate) fn heed_signals() {
    for number in 1..libc::SIGRTMIN() {
        if number != libc::SIGPIPE {
            // SAFETY: `SIG_DFL` is a valid disposition and runs no code of ours; numbers that have none are refused.
            unsafe {
                libc::signal(number, libc::SIG_DFL);
            }
        }
    }
}

/// Gives a child the signal state a program expects: nothing blocked, `SIGPIPE` deadly again.
///
/// Handlers need no reset, `execve` does that; Rust's runtime has `SIGPIPE` ignored, which it
/// would keep.
pub(crate) fn reset_signals() {
    // SAFETY: `SIG_DFL` is a valid disposition for SIGPIPE and runs no code of ours.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
    // SAFETY: an all-zero `sigset_t` is a valid value, and sigemptyset makes it the empty set.
    let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `none` is a live, exclusively borrowed sigset_t.
    unsafe {
        libc::sigemptyset(&raw mut none);
    }
    // SAFETY: `none` was set up above; a null old set is allowed.
    unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// The signal of that number, real-time signals included.
pub(crate) fn signal(number: u32) -> Option<Signal> {
    let number = i32::try_from(number)
        .ok()
        .filter(|number| (1..=64).contains(number))?;
    // SAFETY: the number is one of Linux's signals; this process only ever sends it, to programs that
    // may be sent any, and installs no handler that the C library's own two would be confused by.
    Some(unsafe { Signal::from_raw_unchecked(number) })
}

/// Keeps the C library from giving each thread a heap of its own.
///
/// The agent's many threads allocate little; heaps would cost each of them address space and
/// four system calls at its start.
pub(crate) fn share_one_heap() {
    // SAFETY: mallopt only sets a number, and no other thread exists yet that could allocate.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Has the calling thread make only the system calls that `program`, one `struct sock_filter` after the other, lets pass;
/// `flags` as seccomp(2) has them. It and what it starts keep that.
pub(crate) fn set_filter(program: &[u8], flags: u32) -> Result<(), Errno> {
    let len = program.len() / size_of::<libc::sock_filter>();
    let described = libc::sock_fprog {
        len: u16::try_from(len).map_err(|_| Errno::INVAL)?,
        // Only read, by the kernel, at any alignment.
        filter: program.as_ptr().cast_mut().cast(),
    };
    let (operation, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::c_ulong::from(flags));
    // SAFETY: the kernel reads `described` and the `len` instructions that it points at, all of which the borrows keep
    // alive, and writes nothing. What calls fail from now on is between the container and its filter.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, &raw const described) };
    match result {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

/// Has `execve` close every descriptor but stdin, stdout and stderr.
///
/// Ours all close by themselves; this is for what the agent itself was started with.
pub(crate) fn keep_only_stdio() {
    let flags = i32::try_from(libc::CLOSE_RANGE_CLOEXEC).unwrap_or_default();
    // SAFETY: marking descriptors closes none now, and the child's program expects none of them.
    unsafe {
        libc::close_range(3, libc::c_uint::MAX, flags);
    }
}

/// Gives the calling thread, which must be the only one to expect otherwise, its own mounts.
pub(crate) fn unshare_mounts() -> Result<(), Errno> {
    // SAFETY: only unsharing descriptors can break what other threads rely on; this does not.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
}

/// Gives the calling thread, which must be the only one to expect otherwise, its own host and domain name.
pub(crate) fn unshare_names() -> Result<(), Errno> {
    // SAFETY: as above: descriptors stay shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUTS) }
}

/// Gives the calling thread, which must be the only one to expect otherwise, its own System V objects and message queues.
pub(crate) fn unshare_ipc() -> Result<(), Errno> {
    // SAFETY: as above: descriptors stay shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWIPC) }
}

/// Makes the control group that the calling thread, which must be the only one to expect otherwise, is in the root of what
/// it sees of them.
pub(crate) fn unshare_cgroups() -> Result<(), Errno> {
    // SAFETY: as above: descriptors stay shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWCGROUP) }
}

/// A server of ttrpc on such a socket, for the runtime that this is called in.
pub(crate) fn ttrpc_server(listener: OwnedFd) -> ttrpc::Result<ttrpc::r#async::Server> {
    let server = ttrpc::r#async::Server::new();
    // SAFETY: the descriptor is open, listens, and is given away here by its only owner.
    unsafe { server.add_vsock_listener(listener.into_raw_fd()) }
}

/// A listening `AF_VSOCK` stream socket on `port`, for any context id.
pub(crate) fn listen_vsock(port: u32, backlog: i32) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::VSOCK,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: `sockaddr_vm` is plain old data, for which all zeros is a value.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = u16::try_from(libc::AF_VSOCK).unwrap_or_default();
    address.svm_cid = libc::VMADDR_CID_ANY;
    address.svm_port = port;
    let length = u32::try_from(size_of::<libc::sockaddr_vm>()).unwrap_or_default();
    let pointer = (&raw const address).cast::<libc::sockaddr>();
    // SAFETY: `pointer` and `length` describe the live `address`, which the kernel only reads.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), pointer, length) };
    if bound != 0 {
        return Err(io::Error::last_os_error());
    }
    rustix::net::listen(&socket, backlog)?;
    Ok(socket)
}

/// Brings the loopback interface of this network namespace up, as the init of a machine does.
pub(crate) fn bring_loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: `ifreq` is plain old data, for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP).unwrap_or_default();
    let at = &raw mut request;
    // SAFETY: the kernel reads the live `request`, which is what this command takes, and writes nothing.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, at) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
