//! Host double: a grace period is over at a moment at which no thread is in a read section.

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::assert_not_reading;
use crate::cpu::CpuId;

static EPOCH: AtomicU64 = AtomicU64::new(1);
/// The last one that is over.
static OVER: AtomicU64 = AtomicU64::new(0);
/// Threads in a read section.
static READING: AtomicUsize = AtomicUsize::new(0);

std::thread_local! {
    static READERS: Cell<isize> = const { Cell::new(0) };
}

/// Adds to this thread's count of read sections, and returns it.
pub(super) fn change_readers(change: isize) -> isize {
    let (before, after) = (READERS.get(), READERS.get() + change);
    READERS.set(after);
    if before == 0 && after > 0 {
        READING.fetch_add(1, Ordering::SeqCst);
    } else if before > 0 && after == 0 {
        READING.fetch_sub(1, Ordering::SeqCst);
    }
    after
}

pub(super) fn epoch_after_change() -> u64 {
    EPOCH.fetch_add(1, Ordering::SeqCst) + 1
}

/// Once over, over for good: whoever reads later has found nothing of what was taken out before.
pub(super) fn is_over(epoch: u64) -> bool {
    let now = EPOCH.load(Ordering::SeqCst);
    if READING.load(Ordering::SeqCst) == 0 {
        OVER.fetch_max(now, Ordering::SeqCst);
    }
    OVER.load(Ordering::SeqCst) >= epoch
}

/// CPUs that have to pass a quiescent state before `period` is over: none that could be told.
pub fn late_cpus(_: super::GracePeriod) -> impl Iterator<Item = CpuId> {
    core::iter::empty()
}

/// This thread reads nothing at this moment.
///
/// # Panics
/// Inside a read section.
pub fn quiescent() {
    assert_not_reading();
}
