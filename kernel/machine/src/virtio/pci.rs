//! virtio over PCI Express (virtio 1.2, section 4.1): discovery and interrupts.
//!
//! Configuration space is memory-mapped (ECAM), where ACPI's MCFG says. Firmware has placed the BARs.
//! Each queue interrupts with an MSI-X message of its own, as long as there are any ([`msix`]).

mod ecam;
mod msix;
mod registers;

use core::ptr::NonNull;

use virtio_drivers::transport::pci::bus::{
    BarInfo, Command, ConfigurationAccess, DeviceFunction, DeviceFunctionInfo, HeaderType,
    PCI_CAP_ID_VNDR, PciRoot,
};
use virtio_drivers::transport::pci::{
    VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_CAP_DEVICE_CFG, VIRTIO_PCI_CAP_NOTIFY_CFG,
    VIRTIO_VENDOR_ID,
};

use self::ecam::Ecam;
use self::registers::{PciRegisters, Region, SHARED_REGIONS};
use super::device::{Device, Kind, SetupError, SharedMemory, Wiring};
use super::keep;
use crate::addr::PhysAddr;
use crate::heap::{Vec, try_box};

/// `VIRTIO_PCI_CAP_SHARED_MEMORY_CFG`.
const SHARED_MEMORY_CFG: u8 = 8;

/// Adds all virtio devices on PCI to `found`.
pub(super) fn probe(found: &mut Vec<Device>) {
    for ecam in ecam::all() {
        probe_bus(ecam, ecam.first_bus, found);
    }
}

fn probe_bus(ecam: Ecam, bus: u8, found: &mut Vec<Device>) {
    for (function, info) in PciRoot::new(ecam).enumerate_bus(bus) {
        if info.header_type == HeaderType::PciPciBridge {
            // Firmware numbered the buses: those behind a bridge are above its own.
            // (the register holds primary, secondary and subordinate bus, a byte each)
            let behind = (ecam.read_word(function, 0x18) >> 8 & 0xff) as u8;
            if behind > bus {
                probe_bus(ecam, behind, found);
            }
        } else if let Some(kind) = kind_of(&info) {
            match set_up(ecam, function, kind) {
                Ok(device) => keep(found, device),
                Err(reason) => crate::log!("virtio-pci {function}: {kind:?}: {reason}"),
            }
        }
    }
}

fn kind_of(info: &DeviceFunctionInfo) -> Option<Kind> {
    if info.vendor_id != VIRTIO_VENDOR_ID {
        return None;
    }
    match info.device_id {
        // Transitional ids (section 4.1.2.1).
        0x1000 => Some(Kind::Network),
        0x1001 => Some(Kind::Block),
        0x1003 => Some(Kind::Console),
        0x1005 => Some(Kind::Entropy),
        id @ 0x1040..=0x107f => Some(Kind::from_id(u32::from(id) - 0x1040)),
        _ => None,
    }
}

fn set_up(
    ecam: Ecam,
    function: DeviceFunction,
    kind: Kind,
) -> Result<Result<Device, SetupError>, &'static str> {
    let places = Places::find(ecam, function);
    let common = places.common.ok_or("no virtio 1.x registers")?;
    let notify = places.notify.ok_or("no notification registers")?;
    let mut root = PciRoot::new(ecam);
    let (_, command) = root.get_status_command(function);
    let enabled = Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE;
    root.set_command(function, command | enabled);

    let common = map(ecam, function, common)?;
    let notify = map(ecam, function, notify)?;
    let config = match places.device {
        Some(place) => Some(map(ecam, function, place)?),
        None => None,
    };
    let messages = msix::enable(ecam, function, places.msix.ok_or("no MSI-X")?)?;
    let shared = places.shared_memory(ecam, function);
    let registers = PciRegisters::new(common, notify, places.notify_multiplier, config, shared)
        .ok_or("its registers are cut short")?;
    let device = || {
        let wiring = Wiring::Messages(try_box(messages)?);
        Device::new(kind, try_box(registers)?, wiring)
    };
    Ok(device())
}

/// A structure inside a BAR, as a capability tells it.
#[derive(Debug, Clone, Copy)]
struct Place {
    bar: u8,
    offset: u32,
    len: u32,
}

/// What the capability list says.
#[derive(Debug, Default)]
struct Places {
    common: Option<Place>,
    notify: Option<Place>,
    notify_multiplier: u32,
    device: Option<Place>,
    /// Offset of the MSI-X capability.
    msix: Option<u8>,
    /// Offsets of the capabilities of shared memory.
    shared: [Option<u8>; SHARED_REGIONS],
}

impl Places {
    fn find(ecam: Ecam, function: DeviceFunction) -> Places {
        const PCI_CAP_ID_MSIX: u8 = 0x11;
        let mut places = Places::default();
        let word = |offset: u8| ecam.read_word(function, offset);
        // A list that loops ends with the 48 places it can have.
        for capability in PciRoot::new(ecam).capabilities(function).take(48) {
            let at = capability.offset;
            // The furthest word looked at must be inside the 256 bytes.
            if at > 0xe8 {
                continue;
            }
            if capability.id == PCI_CAP_ID_MSIX {
                places.msix.get_or_insert(at);
            }
            if capability.id != PCI_CAP_ID_VNDR {
                continue;
            }
            let place = Place {
                bar: (word(at + 4) & 0xff) as u8,
                offset: word(at + 8),
                len: word(at + 12),
            };
            match (capability.private_header >> 8) as u8 {
                SHARED_MEMORY_CFG => {
                    if let Some(free) = places.shared.iter_mut().find(|slot| slot.is_none()) {
                        *free = Some(at);
                    }
                }
                VIRTIO_PCI_CAP_COMMON_CFG => _ = places.common.get_or_insert(place),
                VIRTIO_PCI_CAP_DEVICE_CFG => _ = places.device.get_or_insert(place),
                VIRTIO_PCI_CAP_NOTIFY_CFG if places.notify.is_none() => {
                    places.notify = Some(place);
                    places.notify_multiplier = word(at + 16);
                }
                _ => {}
            }
        }
        places
    }

    /// The regions that the device shares, each with its id (`struct virtio_pci_cap64`).
    fn shared_memory(
        &self,
        ecam: Ecam,
        function: DeviceFunction,
    ) -> [Option<(u8, SharedMemory)>; SHARED_REGIONS] {
        let word = |offset: u8| ecam.read_word(function, offset);
        self.shared.map(|at| {
            let at = at?;
            let [bar, id, ..] = word(at + 4).to_le_bytes();
            let offset = u64::from(word(at + 8)) | u64::from(word(at + 16)) << 32;
            let len = u64::from(word(at + 12)) | u64::from(word(at + 20)) << 32;
            let (address, size) = memory_bar(ecam, function, bar)?;
            let is_inside = offset.checked_add(len)? <= size;
            let region = SharedMemory::checked(address.checked_add(offset)?, len)?;
            is_inside.then_some((id, region))
        })
    }
}

/// Address and size of a memory BAR that firmware has placed.
fn memory_bar(ecam: Ecam, function: DeviceFunction, bar: u8) -> Option<(u64, u64)> {
    if bar >= 6 {
        return None;
    }
    match PciRoot::new(ecam).bar_info(function, bar).ok()?? {
        BarInfo::Memory { address, size, .. } if address != 0 => Some((address, size)),
        BarInfo::Memory { .. } | BarInfo::IO { .. } => None,
    }
}

fn map(ecam: Ecam, function: DeviceFunction, place: Place) -> Result<Region, &'static str> {
    let (address, size) =
        memory_bar(ecam, function, place.bar).ok_or("its registers are in no memory BAR")?;
    let end = u64::from(place.offset) + u64::from(place.len);
    if end > size || !place.offset.is_multiple_of(4) || place.len > 1 << 20 {
        return Err("its registers leave their BAR");
    }
    let start = PhysAddr(address + u64::from(place.offset));
    let len = place.len as usize;
    let start: NonNull<u8> = crate::mmio::map(start, len).ok_or("no room to map its registers")?;
    Ok(Region { start, len })
}
