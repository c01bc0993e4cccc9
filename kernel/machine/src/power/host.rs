//! Host double: the log is standard error, and the end of the machine is that of the process.

use std::io::Write as _;

/// Ends the process with success.
pub fn power_off() -> ! {
    std::process::exit(0)
}

/// Ends the process with failure.
pub fn reset() -> ! {
    std::process::exit(1)
}

/// Aborts the process.
pub fn panicked() -> ! {
    std::process::abort()
}

/// Nothing measures phases on the host.
pub fn mark_phase(phase: u8) {
    let _ = phase;
}

/// Writes to standard error.
pub fn log_bytes(bytes: &[u8]) {
    // A closed standard error leaves nobody to tell.
    let _ = std::io::stderr().write_all(bytes);
}
