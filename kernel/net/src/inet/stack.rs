//! [`Stack`]: the interfaces, sockets and ports of a network namespace, and the way of a packet from one to the other.
//!
//! Plain data behind its namespace's spin lock ([`crate::namespace::NetNamespace::run`]). Whatever changes a connection goes
//! through [`Stack::with_tcb`], which keeps the tables and deadlines true.

mod demux;
pub(crate) mod frames;
mod icmp;
mod route;

use abi::{Errno, Result};
use collections::{Map, Vec, VecDeque};

use super::heap::Heap;
use super::interface::Interface;
use super::ip::{Endpoint, Ip};
use super::packet::{Body, Packet};
use super::ports::{Binding, Ports, choose};
use super::slab::{Id, Slab};
use super::tcp::{Net, Pair, State, Switch, Tcb, Woken};
use super::udp::Udp;
pub(crate) use route::Route;

/// What happened, for /proc/net/snmp.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "RFC 1213 documents what they count")]
pub(crate) struct Counters {
    pub(crate) packets_in: u64,
    pub(crate) packets_out: u64,
    pub(crate) packets_bad: u64,
    pub(crate) unroutable: u64,
    pub(crate) active_opens: u64,
    pub(crate) passive_opens: u64,
    pub(crate) failed: u64,
    pub(crate) resets_in: u64,
    pub(crate) resets_out: u64,
    pub(crate) segments_in: u64,
    pub(crate) segments_out: u64,
    pub(crate) retransmitted: u64,
    pub(crate) timed_out: u64,
    pub(crate) listen_overflows: u64,
    pub(crate) datagrams_in: u64,
    pub(crate) datagrams_out: u64,
    pub(crate) datagrams_unknown: u64,
    pub(crate) datagrams_dropped: u64,
}

/// /proc/sys/net of the namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// `net.ipv4.ip_local_port_range`.
    pub(crate) port_range: (u16, u16),
    /// `net.ipv4.ip_unprivileged_port_start`.
    pub(crate) first_unprivileged: u32,
    /// `net.core.somaxconn`.
    pub(crate) somaxconn: u32,
    /// `net.ipv6.bindv6only`.
    pub(crate) bind_v6_only: bool,
    /// `net.ipv4.tcp_max_tw_buckets`.
    pub(crate) most_time_wait: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            port_range: (32768, 60999),
            first_unprivileged: 1024,
            somaxconn: 4096,
            bind_v6_only: false,
            most_time_wait: 16384,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) tcp: Slab<Tcb>,
    pub(crate) udp: Slab<Udp>,
    pub(crate) tcp_ports: Ports,
    pub(crate) udp_ports: Ports,
    /// The first is the loopback interface.
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) routes: Vec<Route>,
    pub(crate) settings: Settings,
    pub(crate) counters: Counters,
    pairs: Map<Pair, Id>,
    deadlines: Heap,
    out: VecDeque<Packet>,
    pub(crate) woken: Woken,
    time_waiting: usize,
    /// Of the last IPv4 packet that was sent.
    identification: u16,
    /// The second in which errors of ICMP were last sent, and how many.
    errors: (u64, u32),
    /// For the numbers of sequences, in which nobody else shall guess.
    secret: u64,
}

impl Stack {
    pub(crate) fn new() -> Result<Stack> {
        let mut interfaces = Vec::new();
        interfaces.try_push(Interface::loopback())?;
        Ok(Stack {
            tcp: Slab::default(),
            udp: Slab::default(),
            tcp_ports: Ports::default(),
            udp_ports: Ports::default(),
            interfaces,
            routes: Vec::new(),
            settings: Settings::default(),
            counters: Counters::default(),
            pairs: Map::new(),
            deadlines: Heap::default(),
            out: VecDeque::default(),
            woken: Woken::default(),
            time_waiting: 0,
            identification: 0,
            errors: (0, 0),
            secret: random(),
        })
    }

    /// A connection's first number.
    #[expect(clippy::cast_possible_truncation, reason = "any 32 bits do")]
    pub(crate) fn first_number(&mut self) -> u32 {
        random() as u32 ^ self.secret as u32
    }

    /// Adds a connection that is in no table yet.
    pub(crate) fn add_tcb(&mut self, tcb: Tcb) -> Result<Id> {
        self.deadlines.reserve(self.tcp.bound() + 1)?;
        self.tcp.insert(tcb)
    }

    /// Makes `id` found by its two ends.
    pub(crate) fn add_pair(&mut self, pair: Pair, id: Id) -> Result<()> {
        if self.pairs.contains_key(&pair) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        self.pairs.try_insert(pair, id)?;
        Ok(())
    }

    /// Who has these two ends.
    pub(crate) fn find_pair(&self, pair: &Pair) -> Option<Id> {
        self.pairs.get(pair).copied()
    }

    /// Lets go of a connection's port, ends and state.
    pub(crate) fn remove_tcb(&mut self, id: Id) {
        self.forget_pair(id);
        self.deadlines.remove(id.number);
        if let Some(gone) = self.tcp.remove(id) {
            self.tcp_ports.remove(gone.pair.local.port, id);
        }
    }

    /// The ends of `id` are free again.
    pub(crate) fn forget_pair(&mut self, id: Id) {
        let Some(tcb) = self.tcp.get(id) else { return };
        if self.pairs.get(&tcb.pair) == Some(&id) {
            self.pairs.remove(&tcb.pair);
        }
    }

    /// These two ends, which nobody has used yet, are free again.
    pub(crate) fn forget_ends(&mut self, pair: &Pair) {
        self.pairs.remove(pair);
    }

    /// Changes a connection, and whatever else changes with that.
    pub(crate) fn with_tcb<R>(
        &mut self,
        id: Id,
        now: u64,
        change: impl FnOnce(&mut Tcb, &mut Net<'_>) -> R,
    ) -> Option<R> {
        let tcb = self.tcp.get_mut(id)?;
        let before = tcb.state;
        let mut net = Net {
            now,
            out: &mut self.out,
            woken: &mut self.woken,
            counters: &mut self.counters,
        };
        let result = change(tcb, &mut net);
        self.settle(id, before);
        Some(result)
    }

    /// Makes tables and deadlines true after a change.
    fn settle(&mut self, id: Id, before: State) {
        let Some(tcb) = self.tcp.get(id) else { return };
        let (after, parent, is_orphan) = (tcb.state, tcb.parent, tcb.has(Switch::ORPHAN));
        let deadline = tcb.deadline();
        if before != after {
            self.state_changed(id, before, after);
            if let Some(parent) = parent.filter(|_| after != State::SynReceived) {
                self.embryo_changed(id, parent, after);
            }
            if after == State::Closed {
                self.forget_pair(id);
                if is_orphan || parent.is_some() {
                    self.remove_tcb(id);
                    return;
                }
            }
        } else if after == State::Closed && is_orphan {
            self.remove_tcb(id);
            return;
        }
        // An earlier deadline than needed is left: it finds nothing to do, which is cheaper than to move it with each packet.
        if let Some(deadline) = deadline
            && !self.deadlines.has_until(id.number, deadline)
        {
            self.deadlines.set(id.number, deadline);
        }
    }

    fn state_changed(&mut self, id: Id, before: State, after: State) {
        if before == State::TimeWait {
            self.time_waiting -= 1;
        }
        if after == State::TimeWait {
            self.time_waiting += 1;
            if self.time_waiting > self.settings.most_time_wait {
                self.time_waiting -= 1;
                if let Some(tcb) = self.tcp.get_mut(id) {
                    tcb.state = State::Closed;
                }
            }
        }
        if before == State::SynSent && after == State::Closed {
            self.counters.failed += 1;
        }
    }

    /// A connection that is to be accepted is made, or not.
    fn embryo_changed(&mut self, id: Id, parent: Id, after: State) {
        let Some(Tcb {
            listener: Some(listener),
            notice,
            ..
        }) = self.tcp.get_mut(parent)
        else {
            return;
        };
        listener.embryos = listener.embryos.saturating_sub(1);
        if after == State::Closed {
            return;
        }
        // Room was made with the connection.
        let is_queued = listener.ready.push_back_within_capacity(id).is_ok();
        let notice = notice.clone();
        if let Some(tcb) = self.tcp.get_mut(id) {
            tcb.parent = None;
            if !is_queued {
                tcb.switches.insert(Switch::ORPHAN);
            }
        }
        self.counters.passive_opens += 1;
        let mut net = Net {
            now: 0,
            out: &mut self.out,
            woken: &mut self.woken,
            counters: &mut self.counters,
        };
        net.wake_each(notice.as_ref());
    }

    /// Changes a UDP socket.
    pub(crate) fn with_udp<R>(
        &mut self,
        id: Id,
        change: impl FnOnce(&mut Udp, &mut Net<'_>) -> R,
    ) -> Option<R> {
        let udp = self.udp.get_mut(id)?;
        let mut net = Net {
            now: 0,
            out: &mut self.out,
            woken: &mut self.woken,
            counters: &mut self.counters,
        };
        Some(change(udp, &mut net))
    }

    /// Sends a packet of a socket.
    pub(crate) fn send(&mut self, packet: Packet) -> Result<()> {
        Ok(self.out.try_push_back(packet)?)
    }

    /// Hands on up to `most` packets that were sent; whether there are more.
    pub(crate) fn forward(&mut self, now: u64, most: usize) -> bool {
        for _ in 0..most {
            let Some(packet) = self.out.pop_front() else {
                return false;
            };
            self.counters.packets_out += 1;
            if self.is_local(packet.target) {
                let len = packet_len(&packet);
                if let Some(loopback) = self.interfaces.first_mut() {
                    loopback.sent.add(len);
                    loopback.received.add(len);
                }
                self.receive(packet, now);
            } else if let Body::PortUnreachable { from, to } = packet.body {
                if let Some(message) = self.port_unreachable(&packet, from, to, now) {
                    self.transmit(message, now);
                }
            } else {
                self.transmit(packet, now);
            }
        }
        !self.out.is_empty()
    }

    /// Takes in what was sent to one of its addresses.
    fn receive(&mut self, mut packet: Packet, now: u64) {
        self.counters.packets_in += 1;
        match core::mem::replace(&mut packet.body, Body::Nothing) {
            Body::Tcp(segment) => self.receive_tcp(packet.source, packet.target, segment, now),
            Body::Udp(datagram) => self.receive_udp(&packet, datagram),
            Body::Icmp(message) => self.receive_icmp(&packet, &message, now),
            Body::PortUnreachable { from, to } => {
                self.datagram_fails(from, to, Errno::ECONNREFUSED);
            }
            Body::Nothing => {}
        }
    }

    /// Does what is due; whether there may be more of it.
    pub(crate) fn expire(&mut self, now: u64, most: usize) -> bool {
        self.expire_neighbours(now);
        for _ in 0..most {
            let Some((at, number)) = self.deadlines.first() else {
                return false;
            };
            if at > now {
                return false;
            }
            self.deadlines.remove(number);
            if let Some(id) = self.tcp.at(number) {
                self.with_tcb(id, now, Tcb::expire);
            }
        }
        true
    }

    /// When something is due next.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let connection = self.deadlines.first().map(|(at, _)| at);
        connection
            .into_iter()
            .chain(self.neighbour_deadline())
            .min()
    }

    /// Finds a free port for a socket that does not care which.
    pub(crate) fn free_port(&self, ports: &Ports, binding: &Binding) -> Result<u16> {
        choose(self.settings.port_range, random_word(), |port| {
            !ports.conflicts(port, binding, None)
        })
    }

    /// Finds a port to connect from to `remote`.
    pub(crate) fn connecting_port(&self, ip: Ip, remote: Endpoint) -> Result<u16> {
        let is_free = |port| {
            let pair = Pair {
                local: Endpoint::new(ip, port),
                remote,
            };
            !self.tcp_ports.is_claimed(port) && !self.pairs.contains_key(&pair)
        };
        choose(self.settings.port_range, random_word(), is_free).map_err(|_| Errno::EADDRNOTAVAIL)
    }
}

/// What a packet would have on the wire, for the interface's count.
fn packet_len(packet: &Packet) -> usize {
    let (header, payload) = match &packet.body {
        Body::Tcp(segment) => (20, segment.payload_len()),
        Body::Udp(datagram) => (8, datagram.payload.len()),
        Body::Icmp(message) => (0, message.len()),
        Body::PortUnreachable { .. } => (36, 0),
        Body::Nothing => (0, 0),
    };
    let ip = if packet.target.is_v4() { 20 } else { 40 };
    ip + header + payload
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    fs::random::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

fn random_word() -> u32 {
    let mut bytes = [0; 4];
    fs::random::fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}
