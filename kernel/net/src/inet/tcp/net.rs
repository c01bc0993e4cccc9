//! [`Net`]: what a connection reaches of the stack while it changes.

use alloc::sync::Arc;

use collections::VecDeque;
use sched::WaitQueue;

use crate::inet::packet::Packet;
use crate::inet::stack::Counters;

/// What a connection changes around it.
#[derive(Debug)]
pub(crate) struct Net<'a> {
    pub(crate) now: u64,
    pub(crate) out: &'a mut VecDeque<Packet>,
    /// Woken when the stack's lock is free.
    pub(crate) woken: &'a mut Woken,
    pub(crate) counters: &'a mut Counters,
}

impl Net<'_> {
    /// Sends a packet; one that finds no memory is lost, as packets are.
    pub(crate) fn send(&mut self, packet: Packet) {
        let _ = self.out.try_push_back(packet);
    }

    pub(crate) fn wake(&mut self, notice: Option<&Arc<WaitQueue>>) {
        if let Some(notice) = notice
            && !self.woken.ends_with(notice)
        {
            self.woken.push(notice);
        }
    }

    /// As [`Self::wake`], for waiters of whom each wake-up wakes one.
    pub(crate) fn wake_each(&mut self, notice: Option<&Arc<WaitQueue>>) {
        if let Some(notice) = notice {
            self.woken.push(notice);
        }
    }
}

/// Whom to wake when the stack's lock is free.
#[derive(Debug, Default)]
pub(crate) struct Woken {
    queues: [Option<Arc<WaitQueue>>; 8],
    len: usize,
}

impl Woken {
    fn ends_with(&self, notice: &Arc<WaitQueue>) -> bool {
        let last = self
            .len
            .checked_sub(1)
            .and_then(|last| self.queues.get(last));
        last.and_then(Option::as_ref)
            .is_some_and(|last| Arc::ptr_eq(last, notice))
    }

    fn push(&mut self, notice: &Arc<WaitQueue>) {
        match self.queues.get_mut(self.len) {
            Some(slot) => {
                *slot = Some(notice.clone());
                self.len += 1;
            }
            // Wait queues come behind the stack in the order of locks.
            None => notice.wake_one(),
        }
    }

    /// Wakes them.
    pub(crate) fn wake(self) {
        for queue in self.queues.into_iter().flatten() {
            queue.wake_one();
        }
    }
}
