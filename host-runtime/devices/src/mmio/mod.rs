//! virtio over memory-mapped registers, version 2 (virtio 1.2, section 4.2).
//!
//! One [`Registers`] a device in front of its [`Transport`], all on one [`MmioBus`]. Queue notifications do not come
//! here: KVM turns them into events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};
use virtio_queue::QueueT;
use vmm_sys_util::eventfd::EventFd;

use super::state::{Saved, StateError};
use super::transport::{Part, Setup, Transport};
use super::{Notifier, SharedDevice, Space};

/// The registers of one device, in bytes.
pub const MMIO_SIZE: u64 = 0x1000;

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const VENDOR: u32 = u32::from_le_bytes(*b"NCRE");
/// The offset of the notification register.
pub const QUEUE_NOTIFY: u64 = 0x50;
const INTERRUPT_STATUS: u64 = 0x60;
const INTERRUPT_ACKNOWLEDGE: u64 = 0x64;
const STATUS: u64 = 0x70;
const GENERATION: u64 = 0xfc;
const CONFIG: u64 = 0x100;

/// What registers are saved as, and the version of that.
const SAVED_NAME: &str = "virtio-mmio registers";
const SAVED_VERSION: u32 = 1;

/// The register pages of all devices, one after the other.
#[derive(Debug)]
pub struct MmioBus<S> {
    start: u64,
    devices: Vec<Registers<S>>,
}

impl<S: Space> MmioBus<S> {
    /// A bus with these devices, the first at the guest's address `start`.
    #[must_use]
    pub fn new(start: u64, devices: Vec<Registers<S>>) -> Self {
        Self { start, devices }
    }

    /// A guest read; where nothing is, ones.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((registers, offset)) = self.find(address) {
            registers.read(offset, data);
        }
    }

    /// A guest write; where nothing is, it goes nowhere.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((registers, offset)) = self.find(address) {
            registers.write(offset, data);
        }
    }

    /// The name of each device and how many requests it has served.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.devices
            .iter()
            .map(|registers| registers.transport.requests())
    }

    /// Saves all devices, which stand still until they may [go on](Self::resume); the guest's CPUs have stopped.
    ///
    /// # Errors
    /// As [`Registers::save`].
    pub fn save(&self) -> Result<Vec<Saved>, StateError> {
        self.devices.iter().map(Registers::save).collect()
    }

    /// Lets devices that were saved go on, before the guest's CPUs do.
    pub fn resume(&self) {
        for registers in &self.devices {
            registers.transport.resume();
        }
    }

    /// Has all devices go on from what was saved of as many; the guest's CPUs do not run yet.
    ///
    /// # Errors
    /// As [`Registers::restore`].
    pub fn restore(&self, saved: &[Saved]) -> Result<(), StateError> {
        if saved.len() != self.devices.len() {
            return Err(StateError::Unfit {
                of: "the virtio-mmio bus".to_owned(),
                what: format!(
                    "it has {} devices instead of {}",
                    saved.len(),
                    self.devices.len()
                ),
            });
        }
        let mut devices = self.devices.iter().zip(saved);
        devices.try_for_each(|(registers, saved)| registers.restore(saved))
    }

    fn find(&self, address: u64) -> Option<(&Registers<S>, u64)> {
        let offset = address.checked_sub(self.start)?;
        let device = usize::try_from(offset / MMIO_SIZE).ok()?;
        Some((self.devices.get(device)?, offset % MMIO_SIZE))
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

    fn raise(&self, bits: u32) {
        self.status.fetch_or(bits, Ordering::AcqRel);
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
pub struct Registers<S> {
    transport: Transport<S>,
    interrupt: Arc<Interrupt>,
}

/// Their fields.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedRegisters {
    interrupt_status: u32,
    transport: Saved,
}

impl<S: Space> Registers<S> {
    /// Registers for `device`.
    #[must_use]
    pub fn new(
        device: SharedDevice<S>,
        memory: S,
        interrupt: Arc<Interrupt>,
        kicks: Vec<EventFd>,
    ) -> Self {
        let guest = Arc::clone(&interrupt) as Arc<dyn Notifier>;
        Self {
            transport: Transport::new(device, memory, guest, kicks),
            interrupt,
        }
    }

    /// Saves them, the device, and how far its driver is; the guest's CPUs have stopped.
    ///
    /// # Errors
    /// As [`Transport::save`].
    pub fn save(&self) -> Result<Saved, StateError> {
        let transport = self.transport.save()?;
        let fields = SavedRegisters {
            // After the device has given its queues up.
            interrupt_status: self.interrupt.status(),
            transport,
        };
        Saved::new(SAVED_NAME, SAVED_VERSION, &fields)
    }

    /// Goes on from a saved state; the guest's CPUs do not run yet.
    ///
    /// # Errors
    /// As [`Transport::restore`].
    pub fn restore(&self, saved: &Saved) -> Result<(), StateError> {
        let fields: SavedRegisters = saved.fields(SAVED_NAME, SAVED_VERSION)?;
        self.transport.restore(&fields.transport)?;
        if fields.interrupt_status != 0 {
            // Once too often does no harm: whether the line was raised before is not known.
            self.interrupt.raise(fields.interrupt_status);
        }
        Ok(())
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        if let Some(at) = offset.checked_sub(CONFIG) {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            self.transport.read_config(at, data);
        } else if let Ok(word) = <&mut [u8; 4]>::try_from(data) {
            *word = match offset {
                INTERRUPT_STATUS => self.interrupt.status(),
                GENERATION => self.transport.generation(),
                _ => read_setup(&self.transport.setup(), offset),
            }
            .to_le_bytes();
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some(at) = offset.checked_sub(CONFIG) {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            return self.transport.write_config(at, data);
        }
        let Ok(word) = <[u8; 4]>::try_from(data) else {
            return;
        };
        let value = u32::from_le_bytes(word);
        match offset {
            QUEUE_NOTIFY => self.transport.kick(value),
            INTERRUPT_ACKNOWLEDGE => self.interrupt.acknowledge(value),
            STATUS if value == 0 => self
                .transport
                .reset(|| self.interrupt.acknowledge(u32::MAX)),
            STATUS => self.transport.write_status(value),
            _ => write_setup(&mut self.transport.setup(), offset, value),
        }
    }
}

fn read_setup(setup: &Setup, offset: u64) -> u32 {
    let queue = setup.selected();
    match offset {
        0x00 => MAGIC,
        0x04 => VERSION,
        0x08 => setup.id,
        0x0c => VENDOR,
        0x10 => setup.offered(),
        0x34 => queue.map_or(0, |queue| u32::from(queue.max_size())),
        0x44 => queue.map_or(0, |queue| u32::from(queue.ready())),
        STATUS => setup.status,
        // No shared memory: length and base are all ones.
        0xb0..=0xbc => u32::MAX,
        _ => 0,
    }
}

fn write_setup(setup: &mut Setup, offset: u64, value: u32) {
    match offset {
        0x14 => setup.offered_select = value,
        0x20 => setup.accept(value),
        0x24 => setup.accepted_select = value,
        0x30 => setup.queue_select = value,
        0x38 => {
            if let Some(queue) = setup.selected_mut() {
                queue.set_size(u16::try_from(value).unwrap_or(0));
            }
        }
        0x44 => {
            if let Some(queue) = setup.selected_mut() {
                queue.set_ready(value == 1);
            }
        }
        0x80 | 0x84 => setup.set_address(Part::Descriptors, offset & 4 != 0, value),
        0x90 | 0x94 => setup.set_address(Part::Available, offset & 4 != 0, value),
        0xa0 | 0xa4 => setup.set_address(Part::Used, offset & 4 != 0, value),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
