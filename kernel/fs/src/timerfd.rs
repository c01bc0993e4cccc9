//! timerfd_create(2): a timer whose expirations are read.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use abi::{Errno, Result};
use collections::{Vec, try_arc, try_box};
use machine::sync::SpinLock;
use memory::io::IoWriter;
use sched::clock;
use sched::timer::Timer;
use sched::{Mutex, WaitQueue};

use crate::anonymous::AnonymousInode;
use crate::cred::Credentials;
use crate::file::File;
use crate::file_ops::{FileOps, Io};
use crate::flags::OpenFlags;
use crate::poll::{Events, PollTable};

/// Which clock absolute times are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerClock {
    /// `CLOCK_REALTIME`.
    Realtime = 0,
    /// `CLOCK_MONOTONIC`.
    Monotonic = 1,
    /// `CLOCK_BOOTTIME`: as the monotonic one, since nothing here suspends.
    Boottime = 7,
    /// `CLOCK_REALTIME_ALARM`.
    RealtimeAlarm = 8,
    /// `CLOCK_BOOTTIME_ALARM`.
    BoottimeAlarm = 9,
}

impl TimerClock {
    /// Whether it is the wall clock, which can be set.
    const fn is_wall(self) -> bool {
        matches!(self, Self::Realtime | Self::RealtimeAlarm)
    }
}

/// When a timer expires first, and how often from then on, in nanoseconds (`struct itimerspec`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimerSpec {
    /// Time to, or of, the first expiration; 0: not armed.
    pub value_ns: u64,
    /// Period; 0: once.
    pub interval_ns: u64,
}

/// An open timer.
#[derive(Debug)]
pub struct TimerFd {
    clock: TimerClock,
    shared: Arc<Shared>,
    timer: Mutex<Timer>,
    /// The period that was set last, also with a timer that was not armed, or has ended.
    interval_ns: AtomicU64,
    /// Set against the wall clock, so a change of that moves it: the time and interval that were asked for.
    on_wall: SpinLock<Option<TimerSpec>>,
    /// `TFD_TIMER_CANCEL_ON_SET`.
    is_cancellable: AtomicBool,
    /// The clock was set since.
    is_cancelled: AtomicBool,
    /// The flags it was last set with, for /proc/PID/fdinfo.
    settings: AtomicU32,
}

/// Timers that a change of the wall clock concerns.
static ON_WALL: SpinLock<Vec<Weak<TimerFd>>> = SpinLock::new(Vec::new());

/// The wall clock was set: absolute timers on it are due at another time, and some end (timerfd_create(2)).
pub fn clock_was_set() {
    let timers = core::mem::take(&mut *ON_WALL.lock());
    for timer in timers.iter().filter_map(Weak::upgrade) {
        timer.clock_was_set();
    }
    // Those that came meanwhile are few; the list is short of memory only when it was before.
    let mut all = ON_WALL.lock();
    let alive = timers.into_iter().filter(|timer| timer.strong_count() > 0);
    // Without memory they keep the time they were armed for.
    let _ = all.try_extend(alive);
}

#[derive(Debug, Default)]
struct Shared {
    expirations: AtomicU64,
    queue: WaitQueue,
}

impl TimerFd {
    /// A timer that is not armed.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn create(
        clock: TimerClock,
        flags: OpenFlags,
        credentials: &Arc<Credentials>,
    ) -> Result<Arc<File>> {
        memory::pressure::ensure_headroom()?;
        let shared = try_arc(Shared::default())?;
        let expired = shared.clone();
        let timer = Timer::new(try_box(move |count| {
            expired.expirations.fetch_add(count, Ordering::AcqRel);
            expired.queue.wake_all();
        })?)?;
        let ops = try_arc(Self {
            clock,
            shared,
            timer: Mutex::new(timer),
            interval_ns: AtomicU64::new(0),
            on_wall: SpinLock::new(None),
            is_cancellable: AtomicBool::new(false),
            is_cancelled: AtomicBool::new(false),
            settings: AtomicU32::new(0),
        })?;
        if clock.is_wall() {
            let mut all = ON_WALL.lock();
            if all.len() == all.capacity() {
                all.retain(|timer| timer.strong_count() > 0);
            }
            all.try_push(Arc::downgrade(&ops))?;
        }
        let flags = (flags & OpenFlags::NONBLOCK) | OpenFlags::RDWR;
        File::anonymous(
            AnonymousInode::file_like("[timerfd]")?,
            ops,
            flags,
            credentials,
        )
    }

    /// Sets or disarms it and returns what was set (timerfd_settime(2)).
    pub fn set(&self, new: TimerSpec, is_absolute: bool, cancels: bool) -> TimerSpec {
        let timer = self.timer.lock();
        let on_wall = is_absolute && self.clock.is_wall() && new.value_ns != 0;
        let settings = u32::from(is_absolute) | u32::from(cancels) << 1;
        self.settings.store(settings, Ordering::Relaxed);
        *self.on_wall.lock() = on_wall.then_some(new);
        self.is_cancellable
            .store(on_wall && cancels, Ordering::Release);
        self.is_cancelled.store(false, Ordering::Release);
        let old = self.remaining(&timer);
        self.interval_ns.store(new.interval_ns, Ordering::Relaxed);
        timer.cancel();
        self.shared.expirations.store(0, Ordering::Release);
        if new.value_ns != 0 {
            let deadline = match (is_absolute, self.clock.is_wall()) {
                (false, _) => clock::monotonic_ns().saturating_add(new.value_ns),
                (true, false) => new.value_ns,
                (true, true) => clock::monotonic_of_realtime(new.value_ns),
            };
            timer.arm(deadline, new.interval_ns);
        }
        old
    }

    /// Time left and period (timerfd_gettime(2)).
    #[must_use]
    pub fn get(&self) -> TimerSpec {
        self.remaining(&self.timer.lock())
    }

    fn remaining(&self, timer: &Timer) -> TimerSpec {
        // One that is due but was not seen to yet is still armed: not 0.
        let left =
            |(deadline, _): (u64, u64)| deadline.saturating_sub(clock::monotonic_ns()).max(1);
        TimerSpec {
            value_ns: timer.remaining().map_or(0, left),
            interval_ns: self.interval_ns.load(Ordering::Relaxed),
        }
    }

    /// Arms the timer anew for the clock as it is now, or ends it.
    fn clock_was_set(&self) {
        let timer = self.timer.lock();
        let Some(spec) = *self.on_wall.lock() else {
            return;
        };
        if self.is_cancellable.load(Ordering::Acquire) {
            self.is_cancelled.store(true, Ordering::Release);
        }
        let is_armed = timer.remaining().is_some();
        if is_armed && self.shared.expirations.load(Ordering::Acquire) == 0 {
            timer.cancel();
            timer.arm(
                clock::monotonic_of_realtime(spec.value_ns),
                spec.interval_ns,
            );
        }
        drop(timer);
        self.shared.queue.wake_all();
    }

    /// Expirations since the last time, or that the clock was set.
    fn take(&self) -> Option<Result<u64>> {
        if self.is_cancelled.swap(false, Ordering::AcqRel) {
            self.shared.expirations.store(0, Ordering::Release);
            return Some(Err(Errno::ECANCELED));
        }
        let count = self.shared.expirations.swap(0, Ordering::AcqRel);
        (count > 0).then_some(Ok(count))
    }
}

impl FileOps for TimerFd {
    fn read(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        if to.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let count = match self.take() {
            Some(taken) => taken?,
            None if io.nonblocking => return Err(Errno::EAGAIN),
            None => self.shared.queue.wait_interruptible(|| self.take())??,
        };
        to.write(&count.to_ne_bytes())
    }

    fn poll(&self, table: Option<&mut PollTable>) -> Events {
        if let Some(table) = table {
            table.add(&self.shared.queue);
        }
        let has_expired = self.shared.expirations.load(Ordering::Acquire) > 0;
        if has_expired || self.is_cancelled.load(Ordering::Acquire) {
            Events::READABLE
        } else {
            Events::empty()
        }
    }

    fn info(&self, to: &mut dyn core::fmt::Write) -> core::fmt::Result {
        const NS_PER_S: u64 = 1_000_000_000;
        let left = self.get();
        let ticks = self.shared.expirations.load(Ordering::Acquire);
        writeln!(to, "clockid: {}\nticks: {ticks}", self.clock as u32)?;
        writeln!(
            to,
            "settime flags: 0{:o}",
            self.settings.load(Ordering::Relaxed)
        )?;
        for (name, time) in [
            ("it_value", left.value_ns),
            ("it_interval", left.interval_ns),
        ] {
            writeln!(to, "{name}: ({}, {})", time / NS_PER_S, time % NS_PER_S)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_expires_and_is_read_once() {
        let file = TimerFd::create(
            TimerClock::Monotonic,
            OpenFlags::empty(),
            &Arc::new(Credentials::root()),
        )
        .unwrap();
        let timer: &TimerFd = file.downcast().unwrap();
        assert_eq!(timer.get(), TimerSpec::default());
        assert_eq!(
            timer.set(
                TimerSpec {
                    value_ns: 5_000_000,
                    interval_ns: 0
                },
                false,
                false
            ),
            TimerSpec::default()
        );
        assert!(timer.get().value_ns <= 5_000_000);
        let mut bytes = [0; 8];
        assert_eq!(file.read(&mut IoWriter::kernel(&mut bytes)), Ok(8));
        assert_eq!(u64::from_ne_bytes(bytes), 1);
        assert_eq!(timer.get(), TimerSpec::default());
        assert!(file.poll(None).is_empty());
    }

    #[test]
    fn disarming_forgets_expirations() {
        let file = TimerFd::create(
            TimerClock::Realtime,
            OpenFlags::NONBLOCK,
            &Arc::new(Credentials::root()),
        )
        .unwrap();
        let timer: &TimerFd = file.downcast().unwrap();
        timer.set(
            TimerSpec {
                value_ns: 3_600_000_000_000,
                interval_ns: 7,
            },
            false,
            false,
        );
        assert_eq!(timer.set(TimerSpec::default(), false, false).interval_ns, 7);
        assert_eq!(
            file.read(&mut IoWriter::kernel(&mut [0; 8])),
            Err(Errno::EAGAIN)
        );
    }
}
