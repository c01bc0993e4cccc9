//! A device from discovery to running: registers, features, queues, interrupts.
//!
//! [`Shared`] is what the queues of a device have in common: its registers under a lock, and whether it was
//! reset. A device stops for good when the first of its queues is dropped. [`registers`] says what it needs of its bus.

pub(super) mod registers;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use super::queue::{Notify, RequestQueue};
use super::ring::{self, SplitRing};
use crate::cpu::CpuId;
use crate::frame::OutOfMemory;
use crate::heap::{AllocError, Vec, try_arc, try_box};
use crate::interrupt;
use crate::sync::IrqLock;
pub use registers::{Events, SharedMemory};
pub(super) use registers::{Registers, RingAddresses, Wiring};

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
    /// What memory is needed, and what is not.
    Balloon,
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
            5 => Kind::Balloon,
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
    /// No memory for a ring or a handler.
    OutOfMemory,
}

impl From<AllocError> for SetupError {
    fn from(_: AllocError) -> SetupError {
        SetupError::OutOfMemory
    }
}

impl From<OutOfMemory> for SetupError {
    fn from(_: OutOfMemory) -> SetupError {
        SetupError::OutOfMemory
    }
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

/// What the queues of a device share.
#[derive(Debug)]
pub(super) struct Shared {
    registers: IrqLock<Box<dyn Registers>>,
}

impl Shared {
    /// Resets the device; whether it did so within [`RESET_BOUND_NS`]. From then on it reaches no memory.
    pub(super) fn reset(&self) -> bool {
        let mut registers = self.registers.lock();
        registers.set_status(0);
        let deadline = crate::time::now_ns() + RESET_BOUND_NS;
        while registers.status() != 0 {
            if crate::time::now_ns() > deadline {
                return false;
            }
            core::hint::spin_loop();
        }
        true
    }
}

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

/// A device that was found and is not running yet.
pub struct Device {
    kind: Kind,
    shared: Arc<Shared>,
    wiring: Wiring,
    /// What a line's interrupt calls.
    on_line: Vec<Events>,
    features: u64,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("kind", &self.kind)
            .field("wiring", &self.wiring)
            .finish_non_exhaustive()
    }
}

impl Device {
    /// # Errors
    /// [`SetupError::OutOfMemory`].
    pub(super) fn new(
        kind: Kind,
        registers: Box<dyn Registers>,
        wiring: Wiring,
    ) -> Result<Device, SetupError> {
        Ok(Device {
            kind,
            shared: try_arc(Shared {
                registers: IrqLock::new(registers),
            })?,
            wiring,
            on_line: Vec::new(),
            features: 0,
        })
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
        if !self.shared.reset() {
            return Err(SetupError::NoReset);
        }
        let mut registers = self.shared.registers.lock();
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
    /// driver's. `events` is called for the queue's interrupts, on `cpu` where the device has a vector a
    /// queue; where queues share one, it is called for all of them.
    ///
    /// # Errors
    /// [`SetupError::NoQueue`], [`SetupError::OutOfMemory`].
    pub fn queue<T: Send>(
        &mut self,
        index: u16,
        wanted_size: u16,
        cpu: CpuId,
        events: Events,
    ) -> Result<Arc<RequestQueue<T>>, SetupError> {
        let mut registers = self.shared.registers.lock();
        let offered = registers.max_queue_size(index);
        if registers.queue_in_use(index) {
            return Err(SetupError::NoQueue(index));
        }
        drop(registers);
        let size = ring::size_for(offered, wanted_size).ok_or(SetupError::NoQueue(index))?;
        let ring = SplitRing::new(size, self.ring_features())?;
        let addresses = ring.addresses();
        let vector = match &mut self.wiring {
            Wiring::Line { .. } => {
                self.on_line.try_push(events)?;
                0
            }
            Wiring::Messages(messages) => messages
                .assign(cpu, events)
                .ok_or(SetupError::NoQueue(index))?,
        };
        let doorbell = self.shared.registers.lock().doorbell(index);
        let notify = Notify::Doorbell(doorbell.ok_or(SetupError::NoQueue(index))?);
        // It is there before the device knows of its memory, and resets the device when it goes.
        let device = Some(self.shared.clone());
        let queue = try_arc(RequestQueue::new(try_box(ring)?, notify, device)?)?;
        let mut registers = self.shared.registers.lock();
        registers.set_queue(index, size, addresses, vector);
        Ok(queue)
    }

    fn ring_features(&self) -> ring::Features {
        ring::Features {
            indirect: self.features & feature::INDIRECT_DESC != 0,
            event_index: self.features & feature::EVENT_IDX != 0,
        }
    }

    /// Lets the device run.
    ///
    /// # Errors
    /// [`SetupError::OutOfMemory`].
    pub fn start(self) -> Result<Running, SetupError> {
        if let Wiring::Line { gsi, status } = self.wiring {
            let handlers = self.on_line;
            let handler = move || {
                // Acknowledged before the queues are looked at: what comes later raises the
                // line again.
                if status.take() {
                    handlers.iter().for_each(|events| events());
                }
            };
            interrupt::register(gsi, try_arc(handler)?)?;
        }
        self.shared.registers.lock().set_status(
            status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK,
        );
        Ok(Running {
            shared: self.shared,
        })
    }

    /// Fills `to` from the device's configuration at `offset`; `false` when it ends before.
    pub fn read_config(&self, offset: usize, to: &mut [u8]) -> bool {
        read_config(&self.shared, offset, to)
    }

    /// The little-endian word at `offset` (4-aligned) of the configuration, read in one access.
    #[must_use]
    pub fn config_u32(&self, offset: usize) -> Option<u32> {
        let registers = self.shared.registers.lock();
        let fits = offset.is_multiple_of(4) && offset.checked_add(4)? <= registers.config_len();
        fits.then(|| registers.config_word(offset))
    }

    /// Region `id` of the memory that the device shares; `None` when it has no such.
    #[must_use]
    pub fn shared_memory(&self, id: u8) -> Option<SharedMemory> {
        self.shared.registers.lock().shared_memory(id)
    }
}

fn read_config(shared: &Shared, offset: usize, to: &mut [u8]) -> bool {
    let registers = shared.registers.lock();
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

/// A device that runs. It goes on running when this is dropped, until one of its queues is.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
}

impl Running {
    /// Fills `to` from the device's configuration at `offset`; `false` when it ends before.
    pub fn read_config(&self, offset: usize, to: &mut [u8]) -> bool {
        read_config(&self.shared, offset, to)
    }
}

#[cfg(test)]
mod tests;
