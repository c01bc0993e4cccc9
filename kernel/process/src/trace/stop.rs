//! A traced thread stops: it puts its registers down, tells its tracer and waits to be resumed.

use alloc::sync::Arc;

use machine::user_mode::UserContext;

use super::Event;
use crate::restart::Interrupted;
use crate::signal::{SigInfo, Signal, code, send, stop as job_stop};
use crate::task::cgroup::freezer;
use crate::task::thread::Thread;
use crate::task::traced::{Resumed, Stop, TraceFlags, Traced};
use crate::task::tree;

/// The trap flag: the CPU stops behind the next instruction.
pub(crate) const TRAP_FLAG: u64 = 1 << 8;
/// `orig_rax` outside of system calls.
pub(super) const NO_CALL: u64 = u64::MAX;

/// A stop, as the thread asks for it.
pub(super) struct Wanted {
    /// See [`Stop`].
    pub(super) code: i32,
    /// `si_code` of SIGCHLD.
    pub(super) kind: i32,
    pub(super) info: Option<SigInfo>,
    /// What PTRACE_GETEVENTMSG is to answer from now on.
    pub(super) message: Option<u64>,
    /// The thread is to end, and stops all the same: only another SIGKILL ends that.
    pub(super) is_at_end: bool,
}

/// How a stop came out.
pub(super) enum Ended {
    /// There was none: nobody traces the thread any more.
    NotTraced,
    /// The thread is to end.
    Dying,
    /// It goes on.
    Resumed(Resumed),
}

impl Wanted {
    /// A stop with SIGTRAP that the thread comes to by itself.
    pub(super) fn trap(thread: &Thread, code: i32, message: u64) -> Self {
        Self {
            code,
            kind: code::CLD_TRAPPED,
            info: Some(own_info(thread, Signal::TRAP, code)),
            message: Some(message),
            is_at_end: false,
        }
    }
}

/// What a stop that has no cause outside says: the thread itself.
fn own_info(thread: &Thread, signal: Signal, code: i32) -> SigInfo {
    let uid = thread.process().shown_uid(thread.credentials().uid);
    SigInfo {
        code,
        ..SigInfo::user(signal, thread.tid(), uid)
    }
}

/// Stops the calling thread until its tracer resumes it; `orig_rax` is what the tracer sees, and leaves, there.
pub(super) fn stop(
    thread: &Arc<Thread>,
    user: &mut UserContext,
    orig_rax: &mut u64,
    wanted: &Wanted,
) -> Ended {
    let Some(traced) = thread.traced() else {
        return Ended::NotTraced;
    };
    let is_at_end = wanted.is_at_end;
    put_down(thread, user, *orig_rax, &traced);
    let kills = match begin(thread, &traced, wanted) {
        Begun::Stopped(kills) => kills,
        Begun::NotTraced => {
            take_up(thread, user, orig_rax, &traced);
            return Ended::NotTraced;
        }
        Begun::Dying => {
            take_up(thread, user, orig_rax, &traced);
            return Ended::Dying;
        }
    };
    // Who is stopped is as good as frozen.
    freezer::enter_group(thread);
    if is_at_end {
        wait_at_end(thread, &traced, kills);
    } else {
        let resumed = || traced.state.lock().resumed.is_some().then_some(());
        thread.wait_killable(&traced.queue, resumed);
    }
    freezer::leave(thread);
    let resumed = {
        let mut state = traced.state.lock();
        // Still there when it was not resumed, but killed.
        state.stop = None;
        state.is_listening = false;
        state.resumed.take()
    };
    take_up(thread, user, orig_rax, &traced);
    if thread.needs_attention()
        && let Some(kernel) = thread.kernel()
    {
        // The wait has taken note of what the call that goes on now has yet to be interrupted by.
        kernel.interrupt();
    }
    resumed.map_or(Ended::Dying, Ended::Resumed)
}

/// As [`Thread::wait_killable`], of a thread that is to end: another SIGKILL ends the wait.
fn wait_at_end(thread: &Thread, traced: &Traced, kills: u64) {
    let resumed = || traced.state.lock().resumed.is_some().then_some(());
    while traced.queue.wait_interruptible(resumed).is_err() {
        if let Some(kernel) = thread.kernel() {
            kernel.clear_interrupt();
        }
        if thread.process().signals.lock().kills != kills {
            return;
        }
    }
}

/// How a stop begins.
enum Begun {
    /// It is there; how often SIGKILL had come by then.
    Stopped(u64),
    /// There is none, as [`Ended::NotTraced`].
    NotTraced,
    /// There is none, as [`Ended::Dying`].
    Dying,
}

/// The stop is there for the tracer, which is told.
fn begin(thread: &Arc<Thread>, traced: &Arc<Traced>, wanted: &Wanted) -> Begun {
    // With the tree locked, the tracer stays what it is.
    let tree = tree::lock();
    let is_current = |own: &Arc<Traced>| Arc::ptr_eq(own, traced);
    if !thread.traced.lock().as_ref().is_some_and(is_current) {
        return Begun::NotTraced;
    }
    let signals = thread.process().signals.lock();
    if !wanted.is_at_end && signals.is_ending(thread) {
        return Begun::Dying;
    }
    let mut state = traced.state.lock();
    state.resumed = None;
    state.is_listening = false;
    state.message = wanted.message.unwrap_or(state.message);
    state.stop = Some(Stop {
        code: wanted.code,
        info: wanted.info,
        is_told: false,
    });
    drop(state);
    let mut over = TraceFlags::TRAP;
    over.set(TraceFlags::NOTIFY, wanted.code >> 8 == Event::Stop as i32);
    thread.clear_trace_flags(over);
    let kills = signals.kills;
    drop(signals);
    job_stop::tell_tracer(
        &tree,
        thread,
        &traced.tracer,
        wanted.kind,
        wanted.code & 0x7f,
    );
    Begun::Stopped(kills)
}

/// Puts the registers where the tracer finds them.
fn put_down(thread: &Thread, user: &mut UserContext, orig_rax: u64, traced: &Traced) {
    let forced = thread.clear_trace_flags(TraceFlags::FORCED_TRAP | TraceFlags::STEP);
    if forced.contains(TraceFlags::FORCED_TRAP) {
        user.regs.rflags &= !TRAP_FLAG;
    }
    let mut state = traced.state.lock();
    let saved = &mut state.saved;
    saved.regs = user.regs;
    saved.orig_rax = orig_rax;
    saved.debug = user.debug;
    saved.is_fpu_changed = false;
    saved.fpu.clear();
    // Without memory the tracer sees no FPU state.
    let _ = saved.fpu.try_extend_from_slice(user.fpu_bytes());
}

/// Takes over what the tracer has made of them.
fn take_up(thread: &Thread, user: &mut UserContext, orig_rax: &mut u64, traced: &Traced) {
    let mut state = traced.state.lock();
    let saved = &mut state.saved;
    user.regs = saved.regs;
    *orig_rax = saved.orig_rax;
    user.debug = saved.debug;
    if saved.is_fpu_changed {
        // It was checked when the tracer gave it.
        let _ = user.set_fpu_bytes(&saved.fpu);
    }
    drop(state);
    let is_stepping = thread.trace_flags().contains(TraceFlags::STEP);
    if is_stepping && user.regs.rflags & TRAP_FLAG == 0 {
        user.regs.rflags |= TRAP_FLAG;
        thread.add_trace_flags(TraceFlags::FORCED_TRAP);
    }
}

/// The tracer is shown a signal that is about to be delivered; the one that is delivered instead. An interrupted system
/// call is made again or not as the tracer leaves the registers.
pub(crate) fn on_signal(
    thread: &Arc<Thread>,
    user: &mut UserContext,
    info: SigInfo,
    interrupted: &mut Option<Interrupted>,
) -> Option<SigInfo> {
    let wanted = Wanted {
        code: i32::from(info.signal.number()),
        kind: code::CLD_TRAPPED,
        info: Some(info),
        message: None,
        is_at_end: false,
    };
    let tracer = thread.tracer();
    let resumed = match stop_outside(thread, user, interrupted, &wanted) {
        Ended::NotTraced => return Some(info),
        // Its end stands before any signal.
        Ended::Dying => return None,
        Ended::Resumed(resumed) => resumed,
    };
    let signal = resumed.signal?;
    let info = match resumed.info {
        Some(info) if info.signal == signal => info,
        _ => sent_by(thread, tracer.as_deref(), signal),
    };
    if thread.blocked().contains(signal) && !signal.is_unmaskable() {
        // Meanwhile the tracer has blocked it.
        let _ = send::to_thread(thread, &info);
        return None;
    }
    Some(info)
}

/// A signal that comes from the tracer.
fn sent_by(thread: &Thread, tracer: Option<&Thread>, signal: Signal) -> SigInfo {
    let process = thread.process();
    let (pid, uid) = tracer.map_or((0, 0), |tracer| {
        let pid = process.shown(tracer.process().pid());
        (pid, process.shown_uid(tracer.credentials().uid))
    });
    SigInfo::user(signal, pid, uid)
}

/// As [`stop`], on the way to user mode.
fn stop_outside(
    thread: &Arc<Thread>,
    user: &mut UserContext,
    interrupted: &mut Option<Interrupted>,
    wanted: &Wanted,
) -> Ended {
    let mut orig_rax = interrupted.map_or(NO_CALL, |call| call.number);
    let ended = stop(thread, user, &mut orig_rax, wanted);
    *interrupted = Interrupted::from_registers(orig_rax, user.regs.rax);
    ended
}

/// Comes to the stop of the process, or to one that its tracer asked for (PTRACE_INTERRUPT).
pub(crate) fn stop_with_process(
    thread: &Arc<Thread>,
    user: &mut UserContext,
    interrupted: &mut Option<Interrupted>,
) {
    let (stop_signal, continues) = join_stop(thread);
    if stop_signal.is_some() {
        job_stop::complete_if_all_parked(thread.process());
    }
    let is_seized = thread.trace_flags().contains(TraceFlags::SEIZED);
    let signal = stop_signal.unwrap_or(Signal::TRAP);
    let (code, info) = if is_seized {
        let code = Event::Stop.code(signal);
        (code, Some(own_info(thread, signal, code)))
    } else {
        (i32::from(signal.number()), None)
    };
    let wanted = Wanted {
        code,
        kind: code::CLD_STOPPED,
        info,
        message: is_seized.then_some(0),
        is_at_end: false,
    };
    let ended = stop_outside(thread, user, interrupted, &wanted);
    if stop_signal.is_some() {
        leave_stop(thread, continues, matches!(ended, Ended::Resumed(_)));
    }
}

/// Counts the thread among those that have come to the stop of the process. Its signal, and what tells it from others.
fn join_stop(thread: &Thread) -> (Option<Signal>, u64) {
    let mut state = thread.process().signals.lock();
    if state.stop.is_some() {
        let old = thread.clear_trace_flags(TraceFlags::LEFT_STOP);
        if !old.contains(TraceFlags::LEFT_STOP) {
            state.parked += 1;
        }
    }
    (state.stop, state.continues)
}

/// The tracer has the thread run. As long as the same stop lasts it counts as one that has come to it.
fn leave_stop(thread: &Thread, continues: u64, is_resumed: bool) {
    let mut state = thread.process().signals.lock();
    let is_same = state.stop.is_some() && state.continues == continues;
    if is_resumed && is_same && thread.is_traced() {
        thread.add_trace_flags(TraceFlags::LEFT_STOP);
    } else {
        state.parked -= 1;
    }
}

/// A handler is about to run, whose frame is not to have the tracer's trap flag; whether that was set.
pub(crate) fn stops_stepping(thread: &Thread, user: &mut UserContext) -> bool {
    let old = thread.clear_trace_flags(TraceFlags::FORCED_TRAP | TraceFlags::STEP);
    if old.contains(TraceFlags::FORCED_TRAP) {
        user.regs.rflags &= !TRAP_FLAG;
    }
    old.contains(TraceFlags::STEP | TraceFlags::TRACED)
}

/// Who steps sees the first instruction of a handler.
pub(crate) fn on_handler(thread: &Arc<Thread>, user: &mut UserContext) {
    let code = i32::from(Signal::TRAP.number());
    let wanted = Wanted::trap(thread, code, 0);
    stop_outside(thread, user, &mut None, &wanted);
}

/// A debug exception with this status (DR6) has come; whether it is to become a signal. One that is left of a tracer that
/// is gone is not.
pub(crate) fn debug_exception(thread: &Thread, user: &mut UserContext, status: u32) -> bool {
    if let Some(traced) = thread.traced() {
        traced.state.lock().saved.debug_status = status.into();
        return true;
    }
    let is_left = thread
        .clear_trace_flags(TraceFlags::FORCED_TRAP)
        .contains(TraceFlags::FORCED_TRAP);
    if is_left {
        user.regs.rflags &= !TRAP_FLAG;
    }
    !is_left
}
