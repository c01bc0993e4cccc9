//! The line to a FUSE server: requests out, replies matched to them and checked.
//!
//! Any number of threads have requests in flight. The device's interrupt only wakes those that
//! wait; whoever runs first collects all completions and leaves each where its owner looks.
//! A wait for the server is not interruptible: a reply may carry a lookup count that would
//! be lost with it.
//!
//! A request takes a [`super::slot`] and frames of the connection, and gives them back. What must be said whether there
//! is memory or not, that a file is closed and a node forgotten, goes out of [`Reserve`] when there is none.
//!
//! Locking: `reserve` (sleeping) is held until its request is answered; the parts are leaves.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::{iter, mem};

use abi::{Errno, Result};
use collections::Vec;
use machine::virtio::{Completion, RequestQueue, Segment};
use sched::{Mutex, WaitQueue};
use zerocopy::IntoBytes;

use super::forget::Forgets;
use super::message::{FramePool, Impossible, OUT_HEADER, Own, REPLY_OFFSET, Reply, Request, check};
use super::slot::{Answered, Call, Reserve, Slot, Slots};
use super::wire::{ForgetIn, Op};
use crate::requests;

/// Frames kept for requests instead of being given back.
const SPARE_FRAMES: usize = 32;
/// Slots kept: requests that can be in flight without an allocation.
const SPARE_SLOTS: usize = 8;

/// Queues of requests, as a virtio-fs device has them.
pub(super) type CallQueue = RequestQueue<Arc<Call>>;

/// The line to one server.
#[derive(Debug)]
pub(super) struct Connection {
    requests: Arc<CallQueue>,
    forgets: Forgets,
    /// Woken by the device, and by threads that collected what others wait for.
    activity: Arc<WaitQueue>,
    next_unique: AtomicU64,
    frames: FramePool,
    slots: Slots,
    reserve: Mutex<Reserve>,
    /// The server has sent something that cannot be; said once.
    complained: AtomicBool,
}

impl Connection {
    /// A line through these queues; `urgent` is for what has no reply. `activity` is what their interrupt wakes.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new(
        requests: Arc<CallQueue>,
        urgent: Arc<CallQueue>,
        activity: Arc<WaitQueue>,
    ) -> Result<Connection> {
        Ok(Connection {
            requests,
            forgets: Forgets::new(urgent)?,
            activity,
            next_unique: AtomicU64::new(2),
            frames: FramePool::new(SPARE_FRAMES)?,
            slots: Slots::new(SPARE_SLOTS)?,
            reserve: Mutex::new(Reserve::new()?),
            complained: AtomicBool::new(false),
        })
    }

    /// The most pages of data that fit one request or reply.
    pub(super) fn max_pages(&self) -> usize {
        // Beside the pages there are up to two buffers for headers and arguments.
        (self.requests.size().saturating_sub(4)).clamp(1, 64)
    }

    fn unique(&self) -> u64 {
        self.next_unique.fetch_add(2, Ordering::Relaxed)
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// What the server answers; `EIO` for an answer that cannot be, `ENOMEM`.
    pub(super) fn call(&self, request: Request<'_>) -> Result<Reply> {
        let unique = self.unique();
        // Before the server is asked: what a reply tells must not be lost for want of memory.
        let room = request.room;
        let body = Vec::try_with_capacity(room)?;
        let (slot, own) = self.prepare(request, unique)?;
        self.submit(slot.readable, slot.writable, &slot.call)?;
        let answered = self.wait_for(&slot.call)?;
        let reply = match check(&answered.writable, answered.written, unique, (room, body)) {
            Ok(reply) => reply,
            Err(Impossible) => {
                if !self.complained.swap(true, Ordering::Relaxed) {
                    machine::log!(
                        "virtiofs: the server sent a reply that does not fit its request"
                    );
                }
                Err(Errno::EIO)
            }
        };
        self.put_back(slot.call, answered, own);
        // What the queue had no room for.
        self.forgets.send(self.unique(), &self.frames);
        reply
    }

    /// A slot with a request laid out in it.
    fn prepare(&self, request: Request<'_>, unique: u64) -> Result<(Slot, Own)> {
        let mut slot = self.slots.take()?;
        let lists = (&mut slot.readable, &mut slot.writable);
        let own = request.lay_out(unique, &self.frames, lists)?;
        Ok((slot, own))
    }

    /// Takes an answered request's frames and its slot back.
    fn put_back(&self, call: Arc<Call>, answered: Answered, own: Own) {
        let Answered {
            mut readable,
            mut writable,
            ..
        } = answered;
        let parts = [(&mut readable, own.readable), (&mut writable, own.writable)];
        for (list, count) in parts {
            for (index, segment) in list.drain(..).enumerate() {
                if index < count {
                    self.frames.put(segment.into_frame());
                }
            }
        }
        self.slots.put(Slot {
            call,
            readable,
            writable,
        });
    }

    fn wait_for(&self, call: &Call) -> Result<Answered> {
        let look = || {
            if let Some(answered) = call.take_answer() {
                return Some(Ok(answered));
            }
            self.requests.is_broken().then_some(Err(Errno::EIO))
        };
        requests::wait(&self.activity, || self.take_in(), look)
    }

    /// Sends a request of a few bytes whose answer does not matter. Waits for it only when memory is short.
    pub(super) fn send(&self, op: Op, node: u64, args: &[&[u8]]) {
        let unique = self.unique();
        let request = Request::new(op, node, args, 0);
        // A line that is broken has nothing to release.
        let _ = match self.prepare(request, unique) {
            Ok((slot, own)) => {
                slot.call.leave_unattended(own);
                self.submit(slot.readable, slot.writable, &slot.call)
            }
            Err(_) => self.send_reserved(&Request::new(op, node, args, 0), unique),
        };
    }

    /// As [`Self::send`], taking no memory.
    fn send_reserved(&self, request: &Request<'_>, unique: u64) -> Result<()> {
        let mut guard = self.reserve.lock();
        let Reserve { frame, slot } = &mut *guard;
        let (head_len, header) = request.header(unique)?;
        if head_len > REPLY_OFFSET {
            return Err(Errno::E2BIG);
        }
        let mut at = 0;
        for bytes in iter::once(header.as_bytes()).chain(request.args.iter().copied()) {
            frame.write(at, bytes);
            at += bytes.len();
        }
        let pieces = [
            (0, head_len, &mut slot.readable),
            (REPLY_OFFSET, OUT_HEADER, &mut slot.writable),
        ];
        for (offset, len, list) in pieces {
            // Without room the line is broken: the last request took the lists along.
            let segment = Segment::new(frame.clone(), offset, len).ok_or(Errno::EIO)?;
            list.push_within_capacity(segment).map_err(|_| Errno::EIO)?;
        }
        let (readable, writable) = (mem::take(&mut slot.readable), mem::take(&mut slot.writable));
        self.submit(readable, writable, &slot.call)?;
        let answered = self.wait_for(&slot.call)?;
        (slot.readable, slot.writable) = (answered.readable, answered.writable);
        slot.readable.clear();
        slot.writable.clear();
        Ok(())
    }

    /// Tells the server that `lookups` references to `node` are gone. Waits for it only when more is to be forgotten than
    /// fits a batch.
    pub(super) fn forget(&self, node: u64, lookups: u64) {
        self.take_completed();
        if !self.forgets.add(node, lookups) {
            let arg = ForgetIn { nlookup: lookups };
            let args = [arg.as_bytes()];
            let request = Request::new(Op::Forget, node, &args, 0);
            // A line that is broken has nothing to release.
            let _ = self.send_reserved(&request, self.unique());
        }
        self.forgets.send(self.unique(), &self.frames);
    }

    fn submit(
        &self,
        readable: Vec<Segment>,
        writable: Vec<Segment>,
        call: &Arc<Call>,
    ) -> Result<()> {
        let collect = || self.take_in();
        let buffers = (readable, writable);
        requests::submit(&self.requests, &self.activity, collect, buffers, call)
    }

    /// Collects completions, and wakes who waits for them.
    fn take_completed(&self) {
        if self.take_in() {
            self.activity.wake_all();
        }
    }

    /// Takes every completion that the device has and leaves it with its call. Whether there was one, which somebody else
    /// may wait for.
    fn take_in(&self) -> bool {
        let mut any = false;
        while let Some(done) = self.requests.completed() {
            let Completion {
                readable,
                writable,
                written,
                context,
            } = done;
            let answered = Answered {
                readable,
                writable,
                written,
            };
            if let Some((answered, own)) = context.answer(answered) {
                self.put_back(context, answered, own);
            }
            any = true;
        }
        self.forgets.take_completed(&self.frames);
        any
    }
}
