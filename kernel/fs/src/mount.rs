//! The tree of mounts: what is mounted where, with which flags, for each mount namespace.
//!
//! Each mount belongs to one namespace, so a mount knows what is mounted on it (`children`) and no
//! global table is needed; a copy of a namespace copies its mounts. All propagation is private.
//!
//! Locking: `TOPOLOGY` (sleeping) is held around every change of the tree. Walks read `children` and `place`,
//! leaf spin locks, without it.

use alloc::sync::{Arc, Weak};
use core::ops::Bound;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::Result;
use collections::{Map, try_arc, try_arc_slice};
use machine::sync::SpinLock;

use crate::dentry::Dentry;
use crate::file_system::{FsFlags, SuperBlock};
use crate::flags::MountFlags;
use crate::path::Path;

mod namespace;
mod tree;

pub use namespace::{BindMode, DetachMode, MountNamespace, next_namespace_id};

static NEXT_ID: AtomicU32 = AtomicU32::new(1);

/// A file system, or part of one, at a place in the tree.
pub struct Mount {
    id: u32,
    super_block: Arc<SuperBlock>,
    root: Arc<Dentry>,
    /// Its top is not that of the file system (a bind mount).
    is_part: bool,
    source: Arc<[u8]>,
    flags: AtomicU32,
    unbindable: AtomicBool,
    place: SpinLock<Option<Place>>,
    /// By the address of the dentry they are mounted on, which they keep alive.
    children: SpinLock<Map<usize, Arc<Mount>>>,
    /// The namespace it is in; dangling when detached.
    namespace: SpinLock<Weak<MountNamespace>>,
}

struct Place {
    parent: Weak<Mount>,
    point: Arc<Dentry>,
}

impl Place {
    fn at(path: &Path) -> Place {
        Place {
            parent: Arc::downgrade(&path.mount),
            point: path.dentry.clone(),
        }
    }
}

impl Mount {
    /// A mount of `root` that is not in any tree yet.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(
        super_block: &Arc<SuperBlock>,
        root: &Arc<Dentry>,
        source: &[u8],
        flags: MountFlags,
    ) -> Result<Arc<Mount>> {
        let source = try_arc_slice(source)?;
        // Counted before: who fails here drops a mount, which is counted back.
        super_block.add_mount();
        Ok(try_arc(Mount {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            super_block: super_block.clone(),
            root: root.clone(),
            is_part: root.parent().is_some(),
            source,
            flags: AtomicU32::new(flags.bits()),
            unbindable: AtomicBool::new(false),
            place: SpinLock::new(None),
            children: SpinLock::new(Map::new()),
            namespace: SpinLock::new(Weak::new()),
        })?)
    }

    /// A mount of a whole file system that is not in any tree: for the kernel's own use.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn of(super_block: &Arc<SuperBlock>) -> Result<Arc<Mount>> {
        let root = super_block.root()?;
        Self::new(super_block, &root, b"none", MountFlags::empty())
    }

    /// Number for /proc/PID/mountinfo and statx.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The file system.
    #[must_use]
    pub fn super_block(&self) -> &Arc<SuperBlock> {
        &self.super_block
    }

    /// The dentry at its top.
    #[must_use]
    pub fn root(&self) -> &Arc<Dentry> {
        &self.root
    }

    /// Its top as a path.
    #[must_use]
    pub fn root_path(self: &Arc<Self>) -> Path {
        Path {
            mount: self.clone(),
            dentry: self.root.clone(),
        }
    }

    /// The `source` argument of mount(2).
    #[must_use]
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// Its flags.
    #[must_use]
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_truncate(self.flags.load(Ordering::Relaxed))
    }

    /// Whether nothing can be changed through it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.flags().contains(MountFlags::RDONLY)
            || self.super_block.flags().contains(FsFlags::READ_ONLY)
    }

    /// Whether `dentry` of its file system is at its top or below.
    pub(crate) fn shows(&self, dentry: &Arc<Dentry>) -> bool {
        !self.is_part || self.root.is_ancestor_of(dentry)
    }

    /// What it is mounted on; `None` at the top of a tree.
    #[must_use]
    pub fn mounted_on(&self) -> Option<Path> {
        let place = self.place.lock();
        let place = place.as_ref()?;
        Some(Path {
            mount: place.parent.upgrade()?,
            dentry: place.point.clone(),
        })
    }

    /// What is mounted on `dentry` of this mount.
    #[must_use]
    pub fn child_on(&self, dentry: &Arc<Dentry>) -> Option<Arc<Mount>> {
        self.children
            .lock()
            .get(&Arc::as_ptr(dentry).addr())
            .cloned()
    }

    /// Something that is mounted directly on this mount.
    fn first_child(&self) -> Option<Arc<Mount>> {
        self.children.lock().values().next().cloned()
    }

    /// What is mounted directly on this mount behind what is mounted on the dentry at address `point`.
    fn child_behind(&self, point: usize) -> Option<Arc<Mount>> {
        let children = self.children.lock();
        let behind = (Bound::Excluded(point), Bound::Unbounded);
        children
            .range(behind)
            .next()
            .map(|(_, child)| child.clone())
    }

    /// The namespace it is in, unless detached.
    #[must_use]
    pub fn namespace(&self) -> Option<Arc<MountNamespace>> {
        self.namespace.lock().upgrade()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.super_block.remove_mount();
    }
}

impl core::fmt::Debug for Mount {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Mount")
            .field("id", &self.id)
            .field("fs", self.super_block.fs())
            .field("flags", &self.flags())
            .finish_non_exhaustive()
    }
}

impl Path {
    /// The top of what is mounted here, or itself.
    #[must_use]
    pub fn top(mut self) -> Path {
        while self.dentry.is_mount_point() {
            let Some(mount) = self.mount.child_on(&self.dentry) else {
                break;
            };
            self.dentry = mount.root.clone();
            self.mount = mount;
            sched::cond_resched();
        }
        self
    }
}
