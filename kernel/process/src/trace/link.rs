//! How tracing begins (PTRACE_TRACEME, PTRACE_ATTACH, PTRACE_SEIZE, a new thread of a traced one's) and ends
//! (PTRACE_DETACH, the end of either).

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use fs::Capabilities;

use super::calls::follows;
use crate::access::{self, By};
use crate::clone::CloneArgs;
use crate::exit;
use crate::signal::{SigInfo, Signal, send, stop};
use crate::task::relations;
use crate::task::thread::Thread;
use crate::task::traced::{TraceFlags, TraceOptions, Traced};
use crate::task::tree::{self, Tree};

/// How to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// By a SIGSTOP (PTRACE_ATTACH).
    Stopping,
    /// Without a stop (PTRACE_SEIZE).
    Seizing(TraceOptions),
}

/// PTRACE_TRACEME: the parent traces the calling thread.
///
/// # Errors
/// `EPERM` when it is traced already, or can do more than the parent; `ENOMEM`.
pub fn trace_me(thread: &Arc<Thread>) -> Result<()> {
    let parent = thread.process().read_parent().ok_or(Errno::EPERM)?;
    // The thread that has made the process, as long as that is still its child.
    let maker = parent.thread_at(thread.process().maker());
    let Some(tracer) = maker.or_else(|| parent.main_thread()) else {
        // As on Linux: nobody traces who is about to be an orphan.
        return Ok(());
    };
    let own = thread.credentials();
    let theirs = tracer.credentials();
    let is_no_more =
        own.user_namespace == theirs.user_namespace && theirs.permitted.contains(own.permitted);
    if !is_no_more && !theirs.ns_capable(&own.user_namespace, Capabilities::SYS_PTRACE) {
        return Err(Errno::EPERM);
    }
    let traced = Traced::new(&tracer, theirs, TraceOptions::empty())?;
    relations::trace(&mut tree::lock(), &traced, thread, TraceFlags::empty())
}

/// PTRACE_ATTACH and PTRACE_SEIZE: the calling thread traces another one.
///
/// # Errors
/// `EPERM` for a thread of the same process, one that it may not look into, and one that is traced or dead; `ENOMEM`.
pub fn attach(tracer: &Arc<Thread>, target: &Arc<Thread>, how: Attach) -> Result<()> {
    if Arc::ptr_eq(tracer.process(), target.process()) {
        return Err(Errno::EPERM);
    }
    let (options, flags) = match how {
        Attach::Stopping => (TraceOptions::empty(), TraceFlags::empty()),
        Attach::Seizing(options) => (options, TraceFlags::SEIZED),
    };
    let traced = Traced::new(tracer, tracer.credentials(), options)?;
    {
        // The check and what follows from it are one step to exec, which may make the target more than it is.
        let mut tree = tree::lock();
        access::check(tracer, target.process(), By::Real)?;
        relations::trace(&mut tree, &traced, target, flags)?;
    }
    if how == Attach::Stopping {
        // A standard signal always finds room.
        let _ = send::to_thread(target, &SigInfo::kernel(Signal::STOP));
    }
    leave_job_stop(tracer, target, &traced);
    Ok(())
}

/// Who is stopped already comes to a stop for its tracer: before this returns, as debuggers rely on.
fn leave_job_stop(tracer: &Thread, target: &Thread, traced: &Traced) {
    if !target.parked.load(Ordering::SeqCst) {
        return;
    }
    target.process().stop_queue.wake_all();
    let events = &tracer.process().child_events;
    let has_come = || {
        let signals = target.process().signals.lock();
        let is_coming = signals.stop.is_some() && !signals.is_ending(target);
        drop(signals);
        (!is_coming || traced.is_stopped()).then_some(())
    };
    tracer.wait_killable(events, has_come);
}

/// PTRACE_DETACH of a stopped thread, which goes on with `signal`.
///
/// # Errors
/// `ESRCH` unless it is stopped for the caller.
pub fn detach(tracer: &Thread, target: &Arc<Thread>, signal: Option<Signal>) -> Result<()> {
    let traced = super::request::stopped(tracer, target)?;
    {
        let mut state = traced.state.lock();
        // Breakpoints are the tracer's.
        state.saved.debug = Default::default();
    }
    let gone = relations::untrace(&mut tree::lock(), target);
    traced.resume(|_| signal);
    drop(gone);
    Ok(())
}

/// Whether a thread traces `thread` that could not trace just anybody of its user namespace: then exec gives no privileges.
pub(crate) fn is_unprivileged(thread: &Thread) -> bool {
    // With the tree locked, as whoever begins to trace it looks at what it is before.
    let _tree = tree::lock();
    let traced = thread.traced.lock();
    let names = &thread.credentials().user_namespace;
    let is_capable = |traced: &Arc<Traced>| {
        let credentials = &traced.credentials;
        credentials.ns_capable(names, Capabilities::SYS_PTRACE)
    };
    traced.as_ref().is_some_and(|traced| !is_capable(traced))
}

/// A thread ends: whom it has traced is on its own from here on.
pub(crate) fn end_of_tracer(tracer: &Arc<Thread>) {
    if !tracer.is_tracer.load(Ordering::SeqCst) {
        return;
    }
    while let Some((tracee, traced)) = untrace_one(tracer) {
        if traced.options().contains(TraceOptions::EXIT_KILL) {
            // SIGKILL always finds room.
            let _ = send::to_process(tracee.process(), &SigInfo::kernel(Signal::KILL));
        }
        // A signal that nobody has seen yet is still delivered.
        let is_signal = |code: i32| Signal::new(code).ok();
        traced.resume(|stop| is_signal(stop.code).filter(|_| !stop.is_told));
        release_dead(&tracee, &traced);
        sched::cond_resched();
    }
}

fn untrace_one(tracer: &Arc<Thread>) -> Option<(Arc<Thread>, Arc<Traced>)> {
    let mut tree = tree::lock();
    let is_own = |tracee: &&Arc<Thread>| {
        let traced = tracee.traced.lock();
        traced
            .as_ref()
            .is_some_and(|traced| Arc::ptr_eq(&traced.tracer, tracer))
    };
    let tracee = relations::tracees(&tree, tracer.process())
        .find(is_own)?
        .clone();
    let traced = relations::untrace(&mut tree, &tracee)?;
    Some((tracee, traced))
}

/// What is left of a thread that is dead and whose tracer was told, or is gone: its id is free, and the end of its process
/// may be told.
pub(crate) fn release_dead(thread: &Arc<Thread>, traced: &Traced) {
    let was_untold = traced.state.lock().dead.take().is_some();
    let gone = {
        let mut tree = tree::lock();
        if was_untold {
            thread.process().node.get_mut(&mut tree).untold_threads -= 1;
            relations::remove_this(&mut tree, thread)
        } else {
            None
        }
    };
    drop(gone);
    let is_zombie = {
        let tree = tree::lock();
        let node = thread.process().known(&tree);
        node.is_some_and(|node| node.zombie.is_some())
    };
    if is_zombie {
        exit::announce(thread.process());
    }
}

/// A thread that is not the first has died: whether its tracer is to be told before its id is free.
pub(crate) fn thread_died(tree: &mut Tree, thread: &Arc<Thread>, status: i32) -> bool {
    let Some(traced) = thread.traced.lock().clone() else {
        return false;
    };
    traced.state.lock().dead = Some(status);
    thread.process().node.get_mut(tree).untold_threads += 1;
    let (code, number) = exit::split_status(status);
    stop::tell_tracer_of_end(tree, thread, &traced.tracer, code, number);
    true
}

/// What a new thread or process of a traced one's has of its tracing, made before it is known.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// Of the parent, when this was made.
    parents: Arc<Traced>,
    own: Arc<Traced>,
}

/// For what `parent` makes with `args`; `None` when nobody traces that.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn inherit(parent: &Thread, args: &CloneArgs) -> Result<Option<Inherited>> {
    let Some(parents) = parent.traced() else {
        return Ok(None);
    };
    if !follows(parent, args) {
        return Ok(None);
    }
    let own = Traced::new(
        &parents.tracer,
        parents.credentials.clone(),
        parents.options(),
    )?;
    Ok(Some(Inherited { parents, own }))
}

impl Inherited {
    /// Makes room, so that [`Self::apply`] succeeds.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn reserve(&self, tree: &mut Tree) -> Result<()> {
        relations::reserve_tracee(tree, self.own.tracer.process())
    }

    /// The child is known now, and does not run yet: it is traced, too, if its parent still is, and stops first of all.
    pub(crate) fn apply(&self, tree: &mut Tree, parent: &Thread, child: &Arc<Thread>) {
        let is_same = |traced: &Arc<Traced>| Arc::ptr_eq(traced, &self.parents);
        if !parent.traced.lock().as_ref().is_some_and(is_same) {
            return;
        }
        let is_seized = parent.trace_flags().contains(TraceFlags::SEIZED);
        let flags = if is_seized {
            TraceFlags::SEIZED | TraceFlags::TRAP
        } else {
            TraceFlags::empty()
        };
        // It fails when the tracer is ending.
        if relations::trace(tree, &self.own, child, flags).is_ok() && !is_seized {
            let state = child.process().signals.lock();
            // A standard signal always finds room.
            let stop = SigInfo::user(Signal::STOP, 0, 0);
            let _ = child.private.lock().push(stop, false);
            drop(state);
        }
    }
}
