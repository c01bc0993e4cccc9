//! Who the caller is and belongs to: ids of processes, threads, groups and sessions.

use abi::{Errno, Result};
use process::task::{relations, tree};
use process::{PidNumber, Process};

use crate::context::Context;
use crate::entry::Entry;
use alloc::sync::Arc;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(39, "getpid", sys_getpid),
    Entry::new(110, "getppid", sys_getppid),
    Entry::new(186, "gettid", sys_gettid),
    Entry::new(109, "setpgid", sys_setpgid),
    Entry::new(121, "getpgid", sys_getpgid),
    Entry::new(111, "getpgrp", sys_getpgrp),
    Entry::new(112, "setsid", sys_setsid),
    Entry::new(124, "getsid", sys_getsid),
];

fn sys_getpid(cx: &mut Context<'_>) -> Result<u64> {
    Ok(id(cx.process().pid().number()))
}

fn sys_getppid(cx: &mut Context<'_>) -> Result<u64> {
    Ok(id(cx.process().parent_number()))
}

fn sys_gettid(cx: &mut Context<'_>) -> Result<u64> {
    Ok(id(cx.thread.tid()))
}

fn sys_setpgid(cx: &mut Context<'_>) -> Result<u64> {
    let (pid, group) = (cx.int(0), cx.int(1));
    let process = match pid {
        0 => cx.process().clone(),
        1.. => {
            // Threads other than the first have no group of their own.
            let is_thread = || cx.find_thread(pid).map(|_| Errno::EINVAL);
            let leader = cx.find_leader(pid);
            leader.ok_or_else(|| is_thread().unwrap_or(Errno::ESRCH))?
        }
        _ => return Err(Errno::ESRCH),
    };
    let group = match group {
        0 => None,
        // Another's group has to be there; a new one is named after its process.
        1.. => Some(cx.find_pid(group).ok_or(Errno::EPERM)?),
        _ => return Err(Errno::EINVAL),
    };
    relations::set_group(&mut tree::lock(), cx.process(), &process, group.as_ref())?;
    Ok(0)
}

fn sys_getpgid(cx: &mut Context<'_>) -> Result<u64> {
    Ok(id(cx.shown(&named(cx, cx.int(0))?.read_group())))
}

fn sys_getpgrp(cx: &mut Context<'_>) -> Result<u64> {
    Ok(id(cx.shown(&cx.process().read_group())))
}

fn sys_setsid(cx: &mut Context<'_>) -> Result<u64> {
    let process = cx.process();
    let old_terminal = relations::set_session(&mut tree::lock(), process)?;
    drop(old_terminal);
    Ok(id(process.pid().number()))
}

fn sys_getsid(cx: &mut Context<'_>) -> Result<u64> {
    Ok(id(cx.shown(&named(cx, cx.int(0))?.read_session())))
}

/// The process with this id, 0 for the caller.
pub(crate) fn named(cx: &Context<'_>, pid: PidNumber) -> Result<Arc<Process>> {
    match pid {
        0 => Ok(cx.process().clone()),
        1.. => cx.find_process(pid).ok_or(Errno::ESRCH),
        _ => Err(Errno::ESRCH),
    }
}

/// An id as a result; ids are positive.
pub(crate) fn id(pid: PidNumber) -> u64 {
    u64::from(pid.unsigned_abs())
}
