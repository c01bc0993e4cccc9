//! How processes and threads become known by their ids, and how they are taken out again.

use alloc::sync::Arc;

use abi::Result;

use super::children::{adopt, set_news};
use super::groups::{join_group, leave_group, make_group};
use super::list::Of;
use super::tracees::untrace;
use crate::signal::number::Signal;
use crate::task::cgroup::members;
use crate::task::pid::Pid;
use crate::task::process::Process;
use crate::task::thread::Thread;
use crate::task::traced::Traced;
use crate::task::tree::Tree;

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
    _traced: Option<Arc<Traced>>,
}

impl Drop for Reaped {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            process.proc_names.forget();
        }
    }
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
    make_group(tree, &relations.group, &relations.session);
    join_group(tree, process, relations.group, relations.session);
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
    let first = pid
        .thread(tree)
        .filter(|thread| thread.is_traced())
        .cloned();
    let traced = first.and_then(|first| untrace(tree, &first));
    let thread = remove_thread(tree, pid);
    pid.release(tree);
    Some(Reaped {
        process: own,
        _thread: thread,
        _parent: parent,
        _traced: traced,
    })
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
    members::release(tree, &thread);
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

/// exec by a thread that is not the first makes it the first. What comes back (its old place, who had the new one, and
/// who traced that) is for dropping without the lock.
pub(crate) fn take_over(
    tree: &mut Tree,
    thread: &Arc<Thread>,
) -> ([Option<Arc<Thread>>; 2], Option<Arc<Traced>>) {
    let leader = thread.process().pid().clone();
    let left = thread.pid_in(tree).clone();
    let own = left.users_mut(tree).thread.take();
    left.release(tree);
    // The first thread stays in its place until its process ends.
    let old = leader.users_mut(tree).thread.replace(thread.clone());
    tree.threads -= 1;
    if let Some(old) = &old {
        members::release(tree, old);
        tree.uncount_user(old.real_uid());
    }
    // Its tracer hears of the exec instead of its end.
    let traced = old.as_ref().and_then(|old| untrace(tree, old));
    thread.set_pid(tree, leader);
    ([own, old], traced)
}
