//! Registers that are used without a lock: a queue's doorbell, and the status of an interrupt line.
//!
//! Each is one word with no state beside it, so that CPUs may write it at the same time.

use core::ptr::NonNull;

/// Where a queue is notified, and by what.
#[derive(Debug, Clone, Copy)]
pub(super) enum Doorbell {
    /// A 32-bit register that takes the queue's number (virtio-mmio).
    Wide(NonNull<u32>, u32),
    /// A 16-bit register that takes the queue's number (virtio-pci).
    Narrow(NonNull<u16>, u16),
}

// SAFETY: a doorbell points to an aligned device register that stays mapped for good (`mmio::map`), and a
// single volatile store from whichever CPU is all that happens to it.
unsafe impl Send for Doorbell {}
// SAFETY: as above.
unsafe impl Sync for Doorbell {}

impl Doorbell {
    /// Tells the device that the queue has requests. What was written to the ring before is visible to it.
    pub(super) fn ring(self) {
        match self {
            // SAFETY: a mapped register, as promised by the type; the device reads nothing else.
            Doorbell::Wide(at, queue) => unsafe { at.write_volatile(queue) },
            // SAFETY: as above.
            Doorbell::Narrow(at, queue) => unsafe { at.write_volatile(queue) },
        }
    }
}

/// `InterruptStatus` and `InterruptACK` of virtio-mmio (virtio 1.2, section 4.2.2).
#[derive(Debug, Clone, Copy)]
pub(super) struct LineStatus {
    pub(super) status: NonNull<u32>,
    pub(super) acknowledge: NonNull<u32>,
}

// SAFETY: both are aligned device registers that stay mapped for good; the handler of the line uses them, on
// one CPU at a time, and a bit that was acknowledged twice was only acknowledged early for the same queues.
unsafe impl Send for LineStatus {}
// SAFETY: as above.
unsafe impl Sync for LineStatus {}

impl LineStatus {
    /// Reads and clears what the device interrupted for; whether there was anything.
    pub(super) fn take(self) -> bool {
        // SAFETY: a mapped register, as promised by the type.
        let status = unsafe { self.status.read_volatile() };
        if status != 0 {
            // SAFETY: as above.
            unsafe { self.acknowledge.write_volatile(status) };
        }
        status != 0
    }
}
