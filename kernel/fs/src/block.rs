//! Block devices: disks of virtio-blk (virtio 1.2, section 5.2), and the files behind their nodes.
//!
//! [`queue`] puts requests to the device, [`file`] is an open node, [`ioctl`] what programs ask of a disk. A [`Disk`] is
//! there for good. Its blocks are cached as the pages of a file are ([`Mapping`]): reads go through the cache, writes
//! to the device at once, and what is stored through mappings with the next write-back. There are no partitions and
//! no file systems on disks yet.

mod file;
mod ioctl;
mod queue;
#[cfg(test)]
mod tests;

use alloc::sync::{Arc, Weak};
use core::fmt;

use abi::{Errno, Result};
use collections::{String, Vec, try_arc, try_format};
use machine::sync::SpinLock;
use machine::virtio::{Device, SetupError};
use memory::{Backing, Mapping};

use self::queue::{BlockQueue, Limits};
use crate::cred::Credentials;
use crate::file_ops::FileOps;
use crate::flags::OpenFlags;
use crate::metadata::DeviceId;

/// The major number of disks; on Linux it is the first that is free, and mostly this one.
const MAJOR: u32 = 254;
/// Minor numbers of one disk: itself and its partitions, as Linux counts them.
const MINORS: u32 = 16;
/// Permission bits of a disk's node.
pub(crate) const MODE_OF_DISKS: u32 = 0o600;

/// A disk.
pub struct Disk {
    id: DeviceId,
    name: String,
    queue: Arc<BlockQueue>,
    /// The blocks that are in memory.
    mapping: Arc<Mapping>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

static DISKS: SpinLock<Vec<Arc<Disk>>> = SpinLock::new(Vec::new());

impl Disk {
    /// Disk `number`, counted from 0, behind this queue.
    fn new(number: u32, queue: Arc<BlockQueue>) -> Result<Disk> {
        let letter = u8::try_from(number).ok().filter(|number| *number < 26);
        let letter = char::from(b'a' + letter.ok_or(Errno::ENOSPC)?);
        let as_backing = queue.clone() as Arc<dyn Backing>;
        let backing: Weak<dyn Backing> = Arc::downgrade(&as_backing);
        let mapping = Mapping::with_backing(backing, queue.limits().size_bytes())?;
        if queue.limits().is_read_only {
            mapping.deny_new_stores();
        }
        Ok(Disk {
            id: DeviceId::new(MAJOR, number * MINORS),
            name: try_format!("vd{letter}")?,
            queue,
            mapping,
        })
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> DeviceId {
        self.id
    }

    /// Its name below /dev.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes on it.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.mapping.size_bytes()
    }

    fn limits(&self) -> &Limits {
        self.queue.limits()
    }

    /// Has all that was written reach the medium.
    fn sync(&self) -> Result<()> {
        let written = self.mapping.write_back(0..u64::MAX);
        written.and(self.queue.flush())
    }
}

/// Takes a block device into use.
///
/// # Errors
/// Why it cannot be driven.
pub fn add_device(device: Device) -> core::result::Result<(), SetupError> {
    let queue = BlockQueue::start(device)?;
    add(queue).map_err(|_| SetupError::OutOfMemory)
}

/// Makes the disk behind a queue known.
fn add(queue: BlockQueue) -> Result<()> {
    let queue = try_arc(queue)?;
    // Devices are found one after the other, by one thread.
    let number = u32::try_from(DISKS.lock().len()).map_err(|_| Errno::ENOSPC)?;
    let disk = try_arc(Disk::new(number, queue)?)?;
    DISKS.lock().try_push(disk.clone())?;
    crate::device::show_block(disk.id, &disk.name, MODE_OF_DISKS);
    Ok(())
}

/// All disks, in the order of their numbers.
///
/// # Errors
/// `ENOMEM`.
pub fn disks() -> Result<Vec<Arc<Disk>>> {
    Ok(DISKS.lock().try_clone()?)
}

/// Has all that was written to disks reach the media (sync(2)). Errors wait for who asks for them.
///
/// # Errors
/// `ENOMEM`.
pub fn sync_all() -> Result<()> {
    for disk in &disks()? {
        let _ = disk.sync();
    }
    Ok(())
}

/// Opens the disk that a node stands for.
pub(crate) fn open(
    id: DeviceId,
    flags: OpenFlags,
    credentials: &Credentials,
) -> Result<Arc<dyn FileOps>> {
    let disk = DISKS.lock().iter().find(|disk| disk.id == id).cloned();
    file::open(disk.ok_or(Errno::ENXIO)?, flags, credentials)
}
