//! CPUs: how many, which one this is, and data laid out a CPU.

/// The most CPUs a kernel supports.
pub const MAX_CPUS: usize = 64;

/// Index of a CPU, below [`count`].
pub type CpuId = usize;

#[cfg(target_os = "none")]
mod bare;
#[cfg(not(target_os = "none"))]
mod host;

#[cfg(target_os = "none")]
pub use bare::{count, current, hwcap, relax};
#[cfg(all(target_os = "none", any(feature = "checks", debug_assertions)))]
pub(crate) use bare::{count_held_locks, holder_name};
#[cfg(not(target_os = "none"))]
pub use host::{count, current, hwcap, relax};
#[cfg(all(not(target_os = "none"), any(feature = "checks", debug_assertions)))]
pub(crate) use host::{count_held_locks, holder_name};

/// One `T` a CPU, each on cache lines of its own.
#[derive(Debug)]
pub struct PerCpu<T> {
    slots: [Slot<T>; MAX_CPUS],
}

#[derive(Debug)]
#[repr(align(64))]
struct Slot<T>(T);

impl<T> PerCpu<T> {
    /// Makes the slots with `init(cpu)`.
    pub fn new(mut init: impl FnMut(CpuId) -> T) -> Self {
        Self {
            slots: core::array::from_fn(|cpu| Slot(init(cpu))),
        }
    }

    /// The slot of `cpu`; the value inside does its own locking.
    pub fn of(&self, cpu: CpuId) -> &T {
        &self.slots[cpu].0
    }

    /// The slot of the CPU this runs on.
    pub fn here(&self) -> &T {
        self.of(current())
    }
}
