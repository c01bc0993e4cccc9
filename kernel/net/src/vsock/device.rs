//! The socket device: packets in and out, and who they are for.
//!
//! A kernel thread takes in what arrives; whoever sends puts packets into the transmit queue itself.
//! Control packets that find the queue full wait in `pending` for that thread. When many wait, because the host takes
//! nothing out, nothing is taken in that would be answered, and nobody connects. [`transmit`] is the way out, [`table`] says
//! who a packet is for.
//!
//! Locking: `table` is above the states of connections, `pending` and `spare` are leaves.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

use abi::{Errno, Result};
use collections::{Vec, VecDeque, try_arc};
use machine::Frame;
use machine::sync::SpinLock;
use machine::virtio::{Device, RequestQueue, Segment, SetupError};
use sched::WaitQueue;
use sched::thread::ThreadBuilder;
use vsock_packet::{HEADER_LEN, Header, Op, STREAM};
use zerocopy::FromBytes;

use super::connection::{Connection, Phase};

mod table;
mod transmit;

use table::Table;

const RECEIVE_QUEUE: u16 = 0;
const TRANSMIT_QUEUE: u16 = 1;
const EVENT_QUEUE: u16 = 2;
/// Buffers that the device has for packets to come.
const RECEIVE_FRAMES: usize = 64;
const SPARE_FRAMES: usize = 64;
/// Pages of payload in one packet.
pub(super) const PAYLOAD_PAGES: usize = 8;
/// Control packets that wait when no more are made: the size of the queue, as Linux has it. Those of connections that there
/// are come on top: one for its end.
const PENDING_MAX: usize = 128;
/// Connections at a time; a peer that opens more is refused.
const CONNECTIONS_MAX: usize = 4096;

/// The socket device and all that goes through it.
pub(super) struct Vsock {
    pub(super) cid: u64,
    queues: Queues,
    /// Woken by the device's interrupts.
    activity: Arc<WaitQueue>,
    table: SpinLock<Table>,
    pending: SpinLock<VecDeque<Header>>,
    spare: SpinLock<Vec<Frame>>,
    /// Buffers that the device has for packets to come.
    offered: AtomicUsize,
}

/// The device's queues; it runs as long as all of them are there.
pub(super) struct Queues {
    pub(super) receive: Arc<RequestQueue<()>>,
    pub(super) transmit: Arc<RequestQueue<()>>,
    pub(super) _events: Option<Arc<RequestQueue<()>>>,
}

impl core::fmt::Debug for Vsock {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Vsock")
            .field("cid", &self.cid)
            .finish_non_exhaustive()
    }
}

static DEVICE: SpinLock<Option<Arc<Vsock>>> = SpinLock::new(None);

/// The device.
///
/// # Errors
/// `ENODEV` without one.
pub(super) fn get() -> Result<Arc<Vsock>> {
    DEVICE.lock().clone().ok_or(Errno::ENODEV)
}

/// Takes a socket device into use.
///
/// # Errors
/// Why it cannot be driven.
pub fn add_device(mut device: Device) -> core::result::Result<(), SetupError> {
    device.negotiate(0)?;
    let mut cid = [0; 8];
    device.read_config(0, &mut cid);
    let activity = try_arc(WaitQueue::new())?;
    let wakes = || {
        let woken = activity.clone();
        try_arc(move || woken.wake_all())
    };
    let receive = device.queue(RECEIVE_QUEUE, 128, 0, wakes()?)?;
    let transmit = device.queue(TRANSMIT_QUEUE, 128, 0, wakes()?)?;
    // Events tell of migrations, which do not happen to us; without buffers none are sent.
    let events = device.queue(EVENT_QUEUE, 4, 0, wakes()?)?;
    device.start()?;
    let queues = Queues {
        receive,
        transmit,
        _events: Some(events),
    };
    let vsock = Vsock::new(u64::from_le_bytes(cid), queues, activity)
        .map_err(|_| SetupError::OutOfMemory)?;
    *DEVICE.lock() = Some(vsock.clone());
    let thread = ThreadBuilder::new(b"vsock", move || vsock.run());
    thread
        .spawn()
        .map(|_| ())
        .map_err(|_| SetupError::OutOfMemory)
}

impl Vsock {
    pub(super) fn new(cid: u64, queues: Queues, activity: Arc<WaitQueue>) -> Result<Arc<Vsock>> {
        let vsock = try_arc(Vsock {
            cid,
            queues,
            activity,
            table: SpinLock::default(),
            pending: SpinLock::default(),
            spare: SpinLock::default(),
            offered: AtomicUsize::new(0),
        })?;
        vsock.offer_buffers();
        Ok(vsock)
    }

    /// Takes in packets for ever.
    fn run(&self) {
        loop {
            self.activity.wait_until(|| self.pump().then_some(()));
            if self.queues.receive.is_broken() || self.queues.transmit.is_broken() {
                machine::log!("vsock: the device is broken; all connections are reset");
                self.reset_all();
                return;
            }
        }
    }

    /// Takes in what has arrived and sends what had to wait; whether there was any. Called by one
    /// thread, so that packets are taken in in order.
    pub(super) fn pump(&self) -> bool {
        let mut any = self.queues.receive.is_broken() || self.queues.transmit.is_broken();
        while self.has_room()
            && let Some(mut done) = self.queues.receive.completed()
        {
            any = true;
            self.offered.fetch_sub(1, Ordering::Relaxed);
            if let Some(segment) = done.writable.pop() {
                self.packet(segment.into_frame(), done.written);
            }
            sched::cond_resched();
        }
        self.offer_buffers();
        any | self.send_pending()
    }

    /// Gives the device buffers until it has enough, or there is no memory: then whoever recycles a frame
    /// has this tried again.
    fn offer_buffers(&self) {
        while self.offered.load(Ordering::Relaxed) < RECEIVE_FRAMES {
            let Ok(frame) = self.frame() else { break };
            let Ok(mut writable) = Vec::try_with_capacity(1) else {
                break;
            };
            if writable.try_push(Segment::page(frame)).is_err() {
                break;
            }
            let added = self.queues.receive.add(Vec::new(), writable, ());
            if added.is_err() {
                break;
            }
            self.offered.fetch_add(1, Ordering::Relaxed);
        }
        self.queues.receive.kick();
    }

    /// A frame for a packet.
    pub(super) fn frame(&self) -> Result<Frame> {
        let spare = self.spare.lock().pop();
        match spare {
            Some(frame) => Ok(frame),
            None => Frame::alloc_zeroed().map_err(|_| Errno::ENOMEM),
        }
    }

    /// Takes frames back for later packets.
    pub(super) fn recycle(&self, frames: impl IntoIterator<Item = Frame>) {
        let mut spare = self.spare.lock();
        for frame in frames {
            // One that somebody else still looks at must not be written again.
            if spare.len() < SPARE_FRAMES && frame.handles() == 1 {
                // Without memory for the list the frame is just given back.
                let _ = spare.try_push(frame);
            }
        }
        drop(spare);
        if self.offered.load(Ordering::Relaxed) < RECEIVE_FRAMES / 2 {
            self.activity.wake_all();
        }
    }

    /// Acts on one packet of `written` bytes.
    fn packet(&self, frame: Frame, written: usize) {
        let mut bytes = [0; HEADER_LEN];
        frame.read(0, &mut bytes);
        let Ok(header) = Header::read_from_bytes(&bytes) else {
            return;
        };
        let len = header.len.get() as usize;
        let is_whole = written >= HEADER_LEN && len <= written - HEADER_LEN;
        if !is_whole || header.dst_cid.get() != self.cid {
            self.recycle([frame]);
            return;
        }
        let op = Op::from_raw(header.op.get()).filter(|_| header.kind.get() == STREAM);
        let known = self.table.lock().connections.get(&header.key()).cloned();
        match (op, known) {
            (Some(Op::Reset), None) => {}
            (Some(Op::Request), None) => self.requested(&header),
            (Some(op), Some(connection)) => {
                if let Some(frame) = self.for_connection(&connection, op, &header, frame, len) {
                    self.recycle([frame]);
                }
                return;
            }
            (None, _) | (_, None) => self.control(header.key(), Op::Reset, 0),
        }
        self.recycle([frame]);
    }

    /// The peer wants to connect.
    fn requested(&self, header: &Header) {
        let key = header.key();
        let Ok(connection) = Connection::new(key, Phase::Established) else {
            self.control(key, Op::Reset, 0);
            return;
        };
        connection.state.lock().learn_credit(header);
        let mut table = self.table.lock();
        let listener = table.listeners.get(&key.local_port).cloned();
        let has_room = table.connections.len() < CONNECTIONS_MAX;
        let taken = listener.filter(|_| has_room).is_some_and(|listener| {
            let is_known = table
                .connections
                .try_insert(key, connection.clone())
                .is_ok();
            let taken = is_known && listener.offer(connection.clone());
            if !taken {
                table.connections.remove(&key);
            }
            taken
        });
        drop(table);
        if taken {
            self.control_of(&connection, Op::Response, 0);
        } else {
            self.control(key, Op::Reset, 0);
        }
    }

    /// A packet for a connection that there is; the frame, unless it was kept.
    fn for_connection(
        &self,
        connection: &Arc<Connection>,
        op: Op,
        header: &Header,
        frame: Frame,
        len: usize,
    ) -> Option<Frame> {
        let mut state = connection.state.lock();
        state.learn_credit(header);
        let mut back = None;
        let mut reset = false;
        match (op, state.phase) {
            (Op::Response, Phase::Connecting) => state.phase = Phase::Established,
            (Op::Reset, phase) => {
                drop(state);
                self.forget(connection.key);
                // Ports of a connection that both ends have finished are just released.
                let error = (phase == Phase::Connecting).then_some(Errno::ECONNRESET);
                connection.close(error.or_else(|| reset_error(connection)));
                return Some(frame);
            }
            (Op::Shutdown, Phase::Established) => {
                if state.peer_shut_down(header.flags.get()) {
                    state.phase = Phase::Closed;
                    reset = true;
                }
            }
            (Op::Data, Phase::Established) => {
                let (fits, unused) = state.take_in(frame, HEADER_LEN, len);
                reset = !fits;
                back = unused;
                drop(state);
                if reset {
                    self.forget(connection.key);
                    connection.close(Some(Errno::ECONNRESET));
                    self.control(connection.key, Op::Reset, 0);
                }
                connection.changed.wake_all();
                return back;
            }
            (Op::CreditRequest, Phase::Established) => state.owe_credit(),
            (Op::CreditUpdate, Phase::Established) => {}
            (_, Phase::Closed) => reset = op == Op::Data,
            (_, Phase::Connecting | Phase::Established) => reset = true,
        }
        let tell = state.phase == Phase::Established && state.should_tell();
        drop(state);
        if reset {
            self.forget(connection.key);
            connection.close(None);
            self.control(connection.key, Op::Reset, 0);
        } else if tell {
            self.control_of(connection, Op::CreditUpdate, 0);
        }
        connection.changed.wake_all();
        back.or(Some(frame))
    }

    /// Woken when a full transmit queue may have room.
    pub(super) fn activity(&self) -> &Arc<WaitQueue> {
        &self.activity
    }
}

/// What a reset means to a stream that was established: an error, unless all had been said.
fn reset_error(connection: &Connection) -> Option<Errno> {
    let state = connection.state.lock();
    let is_finished = state.peer_is_done || state.is_done && state.is_deaf;
    (!is_finished).then_some(Errno::ECONNRESET)
}
