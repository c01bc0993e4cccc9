//! Control registers of each CPU: what CPUID offers is turned on.

use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::model_specific::{Efer, EferFlags};

use super::features::{self, Features};
use super::{fpu, user_entry};

/// Turns on what protects the kernel and what user code may use.
pub(crate) fn enable_features() {
    let mut wanted = Cr4Flags::empty();
    for (feature, flag) in [
        (Features::PGE, Cr4Flags::PAGE_GLOBAL),
        (Features::UMIP, Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION),
        (Features::FSGSBASE, Cr4Flags::FSGSBASE),
        (
            Features::SMEP,
            Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION,
        ),
        (Features::SMAP, Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION),
    ] {
        wanted.set(flag, features::has(feature));
    }
    // SAFETY: CPUID names each feature that is turned on; no user page is mapped for the kernel to run or
    // touch by accident.
    unsafe { Cr4::update(|flags| flags.insert(wanted)) };
    // SAFETY: the kernel writes no page that it maps read-only; without this it could write a user's.
    unsafe { Cr0::update(|flags| flags.insert(Cr0Flags::WRITE_PROTECT)) };
    let efer = EferFlags::SYSTEM_CALL_EXTENSIONS
        | EferFlags::LONG_MODE_ENABLE
        | EferFlags::LONG_MODE_ACTIVE
        | EferFlags::NO_EXECUTE_ENABLE;
    // SAFETY: long mode and NX stay on as they are; SYSCALL's other registers are set in `finish`, before
    // there is user code.
    unsafe { Efer::write_raw(efer.bits()) };
}

/// Sets up what user code needs. The boot CPU looks at the FPU once for all.
pub(crate) fn finish(is_boot_cpu: bool) {
    user_entry::set_up();
    fpu::set_up();
    if is_boot_cpu {
        fpu::learn_mxcsr_mask();
    }
}
