//! References to nodes that are to be given back to the server (FORGET, as BATCH_FORGET).
//!
//! A lookup that is never forgotten keeps an open descriptor at most servers, so none may be lost, and many inodes go at
//! once when memory is short. What the queue has no room for waits in a list of fixed size and goes with a later batch.
//!
//! Locking: `pending`, a leaf but for the queue's own lock.

use abi::Result;
use alloc::sync::Arc;
use collections::{Vec, try_arc};
use machine::PAGE_SIZE;
use machine::sync::SpinLock;
use machine::virtio::Segment;
use zerocopy::IntoBytes;

use super::connection::CallQueue;
use super::message::FramePool;
use super::slot::Call;
use super::wire::{BatchForgetIn, ForgetOne, InHeader, Op};

const HEAD: usize = size_of::<InHeader>() + size_of::<BatchForgetIn>();
/// As many as one frame takes.
const MOST: usize = (PAGE_SIZE - HEAD) / size_of::<ForgetOne>();

#[derive(Debug)]
pub(super) struct Forgets {
    /// The device's queue for what has no reply.
    queue: Arc<CallQueue>,
    /// Has room for [`MOST`].
    pending: SpinLock<Vec<ForgetOne>>,
    /// Stands with each batch: nobody waits for one.
    call: Arc<Call>,
}

impl Forgets {
    pub(super) fn new(queue: Arc<CallQueue>) -> Result<Self> {
        Ok(Self {
            queue,
            pending: SpinLock::new(Vec::try_with_capacity(MOST)?),
            call: try_arc(Call::default())?,
        })
    }

    /// Adds references to `node` to what is to be forgotten; whether there was room.
    pub(super) fn add(&self, node: u64, lookups: u64) -> bool {
        let one = ForgetOne {
            nodeid: node,
            nlookup: lookups,
        };
        self.pending.lock().push_within_capacity(one).is_ok()
    }

    /// Sends what is pending, if the queue has room for it and there is memory.
    pub(super) fn send(&self, unique: u64, frames: &FramePool) {
        if self.pending.lock().is_empty() {
            return;
        }
        let (Ok(frame), Ok(mut readable)) = (frames.take(), Vec::try_with_capacity(1)) else {
            return;
        };
        let mut pending = self.pending.lock();
        let len = HEAD + size_of_val(pending.as_slice());
        let count = u32::try_from(pending.len()).unwrap_or(0);
        let header = InHeader {
            len: u32::try_from(len).unwrap_or(0),
            opcode: Op::BatchForget as u32,
            unique,
            ..InHeader::default()
        };
        let batch = BatchForgetIn { count, padding: 0 };
        let mut at = 0;
        for bytes in [
            header.as_bytes(),
            batch.as_bytes(),
            pending.as_slice().as_bytes(),
        ] {
            frame.write(at, bytes);
            at += bytes.len();
        }
        let Some(segment) = Segment::new(frame, 0, len) else {
            return;
        };
        // There is room for one.
        let _ = readable.push_within_capacity(segment);
        match self.queue.add(readable, Vec::new(), self.call.clone()) {
            Ok(()) => pending.clear(),
            Err(rejected) => rejected
                .readable
                .into_iter()
                .for_each(|segment| frames.put(segment.into_frame())),
        }
        drop(pending);
        self.queue.kick();
    }

    /// Takes the frames of what the device has read back.
    pub(super) fn take_completed(&self, frames: &FramePool) {
        while let Some(done) = self.queue.completed() {
            done.readable
                .into_iter()
                .map(Segment::into_frame)
                .for_each(|frame| frames.put(frame));
        }
    }
}
