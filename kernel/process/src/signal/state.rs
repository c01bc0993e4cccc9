//! Masks, actions and what is pending, as calls ask for and change them; who may signal whom.
//!
//! They act on a process's [`SignalState`](crate::task::signals::SignalState), which they lock.

use alloc::sync::Arc;

use abi::Result;
use fs::Capabilities;

use super::action::Action;
use super::number::{Signal, SignalSet};
use crate::task::process::Process;
use crate::task::thread::Thread;
use crate::task::tree::Tree;

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
