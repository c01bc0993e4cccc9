//! virtio 1.x devices behind a safe face: discovery, feature negotiation, request queues.
//!
//! [`probe`] finds devices: virtio-mmio ones announced on the command line, and virtio-pci ones
//! through the configuration space that ACPI's MCFG names. A driver takes its [`Device`], calls
//! [`Device::negotiate`], makes its queues with [`Device::queue`] and lets it run with
//! [`Device::start`]. PCI is enumerated by `virtio-drivers`; registers and rings are done here, because that
//! crate's transports know neither file-system devices nor MSI-X, and its `VirtQueue` makes Rust slices
//! of memory that devices and users change.
//!
//! What a device writes is a claim: [`RequestQueue`] checks heads and lengths before a driver
//! sees them, and drivers check what the bytes say. A device is reset before the memory of any of its queues
//! is freed.
//!
//! Locks: a device's registers (`Shared`) and each queue have an `IrqLock` of their own;
//! neither is held while the other is taken. Doorbells and the status of a line need none.

#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "the double has no devices")
)]
mod device;
#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "the double has no devices")
)]
mod doorbell;
#[cfg(not(target_os = "none"))]
pub mod fake;
#[cfg(target_os = "none")]
mod mmio;
#[cfg(target_os = "none")]
mod pci;
mod queue;
mod ring;
#[cfg(any(target_os = "none", test))]
mod words;

use crate::heap::Vec;

pub use device::{Device, Events, Kind, Running, SetupError, SharedMemory};
pub use queue::{Completion, Rejected, RequestQueue, Segment};

/// Bytes of virtio-mmio registers before the device's own configuration.
#[cfg(any(target_os = "none", test))]
const MMIO_REGISTERS_LEN: usize = 0x100;

/// Puts a device that was found, or why it could not be set up, on the list or in the log.
#[cfg(target_os = "none")]
fn keep(devices: &mut Vec<Device>, found: Result<Device, SetupError>) {
    let kept = found.and_then(|device| Ok(devices.try_push(device)?));
    if let Err(reason) = kept {
        crate::log!("virtio: {reason}; a device is left alone");
    }
}

/// The host's double finds none; see [`fake`].
#[must_use]
#[cfg(not(target_os = "none"))]
pub fn probe(_command_line: &str) -> Vec<Device> {
    Vec::new()
}

/// Finds the devices of this machine: the `virtio_mmio.device=` words of the command line, then
/// PCI. Devices that cannot be driven are named in the log and left alone.
#[must_use]
#[cfg(target_os = "none")]
pub fn probe(command_line: &str) -> Vec<Device> {
    let mut devices = Vec::new();
    for word in words::parse(command_line) {
        match word {
            Ok(window) => mmio::probe(window, &mut devices),
            Err(word) => crate::log!("virtio: {word}: expected virtio_mmio.device=SIZE@ADDR:IRQ"),
        }
    }
    pci::probe(&mut devices);
    devices
}
