//! What keeps unused dentries alive: a bounded list in order of making, with a second chance for
//! those that were looked up since the list last passed by.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use machine::sync::SpinLock;

use super::Dentry;
use crate::file_system::SuperBlock;

/// Dentries kept at most.
const LIMIT: usize = 8192;
/// Second chances given while one dentry is entered: keeps the step short.
const CHANCES: usize = 8;

static KEPT: SpinLock<Kept> = SpinLock::new(Kept {
    by_number: BTreeMap::new(),
    last: 0,
});

/// By a number that grows with time, which the dentry knows too; 0 is not in the list.
struct Kept {
    by_number: BTreeMap<u64, Arc<Dentry>>,
    last: u64,
}

impl Kept {
    fn push(&mut self, dentry: Arc<Dentry>) {
        self.last += 1;
        dentry.kept_as.store(self.last, Ordering::Relaxed);
        self.by_number.insert(self.last, dentry);
    }

    /// Makes room, if there is none.
    fn evict(&mut self) -> Option<Arc<Dentry>> {
        for _ in 0..CHANCES {
            if self.by_number.len() <= LIMIT {
                return None;
            }
            let (_, oldest) = self.by_number.pop_first()?;
            if !oldest.used.swap(false, Ordering::Relaxed) {
                oldest.kept_as.store(0, Ordering::Relaxed);
                return Some(oldest);
            }
            self.push(oldest);
        }
        None
    }
}

/// Keeps `dentry` alive until the list is full and it was not used for a round.
pub(super) fn keep(dentry: &Arc<Dentry>) {
    let mut kept = KEPT.lock();
    kept.push(dentry.clone());
    let evicted = kept.evict();
    drop(kept);
    drop(evicted);
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

/// Lets go of every kept dentry of `super_block`: it was unmounted.
pub(crate) fn forget_super_block(super_block: &Arc<SuperBlock>) {
    let mut gone = Vec::new();
    let mut kept = KEPT.lock();
    kept.by_number.retain(|_, dentry| {
        let stays = !Arc::ptr_eq(dentry.super_block(), super_block);
        if !stays {
            dentry.kept_as.store(0, Ordering::Relaxed);
            gone.push(dentry.clone());
        }
        stays
    });
    drop(kept);
    drop(gone);
}
