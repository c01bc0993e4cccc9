//! What a process keeps of its timers: data, which is looked at and changed by [the rest](super).

use core::sync::atomic::AtomicBool;

use collections::Map;
use machine::sync::SpinLock;

use crate::signal::number::Signal;
use crate::task::numbers::Place;

/// The timers of one process.
#[derive(Debug, Default)]
pub struct Timers {
    pub(super) state: SpinLock<State>,
    /// Something follows the process's CPU time: threads that join it are told.
    pub(super) watches_cpu: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) real: Armed,
    pub(super) real_entry: Option<Entry>,
    /// ITIMER_VIRTUAL and ITIMER_PROF, against CPU time.
    pub(super) cpu: [Armed; 2],
    pub(super) posix: Map<i32, Timer>,
    pub(super) next_id: i32,
}

/// An entry of the agenda: when it is due, and which of those due then.
pub(super) type Entry = (u64, u64);

/// What setitimer(2) sets: nanoseconds; a value of 0 disarms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interval {
    /// Until it is next due.
    pub value_ns: u64,
    /// From then on.
    pub interval_ns: u64,
}

/// An armed timer: when it is next due on its clock, and the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Armed {
    pub(super) due_ns: Option<u64>,
    pub(super) interval_ns: u64,
}

impl Armed {
    pub(super) fn from(setting: Interval, now_ns: u64) -> Self {
        let armed = setting.value_ns > 0;
        Self {
            due_ns: armed.then(|| now_ns.saturating_add(setting.value_ns)),
            interval_ns: setting.interval_ns,
        }
    }

    pub(super) fn left(&self, now_ns: u64) -> Interval {
        let left = |due: u64| match now_ns.checked_sub(due) {
            // Nobody has looked yet: what is left is until the next time after this one.
            Some(late) if self.interval_ns > 0 => self.interval_ns - late % self.interval_ns,
            // An armed timer never shows 0.
            _ => due.saturating_sub(now_ns).max(1),
        };
        Interval {
            value_ns: self.due_ns.map_or(0, left),
            interval_ns: self.interval_ns,
        }
    }

    /// How often it is due by now; arms it for the next time.
    pub(super) fn expire(&mut self, now_ns: u64) -> u64 {
        let Some(due) = self.due_ns.filter(|due| *due <= now_ns) else {
            return 0;
        };
        if self.interval_ns == 0 {
            self.due_ns = None;
            return 1;
        }
        let times = (now_ns - due) / self.interval_ns + 1;
        self.due_ns = Some(due.saturating_add(times.saturating_mul(self.interval_ns)));
        times
    }
}

/// Which clock a timer follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerClock {
    /// CLOCK_REALTIME.
    Realtime,
    /// CLOCK_MONOTONIC and CLOCK_BOOTTIME, which are the same here.
    Monotonic,
    /// CPU time of the process, or of one of its threads; all of it, or that in user mode.
    Cpu {
        /// The thread.
        thread: Option<Place>,
        /// Whether time in the kernel does not count.
        user_only: bool,
    },
}

impl TimerClock {
    /// The moment `at_ns` of this clock on the monotonic one.
    pub(super) fn to_monotonic(self, at_ns: u64) -> u64 {
        match self {
            TimerClock::Realtime => sched::clock::monotonic_of_realtime(at_ns),
            TimerClock::Monotonic | TimerClock::Cpu { .. } => at_ns,
        }
    }

    /// Whether it is CPU time of the whole process (`None`) or of this thread.
    pub(super) fn is_cpu_of(self, of: Option<Place>) -> bool {
        matches!(self, TimerClock::Cpu { thread, .. } if thread == of)
    }

    pub(super) fn is_cpu(self) -> bool {
        matches!(self, TimerClock::Cpu { .. })
    }
}

/// What happens when a timer is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notify {
    /// Nothing (SIGEV_NONE).
    Nothing,
    /// A signal to the process, with this value; `None` for the timer's id.
    Process(Signal, Option<u64>),
    /// A signal to a thread, with this value (SIGEV_THREAD_ID).
    Thread(Place, Signal, u64),
}

#[derive(Debug)]
pub(super) struct Timer {
    pub(super) clock: TimerClock,
    pub(super) notify: Notify,
    pub(super) armed: Armed,
    pub(super) entry: Option<Entry>,
    /// Its signal is queued and was not taken yet.
    pub(super) is_pending: bool,
    /// Times it was due since that signal was queued.
    pub(super) missed: u64,
    /// What timer_getoverrun(2) shows.
    pub(super) last_overrun: i32,
}

impl Timer {
    pub(super) fn left(&self, now_ns: u64) -> Interval {
        let is_over =
            self.armed.interval_ns == 0 && self.armed.due_ns.is_some_and(|due| due <= now_ns);
        if is_over && self.notify == Notify::Nothing {
            return Interval::default();
        }
        self.armed.left(now_ns)
    }

    /// Counts the times it was due by `now_ns` as missed: its signal still waits.
    pub(super) fn miss(&mut self, now_ns: u64) {
        self.missed = self.missed.saturating_add(self.armed.expire(now_ns));
    }

    /// Whether something is to happen when it is due. Without a signal there is nothing to do.
    pub(super) fn waits(&self) -> bool {
        self.armed.due_ns.is_some() && self.notify != Notify::Nothing
    }
}

/// How far off the first timer is that waits for CPU time of the process (`None`) or of a thread, which has used
/// `clocks` (user time, and all of it).
pub(super) fn least_left(state: &State, of: Option<Place>, clocks: [u64; 2]) -> Option<u64> {
    let left = |timer: &Timer| {
        let TimerClock::Cpu { user_only, .. } = timer.clock else {
            return None;
        };
        let now = clocks[usize::from(!user_only)];
        let due = timer.armed.due_ns.filter(|_| timer.waits())?;
        timer.clock.is_cpu_of(of).then(|| due.saturating_sub(now))
    };
    state.posix.values().filter_map(left).min()
}
