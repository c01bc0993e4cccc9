//! Packets to the host: control packets, which wait in order for room, and the bytes of streams.

use abi::{Errno, Result};
use collections::Vec;
use machine::virtio::Segment;
use vsock_packet::{HEADER_LEN, Header, Key, Op, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use zerocopy::IntoBytes;

use super::{PENDING_MAX, Vsock};
use crate::vsock::connection::{Connection, Phase};

impl Vsock {
    /// Tells the peer that directions are shut down.
    pub(in crate::vsock) fn shut_down(&self, connection: &Connection, receive: bool, send: bool) {
        let receive = if receive { SHUTDOWN_RECEIVE } else { 0 };
        let send = if send { SHUTDOWN_SEND } else { 0 };
        self.control_of(connection, Op::Shutdown, receive | send);
    }

    /// Tells the peer of room, when it is time to.
    pub(in crate::vsock) fn tell_credit(&self, connection: &Connection) {
        let state = connection.state.lock();
        let tell = state.phase == Phase::Established && state.should_tell();
        drop(state);
        if tell {
            self.control_of(connection, Op::CreditUpdate, 0);
        }
    }

    /// Sends a packet without payload for a connection, with its credit.
    pub(in crate::vsock) fn control_of(&self, connection: &Connection, op: Op, flags: u32) {
        let mut header = Header::new(self.cid, connection.key, op);
        header.flags = flags.into();
        connection.state.lock().tell_credit(&mut header);
        self.send_control(header);
    }

    /// Sends a packet without payload for no connection.
    pub(in crate::vsock) fn control(&self, key: Key, op: Op, flags: u32) {
        let mut header = Header::new(self.cid, key, op);
        header.flags = flags.into();
        self.send_control(header);
    }

    /// Whether a packet to the host would not have to wait behind too many others.
    pub(super) fn has_room(&self) -> bool {
        self.pending.lock().len() < PENDING_MAX
    }

    /// Waits until the host takes packets in.
    ///
    /// # Errors
    /// `EAGAIN` when it must not wait, `EINTR`, `ETIMEDOUT` at the deadline.
    pub(in crate::vsock) fn wait_room(&self, nonblocking: bool, deadline_ns: u64) -> Result<()> {
        if self.has_room() {
            return Ok(());
        }
        if nonblocking {
            return Err(Errno::EAGAIN);
        }
        let has_room = || self.has_room().then_some(());
        let waited = self
            .activity
            .wait_interruptible_deadline(Some(deadline_ns), has_room);
        waited.map_err(|errno| match errno {
            Errno::ERESTARTSYS => Errno::EINTR,
            other => other,
        })
    }

    fn send_control(&self, header: Header) {
        if self.pending.lock().try_push_back(header).is_err() {
            machine::log!("vsock: no memory for a packet to the host, which is dropped");
        }
        self.send_pending();
    }

    /// Sends what waits; whether anything went.
    pub(super) fn send_pending(&self) -> bool {
        let mut any = false;
        loop {
            self.take_completed();
            // Taken and put under one lock, so that packets of a connection stay in order.
            let mut pending = self.pending.lock();
            let Some(header) = pending.front() else {
                return any;
            };
            if !self.put(header, &mut Vec::new()) {
                return any;
            }
            pending.pop_front();
            any = true;
            drop(pending);
            sched::cond_resched();
        }
    }

    /// Puts a packet into the transmit queue; `false`, and the payload back, when there is no room
    /// or memory.
    fn put(&self, header: &Header, payload: &mut Vec<Segment>) -> bool {
        let Ok(frame) = self.frame() else {
            return false;
        };
        frame.write(0, header.as_bytes());
        let Some(head) = Segment::new(frame, 0, HEADER_LEN) else {
            return false;
        };
        if payload.try_insert(0, head).is_err() {
            return false;
        }
        let readable = core::mem::take(payload);
        match self.queues.transmit.submit(readable, Vec::new(), ()) {
            Ok(()) => true,
            Err(rejected) => {
                *payload = rejected.readable;
                payload.remove(0);
                false
            }
        }
    }

    /// Sends bytes of a connection, taking them; `false` when the queue is full. Control packets that wait go first.
    pub(in crate::vsock) fn send_data(
        &self,
        connection: &Connection,
        payload: &mut Vec<Segment>,
    ) -> bool {
        self.take_completed();
        let len: usize = payload.iter().map(Segment::len).sum();
        let Ok(len) = u32::try_from(len) else {
            return false;
        };
        self.send_pending();
        let pending = self.pending.lock();
        if !pending.is_empty() {
            return false;
        }
        let mut header = Header::new(self.cid, connection.key, Op::Data);
        header.len = len.into();
        connection.state.lock().tell_credit(&mut header);
        let sent = self.put(&header, payload);
        if sent {
            connection.state.lock().count_sent(len);
        }
        sent
    }

    /// Takes back the buffers of packets that are sent.
    pub(super) fn take_completed(&self) {
        while let Some(done) = self.queues.transmit.completed() {
            self.recycle(done.readable.into_iter().map(Segment::into_frame));
        }
    }
}
