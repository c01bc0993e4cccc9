//! A process dies: its children are adopted, a few at a time, and then it is a zombie.
//!
//! Between two takes of the lock the dying process still stands in the tree, without threads: what its
//! children do meanwhile reaches either it, who does not listen, or the one that adopts them.

use alloc::sync::Arc;

use super::list::Chain;
use super::{Tree, Zombie};
use crate::signal::Signal;
use crate::{Pid, Process};

/// How many children are moved with the lock held once.
const BATCH: usize = 32;

/// What became of a batch of children.
#[derive(Debug, Default)]
pub struct Moved {
    /// Who adopted them.
    pub reaper: Option<Arc<Process>>,
    /// The children.
    pub children: [Option<Arc<Process>>; BATCH],
    /// Groups with stopped members that nobody outside them can continue any more.
    pub orphaned: [Option<Pid>; BATCH],
}

impl Tree {
    /// Who adopts the children of `process`: the nearest living subreaper above it, or its namespace's init.
    fn reaper_for(&self, process: &Process) -> Pid {
        let namespace = process.pid_namespace();
        let mut above = process.parent_pid();
        while let Some(node) = self.node(above) {
            if node.process.pid_namespace() != namespace {
                break;
            }
            if node.is_subreaper && node.zombie.is_none() && !node.process.is_exiting() {
                return above;
            }
            above = node.process.parent_pid();
        }
        namespace.init().unwrap_or(1)
    }

    /// Gives some of the children of a dying process to their reaper; `None` when it has no more.
    pub fn move_orphans(&mut self, process: &Process) -> Option<Moved> {
        let first = self.list(Chain::Children, process.pid()).first;
        let reaper = self.reaper_for(process);
        if first == 0 || reaper == process.pid() {
            return None;
        }
        let mut moved = Moved {
            reaper: self.node(reaper).map(|node| node.process.clone()),
            ..Moved::default()
        };
        for index in 0..BATCH {
            let child = self.list(Chain::Children, process.pid()).first;
            let Some(node) = self.node(child) else {
                break;
            };
            let group = node.process.group_id();
            moved.children[index] = Some(node.process.clone());
            self.move_orphan(process.pid(), reaper, child);
            let is_orphaned = self.update_tie(child) && self.has_stopped_member(group);
            moved.orphaned[index] = is_orphaned.then_some(group);
        }
        Some(moved)
    }

    fn move_orphan(&mut self, from: Pid, to: Pid, child: Pid) {
        let Some(node) = self.node_mut(child) else {
            return;
        };
        let was_news = node.is_news;
        if node.exit_signal.is_some() {
            node.exit_signal = Some(Signal::CHLD);
        }
        node.process.set_parent_pid(to);
        self.set_news(from, child, false);
        self.unlink(Chain::Children, from, child);
        self.adopt(to, child);
        self.set_news(to, child, was_news);
    }

    /// Makes a process without children a zombie. Its group, when that is orphaned by it and has stopped
    /// members; `Err` when it has got another child (CLONE_PARENT) in the meantime.
    pub(crate) fn bury(&mut self, pid: Pid, zombie: Zombie) -> Result<Option<Pid>, Zombie> {
        let has_children = self.list(Chain::Children, pid).first != 0;
        let Some(node) = self.node(pid) else {
            return Ok(None);
        };
        if has_children && self.reaper_for(&node.process) != pid {
            return Err(zombie);
        }
        let Some(node) = self.node_mut(pid) else {
            return Ok(None);
        };
        node.zombie = Some(zombie);
        node.stopped = None;
        node.continued = false;
        let (parent, group) = (node.process.parent_pid(), node.process.group_id());
        self.set_news(parent, pid, true);
        let is_orphaned = self.update_tie(pid) && self.has_stopped_member(group);
        Ok(is_orphaned.then_some(group))
    }
}
