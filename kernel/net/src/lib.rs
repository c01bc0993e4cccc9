//! Layer `net`: sockets. [`Socket`] is what a protocol implements; [`SocketFile`] makes it a file.
//!
//! There are [`unix`] sockets, [`vsock`] streams to the host, and [`inet`] sockets, each in a [`NetNamespace`]; other
//! families do not exist here (`EAFNOSUPPORT`). The syscall layer decodes; what the calls mean is decided here.
//!
//! Locking: sockets lock inside, and never one while another is locked.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod address;
mod file;
pub mod inet;
mod namespace;
mod options;
mod socket;
pub mod unix;
pub mod virtio_net;
pub mod vsock;

pub use address::{Address, AddressBytes, NameBytes, UnixName};
pub use file::SocketFile;
pub use namespace::{NetNamespace, Network};
pub use options::{Options, Switches};
pub use socket::{
    AboutPacket, Ancillary, OPTION_MAX, Owner, Peer, ReceiveFlags, Received, Requester, SendFlags,
    Shutdown, Socket, SocketType, TellCaller, create, create_pair, set_caller,
};
pub use unix::files_in_flight;
