//! Where things go in an address space, and address-space layout randomization.
//!
//! Top down: stack, room for it to grow, mappings; a position-independent program and the heap are
//! at two thirds of the range, as on Linux.

use machine::UserAddr;

use super::PAGE;

/// Lowest address a mapping may have (Linux's `vm.mmap_min_addr`).
pub(super) const LOWEST: u64 = 0x1_0000;
const LEAST_STACK_ROOM: u64 = 128 << 20;
const MOST_STACK_ROOM: u64 = UserAddr::LIMIT.0 / 6 * 5;
/// Kept free below a growing stack.
pub(super) const STACK_GUARD: u64 = 256 * PAGE;

const PIE_BASE: u64 = 0x5555_5555_4000;
const STACK_BITS: u32 = 22;
const MAP_BITS: u32 = 28;
const HEAP_BITS: u32 = 13;

/// Where mappings of each kind start.
#[derive(Debug, Clone)]
pub(super) struct Bases {
    stack_top: u64,
    map_top: u64,
    pie: u64,
    /// Added to the end of the program to get the start of the heap.
    heap_shift: u64,
    map_shift: u64,
}

impl Bases {
    pub(super) fn new(randomize: bool) -> Self {
        let (one, two) = if randomize {
            (entropy(), entropy())
        } else {
            (0, 0)
        };
        let stack_top = UserAddr::LIMIT.0 - pages(one, STACK_BITS);
        let mut bases = Self {
            stack_top,
            map_top: 0,
            pie: PIE_BASE + pages(two, MAP_BITS),
            heap_shift: pages(two >> MAP_BITS, HEAP_BITS),
            map_shift: pages(one >> STACK_BITS, MAP_BITS),
        };
        bases.make_room_for_stack(0);
        bases
    }

    /// Puts the mappings below what a stack of `limit` bytes may need.
    pub(super) fn make_room_for_stack(&mut self, limit: u64) {
        let room = limit.clamp(LEAST_STACK_ROOM, MOST_STACK_ROOM) + STACK_GUARD;
        self.map_top = (self.stack_top - room - self.map_shift) & !(PAGE - 1);
    }

    pub(super) fn stack_top(&self) -> UserAddr {
        UserAddr(self.stack_top)
    }

    pub(super) fn map_top(&self) -> u64 {
        self.map_top
    }

    pub(super) fn pie_base(&self) -> UserAddr {
        UserAddr(self.pie)
    }

    pub(super) fn heap_start(&self, end_of_program: u64) -> u64 {
        end_of_program + self.heap_shift
    }
}

fn entropy() -> u64 {
    machine::random::cpu_entropy().0
}

/// `bits` bits of `random` as a number of pages, in bytes.
const fn pages(random: u64, bits: u32) -> u64 {
    (random & ((1 << bits) - 1)) * PAGE
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn bases_are_in_order_and_move() {
        let fixed = Bases::new(false);
        assert_eq!(fixed.stack_top, UserAddr::LIMIT.0);
        assert_eq!(fixed.pie, PIE_BASE);
        let mut seen = Vec::new();
        for _ in 0..16 {
            let bases = Bases::new(true);
            assert!(bases.pie < bases.map_top && bases.map_top < bases.stack_top);
            assert!(bases.map_top.is_multiple_of(PAGE) && bases.stack_top.is_multiple_of(PAGE));
            seen.push(bases.map_top);
        }
        seen.dedup();
        assert!(
            seen.len() > 8,
            "mappings start at the same place again and again"
        );
    }

    #[test]
    fn a_large_stack_limit_moves_mappings_down() {
        let mut bases = Bases::new(false);
        bases.make_room_for_stack(1 << 30);
        assert_eq!(bases.map_top, UserAddr::LIMIT.0 - (1 << 30) - STACK_GUARD);
        bases.make_room_for_stack(u64::MAX);
        assert!(bases.map_top > LOWEST);
    }
}
