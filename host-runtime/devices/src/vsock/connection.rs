//! One vsock stream: a host socket on one side, credit-counted packets on the other.
//!
//! Bytes from the guest go straight to the host socket and wait in a buffer of [`BUFFER`] bytes
//! only when it is full; a guest that sends more than it was told it may is reset. Bytes from the host
//! are read only when the guest has room, so nothing is ever queued towards the guest.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use vsock_packet::{Header, Op, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND, STREAM};

/// How many bytes from the guest wait here at most.
pub const BUFFER: u32 = 256 * 1024;
/// A credit update is sent when this much was freed since the guest was last told.
const CREDIT_STEP: u32 = BUFFER / 4;

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The guest has not answered attempt number `.0`.
    Connecting(u64),
    /// Data flows.
    Open,
    /// It only has a reset to send, then it is gone.
    Resetting,
}

/// What is to be sent besides data.
#[derive(Debug, Default)]
struct Pending {
    request: bool,
    credit: bool,
}

/// One stream.
#[derive(Debug)]
pub struct Connection {
    /// The guest's port.
    pub guest_port: u32,
    /// How far it is.
    pub stage: Stage,
    stream: UnixStream,
    pending: Pending,
    /// From the guest, not yet taken by the host.
    buffer: VecDeque<u8>,
    /// Bytes the host took, wrapping.
    forwarded: u32,
    /// What the guest was last told of that.
    told: u32,
    /// Bytes sent to the guest, wrapping, and what it told of itself.
    sent: u32,
    peer_buffer: u32,
    peer_forwarded: u32,
    host_readable: bool,
    host_ended: bool,
    host_refuses: bool,
    shutdown_sent: u32,
    shutdown_received: u32,
}

impl Connection {
    /// A connection that will ask the guest for `guest_port`.
    #[must_use]
    pub fn new(attempt: u64, guest_port: u32, stream: UnixStream) -> Self {
        Self {
            guest_port,
            stage: Stage::Connecting(attempt),
            stream,
            pending: Pending {
                request: true,
                credit: false,
            },
            buffer: VecDeque::new(),
            forwarded: 0,
            told: 0,
            sent: 0,
            peer_buffer: 0,
            peer_forwarded: 0,
            host_readable: true,
            host_ended: false,
            host_refuses: false,
            shutdown_sent: 0,
            shutdown_received: 0,
        }
    }

    /// The host's side, for polling.
    #[must_use]
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// The poller saw something: `gone` when the host's end is closed altogether.
    pub fn ready(&mut self, readable: bool, writable: bool, gone: bool) {
        self.host_readable |= readable | gone;
        if gone {
            self.refuse_data();
            if matches!(self.stage, Stage::Connecting(_)) {
                self.stage = Stage::Resetting;
            }
        }
        if writable {
            self.flush();
        }
    }

    /// Takes note of what every packet of the guest says.
    pub fn note_credit(&mut self, header: &Header) {
        self.peer_buffer = header.buf_alloc.get();
        self.peer_forwarded = header.fwd_cnt.get();
    }

    /// The guest accepted.
    pub fn open(&mut self) {
        self.stage = Stage::Open;
    }

    /// The guest wants to hear of our credit.
    pub fn tell_credit(&mut self) {
        self.pending.credit = true;
    }

    /// Break the connection.
    pub fn reset(&mut self) {
        self.stage = Stage::Resetting;
    }

    /// Data from the guest.
    pub fn receive(&mut self, data: &[u8]) {
        let room = (BUFFER as usize).saturating_sub(self.buffer.len());
        let after_end = self.shutdown_received & SHUTDOWN_SEND != 0;
        if self.stage != Stage::Open || data.len() > room || after_end {
            self.stage = Stage::Resetting;
            return;
        }
        self.buffer.extend(data);
        self.flush();
    }

    /// The guest ended one or both directions.
    pub fn shut_down(&mut self, flags: u32) {
        self.shutdown_received |= flags & SHUTDOWN_BOTH;
        if flags & SHUTDOWN_RECEIVE != 0 {
            self.host_ended = true;
            // The host's writers learn that nobody reads. It may already have hung up.
            let _ = self.stream.shutdown(Shutdown::Read);
        }
        self.flush();
    }

    /// The next packet for the guest, with at most `capacity` bytes of data; `None` when there is none now.
    pub fn next(&mut self, capacity: usize) -> Option<(Header, Vec<u8>)> {
        match self.stage {
            Stage::Resetting => return Some((self.header(Op::Reset), Vec::new())),
            Stage::Connecting(_) => {
                let wanted = std::mem::take(&mut self.pending.request);
                return wanted.then(|| (self.header(Op::Request), Vec::new()));
            }
            Stage::Open => {}
        }
        if let Some(data) = self.read_host(capacity) {
            let mut header = self.header(Op::Data);
            let length = u32::try_from(data.len()).unwrap_or(0);
            header.len = length.into();
            self.sent = self.sent.wrapping_add(length);
            return Some((header, data));
        }
        let shutdown = self.shutdown_due();
        if shutdown != self.shutdown_sent {
            self.shutdown_sent = shutdown;
            let mut header = self.header(Op::Shutdown);
            header.flags = shutdown.into();
            return Some((header, Vec::new()));
        }
        let due = self.forwarded.wrapping_sub(self.told) >= CREDIT_STEP;
        if std::mem::take(&mut self.pending.credit) || due {
            return Some((self.header(Op::CreditUpdate), Vec::new()));
        }
        None
    }

    /// Gives the host what waits, within a bound: the guest is gone.
    pub fn finish(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = left.max(Duration::from_millis(1));
        let timed = self.stream.set_nonblocking(false).is_ok()
            && self.stream.set_write_timeout(Some(left)).is_ok();
        if timed {
            // A host that does not read in time, or no more, does not want it.
            let _ = self.stream.write_all(self.buffer.make_contiguous());
        }
        self.buffer.clear();
    }

    fn header(&mut self, op: Op) -> Header {
        self.told = self.forwarded;
        Header {
            dst_port: self.guest_port.into(),
            kind: STREAM.into(),
            op: op.to_raw().into(),
            buf_alloc: BUFFER.into(),
            fwd_cnt: self.forwarded.into(),
            ..Header::default()
        }
    }

    /// Reads from the host as much as the guest has room for.
    fn read_host(&mut self, capacity: usize) -> Option<Vec<u8>> {
        let in_flight = self.sent.wrapping_sub(self.peer_forwarded);
        let credit = self.peer_buffer.saturating_sub(in_flight);
        let most = capacity.min(credit as usize);
        if !self.host_readable || self.host_ended || most == 0 {
            return None;
        }
        let mut data = vec![0; most];
        loop {
            match self.stream.read(&mut data) {
                Ok(0) => self.host_ended = true,
                Ok(got) => {
                    data.truncate(got);
                    return Some(data);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.host_readable = false;
                }
                Err(_) => self.host_ended = true,
            }
            return None;
        }
    }

    /// Writes to the host what waits, and ends the direction when the guest has.
    fn flush(&mut self) {
        while !self.buffer.is_empty() && !self.host_refuses {
            let (first, _) = self.buffer.as_slices();
            match self.stream.write(first) {
                Ok(taken) => {
                    self.buffer.drain(..taken);
                    self.forwarded = self
                        .forwarded
                        .wrapping_add(u32::try_from(taken).unwrap_or(0));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.refuse_data(),
            }
        }
        if self.host_refuses {
            let dropped = u32::try_from(self.buffer.len()).unwrap_or(0);
            self.forwarded = self.forwarded.wrapping_add(dropped);
            self.buffer.clear();
        }
        if self.shutdown_received & SHUTDOWN_SEND != 0 {
            // The host may already have hung up.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        if self.shutdown_received == SHUTDOWN_BOTH {
            self.stage = Stage::Resetting;
        }
    }

    fn refuse_data(&mut self) {
        self.host_refuses = true;
    }

    /// The shutdown flags that the guest should have been sent by now.
    fn shutdown_due(&self) -> u32 {
        let receive = if self.host_refuses {
            SHUTDOWN_RECEIVE
        } else {
            0
        };
        let send = if self.host_ended { SHUTDOWN_SEND } else { 0 };
        receive | send
    }
}
