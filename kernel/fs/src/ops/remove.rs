//! unlink and rmdir.

use abi::{Errno, Result};

use crate::flags::LookupFlags;
use crate::permission;
use crate::walk::{Base, Caller, Last, Walk, find_child_locked};

impl Caller<'_> {
    /// unlink(2).
    ///
    /// # Errors
    /// `EISDIR` for a directory, `EBUSY` for a mount point, and those of path walks and permissions.
    pub fn unlink<'b>(&self, base: impl Into<Base<'b>>, path: &[u8]) -> Result<()> {
        let mut walk = Walk::new(self, base.into(), path, LookupFlags::empty())?;
        let Last::Name { name, slash } = walk.walk_to_last()? else {
            return Err(Errno::EISDIR);
        };
        let directory = &walk.at;
        permission::check_mount_writable(directory)?;
        let guard = directory.dentry.dir_lock().write();
        let child = find_child_locked(&directory.dentry, &name)?;
        if slash {
            return Err(if child.is_directory() {
                Errno::EISDIR
            } else {
                Errno::ENOTDIR
            });
        }
        let inode = child.inode().ok_or(Errno::ENOENT)?;
        permission::check_delete(directory, inode.as_ref(), self.credentials)?;
        if child.is_directory() {
            return Err(Errno::EISDIR);
        }
        if child.is_mount_point() {
            return Err(Errno::EBUSY);
        }
        directory.inode()?.unlink(&name, inode)?;
        child.mark_removed();
        // The last handle of the inode may go with `child`, and a file system may then have much
        // to free: not under the lock.
        drop(guard);
        drop(child);
        Ok(())
    }

    /// rmdir(2).
    ///
    /// # Errors
    /// `ENOTDIR`, `ENOTEMPTY`, `EBUSY` for a mount point, `EINVAL` for `.`, and those of path walks and permissions.
    pub fn rmdir<'b>(&self, base: impl Into<Base<'b>>, path: &[u8]) -> Result<()> {
        let mut walk = Walk::new(self, base.into(), path, LookupFlags::empty())?;
        let Last::Name { name, .. } = walk.walk_to_last()? else {
            return Err(last_is_special(path));
        };
        let directory = &walk.at;
        permission::check_mount_writable(directory)?;
        let guard = directory.dentry.dir_lock().write();
        let child = find_child_locked(&directory.dentry, &name)?;
        let inode = child.inode().ok_or(Errno::ENOENT)?;
        permission::check_delete(directory, inode.as_ref(), self.credentials)?;
        if !child.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        if child.is_mount_point() {
            return Err(Errno::EBUSY);
        }
        // Nobody may make an entry in it between "it is empty" and "it is gone".
        let inner = child.dir_lock().write();
        directory.inode()?.rmdir(&name, inode)?;
        child.mark_removed();
        drop(inner);
        drop(guard);
        Ok(())
    }
}

/// What rmdir(2) says of a path that does not end in a name.
fn last_is_special(path: &[u8]) -> Errno {
    let end = path
        .iter()
        .rposition(|byte| *byte != b'/')
        .map_or(0, |at| at + 1);
    let trimmed = &path[..end];
    if trimmed.is_empty() {
        Errno::EBUSY
    } else if trimmed.ends_with(b"..") {
        Errno::ENOTEMPTY
    } else {
        Errno::EINVAL
    }
}
