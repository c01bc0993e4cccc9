//! What keeps unused dentries alive: a bounded list in order of making, with a second chance for
//! those that were looked up since the list last passed by.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use machine::sync::SpinLock;

use super::Dentry;
use crate::file_system::SuperBlock;

/// Dentries kept at most.
const LIMIT: usize = 8192;

static KEPT: SpinLock<VecDeque<Arc<Dentry>>> = SpinLock::new(VecDeque::new());

/// Keeps `dentry` alive until the list is full and it was not used for a round.
pub(super) fn keep(dentry: &Arc<Dentry>) {
    let mut kept = KEPT.lock();
    kept.push_back(dentry.clone());
    let mut evicted = None;
    // One in, at most one out; a bounded number of second chances keeps the step short.
    for _ in 0..8 {
        if kept.len() <= LIMIT {
            break;
        }
        let Some(oldest) = kept.pop_front() else {
            break;
        };
        if oldest.used.swap(false, Ordering::Relaxed) {
            kept.push_back(oldest);
        } else {
            evicted = Some(oldest);
            break;
        }
    }
    drop(kept);
    drop(evicted);
}

/// Lets go of every kept dentry of `super_block`: it was unmounted.
pub(crate) fn forget_super_block(super_block: &Arc<SuperBlock>) {
    let mut gone = Vec::new();
    let mut kept = KEPT.lock();
    kept.retain(|dentry| {
        let stays = !Arc::ptr_eq(dentry.super_block(), super_block);
        if !stays {
            gone.push(dentry.clone());
        }
        stays
    });
    drop(kept);
    drop(gone);
}
