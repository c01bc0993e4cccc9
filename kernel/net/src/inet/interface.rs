//! [`Interface`]: what a network namespace sends and receives through; and which addresses are its own.

use abi::{Errno, Result};
use collections::Vec;

use super::ip::Ip;

/// The number of the loopback interface in each namespace.
pub(crate) const LOOPBACK: u32 = 1;
/// Its largest packet, as on Linux.
pub(crate) const LOOPBACK_MTU: u32 = 65536;
/// Longest name, with the NUL (`IFNAMSIZ`).
pub(crate) const NAME_SIZE: usize = 16;

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) ip: Ip,
    /// Bits of the network's part.
    pub(crate) prefix: u8,
}

/// An interface. There is the loopback interface.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) index: u32,
    pub(crate) name: &'static str,
    pub(crate) mtu: u32,
    pub(crate) is_up: bool,
    pub(crate) addresses: Vec<Local>,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl Interface {
    /// The loopback interface, which is down and has no address.
    pub(crate) const fn loopback() -> Interface {
        Interface {
            index: LOOPBACK,
            name: "lo",
            mtu: LOOPBACK_MTU,
            is_up: false,
            addresses: Vec::new(),
            packets: 0,
            bytes: 0,
        }
    }

    /// Brings it up or down. The loopback interface gets its addresses when it comes up; those of version 6 go when it
    /// goes down.
    pub(crate) fn set_up(&mut self, is_up: bool) -> Result<()> {
        if is_up && !self.is_up {
            self.add(Local {
                ip: Ip::LOOPBACK4,
                prefix: 8,
            })?;
            self.add(Local {
                ip: Ip::LOOPBACK6,
                prefix: 128,
            })?;
        } else if !is_up {
            self.addresses.retain(|local| local.ip.is_v4());
        }
        self.is_up = is_up;
        Ok(())
    }

    /// Gives it an address, unless it has it.
    fn add(&mut self, local: Local) -> Result<()> {
        if self.addresses.iter().all(|known| known.ip != local.ip) {
            self.addresses.try_push(local)?;
        }
        Ok(())
    }

    /// Whether what is sent to `ip` comes here: all of the networks of the loopback interface does.
    pub(crate) fn has(&self, ip: Ip) -> bool {
        self.is_up
            && self
                .addresses
                .iter()
                .any(|local| ip.is_within(local.ip, local.prefix))
    }

    /// The address that what is sent to `ip`, which it has, comes from.
    pub(crate) fn source_for(&self, ip: Ip) -> Option<Ip> {
        let own = self
            .addresses
            .iter()
            .find(|local| ip.is_within(local.ip, local.prefix));
        own.filter(|_| self.is_up).map(|local| local.ip)
    }

    /// Sets the largest packet.
    pub(crate) fn set_mtu(&mut self, mtu: u32) -> Result<()> {
        // Less than Linux's least for version 4 is refused.
        if mtu < 68 || mtu > i32::MAX.unsigned_abs() {
            return Err(Errno::EINVAL);
        }
        self.mtu = mtu;
        Ok(())
    }
}
