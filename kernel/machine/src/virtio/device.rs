//! A device from discovery to running: registers, features, queues, interrupt.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use super::queue::{Notify, RequestQueue, Ring};
use crate::interrupt;
use crate::sync::IrqLock;

/// What a device is for (virtio 1.2, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A network card.
    Network,
    /// A disk.
    Block,
    /// A console.
    Console,
    /// A source of randomness.
    Entropy,
    /// Stream sockets to the host.
    Socket,
    /// A shared directory.
    FileSystem,
    /// Any other device id.
    Other(u32),
}

impl Kind {
    /// The kind that a virtio device id stands for.
    #[must_use]
    pub const fn from_id(id: u32) -> Kind {
        match id {
            1 => Kind::Network,
            2 => Kind::Block,
            3 => Kind::Console,
            4 => Kind::Entropy,
            19 => Kind::Socket,
            26 => Kind::FileSystem,
            other => Kind::Other(other),
        }
    }
}

/// How long a device may take to reset itself.
const RESET_BOUND_NS: u64 = 1_000_000_000;

/// Why a device could not be set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetupError {
    /// The device did not say within [`RESET_BOUND_NS`] that it has reset itself.
    NoReset,
    /// The device offers no virtio 1.x.
    Legacy,
    /// The device turned down the features it had offered.
    FeaturesRefused,
    /// The device has no such queue, or one too small to use.
    NoQueue(u16),
    /// No memory for a ring.
    OutOfMemory,
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoReset => f.write_str("the device does not reset itself"),
            Self::Legacy => f.write_str("the device offers no virtio 1.x"),
            Self::FeaturesRefused => f.write_str("the device refused the features it offered"),
            Self::NoQueue(index) => write!(f, "the device has no usable queue {index}"),
            Self::OutOfMemory => f.write_str("no memory for a queue"),
        }
    }
}

/// Where a ring lies in guest-physical memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct RingAddresses {
    /// Descriptor table.
    pub(super) descriptors: u64,
    /// Driver area (available ring).
    pub(super) driver: u64,
    /// Device area (used ring).
    pub(super) device: u64,
}

/// A device's registers, whatever bus they are on.
pub(super) trait Registers: Send + fmt::Debug {
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
    /// Sets a queue up.
    fn set_queue(&mut self, queue: u16, size: u32, addresses: RingAddresses);
    /// Tells the device that a queue has requests.
    fn notify(&mut self, queue: u16);
    /// Reads and clears the interrupt status.
    fn acknowledge(&mut self) -> u32;
    /// Changes whenever the configuration does.
    fn config_generation(&self) -> u32;
    /// Bytes of device configuration.
    fn config_len(&self) -> usize;
    /// One byte of device configuration; `offset` is below `config_len`.
    fn config_byte(&self, offset: usize) -> u8;
    /// An aligned word of device configuration that ends by `config_len`.
    fn config_word(&self, offset: usize) -> u32;
}

/// How a device interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wiring {
    /// A line of the I/O APIC.
    Line(u32),
    /// Messages; `acknowledge` has nothing to do. Set up by the bus code through this slot.
    Messages,
}

/// Registers as all parts of a running device share them.
pub(super) type Shared = Arc<IrqLock<Box<dyn Registers>>>;

mod status {
    pub(super) const ACKNOWLEDGE: u8 = 1;
    pub(super) const DRIVER: u8 = 2;
    pub(super) const DRIVER_OK: u8 = 4;
    pub(super) const FEATURES_OK: u8 = 8;
}

mod feature {
    pub(super) const INDIRECT_DESC: u64 = 1 << 28;
    pub(super) const EVENT_IDX: u64 = 1 << 29;
    pub(super) const VERSION_1: u64 = 1 << 32;
    pub(super) const ACCESS_PLATFORM: u64 = 1 << 33;
}

/// What a device's interrupts call: with interrupts off, whenever a queue may have completions.
pub type Events = Box<dyn Fn() + Send + Sync>;

/// Where a message-signalled device finds the handler, which is known only once it starts.
pub(super) type HandlerSlot = Arc<IrqLock<Option<Events>>>;

/// A device that was found and is not running yet.
#[derive(Debug)]
pub struct Device {
    kind: Kind,
    registers: Shared,
    wiring: Wiring,
    handler: HandlerSlotDebug,
    features: u64,
}

struct HandlerSlotDebug(HandlerSlot);

impl fmt::Debug for HandlerSlotDebug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandlerSlot")
    }
}

impl Device {
    /// A device whose messages, if it sends any, call what `handler` will hold.
    pub(super) fn new(
        kind: Kind,
        registers: Box<dyn Registers>,
        wiring: Wiring,
        handler: HandlerSlot,
    ) -> Device {
        Device {
            kind,
            registers: Arc::new(IrqLock::new(registers)),
            wiring,
            handler: HandlerSlotDebug(handler),
            features: 0,
        }
    }

    /// What the device is for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Resets the device and agrees on features: of `wanted`, those offered, which it returns; and of
    /// the transport's own, virtio 1.x, event indices and indirect descriptors.
    ///
    /// # Errors
    /// [`SetupError::NoReset`], [`SetupError::Legacy`], [`SetupError::FeaturesRefused`].
    pub fn negotiate(&mut self, wanted: u64) -> Result<u64, SetupError> {
        let mut registers = self.registers.lock();
        registers.set_status(0);
        let deadline = crate::time::now_ns() + RESET_BOUND_NS;
        while registers.status() != 0 {
            if crate::time::now_ns() > deadline {
                return Err(SetupError::NoReset);
            }
            core::hint::spin_loop();
        }
        registers.set_status(status::ACKNOWLEDGE | status::DRIVER);
        let offered = registers.device_features();
        if offered & feature::VERSION_1 == 0 {
            return Err(SetupError::Legacy);
        }
        let own = feature::VERSION_1
            | feature::EVENT_IDX
            | feature::INDIRECT_DESC
            | feature::ACCESS_PLATFORM;
        let accepted = offered & (own | wanted);
        registers.set_driver_features(accepted);
        registers.set_status(status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK);
        if registers.status() & status::FEATURES_OK == 0 {
            return Err(SetupError::FeaturesRefused);
        }
        drop(registers);
        self.features = accepted;
        Ok(accepted & wanted)
    }

    /// Sets queue `index` up, with at most `wanted_size` entries. Each request carries a `T` of the
    /// driver's.
    ///
    /// # Errors
    /// [`SetupError::NoQueue`], [`SetupError::OutOfMemory`].
    pub fn queue<T: Send>(
        &mut self,
        index: u16,
        wanted_size: u16,
    ) -> Result<Arc<RequestQueue<T>>, SetupError> {
        let ring = self.ring(index, wanted_size)?;
        let registers = self.registers.clone();
        let notify: Notify = Box::new(move || registers.lock().notify(index));
        Ok(Arc::new(RequestQueue::new(ring, notify)))
    }

    #[cfg(target_os = "none")]
    fn ring(&mut self, index: u16, wanted_size: u16) -> Result<Box<dyn Ring>, SetupError> {
        let indirect = self.features & feature::INDIRECT_DESC != 0;
        let event_index = self.features & feature::EVENT_IDX != 0;
        let mut registers = self.registers.lock();
        super::ring::new(
            registers.as_mut(),
            index,
            wanted_size,
            indirect,
            event_index,
        )
    }

    #[cfg(not(target_os = "none"))]
    fn ring(&mut self, index: u16, _wanted_size: u16) -> Result<Box<dyn Ring>, SetupError> {
        // The double's queues come from `fake`, without a device.
        Err(SetupError::NoQueue(index))
    }

    /// Lets the device run; `events` is called for its interrupts from then on.
    pub fn start(self, events: Events) -> Running {
        match self.wiring {
            Wiring::Messages => *self.handler.0.lock() = Some(events),
            Wiring::Line(gsi) => {
                let registers = self.registers.clone();
                let handler = move || {
                    // Acknowledged before the queues are looked at: what comes later raises the
                    // line again. The guard is gone before `events` takes the queues' locks.
                    let status = registers.lock().acknowledge();
                    if status != 0 {
                        events();
                    }
                };
                interrupt::register(gsi, Box::new(handler));
            }
        }
        self.registers.lock().set_status(
            status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK,
        );
        Running {
            registers: self.registers,
        }
    }

    /// Fills `to` from the device's configuration at `offset`; `false` when it ends before.
    pub fn read_config(&self, offset: usize, to: &mut [u8]) -> bool {
        read_config(&self.registers, offset, to)
    }

    /// The little-endian word at `offset` (4-aligned) of the configuration, read in one access.
    #[must_use]
    pub fn config_u32(&self, offset: usize) -> Option<u32> {
        let registers = self.registers.lock();
        let fits = offset.is_multiple_of(4) && offset.checked_add(4)? <= registers.config_len();
        fits.then(|| registers.config_word(offset))
    }
}

fn read_config(registers: &Shared, offset: usize, to: &mut [u8]) -> bool {
    let registers = registers.lock();
    let fits = offset
        .checked_add(to.len())
        .is_some_and(|end| end <= registers.config_len());
    if !fits {
        return false;
    }
    // A device that never stops changing is read as it is in the end.
    for _ in 0..100 {
        let before = registers.config_generation();
        for (byte, at) in to.iter_mut().zip(offset..) {
            *byte = registers.config_byte(at);
        }
        if registers.config_generation() == before {
            break;
        }
    }
    true
}

/// A device that runs. It goes on running when this is dropped.
#[derive(Debug)]
pub struct Running {
    registers: Shared,
}

impl Running {
    /// Fills `to` from the device's configuration at `offset`; `false` when it ends before.
    pub fn read_config(&self, offset: usize, to: &mut [u8]) -> bool {
        read_config(&self.registers, offset, to)
    }
}

#[cfg(test)]
mod tests;
