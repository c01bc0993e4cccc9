//! The sorted list that [`super::AreaTree`] is over: areas in chunks of about a page, so that a process
//! with 65,530 of them inserts one without moving all the others. Pure data.
//!
//! No chunk is empty. A place ([`At`]) holds until the list changes. What [`List::reserve`] promised needs no
//! memory any more.

use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use abi::Result;
use collections::Vec;

use super::chunk::{Chunk, Entry};
use crate::page_source::PageSource;

/// Entries of a chunk: a page of them.
const CHUNK: usize = 40;
/// Empty chunks that are kept once there is more than one: a change needs two at most.
const SPARE: usize = 2;

/// A place in the list; behind the last entry it is the first slot of a chunk that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    chunk: usize,
    slot: usize,
}

#[derive(Debug, Default)]
pub(super) struct List {
    chunks: Vec<Chunk>,
    spare: Vec<Chunk>,
    len: usize,
    /// Where the last look-up ended: the next one is often the same.
    last: AtomicUsize,
}

impl At {
    /// A number that [`At::recalled`] makes the place of again.
    fn remembered(self) -> usize {
        self.chunk << 16 | self.slot
    }

    fn recalled(number: usize) -> Self {
        At {
            chunk: number >> 16,
            slot: number & 0xffff,
        }
    }
}

impl List {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, at: At) -> Option<&Entry> {
        self.chunks.get(at.chunk)?.get(at.slot)
    }

    pub(super) fn get_mut(&mut self, at: At) -> Option<&mut Entry> {
        self.chunks.get_mut(at.chunk)?.get_mut(at.slot)
    }

    pub(super) fn first(&self) -> Option<&Entry> {
        self.chunks.first()?.first()
    }

    pub(super) fn last(&self) -> Option<&Entry> {
        self.chunks.last()?.last()
    }

    /// The first entry that ends above `addr`.
    pub(super) fn seek(&self, addr: u64) -> At {
        let last = At::recalled(self.last.load(Ordering::Relaxed));
        if self.is_first_above(last, addr) {
            return last;
        }
        let at = self.search(addr);
        self.last.store(at.remembered(), Ordering::Relaxed);
        at
    }

    /// Whether `at` is the first entry that ends above `addr`.
    fn is_first_above(&self, at: At, addr: u64) -> bool {
        let Some(chunk) = self.chunks.get(at.chunk) else {
            return false;
        };
        match chunk.get(at.slot) {
            Some((start, area)) if area.end > addr => {
                *start <= addr
                    || at
                        .slot
                        .checked_sub(1)
                        .and_then(|before| chunk.get(before))
                        .is_some_and(|(_, before)| before.end <= addr)
            }
            _ => false,
        }
    }

    fn search(&self, addr: u64) -> At {
        let ends_below = |(_, area): &Entry| area.end <= addr;
        let chunk = if self.chunks.len() == 1 {
            0
        } else {
            self.chunks
                .partition_point(|chunk| chunk.last().is_some_and(ends_below))
        };
        let slot = self
            .chunks
            .get(chunk)
            .map_or(0, |chunk| chunk.partition_point(ends_below));
        self.normal(At { chunk, slot })
    }

    /// A place behind a chunk's last entry is the next chunk's first.
    fn normal(&self, at: At) -> At {
        match self.chunks.get(at.chunk) {
            Some(chunk) if at.slot >= chunk.len() => At {
                chunk: at.chunk + 1,
                slot: 0,
            },
            _ => at,
        }
    }

    pub(super) fn next(&self, at: At) -> At {
        self.normal(At {
            slot: at.slot + 1,
            ..at
        })
    }

    pub(super) fn previous(&self, at: At) -> Option<At> {
        if let Some(slot) = at.slot.checked_sub(1) {
            return Some(At { slot, ..at });
        }
        let chunk = at.chunk.checked_sub(1)?;
        let slot = self.chunks.get(chunk)?.len().checked_sub(1)?;
        Some(At { chunk, slot })
    }

    /// The entries from a place on.
    pub(super) fn from(&self, at: At) -> impl Iterator<Item = &Entry> {
        let (first, rest) = match self.chunks.get(at.chunk..) {
            Some([first, rest @ ..]) => (first.get(at.slot..).unwrap_or(&[]), rest),
            _ => (&[] as &[Entry], &[] as &[Chunk]),
        };
        first.iter().chain(rest.iter().flatten())
    }

    /// The entries of the chunks that may show some of `pages` of `source`. The CPU may be given away between them.
    pub(super) fn showing<'a>(
        &'a self,
        source: &'a dyn PageSource,
        pages: &'a Range<u64>,
    ) -> impl Iterator<Item = &'a Entry> {
        let may_show = |chunk: &&Chunk| {
            sched::cond_resched();
            chunk.may_show(source, pages)
        };
        self.chunks.iter().filter(may_show).flatten()
    }

    /// The entries before a place, backwards.
    pub(super) fn before(&self, at: At) -> impl Iterator<Item = &Entry> {
        let part = self
            .chunks
            .get(at.chunk)
            .and_then(|chunk| chunk.get(..at.slot))
            .unwrap_or(&[]);
        let rest = &self.chunks[..at.chunk.min(self.chunks.len())];
        part.iter().rev().chain(rest.iter().flatten().rev())
    }

    /// Makes room, so that `more` (at most [`SPARE`]) insertions need no memory.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn reserve(&mut self, more: usize) -> Result<()> {
        match self.chunks.as_mut_slice() {
            [] => {}
            [only] if only.len() + more <= CHUNK => {
                return Ok(only.try_reserve(more)?);
            }
            _ => return self.reserve_chunks(SPARE),
        }
        self.chunks.try_reserve(1)?;
        self.spare.try_reserve(SPARE)?;
        if self.spare.is_empty() {
            self.spare
                .try_push(Chunk::new(Vec::try_with_capacity(more)?))?;
        }
        Ok(())
    }

    /// Has `more` chunks ready.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn reserve_chunks(&mut self, more: usize) -> Result<()> {
        self.chunks.try_reserve(more)?;
        for spare in self.spare.as_mut_slice() {
            spare.try_reserve_exact(CHUNK)?;
        }
        while self.spare.len() < more {
            self.spare
                .try_push(Chunk::new(Vec::try_with_capacity(CHUNK)?))?;
        }
        Ok(())
    }

    /// Makes room, so that `len` entries can be put into an empty list by [`Self::push`].
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn reserve_pushes(&mut self, len: usize) -> Result<()> {
        if len > CHUNK {
            return self.reserve_chunks(len.div_ceil(CHUNK));
        }
        self.reserve(len)
    }

    /// Adds an entry behind all others.
    ///
    /// # Errors
    /// `ENOMEM`; none when the caller has reserved.
    pub(super) fn push(&mut self, entry: Entry) -> Result<()> {
        let at = At {
            chunk: self.chunks.len(),
            slot: 0,
        };
        self.insert(at, entry)
    }

    /// Puts an entry in front of the one at `at`.
    ///
    /// # Errors
    /// `ENOMEM`; none when the caller has reserved.
    pub(super) fn insert(&mut self, at: At, entry: Entry) -> Result<()> {
        let at = self.make_room(at)?;
        if let Some(chunk) = self.chunks.get_mut(at.chunk) {
            chunk.try_insert(at.slot, entry)?;
            self.len += 1;
        }
        Ok(())
    }

    /// Where an entry for `at` can be put.
    fn make_room(&mut self, at: At) -> Result<At> {
        // Behind the last entry of a chunk is a place as good as in front of the next one.
        let at = match at.chunk.checked_sub(1) {
            Some(before) if at.slot == 0 && self.has_room(before) => At {
                chunk: before,
                slot: self.chunks[before].len(),
            },
            _ => at,
        };
        if self.has_room(at.chunk) {
            return Ok(at);
        }
        let mut made = self.spare.pop().unwrap_or_default();
        let Some(full) = self.chunks.get_mut(at.chunk) else {
            self.chunks.try_push(made)?;
            return Ok(At {
                chunk: self.chunks.len() - 1,
                slot: 0,
            });
        };
        let middle = full.len() / 2;
        made.try_reserve(full.len() - middle)?;
        self.chunks.try_reserve(1)?;
        if let Some(full) = self.chunks.get_mut(at.chunk) {
            made.try_extend(full.drain(middle..))?;
        }
        self.chunks.try_insert(at.chunk + 1, made)?;
        Ok(if at.slot > middle {
            At {
                chunk: at.chunk + 1,
                slot: at.slot - middle,
            }
        } else {
            at
        })
    }

    fn has_room(&self, chunk: usize) -> bool {
        self.chunks
            .get(chunk)
            .is_some_and(|chunk| chunk.len() < chunk.capacity().min(CHUNK))
    }

    /// Takes the entry at `at` out.
    pub(super) fn remove(&mut self, at: At) -> Option<Entry> {
        let chunk = self.chunks.get_mut(at.chunk)?;
        if at.slot >= chunk.len() {
            return None;
        }
        let entry = chunk.remove(at.slot);
        self.len -= 1;
        self.tidy(at.chunk);
        Some(entry)
    }

    /// Takes out every entry that starts in `range`, which begins and ends at borders.
    pub(super) fn drain(&mut self, range: Range<u64>, mut each: impl FnMut(Entry)) {
        loop {
            let at = self.seek(range.start);
            let Some(chunk) = self.chunks.get_mut(at.chunk) else {
                return;
            };
            let end = chunk.partition_point(|(start, _)| *start < range.end);
            if end <= at.slot {
                return;
            }
            self.len -= end - at.slot;
            chunk.drain(at.slot..end).for_each(&mut each);
            self.tidy(at.chunk);
        }
    }

    /// Removes a chunk that is empty, or nearly so and fits into the one before it.
    fn tidy(&mut self, index: usize) {
        let left = self.chunks[index].len();
        if left == 0 {
            let empty = self.chunks.remove(index);
            if self.spare.len() < SPARE {
                // Without room for it, it goes.
                drop(self.spare.push_within_capacity(empty));
            }
            return;
        }
        if left > CHUNK / 4 {
            return;
        }
        let Some(before) = index.checked_sub(1) else {
            return;
        };
        let has_room = |chunk: &Chunk| chunk.len() + left <= chunk.capacity().min(CHUNK * 3 / 4);
        if self.chunks.get(before).is_some_and(has_room) {
            let moved = self.chunks.remove(index);
            for entry in moved {
                // There is room, as was just seen.
                drop(self.chunks[before].push_within_capacity(entry));
            }
        }
    }

    /// Takes everything out, a chunk at a time.
    pub(super) fn take_chunks(&mut self) -> Vec<Chunk> {
        self.len = 0;
        core::mem::take(&mut self.chunks)
    }
}
