//! renameat2(2).
//!
//! Locking: a rename between two directories has the file system's rename lock first. Who is above whom among
//! directories is then settled until it is done: without it two renames could each move a directory below the other's,
//! and cut both off as a loop. Then both directories are locked, the upper one first, and a directory that is to be
//! replaced last. Everything is looked up again under these locks; what the walks found may be gone.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::Vec;
use sched::RwLockWriteGuard;

use crate::dentry::Dentry;
use crate::file_system::FsFlags;
use crate::flags::LookupFlags;
use crate::inode::RenameMode;
use crate::path::Path;
use crate::permission::{self, Access};
use crate::walk::{Base, Caller, Last, Walk, find_child_locked, find_or_absent_locked};

bitflags::bitflags! {
    /// `RENAME_*` of renameat2(2).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct RenameFlags: u32 {
        /// `RENAME_NOREPLACE`: do not overwrite.
        const NOREPLACE = 1;
        /// `RENAME_EXCHANGE`: swap the two.
        const EXCHANGE = 2;
    }
}

/// One side of a rename: the directory, the last component, whether a slash follows.
struct Side {
    directory: Path,
    name: Vec<u8>,
    slash: bool,
}

impl Caller<'_> {
    /// renameat2(2).
    ///
    /// # Errors
    /// `EXDEV` across mounts, `EBUSY` for `.`, `..` and mount points, `EINVAL` when a directory would go below
    /// itself, `EEXIST`, `ENOTEMPTY`, `EISDIR`, `ENOTDIR`, and those of path walks and permissions.
    pub fn rename<'b>(
        &self,
        from: (impl Into<Base<'b>>, &[u8]),
        to: (impl Into<Base<'b>>, &[u8]),
        flags: RenameFlags,
    ) -> Result<()> {
        if flags.contains(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE) {
            return Err(Errno::EINVAL);
        }
        // `.` and `..` name no entry that could be moved.
        let from = self.side(from, Errno::EBUSY)?;
        let taken = if flags.contains(RenameFlags::NOREPLACE) {
            Errno::EEXIST
        } else {
            Errno::EBUSY
        };
        let to = self.side(to, taken)?;
        if !Arc::ptr_eq(&from.directory.mount, &to.directory.mount) {
            return Err(Errno::EXDEV);
        }
        permission::check_mount_writable(&from.directory)?;
        let is_across = !Arc::ptr_eq(&from.directory.dentry, &to.directory.dentry);
        let super_block = from.directory.dentry.super_block().clone();
        let _tree = is_across.then(|| super_block.rename_lock.lock());
        let _guards = lock_both(&from.directory.dentry, &to.directory.dentry);
        self.rename_locked(&from, &to, flags)
    }

    fn side<'b>(&self, (base, path): (impl Into<Base<'b>>, &[u8]), special: Errno) -> Result<Side> {
        let mut walk = Walk::new(self, base.into(), path, LookupFlags::empty())?;
        match walk.walk_to_last()? {
            Last::Here => Err(special),
            Last::Name { name, slash } => Ok(Side {
                directory: walk.at,
                name: name.into_owned()?,
                slash,
            }),
        }
    }

    fn rename_locked(&self, from: &Side, to: &Side, flags: RenameFlags) -> Result<()> {
        let source = find_child_locked(&from.directory.dentry, &from.name)?;
        let target = find_or_absent_locked(&to.directory.dentry, &to.name)?;
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        if flags.contains(RenameFlags::NOREPLACE) && target.is_some() {
            return Err(Errno::EEXIST);
        }
        if exchange && target.is_none() {
            return Err(Errno::ENOENT);
        }
        if !source.is_directory() && (from.slash || (to.slash && !exchange)) {
            return Err(Errno::ENOTDIR);
        }
        // It would be below itself, and reached from nowhere.
        if source.is_ancestor_of(&to.directory.dentry) {
            return Err(Errno::EINVAL);
        }
        // The target is not empty: the source lies in it.
        if let Some(target) = &target
            && target.is_ancestor_of(&from.directory.dentry)
        {
            return Err(if exchange {
                Errno::EINVAL
            } else {
                Errno::ENOTEMPTY
            });
        }
        // POSIX: two links to one file both stay, and the call succeeds, before any permission is asked for.
        if let Some(target) = &target
            && is_same_inode(&source, target)
        {
            return Ok(());
        }
        self.check_rename(from, to, &source, target.as_ref(), exchange)?;
        // As in rmdir: nobody may make an entry in a directory between "it is empty" and "it is replaced".
        let replaced = target.as_ref().filter(|it| it.is_directory() && !exchange);
        let _inner = replaced.map(|it| it.dir_lock().write());
        self.do_rename(from, to, &source, target.as_ref(), flags)
    }

    fn check_rename(
        &self,
        from: &Side,
        to: &Side,
        source: &Arc<Dentry>,
        target: Option<&Arc<Dentry>>,
        exchange: bool,
    ) -> Result<()> {
        let inode = source.inode().ok_or(Errno::ENOENT)?;
        permission::check_delete(&from.directory, inode.as_ref(), self.credentials)?;
        match target {
            None => {
                // It was removed between the walk and the lock: an entry made there could never be reached or removed.
                if to.directory.dentry.is_removed() {
                    return Err(Errno::ENOENT);
                }
                permission::check_path(
                    &to.directory,
                    self.credentials,
                    Access::WRITE | Access::EXEC,
                )?;
            }
            Some(target) => {
                let target_inode = target.inode().ok_or(Errno::ENOENT)?;
                permission::check_delete(&to.directory, target_inode.as_ref(), self.credentials)?;
                match (source.is_directory(), target.is_directory()) {
                    (true, false) if !exchange => return Err(Errno::ENOTDIR),
                    (false, true) if !exchange => return Err(Errno::EISDIR),
                    _ => {}
                }
            }
        }
        // A directory that changes its parent changes its `..`: it must be writable itself.
        if source.is_directory() && !Arc::ptr_eq(&from.directory.dentry, &to.directory.dentry) {
            permission::check(inode.as_ref(), self.credentials, Access::WRITE)?;
        }
        if source.is_mount_point() || target.is_some_and(|target| target.is_mount_point()) {
            return Err(Errno::EBUSY);
        }
        Ok(())
    }

    fn do_rename(
        &self,
        from: &Side,
        to: &Side,
        source: &Arc<Dentry>,
        target: Option<&Arc<Dentry>>,
        flags: RenameFlags,
    ) -> Result<()> {
        let mode = if flags.contains(RenameFlags::EXCHANGE) {
            RenameMode::Exchange
        } else if flags.contains(RenameFlags::NOREPLACE) {
            RenameMode::NoReplace
        } else {
            RenameMode::Replace
        };
        let (from_dir, to_dir) = (from.directory.inode()?, to.directory.inode()?);
        // The file system first: the cache of names follows what is so, and is never ahead of it.
        from_dir.rename(&from.name, to_dir, &to.name, mode)?;
        match target {
            Some(target) if mode == RenameMode::Exchange => source.swap_with(target),
            Some(target) => {
                target.mark_removed();
                source.move_to(&to.directory.dentry, &to.name);
            }
            None => source.move_to(&to.directory.dentry, &to.name),
        }
        let flags = from.directory.dentry.super_block().flags();
        if mode != RenameMode::Exchange && !flags.contains(FsFlags::NO_NEGATIVE) {
            // That the old name is gone need not be remembered.
            from.directory.dentry.note_absence(&from.name);
        }
        Ok(())
    }
}

/// Hard links to one file: rename does nothing.
fn is_same_inode(a: &Arc<Dentry>, b: &Arc<Dentry>) -> bool {
    match (a.inode(), b.inode()) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

type Guard<'a> = RwLockWriteGuard<'a, ()>;

/// Locks two directories: an ancestor before its descendant, strangers by address. The caller holds the
/// rename lock when they differ.
fn lock_both<'a>(a: &'a Arc<Dentry>, b: &'a Arc<Dentry>) -> (Guard<'a>, Option<Guard<'a>>) {
    if Arc::ptr_eq(a, b) {
        return (a.dir_lock().write(), None);
    }
    let a_is_first = a.is_ancestor_of(b)
        || (!b.is_ancestor_of(a) && Arc::as_ptr(a).addr() < Arc::as_ptr(b).addr());
    let (first, second) = if a_is_first { (a, b) } else { (b, a) };
    let first = first.dir_lock().write();
    (first, Some(second.dir_lock().write()))
}
