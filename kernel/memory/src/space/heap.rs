//! brk(2): the heap right behind the program.

use core::sync::atomic::AtomicBool;

use abi::Result;
use machine::UserAddr;

use super::area::{Area, AreaFlags, Prot};
use super::request::Placement;
use super::tree::Removed;
use super::{AddressSpace, Areas, round_up};
use crate::pressure;

impl AddressSpace {
    /// Sets where the heap begins: behind the end of the program, moved at random where ASLR is on.
    pub fn set_brk_start(&self, end_of_program: UserAddr) {
        let mut areas = self.areas.write();
        let start = areas
            .bases
            .heap_start(round_up(end_of_program.0).unwrap_or(end_of_program.0));
        areas.layout.start_brk = start;
        areas.layout.brk = start;
    }

    /// brk(2): moves the end of the heap and returns where it is then.
    pub fn brk(&self, wanted: UserAddr) -> UserAddr {
        // A failure shows in where the end is, so it is not seen outside that memory was short.
        let moved = pressure::persist(|| {
            let mut removed = Removed::new();
            let mut areas = self.areas.write();
            if let Some(moved) = self.move_brk(&mut areas, wanted.0, &mut removed) {
                moved?;
                areas.layout.brk = wanted.0;
            }
            Ok(UserAddr(areas.layout.brk))
        });
        moved.unwrap_or_else(|_| UserAddr(self.areas.read().layout.brk))
    }

    /// `None` when `wanted` is no place for a heap to end.
    fn move_brk(
        &self,
        areas: &mut Areas,
        wanted: u64,
        removed: &mut Removed,
    ) -> Option<Result<()>> {
        let layout = areas.layout;
        if wanted < layout.start_brk || layout.start_brk == 0 {
            return None;
        }
        let (old_end, new_end) = (round_up(layout.brk)?, round_up(wanted)?);
        if new_end > UserAddr::LIMIT.0 {
            return None;
        }
        if new_end <= old_end {
            return Some(self.take_out(areas, new_end..old_end, removed));
        }
        if areas.tree.overlaps(old_end..new_end) {
            return None;
        }
        Some(areas.extend_heap(old_end, new_end))
    }
}

impl Areas {
    fn extend_heap(&mut self, old_end: u64, new_end: u64) -> Result<()> {
        pressure::ensure_headroom()?;
        let area = Area {
            end: new_end,
            prot: Prot::READ | Prot::WRITE,
            max_prot: Prot::all(),
            flags: if self.locks_future {
                AreaFlags::HEAP | AreaFlags::LOCKED
            } else {
                AreaFlags::HEAP
            },
            source: None,
            offset: 0,
            origin: None,
            is_copied: AtomicBool::new(false),
            writable: None,
            attachment: None,
        };
        self.check_limits(&area, new_end - old_end, Placement::Anywhere, old_end)?;
        self.tree.insert(old_end, area)?;
        self.peak = self.peak.max(self.tree.total());
        Ok(())
    }
}
