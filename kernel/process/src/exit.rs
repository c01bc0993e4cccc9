//! The end of threads and processes.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use fs::{Capabilities, Kuid};
use machine::UserAddr;
use memory::MemoryGroup;

use crate::own::Own;
use crate::rlimit::Resource;
use crate::signal::{Disposition, Flags, SigInfo, Signal, code, post, send, stop};
use crate::task::cgroup::members;
use crate::task::pid::Pid;
use crate::task::process::{Image, Process};
use crate::task::relations::node::Zombie;
use crate::task::relations::{self, Moved};
use crate::task::thread::Thread;
use crate::task::traced::TraceFlags;
use crate::task::tree::{self, Tree};
use crate::{futex, ipc, trace};

const INIT: crate::task::numbers::PidNumber = 1;

/// A wait status for an exit with `code` (exit(2)).
#[must_use]
pub const fn exited(code: i32) -> i32 {
    (code & 0xff) << 8
}

/// exit(2): the calling thread ends on its way to user mode; with `code` the process, when it is the last.
pub fn exit_thread(thread: &Thread, code: i32) {
    end_thread(thread, exited(code));
}

/// As [`exit_thread`], with `status` as wait(2) gives it.
pub(crate) fn end_thread(thread: &Thread, status: i32) {
    thread.exit_status.store(status, Ordering::Relaxed);
    thread.exiting.store(true, Ordering::SeqCst);
    thread.attention.store(true, Ordering::SeqCst);
}

/// exit_group(2): all threads of the process end.
pub fn exit_group(process: &Process, code: i32) {
    kill_with_status(process, exited(code));
}

/// All threads end, and the process with `status` as wait(2) gives it.
pub fn kill_with_status(process: &Process, status: i32) {
    let mut state = process.signals.lock();
    post::start_exit(process, &mut state, status);
}

/// Everything a thread does last; `own` is what it has alone, if it has run. Its kernel thread must return right
/// after.
pub(crate) fn finish(thread: &Arc<Thread>, own: Option<Own>) {
    let process = thread.process();
    release_memory(thread);
    // Before anyone hears of the end: who waited for it may need the memory.
    let kernel = sched::thread::current();
    kernel.set_page_table(None);
    kernel.set_memory(None);
    thread.set_undo_list(None);
    drop((thread.take_resources(), own));
    let _ = thread.take_restart();
    process.add_dead_thread(thread.usage());
    let private = core::mem::take(&mut *thread.private.lock());
    drop(private);
    let (last, left_behind, exec) = leave_process(thread);
    // Nobody gives it others any more.
    thread.seccomp.release();
    trace::end_of_tracer(thread);
    if left_behind {
        for other in process.threads() {
            if !process.signals.lock().ready(&other).is_empty() {
                other.notify();
            }
        }
    }
    members::leave(thread);
    stop::complete_if_all_parked(process);
    if exec {
        process.stop_queue.wake_all();
    }
    if last {
        end_process(thread);
    } else if !thread.is_first() {
        let gone = remove_unless_traced(&mut tree::lock(), thread);
        drop(gone);
    }
    thread.set_kernel(None);
    // The process, which keeps its memory group, may be gone before the last of the thread is.
    kernel.set_memory_account(MemoryGroup::ROOT.account());
}

/// Takes a thread that is not the first out of the tree, unless its tracer is to be told of it first.
fn remove_unless_traced(tree: &mut Tree, thread: &Arc<Thread>) -> Option<Arc<Thread>> {
    if thread.is_traced() {
        let of_all = thread.process().signals.lock().exit;
        let status = of_all.unwrap_or_else(|| thread.exit_status.load(Ordering::Relaxed));
        if trace::thread_died(tree, thread, status) {
            return None;
        }
    }
    relations::remove_this(tree, thread)
}

/// Lets go of the address space as far as others in it are concerned.
fn release_memory(thread: &Thread) {
    release_words(thread);
    complete_vfork(thread);
}

/// Releases the words in user memory that others wait on: robust futexes and the cleared tid. Also what
/// exec does in the old address space.
pub(crate) fn release_words(thread: &Thread) {
    futex::robust::release(thread);
    let cleared = thread.clear_child_tid.swap(0, Ordering::Relaxed);
    if cleared != 0 {
        let addr = UserAddr(cleared);
        // The address is the program's: a bad one is its own affair.
        if memory::user::write(addr, &0u32).is_ok() {
            let _ = futex::wake(addr, true, 1, futex::ANY);
        }
    }
}

/// Lets the parent in vfork(2) go on.
pub(crate) fn complete_vfork(thread: &Thread) {
    let waiting = thread.vfork.lock().take();
    if let Some(completion) = waiting {
        completion.complete();
    }
}

/// Takes the thread off its process: whether it was the last, whether others may now take signals that
/// it would have taken, and whether an exec waits for it.
fn leave_process(thread: &Arc<Thread>) -> (bool, bool, bool) {
    let process = thread.process();
    let mut state = process.signals.lock();
    state.threads.remove(thread);
    let flags = thread.clear_trace_flags(TraceFlags::LEFT_STOP);
    if flags.contains(TraceFlags::LEFT_STOP) {
        state.parked -= 1;
    }
    if let Some(dump) = &state.dump {
        // It may wait for this one.
        dump.arrivals.wake_all();
    }
    let last = state.threads.is_empty();
    if last && state.exit.is_none() {
        state.exit = Some(thread.exit_status.load(Ordering::Relaxed));
    }
    // When all go, none of them takes anything any more.
    let left_behind = state.exit.is_none() && !state.shared.is_empty();
    (last, left_behind, state.exec.is_some())
}

/// The last thread is gone: the process becomes a zombie.
fn end_process(thread: &Arc<Thread>) {
    let process = thread.process();
    process.timers.cancel_all();
    ipc::shm::end_unused(&thread.ipc_namespace(), Some(process.pid()));
    if process.is_namespace_init() && !process.pid_namespace().is_initial() {
        end_namespace(process);
    }
    let final_usage = process.usage();
    drop(process.replace_memory(None));
    // Names below /proc that are kept may keep the process long after it was waited for: not what it was sent, too.
    let shared = core::mem::take(&mut process.signals.lock().shared);
    drop(shared);
    process.set_image(Image::default());
    hang_up_session(process);
    let status = process.signals.lock().exit.unwrap_or(0);
    if process.pid().global() == INIT {
        init_died(status);
    }
    let credentials = thread.credentials();
    let zombie = Zombie {
        status,
        usage: final_usage.plus(process.children_usage()),
        uid: credentials.uid,
        name: thread.name(),
    };
    process.leave_credentials(credentials);
    let (orphaned, parent) = bury(thread, zombie);
    if let Some(group) = orphaned {
        hang_up_group(&group);
    }
    process.exited.wake_all();
    process.pid_namespace().wake_waiting();
    match parent {
        Some(parent) => announce_death(&parent, process),
        None => {
            let reaped = relations::reap(&mut tree::lock(), process);
            drop(reaped);
        }
    }
}

/// Gives the children away and makes the process a zombie. Its group, when that is orphaned by it, and its
/// parent.
fn bury(thread: &Arc<Thread>, zombie: Zombie) -> (Option<Arc<Pid>>, Option<Arc<Process>>) {
    let process = thread.process();
    loop {
        while let Some(moved) = move_orphans(process) {
            settle(process, &moved, zombie.uid);
            sched::cond_resched();
        }
        let mut tree = tree::lock();
        let Ok(orphaned) = relations::bury(&mut tree, process, zombie) else {
            continue;
        };
        // The first thread stays for its id, and for those who ask about it, until it is waited for.
        let gone = if thread.is_first() {
            None
        } else {
            remove_unless_traced(&mut tree, thread)
        };
        let parent = process.known(&tree).and_then(|node| node.parent().cloned());
        drop(tree);
        drop(gone);
        return (orphaned, parent);
    }
}

fn move_orphans(process: &Arc<Process>) -> Option<Moved> {
    relations::move_orphans(&mut tree::lock(), process)
}

/// What adopted children and those around them are told.
fn settle(parent: &Process, moved: &Moved, uid: Kuid) {
    for child in moved.children.iter().flatten() {
        signal_orphan(parent, child, uid);
    }
    for group in moved.orphaned.iter().flatten() {
        hang_up_group(group);
    }
    for child in moved.children.iter().flatten() {
        announce_death(&moved.reaper, child);
    }
}

/// The init of a PID namespace takes everyone in it along, and is only dead when they are.
fn end_namespace(init: &Process) {
    let namespace = init.pid_namespace();
    namespace.close(&mut tree::lock());
    let others = || {
        let all = relations::processes_of(namespace);
        all.filter(|other| !core::ptr::eq(Arc::as_ptr(other), init))
    };
    for other in others() {
        kill_with_status(&other, i32::from(Signal::KILL.number()));
    }
    namespace.wait_for_last_member();
    for other in others() {
        let mut tree = tree::lock();
        // Who was put in from outside (setns(2)) is its parent's there to wait for.
        let is_left = other.known(&tree).is_some_and(|node| {
            let is_inside = |parent: &Arc<Process>| parent.pid_namespace().is_within(namespace);
            node.zombie.is_some() && node.parent().is_none_or(is_inside)
        });
        let reaped = is_left.then(|| relations::reap(&mut tree, &other));
        drop(tree);
        drop(reaped);
    }
}

/// Tells the tracer of a dead process, or its parent; nobody yet, while a tracer has not heard of one of its threads.
pub(crate) fn announce(process: &Arc<Process>) {
    let parent = process.read_parent();
    if let Some(parent) = parent {
        announce_death(&parent, process);
    }
}

/// Tells `parent` that its child is dead, if it is; reaps at once what it does not want to wait for. A tracer of it hears
/// of it first.
fn announce_death(parent: &Arc<Process>, child: &Arc<Process>) {
    let action = parent.actions().lock().get(Signal::CHLD);
    let (zombie, exit_signal, is_traced) = {
        let tree = tree::lock();
        let Some(node) = child.known(&tree) else {
            return;
        };
        let Some(zombie) = node.zombie else { return };
        let tracer = relations::tracer_of(&tree, child);
        if relations::is_death_held(&tree, child) {
            if let Some(tracer) = &tracer
                && node.untold_threads == 0
            {
                let (code, status) = split_status(zombie.status);
                if let Some(first) = child.pid().thread(&tree) {
                    stop::tell_tracer_of_end(&tree, first, tracer, code, status);
                }
            }
            return;
        }
        (zombie, node.exit_signal, tracer.is_some())
    };
    let is_chld = exit_signal == Some(Signal::CHLD);
    let unwanted = is_chld
        && !is_traced
        && (action.disposition == Disposition::Ignore || action.flags.contains(Flags::NOCLDWAIT));
    let silent = is_chld && action.disposition == Disposition::Ignore;
    // While the child still has a number.
    let info = exit_signal.map(|signal| death_info(child, parent, &zombie, signal));
    if unwanted {
        let reaped = relations::reap(&mut tree::lock(), child);
        drop(reaped);
    }
    if let Some(info) = info
        && !silent
    {
        // A standard signal always finds room; a lost realtime one is what the clone flags asked for.
        let _ = send::to_process(parent, &info);
    }
    parent.child_events.wake_all();
}

fn death_info(child: &Process, parent: &Process, zombie: &Zombie, signal: Signal) -> SigInfo {
    let (code, status) = split_status(zombie.status);
    let mut info = stop::child_info(child, parent, code, status);
    info.signal = signal;
    if let crate::signal::Payload::Child { uid, .. } = &mut info.payload {
        *uid = parent.shown_uid(zombie.uid);
    }
    info
}

/// A wait status as `si_code` and `si_status`.
#[must_use]
pub fn split_status(status: i32) -> (i32, i32) {
    if status & 0x7f == 0 {
        (code::CLD_EXITED, status >> 8 & 0xff)
    } else if status & 0x80 != 0 {
        (code::CLD_DUMPED, status & 0x7f)
    } else {
        (code::CLD_KILLED, status & 0x7f)
    }
}

/// PR_SET_PDEATHSIG of a child that the dying process leaves behind.
fn signal_orphan(parent: &Process, child: &Arc<Process>, uid: Kuid) {
    for thread in child.threads() {
        if let Ok(signal) = Signal::new(i32::from(thread.parent_death_signal())) {
            let info = SigInfo::user(signal, child.shown(parent.pid()), child.shown_uid(uid));
            let _ = send::to_process(child, &info);
        }
    }
}

/// A dying session leader takes the terminal from the session and hangs its foreground group up.
fn hang_up_session(process: &Arc<Process>) {
    let mut tree = tree::lock();
    if !process.leads_session(&tree) {
        return;
    }
    let session = process.pid().users_mut(&mut tree).session.as_mut();
    let terminal = session.and_then(|session| session.terminal.take());
    drop(tree);
    if let Some(terminal) = terminal {
        terminal.session_ended();
    }
}

/// A group with stopped members that nobody can continue any more: POSIX has them hung up and continued.
fn hang_up_group(group: &Pid) {
    let mut tree = tree::lock();
    send::to_group(&mut tree, group, &SigInfo::kernel(Signal::HUP));
    send::to_group(&mut tree, group, &SigInfo::kernel(Signal::CONT));
}

/// PID 1 is gone: nothing can go on.
fn init_died(status: i32) {
    match split_status(status) {
        (code::CLD_EXITED, code) => machine::log!("init exited with code {code}; powering off"),
        (_, signal) => machine::log!("init was killed by signal {signal}; powering off"),
    }
    machine::power::power_off()
}

/// Whether there may be one more thread, of all and of the caller's user (RLIMIT_NPROC).
pub(crate) fn may_add_thread(thread: &Thread) -> bool {
    let cred = thread.credentials();
    let exempt = cred.uid == Kuid::ROOT
        || cred.capable(Capabilities::SYS_RESOURCE)
        || cred.capable(Capabilities::SYS_ADMIN);
    let limit = thread.process().limits().soft(Resource::Processes);
    let tree = tree::lock();
    let has_room = exempt || (tree.threads_of(cred.uid) as u64) < limit;
    has_room && (tree.thread_count() as u64) < crate::rlimit::threads_max()
}
