//! Host double: CPU 0 alone.

use super::CpuId;

/// CPUs that run.
#[must_use]
pub fn count() -> usize {
    1
}

/// The CPU this runs on.
#[must_use]
pub fn current() -> CpuId {
    0
}

/// Feature facts for /proc/cpuinfo and `AT_HWCAP`: CPUID leaf 1 EDX.
#[must_use]
pub fn hwcap() -> u32 {
    0x0781_abfd
}

/// Lets other host threads run.
pub fn relax() {
    std::thread::yield_now();
}

std::thread_local! {
    static HELD_LOCKS: core::cell::Cell<isize> = const { core::cell::Cell::new(0) };
}

/// Whether what this thread has of its own is there.
pub(crate) fn is_ready() -> bool {
    true
}

/// This thread holds one more spin lock.
pub(crate) fn hold_lock() {
    HELD_LOCKS.set(HELD_LOCKS.get() + 1);
}

/// This thread holds one spin lock less.
pub(crate) fn let_go_of_lock() {
    HELD_LOCKS.set(HELD_LOCKS.get() - 1);
}

/// Spin locks that this thread holds.
pub(crate) fn held_locks() -> isize {
    HELD_LOCKS.get()
}
