//! What a bus gives a device: its registers, the memory that it offers, and how it interrupts. mmio and PCI implement it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use crate::addr::PhysAddr;
use crate::cpu::CpuId;
use crate::virtio::doorbell::{Doorbell, LineStatus};

/// Where a ring lies in guest-physical memory.
#[derive(Debug, Clone, Copy)]
pub(in crate::virtio) struct RingAddresses {
    /// Descriptor table.
    pub(in crate::virtio) descriptors: u64,
    /// Driver area (available ring).
    pub(in crate::virtio) driver: u64,
    /// Device area (used ring).
    pub(in crate::virtio) device: u64,
}

/// Memory that a device offers (virtio 1.2, section 2.10): the DAX window of a file system, say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedMemory {
    /// Where it starts in guest-physical memory.
    pub base: PhysAddr,
    /// Bytes of it; never 0.
    pub len: u64,
}

impl SharedMemory {
    /// What a device claims, if that can be.
    pub(in crate::virtio) fn checked(base: u64, len: u64) -> Option<SharedMemory> {
        let end = base.checked_add(len)?;
        // No processor has more than 52 bits of physical address.
        (base != 0 && len != 0 && end <= 1 << 52).then_some(SharedMemory {
            base: PhysAddr(base),
            len,
        })
    }
}

/// A device's registers, whatever bus they are on.
pub(in crate::virtio) trait Registers: Send + fmt::Debug {
    /// Features offered.
    fn device_features(&mut self) -> u64;
    /// Features accepted.
    fn set_driver_features(&mut self, features: u64);
    /// Device status.
    fn status(&self) -> u8;
    /// Sets the device status; 0 resets.
    fn set_status(&mut self, status: u8);
    /// Entries a queue may have, 0 when it is not there.
    fn max_queue_size(&mut self, queue: u16) -> u32;
    /// Whether a queue is set up.
    fn queue_in_use(&mut self, queue: u16) -> bool;
    /// Sets a queue up. With messages, `vector` is its entry of the MSI-X table.
    fn set_queue(&mut self, queue: u16, size: u16, addresses: RingAddresses, vector: u16);
    /// Where queue `queue` is notified; `None` when the device names a place that it does not have.
    fn doorbell(&mut self, queue: u16) -> Option<Doorbell>;
    /// Region `id` of shared memory.
    fn shared_memory(&mut self, id: u8) -> Option<SharedMemory>;
    /// Changes whenever the configuration does.
    fn config_generation(&self) -> u32;
    /// Bytes of device configuration.
    fn config_len(&self) -> usize;
    /// One byte of device configuration; `offset` is below `config_len`.
    fn config_byte(&self, offset: usize) -> u8;
    /// An aligned word of device configuration that ends by `config_len`.
    fn config_word(&self, offset: usize) -> u32;
}

/// What a queue's interrupt calls: with interrupts off, whenever the queue may have completions.
pub type Events = Arc<dyn Fn() + Send + Sync>;

/// Gives queues their messages (MSI-X).
pub(in crate::virtio) trait Messages: Send + fmt::Debug {
    /// A message to `cpu` that calls `events`: its entry of the device's table. When the table or the vectors
    /// are used up, it is one that other queues have, too. `None` when there is none at all.
    fn assign(&mut self, cpu: CpuId, events: Events) -> Option<u16>;
}

/// How a device interrupts.
#[derive(Debug)]
pub(in crate::virtio) enum Wiring {
    /// A line of the I/O APIC for all queues.
    Line { gsi: u32, status: LineStatus },
    /// A message a queue.
    Messages(Box<dyn Messages>),
}
