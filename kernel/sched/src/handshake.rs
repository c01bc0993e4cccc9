//! What a sleeper and its waker agree by: the sleeper's state, and whether anybody waits on a queue.
//!
//! The order is: the sleeper marks itself asleep, becomes visible ([`Occupied::count_up`]), looks at its condition,
//! and leaves the CPU if it is still asleep. The waker changes the condition, looks whether anybody is visible
//! ([`Occupied::is_empty`]), and moves who is from asleep to runnable ([`StateCell::wake_from`]); one waker alone
//! succeeds in that. The tests under `loom` (`tests/interleavings.rs`) try it in all orders.

use super::atomic::{AtomicU8, AtomicUsize, Ordering};

/// What a thread is doing, as /proc/PID/stat says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Runs or is ready to (R).
    Runnable = 0,
    /// Sleeps; a signal wakes it (S).
    Sleeping = 1,
    /// Sleeps, deaf to signals (D).
    Uninterruptible = 2,
    /// Has exited (X).
    Dead = 3,
}

impl State {
    const fn from_raw(raw: u8) -> State {
        match raw {
            0 => State::Runnable,
            1 => State::Sleeping,
            2 => State::Uninterruptible,
            _ => State::Dead,
        }
    }

    /// The letter in /proc/PID/stat.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            State::Runnable => 'R',
            State::Sleeping => 'S',
            State::Uninterruptible => 'D',
            State::Dead => 'X',
        }
    }
}

/// The state of a thread.
#[derive(Debug)]
pub(crate) struct StateCell(AtomicU8);

impl StateCell {
    /// From a number of [`State`].
    pub(crate) const fn from_parts(state: AtomicU8) -> Self {
        Self(state)
    }

    pub(crate) fn get(&self) -> State {
        State::from_raw(self.0.load(Ordering::Relaxed))
    }

    /// The thread marks itself asleep.
    pub(crate) fn set_asleep(&self, state: State) {
        self.0.swap(state as u8, Ordering::SeqCst);
    }

    /// The thread, which runs, is not to sleep or has ended.
    pub(crate) fn set(&self, state: State) {
        self.0.store(state as u8, Ordering::Release);
    }

    pub(crate) fn is_asleep(&self) -> bool {
        matches!(
            State::from_raw(self.0.load(Ordering::SeqCst)),
            State::Sleeping | State::Uninterruptible
        )
    }

    /// Makes it runnable if it sleeps as `state` says: whether the caller did, and has to see that it runs.
    pub(crate) fn wake_from(&self, state: State) -> bool {
        self.0
            .compare_exchange(
                state as u8,
                State::Runnable as u8,
                Ordering::SeqCst,
                Ordering::SeqCst,
            )
            .is_ok()
    }
}

/// How many wait on a queue, for a look without its lock. Changed with that held.
#[derive(Debug)]
pub(crate) struct Occupied(AtomicUsize);

impl Occupied {
    pub(crate) const fn from_parts(count: AtomicUsize) -> Self {
        Self(count)
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// There are more, `count` now, and the new one looks at its condition after this.
    pub(crate) fn count_up(&self, count: usize) {
        self.0.swap(count, Ordering::SeqCst);
    }

    /// There are fewer. Who sees the old count takes the lock for nothing, so no order is needed; but a store of what
    /// is there already could come between a waker's look and the next waiter's mark, and part them.
    pub(crate) fn count_down(&self, count: usize) {
        if self.0.load(Ordering::Relaxed) != count {
            self.0.store(count, Ordering::Relaxed);
        }
    }

    /// Whether nobody waits. A locked read: ordered after the caller's change of the condition.
    /// (A plain read could be ahead of it, and a wake-up would be lost.)
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0
            .compare_exchange(0, 0, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}
