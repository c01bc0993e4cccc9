//! Those who wait for a lock, and letting in who can proceed.
//!
//! Who gives up a lock grants what became free to the waiters, in order, and wakes just those.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use machine::sync::SpinLock;
use sched::WaitQueue;

use super::ranges::Ranges;
use super::{FileLock, LockKind, LockOwner};

/// One call that waits for a lock.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) wanted: FileLock,
    /// The descriptor table that has what it waits for, as it was last seen; 0: none, or a description.
    pub(super) blocker: AtomicU64,
    /// Set once by who grants the lock, or cannot for want of memory.
    result: SpinLock<Option<Result<()>>>,
    pub(super) queue: WaitQueue,
}

impl Waiter {
    pub(super) fn new(wanted: &FileLock, blocker: &FileLock) -> Result<Arc<Self>> {
        let new = try_arc(Self {
            wanted: *wanted,
            blocker: AtomicU64::new(table_of(blocker)),
            result: SpinLock::new(None),
            queue: WaitQueue::new(),
        });
        new.map_err(|_| Errno::ENOLCK)
    }

    /// What came of it, if anything yet.
    pub(super) fn result(&self) -> Option<Result<()>> {
        *self.result.lock()
    }
}

fn table_of(lock: &FileLock) -> u64 {
    match lock.owner {
        LockOwner::Table(table) => table,
        LockOwner::Description(_) => 0,
    }
}

/// The locks of one family on one file, and who waits for some.
#[derive(Debug, Default)]
pub(super) struct Family {
    pub(super) ranges: Ranges,
    waiters: Vec<Arc<Waiter>>,
}

impl Family {
    pub(super) fn is_unused(&self) -> bool {
        self.ranges.is_empty() && self.waiters.is_empty()
    }

    #[cfg(test)]
    pub(super) fn is_waited_for(&self) -> bool {
        !self.waiters.is_empty()
    }

    /// Lines up `waiter`.
    pub(super) fn add(&mut self, waiter: &Arc<Waiter>) -> Result<()> {
        let added = self.waiters.try_push(waiter.clone());
        added.map_err(|_| Errno::ENOLCK)
    }

    /// Takes `waiter` out of the line, if it is there.
    pub(super) fn remove(&mut self, waiter: &Arc<Waiter>) {
        self.waiters.retain(|other| !Arc::ptr_eq(other, waiter));
    }

    /// Grants what `freed` made possible; those to wake, with the lock on the family released.
    pub(super) fn grant(&mut self, freed: &FileLock) -> Granted {
        let mut granted = Granted::default();
        let ranges = &mut self.ranges;
        let mut is_taken = false;
        self.waiters.retain(|waiter| {
            let wanted = &waiter.wanted;
            if is_taken || wanted.start >= freed.end || freed.start >= wanted.end {
                return true;
            }
            if let Some(conflict) = ranges.conflict(wanted) {
                waiter.blocker.store(table_of(&conflict), Ordering::Relaxed);
                return true;
            }
            let result = ranges.set(wanted).map_err(|_| Errno::ENOLCK);
            // Behind one that has all of it nobody else can come in.
            is_taken = wanted.kind == LockKind::Exclusive
                && wanted.start <= freed.start
                && freed.end <= wanted.end;
            *waiter.result.lock() = Some(result);
            // It may not run for a while yet, but waits for nobody: who asks for a lock of its meanwhile closes no
            // circle.
            waiter.blocker.store(0, Ordering::Relaxed);
            granted.push(waiter);
            false
        });
        granted
    }
}

/// Waiters that have their answer.
#[derive(Debug, Default)]
pub(super) struct Granted {
    first: Option<Arc<Waiter>>,
    more: Vec<Arc<Waiter>>,
}

impl Granted {
    fn push(&mut self, waiter: &Arc<Waiter>) {
        if self.first.is_none() {
            self.first = Some(waiter.clone());
        } else if self.more.try_push(waiter.clone()).is_err() {
            // Waking needs no lock of ours; only the order of locks is kept simpler by doing it later.
            waiter.queue.wake_all();
        }
    }

    pub(super) fn wake(self) {
        for waiter in self.first.into_iter().chain(self.more) {
            waiter.queue.wake_all();
        }
    }
}
