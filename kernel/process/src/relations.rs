//! Who is who: parents and children, and what becomes of a child. Process groups and sessions are in [`groups`], who
//! dies and who adopts in [`orphans`], the lists in [`list`].
//!
//! A process has its relations as references, in its [`Node`]; a group's members hang on the group's
//! [`Pid`]. All of it is under the lock of the [`Tree`]. Lock order: the tree, then a process's signal state. The
//! number of its parent is mirrored in each process so that getppid(2) takes no lock.

mod groups;
mod list;
mod orphans;

use alloc::sync::Arc;

use abi::Result;
use fs::Kuid;
use fs::job_control::Terminal;

use self::list::{CHAINS, Links, Of};
use crate::Process;
use crate::pid::{Pid, PidNumber};
use crate::pid_namespace::PidNamespace;
use crate::signal::Signal;
use crate::thread::Thread;
use crate::tree::{self, Tree};
use crate::usage::Usage;

pub(crate) use groups::{Group, join_group, leave_group};
pub use groups::{for_each_member, is_orphaned, session_of_group, set_group, set_session};
pub(crate) use list::List;
pub(crate) use orphans::{Moved, bury, move_orphans};

/// What a process is to others.
#[derive(Debug)]
pub struct Node {
    /// It was made known and was not waited for.
    is_known: bool,
    parent: Option<Arc<Process>>,
    group: Arc<Pid>,
    session: Arc<Pid>,
    /// Whether it is dead, and of what.
    pub zombie: Option<Zombie>,
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

/// The relations of a new process.
#[derive(Debug)]
pub(crate) struct Relations {
    pub(crate) parent: Option<Arc<Process>>,
    pub(crate) group: Arc<Pid>,
    pub(crate) session: Arc<Pid>,
}

impl Relations {
    /// A child of `parent` in the group and session of `like`.
    pub(crate) fn like(tree: &Tree, like: &Process, parent: Option<Arc<Process>>) -> Self {
        let node = like.node.get(tree);
        Self {
            parent,
            group: node.group.clone(),
            session: node.session.clone(),
        }
    }
}

/// What the end of a process leaves, for dropping without the tree's lock. What is known of it in /proc goes with this.
#[derive(Debug)]
pub struct Reaped {
    process: Option<Arc<Process>>,
    _thread: Option<Arc<Thread>>,
    _parent: Option<Arc<Process>>,
}

impl Drop for Reaped {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            process.forget_names();
        }
    }
}

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

    fn set_parent(&self, tree: &mut Tree, parent: Arc<Process>) {
        let number = parent.pid().number_in(self.pid_namespace());
        self.parent_number
            .store(number, core::sync::atomic::Ordering::Relaxed);
        let old = self.node.get_mut(tree).parent.replace(parent);
        // Not the last reference: a parent is known as long as it has children.
        drop(old);
    }
}

/// The process that `namespace` calls `number` by its first thread, dead or alive.
#[must_use]
pub fn find_leader(namespace: &PidNamespace, number: PidNumber) -> Option<Arc<Process>> {
    let tree = tree::lock();
    namespace.find(&tree, number)?.process(&tree).cloned()
}

/// As [`find_leader`], or the process of the thread that `namespace` calls `number`.
#[must_use]
pub fn find_process(namespace: &PidNamespace, number: PidNumber) -> Option<Arc<Process>> {
    let tree = tree::lock();
    namespace.find(&tree, number)?.process_of(&tree).cloned()
}

/// The thread that `namespace` calls `number`: a living one, or the first of a process that was not waited for.
#[must_use]
pub fn find_thread(namespace: &PidNamespace, number: PidNumber) -> Option<Arc<Thread>> {
    let tree = tree::lock();
    namespace.find(&tree, number)?.thread(&tree).cloned()
}

/// What `namespace` calls `number`.
#[must_use]
pub fn find_pid(namespace: &PidNamespace, number: PidNumber) -> Option<Arc<Pid>> {
    let tree = tree::lock();
    namespace.find(&tree, number).cloned()
}

/// Every process of a namespace, dead ones included, by number: those that there are when it is their turn.
pub fn processes_of(namespace: &PidNamespace) -> impl Iterator<Item = Arc<Process>> {
    let mut last = 0;
    core::iter::from_fn(move || {
        sched::cond_resched();
        let tree = tree::lock();
        let (number, process) = namespace.process_after(&tree, last)?;
        last = number;
        Some(process.clone())
    })
}

/// As [`processes_of`] the initial namespace: every process there is.
pub fn processes() -> impl Iterator<Item = Arc<Process>> {
    processes_of(&PidNamespace::INITIAL)
}

/// The children of `parent`, dead ones included.
pub fn children<'a>(tree: &'a Tree, parent: &'a Process) -> impl Iterator<Item = &'a Arc<Process>> {
    Of::Children(parent).follow(tree)
}

/// The children of `parent` that have died, stopped or continued since it was told of them.
pub(crate) fn news<'a>(
    tree: &'a Tree,
    parent: &'a Process,
) -> impl Iterator<Item = &'a Arc<Process>> {
    Of::News(parent).follow(tree)
}

/// Makes a process known.
pub(crate) fn add_process(
    tree: &mut Tree,
    process: &Arc<Process>,
    relations: Relations,
    exit_signal: Option<Signal>,
) {
    let node = process.node.get_mut(tree);
    node.is_known = true;
    node.exit_signal = exit_signal;
    process.pid().users_mut(tree).process = Some(process.clone());
    tree.processes += 1;
    process.pid_namespace().member_came(tree);
    if let Some(parent) = relations.parent {
        adopt(tree, parent, process);
    }
    groups::make_group(tree, &relations.group, &relations.session);
    join_group(tree, process, relations.group, relations.session);
}

/// Makes `child`, which is nobody's, the youngest child of `parent`.
fn adopt(tree: &mut Tree, parent: Arc<Process>, child: &Arc<Process>) {
    tree.last_order += 1;
    let order = tree.last_order;
    child.node.get_mut(tree).order = order;
    Of::Children(&parent).append(tree, child);
    child.set_parent(tree, parent);
}

/// Takes a dead process out: its id is free. What comes back is for dropping without the lock.
pub(crate) fn reap(tree: &mut Tree, process: &Arc<Process>) -> Option<Reaped> {
    process.known(tree)?;
    let parent = process.node.get_mut(tree).parent.take();
    if let Some(parent) = &parent {
        set_news(tree, parent, process, false);
        Of::Children(parent).unlink(tree, process);
    }
    let terminal = leave_group(tree, process);
    debug_assert!(
        terminal.is_none(),
        "a dead leader has let go of its terminal"
    );
    process.node.get_mut(tree).is_known = false;
    tree.processes -= 1;
    let pid = process.pid();
    let own = pid.users_mut(tree).process.take();
    let thread = remove_thread(tree, pid);
    pid.release(tree);
    Some(Reaped {
        process: own,
        _thread: thread,
        _parent: parent,
    })
}

/// `process` has stopped by this signal, or continued: its parent may wait for that.
pub(crate) fn report_stop(tree: &mut Tree, process: &Arc<Process>, stopped: Option<Signal>) {
    let node = process.node.get_mut(tree);
    if !node.is_known || node.zombie.is_some() {
        return;
    }
    node.stopped = stopped;
    node.continued = stopped.is_none();
    tell_parent(tree, process, true);
}

/// The parent was told of the stop or the end of it.
pub(crate) fn stop_was_told(tree: &mut Tree, process: &Arc<Process>) {
    let node = process.node.get_mut(tree);
    node.stopped = None;
    node.continued = false;
    let is_dead = node.zombie.is_some();
    tell_parent(tree, process, is_dead);
}

/// Its parent has something to be told of it, or no longer.
fn tell_parent(tree: &mut Tree, process: &Arc<Process>, is_news: bool) {
    // Taken out meanwhile: a counted reference would cost atomic instructions.
    let Some(parent) = process.node.get_mut(tree).parent.take() else {
        return;
    };
    set_news(tree, &parent, process, is_news);
    process.node.get_mut(tree).parent = Some(parent);
}

fn set_news(tree: &mut Tree, parent: &Process, process: &Arc<Process>, is_news: bool) {
    let node = process.node.get_mut(tree);
    if core::mem::replace(&mut node.is_news, is_news) == is_news {
        return;
    }
    if is_news {
        Of::News(parent).insert_by_age(tree, process);
    } else {
        Of::News(parent).unlink(tree, process);
    }
}

/// Makes a thread known under its id, `pid`.
///
/// # Errors
/// `ENOMEM`; nothing has changed then.
pub(crate) fn add_thread(tree: &mut Tree, pid: &Pid, thread: &Arc<Thread>) -> Result<()> {
    tree.count_user(thread.real_uid())?;
    pid.users_mut(tree).thread = Some(thread.clone());
    tree.threads += 1;
    tree.made += 1;
    Ok(())
}

/// Takes the thread of an id out. What comes back is for dropping without the lock.
fn remove_thread(tree: &mut Tree, pid: &Pid) -> Option<Arc<Thread>> {
    let thread = pid.users_mut(tree).thread.take()?;
    tree.threads -= 1;
    tree.uncount_user(thread.real_uid());
    pid.release(tree);
    Some(thread)
}

/// Takes `thread` out, unless its id has passed to another (exec). What comes back is for dropping without the lock.
#[must_use]
pub(crate) fn remove_this(tree: &mut Tree, thread: &Arc<Thread>) -> Option<Arc<Thread>> {
    let pid = thread.pid_in(tree).clone();
    if pid.thread(tree).is_some_and(|own| Arc::ptr_eq(own, thread)) {
        remove_thread(tree, &pid)
    } else {
        None
    }
}

/// exec by a thread that is not the first makes it the first. What comes back (its old place and who had the new one)
/// is for dropping without the lock.
pub(crate) fn take_over(tree: &mut Tree, thread: &Arc<Thread>) -> [Option<Arc<Thread>>; 2] {
    let leader = thread.process().pid().clone();
    let left = thread.pid_in(tree).clone();
    let own = left.users_mut(tree).thread.take();
    left.release(tree);
    // The first thread stays in its place until its process ends.
    let old = leader.users_mut(tree).thread.replace(thread.clone());
    tree.threads -= 1;
    if let Some(old) = &old {
        tree.uncount_user(old.real_uid());
    }
    thread.set_pid(tree, leader);
    [own, old]
}
