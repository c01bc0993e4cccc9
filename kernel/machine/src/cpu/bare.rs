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

/// Whether this CPU has its area.
pub(crate) fn is_ready() -> bool {
    percpu::is_ready()
}

/// This CPU holds one more spin lock. Not before it has its area.
#[inline]
pub(crate) fn hold_lock() {
    percpu::hold_lock();
}

/// This CPU holds one spin lock less.
#[inline]
pub(crate) fn let_go_of_lock() {
    percpu::let_go_of_lock();
}

/// Spin locks that this CPU holds.
pub(crate) fn held_locks() -> isize {
    percpu::here().held_locks.get()
}
