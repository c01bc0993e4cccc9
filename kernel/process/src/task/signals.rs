//! [`SignalState`]: the signal state of a process: its threads, what is pending for all of them, stop and exit.
//!
//! Under its own spin lock, a leaf below that of the tree. What is done with it is in [`crate::signal`].

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::numbers::PidNumber;
use super::thread::Thread;
use super::threads::Threads;
use super::traced::TraceFlags;
use crate::core_dump::Dump;
use crate::signal::number::{Signal, SignalSet};
use crate::signal::queue::Queue;

/// Locked as one; see [`crate::signal`].
#[derive(Debug, Default)]
pub struct SignalState {
    /// Living threads, oldest first.
    pub(crate) threads: Threads,
    /// Signals for whichever thread takes them.
    pub(crate) shared: Queue,
    /// All threads are to exit, and the process with this wait status.
    pub(crate) exit: Option<i32>,
    /// What is written of it before they do.
    pub(crate) dump: Option<Arc<Dump>>,
    /// All threads but this one are to exit: it calls exec.
    pub(crate) exec: Option<PidNumber>,
    /// The process is stopped, or its threads are on their way to it, by this signal.
    pub(crate) stop: Option<Signal>,
    /// The stop is complete and was reported.
    pub(crate) is_stopped: bool,
    /// How often SIGCONT came: a stop that was decided on before one is void.
    pub(crate) continues: u64,
    /// Threads that have come to the stop: they wait for its end, or their tracers have them run meanwhile.
    pub(crate) parked: usize,
    /// How often SIGKILL came.
    pub(crate) kills: u64,
    /// How often a signal came that was sent to several processes at once: a child that was being made
    /// meanwhile was not among them, so it is made again behind it.
    pub(crate) multi: u64,
}

impl SignalState {
    /// Whether `thread` has something to do before user code runs.
    pub(crate) fn has_work(&self, thread: &Thread) -> bool {
        self.must_exit(thread) || self.must_stop(thread) || !self.ready(thread).is_empty()
    }

    /// Whether `thread` is to come to the stop of its process, or to one of its own for its tracer.
    pub(crate) fn must_stop(&self, thread: &Thread) -> bool {
        let flags = thread.trace_flags();
        let has_left = flags.contains(TraceFlags::LEFT_STOP);
        (self.stop.is_some() && !has_left)
            || flags.intersects(TraceFlags::TRAP | TraceFlags::NOTIFY)
    }

    /// The signal of a stop that all threads have come to, and that is not complete yet.
    pub(crate) fn complete_stop(&self) -> Option<Signal> {
        let is_due = !self.is_stopped && self.parked == self.threads.len();
        self.stop.filter(|_| is_due)
    }

    /// Whether `thread` is to exit, by itself or because of the others.
    pub(crate) fn is_ending(&self, thread: &Thread) -> bool {
        thread.exiting.load(Ordering::Relaxed) || self.must_exit(thread)
    }

    /// Whether `thread` is to exit because of the others.
    pub(crate) fn must_exit(&self, thread: &Thread) -> bool {
        self.exit.is_some() || self.exec.is_some_and(|by| by != thread.tid())
    }

    /// Signals pending for `thread` that it does not block.
    pub(crate) fn ready(&self, thread: &Thread) -> SignalSet {
        let pending = self.shared.set().union(thread.private.lock().set());
        pending.without(thread.blocked())
    }
}
