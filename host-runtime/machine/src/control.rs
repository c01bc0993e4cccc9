//! The channel between the owner of a machine and the process it runs in: control protocol 2.
//!
//! It is a `SOCK_SEQPACKET` pair whose far end is the VMM's standard input: one JSON message a packet, file
//! descriptors beside it by `SCM_RIGHTS`. The owner's [`Request`]s have numbers and are answered each once, in
//! any order, with a [`Reply`] or a sentence; what the machine has to say by itself is an [`Event`]. The first
//! request is [`Request::Start`] with the number [`FIRST_CALL`], and the last message [`Event::Exit`]. Because the channel has no name nothing can be
//! left behind, and because the VMM ends when it hangs up no VMM outlives the process that started it.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::spec::{Attachment, Memory, NetConfig};
use crate::stats::Stats;
use crate::{ExitReason, Phase};

/// The version of the protocol. Owner and VMM come out of one build, so there is no range to negotiate; another
/// version is refused with a sentence.
pub const VERSION: u32 = 2;
/// The number of the call that starts the machine.
pub const FIRST_CALL: u64 = 1;
/// The largest message either side sends or accepts, in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// The most descriptors one message carries.
const MAX_FDS: usize = 24;

/// What a VMM needs to know to build its machine.
///
/// It names no file to open: every file comes as a descriptor, in the order kernel, initramfs, log, the directory of
/// each share, each disk, each network, and the `cgroup.procs` of each of the host's cgroups that the process is to enter. The names
/// are for messages only.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VmConfig {
    /// The kernel's path, for messages.
    pub kernel: String,
    /// The archive's path, for messages.
    pub initramfs: String,
    /// The shared directories' paths, for messages, and their tags.
    pub shares: Vec<ShareConfig>,
    /// The disks' paths, for messages.
    pub disks: Vec<String>,
    /// The networks.
    pub nets: Vec<NetConfig>,
    /// How many virtual CPUs, 1 to 4.
    pub cpus: u32,
    /// Guest memory.
    pub memory: Memory,
    /// The owner's words for the kernel command line.
    pub cmdline: Vec<String>,
    /// Whether to count the instructions that the CPUs execute, if the machine can.
    pub counts_instructions: bool,
}

/// A shared directory whose descriptor comes with the request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShareConfig {
    /// The tag that the guest mounts it by.
    pub tag: String,
    /// Its path, for messages.
    pub path: String,
}

/// A packet from the owner.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Call {
    /// [`VERSION`].
    pub version: u32,
    /// The owner's name for it, which the answer repeats.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// What the owner asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Build the machine and run it; always the first message, answered when its CPUs are about to run.
    Start(VmConfig),
    /// Connect the stream socket beside it to a vsock port of the guest.
    Connect {
        /// The guest's port.
        port: u32,
    },
    /// Stop the CPUs.
    Pause,
    /// Let them run on.
    Resume,
    /// Count what has happened.
    Stats,
    /// Give the guest something more, whose descriptor is beside it.
    Attach(Attachment),
    /// Take it back.
    Detach(Attachment),
}

/// A packet to the owner.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// To the call of this number.
    Answer {
        /// Which.
        id: u64,
        /// What came of it; a sentence says why not, and what to do.
        reply: Result<Reply, String>,
    },
    /// Unasked.
    Event(Event),
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is done.
    Done,
    /// To [`Request::Stats`].
    Stats(Stats),
}

/// What a machine says by itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The process that was started goes on as another one, which is its owner's child, too; the first message.
    Moved {
        /// The other one's id.
        pid: i32,
    },
    /// A phase was reached.
    Phase {
        /// Which one.
        phase: Phase,
        /// When, by `CLOCK_MONOTONIC`, in nanoseconds.
        ns: u64,
    },
    /// The machine has ended; the last message.
    Exit {
        /// How.
        reason: ExitReason,
    },
}

/// A word of the kernel command line; one with spaces is quoted as Linux reads it: the value, or else all of it, in double quotes.
#[must_use]
pub fn quoted(word: &str) -> String {
    match word.split_once('=') {
        _ if !word.contains(' ') => word.to_owned(),
        Some((key, value)) if !key.contains(' ') => format!("{key}=\"{value}\""),
        _ => format!("\"{word}\""),
    }
}

/// Sends one message with its descriptors.
///
/// # Errors
/// What `sendmsg` said, `EMSGSIZE` for a message over [`MAX_MESSAGE`].
pub fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let bytes = serde_json::to_vec(message).map_err(|_| Errno::INVAL)?;
    if bytes.len() > MAX_MESSAGE {
        return Err(Errno::MSGSIZE);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::MSGSIZE);
    }
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(
            socket,
            &[IoSlice::new(&bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
    })?;
    Ok(())
}

/// Receives one message with its descriptors; `None` when the other side is gone.
///
/// # Errors
/// What `recvmsg` said (`EAGAIN` when nothing is there and the socket does not block), and `EBADMSG` for
/// a message that is not of type `T`.
pub fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<Option<(T, Vec<OwnedFd>)>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(
            socket.as_fd(),
            &mut [IoSliceMut::new(buffer)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )
    });
    let received = match received {
        Ok(received) => received,
        Err(Errno::CONNRESET) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    let bytes = buffer.get(..received.bytes).ok_or(Errno::BADMSG)?;
    let message = serde_json::from_slice(bytes).map_err(|_| Errno::BADMSG)?;
    Ok(Some((message, fds)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_call_and_its_answer_travel_with_descriptors_and_nonsense_is_told() {
        let (ours, theirs) = UnixDatagram::pair().expect("sockets");
        let mut buffer = vec![0; MAX_MESSAGE];
        let call = Call {
            version: VERSION,
            id: 7,
            request: Request::Connect { port: 1024 },
        };
        send(ours.as_fd(), &call, &[ours.as_fd()]).expect("room");
        let (got, fds) = receive::<Call>(theirs.as_fd(), &mut buffer)
            .expect("a call")
            .expect("still there");
        assert_eq!((got.version, got.id, fds.len()), (2, 7, 1));
        assert!(matches!(got.request, Request::Connect { port: 1024 }));
        let reply = Err("no".to_owned());
        let answer = Message::Answer { id: 7, reply };
        send(theirs.as_fd(), &answer, &[]).expect("room");
        let (answer, _) = receive::<Message>(ours.as_fd(), &mut buffer)
            .expect("an answer")
            .expect("still there");
        assert!(matches!(answer, Message::Answer { id: 7, reply: Err(no) } if no == "no"));
        ours.send(b"{\"id\":1}").expect("room");
        let nonsense = receive::<Call>(theirs.as_fd(), &mut buffer);
        assert_eq!(nonsense.map(|_| ()), Err(Errno::BADMSG));
    }
}
