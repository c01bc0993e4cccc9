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
