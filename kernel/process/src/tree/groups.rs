//! Process groups and sessions: setpgid(2), setsid(2), orphaned groups.
//!
//! A group counts its ties: living members whose parent is outside the group but in its session. Without
//! one it is orphaned (POSIX): nobody could continue its members when they stop.

use alloc::sync::Arc;

use abi::{Errno, Result};
use fs::job_control::Terminal;

use super::list::{Chain, List};
use super::{Node, Tree};
use crate::{Pid, Process};

/// The global init is nobody's tie: it does no job control for others.
const INIT: Pid = 1;

/// A process group.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) members: List,
    session: Pid,
    ties: usize,
}

impl Tree {
    /// The processes of a group, dead ones included.
    pub fn group_members(&self, group: Pid) -> impl Iterator<Item = &Node> {
        self.follow(Chain::Members, group)
    }

    /// Calls `act` for each process of a group, dead ones included; whether there was one.
    pub fn for_each_member(
        &mut self,
        group: Pid,
        mut act: impl FnMut(&mut Tree, &Arc<Process>),
    ) -> bool {
        let mut at = self.list(Chain::Members, group).first;
        let any = at != 0;
        while let Some(node) = self.node(at) {
            at = node.next(Chain::Members);
            // Not the last reference: the tree keeps one.
            let process = node.process.clone();
            act(self, &process);
        }
        any
    }

    /// The session that `group` is in.
    #[must_use]
    pub fn session_of_group(&self, group: Pid) -> Option<Pid> {
        self.group(group).map(|group| group.session)
    }

    /// Whether nobody outside `group`, in its session, is a parent of one of its members.
    #[must_use]
    pub fn is_orphaned(&self, group: Pid) -> bool {
        self.group(group).is_none_or(|group| group.ties == 0)
    }

    pub(super) fn has_stopped_member(&self, group: Pid) -> bool {
        self.group_members(group)
            .any(|member| member.zombie.is_none() && member.process.signals.lock().stop.is_some())
    }

    fn ties_to_outside(&self, node: &Node) -> bool {
        if node.zombie.is_some() {
            return false;
        }
        let parent = self.node(node.process.parent_pid());
        parent.is_some_and(|parent| {
            parent.process.pid() != INIT
                && parent.process.group_id() != node.process.group_id()
                && parent.process.session_id() == node.process.session_id()
        })
    }

    /// Counts `pid` as a tie of its group or no longer; whether that orphaned the group.
    pub(super) fn update_tie(&mut self, pid: Pid) -> bool {
        let Some(node) = self.node(pid) else {
            return false;
        };
        let (is_tie, was_tie) = (self.ties_to_outside(node), node.is_tie);
        self.set_tie(pid, is_tie);
        let group = self.node(pid).map_or(0, |n| n.process.group_id());
        was_tie && !is_tie && self.is_orphaned(group)
    }

    fn set_tie(&mut self, pid: Pid, is_tie: bool) {
        let Some(node) = self.node_mut(pid) else {
            return;
        };
        let was_tie = core::mem::replace(&mut node.is_tie, is_tie);
        let group = node.process.group_id();
        if let Some(group) = self.group_mut(group) {
            group.ties = group.ties + usize::from(is_tie) - usize::from(was_tie);
        }
    }

    /// As [`Self::update_tie`], for a process that has changed its group and its children.
    fn update_ties_around(&mut self, pid: Pid) {
        self.update_tie(pid);
        let mut at = self.list(Chain::Children, pid).first;
        while let Some(node) = self.node(at) {
            let child = at;
            at = node.next(Chain::Children);
            self.update_tie(child);
        }
    }

    /// setpgid(2): `caller` puts `pid` (0: itself) in `group` (0: one of its own).
    ///
    /// # Errors
    /// As setpgid(2): `ESRCH`, `EPERM`, `EACCES`, `EINVAL`; `ENOMEM`.
    pub fn set_group(&mut self, caller: &Process, pid: Pid, group: Pid) -> Result<()> {
        let pid = if pid == 0 { caller.pid() } else { pid };
        let group = if group == 0 { pid } else { group };
        if group < 0 {
            return Err(Errno::EINVAL);
        }
        if self.node(pid).is_none() && self.thread(pid).is_some() {
            return Err(Errno::EINVAL);
        }
        let node = self.node(pid).ok_or(Errno::ESRCH)?;
        let process = node.process.clone();
        if process.parent_pid() == caller.pid() {
            if process.session_id() != caller.session_id() {
                return Err(Errno::EPERM);
            }
            if node.has_execed {
                return Err(Errno::EACCES);
            }
        } else if pid != caller.pid() {
            return Err(Errno::ESRCH);
        }
        if process.session_id() == pid {
            return Err(Errno::EPERM);
        }
        let session = caller.session_id();
        if group != pid && self.session_of_group(group) != Some(session) {
            return Err(Errno::EPERM);
        }
        if process.group_id() != group {
            self.make_group(group, session)?;
            // The session stays: its terminal does, too.
            self.leave_group(&process);
            self.join_group(&process, group, session);
        }
        Ok(())
    }

    /// setsid(2): a new session and group for `process`. What comes back (the old session's terminal, if
    /// that was its last process) is for dropping without the lock.
    ///
    /// # Errors
    /// `EPERM` when it leads a group, or a group with its id is left from before; `ENOMEM`.
    pub fn set_session(&mut self, process: &Process) -> Result<Option<Terminal>> {
        let pid = process.pid();
        if self.is_group_or_session(pid) {
            return Err(Errno::EPERM);
        }
        self.make_group(pid, pid)?;
        let old = self.leave_group(process);
        self.join_group(process, pid, pid);
        Ok(old)
    }

    /// Makes a group in a session, and the session, unless they are there.
    pub(super) fn make_group(&mut self, group: Pid, session: Pid) -> Result<()> {
        if self.group(group).is_some() {
            return Ok(());
        }
        let entry = self.entry(session)?;
        entry.session.get_or_insert_default().groups += 1;
        let new = Group {
            session,
            ..Group::default()
        };
        match self.entry(group) {
            Ok(entry) => entry.group = Some(new),
            Err(errno) => {
                // The terminal is none: a session that had one had a group.
                self.drop_from_session(session);
                self.release_unnumbered(session);
                return Err(errno);
            }
        }
        Ok(())
    }

    /// Counts one group less; what comes back is the terminal of a session that had no other.
    fn drop_from_session(&mut self, session: Pid) -> Option<Terminal> {
        let entry = self.session_mut(session)?;
        entry.groups -= 1;
        if entry.groups > 0 {
            return None;
        }
        self.take_session(session)?.terminal
    }

    /// Puts a process that is in no group into one that is there.
    pub(super) fn join_group(&mut self, process: &Process, group: Pid, session: Pid) {
        process.set_group_id(group);
        process.set_session_id(session);
        self.append(Chain::Members, group, process.pid());
        self.update_ties_around(process.pid());
    }

    pub(super) fn leave_group(&mut self, process: &Process) -> Option<Terminal> {
        let (group, session) = (process.group_id(), process.session_id());
        self.set_tie(process.pid(), false);
        self.unlink(Chain::Members, group, process.pid());
        if self.list(Chain::Members, group).first != 0 {
            return None;
        }
        self.take_group(group)?;
        self.release(group, process);
        let terminal = self.drop_from_session(session);
        self.release(session, process);
        terminal
    }
}
