//! How a file system device has its requests answered by another process, the gofer.
//!
//! Between them are a socket that keeps packets apart and a buffer that both map, [`shared_buffer`]. The device
//! copies a request into the buffer and sends [`Ask`], the gofer serves it there and sends how long the answer is, with
//! the file that was opened, if one was ([`Told`]), and the device copies the answer to the guest. Guest memory stays
//! the device's. One request is on its way at a time.
//!
//! The gofer believes nothing that it reads in the buffer: to its server it is what guest memory is to one beside a
//! device. The device, whose process may be the guest's by then, is told [`READY`] or what went wrong before.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemory, GuestMemoryMmap};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::server::{Answer, FileServer, MOST_DATA, Opened};
use crate::{Chain, Space};

/// What the gofer's first packet says when it serves; any other is a sentence.
const READY: &[u8] = b"ready";
/// The most bytes of that sentence.
const MOST_SAID: usize = 1024;
/// The most bytes of a request, or of an answer: data and headers.
const PART: usize = MOST_DATA + 0x1_0000;
/// Where the request and the answer are in the buffer.
const REQUEST: u64 = 0;
const ANSWER: u64 = PART as u64;
const BUFFER: usize = 2 * PART;
/// Where the gofer has its queue, outside of what is shared.
const QUEUE: u64 = 1 << 32;
const DESCRIPTORS: u64 = QUEUE;
const AVAILABLE: u64 = QUEUE + 0x100;
const USED: u64 = QUEUE + 0x200;
/// Its entries; a chain takes two.
const ENTRIES: u16 = 2;
/// The longest name of a share.
const NAME_MAX: usize = 255;
/// Flags of descriptors.
const NEXT: u64 = 1;
const WRITE: u64 = 2;

type Memory = GuestMemoryMmap<()>;

/// A request in the buffer.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Ask {
    /// What is asked, one of these.
    what: u32,
    /// Bytes of the request.
    length: u32,
    /// The most bytes of the answer.
    room: u32,
}

/// A request of the guest's.
const SERVE: u32 = 0;
/// The owner's: to share the directory whose descriptor comes with it, or the same to be read only; to take one back. The
/// name is in the buffer.
const ATTACH: u32 = 1;
const ATTACH_READ_ONLY: u32 = 2;
const DETACH: u32 = 3;

/// What the gofer says of its answer. A descriptor comes with it if a file was opened.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Told {
    /// Bytes of the answer.
    length: u32,
    /// To what the owner asks: 0, or an error number.
    error: i32,
    /// The opened file's number, and its inode's.
    handle: u64,
    node: u64,
    /// The number of its share, or of the one that was taken back.
    share: u64,
}

/// Makes the buffer that both ends map.
///
/// # Errors
/// When the host is out of descriptors or memory.
pub fn shared_buffer() -> io::Result<OwnedFd> {
    let buffer = rustix::fs::memfd_create("gofer", MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&buffer, BUFFER as u64)?;
    Ok(buffer)
}

/// The device's end.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    buffer: Memory,
    /// How often the gofer was asked.
    asked: Arc<AtomicU64>,
}

impl Link {
    /// An end of this socket and this buffer.
    ///
    /// # Errors
    /// When the buffer cannot be mapped.
    pub fn new(socket: OwnedFd, buffer: OwnedFd) -> io::Result<Self> {
        let file = FileOffset::new(File::from(buffer), 0);
        let ranges = [(GuestAddress(REQUEST), BUFFER, Some(file))];
        let buffer = Memory::from_ranges_with_files(ranges).map_err(io::Error::other)?;
        Ok(Self {
            socket,
            buffer,
            asked: Arc::default(),
        })
    }

    /// How often the gofer was asked.
    #[must_use]
    pub fn asked(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.asked)
    }

    /// The socket, which hangs up with the gofer.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Waits until the gofer serves.
    ///
    /// # Errors
    /// Why it does not.
    pub fn wait_ready(&self) -> io::Result<()> {
        let mut said = [0; MOST_SAID];
        match receive(&self.socket, &mut said)? {
            [] => Err(io::Error::other("the gofer ended and gave no reason")),
            said if said == READY => Ok(()),
            said => Err(io::Error::other(String::from_utf8_lossy(said))),
        }
    }

    /// Has one request answered; without a gofer the answer is empty.
    pub(super) fn pass_on<S: Space>(&self, memory: &S::M, chain: &Chain<S>) -> Answer {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let asked = self.put::<S>(memory, chain.clone());
        let answered = asked.and_then(|ask| Some((ask, self.ask(ask, None).ok()?)));
        let Some((ask, (told, file))) = answered else {
            return Answer::default();
        };
        if told.handle != 0 && file.is_none() {
            // This process had no descriptor left to receive it in.
            return Answer::default();
        }
        let opened = file.map(|file| Opened {
            handle: told.handle,
            node: told.node,
            share: told.share,
            file,
        });
        let length = self.get::<S>(memory, chain.clone(), told.length.min(ask.room));
        Answer { length, opened }
    }

    /// As [`FileServer::attach`].
    pub(super) fn attach(
        &self,
        name: &str,
        directory: &OwnedFd,
        read_only: bool,
    ) -> io::Result<()> {
        let what = if read_only { ATTACH_READ_ONLY } else { ATTACH };
        self.arrange(what, name, Some(directory)).map(drop)
    }

    /// As [`FileServer::detach`].
    pub(super) fn detach(&self, name: &str) -> io::Result<u64> {
        self.arrange(DETACH, name, None)
    }

    /// Asks what the owner wants; the share's number.
    fn arrange(&self, what: u32, name: &str, directory: Option<&OwnedFd>) -> io::Result<u64> {
        if name.len() > NAME_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        let at = GuestAddress(REQUEST);
        let put = self.buffer.write_slice(name.as_bytes(), at);
        put.map_err(io::Error::other)?;
        let ask = Ask {
            what,
            length: u32::try_from(name.len()).unwrap_or(0),
            room: 0,
        };
        let (told, _) = self.ask(ask, directory)?;
        match told.error {
            0 => Ok(told.share),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Copies a request into the buffer; `None` when it is too long, or not in memory.
    fn put<S: Space>(&self, memory: &S::M, chain: Chain<S>) -> Option<Ask> {
        let mut length = 0;
        for part in chain.clone().readable() {
            let bytes = part.len() as usize;
            let to = self
                .buffer
                .get_slice(GuestAddress(REQUEST + length as u64), bytes)
                .ok();
            let to = to.filter(|_| length + bytes <= PART)?;
            memory
                .get_slice(part.addr(), bytes)
                .ok()?
                .copy_to_volatile_slice(to);
            length += bytes;
        }
        let room: usize = chain.writable().map(|part| part.len() as usize).sum();
        Some(Ask {
            what: SERVE,
            length: u32::try_from(length).ok()?,
            room: u32::try_from(room.min(PART)).ok()?,
        })
    }

    fn ask(&self, ask: Ask, file: Option<&OwnedFd>) -> Result<(Told, Option<OwnedFd>), Errno> {
        send(&self.socket, ask.as_bytes(), file)?;
        let mut told = [0; size_of::<Told>()];
        let (length, file) = receive_with_file(&self.socket, &mut told)?;
        if length != told.len() {
            return Err(Errno::PIPE);
        }
        Ok((zerocopy::transmute!(told), file))
    }

    /// Copies an answer to the guest; gives its length, or 0 when it does not fit.
    fn get<S: Space>(&self, memory: &S::M, chain: Chain<S>, length: u32) -> u32 {
        let whole = length as usize;
        let mut done = 0;
        for part in chain.writable() {
            let bytes = (part.len() as usize).min(whole - done);
            let from = GuestAddress(ANSWER + done as u64);
            let (Ok(from), Ok(to)) = (
                self.buffer.get_slice(from, bytes),
                memory.get_slice(part.addr(), bytes),
            ) else {
                return 0;
            };
            from.copy_to_volatile_slice(to);
            done += bytes;
        }
        length
    }
}

/// The gofer's end.
#[derive(Debug)]
pub struct Gofer {
    socket: OwnedFd,
    /// The buffer, and a queue that only the gofer has.
    memory: Arc<Memory>,
    queue: Queue,
    /// How many chains the queue has had.
    available: u16,
}

impl Gofer {
    /// An end of this socket and this buffer.
    ///
    /// # Errors
    /// When the buffer cannot be mapped.
    pub fn new(socket: OwnedFd, buffer: OwnedFd) -> io::Result<Self> {
        let file = FileOffset::new(File::from(buffer), 0);
        let ranges = [
            (GuestAddress(REQUEST), BUFFER, Some(file)),
            (GuestAddress(QUEUE), 0x1000, None),
        ];
        let memory = Memory::from_ranges_with_files(ranges).map_err(io::Error::other)?;
        let mut queue = Queue::new(ENTRIES).map_err(io::Error::other)?;
        queue.set_desc_table_address(low(DESCRIPTORS), high(DESCRIPTORS));
        queue.set_avail_ring_address(low(AVAILABLE), high(AVAILABLE));
        queue.set_used_ring_address(low(USED), high(USED));
        queue.set_ready(true);
        Ok(Self {
            socket,
            memory: Arc::new(memory),
            queue,
            available: 0,
        })
    }

    /// Tells the device's process why nothing will be served.
    pub fn refuse(&self, why: &str) {
        let why = why.as_bytes();
        // It is gone, or hears.
        let _ = send(&self.socket, &why[..why.len().min(MOST_SAID)], None);
    }

    /// Serves until the device's process is gone.
    pub fn serve(mut self, server: &FileServer) {
        let mut answered = send(&self.socket, READY, None);
        while answered.is_ok() {
            let mut ask = [0; size_of::<Ask>()];
            let Ok((length, file)) = receive_with_file(&self.socket, &mut ask) else {
                return;
            };
            if length != ask.len() {
                return;
            }
            let ask: Ask = zerocopy::transmute!(ask);
            answered = match ask.what {
                SERVE => {
                    let answer = self.answer(server, ask).unwrap_or_default();
                    self.tell(answer)
                }
                _ => self.arrange(server, ask, file),
            };
        }
    }

    /// Does what the owner asks, and sends what came of it.
    fn arrange(&self, server: &FileServer, ask: Ask, file: Option<OwnedFd>) -> Result<(), Errno> {
        let mut name = vec![0; (ask.length as usize).min(NAME_MAX)];
        let read = self.memory.read_slice(&mut name, GuestAddress(REQUEST));
        let arranged = match (ask.what, file, read) {
            (ATTACH, Some(directory), Ok(())) => server.attach(&name, directory, false).map(|()| 0),
            (ATTACH_READ_ONLY, Some(directory), Ok(())) => {
                server.attach(&name, directory, true).map(|()| 0)
            }
            (DETACH, None, Ok(())) => server.detach(&name),
            _ => Err(Errno::INVAL.into()),
        };
        let (error, share) = match arranged {
            Ok(share) => (0, share),
            Err(error) => (error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()), 0),
        };
        let told = Told {
            length: 0,
            error,
            handle: 0,
            node: 0,
            share,
        };
        send(&self.socket, told.as_bytes(), None)
    }

    /// Makes a chain of what is asked, as the server takes one from a guest.
    fn answer(&mut self, server: &FileServer, ask: Ask) -> Option<Answer> {
        let part = u32::try_from(PART).ok()?;
        let request = u64::from(ask.length.min(part)) | NEXT << 32 | 1 << 48;
        let answer = u64::from(ask.room.min(part)) | WRITE << 32;
        let descriptors = [REQUEST, request, ANSWER, answer].map(u64::to_le_bytes);
        let put = |bytes: &[u8], at| self.memory.write_slice(bytes, GuestAddress(at)).ok();
        put(descriptors.as_flattened(), DESCRIPTORS)?;
        // One more chain is available, whose head is the first descriptor, as all of them.
        self.available = self.available.wrapping_add(1);
        put(&self.available.to_le_bytes(), AVAILABLE + 2)?;
        let memory = &self.memory;
        let chain = self.queue.pop_descriptor_chain(Arc::clone(memory))?;
        Some(server.serve::<Arc<Memory>>(memory, &chain))
    }

    /// Sends what came of a request, and the file that was opened.
    fn tell(&self, answer: Answer) -> Result<(), Errno> {
        let Answer { length, opened } = answer;
        let opened = opened.as_ref();
        let told = Told {
            length,
            error: 0,
            handle: opened.map_or(0, |opened| opened.handle),
            node: opened.map_or(0, |opened| opened.node),
            share: opened.map_or(0, |opened| opened.share),
        };
        send(
            &self.socket,
            told.as_bytes(),
            opened.map(|opened| &opened.file),
        )
    }
}

fn low(address: u64) -> Option<u32> {
    u32::try_from(address & 0xffff_ffff).ok()
}

fn high(address: u64) -> Option<u32> {
    u32::try_from(address >> 32).ok()
}

/// Sends a packet, with a file beside it if there is one.
fn send(socket: &OwnedFd, packet: &[u8], file: Option<&OwnedFd>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let file = file.map(|file| [file.as_fd()]);
    if let Some(file) = &file {
        control.push(SendAncillaryMessage::ScmRights(file));
    }
    let parts = [IoSlice::new(packet)];
    let flags = SendFlags::NOSIGNAL;
    let send = || rustix::net::sendmsg(socket, &parts, &mut control, flags);
    rustix::io::retry_on_intr(send).map(drop)
}

/// One packet; empty when the other end is gone.
fn receive<'b>(socket: &OwnedFd, buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    let (length, _) = receive_with_file(socket, buffer)?;
    Ok(buffer.get(..length).unwrap_or_default())
}

/// The length of one packet, and the file beside it; 0 when the other end is gone.
fn receive_with_file(
    socket: &OwnedFd,
    buffer: &mut [u8],
) -> Result<(usize, Option<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut parts = [IoSliceMut::new(&mut *buffer)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        rustix::net::recvmsg(socket, &mut parts, &mut control, flags)
    })?;
    let mut files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let file = files.next().and_then(|mut files| files.next());
    Ok((received.bytes, file))
}
