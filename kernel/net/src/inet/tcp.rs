//! [`Tcb`]: the state of one end of a TCP connection (RFC 9293), or of a socket that listens.
//!
//! [`input`] takes segments in, [`output`] makes them, [`timer`] is what happens when nothing comes, [`congestion`] how much
//! may be under way (RFC 5681, 6582) and how long an answer takes (RFC 6298). Plain data: whoever has the stack's lock has it.
//! What it sends goes to [`Net::out`], whom it wakes to [`Net::woken`].
//!
//! Not here: timestamps and selective acknowledgements (neither is offered), urgent data.

mod congestion;
mod early;
mod info;
mod input;
mod net;
mod output;
mod state;
mod timer;

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{Map, VecDeque};
use sched::WaitQueue;

use super::bytes::{Bytes, Cursor, Stream};
use super::slab::Id;
use congestion::{Congestion, RoundTrip};
pub(crate) use info::Info;
pub(crate) use net::{Net, Woken};
pub(crate) use output::reset_for;
pub(crate) use state::{Link, Pair, State, Switch};
pub(crate) use timer::Keepalive;

/// Most bytes that a socket keeps for sending and receiving while nobody has set a size.
pub(crate) const AUTOMATIC_BUFFER: usize = 1 << 20;
/// The shift of the window that we offer: enough for the largest receive buffer.
pub(super) const WINDOW_SHIFT: u8 = 7;
/// The least that a segment may be made to carry (`TCP_MIN_MSS`).
pub(crate) const LEAST_MSS: u16 = 88;

/// A socket that listens.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    /// Of listen(2).
    pub(crate) backlog: usize,
    /// Connections that wait for accept(2).
    pub(crate) ready: VecDeque<Id>,
    /// Connections that are being made.
    pub(crate) embryos: usize,
}

/// What is sent.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// The first number: that of the SYN.
    pub(super) first: u32,
    /// The first that is not acknowledged (SND.UNA).
    pub(super) acknowledged: u32,
    /// The next to send (SND.NXT).
    pub(super) next: u32,
    /// Behind the last that was ever sent.
    pub(super) furthest: u32,
    /// The other end's window in bytes (SND.WND).
    pub(super) window: usize,
    /// The largest it has been.
    pub(super) largest_window: usize,
    /// Segment and acknowledgement of the last update of the window (SND.WL1, SND.WL2).
    pub(super) window_seq: u32,
    pub(super) window_ack: u32,
    /// How the other end scales its window.
    pub(super) shift: u8,
    /// Most bytes of a segment.
    pub(super) mss: u16,
    /// From `acknowledged` on; the SYN and the FIN are not in it.
    pub(super) queue: Stream,
    /// Where `next` is in it.
    pub(super) cursor: Cursor,
}

/// What is received.
#[derive(Debug, Default)]
pub(super) struct Receiving {
    /// The next that is expected (RCV.NXT).
    pub(super) next: u32,
    /// Behind the last that the other end may send: what it has been told.
    pub(super) edge: u32,
    /// How we scale the window that we tell.
    pub(super) shift: u8,
    pub(super) queue: Stream,
    /// What came early, by the distance of its first byte from `base`.
    pub(super) early: Map<u32, Bytes>,
    pub(super) early_len: usize,
    /// The number that keys of `early` count from: the first that was received.
    pub(super) base: u32,
    /// The number of the FIN, when it has been seen.
    pub(super) fin: Option<u32>,
    /// Bytes received since the last acknowledgement was sent.
    pub(super) unacknowledged: usize,
}

/// When things are due, in nanoseconds of the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Something is sent again, or the window is probed.
    pub(super) again: Option<u64>,
    /// An acknowledgement that is owed is sent.
    pub(super) acknowledgement: Option<u64>,
    /// Whether the other end is alive is asked.
    pub(super) keepalive: Option<u64>,
    /// It is over: TIME_WAIT, or an orphan that the other end does not close.
    pub(super) end: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tcb {
    pub(crate) state: State,
    pub(crate) pair: Pair,
    pub(crate) switches: Switch,
    pub(crate) link: Link,
    /// Whether the socket is of version 6, and of that only.
    pub(crate) is_v6: bool,
    pub(crate) is_v6_only: bool,
    /// Whether the program has chosen address and port, so that they stay when a connection ends.
    pub(crate) has_own_ip: bool,
    pub(crate) has_own_port: bool,
    /// `sk_err`.
    pub(crate) error: Option<Errno>,
    /// Whom to wake; `None` before accept(2).
    pub(crate) notice: Option<Arc<WaitQueue>>,
    /// The listener that it is to be accepted from, until it is.
    pub(crate) parent: Option<Id>,
    pub(crate) listener: Option<Listener>,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    /// Bytes that may wait to be sent, and to be read.
    pub(crate) send_size: usize,
    pub(crate) receive_size: usize,
    /// What we tell the other end: what the way takes, bounded by `TCP_MAXSEG`, which it is before there is a way; 0 for none.
    pub(crate) own_mss: u16,
    pub(crate) keepalive: Keepalive,
    /// `TCP_USER_TIMEOUT` in milliseconds, 0 for none.
    pub(crate) user_timeout_ms: u32,
    /// `TCP_SYNCNT`.
    pub(crate) syn_retries: u8,
    /// `TCP_LINGER2` in nanoseconds.
    pub(crate) fin_wait_ns: u64,
    pub(super) sending: Sending,
    pub(super) receiving: Receiving,
    pub(super) congestion: Congestion,
    pub(super) round_trip: RoundTrip,
    pub(super) due: Due,
    /// Times that the same was sent again.
    pub(super) retries: u8,
    /// Probes for life that were not answered.
    pub(super) alive_probes: u8,
    /// When something last came.
    pub(super) last_heard: u64,
    /// When the first of what is sent again was sent first.
    pub(super) first_sent: u64,
    pub(super) total_retries: u32,
}

/// Whether the number `one` is before `other` (RFC 9293, 3.4).
pub(super) fn is_before(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() < 0
}

/// Whether `one` is `other` or before it.
pub(super) fn is_until(one: u32, other: u32) -> bool {
    !is_before(other, one)
}

impl Tcb {
    pub(crate) fn new(pair: Pair, ttl: u8) -> Tcb {
        Tcb {
            state: State::Closed,
            pair,
            switches: Switch::default(),
            link: Link::default(),
            is_v6: false,
            is_v6_only: false,
            has_own_ip: false,
            has_own_port: false,
            error: None,
            notice: None,
            parent: None,
            listener: None,
            ttl,
            tos: 0,
            send_size: AUTOMATIC_BUFFER,
            receive_size: AUTOMATIC_BUFFER,
            own_mss: 0,
            keepalive: Keepalive::default(),
            user_timeout_ms: 0,
            syn_retries: 6,
            fin_wait_ns: timer::FIN_WAIT_NS,
            sending: Sending {
                mss: 536,
                ..Sending::default()
            },
            receiving: Receiving::default(),
            congestion: Congestion::default(),
            round_trip: RoundTrip::default(),
            due: Due::default(),
            retries: 0,
            alive_probes: 0,
            last_heard: 0,
            first_sent: 0,
            total_retries: 0,
        }
    }

    /// A connection that a listener makes, with what it has set.
    pub(crate) fn child(&self, pair: Pair, mss: u16) -> Tcb {
        let kept = Switch::NODELAY | Switch::CORK | Switch::KEEPALIVE;
        Tcb {
            switches: self.switches & kept,
            link: Link::Connected,
            is_v6: self.is_v6,
            is_v6_only: self.is_v6_only,
            tos: self.tos,
            send_size: self.send_size,
            receive_size: self.receive_size,
            own_mss: if self.own_mss == 0 {
                mss
            } else {
                mss.min(self.own_mss)
            },
            keepalive: self.keepalive,
            user_timeout_ms: self.user_timeout_ms,
            syn_retries: self.syn_retries,
            fin_wait_ns: self.fin_wait_ns,
            ..Tcb::new(pair, self.ttl)
        }
    }

    pub(crate) fn has(&self, switch: Switch) -> bool {
        self.switches.contains(switch)
    }

    /// Begins a connection: sends the SYN.
    pub(crate) fn connect(&mut self, first: u32, net: &mut Net<'_>) {
        self.switches
            .remove(Switch::ENDS_SENDING | Switch::ENDS_RECEIVING);
        self.receiving = Receiving::default();
        self.round_trip = RoundTrip::default();
        self.begin(first);
        self.state = State::SynSent;
        self.last_heard = net.now;
        self.send_syn(net);
    }

    /// Sets the numbers of a connection that begins.
    fn begin(&mut self, first: u32) {
        self.sending.first = first;
        self.sending.acknowledged = first;
        self.sending.next = first;
        self.sending.furthest = first;
        self.receiving.shift = WINDOW_SHIFT;
        self.retries = 0;
        self.switches
            .remove(Switch::DONE | Switch::GOT_FIN | Switch::SENT_FIN);
    }

    /// Bytes that can be queued for sending now.
    pub(crate) fn room(&self) -> usize {
        self.send_size.saturating_sub(self.sending.queue.cost())
    }

    /// Whether poll(2) says that there is room: a third of what is kept (`sk_stream_is_writeable`).
    pub(crate) fn is_writable(&self) -> bool {
        self.room() * 3 >= self.send_size
    }

    /// Bytes that can be read.
    pub(crate) fn available(&self) -> usize {
        self.receiving.queue.len()
    }

    /// Bytes that were sent and not acknowledged, or not sent yet (SIOCOUTQ).
    pub(crate) fn unsent(&self) -> usize {
        self.sending.queue.len()
    }

    /// Times that what waits for its acknowledgement was sent again.
    pub(crate) fn retries(&self) -> u8 {
        self.retries
    }

    /// Most bytes of a segment.
    pub(crate) fn mss(&self) -> usize {
        usize::from(self.sending.mss).max(1)
    }

    /// Queues bytes and sends what may be sent.
    pub(crate) fn send(&mut self, bytes: Bytes, net: &mut Net<'_>) -> Result<()> {
        self.sending.queue.push(bytes)?;
        self.output(net);
        Ok(())
    }

    /// Bytes from the front of what was received, to be copied; they stay until [`Self::consume`].
    pub(crate) fn front(&self, skip: usize, len: usize) -> Result<collections::Vec<Bytes>> {
        self.receiving.queue.share(skip, len)
    }

    /// Drops bytes that were read, and tells the other end of the room when that has grown much.
    pub(crate) fn consume(&mut self, len: usize, net: &mut Net<'_>) {
        let mut ignored = Cursor::default();
        self.receiving.queue.drop_front(len, &mut ignored);
        self.tell_window(net);
    }

    /// shutdown(2) for sending: a FIN goes behind what is queued.
    pub(crate) fn finish(&mut self, net: &mut Net<'_>) {
        self.switches.insert(Switch::ENDS_SENDING);
        self.switches.remove(Switch::CORK | Switch::MORE);
        match self.state {
            State::Established => self.state = State::FinWait1,
            State::CloseWait => self.state = State::LastAck,
            _ => return,
        }
        self.output(net);
    }

    /// close(2): what was not read is told to the other end by a reset, else the connection ends in order.
    pub(crate) fn close(&mut self, is_aborted: bool, net: &mut Net<'_>) {
        self.switches
            .insert(Switch::ORPHAN | Switch::ENDS_RECEIVING);
        self.notice = None;
        let has_unread = !self.receiving.queue.is_empty();
        self.receiving.queue.clear();
        match self.state {
            State::Closed | State::Listen | State::SynSent => self.state = State::Closed,
            State::TimeWait => {}
            _ if is_aborted || has_unread => self.abort(net),
            _ => {
                self.finish(net);
                self.bound_orphan(net.now);
            }
        }
    }

    /// Resets the connection, by our will.
    pub(crate) fn abort(&mut self, net: &mut Net<'_>) {
        if self.state.is_synchronized() && self.state != State::TimeWait
            || self.state == State::SynReceived
        {
            self.send_reset(net);
        }
        self.end(None, net);
    }

    /// It is over, with the error that the program is told.
    pub(super) fn end(&mut self, error: Option<Errno>, net: &mut Net<'_>) {
        if error.is_some() {
            self.error = error;
        }
        self.state = State::Closed;
        self.switches
            .insert(Switch::DONE | Switch::ENDS_SENDING | Switch::GOT_FIN);
        self.sending.queue.clear();
        self.receiving.early.clear();
        self.receiving.early_len = 0;
        self.due = Due::default();
        net.wake(self.notice.as_ref());
    }

    /// The connection that is being made does not come about.
    pub(crate) fn fail(&mut self, errno: Errno, net: &mut Net<'_>) {
        self.end(Some(errno), net);
    }

    /// The way takes no segments longer than `mss`: what is under way is sent again in shorter ones.
    pub(crate) fn shrink(&mut self, mss: u16, net: &mut Net<'_>) {
        if self.state.is_synchronized() && (LEAST_MSS..self.sending.mss).contains(&mss) {
            self.sending.mss = mss;
            self.rewind();
            self.output(net);
        }
    }

    /// The earliest of what is due.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let due = &self.due;
        [due.again, due.acknowledgement, due.keepalive, due.end]
            .into_iter()
            .flatten()
            .min()
    }

    /// Bytes under way, with a FIN.
    pub(super) fn in_flight(&self) -> usize {
        self.sending.next.wrapping_sub(self.sending.acknowledged) as usize
    }
}
