//! Ethernet frames, and how a neighbour's hardware address is asked for and told (RFC 826, RFC 4861).

use super::{ICMP6, Sum, long, word};
use crate::inet::ip::Ip;

/// A hardware address.
pub(crate) type Mac = [u8; 6];

pub(crate) const EVERYBODY: Mac = [0xff; 6];
pub(crate) const HEADER: usize = 14;
pub(crate) const IP4: u16 = 0x0800;
pub(crate) const IP6: u16 = 0x86dd;
pub(crate) const ARP: u16 = 0x0806;

/// The longest question or answer about a neighbour.
pub(crate) const ASKING_MAX: usize = 40 + 32;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_LINK: u8 = 1;
const TARGET_LINK: u8 = 2;

/// Makes a frame's header.
pub(crate) fn header(to: Mac, from: Mac, kind: u16) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..6].copy_from_slice(&to);
    header[6..12].copy_from_slice(&from);
    header[12..].copy_from_slice(&kind.to_be_bytes());
    header
}

/// A frame: who it is for, what kind, and what it carries.
pub(crate) fn parse(frame: &[u8]) -> Option<(Mac, u16, &[u8])> {
    let to = *frame.first_chunk::<6>()?;
    Some((to, word(frame, 12)?, frame.get(HEADER..)?))
}

/// The hardware address of a group (RFC 1112, RFC 2464).
pub(crate) fn group(ip: Ip) -> Mac {
    if ip.is_v4() {
        let [_, b, c, d] = ip.to_v4();
        [1, 0, 0x5e, b & 0x7f, c, d]
    } else {
        let bytes = ip.to_v6();
        [0x33, 0x33, bytes[12], bytes[13], bytes[14], bytes[15]]
    }
}

/// The group in which who has `ip` is asked (RFC 4291, 2.7.1).
fn solicited(ip: Ip) -> Ip {
    let bytes = ip.to_v6();
    let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    group[13..].copy_from_slice(&bytes[13..]);
    Ip::v6(group)
}

/// What somebody says or asks about a hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asking {
    pub(crate) is_question: bool,
    /// Who says or asks it, if that is told.
    pub(crate) sender: Option<(Ip, Mac)>,
    /// Whose address is asked for.
    pub(crate) target: Ip,
}

/// Whether the neighbour `ip` may be taken for one: no group's, not all.
fn is_somebody(ip: Ip) -> bool {
    !ip.is_any() && !ip.is_multicast() && !ip.is_broadcast() && !ip.is_loopback()
}

/// Reads what ARP carries.
pub(crate) fn parse_arp(bytes: &[u8]) -> Option<Asking> {
    let bytes = bytes.first_chunk::<28>()?;
    if bytes[..6] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let is_question = match bytes[7] {
        1 => true,
        2 => false,
        _ => return None,
    };
    let mac = *bytes.get(8..)?.first_chunk::<6>()?;
    let ip = Ip::v4(*bytes.get(14..)?.first_chunk()?);
    let is_told = is_somebody(ip) && mac[0] & 1 == 0;
    Some(Asking {
        is_question,
        sender: is_told.then_some((ip, mac)),
        target: Ip::v4(*bytes.get(24..)?.first_chunk()?),
    })
}

/// Reads neighbour discovery, whose checksum is right, from `source`.
pub(crate) fn parse_ndp(source: Ip, ttl: u8, bytes: &[u8]) -> Option<Asking> {
    let kind = *bytes.first()?;
    // From this link only: no router has passed it on.
    if ttl != 255 || *bytes.get(1)? != 0 || !matches!(kind, SOLICITATION | ADVERTISEMENT) {
        return None;
    }
    let target = Ip::v6(*bytes.get(8..)?.first_chunk()?);
    let is_question = kind == SOLICITATION;
    let wanted = if is_question {
        SOURCE_LINK
    } else {
        TARGET_LINK
    };
    let teller = if is_question { source } else { target };
    let mut options = bytes.get(24..)?;
    let mut sender = None;
    while let [kind, len, ..] = options {
        let len = usize::from(*len) * 8;
        let option = options.get(..len).filter(|_| len > 0)?;
        if *kind == wanted && is_somebody(teller) {
            sender = Some((teller, *option.get(2..)?.first_chunk::<6>()?))
                .filter(|(_, mac)| mac[0] & 1 == 0);
        }
        options = options.get(len..)?;
    }
    Some(Asking {
        is_question,
        sender,
        target,
    })
}

/// A question or an answer as bytes behind a frame's header: which kind of frame, whom it is for, how long.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) kind: u16,
    pub(crate) to: Mac,
    pub(crate) bytes: [u8; ASKING_MAX],
    pub(crate) len: usize,
}

/// Asks who has `target`, for `own`.
pub(crate) fn question(own: (Ip, Mac), target: Ip) -> Made {
    if target.is_v4() {
        arp(1, own, (target, [0; 6]), EVERYBODY)
    } else {
        let group = solicited(target);
        ndp(SOLICITATION, own, target, group, self::group(group))
    }
}

/// Tells `asker` that `own` has the address that it has asked for.
pub(crate) fn answer(own: (Ip, Mac), asker: (Ip, Mac)) -> Made {
    if own.0.is_v4() {
        arp(2, own, asker, asker.1)
    } else {
        ndp(ADVERTISEMENT, own, own.0, asker.0, asker.1)
    }
}

fn arp(operation: u8, own: (Ip, Mac), target: (Ip, Mac), to: Mac) -> Made {
    let mut bytes = [0; ASKING_MAX];
    bytes[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation]);
    bytes[8..14].copy_from_slice(&own.1);
    bytes[14..18].copy_from_slice(&own.0.to_v4());
    bytes[18..24].copy_from_slice(&target.1);
    bytes[24..28].copy_from_slice(&target.0.to_v4());
    Made {
        kind: ARP,
        to,
        bytes,
        len: 28,
    }
}

fn ndp(kind: u8, own: (Ip, Mac), about: Ip, target: Ip, to: Mac) -> Made {
    const SOLICITED_OVERRIDE: u8 = 0x60;
    let mut bytes = [0; ASKING_MAX];
    bytes[0] = 0x60;
    bytes[5] = 32;
    bytes[6] = ICMP6;
    bytes[7] = 255;
    bytes[8..24].copy_from_slice(&own.0.to_v6());
    bytes[24..40].copy_from_slice(&target.to_v6());
    bytes[40] = kind;
    if kind == ADVERTISEMENT {
        bytes[44] = SOLICITED_OVERRIDE;
    }
    bytes[48..64].copy_from_slice(&about.to_v6());
    bytes[64] = if kind == SOLICITATION {
        SOURCE_LINK
    } else {
        TARGET_LINK
    };
    bytes[65] = 1;
    bytes[66..72].copy_from_slice(&own.1);
    let sum = Sum::of_pseudo_header(own.0, target, ICMP6, 32)
        .add(&bytes[40..])
        .checksum();
    bytes[42..44].copy_from_slice(&sum.to_be_bytes());
    Made {
        kind: IP6,
        to,
        bytes,
        len: ASKING_MAX,
    }
}

/// Whether `bytes` may be neighbour discovery (RFC 4861, 4).
pub(crate) fn is_ndp(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|kind| (133..=137).contains(kind)) && long(bytes, 0).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inet::wire::parse6;

    const OWN: Mac = [2, 0, 0, 0, 0, 1];
    const OTHER: Mac = [2, 0, 0, 0, 0, 2];

    #[test]
    fn arp_asks_and_answers() {
        let (own, other) = (Ip::v4([10, 0, 0, 1]), Ip::v4([10, 0, 0, 2]));
        let made = question((own, OWN), other);
        assert_eq!((made.kind, made.to), (ARP, EVERYBODY));
        let asked = parse_arp(&made.bytes[..made.len]).unwrap();
        assert_eq!(
            asked,
            Asking {
                is_question: true,
                sender: Some((own, OWN)),
                target: other
            }
        );
        let made = answer((other, OTHER), (own, OWN));
        let told = parse_arp(&made.bytes[..made.len]).unwrap();
        assert_eq!(
            (made.to, told.sender, told.is_question),
            (OWN, Some((other, OTHER)), false)
        );
        assert!(parse_arp(&made.bytes[..27]).is_none());
    }

    #[test]
    fn neighbour_discovery_asks_and_answers() {
        let ip = |last| Ip::v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, last]);
        let made = question((ip(1), OWN), ip(2));
        assert_eq!(made.to, [0x33, 0x33, 0xff, 1, 2, 2]);
        let parsed = parse6(&made.bytes[..made.len]).unwrap();
        assert_eq!(
            Sum::of_pseudo_header(parsed.source, parsed.target, ICMP6, 32)
                .add(parsed.payload)
                .folded(),
            0xffff
        );
        let asked = parse_ndp(parsed.source, parsed.ttl, parsed.payload).unwrap();
        assert_eq!(
            asked,
            Asking {
                is_question: true,
                sender: Some((ip(1), OWN)),
                target: ip(2)
            }
        );
        let made = answer((ip(2), OTHER), (ip(1), OWN));
        let parsed = parse6(&made.bytes[..made.len]).unwrap();
        let told = parse_ndp(parsed.source, parsed.ttl, parsed.payload).unwrap();
        assert_eq!(
            told,
            Asking {
                is_question: false,
                sender: Some((ip(2), OTHER)),
                target: ip(2)
            }
        );
        assert!(parse_ndp(parsed.source, 64, parsed.payload).is_none());
        let mut endless = made.bytes;
        endless[65] = 0;
        assert!(parse_ndp(parsed.source, 255, &endless[40..]).is_none());
    }
}
