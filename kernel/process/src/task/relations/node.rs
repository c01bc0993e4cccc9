//! What a process, a group and a session are to others: the fields that [the rest](super) keeps in order, and what may
//! be asked of them.
//!
//! All of it is under the lock of the [`Tree`].

use alloc::sync::Arc;

use collections::Vec;
use fs::Kuid;
use fs::job_control::Terminal;

use crate::signal::number::Signal;
use crate::task::numbers::PidNumber;
use crate::task::pid::Pid;
use crate::task::process::Process;
use crate::task::thread::Thread;
use crate::task::tree::{self, Tree};
use crate::usage::Usage;

/// What a process is to others.
#[derive(Debug)]
pub struct Node {
    /// It was made known and was not waited for.
    pub(super) is_known: bool,
    pub(super) parent: Option<Arc<Process>>,
    pub(super) group: Arc<Pid>,
    pub(super) session: Arc<Pid>,
    /// Whether it is dead, and of what.
    pub zombie: Option<Zombie>,
    /// It stopped by this signal and its parent was not told yet by wait.
    pub(super) stopped: Option<Signal>,
    /// It was continued and its parent was not told yet by wait.
    pub(super) continued: bool,
    /// What its parent is sent when it dies; `None` for nothing.
    pub exit_signal: Option<Signal>,
    /// It adopts orphans among its descendants.
    pub is_subreaper: bool,
    /// It has called exec since it was forked (setpgid(2)).
    pub has_execed: bool,
    pub(super) children: List,
    pub(super) news: List,
    pub(super) links: [Links; CHAINS],
    /// Where it stands among its parent's children.
    pub(super) order: u64,
    pub(super) is_news: bool,
    /// Its parent ties its group to the rest of the session.
    pub(super) is_tie: bool,
    /// Whom its threads trace, the oldest first; dead ones stay until wait(2) has told of them.
    pub(crate) tracees: Vec<Arc<Thread>>,
    /// How many of its own threads are dead, and their tracer was not told yet: as long is its own death not told.
    pub(crate) untold_threads: usize,
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
    pub(super) groups: usize,
    /// Its controlling terminal.
    pub terminal: Option<Terminal>,
}

/// A process group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(super) members: List,
    pub(super) session: Arc<Pid>,
    pub(super) ties: usize,
}

/// The ends of a list.
#[derive(Debug, Default)]
pub(crate) struct List {
    pub(super) first: Option<Arc<Process>>,
    pub(super) last: Option<Arc<Process>>,
}

/// The neighbours of an element.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) previous: Option<Arc<Process>>,
    pub(super) next: Option<Arc<Process>>,
}

/// How many kinds there are.
pub(super) const CHAINS: usize = 3;

impl Node {
    /// That of a process that goes by `pid`, and is not known yet.
    pub(crate) fn new(pid: &Arc<Pid>) -> Self {
        Self {
            is_known: false,
            parent: None,
            group: pid.clone(),
            session: pid.clone(),
            zombie: None,
            stopped: None,
            continued: false,
            exit_signal: None,
            is_subreaper: false,
            has_execed: false,
            children: List::default(),
            news: List::default(),
            links: core::array::from_fn(|_| Links::default()),
            order: 0,
            is_news: false,
            is_tie: false,
            tracees: Vec::new(),
            untold_threads: 0,
        }
    }

    /// Its parent; none of the first process.
    #[must_use]
    pub fn parent(&self) -> Option<&Arc<Process>> {
        self.parent.as_ref()
    }

    /// Its process group.
    #[must_use]
    pub fn group(&self) -> &Arc<Pid> {
        &self.group
    }

    /// Its session.
    #[must_use]
    pub fn session(&self) -> &Arc<Pid> {
        &self.session
    }

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

impl Process {
    /// What it is to others, until it was waited for.
    #[must_use]
    pub fn known<'a>(&'a self, tree: &'a Tree) -> Option<&'a Node> {
        let node = self.node.get(tree);
        node.is_known.then_some(node)
    }

    /// Its parent, as its own PID namespace calls it; 0 when it has none there.
    #[must_use]
    pub fn parent_number(&self) -> PidNumber {
        self.parent_number
            .load(core::sync::atomic::Ordering::Relaxed)
    }

    /// Its process group. Takes the tree's lock: who has it looks at [`Self::known`].
    #[must_use]
    pub fn read_group(&self) -> Arc<Pid> {
        self.node.get(&tree::lock()).group.clone()
    }

    /// Its session. Takes the tree's lock.
    #[must_use]
    pub fn read_session(&self) -> Arc<Pid> {
        self.node.get(&tree::lock()).session.clone()
    }

    /// Its parent; none of the first process, and of one that was waited for. Takes the tree's lock.
    #[must_use]
    pub fn read_parent(&self) -> Option<Arc<Process>> {
        self.node.get(&tree::lock()).parent.clone()
    }

    /// Whether it leads its session.
    #[must_use]
    pub fn leads_session(&self, tree: &Tree) -> bool {
        Arc::ptr_eq(&self.node.get(tree).session, self.pid())
    }

    /// Whether it adopts orphans among its descendants.
    pub fn set_subreaper(&self, is_one: bool) {
        self.node.get_mut(&mut tree::lock()).is_subreaper = is_one;
    }
}
