//! One stream: what was received and not read, what may be sent, who has shut down.
//!
//! Data alone; [`super::device`] sends what the methods say, [`super::socket`] waits.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use machine::Frame;
use machine::sync::SpinLock;
use memory::io::IoWriter;
use sched::WaitQueue;

use super::packet::{Header, Key, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};

/// Bytes the peer may have sent that were not read yet.
pub(super) const RECEIVE_BUFFER: u32 = 256 * 1024;
/// Payloads up to this are copied together instead of holding a frame each.
const SMALL: usize = 1024;
/// The peer is told of room once this much has been read since it last heard.
const CREDIT_STEP: u32 = RECEIVE_BUFFER / 4;

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Asked for, not answered.
    Connecting,
    /// Both ends know of it.
    Established,
    /// Over.
    Closed,
}

/// Received bytes.
#[derive(Debug)]
enum Chunk {
    Bytes(VecDeque<u8>),
    Frame {
        frame: Frame,
        start: usize,
        len: usize,
    },
}

impl Chunk {
    fn len(&self) -> usize {
        match self {
            Chunk::Bytes(bytes) => bytes.len(),
            Chunk::Frame { len, .. } => *len,
        }
    }
}

/// A stream.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) key: Key,
    pub(super) state: SpinLock<State>,
    /// Woken for everything that a waiter may wait for.
    pub(super) changed: Arc<WaitQueue>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// Why it is over, when that is an error; taken by who reports it.
    pub(super) error: Option<Errno>,
    received: VecDeque<Chunk>,
    received_len: usize,
    /// Bytes read by the application, ever.
    forwarded: u32,
    /// What the peer last heard of `forwarded`.
    told: u32,
    /// Bytes sent, ever.
    sent: u32,
    peer_buffer: u32,
    peer_forwarded: u32,
    /// The peer receives no more.
    pub(super) peer_is_deaf: bool,
    /// The peer sends no more.
    pub(super) peer_is_done: bool,
    /// Receiving was shut down here.
    pub(super) is_deaf: bool,
    /// Sending was shut down here.
    pub(super) is_done: bool,
    /// The peer asked to be told of room at once.
    owes_credit: bool,
}

impl Connection {
    pub(super) fn new(key: Key, phase: Phase) -> Arc<Connection> {
        let state = State {
            phase,
            error: None,
            received: VecDeque::new(),
            received_len: 0,
            forwarded: 0,
            told: 0,
            sent: 0,
            peer_buffer: 0,
            peer_forwarded: 0,
            peer_is_deaf: false,
            peer_is_done: false,
            is_deaf: false,
            is_done: false,
            owes_credit: false,
        };
        let changed = Arc::new(WaitQueue::new());
        Arc::new(Connection {
            key,
            state: SpinLock::new(state),
            changed,
        })
    }

    /// Marks it over and wakes whoever waits.
    pub(super) fn close(&self, error: Option<Errno>) {
        let mut state = self.state.lock();
        state.phase = Phase::Closed;
        state.error = state.error.or(error);
        drop(state);
        self.changed.wake_all();
    }
}

impl State {
    /// Takes in the credit that every packet carries.
    pub(super) fn learn_credit(&mut self, header: &Header) {
        self.peer_buffer = header.buf_alloc.get();
        self.peer_forwarded = header.fwd_cnt.get();
    }

    /// Writes our credit into a packet that is about to be sent.
    pub(super) fn tell_credit(&mut self, header: &mut Header) {
        header.buf_alloc = RECEIVE_BUFFER.into();
        header.fwd_cnt = self.forwarded.into();
        self.told = self.forwarded;
        self.owes_credit = false;
    }

    /// Bytes that the peer has room for.
    pub(super) fn credit(&self) -> usize {
        let on_the_way = self.sent.wrapping_sub(self.peer_forwarded);
        self.peer_buffer.saturating_sub(on_the_way) as usize
    }

    /// Counts bytes that are sent.
    pub(super) fn count_sent(&mut self, len: u32) {
        self.sent = self.sent.wrapping_add(len);
    }

    /// Takes in `len` bytes at `start` of `frame`. `false` when the peer sent more than it may.
    /// A frame that is not kept comes back.
    pub(super) fn take_in(
        &mut self,
        frame: Frame,
        start: usize,
        len: usize,
    ) -> (bool, Option<Frame>) {
        if len > (RECEIVE_BUFFER as usize).saturating_sub(self.received_len) {
            return (false, Some(frame));
        }
        if self.is_deaf {
            self.count_read(len);
            return (true, Some(frame));
        }
        self.received_len += len;
        if len > SMALL {
            self.received.push_back(Chunk::Frame { frame, start, len });
            return (true, None);
        }
        let mut bytes = alloc::vec![0; len];
        frame.read(start, &mut bytes);
        match self.received.back_mut() {
            Some(Chunk::Bytes(last)) => last.extend(bytes),
            _ => self.received.push_back(Chunk::Bytes(bytes.into())),
        }
        (true, Some(frame))
    }

    /// Bytes that can be read.
    pub(super) fn available(&self) -> usize {
        self.received_len
    }

    /// The first bytes received, at most `max`, and whether they end a chunk: they stay until
    /// [`State::consume`].
    fn first(&self, skip: usize, max: usize) -> Option<Piece> {
        let mut skip = skip;
        for chunk in &self.received {
            if skip >= chunk.len() {
                skip -= chunk.len();
                continue;
            }
            return Some(match chunk {
                Chunk::Frame { frame, start, len } => Piece::Frame {
                    frame: frame.clone(),
                    start: start + skip,
                    len: (len - skip).min(max),
                },
                Chunk::Bytes(bytes) => {
                    Piece::Bytes(bytes.iter().skip(skip).take(max).copied().collect())
                }
            });
        }
        None
    }

    /// Drops `len` bytes from the front; frames that are used up are returned.
    fn consume(&mut self, len: usize) -> Vec<Frame> {
        let mut left = len.min(self.received_len);
        let mut used = Vec::new();
        self.received_len -= left;
        self.count_read(left);
        while left > 0 {
            let Some(chunk) = self.received.front_mut() else {
                break;
            };
            let step = left.min(chunk.len());
            match chunk {
                Chunk::Bytes(bytes) => drop(bytes.drain(..step)),
                Chunk::Frame { start, len, .. } => {
                    *start += step;
                    *len -= step;
                }
            }
            left -= step;
            if chunk.len() == 0
                && let Some(Chunk::Frame { frame, .. }) = self.received.pop_front()
            {
                used.push(frame);
            }
        }
        used
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most RECEIVE_BUFFER")]
    fn count_read(&mut self, len: usize) {
        self.forwarded = self.forwarded.wrapping_add(len as u32);
    }

    /// Notes that the peer wants to hear of room.
    pub(super) fn owe_credit(&mut self) {
        self.owes_credit = true;
    }

    /// Whether the peer should be told of room now.
    pub(super) fn should_tell(&self) -> bool {
        self.owes_credit || self.forwarded.wrapping_sub(self.told) >= CREDIT_STEP
    }

    /// The peer has shut directions down; whether it is over with that.
    pub(super) fn peer_shut_down(&mut self, flags: u32) -> bool {
        self.peer_is_deaf |= flags & SHUTDOWN_RECEIVE != 0;
        self.peer_is_done |= flags & SHUTDOWN_SEND != 0;
        self.peer_is_deaf && self.peer_is_done
    }

    /// Throws away what was received; the frames.
    pub(super) fn discard(&mut self) -> Vec<Frame> {
        self.consume(self.received_len)
    }
}

enum Piece {
    Bytes(Vec<u8>),
    Frame {
        frame: Frame,
        start: usize,
        len: usize,
    },
}

/// Copies received bytes to `to`, and takes them off unless `peek`; how many, and the frames that
/// are free again. User memory is touched without the lock; readers take turns by `turn`.
pub(super) fn copy_out(
    connection: &Connection,
    to: &mut IoWriter<'_>,
    peek: bool,
) -> Result<(usize, Vec<Frame>)> {
    let mut done = 0;
    let mut used = Vec::new();
    while to.remaining() > 0 {
        let skip = if peek { done } else { 0 };
        let Some(piece) = connection.state.lock().first(skip, to.remaining()) else {
            break;
        };
        let (copied, wanted) = match &piece {
            Piece::Bytes(bytes) => (to.write(bytes), bytes.len()),
            Piece::Frame { frame, start, len } => (to.write_frame(frame, *start, *len), *len),
        };
        drop(piece);
        let count = match copied {
            Ok(count) => count,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        };
        done += count;
        if !peek {
            used.extend(connection.state.lock().consume(count));
        }
        if count < wanted {
            break;
        }
    }
    Ok((done, used))
}
