//! The rules of the tree of groups: what may be made and removed, which controllers children have, which groups are
//! threaded, and where threads may go (Linux's Documentation/admin-guide/cgroup-v2.rst, "Basic Operations").
//!
//! All changes are made with [`HIERARCHY`] held. What stands in the way of a thread's coming is changed with the tree
//! locked, too, because a new thread comes without the former.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};

use super::{Cgroup, Controllers, HIERARCHY, NEXT_ID, NUMBERS, Owner, freezer};
use crate::task::tree;

impl Cgroup {
    /// Makes a group below it.
    ///
    /// # Errors
    /// `ENODEV` when it was removed, `EAGAIN` beyond a limit on groups, `EEXIST`, `ENOMEM`.
    pub(crate) fn make_child(self: &Arc<Self>, name: &[u8], owner: Owner) -> Result<Arc<Self>> {
        let _held = HIERARCHY.lock();
        if self.is_removed() {
            return Err(Errno::ENODEV);
        }
        for (level, above) in self.up().enumerate() {
            let settings = above.settings.lock();
            if settings.descendants >= settings.max_descendants || level >= settings.max_depth {
                return Err(Errno::EAGAIN);
            }
        }
        let id = NEXT_ID.fetch_add(NUMBERS, Ordering::Relaxed);
        let child = Self::new(Some(self), name, id, owner)?;
        if self
            .settings
            .lock()
            .subtree_control
            .contains(Controllers::MEMORY)
        {
            child.open_memory()?;
        }
        self.enter_child(&child)?;
        for above in self.up() {
            above.settings.lock().descendants += 1;
        }
        let mut tree = tree::lock();
        self.members.get_mut(&mut tree).children += 1;
        if self.members.get(&tree).freezes {
            child.members.get_mut(&mut tree).freezes = true;
        }
        freezer::update(&mut tree, &child);
        freezer::update(&mut tree, self);
        drop(tree);
        child.tell();
        Ok(child)
    }

    fn enter_child(&self, child: &Arc<Self>) -> Result<()> {
        let mut settings = self.settings.lock();
        if settings.child(&child.name).is_some() {
            return Err(Errno::EEXIST);
        }
        settings.children.try_insert(child.id, child.clone())?;
        Ok(())
    }

    /// Removes it.
    ///
    /// # Errors
    /// `EBUSY` while there are living threads in it, or groups; `ENODEV` when that was done already.
    pub(crate) fn remove(self: &Arc<Self>) -> Result<()> {
        let _held = HIERARCHY.lock();
        let Some(parent) = &self.parent else {
            return Err(Errno::EBUSY);
        };
        if self.is_removed() {
            return Err(Errno::ENODEV);
        }
        {
            let mut tree = tree::lock();
            let members = self.members.get_mut(&mut tree);
            if members.threads > 0 || members.children > 0 {
                return Err(Errno::EBUSY);
            }
            members.is_removed = true;
            let was_frozen = core::mem::take(&mut members.is_frozen);
            members.freezes = false;
            let above = parent.members.get_mut(&mut tree);
            above.children -= 1;
            above.frozen_children -= usize::from(was_frozen);
            freezer::update(&mut tree, parent);
        }
        self.settings.lock().is_removed = true;
        let mut settings = parent.settings.lock();
        settings.threaded_children -= usize::from(self.is_threaded());
        // Not the last reference: the caller has one.
        settings.children.remove(&self.id);
        drop(settings);
        let memory = self.memory.lock().take();
        drop(memory);
        for above in self.up().skip(1) {
            above.settings.lock().descendants -= 1;
            above.dying.fetch_add(1, Ordering::Relaxed);
        }
        // Those that wait for its files to change look at them, and find it gone.
        self.events.count();
        self.tell();
        Ok(())
    }

    /// Which controllers it may hand on to its children (`cgroup.controllers`).
    #[must_use]
    pub fn controllers(&self) -> Controllers {
        let Some(parent) = &self.parent else {
            return Controllers::all();
        };
        let handed = parent.settings.lock().subtree_control;
        if self.is_threaded() {
            handed & Controllers::THREADED
        } else {
            handed
        }
    }

    /// Whether it is a domain that is shared by threaded groups below it.
    #[must_use]
    pub fn is_thread_root(&self) -> bool {
        if self.is_threaded() {
            return false;
        }
        let settings = self.settings.lock();
        let hands_on = settings.subtree_control.intersects(Controllers::THREADED);
        let has_threaded = settings.threaded_children > 0;
        drop(settings);
        has_threaded || hands_on && self.has_threads()
    }

    /// Whether it could be one.
    fn can_be_thread_root(&self) -> bool {
        if self.parent.is_none() {
            return true;
        }
        let domains = self.members.get(&tree::lock()).populated_domains;
        self.may_share_domain() && domains == 0
    }

    /// As far as that goes by its settings.
    fn may_share_domain(&self) -> bool {
        let control = self.settings.lock().subtree_control;
        !self.is_threaded() && Controllers::THREADED.contains(control)
    }

    /// Whether it can have processes, or children that have: not as a domain within a threaded subtree.
    #[must_use]
    pub fn is_valid_domain(&self) -> bool {
        let mut above = self.up().skip(1);
        !self.is_threaded()
            && above.all(|group| {
                group.parent.is_none() || !group.is_thread_root() && !group.is_threaded()
            })
    }

    /// What `cgroup.type` says.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.is_threaded() {
            "threaded"
        } else if !self.is_valid_domain() {
            "domain invalid"
        } else if self.is_thread_root() {
            "domain threaded"
        } else {
            "domain"
        }
    }

    /// Makes it a threaded part of its parent's domain.
    ///
    /// # Errors
    /// `ENOENT` when it was removed; `EOPNOTSUPP` when it has threads or controllers that go by processes, or its parent
    /// cannot share its domain.
    pub(crate) fn make_threaded(&self) -> Result<()> {
        let _held = HIERARCHY.lock();
        if self.is_removed() {
            return Err(Errno::ENOENT);
        }
        let Some(parent) = &self.parent else {
            return Err(Errno::EOPNOTSUPP);
        };
        if self.is_threaded() {
            return Ok(());
        }
        let domain = parent.domain();
        let is_free = !self.state().0 && self.may_share_domain();
        if !is_free || !domain.is_valid_domain() || !domain.can_be_thread_root() {
            return Err(Errno::EOPNOTSUPP);
        }
        let tree = tree::lock();
        if self.members.get(&tree).threads > 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        self.is_threaded.store(true, Ordering::Relaxed);
        drop(tree);
        parent.settings.lock().threaded_children += 1;
        Ok(())
    }

    /// Enables and disables controllers for its children.
    ///
    /// # Errors
    /// `ENODEV` when it was removed, `ENOENT` for a controller that it does not have; `EBUSY` for one that a child hands
    /// on, and to enable one while it has threads itself; `EOPNOTSUPP` where the domain is shared.
    pub(crate) fn change_subtree_control(
        self: &Arc<Self>,
        mut enable: Controllers,
        mut disable: Controllers,
    ) -> Result<()> {
        let _held = HIERARCHY.lock();
        if self.is_removed() {
            return Err(Errno::ENODEV);
        }
        let old = self.settings.lock().subtree_control;
        enable -= old;
        disable &= old;
        if !self.controllers().contains(enable) {
            return Err(Errno::ENOENT);
        }
        let mut at = 0;
        while let Some(child) = self.child_from(at) {
            if child.settings.lock().subtree_control.intersects(disable) {
                return Err(Errno::EBUSY);
            }
            at = child.id + 1;
        }
        let needs_no_threads = self.check_enable(enable)?;
        if enable.contains(Controllers::MEMORY)
            && let Err(errno) = self.open_memory_below()
        {
            self.close_memory_below();
            return Err(errno);
        }
        {
            let tree = tree::lock();
            if needs_no_threads && self.members.get(&tree).threads > 0 {
                drop(tree);
                if enable.contains(Controllers::MEMORY) {
                    self.close_memory_below();
                }
                return Err(Errno::EBUSY);
            }
            self.settings.lock().subtree_control = (old | enable) - disable;
        }
        self.settle_children(enable | disable);
        Ok(())
    }

    /// Whether it may hand these on only while it has no threads of its own.
    fn check_enable(&self, enable: Controllers) -> Result<bool> {
        if enable.is_empty() {
            return Ok(false);
        }
        if !self.domain().is_valid_domain() {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.parent.is_none() {
            return Ok(false);
        }
        if !Controllers::THREADED.contains(enable) {
            if self.is_thread_root() || self.is_threaded() {
                return Err(Errno::EOPNOTSUPP);
            }
        } else if self.can_be_thread_root() || self.is_threaded() {
            return Ok(false);
        }
        Ok(true)
    }

    /// Controllers came to its children, or were taken from them: their settings are as at first.
    fn settle_children(self: &Arc<Self>, changed: Controllers) {
        if changed.contains(Controllers::PIDS) {
            let mut at = 0;
            while let Some(child) = self.child_from(at) {
                child.reset_pids();
                at = child.id + 1;
                sched::cond_resched();
            }
        }
        if changed.contains(Controllers::MEMORY) {
            let has_it = self
                .settings
                .lock()
                .subtree_control
                .contains(Controllers::MEMORY);
            if !has_it {
                self.close_memory_below();
            }
            self.charge_members();
        }
    }

    /// Whether threads may come to it. Looks at settings and takes no lock of the tree.
    ///
    /// # Errors
    /// `EOPNOTSUPP` in a domain within a threaded subtree, `EBUSY` when it hands on controllers that go by processes.
    pub(super) fn check_destination(&self) -> Result<()> {
        if self.parent.is_none() || self.is_threaded() {
            return Ok(());
        }
        let control = self.settings.lock().subtree_control;
        if Controllers::THREADED.contains(control) {
            Ok(())
        } else {
            Err(Errno::EBUSY)
        }
    }

    /// Whether a thread may move to it from `from`, with its process or alone.
    ///
    /// # Errors
    /// `EOPNOTSUPP`, `EBUSY`: see cgroups(7), "the no internal processes rule" and "thread mode".
    pub(crate) fn check_move(&self, from: &Self, is_process: bool) -> Result<()> {
        if !self.domain().is_valid_domain() {
            return Err(Errno::EOPNOTSUPP);
        }
        let control = self.settings.lock().subtree_control;
        if !self.can_be_thread_root() && !self.is_threaded() && !control.is_empty() {
            return Err(Errno::EBUSY);
        }
        if !is_process && !core::ptr::eq(from.domain(), self.domain()) {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(())
    }

    /// Sets how deep and how many groups below it may be; `None` leaves one as it is.
    ///
    /// # Errors
    /// `ENOENT` when it was removed.
    pub(crate) fn set_limits(
        &self,
        depth: Option<usize>,
        descendants: Option<usize>,
    ) -> Result<()> {
        let _held = HIERARCHY.lock();
        let mut settings = self.settings.lock();
        if settings.is_removed {
            return Err(Errno::ENOENT);
        }
        settings.max_depth = depth.unwrap_or(settings.max_depth);
        settings.max_descendants = descendants.unwrap_or(settings.max_descendants);
        Ok(())
    }

    /// Freezes or thaws it.
    ///
    /// # Errors
    /// `ENOENT` when it was removed.
    pub(crate) fn set_freeze(self: &Arc<Self>, freezes: bool) -> Result<()> {
        let _held = HIERARCHY.lock();
        let mut settings = self.settings.lock();
        if settings.is_removed {
            return Err(Errno::ENOENT);
        }
        settings.freezes = freezes;
        drop(settings);
        freezer::apply(self);
        Ok(())
    }
}
