//! What wait(2) tells a tracer: stops of the threads that it traces, and their ends.

use alloc::sync::Arc;

use super::link::release_dead;
use crate::exit;
use crate::signal::code;
use crate::task::process::Process;
use crate::task::relations;
use crate::task::thread::Thread;
use crate::task::traced::Traced;
use crate::task::tree::Tree;
use crate::waiting::{Options, Report, Which};

/// A look at those that a process traces.
pub(crate) struct Look {
    /// The first of whom there is something to tell.
    pub(crate) found: Option<(Arc<Thread>, Report)>,
    /// Whether there may be something later.
    pub(crate) may_change: bool,
}

/// Looks at those of `which` that `caller`'s process traces, or with NOTHREAD `caller` alone.
pub(crate) fn look(tree: &Tree, caller: &Thread, which: &Which, options: Options) -> Look {
    let mut look = Look {
        found: None,
        may_change: false,
    };
    for tracee in relations::tracees(tree, caller.process()) {
        let Some(traced) = tracee.traced.lock().clone() else {
            continue;
        };
        let is_mine = !options.contains(Options::NOTHREAD)
            || core::ptr::eq(Arc::as_ptr(&traced.tracer), caller);
        if !is_mine || !is_meant(tree, tracee, which) {
            continue;
        }
        if let Some(report) = report_on(tree, caller.process(), tracee, &traced, options) {
            look.found = Some((tracee.clone(), report));
            return look;
        }
        look.may_change |= !is_dead(tree, tracee, &traced) || options.contains(Options::EXITED);
    }
    look
}

fn is_meant(tree: &Tree, tracee: &Thread, which: &Which) -> bool {
    match which {
        Which::Any => true,
        Which::Pid(pid) => Arc::ptr_eq(tracee.pid_in(tree), pid),
        Which::Group(group) => {
            let node = tracee.process().known(tree);
            node.is_some_and(|node| Arc::ptr_eq(node.group(), group))
        }
    }
}

fn is_dead(tree: &Tree, tracee: &Thread, traced: &Traced) -> bool {
    traced.state.lock().dead.is_some() || end_of_process(tree, tracee).is_some()
}

/// The wait status of the process, if `tracee` is the first of it and stands for it.
fn end_of_process(tree: &Tree, tracee: &Thread) -> Option<i32> {
    let node = tracee.process().known(tree)?;
    let zombie = node.zombie.filter(|_| node.untold_threads == 0)?;
    tracee.is_first().then_some(zombie.status)
}

fn report_on(
    tree: &Tree,
    tracer: &Process,
    tracee: &Thread,
    traced: &Traced,
    options: Options,
) -> Option<Report> {
    let report = |status, code| Report {
        pid: tracer.shown(tracee.pid_in(tree)),
        uid: tracer.shown_uid(tracee.credentials().uid),
        status,
        code,
        usage: tracee.usage(),
    };
    let state = traced.state.lock();
    // As always on Linux: these stops are told whether or not stops are asked for.
    if let Some(stop) = state.stop.filter(|_| !state.is_listening)
        && !stop.is_told
    {
        return Some(report(stop.code << 8 | 0x7f, code::CLD_TRAPPED));
    }
    let of_thread = state.dead;
    drop(state);
    let status = of_thread.or_else(|| end_of_process(tree, tracee));
    let status = status.filter(|_| options.contains(Options::EXITED))?;
    Some(report(status, exit::split_status(status).0))
}

/// What the report uses up. The tree is not locked any more: whom it is about is traced by the caller's process, and two
/// of its threads may have found the same; the first has it.
pub(crate) fn consume(
    tree: &mut Tree,
    caller: &Thread,
    tracee: &Arc<Thread>,
    report: &Report,
) -> Option<Consumed> {
    if report.code == code::CLD_TRAPPED {
        if let Some(traced) = &*tracee.traced.lock()
            && let Some(stop) = &mut traced.state.lock().stop
        {
            stop.is_told = true;
        }
        return None;
    }
    let process = tracee.process();
    let is_own = tracee.is_first() && is_parent(tree, caller.process(), process);
    if is_own {
        caller.process().add_children_usage(report.usage);
        let reaped = relations::reap(tree, process);
        return Some(Consumed {
            _reaped: reaped,
            untraced: None,
        });
    }
    let traced = relations::untrace(tree, tracee)?;
    Some(Consumed {
        _reaped: None,
        untraced: Some((tracee.clone(), traced)),
    })
}

fn is_parent(tree: &Tree, parent: &Arc<Process>, child: &Process) -> bool {
    let node = child.known(tree);
    let its = node.and_then(|node| node.parent());
    its.is_some_and(|its| Arc::ptr_eq(its, parent))
}

/// What is to be done for an end that was told, without the tree's lock.
pub(crate) struct Consumed {
    _reaped: Option<relations::Reaped>,
    untraced: Option<(Arc<Thread>, Arc<Traced>)>,
}

impl Consumed {
    /// Frees the id, or lets the parent be told.
    pub(crate) fn settle(self) {
        if let Some((thread, traced)) = &self.untraced {
            release_dead(thread, traced);
        }
    }
}
