//! What terminals ask of processes: the implementation of [`fs::job_control::JobControl`].

use alloc::sync::Arc;

use abi::{Errno, Result};
use fs::job_control::{JobControl, PidRef, Terminal};
use fs::sigio::{IoOwner, IoSignal};
use fs::{Capabilities, Credentials, Events, Kuid};

use crate::signal::{Disposition, SigInfo, Signal, send};
use crate::task::pid::Pid;
use crate::task::process::Process;
use crate::task::tree::{self, Tree};
use crate::task::{relations, thread};

/// Answers from the tree, for the calling thread.
pub(crate) struct FromTree;

/// `POLL_*` of `si_code` (sigaction(2)).
fn poll_code(events: Events) -> (i32, u32) {
    const POLL_IN: i32 = 1;
    const POLL_PRI: i32 = 5;
    const POLL_HUP: i32 = 6;
    // POLLIN | POLLRDNORM, POLLPRI | POLLRDBAND, POLLHUP | POLLERR.
    if events.contains(Events::HUP) {
        (POLL_HUP, 0x18)
    } else if events.contains(Events::PRI) {
        (POLL_PRI, 0x82)
    } else {
        (POLL_IN, 0x41)
    }
}

/// Whether who set a file's owner may signal `process` (fcntl(2), `F_SETOWN`).
fn may_signal(io: &IoSignal, process: &Process) -> bool {
    let from = &io.credentials;
    let Some(thread) = process.main_thread() else {
        return false;
    };
    let to = thread.credentials();
    let is_same = |id: Kuid| id == to.suid || id == to.uid;
    from.ns_capable(&to.user_namespace, Capabilities::KILL)
        || is_same(from.uid)
        || is_same(from.euid)
}

fn signal_owner(io: &IoSignal, info: &SigInfo) {
    match &io.owner {
        IoOwner::Nobody => {}
        IoOwner::Thread(pid) => {
            let thread = at(pid, |tree, pid| pid.thread(tree).cloned());
            if let Some(thread) = thread
                && may_signal(io, thread.process())
            {
                let _ = send::to_thread(&thread, info);
            }
        }
        IoOwner::Process(pid) => {
            let process = at(pid, |tree, pid| pid.process(tree).cloned());
            // A queue that is full loses the details, as on Linux: SIGIO says that something happened.
            if let Some(process) = process
                && may_signal(io, &process)
                && send::to_process(&process, info).is_err()
            {
                let _ = send::to_process(&process, &SigInfo::kernel(Signal::IO));
            }
        }
        IoOwner::Group(group) => {
            at(group, |tree, group| {
                relations::for_each_member(tree, group, |tree, member| {
                    if may_signal(io, member) {
                        let _ = send::to_member(tree, member, info);
                    }
                });
                None::<()>
            });
        }
    }
}

fn caller() -> Option<Arc<Process>> {
    thread::current().map(|thread| thread.process().clone())
}

/// Calls `act` with what a reference means, with the tree locked.
fn at<R>(pid: &PidRef, act: impl FnOnce(&mut Tree, &Pid) -> Option<R>) -> Option<R> {
    act(&mut tree::lock(), pid.downcast()?)
}

impl JobControl for FromTree {
    fn credentials(&self) -> Option<Arc<Credentials>> {
        thread::current().map(|thread| thread.credentials())
    }

    fn shown(&self, pid: &PidRef) -> i32 {
        let shown = |caller: Arc<Process>| {
            let show = |tree: &mut Tree, pid: &Pid| {
                let is_there = !pid.users(tree).is_empty();
                is_there.then(|| caller.shown(pid))
            };
            at(pid, show)
        };
        caller().and_then(shown).unwrap_or(0)
    }

    fn find(&self, number: i32) -> Option<PidRef> {
        let pid = relations::find_pid(caller()?.pid_namespace(), number)?;
        Some(PidRef::new(pid))
    }

    fn session(&self) -> Option<PidRef> {
        Some(PidRef::new(caller()?.read_session()))
    }

    fn group(&self) -> Option<PidRef> {
        Some(PidRef::new(caller()?.read_group()))
    }

    fn is_session_leader(&self) -> bool {
        caller().is_some_and(|process| process.leads_session(&tree::lock()))
    }

    fn session_of_group(&self, group: &PidRef) -> Option<PidRef> {
        at(group, |tree, group| {
            let session = relations::session_of_group(tree, group)?;
            Some(PidRef::new(session.clone()))
        })
    }

    fn group_is_orphaned(&self) -> bool {
        let Some(group) = caller().map(|process| process.read_group()) else {
            return false;
        };
        relations::is_orphaned(&tree::lock(), &group)
    }

    fn is_blocked_or_ignored(&self, signal: u8) -> bool {
        let (Some(thread), Ok(signal)) = (thread::current(), Signal::new(i32::from(signal))) else {
            return false;
        };
        let action = thread.process().actions().lock().get(signal);
        thread.blocked().contains(signal) || action.disposition == Disposition::Ignore
    }

    fn signal_group(&self, group: &PidRef, signal: u8) {
        let Ok(signal) = Signal::new(i32::from(signal)) else {
            return;
        };
        at(group, |tree, group| {
            send::to_group(tree, group, &SigInfo::kernel(signal));
            None::<()>
        });
    }

    fn signal_session_leader(&self, session: &PidRef, signal: u8) {
        let signal = Signal::new(i32::from(signal));
        let leader = at(session, |tree, session| session.process(tree).cloned());
        if let (Some(leader), Ok(signal)) = (leader, signal) {
            // A standard signal always finds room.
            let _ = send::to_process(&leader, &SigInfo::kernel(signal));
        }
    }

    fn terminal(&self) -> Option<Terminal> {
        let caller = caller()?;
        let tree = tree::lock();
        let session = caller.known(&tree)?.session();
        session.users(&tree).session.as_ref()?.terminal.clone()
    }

    fn set_terminal(&self, terminal: Option<Terminal>) -> Result<()> {
        let process = caller().ok_or(Errno::EPERM)?;
        let pid = process.read_session();
        let mut tree = tree::lock();
        let session = pid
            .users_mut(&mut tree)
            .session
            .as_mut()
            .ok_or(Errno::EPERM)?;
        let leads = Arc::ptr_eq(&pid, process.pid());
        if terminal.is_some() && (!leads || session.terminal.is_some()) {
            return Err(Errno::EPERM);
        }
        let old = core::mem::replace(&mut session.terminal, terminal);
        drop(tree);
        drop(old);
        Ok(())
    }

    fn signal_caller(&self, signal: u8) {
        if let (Some(thread), Ok(signal)) = (thread::current(), Signal::new(i32::from(signal))) {
            // It fails only for a thread that is gone.
            let _ = send::to_thread(&thread, &SigInfo::kernel(signal));
        }
    }

    fn signal_io(&self, io: &IoSignal) {
        let Ok(signal) = Signal::new(i32::from(io.signal)) else {
            return signal_owner(io, &SigInfo::kernel(Signal::IO));
        };
        let (code, band) = poll_code(io.events);
        let info = SigInfo::io(signal, code, band, io.fd);
        signal_owner(io, &info);
    }

    fn disassociate(&self, session: &PidRef) {
        let old = at(session, |tree, pid| {
            let session = pid.users_mut(tree).session.as_mut()?;
            session.terminal.take()
        });
        drop(old);
    }
}
