//! Interrupts: what the layers above are called for, and how to hold interrupts off.

use crate::cpu::CpuId;
use alloc::boxed::Box;

/// Upcalls, all made with interrupts off, on the CPU concerned. Set once, by the kernel binary.
#[derive(Debug, Clone, Copy)]
pub struct Upcalls {
    /// The deadline set with [`crate::time::set_deadline`] has passed.
    pub timer: fn(),
    /// Another CPU asked this one to look at its run queue.
    pub reschedule: fn(),
}

/// Sets the upcalls. Before that, interrupts are acknowledged and dropped.
pub fn set_upcalls(upcalls: Upcalls) {
    let _ = upcalls;
    todo!()
}

/// Calls `handler` with interrupts off whenever the device interrupt `gsi` arrives.
/// One handler a line; a shared line calls all that registered.
pub fn register(gsi: u32, handler: Box<dyn Fn() + Send + Sync>) {
    let _ = (gsi, handler);
    todo!()
}

/// What a device writes, and where, to raise a message-signalled interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Physical address of the write (a local APIC).
    pub address: u64,
    /// The value written (vector, edge, fixed delivery).
    pub data: u32,
}

/// Gives a vector of its own to a message-signalled interrupt (MSI-X on PCI) that calls `handler`
/// with interrupts off on the boot CPU. `None` when no vector is left.
pub fn register_message(handler: Box<dyn Fn() + Send + Sync>) -> Option<Message> {
    let _ = handler;
    todo!()
}

/// Makes `cpu` call [`Upcalls::reschedule`].
pub fn send_reschedule(cpu: CpuId) {
    let _ = cpu;
    todo!()
}

/// Waits for an interrupt, atomically with turning interrupts on; returns with them off.
/// Call with interrupts off (the caller has just found nothing to do).
pub fn wait() {
    todo!()
}

/// Whether interrupts are off on this CPU.
#[must_use]
pub fn are_off() -> bool {
    todo!()
}

/// Keeps interrupts off on this CPU until dropped; nests.
#[derive(Debug)]
pub struct InterruptsOff(());

impl InterruptsOff {
    /// Turns interrupts off.
    #[must_use]
    pub fn new() -> Self {
        todo!()
    }
}

impl Default for InterruptsOff {
    fn default() -> Self {
        Self::new()
    }
}
