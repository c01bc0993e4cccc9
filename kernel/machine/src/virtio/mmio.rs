//! virtio over memory-mapped registers (virtio 1.2, section 4.2), modern layout only.

use core::ptr::NonNull;

use super::MMIO_REGISTERS_LEN as REGISTERS_LEN;
use super::device::{Device, Kind, Registers, RingAddresses, SharedMemory, Wiring};
use super::doorbell::{Doorbell, LineStatus};
use super::keep;
use super::words::Window;
use crate::heap::{Vec, try_box};

const MAGIC: u32 = 0x7472_6976;
const MODERN: u32 = 2;

/// Register offsets; names as in table 4.1 of the specification.
mod register {
    pub(super) const MAGIC_VALUE: usize = 0x00;
    pub(super) const VERSION: usize = 0x04;
    pub(super) const DEVICE_ID: usize = 0x08;
    pub(super) const DEVICE_FEATURES: usize = 0x10;
    pub(super) const DEVICE_FEATURES_SEL: usize = 0x14;
    pub(super) const DRIVER_FEATURES: usize = 0x20;
    pub(super) const DRIVER_FEATURES_SEL: usize = 0x24;
    pub(super) const QUEUE_SEL: usize = 0x30;
    pub(super) const QUEUE_NUM_MAX: usize = 0x34;
    pub(super) const QUEUE_NUM: usize = 0x38;
    pub(super) const QUEUE_READY: usize = 0x44;
    pub(super) const QUEUE_NOTIFY: usize = 0x50;
    pub(super) const INTERRUPT_STATUS: usize = 0x60;
    pub(super) const INTERRUPT_ACK: usize = 0x64;
    pub(super) const STATUS: usize = 0x70;
    pub(super) const QUEUE_DESC: usize = 0x80;
    pub(super) const QUEUE_DRIVER: usize = 0x90;
    pub(super) const QUEUE_DEVICE: usize = 0xa0;
    pub(super) const SHM_SEL: usize = 0xac;
    pub(super) const SHM_LEN: usize = 0xb0;
    pub(super) const SHM_BASE: usize = 0xb8;
    pub(super) const CONFIG_GENERATION: usize = 0xfc;
}

/// Adds the device in `window` to `devices`, unless there is none or it cannot be driven.
pub(super) fn probe(window: Window, devices: &mut Vec<Device>) {
    let base = window.base.0;
    let Some(start) = crate::mmio::map(window.base, window.len) else {
        crate::log!("virtio-mmio {base:#x}: no room to map its registers");
        return;
    };
    let registers = MmioRegisters {
        start,
        len: window.len,
    };
    let magic = registers.read(register::MAGIC_VALUE);
    if magic != MAGIC {
        crate::log!("virtio-mmio {base:#x}: magic {magic:#x}: not a virtio device");
        return;
    }
    let device_id = registers.read(register::DEVICE_ID);
    if device_id == 0 {
        // A placeholder without a device behind it.
        return;
    }
    let version = registers.read(register::VERSION);
    if version != MODERN {
        crate::log!(
            "virtio-mmio {base:#x}: device {device_id} has version {version}, wanted {MODERN} \
             (QEMU: -global virtio-mmio.force-legacy=false)"
        );
        return;
    }
    let kind = Kind::from_id(device_id);
    let wiring = Wiring::Line {
        gsi: window.gsi,
        status: LineStatus {
            status: registers.at(register::INTERRUPT_STATUS),
            acknowledge: registers.at(register::INTERRUPT_ACK),
        },
    };
    let device = || Device::new(kind, try_box(registers)?, wiring);
    keep(devices, device());
}

#[derive(Debug)]
struct MmioRegisters {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the registers belong to no thread; `start` stays mapped for good (`mmio::map`), and
// exclusive use of them is what `&mut self` and the lock in `Shared` give.
unsafe impl Send for MmioRegisters {}

impl MmioRegisters {
    /// Where the `T` at `offset` is; aligned if `offset` is, as the base is 4-aligned (`words::window`).
    fn at<T>(&self, offset: usize) -> NonNull<T> {
        let end = offset.checked_add(size_of::<T>());
        assert!(end.is_some_and(|end| end <= self.len) && offset.is_multiple_of(size_of::<T>()));
        // SAFETY: the offset is inside the mapping, as asserted.
        unsafe { self.start.byte_add(offset) }.cast()
    }

    fn read(&self, offset: usize) -> u32 {
        // SAFETY: `at` asserts that the word is inside the mapping and aligned, and device registers are
        // read with volatile accesses only.
        unsafe { self.at::<u32>(offset).read_volatile() }
    }

    fn write(&mut self, offset: usize, value: u32) {
        // SAFETY: as in `read`; `&mut self` keeps other writers away.
        unsafe { self.at::<u32>(offset).write_volatile(value) };
    }

    fn read_long(&self, offset: usize) -> u64 {
        u64::from(self.read(offset)) | u64::from(self.read(offset + 4)) << 32
    }

    fn write_address(&mut self, offset: usize, address: u64) {
        let [low, high] = halves(address);
        self.write(offset, low);
        self.write(offset + 4, high);
    }
}

/// The low and the high word of `value`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the halves are what is wanted"
)]
pub(super) const fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

impl Registers for MmioRegisters {
    fn device_features(&mut self) -> u64 {
        self.write(register::DEVICE_FEATURES_SEL, 0);
        let low = self.read(register::DEVICE_FEATURES);
        self.write(register::DEVICE_FEATURES_SEL, 1);
        let high = self.read(register::DEVICE_FEATURES);
        u64::from(low) | u64::from(high) << 32
    }

    fn set_driver_features(&mut self, features: u64) {
        for (select, half) in (0..).zip(halves(features)) {
            self.write(register::DRIVER_FEATURES_SEL, select);
            self.write(register::DRIVER_FEATURES, half);
        }
    }

    fn status(&self) -> u8 {
        (self.read(register::STATUS) & 0xff) as u8
    }

    fn set_status(&mut self, status: u8) {
        self.write(register::STATUS, status.into());
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.write(register::QUEUE_SEL, queue.into());
        self.read(register::QUEUE_NUM_MAX)
    }

    fn queue_in_use(&mut self, queue: u16) -> bool {
        self.write(register::QUEUE_SEL, queue.into());
        self.read(register::QUEUE_READY) != 0
    }

    fn set_queue(&mut self, queue: u16, size: u16, addresses: RingAddresses, _vector: u16) {
        self.write(register::QUEUE_SEL, queue.into());
        self.write(register::QUEUE_NUM, size.into());
        self.write_address(register::QUEUE_DESC, addresses.descriptors);
        self.write_address(register::QUEUE_DRIVER, addresses.driver);
        self.write_address(register::QUEUE_DEVICE, addresses.device);
        self.write(register::QUEUE_READY, 1);
    }

    fn doorbell(&mut self, queue: u16) -> Option<Doorbell> {
        let at = self.at(register::QUEUE_NOTIFY);
        Some(Doorbell::Wide(at, queue.into()))
    }

    fn shared_memory(&mut self, id: u8) -> Option<SharedMemory> {
        self.write(register::SHM_SEL, id.into());
        // All ones where there is none: `checked` refuses that.
        let (base, len) = (
            self.read_long(register::SHM_BASE),
            self.read_long(register::SHM_LEN),
        );
        SharedMemory::checked(base, len)
    }

    fn config_generation(&self) -> u32 {
        self.read(register::CONFIG_GENERATION)
    }

    fn config_len(&self) -> usize {
        self.len - REGISTERS_LEN
    }

    fn config_byte(&self, offset: usize) -> u8 {
        // SAFETY: `at` asserts that it is inside the mapping; volatile as registers must be.
        unsafe { self.at::<u8>(REGISTERS_LEN + offset).read_volatile() }
    }

    fn config_word(&self, offset: usize) -> u32 {
        self.read(REGISTERS_LEN + offset)
    }
}
