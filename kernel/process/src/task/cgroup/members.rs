//! Threads in groups: how they come, move and go, what is counted of them (`pids`), and which groups are populated.
//!
//! A thread is counted in its group from the moment it is made known until it ends; against `pids.max` until its id is
//! free, so a zombie counts there. The root counts nothing of its own. All of it is under the lock of the tree.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};

use super::{Cgroup, freezer};
use crate::task::process::Process;
use crate::task::thread::Thread;
use crate::task::tree::{self, Tree};

/// What is counted of a group.
#[derive(Debug)]
pub(crate) struct Members {
    /// Living threads of its own.
    pub(super) threads: usize,
    /// Children with living threads, or with such children: domains, and threaded ones.
    pub(super) populated_domains: usize,
    pub(super) populated_threaded: usize,
    /// Children that were not removed.
    pub(super) children: usize,
    /// It was removed: nobody comes any more.
    pub(super) is_removed: bool,
    /// It or one above it is to be frozen.
    pub(super) freezes: bool,
    /// All that are in it and below are held.
    pub(super) is_frozen: bool,
    pub(super) frozen_threads: usize,
    pub(super) frozen_children: usize,
    pids: Pids,
}

/// The controller `pids`: of a group and all below it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pids {
    /// Tasks with an id, zombies included.
    pub(crate) current: u64,
    pub(crate) peak: u64,
    pub(crate) max: u64,
    /// Tasks that were refused for the limit of it or of one below it, and for its own.
    pub(crate) refused: [u64; 2],
}

impl Pids {
    /// There is no limit.
    pub(crate) const MAX: u64 = u64::MAX;
}

impl Default for Members {
    fn default() -> Self {
        Self {
            threads: 0,
            populated_domains: 0,
            populated_threaded: 0,
            children: 0,
            is_removed: false,
            freezes: false,
            is_frozen: false,
            frozen_threads: 0,
            frozen_children: 0,
            pids: Pids {
                current: 0,
                peak: 0,
                max: Pids::MAX,
                refused: [0; 2],
            },
        }
    }
}

impl Members {
    fn is_populated(&self) -> bool {
        self.threads + self.populated_domains + self.populated_threaded > 0
    }
}

impl Cgroup {
    /// Whether there are living threads in it or below, and whether all are held (`cgroup.events`).
    #[must_use]
    pub fn state(&self) -> (bool, bool) {
        let tree = tree::lock();
        let members = self.members.get(&tree);
        (members.is_populated(), members.is_frozen)
    }

    pub(super) fn has_threads(&self) -> bool {
        self.members.get(&tree::lock()).threads > 0
    }

    /// What the controller `pids` counts.
    pub(crate) fn pids(&self) -> Pids {
        self.members.get(&tree::lock()).pids
    }

    /// Sets how many tasks there may be in it and below. Those that are there stay.
    pub(crate) fn set_pids_max(&self, max: u64) {
        self.members.get_mut(&mut tree::lock()).pids.max = max;
    }

    /// The controller comes anew.
    pub(super) fn reset_pids(&self) {
        let mut tree = tree::lock();
        let pids = &mut self.members.get_mut(&mut tree).pids;
        *pids = Pids {
            peak: pids.current,
            max: Pids::MAX,
            refused: [0; 2],
            ..*pids
        };
    }

    /// Counts `step` more tasks in it and above.
    fn charge(&self, tree: &mut Tree, step: i64) {
        for group in self.up() {
            let pids = &mut group.members.get_mut(tree).pids;
            pids.current = pids.current.saturating_add_signed(step);
            pids.peak = pids.peak.max(pids.current);
        }
    }

    /// As [`Self::charge`] of one more task, unless that is beyond a limit.
    fn try_charge(&self, tree: &mut Tree) -> Result<()> {
        let is_full = |group: &&Self| {
            let pids = &group.members.get(tree).pids;
            pids.current >= pids.max
        };
        let Some(full) = self.up().find(is_full) else {
            self.charge(tree, 1);
            return Ok(());
        };
        full.members.get_mut(tree).pids.refused[1] += 1;
        full.pids_events[1].count();
        for group in full.up() {
            group.members.get_mut(tree).pids.refused[0] += 1;
            group.pids_events[0].count();
        }
        Err(Errno::EAGAIN)
    }

    /// Counts one more living thread or one less, and who is populated by that.
    fn count_thread(&self, tree: &mut Tree, is_more: bool) {
        let step = |count: &mut usize, is_more| {
            *count = if is_more { *count + 1 } else { *count - 1 };
        };
        let members = self.members.get_mut(tree);
        let mut was_populated = members.is_populated();
        step(&mut members.threads, is_more);
        let mut is_populated = members.is_populated();
        freezer::update(tree, self);
        for group in self.up() {
            if was_populated == is_populated {
                break;
            }
            group.events.count();
            let Some(parent) = group.parent.as_deref() else {
                break;
            };
            let above = parent.members.get_mut(tree);
            was_populated = above.is_populated();
            let children = if group.is_threaded() {
                &mut above.populated_threaded
            } else {
                &mut above.populated_domains
            };
            step(children, is_populated);
            is_populated = above.is_populated();
        }
    }
}

/// Whether a thread more in the caller's group would be refused now; told beforehand, so that nothing is made for it.
///
/// # Errors
/// `EAGAIN` as [`join`].
pub(crate) fn check_room(parent: &Thread) -> Result<()> {
    if !parent.in_cgroup.load(Ordering::Relaxed) {
        return Ok(());
    }
    let mut tree = tree::lock();
    let Some(group) = parent.cgroup_in(&tree).clone() else {
        return Ok(());
    };
    let room = group.try_charge(&mut tree);
    if room.is_ok() {
        // The child is counted when it comes.
        group.charge(&mut tree, -1);
    }
    drop(tree);
    group.tell();
    room
}

/// A new thread comes into the group `into`, or else into that of `parent`.
///
/// # Errors
/// `EAGAIN` beyond `pids.max`, `ENODEV` when the group was removed. Nothing has changed then.
pub(crate) fn join(
    tree: &mut Tree,
    parent: &Thread,
    child: &Thread,
    into: Option<&Arc<Cgroup>>,
) -> Result<()> {
    let is_process = !Arc::ptr_eq(child.process(), parent.process());
    let group = match into {
        Some(group) => group.parent().is_some().then(|| group.clone()),
        None => parent.cgroup_in(tree).clone(),
    };
    let Some(group) = group else {
        if into.is_some() && is_process {
            child.process().start_in_memory_group(None);
        }
        return Ok(());
    };
    if group.members.get(tree).is_removed {
        return Err(Errno::ENODEV);
    }
    if into.is_some() {
        group.check_destination()?;
    }
    group.try_charge(tree)?;
    group.count_thread(tree, true);
    if group.members.get(tree).freezes {
        freezer::ask(child, true);
    }
    // It has inherited that of its parent, which may be moving.
    if is_process {
        child.process().start_in_memory_group(group.payer());
    }
    child.in_cgroup.store(true, Ordering::SeqCst);
    *child.cgroup_mut(tree) = Some(group);
    Ok(())
}

/// A thread that has joined is not made known after all.
pub(crate) fn cancel(tree: &mut Tree, child: &Thread) {
    if child.in_cgroup.swap(false, Ordering::SeqCst) {
        count_out(tree, child);
        release(tree, child);
    }
}

/// The thread ends; it is no longer among those of its process.
pub(crate) fn leave(thread: &Thread) {
    // Who moves threads has seen it among those of its process, or leaves it alone.
    if !thread.in_cgroup.swap(false, Ordering::SeqCst) {
        return;
    }
    let group = {
        let mut tree = tree::lock();
        count_out(&mut tree, thread)
    };
    if let Some(group) = group {
        group.tell();
    }
}

fn count_out(tree: &mut Tree, thread: &Thread) -> Option<Arc<Cgroup>> {
    let group = thread.cgroup_in(tree).clone()?;
    if thread.frozen.swap(false, Ordering::SeqCst) {
        group.members.get_mut(tree).frozen_threads -= 1;
    }
    group.count_thread(tree, false);
    Some(group)
}

/// The thread's id is free.
pub(crate) fn release(tree: &mut Tree, thread: &Thread) {
    // The thread keeps its group.
    if let Some(group) = thread.cgroup_in(tree).clone() {
        group.charge(tree, -1);
    }
}

/// Moves a living thread.
fn move_thread(thread: &Thread, to: &Arc<Cgroup>) -> bool {
    let to = to.parent().is_some().then_some(to);
    let mut tree = tree::lock();
    let from = thread.cgroup_in(&tree).clone();
    let is_there = match (&from, to) {
        (Some(from), Some(to)) => Arc::ptr_eq(from, to),
        (None, None) => true,
        _ => false,
    };
    if is_there || !is_living(thread) {
        return false;
    }
    let is_frozen = thread.frozen.load(Ordering::SeqCst);
    if let Some(to) = to {
        to.charge(&mut tree, 1);
        to.members.get_mut(&mut tree).frozen_threads += usize::from(is_frozen);
        to.count_thread(&mut tree, true);
    }
    if let Some(from) = &from {
        from.charge(&mut tree, -1);
        from.members.get_mut(&mut tree).frozen_threads -= usize::from(is_frozen);
        from.count_thread(&mut tree, false);
    }
    thread.in_cgroup.store(to.is_some(), Ordering::SeqCst);
    *thread.cgroup_mut(&mut tree) = to.cloned();
    let freezes = to.is_some_and(|to| to.members.get(&tree).freezes);
    freezer::ask(thread, freezes);
    drop(tree);
    for group in [from.as_ref(), to].into_iter().flatten() {
        group.tell();
    }
    true
}

/// Whether it is among the threads of its process. What [`leave`] does comes after that has ended.
fn is_living(thread: &Thread) -> bool {
    let state = thread.process().signals.lock();
    let found = state.threads.at(thread.place());
    found.is_some_and(|found| core::ptr::eq(Arc::as_ptr(found), thread))
}

/// Moves one thread, or all of its process. With [`HIERARCHY`](super::HIERARCHY) held.
pub(crate) fn migrate(thread: &Arc<Thread>, is_process: bool, to: &Arc<Cgroup>) {
    if !is_process {
        move_thread(thread, to);
        return;
    }
    // Those that have not moved yet may make others meanwhile, where they are.
    while move_all(thread.process(), to) {
        sched::cond_resched();
    }
    thread.process().set_memory_group(to.payer());
}

fn move_all(process: &Process, to: &Arc<Cgroup>) -> bool {
    let mut has_moved = false;
    for thread in process.threads() {
        has_moved |= move_thread(&thread, to);
        sched::cond_resched();
    }
    has_moved
}
