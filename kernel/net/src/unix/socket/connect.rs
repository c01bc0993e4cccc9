//! connect(2) of unix sockets: datagram sockets choose whom they talk to, the others offer themselves to a listener.

use alloc::sync::Arc;

use abi::{Errno, Result};

use super::UnixSocket;
use crate::address::{Address, UnixName};
use crate::socket::{Owner, Requester};
use crate::unix::sock::Phase;
use crate::unix::{flight, names};

impl UnixSocket {
    /// Chooses who is sent to and received from (`AF_UNSPEC`: anybody again). A stranger's messages are refused from then
    /// on; what the old peer had sent is thrown away, as it would be taken for the new one's.
    pub(super) fn connect_datagram(
        &self,
        address: &Address,
        requester: &Requester<'_>,
    ) -> Result<()> {
        let peer = match address {
            Address::Unspecified => None,
            Address::Unix(name) => {
                self.autobind_for_credentials()?;
                let peer = names::find(name, &self.sock, requester)?;
                if !peer.state.lock().takes_from(&self.sock) {
                    return Err(Errno::EPERM);
                }
                Some(peer)
            }
            _ => return Err(Errno::EINVAL),
        };
        let mut state = self.sock.state.lock();
        state.phase = if peer.is_some() {
            Phase::Connected
        } else {
            Phase::Closed
        };
        let old = core::mem::replace(&mut state.peer, peer.clone());
        let is_same = match (&old, &peer) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, _) => true,
            (Some(_), None) => false,
        };
        // What the old peer sent is not the new one's.
        let unread = (!is_same).then(|| state.clear());
        drop(state);
        if let (Some(old), Some((unread, _))) = (&old, &unread) {
            self.sock.room.wake_all();
            // As on Linux: who is connected to this one, and whose messages are lost with that, hears of it.
            let was_mutual = !unread.is_empty() && {
                let state = old.state.lock();
                let back = state.peer.as_ref();
                !state.is_dead && back.is_some_and(|peer| Arc::ptr_eq(peer, &self.sock))
            };
            if was_mutual {
                old.change(|state| state.error = Some(Errno::ECONNRESET));
            }
        }
        drop((unread, old));
        Ok(())
    }

    /// Makes the far end and offers it to the listener. It is whole before that: who accepts may use it at once, before
    /// this thread goes on. No lock is held while the offer waits for room; that this is `Connecting` keeps other
    /// threads from connecting it meanwhile.
    pub(super) fn connect_stream(
        &self,
        name: &UnixName,
        nonblocking: bool,
        requester: &Requester<'_>,
    ) -> Result<()> {
        self.autobind_for_credentials()?;
        let kind = self.sock.kind;
        let listener = names::find(name, &self.sock, requester)?;
        let backlog = listener.backlog().ok_or(Errno::ECONNREFUSED)?;
        let listening = listener.peer_owner().ok_or(Errno::ECONNREFUSED)?;
        self.start_connecting()?;
        let step = || {
            flight::note(&listener)?;
            let owner = Owner::of(listening);
            let far = UnixSocket::new(kind, owner.clone(), listener.namespace.clone())?;
            let mut state = far.sock.state.lock();
            state.name = listener.name();
            state.is_embryo = true;
            drop(state);
            far.join(self, requester.owner.clone());
            let deadline = self.sock.options.send_deadline();
            if let Err(errno) = backlog.offer(&far, nonblocking, deadline) {
                // It goes without a word to this end.
                let peer = far.sock.state.lock().peer.take();
                drop(peer);
                return Err(errno);
            }
            Ok((far, owner))
        };
        let offered = step();
        let mut state = self.sock.state.lock();
        match offered {
            Ok((far, owner)) => {
                state.phase = Phase::Connected;
                state.peer = Some(far.sock.clone());
                state.peer_owner = Some(owner);
                drop(state);
                // It may have been taken and closed already: then this is known to nobody as its peer.
                let is_dead = far.sock.state.lock().is_dead;
                if is_dead {
                    self.sock.change(|state| {
                        (state.ends_receiving, state.ends_sending) = (true, true);
                    });
                }
                self.sock.changed.wake_all();
                Ok(())
            }
            Err(errno) => {
                state.phase = Phase::Closed;
                Err(errno)
            }
        }
    }

    fn start_connecting(&self) -> Result<()> {
        let mut state = self.sock.state.lock();
        match state.phase {
            Phase::Closed => state.phase = Phase::Connecting,
            Phase::Connected => return Err(Errno::EISCONN),
            Phase::Connecting | Phase::Listening(_) => return Err(Errno::EINVAL),
        }
        Ok(())
    }
}
