//! eventfd, timerfd, memfd_create, getrandom: files and bytes without a name.

use abi::raw::general as raw;
use abi::{Errno, Result};
use fs::timerfd::{TimerClock, TimerFd, TimerSpec};
use fs::{File, OpenFlags, eventfd, memfd, random};
use machine::UserAddr;
use memory::io::IoWriter;
use memory::user;

use super::buffers::slice;
use super::{install, usable_file};
use crate::context::Context;
use crate::entry::Entry;
use crate::structs::Timespec;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(283, "timerfd_create", sys_timerfd_create),
    Entry::new(284, "eventfd", sys_eventfd),
    Entry::new(286, "timerfd_settime", sys_timerfd_settime),
    Entry::new(287, "timerfd_gettime", sys_timerfd_gettime),
    Entry::new(290, "eventfd2", sys_eventfd2),
    Entry::new(318, "getrandom", sys_getrandom),
    Entry::new(319, "memfd_create", sys_memfd_create),
];

fn sys_eventfd(cx: &mut Context<'_>) -> Result<u64> {
    let file = eventfd::create(
        u64::from(cx.uint(0)),
        false,
        OpenFlags::empty(),
        cx.credentials(),
    )?;
    install(cx, file, false)
}

fn sys_eventfd2(cx: &mut Context<'_>) -> Result<u64> {
    let flags = cx.uint(1);
    if flags & !(raw::EFD_SEMAPHORE | raw::EFD_CLOEXEC | raw::EFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let is_semaphore = flags & raw::EFD_SEMAPHORE != 0;
    let open = OpenFlags::from_open(flags);
    let file = eventfd::create(u64::from(cx.uint(0)), is_semaphore, open, cx.credentials())?;
    install(cx, file, open.contains(OpenFlags::CLOEXEC))
}

fn sys_timerfd_create(cx: &mut Context<'_>) -> Result<u64> {
    let clock = match cx.uint(0) {
        raw::CLOCK_REALTIME => TimerClock::Realtime,
        raw::CLOCK_MONOTONIC => TimerClock::Monotonic,
        raw::CLOCK_BOOTTIME => TimerClock::Boottime,
        raw::CLOCK_REALTIME_ALARM => TimerClock::RealtimeAlarm,
        raw::CLOCK_BOOTTIME_ALARM => TimerClock::BoottimeAlarm,
        _ => return Err(Errno::EINVAL),
    };
    let flags = cx.uint(1);
    if flags & !(raw::TFD_CLOEXEC | raw::TFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let open = OpenFlags::from_open(flags);
    let file = TimerFd::create(clock, open, cx.credentials())?;
    install(cx, file, open.contains(OpenFlags::CLOEXEC))
}

fn timer(file: &File) -> Result<&TimerFd> {
    file.downcast().ok_or(Errno::EINVAL)
}

fn sys_timerfd_settime(cx: &mut Context<'_>) -> Result<u64> {
    let flags = cx.uint(1);
    if flags & !(raw::TFD_TIMER_ABSTIME | raw::TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let [interval, value]: [Timespec; 2] = user::read(cx.addr(2))?;
    let new = TimerSpec {
        value_ns: value.to_ns()?,
        interval_ns: interval.to_ns()?,
    };
    let file = usable_file(cx, cx.int(0))?;
    let old = timer(&file)?.set(
        new,
        flags & raw::TFD_TIMER_ABSTIME != 0,
        flags & raw::TFD_TIMER_CANCEL_ON_SET != 0,
    );
    if let Some(addr) = cx.optional_addr(3) {
        write_spec(addr, old)?;
    }
    Ok(0)
}

fn sys_timerfd_gettime(cx: &mut Context<'_>) -> Result<u64> {
    let file = usable_file(cx, cx.int(0))?;
    let left = timer(&file)?.get();
    write_spec(cx.addr(1), left)?;
    Ok(0)
}

fn write_spec(addr: UserAddr, spec: TimerSpec) -> Result<()> {
    user::write(
        addr,
        &[
            Timespec::from_ns(spec.interval_ns),
            Timespec::from_ns(spec.value_ns),
        ],
    )
}

fn sys_memfd_create(cx: &mut Context<'_>) -> Result<u64> {
    let flags = cx.uint(1);
    // Huge pages are not there.
    let known = raw::MFD_CLOEXEC | raw::MFD_ALLOW_SEALING | raw::MFD_EXEC;
    if flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let too_long = |errno| {
        if errno == Errno::ENAMETOOLONG {
            Errno::EINVAL
        } else {
            errno
        }
    };
    let name = user::read_c_string(cx.addr(0), memfd::NAME_MAX + 1).map_err(too_long)?;
    let file = memfd::create(&name, flags & raw::MFD_ALLOW_SEALING != 0, cx.credentials())?;
    install(cx, file, flags & raw::MFD_CLOEXEC != 0)
}

fn sys_getrandom(cx: &mut Context<'_>) -> Result<u64> {
    let flags = cx.uint(2);
    let exclusive = raw::GRND_INSECURE | raw::GRND_RANDOM;
    if flags & !(raw::GRND_NONBLOCK | exclusive) != 0 || flags & exclusive == exclusive {
        return Err(Errno::EINVAL);
    }
    let to = slice(cx.addr(0), cx.size(1))?;
    random::read(&mut IoWriter::user(to.addr, to.len)).map(|count| count as u64)
}
