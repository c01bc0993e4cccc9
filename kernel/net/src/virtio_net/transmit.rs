//! Frames to a device: copied into pages that are there from the start, and taken back when those run short.

use alloc::sync::Arc;

use collections::Vec;
use machine::sync::SpinLock;
use machine::virtio::{RequestQueue, Segment, SetupError};
use machine::{Frame, PAGE_SIZE};

use super::{ETHERNET, header};
use crate::inet::{ChecksumStart, Full};

/// Pages for frames on their way, and how many frames those may be.
const PAGES: usize = 64;

/// One device's transmit queue.
#[derive(Debug)]
pub(super) struct Transmitter {
    queue: Arc<RequestQueue<()>>,
    buffers: SpinLock<Buffers>,
    /// The longest frame, with its header.
    most: usize,
}

/// What no frame on its way uses.
#[derive(Debug)]
struct Buffers {
    pages: Vec<Frame>,
    /// Empty lists with room for the pages of the longest frame.
    lists: Vec<Vec<Segment>>,
    /// A frame was refused; who sends is to be told of room.
    is_awaited: bool,
}

impl Transmitter {
    pub(super) fn new(queue: Arc<RequestQueue<()>>, mtu: u16) -> Result<Transmitter, SetupError> {
        let most = header::LEN + ETHERNET + usize::from(mtu);
        let mut buffers = Buffers {
            pages: Vec::try_with_capacity(PAGES)?,
            lists: Vec::try_with_capacity(PAGES)?,
            is_awaited: false,
        };
        for _ in 0..PAGES {
            buffers.pages.try_push(Frame::alloc_zeroed()?)?;
            let list = Vec::try_with_capacity(most.div_ceil(PAGE_SIZE))?;
            buffers.lists.try_push(list)?;
        }
        Ok(Transmitter {
            queue,
            buffers: SpinLock::new(buffers),
            most,
        })
    }

    pub(super) fn is_broken(&self) -> bool {
        self.queue.is_broken()
    }

    /// Puts a frame into the queue. One that is longer than the device takes, or for a device that is broken, is lost.
    ///
    /// # Errors
    /// [`Full`] when the device has to take others first.
    pub(super) fn send(
        &self,
        pieces: &[&[u8]],
        checksum: Option<ChecksumStart>,
    ) -> Result<(), Full> {
        let len = header::LEN + pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if len > self.most || self.is_broken() {
            return Ok(());
        }
        let pages = len.div_ceil(PAGE_SIZE);
        let mut buffers = self.buffers.lock();
        // Rarely: each time asks the device for an interrupt when it has taken more.
        if buffers.pages.len() < pages || buffers.lists.is_empty() {
            self.take_back(&mut buffers);
        }
        if buffers.pages.len() < pages {
            buffers.is_awaited = true;
            return Err(Full);
        }
        let Some(mut list) = buffers.lists.pop() else {
            buffers.is_awaited = true;
            return Err(Full);
        };
        let header = header::to_send(checksum);
        let mut bytes = Bytes {
            current: &header,
            others: pieces.iter(),
        };
        let mut left = len;
        while left > 0
            && let Some(page) = buffers.pages.pop()
        {
            let now = left.min(PAGE_SIZE);
            bytes.fill(&page, now);
            // The list was made with room for the longest frame.
            let segment = Segment::new(page, 0, now);
            segment.map(|segment| list.push_within_capacity(segment).ok());
            left -= now;
        }
        let rejected = self.queue.add(list, Vec::new(), ()).err();
        if let Some(back) = rejected {
            buffers.keep(back.readable);
            buffers.is_awaited = !back.broken;
            return if back.broken { Ok(()) } else { Err(Full) };
        }
        drop(buffers);
        self.queue.kick();
        Ok(())
    }

    /// Takes back what the device is done with; whether somebody waits for room, and there is some.
    pub(super) fn has_room_again(&self) -> bool {
        let mut buffers = self.buffers.lock();
        if !buffers.is_awaited {
            // Left for the next frame that needs it.
            return false;
        }
        let any = self.take_back(&mut buffers);
        buffers.is_awaited = !any;
        any
    }

    fn take_back(&self, buffers: &mut Buffers) -> bool {
        let mut any = false;
        while let Some(done) = self.queue.completed() {
            buffers.keep(done.readable);
            any = true;
        }
        any
    }
}

impl Buffers {
    /// Takes pages back, and the list that they were in.
    fn keep(&mut self, mut list: Vec<Segment>) {
        while let Some(segment) = list.pop() {
            // There is room for as many as there ever were.
            let _ = self.pages.push_within_capacity(segment.into_frame());
        }
        let _ = self.lists.push_within_capacity(list);
    }
}

/// The bytes of a frame, one piece after the other.
struct Bytes<'a> {
    current: &'a [u8],
    others: core::slice::Iter<'a, &'a [u8]>,
}

impl Bytes<'_> {
    /// Fills the first `len` bytes of a page; there are as many.
    fn fill(&mut self, page: &Frame, len: usize) {
        let mut at = 0;
        while at < len {
            let (now, later) = self.current.split_at(self.current.len().min(len - at));
            page.write(at, now);
            at += now.len();
            self.current = later;
            if later.is_empty() {
                match self.others.next() {
                    Some(next) => self.current = next,
                    None => return,
                }
            }
        }
    }
}
