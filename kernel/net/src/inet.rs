//! Internet sockets: `AF_INET` and `AF_INET6` (ip(7), ipv6(7), tcp(7), udp(7)).
//!
//! A network namespace has one [`stack::Stack`]: plain data behind one spin lock, which the sockets
//! ([`socket::InetSocket`]), the drivers' threads and the thread for timers ([`worker`]) take for a packet's way and let go of
//! before they copy to or from user memory, wait, or wake. [`tcp::Tcb`] is the state of a TCP connection, [`udp::Udp`] that
//! of a UDP socket. They know of each other by packets only ([`packet::Packet`]), which the stack hands on: those for an
//! address of its own are never made into bytes.
//!
//! TCP's state is our own: a socket of smoltcp has its buffers for life, 10,000 of them 1.25 GiB, and each packet goes past
//! all sockets.
//!
//! Locking: a reader's or writer's turn (sleeping), then the stack, then wait queues.

mod address;
mod attach;
mod bytes;
mod device;
mod heap;
mod interface;
pub(crate) mod ioctl;
mod ip;
mod neighbour;
mod option;
mod packet;
mod ports;
pub mod setting;
pub mod show;
mod slab;
pub(crate) mod socket;
pub(crate) mod stack;
mod tcp;
mod udp;
mod wire;
pub(crate) mod worker;

#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod tests;

pub use attach::{Interface, attach};
pub use device::{ChecksumStart, Full, NetDevice, Offloads};
pub use ip::{Endpoint, Ip};
