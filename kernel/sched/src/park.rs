//! Going to sleep without losing a wake-up: the one primitive under every wait.
//!
//! The order is: mark the thread asleep, become visible to wakers (the caller's `enqueue`), check
//! the condition, block. A waker makes the condition true first and wakes second; so either the
//! check sees the condition, or the wake-up finds the thread marked asleep.

use abi::{Errno, Result};

use crate::thread::{self, Thread};
use crate::{backend, clock, timer};

/// What may end a sleep besides its condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sleep {
    /// Nothing (state D).
    Uninterruptible,
    /// [`Thread::interrupt`]: a signal (state S).
    Interruptible,
}

/// Sleeps until `condition` returns something. Whoever makes it true calls [`Thread::wake`] on
/// this thread afterwards; spurious wake-ups only cost a check.
///
/// # Errors
/// `ERESTARTSYS` when interrupted, `ETIMEDOUT` at `deadline_ns` of the monotonic clock; the
/// condition is checked a last time before either.
pub fn park<R>(
    sleep: Sleep,
    deadline_ns: Option<u64>,
    condition: impl FnMut() -> Option<R>,
) -> Result<R> {
    park_with(&NoHook, sleep, deadline_ns, condition)
}

/// Where a sleeper makes itself findable for wakers.
pub(crate) trait Hook {
    /// Called with the thread marked asleep, before the condition is checked.
    fn enqueue(&self, thread: &thread::ThreadRef);
    /// Called when awake again. `false`: a waker had already taken this thread off.
    fn dequeue(&self, thread: &Thread) -> bool;
    /// The wake-up that took this thread off was not used (interrupted, timed out): pass it on.
    fn pass_on(&self);
}

struct NoHook;

impl Hook for NoHook {
    fn enqueue(&self, _: &thread::ThreadRef) {}
    fn dequeue(&self, _: &Thread) -> bool {
        true
    }
    fn pass_on(&self) {}
}

pub(crate) fn park_with<R>(
    hook: &impl Hook,
    sleep: Sleep,
    deadline_ns: Option<u64>,
    mut condition: impl FnMut() -> Option<R>,
) -> Result<R> {
    if let Some(value) = condition() {
        return Ok(value);
    }
    let me = thread::current();
    let mut timer_is_armed = false;
    let result = loop {
        me.set_asleep(sleep);
        hook.enqueue(&me);
        if let Some(value) = condition() {
            me.set_awake();
            if !hook.dequeue(&me) {
                hook.pass_on();
            }
            break Ok(value);
        }
        let stopped = why_stop(&me, sleep, deadline_ns);
        if let Some(errno) = stopped {
            me.set_awake();
            if !hook.dequeue(&me) {
                hook.pass_on();
            }
            break Err(errno);
        }
        if let Some(deadline) = deadline_ns
            && !timer_is_armed
        {
            timer::arm_sleep(&me, deadline);
            timer_is_armed = true;
        }
        backend::block(&me);
        hook.dequeue(&me);
        if let Some(value) = condition() {
            break Ok(value);
        }
    };
    if timer_is_armed {
        timer::cancel_sleep(&me);
    }
    result
}

fn why_stop(me: &Thread, sleep: Sleep, deadline_ns: Option<u64>) -> Option<Errno> {
    if sleep == Sleep::Interruptible && me.is_interrupted() {
        return Some(Errno::ERESTARTSYS);
    }
    let deadline = deadline_ns?;
    (clock::monotonic_ns() >= deadline).then_some(Errno::ETIMEDOUT)
}
