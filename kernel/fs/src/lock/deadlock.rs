//! Who waits for whom: record locks of processes must not wait in a circle (fcntl(2), `EDEADLK`).

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use collections::Map;
use machine::sync::SpinLock;

use super::LockOwner;
use super::waiting::Waiter;

/// Steps from owner to owner at most, as Linux looks (`MAX_DEADLK_ITERATIONS`).
const STEPS_MAX: usize = 10;

/// Waiting record locks of processes: by whose they are, and a number.
static BLOCKED: SpinLock<Map<(u64, u64), Arc<Waiter>>> = SpinLock::new(Map::new());

/// A descriptor table's locks wait; while the value lives, others find them.
#[derive(Debug)]
pub(super) struct Blocked {
    key: (u64, u64),
}

impl Blocked {
    /// Enters `waiter`. Locks of descriptions are not looked at.
    ///
    /// # Errors
    /// `EDEADLK` when what it waits for waits for its own owner, `ENOLCK` without memory.
    pub(super) fn enter(waiter: &Arc<Waiter>) -> Result<Blocked> {
        let LockOwner::Table(table) = waiter.wanted.owner else {
            return Ok(Blocked { key: (0, 0) });
        };
        let mut blocked = BLOCKED.lock();
        let mut at = waiter.blocker.load(Ordering::Relaxed);
        for _ in 0..STEPS_MAX {
            if at == table {
                return Err(Errno::EDEADLK);
            }
            let waits = blocked.range((at, 0)..=(at, u64::MAX)).next();
            let Some((_, next)) = waits.filter(|_| at != 0) else {
                break;
            };
            at = next.blocker.load(Ordering::Relaxed);
        }
        let key = (table, Arc::as_ptr(waiter).addr() as u64);
        let entered = blocked.try_insert(key, waiter.clone());
        entered.map_err(|_| Errno::ENOLCK)?;
        Ok(Blocked { key })
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        if self.key != (0, 0) {
            let waiter = BLOCKED.lock().remove(&self.key);
            drop(waiter);
        }
    }
}
