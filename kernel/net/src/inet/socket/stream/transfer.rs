//! Sending and receiving by TCP sockets.
//!
//! Bytes are copied from and to the program without the stack's lock: into a buffer before they are queued, and out of the
//! queue's buffers, to which the reader has handles meanwhile.

use abi::{Errno, Result};
use memory::io::{IoReader, IoWriter};

use super::StreamSocket;
use crate::inet::bytes::{Bytes, write_all};
use crate::inet::tcp::{State, Switch, Tcb};
use crate::options::end_of_wait;
use crate::socket::{ReceiveFlags, Received, SendFlags};

/// Bytes of one buffer.
const CHUNK: usize = 65536;

impl StreamSocket {
    pub(super) fn send_bytes(&self, from: &mut IoReader<'_>, flags: SendFlags) -> Result<usize> {
        let mut done = 0;
        loop {
            let step = self.send_some(from, flags);
            match step {
                Ok(count) => done += count,
                Err(_) if done > 0 => return Ok(done),
                Err(errno) => return Err(errno),
            }
            if from.remaining() == 0 {
                return Ok(done);
            }
            sched::cond_resched();
        }
    }

    fn send_some(&self, from: &mut IoReader<'_>, flags: SendFlags) -> Result<usize> {
        let (room, mss) = self.wait_room(flags.contains(SendFlags::DONTWAIT))?;
        // Whole segments, so that none is cut short where buffers meet.
        let chunk = if mss < CHUNK { CHUNK / mss * mss } else { mss };
        let bytes = Bytes::read(from, room.min(chunk))?;
        let count = bytes.len();
        let has_more = flags.contains(SendFlags::MORE) || from.remaining() > 0;
        self.change(|tcb, net| {
            // It may have ended meanwhile.
            check_sending(tcb)?;
            tcb.switches.set(Switch::MORE, has_more);
            tcb.send(bytes, net)
        })??;
        Ok(count)
    }

    /// Waits for room to send; how much, and how much a segment takes.
    fn wait_room(&self, nonblocking: bool) -> Result<(usize, usize)> {
        let look = || {
            let looked = self.look(|tcb| {
                if matches!(tcb.state, State::SynSent | State::SynReceived) {
                    return nonblocking.then_some(Err(Errno::EAGAIN));
                }
                if let Err(errno) = check_sending(tcb) {
                    return Some(Err(errno));
                }
                match tcb.room() {
                    0 => {
                        tcb.switches.insert(Switch::NO_SPACE);
                        nonblocking.then_some(Err(Errno::EAGAIN))
                    }
                    room => Some(Ok((room, tcb.mss()))),
                }
            });
            looked.unwrap_or_else(|errno| Some(Err(errno)))
        };
        if let Some(ready) = look() {
            return ready;
        }
        let deadline = self.common.options.send_deadline();
        let waited = self
            .common
            .notice
            .wait_interruptible_deadline(deadline, look);
        waited.map_err(|errno| end_of_wait(errno, deadline))?
    }

    pub(super) fn receive_bytes(
        &self,
        to: &mut IoWriter<'_>,
        flags: ReceiveFlags,
    ) -> Result<Received> {
        if flags.contains(ReceiveFlags::ERRQUEUE) {
            return Err(Errno::EAGAIN);
        }
        if to.remaining() == 0 {
            return Ok(Received::default());
        }
        let least = self
            .common
            .options
            .low_water(flags.contains(ReceiveFlags::WAITALL), to.remaining());
        let deadline = self.common.options.receive_deadline();
        let mut done = 0;
        loop {
            let wanted = least.saturating_sub(done).max(1);
            let step = match self.wait_bytes(wanted, done == 0, flags, deadline) {
                Ok(0) => break,
                Ok(available) => self.take_bytes(available, to, flags),
                Err(errno) => Err(errno),
            };
            match step {
                // None are left when another reader was faster.
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
            let is_peeked = flags.contains(ReceiveFlags::PEEK) && done > 0;
            if done >= least || to.remaining() == 0 || is_peeked {
                break;
            }
            sched::cond_resched();
        }
        Ok(Received {
            len: done,
            full_len: done,
            ..Received::default()
        })
    }

    /// Waits for bytes: how many there are, 0 at the end. Fewer than `wanted` do when they fill the buffer, or no more will come.
    fn wait_bytes(
        &self,
        wanted: usize,
        is_first: bool,
        flags: ReceiveFlags,
        deadline: Option<u64>,
    ) -> Result<usize> {
        let nonblocking = flags.contains(ReceiveFlags::DONTWAIT);
        let is_peek = flags.contains(ReceiveFlags::PEEK);
        let look = || {
            let looked = self.look(|tcb| {
                let available = tcb.available();
                // Who takes bytes need not wait for all of them first; who peeks does.
                let enough = if is_peek {
                    wanted.min(tcb.receive_size / 2)
                } else {
                    1
                };
                if available >= enough {
                    return Some(Ok(available));
                }
                match end_of_receiving(tcb, is_first) {
                    Some(end) if available == 0 => Some(end.map(|()| 0)),
                    Some(_) => Some(Ok(available)),
                    None if nonblocking && available > 0 => Some(Ok(available)),
                    None => nonblocking.then_some(Err(Errno::EAGAIN)),
                }
            });
            looked.unwrap_or_else(|errno| Some(Err(errno)))
        };
        if let Some(ready) = look() {
            return ready;
        }
        let waited = self
            .common
            .notice
            .wait_interruptible_deadline(deadline, look);
        waited.map_err(|errno| end_of_wait(errno, deadline))?
    }

    /// Copies bytes that are there to the program, and takes them off unless it only looks.
    fn take_bytes(
        &self,
        available: usize,
        to: &mut IoWriter<'_>,
        flags: ReceiveFlags,
    ) -> Result<usize> {
        let _turn = self.turn.lock();
        let len = available.min(to.remaining());
        let is_dropped = flags.contains(ReceiveFlags::TRUNC) && !flags.contains(ReceiveFlags::PEEK);
        let count = if is_dropped {
            let there = self.look(|tcb| tcb.available())?.min(len);
            to.limit(to.remaining() - there);
            there
        } else {
            let parts = self.look(|tcb| tcb.front(0, len))??;
            write_all(&parts, to)?
        };
        if !flags.contains(ReceiveFlags::PEEK) {
            self.change(|tcb, net| tcb.consume(count, net))?;
        }
        Ok(count)
    }
}

/// Whether data can be sent (`tcp_sendmsg`).
fn check_sending(tcb: &mut Tcb) -> Result<()> {
    if let Some(errno) = tcb.error {
        // A broken pipe stays one; other errors are told once.
        tcb.error = None;
        return Err(errno);
    }
    if !tcb.state.may_send() || tcb.has(Switch::ENDS_SENDING) {
        return Err(Errno::EPIPE);
    }
    Ok(())
}

/// What reading ends with when there is nothing to read; `None` when something may come (`tcp_recvmsg`).
fn end_of_receiving(tcb: &mut Tcb, is_first: bool) -> Option<Result<()>> {
    if tcb.state == State::Listen {
        return Some(Err(Errno::ENOTCONN));
    }
    if !is_first && tcb.error.is_some() {
        // Told by the next call.
        return Some(Ok(()));
    }
    if let Some(errno) = tcb.error.take() {
        return Some(Err(errno));
    }
    if tcb
        .switches
        .intersects(Switch::DONE | Switch::GOT_FIN | Switch::ENDS_RECEIVING)
    {
        return Some(Ok(()));
    }
    (tcb.state == State::Closed).then_some(Err(Errno::ENOTCONN))
}
