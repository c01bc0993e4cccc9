//! The areas of an address space, by start address. Pure data: no page table, no locks.
//!
//! Areas never overlap and are never empty; neighbours that could be one area are one.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use abi::{Errno, Result};

use super::area::{Area, AreaFlags, Prot};

/// The most areas an address space may have (Linux's `vm.max_map_count`).
pub(crate) const MAX_AREAS: usize = 65_530;

/// Areas that were taken out. Dropped by the caller once it holds no lock: a drop may close a file.
pub(crate) type Removed = Vec<Area>;

#[derive(Debug, Default)]
pub(crate) struct AreaTree {
    areas: BTreeMap<u64, Area>,
    /// Bytes in all areas.
    total: u64,
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

    /// The area that holds `addr`.
    pub(crate) fn find(&self, addr: u64) -> Option<(u64, &Area)> {
        let (start, area) = self.areas.range(..=addr).next_back()?;
        (addr < area.end).then_some((*start, area))
    }

    /// The area that holds `addr`, for changes that keep its range.
    pub(crate) fn find_mut(&mut self, addr: u64) -> Option<(u64, &mut Area)> {
        let (start, area) = self.areas.range_mut(..=addr).next_back()?;
        (addr < area.end).then_some((*start, area))
    }

    /// The first area that starts above `addr`.
    pub(crate) fn next_above(&self, addr: u64) -> Option<(u64, &Area)> {
        self.areas
            .range(addr..)
            .next()
            .map(|(start, area)| (*start, area))
    }

    /// The last area that starts below `addr`.
    pub(crate) fn last_below(&self, addr: u64) -> Option<(u64, &Area)> {
        self.areas
            .range(..addr)
            .next_back()
            .map(|(start, area)| (*start, area))
    }

    /// The areas that touch `range`, whole.
    pub(crate) fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &Area)> {
        let first = self
            .find(range.start)
            .map_or(range.start, |(start, _)| start);
        self.areas
            .range(first..range.end.max(first))
            .map(|(start, area)| (*start, area))
    }

    pub(crate) fn overlaps(&self, range: Range<u64>) -> bool {
        self.overlapping(range).next().is_some()
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

    /// Adds an area where there is none, as one with its neighbours if they match.
    ///
    /// # Errors
    /// `ENOMEM` when there are too many.
    pub(crate) fn insert(&mut self, start: u64, mut area: Area) -> Result<()> {
        if self.areas.len() >= MAX_AREAS {
            return Err(Errno::ENOMEM);
        }
        debug_assert!(
            start < area.end && !self.overlaps(start..area.end),
            "areas overlap"
        );
        self.total += area.end - start;
        if let Some(next) = self.areas.get(&area.end)
            && continues(start, &area, next)
        {
            let next_start = area.end;
            area.end = next.end;
            area.is_copied |= next.is_copied;
            self.areas.remove(&next_start);
        }
        if let Some((&previous_start, previous)) = self.areas.range_mut(..start).next_back()
            && previous.end == start
            && continues(previous_start, previous, &area)
        {
            previous.end = area.end;
            previous.is_copied |= area.is_copied;
            return Ok(());
        }
        self.areas.insert(start, area);
        Ok(())
    }

    /// Takes out whatever is in `range`, splitting areas at its ends.
    ///
    /// # Errors
    /// `ENOMEM` when a split makes too many; nothing has changed then.
    pub(crate) fn remove(&mut self, range: Range<u64>, removed: &mut Removed) -> Result<()> {
        self.isolate(range.clone())?;
        while let Some((&start, _)) = self.areas.range(range.clone()).next() {
            if let Some(area) = self.areas.remove(&start) {
                self.total -= area.end - start;
                if area.source.is_some() || area.origin.is_some() {
                    removed.push(area);
                }
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
        self.isolate(range.clone())?;
        for (_, area) in self.areas.range_mut(range.clone()) {
            change(area);
        }
        self.merge(range);
        Ok(())
    }

    /// Moves the start of the area at `start` down (a stack grows).
    pub(crate) fn grow_down(&mut self, start: u64, new_start: u64) {
        if let Some(mut area) = self.areas.remove(&start) {
            let growth = start - new_start;
            area.offset = area.offset.wrapping_sub(growth);
            self.total += growth;
            self.areas.insert(new_start, area);
        }
    }

    /// The highest gap of `len` bytes that ends at or below `top` and starts at or above `bottom`.
    pub(crate) fn gap(&self, len: u64, bottom: u64, top: u64) -> Option<u64> {
        let mut end = top;
        for (&start, area) in self.areas.range(..top).rev() {
            if area.end <= end {
                let gap_start = area.end;
                if end - gap_start >= len && end - len >= bottom {
                    return Some(end - len);
                }
            }
            end = end.min(start);
            if end < bottom.saturating_add(len) {
                return None;
            }
        }
        (end >= bottom.saturating_add(len)).then(|| end - len)
    }

    /// Takes everything out.
    pub(crate) fn take_all(&mut self) -> BTreeMap<u64, Area> {
        self.total = 0;
        core::mem::take(&mut self.areas)
    }

    /// Splits areas so that `range` begins and ends at area borders.
    fn isolate(&mut self, range: Range<u64>) -> Result<()> {
        let is_inside = |at| self.find(at).is_some_and(|(start, _)| start < at);
        let splits = usize::from(is_inside(range.start)) + usize::from(is_inside(range.end));
        if self.areas.len() + splits > MAX_AREAS {
            return Err(Errno::ENOMEM);
        }
        self.split(range.start);
        self.split(range.end);
        Ok(())
    }

    fn split(&mut self, at: u64) {
        let Some((start, area)) = self.find_mut(at) else {
            return;
        };
        if start == at {
            return;
        }
        let mut upper = area.clone();
        upper.offset = area.offset.wrapping_add(at - start);
        area.end = at;
        self.areas.insert(at, upper);
    }

    fn merge(&mut self, range: Range<u64>) {
        let mut at = self
            .last_below(range.start)
            .map_or(range.start, |(start, _)| start);
        while at <= range.end {
            let Some((&start, area)) = self.areas.range(at..=range.end).next() else {
                return;
            };
            let end = area.end;
            at = start + 1;
            let Some(next) = self.areas.get(&end) else {
                continue;
            };
            if !continues(start, area, next) {
                continue;
            }
            let (next_end, is_copied) = (next.end, next.is_copied);
            self.areas.remove(&end);
            if let Some(area) = self.areas.get_mut(&start) {
                area.end = next_end;
                area.is_copied |= is_copied;
            }
            at = start;
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
