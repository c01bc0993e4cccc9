//! Resource limits (getrlimit(2)). A process's sixteen pairs; who enforces which stands at [`Resource`].

use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use machine::sync::SpinLock;

use crate::task::numbers::PID_MAX;

/// No limit.
pub const INFINITY: u64 = u64::MAX;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// CPU time in seconds: SIGXCPU, then SIGKILL, on the way to user mode.
    Cpu = 0,
    /// File size in bytes: SIGXFSZ and `EFBIG` on write.
    FileSize = 1,
    /// brk and private data.
    Data = 2,
    /// Stack growth, and the size of exec's arguments.
    Stack = 3,
    /// Core dumps, which are never written.
    Core = 4,
    /// Not enforced by Linux either.
    ResidentSet = 5,
    /// Processes of a user: `EAGAIN` on clone.
    Processes = 6,
    /// Descriptors: `EMFILE`.
    OpenFiles = 7,
    /// Locked memory; mlock(2).
    LockedMemory = 8,
    /// Address space in bytes: `ENOMEM`.
    AddressSpace = 9,
    /// Not enforced by Linux either.
    Locks = 10,
    /// Queued signals: `EAGAIN` on sigqueue.
    PendingSignals = 11,
    /// POSIX message queues, which are not there.
    MessageQueue = 12,
    /// Ceiling of nice.
    Nice = 13,
    /// Ceiling of realtime priority.
    RealtimePriority = 14,
    /// Realtime run time.
    RealtimeTime = 15,
}

const RESOURCES: [Resource; 16] = [
    Resource::Cpu,
    Resource::FileSize,
    Resource::Data,
    Resource::Stack,
    Resource::Core,
    Resource::ResidentSet,
    Resource::Processes,
    Resource::OpenFiles,
    Resource::LockedMemory,
    Resource::AddressSpace,
    Resource::Locks,
    Resource::PendingSignals,
    Resource::MessageQueue,
    Resource::Nice,
    Resource::RealtimePriority,
    Resource::RealtimeTime,
];

impl Resource {
    /// The resource that user space calls `number`.
    ///
    /// # Errors
    /// `EINVAL` for an unknown one.
    pub fn new(number: u32) -> Result<Self> {
        usize::try_from(number)
            .ok()
            .and_then(|index| RESOURCES.get(index))
            .copied()
            .ok_or(Errno::EINVAL)
    }
}

/// /proc/sys/kernel/threads-max, when it was set.
static THREADS_MAX: AtomicU64 = AtomicU64::new(0);

/// The most threads that there may be: as on Linux, as many as take an eighth of memory for a 16 KiB stack
/// each, so that even root cannot fill memory with them. What is left is for what they do.
#[must_use]
pub fn threads_max() -> u64 {
    const STACK: u64 = 16 << 10;
    const LEAST: u64 = 20;
    let set = THREADS_MAX.load(Ordering::Relaxed);
    if set != 0 {
        return set;
    }
    let memory = machine::frame::total() as u64 * machine::PAGE_SIZE as u64;
    (memory / (8 * STACK)).clamp(LEAST, u64::from(PID_MAX.unsigned_abs()))
}

/// Sets the most threads that there may be.
///
/// # Errors
/// `EINVAL` when that are too few, or more than there are ids.
pub fn set_threads_max(count: u64) -> Result<()> {
    const LEAST: u64 = 20;
    if !(LEAST..=u64::from(PID_MAX.unsigned_abs())).contains(&count) {
        return Err(Errno::EINVAL);
    }
    THREADS_MAX.store(count, Ordering::Relaxed);
    Ok(())
}

/// A soft limit that is enforced and a hard one up to which it can be raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Enforced.
    pub soft: u64,
    /// Ceiling of `soft`.
    pub hard: u64,
}

impl Limit {
    /// Both the same.
    #[must_use]
    pub const fn both(value: u64) -> Self {
        Self {
            soft: value,
            hard: value,
        }
    }
}

/// The limits of one process.
#[derive(Debug)]
pub struct Limits {
    all: SpinLock<[Limit; 16]>,
    /// The soft ones again, to be read without the lock; changed with it.
    soft: [AtomicU64; 16],
}

impl Default for Limits {
    /// What Linux gives its first process.
    fn default() -> Self {
        let mut limits = [Limit::both(INFINITY); 16];
        limits[Resource::Stack as usize].soft = 8 << 20;
        limits[Resource::Core as usize].soft = 0;
        limits[Resource::OpenFiles as usize] = Limit {
            soft: 1024,
            hard: 4096,
        };
        limits[Resource::LockedMemory as usize] = Limit::both(8 << 20);
        limits[Resource::Processes as usize] = Limit::both(threads_max() / 2);
        limits[Resource::PendingSignals as usize] = Limit::both(threads_max() / 2);
        limits[Resource::MessageQueue as usize] = Limit::both(819_200);
        limits[Resource::Nice as usize] = Limit::both(0);
        limits[Resource::RealtimePriority as usize] = Limit::both(0);
        Self::of(limits)
    }
}

impl Limits {
    fn of(limits: [Limit; 16]) -> Self {
        Self {
            soft: limits.map(|limit| AtomicU64::new(limit.soft)),
            all: SpinLock::new(limits),
        }
    }

    /// One limit.
    #[must_use]
    pub fn get(&self, resource: Resource) -> Limit {
        self.all.lock()[resource as usize]
    }

    /// The soft limit of `resource`.
    #[must_use]
    pub fn soft(&self, resource: Resource) -> u64 {
        self.soft[resource as usize].load(Ordering::Relaxed)
    }

    /// Replaces a limit; the one before. `may_raise`: whether the hard limit may grow
    /// (CAP_SYS_RESOURCE).
    ///
    /// # Errors
    /// `EINVAL` when soft is above hard, `EPERM` when hard would grow without `may_raise`.
    pub fn set(&self, resource: Resource, new: Limit, may_raise: bool) -> Result<Limit> {
        /// The most descriptors a process can have (`nr_open`).
        const OPEN_FILES_MAX: u64 = 1 << 20;
        if new.soft > new.hard {
            return Err(Errno::EINVAL);
        }
        if resource == Resource::OpenFiles && new.hard > OPEN_FILES_MAX {
            return Err(Errno::EPERM);
        }
        let mut limits = self.all.lock();
        let slot = &mut limits[resource as usize];
        if new.hard > slot.hard && !may_raise {
            return Err(Errno::EPERM);
        }
        self.soft[resource as usize].store(new.soft, Ordering::Relaxed);
        Ok(core::mem::replace(slot, new))
    }

    /// Replaces a limit if it is still `old`; whether it was.
    #[must_use]
    pub(crate) fn replace_if(&self, resource: Resource, old: Limit, new: Limit) -> bool {
        let mut limits = self.all.lock();
        let slot = &mut limits[resource as usize];
        let is_old = *slot == old;
        if is_old {
            self.soft[resource as usize].store(new.soft, Ordering::Relaxed);
            *slot = new;
        }
        is_old
    }

    /// A copy for a child.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self::of(*self.all.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_privileged_raise_the_hard_limit() {
        let limits = Limits::default();
        let more = Limit::both(5000);
        assert_eq!(
            limits.set(Resource::OpenFiles, more, false),
            Err(Errno::EPERM)
        );
        assert!(limits.set(Resource::OpenFiles, more, true).is_ok());
        assert_eq!(limits.soft(Resource::OpenFiles), 5000);
        let crossed = Limit { soft: 2, hard: 1 };
        assert_eq!(limits.set(Resource::Cpu, crossed, true), Err(Errno::EINVAL));
    }
}
