//! Who the caller is and belongs to: ids of processes, threads, groups and sessions.

use abi::{Errno, Result};
use process::{Pid, Process, tree};

use crate::context::Context;
use crate::table::Entry;
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
    Ok(id(cx.shown(cx.process().pid())))
}

fn sys_getppid(cx: &mut Context<'_>) -> Result<u64> {
    Ok(id(cx.shown(cx.process().parent_pid())))
}

fn sys_gettid(cx: &mut Context<'_>) -> Result<u64> {
    Ok(id(cx.shown(cx.thread.tid())))
}

fn sys_setpgid(cx: &mut Context<'_>) -> Result<u64> {
    let (pid, group) = (cx.int(0), cx.int(1));
    if pid < 0 {
        return Err(Errno::ESRCH);
    }
    let process = cx.process();
    let find = |number| match number {
        1.. => process.find(number),
        other => Some(other),
    };
    let pid = find(pid).ok_or(Errno::ESRCH)?;
    // Another's group has to be there; a new one is named after its process.
    let group = find(group).ok_or(Errno::EPERM)?;
    tree::lock().set_group(process, pid, group)?;
    Ok(0)
}

fn sys_getpgid(cx: &mut Context<'_>) -> Result<u64> {
    Ok(id(cx.shown(named(cx, cx.int(0))?.group_id())))
}

fn sys_getpgrp(cx: &mut Context<'_>) -> Result<u64> {
    Ok(id(cx.shown(cx.process().group_id())))
}

fn sys_setsid(cx: &mut Context<'_>) -> Result<u64> {
    let process = cx.process();
    let old_terminal = tree::lock().set_session(process)?;
    drop(old_terminal);
    Ok(id(cx.shown(process.pid())))
}

fn sys_getsid(cx: &mut Context<'_>) -> Result<u64> {
    Ok(id(cx.shown(named(cx, cx.int(0))?.session_id())))
}

/// The process with this id, 0 for the caller.
pub(crate) fn named(cx: &Context<'_>, pid: Pid) -> Result<Arc<Process>> {
    match pid {
        0 => Ok(cx.process().clone()),
        1.. => cx.find_process(pid).ok_or(Errno::ESRCH),
        _ => Err(Errno::ESRCH),
    }
}

/// An id as a result; ids are positive.
pub(crate) fn id(pid: Pid) -> u64 {
    u64::from(pid.unsigned_abs())
}
