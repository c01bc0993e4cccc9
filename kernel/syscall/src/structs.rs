//! Structures of the ABI that several families read or write.

use abi::{Errno, Result};
use machine::UserAddr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub(crate) const NS_PER_S: u64 = 1_000_000_000;
pub(crate) const NS_PER_US: u64 = 1_000;

/// `struct timespec`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub(crate) struct Timespec {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: i64,
}

impl Timespec {
    /// From nanoseconds.
    pub(crate) fn from_ns(ns: u64) -> Self {
        Self {
            seconds: (ns / NS_PER_S).cast_signed(),
            nanoseconds: (ns % NS_PER_S).cast_signed(),
        }
    }

    /// In nanoseconds; a time too far off to count is the farthest there is.
    ///
    /// # Errors
    /// `EINVAL` when negative or not normalised.
    pub(crate) fn to_ns(self) -> Result<u64> {
        let seconds = u64::try_from(self.seconds).map_err(|_| Errno::EINVAL)?;
        match u64::try_from(self.nanoseconds) {
            Ok(ns) if ns < NS_PER_S => Ok(seconds.saturating_mul(NS_PER_S).saturating_add(ns)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Reads one from user memory, in nanoseconds.
    pub(crate) fn read_ns(addr: UserAddr) -> Result<u64> {
        memory::user::read::<Timespec>(addr)?.to_ns()
    }

    /// The deadline on the monotonic clock for a relative timeout that may be absent.
    pub(crate) fn read_deadline(addr: Option<UserAddr>) -> Result<Option<u64>> {
        addr.map(|addr| Ok(deadline_after(Self::read_ns(addr)?)))
            .transpose()
    }
}

/// When the monotonic clock will show `ns` from now.
pub(crate) fn deadline_after(ns: u64) -> u64 {
    sched::clock::monotonic_ns().saturating_add(ns)
}

/// `struct timeval`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub(crate) struct Timeval {
    pub(crate) seconds: i64,
    pub(crate) microseconds: i64,
}

impl Timeval {
    /// From nanoseconds, rounded down.
    pub(crate) fn from_ns(ns: u64) -> Self {
        Self {
            seconds: (ns / NS_PER_S).cast_signed(),
            microseconds: (ns % NS_PER_S / NS_PER_US).cast_signed(),
        }
    }

    /// In nanoseconds.
    ///
    /// # Errors
    /// `EINVAL` when negative or not normalised.
    pub(crate) fn to_ns(self) -> Result<u64> {
        if !(0..1_000_000).contains(&self.microseconds) {
            return Err(Errno::EINVAL);
        }
        let time = Timespec {
            seconds: self.seconds,
            nanoseconds: self.microseconds * 1000,
        };
        time.to_ns()
    }
}

/// `struct rusage`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Rusage {
    user: Timeval,
    system: Timeval,
    max_resident_kib: u64,
    unused: [u64; 3],
    minor_faults: u64,
    major_faults: u64,
    swaps: u64,
    blocks_in: u64,
    blocks_out: u64,
    messages: [u64; 2],
    signals: u64,
    voluntary_switches: u64,
    involuntary_switches: u64,
}

impl From<process::usage::Usage> for Rusage {
    fn from(usage: process::usage::Usage) -> Self {
        Self {
            user: Timeval::from_ns(usage.user_ns),
            system: Timeval::from_ns(usage.system_ns),
            max_resident_kib: usage.max_resident >> 10,
            minor_faults: usage.minor_faults,
            major_faults: usage.major_faults,
            voluntary_switches: usage.voluntary_switches,
            involuntary_switches: usage.involuntary_switches,
            ..Self::default()
        }
    }
}

/// Reads a `sigset_t` whose size the caller states.
///
/// # Errors
/// `EINVAL` for a wrong size, `EFAULT`.
pub(crate) fn read_sigset(addr: UserAddr, size: usize) -> Result<process::signal::SignalSet> {
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    Ok(process::signal::SignalSet(memory::user::read(addr)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_checked_and_never_overflow() {
        let time = |seconds, nanoseconds| Timespec {
            seconds,
            nanoseconds,
        };
        assert_eq!(time(1, 5).to_ns(), Ok(1_000_000_005));
        assert_eq!(time(i64::MAX, 0).to_ns(), Ok(u64::MAX));
        assert_eq!(time(-1, 0).to_ns(), Err(Errno::EINVAL));
        assert_eq!(time(0, 1_000_000_000).to_ns(), Err(Errno::EINVAL));
        assert_eq!(Timespec::from_ns(1_000_000_005), time(1, 5));
    }

    #[test]
    fn rusage_has_linux_size() {
        assert_eq!(size_of::<Rusage>(), 144);
    }
}
