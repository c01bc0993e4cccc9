//! Socket options that every family has (socket(7), level `SOL_SOCKET`).

use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use abi::Errno;

/// Send and receive buffer sizes unless set (`net.core.wmem_default`), and the most that may be asked for
/// without privilege (`net.core.wmem_max`).
const DEFAULT_BUFFER: u32 = 212_992;
const LARGEST_ASKED: u32 = 212_992;
/// The same of TCP (`net.ipv4.tcp_rmem`, `net.ipv4.tcp_wmem`), whose buffers grow by themselves until a size is set.
const DEFAULT_TCP_RECEIVE: u32 = 131_072;
const DEFAULT_TCP_SEND: u32 = 16_384;
/// Linux's `SOCK_MIN_RCVBUF` and `SOCK_MIN_SNDBUF`.
const SMALLEST_RECEIVE: u32 = 2304;
const SMALLEST_SEND: u32 = 4608;
/// What a privileged caller may ask for: twice this is the largest size.
const LARGEST_FORCED: u32 = i32::MAX.unsigned_abs() / 2;

bitflags::bitflags! {
    /// Options that are on or off. `PASSCRED` has an effect on unix sockets, `KEEPALIVE`, `REUSEADDR`, `REUSEPORT` and
    /// `BROADCAST` on internet sockets; the others are remembered.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Switches: u32 {
        /// `SO_DEBUG`.
        const DEBUG = 1 << 0;
        /// `SO_REUSEADDR`.
        const REUSEADDR = 1 << 1;
        /// `SO_DONTROUTE`.
        const DONTROUTE = 1 << 2;
        /// `SO_BROADCAST`.
        const BROADCAST = 1 << 3;
        /// `SO_KEEPALIVE`.
        const KEEPALIVE = 1 << 4;
        /// `SO_OOBINLINE`.
        const OOBINLINE = 1 << 5;
        /// `SO_NO_CHECK`.
        const NO_CHECK = 1 << 6;
        /// `SO_REUSEPORT`.
        const REUSEPORT = 1 << 7;
        /// `SO_PASSCRED`: received messages say who sent them.
        const PASSCRED = 1 << 8;
        /// `SO_TIMESTAMP`.
        const TIMESTAMP = 1 << 9;
        /// `SO_TIMESTAMPNS`.
        const TIMESTAMPNS = 1 << 10;
        /// `SO_PASSSEC`.
        const PASSSEC = 1 << 11;
        /// `SO_RXQ_OVFL`.
        const RXQ_OVFL = 1 << 12;
        /// `SO_WIFI_STATUS`.
        const WIFI_STATUS = 1 << 13;
        /// `SO_SELECT_ERR_QUEUE`.
        const SELECT_ERR_QUEUE = 1 << 14;
    }
}

/// Options of one socket.
#[derive(Debug)]
pub struct Options {
    /// `SO_RCVTIMEO` in nanoseconds, 0 for none.
    receive_timeout_ns: AtomicU64,
    /// `SO_SNDTIMEO` in nanoseconds, 0 for none.
    send_timeout_ns: AtomicU64,
    receive_buffer: AtomicU32,
    send_buffer: AtomicU32,
    switches: AtomicU32,
    /// `SO_RCVLOWAT`.
    receive_low_water: AtomicU32,
    /// `SO_PRIORITY`, which no family here acts on.
    pub priority: AtomicI32,
    /// `SO_MARK`, likewise.
    pub mark: AtomicU32,
    /// `SO_LINGER`: on, and seconds. Nobody waits in close(2); with no seconds a TCP connection is reset by it.
    linger: AtomicU64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            receive_timeout_ns: AtomicU64::new(0),
            send_timeout_ns: AtomicU64::new(0),
            receive_buffer: AtomicU32::new(DEFAULT_BUFFER),
            send_buffer: AtomicU32::new(DEFAULT_BUFFER),
            switches: AtomicU32::new(0),
            receive_low_water: AtomicU32::new(1),
            priority: AtomicI32::new(0),
            mark: AtomicU32::new(0),
            linger: AtomicU64::new(0),
        }
    }
}

impl Options {
    /// Those of a new TCP socket.
    pub(crate) fn of_tcp() -> Options {
        Options {
            receive_buffer: AtomicU32::new(DEFAULT_TCP_RECEIVE),
            send_buffer: AtomicU32::new(DEFAULT_TCP_SEND),
            ..Options::default()
        }
    }

    /// What an accepted connection has of the socket that listens: all.
    pub(crate) fn copied(&self) -> Options {
        let copy = |from: &AtomicU32| AtomicU32::new(from.load(Ordering::Relaxed));
        Options {
            receive_timeout_ns: AtomicU64::new(self.receive_timeout_ns()),
            send_timeout_ns: AtomicU64::new(self.send_timeout_ns()),
            receive_buffer: copy(&self.receive_buffer),
            send_buffer: copy(&self.send_buffer),
            switches: copy(&self.switches),
            receive_low_water: copy(&self.receive_low_water),
            priority: AtomicI32::new(self.priority.load(Ordering::Relaxed)),
            mark: copy(&self.mark),
            linger: AtomicU64::new(self.linger.load(Ordering::Relaxed)),
        }
    }

    /// The receive time-out in nanoseconds, 0 for none.
    #[must_use]
    pub fn receive_timeout_ns(&self) -> u64 {
        self.receive_timeout_ns.load(Ordering::Relaxed)
    }

    /// The send time-out in nanoseconds, 0 for none.
    #[must_use]
    pub fn send_timeout_ns(&self) -> u64 {
        self.send_timeout_ns.load(Ordering::Relaxed)
    }

    /// Sets the receive time-out; 0 for none.
    pub fn set_receive_timeout_ns(&self, timeout_ns: u64) {
        self.receive_timeout_ns.store(timeout_ns, Ordering::Relaxed);
    }

    /// Sets the send time-out; 0 for none.
    pub fn set_send_timeout_ns(&self, timeout_ns: u64) {
        self.send_timeout_ns.store(timeout_ns, Ordering::Relaxed);
    }

    /// When a receive that starts now must end.
    #[must_use]
    pub fn receive_deadline(&self) -> Option<u64> {
        deadline(self.receive_timeout_ns())
    }

    /// When a send that starts now must end.
    #[must_use]
    pub fn send_deadline(&self) -> Option<u64> {
        deadline(self.send_timeout_ns())
    }

    /// Seconds of `SO_LINGER`, when it is on.
    #[must_use]
    pub fn linger(&self) -> Option<u32> {
        let packed = self.linger.load(Ordering::Relaxed);
        let seconds = u32::try_from(packed >> 1).unwrap_or(u32::MAX);
        (packed & 1 == 1).then_some(seconds)
    }

    /// Sets or ends `SO_LINGER`.
    pub fn set_linger(&self, seconds: Option<u32>) {
        let packed = seconds.map_or(0, |seconds| u64::from(seconds) << 1 | 1);
        self.linger.store(packed, Ordering::Relaxed);
    }

    /// Size of the receive buffer in bytes.
    #[must_use]
    pub fn receive_buffer(&self) -> u32 {
        self.receive_buffer.load(Ordering::Relaxed)
    }

    /// Size of the send buffer in bytes.
    #[must_use]
    pub fn send_buffer(&self) -> u32 {
        self.send_buffer.load(Ordering::Relaxed)
    }

    /// Sets the receive buffer; as Linux does, to twice of what was asked for.
    pub fn set_receive_buffer(&self, asked: u32) {
        let size = asked.min(LARGEST_ASKED) * 2;
        self.receive_buffer
            .store(size.max(SMALLEST_RECEIVE), Ordering::Relaxed);
    }

    /// Sets the send buffer; as Linux does, to twice of what was asked for.
    pub fn set_send_buffer(&self, asked: u32) {
        let size = asked.min(LARGEST_ASKED) * 2;
        self.send_buffer
            .store(size.max(SMALLEST_SEND), Ordering::Relaxed);
    }

    /// `SO_RCVBUFFORCE`, for a caller with `CAP_NET_ADMIN`.
    pub fn force_receive_buffer(&self, asked: i32) {
        let size = u32::try_from(asked).unwrap_or(0).min(LARGEST_FORCED) * 2;
        self.receive_buffer
            .store(size.max(SMALLEST_RECEIVE), Ordering::Relaxed);
    }

    /// `SO_SNDBUFFORCE`, for a caller with `CAP_NET_ADMIN`.
    pub fn force_send_buffer(&self, asked: i32) {
        let size = u32::try_from(asked).unwrap_or(0).min(LARGEST_FORCED) * 2;
        self.send_buffer
            .store(size.max(SMALLEST_SEND), Ordering::Relaxed);
    }

    /// Whether an option is on.
    #[must_use]
    pub fn has(&self, switch: Switches) -> bool {
        self.switches.load(Ordering::Relaxed) & switch.bits() != 0
    }

    /// Turns an option on or off.
    pub fn set(&self, switch: Switches, is_on: bool) {
        if is_on {
            self.switches.fetch_or(switch.bits(), Ordering::Relaxed);
        } else {
            self.switches.fetch_and(!switch.bits(), Ordering::Relaxed);
        }
    }

    /// `SO_PASSCRED`.
    #[must_use]
    pub fn passes_credentials(&self) -> bool {
        self.has(Switches::PASSCRED)
    }

    /// What an accepted unix socket has of the one that listens.
    pub(crate) fn inherit(&self, listener: &Options) {
        for switch in [Switches::PASSCRED, Switches::PASSSEC] {
            self.set(switch, listener.has(switch));
        }
    }

    /// `SO_RCVLOWAT`.
    #[must_use]
    pub fn receive_low_water(&self) -> u32 {
        self.receive_low_water.load(Ordering::Relaxed)
    }

    /// Sets `SO_RCVLOWAT`; a negative number is the largest one.
    pub fn set_receive_low_water(&self, bytes: i32) {
        let bytes = u32::try_from(bytes).unwrap_or(i32::MAX.unsigned_abs());
        self.receive_low_water
            .store(bytes.max(1), Ordering::Relaxed);
    }

    /// Bytes that a receive of `len` waits for (`sock_rcvlowat`); at least 1.
    pub(crate) fn low_water(&self, wants_all: bool, len: usize) -> usize {
        let least = if wants_all {
            len
        } else {
            len.min(self.receive_low_water() as usize)
        };
        least.max(1)
    }
}

fn deadline(timeout_ns: u64) -> Option<u64> {
    (timeout_ns > 0).then(|| sched::clock::monotonic_ns().saturating_add(timeout_ns))
}

/// The error of a wait that may have had a deadline (`sock_intr_errno`): `EAGAIN` when it has passed; a
/// signal is `EINTR` then, since a restart would begin the time anew.
pub(crate) fn end_of_wait(errno: Errno, deadline: Option<u64>) -> Errno {
    match errno {
        Errno::ETIMEDOUT => Errno::EAGAIN,
        Errno::ERESTARTSYS if deadline.is_some() => Errno::EINTR,
        other => other,
    }
}
