//! [`Sock`]: what a unix socket is to other sockets, as `struct sock` is to Linux's `struct socket`.
//!
//! It outlives the [`super::UnixSocket`] that programs hold: a message keeps its sender's, a connected socket
//! its peer's. [`Sock::release`] takes everything out of it, so that no circle of them stays.
//!
//! Locking: `state` is a leaf but for the files of messages and the list of [`super::flight`]; never the states
//! of two sockets. Nothing is dropped and no user memory touched with it held. `turn` (sleeping) is held by
//! the reader whose turn it is, and comes before all others.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

use abi::{Errno, Result};
use collections::{VecDeque, try_arc};
use fs::{Credentials, File};
use machine::sync::SpinLock;
use sched::WaitQueue;

use super::backlog::Backlog;
use super::flight::{self, Mark};
use super::message::{Charge, Message};
use super::names::Bound;
use crate::address::UnixName;
use crate::namespace::Network;
use crate::options::{self, Options};
use crate::socket::{Owner, SocketType};

/// Messages that wait before senders who are not the peer have to (`net.unix.max_dgram_qlen`).
const QUEUE_MAX: usize = 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Sock {
    pub(super) kind: SocketType,
    /// Whose abstract names it has and finds.
    pub(super) namespace: Network,
    pub(super) options: Options,
    pub(super) state: SpinLock<State>,
    /// Woken when there is more to read, room to send, or an end of either.
    pub(super) changed: WaitQueue,
    /// Woken when the queue may have room again for messages of strangers.
    pub(super) room: WaitQueue,
    pub(super) turn: sched::Mutex<()>,
    /// Bytes charged for messages that were sent from here and are still there (`sk_wmem_alloc`).
    charged: AtomicUsize,
    pub(super) mark: Mark,
}

/// Where a socket is in its life.
#[derive(Debug, Clone, Default)]
pub(super) enum Phase {
    #[default]
    Closed,
    /// connect(2) is under way.
    Connecting,
    Listening(Arc<Backlog>),
    /// Connected, or a datagram socket that has a peer.
    Connected,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) name: UnixName,
    pub(super) bound: Option<Bound>,
    pub(super) peer: Option<Arc<Sock>>,
    /// Who was at the other end when it connected, or listens here.
    pub(super) peer_owner: Option<Owner>,
    messages: VecDeque<Arc<Message>>,
    /// Unread bytes of all messages.
    len: usize,
    /// `RCV_SHUTDOWN`: nothing more will be received.
    pub(super) ends_receiving: bool,
    /// `SEND_SHUTDOWN`.
    pub(super) ends_sending: bool,
    /// `sk_err`: told once.
    pub(super) error: Option<Errno>,
    /// The program's socket is gone.
    pub(super) is_dead: bool,
    /// Nobody has accepted it yet.
    pub(super) is_embryo: bool,
}

impl Sock {
    pub(super) fn new(kind: SocketType, namespace: Network) -> Result<Arc<Sock>> {
        Ok(try_arc(Sock {
            kind,
            namespace,
            options: Options::default(),
            state: SpinLock::default(),
            changed: WaitQueue::new(),
            room: WaitQueue::new(),
            turn: sched::Mutex::new(()),
            charged: AtomicUsize::new(0),
            mark: Mark::default(),
        })?)
    }

    /// Changes the state and wakes whoever waits for that.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.state.lock());
        self.changed.wake_all();
        result
    }

    pub(super) fn name(&self) -> UnixName {
        self.state.lock().name
    }

    pub(super) fn peer(&self) -> Option<Arc<Sock>> {
        self.state.lock().peer.clone()
    }

    pub(super) fn backlog(&self) -> Option<Arc<Backlog>> {
        match &self.state.lock().phase {
            Phase::Listening(backlog) => Some(backlog.clone()),
            Phase::Closed | Phase::Connecting | Phase::Connected => None,
        }
    }

    /// Bytes charged now.
    pub(super) fn charged(&self) -> usize {
        self.charged.load(Ordering::Relaxed)
    }

    /// Whether poll(2) says that there is room to send (`unix_writable`).
    pub(super) fn is_writable(&self) -> bool {
        self.charged() <= self.options.send_buffer() as usize / 4
    }

    /// Waits until the send buffer takes a message, and charges `bytes` for it.
    pub(super) fn charge(self: &Arc<Sock>, bytes: usize, nonblocking: bool) -> Result<Charge> {
        let deadline = self.options.send_deadline();
        let look = || {
            let mut state = self.state.lock();
            if let Some(errno) = state.error.take() {
                return Some(Err(errno));
            }
            if state.ends_sending {
                return Some(Err(Errno::EPIPE));
            }
            // Under the lock, so that two senders do not both find the last room.
            if self.charged() < self.options.send_buffer() as usize {
                self.charged.fetch_add(bytes, Ordering::Relaxed);
                return Some(Ok(()));
            }
            nonblocking.then_some(Err(Errno::EAGAIN))
        };
        self.changed
            .wait_interruptible_deadline(deadline, look)
            .map_err(|errno| options::end_of_wait(errno, deadline))??;
        Ok(Charge::new(self.clone(), bytes))
    }

    /// A message is gone.
    pub(super) fn uncharge(&self, bytes: usize) {
        self.charged.fetch_sub(bytes, Ordering::Relaxed);
        if self.is_writable() {
            self.changed.wake_all();
        }
    }

    /// What SCM_CREDENTIALS of a message from here to `other` says, when either end wants it.
    pub(super) fn wants_credentials(&self, other: &Sock) -> bool {
        self.options.passes_credentials()
            || other.options.passes_credentials()
            || other.state.lock().is_embryo
    }

    /// The program's socket is gone: nothing is received any more, the peer is told, names are free.
    pub(super) fn release(self: &Arc<Sock>) {
        flight::forget(self);
        let mut state = self.state.lock();
        (state.ends_receiving, state.ends_sending) = (true, true);
        state.is_dead = true;
        let was_embryo = state.is_embryo;
        let phase = core::mem::take(&mut state.phase);
        let (peer, bound) = (state.peer.take(), state.bound.take());
        let (unread, _) = state.clear();
        drop(state);
        self.changed.wake_all();
        self.room.wake_all();
        if let Some(peer) = peer.filter(|_| self.kind != SocketType::Datagram) {
            peer.change(|state| {
                (state.ends_receiving, state.ends_sending) = (true, true);
                if was_embryo || !unread.is_empty() {
                    state.error = Some(Errno::ECONNRESET);
                }
            });
        }
        if let Phase::Listening(backlog) = phase {
            backlog.close();
        }
        drop((unread, bound));
        flight::released();
    }

    /// Who asks for SO_PEERCRED and its kin learns this.
    pub(super) fn peer_owner(&self) -> Option<(crate::socket::Peer, Arc<Credentials>)> {
        let state = self.state.lock();
        let owner = state.peer_owner.as_ref()?;
        Some((owner.peer.clone(), owner.credentials.clone()))
    }

    /// Shows the files in all messages.
    pub(super) fn each_file(&self, mut act: impl FnMut(&Arc<File>)) {
        let state = self.state.lock();
        state
            .messages
            .iter()
            .filter(|message| message.has_files())
            .for_each(|message| message.each_file(&mut act));
    }
}

impl State {
    /// Whether messages of `sender` are welcome: not once this is connected to another.
    pub(super) fn takes_from(&self, sender: &Arc<Sock>) -> bool {
        self.peer
            .as_ref()
            .is_none_or(|peer| Arc::ptr_eq(peer, sender))
    }

    /// Whether a sender who is not the peer has to wait.
    pub(super) fn is_full(&self) -> bool {
        self.messages.len() > QUEUE_MAX
    }

    pub(super) fn push(&mut self, message: &Arc<Message>) -> Result<()> {
        self.messages.try_push_back(message.clone())?;
        self.len += message.left();
        Ok(())
    }

    /// Takes `message` off the front, where it is unless somebody threw everything away.
    #[must_use]
    pub(super) fn pop(&mut self, message: &Arc<Message>) -> Option<Arc<Message>> {
        let is_first = self
            .messages
            .front()
            .is_some_and(|first| Arc::ptr_eq(first, message));
        let first = is_first.then(|| self.messages.pop_front()).flatten()?;
        self.len = self.len.saturating_sub(first.left());
        Some(first)
    }

    /// Counts `len` bytes of `message`, the first, as read.
    pub(super) fn use_up(&mut self, message: &Message, len: usize) {
        message.use_up(len);
        self.len = self.len.saturating_sub(len);
    }

    pub(super) fn get(&self, index: usize) -> Option<&Arc<Message>> {
        self.messages.get(index)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Unread bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes everything out, for the caller to drop without the lock.
    #[must_use]
    pub(super) fn clear(&mut self) -> (VecDeque<Arc<Message>>, usize) {
        let len = core::mem::take(&mut self.len);
        (core::mem::take(&mut self.messages), len)
    }
}
