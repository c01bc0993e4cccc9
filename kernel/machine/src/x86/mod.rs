//! What the CPU itself wants: descriptor tables, traps, page-table entries, the local APIC.
//!
//! Only for the bare machine; the modules of the crate's face are built on these.

pub(crate) mod apic;
pub(crate) mod bases;
pub(crate) mod copy;
pub(crate) mod cpu_setup;
pub(crate) mod descriptors;
pub(crate) mod features;
pub(crate) mod fpu;
pub(crate) mod ioapic;
pub(crate) mod layout;
pub(crate) mod paging;
pub(crate) mod percpu;
pub(crate) mod port;
pub(crate) mod stack;
pub(crate) mod tlb;
pub(crate) mod trap;
pub(crate) mod user_entry;

use core::arch::asm;

/// Writes a model-specific register.
///
/// # Safety
/// The register exists, and what it changes keeps the kernel's assumptions.
pub(crate) unsafe fn write_msr(register: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: the caller's promise.
    unsafe { asm!("wrmsr", in("ecx") register, in("eax") low, in("edx") high, options(nostack)) };
}

/// Reads a model-specific register.
///
/// # Safety
/// The register exists.
pub(crate) unsafe fn read_msr(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller's promise.
    unsafe {
        asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high, options(nomem, nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// The time stamp counter.
pub(crate) fn read_tsc() -> u64 {
    // SAFETY: every x86-64 CPU has it, and CR4.TSD is clear.
    unsafe { core::arch::x86_64::_rdtsc() }
}
