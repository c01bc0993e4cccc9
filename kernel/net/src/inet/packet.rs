//! [`Packet`]: what goes from one socket to another, with the fields of its headers as numbers.

use bitflags::bitflags;

use super::bytes::Bytes;
use super::ip::{Endpoint, Ip};

/// An IP packet.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(crate) source: Ip,
    pub(crate) target: Ip,
    /// Time to live, hop limit.
    pub(crate) ttl: u8,
    /// Type of service, traffic class.
    pub(crate) tos: u8,
    pub(crate) body: Body,
}

/// What a packet carries.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Tcp(Segment),
    Udp(Datagram),
    /// Nobody has the port that the UDP datagram between these two (as that had them) was sent to.
    PortUnreachable {
        from: Endpoint,
        to: Endpoint,
    },
    /// A message of ICMP, with its checksum.
    Icmp(Bytes),
    /// Taken out to be dealt with.
    Nothing,
}

impl Packet {
    /// What follows the headers that are numbers here.
    pub(crate) fn payload(&self) -> &[u8] {
        match &self.body {
            Body::Tcp(segment) => segment.payload.as_ref().map_or(&[], Bytes::as_slice),
            Body::Udp(datagram) => datagram.payload.as_slice(),
            Body::Icmp(message) => message.as_slice(),
            Body::PortUnreachable { .. } | Body::Nothing => &[],
        }
    }
}

bitflags! {
    /// The flags of a TCP header.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub(crate) struct Flags: u8 {
        const FIN = 1;
        const SYN = 2;
        const RST = 4;
        const PSH = 8;
        const ACK = 16;
        const URG = 32;
    }
}

/// A TCP segment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Segment {
    pub(crate) source_port: u16,
    pub(crate) target_port: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: Flags,
    /// As in the header: scaled by what the sender has said.
    pub(crate) window: u16,
    /// Of a SYN: the largest segment that the sender takes.
    pub(crate) mss: Option<u16>,
    /// Of a SYN: how the sender scales its window.
    pub(crate) window_scale: Option<u8>,
    pub(crate) payload: Option<Bytes>,
}

impl Segment {
    pub(crate) fn payload_len(&self) -> usize {
        self.payload.as_ref().map_or(0, Bytes::len)
    }

    /// What it takes of the space of sequence numbers.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a payload has less than 64 KiB"
    )]
    pub(crate) fn seq_len(&self) -> u32 {
        self.payload_len() as u32
            + u32::from(self.flags.contains(Flags::SYN))
            + u32::from(self.flags.contains(Flags::FIN))
    }
}

/// A UDP datagram.
#[derive(Debug, Clone)]
pub(crate) struct Datagram {
    pub(crate) source_port: u16,
    pub(crate) target_port: u16,
    pub(crate) payload: Bytes,
}
