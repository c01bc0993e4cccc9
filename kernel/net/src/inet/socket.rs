//! Internet sockets as programs hold them: [`stream`] and [`datagram`].

pub(super) mod datagram;
pub(super) mod stream;

use alloc::sync::Arc;

use abi::raw::net as raw;
use abi::{Errno, Result};
use fs::{Capabilities, Credentials};
use sched::WaitQueue;

use super::ip::Ip;
use super::ports::Binding;
use super::slab::Id;
use super::stack::Settings;
use crate::namespace::{NetNamespace, Network};
use crate::options::{Options, Switches};
use crate::socket::{Owner, Socket, SocketType};

pub(super) const IPPROTO_TCP: u32 = 6;
pub(super) const IPPROTO_UDP: u32 = 17;
/// Linux's `IPPROTO_MAX`, the first number that is no protocol.
const PROTOCOLS: u32 = 263;

/// What both kinds of socket have.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) namespace: Arc<NetNamespace>,
    pub(super) is_v6: bool,
    pub(super) options: Options,
    pub(super) notice: Arc<WaitQueue>,
    /// Its state in the stack.
    pub(super) id: Id,
    /// Who made it: whoever shares its port has the same user.
    pub(super) uid: fs::Kuid,
    /// Options of levels of their own.
    pub(super) wishes: super::option::Wishes,
}

impl Common {
    fn family(&self) -> u32 {
        if self.is_v6 {
            raw::AF_INET6
        } else {
            raw::AF_INET
        }
    }

    fn network(&self) -> Network {
        Network::of(self.namespace.clone())
    }

    /// How it has a port, by the options of now.
    fn binding(&self, ip: Ip, is_v6_only: bool, is_explicit: bool) -> Binding {
        Binding {
            ip,
            is_v6_only,
            reuses_address: self.options.has(Switches::REUSEADDR),
            reuses_port: self.options.has(Switches::REUSEPORT),
            uid: self.uid,
            is_listening: false,
            is_explicit,
        }
    }

    /// Brings what it has a port by up to date, after an option has changed.
    fn update(&self, binding: &mut Binding) {
        binding.reuses_address = self.options.has(Switches::REUSEADDR);
        binding.reuses_port = self.options.has(Switches::REUSEPORT);
    }
}

/// A new socket.
///
/// # Errors
/// `EPROTONOSUPPORT` for a protocol that the type does not have, `EINVAL` for none, `ENOMEM`.
pub(crate) fn create(
    is_v6: bool,
    kind: SocketType,
    protocol: u32,
    owner: &Owner,
    namespace: &Arc<NetNamespace>,
) -> Result<Arc<dyn Socket>> {
    if protocol >= PROTOCOLS {
        return Err(Errno::EINVAL);
    }
    match (kind, protocol) {
        (SocketType::Stream, 0 | IPPROTO_TCP) => {
            Ok(stream::StreamSocket::new(is_v6, owner, namespace)?)
        }
        (SocketType::Datagram, 0 | IPPROTO_UDP) => {
            Ok(datagram::DatagramSocket::new(is_v6, owner, namespace)?)
        }
        _ => Err(Errno::EPROTONOSUPPORT),
    }
}

/// Whether the caller may have `port` (`CAP_NET_BIND_SERVICE`).
fn check_port(
    port: u16,
    settings: &Settings,
    owner: &NetNamespace,
    who: &Credentials,
) -> Result<()> {
    let is_privileged = port != 0 && u32::from(port) < settings.first_unprivileged;
    if is_privileged && !who.ns_capable(owner.owner(), Capabilities::NET_BIND_SERVICE) {
        return Err(Errno::EACCES);
    }
    Ok(())
}
