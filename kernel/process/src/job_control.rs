//! What terminals ask of processes: the implementation of [`fs::job_control::JobControl`].

use alloc::sync::Arc;

use abi::{Errno, Result};
use fs::job_control::{Id, JobControl, Terminal};
use fs::sigio::{IoOwner, IoSignal};
use fs::{Capabilities, Credentials, Events, Kuid};

use crate::signal::{Disposition, SigInfo, Signal, send};
use crate::{Pid, Process, thread, tree};

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
    let to_process = |process: &Arc<Process>| {
        // A queue that is full loses the details, as on Linux: SIGIO says that something happened.
        if may_signal(io, process) && send::to_process(process, info).is_err() {
            let _ = send::to_process(process, &SigInfo::kernel(Signal::IO));
        }
    };
    match io.owner {
        IoOwner::Nobody => {}
        IoOwner::Thread(id) => {
            if let Some(thread) = tree::thread_by(id)
                && may_signal(io, thread.process())
            {
                let _ = send::to_thread(&thread, info);
            }
        }
        IoOwner::Process(id) => {
            if let Some(process) = tree::process_by(id) {
                to_process(&process);
            }
        }
        IoOwner::Group(id) => {
            let mut tree = tree::lock();
            let Some(group) = tree.current(id) else {
                return;
            };
            tree.for_each_member(group, |tree, member| {
                if may_signal(io, member) {
                    let _ = send::to_member(tree, member, info);
                }
            });
        }
    }
}

fn caller() -> Option<Arc<Process>> {
    thread::current().map(|thread| thread.process().clone())
}

/// What goes by an id of the caller's.
fn remembered(which: fn(&Process) -> Pid) -> Id {
    let Some(process) = caller() else {
        return Id::NONE;
    };
    let tree = tree::lock();
    tree.remember(which(&process)).unwrap_or(Id::NONE)
}

impl JobControl for FromTree {
    fn credentials(&self) -> Option<Arc<Credentials>> {
        thread::current().map(|thread| thread.credentials())
    }

    fn shown(&self, id: Id) -> i32 {
        let number = tree::lock().current(id).unwrap_or(0);
        caller().map_or(number, |process| process.shown(number))
    }

    fn find(&self, number: i32) -> Option<Id> {
        let pid = caller().map_or(Some(number), |process| process.find(number))?;
        tree::lock().remember(pid)
    }

    fn session(&self) -> Id {
        remembered(|process| process.session_id())
    }

    fn group(&self) -> Id {
        remembered(|process| process.group_id())
    }

    fn is_session_leader(&self) -> bool {
        caller().is_some_and(|process| process.session_id() == process.pid())
    }

    fn session_of_group(&self, group: Id) -> Option<Id> {
        let tree = tree::lock();
        let session = tree.session_of_group(tree.current(group)?)?;
        tree.remember(session)
    }

    fn group_is_orphaned(&self) -> bool {
        caller().is_some_and(|process| tree::lock().is_orphaned(process.group_id()))
    }

    fn is_blocked_or_ignored(&self, signal: u8) -> bool {
        let (Some(thread), Ok(signal)) = (thread::current(), Signal::new(i32::from(signal))) else {
            return false;
        };
        let action = thread.process().actions().lock().get(signal);
        thread.blocked().contains(signal) || action.disposition == Disposition::Ignore
    }

    fn signal_group(&self, group: Id, signal: u8) {
        let Ok(signal) = Signal::new(i32::from(signal)) else {
            return;
        };
        let mut tree = tree::lock();
        if let Some(group) = tree.current(group) {
            send::to_group(&mut tree, group, &SigInfo::kernel(signal));
        }
    }

    fn signal_session_leader(&self, session: Id, signal: u8) {
        let signal = Signal::new(i32::from(signal));
        if let (Some(leader), Ok(signal)) = (tree::process_by(session), signal) {
            // A standard signal always finds room.
            let _ = send::to_process(&leader, &SigInfo::kernel(signal));
        }
    }

    fn terminal(&self) -> Option<Terminal> {
        let session = caller()?.session_id();
        tree::lock().session_mut(session)?.terminal.clone()
    }

    fn set_terminal(&self, terminal: Option<Terminal>) -> Result<()> {
        let process = caller().ok_or(Errno::EPERM)?;
        let session = process.session_id();
        let mut tree = tree::lock();
        let entry = tree.session_mut(session).ok_or(Errno::EPERM)?;
        if terminal.is_some() && (session != process.pid() || entry.terminal.is_some()) {
            return Err(Errno::EPERM);
        }
        let old = core::mem::replace(&mut entry.terminal, terminal);
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

    fn disassociate(&self, session: Id) {
        let mut tree = tree::lock();
        let session = tree.current(session).and_then(|pid| tree.session_mut(pid));
        let old = session.and_then(|session| session.terminal.take());
        drop(tree);
        drop(old);
    }
}
