//! The process of a machine: the one that was started, or the one that it went on as.
//!
//! A process cannot enter a new namespace of processes, only have its children be born there. So a VMM goes on as a
//! sibling of the one that was started, which ends; both are children of this process, which reaps both.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// A child, alive or not reaped yet, or its last status.
#[derive(Debug)]
pub(super) struct Worker {
    started: Child,
    moved: Option<Moved>,
}

#[derive(Debug)]
struct Moved {
    pid: Pid,
    ended: Option<ExitStatus>,
}

impl Worker {
    pub(super) fn new(started: Child) -> Self {
        Self {
            started,
            moved: None,
        }
    }

    /// It goes on as this process. A VMM says so before it has seen its guest, and once.
    pub(super) fn moved(&mut self, pid: i32) {
        if let (None, Some(pid)) = (&self.moved, Pid::from_raw(pid)) {
            // It has nothing left to do but to end.
            let _ = self.started.wait();
            self.moved = Some(Moved { pid, ended: None });
        }
    }

    pub(super) fn pid(&self) -> u32 {
        match &self.moved {
            Some(moved) => moved.pid.as_raw_pid().unsigned_abs(),
            None => self.started.id(),
        }
    }

    pub(super) fn kill(&mut self) -> io::Result<()> {
        match &self.moved {
            None => self.started.kill(),
            Some(Moved { ended: Some(_), .. }) => Ok(()),
            Some(moved) => Ok(kill_process(moved.pid, Signal::KILL)?),
        }
    }

    /// How it ended, if it has.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(moved) = &mut self.moved else {
            return self.started.try_wait();
        };
        if moved.ended.is_none() {
            let waited = waitpid(Some(moved.pid), WaitOptions::NOHANG)?;
            moved.ended = waited.map(|(_, status)| ExitStatus::from_raw(status.as_raw()));
        }
        Ok(moved.ended)
    }
}
