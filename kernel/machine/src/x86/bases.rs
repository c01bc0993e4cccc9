//! The user's FS and GS bases: with FSGSBASE user code changes them itself, else only the kernel does,
//! through MSRs, which are slow and written only when the CPU has another's.

use core::arch::asm;

use super::features::{self, Features};
use super::percpu::Area;
use super::write_msr;
use crate::user_mode::Registers;

const IA32_FS_BASE: u32 = 0xc000_0100;
const IA32_KERNEL_GS_BASE: u32 = 0xc000_0102;

/// Puts the user's bases in place; GS's goes where the SWAPGS on the way out takes it from.
/// Interrupts are off.
pub(crate) fn load(area: &Area, regs: &mut Registers) {
    regs.fs_base = canonical(regs.fs_base);
    regs.gs_base = canonical(regs.gs_base);
    let wanted = (regs.fs_base, regs.gs_base);
    if area.bases.get() == Some(wanted) {
        return;
    }
    // SAFETY: user bases mean nothing to the kernel; both are canonical.
    unsafe { write_msr(IA32_FS_BASE, regs.fs_base) };
    // SAFETY: as above.
    unsafe { write_msr(IA32_KERNEL_GS_BASE, regs.gs_base) };
    area.bases.set(Some(wanted));
}

/// Reads back what user code may have changed. Interrupts are off.
pub(crate) fn store(area: &Area, regs: &mut Registers) {
    if !features::has(Features::FSGSBASE) {
        // Loading a selector clears a base. That harms only who does it: a task switch forgets what
        // the registers hold.
        return;
    }
    let (fs, gs): (u64, u64);
    // SAFETY: CR4.FSGSBASE is set where CPUID has it. Between the two SWAPGS nothing uses GS: interrupts
    // are off, and the exceptions that still come take GS from their stack.
    unsafe {
        asm!("rdfsbase {}", "swapgs", "rdgsbase {}", "swapgs", out(reg) fs, out(reg) gs,
            options(nomem, nostack, preserves_flags));
    }
    regs.fs_base = fs;
    regs.gs_base = gs;
    area.bases.set(Some((fs, gs)));
}

/// The nearest address that a base may hold: copies bit 47 upwards.
fn canonical(address: u64) -> u64 {
    ((address << 16).cast_signed() >> 16).cast_unsigned()
}
