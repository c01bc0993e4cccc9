//! A virtio driver for tests: sets a device up through its registers and queues, as a guest would.

use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{MMIO_START, Memory, SharedMemory};
use crate::SharedDevice;
use crate::mmio::{Interrupt, MmioBus, Registers};
use crate::state::Saved;

/// How many entries each queue has.
pub const ENTRIES: u16 = 16;
/// Descriptor flag: writable by the device.
pub const WRITE: u16 = 2;
/// Descriptor flag: another one follows.
pub const NEXT: u16 = 1;
/// Buffers go here; queues lie below.
pub const BUFFERS: u64 = 0x10_0000;

/// A driver with its device.
pub struct Driver {
    pub memory: Arc<Memory>,
    pub bus: MmioBus<SharedMemory>,
    pub line: EventFd,
    added: Vec<u16>,
    seen: Vec<u16>,
}

impl Driver {
    /// A driver that has not touched its device yet.
    pub fn new(device: SharedDevice<SharedMemory>) -> Self {
        let memory = Arc::new(Memory::from_ranges(&[(GuestAddress(0), 4 << 20)]).expect("room"));
        Self::with_memory(device, memory)
    }

    fn with_memory(device: SharedDevice<SharedMemory>, memory: Arc<Memory>) -> Self {
        let line = EventFd::new(EFD_NONBLOCK).expect("a descriptor");
        let interrupt = Arc::new(Interrupt::new(line.try_clone().expect("a descriptor")));
        let queues = device.lock().expect("not poisoned").queue_sizes().len();
        let registers = Registers::new(device, Arc::clone(&memory), interrupt, Vec::new());
        let bus = MmioBus::new(MMIO_START, vec![registers]);
        Self {
            memory,
            bus,
            line,
            added: vec![0; queues],
            seen: vec![0; queues],
        }
    }

    /// A driver that is ready to use its device's queues.
    pub fn ready(device: SharedDevice<SharedMemory>) -> Self {
        let driver = Self::new(device);
        driver.accept(1);
        for queue in 0..driver.added.len() as u64 {
            driver.set_up_queue(queue, queue_at(queue));
        }
        driver.write(0x70, 15);
        assert_eq!(driver.read(0x70), 15);
        driver
    }

    /// The same driver, with `device` in the place of the one that it set up, which goes on from that one's state.
    pub fn go_on_with(self, device: SharedDevice<SharedMemory>) -> Self {
        let saved = serde_json::to_string(&self.bus.save().expect("it can be saved"));
        let next = Self::with_memory(device, self.memory);
        let saved: Vec<Saved> = serde_json::from_str(&saved.expect("plain")).expect("the same");
        next.bus.restore(&saved).expect("it fits");
        Self {
            added: self.added,
            seen: self.seen,
            ..next
        }
    }

    pub fn read(&self, offset: u64) -> u32 {
        let mut word = [0; 4];
        self.bus.read(MMIO_START + offset, &mut word);
        u32::from_le_bytes(word)
    }

    pub fn write(&self, offset: u64, value: u32) {
        self.bus.write(MMIO_START + offset, &value.to_le_bytes());
    }

    /// Resets, then accepts the general features' upper half.
    pub fn accept(&self, upper_features: u32) {
        for status in [0, 1, 3] {
            self.write(0x70, status);
        }
        self.write(0x24, 1);
        self.write(0x20, upper_features);
        self.write(0x70, 11);
    }

    pub fn set_up_queue(&self, queue: u64, at: u64) {
        self.write(0x30, u32::try_from(queue).expect("few"));
        self.write(0x38, ENTRIES.into());
        for (offset, address) in [(0x80, at), (0x90, at + 0x1000), (0xa0, at + 0x2000)] {
            self.write(offset, (address & 0xffff_ffff) as u32);
            self.write(offset + 4, (address >> 32) as u32);
        }
        self.write(0x44, 1);
    }

    /// Makes a chain available: address, length and flags of each descriptor.
    pub fn add(&mut self, queue: usize, chain: &[(u64, u32, u16)]) {
        let at = queue_at(queue as u64);
        let head = self.added[queue] * 4 % ENTRIES;
        for (index, (address, length, flags)) in (head..).zip(chain) {
            let next = if usize::from(index - head) + 1 < chain.len() {
                NEXT
            } else {
                0
            };
            let mut descriptor = [0; 16];
            descriptor[..8].copy_from_slice(&address.to_le_bytes());
            descriptor[8..12].copy_from_slice(&length.to_le_bytes());
            descriptor[12..14].copy_from_slice(&(flags | next).to_le_bytes());
            descriptor[14..].copy_from_slice(&(index + 1).to_le_bytes());
            self.put(at + u64::from(index) * 16, &descriptor);
        }
        let slot = self.added[queue] % ENTRIES;
        self.put(at + 0x1004 + u64::from(slot) * 2, &head.to_le_bytes());
        self.added[queue] = self.added[queue].wrapping_add(1);
        self.put(at + 0x1002, &self.added[queue].to_le_bytes());
    }

    /// The lengths of the buffers the device has used since this was last asked.
    pub fn used(&mut self, queue: usize) -> Vec<u32> {
        let at = queue_at(queue as u64) + 0x2000;
        let index = u16::from_le_bytes(self.get(at + 2, 2).try_into().expect("two"));
        let mut lengths = Vec::new();
        while self.seen[queue] != index {
            let slot = self.seen[queue] % ENTRIES;
            let entry = self.get(at + 8 + u64::from(slot) * 8, 4);
            lengths.push(u32::from_le_bytes(entry.try_into().expect("four")));
            self.seen[queue] = self.seen[queue].wrapping_add(1);
        }
        lengths
    }

    pub fn put(&self, at: u64, bytes: &[u8]) {
        self.memory
            .write_slice(bytes, GuestAddress(at))
            .expect("in memory");
    }

    pub fn get(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory
            .read_slice(&mut bytes, GuestAddress(at))
            .expect("in memory");
        bytes
    }
}

fn queue_at(queue: u64) -> u64 {
    (queue + 1) * 0x1_0000
}
