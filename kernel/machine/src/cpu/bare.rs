//! Real CPUs: counted as they start.

use super::CpuId;
use crate::x86::{features, percpu, tlb};

/// CPUs that run.
#[must_use]
pub fn count() -> usize {
    percpu::count()
}

/// The CPU this runs on. Stays true as long as the caller does not block.
#[must_use]
pub fn current() -> CpuId {
    percpu::here().id()
}

/// Feature facts for /proc/cpuinfo and `AT_HWCAP`: CPUID leaf 1 EDX.
#[must_use]
pub fn hwcap() -> u32 {
    features::leaf1_edx()
}

/// What a CPU does while it waits for another: answers the requests made to itself, which interrupts that
/// are off cannot deliver.
pub fn relax() {
    if percpu::is_ready() {
        tlb::poll();
    }
    core::hint::spin_loop();
}

/// Adds to the count of spin locks that this CPU holds, and returns it.
#[cfg(any(feature = "checks", debug_assertions))]
pub(crate) fn count_held_locks(change: isize) -> isize {
    if !percpu::is_ready() {
        return 0;
    }
    let held = &percpu::here().held_locks;
    held.set(held.get() + change);
    held.get()
}

/// What this CPU calls itself as the holder of a lock; 0 before it has its data.
#[cfg(any(feature = "checks", debug_assertions))]
pub(crate) fn holder_name() -> usize {
    if percpu::is_ready() {
        percpu::here().id() + 1
    } else {
        0
    }
}
