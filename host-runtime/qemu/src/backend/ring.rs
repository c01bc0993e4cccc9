//! What QEMU has said of one ring, until the device gets it as a queue.

use std::fs::File;

use virtio_queue::{Queue, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryMmap};

/// One ring.
#[derive(Debug, Default)]
pub struct Ring {
    /// Entries.
    pub size: u16,
    /// Guest addresses of descriptors, available and used ring, once QEMU has told.
    pub addresses: Option<Addresses>,
    /// Where the device goes on taking descriptors.
    pub next_available: u16,
    /// What the guest's notifications become.
    pub kick: Option<File>,
    /// Whether QEMU wants it served.
    pub is_enabled: bool,
}

/// Where the parts of a ring are in guest memory.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Its descriptors.
    pub descriptors: u64,
    /// What the guest offers.
    pub available: u64,
    /// What the device has used.
    pub used: u64,
}

impl Ring {
    /// The queue that a device works with, not ready when the guest has not set it up; `None` when it makes no
    /// sense.
    #[must_use]
    pub fn queue(&self, most: u16, memory: &GuestMemoryMmap<()>, event_idx: bool) -> Option<Queue> {
        let mut queue = Queue::new(most).ok()?;
        let Some(at) = self.addresses.filter(|_| self.is_enabled) else {
            return Some(queue);
        };
        queue.set_size(self.size);
        let halves = |address: u64| {
            let low = u32::try_from(address & u64::from(u32::MAX)).ok();
            (low, u32::try_from(address >> 32).ok())
        };
        let (low, high) = halves(at.descriptors);
        queue.set_desc_table_address(low, high);
        let (low, high) = halves(at.available);
        queue.set_avail_ring_address(low, high);
        let (low, high) = halves(at.used);
        queue.set_used_ring_address(low, high);
        queue.set_event_idx(event_idx);
        queue.set_next_avail(self.next_available);
        // The index stands behind the ring's flags.
        let index = GuestAddress(at.used).checked_add(2)?;
        queue.set_next_used(u16::from_le(memory.read_obj(index).ok()?));
        queue.set_ready(true);
        queue.is_valid(memory).then_some(queue)
    }
}
