//! Something that happens once and is waited for: the end of vfork(2)'s borrowing.

use core::sync::atomic::{AtomicBool, Ordering};

use sched::WaitQueue;

/// Something that happens once.
#[derive(Debug, Default)]
pub(crate) struct Completion {
    done: AtomicBool,
    /// Where it is waited for.
    pub(crate) queue: WaitQueue,
}

impl Completion {
    /// It has happened.
    pub(crate) fn complete(&self) {
        self.done.store(true, Ordering::SeqCst);
        self.queue.wake_all();
    }

    /// Whether it has happened.
    pub(crate) fn is_complete(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }
}
