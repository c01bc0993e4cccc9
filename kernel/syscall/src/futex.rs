//! Futexes and what threads tell the kernel of theirs.

use abi::{Errno, Result};
use process::access::{self, By};
use process::futex::{self, WakeOp};

use crate::context::Context;
use crate::entry::Entry;
use crate::identity::id;
use crate::structs::{Timespec, deadline_after};

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(202, "futex", sys_futex),
    Entry::new(218, "set_tid_address", sys_set_tid_address),
    Entry::new(273, "set_robust_list", sys_set_robust_list),
    Entry::new(274, "get_robust_list", sys_get_robust_list),
];

const FUTEX_WAIT: u32 = 0;
const FUTEX_WAKE: u32 = 1;
const FUTEX_REQUEUE: u32 = 3;
const FUTEX_CMP_REQUEUE: u32 = 4;
const FUTEX_WAKE_OP: u32 = 5;
const FUTEX_WAIT_BITSET: u32 = 9;
const FUTEX_WAKE_BITSET: u32 = 10;
const FUTEX_PRIVATE: u32 = 128;
const FUTEX_CLOCK_REALTIME: u32 = 256;

fn sys_futex(cx: &mut Context<'_>) -> Result<u64> {
    let encoded = cx.uint(1);
    let op = encoded & !(FUTEX_PRIVATE | FUTEX_CLOCK_REALTIME);
    let shared = encoded & FUTEX_PRIVATE == 0;
    let by_realtime = encoded & FUTEX_CLOCK_REALTIME != 0;
    if by_realtime && op != FUTEX_WAIT_BITSET {
        return Err(Errno::ENOSYS);
    }
    let (first, second) = (cx.addr(0), cx.addr(4));
    let woken = match op {
        FUTEX_WAIT | FUTEX_WAIT_BITSET => return wait(cx, op, shared, by_realtime),
        FUTEX_WAKE => futex::wake(first, shared, at_least_one(cx, 2), futex::ANY)?,
        FUTEX_WAKE_BITSET => futex::wake(first, shared, at_least_one(cx, 2), cx.uint(5))?,
        FUTEX_REQUEUE => futex::requeue(first, second, shared, count(cx, 2)?, count(cx, 3)?)?,
        FUTEX_CMP_REQUEUE => {
            let counts = (count(cx, 2)?, count(cx, 3)?);
            futex::compare_requeue(first, second, shared, counts, cx.uint(5))?
        }
        FUTEX_WAKE_OP => {
            let op = WakeOp::decode(cx.uint(5))?;
            let counts = (at_least_one(cx, 2), at_least_one(cx, 3));
            futex::wake_op(first, second, shared, counts, op)?
        }
        // Priority inheritance is not there.
        _ => return Err(Errno::ENOSYS),
    };
    Ok(woken as u64)
}

/// How many to wake or move, when requeueing.
fn count(cx: &Context<'_>, index: usize) -> Result<usize> {
    usize::try_from(cx.int(index)).map_err(|_| Errno::EINVAL)
}

/// How many to wake: as on Linux one, when asked for none or fewer.
fn at_least_one(cx: &Context<'_>, index: usize) -> usize {
    usize::try_from(cx.int(index)).unwrap_or(0).max(1)
}

fn wait(cx: &Context<'_>, op: u32, shared: bool, by_realtime: bool) -> Result<u64> {
    let timeout = cx.optional_addr(3).map(Timespec::read_ns).transpose()?;
    let is_relative = op == FUTEX_WAIT;
    let deadline = timeout.map(|ns| match (is_relative, by_realtime) {
        (true, _) => deadline_after(ns),
        (false, true) => sched::clock::monotonic_of_realtime(ns),
        (false, false) => ns,
    });
    let bitset = if is_relative { futex::ANY } else { cx.uint(5) };
    futex::wait(cx.thread, cx.addr(0), shared, cx.uint(2), bitset, deadline).map(|()| 0)
}

fn sys_set_tid_address(cx: &mut Context<'_>) -> Result<u64> {
    cx.thread.set_clear_child_tid(cx.arg(0));
    Ok(id(cx.thread.tid()))
}

/// Size of `struct robust_list_head`.
const ROBUST_HEAD_SIZE: usize = 24;

fn sys_set_robust_list(cx: &mut Context<'_>) -> Result<u64> {
    if cx.size(1) != ROBUST_HEAD_SIZE {
        return Err(Errno::EINVAL);
    }
    cx.thread.set_robust_list(cx.arg(0));
    Ok(0)
}

fn sys_get_robust_list(cx: &mut Context<'_>) -> Result<u64> {
    let target = match cx.int(0) {
        0 => cx.thread.clone(),
        tid => cx.find_thread(tid).ok_or(Errno::ESRCH)?,
    };
    access::check(cx.thread, target.process(), By::Real)?;
    memory::user::write(cx.addr(1), &target.robust_list())?;
    memory::user::write(cx.addr(2), &(ROBUST_HEAD_SIZE as u64))?;
    Ok(0)
}
