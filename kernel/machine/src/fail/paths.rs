//! Paths of calls that led to an allocation, and which of them were seen: their return addresses, found by frame pointers, with
//! which builds with `checks` are made.
//!
//! Locking: none; a slot of the table is written once.

use core::sync::atomic::{AtomicU64, Ordering};

/// Calls that are looked at: further out all are alike.
const DEPTH: usize = 12;
const SLOTS: usize = if cfg!(feature = "checks") { 1 << 15 } else { 1 };
/// Slots that a path may be in.
const TRIES: usize = 64;

/// Hashes of the paths that were seen; 0 where none is.
static TABLE: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];
static SEEN: AtomicU64 = AtomicU64::new(0);
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// How many paths were seen, and allocations on paths for which there was no room.
pub(super) fn counts() -> (u64, u64) {
    (
        SEEN.load(Ordering::Relaxed),
        LEFT_OUT.load(Ordering::Relaxed),
    )
}

/// The number of the calling path, if it is seen for the first time.
pub(super) fn first_seen() -> Option<u64> {
    let hash = crate::x86::frames::callers(DEPTH).fold(0xcbf2_9ce4_8422_2325, mix) | 1;
    enter(&TABLE, hash).then_some(hash >> 1)
}

fn mix(hash: u64, address: u64) -> u64 {
    let mixed = (hash ^ address).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

/// Enters a hash; whether it was not there.
fn enter(table: &[AtomicU64], hash: u64) -> bool {
    let start = (hash >> 32) as usize;
    for step in 0..TRIES {
        let slot = &table[(start + step) % table.len()];
        match slot.compare_exchange(0, hash, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => {
                SEEN.fetch_add(1, Ordering::Relaxed);
                return true;
            }
            Err(other) if other == hash => return false,
            Err(_) => {}
        }
    }
    LEFT_OUT.fetch_add(1, Ordering::Relaxed);
    false
}
