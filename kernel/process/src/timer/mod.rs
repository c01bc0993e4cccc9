//! Timers that send signals: setitimer(2), alarm(2), timer_create(2), RLIMIT_CPU.
//!
//! One kernel thread ([`worker`], by the [`agenda`]) sleeps until the first deadline of all processes and sends what
//! is due; nothing happens in interrupt handlers. Timers on CPU time are looked at by the threads that use it
//! ([`cpu`]), whose [`alarm`] is early enough.
//!
//! Locking: a process's [`Timers`](state::Timers) lock is below its signal state; the worker's agenda is below both.

mod agenda;
mod alarm;
mod clock;
mod cpu;
mod itimer;
mod posix;
pub mod state;
#[cfg(test)]
mod tests;
mod worker;

use collections::Map;

pub(crate) use alarm::thread_joins;
pub use alarm::watch_cpu_limit;
pub(crate) use cpu::look_if_due;
pub use itimer::{Which, get_interval, set_interval};
pub(crate) use posix::signal_taken;
pub use posix::{Setting, create, delete, get, overrun, set};
pub use state::{Interval, Notify, TimerClock};
pub use worker::start_worker;

impl state::Timers {
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

fn disarm_all(timers: &Map<i32, state::Timer>) {
    for timer in timers.values() {
        timer.disarm();
        sched::cond_resched();
    }
}
