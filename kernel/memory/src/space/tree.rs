//! The areas of an address space, in order of address. Pure data: no page table, no locks.
//!
//! Areas never overlap and are never empty; neighbours that could be one area are one. What is asked of all of
//! them together ([`Totals`]) is counted as they change.

mod chunk;
mod list;

use alloc::sync::Arc;
use core::ops::Range;

use abi::{Errno, Result};
use collections::Vec;

use super::area::{Area, AreaFlags, Prot};
use crate::page_source::PageSource;
pub(crate) use chunk::Chunk;
use list::{At, List};

/// The most areas an address space may have (Linux's `vm.max_map_count`).
pub(crate) const MAX_AREAS: usize = 65_530;

/// Areas that were taken out. Dropped by the caller once it holds no lock: a drop may close a file.
pub(crate) type Removed = Vec<Area>;

#[derive(Debug, Default)]
pub(crate) struct AreaTree {
    areas: List,
    totals: Totals,
    /// What the last search for a gap found out.
    searched: Option<Searched>,
}

/// Sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// All areas.
    pub(crate) all: u64,
    /// Private and writable, no stacks: what RLIMIT_DATA counts.
    pub(crate) data: u64,
    /// Locked.
    pub(crate) locked: u64,
    /// Stacks.
    pub(crate) stack: u64,
    /// Executable file mappings.
    pub(crate) exec: u64,
}

/// Between `end` and `top` there is no gap of `len` bytes.
#[derive(Debug, Clone, Copy)]
struct Searched {
    top: u64,
    end: u64,
    len: u64,
}

impl Totals {
    /// Counts `len` bytes of an area in, or out again: all arithmetic wraps, so the sums come out right.
    fn count(&mut self, area: &Area, len: u64) {
        let add = |sum: &mut u64, counts: bool| {
            if counts {
                *sum = sum.wrapping_add(len);
            }
        };
        let is_stack = area.flags.contains(AreaFlags::GROWS_DOWN);
        let is_exec = area.prot.contains(Prot::EXEC) && area.source.is_some();
        add(&mut self.all, true);
        add(&mut self.data, area.is_data());
        add(&mut self.locked, area.flags.contains(AreaFlags::LOCKED));
        add(&mut self.stack, is_stack);
        add(&mut self.exec, is_exec && !is_stack && !area.is_data());
    }

    fn count_out(&mut self, area: &Area, len: u64) {
        self.count(area, len.wrapping_neg());
    }
}

impl AreaTree {
    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Bytes in all areas.
    pub(crate) fn total(&self) -> u64 {
        self.totals.all
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.areas.len() == 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Area)> {
        self.from(0)
    }

    pub(crate) fn len(&self) -> usize {
        self.areas.len()
    }

    /// All areas that show some of `pages` of `source`, and some that do not.
    pub(crate) fn showing<'a>(
        &'a self,
        source: &'a dyn PageSource,
        pages: &'a Range<u64>,
    ) -> impl Iterator<Item = (u64, &'a Area)> {
        let entries = self.areas.showing(source, pages);
        entries.map(|(start, area)| (*start, area))
    }

    /// The areas that end above `addr`.
    pub(crate) fn from(&self, addr: u64) -> impl Iterator<Item = (u64, &Area)> {
        self.areas
            .from(self.areas.seek(addr))
            .map(|(start, area)| (*start, area))
    }

    /// The area that holds `addr`.
    pub(crate) fn find(&self, addr: u64) -> Option<(u64, &Area)> {
        let (start, area) = self.areas.get(self.areas.seek(addr))?;
        (*start <= addr).then_some((*start, area))
    }

    /// The first area that starts at or above `addr`, for an `addr` that is in none.
    pub(crate) fn next_above(&self, addr: u64) -> Option<(u64, &Area)> {
        let (start, area) = self.areas.get(self.areas.seek(addr))?;
        Some((*start, area))
    }

    /// The first area that touches `range`, and whether it is the only one.
    pub(crate) fn first_in(&self, range: &Range<u64>) -> Option<((u64, &Area), bool)> {
        let at = self.areas.seek(range.start);
        let (start, area) = self.areas.get(at).filter(|(start, _)| *start < range.end)?;
        let is_only = area.end >= range.end
            || self
                .areas
                .get(self.areas.next(at))
                .is_none_or(|(next, _)| *next >= range.end);
        Some(((*start, area), is_only))
    }

    /// The last area that ends at or below `addr`.
    pub(crate) fn last_below(&self, addr: u64) -> Option<(u64, &Area)> {
        let (start, area) = self
            .areas
            .get(self.areas.previous(self.areas.seek(addr))?)?;
        Some((*start, area))
    }

    /// The areas that touch `range`, whole. The CPU may be given away between them.
    pub(crate) fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &Area)> {
        let end = if range.is_empty() { 0 } else { range.end };
        self.from(range.start)
            .take_while(move |(start, _)| *start < end)
            .inspect(|_| sched::cond_resched())
    }

    pub(crate) fn overlaps(&self, range: Range<u64>) -> bool {
        !range.is_empty() && self.first_in(&range).is_some()
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

    /// Makes room in an empty tree for `len` areas to be appended.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn reserve_appends(&mut self, len: usize) -> Result<()> {
        self.areas.reserve_pushes(len)
    }

    /// Adds an area where there is none, as one with its neighbours if they match.
    ///
    /// # Errors
    /// `ENOMEM` when there are too many or there is no memory.
    pub(crate) fn insert(&mut self, start: u64, area: Area) -> Result<()> {
        debug_assert!(
            start < area.end && !self.overlaps(start..area.end),
            "areas overlap"
        );
        let len = area.end - start;
        let at = self.areas.seek(start);
        let before = self.areas.previous(at);
        if let Some((next_start, next)) = self.areas.get_mut(at)
            && *next_start == area.end
            && continues(start, &area, next)
        {
            self.totals.count(&area, len);
            *next_start = start;
            next.offset = area.offset;
            next.note_copied(area.is_copied());
            self.merge_at(at);
        } else if let Some((previous_start, previous)) =
            before.and_then(|before| self.areas.get_mut(before))
            && previous.end == start
            && continues(*previous_start, previous, &area)
        {
            self.totals.count(&area, len);
            previous.end = area.end;
            previous.note_copied(area.is_copied());
        } else {
            // As on Linux, mmap(2) may exceed the limit by one.
            if self.areas.len() > MAX_AREAS {
                return Err(Errno::ENOMEM);
            }
            self.areas.reserve(1)?;
            self.totals.count(&area, len);
            self.areas.insert(at, (start, area))?;
        }
        Ok(())
    }

    /// Adds a copy of an area of another tree, behind all others, without merging.
    ///
    /// # Errors
    /// `ENOMEM`; none after [`Self::reserve_appends`].
    pub(crate) fn append(&mut self, start: u64, area: Area) -> Result<()> {
        self.totals.count(&area, area.end - start);
        self.areas.push((start, area))
    }

    /// Takes out whatever is in `range`, splitting areas at its ends.
    ///
    /// # Errors
    /// `ENOMEM` when a split makes too many or there is no memory; nothing has changed then.
    pub(crate) fn remove(&mut self, range: Range<u64>, removed: &mut Removed) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let has_file = |area: &Area| area.source.is_some() || area.origin.is_some();
        let files = match self.first_in(&range) {
            None => return Ok(()),
            Some(((_, area), true)) => usize::from(has_file(area)),
            Some(_) => self
                .overlapping(range.clone())
                .filter(|(_, area)| has_file(area))
                .count(),
        };
        if files > 0 {
            removed.try_reserve(files)?;
        }
        self.isolate(range.clone())?;
        let Self { areas, totals, .. } = self;
        areas.drain(range.clone(), |(start, area)| {
            totals.count_out(&area, area.end - start);
            if has_file(&area) {
                // Room for it was reserved.
                drop(removed.push_within_capacity(area));
            }
            sched::cond_resched();
        });
        if let Some(known) = self.searched {
            let gap_end = self
                .next_above(range.end)
                .map_or(known.top, |(start, _)| start);
            let end = known.end.max(gap_end.min(known.top));
            self.searched = Some(Searched { end, ..known });
        }
        Ok(())
    }

    /// Changes every area in `range`, splitting at its ends and merging what matches afterwards.
    ///
    /// # Errors
    /// `ENOMEM` when a split makes too many or there is no memory; nothing has changed then.
    pub(crate) fn update(
        &mut self,
        range: Range<u64>,
        mut change: impl FnMut(&mut Area),
    ) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        self.isolate(range.clone())?;
        let mut at = self.areas.seek(range.start);
        while let Some((start, area)) = self.areas.get_mut(at)
            && *start < range.end
        {
            let len = area.end - *start;
            self.totals.count_out(area, len);
            change(area);
            self.totals.count(area, len);
            // The next one is where it is, or in its place.
            let end = area.end;
            self.merge_at(at);
            at = self.areas.seek(end);
            sched::cond_resched();
        }
        self.merge_at(at);
        Ok(())
    }

    /// Moves the start of the area at `start` down (a stack grows).
    pub(crate) fn grow_down(&mut self, start: u64, new_start: u64) {
        let at = self.areas.seek(start);
        if let Some((found, area)) = self.areas.get_mut(at)
            && *found == start
        {
            *found = new_start;
            area.offset = area.offset.wrapping_sub(start - new_start);
            self.totals.count(area, start - new_start);
        }
    }

    /// The highest gap of `len` bytes that ends at or below `top` and starts at or above `bottom`.
    pub(crate) fn gap(&mut self, len: u64, bottom: u64, top: u64) -> Option<u64> {
        let known = self
            .searched
            .filter(|known| known.top == top && len >= known.len);
        let gap = self.search_gap(len, bottom, known.map_or(top, |known| known.end))?;
        // The gap itself is about to be filled from its end on.
        self.searched = Some(Searched { top, end: gap, len });
        Some(gap)
    }

    fn search_gap(&self, len: u64, bottom: u64, top: u64) -> Option<u64> {
        let mut end = top;
        // The first area that is not wholly below `top` may reach below it.
        let at = self.areas.seek(top);
        if let Some((start, _)) = self.areas.get(at) {
            end = end.min(*start);
        }
        for (start, area) in self.areas.before(at) {
            if end < bottom.saturating_add(len) {
                return None;
            }
            if end - area.end >= len && end - len >= bottom {
                return Some(end - len);
            }
            end = *start;
        }
        (end >= bottom.saturating_add(len)).then(|| end - len)
    }

    /// Takes everything out.
    pub(crate) fn take_all(&mut self) -> Vec<Chunk> {
        self.totals = Totals::default();
        self.searched = None;
        self.areas.take_chunks()
    }

    /// Splits areas so that `range` begins and ends at area borders.
    fn isolate(&mut self, range: Range<u64>) -> Result<()> {
        let splits = |at: u64| self.find(at).is_some_and(|(start, _)| start < at);
        let more = usize::from(splits(range.start)) + usize::from(splits(range.end));
        if more > 0 {
            if self.areas.len() + more > MAX_AREAS {
                return Err(Errno::ENOMEM);
            }
            self.areas.reserve(more)?;
            self.split(range.start)?;
            self.split(range.end)?;
        }
        Ok(())
    }

    /// Makes `at` a border.
    fn split(&mut self, at: u64) -> Result<()> {
        let place = self.areas.seek(at);
        let Some((start, area)) = self.areas.get_mut(place) else {
            return Ok(());
        };
        if *start >= at {
            return Ok(());
        }
        let mut upper = area.clone();
        upper.offset = area.offset.wrapping_add(at - *start);
        area.end = at;
        let behind = self.areas.next(place);
        self.areas.insert(behind, (at, upper))
    }

    /// Makes the area at `at` one with the one before it, if they match.
    fn merge_at(&mut self, at: At) {
        let Some(before) = self.areas.previous(at) else {
            return;
        };
        let (Some((start, area)), Some((next_start, next))) =
            (self.areas.get(before), self.areas.get(at))
        else {
            return;
        };
        if area.end != *next_start || !continues(*start, area, next) {
            return;
        }
        let (start, end, is_copied) = (*start, next.end, next.is_copied());
        // The list may move what is left.
        drop(self.areas.remove(at));
        let before = self.areas.seek(start);
        if let Some((_, area)) = self.areas.get_mut(before) {
            area.end = end;
            area.note_copied(is_copied);
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
        && area.attachment.is_none()
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
