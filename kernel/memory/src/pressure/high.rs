//! `memory.high`: who goes beyond it is not refused, but has pages taken back, and is slowed down the more the farther
//! beyond it is.
//!
//! Locking: no lock is held: pages are written back, and threads sleep.

use super::{BATCH, reclaim_in};
use crate::group::{Event, MemoryGroup};

/// How long a thread sleeps for a page when its group has twice what it should.
const DOUBLE_NS: u64 = 2_000_000_000;
/// Less is not worth sleeping.
const LEAST_NS: u64 = 500_000;
/// The longest that it sleeps at once.
const MOST_NS: u64 = 2_000_000_000;

/// The calling thread, which has just got a page, pays for what its group has beyond what it should.
#[inline]
pub fn heed_high() {
    let group = MemoryGroup::current();
    if group != MemoryGroup::ROOT {
        heed(group);
    }
}

#[cold]
fn heed(group: MemoryGroup) {
    for group in group.up() {
        let high = group.high();
        let over = group.usage().saturating_sub(high);
        if over > 0 && group != MemoryGroup::ROOT {
            group.note(Event::High);
            if reclaim_in(group, over.min(BATCH)) < over.min(BATCH) {
                sleep(delay_ns(over, high));
            }
        }
    }
}

/// It grows with the square of what is too much, as Linux's does.
fn delay_ns(over: usize, high: usize) -> u64 {
    const ONE: u64 = 1 << 10;
    let share = (over as u64).saturating_mul(ONE) / (high as u64).max(1);
    let square = share.saturating_mul(share) / ONE;
    (DOUBLE_NS / ONE).saturating_mul(square).min(MOST_NS)
}

fn sleep(delay_ns: u64) {
    if delay_ns < LEAST_NS {
        return;
    }
    let deadline_ns = sched::clock::monotonic_ns().saturating_add(delay_ns);
    let queue = sched::WaitQueue::new();
    // Nobody wakes it; a signal may end it.
    let _ = queue.wait_interruptible_deadline(Some(deadline_ns), || None::<()>);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_farther_beyond_the_longer_the_sleep() {
        assert_eq!(delay_ns(1, 1000), 0);
        assert!(delay_ns(10, 1000) < LEAST_NS);
        assert!(delay_ns(100, 1000) > 10 * LEAST_NS);
        assert_eq!(delay_ns(1000, 1000), MOST_NS);
        assert_eq!(delay_ns(1000, 0), MOST_NS);
    }
}
