//! The areas of an address space, in order of address. Pure data: no page table, no locks.
//!
//! Areas never overlap and are never empty; neighbours that could be one area are one. They are in a sorted
//! vector: a process has some tens, looking one up matters most, and growing a vector can fail politely.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ops::Range;

use abi::{Errno, Result};

use super::area::{Area, AreaFlags, Prot};

/// The most areas an address space may have (Linux's `vm.max_map_count`).
pub(crate) const MAX_AREAS: usize = 65_530;

/// Areas that were taken out. Dropped by the caller once it holds no lock: a drop may close a file.
pub(crate) type Removed = Vec<Area>;

#[derive(Debug, Default)]
pub(crate) struct AreaTree {
    areas: Vec<(u64, Area)>,
    /// Bytes in all areas.
    total: u64,
    /// Where the last look-up ended: the next one is often the same.
    last_found: Cell<usize>,
    /// What the last search for a gap found out.
    searched: Cell<Option<Searched>>,
}

/// Between `end` and `top` there is no gap of `len` bytes.
#[derive(Debug, Clone, Copy)]
struct Searched {
    top: u64,
    end: u64,
    len: u64,
}

impl AreaTree {
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.areas.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Area)> {
        self.areas.iter().map(|(start, area)| (*start, area))
    }

    pub(crate) fn len(&self) -> usize {
        self.areas.len()
    }

    /// Index of the first area that ends above `addr`.
    fn index_of(&self, addr: u64) -> usize {
        let guess = self.last_found.get();
        if let Some((start, area)) = self.areas.get(guess)
            && *start <= addr
            && addr < area.end
        {
            return guess;
        }
        let index = self.areas.partition_point(|(_, area)| area.end <= addr);
        self.last_found.set(index);
        index
    }

    /// The area that holds `addr`.
    pub(crate) fn find(&self, addr: u64) -> Option<(u64, &Area)> {
        let (start, area) = self.areas.get(self.index_of(addr))?;
        (*start <= addr).then_some((*start, area))
    }

    /// The area that holds `addr`, for changes that keep its range.
    pub(crate) fn find_mut(&mut self, addr: u64) -> Option<(u64, &mut Area)> {
        let index = self.index_of(addr);
        let (start, area) = self.areas.get_mut(index)?;
        (*start <= addr).then_some((*start, area))
    }

    /// The first area that starts at or above `addr`, for an `addr` that is in none.
    pub(crate) fn next_above(&self, addr: u64) -> Option<(u64, &Area)> {
        self.areas
            .get(self.index_of(addr))
            .map(|(start, area)| (*start, area))
    }

    /// The last area that ends at or below `addr`.
    pub(crate) fn last_below(&self, addr: u64) -> Option<(u64, &Area)> {
        let index = self.index_of(addr).checked_sub(1)?;
        self.areas.get(index).map(|(start, area)| (*start, area))
    }

    /// The areas that touch `range`, whole.
    pub(crate) fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &Area)> {
        let areas = if range.is_empty() {
            &[]
        } else {
            &self.areas[self.index_of(range.start)..]
        };
        areas
            .iter()
            .take_while(move |(start, _)| *start < range.end)
            .map(|(start, area)| (*start, area))
    }

    pub(crate) fn overlaps(&self, range: Range<u64>) -> bool {
        self.overlapping(range).next().is_some()
    }

    /// From the first address in an area to behind the last.
    pub(crate) fn bounds(&self) -> Range<u64> {
        let start = self.areas.first().map_or(0, |(start, _)| *start);
        start..self.areas.last().map_or(start, |(_, area)| area.end)
    }

    /// Whether every address of `range` is in an area.
    pub(crate) fn covers(&self, range: Range<u64>) -> bool {
        let mut at = range.start;
        for (start, area) in self.overlapping(range.clone()) {
            if start > at {
                return false;
            }
            at = area.end;
        }
        at >= range.end
    }

    /// Makes room for `more` areas.
    ///
    /// # Errors
    /// `ENOMEM` when there are too many or there is no memory.
    pub(crate) fn reserve(&mut self, more: usize) -> Result<()> {
        if self.areas.len() + more > MAX_AREAS {
            return Err(Errno::ENOMEM);
        }
        self.areas.try_reserve(more).map_err(|_| Errno::ENOMEM)
    }

    /// Adds an area where there is none, as one with its neighbours if they match.
    ///
    /// # Errors
    /// `ENOMEM` when there are too many or there is no memory.
    pub(crate) fn insert(&mut self, start: u64, area: Area) -> Result<()> {
        self.reserve(1)?;
        debug_assert!(
            start < area.end && !self.overlaps(start..area.end),
            "areas overlap"
        );
        self.total += area.end - start;
        let index = self.index_of(start);
        if let Some((next_start, next)) = self.areas.get_mut(index)
            && *next_start == area.end
            && continues(start, &area, next)
        {
            *next_start = start;
            next.offset = area.offset;
            next.is_copied |= area.is_copied;
            self.merge_at(index);
        } else if let Some((previous_start, previous)) = index
            .checked_sub(1)
            .and_then(|before| self.areas.get_mut(before))
            && previous.end == start
            && continues(*previous_start, previous, &area)
        {
            previous.end = area.end;
            previous.is_copied |= area.is_copied;
        } else {
            self.areas.insert(index, (start, area));
        }
        Ok(())
    }

    /// Adds a copy of an area of another tree, behind all others, without merging.
    pub(crate) fn append(&mut self, start: u64, area: Area) {
        self.total += area.end - start;
        self.areas.push((start, area));
    }

    /// Takes out whatever is in `range`, splitting areas at its ends.
    ///
    /// # Errors
    /// `ENOMEM` when a split makes too many; nothing has changed then.
    pub(crate) fn remove(&mut self, range: Range<u64>, removed: &mut Removed) -> Result<()> {
        let indices = self.isolate(range)?;
        if let Some(known) = self.searched.get() {
            let gap_end = self
                .areas
                .get(indices.end)
                .map_or(known.top, |(start, _)| *start);
            let end = known.end.max(gap_end.min(known.top));
            self.searched.set(Some(Searched { end, ..known }));
        }
        for (start, area) in self.areas.drain(indices) {
            self.total -= area.end - start;
            if area.source.is_some() || area.origin.is_some() {
                removed.push(area);
            }
        }
        Ok(())
    }

    /// Changes every area in `range`, splitting at its ends and merging what matches afterwards.
    ///
    /// # Errors
    /// `ENOMEM` when a split makes too many; nothing has changed then.
    pub(crate) fn update(
        &mut self,
        range: Range<u64>,
        mut change: impl FnMut(&mut Area),
    ) -> Result<()> {
        let indices = self.isolate(range)?;
        for (_, area) in &mut self.areas[indices.clone()] {
            change(area);
        }
        for index in indices.start..=indices.end {
            // From the end on, so that indices stay right.
            self.merge_at(indices.start + (indices.end - index));
        }
        Ok(())
    }

    /// Moves the start of the area at `start` down (a stack grows).
    pub(crate) fn grow_down(&mut self, start: u64, new_start: u64) {
        let index = self.index_of(start);
        if let Some((at, area)) = self.areas.get_mut(index)
            && *at == start
        {
            *at = new_start;
            area.offset = area.offset.wrapping_sub(start - new_start);
            self.total += start - new_start;
        }
    }

    /// The highest gap of `len` bytes that ends at or below `top` and starts at or above `bottom`.
    pub(crate) fn gap(&self, len: u64, bottom: u64, top: u64) -> Option<u64> {
        let known = self
            .searched
            .get()
            .filter(|known| known.top == top && len >= known.len);
        let gap = self.search_gap(len, bottom, known.map_or(top, |known| known.end))?;
        // The gap itself is about to be filled from its end on.
        self.searched.set(Some(Searched { top, end: gap, len }));
        Some(gap)
    }

    fn search_gap(&self, len: u64, bottom: u64, top: u64) -> Option<u64> {
        let mut end = top;
        let above = self.areas.partition_point(|(start, _)| *start < top);
        for (start, area) in self.areas[..above].iter().rev() {
            if area.end <= end && end - area.end >= len && end - len >= bottom {
                return Some(end - len);
            }
            end = end.min(*start);
            if end < bottom.saturating_add(len) {
                return None;
            }
        }
        (end >= bottom.saturating_add(len)).then(|| end - len)
    }

    /// Takes everything out.
    pub(crate) fn take_all(&mut self) -> Vec<(u64, Area)> {
        self.total = 0;
        self.searched.set(None);
        core::mem::take(&mut self.areas)
    }

    /// Splits areas so that `range` begins and ends at area borders; returns the indices in between.
    fn isolate(&mut self, range: Range<u64>) -> Result<Range<usize>> {
        if range.is_empty() {
            return Ok(0..0);
        }
        self.reserve(2)?;
        let first = self.split(range.start);
        let last = self.split(range.end);
        Ok(first..last)
    }

    /// Makes `at` a border; returns the index of the first area behind it.
    fn split(&mut self, at: u64) -> usize {
        let index = self.index_of(at);
        let Some((start, area)) = self.areas.get_mut(index) else {
            return index;
        };
        if *start >= at {
            return index;
        }
        let mut upper = area.clone();
        upper.offset = area.offset.wrapping_add(at - *start);
        area.end = at;
        self.areas.insert(index + 1, (at, upper));
        index + 1
    }

    /// Makes the area at `index` one with the one before it, if they match.
    fn merge_at(&mut self, index: usize) {
        let Some(before) = index.checked_sub(1) else {
            return;
        };
        let (Some((start, area)), Some((next_start, next))) =
            (self.areas.get(before), self.areas.get(index))
        else {
            return;
        };
        if area.end != *next_start || !continues(*start, area, next) {
            return;
        }
        let (_, merged) = self.areas.remove(index);
        if let Some((_, area)) = self.areas.get_mut(before) {
            area.end = merged.end;
            area.is_copied |= merged.is_copied;
        }
    }
}

/// Whether `next`, which begins where `area` ends, could be the same area.
fn continues(start: u64, area: &Area, next: &Area) -> bool {
    area.prot == next.prot
        && area.max_prot == next.max_prot
        && area.flags == next.flags
        && same(area.source.as_ref(), next.source.as_ref())
        && same(area.origin.as_ref(), next.origin.as_ref())
        && (area.source.is_none() || area.offset.wrapping_add(area.end - start) == next.offset)
}

fn same<T: ?Sized>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => core::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other)),
        _ => false,
    }
}

impl Area {
    /// Private, writable and no stack: what RLIMIT_DATA counts.
    pub(crate) fn is_data(&self) -> bool {
        self.prot.contains(Prot::WRITE)
            && !self
                .flags
                .intersects(AreaFlags::SHARED | AreaFlags::GROWS_DOWN)
    }
}

#[cfg(test)]
mod tests;
