//! Moving threads between groups, who may do it, and where a thread is as others see it.

use alloc::sync::Arc;

use abi::{Errno, Result};
use core::fmt::Write;
use fs::File;
use fs::permission::{self, Access};

use super::inode::{Control, Directory};
use super::{Opener, items, namespace_root, numbers};
use crate::procfs::text::Text;
use crate::task::cgroup::{Cgroup, HIERARCHY, members};
use crate::task::relations;
use crate::task::thread::{self, Thread};

/// The group that a thread is in.
fn group_of(thread: &Thread) -> Result<Arc<Cgroup>> {
    thread.cgroup().map_or_else(Cgroup::root, Ok)
}

/// What was written to `cgroup.procs` or `cgroup.threads` of `to`: the process, or the thread, of that number comes.
pub(super) fn write(to: &Arc<Cgroup>, opener: &Opener, text: &str, is_process: bool) -> Result<()> {
    let number = numbers::int(text).map_err(|_| Errno::EINVAL)?;
    let held = HIERARCHY.lock();
    if to.is_removed() {
        return Err(Errno::ENODEV);
    }
    if number < 0 {
        return Err(Errno::EINVAL);
    }
    let caller = thread::current().ok_or(Errno::ESRCH)?;
    let thread = if number == 0 {
        caller
    } else {
        relations::find_thread(caller.process().pid_namespace(), number).ok_or(Errno::ESRCH)?
    };
    // With its process goes its first thread, or, when that has ended, the oldest.
    let thread = if is_process {
        thread.process().main_thread().unwrap_or(thread)
    } else {
        thread
    };
    let from = group_of(&thread)?;
    check(&from, to, opener, is_process)?;
    members::migrate(&thread, is_process, to);
    drop(held);
    Ok(())
}

/// Whether the opener may move what is in `from` to `to`.
fn check(from: &Arc<Cgroup>, to: &Arc<Cgroup>, opener: &Opener, is_process: bool) -> Result<()> {
    // Who may write there could also have moved it by way of the common ancestor.
    let common = Control::new(to.common_ancestor(from), items::PROCS)?;
    permission::check(common.as_ref(), &opener.credentials, Access::WRITE)?;
    if !opener.sees(from) || !opener.sees(to) {
        return Err(Errno::ENOENT);
    }
    to.check_move(from, is_process)
}

/// The group whose directory is open as `file`, for the caller's child to start in (`CLONE_INTO_CGROUP`).
///
/// # Errors
/// `EBADF` for another file, `ENOENT` when it was removed, and what moving the caller there would be refused by.
pub fn open_for_clone(parent: &Thread, file: &File, is_thread: bool) -> Result<Arc<Cgroup>> {
    let to = file
        .inode()
        .ok()
        .and_then(Directory::group_of)
        .ok_or(Errno::EBADF)?;
    let _held = HIERARCHY.lock();
    if to.is_removed() {
        return Err(Errno::ENOENT);
    }
    let opener = Opener::current()?;
    let own = Control::new(to.clone(), items::PROCS)?;
    permission::check(own.as_ref(), &opener.credentials, Access::WRITE)?;
    check(&group_of(parent)?, &to, &opener, !is_thread)?;
    Ok(to)
}

/// Where a thread is, as the caller's cgroup namespace has it (/proc/PID/cgroup).
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn path(of: &Thread, to: &mut Text) -> Result<()> {
    let root = thread::current().and_then(|reader| namespace_root(&reader));
    match of.cgroup() {
        None if root.is_none() => to.push(b"/"),
        group => {
            let group = group.map_or_else(Cgroup::root, Ok)?;
            let root = root.map_or_else(Cgroup::root, Ok)?;
            write_path(&group, &root, to)?;
            if group.is_removed() {
                to.push(b" (deleted)")?;
            }
            Ok(())
        }
    }
}

/// The way from `root` to `group`, by way of what both are in.
fn write_path(group: &Arc<Cgroup>, root: &Arc<Cgroup>, to: &mut Text) -> Result<()> {
    let common = root.common_ancestor(group);
    let above = root
        .up()
        .take_while(|at| !core::ptr::eq(*at, Arc::as_ptr(&common)));
    let ups = above.count();
    for _ in 0..ups {
        to.push(b"/..")?;
    }
    let below = || {
        group
            .up()
            .take_while(|at| !core::ptr::eq(*at, Arc::as_ptr(&common)))
    };
    let depth = below().count();
    for level in (0..depth).rev() {
        to.push(b"/")?;
        to.push(below().nth(level).map_or(&[], Cgroup::name))?;
    }
    if ups + depth == 0 {
        write!(to, "/")?;
    }
    Ok(())
}
