//! Sending signals: to a thread, a process, a group, everyone.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};

use super::state::{SignalState, check_permission};
use super::{Default, Disposition, SigInfo, Signal, SignalSet, stop};
use crate::rlimit::Resource;
use crate::signal::queue::Queued;
use crate::thread::Thread;
use crate::{Pid, Process, tree};

/// Sends `info` to a process: any thread that does not block it may take it.
///
/// # Errors
/// `EAGAIN` when a queued (sigqueue) signal finds no room.
pub fn to_process(process: &Arc<Process>, info: &SigInfo) -> Result<()> {
    send(process, None, info)
}

/// Sends `info` to one thread.
///
/// # Errors
/// `EAGAIN` when a queued (sigqueue) signal finds no room.
pub fn to_thread(thread: &Arc<Thread>, info: &SigInfo) -> Result<()> {
    send(thread.process(), Some(thread), info)
}

/// Has an instruction's fault delivered to the thread that ran it: a blocked or ignored signal
/// is forced to its default.
pub fn force(thread: &Arc<Thread>, info: &SigInfo) {
    let process = thread.process();
    {
        let state = process.signals.lock();
        let actions = process.actions();
        let mut actions = actions.lock();
        let action = actions.get(info.signal);
        let blocked = thread.blocked();
        let is_blocked = blocked.contains(info.signal);
        if is_blocked || action.disposition == Disposition::Ignore {
            actions.set(info.signal, super::Action::default());
            process.is_init.store(false, Ordering::Relaxed);
        }
        if is_blocked {
            thread.store_blocked(blocked.without(SignalSet::of(info.signal)));
        }
        if action.disposition == Disposition::Default {
            // Even PID 1 cannot go on from here.
            process.is_init.store(false, Ordering::Relaxed);
        }
        drop(actions);
        thread.private.lock().push(*info, false);
        drop(state);
    }
    thread.notify();
}

/// Sends a signal of the kernel's own to every member of a group; whether there was one.
pub fn to_group(group: Pid, info: &SigInfo) -> bool {
    let members = tree::lock().group_members(group);
    for member in &members {
        // A standard signal always finds room.
        let _ = to_process(member, info);
    }
    !members.is_empty()
}

/// kill(2): `pid` as there and as the sender's PID namespace counts, `signal` `None` only checks.
///
/// # Errors
/// `ESRCH`, `EPERM`, `EAGAIN`.
pub fn kill(
    sender: &Thread,
    pid: Pid,
    signal: Option<Signal>,
    info: Option<&SigInfo>,
) -> Result<()> {
    let namespace = sender.process().pid_namespace();
    let members = |group| match namespace.find(group) {
        Some(group) => tree::lock().group_members(group),
        None => Vec::new(),
    };
    let targets = match pid {
        1.. => namespace
            .find(pid)
            .and_then(tree::process)
            .into_iter()
            .collect(),
        0 => tree::lock().group_members(sender.process().group_id()),
        -1 => everyone_but(sender.process()),
        Pid::MIN => return Err(Errno::ESRCH),
        _ => members(-pid),
    };
    if targets.is_empty() {
        return Err(Errno::ESRCH);
    }
    let mut result = Err(Errno::EPERM);
    for target in &targets {
        let sent = kill_one(sender, target, signal, info);
        if result.is_err() {
            result = sent;
        }
    }
    result
}

fn everyone_but(process: &Process) -> Vec<Arc<Process>> {
    let mut all = tree::processes();
    let namespace = process.pid_namespace();
    // An init is spared, as everywhere; what the caller does not see, it does not reach.
    all.retain(|other| namespace.shown(other.pid()) > 1 && other.pid() != process.pid());
    all
}

fn kill_one(
    sender: &Thread,
    target: &Arc<Process>,
    signal: Option<Signal>,
    info: Option<&SigInfo>,
) -> Result<()> {
    check_permission(sender, target, signal)?;
    let Some(signal) = signal else {
        return Ok(());
    };
    let pid = target.shown(sender.process().pid());
    let own = SigInfo::user(signal, pid, sender.credentials().uid);
    to_process(target, info.unwrap_or(&own))
}

fn send(process: &Arc<Process>, to: Option<&Arc<Thread>>, info: &SigInfo) -> Result<()> {
    let mut state = process.signals.lock();
    if state.exit.is_some() || state.threads.is_empty() {
        return Ok(());
    }
    let continued = prepare(process, &mut state, info.signal);
    let result = enqueue(process, &mut state, to, info);
    drop(state);
    process.signal_arrived.wake_all();
    if continued {
        stop::report_continued(process);
    }
    result
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
    for thread in &state.threads {
        thread.private.lock().discard(cancelled);
    }
    if signal != Signal::CONT {
        return false;
    }
    state.continues += 1;
    stop::end(process, state)
}

fn enqueue(
    process: &Process,
    state: &mut SignalState,
    to: Option<&Arc<Thread>>,
    info: &SigInfo,
) -> Result<()> {
    let signal = info.signal;
    if is_dropped(process, state, to, signal) {
        return Ok(());
    }
    if signal == Signal::KILL {
        start_exit(process, state, i32::from(signal.number()));
        return Ok(());
    }
    let is_full = signal.is_realtime() && is_full(process, state);
    let queued = match to {
        Some(thread) => thread.private.lock().push(*info, is_full),
        None => state.shared.push(*info, is_full),
    };
    if queued == Queued::Refused {
        return Err(Errno::EAGAIN);
    }
    let taker = match to {
        Some(thread) => Some(thread),
        None => choose(state, signal),
    };
    if let Some(thread) = taker
        && thread.listens_to(signal)
    {
        thread.notify();
    }
    Ok(())
}

/// Whether the process may queue no more (RLIMIT_SIGPENDING), or memory is needed for other things.
fn is_full(process: &Process, state: &SignalState) -> bool {
    let own = state
        .threads
        .iter()
        .map(|thread| thread.private.lock().len());
    let queued = state.shared.len() + own.sum::<usize>();
    queued as u64 >= process.limits().soft(Resource::PendingSignals)
        || machine::frame::free() < memory::pressure::RESERVE_FRAMES
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
    !is_blocked && action.ignores(signal)
}

/// Whether who sends is outside the target's PID namespace: only that can kill its init.
fn comes_from_above(target: &Process) -> bool {
    let namespace = target.pid_namespace();
    let inside = |caller: Arc<Thread>| caller.process().pid_namespace().is_within(namespace);
    !namespace.is_initial() && !crate::thread::current().is_some_and(inside)
}

/// The thread to wake for a signal to the process: the first if it does not block it, else any.
fn choose(state: &SignalState, signal: Signal) -> Option<&Arc<Thread>> {
    let wants = |thread: &&Arc<Thread>| {
        thread.listens_to(signal) && !thread.exiting.load(Ordering::Relaxed)
    };
    state.threads.iter().find(wants)
}

/// All threads of the process are to exit; the first call decides the status.
pub(crate) fn start_exit(process: &Process, state: &mut SignalState, status: i32) {
    if state.exit.is_none() {
        state.exit = Some(status);
    }
    state.stop = None;
    process.stop_queue.wake_all();
    for thread in &state.threads {
        thread.notify();
    }
}
