//! The registers of a virtio-pci device (`virtio_pci_common_cfg`, section 4.1.4.3).

use core::fmt;
use core::ptr::NonNull;

use crate::virtio::device::{Registers, RingAddresses, SharedMemory};
use crate::virtio::doorbell::Doorbell;
use crate::virtio::mmio::halves;

/// Mapped device registers.
#[derive(Debug)]
pub(super) struct Region {
    /// The first byte, 4-aligned; mapped for good.
    pub(super) start: NonNull<u8>,
    /// Bytes mapped.
    pub(super) len: usize,
}

// SAFETY: registers belong to no thread; the lock around their device orders the accesses.
unsafe impl Send for Region {}

/// Accessors of one width.
macro_rules! accessors {
    ($read:ident, $write:ident, $type:ty) => {
        pub(super) fn $read(&self, offset: usize) -> $type {
            // SAFETY: `at` checks that the register is inside the mapping and aligned.
            unsafe { self.at::<$type>(offset).read_volatile() }
        }

        #[allow(dead_code, reason = "not every width is written")]
        pub(super) fn $write(&mut self, offset: usize, value: $type) {
            // SAFETY: `at` checks that the register is inside the mapping and aligned.
            unsafe { self.at::<$type>(offset).write_volatile(value) }
        }
    };
}

impl Region {
    fn at<R>(&self, offset: usize) -> NonNull<R> {
        assert!(
            offset
                .checked_add(size_of::<R>())
                .is_some_and(|end| end <= self.len)
        );
        assert!(offset.is_multiple_of(align_of::<R>()));
        // SAFETY: the offset is inside the mapping, as asserted.
        unsafe { self.start.byte_add(offset) }.cast()
    }

    accessors!(read_u8, write_u8, u8);
    accessors!(read_u16, write_u16, u16);
    accessors!(read_u32, write_u32, u32);
}

/// Offsets in the common configuration.
mod register {
    pub(super) const DEVICE_FEATURE_SELECT: usize = 0;
    pub(super) const DEVICE_FEATURE: usize = 4;
    pub(super) const DRIVER_FEATURE_SELECT: usize = 8;
    pub(super) const DRIVER_FEATURE: usize = 12;
    pub(super) const CONFIG_MSIX_VECTOR: usize = 16;
    pub(super) const DEVICE_STATUS: usize = 20;
    pub(super) const CONFIG_GENERATION: usize = 21;
    pub(super) const QUEUE_SELECT: usize = 22;
    pub(super) const QUEUE_SIZE: usize = 24;
    pub(super) const QUEUE_MSIX_VECTOR: usize = 26;
    pub(super) const QUEUE_ENABLE: usize = 28;
    pub(super) const QUEUE_NOTIFY_OFF: usize = 30;
    pub(super) const QUEUE_DESC: usize = 32;
    pub(super) const QUEUE_DRIVER: usize = 40;
    pub(super) const QUEUE_DEVICE: usize = 48;
    pub(super) const END: usize = 56;
}

/// Regions of shared memory that are remembered.
pub(super) const SHARED_REGIONS: usize = 4;
const NO_VECTOR: u16 = 0xffff;

pub(super) struct PciRegisters {
    common: Region,
    notify: Region,
    notify_multiplier: u32,
    config: Option<Region>,
    /// Shared memory by id.
    shared: [Option<(u8, SharedMemory)>; SHARED_REGIONS],
}

impl fmt::Debug for PciRegisters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PciRegisters")
            .field("common", &self.common)
            .finish_non_exhaustive()
    }
}

impl PciRegisters {
    /// `None` when the common registers are shorter than the specification has them.
    pub(super) fn new(
        common: Region,
        notify: Region,
        notify_multiplier: u32,
        config: Option<Region>,
        shared: [Option<(u8, SharedMemory)>; SHARED_REGIONS],
    ) -> Option<PciRegisters> {
        (common.len >= register::END).then_some(PciRegisters {
            common,
            notify,
            notify_multiplier,
            config,
            shared,
        })
    }

    fn write_address(&mut self, offset: usize, address: u64) {
        let [low, high] = halves(address);
        self.common.write_u32(offset, low);
        self.common.write_u32(offset + 4, high);
    }
}

impl Registers for PciRegisters {
    fn device_features(&mut self) -> u64 {
        self.common.write_u32(register::DEVICE_FEATURE_SELECT, 0);
        let low = self.common.read_u32(register::DEVICE_FEATURE);
        self.common.write_u32(register::DEVICE_FEATURE_SELECT, 1);
        let high = self.common.read_u32(register::DEVICE_FEATURE);
        u64::from(low) | u64::from(high) << 32
    }

    fn set_driver_features(&mut self, features: u64) {
        for (select, half) in (0..).zip(halves(features)) {
            self.common
                .write_u32(register::DRIVER_FEATURE_SELECT, select);
            self.common.write_u32(register::DRIVER_FEATURE, half);
        }
        // Changes of the configuration are not listened for.
        self.common
            .write_u16(register::CONFIG_MSIX_VECTOR, NO_VECTOR);
    }

    fn status(&self) -> u8 {
        self.common.read_u8(register::DEVICE_STATUS)
    }

    fn set_status(&mut self, status: u8) {
        self.common.write_u8(register::DEVICE_STATUS, status);
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.common.write_u16(register::QUEUE_SELECT, queue);
        self.common.read_u16(register::QUEUE_SIZE).into()
    }

    fn queue_in_use(&mut self, queue: u16) -> bool {
        self.common.write_u16(register::QUEUE_SELECT, queue);
        self.common.read_u16(register::QUEUE_ENABLE) != 0
    }

    fn set_queue(&mut self, queue: u16, size: u16, addresses: RingAddresses, vector: u16) {
        self.common.write_u16(register::QUEUE_SELECT, queue);
        self.common.write_u16(register::QUEUE_SIZE, size);
        self.common.write_u16(register::QUEUE_MSIX_VECTOR, vector);
        if self.common.read_u16(register::QUEUE_MSIX_VECTOR) != vector {
            crate::log!("virtio-pci: the device took no interrupt vector for queue {queue}");
        }
        self.write_address(register::QUEUE_DESC, addresses.descriptors);
        self.write_address(register::QUEUE_DRIVER, addresses.driver);
        self.write_address(register::QUEUE_DEVICE, addresses.device);
        self.common.write_u16(register::QUEUE_ENABLE, 1);
    }

    fn doorbell(&mut self, queue: u16) -> Option<Doorbell> {
        self.common.write_u16(register::QUEUE_SELECT, queue);
        let notify_off = u64::from(self.common.read_u16(register::QUEUE_NOTIFY_OFF));
        let offset = usize::try_from(notify_off * u64::from(self.notify_multiplier)).ok()?;
        let is_inside = offset.is_multiple_of(2) && offset.checked_add(2)? <= self.notify.len;
        is_inside.then(|| Doorbell::Narrow(self.notify.at(offset), queue))
    }

    fn shared_memory(&mut self, id: u8) -> Option<SharedMemory> {
        let known = self.shared.iter().flatten();
        known
            .filter(|(number, _)| *number == id)
            .map(|(_, region)| *region)
            .next()
    }

    fn config_generation(&self) -> u32 {
        self.common.read_u8(register::CONFIG_GENERATION).into()
    }

    fn config_len(&self) -> usize {
        self.config.as_ref().map_or(0, |config| config.len)
    }

    fn config_byte(&self, offset: usize) -> u8 {
        self.config
            .as_ref()
            .map_or(0, |config| config.read_u8(offset))
    }

    fn config_word(&self, offset: usize) -> u32 {
        self.config
            .as_ref()
            .map_or(0, |config| config.read_u32(offset))
    }
}
