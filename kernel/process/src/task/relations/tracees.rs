//! Who traces whom. A tracer is a thread; its process has the list, which wait(2) goes through.
//!
//! Under the tree's lock, and the signal state's of the traced thread for its flags.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};

use crate::task::process::Process;
use crate::task::thread::Thread;
use crate::task::traced::{TraceFlags, Traced};
use crate::task::tree::Tree;

/// Those that threads of `tracer` trace, the youngest first, dead ones that it was not told of included.
pub(crate) fn tracees<'a>(
    tree: &'a Tree,
    tracer: &'a Process,
) -> impl Iterator<Item = &'a Arc<Thread>> {
    tracer.node.get(tree).tracees.iter().rev()
}

/// Makes room for one more that `tracer` traces.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn reserve_tracee(tree: &mut Tree, tracer: &Process) -> Result<()> {
    Ok(tracer.node.get_mut(tree).tracees.try_reserve(1)?)
}

/// From here on `tracee` is traced.
///
/// # Errors
/// `EPERM` when it is already, or one of the two is ending; `ENOMEM`.
pub(crate) fn trace(
    tree: &mut Tree,
    traced: &Arc<Traced>,
    tracee: &Arc<Thread>,
    flags: TraceFlags,
) -> Result<()> {
    let tracer = &traced.tracer;
    reserve_tracee(tree, tracer.process())?;
    if !is_alive(tracee) || tracee.is_traced() || !claim_tracer(tracer) {
        return Err(Errno::EPERM);
    }
    // There is room.
    let list = &mut tracer.process().node.get_mut(tree).tracees;
    list.try_push(tracee.clone())?;
    *tracee.traced.lock() = Some(traced.clone());
    let state = tracee.process().signals.lock();
    tracee.add_trace_flags(flags.union(TraceFlags::TRACED));
    drop(state);
    Ok(())
}

fn is_alive(thread: &Arc<Thread>) -> bool {
    let state = thread.process().signals.lock();
    let found = state.threads.at(thread.place());
    found.is_some_and(|found| Arc::ptr_eq(found, thread))
}

/// Whether the tracer lives; then it will look, at its end, for whom it traces.
fn claim_tracer(tracer: &Arc<Thread>) -> bool {
    let state = tracer.process().signals.lock();
    let found = state.threads.at(tracer.place());
    let is_alive = found.is_some_and(|found| Arc::ptr_eq(found, tracer));
    if is_alive {
        tracer.is_tracer.store(true, Ordering::SeqCst);
    }
    is_alive
}

/// `tracee` is no longer traced. It still stands where it was stopped: that is for the caller to end. What comes back is
/// for dropping without the lock.
pub(crate) fn untrace(tree: &mut Tree, tracee: &Arc<Thread>) -> Option<Arc<Traced>> {
    let traced = tracee.traced.lock().take()?;
    let list = &mut traced.tracer.process().node.get_mut(tree).tracees;
    if let Some(index) = list.iter().position(|other| Arc::ptr_eq(other, tracee)) {
        // Not the last reference: the caller has one.
        drop(list.remove(index));
    }
    let mut state = tracee.process().signals.lock();
    // Its trap flag is still set, and is taken back when it traps.
    let old = tracee.clear_trace_flags(TraceFlags::FORCED_TRAP.complement());
    if old.contains(TraceFlags::LEFT_STOP) {
        state.parked -= 1;
    }
    if state.stop.is_some() {
        tracee.notify();
    }
    drop(state);
    Some(traced)
}

/// Whether wait(2) has to leave the death of `process` to a tracer first: its first thread is traced, by another than
/// its parent, or one of its threads is dead and its tracer was not told.
pub(crate) fn is_death_held(tree: &Tree, process: &Process) -> bool {
    let node = process.node.get(tree);
    if node.untold_threads > 0 {
        return true;
    }
    let tracer = tracer_of(tree, process);
    tracer.is_some_and(|tracer| {
        let parent = node.parent();
        !parent.is_some_and(|parent| Arc::ptr_eq(parent, tracer.process()))
    })
}

/// Who traces the first thread of `process`.
pub(crate) fn tracer_of(tree: &Tree, process: &Process) -> Option<Arc<Thread>> {
    process.pid().thread(tree)?.tracer()
}
