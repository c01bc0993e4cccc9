//! virtio socket (virtio 1.2, section 5.10): streams that the host opens to ports of the guest.
//!
//! [`connection`] is one stream of packets, [`mux`] all of them; here they meet the queues and the poller. Everything runs on the event loop's thread.

pub mod connection;
pub mod mux;

use std::fmt::{self, Debug};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use virtio_queue::QueueT;
use vsock_packet::{HEADER_LEN, Header};
use zerocopy::{FromBytes, IntoBytes};

use super::state::{Saved, StateError};
use super::{Active, Chain, MOST_IN_A_ROW, Space, VirtioDevice};
use connection::{BUFFER, Connection};
use mux::{Mux, Outcome};

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// The most bytes of data put into one packet.
const MOST_DATA: usize = 64 * 1024;
/// The bit that tells a host port from the event loop's other tokens.
pub const STREAM_TOKEN: u64 = 1 << 32;
/// The version of what a device is saved as.
const SAVED_VERSION: u32 = 1;
/// How long the host's readers have to take what a guest sent before it ended.
const FINISH_BOUND: Duration = Duration::from_secs(2);

/// Who is told what became of a connection attempt: the guest accepted, and its socket carries the stream, or why not.
struct Attempts(Box<Tell>);

type Tell = dyn Fn(u64, Result<(), &str>) + Send + Sync;

impl Debug for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attempts")
    }
}

/// The socket device.
#[derive(Debug)]
pub struct Vsock<S> {
    mux: Mux,
    guest_cid: u64,
    active: Option<Active<S>>,
    /// Connections of a driver that is gone, for the device's own thread to close.
    gone: Vec<Connection>,
    poller: Arc<OwnedFd>,
    attempts: Attempts,
}

impl<S: Space> Vsock<S> {
    /// A device for the guest with this context identifier, whose streams are polled by `poller`, under tokens
    /// with [`STREAM_TOKEN`]. `tell` is called with the number of each connection attempt and with what became of it.
    #[must_use]
    pub fn new(
        guest_cid: u64,
        poller: Arc<OwnedFd>,
        tell: impl Fn(u64, Result<(), &str>) + Send + Sync + 'static,
    ) -> Self {
        Self {
            mux: Mux::new(guest_cid),
            guest_cid,
            active: None,
            gone: Vec::new(),
            poller,
            attempts: Attempts(Box::new(tell)),
        }
    }

    /// Connects a host socket to a port of the guest; what becomes of it is told by the number.
    pub fn connect(&mut self, attempt: u64, guest_port: u32, stream: OwnedFd) {
        if let Err(why) = self.try_connect(attempt, guest_port, stream) {
            (self.attempts.0)(attempt, Err(why));
        }
        self.pump();
    }

    fn try_connect(
        &mut self,
        attempt: u64,
        guest_port: u32,
        stream: OwnedFd,
    ) -> Result<(), &'static str> {
        if self.active.is_none() {
            return Err("the guest's vsock driver is not up");
        }
        let stream = UnixStream::from(stream);
        let no_poll = "the VMM cannot poll the stream";
        stream.set_nonblocking(true).map_err(|_| no_poll)?;
        let port = self.mux.connect(attempt, guest_port, stream);
        let port = port.ok_or("the guest has too many vsock streams")?;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let token = EventData::new_u64(STREAM_TOKEN | u64::from(port));
        // Closing the connection's socket ends the registration.
        let added = match self.mux.get_mut(port) {
            Some(connection) => {
                epoll::add(&*self.poller, connection.stream().as_fd(), token, flags)
            }
            None => return Err(no_poll),
        };
        added.map_err(|_| no_poll)
    }

    /// The poller saw something on a host socket.
    pub fn stream_ready(&mut self, token: u64, flags: EventFlags) {
        let port = u32::try_from(token & !STREAM_TOKEN).unwrap_or(0);
        if let Some(connection) = self.mux.get_mut(port) {
            let readable = flags.intersects(EventFlags::IN | EventFlags::RDHUP);
            let gone = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            connection.ready(readable, flags.contains(EventFlags::OUT), gone);
        }
        self.pump();
    }

    /// The guest has ended: passes on what it has sent.
    pub fn finish(&mut self) {
        self.take_from_guest();
        self.mux.finish(Instant::now() + FINISH_BOUND);
    }

    fn take_from_guest(&mut self) {
        let Self {
            mux,
            active: Some(active),
            ..
        } = self
        else {
            return;
        };
        active.drain(TRANSMIT, |memory, chain| {
            if let Some((header, data)) = read_packet::<S>(memory, chain) {
                mux.receive(&header, &data);
            }
            0
        });
    }

    /// Fills the guest's receive buffers, then reports what became of attempts.
    fn pump(&mut self) {
        if let Some(active) = &mut self.active {
            fill(&mut self.mux, active);
        }
        for outcome in self.mux.take_outcomes() {
            let (attempt, outcome) = match outcome {
                Outcome::Connected(attempt) => (attempt, Ok(())),
                Outcome::Refused(attempt) => {
                    (attempt, Err("nothing in the guest listens on this port"))
                }
            };
            (self.attempts.0)(attempt, outcome);
        }
    }
}

impl<S: Space> VirtioDevice<S> for Vsock<S> {
    fn id(&self) -> u32 {
        19
    }

    fn name(&self) -> &'static str {
        "vsock"
    }

    /// Receive, transmit, event.
    fn queue_sizes(&self) -> &'static [u16] {
        &[128, 128, 16]
    }

    fn config(&self) -> Vec<u8> {
        self.guest_cid.to_le_bytes().to_vec()
    }

    fn activate(&mut self, active: Active<S>) {
        let comes = active.kick(TRANSMIT);
        self.active = Some(active);
        if !comes {
            self.kicked(TRANSMIT);
        }
    }

    fn kicked(&mut self, queue: usize) {
        self.gone.clear();
        if queue == TRANSMIT {
            self.take_from_guest();
        }
        self.pump();
    }

    fn suspend(&mut self) -> Option<Active<S>> {
        // What the guest has sent is its own no more.
        self.take_from_guest();
        self.active.take()
    }

    fn reset(&mut self) {
        self.gone.extend(self.mux.clear());
        let active = self.active.take();
        if !active.is_some_and(|active| active.kick(TRANSMIT)) {
            self.gone.clear();
        }
        self.pump();
    }

    /// A stream's host end cannot be saved: the guest finds all its streams reset.
    fn save(&self) -> Result<Saved, StateError> {
        Saved::new("vsock", SAVED_VERSION, &self.mux.save())
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), StateError> {
        let unfit = |what| StateError::Unfit {
            of: "vsock".to_owned(),
            what,
        };
        self.mux
            .restore(&saved.fields("vsock", SAVED_VERSION)?)
            .map_err(unfit)
    }
}

/// Puts packets into receive buffers while there are both.
fn fill<S: Space>(mux: &mut Mux, active: &mut Active<S>) {
    let used = fill_buffers(mux, active);
    active.count(used);
    if used > 0 {
        active.notify(RECEIVE);
    }
    if used == MOST_IN_A_ROW {
        active.kick(RECEIVE);
    }
}

/// Does so and says how many buffers were used, [`MOST_IN_A_ROW`] at most.
fn fill_buffers<S: Space>(mux: &mut Mux, active: &mut Active<S>) -> usize {
    let memory = active.memory.memory();
    let queue = active.queues.get_mut(RECEIVE).filter(|queue| queue.ready());
    let Some(queue) = queue else { return 0 };
    let mut used = 0;
    let mut is_promised = false;
    loop {
        let before = used;
        while let Some(chain) = queue.pop_descriptor_chain(memory.clone()) {
            let Some((head, length)) = fill_one::<S>(mux, &memory, chain) else {
                // Not used after all: the next packet takes it.
                queue.set_next_avail(queue.next_avail().wrapping_sub(1));
                return used;
            };
            if queue.add_used(&*memory, head, length).is_err() {
                return used;
            }
            used += 1;
            if used == MOST_IN_A_ROW {
                return used;
            }
        }
        // Out of buffers: ask to be told of new ones, unless they are already there.
        // An index that lies names chains that cannot be taken, for ever.
        let has_more = queue.enable_notification(&*memory).unwrap_or(false);
        if !has_more || is_promised && used == before {
            return used;
        }
        is_promised = true;
    }
}

/// Fills one receive buffer; gives its head and length, or `None` when there is no packet.
fn fill_one<S: Space>(mux: &mut Mux, memory: &S::M, chain: Chain<S>) -> Option<(u16, u32)> {
    let head = chain.head_index();
    // A buffer that is no buffer is given back empty.
    let Ok(mut writer) = chain.writer(memory) else {
        return Some((head, 0));
    };
    let Some(capacity) = writer.available_bytes().checked_sub(HEADER_LEN) else {
        return Some((head, 0));
    };
    let (header, data) = mux.next(capacity.min(MOST_DATA))?;
    let written = writer
        .write_all(header.as_bytes())
        .and_then(|()| writer.write_all(&data));
    let length = if written.is_ok() {
        HEADER_LEN + data.len()
    } else {
        0
    };
    Some((head, u32::try_from(length).unwrap_or(0)))
}

/// Reads one packet of the guest; `None` when there is not even a header. One whose length is a lie gets
/// an operation that does not exist, which breaks its connection.
fn read_packet<S: Space>(memory: &S::M, chain: Chain<S>) -> Option<(Header, Vec<u8>)> {
    let mut reader = chain.reader(memory).ok()?;
    let mut header = [0; HEADER_LEN];
    reader.read_exact(&mut header).ok()?;
    let mut header = Header::read_from_bytes(&header).ok()?;
    let length = usize::try_from(header.len.get()).ok()?;
    if header.len.get() > BUFFER || length > reader.available_bytes() {
        header.op = 0.into();
        return Some((header, Vec::new()));
    }
    let mut data = vec![0; length];
    reader.read_exact(&mut data).ok()?;
    Some((header, data))
}
