//! sysfs, as little of it as is true: which CPUs there are, and the directories that programs mount on or list.
//!
//! [`tree`] says what there is, [`inode`] makes inodes of it; this is the file system around them.

mod inode;
#[cfg(test)]
mod tests;
mod tree;

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::try_arc;
use machine::sync::SpinLock;

use self::inode::SysInode;
use self::tree::ROOT;
use crate::file_system::{FileSystem, FileSystemType, FsFlags, MountRequest, SuperBlock};
use crate::inode::Inode;
use crate::metadata::StatFs;

/// `SYSFS_MAGIC` of statfs(2).
const SYSFS_MAGIC: u64 = 0x6265_6572;

/// The type behind `mount -t sysfs`; there is one instance.
#[derive(Debug)]
pub struct SysFsType;

static INSTANCE: SpinLock<Option<Arc<SuperBlock>>> = SpinLock::new(None);

impl FileSystemType for SysFsType {
    fn name(&self) -> &'static str {
        "sysfs"
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        if request.options().next().is_some() {
            return Err(Errno::EINVAL);
        }
        let new = SuperBlock::new(try_arc(SysFs)?)?;
        Ok(INSTANCE.lock().get_or_insert(new).clone())
    }
}

#[derive(Debug)]
struct SysFs;

impl FileSystem for SysFs {
    fn name(&self) -> &'static str {
        "sysfs"
    }

    fn root(&self) -> Result<Arc<dyn Inode>> {
        Ok(try_arc(SysInode::new(&ROOT, 0, ROOT.ino))?)
    }

    fn flags(&self) -> FsFlags {
        FsFlags::NODEV
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs {
            magic: SYSFS_MAGIC,
            block_size: 4096,
            name_max: 255,
            ..StatFs::default()
        })
    }
}
