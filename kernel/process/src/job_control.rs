//! What terminals ask of processes: the implementation of [`fs::job_control::JobControl`].

use alloc::sync::Arc;

use abi::{Errno, Result};
use fs::job_control::{JobControl, Terminal};

use crate::signal::{Disposition, SigInfo, Signal, send};
use crate::{Process, thread, tree};

/// Answers from the tree, for the calling thread.
pub(crate) struct FromTree;

fn caller() -> Option<Arc<Process>> {
    thread::current().map(|thread| thread.process().clone())
}

impl JobControl for FromTree {
    fn shown(&self, id: i32) -> i32 {
        caller().map_or(id, |process| process.shown(id))
    }

    fn find(&self, number: i32) -> Option<i32> {
        caller().map_or(Some(number), |process| process.find(number))
    }

    fn session(&self) -> i32 {
        caller().map_or(0, |process| process.session_id())
    }

    fn group(&self) -> i32 {
        caller().map_or(0, |process| process.group_id())
    }

    fn is_session_leader(&self) -> bool {
        caller().is_some_and(|process| process.session_id() == process.pid())
    }

    fn session_of_group(&self, group: i32) -> Option<i32> {
        tree::lock().session_of_group(group)
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

    fn signal_group(&self, group: i32, signal: u8) {
        if let Ok(signal) = Signal::new(i32::from(signal)) {
            send::to_group(group, &SigInfo::kernel(signal));
        }
    }

    fn signal_session_leader(&self, session: i32, signal: u8) {
        if let (Some(leader), Ok(signal)) = (tree::process(session), Signal::new(i32::from(signal)))
        {
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

    fn disassociate(&self, session: i32) {
        let old = tree::lock()
            .session_mut(session)
            .and_then(|entry| entry.terminal.take());
        drop(old);
    }
}
