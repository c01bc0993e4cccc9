//! What stands before each system call: it is made, or something else happens.

use alloc::sync::Arc;

use abi::Errno;
use machine::user_mode::UserContext;

use super::action::{Action, Verdict};
use super::call::CallData;
use super::filter::Filter;
use super::log;
use super::notify::Answer;
use super::state::Mode;
use crate::exit;
use crate::own::Own;
use crate::signal::{SigInfo, Signal, send};
use crate::task::thread::Thread;
use crate::trace;

/// The highest error number (`MAX_ERRNO`).
const HIGHEST_ERRNO: u16 = 4095;

/// How it goes on with a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// It is made.
    Made,
    /// It is not; the registers say what the program sees.
    Skipped,
    /// It is not made now: a signal came first.
    Interrupted(Errno),
}

/// Whether the thread has neither the strict mode nor filters: the usual case, asked before each call.
#[inline]
#[must_use]
pub fn is_off(thread: &Thread) -> bool {
    thread.seccomp.is_off()
}

/// Whether the call `number` is made without a look at its arguments: all filters allow it.
#[inline]
#[must_use]
pub fn passes(thread: &Thread, own: &Own, number: u32) -> bool {
    let allows = |filter: &Arc<Filter>| filter.always_allows(number);
    thread.seccomp.is_settled() && own.newest_filter().is_some_and(allows)
}

/// Does with the call in `user`'s registers what mode and filters of the thread say.
pub fn enter(thread: &Arc<Thread>, own: &mut Own, user: &mut UserContext) -> Passage {
    let call = CallData::of(user);
    match thread.seccomp.mode() {
        Mode::Off => Passage::Made,
        Mode::Strict => strict(thread, call.number),
        Mode::Filter => {
            own.settle_seccomp(thread);
            let Some(filter) = own.newest_filter().cloned() else {
                return Passage::Made;
            };
            if filter.find_out(call.number) {
                return Passage::Made;
            }
            let (verdict, by) = filter.judge(&call);
            act(thread, own, user, &call, verdict, by)
        }
    }
}

/// The calls that strict mode has: the mode ends the thread that makes another.
fn strict(thread: &Thread, number: u32) -> Passage {
    const READ: u32 = 0;
    const WRITE: u32 = 1;
    const RT_SIGRETURN: u32 = 15;
    const EXIT: u32 = 60;
    if matches!(number, READ | WRITE | RT_SIGRETURN | EXIT) {
        return Passage::Made;
    }
    exit::end_thread(thread, Signal::KILL.number().into());
    Passage::Skipped
}

fn act(
    thread: &Arc<Thread>,
    own: &mut Own,
    user: &mut UserContext,
    call: &CallData,
    verdict: Verdict,
    by: &Filter,
) -> Passage {
    let action = verdict.action();
    log::note(thread, call, action, by.logs);
    match action {
        Action::Allow | Action::Log => return Passage::Made,
        Action::Errno => {
            let errno = u64::from(verdict.data.min(HIGHEST_ERRNO));
            user.regs.rax = errno.wrapping_neg();
        }
        Action::Trace => return ask_tracer(thread, own, user, call, verdict.data),
        // The number stays where it is: a handler may make the call itself, and put its result there.
        Action::Trap => send::force(thread, &trap(call, verdict.data)),
        Action::Notify => return ask(thread, own, user, call, by),
        Action::KillThread if thread.process().thread_count() > 1 => {
            exit::end_thread(thread, Signal::SYS.number().into());
        }
        Action::KillThread | Action::KillProcess => {
            exit::kill_with_status(thread.process(), Signal::SYS.number().into());
        }
    }
    Passage::Skipped
}

/// What a handler of SIGSYS is told.
fn trap(call: &CallData, data: u16) -> SigInfo {
    SigInfo::system_call(
        call.instruction_pointer,
        call.number,
        call.architecture,
        data.into(),
    )
}

/// Has the tracer decide; without one there is no such call. What it leaves in the registers is looked at anew.
fn ask_tracer(
    thread: &Arc<Thread>,
    own: &mut Own,
    user: &mut UserContext,
    call: &CallData,
    data: u16,
) -> Passage {
    const NO_CALL: u64 = u64::MAX;
    let number = match trace::seccomp_stop(thread, user, call.number.into(), data) {
        None => {
            user.regs.rax = Errno::ENOSYS.to_return_value();
            return Passage::Skipped;
        }
        Some(NO_CALL) => return Passage::Skipped,
        Some(number) => number,
    };
    user.regs.rax = number;
    let call = CallData::of(user);
    let Some(filter) = own.newest_filter().cloned() else {
        return Passage::Made;
    };
    let (verdict, by) = filter.judge(&call);
    if verdict.action() == Action::Trace {
        // It has been asked.
        return Passage::Made;
    }
    act(thread, own, user, &call, verdict, by)
}

/// Has another process decide.
fn ask(
    thread: &Thread,
    own: &mut Own,
    user: &mut UserContext,
    call: &CallData,
    by: &Filter,
) -> Passage {
    let answer = match &by.notifier {
        Some(notifier) => memory::pressure::persist(|| notifier.ask(thread, own, call)),
        None => Err(Errno::ENOSYS),
    };
    match answer {
        Ok(Answer::GoOn) => return Passage::Made,
        Ok(Answer::Value(value)) => user.regs.rax = value.cast_unsigned(),
        Err(errno @ Errno::ERESTARTSYS) => return Passage::Interrupted(errno),
        Err(errno) => user.regs.rax = errno.to_return_value(),
    }
    Passage::Skipped
}
