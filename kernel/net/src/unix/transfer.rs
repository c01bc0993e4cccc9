//! Sending to an inbox and receiving from one.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use memory::io::{IoReader, IoWriter};

use super::flight::{self, InFlight};
use super::inbox::{Inbox, Message};
use super::socket::UnixSocket;
use crate::address::{Address, UnixName};
use crate::socket::{Ancillary, ReceiveFlags, Received, Socket, SocketType};

/// Bytes of a stream that are put into an inbox at a time.
const STREAM_PIECE: usize = 32 * 1024;

/// A wait that `SO_RCVTIMEO` or `SO_SNDTIMEO` ended is `EAGAIN`.
pub(super) fn timed_out(errno: Errno) -> Errno {
    if errno == Errno::ETIMEDOUT {
        Errno::EAGAIN
    } else {
        errno
    }
}

/// Sends bytes, or one message, to `receiver`.
pub(super) fn send(
    socket: &UnixSocket,
    receiver: &Arc<Inbox>,
    from: &mut IoReader<'_>,
    nonblocking: bool,
    mut ancillary: Ancillary,
) -> Result<usize> {
    let is_stream = socket.socket_type() == SocketType::Stream;
    let limit = socket.send_limit();
    if !is_stream && from.remaining() > limit {
        return Err(Errno::EMSGSIZE);
    }
    if is_stream && from.remaining() == 0 {
        return Ok(0);
    }
    let mut done = 0;
    loop {
        let piece = if is_stream {
            STREAM_PIECE.min(limit)
        } else {
            limit
        };
        let bytes = match take(from, piece) {
            Ok(bytes) => bytes,
            Err(_) if done > 0 => return Ok(done),
            Err(errno) => return Err(errno),
        };
        let len = bytes.len();
        let message = Message {
            bytes: Arc::new(bytes),
            read: 0,
            sender: ancillary.sender.unwrap_or(socket.owner),
            files: InFlight::new(core::mem::take(&mut ancillary.files), ancillary.files_uid),
            from: socket.unix_name(),
        };
        match put(socket, receiver, message, nonblocking) {
            Ok(()) => done += len,
            Err(_) if done > 0 => return Ok(done),
            Err(errno) => return Err(errno),
        }
        if !is_stream || from.remaining() == 0 {
            return Ok(done);
        }
    }
}

/// Copies up to `max` bytes of the caller.
fn take(from: &mut IoReader<'_>, max: usize) -> Result<Vec<u8>> {
    memory::pressure::ensure_headroom().map_err(|_| Errno::ENOBUFS)?;
    let len = from.remaining().min(max);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Errno::ENOBUFS)?;
    bytes.resize(len, 0);
    let count = if len > 0 { from.read(&mut bytes)? } else { 0 };
    if count < len {
        bytes.truncate(count);
    }
    Ok(bytes)
}

/// Puts a message into an inbox, waiting for room.
fn put(
    socket: &UnixSocket,
    receiver: &Arc<Inbox>,
    message: Message,
    nonblocking: bool,
) -> Result<()> {
    let limit = socket.send_limit();
    let len = message.bytes.len();
    let is_connected = socket.is_connected();
    let is_datagram = socket.socket_type() == SocketType::Datagram;
    if !message.files.is_empty() {
        flight::note(receiver);
    }
    let mut message = Some(message);
    let deadline = socket.options().send_deadline();
    let step = || {
        let mut state = receiver.state.lock();
        // A connection that was finished from this side, or that nobody reads any more.
        if state.is_deaf || is_connected && state.is_finished {
            let gone = if is_datagram && state.is_closed {
                Errno::ECONNREFUSED
            } else {
                Errno::EPIPE
            };
            return Some(Err(gone));
        }
        if state.has_room(len, limit) {
            message
                .take()
                .into_iter()
                .for_each(|message| state.push(message));
            return Some(Ok(()));
        }
        nonblocking.then_some(Err(Errno::EAGAIN))
    };
    receiver
        .room
        .wait_interruptible_deadline(deadline, step)
        .map_err(timed_out)??;
    receiver.arrived.wake_all();
    Ok(())
}

/// Receives bytes, or one message, from the socket's inbox.
pub(super) fn receive(
    socket: &UnixSocket,
    to: &mut IoWriter<'_>,
    flags: ReceiveFlags,
) -> Result<Received> {
    match socket.socket_type() {
        SocketType::Stream if !socket.is_connected() => return Err(Errno::EINVAL),
        SocketType::SeqPacket if !socket.is_connected() => return Err(Errno::ENOTCONN),
        _ => {}
    }
    let deadline = socket.options().receive_deadline();
    let mut received = Received::default();
    loop {
        match wait_readable(socket, flags, deadline) {
            Ok(true) => {}
            Ok(false) => return Ok(received),
            Err(_) if received.len > 0 => return Ok(received),
            Err(errno) => return Err(errno),
        }
        let turn = socket.inbox.turn.lock();
        if socket.inbox.state.lock().is_empty() {
            // Another reader was faster.
            continue;
        }
        if socket.socket_type() != SocketType::Stream {
            return one_message(socket, to, flags);
        }
        let is_peek = flags.contains(ReceiveFlags::PEEK);
        let has_ancillary = stream_bytes(socket, to, is_peek, &mut received)?;
        drop(turn);
        socket.inbox.room.wake_all();
        let wants_all = flags.contains(ReceiveFlags::WAITALL) && !is_peek;
        if has_ancillary || to.remaining() == 0 || !wants_all {
            return Ok(received);
        }
    }
}

/// Waits until there is something; `false` at the end.
fn wait_readable(socket: &UnixSocket, flags: ReceiveFlags, deadline: Option<u64>) -> Result<bool> {
    let kind = socket.socket_type();
    let is_datagram = kind == SocketType::Datagram;
    let nonblocking = flags.contains(ReceiveFlags::DONTWAIT);
    let look = || {
        let mut state = socket.inbox.state.lock();
        // A reset is told before messages, and behind bytes.
        let tells_reset = state.is_empty() || kind == SocketType::SeqPacket;
        if tells_reset && core::mem::take(&mut state.was_reset) {
            return Some(Err(Errno::ECONNRESET));
        }
        if !state.is_empty() {
            return Some(Ok(true));
        }
        let is_end = state.is_deaf || state.is_finished;
        if is_end && !(is_datagram && nonblocking) {
            return Some(Ok(false));
        }
        nonblocking.then_some(Err(Errno::EAGAIN))
    };
    let waited = socket
        .inbox
        .arrived
        .wait_interruptible_deadline(deadline, look);
    waited.map_err(timed_out)?
}

/// What comes along with a message, as the receiver wants it.
fn ancillary_of(socket: &UnixSocket, message: &Message) -> Ancillary {
    let wants_sender = socket
        .options()
        .pass_credentials
        .load(core::sync::atomic::Ordering::Relaxed);
    Ancillary {
        files: message.files.files(),
        files_uid: 0,
        sender: wants_sender.then_some(message.sender),
    }
}

fn name_of(message: &Message) -> Option<Address> {
    (message.from != UnixName::Unnamed).then(|| Address::Unix(message.from.clone()))
}

fn one_message(
    socket: &UnixSocket,
    to: &mut IoWriter<'_>,
    flags: ReceiveFlags,
) -> Result<Received> {
    let is_peek = flags.contains(ReceiveFlags::PEEK);
    let mut received = Received::default();
    let taking = flight::TAKING.lock();
    let mut state = socket.inbox.state.lock();
    let Some(message) = state.get(0) else {
        return Ok(received);
    };
    let bytes = message.bytes.clone();
    received.full_len = bytes.len();
    received.from = name_of(message);
    received.ancillary = ancillary_of(socket, message);
    let taken = if is_peek { None } else { state.pop() };
    drop(state);
    drop(taking);
    drop(taken);
    socket.inbox.room.wake_all();
    if !bytes.is_empty() {
        received.len = to.write(&bytes)?;
    }
    Ok(received)
}

/// Copies bytes of a stream, up to and with those that bring files, and up to those that come from
/// somebody else; whether to stop there.
fn stream_bytes(
    socket: &UnixSocket,
    to: &mut IoWriter<'_>,
    is_peek: bool,
    received: &mut Received,
) -> Result<bool> {
    let mut index = 0;
    while to.remaining() > 0 {
        let state = socket.inbox.state.lock();
        let Some(next) = state.get(index) else { break };
        let along = ancillary_of(socket, next);
        if received.len > 0 && along.sender != received.ancillary.sender {
            return Ok(true);
        }
        let (bytes, read, from) = (next.bytes.clone(), next.read, name_of(next));
        drop(state);
        // The reader's turn is held: the first message stays the first.
        let count = match to.write(&bytes[read..]) {
            Ok(count) => count,
            Err(_) if received.len > 0 => break,
            Err(errno) => return Err(errno),
        };
        if !is_peek {
            use_up(socket, count);
        }
        received.len += count;
        received.full_len = received.len;
        received.from = from;
        received.ancillary.sender = along.sender;
        let brought_files = !along.files.is_empty();
        received.ancillary.files.extend(along.files);
        if brought_files {
            return Ok(true);
        }
        if read + count < bytes.len() {
            break;
        }
        index += usize::from(is_peek);
    }
    Ok(false)
}

/// Takes `count` bytes of the first message away, and the files that came with them.
fn use_up(socket: &UnixSocket, count: usize) {
    let taking = flight::TAKING.lock();
    let mut state = socket.inbox.state.lock();
    let used = state.pop().map(|mut message| {
        let files = core::mem::replace(&mut message.files, InFlight::new(Vec::new(), 0));
        message.read += count;
        if !message.left().is_empty() {
            state.push_front(message);
        }
        files
    });
    drop(state);
    drop(taking);
    drop(used);
}
