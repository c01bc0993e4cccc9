//! Read-copy-update for a kernel that is not preempted inside itself: readers of an [`RcuCell`] take no lock
//! and change no shared memory; what a writer takes out of a cell is let go once every CPU has passed a
//! quiescent state, a moment at which it reads nothing.
//!
//! **Readers** hold a [`ReadGuard`], which is a count of this CPU's own. A thread that gives its CPU away
//! (task switch, waiting for interrupts, [`quiescent`]) with a guard held panics; so whoever passed such a
//! point after a cell was changed holds no reference to what was in it.
//!
//! **Writers** get a [`Retired`] for what they took out. It carries the number that [`Epochs`] had after the
//! change; it may be let go when each CPU has seen that number at a quiescent state or is idle.
//!
//! This module decides when a grace period is over and keeps the memory safe; `sched::rcu` makes it happen:
//! it keeps what is retired, prods CPUs that are late, and sleeps.

#[cfg(any(target_os = "none", test))]
use core::sync::atomic;

mod cell;
#[cfg(any(target_os = "none", test))]
mod epochs;
#[cfg(test)]
mod tests;

#[cfg(target_os = "none")]
mod bare;
#[cfg(not(target_os = "none"))]
mod host;

#[cfg(target_os = "none")]
pub(crate) use bare::{before_wait, leave_idle, start_cpu};
#[cfg(target_os = "none")]
use bare::{change_readers, epoch_after_change, is_over};
#[cfg(target_os = "none")]
pub use bare::{late_cpus, quiescent};
#[cfg(not(target_os = "none"))]
use host::{change_readers, epoch_after_change, is_over};
#[cfg(not(target_os = "none"))]
pub use host::{late_cpus, quiescent};

pub use cell::{RcuCell, Retired};

use core::marker::PhantomData;

/// Epochs of which no CPU has started.
#[cfg(any(target_os = "none", test))]
const fn new_epochs<const CPUS: usize>() -> epochs::Epochs<CPUS> {
    use atomic::AtomicU64;
    use epochs::{Epochs, FIRST, IDLE, Seen};
    Epochs::from_parts(
        AtomicU64::new(FIRST),
        [const { Seen(AtomicU64::new(IDLE)) }; CPUS],
    )
}

/// A read section: what was found in an [`RcuCell`] stays until the guard is dropped. The CPU must not be
/// given away meanwhile (the kernel panics).
#[derive(Debug)]
pub struct ReadGuard {
    /// Belongs to the CPU that made it.
    _not_send: PhantomData<*const ()>,
}

impl ReadGuard {
    /// Begins a read section; they nest.
    #[inline]
    #[must_use]
    pub fn new() -> Self {
        change_readers(1);
        Self {
            _not_send: PhantomData,
        }
    }
}

impl Default for ReadGuard {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ReadGuard {
    #[inline]
    fn drop(&mut self) {
        change_readers(-1);
    }
}

/// Whether this CPU is in a read section.
#[must_use]
pub fn is_reading() -> bool {
    change_readers(0) != 0
}

/// A moment after every change made so far: what was taken out before it may be let go when it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GracePeriod(u64);

impl GracePeriod {
    /// One that begins now.
    #[must_use]
    pub fn begin() -> Self {
        Self(epoch_after_change())
    }

    /// Whether every CPU has passed a quiescent state since it began.
    #[must_use]
    pub fn is_over(self) -> bool {
        is_over(self.0)
    }
}

/// Where a CPU may be given away: it reads nothing.
///
/// # Panics
/// Inside a read section.
#[track_caller]
pub fn assert_not_reading() {
    assert!(
        !is_reading(),
        "a CPU is given away inside an RCU read section"
    );
}
