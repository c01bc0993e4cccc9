//! A port that peers can connect to, and those who have.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use machine::sync::SpinLock;
use sched::WaitQueue;

use super::connection::Connection;

/// The queue of connections that wait for accept(2).
#[derive(Debug)]
pub(super) struct Listener {
    queue: SpinLock<Queue>,
    /// Woken when a connection arrives.
    pub(super) arrived: Arc<WaitQueue>,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Arc<Connection>>,
    backlog: usize,
}

impl Listener {
    pub(super) fn new(backlog: usize) -> Arc<Listener> {
        let queue = Queue {
            waiting: VecDeque::new(),
            backlog,
        };
        Arc::new(Listener {
            queue: SpinLock::new(queue),
            arrived: Arc::new(WaitQueue::new()),
        })
    }

    pub(super) fn set_backlog(&self, backlog: usize) {
        self.queue.lock().backlog = backlog;
    }

    /// Queues a connection; `false` when there is no room.
    pub(super) fn offer(&self, connection: Arc<Connection>) -> bool {
        let mut queue = self.queue.lock();
        let has_room = queue.waiting.len() <= queue.backlog;
        if has_room {
            queue.waiting.push_back(connection);
        }
        drop(queue);
        self.arrived.wake_all();
        has_room
    }

    pub(super) fn take(&self) -> Option<Arc<Connection>> {
        self.queue.lock().waiting.pop_front()
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.queue.lock().waiting.is_empty()
    }
}
