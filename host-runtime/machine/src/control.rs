//! The channel between a [`VmmProcess`](crate::VmmProcess) and its VMM process.
//!
//! It is a `SOCK_SEQPACKET` pair whose far end is the VMM's standard input: one JSON message a
//! packet, file descriptors beside it by `SCM_RIGHTS`. Because it has no name nothing can be left
//! behind, and because the VMM ends when it hangs up no VMM outlives the process that started it.

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

use crate::{ExitReason, Phase};

/// The largest message either side sends or accepts, in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// The most descriptors one message carries.
const MAX_FDS: usize = 8;

/// What the VMM needs to know to build its virtual machine.
///
/// It names no file to open: every file comes as a descriptor, in the order kernel, initramfs,
/// log, and the shared directory if [`shared_dir`](Self::shared_dir) is set. The names are for messages only.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VmConfig {
    /// The kernel's path, for messages.
    pub kernel: String,
    /// The archive's path, for messages.
    pub initramfs: String,
    /// The shared directory's path, for messages; `None` when nothing is shared.
    pub shared_dir: Option<String>,
    /// How many virtual CPUs, 1 to 4.
    pub cpus: u32,
    /// Guest memory in bytes.
    pub memory_bytes: u64,
    /// The caller's words for the kernel command line.
    pub cmdline: Vec<String>,
}

/// What the parent tells the VMM.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Build the machine and run it; always the first message.
    Start(VmConfig),
    /// Connect the attached stream socket to a vsock port of the guest.
    Connect {
        /// The parent's name for this attempt, echoed in the answer.
        id: u64,
        /// The guest's port.
        port: u32,
    },
}

/// What the VMM tells its parent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The machine is built and its CPUs are about to run.
    Started,
    /// The machine could not be built; the sentence says why and what to do.
    Failed {
        /// For the operator.
        sentence: String,
    },
    /// A phase was reached.
    Phase {
        /// Which one.
        phase: Phase,
        /// When, by `CLOCK_MONOTONIC`, in nanoseconds.
        ns: u64,
    },
    /// A [`Request::Connect`] succeeded: the socket now carries the stream.
    Connected {
        /// The attempt.
        id: u64,
    },
    /// A [`Request::Connect`] did not.
    Refused {
        /// The attempt.
        id: u64,
        /// For the operator.
        sentence: String,
    },
    /// The machine has ended; the last message.
    Exit {
        /// How.
        reason: ExitReason,
    },
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
