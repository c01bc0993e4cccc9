//! The MSI-X table of a function (PCI 3.0, section 6.8.2): an entry a queue, each to the CPU that it is for.
//!
//! Entry 0 calls the handlers of its own queue and those of queues for which no entry or vector was left.

use alloc::sync::Arc;
use core::fmt;

use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction};

use super::ecam::Ecam;
use super::registers::Region;
use super::{Place, map};
use crate::cpu::CpuId;
use crate::heap::{Vec, try_arc};
use crate::interrupt;
use crate::sync::IrqLock;
use crate::virtio::device::registers::{Events, Messages};
use crate::virtio::mmio::halves;

/// Bytes of an entry: address, data, and the mask bit.
const ENTRY: usize = 16;
/// Entries looked at: one a queue of as many CPUs as there can be, and a few.
const ENTRIES_MAX: u16 = 80;
const ENABLE: u32 = 1 << 31;
const MASK_ALL: u32 = 1 << 30;

/// A table that is in use.
pub(super) struct Table {
    entries: Region,
    len: u16,
    used: u16,
    /// What entry 0 calls.
    shared: Arc<IrqLock<Vec<Events>>>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} messages", self.used, self.len)
    }
}

/// Turns MSI-X on, with all entries masked as they are after a reset.
pub(super) fn enable(
    mut ecam: Ecam,
    function: DeviceFunction,
    capability: u8,
) -> Result<Table, &'static str> {
    let header = ecam.read_word(function, capability);
    let table = ecam.read_word(function, capability + 4);
    let len = ((header >> 16 & 0x7ff) as u16 + 1).min(ENTRIES_MAX);
    let place = Place {
        bar: (table & 7) as u8,
        offset: table & !7,
        len: u32::from(len) * ENTRY as u32,
    };
    let entries = map(ecam, function, place)?;
    ecam.write_word(function, capability, (header | ENABLE) & !MASK_ALL);
    Ok(Table {
        entries,
        len,
        used: 0,
        shared: try_arc(IrqLock::new(Vec::new())).map_err(|_| "no memory")?,
    })
}

impl Table {
    fn set(&mut self, entry: u16, message: interrupt::Message) {
        let start = usize::from(entry) * ENTRY;
        let [low, high] = halves(message.address);
        for (offset, value) in [(0, low), (4, high), (8, message.data), (12, 0)] {
            self.entries.write_u32(start + offset, value);
        }
    }
}

impl Messages for Table {
    fn assign(&mut self, cpu: CpuId, events: Events) -> Option<u16> {
        let entry = self.used;
        if entry > 0 && entry < self.len {
            let Some(message) = interrupt::register_message(cpu, events.clone()) else {
                self.shared.lock().try_push(events).ok()?;
                return Some(0);
            };
            self.set(entry, message);
            self.used += 1;
            return Some(entry);
        }
        self.shared.lock().try_push(events).ok()?;
        if entry == 0 {
            let shared = self.shared.clone();
            let handler = try_arc(move || shared.lock().iter().for_each(|events| events()));
            self.set(0, interrupt::register_message(cpu, handler.ok()?)?);
            self.used = 1;
        }
        Some(0)
    }
}
