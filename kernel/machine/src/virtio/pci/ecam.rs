//! PCI Express configuration space: 4 KiB of memory a function, where ACPI's MCFG says.

use core::ptr::NonNull;

use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction};

use crate::addr::{PAGE_SIZE, PhysAddr};

/// The configuration space of a range of buses. Functions are mapped as they are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ecam {
    base: PhysAddr,
    pub(super) first_bus: u8,
    last_bus: u8,
}

/// Every range that MCFG lists for segment 0; none without ACPI.
pub(super) fn all() -> impl Iterator<Item = Ecam> {
    crate::acpi::table(*b"MCFG").into_iter().flat_map(parse)
}

/// MCFG: a 36-byte header, 8 reserved bytes, then 16 bytes a range: base, segment, first and last bus.
fn parse(table: &[u8]) -> impl Iterator<Item = Ecam> {
    let ranges = table.get(44..).unwrap_or_default().chunks_exact(16);
    ranges
        .filter(|range| range[8..10] == [0, 0])
        .map(|range| {
            let base = range[..8]
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | u64::from(*byte));
            Ecam {
                base: PhysAddr(base),
                first_bus: range[10],
                last_bus: range[11],
            }
        })
        .filter(|ecam| ecam.base.0.is_multiple_of(PAGE_SIZE as u64) && ecam.base.0 < 1 << 46)
}

impl Ecam {
    fn register(&self, function: DeviceFunction, offset: u8) -> Option<NonNull<u32>> {
        if !(self.first_bus..=self.last_bus).contains(&function.bus) || !function.valid() {
            return None;
        }
        // The base is that of bus 0, whichever bus is first.
        let number = u64::from(function.bus) << 8
            | u64::from(function.device) << 3
            | u64::from(function.function);
        let page = PhysAddr(self.base.0 + number * PAGE_SIZE as u64);
        let start = crate::mmio::map(page, PAGE_SIZE)?;
        // SAFETY: the offset is below 256 and the whole page is mapped.
        Some(unsafe { start.byte_add(usize::from(offset & !3)) }.cast())
    }
}

impl ConfigurationAccess for Ecam {
    fn read_word(&self, function: DeviceFunction, offset: u8) -> u32 {
        match self.register(function, offset) {
            // SAFETY: `register` gives an aligned, mapped configuration register.
            Some(register) => unsafe { register.read_volatile() },
            // What PCI answers where there is nothing.
            None => u32::MAX,
        }
    }

    fn write_word(&mut self, function: DeviceFunction, offset: u8, data: u32) {
        if let Some(register) = self.register(function, offset) {
            // SAFETY: `register` gives an aligned, mapped configuration register.
            unsafe { register.write_volatile(data) }
        }
    }

    unsafe fn unsafe_clone(&self) -> Self {
        *self
    }
}
