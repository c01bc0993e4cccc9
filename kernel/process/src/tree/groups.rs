//! Process groups and sessions: setpgid(2), setsid(2), orphaned groups.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use fs::job_control::Terminal;

use super::{Session, Tree};
use crate::{Pid, Process};

impl Tree {
    /// The living processes of a group.
    #[must_use]
    pub fn group_members(&self, group: Pid) -> Vec<Arc<Process>> {
        let members = self.groups.get(&group).into_iter().flatten();
        let living = members
            .filter_map(|pid| self.nodes.get(pid))
            .filter(|node| node.zombie.is_none());
        crate::collect(living.map(|node| node.process.clone()))
    }

    /// The session that `group` is in.
    #[must_use]
    pub fn session_of_group(&self, group: Pid) -> Option<Pid> {
        let first = self.groups.get(&group)?.first()?;
        Some(self.nodes.get(first)?.process.session_id())
    }

    /// A session.
    pub fn session_mut(&mut self, session: Pid) -> Option<&mut Session> {
        self.sessions.get_mut(&session)
    }

    /// Whether nobody outside `group`, in its session, is a parent of one of its members.
    /// `leaving` does not count as a member: it is about to exit.
    #[must_use]
    pub fn is_orphaned(&self, group: Pid, leaving: Option<Pid>) -> bool {
        let members = self.groups.get(&group).into_iter().flatten();
        let mut staying = members.filter(|pid| Some(**pid) != leaving);
        !staying.any(|pid| self.ties_to_outside(*pid, group, None))
    }

    /// Whether `group` is not orphaned, but will be once `parent` has gone.
    #[must_use]
    pub fn is_orphaned_without_parent(&self, group: Pid, parent: Pid) -> bool {
        let members = self.groups.get(&group).into_iter().flatten();
        let ties = |gone| {
            members
                .clone()
                .any(|pid| self.ties_to_outside(*pid, group, gone))
        };
        ties(None) && !ties(Some(parent))
    }

    fn ties_to_outside(&self, pid: Pid, group: Pid, gone: Option<Pid>) -> bool {
        let Some(node) = self.nodes.get(&pid) else {
            return false;
        };
        if node.zombie.is_some() {
            return false;
        }
        let parent = self.nodes.get(&node.process.parent_pid());
        parent.is_some_and(|parent| {
            !parent.process.is_namespace_init()
                && Some(parent.process.pid()) != gone
                && parent.process.group_id() != group
                && parent.process.session_id() == node.process.session_id()
        })
    }

    /// setpgid(2): `caller` puts `pid` (0: itself) in `group` (0: one of its own).
    ///
    /// # Errors
    /// As setpgid(2): `ESRCH`, `EPERM`, `EACCES`, `EINVAL`.
    pub fn set_group(&mut self, caller: &Process, pid: Pid, group: Pid) -> Result<()> {
        let pid = if pid == 0 { caller.pid() } else { pid };
        let group = if group == 0 { pid } else { group };
        if group < 0 {
            return Err(Errno::EINVAL);
        }
        let node = self.nodes.get(&pid).ok_or(Errno::ESRCH)?;
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
            self.leave_group(&process);
            self.join_group(&process, group, session);
        }
        Ok(())
    }

    /// setsid(2): a new session and group for `process`. What comes back (the old session's terminal, if
    /// that was its last process) is for dropping without the lock.
    ///
    /// # Errors
    /// `EPERM` when it leads a group, or a group with its id is left from before.
    pub fn set_session(&mut self, process: &Process) -> Result<Option<Terminal>> {
        let pid = process.pid();
        if self.groups.contains_key(&pid) || self.sessions.contains_key(&pid) {
            return Err(Errno::EPERM);
        }
        let old = self.leave_group(process);
        self.join_group(process, pid, pid);
        Ok(old)
    }

    pub(super) fn join_group(&mut self, process: &Process, group: Pid, session: Pid) {
        process.set_group_id(group);
        process.set_session_id(session);
        self.groups.entry(group).or_default().insert(process.pid());
        self.sessions
            .entry(session)
            .or_default()
            .groups
            .insert(group);
    }

    pub(super) fn leave_group(&mut self, process: &Process) -> Option<Terminal> {
        let (group, session) = (process.group_id(), process.session_id());
        let members = self.groups.get_mut(&group)?;
        members.remove(&process.pid());
        if !members.is_empty() {
            return None;
        }
        self.groups.remove(&group);
        self.strike_if_free(group, process);
        let entry = self.sessions.get_mut(&session)?;
        entry.groups.remove(&group);
        if !entry.groups.is_empty() {
            return None;
        }
        let terminal = self.sessions.remove(&session)?.terminal;
        self.strike_if_free(session, process);
        terminal
    }
}
