//! How a system call that a signal interrupted goes on: when it is made again, and what restart_syscall(2) needs of those
//! that count time.

use abi::Errno;
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

/// A system call that a signal interrupted and that wants to be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted {
    /// Which of the restart codes it returned.
    pub kind: Restart,
    /// Its number, to put back.
    pub number: u64,
}

/// When an interrupted call is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Unless a handler without SA_RESTART runs (`ERESTARTSYS`).
    UnlessHandlerRefuses,
    /// Always (`ERESTARTNOINTR`).
    Always,
    /// Only when no handler runs (`ERESTARTNOHAND`).
    WithoutHandler,
    /// Only when no handler runs, and through restart_syscall(2) (`ERESTART_RESTARTBLOCK`).
    Block,
}

impl Interrupted {
    /// The restart that `errno` asks for, if it is one of the kernel's own codes.
    #[must_use]
    pub fn from_errno(errno: Errno, number: u64) -> Option<Self> {
        let kind = match errno {
            Errno::ERESTARTSYS => Restart::UnlessHandlerRefuses,
            Errno::ERESTARTNOINTR => Restart::Always,
            Errno::ERESTARTNOHAND => Restart::WithoutHandler,
            Errno::ERESTART_RESTARTBLOCK => Restart::Block,
            _ => return None,
        };
        Some(Self { kind, number })
    }

    /// As [`Self::from_errno`], from what a tracer has left in the registers: the number of the call in `orig_rax`,
    /// negative for none, and its result.
    #[must_use]
    pub fn from_registers(orig_rax: u64, rax: u64) -> Option<Self> {
        if orig_rax.cast_signed() < 0 {
            return None;
        }
        let errno = u16::try_from(rax.wrapping_neg()).ok()?;
        Self::from_errno(Errno::from_raw(errno)?, orig_rax)
    }
}
