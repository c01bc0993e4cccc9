//! Which driver takes which virtio device.

use alloc::boxed::Box;

use machine::virtio::{Device, Kind, SetupError};
use machine::{log, virtio};

/// Finds the devices and hands each to its driver. A device that cannot be driven is named in the log, and
/// the machine goes on without it.
pub(crate) fn start(command_line: &str) {
    for device in virtio::probe(command_line) {
        let kind = device.kind();
        if let Err(reason) = start_one(device) {
            log!("virtio {kind:?}: {reason}; left alone");
        }
    }
}

fn start_one(device: Device) -> Result<(), SetupError> {
    match device.kind() {
        Kind::Socket => net::vsock::add_device(device),
        Kind::FileSystem => fs::fuse::add_device(device),
        kind => {
            log!("virtio {kind:?}: no driver; left alone");
            drop(Box::new(device));
            Ok(())
        }
    }
}
