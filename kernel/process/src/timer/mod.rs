//! Timers that send signals: setitimer(2), alarm(2), timer_create(2), RLIMIT_CPU.
//!
//! One kernel thread ([`worker`]) sleeps until the first deadline of all processes and sends what
//! is due; nothing happens in interrupt handlers. Timers on CPU time are looked at by the threads that use it
//! ([`cpu`]).
//!
//! Locking: a process's [`Timers`] lock is below its signal state; the worker's agenda is below both.

mod agenda;
mod cpu;
mod itimer;
mod posix;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use core::sync::atomic::AtomicBool;

use collections::Map;
use machine::sync::SpinLock;

use crate::Process;

pub use agenda::start_worker;
pub use cpu::watch_cpu_limit;
pub(crate) use cpu::{look_if_due, thread_joins};
pub use itimer::{Interval, Which, get_interval, set_interval};
pub(crate) use posix::signal_taken;
pub use posix::{Notify, Setting, TimerClock, create, delete, get, overrun, set};

/// The timers of one process.
#[derive(Debug, Default)]
pub struct Timers {
    state: SpinLock<State>,
    /// Something follows the process's CPU time: threads that join it are told.
    watches_cpu: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    real: itimer::Armed,
    real_entry: Option<agenda::Entry>,
    /// ITIMER_VIRTUAL and ITIMER_PROF, against CPU time.
    cpu: [itimer::Armed; 2],
    posix: Map<i32, posix::Timer>,
    next_id: i32,
}

impl Timers {
    /// Disarms everything: the process ends.
    pub(crate) fn cancel_all(&self) {
        let state = core::mem::take(&mut *self.state.lock());
        agenda::remove(state.real_entry);
        disarm_all(&state.posix);
    }

    /// exec deletes POSIX timers and keeps interval timers.
    pub(crate) fn delete_posix(&self) {
        let old = core::mem::take(&mut self.state.lock().posix);
        disarm_all(&old);
    }
}

fn disarm_all(timers: &Map<i32, posix::Timer>) {
    for timer in timers.values() {
        timer.disarm();
        sched::cond_resched();
    }
}

/// Enters the timers that there was no memory for on the agenda; what is due is found to be so at once.
fn enter_again(process: &Arc<Process>) {
    use agenda::Due;
    let now = sched::clock::monotonic_ns();
    let mut state = process.timers.state.lock();
    let state = &mut *state;
    if state.real_entry.is_none() && state.real.due_ns.is_some() {
        state.real_entry = agenda::replace(None, process, Due::Real, state.real.due_ns);
    }
    for (id, timer) in state.posix.iter_mut() {
        timer.enter_again(process, *id, now);
    }
}
