//! Which CPU has seen which epoch: the part of RCU that is an algorithm, tested on the host.
//!
//! A writer changes a cell, then counts the epoch up ([`Epochs::advance`]). A CPU at a quiescent state reads the
//! epoch and publishes it as seen. If it has seen the writer's epoch, it read it after the change, so what it
//! reads from then on is new; and what it read before, it has let go of.
//!
//! The tests under `loom` (`tests/interleavings.rs`) try it in all orders.
//!
//! An idle CPU publishes [`IDLE`], which counts as having seen everything. Going idle and leaving it are on
//! the two sides of a store-then-load race (writer: change, look whether idle; CPU: no longer idle, read the
//! cell), so both use sequentially consistent read-modify-writes: one of the two sees the other.

use super::atomic::{AtomicU64, Ordering};

/// What a CPU that waits for interrupts (or has not started) has seen: everything.
pub(super) const IDLE: u64 = u64::MAX;
/// The first epoch.
pub(super) const FIRST: u64 = 1;

/// The epoch, and what `CPUS` CPUs have seen of it.
#[derive(Debug)]
pub(super) struct Epochs<const CPUS: usize> {
    now: AtomicU64,
    seen: [Seen; CPUS],
}

#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Seen(pub(super) AtomicU64);

impl<const CPUS: usize> Epochs<CPUS> {
    /// From [`FIRST`], and [`IDLE`] for each CPU.
    pub(super) const fn from_parts(now: AtomicU64, seen: [Seen; CPUS]) -> Self {
        Self { now, seen }
    }

    /// After a change: the epoch that every CPU has to see before what was taken out is let go.
    pub(super) fn advance(&self) -> u64 {
        self.now.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// `cpu` (the caller's) reads nothing at this moment.
    pub(super) fn pass(&self, cpu: usize) {
        let now = self.now.load(Ordering::Acquire);
        // Release: what was read before is let go of by then.
        self.seen[cpu].0.store(now, Ordering::Release);
    }

    /// `cpu` (the caller's) reads nothing from here on until [`Self::leave_idle`].
    pub(super) fn enter_idle(&self, cpu: usize) {
        self.seen[cpu].0.store(IDLE, Ordering::Release);
    }

    /// `cpu` (the caller's) may read again.
    pub(super) fn leave_idle(&self, cpu: usize) {
        if self.seen[cpu].0.load(Ordering::Relaxed) == IDLE {
            let now = self.now.load(Ordering::Acquire);
            self.seen[cpu].0.swap(now, Ordering::SeqCst);
        }
    }

    /// Whether `cpu` may still read what was taken out before `epoch`.
    pub(super) fn is_late(&self, cpu: usize, epoch: u64) -> bool {
        // A read-modify-write, too: whichever of this and leaving idle comes second sees the first.
        self.seen[cpu].0.fetch_or(0, Ordering::SeqCst) < epoch
    }
}
