//! What a connection does with a segment that is for it (RFC 9293, 3.10.7).

use abi::Errno;

use super::{Bytes, Cursor, Net, State, Switch, Tcb, is_before, is_until};
use crate::inet::packet::{Flags, Segment};

/// Largest shift of a window (RFC 7323).
const SHIFT_MAX: u8 = 14;

impl Tcb {
    /// Takes a segment in. `may_establish`: whether the listener has room for the connection.
    pub(crate) fn input(&mut self, segment: Segment, may_establish: bool, net: &mut Net<'_>) {
        match self.state {
            State::Closed | State::Listen => {}
            State::SynSent => self.input_syn_sent(&segment, net),
            State::TimeWait => self.input_time_wait(&segment, net),
            _ => self.input_connected(segment, may_establish, net),
        }
    }

    /// A listener's new connection: takes the SYN in and answers it.
    pub(crate) fn accept_syn(&mut self, segment: &Segment, first: u32, net: &mut Net<'_>) {
        self.begin(first);
        self.take_syn(segment);
        self.state = State::SynReceived;
        self.last_heard = net.now;
        self.send_syn(net);
    }

    /// What a SYN says.
    fn take_syn(&mut self, segment: &Segment) {
        self.receiving.next = segment.seq.wrapping_add(1);
        self.receiving.base = self.receiving.next;
        self.receiving.edge = self.receiving.next;
        self.sending.mss = segment
            .mss
            .unwrap_or(536)
            .clamp(super::LEAST_MSS, self.own_mss.max(super::LEAST_MSS));
        match segment.window_scale {
            Some(shift) => self.sending.shift = shift.min(SHIFT_MAX),
            None => {
                self.sending.shift = 0;
                self.receiving.shift = 0;
            }
        }
        self.set_window(segment.window.into(), segment);
    }

    fn set_window(&mut self, window: usize, segment: &Segment) {
        self.sending.window = window;
        self.sending.largest_window = self.sending.largest_window.max(window);
        self.sending.window_seq = segment.seq;
        self.sending.window_ack = segment.ack;
    }

    fn input_syn_sent(&mut self, segment: &Segment, net: &mut Net<'_>) {
        let flags = segment.flags;
        let has_ack = flags.contains(Flags::ACK);
        let is_mine =
            is_before(self.sending.first, segment.ack) && is_until(segment.ack, self.sending.next);
        if has_ack && !is_mine {
            if !flags.contains(Flags::RST) {
                self.refuse(segment, net);
            }
            return;
        }
        if flags.contains(Flags::RST) {
            if has_ack {
                self.end(Some(Errno::ECONNREFUSED), net);
            }
            return;
        }
        if !flags.contains(Flags::SYN) {
            return;
        }
        self.last_heard = net.now;
        self.take_syn(segment);
        if has_ack {
            self.sending.acknowledged = segment.ack;
            self.round_trip.acknowledged(segment.ack, net.now);
            self.establish(net);
            self.switches.insert(Switch::ACK_NOW);
            self.output(net);
        } else {
            self.state = State::SynReceived;
            self.send_syn(net);
        }
    }

    /// Answers what acknowledges something that was never sent with a reset.
    fn refuse(&mut self, segment: &Segment, net: &mut Net<'_>) {
        let next = core::mem::replace(&mut self.sending.next, segment.ack);
        self.send_reset(net);
        self.sending.next = next;
    }

    fn establish(&mut self, net: &mut Net<'_>) {
        let ends = self.has(Switch::ENDS_SENDING);
        self.state = if ends {
            State::FinWait1
        } else {
            State::Established
        };
        self.retries = 0;
        self.due.again = None;
        self.congestion.start(self.sending.mss);
        self.congestion.recover = self.sending.first;
        self.set_keepalive(self.has(Switch::KEEPALIVE), net.now);
        net.wake(self.notice.as_ref());
    }

    fn input_time_wait(&mut self, segment: &Segment, net: &mut Net<'_>) {
        if segment.flags.contains(Flags::RST) {
            if segment.seq == self.receiving.next {
                self.end(None, net);
            }
            return;
        }
        if segment.seq_len() > 0 {
            self.send_ack(net);
            self.enter_time_wait(net);
        }
    }

    /// Whether a SYN to a connection that is over may begin a new one (RFC 9293, 3.10.7.4).
    pub(crate) fn gives_way_to(&self, segment: &Segment) -> bool {
        self.state == State::TimeWait
            && segment.flags & (Flags::SYN | Flags::ACK | Flags::RST) == Flags::SYN
            && is_before(self.receiving.next, segment.seq)
    }

    /// Whether a segment lies where something is expected.
    fn is_acceptable(&self, segment: &Segment) -> bool {
        let end = segment.seq.wrapping_add(segment.seq_len());
        let edge = self.receiving.edge;
        let edge = if is_before(edge, self.receiving.next) {
            self.receiving.next
        } else {
            edge
        };
        !is_before(end, self.receiving.next) && is_until(segment.seq, edge)
    }

    fn input_connected(&mut self, mut segment: Segment, may_establish: bool, net: &mut Net<'_>) {
        let flags = segment.flags;
        if !self.is_acceptable(&segment) {
            if !flags.contains(Flags::RST) {
                self.send_ack(net);
            }
            return;
        }
        if flags.contains(Flags::RST) {
            self.input_reset(&segment, net);
            return;
        }
        if flags.contains(Flags::SYN) {
            // Our answer was lost, or somebody guesses (RFC 5961).
            if self.state == State::SynReceived {
                self.send_syn(net);
            } else {
                self.send_ack(net);
            }
            return;
        }
        if !flags.contains(Flags::ACK) {
            return;
        }
        self.last_heard = net.now;
        self.alive_probes = 0;
        if self.state == State::SynReceived {
            if segment.ack != self.sending.next {
                self.refuse(&segment, net);
                return;
            }
            if !may_establish {
                return;
            }
            self.sending.acknowledged = segment.ack;
            self.round_trip.acknowledged(segment.ack, net.now);
            self.set_window(usize::from(segment.window) << self.sending.shift, &segment);
            self.establish(net);
        }
        if !self.input_ack(&segment, net) || self.state == State::Closed {
            return;
        }
        if self.is_data_unwanted(&segment) {
            self.send_reset(net);
            self.end(None, net);
            return;
        }
        if let Some(payload) = segment.payload.take().filter(|_| self.state.may_receive()) {
            self.input_data(segment.seq, payload, flags.contains(Flags::FIN), net);
        } else if flags.contains(Flags::FIN) {
            self.note_fin(segment.seq);
        }
        self.input_fin(net);
        if self.state == State::TimeWait && !self.has(Switch::ACK_NOW) {
            return;
        }
        self.output(net);
    }

    fn input_reset(&mut self, segment: &Segment, net: &mut Net<'_>) {
        if segment.seq != self.receiving.next {
            self.send_ack(net);
            return;
        }
        net.counters.resets_in += 1;
        let error = match self.state {
            State::CloseWait => Errno::EPIPE,
            _ => Errno::ECONNRESET,
        };
        // Who has been told of the end, and has ended, learns nothing more.
        self.receiving.queue.clear();
        self.end(Some(error), net);
    }

    /// Data that nobody will read any more.
    fn is_data_unwanted(&self, segment: &Segment) -> bool {
        let end = segment
            .seq
            .wrapping_add(u32::try_from(segment.payload_len()).unwrap_or(0));
        self.has(Switch::ENDS_RECEIVING)
            && matches!(self.state, State::FinWait1 | State::FinWait2)
            && segment.payload_len() > 0
            && is_before(self.receiving.next, end)
    }

    /// Acts on the acknowledgement; whether the rest of the segment counts.
    fn input_ack(&mut self, segment: &Segment, net: &mut Net<'_>) -> bool {
        if is_before(self.sending.furthest, segment.ack) {
            self.send_ack(net);
            return false;
        }
        let window = usize::from(segment.window) << self.sending.shift;
        if is_before(self.sending.acknowledged, segment.ack) {
            self.input_new_ack(segment, net);
        } else if segment.ack == self.sending.acknowledged {
            let is_duplicate =
                segment.seq_len() == 0 && window == self.sending.window && self.in_flight() > 0;
            if is_duplicate {
                self.input_duplicate(net);
            }
        }
        let is_newer = is_before(self.sending.window_seq, segment.seq)
            || self.sending.window_seq == segment.seq
                && is_until(self.sending.window_ack, segment.ack);
        if is_newer {
            let has_opened = window > self.sending.window;
            self.set_window(window, segment);
            if has_opened && self.has(Switch::PROBES) {
                self.due.again = None;
                self.retries = 0;
                self.round_trip.backoff = 0;
            }
        }
        if self.has(Switch::SENT_FIN)
            && self.sending.queue.is_empty()
            && segment.ack == self.sending.furthest
        {
            self.input_fin_acknowledged(net);
        }
        true
    }

    fn input_new_ack(&mut self, segment: &Segment, net: &mut Net<'_>) {
        let ack = segment.ack;
        let bytes = ack.wrapping_sub(self.sending.acknowledged) as usize;
        let is_limited = self.in_flight() + usize::from(self.sending.mss) >= self.congestion.window;
        let data = bytes.min(self.sending.queue.len());
        self.sending
            .queue
            .drop_front(data, &mut self.sending.cursor);
        self.sending.acknowledged = ack;
        if is_before(self.sending.next, ack) {
            self.sending.next = ack;
            self.sending.cursor = Cursor::default();
        }
        self.round_trip.acknowledged(ack, net.now);
        self.retries = 0;
        self.first_sent = net.now;
        self.due.again = None;
        if !self.has(Switch::RECOVERS) {
            self.congestion.duplicates = 0;
            if is_limited {
                self.congestion.acknowledged(data, self.sending.mss);
            }
        } else if is_before(ack, self.congestion.recover) {
            self.congestion.deflate(data, self.sending.mss);
            self.send_first_again(net);
        } else {
            self.switches.remove(Switch::RECOVERS);
            self.congestion.end_recovery();
        }
        if self.has(Switch::NO_SPACE) && self.is_writable() {
            self.switches.remove(Switch::NO_SPACE);
            net.wake(self.notice.as_ref());
        }
    }

    /// The other end has got something behind what it waits for.
    fn input_duplicate(&mut self, net: &mut Net<'_>) {
        self.congestion.duplicates += 1;
        if self.has(Switch::RECOVERS) {
            self.congestion.inflate(self.sending.mss);
            return;
        }
        let is_new_loss = !is_before(self.sending.acknowledged, self.congestion.recover);
        if self.congestion.duplicates == 3 && is_new_loss {
            let (flight, furthest) = (self.in_flight(), self.sending.furthest);
            self.congestion
                .begin_recovery(flight, self.sending.mss, furthest);
            self.switches.insert(Switch::RECOVERS);
            self.send_first_again(net);
        }
    }

    fn input_fin_acknowledged(&mut self, net: &mut Net<'_>) {
        match self.state {
            State::FinWait1 => {
                self.state = State::FinWait2;
                self.bound_orphan(net.now);
                net.wake(self.notice.as_ref());
            }
            State::Closing => self.enter_time_wait(net),
            State::LastAck => self.end(None, net),
            _ => {}
        }
    }

    /// Sends the first segment that is not acknowledged once more, whatever the windows are.
    fn send_first_again(&mut self, net: &mut Net<'_>) {
        let (next, cursor) = (self.sending.next, self.sending.cursor);
        self.rewind();
        let mss = usize::from(self.sending.mss);
        let payload = self.sending.queue.take(&mut self.sending.cursor, mss);
        let has_fin = self.has(Switch::SENT_FIN)
            && payload.as_ref().map_or(0, Bytes::len) == self.sending.queue.len();
        let mut flags = Flags::ACK;
        flags.set(Flags::FIN, has_fin);
        if payload.is_some() || has_fin {
            self.transmit(flags, payload, net);
        }
        if is_before(self.sending.next, next) {
            self.sending.next = next;
            self.sending.cursor = cursor;
        }
    }
}
