//! A process dies: its children are adopted, a few at a time, and then it is a zombie.
//!
//! Between two takes of the lock the dying process still stands in the tree, without threads: what its
//! children do meanwhile reaches either it, who does not listen, or the one that adopts them.

use alloc::sync::Arc;

use super::children::{adopt, set_news, tell_parent};
use super::groups;
use super::list::Of;
use super::node::Zombie;
use crate::signal::number::Signal;
use crate::task::numbers::Place;
use crate::task::pid::Pid;
use crate::task::pid_namespace::PidNamespace;
use crate::task::process::Process;
use crate::task::tree::Tree;

/// How many children are moved with the lock held once.
const BATCH: usize = 32;

static INITIAL: PidNamespace = PidNamespace::INITIAL;

/// What became of a batch of children.
#[derive(Debug)]
pub(crate) struct Moved {
    /// Who adopted them.
    pub(crate) reaper: Arc<Process>,
    /// The children.
    pub(crate) children: [Option<Arc<Process>>; BATCH],
    /// Groups with stopped members that nobody outside them can continue any more.
    pub(crate) orphaned: [Option<Arc<Pid>>; BATCH],
}

/// Who adopts the children of `process`: the nearest living subreaper above it, or its namespace's init.
fn reaper_for<'a>(tree: &'a Tree, process: &'a Process) -> Option<&'a Arc<Process>> {
    let namespace = process.pid_namespace();
    let mut above = process.node.get(tree).parent();
    while let Some(parent) = above {
        if parent.pid_namespace() != namespace {
            break;
        }
        let node = parent.node.get(tree);
        if node.is_subreaper && node.zombie.is_none() && !parent.is_exiting() {
            return above;
        }
        above = node.parent();
    }
    let init = namespace.init(tree);
    init.or_else(|| INITIAL.init(tree))
}

/// Gives some of the children of a dying process to their reaper; `None` when it has no more.
pub(crate) fn move_orphans(tree: &mut Tree, process: &Arc<Process>) -> Option<Moved> {
    Of::Children(process).first(tree)?;
    let reaper = reaper_for(tree, process)?.clone();
    if Arc::ptr_eq(&reaper, process) {
        return None;
    }
    let mut moved = Moved {
        reaper,
        children: [const { None }; BATCH],
        orphaned: [const { None }; BATCH],
    };
    for index in 0..BATCH {
        let Some(child) = Of::Children(process).first(tree).cloned() else {
            break;
        };
        move_orphan(tree, process, &moved.reaper, &child);
        let orphaned = groups::update_tie(tree, &child);
        moved.orphaned[index] = orphaned.filter(|group| groups::has_stopped_member(tree, group));
        moved.children[index] = Some(child);
    }
    Some(moved)
}

fn move_orphan(tree: &mut Tree, from: &Process, to: &Arc<Process>, child: &Arc<Process>) {
    let node = child.node.get_mut(tree);
    let was_news = node.is_news;
    // Also of one that told its parent nothing: who adopts it waits for SIGCHLD.
    node.exit_signal = Some(Signal::CHLD);
    child.set_maker(Place::default());
    set_news(tree, from, child, false);
    Of::Children(from).unlink(tree, child);
    adopt(tree, to.clone(), child);
    set_news(tree, to, child, was_news);
}

/// Makes a process without children a zombie. Its group, when that is orphaned by it and has stopped
/// members; `Err` when it has got another child (CLONE_PARENT) in the meantime.
pub(crate) fn bury(
    tree: &mut Tree,
    process: &Arc<Process>,
    zombie: Zombie,
) -> Result<Option<Arc<Pid>>, Zombie> {
    let has_children = Of::Children(process).first(tree).is_some();
    let is_own = |reaper: &Arc<Process>| Arc::ptr_eq(reaper, process);
    if has_children && !reaper_for(tree, process).is_none_or(is_own) {
        return Err(zombie);
    }
    let node = process.node.get_mut(tree);
    node.zombie = Some(zombie);
    node.stopped = None;
    node.continued = false;
    tell_parent(tree, process, true);
    process.pid_namespace().member_ended(tree);
    let orphaned = groups::update_tie(tree, process);
    Ok(orphaned.filter(|group| groups::has_stopped_member(tree, group)))
}
