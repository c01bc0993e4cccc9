//! Timers that send signals: setitimer(2), alarm(2), timer_create(2), RLIMIT_CPU.
//!
//! One kernel thread ([`worker`]) sleeps until the first deadline of all processes and sends what
//! is due; nothing happens in interrupt handlers. Timers on CPU time are looked at whenever enough real
//! time has passed for them to be due at the earliest.
//!
//! Locking: a process's [`Timers`] lock is below its signal state; the worker's agenda is below both.

mod agenda;
mod cpu;
mod itimer;
mod posix;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;

use collections::Map;
use machine::sync::SpinLock;

use crate::Process;

pub use agenda::start_worker;
pub use cpu::watch_cpu_limit;
pub use itimer::{Interval, Which, get_interval, set_interval};
pub(crate) use posix::signal_taken;
pub use posix::{Notify, Setting, TimerClock, create, delete, get, overrun, set};

/// The timers of one process.
#[derive(Debug, Default)]
pub struct Timers(SpinLock<State>);

#[derive(Debug, Default)]
struct State {
    real: itimer::Armed,
    real_entry: Option<agenda::Entry>,
    cpu_entry: Option<agenda::Entry>,
    /// ITIMER_VIRTUAL and ITIMER_PROF, against CPU time.
    cpu: [itimer::Armed; 2],
    cpu_watched: bool,
    /// Seconds of CPU time at which SIGXCPU is next due; 0 when there is no limit.
    cpu_limit_next: u64,
    posix: Map<i32, posix::Timer>,
    next_id: i32,
}

impl Timers {
    /// Disarms everything: the process ends.
    pub(crate) fn cancel_all(&self) {
        let state = core::mem::take(&mut *self.0.lock());
        agenda::remove(state.real_entry);
        agenda::remove(state.cpu_entry);
        state.posix.values().for_each(posix::Timer::disarm);
    }

    /// exec deletes POSIX timers and keeps interval timers.
    pub(crate) fn delete_posix(&self) {
        let old = core::mem::take(&mut self.0.lock().posix);
        old.values().for_each(posix::Timer::disarm);
    }
}

/// Enters the timers that there was no memory for on the agenda; what is due is found to be so at once.
fn enter_again(process: &Arc<Process>) {
    use agenda::Due;
    let now = sched::clock::monotonic_ns();
    let mut state = process.timers.0.lock();
    let state = &mut *state;
    if state.real_entry.is_none() && state.real.due_ns.is_some() {
        state.real_entry = agenda::replace(None, process, Due::Real, state.real.due_ns);
    }
    if state.cpu_entry.is_none() && state.cpu_watched {
        state.cpu_entry = agenda::replace(None, process, Due::Cpu, Some(now));
    }
    for (id, timer) in state.posix.iter_mut() {
        timer.enter_again(process, *id, now);
    }
}
