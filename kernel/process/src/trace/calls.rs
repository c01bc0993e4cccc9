//! The stops of a traced thread around system calls, and at events in them.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::Errno;
use machine::user_mode::UserContext;

use super::Event;
use super::stop::{Ended, NO_CALL, Wanted, stop};
use crate::clone::CloneArgs;
use crate::clone::flags::CloneFlags;
use crate::own::Own;
use crate::restart::Interrupted;
use crate::signal::{SigInfo, Signal, code, send};
use crate::task::pid::Pid;
use crate::task::thread::Thread;
use crate::task::traced::{TraceFlags, TraceOptions};
use crate::user_loop::SyscallEntry;

/// What PTRACE_GETEVENTMSG answers at the entry to a system call, and behind it.
const AT_ENTRY: u64 = 1;
const AT_EXIT: u64 = 2;
/// Told beside the signal of a system-call stop, with PTRACE_O_TRACESYSGOOD.
const SYSCALL_MARK: i32 = 0x80;
const SIGRETURN: u64 = 15;
const EXECVE: u64 = 59;

/// Makes the system call in `user`'s registers, with the stops that its tracer has asked for around it.
#[cold]
pub(crate) fn around_call(
    thread: &Arc<Thread>,
    own: &mut Own,
    user: &mut UserContext,
    entry: SyscallEntry,
) -> Option<Interrupted> {
    let mut number = user.regs.rax;
    let flags = thread.trace_flags();
    user.regs.rax = Errno::ENOSYS.to_return_value();
    let mut is_made = true;
    if flags.intersects(TraceFlags::SYSCALL | TraceFlags::EMULATE) {
        let ended = call_stop(thread, user, &mut number, AT_ENTRY);
        is_made = !flags.contains(TraceFlags::EMULATE) && !matches!(ended, Ended::Dying);
    }
    let mut interrupted = None;
    if is_made && !is_none(number) {
        user.regs.rax = number;
        interrupted = entry(thread, own, user);
        if number == SIGRETURN {
            number = NO_CALL;
        }
    }
    let flags = thread.trace_flags();
    if flags.contains(TraceFlags::STEP) {
        // The instruction behind which it is to stop was the call's.
        send::force(thread, &SigInfo::fault(Signal::TRAP, code::TRAP_BRKPT, 0));
    } else if flags.contains(TraceFlags::SYSCALL) {
        call_stop(thread, user, &mut number, AT_EXIT);
        interrupted = Interrupted::from_registers(number, user.regs.rax);
    }
    interrupted
}

/// Whether the tracer wants no call made, but for the result what it has put there. The lower half counts.
fn is_none(number: u64) -> bool {
    const LOWER: u64 = 0xffff_ffff;
    number & LOWER == LOWER
}

fn call_stop(
    thread: &Arc<Thread>,
    user: &mut UserContext,
    number: &mut u64,
    message: u64,
) -> Ended {
    let options = thread.traced().map(|traced| traced.options());
    let is_marked = options.is_some_and(|options| options.contains(TraceOptions::TRACESYSGOOD));
    let mark = if is_marked { SYSCALL_MARK } else { 0 };
    let code = i32::from(Signal::TRAP.number()) | mark;
    let ended = stop(thread, user, number, &Wanted::trap(thread, code, message));
    if let Ended::Resumed(resumed) = &ended
        && let Some(signal) = resumed.signal
    {
        // A standard signal always finds room; a lost realtime one carries nothing.
        let _ = send::to_thread(thread, &SigInfo::kernel(signal));
    }
    ended
}

/// Whether the tracer wants to hear of `event`.
fn wants(thread: &Thread, event: Event) -> bool {
    let traced = thread.traced();
    traced.is_some_and(|traced| traced.options().contains(event.option()))
}

/// Stops for `event`, if the tracer wants to hear of it; whether the thread may go on.
fn event_stop(
    thread: &Arc<Thread>,
    user: &mut UserContext,
    number: &mut u64,
    (event, message): (Event, u64),
) -> bool {
    if !wants(thread, event) {
        return false;
    }
    let wanted = Wanted {
        is_at_end: event == Event::Exit,
        ..Wanted::trap(thread, event.code(Signal::TRAP), message)
    };
    matches!(stop(thread, user, number, &wanted), Ended::Resumed(_))
}

/// Stops in a system call that goes on behind it and sets its own result.
fn stop_in_call(thread: &Arc<Thread>, user: &mut UserContext, event: Event, message: u64) {
    if !thread.is_traced() {
        return;
    }
    let mut number = user.regs.rax;
    user.regs.rax = Errno::ENOSYS.to_return_value();
    event_stop(thread, user, &mut number, (event, message));
    user.regs.rax = number;
}

/// What its tracer calls `pid`.
fn shown_to_tracer(thread: &Thread, pid: &Pid) -> u64 {
    let shown = thread.tracer().map(|tracer| tracer.process().shown(pid));
    u64::try_from(shown.unwrap_or(0)).unwrap_or(0)
}

/// The event that a new thread or process is to a tracer.
pub(super) fn event_of(args: &CloneArgs) -> Option<Event> {
    if args.flags.contains(CloneFlags::UNTRACED) {
        return None;
    }
    Some(if args.flags.contains(CloneFlags::VFORK) {
        Event::Vfork
    } else if args.exit_signal == Some(Signal::CHLD) {
        Event::Fork
    } else {
        Event::Clone
    })
}

/// Whether the tracer of `thread` traces what it makes, too.
pub(super) fn follows(thread: &Thread, args: &CloneArgs) -> bool {
    args.flags.contains(CloneFlags::PTRACE)
        || event_of(args).is_some_and(|event| wants(thread, event))
}

/// The calling thread has made another one.
pub(crate) fn new_child_stop(
    thread: &Arc<Thread>,
    user: &mut UserContext,
    args: &CloneArgs,
    child: &Pid,
) {
    if let Some(event) = event_of(args) {
        let message = shown_to_tracer(thread, child);
        stop_in_call(thread, user, event, message);
    }
}

/// The child of vfork(2) has let go of the memory.
pub(crate) fn vfork_done_stop(thread: &Arc<Thread>, user: &mut UserContext, child: &Pid) {
    let message = shown_to_tracer(thread, child);
    stop_in_call(thread, user, Event::VforkDone, message);
}

/// A new program is in place; `before` is what went for its id.
pub(crate) fn exec_stop(thread: &Arc<Thread>, user: &mut UserContext, before: &Pid) {
    if !thread.is_traced() {
        return;
    }
    let message = shown_to_tracer(thread, before);
    if wants(thread, Event::Exec) {
        let mut number = EXECVE;
        user.regs.rax = Errno::ENOSYS.to_return_value();
        event_stop(thread, user, &mut number, (Event::Exec, message));
        user.regs.rax = 0;
    } else if !thread.trace_flags().contains(TraceFlags::SEIZED) {
        let info = SigInfo::user(Signal::TRAP, thread.tid(), 0);
        // A standard signal always finds room.
        let _ = send::to_thread(thread, &info);
    }
}

/// The thread is about to end.
pub(crate) fn exit_stop(thread: &Arc<Thread>, user: &mut UserContext) {
    if !thread.is_traced() {
        return;
    }
    let of_all = thread.process().signals.lock().exit;
    let status = of_all.unwrap_or_else(|| thread.exit_status.load(Ordering::Relaxed));
    let message = u64::from(status.cast_unsigned());
    event_stop(thread, user, &mut { NO_CALL }, (Event::Exit, message));
}

/// A filter has said SECCOMP_RET_TRACE with `data` of system call `number`: the number that the tracer leaves, of which
/// `u64::MAX` is for no call, with the result in `user`'s registers. `None` when no tracer wants to hear of it.
pub fn seccomp_stop(
    thread: &Arc<Thread>,
    user: &mut UserContext,
    mut number: u64,
    data: u16,
) -> Option<u64> {
    if !thread.is_traced() || !wants(thread, Event::Seccomp) {
        return None;
    }
    user.regs.rax = Errno::ENOSYS.to_return_value();
    let goes_on = event_stop(thread, user, &mut number, (Event::Seccomp, data.into()));
    let is_made = goes_on && !is_none(number);
    Some(if is_made { number } else { u64::MAX })
}
