//! The way of a packet over a device, and back.

use abi::Errno;

use super::Stack;
use crate::inet::device::{ChecksumStart, Offloads};
use crate::inet::interface::{Interface, QUEUE};

use crate::inet::ip::Ip;
use crate::inet::packet::{Body, Packet};
use crate::inet::tcp::State;
use crate::inet::wire::ethernet::{self, Asking, EVERYBODY, Mac, Made};
use crate::inet::wire::{self, Parsed};

impl Stack {
    /// Sends a packet that is not for the namespace itself; one without a way is lost.
    pub(super) fn transmit(&mut self, packet: Packet, now: u64) {
        let Some(way) = self.way(packet.target) else {
            self.counters.unroutable += 1;
            return;
        };
        let target = packet.target;
        let is_broadcast = self.is_broadcast(target);
        let Some(interface) = self.interface_mut(way.interface) else {
            return;
        };
        let mac = if is_broadcast {
            Some(EVERYBODY)
        } else {
            target.is_multicast().then(|| ethernet::group(target))
        };
        if let Some(mac) = mac {
            self.emit(way.interface, mac, packet);
            return;
        }
        let found = interface.neighbours.find(way.next, packet, now);
        if found.is_to_be_asked {
            self.ask(way.interface, way.next);
        }
        if let Some((mac, packet)) = found.now {
            self.emit(way.interface, mac, packet);
        }
    }

    /// Sends a packet to a neighbour whose hardware address is known; while the device has no room it waits.
    fn emit(&mut self, index: u32, mac: Mac, packet: Packet) {
        self.identification = self.identification.wrapping_add(1);
        let identification = self.identification;
        let Some(interface) = self.interface_mut(index) else {
            return;
        };
        if interface.queue.is_empty() && send_frame(interface, mac, &packet, identification) {
            return;
        }
        if interface.queue.len() >= QUEUE || interface.queue.try_push_back(packet).is_err() {
            interface.sent.dropped += 1;
        }
    }

    /// The device of `index` has room again.
    pub(crate) fn flush(&mut self, index: u32, now: u64) {
        let Some(interface) = self.interface_mut(index) else {
            return;
        };
        // Those that find no room again wait in the same order.
        for packet in core::mem::take(&mut interface.queue) {
            self.transmit(packet, now);
        }
    }

    /// Asks who has `ip`.
    fn ask(&mut self, index: u32, ip: Ip) {
        let Some(interface) = self.interface_mut(index) else {
            return;
        };
        let (Some(mac), Some(own)) = (interface.mac(), interface.source_for(ip)) else {
            return;
        };
        send_made(interface, &ethernet::question((own, mac), ip));
    }

    /// When a neighbour is to be asked again.
    pub(super) fn neighbour_deadline(&self) -> Option<u64> {
        self.interfaces
            .iter()
            .filter_map(|interface| interface.neighbours.deadline())
            .min()
    }

    /// Asks again, and gives up who does not answer.
    pub(super) fn expire_neighbours(&mut self, now: u64) {
        for at in 0..self.interfaces.len() {
            let index = self.interfaces[at].index;
            while let Some((ip, given_up)) = self.interfaces[at].neighbours.expire(now) {
                match given_up {
                    None => self.ask(index, ip),
                    Some(waiting) => {
                        for packet in waiting {
                            self.unreachable(&packet, Errno::EHOSTUNREACH, now);
                        }
                    }
                }
            }
        }
    }

    /// Tells who has sent `packet` that it does not arrive: a connection that is being made fails.
    pub(super) fn unreachable(&mut self, packet: &Packet, errno: Errno, now: u64) {
        use crate::inet::ip::Endpoint;
        use crate::inet::tcp::Pair;
        match &packet.body {
            Body::Tcp(segment) => {
                let pair = Pair {
                    local: Endpoint::new(packet.source, segment.source_port),
                    remote: Endpoint::new(packet.target, segment.target_port),
                };
                self.connection_fails(&pair, errno, now);
            }
            Body::Udp(datagram) => {
                let from = Endpoint::new(packet.source, datagram.source_port);
                self.datagram_fails(
                    from,
                    Endpoint::new(packet.target, datagram.target_port),
                    errno,
                );
            }
            Body::Icmp(_) | Body::PortUnreachable { .. } | Body::Nothing => {}
        }
    }

    /// A connection that is there already goes on trying.
    pub(super) fn connection_fails(
        &mut self,
        pair: &crate::inet::tcp::Pair,
        errno: Errno,
        now: u64,
    ) {
        let Some(id) = self.find_pair(pair) else {
            return;
        };
        self.with_tcb(id, now, |tcb, net| {
            if tcb.state == State::SynSent {
                tcb.fail(errno, net);
            }
        });
    }

    /// Takes in a frame from the device of `index`. `is_verified`: the device has looked at checksums.
    pub(crate) fn input_frame(&mut self, index: u32, frame: &[u8], is_verified: bool, now: u64) {
        let Some(interface) = self
            .interface_mut(index)
            .filter(|interface| interface.is_up)
        else {
            return;
        };
        let Some((to, kind, bytes)) = ethernet::parse(frame) else {
            return;
        };
        interface.received.add(frame.len());
        // Bit 0 of the first byte: for several.
        if to[0] & 1 == 0 && interface.mac() != Some(to) {
            return;
        }
        match kind {
            ethernet::ARP => {
                if let Some(asking) = ethernet::parse_arp(bytes) {
                    self.input_asking(index, asking, now);
                }
            }
            ethernet::IP4 => {
                if let Some(parsed) = wire::parse4(bytes) {
                    self.input_packet(index, &parsed, is_verified, now);
                }
            }
            ethernet::IP6 => {
                if let Some(parsed) = wire::parse6(bytes) {
                    self.input_packet(index, &parsed, is_verified, now);
                }
            }
            _ => {}
        }
    }

    /// Only what is for the namespace, and not from one of its own addresses, or from nobody.
    fn input_packet(&mut self, index: u32, parsed: &Parsed<'_>, is_verified: bool, now: u64) {
        let (source, target) = (parsed.source, parsed.target);
        let is_forged = source.is_loopback()
            || source.is_multicast()
            || source.is_broadcast()
            || self.is_local(source);
        // Nothing from outside is for the loopback interface.
        if is_forged || target.is_loopback() {
            return;
        }
        let is_ndp = parsed.protocol == wire::ICMP6 && ethernet::is_ndp(parsed.payload);
        let is_for_us = self.is_local(target) || target.is_multicast() || self.is_broadcast(target);
        if !is_for_us || source.is_any() && !is_ndp {
            return;
        }
        let Some(packet) = wire::packet(parsed, is_verified && !is_ndp) else {
            self.counters.packets_bad += 1;
            return;
        };
        if is_ndp {
            if let Some(asking) = ethernet::parse_ndp(source, parsed.ttl, parsed.payload) {
                self.input_asking(index, asking, now);
            }
            return;
        }
        // TCP is between two.
        if matches!(packet.body, Body::Tcp(_)) && !self.is_local(target) {
            return;
        }
        self.receive(packet, now);
    }

    /// A neighbour asks, or tells its address.
    fn input_asking(&mut self, index: u32, asking: Asking, now: u64) {
        let Some(interface) = self.interface_mut(index) else {
            return;
        };
        let is_mine = interface.has(asking.target);
        let waiting = match asking.sender {
            // Who asks for us will be answered, and so is worth to be known.
            Some((ip, mac)) => {
                interface
                    .neighbours
                    .learn(ip, mac, is_mine && asking.is_question, now)
            }
            None => return,
        };
        if let (true, true, Some(mac), Some(asker)) =
            (asking.is_question, is_mine, interface.mac(), asking.sender)
        {
            send_made(interface, &ethernet::answer((asking.target, mac), asker));
        }
        if let Some((_, mac)) = asking.sender {
            for packet in waiting {
                self.emit(index, mac, packet);
            }
        }
    }
}

/// Sends one frame; whether the device took it (or it can never be sent).
fn send_frame(interface: &mut Interface, mac: Mac, packet: &Packet, identification: u16) -> bool {
    let Some(device) = interface.device.clone() else {
        return true;
    };
    let is_partial = device.offloads().contains(Offloads::TX_CHECKSUM);
    let Some(headers) = wire::headers(packet, identification, is_partial) else {
        return true;
    };
    let kind = if packet.target.is_v4() {
        ethernet::IP4
    } else {
        ethernet::IP6
    };
    let frame = ethernet::header(mac, device.mac(), kind);
    let payload = packet.payload();
    let len = headers.len + payload.len();
    if len > interface.mtu as usize {
        // It would have to be cut in pieces, which is not done here.
        interface.sent.dropped += 1;
        return true;
    }
    let place = |at: usize| u16::try_from(at).unwrap_or(0);
    let checksum = headers
        .checksum
        .filter(|_| is_partial)
        .map(|(start, offset)| ChecksumStart {
            start: place(ethernet::HEADER + start),
            offset: place(offset),
        });
    let pieces = [&frame[..], &headers.bytes[..headers.len], payload];
    let is_sent = device.transmit(&pieces, checksum).is_ok();
    if is_sent {
        interface.sent.add(ethernet::HEADER + len);
    }
    is_sent
}

/// Tells everybody on the link who has the interface's addresses of version 4 (RFC 5227, section 3), so that those who have
/// never heard of it can send to it, and those who knew another machine by that address forget that one. A user-mode
/// network on the host learns the guest's hardware address by this alone.
pub(crate) fn announce(interface: &mut Interface) {
    let Some(mac) = interface.mac().filter(|_| interface.is_up) else {
        return;
    };
    for at in 0..interface.addresses.len() {
        let ip = interface.addresses[at].ip;
        if ip.is_v4() {
            send_made(interface, &ethernet::question((ip, mac), ip));
        }
    }
}

/// Sends a question or an answer about a neighbour; one that finds no room is lost, and asked again.
fn send_made(interface: &mut Interface, made: &Made) {
    let Some(device) = interface.device.clone() else {
        return;
    };
    let frame = ethernet::header(made.to, device.mac(), made.kind);
    let bytes = &made.bytes[..made.len];
    if device.transmit(&[&frame[..], bytes], None).is_ok() {
        interface.sent.add(frame.len() + bytes.len());
    }
}
