//! Real CPUs: counted as they start.

use super::CpuId;
use crate::x86::{features, percpu};

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
