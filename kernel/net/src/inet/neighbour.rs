//! [`Neighbours`]: the hardware addresses of those on an interface's link, and the packets that wait for one.
//!
//! A neighbour that has not been heard of for long is asked again while packets still go to it; one that does not answer is
//! forgotten. How many are known is bounded, whatever addresses programs or others name.

use abi::Result;
use collections::{Map, VecDeque};

use super::ip::Ip;
use super::packet::Packet;
use super::wire::ethernet::Mac;

const NS_PER_S: u64 = 1_000_000_000;
/// How long an answer is believed.
const BELIEVED_NS: u64 = 30 * NS_PER_S;
/// How long an answer is waited for, and how often it is asked.
const WAIT_NS: u64 = NS_PER_S;
const TRIES: u8 = 3;
/// Most neighbours of an interface (`gc_thresh3`), and packets that wait for one.
const MOST: usize = 1024;
const WAITING: usize = 16;

#[derive(Debug, Default)]
struct Neighbour {
    mac: Option<Mac>,
    /// Set by hand: never asked.
    is_permanent: bool,
    /// When it last told its address.
    told: u64,
    /// When it was last asked, and how often without an answer.
    asked: u64,
    tries: u8,
    waiting: VecDeque<Packet>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    known: Map<Ip, Neighbour>,
}

/// What to do with a packet for a neighbour.
#[derive(Debug)]
pub(crate) struct Found {
    /// Sent there now; else it waits, or is lost.
    pub(crate) now: Option<(Mac, Packet)>,
    /// Whether the neighbour is to be asked.
    pub(crate) is_to_be_asked: bool,
}

impl Neighbours {
    /// Finds where `packet`, whose next hop is `ip`, goes.
    pub(crate) fn find(&mut self, ip: Ip, packet: Packet, now: u64) -> Found {
        let lost = Found {
            now: None,
            is_to_be_asked: false,
        };
        if !self.known.contains_key(&ip) {
            if self.known.len() >= MOST {
                self.known.retain(|_, known| {
                    known.is_permanent || known.mac.is_some() && known.tries == 0
                });
            }
            if self.known.len() >= MOST || self.known.try_insert(ip, Neighbour::default()).is_err()
            {
                return lost;
            }
        }
        let Some(known) = self.known.get_mut(&ip) else {
            return lost;
        };
        let is_old = now.saturating_sub(known.told) > BELIEVED_NS && !known.is_permanent;
        let is_to_be_asked = (known.mac.is_none() || is_old) && (known.tries == 0);
        if is_to_be_asked {
            known.asked = now;
            known.tries = 1;
        }
        if let Some(mac) = known.mac {
            return Found {
                now: Some((mac, packet)),
                is_to_be_asked,
            };
        }
        if known.waiting.len() < WAITING {
            // One that finds no memory is lost, as packets are.
            let _ = known.waiting.try_push_back(packet);
        }
        Found {
            now: None,
            is_to_be_asked,
        }
    }

    /// `ip` has told its address: what has waited for it. One that nobody has asked for is noted if `may_add`.
    pub(crate) fn learn(&mut self, ip: Ip, mac: Mac, may_add: bool, now: u64) -> VecDeque<Packet> {
        if may_add && !self.known.contains_key(&ip) && self.known.len() < MOST {
            // Asked for later, if memory is short now.
            let _ = self.known.try_insert(ip, Neighbour::default());
        }
        let Some(known) = self.known.get_mut(&ip).filter(|known| !known.is_permanent) else {
            return VecDeque::default();
        };
        known.mac = Some(mac);
        known.told = now;
        known.tries = 0;
        core::mem::take(&mut known.waiting)
    }

    /// Sets a neighbour by hand.
    pub(crate) fn set(&mut self, ip: Ip, mac: Mac) -> Result<VecDeque<Packet>> {
        let waiting = self
            .known
            .remove(&ip)
            .map(|known| known.waiting)
            .unwrap_or_default();
        let known = Neighbour {
            mac: Some(mac),
            is_permanent: true,
            ..Neighbour::default()
        };
        self.known.try_insert(ip, known)?;
        Ok(waiting)
    }

    /// Forgets all that were not set by hand.
    pub(crate) fn forget(&mut self) {
        self.known.retain(|_, known| known.is_permanent);
    }

    /// When somebody is to be asked again, or given up.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let asked = self.known.values().filter(|known| known.tries > 0);
        asked.map(|known| known.asked + WAIT_NS).min()
    }

    /// Somebody who has not answered in time: the neighbour, and `None` when it is to be asked again, else what has waited
    /// for it. Called until there is none.
    pub(crate) fn expire(&mut self, now: u64) -> Option<(Ip, Option<VecDeque<Packet>>)> {
        let is_due = |known: &Neighbour| known.tries > 0 && known.asked + WAIT_NS <= now;
        let ip = self
            .known
            .iter()
            .find(|(_, known)| is_due(known))
            .map(|(ip, _)| *ip)?;
        let known = self.known.get_mut(&ip)?;
        if known.tries < TRIES {
            known.tries += 1;
            known.asked = now;
            return Some((ip, None));
        }
        let gone = self.known.remove(&ip)?;
        Some((ip, Some(gone.waiting)))
    }

    /// Those whose address is known.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Ip, Mac, bool)> {
        self.known
            .iter()
            .filter_map(|(ip, known)| Some((*ip, known.mac?, known.is_permanent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inet::packet::Body;

    fn packet() -> Packet {
        Packet {
            source: Ip::ANY4,
            target: Ip::ANY4,
            ttl: 1,
            tos: 0,
            body: Body::Nothing,
        }
    }

    #[test]
    fn packets_wait_for_the_answer() {
        let mut neighbours = Neighbours::default();
        let ip = Ip::v4([10, 0, 0, 2]);
        let found = neighbours.find(ip, packet(), 5);
        assert!(found.is_to_be_asked && found.now.is_none());
        let found = neighbours.find(ip, packet(), 6);
        assert!(!found.is_to_be_asked && found.now.is_none());
        assert_eq!(neighbours.learn(ip, [2; 6], false, 7).len(), 2);
        assert_eq!(
            neighbours.find(ip, packet(), 8).now.map(|(mac, _)| mac),
            Some([2; 6])
        );
        assert_eq!(neighbours.deadline(), None);
        let later = neighbours.find(ip, packet(), 8 + BELIEVED_NS);
        assert!(later.is_to_be_asked && later.now.is_some());
    }

    #[test]
    fn who_does_not_answer_is_forgotten() {
        let mut neighbours = Neighbours::default();
        let ip = Ip::v4([10, 0, 0, 2]);
        neighbours.find(ip, packet(), 0);
        for try_number in 1..3 {
            let (who, waiting) = neighbours.expire(try_number * WAIT_NS).unwrap();
            assert!(who == ip && waiting.is_none());
            assert!(neighbours.expire(try_number * WAIT_NS).is_none());
        }
        let (_, waiting) = neighbours.expire(3 * WAIT_NS).unwrap();
        assert_eq!(waiting.map(|waiting| waiting.len()), Some(1));
        assert_eq!(neighbours.deadline(), None);
    }

    #[test]
    fn there_are_only_so_many() {
        let mut neighbours = Neighbours::default();
        for number in 0..3000_u32 {
            let [_, b, c, d] = number.to_be_bytes();
            neighbours.find(Ip::v4([10, b, c, d]), packet(), 0);
        }
        assert!(neighbours.known.len() <= MOST);
        assert!(
            neighbours
                .learn(Ip::v4([11, 0, 0, 1]), [2; 6], false, 0)
                .is_empty()
        );
    }
}
