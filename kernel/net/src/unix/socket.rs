//! A unix socket as programs hold it.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use abi::raw::net::AF_UNIX;
use abi::{Errno, Result};
use fs::{Events, PollTable};
use machine::sync::SpinLock;
use memory::io::{IoReader, IoWriter};

use super::backlog::Backlog;
use super::flight;
use super::inbox::Inbox;
use super::names::{self, Bound};
use super::transfer;
use crate::address::{Address, UnixName};
use crate::options::Options;
use crate::socket::{
    Ancillary, Peer, ReceiveFlags, Received, Requester, SendFlags, Shutdown, Socket, SocketType,
};

/// A unix socket.
#[derive(Debug)]
pub struct UnixSocket {
    kind: SocketType,
    options: Options,
    /// Who made it.
    pub(super) owner: Peer,
    pub(super) inbox: Arc<Inbox>,
    state: SpinLock<State>,
    this: Weak<UnixSocket>,
}

#[derive(Debug)]
struct State {
    name: UnixName,
    bound: Option<Bound>,
    link: Link,
    /// Sends no more (`SHUT_WR`).
    is_mute: bool,
    /// Who is at the other end, and its name.
    peer: Option<Peer>,
    peer_name: UnixName,
}

#[derive(Debug, Clone)]
enum Link {
    None,
    Listening(Arc<Backlog>),
    /// The inbox of the socket at the other end.
    Connected(Arc<Inbox>),
    /// Where messages go that name no receiver.
    Toward(Weak<UnixSocket>),
}

impl UnixSocket {
    /// A socket without a name.
    #[must_use]
    pub fn new(kind: SocketType, owner: Peer) -> Arc<UnixSocket> {
        Arc::new_cyclic(|this| UnixSocket {
            kind,
            options: Options::default(),
            owner,
            inbox: Inbox::new(),
            state: SpinLock::new(State {
                name: UnixName::Unnamed,
                bound: None,
                link: Link::None,
                is_mute: false,
                peer: None,
                peer_name: UnixName::Unnamed,
            }),
            this: this.clone(),
        })
    }

    /// Two sockets connected to each other.
    #[must_use]
    pub fn pair(kind: SocketType, owner: Peer) -> (Arc<UnixSocket>, Arc<UnixSocket>) {
        let (one, other) = (Self::new(kind, owner), Self::new(kind, owner));
        one.join(&other, owner, UnixName::Unnamed);
        other.join(&one, owner, UnixName::Unnamed);
        (one, other)
    }

    /// Makes `other` this socket's other end.
    fn join(&self, other: &UnixSocket, peer: Peer, peer_name: UnixName) {
        let mut state = self.state.lock();
        state.link = Link::Connected(other.inbox.clone());
        state.peer = Some(peer);
        state.peer_name = peer_name;
    }

    /// Where what is sent goes, and how much may wait there.
    pub(super) fn receiver(&self, to: Option<(&Address, &Requester<'_>)>) -> Result<Arc<Inbox>> {
        if let Some((address, requester)) = to {
            return self.named_receiver(address, requester);
        }
        let state = self.state.lock();
        if state.is_mute && self.kind == SocketType::Datagram {
            return Err(Errno::EPIPE);
        }
        let (link, is_mute) = (state.link.clone(), state.is_mute);
        drop(state);
        let found = match link {
            Link::Connected(inbox) => (!inbox.state.lock().is_closed
                || self.kind != SocketType::Datagram)
                .then_some(inbox),
            Link::Toward(socket) => socket.upgrade().map(|socket| socket.inbox.clone()),
            Link::None | Link::Listening(_) => return Err(Errno::ENOTCONN),
        };
        if is_mute {
            return Err(Errno::EPIPE);
        }
        found.ok_or_else(|| {
            // Who receives messages is gone: that is said once.
            self.state.lock().link = Link::None;
            Errno::ECONNREFUSED
        })
    }

    /// The inboxes of connections that wait to be accepted.
    pub(super) fn waiting_inboxes(&self) -> Vec<Arc<Inbox>> {
        self.backlog()
            .map(|backlog| backlog.inboxes())
            .unwrap_or_default()
    }

    /// Whether it takes messages of `sender`: not once it is connected to another.
    fn takes_from(&self, sender: &UnixSocket) -> bool {
        match &self.state.lock().link {
            Link::Toward(peer) => core::ptr::eq(peer.as_ptr(), sender),
            Link::Connected(peer) => Arc::ptr_eq(peer, &sender.inbox),
            Link::None | Link::Listening(_) => true,
        }
    }

    fn named_receiver(&self, address: &Address, requester: &Requester<'_>) -> Result<Arc<Inbox>> {
        let is_connected = matches!(self.state.lock().link, Link::Connected(_));
        match (self.kind, address) {
            (SocketType::Datagram, Address::Unix(name)) => {
                if self.state.lock().is_mute {
                    return Err(Errno::EPIPE);
                }
                Ok(self.find_receiver(name, requester)?.inbox.clone())
            }
            (SocketType::Datagram, _) => Err(Errno::EINVAL),
            _ if is_connected => Err(Errno::EISCONN),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    /// Its name, for those who receive from it.
    pub(super) fn unix_name(&self) -> UnixName {
        self.state.lock().name.clone()
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.state.lock().link, Link::Connected(_))
    }

    fn backlog(&self) -> Option<Arc<Backlog>> {
        match &self.state.lock().link {
            Link::Listening(backlog) => Some(backlog.clone()),
            Link::None | Link::Connected(_) | Link::Toward(_) => None,
        }
    }

    /// Tells the other end that nobody ever took this one.
    pub(super) fn reset_peer(&self) {
        if let Link::Connected(peer) = &self.state.lock().link {
            peer.change(|state| state.was_reset = true);
        }
    }

    /// Bytes that may wait at a receiver.
    pub(super) fn send_limit(&self) -> usize {
        self.options.send_buffer() as usize
    }

    /// The socket of this type called `name`, if it takes messages from here.
    fn find_receiver(&self, name: &UnixName, requester: &Requester<'_>) -> Result<Arc<UnixSocket>> {
        let receiver = names::find(name, self.kind, requester)?;
        if receiver.kind != self.kind {
            Err(Errno::EPROTOTYPE)
        } else if !receiver.takes_from(self) {
            Err(Errno::EPERM)
        } else {
            Ok(receiver)
        }
    }

    fn connect_datagram(&self, address: &Address, requester: &Requester<'_>) -> Result<()> {
        let (link, peer_name) = match address {
            Address::Unspecified => (Link::None, UnixName::Unnamed),
            Address::Unix(name) => {
                let receiver = self.find_receiver(name, requester)?;
                (Link::Toward(Arc::downgrade(&receiver)), name.clone())
            }
            Address::Vsock { .. } => return Err(Errno::EINVAL),
        };
        let mut state = self.state.lock();
        state.peer_name = peer_name;
        let old = core::mem::replace(&mut state.link, link);
        drop(state);
        drop(old);
        Ok(())
    }
}

impl Socket for UnixSocket {
    fn family(&self) -> u32 {
        AF_UNIX
    }

    fn socket_type(&self) -> SocketType {
        self.kind
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn bind(&self, address: &Address, requester: &Requester<'_>) -> Result<()> {
        let Address::Unix(name) = address else {
            return Err(Errno::EINVAL);
        };
        if self.state.lock().bound.is_some() {
            return Err(Errno::EINVAL);
        }
        let (name, bound) = names::bind(&self.this, self.kind, name, requester)?;
        let mut state = self.state.lock();
        if state.bound.is_some() {
            // Another thread was faster; the name just taken is given up.
            drop(state);
            return Err(Errno::EINVAL);
        }
        state.name = name;
        state.bound = Some(bound);
        Ok(())
    }

    fn listen(&self, backlog: usize, requester: &Requester<'_>) -> Result<()> {
        if self.kind == SocketType::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut state = self.state.lock();
        if state.bound.is_none() {
            return Err(Errno::EINVAL);
        }
        match &state.link {
            Link::Listening(known) => known.set_limit(backlog),
            Link::None => state.link = Link::Listening(Backlog::new(backlog, requester.peer())),
            Link::Connected(_) | Link::Toward(_) => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    fn accept(&self, nonblocking: bool) -> Result<Arc<dyn Socket>> {
        if self.kind == SocketType::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let backlog = self.backlog().ok_or(Errno::EINVAL)?;
        let deadline = self.options.receive_deadline();
        Ok(backlog
            .take(nonblocking, deadline)
            .map_err(transfer::timed_out)?)
    }

    fn connect(
        &self,
        address: &Address,
        nonblocking: bool,
        requester: &Requester<'_>,
    ) -> Result<()> {
        if self.kind == SocketType::Datagram {
            return self.connect_datagram(address, requester);
        }
        let Address::Unix(name) = address else {
            return Err(Errno::EINVAL);
        };
        match self.state.lock().link {
            Link::None => {}
            Link::Connected(_) => return Err(Errno::EISCONN),
            Link::Listening(_) | Link::Toward(_) => return Err(Errno::EINVAL),
        }
        let listener = names::find(name, self.kind, requester)?;
        if listener.kind != self.kind {
            return Err(Errno::EPROTOTYPE);
        }
        let backlog = listener.backlog().ok_or(Errno::ECONNREFUSED)?;
        let far = UnixSocket::new(self.kind, listener.owner);
        far.state.lock().name = listener.unix_name();
        far.join(self, requester.peer(), self.unix_name());
        self.join(&far, backlog.owner, name.clone());
        let deadline = self.options.send_deadline();
        backlog
            .offer(&far, nonblocking, deadline)
            .map_err(transfer::timed_out)
            .inspect_err(|_| {
                let mut state = self.state.lock();
                state.link = Link::None;
                state.peer = None;
                state.peer_name = UnixName::Unnamed;
                drop(state);
                // The far end goes; it leaves no mark on a socket that may try again.
                far.state.lock().link = Link::None;
            })
    }

    fn send(
        &self,
        from: &mut IoReader<'_>,
        flags: SendFlags,
        to: Option<(&Address, &Requester<'_>)>,
        ancillary: Ancillary,
    ) -> Result<usize> {
        let nonblocking = flags.contains(SendFlags::DONTWAIT);
        let receiver = self.receiver(to)?;
        transfer::send(self, &receiver, from, nonblocking, ancillary)
    }

    fn receive(&self, to: &mut IoWriter<'_>, flags: ReceiveFlags) -> Result<Received> {
        transfer::receive(self, to, flags)
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        let mut state = self.state.lock();
        state.is_mute |= how.send;
        let link = state.link.clone();
        drop(state);
        match link {
            Link::Listening(backlog) if how.receive => backlog.close(),
            // What ends here ends there.
            Link::Connected(peer) if self.kind != SocketType::Datagram => {
                peer.change(|state| state.is_finished |= how.send);
            }
            _ => {}
        }
        self.inbox.change(|state| state.is_deaf |= how.receive);
        Ok(())
    }

    fn name(&self) -> Address {
        Address::Unix(self.unix_name())
    }

    fn peer_name(&self) -> Result<Address> {
        let state = self.state.lock();
        match state.link {
            Link::Connected(_) | Link::Toward(_) => Ok(Address::Unix(state.peer_name.clone())),
            Link::None | Link::Listening(_) => Err(Errno::ENOTCONN),
        }
    }

    fn peer(&self) -> Peer {
        let state = self.state.lock();
        match (&state.link, state.peer) {
            (Link::Listening(backlog), _) => backlog.owner,
            (_, Some(peer)) => peer,
            (_, None) => Peer {
                pid: 0,
                uid: u32::MAX,
                gid: u32::MAX,
            },
        }
    }

    fn is_listening(&self) -> bool {
        self.backlog().is_some()
    }

    fn take_error(&self) -> Option<Errno> {
        let was_reset = core::mem::take(&mut self.inbox.state.lock().was_reset);
        was_reset.then_some(Errno::ECONNRESET)
    }

    fn available(&self) -> usize {
        let state = self.inbox.state.lock();
        match self.kind {
            SocketType::Stream => state.len(),
            SocketType::Datagram | SocketType::SeqPacket => {
                state.get(0).map_or(0, |message| message.left().len())
            }
        }
    }

    fn poll(&self, mut table: Option<&mut PollTable>) -> Events {
        let link = self.state.lock().link.clone();
        if let Link::Listening(backlog) = &link {
            if let Some(table) = table {
                table.add(&backlog.changed);
            }
            return if backlog.has_waiting() {
                Events::READABLE
            } else {
                Events::empty()
            };
        }
        let receiver = match &link {
            Link::Connected(inbox) => Some(inbox.clone()),
            Link::Toward(socket) => socket.upgrade().map(|socket| socket.inbox.clone()),
            Link::None | Link::Listening(_) => None,
        };
        if let Some(table) = &mut table {
            table.add(&self.inbox.arrived);
            if let Some(receiver) = &receiver {
                table.add(&receiver.room);
            }
        }
        let is_datagram = self.kind == SocketType::Datagram;
        let is_fresh = matches!(link, Link::None) && !is_datagram;
        let (writable, is_refused) = receiver.map_or((true, false), |receiver| {
            let state = receiver.state.lock();
            let ends = state.is_deaf || state.is_finished;
            (
                ends || state.is_writable(self.send_limit()),
                state.is_deaf && !is_datagram,
            )
        });
        let mut events = self.poll_inbox();
        let ends = self.state.lock().is_mute || is_refused;
        events.set(Events::WRITABLE, writable);
        events.set(
            Events::HUP,
            is_fresh || ends && events.contains(Events::RDHUP),
        );
        events
    }
}

impl UnixSocket {
    fn poll_inbox(&self) -> Events {
        let state = self.inbox.state.lock();
        let ends = state.is_finished || state.is_deaf;
        let mut events = Events::empty();
        events.set(Events::READABLE, !state.is_empty() || ends);
        events.set(Events::RDHUP, ends);
        events.set(Events::ERR, state.was_reset);
        events
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        flight::forget(&self.inbox);
        let unread = self.inbox.change(|state| {
            (state.is_deaf, state.is_closed) = (true, true);
            state.clear()
        });
        let state = self.state.get_mut();
        match &state.link {
            Link::Listening(backlog) => backlog.close(),
            Link::Connected(peer) => {
                let lost = !unread.is_empty();
                // Messages know no end.
                peer.change(|state| {
                    if self.kind == SocketType::Datagram {
                        return;
                    }
                    state.is_finished = true;
                    state.was_reset |= lost;
                });
            }
            Link::None | Link::Toward(_) => {}
        }
    }
}
