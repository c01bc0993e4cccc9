//! poll, ppoll; and what select shares with them.

use abi::{Errno, Result};
use collections::Vec;
use fs::{Events, FdRef, PollWaiter};
use machine::UserAddr;
use memory::user;
use process::restart::RestartBlock;
use process::signal::{SignalSet, state};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::descriptor_limit;
use crate::context::Context;
use crate::entry::Entry;
use crate::structs::{Timespec, deadline_after};

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(7, "poll", sys_poll),
    Entry::new(271, "ppoll", sys_ppoll),
];

/// `struct pollfd`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UserPollFd {
    fd: i32,
    events: u16,
    revents: u16,
}

/// A file and what is wanted of it; without a file there is nothing to wait for.
pub(crate) struct Watched<'a> {
    pub(crate) file: Option<FdRef<'a>>,
    pub(crate) wanted: Events,
    /// What was found.
    pub(crate) found: Events,
}

/// Asks all files once. Registers with the waiter on the way, as long as nothing is ready.
fn ask(all: &mut [Watched<'_>], mut table: Option<&mut fs::PollTable>) -> usize {
    let mut ready = 0;
    for watched in all {
        if let Some(file) = &watched.file {
            let table = if ready == 0 {
                table.as_deref_mut()
            } else {
                None
            };
            watched.found = file.poll(table) & (watched.wanted | Events::ALWAYS | Events::NVAL);
        }
        ready += usize::from(!watched.found.is_empty());
        sched::cond_resched();
    }
    ready
}

/// Waits until one of `all` is ready; how many are. 0 at the deadline (`Some(0)`: do not wait).
///
/// # Errors
/// `ERESTARTSYS` when a signal comes.
pub(crate) fn wait(all: &mut [Watched<'_>], deadline_ns: Option<u64>) -> Result<usize> {
    let ready = ask(all, None);
    if ready > 0 || deadline_ns == Some(0) {
        return Ok(ready);
    }
    let (waiter, mut table) = PollWaiter::new()?;
    let mut ready = ask(all, Some(&mut table));
    if ready == 0 {
        table.check()?;
    }
    while ready == 0 {
        match waiter.wait(deadline_ns) {
            Ok(()) => ready = ask(all, None),
            Err(Errno::ETIMEDOUT) => return Ok(ask(all, None)),
            Err(errno) => return Err(errno),
        }
    }
    Ok(ready)
}

/// Drops a set, a large one in steps: it may have a million entries.
pub(crate) fn let_go(mut all: Vec<Watched<'_>>) {
    const FEW: usize = 64;
    while all.len() > FEW
        && let Some(watched) = all.pop()
    {
        drop(watched);
        sched::cond_resched();
    }
}

fn sys_poll(cx: &mut Context<'_>) -> Result<u64> {
    let deadline = match cx.int(2) {
        0 => Some(0),
        ms => u64::try_from(ms)
            .ok()
            .map(|ms| deadline_after(ms * 1_000_000)),
    };
    let (fds, count) = (cx.addr(0), cx.uint(1));
    restartable(cx, fds, count, deadline)
}

/// poll(2) up to `deadline_ns`, also when it goes on after a signal (restart_syscall(2)).
pub(crate) fn restartable(
    cx: &Context<'_>,
    fds: UserAddr,
    count: u32,
    deadline_ns: Option<u64>,
) -> Result<u64> {
    let result = poll(cx, fds, count, deadline_ns);
    if result == Err(Errno::ERESTARTSYS) {
        cx.thread.set_restart(RestartBlock::Poll {
            fds,
            count,
            deadline_ns,
        });
        return Err(Errno::ERESTART_RESTARTBLOCK);
    }
    result
}

fn poll(cx: &Context<'_>, fds: UserAddr, count: u32, deadline_ns: Option<u64>) -> Result<u64> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    if count > descriptor_limit(cx) {
        return Err(Errno::EINVAL);
    }
    let mut entries = user::read_array::<UserPollFd>(fds, count)?;
    let table = &cx.own.files;
    let mut all = Vec::new();
    all.try_reserve_exact(count)?;
    for entry in &entries {
        let file = table.get(entry.fd).ok();
        let is_bad = file.is_none() && entry.fd >= 0;
        all.try_push(Watched {
            file,
            wanted: Events::from_bits_truncate(u32::from(entry.events)),
            found: if is_bad {
                Events::NVAL
            } else {
                Events::empty()
            },
        })?;
        sched::cond_resched();
    }
    let ready = wait(&mut all, deadline_ns)?;
    for (entry, watched) in entries.iter_mut().zip(&all) {
        // The events of poll are the low 16 bits.
        entry.revents = u16::try_from(watched.found.bits() & 0xffff).unwrap_or(0);
        sched::cond_resched();
    }
    let_go(all);
    user::write_bytes(fds, entries.as_slice().as_bytes())?;
    Ok(ready as u64)
}

fn sys_ppoll(cx: &mut Context<'_>) -> Result<u64> {
    let timeout = cx.optional_addr(2);
    let deadline = read_timeout(timeout)?;
    let (fds, count) = (cx.addr(0), cx.uint(1));
    set_mask(cx, cx.optional_addr(3), cx.size(4))?;
    let result = poll(cx, fds, count, deadline);
    write_time_left(timeout, deadline);
    finish_masked(cx, result)
}

/// The deadline of a `struct timespec` that may be absent; `Some(0)` for a timeout of 0.
pub(crate) fn read_timeout(addr: Option<UserAddr>) -> Result<Option<u64>> {
    let Some(addr) = addr else { return Ok(None) };
    let ns = Timespec::read_ns(addr)?;
    Ok(Some(if ns == 0 { 0 } else { deadline_after(ns) }))
}

/// Linux tells how much of the timeout is left. A fault here is not an error.
fn write_time_left(addr: Option<UserAddr>, deadline_ns: Option<u64>) {
    if let (Some(addr), Some(deadline)) = (addr, deadline_ns) {
        let left = deadline.saturating_sub(sched::clock::monotonic_ns());
        let _ = user::write(addr, &Timespec::from_ns(left));
    }
}

/// Sets the signal mask for the time of the call, if there is one.
pub(crate) fn set_mask(cx: &Context<'_>, addr: Option<UserAddr>, size: usize) -> Result<()> {
    let Some(addr) = addr else { return Ok(()) };
    if size != size_of::<u64>() {
        return Err(Errno::EINVAL);
    }
    let mask = SignalSet(user::read(addr)?).without(SignalSet::UNMASKABLE);
    state::set_temporary_mask(cx.thread, mask);
    Ok(())
}

/// Takes the mask back, unless a signal is to be delivered under it.
pub(crate) fn finish_masked<T>(cx: &Context<'_>, result: Result<T>) -> Result<T> {
    match result {
        Err(Errno::ERESTARTSYS) => Err(Errno::ERESTARTNOHAND),
        Err(Errno::EINTR) => Err(Errno::EINTR),
        result => {
            state::restore_mask(cx.thread);
            result
        }
    }
}
