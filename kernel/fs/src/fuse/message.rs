//! Requests and replies as bytes: [`Request`] is laid out in frames for the device ([`Request::lay_out`]), and what the
//! device wrote is checked against it ([`check`]).
//!
//! A small request and its reply share one frame, which comes from a [`FramePool`] and goes back to it. Data of READ
//! and WRITE is not copied: its segments are those of the pages.
//!
//! Locking: the pool's list, a leaf spin lock.

use abi::{Errno, Result};
use collections::Vec;
use machine::sync::SpinLock;
use machine::virtio::Segment;
use machine::{Frame, PAGE_SIZE};
use zerocopy::{FromBytes, IntoBytes};

use super::convert::SERVERS;
use super::wire::{InHeader, Op, OutHeader};
use crate::user_namespace::{Kgid, Kuid};

/// Where a reply starts in a frame that holds request and reply.
pub(super) const REPLY_OFFSET: usize = PAGE_SIZE / 2;
const IN_HEADER: usize = size_of::<InHeader>();
pub(super) const OUT_HEADER: usize = size_of::<OutHeader>();
/// Error numbers from here on are the kernel's own: they ask for a restart of the call.
const FIRST_INTERNAL_ERROR: u16 = 512;

/// On whose behalf a request is made; the server gives new files to them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Owner {
    pub(super) uid: Kuid,
    pub(super) gid: Kgid,
}

/// A request before it is sent.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) op: Op,
    pub(super) node: u64,
    pub(super) owner: Owner,
    /// The operation's structure, then names and values.
    pub(super) args: &'a [&'a [u8]],
    /// Data behind the arguments, straight from its pages.
    pub(super) data: Vec<Segment>,
    /// Most bytes that the reply may have behind its header, pages not counted.
    pub(super) room: usize,
    /// Where the reply's bytes go after `room` bytes of them.
    pub(super) pages: Vec<Segment>,
}

/// How many of a request's segments lie in the connection's frames; the others are pages of files.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Own {
    pub(super) readable: usize,
    /// None when the reply is in a frame of the request.
    pub(super) writable: usize,
}

impl<'a> Request<'a> {
    /// A request by the kernel itself, with a reply of at most `room` bytes.
    pub(super) fn new(op: Op, node: u64, args: &'a [&'a [u8]], room: usize) -> Self {
        Request {
            op,
            node,
            owner: Owner::default(),
            args,
            data: Vec::new(),
            room,
            pages: Vec::new(),
        }
    }

    /// Its header, and the length of that and the arguments.
    pub(super) fn header(&self, unique: u64) -> Result<(usize, InHeader)> {
        let head_len = IN_HEADER + self.args.iter().map(|arg| arg.len()).sum::<usize>();
        let len = head_len + self.data.iter().map(Segment::len).sum::<usize>();
        let header = InHeader {
            len: u32::try_from(len).map_err(|_| Errno::E2BIG)?,
            opcode: self.op as u32,
            unique,
            nodeid: self.node,
            uid: SERVERS.shown_uid(self.owner.uid),
            gid: SERVERS.shown_gid(self.owner.gid),
            ..InHeader::default()
        };
        Ok((head_len, header))
    }

    /// Writes header and arguments into frames and finds room for the reply; adds the segments of all to the lists.
    ///
    /// # Errors
    /// `E2BIG`, `ENOMEM`.
    pub(super) fn lay_out(
        mut self,
        unique: u64,
        frames: &FramePool,
        (readable, writable): (&mut Vec<Segment>, &mut Vec<Segment>),
    ) -> Result<Own> {
        let (head_len, header) = self.header(unique)?;
        frames.add_segments(head_len, readable)?;
        let mut own = Own {
            readable: readable.len(),
            writable: 0,
        };
        let mut place = Cursor {
            segments: readable,
            at: 0,
        };
        place.write(header.as_bytes());
        self.args.iter().for_each(|arg| place.write(arg));

        let reply_len = OUT_HEADER + self.room;
        let shares = head_len <= REPLY_OFFSET && reply_len <= PAGE_SIZE - REPLY_OFFSET;
        let shared = readable.first().filter(|_| shares).cloned();
        match shared {
            Some(head) => {
                writable.try_extend(Segment::new(head.into_frame(), REPLY_OFFSET, reply_len))?;
            }
            None => {
                frames.add_segments(reply_len, writable)?;
                own.writable = writable.len();
            }
        }
        readable.try_append(&mut self.data)?;
        writable.try_append(&mut self.pages)?;
        Ok(own)
    }
}

/// A checked reply.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// The first bytes behind the header, up to the request's `room`.
    pub(super) body: Vec<u8>,
    /// Bytes that went to the request's pages.
    pub(super) in_pages: usize,
    /// What the session had counted to when it was asked; set by who asks about an inode.
    pub(super) asked_at: u64,
}

impl Reply {
    /// The structure that the reply starts with.
    pub(super) fn parse<T: FromBytes>(&self) -> Result<T> {
        T::read_from_prefix(&self.body)
            .map(|(value, _)| value)
            .map_err(|_| Errno::EIO)
    }
}

/// A reply that no request could have.
#[derive(Debug)]
pub(super) struct Impossible;

/// Checks a reply against its request and takes it out of the buffers: `room` bytes at most go to
/// `body`, which has room for them, what is behind it went to pages. The inner result is the server's answer.
pub(super) fn check(
    writable: &[Segment],
    written: usize,
    unique: u64,
    (room, mut body): (usize, Vec<u8>),
) -> core::result::Result<Result<Reply>, Impossible> {
    let mut header = [0; OUT_HEADER];
    let payload = written.checked_sub(OUT_HEADER).ok_or(Impossible)?;
    writable.first().ok_or(Impossible)?.read(0, &mut header);
    let header = OutHeader::read_from_bytes(&header).map_err(|_| Impossible)?;
    if usize::try_from(header.len) != Ok(written) || header.unique != unique {
        return Err(Impossible);
    }
    if header.error != 0 {
        let number = header
            .error
            .checked_neg()
            .and_then(|number| u16::try_from(number).ok());
        let errno = number
            .filter(|number| *number < FIRST_INTERNAL_ERROR)
            .and_then(Errno::from_raw);
        return match errno {
            Some(errno) if payload == 0 => Ok(Err(errno)),
            _ => Err(Impossible),
        };
    }
    body.try_resize(payload.min(room), 0)
        .map_err(|_| Impossible)?;
    let mut at = 0;
    let mut skip = OUT_HEADER;
    for segment in writable {
        let take = (segment.len() - skip).min(body.len() - at);
        segment.read(skip, &mut body[at..at + take]);
        at += take;
        skip = 0;
    }
    Ok(Ok(Reply {
        in_pages: payload - body.len(),
        body,
        asked_at: 0,
    }))
}

/// Frames kept for requests instead of being given back.
#[derive(Debug)]
pub(super) struct FramePool(SpinLock<Vec<Frame>>);

impl FramePool {
    /// A pool that keeps `most` frames.
    pub(super) fn new(most: usize) -> Result<Self> {
        Ok(Self(SpinLock::new(Vec::try_with_capacity(most)?)))
    }

    /// A frame; what it holds is what an earlier request left.
    pub(super) fn take(&self) -> Result<Frame> {
        let spare = self.0.lock().pop();
        match spare {
            Some(frame) => Ok(frame),
            None => Frame::alloc_zeroed().map_err(|_| Errno::ENOMEM),
        }
    }

    /// Keeps `frame` if there is room.
    pub(super) fn put(&self, frame: Frame) {
        let unfit = self.0.lock().push_within_capacity(frame);
        drop(unfit);
    }

    /// Adds segments of frames that hold `len` bytes together, whole frames but for the last.
    fn add_segments(&self, len: usize, to: &mut Vec<Segment>) -> Result<()> {
        for start in (0..len).step_by(PAGE_SIZE) {
            let part = (len - start).min(PAGE_SIZE);
            to.try_extend(Segment::new(self.take()?, 0, part))?;
        }
        Ok(())
    }
}

/// Writes along segments of whole frames.
struct Cursor<'a> {
    segments: &'a [Segment],
    at: usize,
}

impl Cursor<'_> {
    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let offset = self.at % PAGE_SIZE;
            let (here, rest) = bytes.split_at(bytes.len().min(PAGE_SIZE - offset));
            self.segments[self.at / PAGE_SIZE].write(offset, here);
            self.at += here.len();
            bytes = rest;
        }
    }
}
