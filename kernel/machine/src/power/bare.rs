//! Ports of the log (COM1), of power-off and reset, of pvpanic, and of the boot phases.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::interrupt::InterruptsOff;
use crate::interrupt::bare::turn_off;
use crate::x86::frames::Addresses;
use crate::x86::port;

pub(crate) const COM1: u16 = 0x3f8;
const PHASES: u16 = 0x80;
pub(crate) const PVPANIC: u16 = 0x505;
pub(crate) const PVPANIC_PANICKED: u8 = 1;
const ACPI_CONTROL: u16 = 0x604;
const ACPI_SLEEP_5: u16 = 0x2000;
pub(crate) const DEBUG_EXIT: u16 = 0xf4;
const DEBUG_EXIT_POWER_OFF: u8 = 0x31;
pub(crate) const DEBUG_EXIT_PANIC: u8 = 0x33;
const KEYBOARD: u16 = 0x64;
const KEYBOARD_RESET: u8 = 0xfe;

/// Turns the machine off in an orderly way.
pub fn power_off() -> ! {
    crate::fail::report();
    turn_off();
    port::out16(ACPI_CONTROL, ACPI_SLEEP_5);
    port::out8(DEBUG_EXIT, DEBUG_EXIT_POWER_OFF);
    reset()
}

/// Restarts the machine.
pub fn reset() -> ! {
    turn_off();
    port::out8(KEYBOARD, KEYBOARD_RESET);
    triple_fault()
}

/// Whether a panic's calls have been told, or are being told.
static CALLS_TOLD: AtomicBool = AtomicBool::new(false);

/// Says by which calls a panic came, after its message was logged, tells the host of it (pvpanic), and stops.
pub fn panicked() -> ! {
    turn_off();
    // A panic on the way through the stack comes here again.
    if !CALLS_TOLD.swap(true, Ordering::Relaxed) {
        crate::log!("called from, as image+:{}", Addresses::here());
    }
    port::out8(PVPANIC, PVPANIC_PANICKED);
    port::out8(DEBUG_EXIT, DEBUG_EXIT_PANIC);
    reset()
}

/// An exception without a table to find its handler in stops the CPU, which resets the machine.
fn triple_fault() -> ! {
    let nothing = [0_u8; 10];
    // SAFETY: the machine ends here.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) &raw const nothing, options(noreturn)) };
}

/// A boot phase for the host's timings; see the boot contract in ARCHITECTURE.md.
pub fn mark_phase(phase: u8) {
    port::out8(PHASES, phase);
}

/// Whether some CPU is writing to COM1.
static WRITING: AtomicBool = AtomicBool::new(false);
/// How often a CPU looks whether it may write before it does so anyway: who holds the line may have stopped.
const MOST_LOOKS: u32 = 200_000;

/// Writes to the machine's log (COM1), not mixed with what other CPUs write. Works from the first
/// instruction on, in any context.
pub fn log_bytes(bytes: &[u8]) {
    let _off = InterruptsOff::new();
    let mut looks = 0;
    while WRITING.swap(true, Ordering::Acquire) && looks < MOST_LOOKS {
        looks += 1;
        core::hint::spin_loop();
    }
    port::out_bytes(COM1, bytes);
    WRITING.store(false, Ordering::Release);
}
