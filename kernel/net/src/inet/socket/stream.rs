//! [`StreamSocket`]: a TCP socket. [`connect`] has how it comes to its other end, [`transfer`] sending and receiving.

mod connect;
mod transfer;

use alloc::sync::Arc;

use abi::raw::net as raw;
use abi::{Errno, Result};
use collections::try_arc;
use fs::{Credentials, Events, PollTable};
use memory::io::{IoReader, IoWriter};
use sched::WaitQueue;

use super::{Common, IPPROTO_TCP};
use crate::address::Address;
use crate::inet::address::told;
use crate::inet::ip::{Endpoint, Ip};
use crate::inet::option;
use crate::inet::slab::Id;
use crate::inet::tcp::{Pair, State, Switch, Tcb};
use crate::namespace::{NetNamespace, Network};
use crate::options::{Options, Switches};
use crate::socket::{
    Ancillary, OPTION_MAX, Owner, ReceiveFlags, Received, Requester, SendFlags, Shutdown, Socket,
    SocketType,
};

/// A TCP socket. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct StreamSocket {
    pub(in crate::inet) common: Common,
    /// The reader whose turn it is, so that two never get the same bytes.
    turn: sched::Mutex<()>,
}

impl StreamSocket {
    /// A socket without a name.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(
        is_v6: bool,
        owner: &Owner,
        namespace: &Arc<NetNamespace>,
    ) -> Result<Arc<StreamSocket>> {
        let notice = try_arc(WaitQueue::new())?;
        let any = Endpoint::new(if is_v6 { Ip::ANY6 } else { Ip::ANY4 }, 0);
        let mut tcb = Tcb::new(
            Pair {
                local: any,
                remote: any,
            },
            64,
        );
        tcb.is_v6 = is_v6;
        tcb.notice = Some(notice.clone());
        let id = namespace.look(|stack| {
            tcb.is_v6_only = stack.settings.bind_v6_only;
            stack.add_tcb(tcb)
        })??;
        Self::of(
            id,
            notice,
            is_v6,
            Options::of_tcp(),
            owner.peer.uid,
            namespace,
        )
    }

    /// A socket for a connection that was accepted.
    fn accepted(&self, id: Id, notice: Arc<WaitQueue>) -> Result<Arc<StreamSocket>> {
        let common = &self.common;
        let options = common.options.copied();
        let made = Self::of(
            id,
            notice,
            common.is_v6,
            options,
            common.uid,
            &common.namespace,
        )?;
        made.common.wishes.copy_from(&common.wishes);
        Ok(made)
    }

    fn of(
        id: Id,
        notice: Arc<WaitQueue>,
        is_v6: bool,
        options: Options,
        uid: fs::Kuid,
        namespace: &Arc<NetNamespace>,
    ) -> Result<Arc<StreamSocket>> {
        let (namespace, wishes) = (namespace.clone(), option::Wishes::default());
        let common = Common {
            namespace: namespace.clone(),
            is_v6,
            options,
            notice,
            id,
            uid,
            wishes,
        };
        let made = try_arc(StreamSocket {
            common,
            turn: sched::Mutex::new(()),
        });
        made.map_err(|failed| {
            let _ = namespace
                .run(|stack, now| stack.with_tcb(id, now, |tcb, net| tcb.close(true, net)));
            failed.into()
        })
    }

    /// Looks at the connection.
    pub(in crate::inet) fn look<R>(&self, look: impl FnOnce(&mut Tcb) -> R) -> Result<R> {
        self.common
            .namespace
            .look(|stack| stack.tcp.get_mut(self.common.id).map(look))?
            .ok_or(Errno::EBADF)
    }

    /// Changes the connection.
    pub(in crate::inet) fn change<R>(
        &self,
        change: impl FnOnce(&mut Tcb, &mut crate::inet::tcp::Net<'_>) -> R,
    ) -> Result<R> {
        self.common
            .namespace
            .run(|stack, now| stack.with_tcb(self.common.id, now, change))?
            .ok_or(Errno::EBADF)
    }

    fn ready(tcb: &mut Tcb, low_water: usize) -> Events {
        let mut events = Events::empty();
        events.set(Events::ERR, tcb.error.is_some());
        if let Some(listener) = &tcb.listener {
            events.set(Events::READABLE, !listener.ready.is_empty());
            return events;
        }
        let is_over = matches!(tcb.state, State::Closed | State::TimeWait);
        let ends_sending = tcb.has(Switch::ENDS_SENDING);
        let ends_receiving = tcb
            .switches
            .intersects(Switch::ENDS_RECEIVING | Switch::GOT_FIN);
        events.set(Events::HUP, is_over || ends_sending && ends_receiving);
        events.set(Events::READABLE | Events::RDHUP, ends_receiving);
        if matches!(tcb.state, State::SynSent | State::SynReceived) {
            return events;
        }
        events.set(
            Events::READABLE,
            ends_receiving || tcb.available() >= low_water,
        );
        let is_writable = ends_sending || tcb.is_writable();
        events.set(Events::WRITABLE, is_writable);
        if !is_writable {
            tcb.switches.insert(Switch::NO_SPACE);
        }
        events
    }
}

impl Socket for StreamSocket {
    fn family(&self) -> u32 {
        self.common.family()
    }

    fn socket_type(&self) -> SocketType {
        SocketType::Stream
    }

    fn protocol(&self) -> u32 {
        IPPROTO_TCP
    }

    fn options(&self) -> &Options {
        &self.common.options
    }

    fn namespace(&self) -> Option<Network> {
        Some(self.common.network())
    }

    fn option_changed(&self, name: u32) {
        let options = &self.common.options;
        let is_alive_asked = options.has(Switches::KEEPALIVE);
        let _ = self.common.namespace.run(|stack, now| {
            let port = stack.tcp.get(self.common.id).map(|tcb| tcb.pair.local.port);
            let binding = port.and_then(|port| stack.tcp_ports.get_mut(port, self.common.id));
            if let Some(binding) = binding {
                self.common.update(binding);
            }
            stack.with_tcb(self.common.id, now, |tcb, net| match name {
                raw::SO_SNDBUF | raw::SO_SNDBUFFORCE => {
                    tcb.send_size = options.send_buffer() as usize;
                }
                raw::SO_RCVBUF | raw::SO_RCVBUFFORCE => {
                    tcb.receive_size = options.receive_buffer() as usize;
                }
                raw::SO_KEEPALIVE => tcb.set_keepalive(is_alive_asked, net.now),
                _ => {}
            })
        });
    }

    fn set_option(&self, level: u32, name: u32, value: &[u8], who: &Credentials) -> Result<()> {
        option::set_stream(self, level, name, value, who)
    }

    fn option(&self, level: u32, name: u32, to: &mut [u8; OPTION_MAX]) -> Result<usize> {
        option::get_stream(self, level, name, to)
    }

    fn bind(&self, address: &Address, requester: &Requester<'_>) -> Result<()> {
        self.bind_to(address, requester)
    }

    fn listen(&self, backlog: usize, _: &Requester<'_>) -> Result<()> {
        self.start_listening(backlog)
    }

    fn accept(&self, nonblocking: bool) -> Result<Arc<dyn Socket>> {
        Ok(self.take_connection(nonblocking)?)
    }

    fn connect(&self, address: &Address, nonblocking: bool, _: &Requester<'_>) -> Result<()> {
        self.connect_to(address, nonblocking)
    }

    fn send(
        &self,
        from: &mut IoReader<'_>,
        flags: SendFlags,
        _: Option<(&Address, &Requester<'_>)>,
        _: Ancillary,
    ) -> Result<usize> {
        self.send_bytes(from, flags)
    }

    fn receive(&self, to: &mut IoWriter<'_>, flags: ReceiveFlags) -> Result<Received> {
        self.receive_bytes(to, flags)
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        self.shut(how)
    }

    fn name(&self) -> Address {
        let any = Endpoint::new(
            if self.common.is_v6 {
                Ip::ANY6
            } else {
                Ip::ANY4
            },
            0,
        );
        told(
            self.look(|tcb| tcb.pair.local).unwrap_or(any),
            self.common.is_v6,
        )
    }

    fn peer_name(&self) -> Result<Address> {
        let remote = self.look(|tcb| {
            let is_there = !matches!(
                tcb.state,
                State::Closed | State::SynSent | State::Listen | State::TimeWait
            );
            is_there.then_some(tcb.pair.remote)
        })?;
        Ok(told(remote.ok_or(Errno::ENOTCONN)?, self.common.is_v6))
    }

    fn is_listening(&self) -> bool {
        self.look(|tcb| tcb.state == State::Listen).unwrap_or(false)
    }

    fn take_error(&self) -> Option<Errno> {
        self.look(|tcb| tcb.error.take()).ok()?
    }

    fn set_error(&self, errno: Errno) {
        let _ = self.look(|tcb| tcb.error = Some(errno));
    }

    fn available(&self) -> Result<usize> {
        self.look(|tcb| match tcb.state {
            State::Listen => Err(Errno::EINVAL),
            _ => Ok(tcb.available()),
        })?
    }

    fn unsent(&self) -> usize {
        self.look(|tcb| tcb.unsent()).unwrap_or(0)
    }

    fn poll(&self, table: Option<&mut PollTable>) -> Events {
        if let Some(table) = table {
            table.add(&self.common.notice);
        }
        let low_water = self.common.options.low_water(false, usize::MAX);
        self.look(|tcb| Self::ready(tcb, low_water))
            .unwrap_or(Events::ERR)
    }
}

impl Drop for StreamSocket {
    fn drop(&mut self) {
        let id = self.common.id;
        let is_aborted = self.common.options.linger() == Some(0);
        let _ = self.common.namespace.run(|stack, now| {
            if stack.tcp.get(id).is_some_and(|tcb| tcb.listener.is_some()) {
                stack.end_listening(id, now);
            }
            stack.with_tcb(id, now, |tcb, net| tcb.close(is_aborted, net));
        });
    }
}
