//! Packets as bytes: what goes over a device, and what comes from it (RFC 791, 8200, 9293, 768, 792, 4443).
//!
//! What comes was written by others: each length is checked before it is believed, and what does not fit is none. [`ethernet`]
//! has frames and the two ways to find a neighbour.

pub(super) mod ethernet;
mod transport;

use super::ip::Ip;
use super::packet::{Body, Packet};

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMP6: u8 = 58;
/// IPv6 extension headers that are passed over.
const HOP_BY_HOP: u8 = 0;
const DESTINATION_OPTIONS: u8 = 60;
/// The longest headers that are made: IPv6's, and TCP's with its options.
pub(super) const HEADERS_MAX: usize = 40 + 60;

/// The sum that checksums of the internet are (RFC 1071).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    sum: u64,
    /// A byte whose pair has not come yet.
    odd: Option<u8>,
}

impl Sum {
    pub(super) fn add(mut self, mut bytes: &[u8]) -> Sum {
        if let Some(first) = self.odd.take() {
            let Some((second, rest)) = bytes.split_first() else {
                self.odd = Some(first);
                return self;
            };
            self.sum += u64::from(u16::from_be_bytes([first, *second]));
            bytes = rest;
        }
        let mut fours = bytes.chunks_exact(4);
        for four in &mut fours {
            self.sum += u64::from(u32::from_be_bytes([four[0], four[1], four[2], four[3]]));
        }
        let mut twos = fours.remainder().chunks_exact(2);
        for two in &mut twos {
            self.sum += u64::from(u16::from_be_bytes([two[0], two[1]]));
        }
        self.odd = twos.remainder().first().copied();
        self
    }

    /// Of the addresses, the protocol and the length that TCP's and UDP's checksums are of, too.
    pub(super) fn of_pseudo_header(source: Ip, target: Ip, protocol: u8, len: usize) -> Sum {
        let sum = if source.is_v4() {
            Sum::default().add(&source.to_v4()).add(&target.to_v4())
        } else {
            Sum::default().add(&source.to_v6()).add(&target.to_v6())
        };
        let len = u32::try_from(len).unwrap_or(0).to_be_bytes();
        sum.add(&len).add(&[0, protocol])
    }

    /// Sixteen bits of it.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "folded to sixteen bits before"
    )]
    pub(super) fn folded(self) -> u16 {
        let mut sum = self.sum + self.odd.map_or(0, |byte| u64::from(byte) << 8);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    pub(super) fn checksum(self) -> u16 {
        !self.folded()
    }
}

/// The headers of a packet, for a device.
#[derive(Debug)]
pub(super) struct Headers {
    pub(super) bytes: [u8; HEADERS_MAX],
    pub(super) len: usize,
    /// Where TCP's or UDP's header begins, and where its checksum stands behind that.
    pub(super) checksum: Option<(usize, usize)>,
}

/// Makes the headers of `packet`, whose payload follows them. With `is_partial` TCP's and UDP's checksum is left to the
/// device: only that of the pseudo header stands there.
pub(super) fn headers(packet: &Packet, identification: u16, is_partial: bool) -> Option<Headers> {
    let mut bytes = [0; HEADERS_MAX];
    let ip_len = if packet.target.is_v4() { 20 } else { 40 };
    let (protocol, made) = match &packet.body {
        Body::Tcp(segment) => (TCP, transport::tcp_header(segment, &mut bytes[ip_len..])?),
        Body::Udp(datagram) => (UDP, transport::udp_header(datagram, &mut bytes[ip_len..])?),
        Body::Icmp(_) if packet.target.is_v4() => (ICMP, 0),
        Body::Icmp(_) => (ICMP6, 0),
        Body::PortUnreachable { .. } | Body::Nothing => return None,
    };
    let payload = packet.payload();
    let body_len = made + payload.len();
    let offset = match protocol {
        TCP => Some(16),
        UDP => Some(6),
        _ => None,
    };
    if let Some(offset) = offset {
        let sum = Sum::of_pseudo_header(packet.source, packet.target, protocol, body_len);
        let sum = if is_partial {
            sum.folded()
        } else {
            match sum
                .add(&bytes[ip_len..ip_len + made])
                .add(payload)
                .checksum()
            {
                // None means none to UDP.
                0 if protocol == UDP => 0xffff,
                sum => sum,
            }
        };
        bytes[ip_len + offset..ip_len + offset + 2].copy_from_slice(&sum.to_be_bytes());
    }
    if packet.target.is_v4() {
        ip4_header(packet, protocol, body_len, identification, &mut bytes)?;
    } else {
        ip6_header(packet, protocol, body_len, &mut bytes)?;
    }
    Some(Headers {
        bytes,
        len: ip_len + made,
        checksum: offset.map(|offset| (ip_len, offset)),
    })
}

fn ip4_header(
    packet: &Packet,
    protocol: u8,
    body_len: usize,
    identification: u16,
    to: &mut [u8],
) -> Option<()> {
    const DO_NOT_FRAGMENT: u8 = 0x40;
    let len = u16::try_from(20 + body_len).ok()?;
    let to = to.get_mut(..20)?;
    to[0] = 0x45;
    to[1] = packet.tos;
    to[2..4].copy_from_slice(&len.to_be_bytes());
    to[4..6].copy_from_slice(&identification.to_be_bytes());
    to[6] = DO_NOT_FRAGMENT;
    to[8] = packet.ttl;
    to[9] = protocol;
    to[12..16].copy_from_slice(&packet.source.to_v4());
    to[16..20].copy_from_slice(&packet.target.to_v4());
    let sum = Sum::default().add(to).checksum();
    to[10..12].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

fn ip6_header(packet: &Packet, protocol: u8, body_len: usize, to: &mut [u8]) -> Option<()> {
    let len = u16::try_from(body_len).ok()?;
    let to = to.get_mut(..40)?;
    to[0] = 0x60 | packet.tos >> 4;
    to[1] = packet.tos << 4;
    to[4..6].copy_from_slice(&len.to_be_bytes());
    to[6] = protocol;
    to[7] = packet.ttl;
    to[8..24].copy_from_slice(&packet.source.to_v6());
    to[24..40].copy_from_slice(&packet.target.to_v6());
    Some(())
}

/// What an IP packet says, and where its payload is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parsed<'a> {
    pub(super) source: Ip,
    pub(super) target: Ip,
    pub(super) ttl: u8,
    pub(super) tos: u8,
    pub(super) protocol: u8,
    pub(super) payload: &'a [u8],
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk::<2>()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk::<4>()?))
}

/// Reads an IPv4 packet; none that is a fragment, or whose header is wrong.
pub(super) fn parse4(bytes: &[u8]) -> Option<Parsed<'_>> {
    let first = *bytes.first()?;
    let header_len = usize::from(first & 15) * 4;
    let len = usize::from(word(bytes, 2)?);
    let header = bytes.get(..header_len)?;
    let is_fragment = word(bytes, 6)? & 0x3fff != 0;
    if first >> 4 != 4
        || header_len < 20
        || len < header_len
        || is_fragment
        || Sum::default().add(header).checksum() != 0
    {
        return None;
    }
    Some(Parsed {
        source: Ip::v4(*header.get(12..)?.first_chunk()?),
        target: Ip::v4(*header.get(16..)?.first_chunk()?),
        ttl: header[8],
        tos: header[1],
        protocol: header[9],
        payload: bytes.get(header_len..len)?,
    })
}

/// Reads an IPv6 packet, passing over options.
pub(super) fn parse6(bytes: &[u8]) -> Option<Parsed<'_>> {
    let header = bytes.first_chunk::<40>()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let source = Ip::v6(*header.get(8..)?.first_chunk()?);
    let target = Ip::v6(*header.get(24..)?.first_chunk()?);
    // A mapped address is none of the wire's.
    if source.is_v4() || target.is_v4() {
        return None;
    }
    let mut payload = bytes.get(40..40 + usize::from(word(bytes, 4)?))?;
    let mut protocol = header[6];
    while matches!(protocol, HOP_BY_HOP | DESTINATION_OPTIONS) {
        let len = 8 + usize::from(*payload.get(1)?) * 8;
        protocol = *payload.first()?;
        payload = payload.get(len..)?;
    }
    let tos = header[0] << 4 | header[1] >> 4;
    Some(Parsed {
        source,
        target,
        ttl: header[7],
        tos,
        protocol,
        payload,
    })
}

/// Makes a packet of what an IP packet carries; `None` for what is wrong, or of a protocol that nobody here has.
/// `is_verified`: the device has looked at the checksum.
pub(super) fn packet(parsed: &Parsed<'_>, is_verified: bool) -> Option<Packet> {
    let Parsed {
        source,
        target,
        ttl,
        tos,
        protocol,
        payload,
    } = *parsed;
    let is_right = || {
        let sum = match protocol {
            ICMP => Sum::default(),
            _ => Sum::of_pseudo_header(source, target, protocol, payload.len()),
        };
        // UDP may do without, in version 4.
        let has_none = protocol == UDP && source.is_v4() && word(payload, 6) == Some(0);
        has_none || sum.add(payload).folded() == 0xffff
    };
    if !is_verified && !is_right() {
        return None;
    }
    let body = match protocol {
        TCP => Body::Tcp(transport::parse_tcp(payload)?),
        UDP => Body::Udp(transport::parse_udp(payload)?),
        ICMP if source.is_v4() => Body::Icmp(super::bytes::Bytes::copy(payload).ok()?),
        ICMP6 if !source.is_v4() => Body::Icmp(super::bytes::Bytes::copy(payload).ok()?),
        _ => return None,
    };
    Some(Packet {
        source,
        target,
        ttl,
        tos,
        body,
    })
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::inet::bytes::Bytes;
    use crate::inet::packet::{Datagram, Flags, Segment};

    fn bytes_of(packet: &Packet) -> Vec<u8> {
        let headers = headers(packet, 7, false).unwrap();
        [&headers.bytes[..headers.len], packet.payload()].concat()
    }

    fn packet_of(ends: (Ip, Ip), body: Body) -> Packet {
        Packet {
            source: ends.0,
            target: ends.1,
            ttl: 61,
            tos: 0x28,
            body,
        }
    }

    fn ends() -> [(Ip, Ip); 2] {
        let six = |last| Ip::v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        [
            (Ip::v4([192, 0, 2, 1]), Ip::v4([192, 0, 2, 2])),
            (six(1), six(2)),
        ]
    }

    fn parse(bytes: &[u8], is_verified: bool) -> Option<Packet> {
        let parsed = if bytes.first()? >> 4 == 4 {
            parse4(bytes)
        } else {
            parse6(bytes)
        };
        packet(&parsed?, is_verified)
    }

    fn all() -> Vec<Packet> {
        let mut all = Vec::new();
        for ends in ends() {
            let segment = Segment {
                source_port: 80,
                target_port: 40000,
                seq: 0xffff_fff0,
                ack: 5,
                flags: Flags::SYN | Flags::ACK,
                window: 65535,
                mss: Some(1460),
                window_scale: Some(7),
                payload: Some(Bytes::copy(b"odd").unwrap()),
            };
            all.push(packet_of(ends, Body::Tcp(segment)));
            let payload = Bytes::copy(b"datagram").unwrap();
            all.push(packet_of(
                ends,
                Body::Udp(Datagram {
                    source_port: 53,
                    target_port: 9,
                    payload,
                }),
            ));
        }
        all
    }

    #[test]
    fn packets_survive_their_bytes() {
        for packet in all() {
            let again = parse(&bytes_of(&packet), false).unwrap();
            assert_eq!(alloc::format!("{again:?}"), alloc::format!("{packet:?}"));
            assert_eq!(again.payload(), packet.payload());
        }
    }

    #[test]
    fn what_was_changed_on_the_way_or_cut_is_none() {
        for packet in all() {
            let whole = bytes_of(&packet);
            for at in 0..whole.len() {
                let mut bad = whole.clone();
                bad[at] ^= 0x55;
                // Version 6 has no checksum of its header's first bytes and hop limit.
                let is_covered = packet.source.is_v4() || at >= 8;
                if is_covered {
                    assert!(parse(&bad, false).is_none(), "byte {at} of {packet:?}");
                }
                let _ = parse(&bad, true);
                assert!(parse(&whole[..at], true).is_none());
            }
        }
    }

    #[test]
    fn checksums_are_the_known_ones() {
        // The example of RFC 1071.
        let sum = Sum::default()
            .add(&[0, 1, 0xf2, 3])
            .add(&[0xf4])
            .add(&[0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded(), 0xddf2);
    }
}
