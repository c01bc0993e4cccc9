//! [`Socket`]: what a protocol does for the socket calls.

use alloc::sync::Arc;
use core::any::Any;

use abi::raw::net as raw;
use abi::{Errno, Result};
use collections::Vec;
use fs::job_control::PidRef;
use fs::{Caller, Credentials, Events, File, Kgid, Kuid, Path, PollTable};
use machine::sync::SpinLock;
use memory::io::{IoReader, IoWriter};

use crate::address::Address;
use crate::namespace::Network;
use crate::options::Options;
use crate::{inet, unix, vsock};

/// The longest option of a level of its own: `struct tcp_info`.
pub const OPTION_MAX: usize = 256;

/// The type of a socket (socket(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SocketType {
    /// Bytes in order.
    Stream,
    /// Messages.
    Datagram,
    /// Messages over a connection.
    SeqPacket,
}

/// Linux's `SOCK_RAW`, which unix sockets take for `SOCK_DGRAM`.
const SOCK_RAW: u32 = 3;
/// Linux's `SOCK_MAX`, the first number that is no type.
const TYPES: u32 = 11;
/// Linux's `AF_MAX`, the first number that is no family.
const FAMILIES: u32 = 46;

impl SocketType {
    /// From the family and the type of socket(2), flags removed.
    ///
    /// Which of the two is told to be wrong decides whether programs do without: libaudit asks for a raw
    /// netlink socket, and only `EAFNOSUPPORT` means to it that the kernel has no audit.
    ///
    /// # Errors
    /// `EINVAL` for a number that is no type, `EAFNOSUPPORT` for a family that is not there, whatever the
    /// type, `ESOCKTNOSUPPORT` for a type that the family does not have.
    pub const fn of(family: u32, number: u32) -> Result<SocketType> {
        match number {
            _ if family >= FAMILIES => Err(Errno::EAFNOSUPPORT),
            TYPES.. => Err(Errno::EINVAL),
            _ if !matches!(
                family,
                raw::AF_UNIX | raw::AF_VSOCK | raw::AF_INET | raw::AF_INET6
            ) =>
            {
                Err(Errno::EAFNOSUPPORT)
            }
            raw::SOCK_SEQPACKET if matches!(family, raw::AF_INET | raw::AF_INET6) => {
                Err(Errno::ESOCKTNOSUPPORT)
            }
            raw::SOCK_STREAM => Ok(SocketType::Stream),
            raw::SOCK_DGRAM => Ok(SocketType::Datagram),
            raw::SOCK_SEQPACKET => Ok(SocketType::SeqPacket),
            SOCK_RAW if family == raw::AF_UNIX => Ok(SocketType::Datagram),
            _ => Err(Errno::ESOCKTNOSUPPORT),
        }
    }

    /// The number of socket(2).
    #[must_use]
    pub const fn to_raw(self) -> u32 {
        match self {
            SocketType::Stream => raw::SOCK_STREAM,
            SocketType::Datagram => raw::SOCK_DGRAM,
            SocketType::SeqPacket => raw::SOCK_SEQPACKET,
        }
    }
}

/// Who is at the other end (`struct ucred`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "unix(7) documents each name")]
pub struct Peer {
    pub pid: Option<PidRef>,
    pub uid: Kuid,
    pub gid: Kgid,
}

impl Peer {
    /// `SO_PEERCRED` of a socket without a peer, and `SCM_CREDENTIALS` of a message that was sent before anybody
    /// asked.
    pub const NOBODY: Peer = Peer {
        pid: None,
        uid: Kuid::INVALID,
        gid: Kgid::INVALID,
    };
}

/// Who makes or connects a socket.
#[derive(Debug, Clone)]
pub struct Owner {
    /// As `struct ucred`, with the effective ids.
    pub peer: Peer,
    /// All of its credentials, for `SO_PEERGROUPS`.
    pub credentials: Arc<Credentials>,
}

impl Owner {
    pub(crate) fn of((peer, credentials): (Peer, Arc<Credentials>)) -> Owner {
        Owner { peer, credentials }
    }
}

/// Tells who calls: its process and its real ids, and all of its credentials; `None` for a thread of the kernel.
pub type TellCaller = fn() -> Option<Owner>;
static CALLER: SpinLock<Option<TellCaller>> = SpinLock::new(None);

/// Sets how a socket learns who calls, which a layer above knows; once, at start.
pub fn set_caller(caller: TellCaller) {
    *CALLER.lock() = Some(caller);
}

/// Who calls, as `SCM_CREDENTIALS` tells.
pub(crate) fn caller() -> Option<Owner> {
    let caller = *CALLER.lock();
    caller.and_then(|caller| caller())
}

/// Who makes a call, and from where it names files.
#[derive(Debug, Clone, Copy)]
pub struct Requester<'a> {
    /// Names files.
    pub caller: Caller<'a>,
    /// Where relative paths start.
    pub base: &'a Path,
    /// Who it is.
    pub owner: &'a Owner,
}

bitflags::bitflags! {
    /// Flags of send(2) that are acted on here.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct SendFlags: u32 {
        /// Do not wait.
        const DONTWAIT = raw::MSG_DONTWAIT;
        /// No SIGPIPE (the syscall layer's).
        const NOSIGNAL = raw::MSG_NOSIGNAL;
        /// Ends a record; messages end anyway.
        const EOR = raw::MSG_EOR;
        /// More follows; a hint.
        const MORE = raw::MSG_MORE;
    }

    /// Flags of recv(2) that are acted on here.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct ReceiveFlags: u32 {
        /// Do not wait.
        const DONTWAIT = raw::MSG_DONTWAIT;
        /// Leave it there.
        const PEEK = raw::MSG_PEEK;
        /// Wait for all that was asked for.
        const WAITALL = raw::MSG_WAITALL;
        /// Return the message's real length.
        const TRUNC = raw::MSG_TRUNC;
        /// What waits in the queue of errors.
        const ERRQUEUE = raw::MSG_ERRQUEUE;
        /// Descriptors received are closed on exec (the syscall layer's).
        const CMSG_CLOEXEC = raw::MSG_CMSG_CLOEXEC;
    }
}

/// What comes along with bytes (cmsg(3)).
#[derive(Debug, Default)]
pub struct Ancillary {
    /// `SCM_RIGHTS`.
    pub files: Vec<Arc<File>>,
    /// The user they are counted for while they are on their way.
    pub files_uid: Kuid,
    /// `SCM_CREDENTIALS`: sent, what the sender claims and may; received, what is told.
    pub sender: Option<Peer>,
    /// `IP_PKTINFO`, `IP_TTL` and so on: what an internet socket tells of a packet that it asked about.
    pub about: Option<AboutPacket>,
}

/// What an internet socket tells of a received packet, as far as it was asked to.
#[derive(Debug, Clone, Copy, Default)]
pub struct AboutPacket {
    /// The address that it was sent to, and the interface that it came by (`IP_PKTINFO`, `IPV6_PKTINFO`).
    pub target: Option<(inet::Ip, u32)>,
    /// `IP_TTL`, `IPV6_HOPLIMIT`.
    pub ttl: Option<u8>,
    /// `IP_TOS`, `IPV6_TCLASS`.
    pub tos: Option<u8>,
    /// Whether they are told as version 6 does.
    pub is_v6: bool,
}

/// What a receive brought.
#[derive(Debug, Default)]
pub struct Received {
    /// Bytes put into the caller's buffers.
    pub len: usize,
    /// Bytes that the message has; more than `len` when it was cut.
    pub full_len: usize,
    /// Where it came from, when that can be told.
    pub from: Option<Address>,
    /// What came along.
    pub ancillary: Ancillary,
}

/// Which directions to shut down (shutdown(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    /// Receiving.
    pub receive: bool,
    /// Sending.
    pub send: bool,
}

impl Shutdown {
    /// From the number of shutdown(2).
    ///
    /// # Errors
    /// `EINVAL` for another number.
    pub const fn from_raw(how: i32) -> Result<Shutdown> {
        match how {
            0 => Ok(Shutdown {
                receive: true,
                send: false,
            }),
            1 => Ok(Shutdown {
                receive: false,
                send: true,
            }),
            2 => Ok(Shutdown {
                receive: true,
                send: true,
            }),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// A socket. Methods take `&self` and lock inside; they wait unless told otherwise.
pub trait Socket: Any + Send + Sync {
    /// `AF_*`.
    fn family(&self) -> u32;

    /// The type.
    fn socket_type(&self) -> SocketType;

    /// The common options.
    fn options(&self) -> &Options;

    /// Gives it a name (bind(2)).
    ///
    /// # Errors
    /// `EINVAL` when it has one, `EADDRINUSE`, `EACCES`, and those of path walks.
    fn bind(&self, address: &Address, requester: &Requester<'_>) -> Result<()>;

    /// Lets others connect (listen(2)).
    ///
    /// # Errors
    /// `EOPNOTSUPP` for messages, `EINVAL` without a name or when connected.
    fn listen(&self, backlog: usize, requester: &Requester<'_>) -> Result<()>;

    /// Takes a connection (accept(2)).
    ///
    /// # Errors
    /// `EINVAL` when not listening, `EAGAIN`, `ERESTARTSYS`.
    fn accept(&self, nonblocking: bool) -> Result<Arc<dyn Socket>>;

    /// Connects (connect(2)).
    ///
    /// # Errors
    /// `ECONNREFUSED`, `EISCONN`, `EINPROGRESS`, `EAGAIN`, `ETIMEDOUT`, `ERESTARTSYS`, and so on.
    fn connect(
        &self,
        address: &Address,
        nonblocking: bool,
        requester: &Requester<'_>,
    ) -> Result<()>;

    /// Sends bytes, or one message.
    ///
    /// # Errors
    /// `EPIPE`, `ENOTCONN`, `EMSGSIZE`, `EAGAIN`, `ERESTARTSYS`, and so on.
    fn send(
        &self,
        from: &mut IoReader<'_>,
        flags: SendFlags,
        to: Option<(&Address, &Requester<'_>)>,
        ancillary: Ancillary,
    ) -> Result<usize>;

    /// Receives bytes, or one message.
    ///
    /// # Errors
    /// `ENOTCONN`, `EAGAIN`, `ERESTARTSYS`, `ECONNRESET`.
    fn receive(&self, to: &mut IoWriter<'_>, flags: ReceiveFlags) -> Result<Received>;

    /// Shuts directions down.
    ///
    /// # Errors
    /// `ENOTCONN`.
    fn shutdown(&self, how: Shutdown) -> Result<()>;

    /// Its own name (getsockname(2)).
    fn name(&self) -> Address;

    /// The other end's name (getpeername(2)).
    ///
    /// # Errors
    /// `ENOTCONN`.
    fn peer_name(&self) -> Result<Address>;

    /// Who is at the other end (`SO_PEERCRED`).
    fn peer(&self) -> Peer {
        Peer::NOBODY
    }

    /// The credentials of who is at the other end (`SO_PEERGROUPS`).
    fn peer_credentials(&self) -> Option<Arc<Credentials>> {
        None
    }

    /// Whether it listens (`SO_ACCEPTCONN`).
    fn is_listening(&self) -> bool;

    /// Takes the pending error (`SO_ERROR`).
    fn take_error(&self) -> Option<Errno> {
        None
    }

    /// Leaves an error for the next call that looks for one.
    fn set_error(&self, errno: Errno) {
        let _ = errno;
    }

    /// The protocol (`SO_PROTOCOL`).
    fn protocol(&self) -> u32 {
        0
    }

    /// An option of level `SOL_SOCKET` was set: its number.
    fn option_changed(&self, name: u32) {
        let _ = name;
    }

    /// Sets an option of another level than `SOL_SOCKET`.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for one that it does not have, `EINVAL` for a value that cannot be, and those of the option.
    fn set_option(
        &self,
        level: u32,
        name: u32,
        value: &[u8],
        credentials: &Credentials,
    ) -> Result<()> {
        let _ = (level, name, value, credentials);
        Err(Errno::ENOPROTOOPT)
    }

    /// Puts an option of another level than `SOL_SOCKET` into `to`; how many bytes it has.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for one that it does not have.
    fn option(&self, level: u32, name: u32, to: &mut [u8; OPTION_MAX]) -> Result<usize> {
        let _ = (level, name, to);
        Err(Errno::ENOPROTOOPT)
    }

    /// The network that it belongs to.
    fn namespace(&self) -> Option<Network> {
        None
    }

    /// Bytes that can be read now (FIONREAD).
    ///
    /// # Errors
    /// `EINVAL` for one that listens.
    fn available(&self) -> Result<usize>;

    /// Bytes that were sent and not received (SIOCOUTQ), as they are charged.
    fn unsent(&self) -> usize {
        0
    }

    /// What is ready; see [`fs::FileOps::poll`].
    fn poll(&self, table: Option<&mut PollTable>) -> Events;
}

impl core::fmt::Debug for dyn Socket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "Socket(family {}, {:?})",
            self.family(),
            self.socket_type()
        )
    }
}

/// A new socket (socket(2)).
///
/// # Errors
/// `EAFNOSUPPORT`, `EPROTONOSUPPORT`, `ESOCKTNOSUPPORT`, `ENODEV` without a vsock device.
pub fn create(
    family: u32,
    kind: SocketType,
    protocol: u32,
    owner: Owner,
    namespace: &Network,
) -> Result<Arc<dyn Socket>> {
    match family {
        raw::AF_UNIX if protocol == 0 || protocol == raw::AF_UNIX => {
            Ok(unix::UnixSocket::new(kind, owner, namespace.clone())?)
        }
        raw::AF_VSOCK if protocol == 0 => match kind {
            SocketType::Stream => Ok(vsock::VsockSocket::new()?),
            SocketType::Datagram | SocketType::SeqPacket => Err(Errno::ESOCKTNOSUPPORT),
        },
        raw::AF_UNIX | raw::AF_VSOCK => Err(Errno::EPROTONOSUPPORT),
        raw::AF_INET | raw::AF_INET6 => inet::socket::create(
            family == raw::AF_INET6,
            kind,
            protocol,
            &owner,
            &namespace.get()?,
        ),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// Two connected sockets (socketpair(2)).
///
/// # Errors
/// As [`create`]; `EOPNOTSUPP` for families that have no pairs.
pub fn create_pair(
    family: u32,
    kind: SocketType,
    protocol: u32,
    owner: Owner,
    namespace: &Network,
) -> Result<(Arc<dyn Socket>, Arc<dyn Socket>)> {
    match family {
        raw::AF_UNIX if protocol == 0 || protocol == raw::AF_UNIX => {
            let (one, other) = unix::UnixSocket::pair(kind, owner, namespace)?;
            Ok((one, other))
        }
        raw::AF_UNIX => Err(Errno::EPROTONOSUPPORT),
        raw::AF_VSOCK | raw::AF_INET | raw::AF_INET6 => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}
