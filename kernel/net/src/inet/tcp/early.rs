//! What a connection does with data and the FIN, in order or early.

use super::{Bytes, Net, State, Switch, Tcb, is_before};

/// What a segment that came early costs besides its bytes.
const EARLY_OVERHEAD: usize = 128;

impl Tcb {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a payload has less than 64 KiB"
    )]
    pub(super) fn input_data(
        &mut self,
        mut seq: u32,
        mut payload: Bytes,
        has_fin: bool,
        net: &mut Net<'_>,
    ) {
        let end = seq.wrapping_add(payload.len() as u32);
        if has_fin {
            self.note_fin(end);
        }
        if is_before(seq, self.receiving.next) {
            payload.skip(self.receiving.next.wrapping_sub(seq) as usize);
            seq = self.receiving.next;
        }
        let room = self.receiving.edge.wrapping_sub(seq);
        let room = if is_before(self.receiving.edge, seq) {
            0
        } else {
            room as usize
        };
        let payload = payload.part(0, room);
        if payload.len() == 0 {
            self.switches.insert(Switch::ACK_NOW);
            return;
        }
        if seq == self.receiving.next {
            self.take_in_order(payload, net);
        } else {
            self.keep_early(seq, payload);
            self.switches.insert(Switch::ACK_NOW);
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a payload has less than 64 KiB"
    )]
    fn take_in_order(&mut self, payload: Bytes, net: &mut Net<'_>) {
        let len = payload.len();
        if self.receiving.queue.push(payload).is_err() {
            // As if it had been lost.
            return;
        }
        self.receiving.next = self.receiving.next.wrapping_add(len as u32);
        self.receiving.unacknowledged += len;
        let had_gap = !self.receiving.early.is_empty();
        self.take_early();
        let is_much = self.receiving.unacknowledged > usize::from(self.own_mss);
        self.switches.insert(Switch::OWES_ACK);
        if had_gap || is_much || !self.has(Switch::INTERACTIVE) {
            self.switches.insert(Switch::ACK_NOW);
        }
        net.wake(self.notice.as_ref());
    }

    fn keep_early(&mut self, seq: u32, payload: Bytes) {
        if self.receiving.early.is_empty() {
            self.receiving.base = self.receiving.next;
        }
        let used = self.receiving.early_len + self.receiving.early.len() * EARLY_OVERHEAD;
        if used + payload.len() > self.receive_size {
            return;
        }
        let key = seq.wrapping_sub(self.receiving.base);
        let known = self.receiving.early.get(&key).map_or(0, Bytes::len);
        let len = payload.len();
        if known >= len {
            return;
        }
        if self.receiving.early.try_insert(key, payload).is_ok() {
            self.receiving.early_len += len - known;
        }
    }

    /// Takes what came early and is next now.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a payload has less than 64 KiB"
    )]
    fn take_early(&mut self) {
        while let Some((key, _)) = self.receiving.early.first_key_value() {
            let seq = self.receiving.base.wrapping_add(*key);
            if is_before(self.receiving.next, seq) {
                return;
            }
            let Some((_, mut payload)) = self.receiving.early.pop_first() else {
                return;
            };
            self.receiving.early_len -= payload.len();
            payload.skip(self.receiving.next.wrapping_sub(seq) as usize);
            let len = payload.len();
            if len > 0 && self.receiving.queue.push(payload).is_ok() {
                self.receiving.next = self.receiving.next.wrapping_add(len as u32);
                self.receiving.unacknowledged += len;
            }
        }
    }

    pub(super) fn note_fin(&mut self, number: u32) {
        if self.receiving.fin.is_none() && self.state.may_receive() {
            self.receiving.fin = Some(number);
        }
        self.switches.insert(Switch::ACK_NOW);
    }

    /// The FIN counts when all before it is here.
    pub(super) fn input_fin(&mut self, net: &mut Net<'_>) {
        if self.receiving.fin != Some(self.receiving.next) || self.has(Switch::GOT_FIN) {
            return;
        }
        self.receiving.next = self.receiving.next.wrapping_add(1);
        if is_before(self.receiving.edge, self.receiving.next) {
            self.receiving.edge = self.receiving.next;
        }
        self.switches
            .insert(Switch::GOT_FIN | Switch::ACK_NOW | Switch::DONE);
        match self.state {
            State::Established => self.state = State::CloseWait,
            State::FinWait1 => self.state = State::Closing,
            State::FinWait2 => {
                self.send_ack(net);
                self.enter_time_wait(net);
            }
            _ => {}
        }
        net.wake(self.notice.as_ref());
    }
}
