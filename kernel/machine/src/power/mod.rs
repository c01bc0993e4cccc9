//! The end of the machine, and marks on the way to it.

use core::sync::atomic::{AtomicBool, Ordering};

#[cfg(target_os = "none")]
pub(crate) mod bare;
#[cfg(not(target_os = "none"))]
mod host;

#[cfg(target_os = "none")]
pub use bare::{log_bytes, mark_phase, panicked, power_off, reset};
#[cfg(not(target_os = "none"))]
pub use host::{log_bytes, mark_phase, panicked, power_off, reset};

/// Formats one line to the machine's log: what an operator must know.
#[macro_export]
macro_rules! log {
    ($($arg:tt)*) => { $crate::power::log_line(::core::format_args!($($arg)*)) };
}

/// As [`log!`], for what is merely of interest: nothing after `quiet` on the command line.
#[macro_export]
macro_rules! notice {
    ($($arg:tt)*) => {
        if !$crate::power::is_quiet() {
            $crate::power::log_line(::core::format_args!($($arg)*));
        }
    };
}

static QUIET: AtomicBool = AtomicBool::new(false);

/// Leaves out what [`notice!`] says from now on.
pub fn set_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Whether [`set_quiet`] was called.
#[must_use]
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// A line on its way to the log: one write, so that lines of several CPUs do not mix much.
struct Line {
    bytes: [u8; 256],
    len: usize,
}

impl Line {
    fn flush(&mut self) {
        log_bytes(&self.bytes[..self.len]);
        self.len = 0;
    }
}

impl core::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            if self.len == self.bytes.len() {
                self.flush();
            }
            self.bytes[self.len] = byte;
            self.len += 1;
        }
        Ok(())
    }
}

/// What [`log!`] calls: the line, then a newline.
pub fn log_line(line: core::fmt::Arguments<'_>) {
    use core::fmt::Write as _;
    let mut text = Line {
        bytes: [0; 256],
        len: 0,
    };
    // `Line` never fails; a `Display` that does leaves its line short.
    let _ = text.write_fmt(line);
    let _ = text.write_str("\n");
    text.flush();
}
