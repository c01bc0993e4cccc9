//! Socket options that every family has (socket(7), level `SOL_SOCKET`).

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Send and receive buffer sizes that are reported unless set.
const DEFAULT_BUFFER: u32 = 212_992;
const SMALLEST_BUFFER: u32 = 2304;
const LARGEST_BUFFER: u32 = 1 << 22;

/// Options of one socket.
#[derive(Debug)]
pub struct Options {
    /// `SO_RCVTIMEO` in nanoseconds, 0 for none.
    receive_timeout_ns: AtomicU64,
    /// `SO_SNDTIMEO` in nanoseconds, 0 for none.
    send_timeout_ns: AtomicU64,
    receive_buffer: AtomicU32,
    send_buffer: AtomicU32,
    /// `SO_PASSCRED`: received messages say who sent them.
    pub pass_credentials: AtomicBool,
    /// `SO_REUSEADDR`, which has no effect on the families there are.
    pub reuse_address: AtomicBool,
    /// `SO_KEEPALIVE`, likewise.
    pub keep_alive: AtomicBool,
    /// `SO_BROADCAST`, likewise.
    pub broadcast: AtomicBool,
    /// `SO_LINGER`: no family here keeps anything back when it is closed. On, and seconds.
    linger: AtomicU64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            receive_timeout_ns: AtomicU64::new(0),
            send_timeout_ns: AtomicU64::new(0),
            receive_buffer: AtomicU32::new(DEFAULT_BUFFER),
            send_buffer: AtomicU32::new(DEFAULT_BUFFER),
            pass_credentials: AtomicBool::new(false),
            reuse_address: AtomicBool::new(false),
            keep_alive: AtomicBool::new(false),
            broadcast: AtomicBool::new(false),
            linger: AtomicU64::new(0),
        }
    }
}

impl Options {
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
        self.receive_buffer.store(doubled(asked), Ordering::Relaxed);
    }

    /// Sets the send buffer; as Linux does, to twice of what was asked for.
    pub fn set_send_buffer(&self, asked: u32) {
        self.send_buffer.store(doubled(asked), Ordering::Relaxed);
    }
}

fn doubled(asked: u32) -> u32 {
    asked
        .saturating_mul(2)
        .clamp(SMALLEST_BUFFER, LARGEST_BUFFER)
}

fn deadline(timeout_ns: u64) -> Option<u64> {
    (timeout_ns > 0).then(|| sched::clock::monotonic_ns().saturating_add(timeout_ns))
}
