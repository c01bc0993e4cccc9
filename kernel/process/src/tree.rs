//! Who is who: the table of ids, parents and children, process groups and sessions.
//!
//! Groups and sessions are in [`groups`]. One lock, [`TREE`], over all of it (Linux's tasklist_lock). Lock order: `TREE`, then a process's
//! signal state. Nothing blocks, and no reference that may be the last is dropped, with it held.
//! Ids of relations are mirrored in each [`Process`] so that getppid(2) takes no lock.

mod groups;

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
    /// The command name of its last thread.
    pub name: [u8; 16],
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

/// Every process, dead ones included, by id; short of memory, not all of them.
#[must_use]
pub fn processes() -> Vec<Arc<Process>> {
    crate::collect(lock().nodes.values().map(|node| node.process.clone()))
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
            if !self.is_taken(pid) {
                return Ok(pid);
            }
        }
        Err(Errno::EAGAIN)
    }

    fn is_taken(&self, id: Pid) -> bool {
        self.threads.contains_key(&id)
            || self.nodes.contains_key(&id)
            || self.groups.contains_key(&id)
            || self.sessions.contains_key(&id)
    }

    /// Takes the numbers of an id away once nothing goes by it. `user` is the last that did: the id was
    /// entered in its namespace or in one above.
    fn strike_if_free(&self, id: Pid, user: &Process) {
        if !self.is_taken(id) {
            user.pid_namespace().strike(id);
        }
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
        let thread = self.threads.remove(&tid)?;
        self.strike_if_free(tid, thread.process());
        Some(thread)
    }

    /// As [`Self::remove_thread`], unless the id has passed to another (exec).
    #[must_use]
    pub fn remove_this(&mut self, thread: &Arc<Thread>) -> Option<Arc<Thread>> {
        let own = self
            .threads
            .get(&thread.tid())
            .is_some_and(|other| Arc::ptr_eq(other, thread));
        if own {
            self.remove_thread(thread.tid())
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
        self.strike_if_free(pid, &node.process);
        Some(node)
    }

    /// Who adopts the children of `process`: the nearest living subreaper above it, or its namespace's init.
    fn reaper_for(&self, process: &Process) -> Pid {
        let namespace = process.pid_namespace();
        let mut above = process.parent_pid();
        while let Some(node) = self.nodes.get(&above) {
            if node.process.pid_namespace() != namespace {
                break;
            }
            if node.is_subreaper && node.zombie.is_none() {
                return above;
            }
            above = node.process.parent_pid();
        }
        namespace.init().unwrap_or(1)
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
}
