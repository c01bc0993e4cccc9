//! File locks: flock(2), and fcntl(2)'s POSIX and open-file-description locks, all advisory.
//!
//! All are kept by inode ([`InodeKey`]) in one table. An flock lock belongs to a description, a POSIX lock to a process, an OFD lock to
//! a description. Waiters for one inode share a wait queue and look again when a lock goes.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use machine::sync::SpinLock;
use sched::WaitQueue;

use crate::file::File;
use crate::path::InodeKey;

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockOwner {
    /// An open file description, by [`File::lock_id`] (flock(2), `F_OFD_SETLK`).
    Description(u64),
    /// A process, by number (`F_SETLK`).
    Process(u32),
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
    /// Which family.
    pub family: LockFamily,
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
    fn overlaps(&self, other: &FileLock) -> bool {
        self.start < other.end && other.start < self.end
    }

    fn conflicts(&self, other: &FileLock) -> bool {
        self.family == other.family
            && self.owner != other.owner
            && self.overlaps(other)
            && (self.kind == LockKind::Exclusive || other.kind == LockKind::Exclusive)
    }
}

#[derive(Debug, Default)]
struct InodeLocks {
    held: Vec<FileLock>,
    changed: Arc<WaitQueue>,
    waiting: usize,
}

static TABLE: SpinLock<BTreeMap<InodeKey, InodeLocks>> = SpinLock::new(BTreeMap::new());
/// Whether any lock was ever taken: most systems never look at the table when files close.
static IS_USED: AtomicBool = AtomicBool::new(false);

/// The first lock that keeps `wanted` from being taken (`F_GETLK`).
#[must_use]
pub fn find_conflict(key: InodeKey, wanted: &FileLock) -> Option<FileLock> {
    let table = TABLE.lock();
    table
        .get(&key)?
        .held
        .iter()
        .find(|held| held.conflicts(wanted))
        .copied()
}

/// Takes `wanted`, in place of what the owner holds of those bytes; waits for it when `wait`.
///
/// # Errors
/// `EAGAIN` when another owner holds a conflicting one, `ERESTARTSYS` when interrupted.
pub fn acquire(key: InodeKey, wanted: &FileLock, wait: bool) -> Result<()> {
    IS_USED.store(true, Ordering::Relaxed);
    if try_acquire(key, wanted) {
        return Ok(());
    }
    if wanted.family == LockFamily::Flock {
        // flock(2) converts by giving up the old lock first.
        release(
            key,
            &FileLock {
                start: 0,
                end: u64::MAX,
                ..*wanted
            },
        );
    }
    if !wait {
        return if try_acquire(key, wanted) {
            Ok(())
        } else {
            Err(Errno::EAGAIN)
        };
    }
    let changed = {
        let mut table = TABLE.lock();
        let locks = table.entry(key).or_default();
        locks.waiting += 1;
        locks.changed.clone()
    };
    let result = changed.wait_interruptible(|| try_acquire(key, wanted).then_some(()));
    let mut table = TABLE.lock();
    if let Some(locks) = table.get_mut(&key) {
        locks.waiting -= 1;
    }
    drop_if_empty(&mut table, key);
    result
}

fn try_acquire(key: InodeKey, wanted: &FileLock) -> bool {
    let mut table = TABLE.lock();
    let locks = table.entry(key).or_default();
    if locks.held.iter().any(|held| held.conflicts(wanted)) {
        return false;
    }
    locks.subtract(wanted);
    locks.held.push(*wanted);
    locks.merge(wanted);
    // A downgrade may let others in.
    locks.changed.wake_all();
    true
}

/// Gives up what the owner of `range` holds of its bytes in its family.
pub fn release(key: InodeKey, range: &FileLock) {
    let mut table = TABLE.lock();
    if let Some(locks) = table.get_mut(&key) {
        locks.subtract(range);
        locks.changed.wake_all();
    }
    drop_if_empty(&mut table, key);
}

fn drop_if_empty(table: &mut BTreeMap<InodeKey, InodeLocks>, key: InodeKey) {
    if table
        .get(&key)
        .is_some_and(|locks| locks.held.is_empty() && locks.waiting == 0)
    {
        table.remove(&key);
    }
}

impl InodeLocks {
    /// Cuts `range` out of what its owner holds.
    fn subtract(&mut self, range: &FileLock) {
        let mut kept = Vec::with_capacity(self.held.len() + 1);
        for held in &self.held {
            let is_other = held.owner != range.owner || held.family != range.family;
            if is_other || !held.overlaps(range) {
                kept.push(*held);
                continue;
            }
            if held.start < range.start {
                kept.push(FileLock {
                    end: range.start,
                    ..*held
                });
            }
            if held.end > range.end {
                kept.push(FileLock {
                    start: range.end,
                    ..*held
                });
            }
        }
        self.held = kept;
    }

    /// Joins neighbours of the same owner and kind with the lock just taken.
    fn merge(&mut self, taken: &FileLock) {
        let is_joinable = |held: &FileLock| {
            held.owner == taken.owner && held.family == taken.family && held.kind == taken.kind
        };
        let mut mine: Vec<FileLock> = self.held.iter().copied().filter(is_joinable).collect();
        self.held.retain(|held| !is_joinable(held));
        mine.sort_unstable_by_key(|held| held.start);
        for lock in mine {
            match self.held.last_mut() {
                Some(last) if is_joinable(last) && last.end >= lock.start => {
                    last.end = last.end.max(lock.end);
                }
                _ => self.held.push(lock),
            }
        }
    }
}

/// Gives up what belongs to a description that is closed for good.
pub(crate) fn release_description(file: &File) {
    if IS_USED.load(Ordering::Relaxed) {
        release_owner(file, LockOwner::Description(file.lock_id()));
    }
}

/// Gives up a process's record locks on a file: it closed a descriptor of it (fcntl(2), "Record locks").
pub fn release_process(file: &File, pid: u32) {
    if IS_USED.load(Ordering::Relaxed) {
        release_owner(file, LockOwner::Process(pid));
    }
}

fn release_owner(file: &File, owner: LockOwner) {
    let Ok(key) = file.key() else { return };
    for family in [LockFamily::Flock, LockFamily::Record] {
        let all = FileLock {
            family,
            kind: LockKind::Shared,
            owner,
            start: 0,
            end: u64::MAX,
            pid: 0,
        };
        release(key, &all);
    }
}
