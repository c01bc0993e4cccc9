//! Control registers of each CPU: what CPUID offers is turned on.

use core::arch::asm;

use super::features::{self, Features};
use super::{fpu, user_entry, write_msr};

const IA32_EFER: u32 = 0xc000_0080;
const EFER_SYSCALL: u64 = 1;
const EFER_NO_EXEC: u64 = 1 << 11;
const EFER_LONG: u64 = 1 << 8 | 1 << 10;

const CR4_PGE: u64 = 1 << 7;
const CR4_UMIP: u64 = 1 << 11;
const CR4_FSGSBASE: u64 = 1 << 16;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;

/// Turns on what protects the kernel and what user code may use.
pub(crate) fn enable_features() {
    let mut bits = 0;
    for (feature, bit) in [
        (Features::PGE, CR4_PGE),
        (Features::UMIP, CR4_UMIP),
        (Features::FSGSBASE, CR4_FSGSBASE),
        (Features::SMEP, CR4_SMEP),
        (Features::SMAP, CR4_SMAP),
    ] {
        if features::has(feature) {
            bits |= bit;
        }
    }
    // SAFETY: CPUID names each feature that is turned on; no user page is mapped for the kernel to run or
    // touch by accident.
    unsafe {
        asm!("mov {t}, cr4", "or {t}, {bits}", "mov cr4, {t}", t = out(reg) _, bits = in(reg) bits,
            options(nostack));
    }
    // SAFETY: long mode and NX stay on as they are; SYSCALL's other registers are set in `finish`, before
    // there is user code.
    unsafe { write_msr(IA32_EFER, EFER_SYSCALL | EFER_LONG | EFER_NO_EXEC) };
}

/// Sets up what user code needs. The boot CPU looks at the FPU once for all.
pub(crate) fn finish(is_boot_cpu: bool) {
    user_entry::set_up();
    fpu::set_up();
    if is_boot_cpu {
        fpu::learn_mxcsr_mask();
    }
}
