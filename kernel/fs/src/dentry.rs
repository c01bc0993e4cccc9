//! The cache of names: a [`Dentry`] is a name in a directory and what it stands for, or a known absence.
//!
//! A dentry keeps its parent alive; a parent knows its children weakly, and a bounded table ([`cache`]) keeps those
//! alive that nobody uses at the moment. So an unmounted file system goes away as soon as its last user and its
//! cached names have. Walks look into that table first, without a lock ([`find_cached`]).
//!
//! Locking: `Dentry::dir_lock` (sleeping, from ancestor to descendant, else by address) is held for writing around every
//! change of a directory's entries, for reading around every lookup that asks the file system: lookups in one
//! directory do not wait for each other, and two may find the same name at once. The spin locks inside
//! (`children`, then `place`) are leaves; nothing is dropped or called with them held.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use collections::Map;
use machine::sync::SpinLock;
use sched::RwLock;

use crate::file_system::SuperBlock;
use crate::inode::Inode;
use crate::metadata::FileKind;

mod cache;
mod tree;

pub use cache::drop_unused;
pub(crate) use cache::{find as find_cached, forget_super_block};

/// A name in a directory and the inode it stands for; without an inode it records that there is no such name.
pub struct Dentry {
    super_block: Arc<SuperBlock>,
    inode: Option<Arc<dyn Inode>>,
    kind: Option<FileKind>,
    place: SpinLock<Place>,
    children: SpinLock<Map<Arc<[u8]>, Weak<Dentry>>>,
    dir_lock: RwLock<()>,
    /// Mounts on it, in all namespaces.
    mounts: AtomicU32,
    /// Its name is gone from the directory (unlink, rmdir, or dropped by revalidation).
    removed: AtomicBool,
    /// Looked up since the cache last passed by.
    used: AtomicBool,
    /// How often a name has stopped to mean it: what the cache has said of it before holds no more.
    generation: AtomicU32,
}

/// Where a dentry hangs in the tree; rename changes it.
struct Place {
    /// `None` for the root.
    parent: Option<Arc<Dentry>>,
    name: Arc<[u8]>,
}

impl Dentry {
    /// The file system it belongs to.
    #[must_use]
    pub fn super_block(&self) -> &Arc<SuperBlock> {
        &self.super_block
    }

    /// What the name stands for; `None` for a known absence.
    #[must_use]
    pub fn inode(&self) -> Option<&Arc<dyn Inode>> {
        self.inode.as_ref()
    }

    /// What it is; `None` for a known absence.
    #[must_use]
    pub fn kind(&self) -> Option<FileKind> {
        self.kind
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind == Some(FileKind::Directory)
    }

    /// The last component of its path; empty for the root.
    #[must_use]
    pub fn name(&self) -> Arc<[u8]> {
        self.place.lock().name.clone()
    }

    /// The directory it is in; `None` for the root of the file system.
    #[must_use]
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.lock().parent.clone()
    }

    /// Whether the name has been removed (a deleted file that is still open, a deleted current directory).
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Whether something is mounted on it, in any namespace.
    #[must_use]
    pub fn is_mount_point(&self) -> bool {
        self.mounts.load(Ordering::Acquire) != 0
    }

    /// Whether `self` is `other` or above it.
    #[must_use]
    pub fn is_ancestor_of(self: &Arc<Self>, other: &Arc<Dentry>) -> bool {
        let mut at = Some(other.clone());
        // A program makes directories in each other without end.
        while let Some(dentry) = at {
            if Arc::ptr_eq(&dentry, self) {
                return true;
            }
            at = dentry.parent();
            sched::cond_resched();
        }
        false
    }

    pub(crate) fn add_mount(&self) {
        self.mounts.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn remove_mount(&self) {
        self.mounts.fetch_sub(1, Ordering::AcqRel);
    }

    /// Acquire: who sees the count after a change sees the change.
    #[inline]
    fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    /// Its name means something else, or nothing, from here on.
    fn end_name(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// It was looked up.
    #[inline]
    fn note_use(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was looked up since [`Self::take_use`] was last called.
    fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether it was looked up since this was last asked.
    fn take_use(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn dir_lock(&self) -> &RwLock<()> {
        &self.dir_lock
    }
}

impl core::fmt::Debug for Dentry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let name = self.name();
        f.debug_struct("Dentry")
            .field("name", &name.escape_ascii())
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
