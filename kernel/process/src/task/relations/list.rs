//! Lists of processes, linked through their nodes: an element joins, leaves and is followed without an
//! allocation and without a look at the others, so exits cannot fail and do not slow down with company.

use alloc::sync::Arc;

use super::node::{Links, List};
use crate::task::pid::Pid;
use crate::task::process::Process;
use crate::task::tree::Tree;

/// A list. A process is in one of each kind at a time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of<'a> {
    /// Children of a process, oldest first, adopted ones behind.
    Children(&'a Process),
    /// Children that wait(2) may have something to say of, in the same order.
    News(&'a Process),
    /// Members of a process group, dead ones included.
    Members(&'a Pid),
}

impl<'a> Of<'a> {
    fn chain(self) -> usize {
        match self {
            Of::Children(_) => 0,
            Of::News(_) => 1,
            Of::Members(_) => 2,
        }
    }

    fn list(self, tree: &'a Tree) -> Option<&'a List> {
        match self {
            Of::Children(parent) => Some(&parent.node.get(tree).children),
            Of::News(parent) => Some(&parent.node.get(tree).news),
            Of::Members(group) => group.users(tree).group.as_ref().map(|group| &group.members),
        }
    }

    /// Calls `act` with the list.
    fn with_list<R>(self, tree: &mut Tree, act: impl FnOnce(&mut List) -> R) -> Option<R> {
        match self {
            Of::Children(parent) => Some(act(&mut parent.node.get_mut(tree).children)),
            Of::News(parent) => Some(act(&mut parent.node.get_mut(tree).news)),
            Of::Members(group) => {
                let group = group.users_mut(tree).group.as_mut()?;
                Some(act(&mut group.members))
            }
        }
    }

    /// The first element.
    pub(super) fn first(self, tree: &'a Tree) -> Option<&'a Arc<Process>> {
        self.list(tree)?.first.as_ref()
    }

    /// The element behind `process`.
    pub(super) fn next<'b>(self, tree: &'b Tree, process: &'b Process) -> Option<&'b Arc<Process>> {
        process.node.get(tree).links[self.chain()].next.as_ref()
    }

    /// The elements, first to last.
    pub(super) fn follow(self, tree: &'a Tree) -> impl Iterator<Item = &'a Arc<Process>> {
        core::iter::successors(self.first(tree), move |at| self.next(tree, at))
    }

    /// Calls `act` with each element, first to last. It may change anything but take out others than the one that
    /// it is called with.
    pub(super) fn for_each(self, tree: &mut Tree, mut act: impl FnMut(&mut Tree, &Arc<Process>)) {
        let mut at = self.first(tree).cloned();
        while let Some(process) = at {
            at = self.next(tree, &process).cloned();
            act(tree, &process);
        }
    }

    /// Puts `process`, which is in no list of this kind, at the end.
    pub(super) fn append(self, tree: &mut Tree, process: &Arc<Process>) {
        let last = self.with_list(tree, |list| list.last.take()).flatten();
        self.insert_behind(tree, last, process);
    }

    /// As [`Self::append`], but before those that are younger than `process`.
    pub(super) fn insert_by_age(self, tree: &mut Tree, process: &Arc<Process>) {
        let age = process.node.get(tree).order;
        let mut at = self.list(tree).and_then(|list| list.last.as_ref());
        // Children mostly die in the order of their birth: this looks at one.
        while let Some(other) = at.filter(|other| other.node.get(tree).order > age) {
            at = other.node.get(tree).links[self.chain()].previous.as_ref();
        }
        let at = at.cloned();
        self.insert_behind(tree, at, process);
    }

    fn insert_behind(self, tree: &mut Tree, previous: Option<Arc<Process>>, new: &Arc<Process>) {
        let chain = self.chain();
        let next = match &previous {
            Some(previous) => {
                let links = &mut previous.node.get_mut(tree).links[chain];
                links.next.replace(new.clone())
            }
            None => self
                .with_list(tree, |list| list.first.replace(new.clone()))
                .flatten(),
        };
        match &next {
            Some(next) => next.node.get_mut(tree).links[chain].previous = Some(new.clone()),
            None => {
                self.with_list(tree, |list| list.last = Some(new.clone()));
            }
        }
        new.node.get_mut(tree).links[chain] = Links { previous, next };
    }

    /// Takes `process` out, which is in this list.
    pub(super) fn unlink(self, tree: &mut Tree, process: &Arc<Process>) {
        let chain = self.chain();
        // None of the references is the last: the caller has one to `process`, its neighbours are known.
        let Links { previous, next } =
            core::mem::take(&mut process.node.get_mut(tree).links[chain]);
        match &previous {
            Some(previous) => previous.node.get_mut(tree).links[chain]
                .next
                .clone_from(&next),
            None => {
                self.with_list(tree, |list| list.first.clone_from(&next));
            }
        }
        match next {
            Some(next) => next.node.get_mut(tree).links[chain].previous = previous,
            None => {
                self.with_list(tree, |list| list.last = previous);
            }
        }
    }
}
