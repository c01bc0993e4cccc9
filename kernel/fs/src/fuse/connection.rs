//! The line to a FUSE server: requests out, replies matched to them and checked.
//!
//! Any number of threads have requests in flight. The device's interrupt only wakes those that
//! wait; whoever runs first collects all completions and leaves each where its owner looks.
//! A wait for the server is not interruptible: a reply may carry a lookup count that would
//! be lost with it.
//!
//! What must be said whether there is memory or not, that a file is closed, goes out of [`Reserve`] when there is none.
//!
//! Locking: `reserve` (sleeping) is held until its request is answered; `Call::answer` and `spare` are leaves.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::{iter, mem};

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use machine::sync::SpinLock;
use machine::virtio::{Completion, RequestQueue, Segment};
use machine::{Frame, PAGE_SIZE};
use sched::{Mutex, WaitQueue};
use zerocopy::{FromBytes, IntoBytes};

use super::convert::SERVERS;
use super::wire::{ForgetIn, InHeader, Op, OutHeader};
use crate::user_namespace::{Kgid, Kuid};

/// Frames kept for requests instead of being given back.
const SPARE_FRAMES: usize = 32;
/// Where a reply starts in a frame that holds request and reply.
const REPLY_OFFSET: usize = PAGE_SIZE / 2;
const IN_HEADER: usize = size_of::<InHeader>();
const OUT_HEADER: usize = size_of::<OutHeader>();

/// One request in flight, shared by the queue and the thread that waits.
#[derive(Debug, Default)]
pub(super) struct Call {
    answer: SpinLock<Option<Answered>>,
    /// Nobody waits for the answer: the connection's frames in it, to use again.
    unattended: SpinLock<Option<Vec<Frame>>>,
}

#[derive(Debug)]
struct Answered {
    readable: Vec<Segment>,
    writable: Vec<Segment>,
    written: usize,
}

/// All that a small request needs, made beforehand.
#[derive(Debug)]
struct Reserve {
    frame: Frame,
    readable: Vec<Segment>,
    writable: Vec<Segment>,
    call: Arc<Call>,
}

impl Reserve {
    fn new() -> Result<Reserve> {
        Ok(Reserve {
            frame: Frame::alloc_zeroed().map_err(|_| Errno::ENOMEM)?,
            readable: Vec::try_with_capacity(1)?,
            writable: Vec::try_with_capacity(1)?,
            call: try_arc(Call::default())?,
        })
    }
}

/// Queues of requests, as a virtio-fs device has them.
pub(super) type CallQueue = RequestQueue<Arc<Call>>;

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
    pub(super) wants_reply: bool,
}

impl<'a> Request<'a> {
    /// Its header, and the length of that and the arguments.
    fn header(&self, unique: u64) -> Result<(usize, InHeader)> {
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

    /// A request by the kernel itself, with a reply of at most `room` bytes.
    pub(super) fn new(op: Op, node: u64, args: &'a [&'a [u8]], room: usize) -> Self {
        let (data, pages) = (Vec::new(), Vec::new());
        let (owner, wants_reply) = (Owner::default(), true);
        Request {
            op,
            node,
            owner,
            args,
            data,
            room,
            pages,
            wants_reply,
        }
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

/// The line to one server.
#[derive(Debug)]
pub(super) struct Connection {
    requests: Arc<CallQueue>,
    /// For FORGET, which has no reply.
    urgent: Arc<CallQueue>,
    /// Woken by the device, and by threads that collected what others wait for.
    activity: Arc<WaitQueue>,
    next_unique: AtomicU64,
    /// Has room for [`SPARE_FRAMES`].
    spare: SpinLock<Vec<Frame>>,
    reserve: Mutex<Reserve>,
    /// The server has sent something that cannot be; said once.
    complained: AtomicBool,
}

impl Connection {
    /// A line through these queues. `activity` is what their interrupt wakes.
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
            urgent,
            activity,
            next_unique: AtomicU64::new(2),
            spare: SpinLock::new(Vec::try_with_capacity(SPARE_FRAMES)?),
            reserve: Mutex::new(Reserve::new()?),
            complained: AtomicBool::new(false),
        })
    }

    /// The most pages of data that fit one request or reply.
    pub(super) fn max_pages(&self) -> usize {
        // Beside the pages there are up to two buffers for headers and arguments.
        (self.requests.size().saturating_sub(4)).clamp(1, 64)
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// What the server answers; `EIO` for an answer that cannot be, `ENOMEM`.
    pub(super) fn call(&self, request: Request<'_>) -> Result<Reply> {
        let unique = self.next_unique.fetch_add(2, Ordering::Relaxed);
        // Before the server is asked: what a reply tells must not be lost for want of memory.
        let room = request.room;
        let body = Vec::try_with_capacity(room)?;
        let Message {
            readable,
            writable,
            own,
        } = self.lay_out(request, unique)?;
        let call = try_arc(Call::default())?;
        self.submit(readable, writable, &call)?;
        let answered = self.wait_for(&call)?;
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
        drop(answered);
        self.recycle(own);
        reply
    }

    fn wait_for(&self, call: &Call) -> Result<Answered> {
        self.activity.wait_until(|| {
            self.take_completed();
            if let Some(answered) = call.answer.lock().take() {
                return Some(Ok(answered));
            }
            self.requests.is_broken().then_some(Err(Errno::EIO))
        })
    }

    /// Sends a request of a few bytes whose answer does not matter. Waits for it only when memory is short.
    pub(super) fn send(&self, op: Op, node: u64, args: &[&[u8]]) {
        let unique = self.next_unique.fetch_add(2, Ordering::Relaxed);
        let message = self.lay_out(Request::new(op, node, args, 0), unique);
        let message = message.and_then(|message| Ok((message, try_arc(Call::default())?)));
        // A line that is broken has nothing to release.
        let _ = match message {
            Ok((message, call)) => {
                *call.unattended.lock() = Some(message.own);
                self.submit(message.readable, message.writable, &call)
            }
            Err(_) => self.send_reserved(&Request::new(op, node, args, 0), unique),
        };
    }

    /// As [`Self::send`], taking no memory.
    fn send_reserved(&self, request: &Request<'_>, unique: u64) -> Result<()> {
        let mut guard = self.reserve.lock();
        let reserve = &mut *guard;
        let (head_len, header) = request.header(unique)?;
        if head_len > REPLY_OFFSET {
            return Err(Errno::E2BIG);
        }
        let mut at = 0;
        for bytes in iter::once(header.as_bytes()).chain(request.args.iter().copied()) {
            reserve.frame.write(at, bytes);
            at += bytes.len();
        }
        let reply = Segment::new(reserve.frame.clone(), REPLY_OFFSET, OUT_HEADER);
        let pieces = [
            (
                Segment::new(reserve.frame.clone(), 0, head_len),
                &mut reserve.readable,
            ),
            (reply, &mut reserve.writable),
        ];
        for (segment, list) in pieces {
            // Without room the line is broken: the last request took the lists along.
            let segment = segment.ok_or(Errno::EIO)?;
            list.push_within_capacity(segment).map_err(|_| Errno::EIO)?;
        }
        let (readable, writable) = (
            mem::take(&mut reserve.readable),
            mem::take(&mut reserve.writable),
        );
        self.submit(readable, writable, &reserve.call)?;
        let answered = self.wait_for(&reserve.call)?;
        (reserve.readable, reserve.writable) = (answered.readable, answered.writable);
        reserve.readable.clear();
        reserve.writable.clear();
        Ok(())
    }

    /// Tells the server that `lookups` references to `node` are gone. Best effort: no reply.
    pub(super) fn forget(&self, node: u64, lookups: u64) {
        let unique = self.next_unique.fetch_add(2, Ordering::Relaxed);
        let arg = ForgetIn { nlookup: lookups };
        let args = [arg.as_bytes()];
        let mut request = Request::new(Op::Forget, node, &args, 0);
        request.wants_reply = false;
        self.take_completed();
        let message = self.lay_out(request, unique);
        if let (Ok(message), Ok(call)) = (message, try_arc(Call::default())) {
            // A full queue means a server that forgets slowly; it keeps the node until it ends.
            let _ = self.urgent.submit(message.readable, Vec::new(), call);
        }
    }

    fn submit(
        &self,
        mut readable: Vec<Segment>,
        mut writable: Vec<Segment>,
        call: &Arc<Call>,
    ) -> Result<()> {
        self.activity.wait_until(|| {
            let taken = (mem::take(&mut readable), mem::take(&mut writable));
            match self.requests.submit(taken.0, taken.1, call.clone()) {
                Ok(()) => Some(Ok(())),
                Err(rejected) if rejected.broken => Some(Err(Errno::EIO)),
                Err(rejected) => {
                    (readable, writable) = (rejected.readable, rejected.writable);
                    self.take_completed();
                    None
                }
            }
        })
    }

    /// Takes every completion that the device has and leaves it with its call.
    fn take_completed(&self) {
        let mut any = false;
        while let Some(done) = self.requests.completed() {
            let Completion {
                readable,
                writable,
                written,
                context,
            } = done;
            let unattended = context.unattended.lock().take();
            match unattended {
                Some(own) => {
                    drop((readable, writable));
                    self.recycle(own);
                }
                None => {
                    let answered = Answered {
                        readable,
                        writable,
                        written,
                    };
                    *context.answer.lock() = Some(answered);
                }
            }
            any = true;
        }
        while let Some(done) = self.urgent.completed() {
            self.recycle(done.readable.into_iter().map(Segment::into_frame));
        }
        if any {
            self.activity.wake_all();
        }
    }

    /// Writes header and arguments into frames and finds room for the reply.
    fn lay_out(&self, request: Request<'_>, unique: u64) -> Result<Message> {
        let (head_len, header) = request.header(unique)?;
        let Request {
            args,
            mut data,
            room,
            mut pages,
            wants_reply,
            ..
        } = request;
        let mut own = Vec::new();
        let mut readable = self.segments(head_len, &mut own)?;
        let mut place = Cursor {
            segments: &readable,
            at: 0,
        };
        place.write(header.as_bytes());
        args.iter().for_each(|arg| place.write(arg));
        readable.try_append(&mut data)?;

        let reply_len = OUT_HEADER + room;
        let mut writable = Vec::new();
        if wants_reply && head_len <= REPLY_OFFSET && reply_len <= PAGE_SIZE - REPLY_OFFSET {
            writable.try_extend(Segment::new(own[0].clone(), REPLY_OFFSET, reply_len))?;
        } else if wants_reply {
            writable = self.segments(reply_len, &mut own)?;
        }
        writable.try_append(&mut pages)?;
        Ok(Message {
            readable,
            writable,
            own,
        })
    }

    /// Frames that hold `len` bytes together; handles to them are added to `own`.
    fn segments(&self, len: usize, own: &mut Vec<Frame>) -> Result<Vec<Segment>> {
        let mut segments = Vec::new();
        for start in (0..len).step_by(PAGE_SIZE) {
            let spare = self.spare.lock().pop();
            let frame = match spare {
                Some(frame) => frame,
                None => Frame::alloc_zeroed().map_err(|_| Errno::ENOMEM)?,
            };
            own.try_push(frame.clone())?;
            segments.try_extend(Segment::new(frame, 0, (len - start).min(PAGE_SIZE)))?;
        }
        Ok(segments)
    }

    /// Keeps as many of `frames` as there is room for.
    fn recycle(&self, frames: impl IntoIterator<Item = Frame>) {
        for frame in frames {
            let unfit = self.spare.lock().push_within_capacity(frame);
            drop(unfit);
        }
    }
}

/// A request laid out in memory.
struct Message {
    readable: Vec<Segment>,
    writable: Vec<Segment>,
    /// Further handles to the frames that are the connection's, to use again.
    own: Vec<Frame>,
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

/// A reply that no request could have.
struct Impossible;

/// Checks a reply against its request and takes it out of the buffers: `room` bytes at most go to
/// `body`, which has room for them, what is behind it went to pages. The inner result is the server's answer.
fn check(
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
        // From 512 on the numbers are the kernel's own and mean a restart.
        let errno = number
            .filter(|number| *number < 512)
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
