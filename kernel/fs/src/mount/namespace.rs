//! A mount namespace and the operations of mount(2), umount2(2) and pivot_root(2) on it.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use abi::{Errno, Result};
use collections::{TryCollect, Vec, try_arc};
use machine::sync::SpinLock;
use sched::{Mutex, WaitQueue};

use super::Mount;
use super::tree::{
    attach_at, check_kinds, copy_below, copy_tree, detach, list, settle, subtree, take_apart,
    take_over,
};
use crate::file_system::SuperBlock;
use crate::flags::MountFlags;
use crate::path::Path;
use crate::user_namespace::UserNamespace;

/// Held around every change of any mount tree.
static TOPOLOGY: Mutex<()> = Mutex::new(());

/// The first goes to the initial network namespace.
static NEXT_ID: AtomicU32 = AtomicU32::new(0xF000_0001);

/// A number for a new namespace of any kind: that of its file in /proc/PID/ns.
pub fn next_namespace_id() -> u32 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// A tree of mounts that a group of processes sees.
#[derive(Debug)]
pub struct MountNamespace {
    id: u32,
    is_initial: bool,
    /// Whose capabilities count in it.
    owner: UserNamespace,
    root: SpinLock<Option<Arc<Mount>>>,
    /// Counts changes; with `changed` what poll of /proc/PID/mounts tells.
    changes: AtomicU64,
    changed: WaitQueue,
    /// Mounts in it.
    len: AtomicUsize,
}

/// Mounts in a namespace at most (/proc/sys/fs/mount-max).
const MOUNTS_MAX: usize = 100_000;

/// Whether a bind mount takes along what is mounted below its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindMode {
    /// The one mount.
    One,
    /// `MS_REC`: submounts too.
    Recursive,
}

/// How umount2(2) goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DetachMode {
    /// Only when nobody uses it.
    IfIdle,
    /// `MNT_DETACH`: out of the tree now, gone when the last user is.
    Lazy,
}

impl MountNamespace {
    /// A namespace whose root is `super_block`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(
        super_block: &Arc<SuperBlock>,
        source: &[u8],
        flags: MountFlags,
    ) -> Result<Arc<Self>> {
        let root = Mount::new(super_block, &super_block.root()?, source, flags)?;
        Self::with_root(root, true, UserNamespace::INITIAL)
    }

    /// A namespace of the tree below `root`, which is taken apart if there is no memory.
    fn with_root(root: Arc<Mount>, is_initial: bool, owner: UserNamespace) -> Result<Arc<Self>> {
        let this = try_arc(Self {
            id: next_namespace_id(),
            is_initial,
            owner,
            root: SpinLock::new(None),
            changes: AtomicU64::new(0),
            changed: WaitQueue::new(),
            len: AtomicUsize::new(0),
        })
        .inspect_err(|_| {
            take_apart(&root);
        })?;
        for mount in subtree(&root) {
            *mount.namespace.lock() = Arc::downgrade(&this);
            this.len.fetch_add(1, Ordering::Relaxed);
        }
        *this.root.lock() = Some(root);
        Ok(this)
    }

    /// Whether it is the machine's own, not a copy made by `CLONE_NEWNS`.
    #[must_use]
    pub fn is_initial(&self) -> bool {
        self.is_initial
    }

    /// Inode number under /proc/PID/ns.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The user namespace whose capabilities count in it.
    #[must_use]
    pub fn owner(&self) -> &UserNamespace {
        &self.owner
    }

    /// Its root directory, as a process without chroot sees it.
    ///
    /// # Errors
    /// `EINVAL` once the root was taken away, which only the namespace's end does.
    pub fn root(&self) -> Result<Path> {
        let root = self.root.lock().clone().ok_or(Errno::EINVAL)?;
        Ok(root.root_path().top())
    }

    /// All mounts, parents before children (/proc/PID/mounts).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn mounts(&self) -> Result<Vec<Arc<Mount>>> {
        let _held = TOPOLOGY.lock();
        let root = self.root.lock().clone();
        Ok(root.iter().flat_map(subtree).try_collect()?)
    }

    /// A copy of the tree for `CLONE_NEWNS`, owned by `owner`. `paths` (root and working directory) are moved over to the copy.
    ///
    /// # Errors
    /// As [`MountNamespace::root`].
    pub fn duplicate(&self, owner: &UserNamespace, paths: &mut [&mut Path]) -> Result<Arc<Self>> {
        let _held = TOPOLOGY.lock();
        let root = self.root.lock().clone().ok_or(Errno::EINVAL)?;
        let (copy, pairs) = copy_tree(&root, BindMode::Recursive, false)?;
        let copy = Self::with_root(copy, false, owner.clone())?;
        for path in paths {
            if let Some((_, new)) = pairs.iter().find(|(old, _)| Arc::ptr_eq(old, &path.mount)) {
                path.mount = new.clone();
            }
        }
        Ok(copy)
    }

    /// How often something was mounted, moved or taken away.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Woken after each change.
    #[must_use]
    pub fn changed(&self) -> &WaitQueue {
        &self.changed
    }

    fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.changed.wake_all();
    }

    /// Whether `at` is the top of a mount of this namespace: what mount(2) changes.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn check_top(self: &Arc<Self>, at: &Path) -> Result<()> {
        if at.is_mount_root() && self.owns(&at.mount) {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }

    fn owns(self: &Arc<Self>, mount: &Mount) -> bool {
        core::ptr::eq(mount.namespace.lock().as_ptr(), Arc::as_ptr(self))
    }

    /// Mounts a file system at `at`.
    ///
    /// # Errors
    /// `EINVAL` when `at` is in another namespace, `ENOTDIR` when one is a directory and the other
    /// not, `ENOENT` when the directory was removed, `EBUSY` when the same is mounted there already.
    pub fn mount(
        self: &Arc<Self>,
        at: &Path,
        super_block: &Arc<SuperBlock>,
        source: &[u8],
        flags: MountFlags,
    ) -> Result<()> {
        let _held = TOPOLOGY.lock();
        let at = at.clone().top();
        if Arc::ptr_eq(at.mount.super_block(), super_block) && at.is_mount_root() {
            return Err(Errno::EBUSY);
        }
        let new = Mount::new(super_block, &super_block.root()?, source, flags)?;
        self.attach(&new, &at)
    }

    /// Shows `from` at `at` as well (`MS_BIND`).
    ///
    /// # Errors
    /// As [`MountNamespace::mount`]; `EINVAL` for an unbindable source.
    pub fn bind(self: &Arc<Self>, from: &Path, at: &Path, mode: BindMode) -> Result<()> {
        let _held = TOPOLOGY.lock();
        if from.mount.unbindable.load(Ordering::Relaxed) || !self.owns(&from.mount) {
            return Err(Errno::EINVAL);
        }
        let copy = copy_below(from, mode)?;
        self.attach(&copy, &at.clone().top()).inspect_err(|_| {
            take_apart(&copy);
        })
    }

    /// Moves the mount whose top is `from` to `at` (`MS_MOVE`).
    ///
    /// # Errors
    /// `EINVAL` when `from` is not a mount's top or is the root, `ELOOP` when `at` is below it.
    pub fn move_mount(self: &Arc<Self>, from: &Path, at: &Path) -> Result<()> {
        let _held = TOPOLOGY.lock();
        self.check_top(from)?;
        if from.mount.mounted_on().is_none() {
            return Err(Errno::EINVAL);
        }
        let at = at.clone().top();
        let mut above = Some(at.mount.clone());
        while let Some(mount) = above {
            if Arc::ptr_eq(&mount, &from.mount) {
                return Err(Errno::ELOOP);
            }
            above = mount.mounted_on().map(|path| path.mount);
            sched::cond_resched();
        }
        check_kinds(&from.mount, &at)?;
        if !self.owns(&at.mount) {
            return Err(Errno::EINVAL);
        }
        attach_at(&from.mount, &at)?;
        self.note_change();
        Ok(())
    }

    /// Changes the flags of the mount whose top is `at` (`MS_REMOUNT|MS_BIND`, and the per-mount part of `MS_REMOUNT`).
    ///
    /// # Errors
    /// `EINVAL` when `at` is not a mount's top.
    pub fn remount(self: &Arc<Self>, at: &Path, flags: MountFlags) -> Result<()> {
        let _held = TOPOLOGY.lock();
        self.check_top(at)?;
        at.mount.flags.store(flags.bits(), Ordering::Relaxed);
        self.note_change();
        Ok(())
    }

    /// Sets whether the mount whose top is `at` may be bound elsewhere; the only propagation
    /// type that differs from private here.
    ///
    /// # Errors
    /// `EINVAL` when `at` is not a mount's top, or is in another namespace.
    pub fn set_unbindable(
        self: &Arc<Self>,
        at: &Path,
        unbindable: bool,
        mode: BindMode,
    ) -> Result<()> {
        let _held = TOPOLOGY.lock();
        self.check_top(at)?;
        let count = match mode {
            BindMode::One => 1,
            BindMode::Recursive => usize::MAX,
        };
        for mount in subtree(&at.mount).take(count) {
            mount.unbindable.store(unbindable, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes the mount whose top is `at` out of the tree.
    ///
    /// # Errors
    /// `EINVAL` when `at` is not a mount's top or is the namespace's root, `EBUSY` when it is in use.
    pub fn unmount(self: &Arc<Self>, at: &Path, mode: DetachMode) -> Result<()> {
        if mode == DetachMode::IfIdle {
            // Places that processes have left are no use of it.
            sched::rcu::barrier();
        }
        let held = TOPOLOGY.lock();
        self.check_top(at)?;
        if at.mount.mounted_on().is_none() {
            return Err(Errno::EINVAL);
        }
        if mode == DetachMode::IfIdle {
            // `at` and the parent's list hold one each; any more is an open file, a
            // working directory, or a mount on top.
            let has_children = !at.mount.children.lock().is_empty();
            if has_children || Arc::strong_count(&at.mount) > 2 {
                return Err(Errno::EBUSY);
            }
        }
        let gone = take_apart(&at.mount);
        self.len.fetch_sub(gone, Ordering::Relaxed);
        self.note_change();
        drop(held);
        Ok(())
    }

    /// Makes `new_root` the root and hangs the old root at `put_old` (pivot_root(2)); `root` is the
    /// caller's root. The caller then moves every process's root and working directory.
    ///
    /// # Errors
    /// `EINVAL` when a path is not where it must be, `EBUSY` when `new_root` is the root already.
    pub fn pivot_root(
        self: &Arc<Self>,
        root: &Path,
        new_root: &Path,
        put_old: &Path,
    ) -> Result<()> {
        let _held = TOPOLOGY.lock();
        if !self.owns(&new_root.mount) || !self.owns(&root.mount) || !self.owns(&put_old.mount) {
            return Err(Errno::EINVAL);
        }
        if Arc::ptr_eq(&new_root.mount, &root.mount) || Arc::ptr_eq(&put_old.mount, &root.mount) {
            return Err(Errno::EBUSY);
        }
        if !root.is_mount_root()
            || !new_root.is_mount_root()
            || new_root.mount.mounted_on().is_none()
        {
            return Err(Errno::EINVAL);
        }
        if !put_old.is_below(new_root) || !new_root.is_below(root) {
            return Err(Errno::EINVAL);
        }
        let old_place = root.mount.mounted_on();
        // What can fail comes first: the old root is listed at its new place, and not taken off the old one
        // before the new root has come there.
        list(&root.mount, put_old)?;
        match &old_place {
            Some(place) => take_over(&new_root.mount, place),
            None => {
                detach(&new_root.mount);
                *self.root.lock() = Some(new_root.mount.clone());
            }
        }
        settle(&root.mount, put_old);
        self.note_change();
        Ok(())
    }

    fn attach(self: &Arc<Self>, new: &Arc<Mount>, at: &Path) -> Result<()> {
        if !self.owns(&at.mount) {
            return Err(Errno::EINVAL);
        }
        check_kinds(new, at)?;
        memory::pressure::ensure_headroom()?;
        let count = subtree(new).count();
        if self.len.load(Ordering::Relaxed) + count > MOUNTS_MAX {
            return Err(Errno::ENOSPC);
        }
        attach_at(new, at)?;
        self.len.fetch_add(count, Ordering::Relaxed);
        for mount in subtree(new) {
            *mount.namespace.lock() = Arc::downgrade(self);
        }
        self.note_change();
        Ok(())
    }
}

impl Drop for MountNamespace {
    /// Takes the tree apart: parents hold children, so nothing else would let go of mounts whose
    /// top someone still uses.
    fn drop(&mut self) {
        let Some(root) = self.root.get_mut().take() else {
            return;
        };
        take_apart(&root);
    }
}
