//! Port I/O.

use core::arch::asm;

use x86_64::instructions::port::Port;

/// Ports with side effects that only concern devices: writing them breaks no memory.
pub(crate) fn out8(port: u16, value: u8) {
    // SAFETY: the ports that this crate writes (UART, PIC, PIT, RTC, power, debug) move no memory.
    unsafe { Port::<u8>::new(port).write(value) };
}

/// As [`out8`], 16 bits.
pub(crate) fn out16(port: u16, value: u16) {
    // SAFETY: as in `out8`.
    unsafe { Port::<u16>::new(port).write(value) };
}

/// Reads a port.
pub(crate) fn in8(port: u16) -> u8 {
    // SAFETY: as in `out8`.
    unsafe { Port::<u8>::new(port).read() }
}

/// Writes all bytes to one port; under KVM that is one exit for many bytes.
pub(crate) fn out_bytes(port: u16, bytes: &[u8]) {
    // SAFETY: REP OUTSB reads exactly the slice; the direction flag is clear in the kernel.
    unsafe {
        asm!("rep outsb", in("dx") port, inout("rsi") bytes.as_ptr() => _,
            inout("rcx") bytes.len() => _, options(readonly, nostack));
    }
}
