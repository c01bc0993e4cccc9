//! Which driver takes which virtio device.

use machine::virtio::{Device, Kind, SetupError};
use machine::{log, virtio};

/// Finds the devices, `console` among them, and hands each to its driver. A device that cannot be driven is named in the log, and
/// the machine goes on without it.
pub(crate) fn start(command_line: &str, console: &str) {
    for device in virtio::probe(command_line) {
        let kind = device.kind();
        if let Err(reason) = start_one(device, console) {
            log!("virtio {kind:?}: {reason}; left alone");
        }
    }
}

fn start_one(device: Device, console: &str) -> Result<(), SetupError> {
    match device.kind() {
        Kind::Console => fs::tty::add_console(device, console == "hvc0"),
        Kind::Entropy => fs::rng::add_device(device),
        Kind::Balloon => memory::reporting::add_device(device),
        Kind::Block => fs::block::add_device(device),
        Kind::Network => net::virtio_net::add_device(device),
        Kind::Socket => net::vsock::add_device(device),
        Kind::FileSystem => fs::fuse::add_device(device),
        kind => {
            log!("virtio {kind:?}: no driver; left alone");
            Ok(())
        }
    }
}
