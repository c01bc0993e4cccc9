//! Taking signals synchronously: sigtimedwait(2), sigsuspend(2), signalfd.

use core::sync::atomic::Ordering;

use abi::{Errno, Result};

use super::{SigInfo, SignalSet};
use crate::signal::state;
use crate::task::signals::SignalState;
use crate::task::thread::Thread;

/// Takes a pending signal of `wanted`, blocked or not.
#[must_use]
pub fn take(thread: &Thread, wanted: SignalSet) -> Option<SigInfo> {
    let mut state = thread.process().signals.lock();
    take_locked(&mut state, thread, wanted)
}

pub(super) fn take_locked(
    state: &mut SignalState,
    thread: &Thread,
    wanted: SignalSet,
) -> Option<SigInfo> {
    let private = thread.private.lock().take(wanted);
    let mut info = private.or_else(|| state.shared.take(wanted))?;
    crate::timer::signal_taken(thread, &mut info);
    Some(info)
}

/// sigtimedwait(2): waits for a signal of `wanted`, up to `deadline_ns` of the monotonic clock.
///
/// # Errors
/// `EAGAIN` at the deadline, `EINTR` when another signal came.
pub fn timed_wait(thread: &Thread, wanted: SignalSet, deadline_ns: Option<u64>) -> Result<SigInfo> {
    let wanted = wanted.without(SignalSet::UNMASKABLE);
    if let Some(info) = take(thread, wanted) {
        return Ok(info);
    }
    // Blocked signals, too, wake this thread while they are awaited.
    thread.awaited.store(wanted.0, Ordering::SeqCst);
    let waited = sched::park(sched::Sleep::Interruptible, deadline_ns, || {
        take(thread, wanted)
    });
    thread.awaited.store(0, Ordering::SeqCst);
    match waited {
        Ok(info) => Ok(info),
        Err(errno) => match take(thread, wanted) {
            Some(info) => Ok(info),
            None if errno == Errno::ETIMEDOUT => Err(Errno::EAGAIN),
            None => Err(Errno::EINTR),
        },
    }
}

/// sigsuspend(2) under `mask`; pause(2) under the mask there is. Returns when a handler has been set up.
pub fn suspend(thread: &Thread, mask: SignalSet) -> Errno {
    state::set_temporary_mask(thread, mask);
    wait_for_any();
    Errno::ERESTARTNOHAND
}

/// Waits until a signal is to be delivered.
pub fn wait_for_any() {
    let never: Result<()> = sched::park(sched::Sleep::Interruptible, None, || None);
    debug_assert!(never.is_err(), "nothing else ends this sleep");
}
