//! [`Inode`]: a file as its file system knows it, apart from names and open descriptions.
//!
//! The VFS checks permissions, mount flags and name rules before it calls, and holds the directory's
//! [`crate::Dentry`] lock around everything that changes entries, so an implementation needs no
//! lock for "check then insert" of its own. Methods may block; no spin lock is held around them.

use alloc::sync::Arc;
use core::any::Any;

use abi::{Errno, Result};
use collections::{String, Vec};

use crate::acl::{Acl, AclKind, NewAcls};
use crate::file_ops::FileOps;
use crate::flags::OpenFlags;
use crate::metadata::{DeviceId, FileKind, Metadata, SetAttr};
use crate::path::Path;
use crate::user_namespace::{Kgid, Kuid};

mod body;

pub use body::{InodeAccess, InodeBody};

/// What to make in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInode<'a> {
    /// Kind, with what the kind needs.
    pub kind: NewKind<'a>,
    /// Permission, set-id and sticky bits, umask and set-gid inheritance already applied.
    pub mode: u32,
    /// Owner.
    pub uid: Kuid,
    /// Group.
    pub gid: Kgid,
    /// What the directory's default access control list gives, already heeded in `mode`. None where the file system
    /// has no lists.
    pub acls: NewAcls,
}

/// The kind of a new inode, with what the kind needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewKind<'a> {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link and where it points.
    Symlink(&'a [u8]),
    /// A device node (`CharDevice` or `BlockDevice`).
    Device(FileKind, DeviceId),
    /// A named pipe.
    Fifo,
    /// The name of a unix socket.
    Socket,
}

impl NewKind<'_> {
    /// The kind without its details.
    #[must_use]
    pub const fn file_kind(self) -> FileKind {
        match self {
            NewKind::Regular => FileKind::Regular,
            NewKind::Directory => FileKind::Directory,
            NewKind::Symlink(_) => FileKind::Symlink,
            NewKind::Device(kind, _) => kind,
            NewKind::Fifo => FileKind::Fifo,
            NewKind::Socket => FileKind::Socket,
        }
    }
}

/// Where following a symbolic link leads.
#[derive(Debug)]
pub enum Link {
    /// A path to walk on with.
    Target(Vec<u8>),
    /// A place outright: a magic link of procfs.
    Jump(Path),
}

/// How rename(2) treats an existing target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace it. The VFS has checked that kinds match; emptiness of a directory is the inode's to check.
    Replace,
    /// Fail with `EEXIST`. The VFS has looked, so this matters only to remote file systems.
    NoReplace,
    /// Swap the two; both exist.
    Exchange,
}

/// How setxattr(2) treats an existing value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrMode {
    /// Create or replace.
    Either,
    /// `XATTR_CREATE`: fail with `EEXIST` when there is one.
    Create,
    /// `XATTR_REPLACE`: fail with `ENODATA` when there is none.
    Replace,
    /// Both: fail either way.
    Never,
}

/// A file, directory, link, device node, pipe or socket of a file system.
///
/// Every method has a default that answers what Linux answers for a kind that lacks the operation,
/// so implementations write only what they have.
pub trait Inode: Any + Send + Sync {
    /// What it is. Cheap: asked on every step of a walk.
    fn kind(&self) -> FileKind;

    /// What the VFS keeps with it. The same for as long as the inode object lives.
    fn body(&self) -> &InodeBody;

    /// Its attributes now.
    ///
    /// # Errors
    /// Whatever keeps a remote file system from asking (`EIO`, `ESTALE`).
    fn metadata(&self) -> Result<Metadata>;

    /// Whether `metadata` and `acl` answer at once: without sleeping or allocating, and so also in an RCU read section.
    fn answers_at_once(&self) -> bool {
        false
    }

    /// Changes attributes (chmod, chown, utimensat, truncate).
    ///
    /// # Errors
    /// `EPERM` by default; `EISDIR`/`EINVAL`/`EFBIG`/`ENOSPC` for sizes.
    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        let _ = change;
        Err(Errno::EPERM)
    }

    /// The entry `name` of this directory. Never called with `.`, `..` or an empty name.
    ///
    /// # Errors
    /// `ENOENT` when there is none, `ENOTDIR` by default.
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let _ = name;
        Err(Errno::ENOTDIR)
    }

    /// Whether a cached entry still holds; asked on every walk through it when the file system sets
    /// [`crate::FsFlags::REVALIDATE`]. `child` is `None` for a cached absence. On `false` the entry is
    /// dropped and looked up again.
    fn is_current(&self, name: &[u8], child: Option<&Arc<dyn Inode>>) -> bool {
        let _ = (name, child);
        true
    }

    /// Makes `name` in this directory; the VFS has seen that it is not there.
    ///
    /// # Errors
    /// `EPERM` by default, `EEXIST`, `ENOSPC`, `EROFS`.
    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Result<Arc<dyn Inode>> {
        let _ = (name, new);
        Err(Errno::EPERM)
    }

    /// Makes an unnamed regular file in this directory's file system (`O_TMPFILE`), which can get a name
    /// later if it is `linkable`.
    ///
    /// # Errors
    /// `EOPNOTSUPP` by default.
    fn create_unnamed(&self, new: &NewInode<'_>, linkable: bool) -> Result<Arc<dyn Inode>> {
        let _ = (new, linkable);
        Err(Errno::EOPNOTSUPP)
    }

    /// Gives `target`, of the same file system and not a directory, the further name `name` here.
    ///
    /// # Errors
    /// `EPERM` by default, `EMLINK`.
    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let _ = (name, target);
        Err(Errno::EPERM)
    }

    /// Removes the name of a non-directory.
    ///
    /// # Errors
    /// `EPERM` by default.
    fn unlink(&self, name: &[u8], child: &Arc<dyn Inode>) -> Result<()> {
        let _ = (name, child);
        Err(Errno::EPERM)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `EPERM` by default, `ENOTEMPTY`.
    fn rmdir(&self, name: &[u8], child: &Arc<dyn Inode>) -> Result<()> {
        let _ = (name, child);
        Err(Errno::EPERM)
    }

    /// Moves `name` to `to_name` in directory `to` of the same file system.
    ///
    /// # Errors
    /// `EPERM` by default, `ENOTEMPTY`; `EINVAL` for a mode that is not supported.
    fn rename(
        &self,
        name: &[u8],
        to: &Arc<dyn Inode>,
        to_name: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        let _ = (name, to, to_name, mode);
        Err(Errno::EPERM)
    }

    /// Where a symbolic link points.
    ///
    /// # Errors
    /// `EINVAL` by default: not a symbolic link.
    fn readlink(&self) -> Result<Vec<u8>> {
        Err(Errno::EINVAL)
    }

    /// What `readlink` answers, if that is known at once and the same for as long as the inode lives. Asked in an RCU
    /// read section, so it must neither sleep nor allocate.
    fn target_at_hand(&self) -> Option<&[u8]> {
        None
    }

    /// Where a walk through this symbolic link goes; differs from `readlink` only for magic links.
    ///
    /// # Errors
    /// As `readlink`.
    fn follow(&self) -> Result<Link> {
        self.readlink().map(Link::Target)
    }

    /// Opens it. Devices, pipes and sockets never get here: the VFS opens them.
    ///
    /// # Errors
    /// `ENXIO` by default.
    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        let _ = flags;
        Err(Errno::ENXIO)
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// `EOPNOTSUPP` by default, `ENODATA`.
    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        let _ = name;
        Err(Errno::EOPNOTSUPP)
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// `EOPNOTSUPP` by default, `EEXIST`, `ENODATA`, `ENOSPC`.
    fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        let _ = (name, value, mode);
        Err(Errno::EOPNOTSUPP)
    }

    /// The names of all extended attributes, each with a NUL behind it.
    ///
    /// # Errors
    /// `EOPNOTSUPP` by default.
    fn list_xattrs(&self) -> Result<Vec<u8>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `EOPNOTSUPP` by default, `ENODATA`.
    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        let _ = name;
        Err(Errno::EOPNOTSUPP)
    }

    /// An access control list of it; one of access says more than the mode does.
    ///
    /// # Errors
    /// `EOPNOTSUPP` by default: it can have none.
    fn acl(&self, kind: AclKind) -> Result<Option<Arc<Acl>>> {
        let _ = kind;
        Err(Errno::EOPNOTSUPP)
    }

    /// Sets an access control list, or takes it away. One of access changes the mode to what it says, and is not kept
    /// if that is all. Changing the mode changes the list in turn. `keeps_set_gid` is whether the caller may leave a
    /// set-group-id bit in that mode.
    ///
    /// # Errors
    /// `EOPNOTSUPP` by default, `ENOSPC`.
    fn set_acl(&self, kind: AclKind, acl: Option<Acl>, keeps_set_gid: bool) -> Result<()> {
        let _ = (kind, acl, keeps_set_gid);
        Err(Errno::EOPNOTSUPP)
    }

    /// Whether a write takes set-id bits and capabilities away behind the VFS's back, and their presence can change
    /// there: a remote file system's server does both.
    fn is_remote(&self) -> bool {
        false
    }

    /// It was read: sets the access time if that is due (relatime, mount(8)). Remote file systems leave it to their
    /// server.
    fn accessed(&self) {}

    /// What /proc/PID/fd shows for an inode without a path (`pipe:[17]`).
    ///
    /// # Errors
    /// `ENOMEM`.
    fn anonymous_name(&self) -> Result<Option<String>> {
        Ok(None)
    }
}

impl core::fmt::Debug for dyn Inode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Inode")
            .field("kind", &self.kind())
            .finish_non_exhaustive()
    }
}
