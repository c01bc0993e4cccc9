//! [`SocketFile`]: a socket as an open file.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::try_arc;
use fs::{AnonymousInode, Credentials, Events, File, FileKind, FileOps, Io, OpenFlags, PollTable};
use memory::io::{IoReader, IoWriter};

use crate::socket::{Ancillary, ReceiveFlags, SendFlags, Socket};

/// Also `SIOCINQ`.
const FIONREAD: u32 = 0x541b;
/// Also `TIOCOUTQ`.
const SIOCOUTQ: u32 = 0x5411;

/// The behaviour of an open file that is a socket.
#[derive(Debug)]
pub struct SocketFile {
    socket: Arc<dyn Socket>,
}

impl SocketFile {
    /// An open file for `socket`, with `flags` of which `O_NONBLOCK` matters.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn open(
        socket: Arc<dyn Socket>,
        flags: OpenFlags,
        owner: &Arc<Credentials>,
    ) -> Result<Arc<File>> {
        let inode = AnonymousInode::new(
            FileKind::Socket,
            "socket",
            0o777,
            (owner.fsuid, owner.fsgid),
        )?;
        File::anonymous(
            inode,
            try_arc(SocketFile { socket })?,
            flags | OpenFlags::RDWR,
            owner,
        )
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Arc<dyn Socket> {
        &self.socket
    }

    /// The socket behind an open file.
    ///
    /// # Errors
    /// `ENOTSOCK` for another file.
    pub fn of(file: &File) -> Result<&Arc<dyn Socket>> {
        if file.is_path_only() {
            return Err(Errno::EBADF);
        }
        file.downcast::<SocketFile>()
            .map(Self::socket)
            .ok_or(Errno::ENOTSOCK)
    }
}

impl SocketFile {
    /// Asks or sets something of the network that the socket belongs to.
    fn network(&self, command: u32, arg: u64) -> Result<u64> {
        let namespace = self.socket.namespace().ok_or(Errno::ENOTTY)?.get()?;
        let caller = crate::socket::caller().ok_or(Errno::EPERM)?;
        crate::inet::ioctl::ioctl(
            &namespace,
            &caller.credentials,
            command,
            machine::UserAddr(arg),
            self.socket.family() == abi::raw::net::AF_INET6,
        )
    }
}

impl FileOps for SocketFile {
    fn signals_io(&self) -> bool {
        true
    }

    fn read(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let mut flags = ReceiveFlags::empty();
        flags.set(ReceiveFlags::DONTWAIT, io.nonblocking);
        self.socket.receive(to, flags).map(|received| received.len)
    }

    fn write(&self, from: &mut IoReader<'_>, io: &mut Io) -> Result<usize> {
        let mut flags = SendFlags::empty();
        flags.set(SendFlags::DONTWAIT, io.nonblocking);
        self.socket.send(from, flags, None, Ancillary::default())
    }

    fn poll(&self, table: Option<&mut PollTable>) -> Events {
        self.socket.poll(table)
    }

    fn ioctl(&self, command: u32, arg: u64) -> Result<u64> {
        let count = match command {
            FIONREAD => self.socket.available()?,
            SIOCOUTQ => self.socket.unsent(),
            _ if crate::inet::ioctl::is_known(command) => return self.network(command, arg),
            _ => return Err(Errno::ENOTTY),
        };
        let bytes = i32::try_from(count).unwrap_or(i32::MAX).to_ne_bytes();
        let mut to = IoWriter::user(machine::UserAddr(arg), bytes.len());
        if to.write(&bytes)? < bytes.len() {
            Err(Errno::EFAULT)
        } else {
            Ok(0)
        }
    }
}
