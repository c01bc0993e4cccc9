//! A process's children, and what its parent is to be told of by wait(2): who has died, stopped or continued.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::list::Of;
use crate::signal::number::Signal;
use crate::task::process::Process;
use crate::task::tree::Tree;

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

/// Makes `child`, which is nobody's, the youngest child of `parent`.
pub(super) fn adopt(tree: &mut Tree, parent: Arc<Process>, child: &Arc<Process>) {
    tree.last_order += 1;
    let order = tree.last_order;
    child.node.get_mut(tree).order = order;
    Of::Children(&parent).append(tree, child);
    set_parent(tree, child, parent);
}

fn set_parent(tree: &mut Tree, child: &Process, parent: Arc<Process>) {
    let number = parent.pid().number_in(child.pid_namespace());
    child.parent_number.store(number, Ordering::Relaxed);
    let old = child.node.get_mut(tree).parent.replace(parent);
    // Not the last reference: a parent is known as long as it has children.
    drop(old);
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
pub(super) fn tell_parent(tree: &mut Tree, process: &Arc<Process>, is_news: bool) {
    // Taken out meanwhile: a counted reference would cost atomic instructions.
    let Some(parent) = process.node.get_mut(tree).parent.take() else {
        return;
    };
    set_news(tree, &parent, process, is_news);
    process.node.get_mut(tree).parent = Some(parent);
}

pub(super) fn set_news(tree: &mut Tree, parent: &Process, process: &Arc<Process>, is_news: bool) {
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
