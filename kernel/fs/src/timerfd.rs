//! timerfd_create(2): a timer whose expirations are read.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use abi::{Errno, Result};
use collections::{Map, try_arc, try_box};
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
    state: Mutex<State>,
    /// `TFD_TIMER_CANCEL_ON_SET`.
    is_cancellable: AtomicBool,
    /// The clock was set since.
    is_cancelled: AtomicBool,
    /// The flags it was last set with, for /proc/PID/fdinfo.
    settings: AtomicU32,
}

/// How it is set. A period goes on when somebody looks at it: a timer that nobody reads expires once, however short
/// its period is.
#[derive(Debug)]
struct State {
    timer: Timer,
    /// When the timer expires next, or has expired while nobody looked.
    deadline_ns: u64,
    /// The period that was set last, also with a timer that was not armed, or has ended.
    interval_ns: u64,
    /// Set against the wall clock, so a change of that moves it: the moment of that clock for `deadline_ns`.
    wall_ns: Option<u64>,
}

impl State {
    /// Arms the timer, which has expired, for its next time after now. Returns how often it was due since.
    fn go_on(&mut self) -> u64 {
        let now_ns = clock::monotonic_ns();
        let late_ns = now_ns.saturating_sub(self.deadline_ns);
        let Some(missed) = late_ns.checked_div(self.interval_ns) else {
            return 0;
        };
        let step_ns = self.interval_ns.saturating_mul(missed + 1);
        self.deadline_ns = self.deadline_ns.saturating_add(step_ns);
        self.wall_ns = self.wall_ns.map(|wall_ns| wall_ns.saturating_add(step_ns));
        self.timer.arm(self.deadline_ns);
        missed
    }
}

/// Timers that a change of the wall clock concerns, by address: each takes itself out as it is closed.
static ON_WALL: SpinLock<Map<usize, Weak<TimerFd>>> = SpinLock::new(Map::new());

/// The wall clock was set: absolute timers on it are due at another time, and some end (timerfd_create(2)).
pub fn clock_was_set() {
    let mut next = 0;
    loop {
        let timer = {
            let timers = ON_WALL.lock();
            let Some((key, timer)) = timers.first_from(&next) else {
                return;
            };
            next = *key + 1;
            timer.upgrade()
        };
        // It may be the last reference, which is dropped without the lock.
        if let Some(timer) = timer {
            timer.clock_was_set();
        }
        sched::cond_resched();
    }
}

impl Drop for TimerFd {
    fn drop(&mut self) {
        if self.clock.is_wall() {
            let known = ON_WALL.lock().remove(&core::ptr::from_ref(self).addr());
            drop(known);
        }
    }
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
        let timer = Timer::new(try_box(move || {
            expired.expirations.fetch_add(1, Ordering::AcqRel);
            expired.queue.wake_all();
        })?)?;
        let ops = try_arc(Self {
            clock,
            shared,
            state: Mutex::new(State {
                timer,
                deadline_ns: 0,
                interval_ns: 0,
                wall_ns: None,
            }),
            is_cancellable: AtomicBool::new(false),
            is_cancelled: AtomicBool::new(false),
            settings: AtomicU32::new(0),
        })?;
        if clock.is_wall() {
            let known = Arc::downgrade(&ops);
            ON_WALL.lock().try_insert(known.as_ptr().addr(), known)?;
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
        let mut state = self.state.lock();
        let on_wall = is_absolute && self.clock.is_wall() && new.value_ns != 0;
        let settings = u32::from(is_absolute) | u32::from(cancels) << 1;
        self.settings.store(settings, Ordering::Relaxed);
        self.is_cancellable
            .store(on_wall && cancels, Ordering::Release);
        self.is_cancelled.store(false, Ordering::Release);
        let old = self.left(&mut state);
        state.timer.cancel();
        self.shared.expirations.store(0, Ordering::Release);
        state.interval_ns = new.interval_ns;
        state.wall_ns = on_wall.then_some(new.value_ns);
        if new.value_ns != 0 {
            state.deadline_ns = match (is_absolute, self.clock.is_wall()) {
                (false, _) => clock::monotonic_ns().saturating_add(new.value_ns),
                (true, false) => new.value_ns,
                (true, true) => clock::monotonic_of_realtime(new.value_ns),
            };
            state.timer.arm(state.deadline_ns);
        }
        old
    }

    /// Time left and period (timerfd_gettime(2)).
    #[must_use]
    pub fn get(&self) -> TimerSpec {
        self.left(&mut self.state.lock())
    }

    fn left(&self, state: &mut State) -> TimerSpec {
        let expirations = &self.shared.expirations;
        if state.timer.deadline_ns().is_none() && expirations.load(Ordering::Acquire) > 0 {
            expirations.fetch_add(state.go_on(), Ordering::AcqRel);
        }
        // One that is due but was not seen to yet is still armed: not 0.
        let left = |deadline: u64| deadline.saturating_sub(clock::monotonic_ns()).max(1);
        TimerSpec {
            value_ns: state.timer.deadline_ns().map_or(0, left),
            interval_ns: state.interval_ns,
        }
    }

    /// Arms the timer anew for the clock as it is now, or ends it.
    fn clock_was_set(&self) {
        let mut state = self.state.lock();
        let Some(wall_ns) = state.wall_ns else {
            return;
        };
        if self.is_cancellable.load(Ordering::Acquire) {
            self.is_cancelled.store(true, Ordering::Release);
        }
        if state.timer.deadline_ns().is_some() {
            state.deadline_ns = clock::monotonic_of_realtime(wall_ns);
            state.timer.arm(state.deadline_ns);
        }
        drop(state);
        self.shared.queue.wake_all();
    }

    /// Expirations since the last time, or that the clock was set.
    fn take(&self) -> Option<Result<u64>> {
        if self.is_cancelled.swap(false, Ordering::AcqRel) {
            self.shared.expirations.store(0, Ordering::Release);
            return Some(Err(Errno::ECANCELED));
        }
        if self.shared.expirations.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut state = self.state.lock();
        let count = self.shared.expirations.swap(0, Ordering::AcqRel);
        if count == 0 {
            // Somebody was faster.
            return None;
        }
        let is_over = state.timer.deadline_ns().is_none();
        let more = if is_over { state.go_on() } else { 0 };
        Some(Ok(count + more))
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
    fn a_timer_that_is_closed_is_no_longer_known() {
        let root = Arc::new(Credentials::root());
        let make = |clock| TimerFd::create(clock, OpenFlags::empty(), &root).unwrap();
        let address = |file: &File| {
            let timer: &TimerFd = file.downcast().unwrap();
            core::ptr::from_ref(timer).addr()
        };
        let is_left = |address: usize| {
            // Those of other tests may be there, too, even at an address that is free again.
            let known = ON_WALL.lock().get(&address).cloned();
            known.is_some_and(|timer| timer.strong_count() == 0)
        };
        let files = [(); 3].map(|()| make(TimerClock::Realtime));
        let at = [0, 1, 2].map(|index| address(&files[index]));
        assert!(at.iter().all(|at| ON_WALL.lock().contains_key(at)));
        clock_was_set();
        drop(files);
        assert!(!at.into_iter().any(is_left));
        let other = make(TimerClock::Monotonic);
        assert!(!ON_WALL.lock().contains_key(&address(&other)));
    }

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
    fn a_period_goes_on_when_somebody_looks() {
        let root = Arc::new(Credentials::root());
        let file = TimerFd::create(TimerClock::Monotonic, OpenFlags::empty(), &root).unwrap();
        let timer: &TimerFd = file.downcast().unwrap();
        let every = |interval_ns| TimerSpec {
            value_ns: 1,
            interval_ns,
        };
        timer.set(every(1), false, false);
        let begun = std::time::Instant::now();
        while file.poll(None).is_empty() && begun.elapsed().as_secs() < 60 {
            std::thread::yield_now();
        }
        std::thread::sleep(core::time::Duration::from_millis(5));
        let expired = || timer.shared.expirations.load(Ordering::SeqCst);
        assert_eq!(expired(), 1, "nobody has looked");
        let mut bytes = [0; 8];
        assert_eq!(file.read(&mut IoWriter::kernel(&mut bytes)), Ok(8));
        assert!(u64::from_ne_bytes(bytes) > 5_000_000);
        timer.set(every(3_600_000_000_000), false, false);
        while file.poll(None).is_empty() && begun.elapsed().as_secs() < 60 {
            std::thread::yield_now();
        }
        let left = timer.get();
        assert!(left.value_ns > 1 && left.value_ns <= left.interval_ns);
        assert_eq!(expired(), 1, "what was looked at is still to be read");
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
