//! Where an interrupted call that counts time goes on: what restart_syscall(2) needs.

use machine::UserAddr;

/// A call to go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartBlock {
    /// nanosleep(2) and relative clock_nanosleep(2).
    Sleep {
        /// When it ends, on the monotonic clock.
        deadline_ns: u64,
        /// Where to put what is left when interrupted again.
        remaining: Option<UserAddr>,
    },
    /// poll(2).
    Poll {
        /// The array.
        fds: UserAddr,
        /// Its length.
        count: u32,
        /// When it ends, on the monotonic clock; `None` for never.
        deadline_ns: Option<u64>,
    },
    /// futex(2) FUTEX_WAIT and FUTEX_WAIT_BITSET.
    Futex {
        /// The word.
        addr: UserAddr,
        /// What it must hold.
        expected: u32,
        /// Which wakers count.
        bitset: u32,
        /// Whether other processes can be meant.
        shared: bool,
        /// When it ends, on the monotonic clock.
        deadline_ns: Option<u64>,
    },
}
