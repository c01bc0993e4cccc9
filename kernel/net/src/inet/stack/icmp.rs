//! ICMP of both versions: echoes are answered, errors are told to whom they are about (RFC 792, RFC 4443).

use abi::Errno;

use super::Stack;
use crate::inet::bytes::Bytes;
use crate::inet::ip::{Endpoint, Ip};
use crate::inet::packet::{Body, Packet};
use crate::inet::tcp::Pair;
use crate::inet::wire::{self, Sum};

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO: u8 = 8;
const PORT_UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const UNREACHABLE_6: u8 = 1;
const TOO_BIG_6: u8 = 2;
const PORT_UNREACHABLE_6: u8 = 4;
const ECHO_6: u8 = 128;
const ECHO_REPLY_6: u8 = 129;
/// Errors that are sent in a second.
const ERRORS_A_SECOND: u32 = 1000;
const NS_PER_S: u64 = 1_000_000_000;

/// Sets the checksum of a message.
fn seal(message: &mut [u8], source: Ip, target: Ip) {
    message[2..4].fill(0);
    let sum = if source.is_v4() {
        Sum::default()
    } else {
        Sum::of_pseudo_header(source, target, wire::ICMP6, message.len())
    };
    let sum = sum.add(message).checksum();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

impl Stack {
    pub(super) fn receive_icmp(&mut self, packet: &Packet, message: &Bytes, now: u64) {
        let bytes = message.as_slice();
        let Some([kind, code, ..]) = bytes.first_chunk::<8>() else {
            return;
        };
        match (packet.source.is_v4(), *kind) {
            (true, ECHO) => self.answer_echo(packet, bytes, ECHO_REPLY),
            (false, ECHO_6) => self.answer_echo(packet, bytes, ECHO_REPLY_6),
            (true, UNREACHABLE) => {
                let errno = match *code {
                    0 | 6 | 11 => Errno::ENETUNREACH,
                    2 => Errno::ENOPROTOOPT,
                    PORT_UNREACHABLE => Errno::ECONNREFUSED,
                    FRAGMENTATION_NEEDED => {
                        let mtu = u16::from_be_bytes([bytes[6], bytes[7]]);
                        return self.too_long(&bytes[8..], mtu.into(), now);
                    }
                    _ => Errno::EHOSTUNREACH,
                };
                self.told_unreachable(&bytes[8..], errno, now);
            }
            (false, UNREACHABLE_6) => {
                let errno = match *code {
                    0 => Errno::ENETUNREACH,
                    1 => Errno::EACCES,
                    PORT_UNREACHABLE_6 => Errno::ECONNREFUSED,
                    _ => Errno::EHOSTUNREACH,
                };
                self.told_unreachable(&bytes[8..], errno, now);
            }
            (false, TOO_BIG_6) => {
                let mtu = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
                self.too_long(&bytes[8..], mtu, now);
            }
            _ => {}
        }
    }

    /// What was sent to several is answered by nobody.
    fn answer_echo(&mut self, packet: &Packet, message: &[u8], kind: u8) {
        if !self.is_local(packet.target) {
            return;
        }
        let Ok(mut answer) = collections::Vec::try_from_slice(message) else {
            return;
        };
        answer[0] = kind;
        seal(&mut answer, packet.target, packet.source);
        let Ok(answer) = Bytes::copy(&answer) else {
            return;
        };
        let body = Body::Icmp(answer);
        // One that finds no memory is lost.
        let _ = self.send(Packet {
            source: packet.target,
            target: packet.source,
            ttl: 64,
            tos: packet.tos,
            body,
        });
    }

    /// The two ends of what an error is about: the beginning of a packet of ours, which may be cut behind its ports.
    fn about(quoted: &[u8]) -> Option<(u8, Pair)> {
        let (protocol, source, target, body) = if quoted.first()? >> 4 == 4 {
            let len = usize::from(quoted.first()? & 15) * 4;
            let source = Ip::v4(*quoted.get(12..)?.first_chunk()?);
            (
                *quoted.get(9)?,
                source,
                Ip::v4(*quoted.get(16..)?.first_chunk()?),
                quoted.get(len..)?,
            )
        } else {
            let source = Ip::v6(*quoted.get(8..)?.first_chunk()?);
            (
                *quoted.get(6)?,
                source,
                Ip::v6(*quoted.get(24..)?.first_chunk()?),
                quoted.get(40..)?,
            )
        };
        let ports = body.first_chunk::<4>()?;
        let local = Endpoint::new(source, u16::from_be_bytes([ports[0], ports[1]]));
        let remote = Endpoint::new(target, u16::from_be_bytes([ports[2], ports[3]]));
        Some((protocol, Pair { local, remote }))
    }

    fn told_unreachable(&mut self, quoted: &[u8], errno: Errno, now: u64) {
        match Self::about(quoted) {
            Some((wire::TCP, pair)) => self.connection_fails(&pair, errno, now),
            Some((wire::UDP, pair)) => self.datagram_fails(pair.local, pair.remote, errno),
            _ => {}
        }
    }

    /// The way takes no packets longer than `mtu`.
    fn too_long(&mut self, quoted: &[u8], mtu: u32, now: u64) {
        let Some((wire::TCP, pair)) = Self::about(quoted) else {
            return;
        };
        let Some(id) = self.find_pair(&pair) else {
            return;
        };
        let headers = if pair.local.ip.is_v4() { 40 } else { 60 };
        let mss = u16::try_from(mtu.saturating_sub(headers)).unwrap_or(u16::MAX);
        self.with_tcb(id, now, |tcb, net| tcb.shrink(mss, net));
    }

    /// The message that tells `to` that nobody has the port of `from` that its datagram was sent to.
    pub(super) fn port_unreachable(
        &mut self,
        packet: &Packet,
        from: Endpoint,
        to: Endpoint,
        now: u64,
    ) -> Option<Packet> {
        let second = now / NS_PER_S;
        if self.errors.0 != second {
            self.errors = (second, 0);
        }
        self.errors.1 += 1;
        if self.errors.1 > ERRORS_A_SECOND {
            return None;
        }
        let mut message = [0; 8 + 48];
        let is_v4 = from.ip.is_v4();
        let quoted = if is_v4 { 20 } else { 40 };
        message[0] = if is_v4 { UNREACHABLE } else { UNREACHABLE_6 };
        message[1] = if is_v4 {
            PORT_UNREACHABLE
        } else {
            PORT_UNREACHABLE_6
        };
        let header = &mut message[8..];
        if is_v4 {
            header[0] = 0x45;
            header[3] = 28;
            header[8] = 64;
            header[9] = wire::UDP;
            header[12..16].copy_from_slice(&from.ip.to_v4());
            header[16..20].copy_from_slice(&to.ip.to_v4());
        } else {
            header[0] = 0x60;
            header[5] = 8;
            header[6] = wire::UDP;
            header[7] = 64;
            header[8..24].copy_from_slice(&from.ip.to_v6());
            header[24..40].copy_from_slice(&to.ip.to_v6());
        }
        header[quoted..quoted + 2].copy_from_slice(&from.port.to_be_bytes());
        header[quoted + 2..quoted + 4].copy_from_slice(&to.port.to_be_bytes());
        header[quoted + 5] = 8;
        let message = &mut message[..8 + quoted + 8];
        seal(message, packet.source, packet.target);
        let body = Body::Icmp(Bytes::copy(message).ok()?);
        Some(Packet {
            source: packet.source,
            target: packet.target,
            ttl: 64,
            tos: 0,
            body,
        })
    }
}
