//! Making a signal pending: what it does at once, in which queue it waits, who is woken for it.
//!
//! Nobody is told of it here: that a stop has ended is for the caller, [`send`](super::send) or
//! [`stop`](super::stop), to report.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};

use super::queue::Queued;
use super::{Default, Disposition, SigInfo, Signal, SignalSet, stop};
use crate::rlimit::Resource;
use crate::task::process::Process;
use crate::task::signals::SignalState;
use crate::task::thread::{self, Thread};
use crate::task::traced::TraceFlags;

/// Who may take a signal.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    /// This thread alone.
    Thread(&'a Arc<Thread>),
    /// Any of the process's, this one first.
    Process(Option<&'a Arc<Thread>>),
}

impl<'a> Target<'a> {
    fn thread(self) -> Option<&'a Arc<Thread>> {
        match self {
            Target::Thread(thread) => Some(thread),
            Target::Process(_) => None,
        }
    }
}

/// Makes the signal pending; also whether a stop ended that the parent is to hear of.
pub(super) fn deliver_to(
    process: &Arc<Process>,
    to: Target<'_>,
    info: &SigInfo,
) -> (Result<()>, bool) {
    let mut state = process.signals.lock();
    if state.exit.is_some() || state.threads.is_empty() {
        return (Ok(()), false);
    }
    let continued = prepare(process, &mut state, info.signal);
    let result = enqueue(process, &mut state, to, info);
    drop(state);
    process.signal_arrived.wake_all();
    (result, continued)
}

/// Effects that do not wait for delivery: SIGCONT continues, and stop signals and SIGCONT cancel each
/// other. Whether a complete stop ended.
fn prepare(process: &Process, state: &mut SignalState, signal: Signal) -> bool {
    let cancelled = if signal.is_stop() {
        SignalSet::of(Signal::CONT)
    } else if signal == Signal::CONT {
        SignalSet::STOPS
    } else {
        return false;
    };
    state.shared.discard(cancelled);
    for thread in state.threads.iter() {
        thread.private.lock().discard(cancelled);
    }
    if signal != Signal::CONT {
        return false;
    }
    state.continues += 1;
    let mut left = 0;
    for thread in state.threads.iter() {
        let old = thread.clear_trace_flags(TraceFlags::LEFT_STOP);
        left += usize::from(old.contains(TraceFlags::LEFT_STOP));
        stop::notify_of_change(thread);
    }
    state.parked -= left;
    end_stop(process, state)
}

/// Ends a stop; whether it had been completed, and the parent is to be told.
fn end_stop(process: &Process, state: &mut SignalState) -> bool {
    let was_stopped = core::mem::take(&mut state.is_stopped);
    if state.stop.take().is_some() {
        process.stop_queue.wake_all();
    }
    was_stopped
}

fn enqueue(
    process: &Process,
    state: &mut SignalState,
    to: Target<'_>,
    info: &SigInfo,
) -> Result<()> {
    let signal = info.signal;
    // The dead take none, and keep none: nobody can say how long they stay.
    if state.threads.is_empty() || is_dropped(process, state, to.thread(), signal) {
        return Ok(());
    }
    if signal == Signal::KILL {
        state.kills += 1;
        start_exit(process, state, i32::from(signal.number()));
        return Ok(());
    }
    let is_full = signal.is_realtime() && is_full(process, state);
    let queued = match to {
        Target::Thread(thread) => thread.private.lock().push(*info, is_full),
        Target::Process(_) => state.shared.push(*info, is_full),
    };
    if queued == Queued::Refused {
        return Err(Errno::EAGAIN);
    }
    let taker = match to {
        Target::Thread(thread) => Some(thread),
        Target::Process(Some(thread)) if wants(thread, signal) => Some(thread),
        Target::Process(_) => choose(state, signal),
    };
    match taker {
        // It will not come to take the signal, and dies of it all the same.
        Some(thread)
            if thread.freeze.load(Ordering::SeqCst)
                && !thread.blocked().contains(signal)
                && is_deadly(process, signal) =>
        {
            start_exit(process, state, i32::from(signal.number()));
        }
        Some(thread) if thread.listens_to(signal) => thread.notify(),
        _ => {}
    }
    Ok(())
}

/// Whether the signal does nothing but end the process: no handler, no core.
fn is_deadly(process: &Process, signal: Signal) -> bool {
    let action = process.actions().lock().get(signal);
    action.disposition == Disposition::Default
        && matches!(signal.default_action(), Default::Terminate)
}

/// Whether the process may queue no more (RLIMIT_SIGPENDING), or memory is needed for other things.
fn is_full(process: &Process, state: &SignalState) -> bool {
    let own = state
        .threads
        .iter()
        .map(|thread| thread.private.lock().len());
    let queued = state.shared.len() + own.sum::<usize>();
    queued as u64 >= process.limits().soft(Resource::PendingSignals)
        || machine::frame::at_hand() < memory::pressure::RESERVE_FRAMES
}

/// Whether the signal has no effect at all. A blocked signal stays pending: its action may change.
fn is_dropped(
    process: &Process,
    state: &SignalState,
    to: Option<&Arc<Thread>>,
    signal: Signal,
) -> bool {
    let action = process.actions().lock().get(signal);
    let is_init = process.is_init.load(Ordering::Relaxed);
    let forced = is_init && signal.is_unmaskable() && comes_from_above(process);
    let fatal_for_init = is_init
        && !forced
        && action.disposition == Disposition::Default
        && signal.default_action() != Default::Ignore;
    if fatal_for_init {
        return true;
    }
    let taker = to.or_else(|| state.threads.first());
    let is_blocked = taker.is_some_and(|thread| thread.blocked().contains(signal));
    // A tracer is shown also what would be ignored.
    let is_shown = taker.is_some_and(|thread| thread.is_traced());
    !is_blocked && !is_shown && action.ignores(signal)
}

/// Whether who sends is outside the target's PID namespace: only that can kill its init.
fn comes_from_above(target: &Process) -> bool {
    let namespace = target.pid_namespace();
    let inside = |caller: Arc<Thread>| caller.process().pid_namespace().is_within(namespace);
    !namespace.is_initial() && !thread::current().is_some_and(inside)
}

/// The thread to wake for a signal to the process: the first if it does not block it, else any.
fn choose(state: &SignalState, signal: Signal) -> Option<&Arc<Thread>> {
    let mut threads = state.threads.iter();
    threads.find(|thread| wants(thread, signal))
}

fn wants(thread: &Thread, signal: Signal) -> bool {
    thread.listens_to(signal) && !thread.exiting.load(Ordering::Relaxed)
}

/// All threads of the process are to exit; the first call decides the status.
pub(crate) fn start_exit(process: &Process, state: &mut SignalState, status: i32) {
    if state.exit.is_none() {
        state.exit = Some(status);
    }
    state.stop = None;
    process.stop_queue.wake_all();
    for thread in state.threads.iter() {
        thread.notify_of_end();
    }
}
