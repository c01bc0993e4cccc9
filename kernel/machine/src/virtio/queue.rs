//! Request queues: buffers go to the device with a request and come back with its completion.
//!
//! A buffer is a [`Segment`] of a frame. The queue holds the frame's handle while the device has the
//! buffer, so no driver can free memory that a device may still write.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::addr::PAGE_SIZE;
use crate::frame::Frame;
use crate::sync::IrqLock;

/// A non-empty part of a frame.
#[derive(Debug, Clone)]
pub struct Segment {
    frame: Frame,
    offset: usize,
    len: usize,
}

impl Segment {
    /// `len` bytes at `offset`. `None` when that is empty or leaves the frame.
    #[must_use]
    pub fn new(frame: Frame, offset: usize, len: usize) -> Option<Segment> {
        let inside = len > 0 && offset.checked_add(len)? <= PAGE_SIZE;
        inside.then_some(Segment { frame, offset, len })
    }

    /// The whole frame.
    #[must_use]
    pub fn page(frame: Frame) -> Segment {
        Segment {
            frame,
            offset: 0,
            len: PAGE_SIZE,
        }
    }

    /// Bytes in it; never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a segment is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Gives the frame back.
    #[must_use]
    pub fn into_frame(self) -> Frame {
        self.frame
    }

    /// Copies bytes at `offset` of the segment out. Panics when the range leaves the segment.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        assert!(
            offset
                .checked_add(to.len())
                .is_some_and(|end| end <= self.len)
        );
        self.frame.read(self.offset + offset, to);
    }

    /// Copies bytes in at `offset` of the segment. Panics when the range leaves the segment.
    pub fn write(&self, offset: usize, from: &[u8]) {
        assert!(
            offset
                .checked_add(from.len())
                .is_some_and(|end| end <= self.len)
        );
        self.frame.write(self.offset + offset, from);
    }

    /// Where the bytes are, for the ring.
    #[cfg(target_os = "none")]
    pub(super) fn bytes(&self) -> core::ptr::NonNull<[u8]> {
        let start = self.frame.as_ptr();
        // SAFETY: `offset` is within the frame that `start` points to, as checked when made.
        let at = unsafe { start.byte_add(self.offset) };
        core::ptr::NonNull::slice_from_raw_parts(at, self.len)
    }
}

/// A ring of descriptors, real or the double's. Requests are known by their head descriptor.
pub(super) trait Ring: Send {
    /// Entries; heads are below this.
    fn size(&self) -> usize;
    /// Puts a request in the ring. `None` when there is no room.
    fn add(&mut self, readable: &[Segment], writable: &[Segment]) -> Option<u16>;
    /// Whether the device wants to be told of what was added.
    fn needs_notify(&mut self) -> bool;
    /// What the device claims to be the head of the next completed request.
    fn peek(&mut self) -> Option<u16>;
    /// Takes the completion of `head`, which `peek` named: bytes the device claims to have
    /// written. `None` when the device changed its mind. The segments are those added.
    fn pop(&mut self, head: u16, readable: &[Segment], writable: &[Segment]) -> Option<u32>;
}

/// Tells the device that its queue has requests.
pub(super) type Notify = Box<dyn Fn() + Send + Sync>;

/// A queue of requests that each carry a `T` of the driver's. All calls work from any context.
pub struct RequestQueue<T> {
    state: IrqLock<State<T>>,
    notify: Notify,
}

struct State<T> {
    ring: Box<dyn Ring>,
    /// The requests that the device has, by head descriptor.
    in_flight: Vec<Option<Request<T>>>,
    /// The device broke the rules; nothing it says counts any more.
    broken: bool,
}

struct Request<T> {
    readable: Vec<Segment>,
    writable: Vec<Segment>,
    context: T,
}

/// A request that the device is done with.
#[derive(Debug)]
pub struct Completion<T> {
    /// The buffers the device read.
    pub readable: Vec<Segment>,
    /// The buffers the device wrote.
    pub writable: Vec<Segment>,
    /// Bytes written, from the first writable buffer on: a claim, but never more than they hold.
    pub written: usize,
    /// What the driver gave with the request.
    pub context: T,
}

/// A request that was not taken.
#[derive(Debug)]
pub struct Rejected<T> {
    /// The device is broken and will never take one; otherwise the queue is full for now.
    pub broken: bool,
    /// The buffers, back.
    pub readable: Vec<Segment>,
    /// The buffers, back.
    pub writable: Vec<Segment>,
    /// The driver's part, back.
    pub context: T,
}

impl<T> fmt::Debug for RequestQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestQueue").finish_non_exhaustive()
    }
}

impl<T: Send> RequestQueue<T> {
    pub(super) fn new(ring: Box<dyn Ring>, notify: Notify) -> RequestQueue<T> {
        let in_flight = core::iter::repeat_with(|| None).take(ring.size()).collect();
        let state = State {
            ring,
            in_flight,
            broken: false,
        };
        RequestQueue {
            state: IrqLock::new(state),
            notify,
        }
    }

    /// Hands a request to the device: what it reads, what it writes, and what to return with the
    /// completion. Together 1 to [`RequestQueue::size`] buffers.
    ///
    /// # Errors
    /// [`Rejected`] with everything, when the queue is full or the device broken.
    pub fn submit(
        &self,
        readable: Vec<Segment>,
        writable: Vec<Segment>,
        context: T,
    ) -> Result<(), Rejected<T>> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let head = if state.broken {
            None
        } else {
            state.ring.add(&readable, &writable)
        };
        let Some(head) = head else {
            let broken = state.broken;
            return Err(Rejected {
                broken,
                readable,
                writable,
                context,
            });
        };
        state.in_flight[usize::from(head)] = Some(Request {
            readable,
            writable,
            context,
        });
        let needs_notify = state.ring.needs_notify();
        drop(guard);
        if needs_notify {
            (self.notify)();
        }
        Ok(())
    }

    /// The next request that the device is done with.
    pub fn completed(&self) -> Option<Completion<T>> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.broken {
            return None;
        }
        let head = state.ring.peek()?;
        let Some(request) = state
            .in_flight
            .get_mut(usize::from(head))
            .and_then(Option::take)
        else {
            state.broken = true;
            crate::log!("virtio: the device completed a request it does not have; queue given up");
            return None;
        };
        let claimed = state.ring.pop(head, &request.readable, &request.writable);
        let room: usize = request.writable.iter().map(Segment::len).sum();
        let written = claimed
            .and_then(|len| usize::try_from(len).ok())
            .filter(|len| *len <= room);
        let Some(written) = written else {
            state.broken = true;
            // Kept: the device may go on writing into its buffers.
            state.in_flight[usize::from(head)] = Some(request);
            crate::log!("virtio: the device wrote more than it was given; queue given up");
            return None;
        };
        let Request {
            readable,
            writable,
            context,
        } = request;
        Some(Completion {
            readable,
            writable,
            written,
            context,
        })
    }

    /// Whether the device broke the rules, so that requests in flight will never complete.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.state.lock().broken
    }

    /// Entries of the ring: the most buffers a request can have.
    #[must_use]
    pub fn size(&self) -> usize {
        self.state.lock().ring.size()
    }
}
