//! [`Interface`]: what a network namespace sends and receives through; and which addresses are its own.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{Vec, VecDeque};

use super::device::NetDevice;
use super::ip::Ip;
use super::neighbour::Neighbours;
use super::packet::Packet;
use super::wire::ethernet::Mac;

/// The number of the loopback interface in each namespace.
pub(crate) const LOOPBACK: u32 = 1;
/// Its largest packet, as on Linux.
const LOOPBACK_MTU: u32 = 65536;
/// Longest name, with the NUL (`IFNAMSIZ`).
pub(crate) const NAME_SIZE: usize = 16;
/// Addresses of one interface.
const ADDRESSES_MAX: usize = 256;
/// Packets that wait for a device (`txqueuelen`).
pub(crate) const QUEUE: usize = 1000;

/// An interface's name, with zeroes behind it.
pub(crate) type Name = [u8; NAME_SIZE];

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) ip: Ip,
    /// Bits of the network's part.
    pub(crate) prefix: u8,
}

/// What went one way.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) dropped: u64,
}

impl Count {
    pub(crate) fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// An interface: that without a device is the loopback interface.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) index: u32,
    pub(crate) name: Name,
    pub(crate) mtu: u32,
    pub(crate) is_up: bool,
    pub(crate) has_carrier: bool,
    pub(crate) addresses: Vec<Local>,
    pub(crate) device: Option<Arc<dyn NetDevice>>,
    pub(crate) neighbours: Neighbours,
    /// What the device has no room for now.
    pub(crate) queue: VecDeque<Packet>,
    pub(crate) received: Count,
    pub(crate) sent: Count,
}

/// A name in its fixed size.
pub(crate) fn name_of(text: &[u8]) -> Name {
    let mut name = [0; NAME_SIZE];
    let len = text.len().min(NAME_SIZE - 1);
    name[..len].copy_from_slice(&text[..len]);
    name
}

impl Interface {
    /// The loopback interface, which is down and has no address.
    pub(crate) fn loopback() -> Interface {
        Interface {
            index: LOOPBACK,
            name: name_of(b"lo"),
            mtu: LOOPBACK_MTU,
            is_up: false,
            has_carrier: true,
            addresses: Vec::new(),
            device: None,
            neighbours: Neighbours::default(),
            queue: VecDeque::default(),
            received: Count::default(),
            sent: Count::default(),
        }
    }

    /// One with a device, which is down and has no address.
    pub(crate) fn of_device(index: u32, name: Name, device: Arc<dyn NetDevice>) -> Interface {
        let mtu = u32::try_from(device.mtu()).unwrap_or(1500);
        Interface {
            index,
            name,
            mtu,
            device: Some(device),
            ..Interface::loopback()
        }
    }

    /// Its hardware address, unless it is the loopback interface.
    pub(crate) fn mac(&self) -> Option<Mac> {
        self.device.as_ref().map(|device| device.mac())
    }

    /// Its name, without the zeroes.
    pub(crate) fn name(&self) -> &[u8] {
        self.name
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default()
    }

    /// Brings it up or down. The loopback interface gets its addresses when it comes up, others one of their link; those of
    /// version 6 go when it goes down.
    pub(crate) fn set_up(&mut self, is_up: bool) -> Result<()> {
        if is_up && !self.is_up {
            match self.mac() {
                None => {
                    self.add(Local {
                        ip: Ip::LOOPBACK4,
                        prefix: 8,
                    })?;
                    self.add(Local {
                        ip: Ip::LOOPBACK6,
                        prefix: 128,
                    })?;
                }
                Some(mac) => self.add(Local {
                    ip: link_local(mac),
                    prefix: 64,
                })?,
            }
        } else if !is_up {
            self.addresses.retain(|local| local.ip.is_v4());
            self.neighbours.forget();
            self.queue.clear();
        }
        self.is_up = is_up;
        Ok(())
    }

    /// Gives it an address, unless it has it.
    pub(crate) fn add(&mut self, local: Local) -> Result<()> {
        if self.addresses.iter().any(|known| known.ip == local.ip) {
            return Ok(());
        }
        if self.addresses.len() >= ADDRESSES_MAX {
            return Err(Errno::ENOBUFS);
        }
        self.addresses.try_push(local)?;
        Ok(())
    }

    /// Whether what is sent to `ip` comes here: of the loopback interface all of its networks.
    pub(crate) fn has(&self, ip: Ip) -> bool {
        let is_own = |local: &Local| match self.device {
            None => ip.is_within(local.ip, local.prefix),
            Some(_) => ip == local.ip,
        };
        self.is_up && self.addresses.iter().any(is_own)
    }

    /// Whether `ip` stands for all of one of its networks.
    pub(crate) fn is_broadcast(&self, ip: Ip) -> bool {
        let is_last = |local: &Local| {
            let bits = u32::MAX.checked_shr(local.prefix.into()).unwrap_or(0);
            let number = u32::from_be_bytes(ip.to_v4());
            local.prefix < 31
                && ip.is_v4()
                && ip.is_within(local.ip, local.prefix)
                && number & bits == bits
        };
        ip.is_broadcast() || self.device.is_some() && self.addresses.iter().any(is_last)
    }

    /// The address that what goes from here to `next` comes from.
    pub(crate) fn source_for(&self, next: Ip) -> Option<Ip> {
        let same = || {
            self.addresses
                .iter()
                .filter(|local| local.ip.is_v4() == next.is_v4())
        };
        let near = same().find(|local| next.is_within(local.ip, local.prefix));
        let far = || {
            same()
                .find(|local| !local.ip.is_link_local())
                .or_else(|| same().next())
        };
        near.or_else(far).map(|local| local.ip)
    }

    /// The address that what is sent to `ip`, which it has, comes from.
    pub(crate) fn source_of_own(&self, ip: Ip) -> Option<Ip> {
        let own = self.addresses.iter().find(|local| ip == local.ip);
        let near = || {
            self.addresses
                .iter()
                .find(|local| ip.is_within(local.ip, local.prefix))
        };
        own.or_else(near).map(|local| local.ip)
    }

    /// Sets the largest packet.
    pub(crate) fn set_mtu(&mut self, mtu: u32) -> Result<()> {
        let most = match &self.device {
            Some(device) => u32::try_from(device.mtu()).unwrap_or(1500),
            None => i32::MAX.unsigned_abs(),
        };
        // Less than version 4 needs is refused.
        if mtu < 68 || mtu > most {
            return Err(Errno::EINVAL);
        }
        self.mtu = mtu;
        Ok(())
    }
}

/// The address of its link that an interface makes of its hardware address (RFC 4291, appendix A).
fn link_local(mac: Mac) -> Ip {
    let [a, b, c, d, e, f] = mac;
    Ip::v6([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasts_are_of_the_networks() {
        #[derive(Debug)]
        struct Nothing;
        impl NetDevice for Nothing {
            fn mac(&self) -> [u8; 6] {
                [2, 0, 0, 0, 0, 9]
            }
            fn mtu(&self) -> usize {
                1500
            }
            fn offloads(&self) -> super::super::Offloads {
                super::super::Offloads::empty()
            }
            fn transmit(
                &self,
                _: &[&[u8]],
                _: Option<super::super::ChecksumStart>,
            ) -> core::result::Result<(), super::super::Full> {
                Ok(())
            }
        }
        let mut interface = Interface::of_device(2, name_of(b"eth0"), Arc::new(Nothing));
        interface
            .add(Local {
                ip: Ip::v4([10, 0, 0, 7]),
                prefix: 24,
            })
            .unwrap();
        interface.set_up(true).unwrap();
        assert!(interface.is_broadcast(Ip::v4([10, 0, 0, 255])));
        assert!(!interface.is_broadcast(Ip::v4([10, 0, 1, 255])));
        assert!(interface.has(Ip::v4([10, 0, 0, 7])) && !interface.has(Ip::v4([10, 0, 0, 8])));
        let link = Ip::v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 9]);
        assert_eq!(interface.source_for(link), Some(link));
        assert_eq!(
            interface.source_for(Ip::v4([8, 8, 8, 8])),
            Some(Ip::v4([10, 0, 0, 7]))
        );
        assert_eq!(interface.set_mtu(1501), Err(Errno::EINVAL));
        interface.set_up(false).unwrap();
        assert_eq!(interface.addresses.len(), 1);
    }
}
