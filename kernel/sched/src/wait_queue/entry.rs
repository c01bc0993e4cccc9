//! A thread's place in a queue while it waits: how [`crate::park`] puts it there and takes it away.

use super::WaitQueue;
use crate::park::Hook;
use crate::thread::{Thread, ThreadRef};

/// One wait on a queue.
pub(super) struct Entry<'a> {
    pub(super) queue: &'a WaitQueue,
    /// It is woken one at a time.
    pub(super) is_alone: bool,
}

impl Hook for Entry<'_> {
    fn enqueue(&self, thread: &ThreadRef, level: usize, was_woken: bool) {
        let mut waiters = self.queue.waiters.lock();
        let thread = thread.clone();
        // The link is free: this level of this thread waits here alone.
        let _ = if !self.is_alone {
            waiters
                .together
                .push_back(thread, |thread| thread.wait_link(level))
        } else if was_woken {
            waiters
                .alone
                .push_front(thread, |thread| thread.wait_link(level))
        } else {
            waiters
                .alone
                .push_back(thread, |thread| thread.wait_link(level))
        };
        self.queue.occupied.count_up(waiters.len());
    }

    fn dequeue(&self, thread: &Thread, level: usize) -> bool {
        let link = thread.wait_link(level);
        if !link.is_linked() {
            return false;
        }
        let mut waiters = self.queue.waiters.lock();
        let list = if self.is_alone {
            &mut waiters.alone
        } else {
            &mut waiters.together
        };
        let found = list.remove(link);
        self.queue.occupied.count_down(waiters.len());
        drop(waiters);
        found.is_some()
    }

    fn pass_on(&self) {
        if self.is_alone {
            self.queue.wake_one();
        }
    }

    #[cfg(any(feature = "checks", debug_assertions))]
    fn address(&self) -> usize {
        self.queue.address()
    }
}
