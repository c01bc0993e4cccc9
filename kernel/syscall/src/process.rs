//! Making, ending and waiting for processes.

use alloc::sync::Arc;

use abi::{Errno, Result};
use machine::UserAddr;
use process::cgroup;
use process::clone::CloneArgs;
use process::clone::flags::CloneFlags;
use process::pidfd::{self, PidFd};
use process::signal::{SIGINFO_SIZE, SigInfo, Signal, code, send, state};
use process::task::cgroup::Cgroup;
use process::task::tree;
use process::waiting::{self, Options, Report, Which};
use process::{Process, exit, procfs};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::context::Context;
use crate::entry::Entry;
use crate::identity::id;
use crate::structs::Rusage;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(56, "clone", sys_clone),
    Entry::new(57, "fork", sys_fork),
    Entry::new(58, "vfork", sys_vfork),
    Entry::new(60, "exit", sys_exit),
    Entry::new(61, "wait4", sys_wait4),
    Entry::new(231, "exit_group", sys_exit_group),
    Entry::new(247, "waitid", sys_waitid),
    Entry::new(424, "pidfd_send_signal", sys_pidfd_send_signal),
    Entry::new(434, "pidfd_open", sys_pidfd_open),
    Entry::new(435, "clone3", sys_clone3),
];

fn sys_fork(cx: &mut Context<'_>) -> Result<u64> {
    start_clone(cx, &CloneArgs::plain(CloneFlags::empty()))
}

fn sys_vfork(cx: &mut Context<'_>) -> Result<u64> {
    start_clone(cx, &CloneArgs::plain(CloneFlags::VM | CloneFlags::VFORK))
}

fn start_clone(cx: &mut Context<'_>, args: &CloneArgs) -> Result<u64> {
    process::clone::clone(cx.thread, cx.own, cx.user, args).map(id)
}

/// The low byte of clone(2)'s flags is the exit signal.
const EXIT_SIGNAL: u64 = 0xff;

pub(crate) fn clone_flags(bits: u64) -> Result<CloneFlags> {
    // What clone3 added is refused by not being known.
    CloneFlags::from_bits(bits).ok_or(Errno::EINVAL)
}

fn exit_signal(number: u64) -> Result<Option<Signal>> {
    match i32::try_from(number) {
        Ok(0) => Ok(None),
        Ok(number) => Signal::new(number).map(Some),
        Err(_) => Err(Errno::EINVAL),
    }
}

fn sys_clone(cx: &mut Context<'_>) -> Result<u64> {
    let bits = cx.arg(0) & 0xffff_ffff;
    let flags = clone_flags(bits & !EXIT_SIGNAL)?;
    // Both would be written to the same address.
    if flags.contains(CloneFlags::PIDFD | CloneFlags::PARENT_SETTID) {
        return Err(Errno::EINVAL);
    }
    let args = CloneArgs {
        flags,
        exit_signal: exit_signal(bits & EXIT_SIGNAL)?,
        stack: cx.arg(1),
        tls: cx.arg(4),
        parent_tid: cx.addr(2),
        child_tid: cx.addr(3),
        pidfd: cx.addr(2),
        cgroup: None,
    };
    start_clone(cx, &args)
}

/// `struct clone_args`, version 2.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CloneArgs3 {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Size of the first version.
const CLONE_ARGS_MIN: usize = 64;

fn sys_clone3(cx: &mut Context<'_>) -> Result<u64> {
    let size = cx.size(1);
    if size < CLONE_ARGS_MIN {
        return Err(Errno::EINVAL);
    }
    let wanted: CloneArgs3 = read_extensible(cx.addr(0), size)?;
    if wanted.set_tid_size != 0 || wanted.set_tid != 0 || wanted.flags & EXIT_SIGNAL != 0 {
        return Err(Errno::EINVAL);
    }
    let flags = clone_flags(wanted.flags)?;
    let cgroup = into_cgroup(cx, flags, size, wanted.cgroup)?;
    if (wanted.stack == 0) != (wanted.stack_size == 0) {
        return Err(Errno::EINVAL);
    }
    // clone3(2) takes the lowest address and the size, clone(2) the stack pointer itself.
    let stack = wanted
        .stack
        .checked_add(wanted.stack_size)
        .ok_or(Errno::EINVAL)?;
    let exit_signal = exit_signal(wanted.exit_signal)?;
    // Whose parent is the caller's, or that of the caller's process, has its end told by other rules.
    let is_thread = flags.intersects(CloneFlags::THREAD | CloneFlags::PARENT);
    if is_thread && exit_signal.is_some() || flags.contains(CloneFlags::DETACHED) {
        return Err(Errno::EINVAL);
    }
    let args = CloneArgs {
        flags,
        exit_signal,
        stack,
        tls: wanted.tls,
        parent_tid: UserAddr(wanted.parent_tid),
        child_tid: UserAddr(wanted.child_tid),
        pidfd: UserAddr(wanted.pidfd),
        cgroup,
    };
    start_clone(cx, &args)
}

/// The control group of CLONE_INTO_CGROUP.
fn into_cgroup(
    cx: &Context<'_>,
    flags: CloneFlags,
    size: usize,
    descriptor: u64,
) -> Result<Option<Arc<Cgroup>>> {
    if !flags.contains(CloneFlags::INTO_CGROUP) {
        return Ok(None);
    }
    let descriptor = i32::try_from(descriptor).map_err(|_| Errno::EINVAL)?;
    if size < size_of::<CloneArgs3>() {
        return Err(Errno::EINVAL);
    }
    let file = cx.own.files.get(descriptor)?;
    let is_thread = flags.contains(CloneFlags::THREAD);
    cgroup::open_for_clone(cx.thread, &file, is_thread).map(Some)
}

/// Reads a structure whose size the caller states: shorter ones are filled up with zeroes, of longer ones
/// the rest must be zero.
///
/// # Errors
/// `E2BIG`, `EFAULT`.
pub(crate) fn read_extensible<T>(addr: UserAddr, size: usize) -> Result<T>
where
    T: FromBytes + IntoBytes + Default,
{
    let mut value = T::default();
    let known = size_of::<T>().min(size);
    memory::user::read_bytes(addr, &mut value.as_mut_bytes()[..known])?;
    if size > machine::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    let mut byte = [0];
    for offset in known..size {
        let at = addr.checked_add(offset as u64).ok_or(Errno::EFAULT)?;
        memory::user::read_bytes(at, &mut byte)?;
        if byte != [0] {
            return Err(Errno::E2BIG);
        }
    }
    Ok(value)
}

fn sys_exit(cx: &mut Context<'_>) -> Result<u64> {
    exit::exit_thread(cx.thread, cx.int(0));
    Ok(0)
}

fn sys_exit_group(cx: &mut Context<'_>) -> Result<u64> {
    exit::exit_group(cx.process(), cx.int(0));
    Ok(0)
}

fn sys_wait4(cx: &mut Context<'_>) -> Result<u64> {
    let options = Options::from_bits(cx.uint(2)).ok_or(Errno::EINVAL)?;
    if options.intersects(Options::NOWAIT | Options::EXITED) {
        return Err(Errno::EINVAL);
    }
    let which = match cx.int(0) {
        // Its negation is no number that a group could have.
        i32::MIN => return Err(Errno::ESRCH),
        -1 => Which::Any,
        0 => Which::Group(cx.process().read_group()),
        group @ ..-1 => Which::Group(cx.find_pid(-group).ok_or(Errno::ECHILD)?),
        pid => Which::Pid(cx.find_pid(pid).ok_or(Errno::ECHILD)?),
    };
    let Some(report) = waiting::wait(cx.thread, &which, options | Options::EXITED)? else {
        return Ok(0);
    };
    if let Some(addr) = cx.optional_addr(1) {
        memory::user::write(addr, &report.status)?;
    }
    if let Some(addr) = cx.optional_addr(3) {
        memory::user::write(addr, &Rusage::from(report.usage))?;
    }
    Ok(id(report.pid))
}

fn sys_waitid(cx: &mut Context<'_>) -> Result<u64> {
    const P_ALL: i32 = 0;
    const P_PID: i32 = 1;
    const P_PGID: i32 = 2;
    const P_PIDFD: i32 = 3;
    let mut options = Options::from_bits(cx.uint(3)).ok_or(Errno::EINVAL)?;
    if !options.intersects(Options::EXITED | Options::STOPPED | Options::CONTINUED) {
        return Err(Errno::EINVAL);
    }
    let which = match (cx.int(0), cx.int(1)) {
        (P_ALL, _) => Which::Any,
        (P_PID, pid @ 1..) => Which::Pid(cx.find_pid(pid).ok_or(Errno::ECHILD)?),
        (P_PGID, 0) => Which::Group(cx.process().read_group()),
        (P_PGID, group @ 1..) => Which::Group(cx.find_pid(group).ok_or(Errno::ECHILD)?),
        (P_PIDFD, fd @ 0..) => {
            let file = cx.own.files.get(fd)?;
            let target = file.downcast::<PidFd>().ok_or(Errno::EBADF)?;
            options.set(
                Options::NOHANG,
                options.contains(Options::NOHANG) || file.is_nonblocking(),
            );
            Which::Pid(target.process().pid().clone())
        }
        _ => return Err(Errno::EINVAL),
    };
    let asked_to_block = cx.uint(3) & Options::NOHANG.bits() == 0;
    let report = waiting::wait(cx.thread, &which, options)?;
    if report.is_none() && asked_to_block {
        // Only a non-blocking pidfd gets here.
        return Err(Errno::EAGAIN);
    }
    if let Some(addr) = cx.optional_addr(2) {
        memory::user::write_bytes(addr, &siginfo_of(report.as_ref()))?;
    }
    if let (Some(report), Some(addr)) = (&report, cx.optional_addr(4)) {
        memory::user::write(addr, &Rusage::from(report.usage))?;
    }
    Ok(0)
}

/// What waitid(2) writes: all zero when nothing has changed.
fn siginfo_of(report: Option<&Report>) -> [u8; SIGINFO_SIZE] {
    let Some(report) = report else {
        return [0; SIGINFO_SIZE];
    };
    let info = SigInfo {
        signal: Signal::CHLD,
        errno: 0,
        code: report.code,
        payload: process::signal::Payload::Child {
            pid: report.pid,
            uid: report.uid,
            status: report.si_status(),
            utime: 0,
            stime: 0,
        },
    };
    info.to_bytes()
}

fn sys_pidfd_open(cx: &mut Context<'_>) -> Result<u64> {
    const O_NONBLOCK: u32 = 0o4000;
    let (pid, flags) = (cx.int(0), cx.uint(1));
    if pid <= 0 || flags & !O_NONBLOCK != 0 {
        return Err(Errno::EINVAL);
    }
    let target = match cx.find_leader(pid) {
        Some(target) => target,
        // A thread that is not the first of its process.
        None if cx.find_thread(pid).is_some() => return Err(Errno::EINVAL),
        None => return Err(Errno::ESRCH),
    };
    pidfd::install_with(cx.thread, cx.own, &target, flags != 0).map(id)
}

fn sys_pidfd_send_signal(cx: &mut Context<'_>) -> Result<u64> {
    if cx.uint(3) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = cx.own.files.get(cx.int(0))?;
    let target: Arc<Process> = match file.downcast::<PidFd>() {
        Some(pidfd) => pidfd.process().clone(),
        None => procfs::process_of(&file)?,
    };
    let signal = match cx.int(1) {
        0 => None,
        number => Some(Signal::new(number)?),
    };
    let info = match (cx.optional_addr(2), signal) {
        (Some(addr), Some(signal)) => Some(read_info(cx, addr, signal, target.pid())?),
        _ => None,
    };
    // A descriptor outlives its process: one that was waited for is gone, whatever has its number now.
    {
        let tree = tree::lock();
        target.known(&tree).ok_or(Errno::ESRCH)?;
        state::check_permission(&tree, cx.thread, &target, signal)?;
    }
    let Some(signal) = signal else {
        return Ok(0);
    };
    let sender = target.shown(cx.process().pid());
    let uid = target.shown_uid(cx.credentials().uid);
    let own = SigInfo::user(signal, sender, uid);
    send::to_process(&target, &info.unwrap_or(own)).map(|()| 0)
}

/// Reads what a caller wants a signal to carry; only to itself may it pretend to be the kernel.
pub(crate) fn read_info(
    cx: &Context<'_>,
    addr: UserAddr,
    signal: Signal,
    target: &process::Pid,
) -> Result<SigInfo> {
    let mut bytes = [0; SIGINFO_SIZE];
    memory::user::read_bytes(addr, &mut bytes)?;
    let info = SigInfo::from_bytes(signal, &bytes);
    let pretends = info.code >= 0 || info.code == code::SI_TKILL;
    if pretends && !core::ptr::eq(target, Arc::as_ptr(cx.process().pid())) {
        return Err(Errno::EPERM);
    }
    Ok(info)
}
