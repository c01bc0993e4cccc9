//! Locks that a remote file system's server gives, so that they also exclude whoever uses its files elsewhere.
//!
//! The server decides; the inode notes who has some, for what exit, exec and close have to give up. Waiting is asking again,
//! less and less often, as NFS does: a request that waits at the server would hold a place in its queue and could not
//! be interrupted. So nobody finds deadlocks between such locks, either.

use abi::{Errno, Result};

use super::{FileLock, InodeLocks, LockFamily};

/// First and longest pause between two questions.
const PAUSE_NS: u64 = 2_000_000;
const LONGEST_PAUSE_NS: u64 = 200_000_000;

/// A file whose locks its server gives.
pub trait RemoteLocks: Send + Sync {
    /// Takes a lock, in place of what the owner has of those bytes, without waiting.
    ///
    /// # Errors
    /// `EAGAIN` when another owner holds a conflicting one, and what the server answers.
    fn try_set(&self, family: LockFamily, wanted: &FileLock) -> Result<()>;

    /// Gives up what the owner of `range` has of its bytes.
    ///
    /// # Errors
    /// What the server answers.
    fn unlock(&self, family: LockFamily, range: &FileLock) -> Result<()>;

    /// The first record lock that keeps `wanted` from being taken (`F_GETLK`).
    ///
    /// # Errors
    /// What the server answers.
    fn conflict(&self, wanted: &FileLock) -> Result<Option<FileLock>>;
}

pub(super) fn acquire(
    remote: &dyn RemoteLocks,
    locks: &InodeLocks,
    family: LockFamily,
    wanted: &FileLock,
    wait: bool,
) -> Result<()> {
    // The note first: it takes memory, and one of a lock that is not given costs a useless request in the end.
    locks.note(family, wanted.owner)?;
    let mut pause_ns = PAUSE_NS;
    loop {
        match remote.try_set(family, wanted) {
            Err(Errno::EAGAIN | Errno::EACCES) if wait => {}
            Err(Errno::EACCES) => return Err(Errno::EAGAIN),
            result => return result,
        }
        let nothing = sched::WaitQueue::new();
        let deadline = sched::clock::monotonic_ns().saturating_add(pause_ns);
        match nothing.wait_interruptible_deadline(Some(deadline), || None::<()>) {
            Ok(()) | Err(Errno::ETIMEDOUT) => {}
            Err(errno) => return Err(errno),
        }
        pause_ns = (pause_ns * 2).min(LONGEST_PAUSE_NS);
    }
}
