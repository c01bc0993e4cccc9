//! Places in a range of virtual addresses: the policy behind `vmalloc` and the kernel's stacks.
//!
//! A slot is `2^order` pages; slots of each order have a part of the range of their own. A slot that was given
//! back may still be in TLBs, so it is not used again before all CPUs have been told, which is done for many at
//! once. Free slots are linked through a word that each of them has ([`Links`]), so that keeping them takes no memory.
//!
//! Locking: the caller's.

/// Orders of slots: 64 KiB to 1 GiB.
pub(crate) const FIRST_ORDER: usize = 4;
pub(crate) const ORDERS: usize = 15;
/// The part of the range that an order has, in pages: 32 GiB.
pub(crate) const PART: u64 = 1 << 23;
/// Stale slots with so many pages are worth telling all CPUs: those of a page table. What is never used again keeps its
/// tables, so that large slots, which fill tables of their own, are told of one by one.
const ENOUGH_STALE: u32 = 512;
const NONE: u32 = u32::MAX;

/// A word of each slot that was given out once.
pub(crate) trait Links {
    fn get(&self, slot: Slot) -> u32;
    fn set(&self, slot: Slot, next: u32);
}

/// A place: its order, and its number among its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot {
    /// Counted from [`FIRST_ORDER`].
    pub(crate) order: usize,
    pub(crate) number: u32,
}

impl Slot {
    /// The order of the slots that have room for so many pages.
    pub(crate) fn order_for(pages: usize) -> Option<usize> {
        let order = pages.checked_next_power_of_two()?.ilog2() as usize;
        let order = order.saturating_sub(FIRST_ORDER);
        (order < ORDERS).then_some(order)
    }

    /// Its first page, counted from the range's start.
    pub(crate) fn page(self) -> u64 {
        self.order as u64 * PART + (u64::from(self.number) << (FIRST_ORDER + self.order))
    }

    /// The slot that a page lies in.
    pub(crate) fn of_page(page: u64) -> Slot {
        let order = (page / PART) as usize;
        let number = ((page % PART) >> (FIRST_ORDER + order)) as u32;
        Slot { order, number }
    }
}

/// What is known of the slots of one order.
#[derive(Debug, Clone, Copy)]
struct Order {
    /// Slots from this one on were never used.
    fresh: u32,
    free: u32,
    stale: u32,
    stale_count: u32,
}

/// All slots.
#[derive(Debug)]
pub(crate) struct Slots([Order; ORDERS]);

/// What [`Slots::take`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Slot(Slot),
    /// Tell all CPUs, then hand these to [`Slots::add_flushed`], and take again.
    Flush(Stale),
    /// There is no address left.
    None,
}

/// Slots that may still be in TLBs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stale {
    order: usize,
    first: u32,
}

/// How many stale slots of an order are worth telling all CPUs.
fn enough_stale(order: usize) -> u32 {
    (ENOUGH_STALE >> (FIRST_ORDER + order)).max(1)
}

impl Slots {
    pub(crate) const fn new() -> Self {
        let unused = Order {
            fresh: 0,
            free: NONE,
            stale: NONE,
            stale_count: 0,
        };
        Self([unused; ORDERS])
    }

    /// Takes a slot of an order.
    pub(crate) fn take(&mut self, links: &impl Links, order: usize) -> Taken {
        let list = &mut self.0[order];
        if list.free != NONE {
            let slot = Slot {
                order,
                number: list.free,
            };
            list.free = links.get(slot);
            return Taken::Slot(slot);
        }
        let most = (PART >> (FIRST_ORDER + order)) as u32;
        let is_full = list.fresh == most;
        if list.stale_count >= enough_stale(order) || (is_full && list.stale != NONE) {
            let first = list.stale;
            (list.stale, list.stale_count) = (NONE, 0);
            return Taken::Flush(Stale { order, first });
        }
        if is_full {
            return Taken::None;
        }
        list.fresh += 1;
        Taken::Slot(Slot {
            order,
            number: list.fresh - 1,
        })
    }

    /// Takes back what the last [`Slots::take`] gave, which has no link yet. The lock was held since.
    pub(crate) fn undo_take(&mut self, slot: Slot) {
        let fresh = &mut self.0[slot.order].fresh;
        if *fresh == slot.number + 1 {
            *fresh = slot.number;
        }
    }

    /// All CPUs have been told of these slots.
    pub(crate) fn add_flushed(&mut self, links: &impl Links, stale: &Stale) {
        let list = &mut self.0[stale.order];
        let mut number = stale.first;
        while number != NONE {
            let slot = Slot {
                order: stale.order,
                number,
            };
            number = links.get(slot);
            links.set(slot, list.free);
            list.free = slot.number;
        }
    }

    /// Gives a slot back; nothing is mapped in it any more.
    pub(crate) fn give(&mut self, links: &impl Links, slot: Slot) {
        let list = &mut self.0[slot.order];
        links.set(slot, list.stale);
        list.stale = slot.number;
        list.stale_count += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::{BTreeMap, BTreeSet};
    use std::vec::Vec;

    use super::{FIRST_ORDER, Links, ORDERS, PART, Slot, Slots, Taken};

    #[derive(Default)]
    struct Map(RefCell<BTreeMap<Slot, u32>>);

    impl Links for Map {
        fn get(&self, slot: Slot) -> u32 {
            self.0.borrow()[&slot]
        }

        fn set(&self, slot: Slot, next: u32) {
            self.0.borrow_mut().insert(slot, next);
        }
    }

    #[test]
    fn slots_lie_side_by_side() {
        assert_eq!(Slot::order_for(1), Some(0));
        assert_eq!(Slot::order_for(17), Some(1));
        assert_eq!(Slot::order_for(1 << 18), Some(14));
        assert_eq!(Slot::order_for((1 << 18) + 1), None);
        for order in 0..ORDERS {
            let last = (PART >> (FIRST_ORDER + order)) as u32 - 1;
            for number in [0, 1, last] {
                let slot = Slot { order, number };
                assert_eq!(Slot::of_page(slot.page()), slot);
                let end = slot.page() + (1 << (FIRST_ORDER + order)) - 1;
                assert_eq!(Slot::of_page(end), slot);
            }
        }
    }

    #[test]
    fn a_slot_is_used_again_only_after_all_were_told() {
        let (mut slots, links) = (Slots::new(), Map::default());
        let (mut stale, mut out) = (BTreeSet::new(), Vec::new());
        let mut told = 0;
        for round in 0..4000_usize {
            if round % 7 < 4 {
                match slots.take(&links, 0) {
                    Taken::Slot(slot) => {
                        assert!(!stale.contains(&slot) && !out.contains(&slot));
                        out.push(slot);
                    }
                    Taken::Flush(these) => {
                        told += 1;
                        stale.clear();
                        slots.add_flushed(&links, &these);
                    }
                    Taken::None => panic!("addresses ran out"),
                }
            } else if let Some(slot) = out.pop() {
                slots.give(&links, slot);
                stale.insert(slot);
            }
        }
        assert!((1..100).contains(&told), "told {told} times");
        assert!(
            slots.0[0].fresh < 1000,
            "{} addresses were used",
            slots.0[0].fresh
        );
    }

    #[test]
    fn stale_addresses_are_few_pages() {
        let (mut slots, links) = (Slots::new(), Map::default());
        for order in 0..ORDERS {
            for _ in 0..1000 {
                match slots.take(&links, order) {
                    Taken::Slot(slot) => slots.give(&links, slot),
                    Taken::Flush(stale) => slots.add_flushed(&links, &stale),
                    Taken::None => panic!("addresses ran out"),
                }
            }
            let pages = u64::from(slots.0[order].fresh) << (FIRST_ORDER + order);
            assert!(
                pages <= 512.max(1 << (FIRST_ORDER + order)),
                "{order}: {pages}"
            );
        }
    }

    #[test]
    fn a_slot_without_a_table_is_not_lost() {
        let (mut slots, links) = (Slots::new(), Map::default());
        let Taken::Slot(slot) = slots.take(&links, 3) else {
            panic!("no slot")
        };
        slots.undo_take(slot);
        assert_eq!(slots.take(&links, 3), Taken::Slot(slot));
    }

    #[test]
    fn addresses_end() {
        let (mut slots, links) = (Slots::new(), Map::default());
        let order = ORDERS - 1;
        let count = (PART >> (FIRST_ORDER + order)) as usize;
        let taken: Vec<_> = (0..count).map(|_| slots.take(&links, order)).collect();
        assert_eq!(slots.take(&links, order), Taken::None);
        let Taken::Slot(slot) = taken[3] else {
            panic!("no slot")
        };
        slots.give(&links, slot);
        let Taken::Flush(stale) = slots.take(&links, order) else {
            panic!("not told")
        };
        slots.add_flushed(&links, &stale);
        assert_eq!(slots.take(&links, order), Taken::Slot(slot));
    }
}
