//! The numbers that threads go by: what user programs call them, and which of its process's threads one is.

/// What a PID namespace calls a [`Pid`](super::pid::Pid). Positive, except where a system call gives other numbers a
/// meaning.
pub type PidNumber = i32;

/// One more than the highest [`PidNumber`].
pub const PID_MAX: PidNumber = 32768;

/// Which thread of its process one is: unlike its id, it stays the same, and is never another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place(pub(crate) u64);
