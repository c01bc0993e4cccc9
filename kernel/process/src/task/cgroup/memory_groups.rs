//! The controller `memory`: which memory group the processes of a control group are charged to.
//!
//! A group that has the controller has a [`OwnedGroup`] of its own, below that of the next one above that has. Processes of
//! a group without belong to that one's. What was charged before a process moved, or before its group had the controller,
//! stays where it is.
//!
//! Changed with [`HIERARCHY`](super::HIERARCHY) held. A new process gets its group with the tree locked.

use alloc::sync::Arc;

use abi::Result;
use memory::{MemoryGroup, OwnedGroup};

use super::Cgroup;
use crate::task::relations;
use crate::task::tree;

impl Cgroup {
    /// The memory group of its own, if it has one; the root's is the machine.
    pub(crate) fn memory(&self) -> Option<MemoryGroup> {
        let own = self.memory.lock();
        own.as_ref().map(|own| own.group())
    }

    /// The memory group that its processes are charged to; none for the machine.
    pub(crate) fn payer(&self) -> Option<Arc<OwnedGroup>> {
        self.up().find_map(|group| group.memory.lock().clone())
    }

    /// Gives it a memory group.
    pub(super) fn open_memory(&self) -> Result<()> {
        let above = self.parent.as_ref().and_then(|parent| parent.payer());
        let new = OwnedGroup::new(above, usize::MAX)?;
        *self.memory.lock() = Some(new);
        Ok(())
    }

    pub(super) fn open_memory_below(self: &Arc<Self>) -> Result<()> {
        self.each_child(Self::open_memory)
    }

    pub(super) fn close_memory_below(self: &Arc<Self>) {
        // It does not fail.
        let _ = self.each_child(|child| {
            let old = child.memory.lock().take();
            drop(old);
            Ok(())
        });
    }

    fn each_child(self: &Arc<Self>, act: impl Fn(&Self) -> Result<()>) -> Result<()> {
        let mut at = 0;
        while let Some(child) = self.child_from(at) {
            act(&child)?;
            at = child.id + 1;
            sched::cond_resched();
        }
        Ok(())
    }

    /// Has all processes in it and below charge whom they now belong to.
    pub(super) fn charge_members(&self) {
        for process in relations::processes() {
            let Some(first) = process.main_thread() else {
                continue;
            };
            let group = first.cgroup_in(&tree::lock()).clone();
            if let Some(group) = group.filter(|group| group.is_within(self)) {
                process.set_memory_group(group.payer());
            }
        }
    }
}
