//! Who may do what: mode bits, capabilities, sticky directories, read-only mounts.

use abi::{Errno, Result};

use crate::cred::{Capabilities, Credentials};
use crate::inode::Inode;
use crate::metadata::{FileKind, Metadata, S_ISVTX};
use crate::path::Path;

bitflags::bitflags! {
    /// What is asked for; bits as access(2) and the permission bits of one class.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Access: u32 {
        /// Execute, or search a directory.
        const EXEC = 1;
        /// Write, or change a directory's entries.
        const WRITE = 2;
        /// Read.
        const READ = 4;
    }
}

/// Whether `credentials` may do `access` on `inode`, by mode bits and capabilities.
///
/// # Errors
/// `EACCES`, and what asking for the attributes gives.
pub fn check(inode: &dyn Inode, credentials: &Credentials, access: Access) -> Result<()> {
    // Most walks are root's through directories: no need to ask for the attributes.
    if inode.kind() == FileKind::Directory && credentials.has(Capabilities::DAC_OVERRIDE) {
        return Ok(());
    }
    check_metadata(&inode.metadata()?, credentials, access)
}

/// As [`check`], with the attributes at hand.
///
/// # Errors
/// `EACCES`.
pub fn check_metadata(meta: &Metadata, credentials: &Credentials, access: Access) -> Result<()> {
    let class = if credentials.fsuid == meta.uid {
        meta.mode >> 6
    } else if credentials.in_group(meta.gid) {
        meta.mode >> 3
    } else {
        meta.mode
    };
    if class & access.bits() == access.bits() || overrides(meta, credentials, access) {
        Ok(())
    } else {
        Err(Errno::EACCES)
    }
}

fn overrides(meta: &Metadata, credentials: &Credentials, access: Access) -> bool {
    let can_search = credentials.has(Capabilities::DAC_READ_SEARCH);
    let can_all = credentials.has(Capabilities::DAC_OVERRIDE);
    if meta.kind == FileKind::Directory {
        return can_all || (can_search && !access.contains(Access::WRITE));
    }
    if can_search && access == Access::READ {
        return true;
    }
    can_all && (!access.contains(Access::EXEC) || meta.mode & 0o111 != 0)
}

/// As [`check`] for a place: writing also needs a mount that is not read-only.
///
/// # Errors
/// `EROFS`, `EACCES`.
pub fn check_path(path: &Path, credentials: &Credentials, access: Access) -> Result<()> {
    let inode = path.inode()?;
    if access.contains(Access::WRITE) && is_stored(inode.kind()) {
        check_mount_writable(path)?;
    }
    check(inode.as_ref(), credentials, access)
}

/// Refuses changes through a read-only mount.
///
/// # Errors
/// `EROFS`.
pub fn check_mount_writable(path: &Path) -> Result<()> {
    if path.mount.is_read_only() {
        Err(Errno::EROFS)
    } else {
        Ok(())
    }
}

/// Devices, pipes and sockets can be written to on a read-only mount: nothing is stored.
fn is_stored(kind: FileKind) -> bool {
    matches!(
        kind,
        FileKind::Regular | FileKind::Directory | FileKind::Symlink
    )
}

/// Whether the file is the caller's own, or the caller may act as if.
#[must_use]
pub fn is_owner_or_capable(meta: &Metadata, credentials: &Credentials) -> bool {
    credentials.fsuid == meta.uid || credentials.has(Capabilities::FOWNER)
}

/// Whether an entry for `child` may be removed from or renamed in `directory`.
///
/// # Errors
/// `EROFS`, `EACCES`, `EPERM` in a sticky directory.
pub fn check_delete(directory: &Path, child: &dyn Inode, credentials: &Credentials) -> Result<()> {
    check_path(directory, credentials, Access::WRITE | Access::EXEC)?;
    if credentials.has(Capabilities::FOWNER) {
        return Ok(());
    }
    let dir = directory.metadata()?;
    if dir.mode & S_ISVTX == 0 || dir.uid == credentials.fsuid {
        return Ok(());
    }
    if child.metadata()?.uid == credentials.fsuid {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}
