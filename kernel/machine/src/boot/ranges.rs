//! A short list of physical ranges, for sorting memory out before there is a heap.

const MAX_RANGES: usize = 64;

/// Disjoint ranges, in the order they came in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranges {
    ranges: [(u64, u64); MAX_RANGES],
    count: usize,
}

impl Ranges {
    pub(super) const fn new() -> Ranges {
        Ranges {
            ranges: [(0, 0); MAX_RANGES],
            count: 0,
        }
    }

    /// Adds `[start, end)`; beyond the list's room it is left out, which loses memory, nothing else.
    pub(super) fn add(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        if let Some((_, last)) = self.ranges[..self.count]
            .iter_mut()
            .find(|(_, last)| *last == start)
        {
            *last = end;
        } else if self.count < MAX_RANGES {
            self.ranges[self.count] = (start, end);
            self.count += 1;
        }
    }

    /// Takes `[start, end)` out of whatever it overlaps.
    pub(super) fn remove(&mut self, start: u64, end: u64) {
        let old = *self;
        self.count = 0;
        for (first, last) in old.iter() {
            if last <= start || end <= first {
                self.add(first, last);
            } else {
                self.add(first, start);
                self.add(end, last);
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ranges[..self.count].iter().copied()
    }
}
