//! What a socket has received and not been asked for, and whether more can come.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use fs::File;
use machine::sync::SpinLock;
use sched::WaitQueue;

use super::flight::InFlight;
use crate::address::UnixName;
use crate::socket::Peer;

/// Messages that may wait regardless of their size.
const MESSAGES_MAX: usize = 1024;

/// Bytes on their way, with what came along.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) bytes: Arc<Vec<u8>>,
    /// How many of them were read already (streams).
    pub(super) read: usize,
    pub(super) files: InFlight,
    pub(super) sender: Peer,
    pub(super) from: UnixName,
}

impl Message {
    /// Bytes that were not read yet.
    pub(super) fn left(&self) -> &[u8] {
        &self.bytes[self.read..]
    }
}

/// A socket's inbox.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) state: SpinLock<State>,
    /// Woken when there is more to read, or will be no more.
    pub(super) arrived: WaitQueue,
    /// Woken when there is room for more, or nobody will read it.
    pub(super) room: WaitQueue,
    /// Held by the reader whose turn it is, while it copies.
    pub(super) turn: sched::Mutex<()>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    messages: VecDeque<Message>,
    /// Bytes of all messages that were not read.
    len: usize,
    /// Nobody will send any more.
    pub(super) is_finished: bool,
    /// Nobody will read any more: sending is `EPIPE`.
    pub(super) is_deaf: bool,
    /// The other end went away with bytes of ours unread.
    pub(super) was_reset: bool,
    /// The socket is gone.
    pub(super) is_closed: bool,
}

impl Inbox {
    pub(super) fn new() -> Arc<Inbox> {
        Arc::new(Inbox {
            state: SpinLock::default(),
            arrived: WaitQueue::new(),
            room: WaitQueue::new(),
            turn: sched::Mutex::new(()),
        })
    }

    /// Changes the state and wakes whoever waits for that.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.state.lock());
        self.wake_all();
        result
    }

    pub(super) fn wake_all(&self) {
        self.arrived.wake_all();
        self.room.wake_all();
    }
}

impl State {
    /// Whether a message of `len` bytes may be added when `limit` bytes may wait.
    pub(super) fn has_room(&self, len: usize, limit: usize) -> bool {
        self.messages.is_empty()
            || self.messages.len() < MESSAGES_MAX && self.len.saturating_add(len) <= limit
    }

    /// Whether a sender may hope: the inbox is not full by half.
    pub(super) fn is_writable(&self, limit: usize) -> bool {
        self.messages.len() < MESSAGES_MAX && self.len <= limit / 2
    }

    pub(super) fn push(&mut self, message: Message) {
        self.len += message.left().len();
        self.messages.push_back(message);
    }

    /// Takes the first message.
    pub(super) fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.len -= message.left().len();
        Some(message)
    }

    /// Puts back the first message, which was read in part.
    pub(super) fn push_front(&mut self, message: Message) {
        self.len += message.left().len();
        self.messages.push_front(message);
    }

    /// Shows the files in all messages.
    pub(super) fn each_file(&self, mut act: impl FnMut(&Arc<File>)) {
        self.messages
            .iter()
            .for_each(|message| message.files.each(&mut act));
    }

    pub(super) fn get(&self, index: usize) -> Option<&Message> {
        self.messages.get(index)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes that can be read.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Throws everything away, for the caller to drop without the lock.
    pub(super) fn clear(&mut self) -> VecDeque<Message> {
        self.len = 0;
        core::mem::take(&mut self.messages)
    }
}
