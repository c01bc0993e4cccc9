//! What the CPU itself wants: descriptor tables, traps, page-table entries, the local APIC.
//!
//! Only for the bare machine; the modules of the crate's face are built on these.

pub(crate) mod apic;
pub(crate) mod bases;
pub(crate) mod copy;
pub(crate) mod cpu_setup;
pub(crate) mod debug;
pub(crate) mod descriptors;
pub(crate) mod features;
pub(crate) mod fpu;
pub(crate) mod frames;
pub(crate) mod ioapic;
pub(crate) mod layout;
pub(crate) mod paging;
pub(crate) mod percpu;
pub(crate) mod port;
pub(crate) mod stack;
pub(crate) mod tlb;
pub(crate) mod trap;
pub(crate) mod user_entry;

use x86_64::registers::model_specific::Msr;

/// Writes a model-specific register.
///
/// # Safety
/// The register exists, and what it changes keeps the kernel's assumptions.
pub(crate) unsafe fn write_msr(register: u32, value: u64) {
    // SAFETY: the caller's promise.
    unsafe { Msr::new(register).write(value) };
}

/// Reads a model-specific register.
///
/// # Safety
/// The register exists.
pub(crate) unsafe fn read_msr(register: u32) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { Msr::new(register).read() }
}

/// The time stamp counter.
pub(crate) fn read_tsc() -> u64 {
    // SAFETY: every x86-64 CPU has it, and CR4.TSD is clear.
    unsafe { core::arch::x86_64::_rdtsc() }
}
