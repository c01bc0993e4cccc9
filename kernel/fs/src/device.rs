//! The registry of character devices, and devtmpfs, which shows a node for each, and for each of [`crate::block`].
//!
//! Drivers register here (terminals, the console, `ptmx`, those of [`mem`]); opening a device node, on any file
//! system, finds its driver by number.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{Map, try_arc_str};
use machine::sync::SpinLock;

use crate::cred::Credentials;
use crate::file_ops::FileOps;
use crate::file_system::FileSystemType;
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
    name: Arc<str>,
    mode: u32,
    driver: Arc<dyn CharDriver>,
    reach: Reach,
}

/// Through which nodes a device can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Any node of its number.
    Any,
    /// Those of devtmpfs, and others only in the machine's own mount namespace: a container that may make nodes does
    /// not get at the machine's console with them. On Linux a cgroup's device rules see to that.
    Machine,
}

static DEVICES: SpinLock<Map<DeviceId, Registered>> = SpinLock::new(Map::new());

static MAJORS: SpinLock<Map<u32, Arc<dyn CharDriver>>> = SpinLock::new(Map::new());

/// Registers a character device: its driver, and the name below /dev (`null`, `pts/ptmx`) and permission bits that
/// devtmpfs shows. A second registration of a number replaces the first.
///
/// # Errors
/// `ENOMEM`.
pub fn register_char(
    id: DeviceId,
    name: &str,
    mode: u32,
    reach: Reach,
    driver: Arc<dyn CharDriver>,
) -> Result<()> {
    let registered = Registered {
        reach,
        name: try_arc_str(name)?,
        mode,
        driver,
    };
    let old = DEVICES.lock().try_insert(id, registered)?;
    drop(old);
    devtmpfs::add_node(FileKind::CharDevice, id, name, mode);
    Ok(())
}

/// Shows a block device in devtmpfs.
pub(crate) fn show_block(id: DeviceId, name: &str, mode: u32) {
    devtmpfs::add_node(FileKind::BlockDevice, id, name, mode);
}

/// Registers the driver of all devices of a major number that have none of their own. devtmpfs shows no nodes for
/// them: they come and go (the terminals of devpts).
///
/// # Errors
/// `ENOMEM`.
pub fn register_major(major: u32, driver: Arc<dyn CharDriver>) -> Result<()> {
    let old = MAJORS.lock().try_insert(major, driver)?;
    drop(old);
    Ok(())
}

/// Opens the device that a node stands for.
///
/// # Errors
/// `ENXIO` when no driver has it, `EPERM` when it cannot be had by this node, and what the driver answers.
pub(crate) fn open(
    node: Metadata,
    path: &Path,
    flags: OpenFlags,
    credentials: &Arc<Credentials>,
) -> Result<Arc<dyn FileOps>> {
    if node.kind == FileKind::BlockDevice {
        return crate::block::open(node.rdev, flags, credentials);
    }
    let found = DEVICES
        .lock()
        .get(&node.rdev)
        .map(|found| (found.driver.clone(), found.reach));
    if matches!(found, Some((_, Reach::Machine))) && !is_machines_own(path) {
        return Err(Errno::EPERM);
    }
    let exact = found.map(|(driver, _)| driver);
    let driver = exact.or_else(|| MAJORS.lock().get(&node.rdev.major).cloned());
    let driver = driver.ok_or(Errno::ENXIO)?;
    driver.open(node.rdev, path, flags, credentials)
}

/// Whether a node is one of devtmpfs, or lies where containers do not see it.
fn is_machines_own(path: &Path) -> bool {
    let mount = &path.mount;
    mount.super_block().fs().name() == DevTmpFs.name()
        || mount.namespace().is_some_and(|space| space.is_initial())
}

/// Registers the devices that need no hardware: null, zero, full, random, urandom.
///
/// # Errors
/// `ENOMEM`.
pub fn register_memory_devices() -> Result<()> {
    mem::register()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::{MountRequest, SuperBlock};
    use crate::{Dentry, FsContext, MountFlags, MountNamespace, NewKind, tmpfs};

    /// A device whose opening is all that it can do.
    struct Opened;

    impl FileOps for Opened {}

    impl CharDriver for Opened {
        fn open(
            &self,
            _: DeviceId,
            _: &Path,
            _: OpenFlags,
            _: &Arc<Credentials>,
        ) -> Result<Arc<dyn FileOps>> {
            Ok(Arc::new(Opened))
        }
    }

    fn node(
        at: &Path,
        name: &[u8],
        credentials: &Arc<Credentials>,
        namespace: &Arc<MountNamespace>,
    ) -> Path {
        let fs = FsContext::new(namespace).unwrap();
        let caller = crate::Caller {
            fs: &fs,
            credentials,
        };
        let kind = NewKind::Device(FileKind::CharDevice, DeviceId::new(4, 201));
        caller.mknod(at, name, kind, 0o666).unwrap();
        caller
            .lookup(at, name, crate::LookupFlags::empty())
            .unwrap()
    }

    #[test]
    fn a_containers_own_nodes_do_not_lead_to_the_machines_devices() {
        let (private, public) = (DeviceId::new(4, 201), DeviceId::new(4, 202));
        register_char(
            private,
            "private201",
            0o600,
            Reach::Machine,
            Arc::new(Opened),
        )
        .unwrap();
        register_char(public, "public202", 0o600, Reach::Any, Arc::new(Opened)).unwrap();
        let root = Arc::new(Credentials::root());
        let super_block =
            SuperBlock::new(tmpfs::TmpFs::new("tmpfs", &tmpfs::TmpFsOptions::default()).unwrap())
                .unwrap();
        let machine = MountNamespace::new(&super_block, b"none", MountFlags::empty()).unwrap();
        let attempt = |path: &Path, id| {
            let meta = Metadata {
                rdev: id,
                ..path.metadata().unwrap()
            };
            open(meta, path, OpenFlags::empty(), &root).map(drop)
        };
        let own = node(&machine.root().unwrap(), b"own", &root, &machine);
        assert_eq!(attempt(&own, private), Ok(()));
        let container = machine
            .duplicate(&crate::UserNamespace::INITIAL, &mut [])
            .unwrap();
        let made = node(&container.root().unwrap(), b"made", &root, &container);
        assert_eq!(attempt(&made, private), Err(Errno::EPERM));
        assert_eq!(attempt(&made, public), Ok(()));
        let request = MountRequest {
            source: b"",
            data: b"",
        };
        let devices = DevTmpFs.mount(&request).unwrap();
        let shown = crate::Mount::new(&devices, &devices.root().unwrap(), b"", MountFlags::empty())
            .unwrap();
        let dentry: Arc<Dentry> =
            crate::walk::find_child(shown.root(), b"private201", false).unwrap();
        let path = Path {
            mount: shown,
            dentry,
        };
        assert_eq!(attempt(&path, private), Ok(()));
    }
}
