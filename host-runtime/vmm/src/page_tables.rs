//! The page tables the guest starts with: all of memory at the direct map, and the kernel image.
//!
//! Only 2 MiB pages; the kernel replaces them by its own. Built as plain arrays, so that tests
//! walk them without a machine; the caller copies them to the guest-physical address they were built for.

use super::layout::{LARGE_PAGE, PAGE};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const ENTRIES: usize = 512;

/// What may be done through a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Data that the guest may change.
    ReadWrite,
    /// Data that it may not.
    ReadOnly,
    /// The kernel image, which narrows its own rights once it runs.
    Image,
}

impl Access {
    fn bits(self) -> u64 {
        match self {
            Self::ReadWrite => PRESENT | WRITABLE | NO_EXECUTE,
            Self::ReadOnly => PRESENT | NO_EXECUTE,
            Self::Image => PRESENT | WRITABLE,
        }
    }
}

/// Page tables that will lie at one guest-physical address; the first page is the root.
#[derive(Debug)]
pub struct PageTables {
    start: u64,
    tables: Vec<[u64; ENTRIES]>,
}

impl PageTables {
    /// Empty tables for `start`, which is page-aligned.
    #[must_use]
    pub fn new(start: u64) -> Self {
        Self {
            start,
            tables: vec![[0; ENTRIES]],
        }
    }

    /// The root's guest-physical address, for CR3.
    #[must_use]
    pub fn root(&self) -> u64 {
        self.start
    }

    /// The bytes that all tables take.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.tables.len() as u64 * PAGE
    }

    /// Maps whole 2 MiB pages from `physical` at `virtual_start`, both 2 MiB-aligned.
    pub fn map(&mut self, virtual_start: u64, physical: u64, length: u64, access: Access) {
        debug_assert!((virtual_start | physical).is_multiple_of(LARGE_PAGE));
        let mut done = 0;
        while done < length {
            let address = virtual_start + done;
            let level3 = self.next(0, index(address, 39));
            let level2 = self.next(level3, index(address, 30));
            self.tables[level2][index(address, 21)] = (physical + done) | LARGE | access.bits();
            done += LARGE_PAGE;
        }
    }

    /// The tables as they lie in memory.
    pub fn bytes(&self) -> impl Iterator<Item = [u8; 4096]> + '_ {
        self.tables.iter().map(|table| {
            let mut page = [0; 4096];
            for (slot, entry) in page.chunks_exact_mut(8).zip(table) {
                slot.copy_from_slice(&entry.to_le_bytes());
            }
            page
        })
    }

    /// The table an entry leads to, made when it is not there.
    fn next(&mut self, table: usize, entry: usize) -> usize {
        if self.tables[table][entry] == 0 {
            let address = self.start + self.size();
            self.tables.push([0; ENTRIES]);
            self.tables[table][entry] = address | PRESENT | WRITABLE;
        }
        let address = self.tables[table][entry] & ADDRESS;
        usize::try_from((address - self.start) / PAGE).unwrap_or(usize::MAX)
    }
}

fn index(address: u64, shift: u32) -> usize {
    ((address >> shift) & 0x1ff) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks the tables as the processor does.
    fn walk(tables: &PageTables, address: u64) -> Option<(u64, u64)> {
        let mut table = 0;
        for shift in [39, 30] {
            let entry = tables.tables[table][index(address, shift)];
            if entry & PRESENT == 0 {
                return None;
            }
            table = usize::try_from(((entry & ADDRESS) - tables.start) / PAGE).expect("small");
        }
        let entry = tables.tables[table][index(address, 21)];
        let physical = (entry & ADDRESS & !(LARGE_PAGE - 1)) + address % LARGE_PAGE;
        (entry & (PRESENT | LARGE) == PRESENT | LARGE).then_some((physical, entry))
    }

    #[test]
    fn memory_and_image_are_where_they_belong() {
        let mut tables = PageTables::new(0x40_0000);
        let direct = 0xffff_8880_4000_0000;
        tables.map(direct, 0, 5 << 30, Access::ReadWrite);
        tables.map(
            direct + 0xe000_0000,
            0xe000_0000,
            LARGE_PAGE,
            Access::ReadOnly,
        );
        tables.map(
            0xffff_ffff_9fe0_0000,
            0x20_0000,
            3 * LARGE_PAGE,
            Access::Image,
        );
        let (physical, entry) = walk(&tables, direct + 0x1_2345_6789).expect("mapped");
        assert_eq!(physical, 0x1_2345_6789);
        assert_ne!(entry & NO_EXECUTE, 0);
        let (_, entry) = walk(&tables, direct + 0xe000_0000).expect("mapped");
        assert_eq!(entry & WRITABLE, 0);
        let (physical, entry) = walk(&tables, 0xffff_ffff_a000_0123).expect("mapped");
        assert_eq!(physical, 0x40_0123);
        assert_eq!(entry & NO_EXECUTE, 0);
        assert_eq!(walk(&tables, 0x1000), None);
        assert_eq!(walk(&tables, direct + (5 << 30)), None);
        assert_eq!(tables.bytes().count() as u64 * PAGE, tables.size());
    }
}
