//! One stream: what was received and not read, what may be sent, who has shut down.
//!
//! Data alone; [`super::device`] sends what the methods say, [`super::socket`] waits.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{Vec, VecDeque, try_arc};
use machine::Frame;
use machine::sync::SpinLock;
use memory::io::IoWriter;
use sched::WaitQueue;
use vsock_packet::{Header, Key, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};

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

/// Small payloads that are copied together; a chunk of them stays below a page.
const TOGETHER: usize = 3 * SMALL;

/// Received bytes: `len` of them from `start` on.
#[derive(Debug)]
struct Chunk {
    place: Place,
    start: usize,
    len: usize,
}

#[derive(Debug)]
enum Place {
    Bytes(Vec<u8>),
    Frame(Frame),
}

/// A stream.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) key: Key,
    pub(super) state: SpinLock<State>,
    /// Woken for everything that a waiter may wait for.
    pub(super) changed: WaitQueue,
    /// Held by the reader whose turn it is; comes before `state`.
    turn: sched::Mutex<()>,
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
    pub(super) fn new(key: Key, phase: Phase) -> Result<Arc<Connection>> {
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
        Ok(try_arc(Connection {
            key,
            state: SpinLock::new(state),
            changed: WaitQueue::new(),
            turn: sched::Mutex::new(()),
        })?)
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

    /// Takes in `len` bytes at `start` of `frame`. `false` when the peer sent more than it may, or there is
    /// no memory to note them. A frame that is not kept comes back.
    pub(super) fn take_in(
        &mut self,
        frame: Frame,
        start: usize,
        len: usize,
    ) -> (bool, Option<Frame>) {
        if len > (RECEIVE_BUFFER as usize).saturating_sub(self.received_len) {
            return (false, Some(frame));
        }
        if len == 0 {
            // Nothing to keep, and nothing that a reader could take off.
            return (true, Some(frame));
        }
        if self.is_deaf {
            self.count_read(len);
            return (true, Some(frame));
        }
        if len <= SMALL && self.copy_in(&frame, start, len).is_ok() {
            self.received_len += len;
            return (true, Some(frame));
        }
        let place = Place::Frame(frame);
        let kept = self.received.try_push_back(Chunk { place, start, len });
        if kept.is_ok() {
            self.received_len += len;
        }
        (kept.is_ok(), None)
    }

    /// Copies a small payload to others like it.
    fn copy_in(&mut self, frame: &Frame, start: usize, len: usize) -> Result<()> {
        let mut bytes = [0; SMALL];
        let bytes = &mut bytes[..len];
        frame.read(start, bytes);
        if let Some(last) = self.received.back_mut()
            && let Place::Bytes(together) = &mut last.place
            && together.len() + len <= TOGETHER
        {
            together.try_extend_from_slice(bytes)?;
            last.len += len;
            return Ok(());
        }
        let place = Place::Bytes(Vec::try_from_slice(bytes)?);
        let chunk = Chunk {
            place,
            start: 0,
            len,
        };
        Ok(self.received.try_push_back(chunk)?)
    }

    /// Bytes that can be read.
    pub(super) fn available(&self) -> usize {
        self.received_len
    }

    /// The bytes received behind `skip` others, at most `max`: they stay until [`State::consume`].
    fn piece(&self, skip: usize, max: usize) -> Option<Piece> {
        let mut skip = skip;
        for chunk in &self.received {
            if skip >= chunk.len {
                skip -= chunk.len;
                continue;
            }
            let (start, len) = (chunk.start + skip, (chunk.len - skip).min(max));
            return Some(match &chunk.place {
                Place::Frame(frame) => Piece::Frame {
                    frame: frame.clone(),
                    start,
                    len,
                },
                Place::Bytes(together) => {
                    let len = len.min(SMALL);
                    let mut bytes = [0; SMALL];
                    bytes[..len].copy_from_slice(&together[start..start + len]);
                    Piece::Bytes(bytes, len)
                }
            });
        }
        None
    }

    /// Drops `len` bytes of the first chunk; its frame, when that is used up.
    fn consume(&mut self, len: usize) -> Option<Frame> {
        let first = self.received.front_mut()?;
        let len = len.min(first.len);
        first.start += len;
        first.len -= len;
        let is_used_up = first.len == 0;
        self.received_len -= len;
        self.count_read(len);
        let used = is_used_up.then(|| self.received.pop_front()).flatten()?;
        match used.place {
            Place::Frame(frame) => Some(frame),
            Place::Bytes(_) => None,
        }
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

    /// Takes out what was received, for the caller to drop without the lock.
    pub(super) fn discard(&mut self) -> Discarded {
        self.count_read(self.received_len);
        self.received_len = 0;
        Discarded {
            _chunks: core::mem::take(&mut self.received),
        }
    }
}

/// Received bytes that nobody reads.
pub(super) struct Discarded {
    _chunks: VecDeque<Chunk>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "on the stack of one function, which copies from it at once"
)]
enum Piece {
    Bytes([u8; SMALL], usize),
    Frame {
        frame: Frame,
        start: usize,
        len: usize,
    },
}

/// Copies received bytes to `to`, and takes them off unless `peek`; how many. Frames that are free again go to
/// `recycle`. User memory is touched without the lock.
pub(super) fn copy_out(
    connection: &Connection,
    to: &mut IoWriter<'_>,
    peek: bool,
    recycle: impl Fn(Frame),
) -> Result<usize> {
    // Between a look and the taking off another reader would take the same bytes, and take off those behind them.
    let _turn = connection.turn.lock();
    let mut done = 0;
    while to.remaining() > 0 {
        let skip = if peek { done } else { 0 };
        let Some(piece) = connection.state.lock().piece(skip, to.remaining()) else {
            break;
        };
        let (copied, wanted) = match &piece {
            Piece::Bytes(bytes, len) => (to.write(&bytes[..*len]), *len),
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
            let used = connection.state.lock().consume(count);
            used.into_iter().for_each(&recycle);
        }
        if count < wanted {
            break;
        }
        sched::cond_resched();
    }
    Ok(done)
}
