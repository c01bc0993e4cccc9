//! What a network device's frames go through: a tap, or a stream to who plays the network.
//!
//! A [`Link`] never waits. A frame that was read stays until it is [taken](Link::take), so that a guest without buffers
//! loses nothing but what the other side drops; what a stream has taken half of goes out before anything else.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{F_GUEST_CSUM, F_GUEST_TSO4, F_GUEST_TSO6};

/// Bytes of `struct virtio_net_hdr_v1`.
pub const HEADER: usize = 12;
/// The most bytes of a frame: an IP packet, Ethernet's header and a tag.
pub const MOST_FRAME: usize = 65_535 + 14 + 4;
/// Bytes of the length before each frame of a stream.
const LENGTH: usize = 4;
/// How much of a stream is read at once.
const READ_AT_ONCE: usize = 2 * (LENGTH + MOST_FRAME);

/// What a tap leaves to its reader (TUNSETOFFLOAD in Linux's if_tun.h).
const TUN_F_CSUM: u32 = 1;
const TUN_F_TSO4: u32 = 2;
const TUN_F_TSO6: u32 = 4;

/// Tells a tap what it may leave to its reader.
pub type SetOffloads = fn(BorrowedFd<'_>, u32) -> io::Result<()>;

/// Why a link has gone.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The tap was removed, or its descriptor is none.
    #[error("its tap has gone ({0}); the pod's network namespace or interface was removed")]
    Tap(Errno),
    /// The other end hung up.
    #[error("the program that carries its frames has ended")]
    HungUp,
    /// The other end failed.
    #[error("the program that carries its frames cannot be reached ({0})")]
    Stream(Errno),
    /// The other end does not keep to the framing.
    #[error("the program that carries its frames announced one of {0} bytes")]
    Framing(usize),
    /// The tap does not do what the guest's driver was offered.
    #[error("its tap refuses to be set up ({0})")]
    Offloads(io::Error),
}

/// A frame from the link.
#[derive(Debug)]
pub struct Frame<'a> {
    /// What the guest's driver is told of it.
    pub header: [u8; HEADER],
    /// From Ethernet's header on.
    pub data: &'a [u8],
}

/// What became of a frame for the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way, or lost on it.
    Yes,
    /// There is no room; try again when there is.
    Full,
}

/// The other end.
#[derive(Debug)]
pub enum Link {
    /// A tap with IFF_VNET_HDR and IFF_NO_PI and a header of [`HEADER`] bytes, or packets like its.
    Tap(Tap),
    /// A stream with a length, four bytes with the highest first, before each frame, as `passt` and QEMU speak it.
    Stream(Stream),
    /// Nothing any more.
    Gone,
}

/// A descriptor of packets with headers.
#[derive(Debug)]
pub struct Tap {
    descriptor: OwnedFd,
    set_offloads: SetOffloads,
    buffer: Box<[u8]>,
    /// The length of the packet in `buffer`, if there is one.
    held: Option<usize>,
}

/// A stream socket.
#[derive(Debug)]
pub struct Stream {
    descriptor: OwnedFd,
    buffer: Box<[u8]>,
    /// What of `buffer` was read and not taken.
    start: usize,
    end: usize,
    /// The rest of what was sent in part.
    pending: Vec<u8>,
}

impl Link {
    /// A tap, whose offloads are set by `set_offloads`.
    ///
    /// # Errors
    /// When the descriptor is none.
    pub fn tap(descriptor: OwnedFd, set_offloads: SetOffloads) -> io::Result<Self> {
        never_wait(&descriptor)?;
        Ok(Self::Tap(Tap {
            descriptor,
            set_offloads,
            buffer: vec![0; HEADER + MOST_FRAME].into(),
            held: None,
        }))
    }

    /// A stream.
    ///
    /// # Errors
    /// When the descriptor is none.
    pub fn stream(descriptor: OwnedFd) -> io::Result<Self> {
        never_wait(&descriptor)?;
        Ok(Self::Stream(Stream {
            descriptor,
            buffer: vec![0; READ_AT_ONCE].into(),
            start: 0,
            end: 0,
            pending: Vec::new(),
        }))
    }

    /// Whether the device's header goes through it, so that work can be left to the other side.
    pub(super) fn has_header(&self) -> bool {
        matches!(self, Self::Tap(_))
    }

    /// What tells of frames and of room.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tap(tap) => Some(tap.descriptor.as_fd()),
            Self::Stream(stream) => Some(stream.descriptor.as_fd()),
            Self::Gone => None,
        }
    }

    /// Leaves to the guest what a driver with these features takes.
    pub(super) fn set_offloads(&self, features: u64) -> Result<(), Lost> {
        let Self::Tap(tap) = self else {
            return Ok(());
        };
        let has = |feature, flag| if features & feature == 0 { 0 } else { flag };
        let mut flags = has(F_GUEST_CSUM, TUN_F_CSUM);
        if flags != 0 {
            flags |= has(F_GUEST_TSO4, TUN_F_TSO4) | has(F_GUEST_TSO6, TUN_F_TSO6);
        }
        (tap.set_offloads)(tap.descriptor.as_fd(), flags).map_err(Lost::Offloads)
    }

    /// The next frame, which stays until it is taken; `None` when there is none yet.
    pub(super) fn next(&mut self) -> Result<Option<Frame<'_>>, Lost> {
        match self {
            Self::Tap(tap) => tap.next(),
            Self::Stream(stream) => stream.next(),
            Self::Gone => Ok(None),
        }
    }

    /// Goes on to the frame after the one that [`next`](Self::next) gave.
    pub(super) fn take(&mut self) {
        match self {
            Self::Tap(tap) => tap.held = None,
            Self::Stream(stream) => {
                if let Some(Ok(length)) = stream.announced() {
                    stream.start = (stream.start + LENGTH + length).min(stream.end);
                }
            }
            Self::Gone => {}
        }
    }

    /// Sends a header and the frame behind it.
    pub(super) fn send(&mut self, packet: &[u8]) -> Result<Sent, Lost> {
        match self {
            Self::Tap(tap) => tap.send(packet),
            Self::Stream(stream) => stream.send(packet),
            Self::Gone => Ok(Sent::Yes),
        }
    }

    /// Sends what is left of a frame that was sent in part.
    pub(super) fn flush(&mut self) -> Result<Sent, Lost> {
        match self {
            Self::Stream(stream) => stream.flush(),
            Self::Tap(_) | Self::Gone => Ok(Sent::Yes),
        }
    }
}

fn never_wait(descriptor: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(descriptor)?;
    rustix::fs::fcntl_setfl(descriptor, flags | OFlags::NONBLOCK)?;
    Ok(())
}

impl Tap {
    fn next(&mut self) -> Result<Option<Frame<'_>>, Lost> {
        while self.held.is_none() {
            match rustix::io::read(&self.descriptor, &mut *self.buffer) {
                Ok(0) => return Err(Lost::HungUp),
                // Nothing that a driver could be told of.
                Ok(length) if length <= HEADER => {}
                Ok(length) => self.held = Some(length),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Lost::Tap(errno)),
            }
        }
        let packet = self.buffer.get(..self.held.unwrap_or(0));
        let parts = packet.and_then(<[u8]>::split_first_chunk::<HEADER>);
        Ok(parts.map(|(header, data)| Frame {
            header: *header,
            data,
        }))
    }

    fn send(&self, packet: &[u8]) -> Result<Sent, Lost> {
        match rustix::io::retry_on_intr(|| rustix::io::write(&self.descriptor, packet)) {
            Err(Errno::AGAIN) => Ok(Sent::Full),
            Err(errno @ Errno::BADFD) => Err(Lost::Tap(errno)),
            // What the host does not take (it makes no sense, or the interface is down) is lost.
            Ok(_) | Err(_) => Ok(Sent::Yes),
        }
    }
}

impl Stream {
    /// The length of the next frame, once it is there: wrong when there is no such frame.
    fn announced(&self) -> Option<Result<usize, usize>> {
        let read = &self.buffer[self.start..self.end];
        let length = u32::from_be_bytes(*read.first_chunk::<LENGTH>()?);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Some(match length {
            1..=MOST_FRAME => Ok(length),
            length => Err(length),
        })
    }

    fn next(&mut self) -> Result<Option<Frame<'_>>, Lost> {
        loop {
            let announced = self.announced().transpose().map_err(Lost::Framing)?;
            if let Some(length) = announced
                && self.end - self.start >= LENGTH + length
            {
                let at = self.start + LENGTH;
                return Ok(Some(Frame {
                    header: [0; HEADER],
                    data: &self.buffer[at..at + length],
                }));
            }
            if !self.read()? {
                return Ok(None);
            }
        }
    }

    /// Reads more behind the part of a frame that is there; whether there was more.
    fn read(&mut self) -> Result<bool, Lost> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        match rustix::io::retry_on_intr(|| {
            rustix::io::read(&self.descriptor, &mut self.buffer[self.end..])
        }) {
            Ok(0) => Err(Lost::HungUp),
            Ok(length) => {
                self.end += length;
                Ok(true)
            }
            Err(Errno::AGAIN) => Ok(false),
            Err(errno) => Err(stream_error(errno)),
        }
    }

    /// Sends a frame with its length; what there is no room for now stays here.
    fn send(&mut self, packet: &[u8]) -> Result<Sent, Lost> {
        if self.flush()? == Sent::Full {
            return Ok(Sent::Full);
        }
        let Some(data) = packet.get(HEADER..).filter(|data| !data.is_empty()) else {
            return Ok(Sent::Yes);
        };
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        self.pending.extend_from_slice(&length.to_be_bytes());
        self.pending.extend_from_slice(data);
        // The frame has been taken, whether or not there is room for all of it.
        self.flush()?;
        Ok(Sent::Yes)
    }

    fn flush(&mut self) -> Result<Sent, Lost> {
        let mut done = 0;
        let sent = loop {
            let rest = &self.pending[done..];
            if rest.is_empty() {
                break Sent::Yes;
            }
            match rustix::io::write(&self.descriptor, rest) {
                Ok(written) => done += written,
                Err(Errno::AGAIN) => break Sent::Full,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(stream_error(errno)),
            }
        };
        self.pending.drain(..done);
        Ok(sent)
    }
}

fn stream_error(errno: Errno) -> Lost {
    match errno {
        Errno::PIPE | Errno::CONNRESET => Lost::HungUp,
        errno => Lost::Stream(errno),
    }
}
