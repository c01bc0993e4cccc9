//! `AF_VSOCK` streams to and from the host, over the virtio socket device (vsock(7)).
//!
//! [`device`] moves packets and knows who they are for, [`connection`] is one stream, [`listener`] a port
//! that peers connect to, [`socket`] is what programs hold. Lock order: a socket's role, the
//! device's table, a connection's state.

mod connection;
mod device;
mod listener;
mod socket;

#[cfg(test)]
mod tests;

pub use device::add_device;
pub use socket::VsockSocket;
