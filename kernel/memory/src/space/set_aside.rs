//! Pages that are mapped nowhere for now: those of `PROT_NONE` areas, which keep their contents.
//!
//! A page table entry is readable or not there, so a page that must not be read leaves the table. It comes back
//! by a fault once its area may be accessed again.

use alloc::collections::BTreeMap;
use core::ops::Range;

use abi::{Errno, Result};
use machine::page_table::PageTable;
use machine::{Frame, PAGE_SIZE};

use super::{PAGE, addresses};
use crate::pressure;

/// Pages are looked for in stretches of this many bytes, so that a large untouched area costs little.
const STRETCH: u64 = 512 * PAGE;

#[derive(Debug, Clone, Default)]
pub(super) struct SetAside {
    pages: BTreeMap<u64, Frame>,
}

impl SetAside {
    pub(super) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.pages.clear();
    }

    pub(super) fn count(&self, range: Range<u64>) -> usize {
        self.pages.range(range).count()
    }

    pub(super) fn contains(&self, page: u64) -> bool {
        self.pages.contains_key(&page)
    }

    /// Takes the pages of a range out of the table.
    pub(super) fn take_from(&mut self, table: &PageTable, range: Range<u64>) {
        let mut at = range.start;
        while at < range.end {
            let end = ((at / STRETCH + 1) * STRETCH).min(range.end);
            if table.mapped(addresses(at..end)) > 0 {
                for page in (at..end).step_by(PAGE_SIZE) {
                    if let Some((frame, _)) = table.query(machine::UserAddr(page)) {
                        self.pages.insert(page, frame);
                    }
                }
                table.unmap(addresses(at..end));
            }
            at = end;
        }
    }

    /// Whether there is memory to keep `pages` more in the list.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn check_room(pages: usize) -> Result<()> {
        const BYTES_A_PAGE: usize = 64;
        let frames = (pages * BYTES_A_PAGE).div_ceil(PAGE_SIZE);
        if machine::frame::free() < pressure::RESERVE_FRAMES + frames {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// Gives back the page at `page`.
    pub(super) fn take(&mut self, page: u64) -> Option<Frame> {
        if self.pages.is_empty() {
            None
        } else {
            self.pages.remove(&page)
        }
    }

    /// Drops the pages of a range.
    pub(super) fn forget(&mut self, range: Range<u64>) {
        if self.pages.is_empty() {
            return;
        }
        let mut tail = self.pages.split_off(&range.start);
        let mut behind = tail.split_off(&range.end);
        self.pages.append(&mut behind);
    }

    /// Copies the pages of a range for a forked child.
    pub(super) fn share(&self, range: Range<u64>, child: &mut SetAside) {
        child.pages.extend(
            self.pages
                .range(range)
                .map(|(page, frame)| (*page, frame.clone())),
        );
    }

    /// Moves the pages of a range to start at `to`.
    pub(super) fn relocate(&mut self, from: Range<u64>, to: u64) {
        if self.pages.is_empty() {
            return;
        }
        let mut moved = self.pages.split_off(&from.start);
        let mut behind = moved.split_off(&from.end);
        self.pages.append(&mut behind);
        self.pages.extend(
            moved
                .into_iter()
                .map(|(page, frame)| (page - from.start + to, frame)),
        );
    }
}
