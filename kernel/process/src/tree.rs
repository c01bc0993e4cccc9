//! Who is who: the table of ids, parents and children, process groups and sessions.
//!
//! What goes by an id is in [`pids`], groups and sessions are in [`groups`], who dies and who adopts in
//! [`orphans`], the lists in [`list`]. One lock, [`TREE`], over all of it (Linux's tasklist_lock). Lock order:
//! `TREE`, then a process's signal state. Nothing blocks, and no reference that may be the last is dropped, with
//! it held. Ids of relations are mirrored in each [`Process`] so that getppid(2) takes no lock.
//!
//! An id is reused once nothing goes by it any more. Who remembers it for longer has an [`Id`], which finds what
//! it was made of or nothing.

mod groups;
mod list;
mod orphans;
mod pids;

use alloc::boxed::Box;
use alloc::sync::Arc;

use abi::Result;
use collections::{Map, try_box};
use fs::Kuid;
use fs::job_control::{Id, Terminal};
use machine::sync::{SpinGuard, SpinLock};

use self::list::{CHAINS, Chain, Links, List};
use self::pids::Entry;
use crate::signal::Signal;
use crate::thread::Thread;
use crate::usage::Usage;
use crate::{Pid, Process};

pub use orphans::Moved;

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
    last_serial: u64,
    /// Counts what was put into a list of children: a larger number is further behind.
    last_order: u64,
    pids: Map<Pid, Entry>,
    /// How many entries have a thread.
    threads: usize,
    /// How many entries have a process.
    processes: usize,
    /// Threads of each real user id.
    users: Map<Kuid, usize>,
}

/// A process in the tree.
#[derive(Debug)]
pub struct Node {
    /// The process.
    pub process: Arc<Process>,
    /// Whether it is dead, and of what.
    pub zombie: Option<Zombie>,
    /// Its first thread, once it was waited for.
    pub leader: Option<Arc<Thread>>,
    /// It stopped by this signal and its parent was not told yet by wait.
    stopped: Option<Signal>,
    /// It was continued and its parent was not told yet by wait.
    continued: bool,
    /// What its parent is sent when it dies; `None` for nothing.
    pub exit_signal: Option<Signal>,
    /// It adopts orphans among its descendants.
    pub is_subreaper: bool,
    /// It has called exec since it was forked (setpgid(2)).
    pub has_execed: bool,
    children: List,
    news: List,
    links: [Links; CHAINS],
    /// Where it stands among its parent's children.
    order: u64,
    is_news: bool,
    /// Its parent ties its group to the rest of the session.
    is_tie: bool,
}

/// A process that was taken out of the tree. What is known of it in /proc goes with this.
#[derive(Debug)]
pub struct Reaped(Box<Node>);

impl Drop for Reaped {
    fn drop(&mut self) {
        self.0.process.forget_names();
    }
}

/// What is left of a dead process.
#[derive(Debug, Clone, Copy)]
pub struct Zombie {
    /// As wait(2) gives it.
    pub status: i32,
    /// What it and its waited-for children used.
    pub usage: Usage,
    /// Its real user id, for the parent's SIGCHLD.
    pub uid: Kuid,
    /// The command name of its last thread.
    pub name: [u8; 16],
}

/// A session.
#[derive(Debug, Default)]
pub struct Session {
    /// How many process groups are in it.
    groups: usize,
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
    lock().node(pid).map(|node| node.process.clone())
}

/// The process that `id` was made of, dead or alive.
#[must_use]
pub fn process_by(id: Id) -> Option<Arc<Process>> {
    let tree = lock();
    let pid = tree.current(id)?;
    tree.node(pid).map(|node| node.process.clone())
}

/// The thread that `id` was made of, as [`thread`].
#[must_use]
pub fn thread_by(id: Id) -> Option<Arc<Thread>> {
    let tree = lock();
    let tid = tree.current(id)?;
    tree.thread(tid).cloned()
}

/// The thread with this id: a living one, or the first of a process that was not waited for.
#[must_use]
pub fn thread(tid: Pid) -> Option<Arc<Thread>> {
    lock().thread(tid).cloned()
}

/// The process of this id, dead or alive, or of the thread with this id.
#[must_use]
pub fn process_of(id: Pid) -> Option<Arc<Process>> {
    let tree = lock();
    let node = tree.node(id).map(|node| &node.process);
    let thread = || tree.thread(id).map(|thread| thread.process());
    node.or_else(thread).cloned()
}

/// The first process with an id above `pid`, dead or alive: the way to look at all, one at a time.
#[must_use]
pub fn process_after(pid: Pid) -> Option<Arc<Process>> {
    lock().node_after(pid).map(|node| node.process.clone())
}

/// Every process, dead ones included, by id: those that there are when it is their turn.
pub fn processes() -> impl Iterator<Item = Arc<Process>> {
    let mut last = 0;
    core::iter::from_fn(move || {
        sched::cond_resched();
        let next = process_after(last)?;
        last = next.pid();
        Some(next)
    })
}

impl Tree {
    const fn new() -> Self {
        Self {
            last_pid: 0,
            last_serial: 0,
            last_order: 0,
            pids: Map::new(),
            threads: 0,
            processes: 0,
            users: Map::new(),
        }
    }

    /// How many threads user `uid` has.
    #[must_use]
    pub fn threads_of(&self, uid: Kuid) -> usize {
        self.users.get(&uid).copied().unwrap_or(0)
    }

    /// A thread changes its real user id.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn change_user(&mut self, old: Kuid, new: Kuid) -> Result<()> {
        self.count_user(new)?;
        self.uncount_user(old);
        Ok(())
    }

    fn count_user(&mut self, uid: Kuid) -> Result<()> {
        *self.users.try_get_or_insert_with(&uid, || 0)? += 1;
        Ok(())
    }

    fn uncount_user(&mut self, uid: Kuid) {
        if let Some(count) = self.users.get_mut(&uid) {
            *count -= 1;
            if *count == 0 {
                self.users.remove(&uid);
            }
        }
    }

    /// The children of `pid`, dead ones included.
    pub fn children(&self, pid: Pid) -> impl Iterator<Item = &Node> {
        self.follow(Chain::Children, pid)
    }

    /// The children of `pid` that have died, stopped or continued since it was told of them.
    pub fn news(&self, pid: Pid) -> impl Iterator<Item = &Node> {
        self.follow(Chain::News, pid)
    }

    /// Adds a process whose relations (parent, group, session) are set in it.
    ///
    /// # Errors
    /// `ENOMEM`; nothing has changed then.
    pub fn add_process(
        &mut self,
        process: &Arc<Process>,
        exit_signal: Option<Signal>,
    ) -> Result<()> {
        let pid = process.pid();
        let node = Node {
            process: process.clone(),
            zombie: None,
            leader: None,
            stopped: None,
            continued: false,
            exit_signal,
            is_subreaper: false,
            has_execed: false,
            children: List::default(),
            news: List::default(),
            links: [Links::default(); CHAINS],
            order: 0,
            is_news: false,
            is_tie: false,
        };
        let node = try_box(node)?;
        self.entry(pid)?.node = Some(node);
        self.processes += 1;
        let (group, session) = (process.group_id(), process.session_id());
        if let Err(errno) = self.make_group(group, session) {
            // Not the last reference: the caller has one.
            drop(self.take_node(pid));
            return Err(errno);
        }
        self.adopt(process.parent_pid(), pid);
        self.join_group(process, group, session);
        Ok(())
    }

    /// Makes `pid` the youngest child of `parent`.
    fn adopt(&mut self, parent: Pid, pid: Pid) {
        self.last_order += 1;
        let order = self.last_order;
        if let Some(node) = self.node_mut(pid) {
            node.order = order;
        }
        self.append(Chain::Children, parent, pid);
    }

    /// Takes a dead process out: its id is free. The caller drops what comes back without the lock.
    pub fn reap(&mut self, pid: Pid) -> Option<Reaped> {
        let process = self.node(pid)?.process.clone();
        let parent = process.parent_pid();
        self.set_news(parent, pid, false);
        self.unlink(Chain::Children, parent, pid);
        let terminal = self.leave_group(&process);
        debug_assert!(
            terminal.is_none(),
            "a dead leader has let go of its terminal"
        );
        let mut node = self.take_node(pid)?;
        node.leader = self.remove_thread(pid);
        Some(Reaped(node))
    }

    /// `pid` has stopped by this signal, or continued: its parent may wait for that.
    pub(crate) fn report_stop(&mut self, pid: Pid, stopped: Option<Signal>) {
        let Some(node) = self.node_mut(pid).filter(|node| node.zombie.is_none()) else {
            return;
        };
        node.stopped = stopped;
        node.continued = stopped.is_none();
        let parent = node.process.parent_pid();
        self.set_news(parent, pid, true);
    }

    /// The parent was told of the stop or the end of it.
    pub(crate) fn stop_was_told(&mut self, pid: Pid) {
        let Some(node) = self.node_mut(pid) else {
            return;
        };
        node.stopped = None;
        node.continued = false;
        let (parent, is_dead) = (node.process.parent_pid(), node.zombie.is_some());
        self.set_news(parent, pid, is_dead);
    }

    fn set_news(&mut self, parent: Pid, pid: Pid, is_news: bool) {
        let Some(node) = self.node_mut(pid) else {
            return;
        };
        if core::mem::replace(&mut node.is_news, is_news) == is_news {
            return;
        }
        if is_news {
            self.insert_by_age(Chain::News, parent, pid);
        } else {
            self.unlink(Chain::News, parent, pid);
        }
    }
}

impl Node {
    /// The signal that it stopped by, unless its parent was told.
    #[must_use]
    pub fn stopped(&self) -> Option<Signal> {
        self.stopped
    }

    /// Whether it was continued and its parent was not told.
    #[must_use]
    pub fn continued(&self) -> bool {
        self.continued
    }
}
