//! POSIX timers: timer_create(2) and kin.

use alloc::sync::Arc;

use abi::{Errno, Result};

use super::agenda::{self, Due};
use super::itimer::{Armed, Interval};
use crate::rlimit::Resource;
use crate::signal::{Payload, SigInfo, Signal, code, send};
use crate::usage::Usage;
use crate::{Pid, Process, tree};

/// The most timers of a process, whatever its limit on signals allows.
const MOST: usize = 4096;

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
        thread: Option<Pid>,
        /// Whether time in the kernel does not count.
        user_only: bool,
    },
}

impl TimerClock {
    /// The moment `at_ns` of this clock on the monotonic one.
    fn to_monotonic(self, at_ns: u64) -> u64 {
        match self {
            TimerClock::Realtime => sched::clock::monotonic_of_realtime(at_ns),
            TimerClock::Monotonic | TimerClock::Cpu { .. } => at_ns,
        }
    }

    /// What the clock shows that due times are kept on: the monotonic one, or CPU time.
    fn now(self, process: &Process) -> u64 {
        let TimerClock::Cpu { thread, user_only } = self else {
            return sched::clock::monotonic_ns();
        };
        let usage = match thread {
            None => process.cpu_usage(),
            Some(tid) => tree::thread(tid).map_or_else(Usage::default, |thread| thread.usage()),
        };
        if user_only {
            usage.user_ns
        } else {
            usage.cpu_ns()
        }
    }

    /// When the monotonic clock will show what makes a look worth while. CPU time does not pass faster than
    /// all threads together can use it.
    fn time_to_look(self, due_ns: u64, now_ns: u64, threads: usize) -> u64 {
        let TimerClock::Cpu { thread, .. } = self else {
            return due_ns;
        };
        let at_once = if thread.is_some() { 1 } else { threads.max(1) };
        let left = due_ns.saturating_sub(now_ns) / at_once as u64;
        let after = left.max(super::cpu::SHORTEST_NS);
        sched::clock::monotonic_ns().saturating_add(after)
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
    Thread(Pid, Signal, u64),
}

/// What timer_settime(2) sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// When, and how often.
    pub interval: Interval,
    /// `value_ns` is a moment of the clock rather than a time from now.
    pub absolute: bool,
}

#[derive(Debug)]
pub(super) struct Timer {
    clock: TimerClock,
    notify: Notify,
    armed: Armed,
    entry: Option<agenda::Entry>,
    /// Its signal is queued and was not taken yet.
    is_pending: bool,
    /// Times it was due since that signal was queued.
    missed: u64,
    /// What timer_getoverrun(2) shows.
    last_overrun: i32,
}

impl Timer {
    fn left(&self, now_ns: u64) -> Interval {
        let is_over =
            self.armed.interval_ns == 0 && self.armed.due_ns.is_some_and(|due| due <= now_ns);
        if is_over && self.notify == Notify::Nothing {
            return Interval::default();
        }
        self.armed.left(now_ns)
    }

    /// Counts the times it was due by `now_ns` as missed: its signal still waits.
    fn miss(&mut self, now_ns: u64) {
        self.missed = self.missed.saturating_add(self.armed.expire(now_ns));
    }

    /// See [`super::enter_again`].
    pub(super) fn enter_again(&mut self, process: &Arc<Process>, id: i32, now_ns: u64) {
        let waits = self.armed.due_ns.is_some() && self.notify != Notify::Nothing;
        if self.entry.is_none() && waits {
            self.entry = agenda::replace(None, process, Due::Posix(id), Some(now_ns));
        }
    }

    /// Takes it off the agenda: it is going away.
    pub(super) fn disarm(&self) {
        agenda::remove(self.entry);
    }
}

/// Makes a timer; its id.
///
/// # Errors
/// `EAGAIN` when there are too many (each is ready to queue a signal), or too little memory.
pub fn create(process: &Process, clock: TimerClock, notify: Notify) -> Result<i32> {
    let mut state = process.timers.0.lock();
    let limit = process.limits().soft(Resource::PendingSignals);
    let is_full = state.posix.len() >= MOST || state.posix.len() as u64 >= limit;
    if is_full || machine::frame::free() < memory::pressure::RESERVE_FRAMES {
        return Err(Errno::EAGAIN);
    }
    let id = state.next_id;
    state.next_id = id.checked_add(1).ok_or(Errno::EAGAIN)?;
    let timer = Timer {
        clock,
        notify,
        armed: Armed::default(),
        entry: None,
        is_pending: false,
        missed: 0,
        last_overrun: 0,
    };
    state
        .posix
        .try_insert(id, timer)
        .map_err(|_| Errno::EAGAIN)?;
    Ok(id)
}

/// Deletes a timer.
///
/// # Errors
/// `EINVAL` when there is none with this id.
pub fn delete(process: &Process, id: i32) -> Result<()> {
    let timer = process
        .timers
        .0
        .lock()
        .posix
        .remove(&id)
        .ok_or(Errno::EINVAL)?;
    timer.disarm();
    Ok(())
}

/// Arms or disarms a timer; what was left before.
///
/// # Errors
/// `EINVAL` when there is none with this id.
pub fn set(process: &Arc<Process>, id: i32, mut setting: Setting) -> Result<Interval> {
    if setting.interval.value_ns == 0 {
        setting.interval.interval_ns = 0;
    }
    let (now, threads) = (clock_of(process, id)?.now(process), process.thread_count());
    let mut state = process.timers.0.lock();
    let timer = state.posix.get_mut(&id).ok_or(Errno::EINVAL)?;
    let old = timer.left(now);
    timer.armed = Armed::from(setting.interval, now);
    if setting.absolute && setting.interval.value_ns > 0 {
        timer.armed.due_ns = Some(timer.clock.to_monotonic(setting.interval.value_ns));
    }
    timer.missed = 0;
    timer.last_overrun = 0;
    // Without a signal there is nothing to do when it is due.
    let due = timer
        .armed
        .due_ns
        .filter(|_| timer.notify != Notify::Nothing)
        .map(|due| timer.clock.time_to_look(due, now, threads));
    timer.entry = agenda::replace(timer.entry, process, Due::Posix(id), due);
    Ok(old)
}

/// What is left of a timer.
///
/// # Errors
/// `EINVAL` when there is none with this id.
pub fn get(process: &Process, id: i32) -> Result<Interval> {
    let now = clock_of(process, id)?.now(process);
    let state = process.timers.0.lock();
    Ok(state.posix.get(&id).ok_or(Errno::EINVAL)?.left(now))
}

fn clock_of(process: &Process, id: i32) -> Result<TimerClock> {
    let state = process.timers.0.lock();
    Ok(state.posix.get(&id).ok_or(Errno::EINVAL)?.clock)
}

/// Times the timer was due between its last signal's queueing and taking.
///
/// # Errors
/// `EINVAL` when there is none with this id.
pub fn overrun(process: &Process, id: i32) -> Result<i32> {
    let state = process.timers.0.lock();
    Ok(state.posix.get(&id).ok_or(Errno::EINVAL)?.last_overrun)
}

pub(super) fn look_at(process: &Arc<Process>, id: i32) {
    // What was ignored, dropped or lost is not pending any more.
    let is_pending = is_queued(process, id);
    let Ok(clock) = clock_of(process, id) else {
        return;
    };
    let (now, threads) = (clock.now(process), process.thread_count());
    let mut state = process.timers.0.lock();
    let Some(timer) = state.posix.get_mut(&id) else {
        return;
    };
    let notify = timer.notify;
    let queue_it =
        !(timer.is_pending && is_pending) && timer.armed.due_ns.is_some_and(|d| d <= now);
    if queue_it {
        timer.missed = timer.armed.expire(now) - 1;
        timer.is_pending = true;
    } else {
        timer.miss(now);
    }
    drop(state);
    if queue_it {
        send_signal(process, id, notify);
    }
    let is_pending = is_queued(process, id);
    let mut state = process.timers.0.lock();
    let Some(timer) = state.posix.get_mut(&id) else {
        return;
    };
    timer.is_pending &= is_pending;
    // Nothing new can come of it until somebody takes the signal, or stops ignoring it.
    let due = timer.armed.due_ns;
    let due = due.map(|due| clock.time_to_look(due, now, threads));
    let next = agenda::not_too_soon(due, queue_it == is_pending);
    timer.entry = agenda::replace(timer.entry, process, Due::Posix(id), next);
}

/// Whether a signal of this timer waits to be taken.
fn is_queued(process: &Process, id: i32) -> bool {
    let is_own = |info: &SigInfo| matches!(info.payload, Payload::Timer { id: of, .. } if of == id);
    let state = process.signals.lock();
    let by_thread = |thread: &Arc<crate::thread::Thread>| thread.private.lock().any(is_own);
    state.shared.any(is_own) || state.threads.iter().any(by_thread)
}

fn send_signal(process: &Arc<Process>, id: i32, notify: Notify) {
    let info = |signal, value| SigInfo {
        signal,
        errno: 0,
        code: code::SI_TIMER,
        payload: Payload::Timer {
            id,
            overrun: 0,
            value,
        },
    };
    let own_id = u64::from(id.unsigned_abs());
    // A full queue loses the signal, as it does on Linux; the overrun count tells.
    let _ = match notify {
        Notify::Nothing => Ok(()),
        Notify::Process(signal, value) => {
            send::to_process(process, &info(signal, value.unwrap_or(own_id)))
        }
        Notify::Thread(tid, signal, value) => match tree::thread(tid) {
            Some(thread) if Arc::ptr_eq(thread.process(), process) => {
                send::to_thread(&thread, &info(signal, value))
            }
            _ => Ok(()),
        },
    };
}

/// A signal was taken off a queue: if it is a timer's, it gets its overrun count and the timer may send
/// the next one. Called with the process's signal state locked.
pub(crate) fn signal_taken(process: &Arc<Process>, info: &mut SigInfo) {
    let Payload::Timer { id, overrun, .. } = &mut info.payload else {
        return;
    };
    let mut state = process.timers.0.lock();
    let Some(timer) = state.posix.get_mut(id) else {
        return;
    };
    // CPU time cannot be asked for here: the next look counts.
    let is_cpu = matches!(timer.clock, TimerClock::Cpu { .. });
    let now = sched::clock::monotonic_ns();
    if !is_cpu {
        timer.miss(now);
    }
    let due = timer.armed.due_ns;
    let due = due.map(|due| if is_cpu { now } else { due });
    let next = agenda::not_too_soon(due, false);
    timer.entry = agenda::replace(timer.entry, process, Due::Posix(*id), next);
    timer.last_overrun = i32::try_from(timer.missed).unwrap_or(i32::MAX);
    timer.missed = 0;
    timer.is_pending = false;
    *overrun = timer.last_overrun;
}
