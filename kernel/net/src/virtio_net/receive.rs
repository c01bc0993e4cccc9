//! Frames from a device: its buffers, and the frames that are in them.

use alloc::sync::Arc;

use collections::Vec;
use machine::virtio::{Completion, RequestQueue, Segment, SetupError};
use machine::{Frame, PAGE_SIZE};

use super::{ETHERNET, Identity, Upper, header};
use crate::inet::Offloads;

/// Buffers that the device has, a page each.
const BUFFERS: usize = 128;
/// The longest frame, with its header: an IP packet has at most 65535 bytes.
const MOST: usize = header::LEN + ETHERNET + 65_535;

/// One device's receive queue.
#[derive(Debug)]
pub(super) struct Receiver {
    queue: Arc<RequestQueue<()>>,
    checks: bool,
    is_merging: bool,
    /// What has come of a frame, from its header on.
    frame: Vec<u8>,
    /// How many more of the device's buffers the frame is in.
    to_come: usize,
    /// The frame is too long or makes no sense, and is dropped once all of it is here.
    is_dropped: bool,
}

impl Receiver {
    /// Gives the device its buffers.
    pub(super) fn new(
        queue: Arc<RequestQueue<()>>,
        identity: Identity,
    ) -> Result<Receiver, SetupError> {
        for _ in 0..BUFFERS.min(queue.size()) {
            let mut writable = Vec::try_with_capacity(1)?;
            writable.try_push(Segment::page(Frame::alloc_zeroed()?))?;
            if queue.add(Vec::new(), writable, ()).is_err() {
                break;
            }
        }
        queue.kick();
        let most = if identity.is_merging { MOST } else { PAGE_SIZE };
        Ok(Receiver {
            queue,
            checks: identity.offloads.contains(Offloads::RX_CHECKSUM),
            is_merging: identity.is_merging,
            frame: Vec::try_with_capacity(most)?,
            to_come: 0,
            is_dropped: false,
        })
    }

    pub(super) fn is_broken(&self) -> bool {
        self.queue.is_broken()
    }

    /// Hands on what has arrived; whether there was any.
    pub(super) fn take_in(&mut self, upper: &dyn Upper) -> bool {
        let mut any = false;
        while let Some(done) = self.queue.completed() {
            any = true;
            if self.is_whole_with(&done) {
                self.hand_on(upper);
            }
            // The same pages go back, with the lists that hold them.
            let back = self.queue.add(done.readable, done.writable, ());
            drop(back);
            self.queue.kick();
            sched::cond_resched();
        }
        any
    }

    /// Adds a buffer to the frame; whether it is whole now.
    fn is_whole_with(&mut self, done: &Completion<()>) -> bool {
        let is_first = self.to_come == 0;
        if is_first {
            self.frame.clear();
            self.is_dropped = false;
            self.to_come = 1;
        }
        self.append(done);
        if is_first {
            match self.frame.first_chunk::<{ header::LEN }>() {
                Some(first) if self.is_merging => {
                    // Not more than the device has: it cannot be in others.
                    let claimed = usize::from(header::buffers(first));
                    self.to_come = claimed.clamp(1, self.queue.size());
                    self.is_dropped |= claimed != self.to_come;
                }
                Some(_) => {}
                None => self.is_dropped = true,
            }
        }
        self.to_come -= 1;
        self.to_come == 0 && !self.is_dropped
    }

    /// Copies what the device wrote behind what is there.
    fn append(&mut self, done: &Completion<()>) {
        let mut left = done.written;
        for segment in &done.writable {
            let now = left.min(segment.len());
            let from = self.frame.len();
            // In the memory that is there from the start; what does not fit is no frame.
            if self.is_dropped || from + now > self.frame.capacity() {
                self.is_dropped = true;
                return;
            }
            if self.frame.try_resize_with(from + now, u8::default).is_err() {
                self.is_dropped = true;
                return;
            }
            segment.read(0, &mut self.frame[from..]);
            left -= now;
        }
    }

    /// Hands the frame to the interface, if it is one.
    fn hand_on(&self, upper: &dyn Upper) {
        if let Some((header, frame)) = self.frame.split_first_chunk::<{ header::LEN }>()
            && frame.len() > ETHERNET
        {
            upper.receive(frame, self.checks && header::is_verified(header));
        }
    }
}
