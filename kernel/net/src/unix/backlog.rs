//! Connections that wait for accept(2).

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use machine::sync::SpinLock;
use sched::WaitQueue;

use super::inbox::Inbox;
use super::socket::UnixSocket;
use crate::socket::Peer;

/// A listening socket's queue.
#[derive(Debug)]
pub(super) struct Backlog {
    state: SpinLock<State>,
    /// Woken when a connection comes or is taken, and when there will be none any more.
    pub(super) changed: Arc<WaitQueue>,
    /// Who listens.
    pub(super) owner: Peer,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Arc<UnixSocket>>,
    limit: usize,
    is_closed: bool,
}

impl Backlog {
    pub(super) fn new(limit: usize, owner: Peer) -> Arc<Backlog> {
        let state = State {
            waiting: VecDeque::new(),
            limit,
            is_closed: false,
        };
        let changed = Arc::new(WaitQueue::new());
        Arc::new(Backlog {
            state: SpinLock::new(state),
            changed,
            owner,
        })
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.state.lock().limit = limit;
        self.changed.wake_all();
    }

    /// Queues the far end of a new connection, waiting for room.
    pub(super) fn offer(
        &self,
        socket: &Arc<UnixSocket>,
        nonblocking: bool,
        deadline: Option<u64>,
    ) -> Result<()> {
        let step = || {
            let mut state = self.state.lock();
            if state.is_closed {
                return Some(Err(Errno::ECONNREFUSED));
            }
            if state.waiting.len() <= state.limit {
                state.waiting.push_back(socket.clone());
                return Some(Ok(()));
            }
            nonblocking.then_some(Err(Errno::EAGAIN))
        };
        self.changed.wait_interruptible_deadline(deadline, step)??;
        self.changed.wake_all();
        Ok(())
    }

    /// Takes a connection, waiting for one.
    pub(super) fn take(&self, nonblocking: bool, deadline: Option<u64>) -> Result<Arc<UnixSocket>> {
        let step = || {
            let mut state = self.state.lock();
            match state.waiting.pop_front() {
                Some(socket) => Some(Ok(socket)),
                None if state.is_closed => Some(Err(Errno::EINVAL)),
                None => nonblocking.then_some(Err(Errno::EAGAIN)),
            }
        };
        let taken = self.changed.wait_interruptible_deadline(deadline, step)??;
        self.changed.wake_all();
        Ok(taken)
    }

    /// The inboxes of those who wait.
    pub(super) fn inboxes(&self) -> Vec<Arc<Inbox>> {
        let state = self.state.lock();
        state
            .waiting
            .iter()
            .map(|socket| socket.inbox.clone())
            .collect()
    }

    pub(super) fn has_waiting(&self) -> bool {
        let state = self.state.lock();
        !state.waiting.is_empty() || state.is_closed
    }

    /// Nobody accepts any more: those who wait are reset.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let waiting = core::mem::take(&mut state.waiting);
        drop(state);
        waiting.iter().for_each(|socket| socket.reset_peer());
        drop(waiting);
        self.changed.wake_all();
    }
}
