//! Inodes without a name: what fstat(2) and /proc/PID/fd show for pipes, sockets, eventfds and the like.

use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::Result;
use collections::{String, try_arc, try_format};
use machine::sync::SpinLock;

use crate::dentry::Dentry;
use crate::file_system::{FileSystem, SuperBlock};
use crate::inode::{Inode, InodeBody};
use crate::metadata::{DeviceId, FileKind, Metadata, SetAttr, StatFs, Timestamp};
use crate::mount::Mount;
use crate::path::Path;
use crate::pipe::buffer::Pipe;
use crate::user_namespace::{Kgid, Kuid};

/// `st_dev` of all of them.
pub(crate) const ANONYMOUS_DEVICE: DeviceId = DeviceId::new(0, 0xF_FFFF);

static NEXT_INO: AtomicU64 = AtomicU64::new(1);

/// An inode that no directory knows.
#[derive(Debug)]
pub struct AnonymousInode {
    label: &'static str,
    meta: SpinLock<Metadata>,
    body: InodeBody,
    /// What opening it again through /proc/PID/fd meets at.
    pipe: Option<Arc<Pipe>>,
}

impl AnonymousInode {
    /// A pipe or socket: shown as `label:[ino]`, with mode `mode`, owned by `owner`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(
        kind: FileKind,
        label: &'static str,
        mode: u32,
        owner: (Kuid, Kgid),
    ) -> Result<Arc<Self>> {
        Self::make(kind, label, mode, owner, None)
    }

    /// A pipe of pipe2(2).
    pub(crate) fn of_pipe(pipe: &Arc<Pipe>, owner: (Kuid, Kgid)) -> Result<Arc<Self>> {
        Self::make(FileKind::Fifo, "pipe", 0o600, owner, Some(pipe.clone()))
    }

    fn make(
        kind: FileKind,
        label: &'static str,
        mode: u32,
        owner: (Kuid, Kgid),
        pipe: Option<Arc<Pipe>>,
    ) -> Result<Arc<Self>> {
        let now = Timestamp::now();
        let ino = NEXT_INO.fetch_add(1, Ordering::Relaxed);
        let meta = Metadata {
            uid: owner.0,
            gid: owner.1,
            atime: now,
            mtime: now,
            ctime: now,
            is_typeless: kind == FileKind::Regular,
            ..Metadata::new(ino, kind, mode)
        };
        Ok(try_arc(Self {
            label,
            meta: SpinLock::new(meta),
            body: InodeBody::new(),
            pipe,
        })?)
    }

    /// The pipe that the anonymous inode `inode` stands for.
    pub(crate) fn pipe_of(inode: &Arc<dyn Inode>) -> Option<&Arc<Pipe>> {
        let any: &dyn Any = inode.as_ref();
        any.downcast_ref::<Self>()?.pipe.as_ref()
    }

    /// An eventfd, epoll instance and so on: shown as `anon_inode:label`, with Linux's brackets in the label.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn file_like(label: &'static str) -> Result<Arc<Self>> {
        Self::new(FileKind::Regular, label, 0o600, (Kuid::ROOT, Kgid::ROOT))
    }

    /// Its number.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.meta.lock().ino
    }
}

impl Inode for AnonymousInode {
    fn body(&self) -> &InodeBody {
        &self.body
    }

    fn kind(&self) -> FileKind {
        self.meta.lock().kind
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(*self.meta.lock())
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        let mut meta = self.meta.lock();
        meta.apply(change);
        if change.size.is_some() {
            return Err(abi::Errno::EINVAL);
        }
        Ok(())
    }

    fn anonymous_name(&self) -> Result<Option<String>> {
        let meta = *self.meta.lock();
        Ok(Some(match meta.kind {
            FileKind::Regular => try_format!("anon_inode:{}", self.label)?,
            _ => try_format!("{}:[{}]", self.label, meta.ino)?,
        }))
    }
}

/// The file system of inodes without a name: mounted nowhere, and only made when someone
/// goes to one of them through /proc/PID/fd.
#[derive(Debug)]
struct AnonymousFs(Arc<AnonymousInode>);

impl FileSystem for AnonymousFs {
    fn name(&self) -> &'static str {
        "anon_inodefs"
    }

    fn root(&self) -> Result<Arc<dyn Inode>> {
        Ok(self.0.clone())
    }

    fn statfs(&self) -> Result<StatFs> {
        const ANON_INODE_FS_MAGIC: u64 = 0x0904_1934;
        Ok(StatFs {
            magic: ANON_INODE_FS_MAGIC,
            block_size: 4096,
            name_max: 255,
            ..StatFs::default()
        })
    }
}

static MOUNT: SpinLock<Option<Arc<Mount>>> = SpinLock::new(None);

fn mount() -> Result<Arc<Mount>> {
    if let Some(mount) = &*MOUNT.lock() {
        return Ok(mount.clone());
    }
    let root = AnonymousInode::new(
        FileKind::Directory,
        "anon_inodefs",
        0o500,
        (Kuid::ROOT, Kgid::ROOT),
    )?;
    let super_block = SuperBlock::with_device(try_arc(AnonymousFs(root))?, ANONYMOUS_DEVICE)?;
    let new = Mount::of(&super_block)?;
    Ok(MOUNT.lock().get_or_insert(new).clone())
}

/// A place for an inode that has none, for one walk.
///
/// # Errors
/// `ENOMEM`.
pub fn place_of(inode: &Arc<dyn Inode>) -> Result<Path> {
    let mount = mount()?;
    let name = inode.anonymous_name()?.unwrap_or_default();
    let root: &Arc<Dentry> = mount.root();
    let dentry = root.new_unlisted(inode.clone(), name.as_bytes())?;
    Ok(Path { mount, dentry })
}

/// Whether `path` was made by [`place_of`].
pub(crate) fn is_anonymous(path: &Path) -> bool {
    path.device() == ANONYMOUS_DEVICE.encode()
}
