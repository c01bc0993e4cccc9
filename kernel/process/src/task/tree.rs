//! The lock over who is who (Linux's tasklist_lock), and what is counted under it.
//!
//! What it guards stands where it belongs, in a [`LockedBy`](machine::sync::LockedBy): who is whose parent and in which
//! group in each process ([`crate::task::relations`]), what goes by an id in each [`Pid`](crate::task::pid::Pid), which numbers are
//! taken in each PID namespace. Nothing blocks, and no reference to a process or thread that may be the last is
//! dropped, with it held.

use abi::Result;
use collections::Map;
use fs::Kuid;
use machine::sync::{SpinGuard, SpinLock};

/// The tree.
pub static TREE: SpinLock<Tree> = SpinLock::new(Tree::new());

/// See the module.
#[derive(Debug)]
pub struct Tree {
    /// Counts what was put into a list of children: a larger number is further behind.
    pub(crate) last_order: u64,
    /// Threads there are, those of zombies included.
    pub(crate) threads: usize,
    /// Threads that were ever made.
    pub(crate) made: u64,
    /// Processes there are, dead ones included.
    pub(crate) processes: usize,
    /// Threads of each real user id.
    users: Map<Kuid, usize>,
}

/// Takes the tree's lock.
pub fn lock() -> SpinGuard<'static, Tree> {
    TREE.lock()
}

impl Tree {
    const fn new() -> Self {
        Self {
            last_order: 0,
            threads: 0,
            made: 0,
            processes: 0,
            users: Map::new(),
        }
    }

    /// Threads there are, those of zombies included.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        self.threads
    }

    /// Threads that were ever made (/proc/stat).
    #[must_use]
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Processes there are, dead ones included.
    #[must_use]
    pub fn process_count(&self) -> usize {
        self.processes
    }

    /// How many threads user `uid` has.
    #[must_use]
    pub fn threads_of(&self, uid: Kuid) -> usize {
        self.users.get(&uid).copied().unwrap_or(0)
    }

    /// A thread changes its real user id.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn change_user(&mut self, old: Kuid, new: Kuid) -> Result<()> {
        self.count_user(new)?;
        self.uncount_user(old);
        Ok(())
    }

    /// A thread of `uid`'s comes.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn count_user(&mut self, uid: Kuid) -> Result<()> {
        *self.users.try_get_or_insert_with(&uid, || 0)? += 1;
        Ok(())
    }

    /// A thread of `uid`'s goes.
    pub(crate) fn uncount_user(&mut self, uid: Kuid) {
        if let Some(count) = self.users.get_mut(&uid) {
            *count -= 1;
            if *count == 0 {
                self.users.remove(&uid);
            }
        }
    }
}
