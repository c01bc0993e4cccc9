//! Layer `net`: sockets. [`Socket`] is what a protocol implements; [`SocketFile`] makes it a file.
//!
//! There are [`unix`] sockets and [`vsock`] streams to the host; other families do not exist here
//! (`EAFNOSUPPORT`). The syscall layer decodes; what the calls mean is decided here.
//!
//! Locking: sockets lock inside. Two unix sockets of a pair share one lock, so that there is no order
//! between them to keep.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod address;
mod file;
mod options;
mod socket;
pub mod unix;
pub mod vsock;

pub use address::{Address, UnixName};
pub use file::SocketFile;
pub use options::Options;
pub use socket::{
    Ancillary, Peer, ReceiveFlags, Received, Requester, SendFlags, Shutdown, Socket, SocketType,
    create, create_pair, peer_of,
};
pub use unix::files_in_flight;
