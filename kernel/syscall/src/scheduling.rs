//! Scheduling: policies, priorities, affinity.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use fs::Capabilities;
use process::rlimit::Resource;
use process::thread::Thread;
use process::tree;
use sched::{Attributes, CpuMask, Policy};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::context::Context;
use crate::structs::Timespec;
use crate::table::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(24, "sched_yield", sys_sched_yield),
    Entry::new(140, "getpriority", sys_getpriority),
    Entry::new(141, "setpriority", sys_setpriority),
    Entry::new(142, "sched_setparam", sys_sched_setparam),
    Entry::new(143, "sched_getparam", sys_sched_getparam),
    Entry::new(144, "sched_setscheduler", sys_sched_setscheduler),
    Entry::new(145, "sched_getscheduler", sys_sched_getscheduler),
    Entry::new(146, "sched_get_priority_max", |cx| priority_bound(cx, 99)),
    Entry::new(147, "sched_get_priority_min", |cx| priority_bound(cx, 1)),
    Entry::new(148, "sched_rr_get_interval", sys_sched_rr_get_interval),
    Entry::new(203, "sched_setaffinity", sys_sched_setaffinity),
    Entry::new(204, "sched_getaffinity", sys_sched_getaffinity),
    Entry::new(251, "ioprio_set", sys_ioprio_set),
    Entry::new(252, "ioprio_get", sys_ioprio_get),
    Entry::new(309, "getcpu", sys_getcpu),
    Entry::new(314, "sched_setattr", sys_sched_setattr),
    Entry::new(315, "sched_getattr", sys_sched_getattr),
];

fn sys_sched_yield(_: &mut Context<'_>) -> Result<u64> {
    sched::thread::yield_now();
    Ok(0)
}

fn sys_getcpu(cx: &mut Context<'_>) -> Result<u64> {
    let cpu = u32::try_from(machine::cpu::current()).unwrap_or(0);
    if let Some(addr) = cx.optional_addr(0) {
        memory::user::write(addr, &cpu)?;
    }
    if let Some(addr) = cx.optional_addr(1) {
        memory::user::write(addr, &0u32)?;
    }
    Ok(0)
}

/// The thread with this id, 0 for the caller.
fn named(cx: &Context<'_>, tid: i32) -> Result<Arc<Thread>> {
    match tid {
        0 => Ok(cx.thread.clone()),
        1.. => cx.find_thread(tid).ok_or(Errno::ESRCH),
        _ => Err(Errno::EINVAL),
    }
}

/// Whether the caller may change how `target` is scheduled at all.
fn check_owner(cx: &Context<'_>, target: &Thread) -> Result<()> {
    let (own, other) = (cx.credentials(), target.credentials());
    let same = own.euid == other.uid || own.euid == other.euid;
    if same || own.has(Capabilities::SYS_NICE) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

fn attributes_of(thread: &Thread) -> Result<Attributes> {
    Ok(thread.kernel().ok_or(Errno::ESRCH)?.attributes())
}

fn set_attributes(cx: &Context<'_>, target: &Thread, wanted: Attributes) -> Result<u64> {
    check_owner(cx, target)?;
    let kernel = target.kernel().ok_or(Errno::ESRCH)?;
    let old = kernel.attributes();
    let limits = target.process().limits();
    let is_capable = cx.credentials().has(Capabilities::SYS_NICE);
    // RLIMIT_NICE counts from 1 (nice 19) to 40 (nice -20).
    let nice_floor = 20 - i64::try_from(limits.soft(Resource::Nice).min(40)).unwrap_or(0);
    let nicer = i64::from(wanted.nice) < i64::from(old.nice).min(nice_floor);
    let priority = u64::from(wanted.priority);
    let more_urgent = wanted.policy.is_realtime()
        && priority > u64::from(old.priority).max(limits.soft(Resource::RealtimePriority));
    if !is_capable && (nicer || more_urgent) {
        return Err(if nicer { Errno::EACCES } else { Errno::EPERM });
    }
    kernel.set_attributes(wanted).map(|()| 0)
}

/// `SCHED_RESET_ON_FORK`.
const RESET_ON_FORK: i32 = 0x4000_0000;

fn sys_sched_setscheduler(cx: &mut Context<'_>) -> Result<u64> {
    let target = named(cx, cx.int(0))?;
    let number = u32::try_from(cx.int(1) & !RESET_ON_FORK).map_err(|_| Errno::EINVAL)?;
    let wanted = Attributes {
        policy: Policy::from_raw(number)?,
        reset_on_fork: cx.int(1) & RESET_ON_FORK != 0,
        priority: read_priority(cx.addr(2))?,
        ..attributes_of(&target)?
    };
    set_attributes(cx, &target, wanted)
}

fn sys_sched_getscheduler(cx: &mut Context<'_>) -> Result<u64> {
    let target = named(cx, cx.int(0))?;
    Ok(u64::from(attributes_of(&target)?.policy.to_raw()))
}

fn sys_sched_setparam(cx: &mut Context<'_>) -> Result<u64> {
    let target = named(cx, cx.int(0))?;
    let wanted = Attributes {
        priority: read_priority(cx.addr(1))?,
        ..attributes_of(&target)?
    };
    set_attributes(cx, &target, wanted)
}

fn sys_sched_getparam(cx: &mut Context<'_>) -> Result<u64> {
    let target = named(cx, cx.int(0))?;
    let priority = u32::from(attributes_of(&target)?.priority);
    memory::user::write(cx.addr(1), &priority).map(|()| 0)
}

/// Reads a `struct sched_param`.
fn read_priority(addr: machine::UserAddr) -> Result<u8> {
    memory::user::read::<u32>(addr)?
        .try_into()
        .map_err(|_| Errno::EINVAL)
}

fn priority_bound(cx: &Context<'_>, realtime: u64) -> Result<u64> {
    let policy = Policy::from_raw(cx.uint(0))?;
    Ok(if policy.is_realtime() { realtime } else { 0 })
}

fn sys_sched_rr_get_interval(cx: &mut Context<'_>) -> Result<u64> {
    const SLICE_NS: u64 = 100_000_000;
    let target = named(cx, cx.int(0))?;
    let slice = match attributes_of(&target)?.policy {
        Policy::RoundRobin => SLICE_NS,
        Policy::Fifo => 0,
        Policy::Other | Policy::Batch | Policy::Idle => 4_000_000,
    };
    memory::user::write(cx.addr(1), &Timespec::from_ns(slice)).map(|()| 0)
}

fn sys_sched_setaffinity(cx: &mut Context<'_>) -> Result<u64> {
    let target = named(cx, cx.int(0))?;
    check_owner(cx, &target)?;
    let mut bytes = [0; 8];
    let len = cx.size(1).min(8);
    memory::user::read_bytes(cx.addr(2), &mut bytes[..len])?;
    let kernel = target.kernel().ok_or(Errno::ESRCH)?;
    kernel
        .set_affinity(CpuMask(u64::from_le_bytes(bytes)))
        .map(|()| 0)
}

fn sys_sched_getaffinity(cx: &mut Context<'_>) -> Result<u64> {
    const MASK_SIZE: usize = 8;
    let len = cx.size(1);
    if len < MASK_SIZE || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let kernel = named(cx, cx.int(0))?.kernel().ok_or(Errno::ESRCH)?;
    let mask = kernel.affinity().and(CpuMask::online());
    memory::user::write(cx.addr(2), &mask.0)?;
    Ok(MASK_SIZE as u64)
}

/// Calls `act` for each thread that getpriority(2) and setpriority(2) mean; the last error counts.
fn for_each_meant(cx: &Context<'_>, mut act: impl FnMut(&Arc<Thread>) -> Result<()>) -> Result<()> {
    const PRIO_PROCESS: i32 = 0;
    const PRIO_PGRP: i32 = 1;
    const PRIO_USER: i32 = 2;
    let who = cx.int(1);
    let mut result = Err(Errno::ESRCH);
    let mut note = |done: Result<()>| {
        if result == Err(Errno::ESRCH) || done.is_err() {
            result = done;
        }
    };
    match cx.int(0) {
        PRIO_PROCESS => note(named(cx, who).and_then(|thread| act(&thread))),
        PRIO_PGRP => {
            let group = if who == 0 {
                cx.process().group_id()
            } else {
                cx.process().find(who).ok_or(Errno::ESRCH)?
            };
            tree::lock().for_each_member(group, |_, member| {
                for thread in member.threads() {
                    note(act(&thread));
                }
            });
        }
        PRIO_USER => {
            let uid = if who == 0 {
                cx.credentials().uid
            } else {
                cx.uint(1)
            };
            for thread in tree::processes().flat_map(|process| process.threads()) {
                if thread.credentials().uid == uid {
                    note(act(&thread));
                }
            }
        }
        _ => return Err(Errno::EINVAL),
    }
    result
}

fn sys_getpriority(cx: &mut Context<'_>) -> Result<u64> {
    let mut least = i64::MAX;
    for_each_meant(cx, |thread| {
        least = least.min(i64::from(attributes_of(thread)?.nice));
        Ok(())
    })?;
    // From 1 (nice 19) to 40 (nice -20), so that no result looks like an error.
    Ok(u64::try_from(20 - least).unwrap_or(0))
}

fn sys_setpriority(cx: &mut Context<'_>) -> Result<u64> {
    let nice = cx.int(2).clamp(-20, 19);
    for_each_meant(cx, |thread| {
        let wanted = Attributes {
            nice: nice.try_into().unwrap_or_default(),
            ..attributes_of(thread)?
        };
        set_attributes(cx, thread, wanted).map(drop)
    })?;
    Ok(0)
}

/// `struct sched_attr`, first version.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    deadline: [u64; 3],
}

fn sys_sched_setattr(cx: &mut Context<'_>) -> Result<u64> {
    const FLAG_RESET_ON_FORK: u64 = 1;
    if cx.uint(2) != 0 {
        return Err(Errno::EINVAL);
    }
    let asked: SchedAttr = memory::user::read(cx.addr(1))?;
    if asked.flags & !FLAG_RESET_ON_FORK != 0 {
        return Err(Errno::EINVAL);
    }
    let target = named(cx, cx.int(0))?;
    let wanted = Attributes {
        policy: Policy::from_raw(asked.policy)?,
        reset_on_fork: asked.flags & FLAG_RESET_ON_FORK != 0,
        priority: asked.priority.try_into().map_err(|_| Errno::EINVAL)?,
        nice: asked.nice.clamp(-20, 19).try_into().unwrap_or_default(),
    };
    set_attributes(cx, &target, wanted)
}

fn sys_sched_getattr(cx: &mut Context<'_>) -> Result<u64> {
    let size = size_of::<SchedAttr>();
    if cx.size(2) < size || cx.uint(3) != 0 {
        return Err(Errno::EINVAL);
    }
    let target = named(cx, cx.int(0))?;
    let attributes = attributes_of(&target)?;
    let shown = SchedAttr {
        size: u32::try_from(size).unwrap_or(0),
        policy: attributes.policy.to_raw(),
        flags: u64::from(attributes.reset_on_fork),
        nice: attributes.nice.into(),
        priority: attributes.priority.into(),
        ..SchedAttr::default()
    };
    memory::user::write(cx.addr(1), &shown).map(|()| 0)
}

/// ioprio_set(2): kept for ioprio_get(2); there is no disk queue to order.
fn sys_ioprio_set(cx: &mut Context<'_>) -> Result<u64> {
    const CLASS_SHIFT: u32 = 13;
    const CLASS_NONE: u32 = 0;
    const CLASS_IDLE: u32 = 3;
    let value = cx.uint(2);
    let (class, data) = (value >> CLASS_SHIFT, value & ((1 << CLASS_SHIFT) - 1));
    let is_valid = class <= CLASS_IDLE && (class != CLASS_NONE || data == 0);
    if !is_valid || cx.int(0) != 1 {
        return Err(Errno::EINVAL);
    }
    named(cx, cx.int(1))?
        .io_priority
        .store(value, Ordering::Relaxed);
    Ok(0)
}

fn sys_ioprio_get(cx: &mut Context<'_>) -> Result<u64> {
    if cx.int(0) != 1 {
        return Err(Errno::EINVAL);
    }
    Ok(u64::from(
        named(cx, cx.int(1))?.io_priority.load(Ordering::Relaxed),
    ))
}
