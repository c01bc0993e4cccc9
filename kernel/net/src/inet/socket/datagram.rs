//! [`DatagramSocket`]: a UDP socket; [`transfer`] has sending and receiving.

mod transfer;

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::try_arc;
use fs::{Credentials, Events, PollTable};
use memory::io::{IoReader, IoWriter};
use sched::WaitQueue;

use super::{Common, IPPROTO_UDP, check_port};
use crate::address::Address;
use crate::inet::address::{to_bind, to_reach, told};
use crate::inet::ip::{Endpoint, Ip};
use crate::inet::option;
use crate::inet::stack::Stack;
use crate::inet::udp::Udp;
use crate::namespace::{NetNamespace, Network};
use crate::options::{Options, Switches};
use crate::socket::{
    Ancillary, OPTION_MAX, Owner, ReceiveFlags, Received, Requester, SendFlags, Shutdown, Socket,
    SocketType,
};

/// A UDP socket. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct DatagramSocket {
    pub(in crate::inet) common: Common,
}

impl DatagramSocket {
    /// A socket without a name.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(
        is_v6: bool,
        owner: &Owner,
        namespace: &Arc<NetNamespace>,
    ) -> Result<Arc<DatagramSocket>> {
        let notice = try_arc(WaitQueue::new())?;
        let mut udp = Udp::new(is_v6, notice.clone());
        let id = namespace.look(|stack| {
            udp.is_v6_only = stack.settings.bind_v6_only;
            stack.udp.insert(udp)
        })??;
        let common = Common {
            namespace: namespace.clone(),
            is_v6,
            options: Options::default(),
            notice,
            id,
            uid: owner.peer.uid,
            wishes: option::Wishes::default(),
        };
        let made = try_arc(DatagramSocket { common });
        made.map_err(|failed| {
            let _ = namespace.look(|stack| drop(stack.udp.remove(id)));
            failed.into()
        })
    }

    pub(in crate::inet) fn look<R>(&self, look: impl FnOnce(&mut Udp) -> R) -> Result<R> {
        let id = self.common.id;
        self.common
            .namespace
            .look(|stack| stack.udp.get_mut(id).map(look))?
            .ok_or(Errno::EBADF)
    }

    fn any(&self) -> Ip {
        if self.common.is_v6 {
            Ip::ANY6
        } else {
            Ip::ANY4
        }
    }

    /// Gives it a port, unless it has one.
    fn ensure_port(&self, stack: &mut Stack) -> Result<()> {
        let id = self.common.id;
        let udp = stack.udp.get(id).ok_or(Errno::EBADF)?;
        if udp.local.port != 0 {
            return Ok(());
        }
        let binding = self.common.binding(udp.local.ip, udp.is_v6_only, false);
        let port = stack
            .free_port(&stack.udp_ports, &binding)
            .map_err(|_| Errno::EAGAIN)?;
        stack.udp_ports.insert(port, id, binding)?;
        if let Some(udp) = stack.udp.get_mut(id) {
            udp.local.port = port;
        }
        Ok(())
    }

    fn disconnect(&self) -> Result<()> {
        let (id, any) = (self.common.id, self.any());
        self.common.namespace.look(|stack| {
            let Some(udp) = stack.udp.get_mut(id) else {
                return;
            };
            udp.remote = None;
            if !udp.has_own_ip {
                udp.local.ip = any;
            }
            let port = udp.local.port;
            if stack
                .udp_ports
                .get_mut(port, id)
                .is_some_and(|binding| !binding.is_explicit)
            {
                stack.udp_ports.remove(port, id);
                if let Some(udp) = stack.udp.get_mut(id) {
                    udp.local.port = 0;
                }
            }
        })
    }

    /// Chooses who is sent to and received from.
    pub(in crate::inet) fn connect_to(&self, address: &Address) -> Result<()> {
        if matches!(address, Address::Unspecified) {
            return self.disconnect();
        }
        let common = &self.common;
        let may_broadcast = common.options.has(Switches::BROADCAST);
        common.namespace.look(|stack| {
            let is_v6_only = stack.udp.get(common.id).ok_or(Errno::EBADF)?.is_v6_only;
            let remote = to_reach(address, common.is_v6, is_v6_only, true)?;
            let source = stack.source_for(remote.ip)?;
            if stack.is_broadcast(remote.ip) && !may_broadcast {
                return Err(Errno::EACCES);
            }
            self.ensure_port(stack)?;
            let udp = stack.udp.get_mut(common.id).ok_or(Errno::EBADF)?;
            if !udp.has_own_ip {
                udp.local.ip = source;
            }
            udp.remote = Some(remote);
            udp.error = None;
            Ok(())
        })?
    }
}

impl Socket for DatagramSocket {
    fn family(&self) -> u32 {
        self.common.family()
    }

    fn socket_type(&self) -> SocketType {
        SocketType::Datagram
    }

    fn protocol(&self) -> u32 {
        IPPROTO_UDP
    }

    fn options(&self) -> &Options {
        &self.common.options
    }

    fn namespace(&self) -> Option<Network> {
        Some(self.common.network())
    }

    fn option_changed(&self, _: u32) {
        let options = &self.common.options;
        let _ = self.common.namespace.look(|stack| {
            let Some(udp) = stack.udp.get_mut(self.common.id) else {
                return;
            };
            udp.receive_size = options.receive_buffer() as usize;
            if let Some(binding) = stack.udp_ports.get_mut(udp.local.port, self.common.id) {
                self.common.update(binding);
            }
        });
    }

    fn set_option(&self, level: u32, name: u32, value: &[u8], who: &Credentials) -> Result<()> {
        option::set_datagram(self, level, name, value, who)
    }

    fn option(&self, level: u32, name: u32, to: &mut [u8; OPTION_MAX]) -> Result<usize> {
        option::get_datagram(self, level, name, to)
    }

    fn bind(&self, address: &Address, requester: &Requester<'_>) -> Result<()> {
        let common = &self.common;
        common.namespace.look(|stack| {
            let udp = stack.udp.get(common.id).ok_or(Errno::EBADF)?;
            let (is_v6_only, known) = (udp.is_v6_only, udp.local.port);
            let local = to_bind(address, common.is_v6, is_v6_only)?;
            if !stack.may_bind(local.ip) {
                return Err(Errno::EADDRNOTAVAIL);
            }
            check_port(
                local.port,
                &stack.settings,
                &common.namespace,
                requester.caller.credentials,
            )?;
            if known != 0 {
                return Err(Errno::EINVAL);
            }
            let binding = self.common.binding(local.ip, is_v6_only, true);
            let port = match local.port {
                0 => stack.free_port(&stack.udp_ports, &binding)?,
                port if stack.udp_ports.conflicts(port, &binding, None) => {
                    return Err(Errno::EADDRINUSE);
                }
                port => port,
            };
            stack.udp_ports.insert(port, common.id, binding)?;
            if let Some(udp) = stack.udp.get_mut(common.id) {
                udp.local = Endpoint::new(local.ip, port);
                udp.has_own_ip = !local.ip.is_any();
            }
            Ok(())
        })?
    }

    fn listen(&self, _: usize, _: &Requester<'_>) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    fn accept(&self, _: bool) -> Result<Arc<dyn Socket>> {
        Err(Errno::EOPNOTSUPP)
    }

    fn connect(&self, address: &Address, _: bool, _: &Requester<'_>) -> Result<()> {
        self.connect_to(address)
    }

    fn send(
        &self,
        from: &mut IoReader<'_>,
        _: SendFlags,
        to: Option<(&Address, &Requester<'_>)>,
        _: Ancillary,
    ) -> Result<usize> {
        self.send_one(from, to.map(|(address, _)| address))
    }

    fn receive(&self, to: &mut IoWriter<'_>, flags: ReceiveFlags) -> Result<Received> {
        self.receive_one(to, flags)
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        self.common.namespace.run(|stack, _| {
            let changed = stack.with_udp(self.common.id, |udp, net| {
                if udp.remote.is_none() {
                    return Err(Errno::ENOTCONN);
                }
                udp.ends_receiving |= how.receive;
                udp.ends_sending |= how.send;
                net.wake(Some(&udp.notice));
                Ok(())
            });
            changed.unwrap_or(Err(Errno::EBADF))
        })?
    }

    fn name(&self) -> Address {
        let local = self
            .look(|udp| udp.local)
            .unwrap_or(Endpoint::new(self.any(), 0));
        told(local, self.common.is_v6)
    }

    fn peer_name(&self) -> Result<Address> {
        let remote = self.look(|udp| udp.remote)?.ok_or(Errno::ENOTCONN)?;
        Ok(told(remote, self.common.is_v6))
    }

    fn is_listening(&self) -> bool {
        false
    }

    fn take_error(&self) -> Option<Errno> {
        self.look(|udp| udp.error.take()).ok()?
    }

    fn set_error(&self, errno: Errno) {
        let _ = self.look(|udp| udp.error = Some(errno));
    }

    fn available(&self) -> Result<usize> {
        self.look(|udp| udp.queue.front().map_or(0, |first| first.payload.len()))
    }

    fn poll(&self, table: Option<&mut PollTable>) -> Events {
        if let Some(table) = table {
            table.add(&self.common.notice);
        }
        let looked = self.look(|udp| {
            let mut events = Events::WRITABLE;
            events.set(
                Events::READABLE,
                udp.ends_receiving || !udp.queue.is_empty(),
            );
            events.set(Events::RDHUP, udp.ends_receiving);
            events.set(Events::HUP, udp.ends_receiving && udp.ends_sending);
            events.set(Events::ERR, udp.error.is_some());
            events
        });
        looked.unwrap_or(Events::ERR)
    }
}

impl Drop for DatagramSocket {
    fn drop(&mut self) {
        let id = self.common.id;
        let gone = self.common.namespace.look(|stack| {
            let gone = stack.udp.remove(id);
            if let Some(udp) = &gone {
                stack.udp_ports.remove(udp.local.port, id);
            }
            gone
        });
        drop(gone);
    }
}
