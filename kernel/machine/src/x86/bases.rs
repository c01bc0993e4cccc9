//! The user's FS and GS bases: with FSGSBASE user code changes them itself, else only the kernel does,
//! through MSRs, which are slow and written only when the CPU has another's.

use core::arch::asm;

use x86_64::VirtAddr;
use x86_64::registers::model_specific::{FsBase, KernelGsBase};

use super::features::{self, Features};
use super::percpu::Area;
use crate::user_mode::Registers;

/// Puts the user's bases in place; GS's goes where the SWAPGS on the way out takes it from.
/// Interrupts are off.
pub(crate) fn load(area: &Area, regs: &mut Registers) {
    // The nearest addresses that bases may hold: bit 47 is copied upwards.
    let [fs, gs] = [regs.fs_base, regs.gs_base].map(VirtAddr::new_truncate);
    (regs.fs_base, regs.gs_base) = (fs.as_u64(), gs.as_u64());
    let wanted = (regs.fs_base, regs.gs_base);
    if area.bases.get() == Some(wanted) {
        return;
    }
    FsBase::write(fs);
    KernelGsBase::write(gs);
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
