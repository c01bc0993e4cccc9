//! Who may do what: mode bits, access control lists, capabilities, sticky directories, read-only mounts.

use core::sync::atomic::Ordering;

use abi::{Errno, Result};

use crate::acl::AclKind;
use crate::cred::{Capabilities, Credentials};
use crate::inode::Inode;
use crate::metadata::{FileKind, Metadata, S_ISGID, S_ISUID, S_ISVTX};
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

/// Whether `credentials` may do `access` on `inode`, by mode bits, access control list and capabilities.
///
/// # Errors
/// `EACCES`, and what asking for the attributes gives.
pub fn check(inode: &dyn Inode, credentials: &Credentials, access: Access) -> Result<()> {
    // Most walks are root's through directories: no need to ask for the attributes, which matter only for what
    // nobody may execute.
    let needs_attributes = access.contains(Access::EXEC) && inode.kind() != FileKind::Directory;
    if credentials.capable_over_all(Capabilities::DAC_OVERRIDE) && !needs_attributes {
        return Ok(());
    }
    check_with(inode, &inode.metadata()?, credentials, access)
}

/// As [`check`], with the attributes of `inode` at hand.
///
/// # Errors
/// `EACCES`.
pub fn check_with(
    inode: &dyn Inode,
    meta: &Metadata,
    credentials: &Credentials,
    access: Access,
) -> Result<()> {
    if allows(inode, meta, credentials, access) || overrides(meta, credentials, access) {
        Ok(())
    } else {
        Err(Errno::EACCES)
    }
}

fn allows(inode: &dyn Inode, meta: &Metadata, credentials: &Credentials, access: Access) -> bool {
    let class = if credentials.fsuid == meta.uid {
        meta.mode >> 6
    } else {
        // The group's bits are the list's mask: without one of them it gives nothing to those whom it names.
        if meta.mode & 0o070 != 0
            && let Ok(Some(acl)) = inode.acl(AclKind::Access)
        {
            return acl.allows(meta, credentials, access);
        }
        if credentials.in_group(meta.gid) {
            meta.mode >> 3
        } else {
            meta.mode
        }
    };
    class & access.bits() == access.bits()
}

fn overrides(meta: &Metadata, credentials: &Credentials, access: Access) -> bool {
    let can_search = credentials.capable_over(meta, Capabilities::DAC_READ_SEARCH);
    let can_all = credentials.capable_over(meta, Capabilities::DAC_OVERRIDE);
    if meta.kind == FileKind::Directory {
        return can_all || (can_search && !access.contains(Access::WRITE));
    }
    if can_search && access == Access::READ {
        return true;
    }
    can_all && (!access.contains(Access::EXEC) || meta.mode & 0o111 != 0)
}

/// What sysctls of /proc/sys/fs say (proc_sys_fs(5)); as distributions set them.
pub mod sysctl {
    use core::sync::atomic::AtomicU32;

    /// `protected_hardlinks`: 1: only to files that one owns or could write.
    pub static PROTECTED_HARDLINKS: AtomicU32 = AtomicU32::new(1);
    /// `protected_symlinks`: 1: others' links in sticky directories are not followed.
    pub static PROTECTED_SYMLINKS: AtomicU32 = AtomicU32::new(1);
    /// `protected_fifos`: 1: others' FIFOs in sticky directories all may write to are not opened with `O_CREAT`;
    /// 2: nor in those that a group may write to.
    pub static PROTECTED_FIFOS: AtomicU32 = AtomicU32::new(1);
    /// `protected_regular`: the same for regular files.
    pub static PROTECTED_REGULAR: AtomicU32 = AtomicU32::new(2);
}

/// Whether the caller may give what `inode` is a further name (Linux's `may_linkat`).
///
/// # Errors
/// `EPERM` for another's file that is special, set-id, or cannot be read and written.
pub fn check_link_source(inode: &dyn Inode, credentials: &Credentials) -> Result<()> {
    if sysctl::PROTECTED_HARDLINKS.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    let meta = inode.metadata()?;
    let runs_as_group = meta.mode & (S_ISGID | 0o010) == S_ISGID | 0o010;
    let is_safe = meta.kind == FileKind::Regular
        && meta.mode & S_ISUID == 0
        && !runs_as_group
        && check_with(inode, &meta, credentials, Access::READ | Access::WRITE).is_ok();
    if is_safe || is_owner_or_capable(&meta, credentials) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// Whether the caller may follow `link`, found in `directory` (Linux's `may_follow_link`).
///
/// # Errors
/// `EACCES` for another's link in a sticky directory that everyone may write to.
pub fn check_follow(
    directory: &dyn Inode,
    link: &dyn Inode,
    credentials: &Credentials,
) -> Result<()> {
    if sysctl::PROTECTED_SYMLINKS.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    let (link, parent) = (link.metadata()?, directory.metadata()?);
    let is_shared = parent.mode & (S_ISVTX | 0o002) == S_ISVTX | 0o002;
    if link.uid == credentials.fsuid || !is_shared || parent.uid == link.uid {
        Ok(())
    } else {
        Err(Errno::EACCES)
    }
}

/// Whether the caller may open what is there with `O_CREAT` (Linux's `may_create_in_sticky`).
///
/// # Errors
/// `EACCES` for another's FIFO or regular file in a sticky directory of someone else's.
pub fn check_create_over(
    directory: &Metadata,
    inode: &dyn Inode,
    credentials: &Credentials,
) -> Result<()> {
    let level = match inode.kind() {
        FileKind::Fifo => sysctl::PROTECTED_FIFOS.load(Ordering::Relaxed),
        FileKind::Regular => sysctl::PROTECTED_REGULAR.load(Ordering::Relaxed),
        _ => 0,
    };
    if level == 0 || directory.mode & S_ISVTX == 0 {
        return Ok(());
    }
    let uid = inode.metadata()?.uid;
    if uid == directory.uid || uid == credentials.fsuid {
        return Ok(());
    }
    let is_shared = directory.mode & 0o002 != 0 || (level >= 2 && directory.mode & 0o020 != 0);
    if is_shared {
        Err(Errno::EACCES)
    } else {
        Ok(())
    }
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
    credentials.fsuid == meta.uid || credentials.capable_over(meta, Capabilities::FOWNER)
}

/// Whether an entry for `child` may be removed from or renamed in `directory`.
///
/// # Errors
/// `EROFS`, `EACCES`, `EPERM` in a sticky directory.
pub fn check_delete(directory: &Path, child: &dyn Inode, credentials: &Credentials) -> Result<()> {
    check_path(directory, credentials, Access::WRITE | Access::EXEC)?;
    if credentials.capable_over_all(Capabilities::FOWNER) {
        return Ok(());
    }
    let dir = directory.metadata()?;
    if dir.mode & S_ISVTX == 0 || dir.uid == credentials.fsuid {
        return Ok(());
    }
    if is_owner_or_capable(&child.metadata()?, credentials) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}
