//! virtio over memory-mapped registers, version 2 (virtio 1.2, section 4.2).
//!
//! One [`Transport`] a device, all on one [`MmioBus`]. The registers lock is taken before the device's;
//! device threads take the device's only. Queue notifications do not come here: KVM turns them into events.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio_queue::{Queue, QueueT};
use vmm_sys_util::eventfd::EventFd;

use super::{Active, Notifier, SharedDevice, Space, VirtioDevice};

/// The registers of one device, in bytes.
pub const MMIO_SIZE: u64 = 0x1000;

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const VENDOR: u32 = u32::from_le_bytes(*b"NCRE");
/// The offset of the notification register.
pub const QUEUE_NOTIFY: u64 = 0x50;
const CONFIG: u64 = 0x100;

const F_INDIRECT_DESC: u64 = 1 << 28;
const F_EVENT_IDX: u64 = 1 << 29;
const F_VERSION_1: u64 = 1 << 32;
const GENERAL_FEATURES: u64 = F_INDIRECT_DESC | F_EVENT_IDX | F_VERSION_1;

const STATUS_DRIVER_OK: u32 = 4;
const STATUS_FEATURES_OK: u32 = 8;
const STATUS_NEEDS_RESET: u32 = 64;

/// The register pages of all devices, one after the other.
#[derive(Debug)]
pub struct MmioBus<S> {
    start: u64,
    transports: Vec<Transport<S>>,
}

impl<S: Space> MmioBus<S> {
    /// A bus with these devices, the first at the guest's address `start`.
    #[must_use]
    pub fn new(start: u64, transports: Vec<Transport<S>>) -> Self {
        Self { start, transports }
    }

    /// A guest read; where nothing is, ones.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((transport, offset)) = self.find(address) {
            transport.read(offset, data);
        }
    }

    /// A guest write; where nothing is, it goes nowhere.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((transport, offset)) = self.find(address) {
            transport.write(offset, data);
        }
    }

    /// The name of each device and how many requests it has served.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.transports.iter().map(|transport| {
            let name = lock(&transport.device).name();
            (name, transport.requests.load(Ordering::Relaxed))
        })
    }

    fn find(&self, address: u64) -> Option<(&Transport<S>, u64)> {
        let offset = address.checked_sub(self.start)?;
        let device = usize::try_from(offset / MMIO_SIZE).ok()?;
        Some((self.transports.get(device)?, offset % MMIO_SIZE))
    }
}

/// The interrupt line of one device and its status register.
#[derive(Debug)]
pub struct Interrupt {
    status: AtomicU32,
    line: EventFd,
}

impl Interrupt {
    const USED_BUFFER: u32 = 1;
    const CONFIG_CHANGE: u32 = 2;

    /// A line that KVM drives when `line` is written to.
    #[must_use]
    pub fn new(line: EventFd) -> Self {
        Self {
            status: AtomicU32::new(0),
            line,
        }
    }

    /// The status register.
    #[must_use]
    pub fn status(&self) -> u32 {
        self.status.load(Ordering::Acquire)
    }

    /// The guest acknowledges these bits.
    pub fn acknowledge(&self, bits: u32) {
        self.status.fetch_and(!bits, Ordering::AcqRel);
    }

    fn raise(&self, bit: u32) {
        self.status.fetch_or(bit, Ordering::AcqRel);
        // The counter of an eventfd that KVM drains does not overflow.
        let _ = self.line.write(1);
    }
}

impl Notifier for Interrupt {
    /// One line for all queues.
    fn used(&self, _: usize) {
        self.raise(Self::USED_BUFFER);
    }

    fn config_changed(&self) {
        self.raise(Self::CONFIG_CHANGE);
    }
}

/// The registers of one device.
#[derive(Debug)]
pub struct Transport<S> {
    device: SharedDevice<S>,
    memory: S,
    interrupt: Arc<Interrupt>,
    /// Written to when the guest notifies a queue by a register write that KVM did not take, and by devices.
    kicks: Arc<[EventFd]>,
    requests: Arc<AtomicU64>,
    registers: Mutex<Registers>,
}

#[derive(Debug)]
struct Registers {
    id: u32,
    offered: u64,
    queue_sizes: &'static [u16],
    status: u32,
    offered_select: u32,
    accepted_select: u32,
    accepted: u64,
    queue_select: u32,
    queues: Vec<Queue>,
    config: Vec<u8>,
}

impl<S: Space> Transport<S> {
    /// Registers for `device`.
    #[must_use]
    pub fn new(
        device: SharedDevice<S>,
        memory: S,
        interrupt: Arc<Interrupt>,
        kicks: Vec<EventFd>,
    ) -> Self {
        let registers = Registers::new(&*lock(&device));
        Self {
            device,
            memory,
            interrupt,
            kicks: kicks.into(),
            requests: Arc::default(),
            registers: Mutex::new(registers),
        }
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        let registers = self.lock();
        if let Some(at) = offset.checked_sub(CONFIG) {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            data.fill(0);
            for (byte, value) in data.iter_mut().zip(registers.config.iter().skip(at)) {
                *byte = *value;
            }
        } else if let Ok(word) = <&mut [u8; 4]>::try_from(data) {
            *word = match offset {
                0x60 => self.interrupt.status(),
                _ => registers.read(offset),
            }
            .to_le_bytes();
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let Ok(word) = <[u8; 4]>::try_from(data) else {
            return;
        };
        let value = u32::from_le_bytes(word);
        match offset {
            QUEUE_NOTIFY => {
                let kick = usize::try_from(value)
                    .ok()
                    .and_then(|queue| self.kicks.get(queue));
                if let Some(kick) = kick {
                    // The counter of an eventfd that is polled does not overflow.
                    let _ = kick.write(1);
                }
            }
            0x64 => self.interrupt.acknowledge(value),
            0x70 => self.write_status(value),
            _ => self.lock().write(offset, value),
        }
    }

    fn write_status(&self, value: u32) {
        let mut registers = self.lock();
        if value == 0 {
            lock(&self.device).reset();
            self.interrupt.acknowledge(u32::MAX);
            *registers = Registers::new(&*lock(&self.device));
            return;
        }
        let newly = value & !registers.status;
        registers.status |= value;
        if newly & STATUS_FEATURES_OK != 0 && !registers.features_are_right() {
            registers.status &= !STATUS_FEATURES_OK;
        }
        if newly & STATUS_DRIVER_OK != 0 {
            match registers.take_queues(&self.memory) {
                Some(queues) => lock(&self.device).activate(Active {
                    memory: self.memory.clone(),
                    queues,
                    notifier: Arc::clone(&self.interrupt) as Arc<dyn Notifier>,
                    kicks: Arc::clone(&self.kicks),
                    requests: Arc::clone(&self.requests),
                }),
                None => {
                    registers.status |= STATUS_NEEDS_RESET;
                    self.interrupt.config_changed();
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Registers> {
        self.registers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registers {
    fn new<S: Space>(device: &dyn VirtioDevice<S>) -> Self {
        let queue_sizes = device.queue_sizes();
        Self {
            id: device.id(),
            offered: device.features() | GENERAL_FEATURES,
            queue_sizes,
            status: 0,
            offered_select: 0,
            accepted_select: 0,
            accepted: 0,
            queue_select: 0,
            queues: fresh_queues(queue_sizes),
            config: device.config(),
        }
    }

    fn read(&self, offset: u64) -> u32 {
        match offset {
            0x00 => MAGIC,
            0x04 => VERSION,
            0x08 => self.id,
            0x0c => VENDOR,
            0x10 => half(self.offered, self.offered_select),
            0x34 => self
                .selected()
                .map_or(0, |queue| u32::from(queue.max_size())),
            0x44 => self.selected().map_or(0, |queue| u32::from(queue.ready())),
            0x70 => self.status,
            // No shared memory: length and base are all ones.
            0xb0..=0xbc => u32::MAX,
            _ => 0,
        }
    }

    fn write(&mut self, offset: u64, value: u32) {
        match offset {
            0x14 => self.offered_select = value,
            0x20 if self.status & STATUS_FEATURES_OK == 0 => match self.accepted_select {
                0 => self.accepted = (self.accepted & !0xffff_ffff) | u64::from(value),
                1 => self.accepted = (self.accepted & 0xffff_ffff) | u64::from(value) << 32,
                _ => {}
            },
            0x24 => self.accepted_select = value,
            0x30 => self.queue_select = value,
            _ if self.status & STATUS_DRIVER_OK == 0 => self.write_queue(offset, value),
            _ => {}
        }
    }

    fn write_queue(&mut self, offset: u64, value: u32) {
        let selected = usize::try_from(self.queue_select).ok();
        let Some(queue) = selected.and_then(|at| self.queues.get_mut(at)) else {
            return;
        };
        match offset {
            0x38 => queue.set_size(u16::try_from(value).unwrap_or(0)),
            0x44 => queue.set_ready(value == 1),
            0x80 => queue.set_desc_table_address(Some(value), None),
            0x84 => queue.set_desc_table_address(None, Some(value)),
            0x90 => queue.set_avail_ring_address(Some(value), None),
            0x94 => queue.set_avail_ring_address(None, Some(value)),
            0xa0 => queue.set_used_ring_address(Some(value), None),
            0xa4 => queue.set_used_ring_address(None, Some(value)),
            _ => {}
        }
    }

    fn selected(&self) -> Option<&Queue> {
        self.queues.get(usize::try_from(self.queue_select).ok()?)
    }

    fn features_are_right(&self) -> bool {
        self.accepted & !self.offered == 0 && self.accepted & F_VERSION_1 != 0
    }

    /// Gives the queues away, leaving copies to read; `None` when the driver set one up wrongly.
    fn take_queues(&mut self, memory: &impl Space) -> Option<Vec<Queue>> {
        if self.status & STATUS_FEATURES_OK == 0 {
            return None;
        }
        for queue in &mut self.queues {
            queue.set_event_idx(self.accepted & F_EVENT_IDX != 0);
        }
        let memory = memory.memory();
        let is_wrong = |queue: &Queue| queue.ready() && !queue.is_valid(&*memory);
        if self.queues.iter().any(is_wrong) {
            return None;
        }
        let mut shown = fresh_queues(self.queue_sizes);
        for (shown, taken) in shown.iter_mut().zip(&self.queues) {
            shown.set_ready(taken.ready());
        }
        Some(std::mem::replace(&mut self.queues, shown))
    }
}

fn fresh_queues(sizes: &[u16]) -> Vec<Queue> {
    // The sizes are powers of two in the code; anything else would be no queue at all.
    sizes
        .iter()
        .map(|size| Queue::new(*size).unwrap_or_default())
        .collect()
}

fn half(features: u64, select: u32) -> u32 {
    match select {
        0 => (features & 0xffff_ffff) as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

fn lock<S: Space>(device: &SharedDevice<S>) -> MutexGuard<'_, dyn VirtioDevice<S> + 'static> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
