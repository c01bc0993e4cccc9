//! Futexes (futex(2)): waiting on a word of user memory.
//!
//! Waiters hang in buckets by the hash of their [`Key`]. A bucket's spin lock is held from reading
//! the word to queueing, and while waking, so that no wake-up is lost; user memory is read under it only
//! with the primitive that does not resolve faults. Two buckets are locked in index order.
//! Priority inheritance is not there: ENOSYS.

mod ops;
pub mod robust;
mod table;
#[cfg(test)]
mod tests;

pub use ops::{WakeOp, compare_requeue, requeue, restart_wait, wait, wake, wake_op};
pub use table::{ANY, Key};
