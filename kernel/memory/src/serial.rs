//! Serial numbers of address spaces and mappings, for who means one after it may be gone: an address is used again.

use core::sync::atomic::{AtomicU64, Ordering};

/// A number that was never given before; not 0.
pub(crate) fn new() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}
