//! mkdir, mknod, symlink, link: making entries.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::Vec;

use crate::acl::{AclKind, NewAcls};
use crate::cred::Capabilities;
use crate::dentry::Dentry;
use crate::flags::LookupFlags;
use crate::inode::{Inode, NewInode, NewKind};
use crate::metadata::{FileKind, S_ISGID, S_ISUID};
use crate::path::Path;
use crate::permission::{self, Access};
use crate::tmpfs::with_space;
use crate::walk::{Base, Caller, Last, Walk, find_or_absent_locked};

impl Caller<'_> {
    /// mkdir(2).
    ///
    /// # Errors
    /// `EEXIST`, and those of path walks and of the file system.
    pub fn mkdir<'b>(&self, base: impl Into<Base<'b>>, path: &[u8], mode: u32) -> Result<()> {
        self.make(base.into(), path, NewKind::Directory, mode & 0o1777)
            .map(drop)
    }

    /// mknod(2); `NewKind::Regular` makes an empty file.
    ///
    /// # Errors
    /// `EPERM` for a device without `CAP_MKNOD`, `EEXIST`, and those of path walks.
    pub fn mknod<'b>(
        &self,
        base: impl Into<Base<'b>>,
        path: &[u8],
        kind: NewKind<'_>,
        mode: u32,
    ) -> Result<()> {
        if matches!(kind, NewKind::Device(..)) && !self.credentials.capable(Capabilities::MKNOD) {
            return Err(Errno::EPERM);
        }
        self.make(base.into(), path, kind, mode & 0o7777).map(drop)
    }

    /// Makes the name of a bound unix socket and returns its place.
    ///
    /// # Errors
    /// `EADDRINUSE` when the name is taken, and those of path walks.
    pub fn make_socket<'b>(
        &self,
        base: impl Into<Base<'b>>,
        path: &[u8],
        mode: u32,
    ) -> Result<Path> {
        let made = self.make(base.into(), path, NewKind::Socket, mode);
        made.map_err(|errno| {
            if errno == Errno::EEXIST {
                Errno::EADDRINUSE
            } else {
                errno
            }
        })
    }

    /// symlink(2).
    ///
    /// # Errors
    /// `ENOENT` for an empty target, `EEXIST`, and those of path walks.
    pub fn symlink<'b>(&self, target: &[u8], base: impl Into<Base<'b>>, path: &[u8]) -> Result<()> {
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        self.make(base.into(), path, NewKind::Symlink(target), 0o777)
            .map(drop)
    }

    /// link(2): gives what is at `old` the further name `path`.
    ///
    /// # Errors
    /// `EXDEV` across mounts, `EPERM` for a directory, `EEXIST`, and those of path walks.
    pub fn link<'b>(&self, old: &Path, base: impl Into<Base<'b>>, path: &[u8]) -> Result<()> {
        let (directory, name) = self.parent_for_new(base.into(), path, false)?;
        let inode = old.inode()?;
        let guard = directory.dentry.dir_lock().write();
        self.check_new(&directory, &name)?;
        if !Arc::ptr_eq(&old.mount, &directory.mount) {
            return Err(Errno::EXDEV);
        }
        if inode.kind() == FileKind::Directory {
            return Err(Errno::EPERM);
        }
        permission::check_link_source(inode.as_ref(), self.credentials)?;
        let child = directory.dentry.prepare_child(&name)?;
        directory.inode()?.link(&name, inode)?;
        child.enter(inode.clone());
        drop(guard);
        Ok(())
    }

    fn make(&self, base: Base<'_>, path: &[u8], kind: NewKind<'_>, mode: u32) -> Result<Path> {
        let may_end_in_slash = matches!(kind, NewKind::Directory);
        let (directory, name) = self.parent_for_new(base, path, may_end_in_slash)?;
        let _guard = directory.dentry.dir_lock().write();
        self.check_new(&directory, &name)?;
        let dentry = self.make_locked(&directory, &name, kind, mode)?;
        Ok(Path {
            mount: directory.mount.clone(),
            dentry,
        })
    }

    /// Makes `name`, known not to exist, with the directory's lock held.
    pub(crate) fn make_locked(
        &self,
        directory: &Path,
        name: &[u8],
        kind: NewKind<'_>,
        mode: u32,
    ) -> Result<Arc<Dentry>> {
        let inode = directory.inode()?;
        let new = self.new_inode(inode.as_ref(), kind, mode)?;
        let child = directory.dentry.prepare_child(name)?;
        let made = with_space(|| inode.create(name, &new))?;
        child.enter(made).ok_or(Errno::ENOMEM)
    }

    /// Owner, mode and access control lists of a new inode in `directory`: a default list or the umask applied, group
    /// inherited from a set-gid directory.
    ///
    /// # Errors
    /// `ENOMEM`, and what asking for the directory's attributes gives.
    pub(crate) fn new_inode<'k>(
        &self,
        directory: &dyn Inode,
        kind: NewKind<'k>,
        mode: u32,
    ) -> Result<NewInode<'k>> {
        let (parent, is_directory) = (directory.metadata()?, matches!(kind, NewKind::Directory));
        let (mut mode, mut gid) = (mode, self.credentials.fsgid);
        if parent.mode & S_ISGID != 0 {
            gid = parent.gid;
            if is_directory {
                mode |= S_ISGID;
            } else if mode & (S_ISGID | 0o010) == S_ISGID | 0o010
                && !self.credentials.in_group(gid)
                && !self.credentials.capable_over(&parent, Capabilities::FSETID)
            {
                mode &= !S_ISGID;
            }
        }
        if is_directory {
            mode &= !S_ISUID;
        }
        let (mode, acls) = match (kind, directory.acl(AclKind::Default)) {
            (NewKind::Symlink(_), _) => (mode, NewAcls::default()),
            (_, Ok(Some(default))) => NewAcls::inherit(&default, mode, is_directory)?,
            (_, Ok(None) | Err(_)) => (mode & !self.fs.umask(), NewAcls::default()),
        };
        Ok(NewInode {
            kind,
            mode,
            uid: self.credentials.fsuid,
            gid,
            acls,
        })
    }

    /// The directory and the name for something new.
    fn parent_for_new(
        &self,
        base: Base<'_>,
        path: &[u8],
        may_end_in_slash: bool,
    ) -> Result<(Path, Vec<u8>)> {
        let mut walk = Walk::new(self, base, path, LookupFlags::empty())?;
        match walk.walk_to_last()? {
            Last::Here => Err(Errno::EEXIST),
            Last::Name { name, slash } => {
                if slash && !may_end_in_slash {
                    // `link(x, "new/")`: no such directory, unless something is there already.
                    let exists = walk.child(&name).is_ok();
                    return Err(if exists { Errno::EEXIST } else { Errno::ENOENT });
                }
                Ok((walk.at, name.into_owned()?))
            }
        }
    }

    /// Whether `name` may be made in `directory`. Call with the directory's lock held.
    pub(crate) fn check_new(&self, directory: &Path, name: &[u8]) -> Result<()> {
        if find_or_absent_locked(&directory.dentry, name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        if directory.dentry.is_removed() {
            return Err(Errno::ENOENT);
        }
        permission::check_path(directory, self.credentials, Access::WRITE | Access::EXEC)
    }
}
