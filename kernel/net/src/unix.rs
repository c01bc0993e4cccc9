//! `AF_UNIX` sockets (unix(7)): streams, messages, and messages over a connection.
//!
//! What a socket receives is in its [`inbox`]; a connected socket knows the inbox of its peer. Names are in
//! [`names`]. Lock order: a socket's state, then one inbox; never two inboxes. User memory is
//! touched with neither held.
//!
//! Files on their way are in [`flight`].

mod backlog;
mod flight;
mod inbox;
mod names;
mod socket;
mod transfer;

#[cfg(test)]
mod tests;

pub use flight::files_in_flight;
pub use socket::UnixSocket;
