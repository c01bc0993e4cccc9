//! [`Interface`]: how a driver hands frames to the stack; [`attach`] makes one.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{try_arc, try_format};

use super::device::NetDevice;
use super::interface::{self, LOOPBACK};
use super::stack::frames::announce;
use crate::namespace::NetNamespace;

/// Interfaces of one namespace.
const MOST: u32 = 64;

/// An interface as its driver has it. Its methods are called by the driver's thread, with no lock of the driver held.
#[derive(Debug)]
pub struct Interface {
    namespace: Arc<NetNamespace>,
    index: u32,
}

/// Makes an interface of the initial namespace for `device`: `eth0`, `eth1`, and so on; it is down.
///
/// # Errors
/// `ENOMEM`, `ENFILE` for one too many.
pub fn attach(device: Arc<dyn NetDevice>) -> Result<Arc<Interface>> {
    attach_to(NetNamespace::initial()?, device)
}

/// As [`attach`], for an interface of `namespace`.
pub(super) fn attach_to(
    namespace: Arc<NetNamespace>,
    device: Arc<dyn NetDevice>,
) -> Result<Arc<Interface>> {
    let index = namespace.look(|stack| {
        let index = stack
            .interfaces
            .iter()
            .map(|interface| interface.index)
            .max()
            .unwrap_or(LOOPBACK)
            + 1;
        if index > MOST {
            return Err(Errno::ENFILE);
        }
        let name = try_format!("eth{}", index - LOOPBACK - 1)?;
        let name = interface::name_of(name.as_bytes());
        stack
            .interfaces
            .try_push(interface::Interface::of_device(index, name, device))?;
        Ok(index)
    })??;
    Ok(try_arc(Interface { namespace, index })?)
}

impl Interface {
    /// Takes a frame in, and does what follows. `is_verified`: its checksums are right.
    pub fn receive(&self, frame: &[u8], is_verified: bool) {
        // Only memory for the stack could be lacking, which is there.
        let _ = self
            .namespace
            .run(|stack, now| stack.input_frame(self.index, frame, is_verified, now));
    }

    /// The device takes frames again.
    pub fn room(&self) {
        let _ = self
            .namespace
            .run(|stack, now| stack.flush(self.index, now));
    }

    /// The device's link is there, or not.
    pub fn set_carrier(&self, is_there: bool) {
        let _ = self.namespace.look(|stack| {
            if let Some(interface) = stack.interface_mut(self.index) {
                let is_new = is_there && !interface.has_carrier;
                interface.has_carrier = is_there;
                if is_new {
                    announce(interface);
                }
            }
        });
    }
}
