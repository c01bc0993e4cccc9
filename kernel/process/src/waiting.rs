//! Waiting for children: wait4(2), waitid(2).

use alloc::sync::Arc;

use abi::{Errno, Result};
use fs::Kuid;

use crate::exit;
use crate::signal::{Signal, code};
use crate::task::numbers::PidNumber;
use crate::task::pid::Pid;
use crate::task::process::Process;
use crate::task::relations::node::Node;
use crate::task::relations::{self, Reaped};
use crate::task::thread::Thread;
use crate::task::tree::{self, Tree};
use crate::trace::report;
use crate::usage::Usage;

bitflags::bitflags! {
    /// Options of wait4(2) and waitid(2).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Options: u32 {
        /// Do not block.
        const NOHANG = 1;
        /// Report stopped children (`WUNTRACED`).
        const STOPPED = 2;
        /// Report dead children.
        const EXITED = 4;
        /// Report continued children.
        const CONTINUED = 8;
        /// Leave the child to be waited for again.
        const NOWAIT = 0x0100_0000;
        /// Only children of this thread; here the same as those of the process.
        const NOTHREAD = 0x2000_0000;
        /// Children of both kinds.
        const ALL = 0x4000_0000;
        /// Only children that do not send SIGCHLD.
        const CLONE = 0x8000_0000;
    }
}

/// Which children.
#[derive(Debug, Clone)]
pub enum Which {
    /// Any.
    Any,
    /// The one that goes by this.
    Pid(Arc<Pid>),
    /// Those of a process group.
    Group(Arc<Pid>),
}

/// What became of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Which child, as its parent calls it.
    pub pid: PidNumber,
    /// Its user, as its parent calls it.
    pub uid: u32,
    /// Status as wait4(2) gives it.
    pub status: i32,
    /// `si_code` of waitid(2).
    pub code: i32,
    /// What it and its children used.
    pub usage: Usage,
}

impl Report {
    /// `si_status` of waitid(2).
    #[must_use]
    pub fn si_status(&self) -> i32 {
        match self.code {
            code::CLD_EXITED => self.status >> 8 & 0xff,
            code::CLD_KILLED | code::CLD_DUMPED => self.status & 0x7f,
            code::CLD_STOPPED | code::CLD_TRAPPED => self.status >> 8,
            _ => i32::from(Signal::CONT.number()),
        }
    }
}

/// Waits for a child to change; `None` with NOHANG when none has.
///
/// # Errors
/// `ECHILD` when there is no such child, `ERESTARTSYS` when interrupted.
pub fn wait(thread: &Thread, which: &Which, options: Options) -> Result<Option<Report>> {
    let process = thread.process();
    if options.contains(Options::NOHANG) {
        return scan(thread, which, options);
    }
    let found = process
        .child_events
        .wait_interruptible(|| scan(thread, which, options).transpose())?;
    found.map(Some)
}

/// One look at the children, and those that the process traces: a report, nothing yet, or nobody to wait for.
fn scan(caller: &Thread, which: &Which, options: Options) -> Result<Option<Report>> {
    let parent = caller.process();
    let mut tree = tree::lock();
    let Some((child, report)) = find_report(&tree, parent, which, options) else {
        let look = report::look(&tree, caller, which, options);
        if let Some((tracee, report)) = look.found {
            let consumed = if options.contains(Options::NOWAIT) {
                None
            } else {
                report::consume(&mut tree, caller, &tracee, &report)
            };
            drop(tree);
            if let Some(consumed) = consumed {
                consumed.settle();
            }
            return Ok(Some(report));
        }
        if look.may_change {
            return Ok(None);
        }
        // Who is dead has nothing to say to someone who waits for stops.
        let will_change = |child: &Arc<Process>| {
            let node = child.known(&tree);
            node.is_some_and(|node| {
                is_meant(node, which, options)
                    && (node.zombie.is_none() || options.contains(Options::EXITED))
                    && !is_traced_by(&tree, parent, child)
            })
        };
        let any = match which {
            Which::Pid(pid) => child_of(&tree, parent, pid).is_some_and(will_change),
            _ => relations::children(&tree, parent).any(will_change),
        };
        return if any { Ok(None) } else { Err(Errno::ECHILD) };
    };
    let child = child.clone();
    let reaped = consume(&mut tree, parent, &child, &report, options);
    drop(tree);
    drop(reaped);
    Ok(Some(report))
}

fn find_report<'a>(
    tree: &'a Tree,
    parent: &'a Arc<Process>,
    which: &'a Which,
    options: Options,
) -> Option<(&'a Arc<Process>, Report)> {
    let report = |child: &'a Arc<Process>| {
        let node = child.known(tree)?;
        let is_meant = is_meant(node, which, options);
        if !is_meant || is_hidden(tree, parent, child, options) {
            return None;
        }
        Some((child, report_on(parent, child, node, options)?))
    };
    match which {
        Which::Pid(pid) => report(child_of(tree, parent, pid)?),
        _ => relations::news(tree, parent).find_map(report),
    }
}

/// Whether what there is to tell of a child is not for its parent now: a death that a tracer is to hear of first, and
/// anything of one that the parent traces itself, but that it was continued.
fn is_hidden(tree: &Tree, parent: &Arc<Process>, child: &Process, options: Options) -> bool {
    let Some(node) = child.known(tree) else {
        return true;
    };
    if node.zombie.is_some() {
        return relations::is_death_held(tree, child) || is_traced_by(tree, parent, child);
    }
    let is_told = node.continued() && options.contains(Options::CONTINUED);
    !is_told && is_traced_by(tree, parent, child)
}

fn is_traced_by(tree: &Tree, process: &Arc<Process>, child: &Process) -> bool {
    let tracer = relations::tracer_of(tree, child);
    tracer.is_some_and(|tracer| Arc::ptr_eq(tracer.process(), process))
}

fn child_of<'a>(tree: &'a Tree, parent: &Arc<Process>, pid: &'a Pid) -> Option<&'a Arc<Process>> {
    let process = pid.process(tree)?;
    let its_parent = process.known(tree)?.parent()?;
    Arc::ptr_eq(its_parent, parent).then_some(process)
}

fn is_meant(child: &Node, which: &Which, options: Options) -> bool {
    let by_id = match which {
        Which::Any | Which::Pid(_) => true,
        Which::Group(group) => Arc::ptr_eq(child.group(), group),
    };
    let is_clone = child.exit_signal != Some(Signal::CHLD);
    by_id && (options.contains(Options::ALL) || is_clone == options.contains(Options::CLONE))
}

fn report_on(parent: &Process, child: &Process, node: &Node, options: Options) -> Option<Report> {
    let report = |status, code| Report {
        pid: parent.shown(child.pid()),
        uid: parent.shown_uid(uid_of(child, node)),
        status,
        code,
        usage: Usage::default(),
    };
    if let Some(zombie) = node.zombie {
        if !options.contains(Options::EXITED) {
            return None;
        }
        let (code, _) = exit::split_status(zombie.status);
        return Some(Report {
            usage: zombie.usage,
            ..report(zombie.status, code)
        });
    }
    if let Some(signal) = node.stopped()
        && options.contains(Options::STOPPED)
    {
        let status = i32::from(signal.number()) << 8 | 0x7f;
        return Some(report(status, code::CLD_STOPPED));
    }
    if node.continued() && options.contains(Options::CONTINUED) {
        return Some(report(0xffff, code::CLD_CONTINUED));
    }
    None
}

fn uid_of(child: &Process, node: &Node) -> Kuid {
    if let Some(zombie) = node.zombie {
        return zombie.uid;
    }
    child
        .credentials()
        .map_or(Kuid::ROOT, |credentials| credentials.uid)
}

/// What a report uses up, unless NOWAIT. The caller drops what comes back without the lock.
fn consume(
    tree: &mut Tree,
    parent: &Process,
    child: &Arc<Process>,
    report: &Report,
    options: Options,
) -> Option<Reaped> {
    if options.contains(Options::NOWAIT) {
        return None;
    }
    match report.code {
        code::CLD_STOPPED | code::CLD_CONTINUED => relations::stop_was_told(tree, child),
        _ => {
            parent.add_children_usage(report.usage);
            return relations::reap(tree, child);
        }
    }
    None
}
