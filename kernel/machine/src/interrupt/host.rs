//! Host double: nothing interrupts a host thread, so "off" is only counted; the timer upcall
//! comes from a thread of its own (see `time`).

use core::cell::Cell;
use std::sync::OnceLock;

use super::{Handler, Message, Upcalls};
use crate::cpu::CpuId;
use crate::heap::AllocError;

static UPCALLS: OnceLock<Upcalls> = OnceLock::new();

std::thread_local! {
    static OFF: Cell<usize> = const { Cell::new(0) };
}

/// Sets the upcalls; the first call counts.
pub fn set_upcalls(upcalls: Upcalls) {
    let _ = UPCALLS.set(upcalls);
}

/// The upcalls, once set.
pub(crate) fn upcalls() -> Option<Upcalls> {
    UPCALLS.get().copied()
}

/// There are no devices on the host: the handler is dropped.
///
/// # Errors
/// None here.
pub fn register(gsi: u32, handler: Handler) -> Result<(), AllocError> {
    drop((gsi, handler));
    Ok(())
}

/// There are no devices on the host: the handler is dropped.
#[must_use]
pub fn register_message(cpu: CpuId, handler: Handler) -> Option<Message> {
    drop((cpu, handler));
    None
}

/// Calls the reschedule upcall here, the only CPU.
pub fn send_reschedule(cpu: CpuId) {
    let _ = cpu;
    if let Some(upcalls) = upcalls() {
        (upcalls.reschedule)();
    }
}

/// Nothing interrupts a host thread.
#[cfg(any(feature = "checks", debug_assertions))]
#[must_use]
pub fn is_handling() -> bool {
    false
}

/// A host thread has a debugger for that.
pub fn send_report(cpu: CpuId) {
    let _ = cpu;
}

/// Lets other host threads run.
pub fn wait() {
    std::thread::sleep(core::time::Duration::from_micros(50));
}

/// Whether this thread holds an [`InterruptsOff`].
#[must_use]
pub fn are_off() -> bool {
    OFF.get() > 0
}

/// Counts as interrupts off on this thread until dropped; nests.
#[derive(Debug)]
pub struct InterruptsOff(core::marker::PhantomData<*const ()>);

impl InterruptsOff {
    /// Turns interrupts off.
    #[must_use]
    pub fn new() -> Self {
        OFF.set(OFF.get() + 1);
        Self(core::marker::PhantomData)
    }
}

impl Default for InterruptsOff {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for InterruptsOff {
    fn drop(&mut self) {
        OFF.set(OFF.get() - 1);
    }
}
