//! What the VFS asks of a [`TmpInode`]. Locking: each method takes the leaf locks that it needs, one after another.

use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use memory::pressure;

use super::{Contents, TmpInode};
use crate::acl::{Acl, AclKind};
use crate::file_ops::FileOps;
use crate::flags::OpenFlags;
use crate::inode::{Inode, InodeBody, NewInode, RenameMode, XattrMode};
use crate::metadata::{FileKind, Metadata, SetAttr, Timestamp};
use crate::tmpfs::directory::OpenDirectory;
use crate::tmpfs::file::TmpFile;

impl Inode for TmpInode {
    fn answers_at_once(&self) -> bool {
        true
    }

    fn body(&self) -> &InodeBody {
        &self.vfs
    }

    fn kind(&self) -> FileKind {
        self.kind
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(self.attributes())
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        self.change_attributes(change)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        self.child(name).map(|child| child as Arc<dyn Inode>)
    }

    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Result<Arc<dyn Inode>> {
        let child = Self::new(&self.usage, new)?;
        self.insert(name, &child)?;
        Ok(child)
    }

    fn create_unnamed(&self, new: &NewInode<'_>, linkable: bool) -> Result<Arc<dyn Inode>> {
        let child = Self::new(&self.usage, new)?;
        child.is_linkable.store(linkable, Ordering::Relaxed);
        child.meta.lock().nlink = 0;
        Ok(child)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let any: Arc<dyn Any + Send + Sync> = target.clone();
        let target: Arc<TmpInode> = any.downcast().map_err(|_| Errno::EXDEV)?;
        pressure::ensure_headroom()?;
        let has_names = target.has_names();
        if has_names {
            // A further name takes memory as a file does, and counts as one.
            self.usage.take_inode()?;
        } else if !target.is_linkable.swap(false, Ordering::Relaxed) {
            return Err(Errno::ENOENT);
        }
        target.change_links(1);
        self.insert(name, &target).inspect_err(|_| {
            target.change_links(-1);
            if has_names {
                self.usage.give_inode();
            } else {
                target.is_linkable.store(true, Ordering::Relaxed);
            }
        })
    }

    fn unlink(&self, name: &[u8], _: &Arc<dyn Inode>) -> Result<()> {
        self.remove(name)?.drop_name();
        Ok(())
    }

    fn rmdir(&self, name: &[u8], child: &Arc<dyn Inode>) -> Result<()> {
        Self::own(child)?.check_empty()?;
        self.remove(name)?.drop_name();
        Ok(())
    }

    fn rename(
        &self,
        name: &[u8],
        to: &Arc<dyn Inode>,
        to_name: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        self.rename_entries(name, Self::own(to)?, to_name, mode)
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        match &self.contents {
            Contents::Symlink(target) => Ok(Vec::try_from_slice(target)?),
            Contents::Regular(_) | Contents::Directory(_) | Contents::Node => Err(Errno::EINVAL),
        }
    }

    fn target_at_hand(&self) -> Option<&[u8]> {
        match &self.contents {
            Contents::Symlink(target) => Some(target),
            Contents::Regular(_) | Contents::Directory(_) | Contents::Node => None,
        }
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn FileOps>> {
        match &self.contents {
            Contents::Regular(_) => Ok(try_arc(TmpFile::new(self))?),
            Contents::Directory(_) => Ok(try_arc(OpenDirectory::new(self))?),
            Contents::Symlink(_) | Contents::Node => Err(Errno::ENXIO),
        }
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.xattrs.get(name)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        self.xattrs.set(&self.usage, name, value, mode)?;
        self.meta.lock().ctime = Timestamp::now();
        Ok(())
    }

    fn list_xattrs(&self) -> Result<Vec<u8>> {
        self.xattrs.list()
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.xattrs.remove(&self.usage, name)?;
        self.meta.lock().ctime = Timestamp::now();
        Ok(())
    }

    fn acl(&self, kind: AclKind) -> Result<Option<Arc<Acl>>> {
        if self.kind == FileKind::Symlink {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(self.acls.get(kind))
    }

    fn set_acl(&self, kind: AclKind, acl: Option<Acl>, keeps_set_gid: bool) -> Result<()> {
        if self.kind == FileKind::Symlink {
            return Err(Errno::EOPNOTSUPP);
        }
        self.change_acl(kind, acl, keeps_set_gid)
    }

    fn accessed(&self) {
        self.note_access();
    }
}
