//! The deadlines of one CPU: a binary heap whose entries know their place in it, so that any of them
//! can be taken out. Pure data; the backends put one behind a lock for each CPU.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Something with a deadline.
pub(crate) trait Timed: Send + Sync {
    /// Its place in a heap.
    fn slot(&self) -> &Slot;
    /// The deadline has passed. Interrupts are off, no heap lock is held. Returns the next one.
    fn expired(self: Arc<Self>, now: u64) -> Option<u64>;
}

/// No heap.
pub(crate) const NOWHERE: usize = usize::MAX;

/// Where something timed is: which CPU's heap, and where in it. `home` changes under the lock of
/// the heap it names; `position` means something only under that lock.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) home: AtomicUsize,
    position: AtomicUsize,
}

impl Slot {
    pub(crate) const fn new() -> Self {
        Self {
            home: AtomicUsize::new(NOWHERE),
            position: AtomicUsize::new(0),
        }
    }
}

#[derive(Default)]
pub(crate) struct TimerHeap {
    entries: Vec<(u64, Arc<dyn Timed>)>,
}

impl TimerHeap {
    pub(crate) const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// The earliest deadline.
    pub(crate) fn first(&self) -> Option<u64> {
        self.entries.first().map(|entry| entry.0)
    }

    pub(crate) fn insert(&mut self, deadline: u64, timed: Arc<dyn Timed>) {
        self.entries.push((deadline, timed));
        self.rise(self.entries.len() - 1);
    }

    /// Takes out what `slot` belongs to. It must be in this heap.
    pub(crate) fn remove(&mut self, slot: &Slot) -> Option<Arc<dyn Timed>> {
        let at = slot.position.load(Ordering::Relaxed);
        if at >= self.entries.len() {
            return None;
        }
        let (_, timed) = self.entries.swap_remove(at);
        if at < self.entries.len() {
            let at = self.rise(at);
            self.sink(at);
        }
        Some(timed)
    }

    /// Takes out the earliest entry if its deadline has passed.
    pub(crate) fn pop_expired(&mut self, now: u64) -> Option<Arc<dyn Timed>> {
        if self.first()? > now {
            return None;
        }
        let (_, timed) = self.entries.swap_remove(0);
        if !self.entries.is_empty() {
            self.sink(0);
        }
        Some(timed)
    }

    fn rise(&mut self, mut at: usize) -> usize {
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.entries[parent].0 <= self.entries[at].0 {
                break;
            }
            self.entries.swap(parent, at);
            self.note(at);
            at = parent;
        }
        self.note(at);
        at
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.entries.len() && self.entries[child].0 < self.entries[least].0 {
                    least = child;
                }
            }
            if least == at {
                break;
            }
            self.entries.swap(at, least);
            self.note(at);
            at = least;
        }
        self.note(at);
    }

    fn note(&self, at: usize) {
        self.entries[at]
            .1
            .slot()
            .position
            .store(at, Ordering::Relaxed);
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
        fn expired(self: Arc<Self>, _: u64) -> Option<u64> {
            None
        }
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
