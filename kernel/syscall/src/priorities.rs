//! Priorities of many at once: getpriority(2), setpriority(2), ioprio_set(2), ioprio_get(2).

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use fs::Capabilities;
use process::task::thread::Thread;
use process::task::{relations, tree};
use sched::Attributes;

use crate::context::Context;
use crate::entry::Entry;
use crate::scheduling::{is_nice_over, is_same_owner, nice_limit_allows, thread_of};

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(140, "getpriority", sys_getpriority),
    Entry::new(141, "setpriority", sys_setpriority),
    Entry::new(251, "ioprio_set", sys_ioprio_set),
    Entry::new(252, "ioprio_get", sys_ioprio_get),
];

/// Whose priority is meant.
#[derive(Debug, Clone, Copy)]
enum Which {
    Process,
    Group,
    User,
}

/// Calls `act` for each thread that `which` and `who` (0: the caller's) mean; the last error counts.
fn for_each_meant(
    cx: &Context<'_>,
    which: Which,
    who: i32,
    mut act: impl FnMut(&Arc<Thread>) -> Result<()>,
) -> Result<()> {
    let mut result = Err(Errno::ESRCH);
    let mut note = |done: Result<()>| {
        if result == Err(Errno::ESRCH) || done.is_err() {
            result = done;
        }
    };
    match which {
        Which::Process => note(thread_of(cx, who).and_then(|thread| act(&thread))),
        Which::Group => {
            let group = if who == 0 {
                cx.process().read_group()
            } else {
                cx.find_pid(who).ok_or(Errno::ESRCH)?
            };
            relations::for_each_member(&mut tree::lock(), &group, |_, member| {
                for thread in member.threads() {
                    note(act(&thread));
                }
            });
        }
        Which::User => {
            let uid = if who == 0 {
                cx.credentials().uid
            } else {
                let names = &cx.credentials().user_namespace;
                names.kuid(who.cast_unsigned()).ok_or(Errno::ESRCH)?
            };
            for process in relations::processes() {
                for thread in process.threads() {
                    if thread.credentials().uid == uid {
                        note(act(&thread));
                    }
                }
            }
        }
    }
    result
}

/// `PRIO_*` of getpriority(2).
fn priority_of(number: i32) -> Result<Which> {
    match number {
        0 => Ok(Which::Process),
        1 => Ok(Which::Group),
        2 => Ok(Which::User),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_getpriority(cx: &mut Context<'_>) -> Result<u64> {
    let mut least = i64::MAX;
    for_each_meant(cx, priority_of(cx.int(0))?, cx.int(1), |thread| {
        least = least.min(i64::from(thread.attributes().nice));
        Ok(())
    })?;
    // From 1 (nice 19) to 40 (nice -20), so that no result looks like an error.
    Ok(u64::try_from(20 - least).unwrap_or(0))
}

fn sys_setpriority(cx: &mut Context<'_>) -> Result<u64> {
    let nice = cx.int(2).clamp(-20, 19).try_into().unwrap_or_default();
    for_each_meant(cx, priority_of(cx.int(0))?, cx.int(1), |thread| {
        set_nice(cx, thread, nice)
    })?;
    Ok(0)
}

fn set_nice(cx: &Context<'_>, target: &Thread, nice: i8) -> Result<()> {
    if !is_same_owner(cx, target) && !is_nice_over(cx, target) {
        return Err(Errno::EPERM);
    }
    let old = target.attributes();
    let may_exceed = cx.credentials().capable(Capabilities::SYS_NICE);
    if nice < old.nice && !nice_limit_allows(target, nice) && !may_exceed {
        return Err(Errno::EACCES);
    }
    target.set_attributes(Attributes { nice, ..old })
}

/// `IOPRIO_WHO_*` of ioprio_set(2).
fn io_priority_of(number: i32) -> Result<Which> {
    match number {
        1 => Ok(Which::Process),
        2 => Ok(Which::Group),
        3 => Ok(Which::User),
        _ => Err(Errno::EINVAL),
    }
}

const CLASS_SHIFT: u32 = 13;

/// Checks the class and its level.
fn check_io_priority(cx: &Context<'_>, value: u32) -> Result<()> {
    const LEVELS: u32 = 8;
    let credentials = cx.credentials();
    let may_have_realtime =
        credentials.capable(Capabilities::SYS_ADMIN) || credentials.capable(Capabilities::SYS_NICE);
    let level = value & ((1 << CLASS_SHIFT) - 1);
    match value >> CLASS_SHIFT {
        0 if level == 0 => Ok(()),
        1 if !may_have_realtime => Err(Errno::EPERM),
        1 | 2 if level < LEVELS => Ok(()),
        3 => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// ioprio_set(2): kept for ioprio_get(2); there is no disk queue to order.
fn sys_ioprio_set(cx: &mut Context<'_>) -> Result<u64> {
    let value = cx.uint(2);
    check_io_priority(cx, value)?;
    let own = cx.credentials();
    for_each_meant(cx, io_priority_of(cx.int(0))?, cx.int(1), |thread| {
        let uid = thread.credentials().uid;
        let may = uid == own.uid || uid == own.euid || own.capable(Capabilities::SYS_NICE);
        if !may {
            return Err(Errno::EPERM);
        }
        thread.io_priority.store(value, Ordering::Relaxed);
        Ok(())
    })?;
    Ok(0)
}

/// ioprio_get(2): of several the best. No class is as good as best effort in the middle.
fn sys_ioprio_get(cx: &mut Context<'_>) -> Result<u64> {
    const DEFAULT: u32 = 2 << CLASS_SHIFT | 4;
    let rank = |value: u32| {
        if value >> CLASS_SHIFT == 0 {
            DEFAULT
        } else {
            value
        }
    };
    let mut best: Option<u32> = None;
    for_each_meant(cx, io_priority_of(cx.int(0))?, cx.int(1), |thread| {
        let value = thread.io_priority.load(Ordering::Relaxed);
        if best.is_none_or(|best| rank(value) < rank(best)) {
            best = Some(value);
        }
        Ok(())
    })?;
    Ok(u64::from(best.unwrap_or(0)))
}
