//! Who is who: the table of ids, parents and children, process groups and sessions.
//!
//! One lock, [`TREE`], over all of it (Linux's tasklist_lock). Lock order: `TREE`, then a process's
//! signal state. Nothing blocks, and no reference that may be the last is dropped, with it held.
//! Ids of relations are mirrored in each [`Process`] so that getppid(2) takes no lock.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use fs::job_control::Terminal;
use machine::sync::{SpinGuard, SpinLock};

use crate::signal::Signal;
use crate::thread::Thread;
use crate::usage::Usage;
use crate::{Pid, Process};

/// One more than the highest id.
pub const PID_MAX: Pid = 32768;
/// Where ids go on after the highest was used: low ones stay with the first processes.
const PID_WRAP: Pid = 300;

/// The tree.
pub static TREE: SpinLock<Tree> = SpinLock::new(Tree::new());

/// See the module.
#[derive(Debug)]
pub struct Tree {
    last_pid: Pid,
    nodes: BTreeMap<Pid, Node>,
    threads: BTreeMap<Pid, Arc<Thread>>,
    groups: BTreeMap<Pid, BTreeSet<Pid>>,
    sessions: BTreeMap<Pid, Session>,
}

/// A process in the tree.
#[derive(Debug)]
pub struct Node {
    /// The process.
    pub process: Arc<Process>,
    /// Its children, oldest first.
    pub children: Vec<Pid>,
    /// Whether it is dead, and of what.
    pub zombie: Option<Zombie>,
    /// It stopped by this signal and its parent was not told yet by wait.
    pub stopped: Option<Signal>,
    /// It was continued and its parent was not told yet by wait.
    pub continued: bool,
    /// What its parent is sent when it dies; `None` for nothing.
    pub exit_signal: Option<Signal>,
    /// It adopts orphans among its descendants.
    pub is_subreaper: bool,
    /// It has called exec since it was forked (setpgid(2)).
    pub has_execed: bool,
}

/// What is left of a dead process.
#[derive(Debug, Clone, Copy)]
pub struct Zombie {
    /// As wait(2) gives it.
    pub status: i32,
    /// What it and its waited-for children used.
    pub usage: Usage,
    /// Its real user id, for the parent's SIGCHLD.
    pub uid: u32,
}

/// A session.
#[derive(Debug, Default)]
pub struct Session {
    /// Process groups in it.
    groups: BTreeSet<Pid>,
    /// Its controlling terminal.
    pub terminal: Option<Terminal>,
}

/// Takes the tree's lock.
pub fn lock() -> SpinGuard<'static, Tree> {
    TREE.lock()
}

/// The process with this id, dead or alive.
#[must_use]
pub fn process(pid: Pid) -> Option<Arc<Process>> {
    lock().nodes.get(&pid).map(|node| node.process.clone())
}

/// The living thread with this id.
#[must_use]
pub fn thread(tid: Pid) -> Option<Arc<Thread>> {
    lock().threads.get(&tid).cloned()
}

/// Every process, dead ones included, by id.
#[must_use]
pub fn processes() -> Vec<Arc<Process>> {
    lock()
        .nodes
        .values()
        .map(|node| node.process.clone())
        .collect()
}

impl Tree {
    const fn new() -> Self {
        Self {
            last_pid: 0,
            nodes: BTreeMap::new(),
            threads: BTreeMap::new(),
            groups: BTreeMap::new(),
            sessions: BTreeMap::new(),
        }
    }

    /// An id that no process, thread, group or session has.
    ///
    /// # Errors
    /// `EAGAIN` when all are taken.
    pub fn allocate_pid(&mut self) -> Result<Pid> {
        for _ in 0..PID_MAX {
            self.last_pid += 1;
            if self.last_pid >= PID_MAX {
                self.last_pid = PID_WRAP;
            }
            let pid = self.last_pid;
            let taken = self.threads.contains_key(&pid)
                || self.nodes.contains_key(&pid)
                || self.groups.contains_key(&pid)
                || self.sessions.contains_key(&pid);
            if !taken {
                return Ok(pid);
            }
        }
        Err(Errno::EAGAIN)
    }

    /// The id given out last (/proc/loadavg).
    #[must_use]
    pub fn last_pid(&self) -> Pid {
        self.last_pid
    }

    /// Threads there are.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        self.threads.len()
    }

    /// How many threads user `uid` has, when there are at least `limit` threads at all.
    #[must_use]
    pub fn has_threads_of(&self, uid: u32, limit: u64) -> bool {
        if (self.threads.len() as u64) < limit {
            return false;
        }
        let own = self
            .threads
            .values()
            .filter(|thread| thread.credentials().uid == uid);
        own.count() as u64 >= limit
    }

    /// The node of `pid`.
    #[must_use]
    pub fn node(&self, pid: Pid) -> Option<&Node> {
        self.nodes.get(&pid)
    }

    /// The node of `pid`, to change.
    pub fn node_mut(&mut self, pid: Pid) -> Option<&mut Node> {
        self.nodes.get_mut(&pid)
    }

    /// Every node.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// Every living thread's id that belongs to nobody but is in the table.
    #[must_use]
    pub fn thread(&self, tid: Pid) -> Option<&Arc<Thread>> {
        self.threads.get(&tid)
    }

    /// Adds a thread under its id.
    pub fn add_thread(&mut self, thread: &Arc<Thread>) {
        self.threads.insert(thread.tid(), thread.clone());
    }

    /// Takes a thread out. The caller drops what comes back without the lock.
    #[must_use]
    pub fn remove_thread(&mut self, tid: Pid) -> Option<Arc<Thread>> {
        self.threads.remove(&tid)
    }

    /// As [`Self::remove_thread`], unless the id has passed to another (exec).
    #[must_use]
    pub fn remove_this(&mut self, thread: &Arc<Thread>) -> Option<Arc<Thread>> {
        let own = self
            .threads
            .get(&thread.tid())
            .is_some_and(|other| Arc::ptr_eq(other, thread));
        if own {
            self.threads.remove(&thread.tid())
        } else {
            None
        }
    }

    /// Adds a process whose relations (parent, group, session) are set in it.
    pub fn add_process(&mut self, process: &Arc<Process>, exit_signal: Option<Signal>) {
        let node = Node {
            process: process.clone(),
            children: Vec::new(),
            zombie: None,
            stopped: None,
            continued: false,
            exit_signal,
            is_subreaper: false,
            has_execed: false,
        };
        self.nodes.insert(process.pid(), node);
        if let Some(parent) = self.nodes.get_mut(&process.parent_pid()) {
            parent.children.push(process.pid());
        }
        self.join_group(process, process.group_id(), process.session_id());
    }

    /// Takes a dead process out: its id is free. The caller drops what comes back without the lock.
    pub fn reap(&mut self, pid: Pid) -> Option<Node> {
        let node = self.nodes.remove(&pid)?;
        if let Some(parent) = self.nodes.get_mut(&node.process.parent_pid()) {
            parent.children.retain(|child| *child != pid);
        }
        self.leave_group(&node.process);
        Some(node)
    }

    /// Who adopts the children of `process`: the nearest living subreaper above it, or PID 1.
    fn reaper_for(&self, process: &Process) -> Pid {
        let mut above = process.parent_pid();
        while let Some(node) = self.nodes.get(&above) {
            if node.is_subreaper && node.zombie.is_none() {
                return above;
            }
            above = node.process.parent_pid();
        }
        1
    }

    /// Gives the children of a dying process to their reaper; returns it and the dead ones among them.
    pub fn reparent_children(&mut self, process: &Process) -> (Option<Arc<Process>>, Vec<Pid>) {
        let reaper = self.reaper_for(process);
        let children = match self.nodes.get_mut(&process.pid()) {
            Some(node) => core::mem::take(&mut node.children),
            None => Vec::new(),
        };
        let mut dead = Vec::new();
        for child in &children {
            let Some(node) = self.nodes.get_mut(child) else {
                continue;
            };
            node.process.set_parent_pid(reaper);
            if node.exit_signal.is_some() {
                node.exit_signal = Some(Signal::CHLD);
            }
            if node.zombie.is_some() {
                dead.push(*child);
            }
        }
        let Some(node) = self.nodes.get_mut(&reaper) else {
            return (None, Vec::new());
        };
        node.children.extend(children);
        (Some(node.process.clone()), dead)
    }

    /// The living processes of a group.
    #[must_use]
    pub fn group_members(&self, group: Pid) -> Vec<Arc<Process>> {
        let members = self.groups.get(&group).into_iter().flatten();
        members
            .filter_map(|pid| self.nodes.get(pid))
            .filter(|node| node.zombie.is_none())
            .map(|node| node.process.clone())
            .collect()
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
            parent.process.pid() != 1
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

    fn join_group(&mut self, process: &Process, group: Pid, session: Pid) {
        process.set_group_id(group);
        process.set_session_id(session);
        self.groups.entry(group).or_default().insert(process.pid());
        self.sessions
            .entry(session)
            .or_default()
            .groups
            .insert(group);
    }

    fn leave_group(&mut self, process: &Process) -> Option<Terminal> {
        let (group, session) = (process.group_id(), process.session_id());
        let members = self.groups.get_mut(&group)?;
        members.remove(&process.pid());
        if !members.is_empty() {
            return None;
        }
        self.groups.remove(&group);
        let entry = self.sessions.get_mut(&session)?;
        entry.groups.remove(&group);
        if !entry.groups.is_empty() {
            return None;
        }
        self.sessions.remove(&session)?.terminal
    }
}
