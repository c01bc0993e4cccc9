//! What happens to a connection when nothing comes.

use abi::Errno;

use super::{Net, State, Switch, Tcb};

const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;
/// How long a connection that we ended first is remembered (`TCP_TIMEWAIT_LEN`).
const TIME_WAIT_NS: u64 = 60 * NS_PER_S;
/// How long an orphan waits for the other end's FIN (`tcp_fin_timeout`).
pub(super) const FIN_WAIT_NS: u64 = 60 * NS_PER_S;
/// Times that something is sent again (`tcp_retries2`, `tcp_synack_retries`, and for an orphan).
const RETRIES: u8 = 15;
const SYN_ACK_RETRIES: u8 = 5;
const ORPHAN_RETRIES: u8 = 8;

/// When and how often a quiet connection is asked whether it is alive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keepalive {
    /// `TCP_KEEPIDLE` in seconds.
    pub(crate) idle_s: u16,
    /// `TCP_KEEPINTVL` in seconds.
    pub(crate) interval_s: u16,
    /// `TCP_KEEPCNT`.
    pub(crate) count: u8,
}

impl Default for Keepalive {
    fn default() -> Self {
        Keepalive {
            idle_s: 7200,
            interval_s: 75,
            count: 9,
        }
    }
}

impl Tcb {
    /// Sets when something is to be sent again, or the window to be probed.
    pub(super) fn watch(&mut self, now: u64) {
        // By the window, or because it is too little to be worth a segment.
        let is_blocked = self.in_flight() == 0 && !self.sending.queue.is_empty();
        self.switches.set(Switch::PROBES, is_blocked);
        if self.in_flight() == 0 && !is_blocked {
            self.due.again = None;
        } else if self.due.again.is_none() {
            self.due.again = Some(now + self.round_trip.timeout_ns());
        }
    }

    /// Turns `SO_KEEPALIVE` on or off, or sets its times.
    pub(crate) fn set_keepalive(&mut self, is_on: bool, now: u64) {
        self.switches.set(Switch::KEEPALIVE, is_on);
        self.alive_probes = 0;
        let is_connected = self.state.is_synchronized() && self.state != State::TimeWait;
        self.due.keepalive = (is_on && is_connected).then(|| {
            let idle = u64::from(self.keepalive.idle_s) * NS_PER_S;
            self.last_heard.saturating_add(idle).max(now)
        });
    }

    /// An orphan does not wait for ever for the other end's FIN.
    pub(super) fn bound_orphan(&mut self, now: u64) {
        if self.state == State::FinWait2 && self.has(Switch::ORPHAN) {
            self.due.end = Some(now + self.fin_wait_ns);
        }
    }

    pub(super) fn enter_time_wait(&mut self, net: &mut Net<'_>) {
        self.state = State::TimeWait;
        self.due.again = None;
        self.due.keepalive = None;
        self.due.end = Some(net.now + TIME_WAIT_NS);
        net.wake(self.notice.as_ref());
    }

    /// Does what is due.
    pub(crate) fn expire(&mut self, net: &mut Net<'_>) {
        let now = net.now;
        let is_due = |at: Option<u64>| at.is_some_and(|at| at <= now);
        if is_due(self.due.end) {
            self.due.end = None;
            self.end(None, net);
            return;
        }
        if is_due(self.due.again) {
            self.due.again = None;
            self.send_again(net);
        }
        if is_due(self.due.keepalive) {
            self.due.keepalive = None;
            self.ask_whether_alive(net);
        }
        if is_due(self.due.acknowledgement) {
            self.due.acknowledgement = None;
            self.switches.remove(Switch::INTERACTIVE);
            if self.has(Switch::OWES_ACK) {
                self.send_ack(net);
            }
        }
    }

    /// Nothing came in time: from the first that is not acknowledged on, all goes again.
    fn send_again(&mut self, net: &mut Net<'_>) {
        if self.gives_up(net.now) {
            if self.state == State::SynSent || !self.has(Switch::ORPHAN) {
                net.counters.timed_out += 1;
            }
            self.end(Some(Errno::ETIMEDOUT), net);
            return;
        }
        self.retries = self.retries.saturating_add(1);
        self.round_trip.back_off();
        if matches!(self.state, State::SynSent | State::SynReceived) {
            self.send_syn(net);
            return;
        }
        if self.has(Switch::PROBES) {
            if self.sending.window == 0 {
                self.send_probe(net);
            } else {
                self.output(net);
            }
            self.due.again = Some(net.now + self.round_trip.timeout_ns());
            return;
        }
        let is_first = self.retries == 1;
        self.congestion
            .timed_out(self.in_flight(), self.sending.mss, is_first);
        self.switches.remove(Switch::RECOVERS);
        self.rewind();
        self.output(net);
    }

    /// The next to send is the first that is not acknowledged.
    pub(super) fn rewind(&mut self) {
        self.sending.next = self.sending.acknowledged;
        self.sending.cursor = super::Cursor::default();
    }

    fn gives_up(&self, now: u64) -> bool {
        let most = match self.state {
            State::SynSent => self.syn_retries,
            State::SynReceived => SYN_ACK_RETRIES,
            _ if self.has(Switch::ORPHAN) => ORPHAN_RETRIES,
            _ => RETRIES,
        };
        if self.user_timeout_ms > 0 && self.state.is_synchronized() {
            let patience = u64::from(self.user_timeout_ms) * NS_PER_MS;
            return self.retries > 0 && now.saturating_sub(self.first_sent) >= patience;
        }
        // Who answers probes is there, however long its window stays shut.
        let is_answering =
            self.has(Switch::PROBES) && now.saturating_sub(self.last_heard) < FIN_WAIT_NS;
        self.retries >= most && !is_answering
    }

    fn ask_whether_alive(&mut self, net: &mut Net<'_>) {
        if !self.has(Switch::KEEPALIVE)
            || !self.state.is_synchronized()
            || self.state == State::TimeWait
        {
            return;
        }
        let idle = u64::from(self.keepalive.idle_s) * NS_PER_S;
        let quiet = net.now.saturating_sub(self.last_heard);
        if quiet < idle || self.in_flight() > 0 {
            self.alive_probes = 0;
            self.due.keepalive = Some(net.now + idle.saturating_sub(quiet).max(1));
            return;
        }
        let patience = u64::from(self.user_timeout_ms) * NS_PER_MS;
        let is_over = if patience > 0 {
            quiet >= patience && self.alive_probes > 0
        } else {
            self.alive_probes >= self.keepalive.count
        };
        if is_over {
            self.send_reset(net);
            self.end(Some(Errno::ETIMEDOUT), net);
            return;
        }
        self.alive_probes += 1;
        self.send_probe(net);
        self.due.keepalive = Some(net.now + u64::from(self.keepalive.interval_s) * NS_PER_S);
    }
}
