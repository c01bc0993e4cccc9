//! [`Path`]: a place in the tree of mounts, and its spelling for getcwd(2) and /proc.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::Vec;

use crate::dentry::Dentry;
use crate::flags::MountFlags;
use crate::inode::Inode;
use crate::metadata::Metadata;
use crate::mount::Mount;

/// The longest path name, NUL included (`PATH_MAX`).
pub const PATH_MAX: usize = 4096;
/// The longest component (`NAME_MAX`).
pub const NAME_MAX: usize = 255;

/// A dentry seen through a mount.
#[derive(Debug, Clone)]
pub struct Path {
    /// Through which mount.
    pub mount: Arc<Mount>,
    /// Which name.
    pub dentry: Arc<Dentry>,
}

/// What identifies an inode in the whole system: device and number, as `st_dev` and `st_ino` do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeKey {
    /// Encoded `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub ino: u64,
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }
}

impl Eq for Path {}

impl Path {
    /// The inode here.
    ///
    /// # Errors
    /// `ENOENT` when the dentry is a known absence.
    pub fn inode(&self) -> Result<&Arc<dyn Inode>> {
        self.dentry.inode().ok_or(Errno::ENOENT)
    }

    /// The inode's attributes.
    ///
    /// # Errors
    /// As [`Inode::metadata`].
    pub fn metadata(&self) -> Result<Metadata> {
        self.inode()?.metadata()
    }

    /// Encoded `st_dev`.
    #[must_use]
    pub fn device(&self) -> u64 {
        self.dentry.super_block().device().encode()
    }

    /// Device and inode number.
    ///
    /// # Errors
    /// As [`Inode::metadata`].
    pub fn key(&self) -> Result<InodeKey> {
        Ok(InodeKey {
            device: self.device(),
            ino: self.metadata()?.ino,
        })
    }

    /// It was read: notes the access time, unless the mount says that nobody wants it.
    pub fn accessed(&self) {
        let flags = self.mount.flags();
        let is_unwanted = flags.contains(MountFlags::NOATIME)
            || (flags.contains(MountFlags::NODIRATIME) && self.dentry.is_directory())
            || self.mount.is_read_only();
        if let Some(inode) = self.dentry.inode()
            && !is_unwanted
        {
            inode.accessed();
        }
    }

    /// Whether this is the root of its mount.
    #[must_use]
    pub fn is_mount_root(&self) -> bool {
        Arc::ptr_eq(self.mount.root(), &self.dentry)
    }

    /// The directory above, across mounts, not above `root`; `self` at the top.
    ///
    /// # Errors
    /// `ENOENT` when the mount shows a part of its file system, and the place was moved out of that: what is above is not
    /// for those who see the mount only.
    pub fn parent(&self, root: &Path) -> Result<Path> {
        let mut at = self.clone();
        loop {
            if at == *root {
                return Ok(at);
            }
            if !at.is_mount_root() {
                break;
            }
            match at.mount.mounted_on() {
                Some(below) => at = below,
                None => return Ok(at),
            }
            sched::cond_resched();
        }
        match at.dentry.parent() {
            Some(dentry) if at.mount.shows(&dentry) => Ok(Path {
                mount: at.mount,
                dentry,
            }),
            Some(_) => Err(Errno::ENOENT),
            None => Ok(at),
        }
    }

    /// Whether walking up from here leads to `above`, or it is `above`.
    #[must_use]
    pub fn is_below(&self, above: &Path) -> bool {
        let mut at = self.clone();
        loop {
            if Arc::ptr_eq(&at.mount, &above.mount) {
                return above.dentry.is_ancestor_of(&at.dentry);
            }
            match at.mount.mounted_on() {
                Some(place) => at = place,
                None => return false,
            }
            sched::cond_resched();
        }
    }

    /// The absolute path from `root`, in bytes. With `false` in the second field the place is not below
    /// `root` (the path starts at the top of its own mounts then).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn spell(&self, root: &Path) -> Result<(Vec<u8>, bool)> {
        let mut names: Vec<Arc<[u8]>> = Vec::new();
        let mut at = self.clone();
        let below = loop {
            sched::cond_resched();
            if at == *root {
                break true;
            }
            if at.is_mount_root() {
                match at.mount.mounted_on() {
                    Some(point) => at = point,
                    None => break false,
                }
                continue;
            }
            names.try_push(at.dentry.name())?;
            match at.dentry.parent() {
                Some(dentry) => at.dentry = dentry,
                None => break false,
            }
        };
        let len: usize = names.iter().map(|name| name.len() + 1).sum();
        let mut spelt = Vec::try_with_capacity(len.max(1))?;
        for name in names.iter().rev() {
            sched::cond_resched();
            spelt.try_push(b'/')?;
            spelt.try_extend_from_slice(name)?;
        }
        if spelt.is_empty() {
            spelt.try_push(b'/')?;
        }
        Ok((spelt, below))
    }

    /// As [`Path::spell`], with ` (deleted)` behind the name of a removed file: what readlink of
    /// /proc/PID/fd/N and /proc/PID/exe shows.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn display(&self, root: &Path) -> Result<Vec<u8>> {
        let (mut spelt, _) = self.spell(root)?;
        if self.dentry.is_removed() {
            spelt.try_extend_from_slice(b" (deleted)")?;
        }
        Ok(spelt)
    }
}
