//! TCP's and UDP's headers.

use super::{long, word};
use crate::inet::bytes::Bytes;
use crate::inet::packet::{Datagram, Flags, Segment};

/// Kinds of TCP's options.
const END: u8 = 0;
const NOTHING: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;

/// Writes a TCP header without its checksum; its length.
pub(super) fn tcp_header(segment: &Segment, to: &mut [u8]) -> Option<usize> {
    let mut len = 20;
    if let Some(mss) = segment.mss {
        let [high, low] = mss.to_be_bytes();
        to.get_mut(len..len + 4)?
            .copy_from_slice(&[MSS, 4, high, low]);
        len += 4;
    }
    if let Some(shift) = segment.window_scale {
        to.get_mut(len..len + 4)?
            .copy_from_slice(&[NOTHING, WINDOW_SCALE, 3, shift]);
        len += 4;
    }
    let words = u8::try_from(len / 4).ok()?;
    let to = to.get_mut(..20)?;
    to[0..2].copy_from_slice(&segment.source_port.to_be_bytes());
    to[2..4].copy_from_slice(&segment.target_port.to_be_bytes());
    to[4..8].copy_from_slice(&segment.seq.to_be_bytes());
    to[8..12].copy_from_slice(&segment.ack.to_be_bytes());
    to[12] = words << 4;
    to[13] = segment.flags.bits();
    to[14..16].copy_from_slice(&segment.window.to_be_bytes());
    Some(len)
}

/// Reads a TCP segment whose checksum is right.
pub(super) fn parse_tcp(bytes: &[u8]) -> Option<Segment> {
    let len = usize::from(*bytes.get(12)? >> 4) * 4;
    let options = bytes.get(20..len)?;
    let payload = bytes.get(len..)?;
    let mut segment = Segment {
        source_port: word(bytes, 0)?,
        target_port: word(bytes, 2)?,
        seq: long(bytes, 4)?,
        ack: long(bytes, 8)?,
        flags: Flags::from_bits_truncate(*bytes.get(13)?),
        window: word(bytes, 14)?,
        payload: None,
        ..Segment::default()
    };
    if segment.source_port == 0 || segment.target_port == 0 {
        return None;
    }
    parse_options(options, &mut segment);
    if !payload.is_empty() {
        segment.payload = Some(Bytes::copy(payload).ok()?);
    }
    Some(segment)
}

/// What is wrong in the options ends them.
fn parse_options(mut options: &[u8], segment: &mut Segment) {
    let is_syn = segment.flags.contains(Flags::SYN);
    while let Some((&kind, rest)) = options.split_first() {
        match kind {
            END => return,
            NOTHING => {
                options = rest;
                continue;
            }
            _ => {}
        }
        let Some(len) = rest
            .first()
            .map(|len| usize::from(*len))
            .filter(|len| *len >= 2)
        else {
            return;
        };
        let Some(value) = options.get(2..len) else {
            return;
        };
        match (kind, value) {
            (MSS, [high, low]) if is_syn => segment.mss = Some(u16::from_be_bytes([*high, *low])),
            (WINDOW_SCALE, [shift]) if is_syn => segment.window_scale = Some(*shift),
            _ => {}
        }
        options = options.get(len..).unwrap_or_default();
    }
}

/// Writes a UDP header without its checksum; its length.
pub(super) fn udp_header(datagram: &Datagram, to: &mut [u8]) -> Option<usize> {
    let len = u16::try_from(8 + datagram.payload.len()).ok()?;
    let to = to.get_mut(..8)?;
    to[0..2].copy_from_slice(&datagram.source_port.to_be_bytes());
    to[2..4].copy_from_slice(&datagram.target_port.to_be_bytes());
    to[4..6].copy_from_slice(&len.to_be_bytes());
    Some(8)
}

/// Reads a UDP datagram whose checksum is right.
pub(super) fn parse_udp(bytes: &[u8]) -> Option<Datagram> {
    let payload = bytes.get(8..usize::from(word(bytes, 4)?))?;
    Some(Datagram {
        source_port: word(bytes, 0)?,
        target_port: word(bytes, 2)?,
        payload: Bytes::copy(payload).ok()?,
    })
}
