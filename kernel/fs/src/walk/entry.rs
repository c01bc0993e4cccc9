//! The entry of one directory that a name means: what is known of it, or what the file system answers.

use alloc::sync::Arc;

use abi::{Errno, Result};

use crate::dentry::Dentry;
use crate::file_system::FsFlags;

/// The dentry of an existing entry, from the cache or the file system.
///
/// # Errors
/// `ENOENT` when there is none.
pub(crate) fn find_child(
    directory: &Arc<Dentry>,
    name: &[u8],
    cached_only: bool,
) -> Result<Arc<Dentry>> {
    if let Some(child) = current_child(directory, name) {
        directory.keep_child(&child, name);
        return if child.inode().is_some() {
            Ok(child)
        } else {
            Err(Errno::ENOENT)
        };
    }
    if cached_only {
        return Err(Errno::EAGAIN);
    }
    // Shared: those who look names up do not wait for each other's answers, only for changes.
    let _held = directory.dir_lock().read();
    find_child_locked(directory, name)
}

/// As [`find_child`], with the directory's lock held by the caller, shared or not.
pub(crate) fn find_child_locked(directory: &Arc<Dentry>, name: &[u8]) -> Result<Arc<Dentry>> {
    let found = find_or_absent_locked(directory, name)?;
    if found.is_none()
        && !directory.is_removed()
        && remembers_absence(directory, name)
        && directory.cached_child(name).is_none()
    {
        // Without memory the absence is asked for again.
        let _ = directory.insert_found(name, None);
    }
    found.ok_or(Errno::ENOENT)
}

/// Whether an absence that was just found may be believed for a while.
fn remembers_absence(directory: &Dentry, name: &[u8]) -> bool {
    let flags = directory.super_block().flags();
    !flags.contains(FsFlags::NO_NEGATIVE)
        && (!flags.contains(FsFlags::REVALIDATE)
            || directory
                .inode()
                .is_some_and(|inode| inode.is_current(name, None)))
}

/// As [`find_child_locked`] for a caller who is about to make the name: its absence is not an
/// error, and not worth remembering.
pub(crate) fn find_or_absent_locked(
    directory: &Arc<Dentry>,
    name: &[u8],
) -> Result<Option<Arc<Dentry>>> {
    if let Some(child) = current_child(directory, name) {
        return Ok(child.inode().is_some().then_some(child));
    }
    if directory.is_removed() {
        return Ok(None);
    }
    match directory.inode().ok_or(Errno::ENOENT)?.lookup(name) {
        Ok(found) => directory.insert_found(name, Some(found)).map(Some),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The cached entry, unless the file system says that it no longer holds.
pub(crate) fn current_child(directory: &Arc<Dentry>, name: &[u8]) -> Option<Arc<Dentry>> {
    let child = directory.cached_child(name)?;
    if !directory
        .super_block()
        .flags()
        .contains(FsFlags::REVALIDATE)
        || child.is_mount_point()
    {
        return Some(child);
    }
    if directory.inode()?.is_current(name, child.inode()) {
        return Some(child);
    }
    child.expire(directory, name);
    None
}
