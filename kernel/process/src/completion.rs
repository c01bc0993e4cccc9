//! Something that happens once and is waited for: the end of vfork(2)'s borrowing.

use core::sync::atomic::{AtomicBool, Ordering};

use sched::WaitQueue;

use crate::thread::Thread;

/// Something that is waited for once.
#[derive(Debug, Default)]
pub(crate) struct Completion {
    done: AtomicBool,
    queue: WaitQueue,
}

impl Completion {
    /// It has happened.
    pub(crate) fn complete(&self) {
        self.done.store(true, Ordering::SeqCst);
        self.queue.wake_all();
    }

    /// Waits until it has happened, or `thread` is to exit.
    pub(crate) fn wait_killable(&self, thread: &Thread) {
        crate::wait_killable(&self.queue, thread, || {
            self.done.load(Ordering::SeqCst).then_some(())
        });
    }
}
