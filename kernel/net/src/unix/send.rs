//! Sending: pieces of a stream, or one message.
//!
//! What is sent is first charged to the sender's buffer, which may wait for room; then taken from the sender's memory,
//! which may fault; and put into the receiver's queue last, under the receiver's lock alone. A receiver that is closed
//! meanwhile is found dead by that last step: closing says so under the same lock under which it empties the queue, so
//! no message stays in a queue that nobody reads.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::try_arc;
use memory::io::IoReader;

use super::flight::{self, InFlight};
use super::message::{self, Charge, Message, Payload};
use super::names;
use super::sock::{Phase, Sock};
use super::socket::UnixSocket;
use crate::address::{Address, UnixName};
use crate::options;
use crate::socket::{Ancillary, Requester, SendFlags, SocketType, caller};

/// What of the send buffer is no message's.
const RESERVED: usize = 32;

/// Sends bytes, or one message.
pub(super) fn send(
    socket: &UnixSocket,
    from: &mut IoReader<'_>,
    flags: SendFlags,
    to: Option<(&Address, &Requester<'_>)>,
    ancillary: Ancillary,
) -> Result<usize> {
    let nonblocking = flags.contains(SendFlags::DONTWAIT);
    match (socket.sock().kind, to) {
        (SocketType::Stream, Some(_)) => {
            let is_connected = matches!(socket.sock().state.lock().phase, Phase::Connected);
            Err(if is_connected {
                Errno::EISCONN
            } else {
                Errno::EOPNOTSUPP
            })
        }
        (SocketType::Stream, None) => stream(socket, from, nonblocking, ancillary),
        (SocketType::Datagram, Some((Address::Unix(name), requester))) => {
            let to = Some((name, requester));
            message(socket, from, nonblocking, to, ancillary)
        }
        (SocketType::Datagram, Some(_)) => Err(Errno::EINVAL),
        (SocketType::SeqPacket, _) => {
            let mut state = socket.sock().state.lock();
            if let Some(errno) = state.error.take() {
                return Err(errno);
            }
            let is_connected = matches!(state.phase, Phase::Connected);
            drop(state);
            if !is_connected {
                return Err(Errno::ENOTCONN);
            }
            // A name is of no use to a connection, and is not looked at.
            message(socket, from, nonblocking, None, ancillary)
        }
        (SocketType::Datagram, None) => message(socket, from, nonblocking, None, ancillary),
    }
}

fn stream(
    socket: &UnixSocket,
    from: &mut IoReader<'_>,
    nonblocking: bool,
    mut ancillary: Ancillary,
) -> Result<usize> {
    let sock = socket.sock();
    let state = sock.state.lock();
    let (peer, ends) = (state.peer.clone(), state.ends_sending);
    drop(state);
    let peer = peer.ok_or(Errno::ENOTCONN)?;
    if ends {
        return Err(Errno::EPIPE);
    }
    let mut done = 0;
    while from.remaining() > 0 {
        match piece(socket, &peer, from, nonblocking, &mut ancillary) {
            Ok(len) => done += len,
            Err(_) if done > 0 => return Ok(done),
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

/// The message of `payload` to `peer`. The files of `ancillary` go with the first one that is made.
fn pack(
    socket: &UnixSocket,
    peer: &Arc<Sock>,
    payload: Payload,
    charge: Charge,
    ancillary: &mut Ancillary,
) -> Result<Arc<Message>> {
    let files = core::mem::take(&mut ancillary.files);
    let files = InFlight::new(files, ancillary.files_uid)?;
    // Before the message is in the queue: the search for garbage must know of every queue that has files.
    if files.is_some() {
        flight::note(peer)?;
    }
    // The caller may differ from who made the socket: a descriptor is inherited, and sent. Who asks for no names is told
    // none, and pays nothing for them.
    let own = || caller().map_or_else(|| socket.owner().peer.clone(), |caller| caller.peer);
    let credentials = match &ancillary.sender {
        None if socket.sock().wants_credentials(peer) => Some(own()),
        claimed => claimed.clone(),
    };
    Ok(try_arc(Message::new(payload, files, credentials, charge))?)
}

/// Sends the next piece of a stream.
fn piece(
    socket: &UnixSocket,
    peer: &Arc<Sock>,
    from: &mut IoReader<'_>,
    nonblocking: bool,
    ancillary: &mut Ancillary,
) -> Result<usize> {
    let sock = socket.sock();
    let send_buffer = sock.options.send_buffer() as usize;
    let len = message::stream_piece(from.remaining(), send_buffer);
    let charge = sock.charge(message::stream_charge(len), nonblocking)?;
    let payload = Payload::take(from, len)?;
    let message = pack(socket, peer, payload, charge, ancillary)?;
    let mut state = peer.state.lock();
    let is_dead = state.is_dead;
    let pushed = if is_dead || state.ends_receiving {
        Err(Errno::EPIPE)
    } else {
        state.push(&message)
    };
    drop(state);
    // `pack` may have noted it behind the `forget` of its own closing.
    if is_dead {
        flight::forget(peer);
    }
    pushed?;
    peer.changed.wake_one();
    Ok(len)
}

/// Sends one message, to `to` or to the peer.
fn message(
    socket: &UnixSocket,
    from: &mut IoReader<'_>,
    nonblocking: bool,
    to: Option<(&UnixName, &Requester<'_>)>,
    mut ancillary: Ancillary,
) -> Result<usize> {
    let sock = socket.sock();
    if sock.kind == SocketType::Datagram {
        socket.autobind_for_credentials()?;
    }
    // A message that the empty buffer could not take would wait for ever.
    let len = from.remaining();
    if len > (sock.options.send_buffer() as usize).saturating_sub(RESERVED) {
        return Err(Errno::EMSGSIZE);
    }
    let charge = sock.charge(message::message_charge(len), nonblocking)?;
    let payload = Payload::take(from, len)?;
    let receiver = match to {
        Some((name, requester)) => names::find(name, sock, requester)?,
        None => sock.peer().ok_or(Errno::ENOTCONN)?,
    };
    let message = pack(socket, &receiver, payload, charge, &mut ancillary)?;
    let put = put(sock, &receiver, &message, nonblocking);
    if receiver.state.lock().is_dead {
        flight::forget(&receiver);
        // Who receives messages is gone: a datagram socket that was connected to it is told, once.
        if put == Err(Errno::ECONNREFUSED) && sock.kind == SocketType::Datagram {
            forget_peer(sock, &receiver);
        }
    }
    put?;
    receiver.changed.wake_one();
    Ok(len)
}

/// Ends the association with a peer that is gone.
fn forget_peer(sock: &Sock, gone: &Arc<Sock>) {
    let mut state = sock.state.lock();
    let was_peer = state
        .peer
        .take_if(|peer| Arc::ptr_eq(peer, gone))
        .inspect(|_| state.phase = Phase::Closed);
    drop(state);
    drop(was_peer);
}

/// Puts a message into a queue, waiting for room in it.
fn put(
    sock: &Arc<Sock>,
    receiver: &Arc<Sock>,
    message: &Arc<Message>,
    nonblocking: bool,
) -> Result<()> {
    let deadline = sock.options.send_deadline();
    let is_own = Arc::ptr_eq(sock, receiver);
    let look = || {
        let mut state = receiver.state.lock();
        if !state.takes_from(sock) {
            return Some(Err(Errno::EPERM));
        }
        if state.is_dead {
            return Some(Err(if sock.kind == SocketType::SeqPacket {
                Errno::EPIPE
            } else {
                Errno::ECONNREFUSED
            }));
        }
        if state.ends_receiving {
            return Some(Err(Errno::EPIPE));
        }
        // Two that are connected to each other are held up by the sender's buffer alone. Anybody may send to one that is
        // connected to nobody: its queue is bounded, or each of many senders could fill a whole buffer of its own there.
        // To itself a socket does not wait, as nobody else would make room.
        let is_stranger = !is_own && state.peer.is_none();
        if is_stranger && state.is_full() {
            return nonblocking.then_some(Err(Errno::EAGAIN));
        }
        Some(state.push(message))
    };
    receiver
        .room
        .wait_interruptible_deadline(deadline, look)
        .map_err(|errno| options::end_of_wait(errno, deadline))?
}
