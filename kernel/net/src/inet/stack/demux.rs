//! Whom a packet is for.

use super::{Binding, Stack};
use crate::inet::ip::{Endpoint, Ip};
use crate::inet::packet::{Body, Datagram, Flags, Packet, Segment};
use crate::inet::slab::Id;
use crate::inet::tcp::{Pair, State, Tcb, reset_for};
use crate::inet::udp::{Received, Udp};
use abi::{Errno, Result};

/// Connections that may be being made for one listener, besides its backlog.
const EMBRYOS: usize = 128;

impl Stack {
    pub(super) fn receive_tcp(&mut self, source: Ip, target: Ip, segment: Segment, now: u64) {
        self.counters.segments_in += 1;
        let pair = Pair {
            local: Endpoint::new(target, segment.target_port),
            remote: Endpoint::new(source, segment.source_port),
        };
        if let Some(id) = self.find_pair(&pair) {
            let gives_way = self
                .tcp
                .get(id)
                .is_some_and(|tcb| tcb.gives_way_to(&segment));
            if !gives_way {
                let may_establish = self.may_establish(id);
                self.with_tcb(id, now, |tcb, net| tcb.input(segment, may_establish, net));
                return;
            }
            // Its end was long enough ago: the two ends begin anew.
            self.with_tcb(id, now, Tcb::abort);
        }
        let kind = segment.flags & (Flags::SYN | Flags::ACK | Flags::RST);
        if kind == Flags::SYN
            && let Some(listener) = self.find_listener(pair.local)
        {
            // Whom memory or the backlog refuses asks again.
            if self.accept_syn(listener, pair, &segment, now).is_err() {
                self.counters.listen_overflows += 1;
            }
        } else if let Some(answer) = reset_for(&pair, &segment) {
            self.counters.resets_out += 1;
            let _ = self.send(answer);
        }
    }

    /// Whether the listener of the connection that `id` becomes has room.
    fn may_establish(&mut self, id: Id) -> bool {
        let Some(parent) = self.tcp.get(id).and_then(|tcb| tcb.parent) else {
            return true;
        };
        let Some(Tcb {
            listener: Some(listener),
            ..
        }) = self.tcp.get_mut(parent)
        else {
            return true;
        };
        listener.ready.len() <= listener.backlog && listener.ready.try_reserve(1).is_ok()
    }

    /// Who listens at `local`: on that address rather than on all, of version 4 rather than of both; of several
    /// that share the port, one by chance.
    pub(crate) fn find_listener(&self, local: Endpoint) -> Option<Id> {
        let score = |binding: &Binding| match binding.ip {
            ip if ip == local.ip => Some(3),
            Ip::ANY4 if local.ip.is_v4() => Some(2),
            Ip::ANY6 if !local.ip.is_v4() || !binding.is_v6_only => Some(1),
            _ => None,
        };
        let mut best: Option<(u32, Id)> = None;
        let mut equals = 1;
        for (id, binding) in self
            .tcp_ports
            .of(local.port)
            .filter(|(_, binding)| binding.is_listening)
        {
            let Some(score) = score(binding) else {
                continue;
            };
            match best {
                Some((least, _)) if score < least => {}
                Some((least, _)) if score == least => {
                    equals += 1;
                    if super::random_word().is_multiple_of(equals) {
                        best = Some((score, id));
                    }
                }
                _ => {
                    equals = 1;
                    best = Some((score, id));
                }
            }
        }
        best.map(|(_, id)| id)
    }

    /// A connection begins.
    fn accept_syn(&mut self, listener: Id, pair: Pair, segment: &Segment, now: u64) -> Result<()> {
        let mss = self.mss(pair.remote.ip);
        let first = self.first_number();
        let parent = self.tcp.get(listener).ok_or(Errno::ECONNREFUSED)?;
        let waiting = parent.listener.as_ref().ok_or(Errno::ECONNREFUSED)?;
        if waiting.ready.len() > waiting.backlog || waiting.embryos > waiting.backlog.max(EMBRYOS) {
            return Err(Errno::ECONNREFUSED);
        }
        let mut tcb = parent.child(pair, mss);
        tcb.parent = Some(listener);
        let port = parent.pair.local.port;
        let binding = self
            .tcp_ports
            .of(port)
            .find(|(id, _)| *id == listener)
            .map(|(_, binding)| *binding);
        let binding = binding.ok_or(Errno::ECONNREFUSED)?;
        let binding = Binding {
            ip: pair.local.ip,
            is_listening: false,
            is_explicit: false,
            ..binding
        };
        let id = self.add_tcb(tcb)?;
        let is_known = self
            .add_pair(pair, id)
            .and_then(|()| self.tcp_ports.insert(port, id, binding));
        if is_known.is_err() {
            self.remove_tcb(id);
            return is_known;
        }
        if let Some(Tcb {
            listener: Some(waiting),
            ..
        }) = self.tcp.get_mut(listener)
        {
            waiting.embryos += 1;
        }
        self.with_tcb(id, now, |tcb, net| tcb.accept_syn(segment, first, net));
        Ok(())
    }

    /// Takes a connection that waits for accept(2).
    pub(crate) fn take_ready(&mut self, listener: Id) -> Option<Id> {
        loop {
            let waiting = self.tcp.get_mut(listener)?.listener.as_mut()?;
            let id = waiting.ready.pop_front()?;
            if self.tcp.get(id).is_some() {
                return Some(id);
            }
        }
    }

    /// Ends a listener: who waits for it is reset.
    pub(crate) fn end_listening(&mut self, listener: Id, now: u64) {
        while let Some(id) = self.take_ready(listener) {
            self.with_tcb(id, now, |tcb, net| tcb.close(true, net));
        }
        let embryos = self
            .tcp
            .iter()
            .filter(|(_, tcb)| tcb.parent == Some(listener));
        // One after the other: to gather them would take memory.
        let mut embryo = embryos.map(|(id, _)| id).next();
        while let Some(id) = embryo {
            self.with_tcb(id, now, |tcb, net| tcb.close(true, net));
            self.remove_tcb(id);
            embryo = self
                .tcp
                .iter()
                .find(|(_, tcb)| tcb.parent == Some(listener))
                .map(|(id, _)| id);
        }
        if let Some(tcb) = self.tcp.get_mut(listener) {
            tcb.listener = None;
            tcb.state = State::Closed;
        }
    }

    /// Which UDP socket what is sent from `from` to `to` is for.
    fn find_udp(&self, from: Endpoint, to: Endpoint) -> Option<Id> {
        let scored = || {
            self.udp_ports.of(to.port).filter_map(|(id, binding)| {
                let score = self.udp.get(id)?.score(from, to)?;
                Some((score, binding.reuses_port, id))
            })
        };
        let best = scored().map(|(score, ..)| score).max()?;
        let equals = || scored().filter(|(score, ..)| *score == best);
        let (_, is_shared, first) = equals().last()?;
        if !is_shared {
            return Some(first);
        }
        // The same sender meets the same one of those that share the port.
        let count = equals().count();
        let hash = u64::from(from.port).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.secret;
        let index = usize::try_from(hash >> 33).unwrap_or(0) % count.max(1);
        equals().nth(index).map(|(.., id)| id)
    }

    pub(super) fn receive_udp(&mut self, about: &Packet, datagram: Datagram) {
        let Packet {
            source,
            target,
            ttl,
            tos,
            ..
        } = *about;
        let from = Endpoint::new(source, datagram.source_port);
        let to = Endpoint::new(target, datagram.target_port);
        if let Some(id) = self.find_udp(from, to) {
            let received = Received {
                from,
                to: target,
                ttl,
                tos,
                payload: datagram.payload,
            };
            self.with_udp(id, |udp, net| udp.input(received, net));
            return;
        }
        self.counters.datagrams_unknown += 1;
        if target.is_multicast() || self.is_broadcast(target) {
            return;
        }
        let body = Body::PortUnreachable { from, to };
        let _ = self.send(Packet {
            source: target,
            target: source,
            ttl: 64,
            tos: 0,
            body,
        });
    }

    /// Tells the socket that sent from `from` to `to` what went wrong, if it is connected.
    pub(super) fn datagram_fails(&mut self, from: Endpoint, to: Endpoint, errno: Errno) {
        let Some(id) = self.find_udp(to, from) else {
            return;
        };
        self.with_udp(id, |udp: &mut Udp, net| {
            if udp.remote == Some(to) {
                udp.error = Some(errno);
                net.wake(Some(&udp.notice));
            }
        });
    }
}
