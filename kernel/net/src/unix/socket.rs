//! A unix socket as programs hold it; [`connect`] has how it comes to its other end.

mod connect;

use alloc::sync::Arc;

use abi::raw::net::AF_UNIX;
use abi::{Errno, Result};
use collections::try_arc;
use fs::{Credentials, Events, PollTable};
use memory::io::{IoReader, IoWriter};

use super::backlog::Backlog;
use super::sock::{Phase, Sock};
use super::{names, receive, send};
use crate::address::{Address, UnixName};
use crate::namespace::Network;
use crate::options::Options;
use crate::socket::{
    Ancillary, OPTION_MAX, Owner, Peer, ReceiveFlags, Received, Requester, SendFlags, Shutdown,
    Socket, SocketType,
};

/// A unix socket. Dropping it closes it.
#[derive(Debug)]
pub struct UnixSocket {
    sock: Arc<Sock>,
    /// Who made it.
    owner: Owner,
}

impl UnixSocket {
    /// A socket without a name.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(kind: SocketType, owner: Owner, namespace: Network) -> Result<Arc<UnixSocket>> {
        let sock = Sock::new(kind, namespace)?;
        Ok(try_arc(UnixSocket { sock, owner })?)
    }

    /// Two sockets connected to each other.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn pair(
        kind: SocketType,
        owner: Owner,
        namespace: &Network,
    ) -> Result<(Arc<UnixSocket>, Arc<UnixSocket>)> {
        let one = Self::new(kind, owner.clone(), namespace.clone())?;
        let other = Self::new(kind, owner.clone(), namespace.clone())?;
        one.join(&other, owner.clone());
        other.join(&one, owner);
        Ok((one, other))
    }

    pub(super) fn sock(&self) -> &Arc<Sock> {
        &self.sock
    }

    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Makes `other` this socket's other end.
    fn join(&self, other: &UnixSocket, peer_owner: Owner) {
        let mut state = self.sock.state.lock();
        state.phase = Phase::Connected;
        state.peer = Some(other.sock.clone());
        state.peer_owner = Some(peer_owner);
    }

    /// With `SO_PASSCRED`, who sends or connects has a name, so that it can be answered.
    pub(super) fn autobind_for_credentials(&self) -> Result<()> {
        let is_bound = self.sock.state.lock().bound.is_some();
        if is_bound || !self.sock.options.passes_credentials() {
            return Ok(());
        }
        let (name, bound) = names::autobind(&self.sock)?;
        self.take_name(name, bound).or(Ok(()))
    }

    fn take_name(&self, name: UnixName, bound: names::Bound) -> Result<()> {
        let mut state = self.sock.state.lock();
        if state.bound.is_some() {
            // Another thread was faster; the name just taken is given up.
            drop(state);
            return Err(Errno::EINVAL);
        }
        state.name = name;
        state.bound = Some(bound);
        Ok(())
    }

    /// Whether sending would not have to wait.
    fn is_writable(&self, is_listening: bool, peer: Option<&Arc<Sock>>) -> bool {
        let stranger_waits = || {
            let Some(peer) = peer.filter(|peer| !Arc::ptr_eq(peer, &self.sock)) else {
                return false;
            };
            let state = peer.state.lock();
            let is_mutual = state
                .peer
                .as_ref()
                .is_some_and(|back| Arc::ptr_eq(back, &self.sock));
            !is_mutual && state.is_full()
        };
        !is_listening
            && self.sock.is_writable()
            && (self.sock.kind == SocketType::Stream || !stranger_waits())
    }
}

impl Socket for UnixSocket {
    fn family(&self) -> u32 {
        AF_UNIX
    }

    fn socket_type(&self) -> SocketType {
        self.sock.kind
    }

    fn options(&self) -> &Options {
        &self.sock.options
    }

    fn namespace(&self) -> Option<Network> {
        Some(self.sock.namespace.clone())
    }

    fn set_option(&self, _: u32, _: u32, _: &[u8], _: &Credentials) -> Result<()> {
        // No options of its own at all.
        Err(Errno::EOPNOTSUPP)
    }

    fn option(&self, _: u32, _: u32, _: &mut [u8; OPTION_MAX]) -> Result<usize> {
        Err(Errno::EOPNOTSUPP)
    }

    fn bind(&self, address: &Address, requester: &Requester<'_>) -> Result<()> {
        let Address::Unix(name) = address else {
            return Err(Errno::EINVAL);
        };
        let is_bound = self.sock.state.lock().bound.is_some();
        if is_bound && matches!(name, UnixName::Unnamed) {
            // Asking for any name is content with the one there is.
            return Ok(());
        }
        if is_bound {
            return Err(Errno::EINVAL);
        }
        let (name, bound) = names::bind(&self.sock, name, requester)?;
        self.take_name(name, bound)
    }

    fn listen(&self, backlog: usize, requester: &Requester<'_>) -> Result<()> {
        if self.sock.kind == SocketType::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let fresh = Backlog::new(backlog)?;
        let mut state = self.sock.state.lock();
        if state.bound.is_none() {
            return Err(Errno::EINVAL);
        }
        match &state.phase {
            Phase::Listening(known) => known.set_limit(backlog),
            Phase::Closed => state.phase = Phase::Listening(fresh),
            Phase::Connecting | Phase::Connected => return Err(Errno::EINVAL),
        }
        let old = state.peer_owner.replace(requester.owner.clone());
        drop(state);
        drop(old);
        Ok(())
    }

    fn accept(&self, nonblocking: bool) -> Result<Arc<dyn Socket>> {
        if self.sock.kind == SocketType::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let backlog = self.sock.backlog().ok_or(Errno::EINVAL)?;
        let deadline = self.sock.options.receive_deadline();
        let taken = backlog.take(nonblocking, deadline)?;
        taken.sock.options.inherit(&self.sock.options);
        taken.sock.state.lock().is_embryo = false;
        Ok(taken)
    }

    fn connect(
        &self,
        address: &Address,
        nonblocking: bool,
        requester: &Requester<'_>,
    ) -> Result<()> {
        match (self.sock.kind, address) {
            (SocketType::Datagram, _) => self.connect_datagram(address, requester),
            (_, Address::Unix(name)) => self.connect_stream(name, nonblocking, requester),
            _ => Err(Errno::EINVAL),
        }
    }

    fn send(
        &self,
        from: &mut IoReader<'_>,
        flags: SendFlags,
        to: Option<(&Address, &Requester<'_>)>,
        ancillary: Ancillary,
    ) -> Result<usize> {
        send::send(self, from, flags, to, ancillary)
    }

    fn receive(&self, to: &mut IoWriter<'_>, flags: ReceiveFlags) -> Result<Received> {
        receive::receive(&self.sock, to, flags)
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        let (peer, backlog) = self.sock.change(|state| {
            state.ends_receiving |= how.receive;
            state.ends_sending |= how.send;
            let backlog = match &state.phase {
                Phase::Listening(backlog) => Some(backlog.clone()),
                Phase::Closed | Phase::Connecting | Phase::Connected => None,
            };
            (state.peer.clone(), backlog)
        });
        self.sock.room.wake_all();
        if let Some(backlog) = backlog.filter(|_| how.receive) {
            backlog.shut();
        }
        if let Some(peer) = peer.filter(|_| self.sock.kind != SocketType::Datagram) {
            peer.change(|state| {
                state.ends_receiving |= how.send;
                state.ends_sending |= how.receive;
            });
        }
        Ok(())
    }

    fn name(&self) -> Address {
        Address::Unix(self.sock.name())
    }

    fn peer_name(&self) -> Result<Address> {
        let peer = self.sock.peer().ok_or(Errno::ENOTCONN)?;
        Ok(Address::Unix(peer.name()))
    }

    fn peer(&self) -> Peer {
        self.sock
            .peer_owner()
            .map_or(Peer::NOBODY, |(peer, _)| peer)
    }

    fn peer_credentials(&self) -> Option<Arc<Credentials>> {
        self.sock.peer_owner().map(|(_, credentials)| credentials)
    }

    fn is_listening(&self) -> bool {
        self.sock.backlog().is_some()
    }

    fn take_error(&self) -> Option<Errno> {
        self.sock.state.lock().error.take()
    }

    fn set_error(&self, errno: Errno) {
        self.sock.state.lock().error = Some(errno);
    }

    fn available(&self) -> Result<usize> {
        let state = self.sock.state.lock();
        match (&state.phase, self.sock.kind) {
            (Phase::Listening(_), _) => Err(Errno::EINVAL),
            (_, SocketType::Stream | SocketType::SeqPacket) => Ok(state.len()),
            (_, SocketType::Datagram) => Ok(state.get(0).map_or(0, |message| message.left())),
        }
    }

    fn unsent(&self) -> usize {
        self.sock.charged()
    }

    fn poll(&self, mut table: Option<&mut PollTable>) -> Events {
        let state = self.sock.state.lock();
        let (phase, peer) = (state.phase.clone(), state.peer.clone());
        drop(state);
        let backlog = match &phase {
            Phase::Listening(backlog) => Some(backlog),
            Phase::Closed | Phase::Connecting | Phase::Connected => None,
        };
        if let Some(table) = &mut table {
            table.add(&self.sock.changed);
            if let Some(backlog) = backlog {
                table.add(&backlog.changed);
            }
            if let Some(peer) = peer
                .as_ref()
                .filter(|_| self.sock.kind != SocketType::Stream)
            {
                table.add(&peer.room);
            }
        }
        let writable = self.is_writable(backlog.is_some(), peer.as_ref());
        let waiting = backlog.is_some_and(|backlog| backlog.has_waiting());
        let is_unconnected = matches!(phase, Phase::Closed | Phase::Connecting);
        let state = self.sock.state.lock();
        let ends = state.ends_receiving;
        let mut events = Events::empty();
        events.set(Events::ERR, state.error.is_some());
        events.set(
            Events::HUP,
            ends && state.ends_sending || is_unconnected && self.sock.kind != SocketType::Datagram,
        );
        events.set(Events::RDHUP, ends);
        events.set(Events::READABLE, ends || waiting || !state.is_empty());
        events.set(Events::WRITABLE, writable);
        events
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        self.sock.release();
    }
}
