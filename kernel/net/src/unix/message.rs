//! Bytes on their way: one message, or one piece of a stream, with what comes along.
//!
//! The bytes are in pages (a small message is in one small allocation), so that no large contiguous memory is
//! needed. Whoever sends is charged for a message until it is gone, as Linux charges the `truesize` of
//! an `sk_buff`.
//!
//! Locking: `files` is a leaf, and changes only under [`super::flight::TAKING`].

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

use abi::{Errno, Result};
use collections::Vec;
use fs::File;
use machine::sync::SpinLock;
use machine::{Frame, PAGE_SIZE};
use memory::io::{IoReader, IoWriter};

use super::flight::InFlight;
use super::sock::Sock;
use crate::socket::Peer;

/// Up to this the bytes share an allocation with nothing else's; beyond it they get pages.
const SMALL: usize = 2048;
/// What Linux counts a message: `struct sk_buff`, and `struct skb_shared_info` behind the bytes.
const BUFFER: usize = 256;
const SHARED_INFO: usize = 320;
/// Linux's `SKB_MAX_HEAD(0)` and `SKB_MAX_ALLOC`: the bytes beside pages, of a stream's piece and of a message.
const STREAM_HEAD: usize = PAGE_SIZE - SHARED_INFO;
const MESSAGE_HEAD: usize = 4 * PAGE_SIZE - SHARED_INFO;
/// Linux's `UNIX_SKB_FRAGS_SZ`: bytes in pages of a piece of a stream.
const STREAM_PAGES: usize = 32 * 1024;
/// Most bytes in pages of a message (`MAX_SKB_FRAGS` pages).
const MESSAGE_PAGES: usize = 17 * PAGE_SIZE;

/// Bytes of a stream that go into one piece when `left` are to be sent and `send_buffer` may wait.
pub(super) fn stream_piece(left: usize, send_buffer: usize) -> usize {
    // Two pieces fit the buffer, so that reader and writer take turns.
    let half = (send_buffer / 2).saturating_sub(64);
    left.min(half).min(STREAM_HEAD + STREAM_PAGES)
}

/// What Linux charges for a piece of a stream of `len` bytes.
pub(super) fn stream_charge(len: usize) -> usize {
    let paged = len.saturating_sub(STREAM_HEAD).next_multiple_of(PAGE_SIZE);
    charge(len, paged.min(len))
}

/// What Linux charges for a message of `len` bytes.
pub(super) fn message_charge(len: usize) -> usize {
    let paged = len.saturating_sub(MESSAGE_HEAD).min(MESSAGE_PAGES);
    charge(len, paged.next_multiple_of(PAGE_SIZE).min(len))
}

fn charge(len: usize, paged: usize) -> usize {
    let head = (len - paged).next_multiple_of(64).max(64) + SHARED_INFO;
    head.next_power_of_two() + BUFFER + paged.next_multiple_of(PAGE_SIZE)
}

/// The bytes of a message.
#[derive(Debug)]
pub(super) enum Payload {
    Small(Vec<u8>),
    Pages { frames: Vec<Frame>, len: usize },
}

/// `EFAULT` unless all of `wanted` was moved.
fn whole(moved: usize, wanted: usize) -> Result<()> {
    if moved == wanted {
        Ok(())
    } else {
        Err(Errno::EFAULT)
    }
}

impl Payload {
    /// Copies `len` bytes of the caller.
    pub(super) fn take(from: &mut IoReader<'_>, len: usize) -> Result<Payload> {
        if len <= SMALL {
            let mut bytes = Vec::try_from_elem(0, len).map_err(|_| Errno::ENOBUFS)?;
            whole(from.read(&mut bytes)?, len)?;
            return Ok(Payload::Small(bytes));
        }
        let mut frames =
            Vec::try_with_capacity(len.div_ceil(PAGE_SIZE)).map_err(|_| Errno::ENOBUFS)?;
        for start in (0..len).step_by(PAGE_SIZE) {
            let step = (len - start).min(PAGE_SIZE);
            let frame = Frame::alloc_zeroed().map_err(|_| Errno::ENOBUFS)?;
            whole(from.read_frame(&frame, 0, step)?, step)?;
            frames.try_push(frame)?;
        }
        Ok(Payload::Pages { frames, len })
    }

    fn len(&self) -> usize {
        match self {
            Payload::Small(bytes) => bytes.len(),
            Payload::Pages { len, .. } => *len,
        }
    }

    /// Copies `len` bytes from `start` to the caller: all of them, or `EFAULT`.
    fn copy_to(&self, start: usize, len: usize, to: &mut IoWriter<'_>) -> Result<()> {
        let frames = match self {
            Payload::Small(bytes) => return whole(to.write(&bytes[start..start + len])?, len),
            Payload::Pages { frames, .. } => frames,
        };
        let (mut at, end) = (start, start + len);
        while at < end {
            let step = (end - at).min(PAGE_SIZE - at % PAGE_SIZE);
            let frame = &frames[at / PAGE_SIZE];
            whole(to.write_frame(frame, at % PAGE_SIZE, step)?, step)?;
            at += step;
        }
        Ok(())
    }
}

/// Bytes that a sender is charged for, until this is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    sender: Arc<Sock>,
    bytes: usize,
}

impl Charge {
    /// The caller has counted `bytes` for `sender`.
    pub(super) fn new(sender: Arc<Sock>, bytes: usize) -> Charge {
        Charge { sender, bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.sender.uncharge(self.bytes);
    }
}

/// A message. Who has the receiver's turn reads it; its place in the queue is that socket's.
#[derive(Debug)]
pub(super) struct Message {
    payload: Payload,
    /// Bytes that were read already (streams).
    read: AtomicUsize,
    has_files: bool,
    files: SpinLock<Option<InFlight>>,
    /// Who sent it, when either end wanted to know by then.
    pub(super) credentials: Option<Peer>,
    charge: Charge,
}

impl Message {
    pub(super) fn new(
        payload: Payload,
        files: Option<InFlight>,
        credentials: Option<Peer>,
        charge: Charge,
    ) -> Message {
        Message {
            payload,
            read: AtomicUsize::new(0),
            has_files: files.is_some(),
            files: SpinLock::new(files),
            credentials,
            charge,
        }
    }

    /// Bytes that were not read yet.
    pub(super) fn left(&self) -> usize {
        self.payload.len() - self.read.load(Ordering::Relaxed)
    }

    /// Copies the next `len` bytes, behind `skip` unread ones; they stay unread.
    pub(super) fn copy_to(&self, len: usize, to: &mut IoWriter<'_>) -> Result<()> {
        self.payload
            .copy_to(self.read.load(Ordering::Relaxed), len, to)
    }

    /// Counts `len` bytes as read.
    pub(super) fn use_up(&self, len: usize) {
        self.read.fetch_add(len, Ordering::Relaxed);
    }

    pub(super) fn sender(&self) -> &Arc<Sock> {
        &self.charge.sender
    }

    /// Whether it came with files, taken or not.
    pub(super) fn has_files(&self) -> bool {
        self.has_files
    }

    /// Takes the files; the caller holds [`super::flight::TAKING`].
    pub(super) fn take_files(&self) -> Option<InFlight> {
        self.files.lock().take()
    }

    /// Further handles to the files, for who peeks; as for `take_files`.
    pub(super) fn share_files(&self) -> Result<Vec<Arc<File>>> {
        match &*self.files.lock() {
            Some(files) => files.share(),
            None => Ok(Vec::new()),
        }
    }

    /// Shows the files.
    pub(super) fn each_file(&self, act: &mut impl FnMut(&Arc<File>)) {
        if let Some(files) = &*self.files.lock() {
            files.each(act);
        }
    }
}
