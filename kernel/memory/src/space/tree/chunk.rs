//! [`Chunk`]: some areas beside each other, and what is known of the sources that they show: reclaim asks for each page of
//! a file where a process with 65,530 areas maps it, and looks into the chunks only that may.
//!
//! What is known is found out when it is asked for, and forgotten with any change of the chunk.

use core::ops::{Deref, DerefMut, Range};
use core::sync::atomic::{AtomicU64, Ordering};

use collections::Vec;
use machine::PAGE_SIZE;

use super::super::area::Area;
use crate::page_source::PageSource;

const PAGE: u64 = PAGE_SIZE as u64;

pub(super) type Entry = (u64, Area);

/// Areas in order of address.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    entries: Vec<Entry>,
    shows: Shows,
}

/// Which pages of which sources: a bit a source (several share one), and between which pages. Written with the list
/// borrowed, so that all who write at a time write the same.
#[derive(Debug, Default)]
struct Shows {
    /// [`UNKNOWN`] until somebody asks.
    sources: AtomicU64,
    first: AtomicU64,
    end: AtomicU64,
}

const UNKNOWN: u64 = 0;
/// Not a source's: what is known of no source is not [`UNKNOWN`].
const KNOWN: u64 = 1;

/// A source's bit.
fn bit(source: *const ()) -> u64 {
    let spread = (source.addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    1 << (1 + spread % 63)
}

impl Chunk {
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        Self {
            entries,
            shows: Shows::default(),
        }
    }

    /// Whether it may show some of `pages` of `source`.
    pub(super) fn may_show(&self, source: &dyn PageSource, pages: &Range<u64>) -> bool {
        let mut sources = self.shows.sources.load(Ordering::Acquire);
        if sources == UNKNOWN {
            sources = self.find_out();
        }
        sources & bit(core::ptr::from_ref(source).cast()) != 0
            && self.shows.first.load(Ordering::Relaxed) < pages.end
            && pages.start < self.shows.end.load(Ordering::Relaxed)
    }

    #[cold]
    fn find_out(&self) -> u64 {
        let (mut sources, mut first, mut end) = (KNOWN, u64::MAX, 0);
        for (start, area) in &self.entries {
            if let Some(source) = &area.source {
                let from = area.offset / PAGE;
                sources |= bit(alloc::sync::Arc::as_ptr(source).cast());
                first = first.min(from);
                end = end.max(from + (area.end - start) / PAGE);
            }
        }
        self.shows.first.store(first, Ordering::Relaxed);
        self.shows.end.store(end, Ordering::Relaxed);
        self.shows.sources.store(sources, Ordering::Release);
        sources
    }
}

impl Deref for Chunk {
    type Target = Vec<Entry>;

    #[inline]
    fn deref(&self) -> &Vec<Entry> {
        &self.entries
    }
}

impl DerefMut for Chunk {
    #[inline]
    fn deref_mut(&mut self) -> &mut Vec<Entry> {
        *self.shows.sources.get_mut() = UNKNOWN;
        &mut self.entries
    }
}

impl<'a> IntoIterator for &'a Chunk {
    type Item = &'a Entry;
    type IntoIter = core::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.iter()
    }
}

impl IntoIterator for Chunk {
    type Item = Entry;
    type IntoIter = <Vec<Entry> as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}
