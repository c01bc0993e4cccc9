//! From the registers to the handler and back.

use alloc::sync::Arc;

use abi::{Errno, Result};
use machine::user_mode::UserContext;
use memory::pressure;
use process::oom;
use process::own::Own;
use process::restart::Interrupted;
use process::seccomp::{self, Passage};
use process::task::thread::Thread;

use crate::context::Context;
use crate::entry::Handler;
use crate::table::HANDLERS;
use crate::unknown;

/// Acts on the system call in `user`'s registers and puts the result there.
///
/// Says when the call was interrupted and wants to be restarted: the user loop decides, because
/// it depends on the signal that is delivered.
pub fn dispatch(
    thread: &Arc<Thread>,
    own: &mut Own,
    user: &mut UserContext,
) -> Option<Interrupted> {
    if !seccomp::is_off(thread) {
        return dispatch_filtered(thread, own, user);
    }
    call(thread, own, user)
}

/// As [`dispatch`], if the mode and the filters of the thread (seccomp(2)) let the call pass. Apart from it, and with a
/// copy of all that it does, so that threads without filters pay for the question alone.
#[inline(never)]
fn dispatch_filtered(
    thread: &Arc<Thread>,
    own: &mut Own,
    user: &mut UserContext,
) -> Option<Interrupted> {
    let number = number_of(user);
    if !seccomp::passes(thread, own, number) {
        match seccomp::enter(thread, own, user) {
            Passage::Made => {}
            Passage::Skipped => return None,
            Passage::Interrupted(errno) => {
                user.regs.rax = errno.to_return_value();
                return Interrupted::from_errno(errno, number.into());
            }
        }
    }
    call(thread, own, user)
}

/// Calls the handler of the number in the registers.
#[inline(always)]
#[expect(clippy::inline_always, reason = "on the path of every call")]
fn call(thread: &Arc<Thread>, own: &mut Own, user: &mut UserContext) -> Option<Interrupted> {
    let number = u64::from(number_of(user));
    let handler = usize::try_from(number)
        .ok()
        .and_then(|index| HANDLERS.get(index))
        .copied()
        .flatten();
    let Some(handler) = handler else {
        user.regs.rax = Errno::ENOSYS.to_return_value();
        note_unknown(thread, number);
        return None;
    };
    if !gives_back(number) && !oom::has_memory(thread) {
        user.regs.rax = Errno::ENOMEM.to_return_value();
        return None;
    }
    let mut context = Context { thread, own, user };
    match handler(&mut context) {
        Ok(value) => {
            context.user.regs.rax = value;
            None
        }
        Err(mut errno) => {
            if errno == Errno::ENOMEM {
                match make_again(handler, &mut context) {
                    Ok(value) => {
                        context.user.regs.rax = value;
                        return None;
                    }
                    Err(other) => errno = other,
                }
            }
            context.user.regs.rax = errno.to_return_value();
            Interrupted::from_errno(errno, number)
        }
    }
}

/// Which call it is: the lower half, which is all that filters see.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
fn number_of(user: &UserContext) -> u32 {
    user.regs.rax as u32
}

/// What has failed for want of memory is made again once there is some.
#[cold]
fn make_again(handler: Handler, context: &mut Context<'_>) -> Result<u64> {
    pressure::again(|| handler(context))
}

/// Whether a call only ever frees memory: it need not wait for some.
fn gives_back(number: u64) -> bool {
    const CLOSE: u64 = 3;
    const MUNMAP: u64 = 11;
    const EXIT: u64 = 60;
    const EXIT_GROUP: u64 = 231;
    matches!(number, CLOSE | MUNMAP | EXIT | EXIT_GROUP)
}

/// Counts a call that is not there, and logs the first of its number.
#[cold]
fn note_unknown(thread: &Thread, number: u64) {
    if unknown::count(number) {
        machine::notice!(
            "syscall: {} is not implemented; process {} got ENOSYS",
            number,
            thread.process().pid().global()
        );
    }
}
