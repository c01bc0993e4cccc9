//! A stream socket of `AF_VSOCK` as programs hold it; [`stream`] has what waits for the peer.

use alloc::sync::Arc;

use abi::raw::net::AF_VSOCK;
use abi::{Errno, Result};
use collections::try_arc;
use fs::{Events, PollTable};
use machine::sync::SpinLock;
use machine::virtio::Segment;
use memory::io::{IoReader, IoWriter};
use vsock_packet::{End, Key};

use super::connection::{Connection, Phase, copy_out};
use super::device::{self, Vsock};
use super::listener::Listener;
use crate::address::Address;
use crate::options::{Options, end_of_wait};
use crate::socket::{
    Ancillary, ReceiveFlags, Received, Requester, SendFlags, Shutdown, Socket, SocketType,
};

mod role;
mod stream;

use role::{Role, What};
use stream::{close, ready};

const CID_ANY: u32 = u32::MAX;
const PORT_ANY: u32 = u32::MAX;
/// Ports below this are for `CAP_NET_BIND_SERVICE`.
const FIRST_UNPRIVILEGED: u32 = 1024;

/// A stream socket to the host.
#[derive(Debug)]
pub struct VsockSocket {
    device: Arc<Vsock>,
    options: Options,
    role: SpinLock<Role>,
}

impl VsockSocket {
    /// A socket without a name.
    ///
    /// # Errors
    /// `ENODEV` when the machine has no socket device.
    pub fn new() -> Result<Arc<VsockSocket>> {
        Self::on(device::get()?)
    }

    pub(super) fn on(device: Arc<Vsock>) -> Result<Arc<VsockSocket>> {
        let role = Role {
            port: None,
            owns_port: false,
            what: What::Fresh,
        };
        Ok(try_arc(VsockSocket {
            device,
            options: Options::default(),
            role: SpinLock::new(role),
        })?)
    }

    pub(super) fn accepted(&self, connection: Arc<Connection>) -> Result<Arc<VsockSocket>> {
        let role = Role {
            port: Some(connection.key.local_port),
            owns_port: false,
            what: What::Connected(connection),
        };
        let (device, options) = (self.device.clone(), Options::default());
        Ok(try_arc(VsockSocket {
            device,
            options,
            role: SpinLock::new(role),
        })?)
    }
}

impl Socket for VsockSocket {
    fn family(&self) -> u32 {
        AF_VSOCK
    }

    fn socket_type(&self) -> SocketType {
        SocketType::Stream
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn bind(&self, address: &Address, requester: &Requester<'_>) -> Result<()> {
        let Address::Vsock { cid, port } = *address else {
            return Err(Errno::EINVAL);
        };
        if cid != CID_ANY && u64::from(cid) != self.device.cid {
            return Err(Errno::EADDRNOTAVAIL);
        }
        let is_allowed = requester
            .caller
            .credentials
            .capable(fs::Capabilities::NET_BIND_SERVICE);
        if port < FIRST_UNPRIVILEGED && !is_allowed {
            return Err(Errno::EACCES);
        }
        let mut role = self.role.lock();
        if role.port.is_some() {
            return Err(Errno::EINVAL);
        }
        role.port = Some(self.device.bind((port != PORT_ANY).then_some(port))?);
        role.owns_port = true;
        Ok(())
    }

    fn listen(&self, backlog: usize, _requester: &Requester<'_>) -> Result<()> {
        let mut role = self.role.lock();
        match (&role.what, role.port) {
            (What::Listening(listener), _) => listener.set_backlog(backlog),
            (What::Fresh, Some(port)) => {
                let listener = Listener::new(backlog)?;
                self.device.listen(port, listener.clone())?;
                role.what = What::Listening(listener);
            }
            (What::Fresh, None) | (What::Connected(_), _) => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    fn accept(&self, nonblocking: bool) -> Result<Arc<dyn Socket>> {
        let listener = self.listener()?;
        let look = || match listener.take() {
            Some(connection) => Some(Ok(connection)),
            None => nonblocking.then_some(Err(Errno::EAGAIN)),
        };
        let deadline = self.options.receive_deadline();
        let waited = listener.arrived.wait_interruptible_alone(deadline, look);
        let connection = waited.map_err(|errno| end_of_wait(errno, deadline))??;
        Ok(self.accepted(connection)?)
    }

    fn connect(&self, address: &Address, nonblocking: bool, _: &Requester<'_>) -> Result<()> {
        let Address::Vsock { cid, port } = *address else {
            return Err(Errno::EINVAL);
        };
        let role = self.role.lock();
        if let What::Connected(connection) = &role.what {
            let connection = connection.clone();
            drop(role);
            let phase = connection.state.lock().phase;
            return match phase {
                Phase::Established => Err(Errno::EISCONN),
                Phase::Connecting if nonblocking => Err(Errno::EALREADY),
                Phase::Connecting | Phase::Closed => self.wait_connected(&connection),
            };
        }
        if matches!(role.what, What::Listening(_)) {
            return Err(Errno::EINVAL);
        }
        if cid == CID_ANY || u64::from(cid) == self.device.cid {
            return Err(Errno::EHOSTUNREACH);
        }
        drop(role);
        self.device
            .wait_room(nonblocking, self.connect_deadline())?;
        let mut role = self.role.lock();
        if !matches!(role.what, What::Fresh) {
            // Another thread has connected it meanwhile, or listens.
            return Err(Errno::EINVAL);
        }
        let local_port = self.ensure_port(&mut role)?;
        let key = Key {
            local_port,
            peer: End {
                cid: cid.into(),
                port,
            },
        };
        let connection = self.device.connect(key)?;
        role.what = What::Connected(connection.clone());
        drop(role);
        if nonblocking {
            Err(Errno::EINPROGRESS)
        } else {
            self.wait_connected(&connection)
        }
    }

    fn send(
        &self,
        from: &mut IoReader<'_>,
        flags: SendFlags,
        to: Option<(&Address, &Requester<'_>)>,
        ancillary: Ancillary,
    ) -> Result<usize> {
        let connection = self.connection()?;
        if to.is_some() {
            return Err(Errno::EISCONN);
        }
        if !ancillary.files.is_empty() {
            return Err(Errno::EOPNOTSUPP);
        }
        if connection.state.lock().phase == Phase::Connecting {
            return Err(Errno::ENOTCONN);
        }
        let nonblocking = flags.contains(SendFlags::DONTWAIT);
        let deadline = self.options.send_deadline();
        let mut done = 0;
        while from.remaining() > 0 {
            let step = self
                .wait_credit(&connection, nonblocking, deadline)
                .and_then(|credit| self.take(from, credit))
                .and_then(|payload| {
                    let len: usize = payload.iter().map(Segment::len).sum();
                    let sent = self.transmit(&connection, payload, deadline);
                    sent.map(|()| len)
                });
            match step {
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    fn receive(&self, to: &mut IoWriter<'_>, flags: ReceiveFlags) -> Result<Received> {
        let connection = self.connection()?;
        let nonblocking = flags.contains(ReceiveFlags::DONTWAIT);
        let deadline = self.options.receive_deadline();
        let mut len = 0;
        while to.remaining() > 0 {
            let look = || {
                let mut state = connection.state.lock();
                if state.available() > 0 {
                    return Some(Ok(true));
                }
                if let Some(errno) = state.error.take() {
                    return Some(Err(errno));
                }
                match state.phase {
                    Phase::Connecting => Some(Err(Errno::ENOTCONN)),
                    Phase::Closed => Some(Ok(false)),
                    Phase::Established if state.peer_is_done || state.is_deaf => Some(Ok(false)),
                    Phase::Established => nonblocking.then_some(Err(Errno::EAGAIN)),
                }
            };
            let waited = connection
                .changed
                .wait_interruptible_deadline(deadline, look);
            let ready = waited.map_err(|errno| end_of_wait(errno, deadline));
            match ready.and_then(|ready| ready) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) if len > 0 => break,
                Err(errno) => return Err(errno),
            }
            let is_peek = flags.contains(ReceiveFlags::PEEK);
            let recycle = |frame| self.device.recycle([frame]);
            len += copy_out(&connection, to, is_peek, recycle)?;
            self.device.tell_credit(&connection);
            if is_peek || !flags.contains(ReceiveFlags::WAITALL) {
                break;
            }
        }
        Ok(Received {
            len,
            full_len: len,
            ..Received::default()
        })
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        let connection = self.connection()?;
        let is_new = {
            let mut state = connection.state.lock();
            if state.phase != Phase::Established {
                return Err(Errno::ENOTCONN);
            }
            let before = (state.is_deaf, state.is_done);
            state.is_deaf |= how.receive;
            state.is_done |= how.send;
            before != (state.is_deaf, state.is_done)
        };
        if is_new {
            self.device.shut_down(&connection, how.receive, how.send);
        }
        connection.changed.wake_all();
        Ok(())
    }

    #[expect(clippy::cast_possible_truncation, reason = "context ids have 32 bits")]
    fn name(&self) -> Address {
        match self.role.lock().port {
            Some(port) => Address::Vsock {
                cid: self.device.cid as u32,
                port,
            },
            None => Address::Vsock {
                cid: CID_ANY,
                port: PORT_ANY,
            },
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "context ids have 32 bits")]
    fn peer_name(&self) -> Result<Address> {
        let peer = self.connection()?.key.peer;
        Ok(Address::Vsock {
            cid: peer.cid as u32,
            port: peer.port,
        })
    }

    fn is_listening(&self) -> bool {
        self.listener().is_ok()
    }

    fn take_error(&self) -> Option<Errno> {
        self.connection().ok()?.state.lock().error.take()
    }

    fn set_error(&self, errno: Errno) {
        if let Ok(connection) = self.connection() {
            connection.state.lock().error = Some(errno);
        }
    }

    fn available(&self) -> Result<usize> {
        if self.is_listening() {
            return Err(Errno::EINVAL);
        }
        let connection = self.connection();
        Ok(connection.map_or(0, |connection| connection.state.lock().available()))
    }

    fn poll(&self, table: Option<&mut PollTable>) -> Events {
        let what = self.role.lock().what.clone();
        match what {
            What::Fresh => Events::WRITABLE | Events::HUP,
            What::Listening(listener) => {
                if let Some(table) = table {
                    table.add(&listener.arrived);
                }
                if listener.has_waiting() {
                    Events::READABLE
                } else {
                    Events::empty()
                }
            }
            What::Connected(connection) => {
                if let Some(table) = table {
                    table.add(&connection.changed);
                }
                ready(&connection)
            }
        }
    }
}

impl Drop for VsockSocket {
    fn drop(&mut self) {
        let role = self.role.get_mut();
        match &role.what {
            What::Fresh => {}
            What::Listening(listener) => {
                if let Some(port) = role.port {
                    self.device.unbind(port);
                }
                while let Some(connection) = listener.take() {
                    close(&self.device, &connection);
                }
            }
            What::Connected(connection) => close(&self.device, connection),
        }
        if let Some(port) = role.port.filter(|_| role.owns_port) {
            self.device.unbind(port);
        }
    }
}
