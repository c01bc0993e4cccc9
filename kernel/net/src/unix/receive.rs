//! Receiving: from a stream, or one message.
//!
//! A reader has the socket's turn (a sleeping lock) from its look at the head of the queue until that is taken off, and
//! copies to user memory meanwhile without the state's spin lock. So two readers never get the same bytes, nor parts of
//! a stream in each other's order.

use alloc::sync::Arc;
use core::ops::ControlFlow;

use abi::{Errno, Result};
use collections::Vec;
use fs::File;
use memory::io::IoWriter;

use super::flight::{self, InFlight};
use super::message::Message;
use super::sock::{Phase, Sock};
use crate::address::{Address, UnixName};
use crate::options;
use crate::socket::{Peer, ReceiveFlags, Received, SocketType};

/// Receives bytes, or one message.
pub(super) fn receive(
    sock: &Arc<Sock>,
    to: &mut IoWriter<'_>,
    flags: ReceiveFlags,
) -> Result<Received> {
    let is_connected = matches!(sock.state.lock().phase, Phase::Connected);
    match sock.kind {
        SocketType::Stream if !is_connected => Err(Errno::EINVAL),
        SocketType::SeqPacket if !is_connected => Err(Errno::ENOTCONN),
        SocketType::Stream => stream(sock, to, flags),
        SocketType::SeqPacket | SocketType::Datagram => message(sock, to, flags),
    }
}

/// What waiting for something to receive ended with.
enum Ready {
    Something,
    /// There will be nothing any more.
    End,
}

/// Waits until there is something. The error of the socket comes first, in a stream behind its bytes.
fn wait(sock: &Sock, flags: ReceiveFlags, deadline: Option<u64>) -> Result<Ready> {
    let nonblocking = flags.contains(ReceiveFlags::DONTWAIT);
    let look = || {
        let mut state = sock.state.lock();
        if !state.is_empty() && (sock.kind == SocketType::Stream || state.error.is_none()) {
            return Some(Ok(Ready::Something));
        }
        if let Some(errno) = state.error.take() {
            return Some(Err(errno));
        }
        // A datagram socket that does not wait is only told that there is nothing.
        if state.ends_receiving && !(nonblocking && sock.kind == SocketType::Datagram) {
            return Some(Ok(Ready::End));
        }
        nonblocking.then_some(Err(Errno::EAGAIN))
    };
    sock.changed
        .wait_interruptible_deadline(deadline, look)
        .map_err(|errno| options::end_of_wait(errno, deadline))?
}

/// What `SCM_CREDENTIALS` says of a message: of one sent before anybody asked, nobody that there is.
fn credentials_of(sock: &Sock, message: &Message) -> Option<Peer> {
    let wants = sock.options.passes_credentials();
    wants.then(|| message.credentials.clone().unwrap_or(Peer::NOBODY))
}

fn name_of(message: &Message) -> Option<Address> {
    match message.sender().name() {
        UnixName::Unnamed => None,
        name => Some(Address::Unix(name)),
    }
}

/// Takes the files of a message, or further handles to them for who peeks.
fn files_of(message: &Message, is_peek: bool) -> Result<Vec<Arc<File>>> {
    if !message.has_files() {
        return Ok(Vec::new());
    }
    // Between the queue and the receiver's table nothing that the search for garbage looks at has them.
    let taking = flight::TAKING.lock();
    let files = if is_peek {
        message.share_files()
    } else {
        let taken = message.take_files();
        Ok(taken.map_or_else(Vec::new, InFlight::into_files))
    };
    drop(taking);
    files
}

fn message(sock: &Arc<Sock>, to: &mut IoWriter<'_>, flags: ReceiveFlags) -> Result<Received> {
    let is_peek = flags.contains(ReceiveFlags::PEEK);
    let deadline = sock.options.receive_deadline();
    loop {
        if let Ready::End = wait(sock, flags, deadline)? {
            return Ok(Received::default());
        }
        let turn = sock.turn.lock();
        let mut state = sock.state.lock();
        // Another reader may have been faster.
        let Some(message) = state.get(0).cloned() else {
            continue;
        };
        let taken = if is_peek {
            Some(message.clone())
        } else {
            state.pop(&message)
        };
        drop(state);
        if taken.is_none() {
            continue;
        }
        let files = files_of(&message, is_peek);
        drop(turn);
        sock.room.wake_all();
        let mut received = Received {
            full_len: message.left(),
            from: name_of(&message),
            ..Received::default()
        };
        received.len = received.full_len.min(to.remaining());
        // A message that cannot be copied is lost.
        message.copy_to(received.len, to)?;
        received.ancillary.files = files?;
        received.ancillary.sender = credentials_of(sock, &message);
        return Ok(received);
    }
}

fn stream(sock: &Arc<Sock>, to: &mut IoWriter<'_>, flags: ReceiveFlags) -> Result<Received> {
    let deadline = sock.options.receive_deadline();
    let wants_all = flags.contains(ReceiveFlags::WAITALL);
    let target = sock.options.low_water(wants_all, to.remaining());
    let mut pieces = Pieces {
        sock,
        is_peek: flags.contains(ReceiveFlags::PEEK),
        received: Received::default(),
        writer: None,
    };
    loop {
        let turn = sock.turn.lock();
        let step = pieces.take(to);
        drop(turn);
        if step?.is_break() || pieces.received.len >= target {
            return Ok(pieces.received);
        }
        match wait(sock, flags, deadline) {
            Ok(Ready::Something) => {}
            Ok(Ready::End) => return Ok(pieces.received),
            Err(_) if pieces.received.len > 0 => return Ok(pieces.received),
            Err(errno) => return Err(errno),
        }
    }
}

/// A receive from a stream that is under way.
struct Pieces<'a> {
    sock: &'a Arc<Sock>,
    is_peek: bool,
    received: Received,
    /// Who wrote what was received so far, once there is some.
    writer: Option<Option<Peer>>,
}

impl Pieces<'_> {
    /// Takes pieces for as long as there are any, from one writer, up to and with one that brings files.
    /// Breaks when the receive ends with what it has. The caller has the reader's turn.
    fn take(&mut self, to: &mut IoWriter<'_>) -> Result<ControlFlow<()>> {
        let mut index = 0;
        loop {
            let message = self.sock.state.lock().get(index).cloned();
            let Some(message) = message else {
                // Who peeks does not wait for more than there is.
                let ends = self.is_peek && index > 0;
                return Ok(if ends {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                });
            };
            // Who asks for credentials gets one writer's bytes at a time: the control message names only one.
            if self.sock.options.passes_credentials() {
                match &self.writer {
                    Some(writer) if *writer != message.credentials => {
                        return Ok(ControlFlow::Break(()));
                    }
                    Some(_) => {}
                    None => self.received.ancillary.sender = credentials_of(self.sock, &message),
                }
            }
            if self.writer.is_none() {
                self.received.from = name_of(&message);
            }
            self.writer = Some(message.credentials.clone());
            match self.take_one(&message, to) {
                Ok(ControlFlow::Continue(())) => {}
                Err(_) if self.received.len > 0 => return Ok(ControlFlow::Break(())),
                ended => return ended,
            }
            index += usize::from(self.is_peek);
            sched::cond_resched();
        }
    }

    /// Takes what fits of a piece; whether there is room for another.
    fn take_one(
        &mut self,
        message: &Arc<Message>,
        to: &mut IoWriter<'_>,
    ) -> Result<ControlFlow<()>> {
        let len = message.left().min(to.remaining());
        message.copy_to(len, to)?;
        self.received.len += len;
        self.received.full_len = self.received.len;
        let files = files_of(message, self.is_peek)?;
        let brought_files = message.has_files() && !files.is_empty();
        if brought_files {
            self.received.ancillary.files = files;
        }
        // Taken off behind the copy: a fault leaves the bytes for the next receive.
        let mut used = None;
        if !self.is_peek {
            let mut state = self.sock.state.lock();
            state.use_up(message, len);
            if message.left() == 0 {
                used = state.pop(message);
            }
            drop(state);
        }
        drop(used);
        let is_whole = self.is_peek || message.left() == 0;
        Ok(if brought_files || !is_whole || to.remaining() == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    }
}
