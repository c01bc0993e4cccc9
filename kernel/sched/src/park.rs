//! Going to sleep without losing a wake-up: the one primitive under every wait.
//!
//! The order is: mark the thread asleep, become visible to wakers (the caller's `enqueue`), check
//! the condition, block. A waker makes the condition true first and wakes second; so either the
//! check sees the condition, or the wake-up finds the thread marked asleep.
//!
//! A condition may itself wait for something else (a lock): waits nest, [`WAIT_LEVELS`] deep on queues. What
//! nests deeper is woken by nobody, and looks again and again with others running in between.

use abi::{Errno, Result};
use core::sync::atomic::Ordering;

use crate::thread::{self, Thread, ThreadRef};
use crate::{backend, clock, timer};

/// How many queues a thread can be on at a time.
pub(crate) const WAIT_LEVELS: usize = 3;

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

/// Where a sleeper makes itself findable for wakers, with the link of its `level`.
pub(crate) trait Hook {
    /// Called with the thread marked asleep, before the condition is checked. `was_woken`: a waker had
    /// taken it off, and the condition was not there.
    fn enqueue(&self, thread: &ThreadRef, level: usize, was_woken: bool);
    /// Called when awake again. `false`: a waker had already taken this thread off.
    fn dequeue(&self, thread: &Thread, level: usize) -> bool;
    /// The wake-up that took this thread off was not used (interrupted, timed out): pass it on.
    fn pass_on(&self);
    /// The queue's address, 0 for none.
    #[cfg(any(feature = "checks", debug_assertions))]
    fn address(&self) -> usize;
}

struct NoHook;

impl Hook for NoHook {
    fn enqueue(&self, _: &ThreadRef, _: usize, _: bool) {}
    fn dequeue(&self, _: &Thread, _: usize) -> bool {
        true
    }
    fn pass_on(&self) {}
    #[cfg(any(feature = "checks", debug_assertions))]
    fn address(&self) -> usize {
        0
    }
}

pub(crate) fn park_with<R>(
    hook: &impl Hook,
    sleep: Sleep,
    deadline_ns: Option<u64>,
    mut condition: impl FnMut() -> Option<R>,
) -> Result<R> {
    machine::sync::assert_none_held();
    if let Some(value) = evaluate(hook, &mut condition) {
        return Ok(value);
    }
    let me = thread::current();
    let level = me.wait_depth.load(Ordering::Relaxed);
    if level >= WAIT_LEVELS {
        return poll(&me, sleep, deadline_ns, condition);
    }
    me.wait_depth.store(level + 1, Ordering::Relaxed);
    let mut timer_is_armed = false;
    let mut was_woken = false;
    let result = loop {
        // A condition that is never met and always wakes its thread would keep the CPU.
        thread::cond_resched();
        me.set_asleep(sleep);
        hook.enqueue(&me, level, was_woken);
        let found = evaluate(hook, &mut condition);
        let stopped = if found.is_some() {
            None
        } else {
            why_stop(&me, sleep, deadline_ns)
        };
        if found.is_some() || stopped.is_some() {
            me.set_awake();
            if !hook.dequeue(&me, level) {
                hook.pass_on();
            }
            break found.ok_or(stopped.unwrap_or(Errno::ERESTARTSYS));
        }
        if let Some(deadline) = deadline_ns
            && !timer_is_armed
        {
            timer::arm_sleep(&me, deadline);
            timer_is_armed = true;
        }
        backend::block(&me);
        was_woken = !hook.dequeue(&me, level);
        if let Some(value) = evaluate(hook, &mut condition) {
            break Ok(value);
        }
    };
    me.wait_depth.store(level, Ordering::Relaxed);
    if timer_is_armed {
        timer::cancel_sleep(&me);
    }
    result
}

/// A wait for which there is no link left.
#[cold]
fn poll<R>(
    me: &Thread,
    sleep: Sleep,
    deadline_ns: Option<u64>,
    mut condition: impl FnMut() -> Option<R>,
) -> Result<R> {
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if let Some(errno) = why_stop(me, sleep, deadline_ns) {
            return Err(errno);
        }
        thread::yield_now();
    }
}

fn why_stop(me: &Thread, sleep: Sleep, deadline_ns: Option<u64>) -> Option<Errno> {
    if sleep == Sleep::Interruptible && me.is_interrupted() {
        return Some(Errno::ERESTARTSYS);
    }
    let deadline = deadline_ns?;
    (clock::monotonic_ns() >= deadline).then_some(Errno::ETIMEDOUT)
}

#[cfg(not(any(feature = "checks", debug_assertions)))]
mod check {
    use super::Hook;

    #[inline]
    pub(super) fn evaluate<R>(
        _: &impl Hook,
        condition: &mut impl FnMut() -> Option<R>,
    ) -> Option<R> {
        condition()
    }

    #[inline]
    pub(crate) fn note_wake(_: usize) {}
}

#[cfg(any(feature = "checks", debug_assertions))]
mod check {
    use super::Hook;
    use crate::thread;
    use core::sync::atomic::Ordering;

    /// What stands for "has woken the queue" in the mark: queues are aligned.
    const HAS_WOKEN: usize = 1;

    /// Looks at a condition, with the thread marked with the queue.
    ///
    /// # Panics
    /// When the condition was not met and has woken the queue: the thread would never sleep. (One that is met may
    /// have: a driver's double answers at once.) What an interrupt handler wakes does not count.
    pub(super) fn evaluate<R>(
        hook: &impl Hook,
        condition: &mut impl FnMut() -> Option<R>,
    ) -> Option<R> {
        let me = thread::current();
        let outer = me.evaluates_for.swap(hook.address(), Ordering::Relaxed);
        let found = condition();
        let mark = me.evaluates_for.swap(outer, Ordering::Relaxed);
        assert!(
            found.is_some() || mark & HAS_WOKEN == 0,
            "a wait condition that is not met wakes its own queue"
        );
        found
    }

    /// The queue is woken.
    pub(crate) fn note_wake(address: usize) {
        if machine::interrupt::is_handling() {
            return;
        }
        let mark = &thread::current().evaluates_for;
        if mark.load(Ordering::Relaxed) == address {
            mark.store(address | HAS_WOKEN, Ordering::Relaxed);
        }
    }
}

use check::evaluate;
pub(crate) use check::note_wake;
