//! [`Ranges`]: which bytes of one file are locked by whom, for one family of locks. Data alone: no waiting.
//!
//! An owner's ranges never overlap, neighbours of one kind are one. Exclusive ranges overlap nobody's, so an index by
//! their start finds what conflicts; shared ones are looked for owner by owner. All steps are logarithmic
//! in the number of ranges, apart from the owners of shared ones.

use abi::Result;
use collections::Map;

use super::{FileLock, LockKind, LockOwner};

/// The rest of a range whose owner and start are the key.
#[derive(Debug, Clone, Copy)]
struct Held {
    end: u64,
    kind: LockKind,
    pid: u32,
}

/// Locks of one family on one file.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    held: Map<(LockOwner, u64), Held>,
    /// The exclusive ones: owner and end by start.
    exclusive: Map<u64, (LockOwner, u64)>,
    /// How many shared ranges each owner has that has any.
    sharers: Map<LockOwner, usize>,
}

impl Ranges {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether `owner` has shared ranges.
    pub(super) fn is_sharer(&self, owner: LockOwner) -> bool {
        self.sharers.contains_key(&owner)
    }

    fn lock_at(owner: LockOwner, start: u64, held: &Held) -> FileLock {
        FileLock {
            owner,
            start,
            end: held.end,
            kind: held.kind,
            pid: held.pid,
        }
    }

    /// The first range of `owner` that overlaps `start..end`, at or behind `from`.
    fn overlapping(&self, owner: LockOwner, start: u64, end: u64) -> Option<FileLock> {
        let before = self.held.last_before(&(owner, start));
        let reaching = before.filter(|((of, _), held)| *of == owner && held.end > start);
        let found = reaching.or_else(|| {
            let next = self.held.first_from(&(owner, start));
            next.filter(|((of, from), _)| *of == owner && *from < end)
        });
        found.map(|((_, start), held)| Self::lock_at(owner, *start, held))
    }

    /// The first range of another owner that keeps `wanted` from being set.
    pub(super) fn conflict(&self, wanted: &FileLock) -> Option<FileLock> {
        let exclusive = self.exclusive_conflict(wanted);
        if wanted.kind == LockKind::Shared {
            return exclusive;
        }
        let others = self.sharers.keys().filter(|owner| **owner != wanted.owner);
        let shared = others
            .filter_map(|owner| self.overlapping(*owner, wanted.start, wanted.end))
            .next();
        match (exclusive, shared) {
            (Some(one), Some(other)) if other.start < one.start => Some(other),
            (one, other) => one.or(other),
        }
    }

    fn exclusive_conflict(&self, wanted: &FileLock) -> Option<FileLock> {
        let before = self.exclusive.last_before(&wanted.start);
        let reaching = before.filter(|(_, (_, end))| *end > wanted.start);
        let within = self.exclusive.range(wanted.start..wanted.end);
        let (start, (owner, _)) = reaching
            .into_iter()
            .chain(within)
            .find(|(_, (owner, _))| *owner != wanted.owner)?;
        let held = self.held.get(&(*owner, *start))?;
        Some(Self::lock_at(*owner, *start, held))
    }

    /// Sets `wanted`, which conflicts with nothing, in place of what its owner has there. Joins neighbours.
    ///
    /// # Errors
    /// `ENOMEM`; what the owner had there may be gone then.
    pub(super) fn set(&mut self, wanted: &FileLock) -> Result<()> {
        let mut joined = *wanted;
        let owner = wanted.owner;
        let mut before = self.held.range((owner, 0)..=(owner, wanted.start));
        if let Some(((_, start), held)) = before.next_back()
            && held.kind == wanted.kind
            && held.end >= wanted.start
        {
            joined.start = *start;
            joined.end = joined.end.max(held.end);
        }
        if let Some(last) = self.reaching_to(owner, wanted.end)
            && last.kind == wanted.kind
        {
            joined.end = joined.end.max(last.end);
        }
        self.cut(owner, joined.start, joined.end)?;
        self.insert(&joined)
    }

    /// The range of `owner` that `end` is in or directly before.
    fn reaching_to(&self, owner: LockOwner, end: u64) -> Option<FileLock> {
        let mut up_to = self.held.range((owner, 0)..=(owner, end));
        let ((_, start), held) = up_to.next_back()?;
        (held.end > end).then(|| Self::lock_at(owner, *start, held))
    }

    fn insert(&mut self, lock: &FileLock) -> Result<()> {
        let held = Held {
            end: lock.end,
            kind: lock.kind,
            pid: lock.pid,
        };
        let old = self.held.try_insert((lock.owner, lock.start), held)?;
        let indexed = match lock.kind {
            LockKind::Exclusive => self
                .exclusive
                .try_insert(lock.start, (lock.owner, lock.end))
                .map(drop),
            LockKind::Shared => self
                .sharers
                .try_get_or_insert_with(&lock.owner, || 0)
                .map(|count| *count += 1),
        };
        if let Err(error) = indexed {
            if old.is_none() {
                self.held.remove(&(lock.owner, lock.start));
            }
            return Err(error.into());
        }
        Ok(())
    }

    fn remove(&mut self, lock: &FileLock) {
        self.held.remove(&(lock.owner, lock.start));
        match lock.kind {
            LockKind::Exclusive => {
                self.exclusive.remove(&lock.start);
            }
            LockKind::Shared => {
                if let Some(count) = self.sharers.get_mut(&lock.owner) {
                    *count -= 1;
                    if *count == 0 {
                        self.sharers.remove(&lock.owner);
                    }
                }
            }
        }
    }

    /// As [`Self::cut`], at most `most` ranges; whether nothing is left.
    ///
    /// # Errors
    /// As there.
    pub(super) fn cut_some(
        &mut self,
        owner: LockOwner,
        start: u64,
        end: u64,
        most: usize,
    ) -> Result<bool> {
        for _ in 0..most {
            let Some(lock) = self.overlapping(owner, start, end) else {
                return Ok(true);
            };
            self.cut(owner, lock.start.max(start), lock.end.min(end))?;
        }
        Ok(self.overlapping(owner, start, end).is_none())
    }

    /// Takes `start..end` out of what `owner` has.
    ///
    /// # Errors
    /// `ENOMEM` when a range would fall in two; it is whole then.
    pub(super) fn cut(&mut self, owner: LockOwner, start: u64, end: u64) -> Result<()> {
        while let Some(lock) = self.overlapping(owner, start, end) {
            if lock.end > end {
                self.insert(&FileLock { start: end, ..lock })?;
            }
            self.remove(&lock);
            if lock.start < start {
                self.insert(&FileLock { end: start, ..lock })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    const A: LockOwner = LockOwner::Table(1);
    const B: LockOwner = LockOwner::Table(2);
    const C: LockOwner = LockOwner::Description(1);

    fn lock(owner: LockOwner, kind: LockKind, start: u64, end: u64) -> FileLock {
        FileLock {
            owner,
            kind,
            start,
            end,
            pid: 1,
        }
    }

    fn all(ranges: &Ranges) -> Vec<(u64, u64)> {
        let held = ranges.held.iter();
        held.map(|((_, start), held)| (*start, held.end)).collect()
    }

    #[test]
    fn neighbours_join_and_ranges_fall_in_two() {
        let mut ranges = Ranges::default();
        for (start, end) in [(0, 10), (20, 30), (10, 20)] {
            ranges
                .set(&lock(A, LockKind::Exclusive, start, end))
                .unwrap();
        }
        assert_eq!(all(&ranges), [(0, 30)]);
        ranges.cut(A, 5, 6).unwrap();
        assert_eq!(all(&ranges), [(0, 5), (6, 30)]);
        ranges.set(&lock(A, LockKind::Shared, 4, 8)).unwrap();
        assert_eq!(all(&ranges), [(0, 4), (4, 8), (8, 30)]);
        ranges.set(&lock(A, LockKind::Shared, 2, 40)).unwrap();
        assert_eq!(all(&ranges), [(0, 2), (2, 40)]);
        ranges.set(&lock(A, LockKind::Shared, 50, 60)).unwrap();
        assert_eq!(ranges.cut_some(A, 1, 55, 1), Ok(false));
        assert_eq!(all(&ranges), [(0, 1), (2, 40), (50, 60)]);
        assert_eq!(ranges.cut_some(A, 1, 55, 9), Ok(true));
        assert_eq!(all(&ranges), [(0, 1), (55, 60)]);
        ranges.cut(A, 0, u64::MAX).unwrap();
        assert!(ranges.is_empty() && ranges.exclusive.is_empty() && ranges.sharers.is_empty());
    }

    #[test]
    fn conflicts_are_with_others_and_not_between_shared_ones() {
        let mut ranges = Ranges::default();
        ranges.set(&lock(A, LockKind::Shared, 0, 100)).unwrap();
        ranges
            .set(&lock(B, LockKind::Shared, 50, u64::MAX))
            .unwrap();
        assert_eq!(ranges.conflict(&lock(C, LockKind::Shared, 0, 1)), None);
        let found = ranges
            .conflict(&lock(B, LockKind::Exclusive, 99, 200))
            .unwrap();
        assert_eq!((found.owner, found.start), (A, 0));
        assert_eq!(
            ranges.conflict(&lock(B, LockKind::Exclusive, 100, 200)),
            None
        );
        ranges.set(&lock(B, LockKind::Exclusive, 100, 200)).unwrap();
        let found = ranges
            .conflict(&lock(A, LockKind::Shared, 150, 160))
            .unwrap();
        assert_eq!((found.owner, found.start, found.end), (B, 100, 200));
    }

    #[test]
    fn it_agrees_with_a_list_of_bytes() {
        const SIZE: usize = 24;
        let mut bytes = [[None; SIZE]; 2];
        let mut ranges = Ranges::default();
        let mut seed = 1_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..20_000 {
            let who = usize::try_from(random(2)).unwrap();
            let (a, b) = (random(SIZE as u64), random(SIZE as u64));
            let (start, end) = (a.min(b), a.max(b) + 1);
            let span = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
            let owner = [A, B][who];
            if random(3) == 0 {
                ranges.cut(owner, start, end).unwrap();
                bytes[who][span].fill(None);
                continue;
            }
            let kind = [LockKind::Shared, LockKind::Exclusive][usize::try_from(random(2)).unwrap()];
            let conflicts = bytes[1 - who][span.clone()]
                .iter()
                .flatten()
                .any(|other| kind == LockKind::Exclusive || *other == LockKind::Exclusive);
            let wanted = lock(owner, kind, start, end);
            assert_eq!(ranges.conflict(&wanted).is_some(), conflicts);
            if !conflicts {
                ranges.set(&wanted).unwrap();
                bytes[who][span].fill(Some(kind));
            }
        }
    }
}
