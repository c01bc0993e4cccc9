//! Request queues: buffers go to the device with a request and come back with its completion.
//!
//! A buffer is a [`Segment`] of a frame. The queue holds the frame's handle from the request to its completion,
//! and a queue that is dropped resets its device first: then nothing of the ring, nor of the requests that
//! were in flight, can be written any more. A device that does not reset itself keeps that memory for good.
//!
//! The queue itself allocates nothing a request: its slots are made with it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::mem::ManuallyDrop;

use super::device::{SetupError, Shared};
use super::doorbell::Doorbell;
use crate::addr::PAGE_SIZE;
use crate::frame::Frame;
use crate::frame::reporting::FreeBlock;
use crate::heap::Vec;
use crate::sync::IrqLock;

/// A non-empty part of a frame, or a block of free ones.
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

    /// All of a block of free frames, for a device to be told of; its bytes are not for the driver to read. The block
    /// stays with the request.
    #[must_use]
    pub fn of_free(block: &FreeBlock) -> Segment {
        Segment {
            frame: block.first().clone(),
            offset: 0,
            len: block.len(),
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

    /// Where the bytes are in guest-physical memory, for the ring.
    pub(super) fn phys(&self) -> u64 {
        self.frame.phys().0 + self.offset as u64
    }
}

/// A completion as the device wrote it: claims.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    /// The head descriptor of the request.
    pub(super) head: u32,
    /// Bytes written to its buffers.
    pub(super) written: u32,
}

/// A ring of descriptors, real or the double's. Requests are known by their head descriptor.
pub(super) trait Ring: Send {
    /// Entries; heads are below this.
    fn size(&self) -> usize;
    /// Makes a request available. `None` when there is no room.
    fn add(&mut self, readable: &[Segment], writable: &[Segment]) -> Option<u16>;
    /// Whether the device wants to be told of what was added since this was last asked.
    fn needs_notify(&mut self) -> bool;
    /// The next completion.
    fn next_used(&mut self) -> Option<Used>;
    /// Takes the descriptors of a completed request back.
    fn release(&mut self, head: u16);
}

/// How a device is told that its queue has requests.
pub(super) enum Notify {
    Doorbell(Doorbell),
    /// The double's.
    #[cfg(not(target_os = "none"))]
    Call(Box<dyn Fn() + Send + Sync>),
}

/// A queue of requests that each carry a `T` of the driver's. All calls work from any context.
pub struct RequestQueue<T> {
    /// Dropped by hand, and only once the device cannot reach what is in it.
    state: ManuallyDrop<IrqLock<State<T>>>,
    notify: Notify,
    size: usize,
    /// The device; none for the double's queues.
    device: Option<Arc<Shared>>,
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

impl<T> Drop for RequestQueue<T> {
    fn drop(&mut self) {
        if self.device.as_ref().is_none_or(|device| device.reset()) {
            // SAFETY: dropped here and nowhere else.
            unsafe { ManuallyDrop::drop(&mut self.state) };
        } else {
            crate::log!("virtio: a device does not reset itself; the memory of its queue stays");
        }
    }
}

impl<T: Send> RequestQueue<T> {
    pub(super) fn new(
        ring: Box<dyn Ring>,
        notify: Notify,
        device: Option<Arc<Shared>>,
    ) -> Result<RequestQueue<T>, SetupError> {
        let size = ring.size();
        let mut in_flight = Vec::new();
        in_flight.try_resize_with(size, || None)?;
        let state = State {
            ring,
            in_flight,
            broken: false,
        };
        Ok(RequestQueue {
            state: ManuallyDrop::new(IrqLock::new(state)),
            notify,
            size,
            device,
        })
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
        self.add(readable, writable, context)?;
        self.kick();
        Ok(())
    }

    /// As [`RequestQueue::submit`], but the device is told only by the next [`RequestQueue::kick`]: once for
    /// many requests.
    ///
    /// # Errors
    /// As for `submit`; what was added before is for the caller to kick.
    ///
    /// # Panics
    /// When a writable buffer is boot memory, which is constant.
    pub fn add(
        &self,
        readable: Vec<Segment>,
        writable: Vec<Segment>,
        context: T,
    ) -> Result<(), Rejected<T>> {
        let is_constant = |segment: &Segment| segment.frame.is_boot_memory();
        assert!(
            !writable.iter().any(is_constant),
            "a device is to write boot memory"
        );
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let head = if state.broken {
            None
        } else {
            state.ring.add(&readable, &writable)
        };
        let slot = head.and_then(|head| state.in_flight.get_mut(usize::from(head)));
        let Some(slot) = slot else {
            let broken = state.broken;
            return Err(Rejected {
                broken,
                readable,
                writable,
                context,
            });
        };
        *slot = Some(Request {
            readable,
            writable,
            context,
        });
        Ok(())
    }

    /// Tells the device of what was added, if it wants to know.
    pub fn kick(&self) {
        let needs_notify = self.state.lock().ring.needs_notify();
        if needs_notify {
            match &self.notify {
                Notify::Doorbell(doorbell) => doorbell.ring(),
                #[cfg(not(target_os = "none"))]
                Notify::Call(call) => call(),
            }
        }
    }

    /// The next request that the device is done with.
    pub fn completed(&self) -> Option<Completion<T>> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.broken {
            return None;
        }
        let used = state.ring.next_used()?;
        let slot = usize::try_from(used.head)
            .ok()
            .and_then(|head| state.in_flight.get_mut(head));
        let Some((slot, request)) = slot.and_then(|slot| slot.take().map(|taken| (slot, taken)))
        else {
            state.broken = true;
            drop(guard);
            crate::log!("virtio: the device completed a request it does not have; queue given up");
            return None;
        };
        let room: usize = request.writable.iter().map(Segment::len).sum();
        let written = usize::try_from(used.written)
            .ok()
            .filter(|written| *written <= room);
        let Some(written) = written else {
            // Kept: the device may go on writing into its buffers.
            *slot = Some(request);
            state.broken = true;
            drop(guard);
            crate::log!("virtio: the device wrote more than it was given; queue given up");
            return None;
        };
        // Below the ring's size, as `in_flight` has it.
        state.ring.release(u16::try_from(used.head).unwrap_or(0));
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
    pub const fn size(&self) -> usize {
        self.size
    }
}
