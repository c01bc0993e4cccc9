//! `AF_UNIX` sockets (unix(7)): streams, messages, and messages over a connection.
//!
//! A [`UnixSocket`] is what programs hold, [`sock::Sock`] what other sockets know of it: its queue, its name, its
//! peer. [`send`] and [`receive`] move [`message::Message`]s. Names are in [`names`]. Files on their way are
//! in [`flight`].
//!
//! Locking: see [`sock`]. A reader's turn, then [`flight::TAKING`], then a socket's state or a backlog, then the
//! leaves of `flight`.

mod backlog;
mod flight;
mod message;
mod names;
mod receive;
mod send;
mod sock;
mod socket;

#[cfg(test)]
mod tests;

pub use flight::files_in_flight;
pub use socket::UnixSocket;
