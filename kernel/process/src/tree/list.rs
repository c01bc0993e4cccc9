//! Lists of processes, linked through their nodes: an element joins, leaves and is followed without an
//! allocation and without a look at the others, so exits cannot fail and do not slow down with company.
//!
//! A list is named by its [`Chain`] and its owner: a process for its children, a group for its members.

use super::{Node, Tree};
use crate::Pid;

/// The lists that a process can be in, one of each kind at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chain {
    /// Children of a process, oldest first, adopted ones behind.
    Children = 0,
    /// Children that wait(2) may have something to say of, in the same order.
    News = 1,
    /// Members of a process group, dead ones included.
    Members = 2,
}

/// How many kinds there are.
pub(super) const CHAINS: usize = 3;

/// The ends of a list; 0 is no process.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct List {
    pub(super) first: Pid,
    last: Pid,
}

/// The neighbours of an element.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Links {
    previous: Pid,
    pub(super) next: Pid,
}

impl Node {
    /// The one behind this in a list; 0 for none.
    pub(super) fn next(&self, chain: Chain) -> Pid {
        self.links[chain as usize].next
    }
}

impl Tree {
    pub(super) fn list(&self, chain: Chain, owner: Pid) -> List {
        let node = || self.node(owner);
        let found = match chain {
            Chain::Children => node().map(|node| node.children),
            Chain::News => node().map(|node| node.news),
            Chain::Members => self.group(owner).map(|group| group.members),
        };
        found.unwrap_or_default()
    }

    fn set_list(&mut self, chain: Chain, owner: Pid, list: List) {
        let place = match chain {
            Chain::Children => self.node_mut(owner).map(|node| &mut node.children),
            Chain::News => self.node_mut(owner).map(|node| &mut node.news),
            Chain::Members => self.group_mut(owner).map(|group| &mut group.members),
        };
        if let Some(place) = place {
            *place = list;
        }
    }

    /// The elements of a list, first to last.
    pub(super) fn follow(&self, chain: Chain, owner: Pid) -> impl Iterator<Item = &Node> {
        let mut at = self.list(chain, owner).first;
        core::iter::from_fn(move || {
            let node = self.node(at)?;
            at = node.next(chain);
            Some(node)
        })
    }

    /// Puts `pid`, which is in no list of this kind, at the end of one.
    pub(super) fn append(&mut self, chain: Chain, owner: Pid, pid: Pid) {
        let last = self.list(chain, owner).last;
        self.insert_behind(chain, owner, last, pid);
    }

    /// As [`Self::append`], but before those that are younger than `pid`.
    pub(super) fn insert_by_age(&mut self, chain: Chain, owner: Pid, pid: Pid) {
        let age = self.node(pid).map_or(0, |node| node.order);
        let mut at = self.list(chain, owner).last;
        // Children mostly die in the order of their birth: this looks at one.
        while let Some(node) = self.node(at).filter(|node| node.order > age) {
            at = node.links[chain as usize].previous;
        }
        self.insert_behind(chain, owner, at, pid);
    }

    fn insert_behind(&mut self, chain: Chain, owner: Pid, previous: Pid, pid: Pid) {
        let mut list = self.list(chain, owner);
        let next = match self.node_mut(previous) {
            Some(node) => core::mem::replace(&mut node.links[chain as usize].next, pid),
            None => core::mem::replace(&mut list.first, pid),
        };
        match self.node_mut(next) {
            Some(node) => node.links[chain as usize].previous = pid,
            None => list.last = pid,
        }
        if let Some(node) = self.node_mut(pid) {
            node.links[chain as usize] = Links { previous, next };
        }
        self.set_list(chain, owner, list);
    }

    /// Takes `pid` out of the list that it is in.
    pub(super) fn unlink(&mut self, chain: Chain, owner: Pid, pid: Pid) {
        let Some(node) = self.node_mut(pid) else {
            return;
        };
        let links = core::mem::take(&mut node.links[chain as usize]);
        let mut list = self.list(chain, owner);
        match self.node_mut(links.previous) {
            Some(node) => node.links[chain as usize].next = links.next,
            None => list.first = links.next,
        }
        match self.node_mut(links.next) {
            Some(node) => node.links[chain as usize].previous = links.previous,
            None => list.last = links.previous,
        }
        self.set_list(chain, owner, list);
    }
}
