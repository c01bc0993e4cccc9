//! Trees of mounts: hanging mounts in, taking them out, copying. The caller holds the topology lock.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};

use super::namespace::BindMode;
use super::{Mount, Place};
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

pub(super) fn attach_at(new: &Arc<Mount>, at: &Path) {
    *new.place.lock() = Some(Place {
        parent: Arc::downgrade(&at.mount),
        point: at.dentry.clone(),
    });
    at.dentry.add_mount();
    at.mount
        .children
        .lock()
        .insert(Arc::as_ptr(&at.dentry).addr(), new.clone());
}

/// Takes `mount` off what it is mounted on, if anything.
pub(super) fn detach(mount: &Arc<Mount>) {
    let Some(place) = mount.place.lock().take() else {
        return;
    };
    place.point.remove_mount();
    if let Some(parent) = place.parent.upgrade() {
        let listed = parent
            .children
            .lock()
            .remove(&Arc::as_ptr(&place.point).addr());
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

/// `top` and all mounts on it, parents first.
pub(super) fn subtree(top: &Arc<Mount>) -> Vec<Arc<Mount>> {
    let mut all = alloc::vec![top.clone()];
    let mut next = 0;
    while next < all.len() {
        let children = all[next].children();
        all.extend(children);
        next += 1;
    }
    all
}

/// A mount and its copy.
pub(super) type OldAndNew = (Arc<Mount>, Arc<Mount>);

/// A copy of the mount tree, with the pairs of old and new. Unbindable mounts are left out of binds.
pub(super) fn copy_tree(
    top: &Arc<Mount>,
    mode: BindMode,
    for_bind: bool,
) -> (Arc<Mount>, Vec<OldAndNew>) {
    let copy_one =
        |old: &Arc<Mount>| Mount::new(&old.super_block, &old.root, &old.source, old.flags());
    let copy = copy_one(top);
    let mut pairs = alloc::vec![(top.clone(), copy.clone())];
    let mut next = 0;
    while mode == BindMode::Recursive && next < pairs.len() {
        let (old, new) = pairs[next].clone();
        next += 1;
        for child in old.children() {
            if for_bind && child.unbindable.load(Ordering::Relaxed) {
                continue;
            }
            let Some(point) = child.mounted_on() else {
                continue;
            };
            let child_copy = copy_one(&child);
            attach_at(
                &child_copy,
                &Path {
                    mount: new.clone(),
                    dentry: point.dentry,
                },
            );
            pairs.push((child, child_copy));
        }
    }
    (copy, pairs)
}

/// A mount of `from` itself, with what is mounted below it when recursive.
pub(super) fn copy_below(from: &Path, mode: BindMode) -> Arc<Mount> {
    let old = &from.mount;
    let copy = Mount::new(&old.super_block, &from.dentry, &old.source, old.flags());
    if mode == BindMode::Recursive {
        for child in old.children() {
            let Some(point) = child.mounted_on() else {
                continue;
            };
            let is_inside = from.dentry.is_ancestor_of(&point.dentry);
            if is_inside && !child.unbindable.load(Ordering::Relaxed) {
                let (child_copy, _) = copy_tree(&child, mode, true);
                attach_at(
                    &child_copy,
                    &Path {
                        mount: copy.clone(),
                        dentry: point.dentry,
                    },
                );
            }
        }
    }
    copy
}
