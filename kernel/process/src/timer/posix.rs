//! POSIX timers: timer_create(2) and kin.

use alloc::sync::Arc;

use abi::{Errno, Result};

use super::agenda::{self, Due};
use super::alarm;
use super::state::{Armed, Interval, Notify, Timer, TimerClock};
use crate::rlimit::Resource;
use crate::signal::info::{Payload, SigInfo, code};
use crate::signal::send;
use crate::task::numbers::Place;
use crate::task::process::Process;
use crate::task::thread::Thread;

/// The most timers of a process, whatever its limit on signals allows.
const MOST: usize = 4096;

/// What timer_settime(2) sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// When, and how often.
    pub interval: Interval,
    /// `value_ns` is a moment of the clock rather than a time from now.
    pub absolute: bool,
}

impl Timer {
    /// See [`super::worker::enter_again`].
    pub(super) fn enter_again(&mut self, process: &Arc<Process>, id: i32, now_ns: u64) {
        if self.entry.is_none() && self.waits() && !self.clock.is_cpu() {
            self.entry = agenda::replace(None, process, Due::Posix(id), Some(now_ns));
        }
    }

    /// Has it looked at when its clock shows `due`: timers on CPU time by whatever uses that ([`cpu`]).
    fn enter(&mut self, process: &Arc<Process>, id: i32, due: Option<u64>) {
        let due = due.filter(|_| !self.clock.is_cpu());
        self.entry = agenda::replace(self.entry, process, Due::Posix(id), due);
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
    let mut state = process.timers.state.lock();
    let limit = process.limits().soft(Resource::PendingSignals);
    let is_full = state.posix.len() >= MOST || state.posix.len() as u64 >= limit;
    if is_full || machine::frame::at_hand() < memory::pressure::RESERVE_FRAMES {
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
        .state
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
    let now = clock_of(process, id)?.now(process);
    let mut state = process.timers.state.lock();
    let timer = state.posix.get_mut(&id).ok_or(Errno::EINVAL)?;
    let old = timer.left(now);
    timer.armed = Armed::from(setting.interval, now);
    if setting.absolute && setting.interval.value_ns > 0 {
        timer.armed.due_ns = Some(timer.clock.to_monotonic(setting.interval.value_ns));
    }
    timer.missed = 0;
    timer.last_overrun = 0;
    let due = timer.armed.due_ns.filter(|_| timer.waits());
    let clock = timer.clock;
    timer.enter(process, id, due);
    drop(state);
    if let Some(due) = due {
        alarm::arm_for(process, clock, due);
    }
    Ok(old)
}

/// What is left of a timer.
///
/// # Errors
/// `EINVAL` when there is none with this id.
pub fn get(process: &Process, id: i32) -> Result<Interval> {
    let now = clock_of(process, id)?.now(process);
    let state = process.timers.state.lock();
    Ok(state.posix.get(&id).ok_or(Errno::EINVAL)?.left(now))
}

fn clock_of(process: &Process, id: i32) -> Result<TimerClock> {
    let state = process.timers.state.lock();
    Ok(state.posix.get(&id).ok_or(Errno::EINVAL)?.clock)
}

/// Times the timer was due between its last signal's queueing and taking.
///
/// # Errors
/// `EINVAL` when there is none with this id.
pub fn overrun(process: &Process, id: i32) -> Result<i32> {
    let state = process.timers.state.lock();
    Ok(state.posix.get(&id).ok_or(Errno::EINVAL)?.last_overrun)
}

/// The first timer from `from` on that waits for CPU time of the process, or of the thread at `place`.
pub(super) fn next_on_cpu(process: &Process, from: i32, place: Place) -> Option<i32> {
    let state = process.timers.state.lock();
    let mut timers = state.posix.range(from..);
    let is_meant = |timer: &Timer| {
        let clock = timer.clock;
        timer.waits() && (clock.is_cpu_of(None) || clock.is_cpu_of(Some(place)))
    };
    timers.find_map(|(id, timer)| is_meant(timer).then_some(*id))
}

/// Looks at a timer, and sends its signal if it is due.
pub(super) fn look_at(process: &Arc<Process>, id: i32) {
    // What was ignored, dropped or lost is not pending any more.
    let is_pending = is_queued(process, id);
    let Ok(clock) = clock_of(process, id) else {
        return;
    };
    let now = clock.now(process);
    let mut state = process.timers.state.lock();
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
    let mut state = process.timers.state.lock();
    let Some(timer) = state.posix.get_mut(&id) else {
        return;
    };
    timer.is_pending &= is_pending;
    // Nothing new can come of it until somebody takes the signal, or stops ignoring it.
    let next = agenda::not_too_soon(timer.armed.due_ns, queue_it == is_pending);
    timer.enter(process, id, next);
}

/// Whether a signal of this timer waits to be taken.
fn is_queued(process: &Process, id: i32) -> bool {
    let is_own = |info: &SigInfo| matches!(info.payload, Payload::Timer { id: of, .. } if of == id);
    let state = process.signals.lock();
    let by_thread = |thread: &Arc<Thread>| thread.private.lock().any(is_own);
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
        Notify::Thread(place, signal, value) => match process.thread_at(place) {
            Some(thread) => send::to_thread(&thread, &info(signal, value)),
            None => Ok(()),
        },
    };
}

/// `thread` took a signal off a queue: if it is a timer's, it gets its overrun count and the timer may send
/// the next one. Called with the process's signal state locked.
pub(crate) fn signal_taken(thread: &Thread, info: &mut SigInfo) {
    let process = thread.process();
    let Payload::Timer { id, overrun, .. } = &mut info.payload else {
        return;
    };
    let mut state = process.timers.state.lock();
    let Some(timer) = state.posix.get_mut(id) else {
        return;
    };
    if timer.clock.is_cpu() {
        // The process's CPU time cannot be asked for here: the next look counts.
        alarm::raise(thread);
    } else {
        timer.miss(sched::clock::monotonic_ns());
    }
    let next = agenda::not_too_soon(timer.armed.due_ns, false);
    timer.enter(process, *id, next);
    timer.last_overrun = i32::try_from(timer.missed).unwrap_or(i32::MAX);
    timer.missed = 0;
    timer.is_pending = false;
    *overrun = timer.last_overrun;
}
