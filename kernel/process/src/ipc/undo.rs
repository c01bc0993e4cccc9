//! What the end of a process undoes of its semaphore operations (`SEM_UNDO`).
//!
//! An [`UndoList`] belongs to the threads that share it by `CLONE_SYSVSEM`; when the last lets go of it, each set that it
//! knows adds what it has noted under the list's number.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering};

use abi::Result;
use collections::{Vec, try_arc};
use machine::sync::SpinLock;

use super::sem::Set;
use crate::task::thread::Thread;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// See the module.
#[derive(Debug)]
pub struct UndoList {
    number: u64,
    sets: SpinLock<Vec<Weak<Set>>>,
}

impl UndoList {
    /// One that undoes nothing.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Arc<Self>> {
        Ok(try_arc(Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            sets: SpinLock::new(Vec::new()),
        })?)
    }

    /// That of `thread`, made if it has none yet.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn of(thread: &Thread) -> Result<Arc<Self>> {
        if let Some(list) = thread.undo_list() {
            return Ok(list);
        }
        let new = Self::new()?;
        thread.set_undo_list(Some(new.clone()));
        Ok(new)
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Notes that `set` is to be asked at the end.
    pub(super) fn note(&self, set: &Arc<Set>) -> Result<()> {
        let mut sets = self.sets.lock();
        // A set that was removed undoes nothing.
        sets.retain(|set| set.strong_count() > 0);
        if !sets.iter().any(|known| known.as_ptr() == Arc::as_ptr(set)) {
            sets.try_push(Arc::downgrade(set))?;
        }
        Ok(())
    }
}

impl Drop for UndoList {
    fn drop(&mut self) {
        let sets = self.sets.get_mut();
        while let Some(set) = sets.pop() {
            if let Some(set) = set.upgrade() {
                set.undo(self.number);
            }
            sched::cond_resched();
        }
    }
}
