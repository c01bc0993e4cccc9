//! A process: a thread group and what its threads share.

use core::sync::atomic::{AtomicI32, Ordering};

use crate::Pid;

/// A thread group.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    parent: AtomicI32,
}

impl Process {
    /// Its id: that of its first thread.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The id of its parent; 0 when it has none.
    #[must_use]
    pub fn parent_pid(&self) -> Pid {
        self.parent.load(Ordering::Relaxed)
    }
}
