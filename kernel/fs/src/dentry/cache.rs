//! What keeps unused dentries alive: a bounded list in order of making, with a second chance for
//! those that were looked up since the list last passed by.
//!
//! When memory is short a kernel thread empties the list: letting go of an inode may sleep, which who looks for
//! memory must not. Locking: one leaf spin lock; dentries are dropped with it released.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::Result;
use collections::{Map, try_arc};
use machine::sync::SpinLock;
use memory::pressure::{self, Shrink};
use sched::WaitQueue;
use sched::thread::ThreadBuilder;

use super::Dentry;
use crate::file_system::SuperBlock;

/// Dentries kept at most.
const LIMIT: usize = 8192;
/// With fewer there is nothing worth taking back.
const FEW: usize = 256;
/// Second chances given while one dentry is entered: keeps the step short.
const CHANCES: usize = 8;

static KEPT: SpinLock<Kept> = SpinLock::new(Kept {
    by_number: Map::new(),
    last: 0,
    pruner: None,
});

/// By a number that grows with time, which the dentry knows too; 0 is not in the list.
struct Kept {
    by_number: Map<u64, Arc<Dentry>>,
    last: u64,
    /// Made with the first dentries that are worth it.
    pruner: Option<Arc<Pruner>>,
}

impl Kept {
    /// Without memory the dentry is not kept, and goes with its last user.
    fn push(&mut self, dentry: Arc<Dentry>) {
        self.last += 1;
        dentry.kept_as.store(self.last, Ordering::Relaxed);
        if let Err((_, dentry)) = self.by_number.insert_or_return(self.last, dentry) {
            dentry.kept_as.store(0, Ordering::Relaxed);
        }
    }

    fn pop(&mut self) -> Option<Arc<Dentry>> {
        let (_, oldest) = self.by_number.pop_first()?;
        oldest.kept_as.store(0, Ordering::Relaxed);
        Some(oldest)
    }

    /// Makes room, if there is none.
    fn evict(&mut self) -> Option<Arc<Dentry>> {
        for _ in 0..CHANCES {
            if self.by_number.len() <= LIMIT {
                return None;
            }
            let oldest = self.pop()?;
            if !oldest.used.swap(false, Ordering::Relaxed) {
                return Some(oldest);
            }
            self.push(oldest);
        }
        None
    }
}

/// The thread that empties the list.
#[derive(Debug, Default)]
struct Pruner {
    is_wanted: AtomicBool,
    wanted: WaitQueue,
}

impl Pruner {
    fn start() -> Result<()> {
        let new = try_arc(Self::default())?;
        let mut kept = KEPT.lock();
        if kept.pruner.is_some() {
            return Ok(());
        }
        kept.pruner = Some(new.clone());
        drop(kept);
        let shrink: Arc<dyn Shrink> = new.clone();
        pressure::register(Arc::downgrade(&shrink))?;
        ThreadBuilder::new(b"dentries", move || {
            loop {
                new.wanted
                    .wait_until(|| new.is_wanted.swap(false, Ordering::AcqRel).then_some(()));
                prune();
            }
        })
        .spawn()
        .map(drop)
    }
}

impl Shrink for Pruner {
    /// What is freed is freed soon.
    fn shrink(&self, _: usize) -> usize {
        if !self.is_wanted.swap(true, Ordering::AcqRel) {
            self.wanted.wake_all();
        }
        0
    }
}

/// Lets go of all kept dentries but a few.
fn prune() {
    loop {
        let mut kept = KEPT.lock();
        if kept.by_number.len() <= FEW {
            return;
        }
        let gone = kept.pop();
        drop(kept);
        drop(gone);
        sched::cond_resched();
    }
}

/// Keeps `dentry` alive until the list is full and it was not used for a round.
pub(super) fn keep(dentry: &Arc<Dentry>) {
    let mut kept = KEPT.lock();
    kept.push(dentry.clone());
    let evicted = kept.evict();
    let needs_pruner = kept.pruner.is_none() && kept.by_number.len() > 2 * FEW;
    drop(kept);
    drop(evicted);
    if needs_pruner {
        // Without memory for it the list is bounded nevertheless.
        let _ = Pruner::start();
    }
}

/// Lets go of `dentry`: its name is gone, so nobody will look it up again, and what it holds
/// should go with its last user.
pub(super) fn forget(dentry: &Dentry) {
    let mut kept = KEPT.lock();
    let number = dentry.kept_as.swap(0, Ordering::Relaxed);
    let removed = kept.by_number.remove(&number);
    drop(kept);
    drop(removed);
}

/// Lets go of every kept dentry of `super_block`: its last mount is gone.
pub(crate) fn forget_super_block(super_block: &Arc<SuperBlock>) {
    let mut from = 0;
    loop {
        let kept = KEPT.lock();
        let found = kept
            .by_number
            .range(from..)
            .find(|(_, dentry)| Arc::ptr_eq(dentry.super_block(), super_block));
        let Some((number, dentry)) = found else {
            return;
        };
        from = *number + 1;
        let dentry = dentry.clone();
        drop(kept);
        forget(&dentry);
        drop(dentry);
        sched::cond_resched();
    }
}
