//! The end of the machine, and marks on the way to it.

/// Turns the machine off in an orderly way.
pub fn power_off() -> ! {
    todo!()
}

/// Restarts the machine.
pub fn reset() -> ! {
    todo!()
}

/// Tells the host that the kernel panicked (pvpanic), after the message was logged, and stops.
pub fn panicked() -> ! {
    todo!()
}

/// A boot phase for the host's timings; see the boot contract in ARCHITECTURE.md.
pub fn mark_phase(phase: u8) {
    let _ = phase;
    todo!()
}

/// Writes to the machine's log (COM1). Works from the first instruction on, in any context.
pub fn log_bytes(bytes: &[u8]) {
    let _ = bytes;
    todo!()
}

/// Formats one line to the machine's log.
#[macro_export]
macro_rules! log {
    ($($arg:tt)*) => { $crate::power::log_line(::core::format_args!($($arg)*)) };
}

/// What [`log!`] calls: the line, then a newline.
pub fn log_line(line: core::fmt::Arguments<'_>) {
    let _ = line;
    todo!()
}
