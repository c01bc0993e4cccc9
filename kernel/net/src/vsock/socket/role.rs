//! What a socket is at the moment: fresh, a listener's, one end of a connection; and the port that it has.
//!
//! [`Role`] is under the socket's own spin lock, which is not held while it waits: what is waited for (the connection,
//! the listener) is taken out of it by reference first.

use alloc::sync::Arc;

use abi::{Errno, Result};

use super::VsockSocket;
use crate::vsock::connection::Connection;
use crate::vsock::listener::Listener;

#[derive(Debug)]
pub(super) struct Role {
    /// The port it was given or took.
    pub(super) port: Option<u32>,
    /// The port is this socket's own, not its listener's.
    pub(super) owns_port: bool,
    pub(super) what: What,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Fresh,
    Listening(Arc<Listener>),
    Connected(Arc<Connection>),
}

impl VsockSocket {
    pub(super) fn connection(&self) -> Result<Arc<Connection>> {
        match &self.role.lock().what {
            What::Connected(connection) => Ok(connection.clone()),
            What::Fresh | What::Listening(_) => Err(Errno::ENOTCONN),
        }
    }

    pub(super) fn listener(&self) -> Result<Arc<Listener>> {
        match &self.role.lock().what {
            What::Listening(listener) => Ok(listener.clone()),
            What::Fresh | What::Connected(_) => Err(Errno::EINVAL),
        }
    }

    /// Takes a port when it has none.
    pub(super) fn ensure_port(&self, role: &mut Role) -> Result<u32> {
        if let Some(port) = role.port {
            return Ok(port);
        }
        let port = self.device.bind(None)?;
        role.port = Some(port);
        role.owns_port = true;
        Ok(port)
    }
}
