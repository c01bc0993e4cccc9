//! Walking ranges of a tree: what there is in them, table by table.
//!
//! Locking: as in [`super`]. `visit` is for somebody who has the tree alone; counting beside others is not exact.

use core::convert::Infallible;
use core::ops::Range;

use super::super::bits::{ADDRESS, LEAF, ROOT, is_large, span};
use super::large::{LARGE_LEN, LARGE_LEVEL};
use super::{Leaf, Tables, Tree, Visit};
use crate::addr::{PAGE_SIZE, PhysAddr, UserAddr};

/// A part of a range that has something.
pub(in crate::page_table) enum Place {
    /// A leaf table, where its reach begins, and which of its entries are in the part and may be used.
    Table(PhysAddr, u64, Range<usize>),
    /// A large page that touches it.
    Large(Leaf),
}

impl<M: Tables> Tree<M> {
    /// Visits the used leaf entries of a page-aligned range, upwards, and the large pages that touch it. Returns the
    /// address behind the entry that stopped it, or the range's end.
    pub(in crate::page_table) fn visit(
        &self,
        range: Range<u64>,
        act: &mut impl FnMut(Leaf) -> Visit,
    ) -> u64 {
        let mut each = |place: Place| {
            let (table, base, part) = match place {
                Place::Large(large) => {
                    let end = (large.addr + LARGE_LEN).min(range.end);
                    return match act(large) {
                        Visit::Continue => Ok(()),
                        Visit::Stop => Err(end),
                    };
                }
                Place::Table(table, base, part) => (table, base, part),
            };
            for (index, value) in self.used(table, part) {
                let addr = base + (index * PAGE_SIZE) as u64;
                let leaf = Leaf {
                    addr,
                    table,
                    index,
                    value,
                };
                if matches!(act(leaf), Visit::Stop) {
                    return Err(addr + PAGE_SIZE as u64);
                }
            }
            Ok(())
        };
        match self.places(&range, &mut each) {
            Ok(()) => range.end,
            Err(stopped) => stopped,
        }
    }

    /// How many pages of 4 KiB of a page-aligned range are mapped; beside others, about.
    pub(in crate::page_table) fn count(&self, range: Range<u64>) -> usize {
        let mut count = 0;
        let mut each = |place: Place| {
            match place {
                Place::Large(large) => {
                    let end = (large.addr + LARGE_LEN).min(range.end);
                    let start = large.addr.max(range.start);
                    count += ((end - start) / PAGE_SIZE as u64) as usize;
                }
                Place::Table(table, base, part) => {
                    if self.is_used_within(table, base, &range) {
                        count += self.usage(table).count();
                        return Ok(());
                    }
                    count += self.used(table, part).count();
                }
            }
            Ok(())
        };
        let Ok(()) = self.places::<Infallible>(&range, &mut each);
        count
    }

    /// What there is in a page-aligned range, upwards, until `act` fails. Costs what is there, not what is between.
    pub(in crate::page_table) fn places<E>(
        &self,
        range: &Range<u64>,
        act: &mut impl FnMut(Place) -> Result<(), E>,
    ) -> Result<(), E> {
        let within = range.start..range.end.min(UserAddr::LIMIT.0);
        self.places_below(self.root, ROOT, 0, &within, act)
    }

    /// `base` is the first address of the table's reach.
    fn places_below<E>(
        &self,
        table: PhysAddr,
        level: u32,
        base: u64,
        range: &Range<u64>,
        act: &mut impl FnMut(Place) -> Result<(), E>,
    ) -> Result<(), E> {
        let span = span(level);
        for (index, value) in self.used(table, self.indices_within(table, level, base, range)) {
            let start = base + index as u64 * span;
            let below = PhysAddr(value & ADDRESS);
            if level > LARGE_LEVEL {
                self.places_below(below, level - 1, start, range, act)?;
            } else if is_large(value) {
                act(Place::Large(Leaf {
                    addr: start,
                    table,
                    index,
                    value,
                }))?;
            } else {
                let used = self.indices_within(below, LEAF, start, range);
                act(Place::Table(below, start, used))?;
            }
        }
        Ok(())
    }
}
