//! [`FileSystem`]: one mounted instance; [`FileSystemType`]: what mount(2) finds by name.

use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use abi::{Errno, Result};
use collections::{String, TryCollect, Vec, try_arc};
use machine::sync::SpinLock;

use crate::dentry::{Dentry, forget_super_block};
use crate::inode::Inode;
use crate::metadata::{DeviceId, StatFs};

bitflags::bitflags! {
    /// What the VFS must know about a file system.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct FsFlags: u32 {
        /// Entries change behind the VFS's back: ask [`Inode::is_current`] before using a cached one.
        const REVALIDATE = 1;
        /// Do not remember absences.
        const NO_NEGATIVE = 2;
        /// Nothing can be changed (`EROFS`).
        const READ_ONLY = 4;
        /// Shown as `nodev` in /proc/filesystems: needs no block device.
        const NODEV = 8;
    }
}

/// One instance of a file system.
pub trait FileSystem: Any + Send + Sync {
    /// The type's name, as in /proc/filesystems.
    fn name(&self) -> &'static str;

    /// The root directory (or single file).
    ///
    /// # Errors
    /// `ENOMEM`.
    fn root(&self) -> Result<Arc<dyn Inode>>;

    /// Properties; fixed for the instance's life.
    fn flags(&self) -> FsFlags {
        FsFlags::empty()
    }

    /// Sizes and counts for statfs(2).
    ///
    /// # Errors
    /// Whatever keeps a remote file system from asking.
    fn statfs(&self) -> Result<StatFs>;

    /// Writes out what is dirty (sync(2), syncfs(2)).
    ///
    /// # Errors
    /// `EIO` and what the store answers.
    fn sync(&self) -> Result<()> {
        Ok(())
    }

    /// Options behind the flags in /proc/mounts, each with a leading comma.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn options(&self) -> Result<String> {
        Ok(String::new())
    }

    /// Takes new options (`mount -o remount,…`).
    ///
    /// # Errors
    /// `EINVAL` for an option that is not known.
    fn remount(&self, data: &[u8]) -> Result<()> {
        let _ = data;
        Ok(())
    }
}

impl core::fmt::Debug for dyn FileSystem {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// A file system instance with its device number and its tree of cached entries.
pub struct SuperBlock {
    fs: Arc<dyn FileSystem>,
    flags: FsFlags,
    device: DeviceId,
    root: SpinLock<Weak<Dentry>>,
    /// Held by whoever renames across directories, so that "is an ancestor of" stays true.
    pub(crate) rename_lock: sched::Mutex<()>,
    /// Mounts of it, detached ones in use included.
    mounts: AtomicUsize,
    /// Its entries in the table of names; changed with the table locked.
    cached: AtomicUsize,
}

/// Minor numbers of anonymous devices (major 0), as `st_dev`.
static NEXT_MINOR: AtomicU32 = AtomicU32::new(1);

impl SuperBlock {
    /// Wraps an instance.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(fs: Arc<dyn FileSystem>) -> Result<Arc<Self>> {
        let minor = NEXT_MINOR.fetch_add(1, Ordering::Relaxed);
        Self::with_device(fs, DeviceId::new(0, minor))
    }

    /// Wraps an instance that has a device number of its own.
    pub(crate) fn with_device(fs: Arc<dyn FileSystem>, device: DeviceId) -> Result<Arc<Self>> {
        Ok(try_arc(Self {
            flags: fs.flags(),
            device,
            root: SpinLock::new(Weak::new()),
            rename_lock: sched::Mutex::new(()),
            mounts: AtomicUsize::new(0),
            cached: AtomicUsize::new(0),
            fs,
        })?)
    }

    /// The dentry of its root. All mounts of the instance share it; it goes when the last one does.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn root(self: &Arc<Self>) -> Result<Arc<Dentry>> {
        if let Some(root) = self.root.lock().upgrade() {
            return Ok(root);
        }
        let new = Dentry::new_root(self, self.fs.root()?)?;
        let mut root = self.root.lock();
        if let Some(root) = root.upgrade() {
            return Ok(root);
        }
        *root = Arc::downgrade(&new);
        Ok(new)
    }

    /// One more mount.
    pub(crate) fn add_mount(&self) {
        self.mounts.fetch_add(1, Ordering::AcqRel);
    }

    /// The table of names, which is locked, has one entry more or less.
    pub(crate) fn count_cached(&self, step: isize) {
        let now = self.cached.load(Ordering::Relaxed);
        self.cached
            .store(now.wrapping_add_signed(step), Ordering::Relaxed);
    }

    pub(crate) fn has_cached(&self) -> bool {
        self.cached.load(Ordering::Relaxed) != 0
    }

    /// A mount is gone: cached names go with the last one.
    pub(crate) fn remove_mount(self: &Arc<Self>) {
        if self.mounts.fetch_sub(1, Ordering::AcqRel) == 1 {
            forget_super_block(self);
        }
    }

    /// Forgets `name` in the root and everything below, as far as it is cached: it means nothing any more.
    pub fn forget(&self, name: &[u8]) {
        let root = self.root.lock().upgrade();
        if let Some(child) = root.and_then(|root| root.cached_child(name)) {
            child.forget_tree();
        }
    }

    /// The instance.
    #[must_use]
    pub fn fs(&self) -> &Arc<dyn FileSystem> {
        &self.fs
    }

    /// Its properties.
    #[must_use]
    pub fn flags(&self) -> FsFlags {
        self.flags
    }

    /// `st_dev` of every file in it.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.device
    }
}

impl core::fmt::Debug for SuperBlock {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SuperBlock")
            .field("fs", &self.fs)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

/// What mount(2) was given for a new instance.
#[derive(Debug, Clone, Copy)]
pub struct MountRequest<'a> {
    /// The `source` argument (a virtio-fs tag; anything for tmpfs).
    pub source: &'a [u8],
    /// The `data` argument: comma-separated options.
    pub data: &'a [u8],
}

impl<'a> MountRequest<'a> {
    /// The options as (name, value) pairs; the value is empty where there is no `=`.
    pub fn options(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.data
            .split(|byte| *byte == b',')
            .filter(|option| !option.is_empty())
            .map(
                |option| match option.iter().position(|byte| *byte == b'=') {
                    Some(at) => (&option[..at], &option[at + 1..]),
                    None => (option, &option[option.len()..]),
                },
            )
    }
}

/// A kind of file system, registered under a name.
pub trait FileSystemType: Send + Sync {
    /// The name mount(2) takes.
    fn name(&self) -> &'static str;

    /// Makes an instance, or hands out the one there is (devtmpfs, sysfs).
    ///
    /// # Errors
    /// `EINVAL` for an unknown option or tag, `ENODEV`, `ENOMEM`.
    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<SuperBlock>>;
}

static TYPES: SpinLock<Vec<Arc<dyn FileSystemType>>> = SpinLock::new(Vec::new());

/// Makes a type known to mount(2). A second registration of a name is ignored.
///
/// # Errors
/// `ENOMEM`.
pub fn register(new: Arc<dyn FileSystemType>) -> Result<()> {
    let mut types = TYPES.lock();
    if types.iter().all(|known| known.name() != new.name()) {
        types.try_push(new)?;
    }
    Ok(())
}

/// The type called `name`.
///
/// # Errors
/// `ENODEV` when there is none, as mount(2).
pub fn find_type(name: &[u8]) -> Result<Arc<dyn FileSystemType>> {
    let types = TYPES.lock();
    let found = types.iter().find(|known| known.name().as_bytes() == name);
    found.cloned().ok_or(Errno::ENODEV)
}

/// All registered names (/proc/filesystems).
///
/// # Errors
/// `ENOMEM`.
pub fn type_names() -> Result<Vec<&'static str>> {
    let types = TYPES.lock();
    Ok(types.iter().map(|known| known.name()).try_collect()?)
}
