//! Making, finding, moving and removing dentries.

use alloc::sync::{Arc, Weak};
use core::mem;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use abi::Result;
use collections::{Map, try_arc, try_arc_slice};
use machine::sync::SpinLock;
use sched::RwLock;
use sched::rcu::ReadGuard;

use super::{Dentry, Place, cache};
use crate::file_system::SuperBlock;
use crate::inode::Inode;

impl Dentry {
    /// The root of a file system.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new_root(
        super_block: &Arc<SuperBlock>,
        inode: Arc<dyn Inode>,
    ) -> Result<Arc<Dentry>> {
        let name = try_arc_slice(&[])?;
        Ok(try_arc(Self::unplaced(
            super_block,
            Some(inode),
            None,
            name,
        ))?)
    }

    fn unplaced(
        super_block: &Arc<SuperBlock>,
        inode: Option<Arc<dyn Inode>>,
        parent: Option<Arc<Dentry>>,
        name: Arc<[u8]>,
    ) -> Self {
        Self {
            super_block: super_block.clone(),
            kind: inode.as_ref().map(|inode| inode.kind()),
            inode,
            place: SpinLock::new(Place { parent, name }),
            children: SpinLock::new(Map::new()),
            dir_lock: RwLock::new(()),
            mounts: AtomicU32::new(0),
            removed: AtomicBool::new(false),
            used: AtomicBool::new(false),
            generation: AtomicU32::new(0),
        }
    }

    /// A dentry that no directory lists: an `O_TMPFILE` file.
    pub(crate) fn new_unlisted(
        self: &Arc<Self>,
        inode: Arc<dyn Inode>,
        name: &[u8],
    ) -> Result<Arc<Dentry>> {
        let name = try_arc_slice(name)?;
        let dentry = Self::unplaced(&self.super_block, Some(inode), Some(self.clone()), name);
        dentry.removed.store(true, Ordering::Release);
        Ok(try_arc(dentry)?)
    }

    /// Enters what a lookup found (`None`: nothing) into the cache. Another lookup of the same name may have been faster:
    /// then its dentry stays, so that a file has one dentry a name. Call with the directory's lock held for reading.
    ///
    /// # Errors
    /// `ENOMEM`; the cache says then what it said before.
    pub(crate) fn insert_found(
        self: &Arc<Self>,
        name: &[u8],
        inode: Option<Arc<dyn Inode>>,
    ) -> Result<Arc<Dentry>> {
        self.enter(name, inode, Dentry::is_same_inode)
    }

    fn is_same_inode(&self, other: &Dentry) -> bool {
        match (&self.inode, &other.inode) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (None, None) => true,
            _ => false,
        }
    }

    /// Takes the memory that a new name takes here, before the file system is asked for it: once that has made the file
    /// nothing may fail, since the call would be made again and find it there. Call with the directory's lock held.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn prepare_child<'d>(self: &'d Arc<Self>, name: &[u8]) -> Result<NewChild<'d>> {
        let (name, child) = self.unlisted_child(name, None)?;
        let mut children = self.children.lock();
        let known = children.get(&name).and_then(Weak::upgrade);
        let listed = match known {
            Some(_) => Ok(None),
            // Nothing yet: who looks for the name waits for the directory's lock.
            None => children.try_insert(name.clone(), Weak::new()),
        };
        drop(children);
        listed?;
        Ok(NewChild {
            directory: self,
            name,
            child: Some(child),
            known,
        })
    }

    /// Notes that there is no `name` here, if there is memory for that. Call with the directory's lock held.
    pub(crate) fn note_absence(self: &Arc<Self>, name: &[u8]) {
        // What is there is a file that is there no more.
        let _ = self.enter(name, None, |_, _| false);
    }

    /// A dentry called `name` here that the list does not have yet, and its name.
    fn unlisted_child(
        self: &Arc<Self>,
        name: &[u8],
        inode: Option<Arc<dyn Inode>>,
    ) -> Result<(Arc<[u8]>, Arc<Dentry>)> {
        let name = try_arc_slice(name)?;
        let parent = Some(self.clone());
        let child = Self::unplaced(&self.super_block, inode, parent, name.clone());
        Ok((name, try_arc(child)?))
    }

    /// Enters `name`, unless `stays` says of what is there and the new one that the former is to stay: that is returned then.
    fn enter(
        self: &Arc<Self>,
        name: &[u8],
        inode: Option<Arc<dyn Inode>>,
        stays: impl FnOnce(&Dentry, &Dentry) -> bool,
    ) -> Result<Arc<Dentry>> {
        let (name, child) = self.unlisted_child(name, inode)?;
        let mut children = self.children.lock();
        let old = children.get(&name).and_then(Weak::upgrade);
        if let Some(old) = old.as_ref().filter(|old| stays(old, &child)) {
            // The new one is not listed, so it does not take the other out of the list as it goes.
            let old = old.clone();
            drop(children);
            return Ok(old);
        }
        if let Some(old) = &old {
            old.end_name();
        }
        let entered = children.try_insert(name.clone(), Arc::downgrade(&child));
        drop(children);
        drop(old);
        entered?;
        cache::keep(&child, self, &name, 0);
        Ok(child)
    }

    /// The known dentry called `name`.
    pub(crate) fn cached_child(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        let found = self.children.lock().get(name).and_then(Weak::upgrade);
        if let Some(child) = &found {
            child.note_use();
        }
        found
    }

    /// Enters `child`, which was found as `name` here without a lock, into the table, so that the next walk finds it
    /// there.
    pub(crate) fn keep_child(&self, child: &Arc<Dentry>, name: &[u8]) {
        if cache::find(&ReadGuard::new(), self, name).is_some() {
            return;
        }
        let generation = child.generation();
        let own_name = {
            let children = self.children.lock();
            let listed = children.get_key_value(name);
            let is_it = |listed: &Weak<Dentry>| core::ptr::eq(listed.as_ptr(), Arc::as_ptr(child));
            listed.and_then(|(name, listed)| is_it(listed).then(|| name.clone()))
        };
        let Some(own_name) = own_name else { return };
        cache::keep(child, self, &own_name, generation);
        if child.generation() != generation {
            // Who changed that meanwhile may have looked too early to find it there.
            cache::forget(child, self, name);
        }
    }

    /// Takes it out of its directory's cache: the name is gone. Call with the directory's lock held.
    pub(crate) fn mark_removed(self: &Arc<Self>) {
        self.removed.store(true, Ordering::Release);
        self.unlist();
    }

    /// Takes it and all that is cached below it out of the cache, the deepest first. It does not count as removed: who still
    /// has it asks the file system. No directory's lock is needed where the file system alone makes names come and go.
    pub(crate) fn forget_tree(self: &Arc<Self>) {
        let mut at = self.clone();
        loop {
            sched::cond_resched();
            if let Some(child) = at.any_child() {
                at = child;
                continue;
            }
            let parent = at.parent().filter(|_| !Arc::ptr_eq(&at, self));
            at.unlist();
            let Some(parent) = parent else { return };
            at = parent;
        }
    }

    fn any_child(&self) -> Option<Arc<Dentry>> {
        self.children.lock().values().find_map(Weak::upgrade)
    }

    /// The file system says that `name` in `directory` means something else by now: takes it out there. Nothing happens to
    /// one that was moved meanwhile, which the name does not mean any more.
    pub(crate) fn expire(&self, directory: &Dentry, name: &[u8]) {
        directory.forget_child(name, self, true);
        cache::forget(self, directory, name);
    }

    /// Moves it to `name` in `directory`; without memory the cache forgets it instead, and the new name is looked
    /// up when it is used. Call with both directories' locks held.
    pub(crate) fn move_to(self: &Arc<Self>, directory: &Arc<Dentry>, name: &[u8]) {
        let Ok(name) = try_arc_slice(name) else {
            return self.mark_removed();
        };
        self.unlist();
        let generation = self.generation();
        let place = Place {
            parent: Some(directory.clone()),
            name: name.clone(),
        };
        let old = mem::replace(&mut *self.place.lock(), place);
        drop(old);
        let mut children = directory.children.lock();
        let old = children.get(&name).and_then(Weak::upgrade);
        if let Some(old) = &old {
            old.end_name();
        }
        let entered = children.try_insert(name.clone(), Arc::downgrade(self));
        drop(children);
        drop(old);
        match entered {
            Ok(_) => {
                // Who found its old name out of date before it was moved may have said otherwise ([`Self::expire`]).
                self.removed.store(false, Ordering::Release);
                cache::keep(self, directory, &name, generation);
            }
            Err(_) => self.removed.store(true, Ordering::Release),
        }
    }

    /// Swaps the places of two dentries. Call with both directories' locks held.
    pub(crate) fn swap_with(self: &Arc<Self>, other: &Arc<Dentry>) {
        let (Some(parent), Some(other_parent)) = (self.parent(), other.parent()) else {
            return;
        };
        let (name, other_name) = (self.name(), other.name());
        self.unlist();
        other.unlist();
        self.move_to(&other_parent, &other_name);
        other.move_to(&parent, &name);
    }

    /// Removes it from its parent's list, if the list still means it, and from the table.
    fn unlist(&self) {
        let (parent, name) = {
            let place = self.place.lock();
            (place.parent.clone(), place.name.clone())
        };
        if let Some(parent) = parent {
            parent.forget_child(&name, self, false);
            cache::forget(self, &parent, &name);
        }
    }

    /// Takes `child` off the list if it is there as `name`; as one that is removed if `is_removed`.
    fn forget_child(&self, name: &[u8], child: &Dentry, is_removed: bool) {
        let mut children = self.children.lock();
        let is_it = children
            .get(name)
            .is_some_and(|listed| core::ptr::eq(listed.as_ptr(), child));
        let removed = if is_it {
            // With the list locked: who finds the name listed (`keep_child`) has read the generation before this.
            child.end_name();
            if is_removed {
                child.removed.store(true, Ordering::Release);
            }
            children.remove_entry(name)
        } else {
            None
        };
        drop(children);
        drop(removed);
    }
}

/// A name that is about to be made, with its place in the directory's list.
#[derive(Debug)]
pub(crate) struct NewChild<'d> {
    directory: &'d Arc<Dentry>,
    name: Arc<[u8]>,
    /// `None` once it is entered.
    child: Option<Arc<Dentry>>,
    /// The known absence that has the place until then.
    known: Option<Arc<Dentry>>,
}

impl NewChild<'_> {
    /// The name stands for `inode` from now on. Call with the directory's lock still held.
    pub(crate) fn enter(mut self, inode: Arc<dyn Inode>) -> Option<Arc<Dentry>> {
        let mut child = self.child.take()?;
        // Nobody else has it.
        let fields = Arc::get_mut(&mut child)?;
        fields.kind = Some(inode.kind());
        fields.inode = Some(inode);
        let mut children = self.directory.children.lock();
        if let Some(known) = &self.known {
            known.end_name();
        }
        let entered = match children.get_mut(&self.name) {
            Some(place) => {
                *place = Arc::downgrade(&child);
                Ok(None)
            }
            // Somebody has found the absence out of date meanwhile ([`Dentry::expire`]) and it was taken out.
            None => children.try_insert(self.name.clone(), Arc::downgrade(&child)),
        };
        drop(children);
        match entered {
            Ok(_) => cache::keep(&child, self.directory, &self.name, 0),
            // As a file that was removed: the next lookup asks the file system.
            Err(_) => child.removed.store(true, Ordering::Release),
        }
        Some(child)
    }
}

impl Drop for NewChild<'_> {
    /// Gives the place back if nothing came of it.
    fn drop(&mut self) {
        if self.child.is_none() || self.known.is_some() {
            return;
        }
        let mut children = self.directory.children.lock();
        let is_ours = children
            .get(&self.name)
            .is_some_and(|place| place.ptr_eq(&Weak::new()));
        let removed = if is_ours {
            children.remove_entry(&self.name)
        } else {
            None
        };
        drop(children);
        drop(removed);
    }
}

impl Drop for Dentry {
    /// Leaves its directory's list, then lets go of its ancestors one by one: a chain of a thousand
    /// directories must not become a recursion of a thousand drops.
    fn drop(&mut self) {
        let name = self.place.get_mut().name.clone();
        let mut next = self.place.get_mut().parent.take();
        if let Some(parent) = &next {
            parent.forget_child(&name, self, false);
        }
        while let Some(mut ancestor) = next.take().and_then(Arc::into_inner) {
            let name = ancestor.place.get_mut().name.clone();
            next = ancestor.place.get_mut().parent.take();
            if let Some(parent) = &next {
                parent.forget_child(&name, &ancestor, false);
            }
            drop(ancestor);
            sched::cond_resched();
        }
    }
}
