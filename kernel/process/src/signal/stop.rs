//! Stopping and continuing a process (job control).
//!
//! The thread that takes a stop signal sets `stop`; every thread parks on its way to user mode; the
//! last one to park completes the stop and tells the parent. SIGCONT and SIGKILL end it when sent.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use fs::Kuid;

use super::post::{Target, deliver_to};
use super::{Disposition, Flags, Payload, SigInfo, Signal, code};
use crate::task::cgroup::freezer;
use crate::task::pid::Pid;
use crate::task::process::Process;
use crate::task::relations;
use crate::task::signals::SignalState;
use crate::task::thread::Thread;
use crate::task::traced::TraceFlags;
use crate::task::tree::{self, Tree};
use crate::usage::ticks;

/// Starts a stop. Called with `signal` just taken from a queue and the state locked.
pub(super) fn begin(state: &mut SignalState, signal: Signal) {
    if state.stop.is_some() {
        return;
    }
    state.stop = Some(signal);
    for thread in state.threads.iter() {
        notify_of_change(thread);
        thread.notify();
    }
}

/// A stop of the process has begun or ended: a seized thread, which may be stopped for its tracer, stops anew for it.
/// The signal state is locked.
pub(super) fn notify_of_change(thread: &Thread) {
    if let Some(traced) = &*thread.traced.lock() {
        // It may wait for that (`leave_job_stop`).
        traced.tracer.process().child_events.wake_all();
    }
    if thread.trace_flags().contains(TraceFlags::SEIZED) {
        request_trap(thread, TraceFlags::NOTIFY);
    }
}

/// Has a seized thread stop for its tracer. The signal state is locked.
pub(crate) fn request_trap(thread: &Thread, flag: TraceFlags) {
    thread.add_trace_flags(flag);
    thread.notify();
    // Not another reference, which could be the last.
    if let Some(traced) = &*thread.traced.lock()
        && traced.state.lock().is_listening
    {
        traced.resume(|_| None);
    }
}

/// Waits with the other threads until the stop ends.
pub(super) fn park(thread: &Arc<Thread>) {
    let process = thread.process();
    // Who is stopped is as good as frozen.
    freezer::enter(thread);
    set_parked(thread, true);
    complete_if_all_parked(process);
    process.stop_queue.wait_until(|| {
        let state = process.signals.lock();
        // Who begins to trace it finds it in a stop for tracers.
        let is_over = state.stop.is_none() || state.must_exit(thread) || thread.is_traced();
        is_over.then_some(())
    });
    set_parked(thread, false);
    freezer::leave(thread);
}

fn set_parked(thread: &Thread, is_parked: bool) {
    let mut state = thread.process().signals.lock();
    thread.parked.store(is_parked, Ordering::SeqCst);
    state.parked = if is_parked {
        state.parked + 1
    } else {
        state.parked - 1
    };
}

/// Completes a stop when no thread is left to park. Also called when a thread exits.
pub(crate) fn complete_if_all_parked(process: &Arc<Process>) {
    if process.signals.lock().complete_stop().is_none() {
        return;
    }
    // With the tree locked, too: a SIGCONT that comes now is reported behind the stop, not before it.
    let mut tree = tree::lock();
    let mut state = process.signals.lock();
    let Some(signal) = state.complete_stop() else {
        return;
    };
    state.is_stopped = true;
    drop(state);
    let number = i32::from(signal.number());
    relations::report_stop(&mut tree, process, Some(signal));
    // A parent that traces it hears of the stops of its threads.
    if relations::tracer_of(&tree, process).is_none() || relations::is_death_held(&tree, process) {
        tell_parent(&tree, process, code::CLD_STOPPED, number);
    }
}

/// Tells the parent that a stopped process goes on.
pub(super) fn report_continued(tree: &mut Tree, process: &Arc<Process>) {
    relations::report_stop(tree, process, None);
    let number = i32::from(Signal::CONT.number());
    tell_parent(tree, process, code::CLD_CONTINUED, number);
}

fn tell_parent(tree: &Tree, process: &Process, code: i32, status: i32) {
    let Some(parent) = process.known(tree).and_then(|node| node.parent()) else {
        return;
    };
    let info = || child_info(process, parent, code, status);
    tell(parent, info);
}

/// Tells the tracer that `thread` has stopped.
pub(crate) fn tell_tracer(tree: &Tree, thread: &Thread, tracer: &Thread, code: i32, status: i32) {
    let tracer = tracer.process();
    let pid = thread.pid_in(tree);
    tell(tracer, || {
        info_of(thread.process(), pid, tracer, code, status)
    });
}

/// Tells the tracer that `thread` has ended.
pub(crate) fn tell_tracer_of_end(
    tree: &Tree,
    thread: &Thread,
    tracer: &Thread,
    code: i32,
    status: i32,
) {
    let (process, tracer) = (thread.process(), tracer.process());
    let info = info_of(process, thread.pid_in(tree), tracer, code, status);
    // A standard signal always finds room.
    let _ = deliver_to(tracer, Target::Process(None), &info);
    tracer.child_events.wake_all();
}

fn tell(parent: &Arc<Process>, info: impl FnOnce() -> SigInfo) {
    let action = parent.actions().lock().get(Signal::CHLD);
    let wanted =
        action.disposition != Disposition::Ignore && !action.flags.contains(Flags::NOCLDSTOP);
    if wanted {
        // A standard signal always finds room, and SIGCHLD ends no stop that would have to be reported.
        let _ = deliver_to(parent, Target::Process(None), &info());
    }
    parent.child_events.wake_all();
}

/// The SIGCHLD that tells `parent` about `process`.
pub(crate) fn child_info(process: &Process, parent: &Process, code: i32, status: i32) -> SigInfo {
    info_of(process, process.pid(), parent, code, status)
}

fn info_of(process: &Process, pid: &Pid, parent: &Process, code: i32, status: i32) -> SigInfo {
    let usage = process.cpu_usage();
    let uid = process
        .credentials()
        .map_or(Kuid::ROOT, |credentials| credentials.uid);
    SigInfo {
        signal: Signal::CHLD,
        errno: 0,
        code,
        payload: Payload::Child {
            pid: parent.shown(pid),
            uid: parent.shown_uid(uid),
            status,
            utime: ticks(usage.user_ns).cast_signed(),
            stime: ticks(usage.system_ns).cast_signed(),
        },
    }
}
