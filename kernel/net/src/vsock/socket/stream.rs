//! A socket's stream: waiting for the peer's answer, for its credit and for room in the queue, and closing.

use abi::{Errno, Result};
use collections::Vec;
use fs::Events;
use machine::virtio::Segment;
use machine::{Frame, PAGE_SIZE};
use memory::io::IoReader;

use super::VsockSocket;
use super::role::What;
use crate::options::end_of_wait;
use crate::vsock::connection::{Connection, Phase};
use crate::vsock::device::{PAYLOAD_PAGES, Vsock};

/// How long connect(2) waits for an answer, as on Linux.
const CONNECT_TIMEOUT_NS: u64 = 2_000_000_000;

impl VsockSocket {
    /// Until when connect(2) waits, if it begins now.
    pub(super) fn connect_deadline(&self) -> u64 {
        let timeout = match self.options.send_timeout_ns() {
            0 => CONNECT_TIMEOUT_NS,
            other => other,
        };
        sched::clock::monotonic_ns().saturating_add(timeout)
    }

    /// Waits for the peer's answer to a request.
    pub(super) fn wait_connected(&self, connection: &Connection) -> Result<()> {
        let deadline = self.connect_deadline();
        let answered = connection
            .changed
            .wait_interruptible_deadline(Some(deadline), || {
                let mut state = connection.state.lock();
                match state.phase {
                    Phase::Connecting => None,
                    Phase::Established => Some(Ok(())),
                    Phase::Closed => Some(Err(state.error.take().unwrap_or(Errno::ECONNRESET))),
                }
            });
        // The time is bounded, so a signal does not restart it.
        let restart_ends = |errno| match errno {
            Errno::ERESTARTSYS => Errno::EINTR,
            other => other,
        };
        let result = answered.map_err(restart_ends).and_then(|answer| answer);
        if let Err(errno) = result {
            self.device.forget(connection.key);
            if errno == Errno::ETIMEDOUT {
                connection.close(Some(errno));
            }
            self.role.lock().what = What::Fresh;
        }
        result
    }

    /// Takes bytes of the caller into frames, at most one packet's worth.
    pub(super) fn take(&self, from: &mut IoReader<'_>, max: usize) -> Result<Vec<Segment>> {
        // With room for the header, which goes before the pages.
        let mut payload = Vec::try_with_capacity(PAYLOAD_PAGES + 1)?;
        let mut left = from.remaining().min(max).min(PAYLOAD_PAGES * PAGE_SIZE);
        while left > 0 {
            let frame: Frame = self.device.frame()?;
            let count = match from.read_frame(&frame, 0, left.min(PAGE_SIZE)) {
                Ok(count) => count,
                Err(_) if !payload.is_empty() => break,
                Err(errno) => return Err(errno),
            };
            let is_short = count < left.min(PAGE_SIZE);
            payload.try_extend(Segment::new(frame, 0, count))?;
            left -= count;
            if is_short {
                break;
            }
        }
        Ok(payload)
    }

    /// Bytes the peer has room for; waits until there are some. The peer counts what it has passed on, so nothing is taken
    /// from the caller that would have to be kept here.
    pub(super) fn wait_credit(
        &self,
        connection: &Connection,
        nonblocking: bool,
        deadline: Option<u64>,
    ) -> Result<usize> {
        let look = || {
            let mut state = connection.state.lock();
            if let Some(errno) = state.error.take() {
                return Some(Err(errno));
            }
            if state.is_done || state.peer_is_deaf || state.phase == Phase::Closed {
                return Some(Err(Errno::EPIPE));
            }
            match state.credit() {
                0 if nonblocking => Some(Err(Errno::EAGAIN)),
                0 => None,
                credit => Some(Ok(credit)),
            }
        };
        let waited = connection
            .changed
            .wait_interruptible_deadline(deadline, look);
        waited.map_err(|errno| end_of_wait(errno, deadline))?
    }

    /// Puts a packet into the queue, waiting for room in it: for good, should the host take nothing out, unless a signal
    /// comes.
    pub(super) fn transmit(
        &self,
        connection: &Connection,
        mut payload: Vec<Segment>,
        deadline: Option<u64>,
    ) -> Result<()> {
        let put = || {
            let sent = self.device.send_data(connection, &mut payload);
            let is_over = connection.state.lock().phase == Phase::Closed;
            if sent {
                Some(Ok(()))
            } else {
                is_over.then_some(Err(Errno::EPIPE))
            }
        };
        let activity = self.device.activity();
        let waited = activity.wait_interruptible_deadline(deadline, put);
        waited.map_err(|errno| end_of_wait(errno, deadline))?
    }
}

/// What is ready on a stream.
pub(super) fn ready(connection: &Connection) -> Events {
    let state = connection.state.lock();
    let is_over = state.phase == Phase::Closed;
    let ends_reading = state.peer_is_done || state.is_deaf || is_over;
    let ends_writing = state.peer_is_deaf || state.is_done || is_over;
    let mut events = Events::empty();
    events.set(Events::ERR, state.error.is_some());
    events.set(Events::READABLE, state.available() > 0 || ends_reading);
    events.set(Events::RDHUP, ends_reading);
    events.set(Events::HUP, ends_reading && ends_writing);
    let can_write = state.phase == Phase::Established && state.credit() > 0;
    events.set(Events::WRITABLE, can_write || ends_writing);
    events
}

/// Nobody holds the stream any more: the peer is told, and answers with a reset. Until then the device keeps the
/// connection, so that its key is not used again while packets of the old one are under way.
pub(super) fn close(device: &Vsock, connection: &Connection) {
    let mut state = connection.state.lock();
    let phase = state.phase;
    let (was_deaf, was_done) = (state.is_deaf, state.is_done);
    (state.is_deaf, state.is_done) = (true, true);
    let unread = state.discard();
    drop(state);
    drop(unread);
    match phase {
        Phase::Connecting => device.forget(connection.key),
        Phase::Established if !(was_deaf && was_done) => device.shut_down(connection, true, true),
        Phase::Established | Phase::Closed => {}
    }
}
