//! Interrupts: what the layers above are called for, and how to hold interrupts off.

use alloc::sync::Arc;

#[cfg(target_os = "none")]
pub(crate) mod bare;
#[cfg(not(target_os = "none"))]
mod host;

#[cfg(all(target_os = "none", any(feature = "checks", debug_assertions)))]
pub use bare::is_handling;
#[cfg(target_os = "none")]
pub use bare::{
    InterruptsOff, are_off, register, register_message, send_report, send_reschedule, set_upcalls,
    wait,
};
#[cfg(all(not(target_os = "none"), any(feature = "checks", debug_assertions)))]
pub use host::is_handling;
#[cfg(not(target_os = "none"))]
pub(crate) use host::upcalls;
#[cfg(not(target_os = "none"))]
pub use host::{
    InterruptsOff, are_off, register, register_message, send_report, send_reschedule, set_upcalls,
    wait,
};

/// What is called for an interrupt, with interrupts off.
pub type Handler = Arc<dyn Fn() + Send + Sync>;

/// Upcalls, all made with interrupts off, on the CPU concerned. Set once, by the kernel binary.
#[derive(Debug, Clone, Copy)]
pub struct Upcalls {
    /// The deadline set with [`crate::time::set_deadline`] has passed.
    pub timer: fn(),
    /// Another CPU asked this one to look at its run queue.
    pub reschedule: fn(),
}

/// What a device writes, and where, to raise a message-signalled interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Physical address of the write (a local APIC).
    pub address: u64,
    /// The value written (vector, edge, fixed delivery).
    pub data: u32,
}
