//! Connections that wait for accept(2).
//!
//! Locking: `state` is above the list of [`super::flight`], and never held while a socket's state is taken.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{VecDeque, try_arc};
use machine::sync::SpinLock;
use sched::WaitQueue;

use super::socket::UnixSocket;
use crate::options;

/// A listening socket's queue.
#[derive(Debug)]
pub(super) struct Backlog {
    state: SpinLock<State>,
    /// Woken when a connection comes, one waiter for each, and when there will be none any more.
    pub(super) changed: WaitQueue,
    /// Woken when there is room, one waiter for each, and when nobody can connect any more.
    room: WaitQueue,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<UnixSocket>>,
    limit: usize,
    /// Nobody can connect any more.
    is_shut: bool,
}

impl Backlog {
    pub(super) fn new(limit: usize) -> Result<Arc<Backlog>> {
        let state = State {
            limit,
            ..State::default()
        };
        Ok(try_arc(Backlog {
            state: SpinLock::new(state),
            changed: WaitQueue::new(),
            room: WaitQueue::new(),
        })?)
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.state.lock().limit = limit;
        self.room.wake_all();
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
            if state.is_shut {
                return Some(Err(Errno::ECONNREFUSED));
            }
            if state.waiting.len() <= state.limit {
                let taken = state.waiting.try_push_back(socket.clone());
                return Some(taken.map_err(Errno::from));
            }
            nonblocking.then_some(Err(Errno::EAGAIN))
        };
        wait(&self.room, deadline, step)?;
        self.changed.wake_one();
        Ok(())
    }

    /// Takes a connection, waiting for one.
    pub(super) fn take(&self, nonblocking: bool, deadline: Option<u64>) -> Result<Arc<UnixSocket>> {
        let step = || {
            let mut state = self.state.lock();
            match state.waiting.pop_front() {
                Some(socket) => Some(Ok(socket)),
                None if nonblocking => Some(Err(Errno::EAGAIN)),
                None => state.is_shut.then_some(Err(Errno::EINVAL)),
            }
        };
        let taken = wait(&self.changed, deadline, step)?;
        self.room.wake_one();
        Ok(taken)
    }

    /// Shows those who wait.
    pub(super) fn each(&self, act: impl FnMut(&Arc<UnixSocket>)) {
        self.state.lock().waiting.iter().for_each(act);
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.state.lock().waiting.is_empty()
    }

    /// Nobody connects any more; those who wait can still be accepted.
    pub(super) fn shut(&self) {
        self.state.lock().is_shut = true;
        self.changed.wake_all();
        self.room.wake_all();
    }

    /// Nobody accepts any more: those who wait are reset as they go.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_shut = true;
        let waiting = core::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
        self.changed.wake_all();
        self.room.wake_all();
    }
}

fn wait<R>(
    queue: &WaitQueue,
    deadline: Option<u64>,
    step: impl FnMut() -> Option<Result<R>>,
) -> Result<R> {
    queue
        .wait_interruptible_alone(deadline, step)
        .map_err(|errno| options::end_of_wait(errno, deadline))?
}
