//! The signal state of a process: its threads, what is pending for all of them, stop and exit.

use alloc::sync::Arc;

use abi::Result;
use fs::Capabilities;

use super::threads::Threads;
use super::{Action, Queue, Signal, SignalSet};
use crate::Process;
use crate::pid::PidNumber;
use crate::thread::Thread;
use crate::tree::Tree;

/// Locked as one; see [`super`].
#[derive(Debug, Default)]
pub struct SignalState {
    /// Living threads, oldest first.
    pub(crate) threads: Threads,
    /// Signals for whichever thread takes them.
    pub(crate) shared: Queue,
    /// All threads are to exit, and the process with this wait status.
    pub(crate) exit: Option<i32>,
    /// All threads but this one are to exit: it calls exec.
    pub(crate) exec: Option<PidNumber>,
    /// The process is stopped, or its threads are on their way to it, by this signal.
    pub(crate) stop: Option<Signal>,
    /// The stop is complete and was reported.
    pub(crate) is_stopped: bool,
    /// How often SIGCONT came: a stop that was decided on before one is void.
    pub(crate) continues: u64,
    /// Threads that wait for the end of the stop.
    pub(crate) parked: usize,
    /// How often a signal came that was sent to several processes at once: a child that was being made
    /// meanwhile was not among them, so it is made again behind it.
    pub(crate) multi: u64,
}

impl SignalState {
    /// Whether `thread` has something to do before user code runs.
    pub(crate) fn has_work(&self, thread: &Thread) -> bool {
        self.must_exit(thread) || self.stop.is_some() || !self.ready(thread).is_empty()
    }

    /// The signal of a stop that all threads have come to, and that is not complete yet.
    pub(crate) fn complete_stop(&self) -> Option<Signal> {
        let is_due = !self.is_stopped && self.parked == self.threads.len();
        self.stop.filter(|_| is_due)
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

/// Signals pending for `thread` alone, and for its process.
#[must_use]
pub fn pending(thread: &Thread) -> (SignalSet, SignalSet) {
    let state = thread.process().signals.lock();
    let private = thread.private.lock().set();
    (private, state.shared.set())
}

/// Sets the calling thread's mask; the one before.
pub fn set_mask(thread: &Thread, mask: SignalSet) -> SignalSet {
    let state = thread.process().signals.lock();
    let old = thread.blocked();
    thread.store_blocked(mask);
    if state.has_work(thread) {
        thread.notify();
    }
    // Signals that this thread now blocks are for others to take.
    let newly_blocked = mask.without(old).intersection(state.shared.set());
    if !newly_blocked.is_empty() {
        for other in state.threads.iter() {
            if !state.ready(other).is_empty() {
                other.notify();
            }
        }
    }
    old
}

/// Sets the mask for the time of one call (sigsuspend(2), ppoll(2) and kin): the signal that ends the
/// wait is delivered under it, and the mask before returns behind its handler. The caller either lets
/// delivery restore it (it returns a restart code) or calls [`restore_mask`].
pub fn set_temporary_mask(thread: &Thread, mask: SignalSet) {
    let old = set_mask(thread, mask);
    *thread.saved_mask.lock() = Some(old);
}

/// Undoes [`set_temporary_mask`] when the call was not interrupted.
pub fn restore_mask(thread: &Thread) {
    let saved = thread.saved_mask.lock().take();
    if let Some(mask) = saved {
        set_mask(thread, mask);
    }
}

/// sigaction(2): sets and returns an action.
pub fn set_action(process: &Process, signal: Signal, action: Option<Action>) -> Action {
    let mut state = process.signals.lock();
    let actions = process.actions();
    let Some(action) = action else {
        return actions.lock().get(signal);
    };
    let action = Action {
        mask: action.mask.without(SignalSet::UNMASKABLE),
        ..action
    };
    let old = actions.lock().set(signal, action);
    if action.ignores(signal) {
        let set = SignalSet::of(signal);
        state.shared.discard(set);
        for thread in state.threads.iter() {
            thread.private.lock().discard(set);
        }
    }
    old
}

/// The signals `process` ignores and those it catches.
#[must_use]
pub fn ignored_and_caught(process: &Process) -> (SignalSet, SignalSet) {
    process.actions().lock().ignored_and_caught()
}

/// Whether `sender` may signal `target` (kill(2)).
///
/// # Errors
/// `EPERM`.
pub fn check_permission(
    tree: &Tree,
    sender: &Thread,
    target: &Process,
    signal: Option<Signal>,
) -> Result<()> {
    let from = sender.credentials();
    let Some(to) = target.credentials() else {
        return Ok(());
    };
    let same_user = [from.uid, from.euid]
        .iter()
        .any(|id| *id == to.uid || *id == to.suid);
    let session = |process: &Process| process.known(tree).map(|node| Arc::as_ptr(node.session()));
    let same_session_cont =
        signal == Some(Signal::CONT) && session(sender.process()) == session(target);
    let own = core::ptr::eq(Arc::as_ptr(sender.process()), target);
    if own
        || same_user
        || same_session_cont
        || from.ns_capable(&to.user_namespace, Capabilities::KILL)
    {
        Ok(())
    } else {
        Err(abi::Errno::EPERM)
    }
}
