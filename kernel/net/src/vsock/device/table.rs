//! Who a packet is for: connections by their ends, listeners and bound ports.
//!
//! Locking: the table's spin lock is above the states of connections.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{Map, Set};
use vsock_packet::{Key, Op};

use super::Vsock;
use crate::vsock::connection::{Connection, Phase};
use crate::vsock::listener::Listener;

/// The first port given to those who do not ask for one.
const FIRST_FREE_PORT: u32 = 49_152;

#[derive(Default)]
pub(super) struct Table {
    pub(super) connections: Map<Key, Arc<Connection>>,
    pub(super) listeners: Map<u32, Arc<Listener>>,
    /// Ports bound by sockets that neither listen nor connect yet.
    pub(super) bound: Set<u32>,
    pub(super) next_port: u32,
}

impl Vsock {
    /// Takes port `port` for a socket, or any free one for `None`.
    pub(in crate::vsock) fn bind(&self, port: Option<u32>) -> Result<u32> {
        let mut table = self.table.lock();
        let port = match port {
            Some(port) if table.is_bound(port) => return Err(Errno::EADDRINUSE),
            Some(port) => port,
            None => table.free_port().ok_or(Errno::EADDRNOTAVAIL)?,
        };
        table.bound.try_insert(port)?;
        Ok(port)
    }

    /// Gives a port back.
    pub(in crate::vsock) fn unbind(&self, port: u32) {
        let mut table = self.table.lock();
        table.bound.remove(&port);
        let listener = table.listeners.remove(&port);
        drop(table);
        drop(listener);
    }

    /// Lets peers connect to a port that was bound.
    pub(in crate::vsock) fn listen(&self, port: u32, listener: Arc<Listener>) -> Result<()> {
        let old = self.table.lock().listeners.try_insert(port, listener)?;
        drop(old);
        Ok(())
    }

    /// Enters a connection and asks the peer for it.
    pub(in crate::vsock) fn connect(&self, key: Key) -> Result<Arc<Connection>> {
        let connection = Connection::new(key, Phase::Connecting)?;
        let mut table = self.table.lock();
        if table.connections.contains_key(&key) {
            return Err(Errno::EADDRINUSE);
        }
        table.connections.try_insert(key, connection.clone())?;
        drop(table);
        self.control_of(&connection, Op::Request, 0);
        Ok(connection)
    }

    /// A connection is over: its packets are no longer known.
    pub(in crate::vsock) fn forget(&self, key: Key) {
        let gone = self.table.lock().connections.remove(&key);
        drop(gone);
    }

    /// The device was reset: all connections are over.
    pub(super) fn reset_all(&self) {
        let all = core::mem::take(&mut self.table.lock().connections);
        for connection in all.values() {
            connection.close(Some(Errno::ECONNRESET));
        }
    }
}

impl Table {
    fn is_bound(&self, port: u32) -> bool {
        self.bound.contains(&port)
    }

    fn free_port(&mut self) -> Option<u32> {
        let start = self.next_port.max(FIRST_FREE_PORT);
        let mut candidates = (start..u32::MAX).chain(FIRST_FREE_PORT..start);
        let port = candidates.find(|port| !self.is_bound(*port))?;
        self.next_port = port + 1;
        Some(port)
    }
}
