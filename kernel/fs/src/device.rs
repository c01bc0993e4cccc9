//! The registry of character devices, and devtmpfs, which shows a node for each.
//!
//! Drivers register here (terminals, the console, `ptmx`, those of [`mem`]); opening a device node, on any file
//! system, finds its driver by number. There are no block devices: opening one is `ENXIO`.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;

use abi::{Errno, Result};
use machine::sync::SpinLock;

use crate::cred::Credentials;
use crate::file_ops::FileOps;
use crate::flags::OpenFlags;
use crate::metadata::{DeviceId, FileKind, Metadata};
use crate::path::Path;

mod devtmpfs;
mod mem;

pub use devtmpfs::DevTmpFs;

/// What opens a character device.
pub trait CharDriver: Send + Sync {
    /// Opens device `id`, found at `path`, for a process with `credentials`.
    ///
    /// # Errors
    /// `ENXIO` when it is not there, `EBUSY`, and what the driver needs.
    fn open(
        &self,
        id: DeviceId,
        path: &Path,
        flags: OpenFlags,
        credentials: &Arc<Credentials>,
    ) -> Result<Arc<dyn FileOps>>;
}

#[derive(Clone)]
struct Registered {
    /// Path below /dev.
    name: String,
    mode: u32,
    driver: Arc<dyn CharDriver>,
}

static DEVICES: SpinLock<BTreeMap<DeviceId, Registered>> = SpinLock::new(BTreeMap::new());

static MAJORS: SpinLock<BTreeMap<u32, Arc<dyn CharDriver>>> = SpinLock::new(BTreeMap::new());

/// Registers a character device: its driver, and the name below /dev (`null`, `pts/ptmx`) and permission bits that
/// devtmpfs shows. A second registration of a number replaces the first.
pub fn register_char(id: DeviceId, name: &str, mode: u32, driver: Arc<dyn CharDriver>) {
    let registered = Registered {
        name: String::from(name),
        mode,
        driver,
    };
    let old = DEVICES.lock().insert(id, registered);
    drop(old);
    devtmpfs::add_node(id, name, mode);
}

/// Registers the driver of all devices of a major number that have none of their own. devtmpfs shows no nodes for
/// them: they come and go (the terminals of devpts).
pub fn register_major(major: u32, driver: Arc<dyn CharDriver>) {
    let old = MAJORS.lock().insert(major, driver);
    drop(old);
}

/// Opens the device that a node stands for.
///
/// # Errors
/// `ENXIO` when no driver has it, and what the driver answers.
pub(crate) fn open(
    node: Metadata,
    path: &Path,
    flags: OpenFlags,
    credentials: &Arc<Credentials>,
) -> Result<Arc<dyn FileOps>> {
    if node.kind != FileKind::CharDevice {
        return Err(Errno::ENXIO);
    }
    let exact = DEVICES
        .lock()
        .get(&node.rdev)
        .map(|found| found.driver.clone());
    let driver = exact.or_else(|| MAJORS.lock().get(&node.rdev.major).cloned());
    let driver = driver.ok_or(Errno::ENXIO)?;
    driver.open(node.rdev, path, flags, credentials)
}

/// Registers the devices that need no hardware: null, zero, full, random, urandom.
pub fn register_memory_devices() {
    mem::register();
}
