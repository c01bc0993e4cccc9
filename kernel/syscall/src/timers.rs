//! Timers that send signals: setitimer(2), alarm(2), timer_create(2) and their relatives.

use alloc::sync::Arc;

use abi::{Errno, Result};
use machine::UserAddr;
use process::PidNumber;
use process::signal::Signal;
use process::task::numbers::Place;
use process::timer::{self, Interval, Notify, Setting, TimerClock, Which};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::context::Context;
use crate::entry::Entry;
use crate::structs::{NS_PER_S, Timespec, Timeval};
use crate::time::{Clock, CpuTime};

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(36, "getitimer", sys_getitimer),
    Entry::new(37, "alarm", sys_alarm),
    Entry::new(38, "setitimer", sys_setitimer),
    Entry::new(222, "timer_create", sys_timer_create),
    Entry::new(223, "timer_settime", sys_timer_settime),
    Entry::new(224, "timer_gettime", sys_timer_gettime),
    Entry::new(225, "timer_getoverrun", sys_timer_getoverrun),
    Entry::new(226, "timer_delete", sys_timer_delete),
];

/// `struct itimerval`: interval, value.
type UserInterval = [Timeval; 2];

fn read_interval(addr: UserAddr) -> Result<Interval> {
    let [interval, value] = memory::user::read::<UserInterval>(addr)?;
    Ok(Interval {
        value_ns: value.to_ns()?,
        interval_ns: interval.to_ns()?,
    })
}

fn write_interval(addr: UserAddr, left: Interval) -> Result<()> {
    // Rounded up: an armed timer never shows 0.
    let value = Timeval::from_ns(left.value_ns.next_multiple_of(1000));
    memory::user::write(addr, &[Timeval::from_ns(left.interval_ns), value])
}

fn interval_timer(number: i32) -> Result<Which> {
    match number {
        0 => Ok(Which::Real),
        1 => Ok(Which::Virtual),
        2 => Ok(Which::Prof),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_getitimer(cx: &mut Context<'_>) -> Result<u64> {
    let left = timer::get_interval(cx.process(), interval_timer(cx.int(0))?);
    write_interval(cx.addr(1), left).map(|()| 0)
}

fn sys_setitimer(cx: &mut Context<'_>) -> Result<u64> {
    let which = interval_timer(cx.int(0))?;
    let setting = cx
        .optional_addr(1)
        .map_or(Ok(Interval::default()), read_interval)?;
    let old = timer::set_interval(cx.process(), which, setting);
    if let Some(addr) = cx.optional_addr(2) {
        write_interval(addr, old)?;
    }
    Ok(0)
}

fn sys_alarm(cx: &mut Context<'_>) -> Result<u64> {
    let setting = Interval {
        value_ns: u64::from(cx.uint(0)) * NS_PER_S,
        interval_ns: 0,
    };
    let left = timer::set_interval(cx.process(), Which::Real, setting).value_ns;
    let rounded = (left + NS_PER_S / 2) / NS_PER_S;
    // What is still to come is at least a second.
    Ok(if left > 0 { rounded.max(1) } else { 0 })
}

/// `struct sigevent`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SigEvent {
    value: u64,
    signal: i32,
    notify: i32,
    thread: i32,
    rest: [u32; 11],
}

fn read_notify(cx: &Context<'_>, addr: Option<UserAddr>) -> Result<Notify> {
    const SIGEV_SIGNAL: i32 = 0;
    const SIGEV_NONE: i32 = 1;
    const SIGEV_THREAD: i32 = 2;
    const SIGEV_THREAD_ID: i32 = 4;
    let Some(addr) = addr else {
        return Ok(Notify::Process(Signal::ALRM, None));
    };
    let event: SigEvent = memory::user::read(addr)?;
    match event.notify {
        SIGEV_NONE => Ok(Notify::Nothing),
        // The thread of SIGEV_THREAD is the C library's; to the kernel it is a signal.
        SIGEV_SIGNAL | SIGEV_THREAD => Ok(Notify::Process(
            Signal::new(event.signal)?,
            Some(event.value),
        )),
        SIGEV_THREAD_ID => {
            if event.thread == 0 {
                return Err(Errno::EINVAL);
            }
            Ok(Notify::Thread(
                own_thread(cx, event.thread)?,
                Signal::new(event.signal)?,
                event.value,
            ))
        }
        _ => Err(Errno::EINVAL),
    }
}

fn is_own(cx: &Context<'_>, pid: PidNumber) -> bool {
    pid == 0 || pid == cx.process().pid().number()
}

/// A thread of the caller's, 0 for itself.
fn own_thread(cx: &Context<'_>, number: PidNumber) -> Result<Place> {
    let thread = match number {
        0 => cx.thread.clone(),
        number => cx.find_thread(number).ok_or(Errno::EINVAL)?,
    };
    if !Arc::ptr_eq(thread.process(), cx.process()) {
        return Err(Errno::EINVAL);
    }
    Ok(thread.place())
}

fn sys_timer_create(cx: &mut Context<'_>) -> Result<u64> {
    let clock = match Clock::new(cx.int(0))? {
        Clock::Realtime => TimerClock::Realtime,
        Clock::Monotonic => TimerClock::Monotonic,
        Clock::ProcessCpu(pid, kind) if is_own(cx, pid) => TimerClock::Cpu {
            thread: None,
            user_only: kind == CpuTime::User,
        },
        Clock::ThreadCpu(tid, kind) => TimerClock::Cpu {
            thread: Some(own_thread(cx, tid)?),
            user_only: kind == CpuTime::User,
        },
        // Other processes' clocks can be read, not waited for.
        Clock::ProcessCpu(..) => return Err(Errno::EINVAL),
        Clock::RealtimeToRead | Clock::MonotonicToRead => return Err(Errno::EOPNOTSUPP),
    };
    let notify = read_notify(cx, cx.optional_addr(1))?;
    let id = timer::create(cx.process(), clock, notify)?;
    if let Err(errno) = memory::user::write(cx.addr(2), &id) {
        timer::delete(cx.process(), id)?;
        return Err(errno);
    }
    Ok(0)
}

/// `struct itimerspec`: interval, value.
type UserSetting = [Timespec; 2];

fn write_setting(addr: UserAddr, left: Interval) -> Result<()> {
    let fields: UserSetting = [left.interval_ns, left.value_ns].map(Timespec::from_ns);
    memory::user::write(addr, &fields)
}

fn sys_timer_settime(cx: &mut Context<'_>) -> Result<u64> {
    const TIMER_ABSTIME: u32 = 1;
    let new = cx.optional_addr(2).ok_or(Errno::EINVAL)?;
    let [interval, value] = memory::user::read::<UserSetting>(new)?;
    let setting = Setting {
        interval: Interval {
            value_ns: value.to_ns()?,
            interval_ns: interval.to_ns()?,
        },
        absolute: cx.uint(1) & TIMER_ABSTIME != 0,
    };
    let old = timer::set(cx.process(), cx.int(0), setting)?;
    if let Some(addr) = cx.optional_addr(3) {
        write_setting(addr, old)?;
    }
    Ok(0)
}

fn sys_timer_gettime(cx: &mut Context<'_>) -> Result<u64> {
    let left = timer::get(cx.process(), cx.int(0))?;
    write_setting(cx.addr(1), left).map(|()| 0)
}

fn sys_timer_getoverrun(cx: &mut Context<'_>) -> Result<u64> {
    let count = timer::overrun(cx.process(), cx.int(0))?;
    Ok(u64::from(count.unsigned_abs()))
}

fn sys_timer_delete(cx: &mut Context<'_>) -> Result<u64> {
    timer::delete(cx.process(), cx.int(0)).map(|()| 0)
}
