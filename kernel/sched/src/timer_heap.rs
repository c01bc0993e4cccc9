//! The deadlines of one CPU, earliest first. Links are in what is timed: arming allocates nothing. Pure data;
//! the backends put one behind a lock for each CPU.

use alloc::sync::Arc;
use core::sync::atomic::AtomicUsize;

use machine::intrusive::{Link, Tree};

/// Something with a deadline.
pub(crate) trait Timed: Send + Sync {
    /// Its place among the deadlines.
    fn slot(&self) -> &Slot;
    /// The deadline has passed. Interrupts are off, no lock is held.
    fn expired(self: Arc<Self>);
}

/// On no CPU.
pub(crate) const NOWHERE: usize = usize::MAX;

/// Where something timed is: on which CPU, and where there. `home` changes under the lock of the deadlines that it
/// names.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) home: AtomicUsize,
    link: Link<dyn Timed, u64>,
}

impl Slot {
    pub(crate) const fn new() -> Self {
        Self {
            home: AtomicUsize::new(NOWHERE),
            link: Link::new(),
        }
    }
}

/// Deadlines, with what is to be told.
#[derive(Default)]
pub(crate) struct TimerHeap {
    tree: Tree<dyn Timed, u64>,
}

impl TimerHeap {
    pub(crate) const fn new() -> Self {
        Self { tree: Tree::new() }
    }

    /// The earliest deadline.
    pub(crate) fn first(&self) -> Option<u64> {
        self.tree.first().map(|(deadline, _)| deadline)
    }

    /// Adds something whose `home` the caller has set from [`NOWHERE`] to this one.
    pub(crate) fn insert(&mut self, deadline: u64, timed: Arc<dyn Timed>) {
        // `home` says that the link is free.
        let _ = self
            .tree
            .insert(deadline, timed, |timed| &timed.slot().link);
    }

    /// Takes out what `slot` belongs to, if it is here.
    pub(crate) fn remove(&mut self, slot: &Slot) -> Option<Arc<dyn Timed>> {
        self.tree.remove(&slot.link)
    }

    /// Takes out the earliest entry if its deadline has passed.
    pub(crate) fn pop_expired(&mut self, now: u64) -> Option<Arc<dyn Timed>> {
        if self.first()? > now {
            return None;
        }
        self.tree.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Item(Slot, u64);

    impl Timed for Item {
        fn slot(&self) -> &Slot {
            &self.0
        }
        fn expired(self: Arc<Self>) {}
    }

    #[test]
    fn expires_in_order_whatever_is_removed() {
        let mut heap = TimerHeap::new();
        let deadlines: Vec<u64> = (0..200).map(|i| i * 7919 % 1009).collect();
        let items: Vec<_> = deadlines
            .iter()
            .map(|&at| Arc::new(Item(Slot::new(), at)))
            .collect();
        for item in &items {
            heap.insert(item.1, item.clone());
        }
        let mut left: Vec<u64> = Vec::new();
        for (i, item) in items.iter().enumerate() {
            if i % 3 == 0 {
                assert!(heap.remove(&item.0).is_some());
            } else {
                left.push(item.1);
            }
        }
        left.sort_unstable();
        for deadline in left {
            assert_eq!(heap.first(), Some(deadline));
            assert!(
                heap.pop_expired(deadline.wrapping_sub(1).min(deadline))
                    .is_none()
                    || deadline == 0
            );
            if heap.first() == Some(deadline) {
                assert!(heap.pop_expired(deadline).is_some());
            }
        }
        assert!(heap.first().is_none());
    }
}
