//! Trees of mounts: hanging mounts in, taking them out, copying. The caller holds the topology lock.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering;
use core::{iter, mem};

use abi::{Errno, Result};
use collections::Vec;

use super::namespace::BindMode;
use super::{Mount, Place};
use crate::dentry::Dentry;
use crate::path::Path;

/// Directories on directories, files on files, and nothing on what was removed.
pub(super) fn check_kinds(new: &Mount, at: &Path) -> Result<()> {
    if at.dentry.is_removed() {
        return Err(Errno::ENOENT);
    }
    if new.root.is_directory() == at.dentry.is_directory() {
        Ok(())
    } else {
        Err(Errno::ENOTDIR)
    }
}

/// What is mounted on `dentry` is listed under this number.
fn key(dentry: &Arc<Dentry>) -> usize {
    Arc::as_ptr(dentry).addr()
}

/// Hangs `mount` in at `at`, and takes it off what it was mounted on before, if anything. Nothing is mounted at `at`.
///
/// # Errors
/// `ENOMEM`; nothing has changed then.
pub(super) fn attach_at(mount: &Arc<Mount>, at: &Path) -> Result<()> {
    list(mount, at)?;
    settle(mount, at);
    Ok(())
}

/// The part of [`attach_at`] that may fail: `mount` is found by walks through `at` when [`settle`] has followed.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn list(mount: &Arc<Mount>, at: &Path) -> Result<()> {
    let mut children = at.mount.children.lock();
    let other = children.try_insert(key(&at.dentry), mount.clone());
    drop(children);
    other?;
    Ok(())
}

/// The rest of [`attach_at`]; takes no memory.
pub(super) fn settle(mount: &Arc<Mount>, at: &Path) {
    at.dentry.add_mount();
    let before = mount.place.lock().replace(Place::at(at));
    if let Some(before) = before {
        leave(mount, &before);
    }
}

/// Hangs `mount` in at `place`, where another is mounted that is to be settled elsewhere. Takes no memory.
pub(super) fn take_over(mount: &Arc<Mount>, place: &Path) {
    let listed = place
        .mount
        .children
        .lock()
        .get_mut(&key(&place.dentry))
        .map(|child| mem::replace(child, mount.clone()));
    drop(listed);
    settle(mount, place);
}

/// Takes `mount` off what it is mounted on, if anything.
pub(super) fn detach(mount: &Arc<Mount>) {
    let place = mount.place.lock().take();
    if let Some(place) = place {
        leave(mount, &place);
    }
}

/// `mount` is no longer at `place`, where another may be by now.
fn leave(mount: &Arc<Mount>, place: &Place) {
    place.point.remove_mount();
    if let Some(parent) = place.parent.upgrade() {
        let mut children = parent.children.lock();
        let is_listed = children
            .get(&key(&place.point))
            .is_some_and(|child| Arc::ptr_eq(child, mount));
        let listed = is_listed.then(|| children.remove(&key(&place.point)));
        drop(children);
        drop(listed);
    }
}

/// Takes `top` and all mounts on it out of the tree, one by one, children first. Needs no memory.
pub(super) fn take_apart(top: &Arc<Mount>) -> usize {
    let mut count = 0;
    let mut at = top.clone();
    loop {
        if let Some(child) = at.first_child() {
            at = child;
            continue;
        }
        let below = at.mounted_on().map(|path| path.mount);
        detach(&at);
        *at.namespace.lock() = Weak::new();
        count += 1;
        match below {
            Some(parent) if !Arc::ptr_eq(&at, top) => at = parent,
            _ => return count,
        }
        sched::cond_resched();
    }
}

/// `top` and all mounts on it, parents first. Takes no memory.
pub(super) fn subtree(top: &Arc<Mount>) -> impl Iterator<Item = Arc<Mount>> {
    iter::successors(Some(top.clone()), |at| {
        sched::cond_resched();
        if let Some(child) = at.first_child() {
            return Some(child);
        }
        let mut at = at.clone();
        while !Arc::ptr_eq(&at, top) {
            let below = at.mounted_on()?;
            if let Some(sibling) = below.mount.child_behind(key(&below.dentry)) {
                return Some(sibling);
            }
            at = below.mount;
            sched::cond_resched();
        }
        None
    })
}

/// What is mounted directly on `mount`. Takes no memory.
fn children(mount: &Arc<Mount>) -> impl Iterator<Item = Arc<Mount>> {
    iter::successors(mount.first_child(), |child| {
        sched::cond_resched();
        let point = child.mounted_on()?;
        mount.child_behind(key(&point.dentry))
    })
}

/// A mount and its copy.
pub(super) type OldAndNew = (Arc<Mount>, Arc<Mount>);

/// A tree of copies that is taken apart again unless it is kept: mounts hold what is mounted on them.
struct Copies {
    top: Arc<Mount>,
    pairs: Vec<OldAndNew>,
    is_kept: bool,
}

impl Copies {
    fn new(top: Arc<Mount>) -> Self {
        Self {
            top,
            pairs: Vec::new(),
            is_kept: false,
        }
    }

    fn keep(mut self) -> (Arc<Mount>, Vec<OldAndNew>) {
        self.is_kept = true;
        (self.top.clone(), mem::take(&mut self.pairs))
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        if !self.is_kept {
            take_apart(&self.top);
        }
    }
}

/// A copy of the mount tree, with the pairs of old and new. Unbindable mounts are left out of binds.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn copy_tree(
    top: &Arc<Mount>,
    mode: BindMode,
    for_bind: bool,
) -> Result<(Arc<Mount>, Vec<OldAndNew>)> {
    let copy_one =
        |old: &Arc<Mount>| Mount::new(&old.super_block, &old.root, &old.source, old.flags());
    let mut copies = Copies::new(copy_one(top)?);
    copies.pairs.try_push((top.clone(), copies.top.clone()))?;
    let mut next = 0;
    while mode == BindMode::Recursive && next < copies.pairs.len() {
        let (old, new) = copies.pairs[next].clone();
        next += 1;
        for child in children(&old) {
            if for_bind && child.unbindable.load(Ordering::Relaxed) {
                continue;
            }
            let Some(point) = child.mounted_on() else {
                continue;
            };
            let child_copy = copy_one(&child)?;
            let place = Path {
                mount: new.clone(),
                dentry: point.dentry,
            };
            attach_at(&child_copy, &place)?;
            copies.pairs.try_push((child, child_copy))?;
        }
        sched::cond_resched();
    }
    Ok(copies.keep())
}

/// A mount of `from` itself, with what is mounted below it when recursive.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn copy_below(from: &Path, mode: BindMode) -> Result<Arc<Mount>> {
    let old = &from.mount;
    let copy = Mount::new(&old.super_block, &from.dentry, &old.source, old.flags())?;
    let copies = Copies::new(copy);
    if mode == BindMode::Recursive {
        for child in children(old) {
            let Some(point) = child.mounted_on() else {
                continue;
            };
            let is_inside = from.dentry.is_ancestor_of(&point.dentry);
            if is_inside && !child.unbindable.load(Ordering::Relaxed) {
                let (top, pairs) = copy_tree(&child, mode, true)?;
                let below = Copies {
                    top,
                    pairs,
                    is_kept: false,
                };
                let place = Path {
                    mount: copies.top.clone(),
                    dentry: point.dentry,
                };
                attach_at(&below.top, &place)?;
                below.keep();
            }
        }
    }
    Ok(copies.keep().0)
}
