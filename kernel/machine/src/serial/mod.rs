//! The first serial port (COM1) as a line for a terminal. The machine's log goes the same way out.

use alloc::boxed::Box;

#[cfg(target_os = "none")]
mod bare;
#[cfg(not(target_os = "none"))]
mod host;

#[cfg(target_os = "none")]
pub use bare::start_input;
#[cfg(not(target_os = "none"))]
pub use host::start_input;

/// Takes what was typed; called with interrupts off.
pub type Receiver = Box<dyn Fn(&[u8]) + Send + Sync>;

/// Writes bytes as they are; never blocks for long.
pub fn write(bytes: &[u8]) {
    crate::power::log_bytes(bytes);
}
