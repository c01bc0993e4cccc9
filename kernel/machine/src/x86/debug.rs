//! The debug registers, while user code runs that uses them (see [`crate::user_mode::DebugRegisters`]).

use core::arch::asm;

use crate::user_mode::DebugRegisters;

/// DR6 with nothing in it; some bits are always set.
const NO_STATUS: u64 = 0xffff_0ff0;
/// DR7 with every breakpoint off.
const OFF: u64 = 1 << 10;

/// Puts a thread's breakpoints in place. Interrupts are off, and user code runs next.
pub(crate) fn load(registers: &DebugRegisters) {
    let [first, second, third, fourth] = registers.addresses();
    // SAFETY: the addresses are user memory's (`DebugRegisters::new`), which the kernel does not touch before
    // `turn_off`, and DR7 has no general detection. One that a user's own instruction has raised may still come in the
    // kernel, late: `trap_debug` returns from it without a look at GS or the stack that it came on.
    unsafe {
        asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}", "mov dr7, {}",
            in(reg) first, in(reg) second, in(reg) third, in(reg) fourth,
            in(reg) registers.control() | OFF, options(nomem, nostack, preserves_flags));
    }
}

/// Turns all breakpoints off.
pub(crate) fn turn_off() {
    // SAFETY: with no breakpoint enabled nothing raises a debug exception.
    unsafe { asm!("mov dr7, {}", in(reg) OFF, options(nomem, nostack, preserves_flags)) };
}

/// What the debug exception was for that has just come (the low bits of DR6), for the next to start from nothing.
pub(crate) fn take_status() -> u32 {
    let status: u64;
    // SAFETY: DR6 is written by the CPU alone, and has no effect.
    unsafe {
        asm!("mov {}, dr6", "mov dr6, {}", out(reg) status, in(reg) NO_STATUS,
            options(nomem, nostack, preserves_flags));
    }
    ((status ^ NO_STATUS) & 0xe00f) as u32
}
