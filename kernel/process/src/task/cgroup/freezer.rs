//! The freezer (`cgroup.freeze`): threads of a frozen group wait on their way to user mode until it thaws or they are to
//! die. A group is frozen when all threads in it and below wait so, or in a stop, or in vfork(2).
//!
//! A thread is asked by `Thread::freeze` and says by `Thread::frozen` that it waits; the latter is counted in its group,
//! both under the lock of the tree.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::Cgroup;
use crate::task::relations;
use crate::task::thread::Thread;
use crate::task::tree::{self, Tree};

/// Has the thread wait, or no longer.
pub(super) fn ask(thread: &Thread, freezes: bool) {
    if thread.freeze.swap(freezes, Ordering::SeqCst) == freezes {
        return;
    }
    if freezes {
        thread.notify();
    } else {
        thread.process().stop_queue.wake_all();
    }
}

/// Finds out whether a group is frozen, and those above it by that.
pub(super) fn update(tree: &mut Tree, group: &Cgroup) {
    for group in group.up() {
        let members = group.members.get_mut(tree);
        let is_frozen = members.freezes
            && members.frozen_threads == members.threads
            && members.frozen_children == members.children;
        if is_frozen == members.is_frozen {
            return;
        }
        members.is_frozen = is_frozen;
        group.events.count();
        if let Some(parent) = &group.parent {
            let above = &mut parent.members.get_mut(tree).frozen_children;
            *above = if is_frozen { *above + 1 } else { *above - 1 };
        }
    }
}

/// Freezes or thaws a group and all below it. With [`HIERARCHY`](super::HIERARCHY) held.
pub(super) fn apply(top: &Arc<Cgroup>) {
    for group in top.subtree() {
        let own = group.settings.lock().freezes;
        let mut tree = tree::lock();
        let above = group.parent.as_ref();
        let freezes = own || above.is_some_and(|above| above.members.get(&tree).freezes);
        group.members.get_mut(&mut tree).freezes = freezes;
        update(&mut tree, &group);
        drop(tree);
        sched::cond_resched();
    }
    for process in relations::processes() {
        for thread in process.threads() {
            let tree = tree::lock();
            if let Some(group) = thread.cgroup_in(&tree)
                && group.is_within(top)
            {
                ask(&thread, group.members.get(&tree).freezes);
            }
        }
    }
    for group in top.subtree() {
        group.tell();
        sched::cond_resched();
    }
}

/// The calling thread waits until it is thawed or must exit.
pub(crate) fn park(thread: &Arc<Thread>) {
    enter(thread);
    let process = thread.process();
    process.stop_queue.wait_until(|| {
        let is_over =
            !thread.freeze.load(Ordering::SeqCst) || process.signals.lock().must_exit(thread);
        is_over.then_some(())
    });
    set_frozen(thread, false);
}

/// The calling thread waits where it cannot run programs: it counts as frozen.
pub(crate) fn enter(thread: &Thread) {
    set_frozen(thread, true);
}

/// As [`enter`], of who is in the root only once it is moved: that is another thread's doing, which sees it wait.
pub(crate) fn enter_group(thread: &Thread) {
    if thread.in_cgroup.load(Ordering::Relaxed) {
        enter(thread);
    }
}

/// The end of [`enter`]; it still counts as frozen when it is about to wait in [`park`].
pub(crate) fn leave(thread: &Thread) {
    let is_counted = thread.frozen.load(Ordering::SeqCst);
    if is_counted && !thread.freeze.load(Ordering::SeqCst) {
        set_frozen(thread, false);
    }
}

fn set_frozen(thread: &Thread, is_frozen: bool) {
    let group = {
        let mut tree = tree::lock();
        if thread.frozen.swap(is_frozen, Ordering::SeqCst) == is_frozen {
            return;
        }
        let Some(group) = thread.cgroup_in(&tree).clone() else {
            return;
        };
        let count = &mut group.members.get_mut(&mut tree).frozen_threads;
        *count = if is_frozen { *count + 1 } else { *count - 1 };
        update(&mut tree, &group);
        group
    };
    group.tell();
}
