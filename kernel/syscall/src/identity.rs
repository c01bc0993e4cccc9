//! Who the caller is: process and thread ids.

use abi::Result;

use crate::context::Context;
use crate::table::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(39, "getpid", sys_getpid),
    Entry::new(110, "getppid", sys_getppid),
    Entry::new(186, "gettid", sys_gettid),
];

fn sys_getpid(cx: &mut Context<'_>) -> Result<u64> {
    Ok(id(cx.process().pid()))
}

fn sys_getppid(cx: &mut Context<'_>) -> Result<u64> {
    Ok(id(cx.process().parent_pid()))
}

fn sys_gettid(cx: &mut Context<'_>) -> Result<u64> {
    Ok(id(cx.thread.tid()))
}

/// An id as a result; ids are positive.
fn id(pid: process::Pid) -> u64 {
    u64::from(pid.unsigned_abs())
}
