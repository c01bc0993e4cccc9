//! Delivery: on its way to user mode a thread takes its signals and acts on each.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::Errno;
use machine::user_mode::UserContext;

use super::frame;
use super::{
    Action, Default, Disposition, Flags, SigInfo, Signal, SignalSet, code, post, send, stop, wait,
};
use crate::restart::{Interrupted, Restart};
use crate::signal::state;
use crate::task::cgroup::freezer;
use crate::task::process::Process;
use crate::task::signals::SignalState;
use crate::task::thread::Thread;
use crate::task::{relations, tree};
use crate::{core_dump, timer, trace};

/// What the user loop does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Run user code.
    Run,
    /// End the thread.
    Exit,
}

enum Step {
    Exit,
    Park,
    /// Its control group is frozen.
    Freeze,
    /// A signal for its tracer to see first.
    Show(SigInfo),
    Nothing,
    Again,
    /// A stop, unless SIGCONT has come more often than this by then.
    MaybeStop(Signal, u64),
    Handle(SigInfo, Action),
    /// The end of the process, and a core dump.
    Dump(SigInfo),
}

/// Does everything that stands between `thread` and user mode: exits, stops, signals, and the restart
/// of the system call that was interrupted.
pub fn deliver(
    thread: &Arc<Thread>,
    user: &mut UserContext,
    mut interrupted: Option<Interrupted>,
) -> Flow {
    loop {
        let mut step = next_step(thread);
        if let Step::Show(info) = step {
            step = match trace::on_signal(thread, user, info, &mut interrupted) {
                Some(info) => step_for(thread, &mut thread.process().signals.lock(), info),
                None => Step::Again,
            };
        }
        match step {
            Step::Exit => return Flow::Exit,
            Step::Park if thread.is_traced() => {
                trace::stop_with_process(thread, user, &mut interrupted);
            }
            Step::Park => stop::park(thread),
            Step::Freeze => freezer::park(thread),
            Step::Dump(info) => {
                core_dump::end_with_dump(thread, user, &info);
                return Flow::Exit;
            }
            Step::Again | Step::Show(_) => {}
            Step::MaybeStop(signal, continues) => stop_unless_orphaned(thread, signal, continues),
            Step::Handle(info, action) => {
                if let Some(call) = interrupted.take() {
                    restart_or_fail(user, call, action);
                }
                let is_stepping = trace::stops_stepping(thread, user);
                handle(thread, user, &info, action);
                if is_stepping {
                    trace::on_handler(thread, user);
                }
            }
            Step::Nothing if timer::look_if_due(thread) => {}
            Step::Nothing => {
                if let Some(call) = interrupted.take() {
                    restart(user, call);
                }
                if thread.saved_mask.lock().is_none() {
                    return Flow::Run;
                }
                // May unblock a signal: look again.
                state::restore_mask(thread);
            }
        }
    }
}

fn next_step(thread: &Arc<Thread>) -> Step {
    let process = thread.process();
    let mut state = process.signals.lock();
    if thread.exiting.load(Ordering::Relaxed) || state.must_exit(thread) {
        return Step::Exit;
    }
    if state.must_stop(thread) {
        return Step::Park;
    }
    if thread.freeze.load(Ordering::SeqCst) {
        return Step::Freeze;
    }
    let wanted = SignalSet::ALL.without(thread.blocked());
    let Some(info) = wait::take_locked(&mut state, thread, wanted) else {
        // Under the lock: whoever sends next sets it again.
        thread.attention.store(false, Ordering::SeqCst);
        if let Some(kernel) = thread.kernel() {
            kernel.clear_interrupt();
        }
        return Step::Nothing;
    };
    if thread.is_traced() && info.signal != Signal::KILL {
        return Step::Show(info);
    }
    step_for(thread, &mut state, info)
}

fn step_for(thread: &Arc<Thread>, state: &mut SignalState, info: SigInfo) -> Step {
    let process = thread.process();
    let signal = info.signal;
    let actions = process.actions();
    let mut actions = actions.lock();
    let action = actions.get(signal);
    match action.disposition {
        Disposition::Ignore => Step::Again,
        Disposition::Handler(_) => {
            if action.flags.contains(Flags::RESETHAND) {
                let reset = Action {
                    disposition: Disposition::Default,
                    ..action
                };
                actions.set(signal, reset);
            }
            Step::Handle(info, action)
        }
        Disposition::Default => match signal.default_action() {
            Default::Ignore | Default::Continue => Step::Again,
            // Never ignored; an init only has it pending when it came from above.
            Default::Stop if signal == Signal::STOP => {
                stop::begin(state, signal);
                Step::Again
            }
            _ if process.is_init.load(Ordering::Relaxed) => Step::Again,
            Default::Stop => Step::MaybeStop(signal, state.continues),
            Default::Terminate if signal.dumps_core() => Step::Dump(info),
            Default::Terminate => {
                post::start_exit(process, state, i32::from(signal.number()));
                Step::Exit
            }
        },
    }
}

fn is_in_orphaned_group(process: &Process) -> bool {
    let tree = tree::lock();
    let node = process.known(&tree);
    node.is_none_or(|node| relations::is_orphaned(&tree, node.group()))
}

/// Terminal stops do nothing to a group that nobody could continue.
fn stop_unless_orphaned(thread: &Thread, signal: Signal, continues: u64) {
    let process = thread.process();
    if is_in_orphaned_group(process) {
        return;
    }
    let mut state = process.signals.lock();
    if state.continues == continues && state.exit.is_none() {
        stop::begin(&mut state, signal);
    }
}

fn handle(thread: &Arc<Thread>, user: &mut UserContext, info: &SigInfo, action: Action) {
    let saved = thread.saved_mask.lock().take();
    let return_mask = saved.unwrap_or_else(|| thread.blocked());
    if frame::push(thread, user, info, action, return_mask).is_err() {
        // No room for the frame. A SIGSEGV handler that cannot run ends the process.
        if info.signal == Signal::SEGV {
            let actions = thread.process().actions();
            actions.lock().set(Signal::SEGV, Action::default());
        }
        let fault = SigInfo {
            code: code::SI_KERNEL,
            ..SigInfo::fault(Signal::SEGV, 0, 0)
        };
        send::force(thread, &fault);
        return;
    }
    let mut mask = thread.blocked().union(action.mask);
    if !action.flags.contains(Flags::NODEFER) {
        mask = mask.with(info.signal);
    }
    state::set_mask(thread, mask);
}

/// The length of the SYSCALL instruction.
const SYSCALL_LEN: u64 = 2;
/// restart_syscall(2).
const RESTART_SYSCALL: u64 = 219;

/// Puts the registers back to before the call that no handler interrupts.
fn restart(user: &mut UserContext, call: Interrupted) {
    user.regs.rax = match call.kind {
        Restart::Block => RESTART_SYSCALL,
        _ => call.number,
    };
    user.regs.rip = user.regs.rip.wrapping_sub(SYSCALL_LEN);
}

/// A handler will run: the call is made again behind it, or fails with `EINTR`.
fn restart_or_fail(user: &mut UserContext, call: Interrupted, action: Action) {
    let again = match call.kind {
        Restart::Always => true,
        Restart::UnlessHandlerRefuses => action.flags.contains(Flags::RESTART),
        Restart::WithoutHandler | Restart::Block => false,
    };
    if again {
        user.regs.rax = call.number;
        user.regs.rip = user.regs.rip.wrapping_sub(SYSCALL_LEN);
    } else {
        user.regs.rax = Errno::EINTR.to_return_value();
    }
}
