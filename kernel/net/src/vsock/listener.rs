//! A port that peers can connect to, and those who have.

use alloc::sync::Arc;

use abi::Result;
use collections::{VecDeque, try_arc};
use machine::sync::SpinLock;
use sched::WaitQueue;

use super::connection::Connection;

/// The queue of connections that wait for accept(2).
#[derive(Debug)]
pub(super) struct Listener {
    queue: SpinLock<Queue>,
    /// Woken when a connection arrives.
    pub(super) arrived: WaitQueue,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Arc<Connection>>,
    backlog: usize,
}

impl Listener {
    pub(super) fn new(backlog: usize) -> Result<Arc<Listener>> {
        let queue = Queue {
            waiting: VecDeque::new(),
            backlog,
        };
        Ok(try_arc(Listener {
            queue: SpinLock::new(queue),
            arrived: WaitQueue::new(),
        })?)
    }

    pub(super) fn set_backlog(&self, backlog: usize) {
        self.queue.lock().backlog = backlog;
    }

    /// Queues a connection; `false` when there is no room, or no memory.
    pub(super) fn offer(&self, connection: Arc<Connection>) -> bool {
        let mut queue = self.queue.lock();
        let has_room =
            queue.waiting.len() <= queue.backlog && queue.waiting.try_push_back(connection).is_ok();
        drop(queue);
        self.arrived.wake_one();
        has_room
    }

    pub(super) fn take(&self) -> Option<Arc<Connection>> {
        self.queue.lock().waiting.pop_front()
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.queue.lock().waiting.is_empty()
    }
}
