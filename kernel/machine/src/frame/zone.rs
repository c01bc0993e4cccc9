//! The policy of the frame allocator: buddy lists for what was freed, and a frontier a region for what was
//! never used, whose metadata is made as the frontier moves. So nothing is filled in at boot, however
//! large and sparse the map of memory is.
//!
//! The memory that the metadata of all frames will take is set aside in the figures from the start, as if it were made
//! at once: what is free at rest does not depend on how much was ever used.
//!
//! Frames are numbers here, and their metadata is behind [`MetaMemory`], so that the policy is tested on the host. What
//! was freed is in lists of [`blocks`]; those that the host keeps memory for are taken by [`Zone::take_unreported`], and
//! come back as reported. Locking: the caller's.

mod blocks;

use blocks::{Block, Blocks, List};

use super::meta::Meta;

pub(crate) use blocks::{MAX_ORDER, Unreported};
/// Frames whose metadata shares a page.
pub(crate) const GROUP: usize = crate::addr::PAGE_SIZE / size_of::<Meta>();
/// Frames whose metadata shares a table of the pages that it is in.
const TABLE_GROUP: usize = GROUP * 512;
/// Tables that a region needs besides.
const TABLES: usize = 2;
const MAX_REGIONS: usize = 32;
/// Recycled frames are preferred once this many fresh ones are in use: below it, clearing a
/// recycled frame costs more than touching a fresh one.
const FRESH_FIRST: usize = 16 * 1024;

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
    blocks: Blocks,
    fresh_used: usize,
    free: usize,
    /// Frames that are being reported: free, but not to be had.
    isolated: usize,
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
            blocks: Blocks::new(),
            fresh_used: 0,
            free: 0,
            isolated: 0,
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

    /// Frames that were taken; metadata and what is being reported do not count.
    pub(crate) fn in_use(&self) -> usize {
        self.total - self.free - self.isolated - self.metadata
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
        let taken = match wanted {
            Wanted::Zero => self.take_zero(memory, order),
            Wanted::Any => self.take_listed(
                memory,
                order,
                [
                    List::ANY,
                    List::ZERO,
                    List::REPORTED_ANY,
                    List::REPORTED_ZERO,
                ],
            ),
        };
        let taken = taken.or_else(|| self.take_fresh(memory, order))?;
        self.free -= size;
        Some(taken)
    }

    /// Frames of zeroes, if there are some. Those that the host has no memory for cost it a fault, as fresh ones do: they
    /// are preferred to clearing others as long as fresh ones are.
    fn take_zero(&mut self, memory: &impl MetaMemory, order: usize) -> Option<(usize, bool)> {
        let is_fresh_first = self.fresh_used < FRESH_FIRST;
        self.take_listed(memory, order, [List::ZERO])
            .or_else(|| {
                is_fresh_first.then(|| {
                    self.take_listed(memory, order, [List::REPORTED_ZERO])
                        .or_else(|| self.take_fresh(memory, order))
                })?
            })
            .or_else(|| {
                let others = [List::ANY, List::REPORTED_ZERO, List::REPORTED_ANY];
                self.take_listed(memory, order, others)
            })
    }

    fn take_listed<const N: usize>(
        &mut self,
        memory: &impl MetaMemory,
        order: usize,
        lists: [List; N],
    ) -> Option<(usize, bool)> {
        let mut lists = lists.into_iter();
        lists.find_map(|list| self.blocks.take(memory, order, list))
    }

    /// Whether there are blocks in the list of those of any bytes.
    pub(crate) fn has_recycled(&self) -> bool {
        self.blocks.has(List::ANY)
    }

    /// Whether there may be frames that are known to be zero.
    pub(crate) fn has_zeroes(&self) -> bool {
        let regions = &self.regions[..self.region_count];
        self.blocks.has(List::ZERO)
            || self.blocks.has(List::REPORTED_ZERO)
            || regions.iter().any(|it| it.is_zero && it.fresh < it.end)
    }

    /// Frames in blocks that are large enough to be reported, and have not been.
    pub(crate) fn unreported(&self) -> usize {
        self.blocks.unreported()
    }

    /// Takes a block out that is to be reported, until [`Zone::give_isolated`]. So much stays that nobody misses it
    /// meanwhile: three quarters of what can be had.
    pub(crate) fn take_unreported(&mut self, memory: &impl MetaMemory) -> Option<Unreported> {
        let all = self.available() + self.isolated;
        let most = (all / 4).saturating_sub(self.isolated);
        let block = self.blocks.take_unreported(memory, most)?;
        self.free -= block.frames();
        self.isolated += block.frames();
        Some(block)
    }

    /// Gives back what [`Zone::take_unreported`] took. What the host has taken is as it was at first, by the promise
    /// for fresh frames; or it is as it is, by virtio's.
    pub(crate) fn give_isolated(
        &mut self,
        memory: &impl MetaMemory,
        block: &Unreported,
        is_reported: bool,
    ) {
        self.free += block.frames();
        self.isolated -= block.frames();
        let mut regions = self.regions[..self.region_count].iter();
        let region = regions.find(|it| (it.first..it.ram_end).contains(&block.number));
        let is_zero = block.is_zero || is_reported && region.is_some_and(|it| it.is_zero);
        let unreported = if is_reported { 0 } else { block.unreported };
        self.give_block(memory, block.number, block.order, is_zero, unreported);
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
        number: usize,
        frames: usize,
        is_zero: bool,
    ) {
        self.free += frames;
        self.give_run(memory, (number, frames), is_zero, true);
    }

    /// Puts frames into the lists, as blocks.
    fn give_run(
        &mut self,
        memory: &impl MetaMemory,
        (mut number, mut frames): (usize, usize),
        is_zero: bool,
        was_used: bool,
    ) {
        while frames > 0 {
            let aligned = (number.trailing_zeros() as usize).min(MAX_ORDER);
            let order = aligned.min(frames.ilog2() as usize);
            let unreported = if was_used { 1 << order } else { 0 };
            self.give_block(memory, number, order, is_zero, unreported);
            number += 1 << order;
            frames -= 1 << order;
        }
    }

    fn give_block(
        &mut self,
        memory: &impl MetaMemory,
        number: usize,
        order: usize,
        is_zero: bool,
        unreported: u32,
    ) {
        let regions = &self.regions[..self.region_count];
        let block = Block {
            number,
            order,
            is_zero,
            unreported,
        };
        self.blocks
            .give(memory, block, |number| is_known(regions, number));
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
            self.give_run(memory, (first, skipped), is_zero, false);
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
}

fn is_known(regions: &[Region], number: usize) -> bool {
    regions
        .iter()
        .any(|region| (region.first..region.known.min(region.end)).contains(&number))
}

#[cfg(test)]
mod tests;
