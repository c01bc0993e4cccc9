//! Clocks and sleeping.

use abi::{Errno, Result};
use fs::Capabilities;
use machine::UserAddr;
use process::PidNumber;
use process::restart::RestartBlock;
use process::usage::{Usage, ticks};
use sched::Sleep;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::context::Context;
use crate::entry::Entry;
use crate::structs::{NS_PER_S, Timespec, Timeval, deadline_after};

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(35, "nanosleep", sys_nanosleep),
    Entry::new(96, "gettimeofday", sys_gettimeofday),
    Entry::new(100, "times", sys_times),
    Entry::new(159, "adjtimex", sys_adjtimex),
    Entry::new(164, "settimeofday", sys_settimeofday),
    Entry::new(201, "time", sys_time),
    Entry::new(227, "clock_settime", sys_clock_settime),
    Entry::new(228, "clock_gettime", sys_clock_gettime),
    Entry::new(229, "clock_getres", sys_clock_getres),
    Entry::new(230, "clock_nanosleep", sys_clock_nanosleep),
    Entry::new(305, "clock_adjtime", sys_clock_adjtime),
];

/// A clock by its number in user space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    Realtime,
    Monotonic,
    /// Coarse and raw clocks show the same as the others, but nobody can sleep by them.
    RealtimeToRead,
    MonotonicToRead,
    ProcessCpu(PidNumber, CpuTime),
    ThreadCpu(PidNumber, CpuTime),
}

/// Which of the CPU time a clock shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CpuTime {
    All,
    User,
}

impl CpuTime {
    fn of(self, usage: Usage) -> u64 {
        match self {
            CpuTime::All => usage.cpu_ns(),
            CpuTime::User => usage.user_ns,
        }
    }
}

impl Clock {
    pub(crate) fn new(number: i32) -> Result<Self> {
        match number {
            // CLOCK_REALTIME, CLOCK_TAI; the alarm clocks cannot wake a machine, but are clocks.
            0 | 8 | 11 => Ok(Clock::Realtime),
            // CLOCK_MONOTONIC, CLOCK_BOOTTIME, _ALARM.
            1 | 7 | 9 => Ok(Clock::Monotonic),
            5 => Ok(Clock::RealtimeToRead),
            4 | 6 => Ok(Clock::MonotonicToRead),
            2 => Ok(Clock::ProcessCpu(0, CpuTime::All)),
            3 => Ok(Clock::ThreadCpu(0, CpuTime::All)),
            // CPU clocks of others: the complement of the id, and three bits of kind.
            ..0 if number & 3 != 3 => {
                let id = !(number >> 3);
                let kind = if number & 3 == 1 {
                    CpuTime::User
                } else {
                    CpuTime::All
                };
                Ok(if number & 4 == 0 {
                    Clock::ProcessCpu(id, kind)
                } else {
                    Clock::ThreadCpu(id, kind)
                })
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn now_ns(self, cx: &Context<'_>) -> Result<u64> {
        match self {
            Clock::Realtime | Clock::RealtimeToRead => Ok(sched::clock::realtime_ns()),
            Clock::Monotonic | Clock::MonotonicToRead => Ok(sched::clock::monotonic_ns()),
            Clock::ProcessCpu(0, kind) => Ok(kind.of(cx.process().usage())),
            Clock::ThreadCpu(0, kind) => Ok(kind.of(cx.thread.usage())),
            Clock::ProcessCpu(pid, kind) => {
                Ok(kind.of(cx.find_leader(pid).ok_or(Errno::EINVAL)?.usage()))
            }
            Clock::ThreadCpu(tid, kind) => {
                let thread = cx.find_thread(tid).ok_or(Errno::EINVAL)?;
                let own = alloc::sync::Arc::ptr_eq(thread.process(), cx.process());
                if own {
                    Ok(kind.of(thread.usage()))
                } else {
                    Err(Errno::EINVAL)
                }
            }
        }
    }
}

fn sys_clock_gettime(cx: &mut Context<'_>) -> Result<u64> {
    let now = Clock::new(cx.int(0))?.now_ns(cx)?;
    memory::user::write(cx.addr(1), &Timespec::from_ns(now))?;
    Ok(0)
}

fn sys_clock_getres(cx: &mut Context<'_>) -> Result<u64> {
    // Whether there is such a process or thread is a question that is asked this way.
    Clock::new(cx.int(0))?.now_ns(cx)?;
    if let Some(addr) = cx.optional_addr(1) {
        memory::user::write(addr, &Timespec::from_ns(1))?;
    }
    Ok(0)
}

fn set_realtime(cx: &Context<'_>, ns: u64) -> Result<u64> {
    if !cx.credentials().capable(Capabilities::SYS_TIME) {
        return Err(Errno::EPERM);
    }
    sched::clock::set_realtime(ns);
    fs::timerfd::clock_was_set();
    Ok(0)
}

fn sys_clock_settime(cx: &mut Context<'_>) -> Result<u64> {
    // Only CLOCK_REALTIME can be set.
    if cx.int(0) != 0 {
        return Err(Errno::EINVAL);
    }
    set_realtime(cx, Timespec::read_ns(cx.addr(1))?)
}

fn sys_gettimeofday(cx: &mut Context<'_>) -> Result<u64> {
    if let Some(addr) = cx.optional_addr(0) {
        memory::user::write(addr, &Timeval::from_ns(sched::clock::realtime_ns()))?;
    }
    if let Some(addr) = cx.optional_addr(1) {
        // The time zone is user space's business.
        memory::user::write(addr, &[0u32; 2])?;
    }
    Ok(0)
}

fn sys_settimeofday(cx: &mut Context<'_>) -> Result<u64> {
    match cx.optional_addr(0) {
        Some(addr) => set_realtime(cx, memory::user::read::<Timeval>(addr)?.to_ns()?),
        None if cx.credentials().capable(Capabilities::SYS_TIME) => Ok(0),
        None => Err(Errno::EPERM),
    }
}

fn sys_time(cx: &mut Context<'_>) -> Result<u64> {
    let seconds = sched::clock::realtime_ns() / NS_PER_S;
    if let Some(addr) = cx.optional_addr(0) {
        memory::user::write(addr, &seconds)?;
    }
    Ok(seconds)
}

fn sys_times(cx: &mut Context<'_>) -> Result<u64> {
    if let Some(addr) = cx.optional_addr(0) {
        let fields = |usage: Usage| [ticks(usage.user_ns), ticks(usage.system_ns)];
        let (own, children) = (cx.process().usage(), cx.process().children_usage());
        memory::user::write(addr, &[fields(own), fields(children)])?;
    }
    Ok(ticks(sched::clock::monotonic_ns()))
}

/// `struct timex`; read-only: no daemon disciplines a guest's clock from inside.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Timex {
    modes: u32,
    padding0: u32,
    offset: i64,
    frequency: i64,
    max_error: i64,
    estimated_error: i64,
    status: i32,
    padding1: i32,
    constant: i64,
    precision: i64,
    tolerance: i64,
    time: Timeval,
    tick: i64,
    rest: [u64; 13],
}

fn sys_adjtimex(cx: &mut Context<'_>) -> Result<u64> {
    adjust(cx, cx.addr(0))
}

fn sys_clock_adjtime(cx: &mut Context<'_>) -> Result<u64> {
    match Clock::new(cx.int(0))? {
        Clock::Realtime => adjust(cx, cx.addr(1)),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// `ADJ_*` of adjtimex(2).
const ADJ_OFFSET: u32 = 0x1;
const ADJ_SETOFFSET: u32 = 0x100;
const ADJ_NANO: u32 = 0x2000;
const ADJ_ADJTIME: u32 = 0x8000;
const ADJ_OFFSET_SS_READ: u32 = 0xa001;

/// ADJ_SETOFFSET: moves the clock by `time`, whose fraction counts forwards.
fn step(asked: &Timex) -> Result<()> {
    let scale = if asked.modes & ADJ_NANO == 0 { 1000 } else { 1 };
    let fraction = asked.time.microseconds;
    if !(0..NS_PER_S.cast_signed() / scale).contains(&fraction) {
        return Err(Errno::EINVAL);
    }
    let by = asked.time.seconds.checked_mul(NS_PER_S.cast_signed());
    let by = by.and_then(|by| by.checked_add(fraction * scale));
    let now = sched::clock::realtime_ns();
    let new = by.and_then(|by| now.checked_add_signed(by));
    sched::clock::set_realtime(new.ok_or(Errno::EINVAL)?);
    Ok(())
}

fn adjust(cx: &Context<'_>, addr: UserAddr) -> Result<u64> {
    const STA_UNSYNC: i32 = 0x40;
    const TIME_ERROR: u64 = 5;
    const MICROSECONDS_PER_TICK: i64 = 10_000;
    let asked: Timex = memory::user::read(addr)?;
    if asked.modes & ADJ_ADJTIME != 0 && asked.modes & ADJ_OFFSET == 0 {
        return Err(Errno::EINVAL);
    }
    // adjtime(3) reads what is left of its slewing: nothing, since it is never begun.
    let only_reads = asked.modes == 0 || asked.modes == ADJ_OFFSET_SS_READ;
    if !only_reads {
        if !cx.credentials().capable(Capabilities::SYS_TIME) {
            return Err(Errno::EPERM);
        }
        if asked.modes & !ADJ_NANO != ADJ_SETOFFSET {
            return Err(Errno::EOPNOTSUPP);
        }
        step(&asked)?;
    }
    let state = Timex {
        offset: 0,
        frequency: 0,
        max_error: 16_000_000,
        estimated_error: 16_000_000,
        status: STA_UNSYNC,
        constant: 7,
        precision: 1,
        tolerance: 32_768_000,
        time: Timeval::from_ns(sched::clock::realtime_ns()),
        tick: MICROSECONDS_PER_TICK,
        rest: [0; 13],
        ..asked
    };
    memory::user::write(addr, &state)?;
    Ok(TIME_ERROR)
}

fn sys_nanosleep(cx: &mut Context<'_>) -> Result<u64> {
    let deadline = deadline_after(Timespec::read_ns(cx.addr(0))?);
    sleep_relative(cx, deadline, cx.optional_addr(1))
}

fn sys_clock_nanosleep(cx: &mut Context<'_>) -> Result<u64> {
    const TIMER_ABSTIME: u32 = 1;
    let clock = match Clock::new(cx.int(0))? {
        clock @ (Clock::Realtime | Clock::Monotonic) => clock,
        Clock::ProcessCpu(_, _) => return sleep_by_cpu(cx),
        _ => return Err(Errno::EOPNOTSUPP),
    };
    let ns = Timespec::read_ns(cx.addr(2))?;
    if cx.uint(1) & TIMER_ABSTIME == 0 {
        return sleep_relative(cx, deadline_after(ns), cx.optional_addr(3));
    }
    let deadline = match clock {
        Clock::Realtime => sched::clock::monotonic_of_realtime(ns),
        _ => ns,
    };
    match sleep_until(deadline) {
        // The same deadline holds when the call is made again.
        Err(Errno::ERESTARTSYS) => Err(Errno::ERESTARTNOHAND),
        other => other,
    }
}

/// Sleeps until other threads have used the CPU for long enough.
fn sleep_by_cpu(cx: &Context<'_>) -> Result<u64> {
    const TIMER_ABSTIME: u32 = 1;
    const SHORTEST_NS: u64 = 4_000_000;
    let clock = Clock::new(cx.int(0))?;
    let asked = Timespec::read_ns(cx.addr(2))?;
    let is_absolute = cx.uint(1) & TIMER_ABSTIME != 0;
    let start = if is_absolute { 0 } else { clock.now_ns(cx)? };
    let due = start.saturating_add(asked);
    loop {
        let left = due.saturating_sub(clock.now_ns(cx)?);
        if left == 0 {
            return Ok(0);
        }
        let threads = cx.process().thread_count().max(1) as u64;
        let pause = deadline_after((left / threads).max(SHORTEST_NS));
        if sleep_until(pause).is_ok() {
            continue;
        }
        if let Some(addr) = cx.optional_addr(3).filter(|_| !is_absolute) {
            let left = due.saturating_sub(clock.now_ns(cx)?);
            memory::user::write(addr, &Timespec::from_ns(left))?;
        }
        return Err(Errno::ERESTARTNOHAND);
    }
}

/// Sleeps; `ERESTARTSYS` when interrupted.
fn sleep_until(deadline_ns: u64) -> Result<u64> {
    match sched::park(Sleep::Interruptible, Some(deadline_ns), || None::<()>) {
        Err(Errno::ETIMEDOUT) | Ok(()) => Ok(0),
        Err(errno) => Err(errno),
    }
}

fn sleep_relative(cx: &Context<'_>, deadline_ns: u64, remaining: Option<UserAddr>) -> Result<u64> {
    match sleep_until(deadline_ns) {
        Err(Errno::ERESTARTSYS) => {}
        other => return other,
    }
    if let Some(addr) = remaining {
        let left = deadline_ns.saturating_sub(sched::clock::monotonic_ns());
        memory::user::write(addr, &Timespec::from_ns(left))?;
    }
    cx.thread.set_restart(RestartBlock::Sleep {
        deadline_ns,
        remaining,
    });
    Err(Errno::ERESTART_RESTARTBLOCK)
}

/// restart_syscall(2) of a sleep.
pub(crate) fn restart_sleep(cx: &Context<'_>, block: RestartBlock) -> Result<u64> {
    match block {
        RestartBlock::Sleep {
            deadline_ns,
            remaining,
        } => sleep_relative(cx, deadline_ns, remaining),
        _ => Err(Errno::EINTR),
    }
}
