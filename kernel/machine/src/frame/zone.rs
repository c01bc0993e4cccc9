//! The policy of the frame allocator: buddy lists for what was freed, and a frontier a region for what was
//! never used, whose metadata is made as the frontier moves. So nothing is filled in at boot, however
//! large and sparse the map of memory is.
//!
//! The memory that the metadata of all frames will take is set aside in the figures from the start, as if it were made
//! at once: what is free at rest does not depend on how much was ever used.
//!
//! Blocks known to be zero have lists of their own. Frames are numbers here, and their metadata is behind
//! [`MetaMemory`], so that the policy is tested on the host. Locking: the caller's.

use core::sync::atomic::Ordering;

use super::meta::Meta;

/// Blocks are up to `2^MAX_ORDER` frames: 4 MiB.
pub(crate) const MAX_ORDER: usize = 10;
/// Frames whose metadata shares a page.
pub(crate) const GROUP: usize = crate::addr::PAGE_SIZE / size_of::<Meta>();
/// Frames whose metadata shares a table of the pages that it is in.
const TABLE_GROUP: usize = GROUP * 512;
/// Tables that a region needs besides.
const TABLES: usize = 2;
/// Buddies of lower orders have their metadata in one page.
const GROUP_ORDER: usize = GROUP.trailing_zeros() as usize;
const MAX_REGIONS: usize = 32;
/// Recycled frames are preferred once this many fresh ones are in use: below it, clearing a
/// recycled frame costs more than touching a fresh one.
const FRESH_FIRST: usize = 16 * 1024;
const NONE: u64 = u64::MAX;

/// Where metadata is, and how it comes to be there.
pub(crate) trait MetaMemory {
    /// The metadata of a frame that [`MetaMemory::populate`] was called for.
    fn meta(&self, number: usize) -> &Meta;

    /// Makes the metadata of the [`GROUP`] of frames that starts at `first`, all zero, unless it is there. Memory for it
    /// comes from `take`: frames (and whether they are zero) that stay taken. False when there is none.
    fn populate(&self, first: usize, take: &mut dyn FnMut() -> Option<(usize, bool)>) -> bool;
}

/// What the taker of a frame needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Zeroes.
    Zero,
    /// Bytes that will be written over.
    Any,
}

/// Frames `first..end` of RAM.
#[derive(Debug, Clone, Copy)]
struct Region {
    first: usize,
    /// Behind it lies the metadata of those before.
    end: usize,
    /// Where RAM ends.
    ram_end: usize,
    /// Frames from here on were never used.
    fresh: usize,
    /// Frames below have metadata.
    known: usize,
    /// Whether what was never used is zero.
    is_zero: bool,
}

/// The frames that are free, and where they are.
#[derive(Debug)]
pub(crate) struct Zone {
    regions: [Region; MAX_REGIONS],
    region_count: usize,
    /// First blocks of the lists: of any bytes, and of zeroes.
    heads: [[u64; MAX_ORDER + 1]; 2],
    /// The orders whose lists have blocks, a bit each.
    filled: [u32; 2],
    fresh_used: usize,
    free: usize,
    total: usize,
    /// Frames that metadata is in.
    metadata: usize,
    /// Frames that it will need in all, as far as that is known beforehand.
    metadata_at_most: usize,
    /// The most frames that may be in use.
    limit: usize,
    /// Metadata can be made.
    is_started: bool,
}

impl Zone {
    pub(crate) const fn new() -> Self {
        let none = Region {
            first: 0,
            end: 0,
            ram_end: 0,
            fresh: 0,
            known: 0,
            is_zero: false,
        };
        Self {
            regions: [none; MAX_REGIONS],
            region_count: 0,
            heads: [[NONE; MAX_ORDER + 1]; 2],
            filled: [0; 2],
            fresh_used: 0,
            free: 0,
            total: 0,
            metadata: 0,
            metadata_at_most: 0,
            limit: usize::MAX,
            is_started: false,
        }
    }

    /// Adds frames that were never used. False when there are too many regions.
    pub(crate) fn add_region(&mut self, first: usize, end: usize, is_zero: bool) -> bool {
        if self.region_count == MAX_REGIONS {
            return false;
        }
        if first < end {
            self.regions[self.region_count] = Region {
                first,
                end,
                ram_end: end,
                fresh: first,
                known: first,
                is_zero,
            };
            self.region_count += 1;
            self.free += end - first;
            self.total += end - first;
            // Of each `GROUP` + 1 frames one has the metadata of the others; the first group may be cut.
            let frames = end - first;
            let pages = frames.div_ceil(GROUP + 1) + 1;
            self.metadata_at_most += (pages + frames / TABLE_GROUP + TABLES).min(frames);
        }
        true
    }

    /// Whether one of the frames from `first` to before `end` is of a region.
    pub(crate) fn overlaps(&self, first: usize, end: usize) -> bool {
        let mut regions = self.regions[..self.region_count].iter();
        regions.any(|region| first < region.ram_end && region.first < end)
    }

    /// From now on metadata can be made.
    pub(crate) fn start(&mut self) {
        self.is_started = true;
    }

    /// Whether [`Zone::start`] was called.
    pub(crate) fn is_started(&self) -> bool {
        self.is_started
    }

    /// Takes a frame for good, without metadata: the first page tables need it before there can be any.
    pub(crate) fn take_early(&mut self) -> Option<(usize, bool)> {
        let mut regions = self.regions.iter_mut();
        let region = regions.find(|region| region.fresh < region.end)?;
        region.fresh += 1;
        self.free -= 1;
        Some((region.fresh - 1, region.is_zero))
    }

    /// Frames in all regions but for those of metadata.
    pub(crate) fn total(&self) -> usize {
        self.total - self.metadata.max(self.metadata_at_most)
    }

    /// Frames not in use, those that metadata will need among them.
    pub(crate) fn free(&self) -> usize {
        self.free
    }

    /// Frames that can be taken: those free, as far as the limit allows.
    pub(crate) fn available(&self) -> usize {
        let to_come = self.metadata_at_most.saturating_sub(self.metadata);
        let free = self.free.saturating_sub(to_come);
        free.min(self.limit.saturating_sub(self.in_use()))
    }

    /// Frames that were taken; metadata does not count.
    pub(crate) fn in_use(&self) -> usize {
        self.total - self.free - self.metadata
    }

    /// Sets the most frames that may be in use.
    pub(crate) fn set_limit(&mut self, frames: usize) {
        self.limit = frames;
    }

    /// The most frames that may be in use.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Takes a block of `2^order` frames, aligned to its size: its first frame, and whether it is zero.
    pub(crate) fn take(
        &mut self,
        memory: &impl MetaMemory,
        order: usize,
        wanted: Wanted,
    ) -> Option<(usize, bool)> {
        let size = 1 << order;
        if self.in_use() + size > self.limit {
            return None;
        }
        let (best, other) = match wanted {
            Wanted::Zero => (true, false),
            Wanted::Any => (false, true),
        };
        let is_fresh_first = wanted == Wanted::Zero && self.fresh_used < FRESH_FIRST;
        let taken = self
            .take_listed(memory, order, best)
            .or_else(|| is_fresh_first.then(|| self.take_fresh(memory, order))?)
            .or_else(|| self.take_listed(memory, order, other))
            .or_else(|| self.take_fresh(memory, order))?;
        self.free -= size;
        Some(taken)
    }

    /// Whether there are blocks in the list of those of any bytes.
    pub(crate) fn has_recycled(&self) -> bool {
        self.filled[0] != 0
    }

    /// Takes up to `most` frames beside each other that were never used, when such are preferred: the first, how many,
    /// and whether they are zero. Not more than there is `room` for where they go, which their being zero decides: what
    /// a CPU's list has no room for would go to the zone's lists frame by frame, and the next call would do so again.
    pub(crate) fn take_fresh_run(
        &mut self,
        memory: &impl MetaMemory,
        most: usize,
        room: impl Fn(bool) -> usize,
    ) -> Option<(usize, usize, bool)> {
        if self.fresh_used >= FRESH_FIRST || self.in_use() + most > self.limit {
            return None;
        }
        let mut regions = self.regions[..self.region_count].iter();
        let index = regions.position(|region| region.end - region.fresh > most)?;
        let most = most.min(room(self.regions[index].is_zero));
        if most == 0 {
            return None;
        }
        let first = self.know(memory, index, self.regions[index].fresh, most)?;
        let region = &mut self.regions[index];
        region.fresh += most;
        self.fresh_used += most;
        self.free -= most;
        Some((first, most, region.is_zero))
    }

    /// Gives frames back, one after another from `number`.
    pub(crate) fn give(
        &mut self,
        memory: &impl MetaMemory,
        mut number: usize,
        mut frames: usize,
        is_zero: bool,
    ) {
        self.free += frames;
        while frames > 0 {
            let aligned = (number.trailing_zeros() as usize).min(MAX_ORDER);
            let order = aligned.min(frames.ilog2() as usize);
            self.give_block(memory, number, order, is_zero);
            number += 1 << order;
            frames -= 1 << order;
        }
    }

    fn take_fresh(&mut self, memory: &impl MetaMemory, order: usize) -> Option<(usize, bool)> {
        let size = 1_usize << order;
        for index in 0..self.region_count {
            let number = self.regions[index].fresh.next_multiple_of(size);
            let Some(number) = self.know(memory, index, number, size) else {
                continue;
            };
            let region = &mut self.regions[index];
            let (skipped, first) = (number - region.fresh, region.fresh);
            region.fresh = number + size;
            let is_zero = region.is_zero;
            self.fresh_used += skipped + size;
            // They stay free, but are in the lists from now on.
            self.free -= skipped;
            self.give(memory, first, skipped, is_zero);
            return Some((number, is_zero));
        }
        None
    }

    /// Makes the metadata of `size` fresh frames of a region from `number` on. `None` when they are not there. Metadata
    /// lies in the region's last frames, out of the way of large blocks.
    fn know(
        &mut self,
        memory: &impl MetaMemory,
        index: usize,
        number: usize,
        size: usize,
    ) -> Option<usize> {
        let region = &mut self.regions[index];
        while region.known < number + size {
            if number + size > region.end {
                return None;
            }
            let group = region.known / GROUP * GROUP;
            let (end, is_zero) = (&mut region.end, region.is_zero);
            let (free, metadata) = (&mut self.free, &mut self.metadata);
            let mut take = || {
                (*end > number).then(|| {
                    *end -= 1;
                    *free -= 1;
                    *metadata += 1;
                    (*end, is_zero)
                })
            };
            if !memory.populate(group, &mut take) {
                return None;
            }
            region.known = group + GROUP;
        }
        (number + size <= region.end).then_some(number)
    }

    fn take_listed(
        &mut self,
        memory: &impl MetaMemory,
        order: usize,
        is_zero: bool,
    ) -> Option<(usize, bool)> {
        let filled = self.filled[usize::from(is_zero)] >> order;
        if filled == 0 {
            return None;
        }
        let found = order + filled.trailing_zeros() as usize;
        let number = self.heads[usize::from(is_zero)][found] as usize;
        self.unlink(memory, number, found, is_zero);
        for half in (order..found).rev() {
            self.link(memory, number + (1 << half), half, is_zero);
        }
        Some((number, is_zero))
    }

    fn give_block(
        &mut self,
        memory: &impl MetaMemory,
        mut number: usize,
        mut order: usize,
        mut is_zero: bool,
    ) {
        while order < MAX_ORDER {
            let buddy = number ^ (1 << order);
            if order >= GROUP_ORDER && !self.is_known(buddy) {
                break;
            }
            let Some((free_order, buddy_is_zero)) = memory.meta(buddy).free_block() else {
                break;
            };
            if free_order != order {
                break;
            }
            self.unlink(memory, buddy, order, buddy_is_zero);
            is_zero &= buddy_is_zero;
            number = number.min(buddy);
            order += 1;
        }
        self.link(memory, number, order, is_zero);
    }

    fn is_known(&self, number: usize) -> bool {
        let regions = &self.regions[..self.region_count];
        regions
            .iter()
            .any(|region| (region.first..region.known.min(region.end)).contains(&number))
    }

    fn link(&mut self, memory: &impl MetaMemory, number: usize, order: usize, is_zero: bool) {
        let head = &mut self.heads[usize::from(is_zero)][order];
        let meta = memory.meta(number);
        meta.mark_free(order, is_zero);
        meta.owner.store(*head, Ordering::Relaxed);
        meta.index.store(NONE, Ordering::Relaxed);
        if *head != NONE {
            let next = memory.meta(*head as usize);
            next.index.store(number as u64, Ordering::Relaxed);
        }
        *head = number as u64;
        self.filled[usize::from(is_zero)] |= 1 << order;
    }

    fn unlink(&mut self, memory: &impl MetaMemory, number: usize, order: usize, is_zero: bool) {
        let meta = memory.meta(number);
        let next = meta.owner.load(Ordering::Relaxed);
        let previous = meta.index.load(Ordering::Relaxed);
        if next != NONE {
            let next = memory.meta(next as usize);
            next.index.store(previous, Ordering::Relaxed);
        }
        if previous == NONE {
            self.heads[usize::from(is_zero)][order] = next;
            if next == NONE {
                self.filled[usize::from(is_zero)] &= !(1 << order);
            }
        } else {
            let previous = memory.meta(previous as usize);
            previous.owner.store(next, Ordering::Relaxed);
        }
        meta.mark_taken();
    }
}

#[cfg(test)]
mod tests;
