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

#[cfg(any(feature = "checks", debug_assertions))]
std::thread_local! {
    static HELD_LOCKS: core::cell::Cell<isize> = const { core::cell::Cell::new(0) };
}

/// Adds to the count of spin locks that this thread holds, and returns it.
#[cfg(any(feature = "checks", debug_assertions))]
pub(crate) fn count_held_locks(change: isize) -> isize {
    HELD_LOCKS.set(HELD_LOCKS.get() + change);
    HELD_LOCKS.get()
}

/// What this thread calls itself as the holder of a lock.
#[cfg(any(feature = "checks", debug_assertions))]
pub(crate) fn holder_name() -> usize {
    HELD_LOCKS.with(|held| core::ptr::from_ref(held).addr())
}
