//! chmod, chown, utimensat, truncate, access: attributes, and who may change them.

use abi::{Errno, Result};

use crate::cred::{Capabilities, Credentials};
use crate::file::File;
use crate::inode::{Inode, InodeAccess};
use crate::metadata::{FileKind, Metadata, S_ISGID, S_ISUID, SetAttr, Timestamp};
use crate::path::Path;
use crate::permission::{self, Access};
use crate::user_namespace::{Kgid, Kuid};
use crate::walk::Caller;

/// New owner and group; `None` leaves one as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChownTo {
    /// User.
    pub uid: Option<Kuid>,
    /// Group.
    pub gid: Option<Kgid>,
}

/// One of the two times of utimensat(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeChange {
    /// `UTIME_OMIT`.
    Keep,
    /// `UTIME_NOW`.
    Now,
    /// This one.
    To(Timestamp),
}

impl TimeChange {
    fn resolve(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            TimeChange::Keep => None,
            TimeChange::Now => Some(now),
            TimeChange::To(time) => Some(time),
        }
    }
}

impl Caller<'_> {
    /// chmod(2) on a place.
    ///
    /// # Errors
    /// `EROFS`, `EPERM` for what is someone else's, `EOPNOTSUPP` for a symbolic link.
    pub fn chmod(&self, path: &Path, mode: u32) -> Result<()> {
        permission::check_mount_writable(path)?;
        self.chmod_inode(path.inode()?.as_ref(), mode)
    }

    /// fchmod(2).
    ///
    /// # Errors
    /// As [`Caller::chmod`].
    pub fn chmod_file(&self, file: &File, mode: u32) -> Result<()> {
        match file.path() {
            Some(path) => self.chmod(path, mode),
            None => self.chmod_inode(file.inode()?.as_ref(), mode),
        }
    }

    fn chmod_inode(&self, inode: &dyn Inode, mode: u32) -> Result<()> {
        if inode.kind() == FileKind::Symlink {
            return Err(Errno::EOPNOTSUPP);
        }
        let meta = inode.metadata()?;
        if !permission::is_owner_or_capable(&meta, self.credentials) {
            return Err(Errno::EPERM);
        }
        let mut mode = mode & 0o7777;
        if !self.credentials.in_group(meta.gid)
            && !self.credentials.capable_over(&meta, Capabilities::FSETID)
        {
            mode &= !S_ISGID;
        }
        inode.set_attr(&SetAttr {
            mode: Some(mode),
            ctime: Some(Timestamp::now()),
            ..SetAttr::default()
        })?;
        inode.body().forget_privileges();
        Ok(())
    }

    /// chown(2) on a place.
    ///
    /// # Errors
    /// `EROFS`, `EPERM`.
    pub fn chown(&self, path: &Path, to: ChownTo) -> Result<()> {
        permission::check_mount_writable(path)?;
        self.chown_inode(path.inode()?.as_ref(), to)
    }

    /// fchown(2).
    ///
    /// # Errors
    /// As [`Caller::chown`].
    pub fn chown_file(&self, file: &File, to: ChownTo) -> Result<()> {
        match file.path() {
            Some(path) => self.chown(path, to),
            None => self.chown_inode(file.inode()?.as_ref(), to),
        }
    }

    fn chown_inode(&self, inode: &dyn Inode, to: ChownTo) -> Result<()> {
        let meta = inode.metadata()?;
        if !self.may_chown(&meta, to) {
            return Err(Errno::EPERM);
        }
        // A new owner must not inherit set-id bits; root's own chown clears them as well on Linux.
        // Linux takes them away even when neither id is named.
        let clears = meta.kind != FileKind::Directory;
        let mode = if clears {
            without_set_id(meta.mode)
        } else {
            meta.mode
        };
        let mode = (mode != meta.mode).then_some(mode);
        if mode.is_some() && !permission::is_owner_or_capable(&meta, self.credentials) {
            return Err(Errno::EPERM);
        }
        let change = SetAttr {
            uid: to.uid,
            gid: to.gid,
            mode,
            ctime: Some(Timestamp::now()),
            ..SetAttr::default()
        };
        inode.set_attr(&change)?;
        if clears && !inode.is_remote() {
            remove_capabilities(inode)?;
        }
        Ok(())
    }

    fn may_chown(&self, meta: &Metadata, to: ChownTo) -> bool {
        if self.credentials.capable_over(meta, Capabilities::CHOWN) {
            return true;
        }
        let is_owner = self.credentials.fsuid == meta.uid;
        let uid_stays = to.uid.is_none_or(|uid| is_owner && uid == meta.uid);
        let gid_is_own = to
            .gid
            .is_none_or(|gid| is_owner && (gid == meta.gid || self.credentials.in_group(gid)));
        uid_stays && gid_is_own
    }

    /// utimensat(2) on a place.
    ///
    /// # Errors
    /// `EROFS`, `EPERM` for explicit times on what is someone else's, `EACCES` for "now" on what is
    /// neither one's own nor writable.
    pub fn set_times(&self, path: &Path, atime: TimeChange, mtime: TimeChange) -> Result<()> {
        permission::check_mount_writable(path)?;
        self.set_inode_times(path.inode()?.as_ref(), atime, mtime)
    }

    /// futimens(3).
    ///
    /// # Errors
    /// As [`Caller::set_times`].
    pub fn set_file_times(&self, file: &File, atime: TimeChange, mtime: TimeChange) -> Result<()> {
        match file.path() {
            Some(path) => self.set_times(path, atime, mtime),
            None => self.set_inode_times(file.inode()?.as_ref(), atime, mtime),
        }
    }

    fn set_inode_times(
        &self,
        inode: &dyn Inode,
        atime: TimeChange,
        mtime: TimeChange,
    ) -> Result<()> {
        if atime == TimeChange::Keep && mtime == TimeChange::Keep {
            return Ok(());
        }
        let meta = inode.metadata()?;
        if !permission::is_owner_or_capable(&meta, self.credentials) {
            if atime != TimeChange::Now || mtime != TimeChange::Now {
                return Err(Errno::EPERM);
            }
            permission::check_with(inode, &meta, self.credentials, Access::WRITE)?;
        }
        let now = Timestamp::now();
        inode.set_attr(&SetAttr {
            atime: atime.resolve(now),
            mtime: mtime.resolve(now),
            ctime: Some(now),
            ..SetAttr::default()
        })
    }

    /// truncate(2).
    ///
    /// # Errors
    /// `EISDIR`, `EINVAL` for what has no length, `EROFS`, `EACCES`.
    pub fn truncate(&self, path: &Path, size: u64) -> Result<()> {
        let inode = path.inode()?;
        match inode.kind() {
            FileKind::Regular => {}
            FileKind::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        permission::check_path(path, self.credentials, Access::WRITE)?;
        let _writing = InodeAccess::write(inode)?;
        self.truncate_inode(inode.as_ref(), size)
    }

    /// ftruncate(2): the file must be open for writing.
    ///
    /// # Errors
    /// `EINVAL` when it is not a regular file open for writing.
    pub fn truncate_file(&self, file: &File, size: u64) -> Result<()> {
        if file.is_path_only() {
            return Err(Errno::EBADF);
        }
        if file.kind() != FileKind::Regular || !file.flags().is_writable() {
            return Err(Errno::EINVAL);
        }
        self.truncate_inode(file.inode()?.as_ref(), size)
    }

    /// Sets the length; a changed content also loses set-id bits, unless the caller may keep them.
    pub(crate) fn truncate_inode(&self, inode: &dyn Inode, size: u64) -> Result<()> {
        let now = Timestamp::now();
        if inode.kind() == FileKind::Regular && !inode.body().has_no_privileges() {
            remove_privileges(inode, self.credentials)?;
        }
        inode.set_attr(&SetAttr {
            size: Some(size),
            mtime: Some(now),
            ctime: Some(now),
            ..SetAttr::default()
        })
    }

    /// faccessat2(2) with the effective ids of `self`; the system call swaps in the real ones first.
    ///
    /// # Errors
    /// `EACCES`, `EROFS`.
    pub fn access(&self, path: &Path, access: Access) -> Result<()> {
        let inode = path.inode()?;
        let is_noexec = path
            .mount
            .flags()
            .contains(crate::flags::MountFlags::NOEXEC);
        if access.contains(Access::EXEC) && inode.kind() == FileKind::Regular && is_noexec {
            return Err(Errno::EACCES);
        }
        permission::check_path(path, self.credentials, access)
    }
}

/// Takes away what a changed content must not keep: set-id bits, unless `credentials` may set them, and
/// capabilities (Linux's `file_remove_privs`).
pub(crate) fn remove_privileges(inode: &dyn Inode, credentials: &Credentials) -> Result<()> {
    let seen = inode.body().privileges_seen();
    let mode = inode.metadata()?.mode;
    let stripped = without_set_id(mode);
    if stripped != mode && !credentials.capable(Capabilities::FSETID) {
        inode.set_attr(&SetAttr {
            mode: Some(stripped),
            ..SetAttr::default()
        })?;
    }
    if inode.is_remote() {
        return Ok(());
    }
    remove_capabilities(inode)?;
    if stripped == mode {
        inode.body().note_no_privileges(seen);
    }
    Ok(())
}

/// Takes capabilities from a program, if it has some.
fn remove_capabilities(inode: &dyn Inode) -> Result<()> {
    match inode.remove_xattr(super::xattr::CAPABILITY) {
        Ok(()) | Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EPERM) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// `mode` as it is after a change of owner or content: no set-user-id, no set-group-id on an executable.
fn without_set_id(mode: u32) -> u32 {
    let sgid_is_real = mode & (S_ISGID | 0o010) == S_ISGID | 0o010;
    mode & !S_ISUID & !(if sgid_is_real { S_ISGID } else { 0 })
}
