//! A user thread: what the kernel knows of it beside its registers.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicI32, Ordering};

use crate::{Pid, Process};

/// A user thread; the extension of its kernel thread.
#[derive(Debug)]
pub struct Thread {
    /// Its id. exec by a thread that is not the first makes it the first, so it can change.
    tid: AtomicI32,
    process: Arc<Process>,
}

impl Thread {
    /// Its id.
    #[must_use]
    pub fn tid(&self) -> Pid {
        self.tid.load(Ordering::Relaxed)
    }

    /// The process it belongs to.
    #[must_use]
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }
}
