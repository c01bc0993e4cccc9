//! File locks: flock(2), and fcntl(2)'s record and open-file-description locks, all advisory.
//!
//! They live in the inode's body ([`InodeLocks`]), so that no call looks at other files' locks. An flock and an OFD
//! lock belong to an open file description, a record lock to a descriptor table, whichever processes share it:
//! that is what Linux calls `fl_owner`, and why exit, exec and close find what to give up. Where a server gives the
//! locks ([`RemoteLocks`]), it is asked.
//!
//! Locking: one spin lock a file, then the list of who waits for whom; threads are woken with both released.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use collections::try_box;
use machine::sync::SpinLock;

use crate::file::File;

mod deadlock;
mod ranges;
mod remote;
mod waiting;

use deadlock::Blocked;
pub use remote::RemoteLocks;
use waiting::{Family, Granted, Waiter};

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockOwner {
    /// An open file description, by [`File::lock_id`] (flock(2), `F_OFD_SETLK`).
    Description(u64),
    /// A descriptor table, by [`crate::FdTable::lock_id`] (`F_SETLK`).
    Table(u64),
}

/// Shared or exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// `LOCK_SH`, `F_RDLCK`.
    Shared,
    /// `LOCK_EX`, `F_WRLCK`.
    Exclusive,
}

/// The two families of locks do not see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockFamily {
    /// flock(2).
    Flock,
    /// fcntl(2).
    Record,
}

/// A lock on bytes `start..end` (`end` = `u64::MAX`: to the end of the file, however long it gets).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLock {
    /// Shared or exclusive.
    pub kind: LockKind,
    /// Whose.
    pub owner: LockOwner,
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// Number of the process that took it (`l_pid`).
    pub pid: u32,
}

impl FileLock {
    /// All bytes, of `owner`.
    #[must_use]
    pub const fn whole(kind: LockKind, owner: LockOwner, pid: u32) -> Self {
        Self {
            kind,
            owner,
            start: 0,
            end: u64::MAX,
            pid,
        }
    }
}

#[derive(Debug, Default)]
struct Families {
    flock: Family,
    record: Family,
}

impl Families {
    fn family(&mut self, which: LockFamily) -> &mut Family {
        match which {
            LockFamily::Flock => &mut self.flock,
            LockFamily::Record => &mut self.record,
        }
    }
}

/// The locks of one inode.
#[derive(Debug, Default)]
pub struct InodeLocks {
    /// Any was ever taken: most files are closed without a look at the rest.
    is_used: AtomicBool,
    families: SpinLock<Option<Box<Families>>>,
}

impl InodeLocks {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            is_used: AtomicBool::new(false),
            families: SpinLock::new(None),
        }
    }

    fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Acquire)
    }

    /// Does `act` on a family, if there are any locks.
    fn with<R>(&self, which: LockFamily, act: impl FnOnce(&mut Family) -> R) -> Option<R> {
        let mut families = self.families.lock();
        let result = act(families.as_mut()?.family(which));
        let is_unused = families
            .as_ref()
            .is_some_and(|all| all.flock.is_unused() && all.record.is_unused());
        let unused = if is_unused { families.take() } else { None };
        drop(families);
        drop(unused);
        Some(result)
    }

    /// As [`Self::with`], making room for locks first.
    fn with_room<R>(
        &self,
        which: LockFamily,
        act: impl FnOnce(&mut Family) -> Result<R>,
    ) -> Result<R> {
        self.is_used.store(true, Ordering::Release);
        let mut families = self.families.lock();
        if families.is_none() {
            let new = try_box(Families::default());
            *families = Some(new.map_err(|_| Errno::ENOLCK)?);
        }
        act(families.as_mut().ok_or(Errno::ENOLCK)?.family(which))
    }

    /// Whether `owner` has shared locks, or notes.
    fn has(&self, which: LockFamily, owner: LockOwner) -> bool {
        self.with(which, |family| family.ranges.is_sharer(owner))
            .unwrap_or(false)
    }

    /// Notes that `owner` may have locks from a server, as a shared one, which conflicts with no other note.
    fn note(&self, which: LockFamily, owner: LockOwner) -> Result<()> {
        let note = FileLock::whole(LockKind::Shared, owner, 0);
        self.with_room(which, |family| {
            family.ranges.set(&note).map_err(|_| Errno::ENOLCK)
        })
    }

    /// The first lock that keeps `wanted` from being taken (`F_GETLK`).
    fn conflict(&self, which: LockFamily, wanted: &FileLock) -> Option<FileLock> {
        self.with(which, |family| family.ranges.conflict(wanted))?
    }

    /// Sets `wanted`, or says what is in the way.
    fn try_set(&self, which: LockFamily, wanted: &FileLock) -> Result<Option<FileLock>> {
        let (result, granted) = self.with_room(which, |family| {
            if let Some(conflict) = family.ranges.conflict(wanted) {
                return Ok((Ok(Some(conflict)), Granted::default()));
            }
            let set = family.ranges.set(wanted).map_err(|_| Errno::ENOLCK);
            // What was exclusive and is shared now lets others in.
            Ok((set.map(|()| None), family.grant(wanted)))
        })?;
        granted.wake();
        result
    }

    fn acquire(&self, which: LockFamily, wanted: &FileLock, wait: bool) -> Result<()> {
        memory::pressure::ensure_headroom()?;
        if self.try_set(which, wanted)?.is_none() {
            return Ok(());
        }
        if which == LockFamily::Flock {
            // flock(2) converts by giving up the old lock first.
            self.release(which, wanted)?;
        }
        if !wait {
            return match self.try_set(which, wanted)? {
                None => Ok(()),
                Some(_) => Err(Errno::EAGAIN),
            };
        }
        self.wait(which, wanted)
    }

    fn wait(&self, which: LockFamily, wanted: &FileLock) -> Result<()> {
        let lined_up = self.with_room(which, |family| match family.ranges.conflict(wanted) {
            Some(conflict) => {
                let waiter = Waiter::new(wanted, &conflict)?;
                family.add(&waiter).map(|()| Some(waiter))
            }
            // It was given up meanwhile.
            None => family
                .ranges
                .set(wanted)
                .map(|()| None)
                .map_err(|_| Errno::ENOLCK),
        });
        let Some(waiter) = lined_up? else {
            return Ok(());
        };
        let waited = Blocked::enter(&waiter).and_then(|blocked| {
            let waited = waiter.queue.wait_interruptible(|| waiter.result());
            drop(blocked);
            waited
        });
        match waited {
            Ok(result) => result,
            Err(errno) => {
                self.with(which, |family| family.remove(&waiter));
                // It may have been granted just now.
                waiter.result().unwrap_or(Err(errno))
            }
        }
    }

    /// Gives up what the owner of `range` holds of its bytes.
    fn release(&self, which: LockFamily, range: &FileLock) -> Result<()> {
        /// Ranges given up with the locks of the inode held.
        const STEP: usize = 64;
        loop {
            let released = self.with(which, |family| {
                let cut = family
                    .ranges
                    .cut_some(range.owner, range.start, range.end, STEP);
                (cut, family.grant(range))
            });
            let Some((cut, granted)) = released else {
                return Ok(());
            };
            granted.wake();
            if cut.map_err(|_| Errno::ENOLCK)? {
                return Ok(());
            }
            sched::cond_resched();
        }
    }
}

/// The first lock on `file` that keeps `wanted` from being taken (`F_GETLK`).
///
/// # Errors
/// As [`File::inode`], and what a server of remote locks answers.
pub fn find_conflict(
    file: &File,
    family: LockFamily,
    wanted: &FileLock,
) -> Result<Option<FileLock>> {
    match file.ops().remote_locks(family) {
        Some(remote) => remote.conflict(wanted),
        None => Ok(file.inode()?.body().locks.conflict(family, wanted)),
    }
}

/// Takes `wanted`, in place of what the owner holds of those bytes; waits for it when `wait`.
///
/// # Errors
/// `EAGAIN` when another owner holds a conflicting one, `EDEADLK` when waiting would never end, `ENOLCK` without
/// memory, `ERESTARTSYS` when interrupted.
pub fn acquire(file: &File, family: LockFamily, wanted: &FileLock, wait: bool) -> Result<()> {
    let locks = &file.inode()?.body().locks;
    match file.ops().remote_locks(family) {
        Some(server) => remote::acquire(server, locks, family, wanted, wait),
        None => locks.acquire(family, wanted, wait),
    }
}

/// Gives up what the owner of `range` holds of its bytes in its family.
///
/// # Errors
/// `ENOLCK` when a lock would fall in two and there is no memory.
pub fn release(file: &File, family: LockFamily, range: &FileLock) -> Result<()> {
    if let Some(server) = file.ops().remote_locks(family) {
        server.unlock(family, range)?;
    }
    file.inode()?.body().locks.release(family, range)
}

/// Gives up what belongs to a description that is closed for good.
pub(crate) fn release_description(file: &File) {
    release_all(file, &[LockFamily::Flock, LockFamily::Record], || {
        LockOwner::Description(file.lock_id())
    });
}

/// Gives up the record locks of a descriptor table on a file: a descriptor of it was closed (fcntl(2), "Record locks").
pub(crate) fn release_table(file: &File, table: u64) {
    release_all(file, &[LockFamily::Record], || LockOwner::Table(table));
}

fn release_all(file: &File, families: &[LockFamily], owner: impl FnOnce() -> LockOwner) {
    let Ok(inode) = file.inode() else { return };
    let locks = &inode.body().locks;
    if !locks.is_used() {
        return;
    }
    let owner = owner();
    let all = FileLock::whole(LockKind::Shared, owner, 0);
    for family in families {
        if let Some(server) = file.ops().remote_locks(*family)
            && locks.has(*family, owner)
        {
            // A server that is gone has no locks.
            let _ = server.unlock(*family, &all);
        }
        // All of a range goes, so none falls in two.
        let _ = locks.release(*family, &all);
    }
}

#[cfg(test)]
mod tests;
