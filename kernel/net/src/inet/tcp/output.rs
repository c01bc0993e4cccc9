//! What a connection sends: data as windows and the program's wishes allow, acknowledgements, resets.

use super::{Bytes, Net, Pair, State, Switch, Tcb, is_before};
use crate::inet::packet::{Body, Flags, Packet, Segment};

/// How long an acknowledgement may wait for data to go with (`TCP_DELACK_MIN`).
const DELAYED_ACK_NS: u64 = 40_000_000;
/// What is told of the window in a SYN, where it is not scaled.
const SYN_WINDOW: u16 = 65535;

impl Tcb {
    /// Sends all that may be sent, and the acknowledgement that is owed now.
    pub(crate) fn output(&mut self, net: &mut Net<'_>) {
        if !matches!(
            self.state,
            State::Established
                | State::CloseWait
                | State::FinWait1
                | State::Closing
                | State::LastAck
        ) {
            self.acknowledge_if_due(net);
            return;
        }
        let mut sent_any = false;
        while self.send_one(net) {
            sent_any = true;
        }
        if sent_any {
            self.note_turn();
        }
        self.watch(net.now);
        self.acknowledge_if_due(net);
    }

    /// Data goes out while an acknowledgement is owed: requests and responses take turns.
    fn note_turn(&mut self) {
        self.switches.insert(Switch::INTERACTIVE);
    }

    fn acknowledge_if_due(&mut self, net: &mut Net<'_>) {
        if self.has(Switch::ACK_NOW) {
            self.send_ack(net);
        } else if self.has(Switch::OWES_ACK) && self.due.acknowledgement.is_none() {
            self.due.acknowledgement = Some(net.now + DELAYED_ACK_NS);
        }
    }

    /// Sends one segment, if one may be sent.
    fn send_one(&mut self, net: &mut Net<'_>) -> bool {
        let offset = self.in_flight();
        let queued = self.sending.queue.len();
        let waiting = queued.saturating_sub(offset);
        let may_send = self.congestion.window.min(self.sending.window);
        let usable = may_send.saturating_sub(offset);
        let mss = usize::from(self.sending.mss);
        if waiting == 0 {
            return self.send_fin(offset == queued, usable, net);
        }
        let len = waiting.min(usable).min(mss);
        if len == 0 || !self.is_worth_sending(len, waiting, offset) {
            return false;
        }
        let Some(payload) = self.sending.queue.take(&mut self.sending.cursor, len) else {
            return false;
        };
        let is_last = payload.len() == waiting;
        let has_fin = is_last && self.has(Switch::ENDS_SENDING);
        let mut flags = Flags::ACK;
        flags.set(Flags::PSH, is_last);
        flags.set(Flags::FIN, has_fin);
        self.transmit(flags, Some(payload), net);
        true
    }

    /// Whether a segment of `len` of the `waiting` bytes is worth it: a full one, or the last, unless one that is not full is
    /// under way (Nagle), or enough of the window (RFC 9293, 3.8.6.2.1).
    fn is_worth_sending(&self, len: usize, waiting: usize, in_flight: usize) -> bool {
        let is_full = len >= usize::from(self.sending.mss);
        if is_full || self.has(Switch::ENDS_SENDING) && len == waiting {
            return true;
        }
        // What was sent before, and what has waited for long.
        let is_late = self.has(Switch::PROBES) && self.retries > 0;
        if is_late || is_before(self.sending.next, self.sending.furthest) {
            return true;
        }
        if len < waiting {
            return len >= self.sending.largest_window / 2;
        }
        if self.switches.intersects(Switch::CORK | Switch::MORE) {
            return false;
        }
        self.has(Switch::NODELAY) || in_flight == 0
    }

    fn send_fin(&mut self, is_all_sent: bool, usable: usize, net: &mut Net<'_>) -> bool {
        let is_due = self.has(Switch::ENDS_SENDING)
            && is_all_sent
            && matches!(
                self.state,
                State::FinWait1 | State::LastAck | State::Closing
            );
        // A window of nothing keeps a FIN back no longer than a probe.
        if !is_due || usable == 0 && self.in_flight() > 0 {
            return false;
        }
        self.transmit(Flags::ACK | Flags::FIN, None, net);
        true
    }

    /// Sends a segment that takes numbers.
    pub(super) fn transmit(&mut self, flags: Flags, payload: Option<Bytes>, net: &mut Net<'_>) {
        let mut segment = self.segment(flags);
        segment.payload = payload;
        let end = segment.seq.wrapping_add(segment.seq_len());
        if flags.contains(Flags::FIN) {
            self.switches.insert(Switch::SENT_FIN);
        }
        if self.in_flight() == 0 {
            self.first_sent = net.now;
        }
        if is_before(segment.seq, self.sending.furthest) {
            self.total_retries += 1;
            net.counters.retransmitted += 1;
            self.round_trip.sent_again();
        } else {
            self.round_trip.sent(end, net.now);
        }
        self.sending.next = end;
        if is_before(self.sending.furthest, end) {
            self.sending.furthest = end;
        }
        self.acknowledged_by_this();
        self.emit(segment, net);
    }

    /// A segment from here to the other end at the next number, with window and acknowledgement.
    fn segment(&mut self, flags: Flags) -> Segment {
        let window = self.window_to_tell();
        Segment {
            source_port: self.pair.local.port,
            target_port: self.pair.remote.port,
            seq: self.sending.next,
            ack: self.receiving.next,
            flags,
            window,
            ..Segment::default()
        }
    }

    fn emit(&mut self, segment: Segment, net: &mut Net<'_>) {
        net.counters.segments_out += 1;
        net.send(Packet {
            source: self.pair.local.ip,
            target: self.pair.remote.ip,
            ttl: self.ttl,
            tos: self.tos,
            body: Body::Tcp(segment),
        });
    }

    /// Bytes that the other end may send from the next expected on; never fewer than it was told.
    pub(super) fn window(&self) -> usize {
        let receiving = &self.receiving;
        let used = receiving.queue.cost() + receiving.early_len;
        let room = self.receive_size.saturating_sub(used);
        let told = if is_before(receiving.edge, receiving.next) {
            0
        } else {
            receiving.edge.wrapping_sub(receiving.next) as usize
        };
        // Little room is none: no small segments for the sake of a small window.
        let least = usize::from(self.own_mss).min(self.receive_size / 2);
        let most = usize::from(u16::MAX) << receiving.shift;
        let room = if room < least { 0 } else { room.min(most) };
        // Rounded down to what can be told.
        (room >> receiving.shift << receiving.shift).max(told)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounded by the largest window, 2^30"
    )]
    fn window_to_tell(&mut self) -> u16 {
        let window = self.window();
        self.receiving.edge = self.receiving.next.wrapping_add(window as u32);
        // What was told before may not be a multiple any more.
        let scaled = window >> self.receiving.shift;
        u16::try_from(scaled).unwrap_or(u16::MAX)
    }

    /// After a program has read: tells of the room when it is two segments, or half the buffer, more than was told.
    pub(super) fn tell_window(&mut self, net: &mut Net<'_>) {
        if !self.state.may_receive() {
            return;
        }
        let told = self.receiving.edge.wrapping_sub(self.receiving.next) as usize;
        let grown = self.window().saturating_sub(told);
        let step = (2 * usize::from(self.own_mss)).min(self.receive_size / 2);
        // Who has plenty left needs no word of it: what is told with the next acknowledgement is soon enough.
        if grown >= step && told < self.receive_size / 2 {
            self.send_ack(net);
        }
    }

    fn acknowledged_by_this(&mut self) {
        self.switches.remove(Switch::OWES_ACK | Switch::ACK_NOW);
        self.due.acknowledgement = None;
        self.receiving.unacknowledged = 0;
    }

    /// Sends an acknowledgement without data.
    pub(super) fn send_ack(&mut self, net: &mut Net<'_>) {
        self.acknowledged_by_this();
        let segment = self.segment(Flags::ACK);
        // Behind all that was ever sent, so that it is in the other end's window while something is sent again.
        let seq = self.sending.furthest;
        self.emit(Segment { seq, ..segment }, net);
    }

    /// Asks for an acknowledgement, by a segment without data that was acknowledged long ago.
    pub(super) fn send_probe(&mut self, net: &mut Net<'_>) {
        let segment = self.segment(Flags::ACK);
        let seq = self.sending.acknowledged.wrapping_sub(1);
        self.emit(Segment { seq, ..segment }, net);
    }

    /// Sends the SYN, or the SYN that acknowledges one.
    pub(super) fn send_syn(&mut self, net: &mut Net<'_>) {
        self.sending.next = self.sending.first;
        let is_answer = self.state == State::SynReceived;
        let mut flags = Flags::SYN;
        flags.set(Flags::ACK, is_answer);
        let mut segment = self.segment(flags);
        segment.mss = Some(self.own_mss);
        // An answer scales only if the other end does.
        segment.window_scale = (self.receiving.shift > 0).then_some(self.receiving.shift);
        let room = self.receive_size.min(SYN_WINDOW.into());
        segment.window = u16::try_from(room).unwrap_or(SYN_WINDOW);
        self.receiving.edge = self.receiving.next.wrapping_add(segment.window.into());
        self.sending.next = self.sending.first.wrapping_add(1);
        let is_first = self.sending.furthest == self.sending.first;
        self.sending.furthest = self.sending.next;
        if is_first {
            self.first_sent = net.now;
            self.round_trip.sent(self.sending.next, net.now);
        } else {
            self.total_retries += 1;
            net.counters.retransmitted += 1;
            self.round_trip.sent_again();
        }
        self.due.again = Some(net.now + self.round_trip.timeout_ns());
        self.emit(segment, net);
    }

    /// Tells the other end that there is no connection any more.
    pub(super) fn send_reset(&mut self, net: &mut Net<'_>) {
        net.counters.resets_out += 1;
        let mut segment = self.segment(Flags::RST | Flags::ACK);
        segment.window = 0;
        self.emit(segment, net);
    }
}

/// What is answered to a segment that belongs to no connection (RFC 9293, 3.10.7.1).
pub(crate) fn reset_for(pair: &Pair, segment: &Segment) -> Option<Packet> {
    if segment.flags.contains(Flags::RST) {
        return None;
    }
    let mut answer = Segment {
        source_port: segment.target_port,
        target_port: segment.source_port,
        flags: Flags::RST,
        ..Segment::default()
    };
    if segment.flags.contains(Flags::ACK) {
        answer.seq = segment.ack;
    } else {
        answer.flags |= Flags::ACK;
        answer.ack = segment.seq.wrapping_add(segment.seq_len());
    }
    Some(Packet {
        source: pair.local.ip,
        target: pair.remote.ip,
        ttl: 64,
        tos: 0,
        body: Body::Tcp(answer),
    })
}
