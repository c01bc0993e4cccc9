//! Scheduling: policies, real-time priorities, affinity (sched(7)).

use alloc::sync::Arc;

use abi::{Errno, Result};
use fs::Capabilities;
use machine::UserAddr;
use process::rlimit::Resource;
use process::task::thread::Thread;
use sched::{Attributes, CpuMask, Policy};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::context::Context;
use crate::entry::Entry;
use crate::process::read_extensible;
use crate::structs::Timespec;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(24, "sched_yield", sys_sched_yield),
    Entry::new(142, "sched_setparam", sys_sched_setparam),
    Entry::new(143, "sched_getparam", sys_sched_getparam),
    Entry::new(144, "sched_setscheduler", sys_sched_setscheduler),
    Entry::new(145, "sched_getscheduler", sys_sched_getscheduler),
    Entry::new(146, "sched_get_priority_max", |cx| priority_bound(cx, 99)),
    Entry::new(147, "sched_get_priority_min", |cx| priority_bound(cx, 1)),
    Entry::new(148, "sched_rr_get_interval", sys_sched_rr_get_interval),
    Entry::new(203, "sched_setaffinity", sys_sched_setaffinity),
    Entry::new(204, "sched_getaffinity", sys_sched_getaffinity),
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
    if tid < 0 {
        return Err(Errno::EINVAL);
    }
    thread_of(cx, tid)
}

/// As [`named`], where a negative id is only one that no thread has.
pub(crate) fn thread_of(cx: &Context<'_>, tid: i32) -> Result<Arc<Thread>> {
    match tid {
        0 => Ok(cx.thread.clone()),
        tid => cx.find_thread(tid).ok_or(Errno::ESRCH),
    }
}

/// Whether `target` is the caller's user's.
pub(crate) fn is_same_owner(cx: &Context<'_>, target: &Thread) -> bool {
    let (own, other) = (cx.credentials(), target.credentials());
    own.euid == other.uid || own.euid == other.euid
}

/// Whether the caller has CAP_SYS_NICE over `target`.
pub(crate) fn is_nice_over(cx: &Context<'_>, target: &Thread) -> bool {
    let names = &target.credentials().user_namespace;
    cx.credentials().ns_capable(names, Capabilities::SYS_NICE)
}

/// Whether RLIMIT_NICE lets `target` have this nice value. It counts from 1 (nice 19) to 40 (nice -20).
pub(crate) fn nice_limit_allows(target: &Thread, nice: i8) -> bool {
    let wanted = u64::try_from(20 - i64::from(nice)).unwrap_or(0);
    wanted <= target.process().limits().soft(Resource::Nice)
}

/// Whether `wanted` needs no privilege: the limits of `target` and its owner allow it.
fn is_allowed(cx: &Context<'_>, target: &Thread, wanted: Attributes) -> bool {
    let old = target.attributes();
    let priority = u64::from(wanted.priority);
    let most = target.process().limits().soft(Resource::RealtimePriority);
    let fits = match wanted.policy {
        Policy::Other | Policy::Batch => {
            wanted.nice >= old.nice || nice_limit_allows(target, wanted.nice)
        }
        Policy::Fifo | Policy::RoundRobin => {
            (wanted.policy == old.policy || most > 0)
                && (wanted.priority <= old.priority || priority <= most)
        }
        Policy::Idle => true,
    };
    // The idle policy is like a nice value of 20.
    let leaves_idle = old.policy == Policy::Idle && wanted.policy != Policy::Idle;
    fits && (!leaves_idle || nice_limit_allows(target, old.nice))
        && (!old.reset_on_fork || wanted.reset_on_fork)
        && is_same_owner(cx, target)
}

fn set_attributes(cx: &Context<'_>, target: &Thread, wanted: Attributes) -> Result<u64> {
    let wanted = wanted.validate()?;
    if !is_allowed(cx, target, wanted) && !cx.credentials().capable(Capabilities::SYS_NICE) {
        return Err(Errno::EPERM);
    }
    target.set_attributes(wanted).map(|()| 0)
}

/// `SCHED_RESET_ON_FORK`.
const RESET_ON_FORK: u32 = 0x4000_0000;

fn sys_sched_setscheduler(cx: &mut Context<'_>) -> Result<u64> {
    let number = u32::try_from(cx.int(1)).map_err(|_| Errno::EINVAL)?;
    let priority = read_priority(cx.int(0), cx.optional_addr(2))?;
    let target = named(cx, cx.int(0))?;
    let wanted = Attributes {
        policy: Policy::from_raw(number & !RESET_ON_FORK)?,
        reset_on_fork: number & RESET_ON_FORK != 0,
        priority: priority.try_into().map_err(|_| Errno::EINVAL)?,
        ..target.attributes()
    };
    set_attributes(cx, &target, wanted)
}

fn sys_sched_getscheduler(cx: &mut Context<'_>) -> Result<u64> {
    let attributes = named(cx, cx.int(0))?.attributes();
    let reset = if attributes.reset_on_fork {
        RESET_ON_FORK
    } else {
        0
    };
    Ok(u64::from(attributes.policy.to_raw() | reset))
}

fn sys_sched_setparam(cx: &mut Context<'_>) -> Result<u64> {
    let priority = read_priority(cx.int(0), cx.optional_addr(1))?;
    let target = named(cx, cx.int(0))?;
    let wanted = Attributes {
        priority: priority.try_into().map_err(|_| Errno::EINVAL)?,
        ..target.attributes()
    };
    set_attributes(cx, &target, wanted)
}

fn sys_sched_getparam(cx: &mut Context<'_>) -> Result<u64> {
    let to = cx.optional_addr(1).ok_or(Errno::EINVAL)?;
    let priority = u32::from(named(cx, cx.int(0))?.attributes().priority);
    memory::user::write(to, &priority).map(|()| 0)
}

/// Reads a `struct sched_param` for the thread `tid`.
fn read_priority(tid: i32, from: Option<UserAddr>) -> Result<u32> {
    match from {
        Some(from) if tid >= 0 => memory::user::read(from),
        _ => Err(Errno::EINVAL),
    }
}

fn priority_bound(cx: &Context<'_>, realtime: u64) -> Result<u64> {
    /// Known, although nobody can have it here.
    const DEADLINE: u32 = 6;
    if cx.uint(0) == DEADLINE {
        return Ok(0);
    }
    let policy = Policy::from_raw(cx.uint(0))?;
    Ok(if policy.is_realtime() { realtime } else { 0 })
}

fn sys_sched_rr_get_interval(cx: &mut Context<'_>) -> Result<u64> {
    const SLICE_NS: u64 = 100_000_000;
    let target = named(cx, cx.int(0))?;
    let slice = match target.attributes().policy {
        Policy::RoundRobin => SLICE_NS,
        Policy::Fifo => 0,
        Policy::Other | Policy::Batch | Policy::Idle => 4_000_000,
    };
    memory::user::write(cx.addr(1), &Timespec::from_ns(slice)).map(|()| 0)
}

fn sys_sched_setaffinity(cx: &mut Context<'_>) -> Result<u64> {
    let mut bytes = [0; 8];
    let len = cx.size(1).min(8);
    memory::user::read_bytes(cx.addr(2), &mut bytes[..len])?;
    let target = thread_of(cx, cx.int(0))?;
    if !is_same_owner(cx, &target) && !is_nice_over(cx, &target) {
        return Err(Errno::EPERM);
    }
    target
        .set_affinity(CpuMask(u64::from_le_bytes(bytes)))
        .map(|()| 0)
}

fn sys_sched_getaffinity(cx: &mut Context<'_>) -> Result<u64> {
    const MASK_SIZE: usize = 8;
    let len = cx.size(1);
    if len < MASK_SIZE || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let mask = thread_of(cx, cx.int(0))?.affinity().and(CpuMask::online());
    memory::user::write(cx.addr(2), &mask.0)?;
    Ok(MASK_SIZE as u64)
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
    /// `sched_util_min` and `_max`, of the second version: nothing here is clamped.
    clamp: [u32; 2],
}

/// Bytes of the first version of `struct sched_attr`.
const FIRST_SIZE: u32 = 48;
/// Bytes of the version that is known here.
const ATTR_SIZE: u32 = 56;

fn sys_sched_setattr(cx: &mut Context<'_>) -> Result<u64> {
    const FLAG_RESET_ON_FORK: u64 = 1;
    const FLAG_KEEP_POLICY: u64 = 8;
    const FLAG_KEEP_PARAMS: u64 = 16;
    let from = cx.optional_addr(1).ok_or(Errno::EINVAL)?;
    if cx.int(0) < 0 || cx.uint(2) != 0 {
        return Err(Errno::EINVAL);
    }
    let asked = read_attr(from)?;
    if asked.policy.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    let target = named(cx, cx.int(0))?;
    if asked.flags & !(FLAG_RESET_ON_FORK | FLAG_KEEP_POLICY | FLAG_KEEP_PARAMS) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut wanted = target.attributes();
    let mut policy = wanted.policy;
    if asked.flags & FLAG_KEEP_POLICY == 0 {
        policy = Policy::from_raw(asked.policy)?;
        wanted.reset_on_fork = asked.flags & FLAG_RESET_ON_FORK != 0;
    }
    // Linux changes the policy together with the parameters: who keeps those keeps both.
    if asked.flags & FLAG_KEEP_PARAMS == 0 {
        wanted.policy = policy;
        wanted.priority = asked.priority.try_into().map_err(|_| Errno::EINVAL)?;
        // The others keep it for when they are fair again.
        if matches!(wanted.policy, Policy::Other | Policy::Batch) {
            wanted.nice = asked.nice.clamp(-20, 19).try_into().unwrap_or_default();
        }
    }
    set_attributes(cx, &target, wanted)
}

/// Reads a `struct sched_attr` of the size that it states, 0 for the first version's. A size that does not do is
/// answered with the one that does.
fn read_attr(from: UserAddr) -> Result<SchedAttr> {
    let size = match memory::user::read(from)? {
        0 => FIRST_SIZE,
        size => size,
    };
    let attr = if size < FIRST_SIZE {
        Err(Errno::E2BIG)
    } else {
        read_extensible(from, usize::try_from(size).unwrap_or(usize::MAX))
    };
    if attr.as_ref().err() == Some(&Errno::E2BIG) {
        memory::user::write(from, &ATTR_SIZE)?;
    }
    attr
}

fn sys_sched_getattr(cx: &mut Context<'_>) -> Result<u64> {
    let to = cx.optional_addr(1).ok_or(Errno::EINVAL)?;
    let size = cx.uint(2);
    let fits = size >= FIRST_SIZE && size as usize <= machine::PAGE_SIZE;
    if !fits || cx.uint(3) != 0 {
        return Err(Errno::EINVAL);
    }
    let attributes = named(cx, cx.int(0))?.attributes();
    let size = size.min(ATTR_SIZE);
    let is_realtime = attributes.policy.is_realtime();
    let shown = SchedAttr {
        size,
        policy: attributes.policy.to_raw(),
        flags: u64::from(attributes.reset_on_fork),
        nice: if is_realtime {
            0
        } else {
            attributes.nice.into()
        },
        priority: attributes.priority.into(),
        ..SchedAttr::default()
    };
    memory::user::write_bytes(to, &shown.as_bytes()[..size as usize]).map(|()| 0)
}
