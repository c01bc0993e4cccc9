//! A short list of physical ranges, for sorting memory out before there is a heap; and what of RAM boot need not map.

const MAX_RANGES: usize = 64;
const GIB: u64 = 1 << 30;
/// The part of RAM, at its end, that boot maps for the frames' metadata: that is 1/128, and some tables.
const METADATA_SHARE: u64 = 64;

/// What of the RAM `[start, end)` is left out of the direct map until a frame of it is first used: whole GiB in
/// which no RAM begins or ends. The first and the last frames are mapped: the allocator begins with those, the
/// last for metadata and tables.
pub(super) fn mapped_later(start: u64, end: u64) -> Option<(u64, u64)> {
    let first = (start + 1).next_multiple_of(GIB);
    let last = (end - (end - start) / METADATA_SHARE) / GIB * GIB;
    (first < last).then_some((first, last))
}

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

#[cfg(test)]
mod tests {
    use super::{GIB, Ranges, mapped_later};

    #[test]
    fn boot_maps_where_ram_begins_and_ends() {
        assert_eq!(mapped_later(1 << 20, 256 << 20), None);
        assert_eq!(mapped_later(1 << 20, 3 * GIB), Some((GIB, 2 * GIB)));
        // However large it is, GiB wholly inside are left; the first and the last are not.
        assert_eq!(mapped_later(4 * GIB, 65 * GIB), Some((5 * GIB, 64 * GIB)));
        assert_eq!(
            mapped_later(4 * GIB + 4096, 64 * GIB + 4096),
            Some((5 * GIB, 63 * GIB))
        );
        for size in 1..200 {
            let (start, end) = (4 * GIB + 8192, (4 + size) * GIB + 8192);
            if let Some((first, last)) = mapped_later(start, end) {
                assert!(first > start && (end - start) / 128 < end - last);
            }
        }
    }

    #[test]
    fn ranges_merge_and_split() {
        let mut ranges = Ranges::new();
        ranges.add(0, 10);
        ranges.add(10, 20);
        ranges.add(30, 40);
        ranges.remove(5, 35);
        let mut left = ranges.iter();
        assert_eq!(left.next(), Some((0, 5)));
        assert_eq!(left.next(), Some((35, 40)));
        assert_eq!(left.next(), None);
    }
}
