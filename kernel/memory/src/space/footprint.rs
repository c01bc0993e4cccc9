//! What of a range of addresses is in memory, whose it is and who shares it: /proc/PID/smaps.
//!
//! A page table's entry and a page cache own a handle to their frame each, so the handles tell how many map a page.
//! Nothing is locked between two pieces: the figures are those of a moment each.

use core::ops::{AddAssign, Range};

use machine::UserAddr;
use machine::frame::Kind;
use machine::page_table::{Mapped, Perms};

use super::{AddressSpace, PAGE};

/// Sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footprint {
    /// In memory.
    pub resident: u64,
    /// Each page divided by how many map it.
    pub proportional: u64,
    /// Of `proportional`, what was stored to.
    pub proportional_dirty: u64,
    /// Mapped by others, too, and not stored to since it was read or written back.
    pub shared_clean: u64,
    /// Mapped by others, too, and stored to.
    pub shared_dirty: u64,
    /// Mapped here only, and not stored to.
    pub private_clean: u64,
    /// Mapped here only, and stored to.
    pub private_dirty: u64,
    /// Not of a file.
    pub anonymous: u64,
    /// Of `anonymous`, what is in pages of 2 MiB.
    pub large: u64,
}

impl AddAssign for Footprint {
    fn add_assign(&mut self, other: Self) {
        self.resident += other.resident;
        self.proportional += other.proportional;
        self.proportional_dirty += other.proportional_dirty;
        self.shared_clean += other.shared_clean;
        self.shared_dirty += other.shared_dirty;
        self.private_clean += other.private_clean;
        self.private_dirty += other.private_dirty;
        self.anonymous += other.anonymous;
        self.large += other.large;
    }
}

/// What is looked at before the pages themselves: ranges without any are left out whole.
const STEPS: [u64; 2] = [1 << 30, 1 << 21];

impl AddressSpace {
    /// What of page-aligned `range` is in memory. Offers the CPU in between.
    #[must_use]
    pub fn footprint(&self, range: &Range<UserAddr>) -> Footprint {
        let mut sum = Footprint::default();
        self.add_footprint(range.start.0..range.end.0, &STEPS, &mut sum);
        sum
    }

    fn add_footprint(&self, range: Range<u64>, steps: &[u64], sum: &mut Footprint) {
        let Some((step, finer)) = steps.split_first() else {
            {
                let areas = self.areas.read();
                for at in range.step_by(machine::PAGE_SIZE) {
                    if let Some(page) = areas.pages.query(UserAddr(at)) {
                        *sum += of_page(&page);
                    }
                }
            }
            sched::cond_resched();
            return;
        };
        let mut at = range.start;
        while at < range.end {
            let end = ((at | (step - 1)) + 1).min(range.end);
            let mapped = self.areas.read().pages.mapped(UserAddr(at)..UserAddr(end));
            if mapped > 0 {
                self.add_footprint(at..end, finer, sum);
            }
            at = end;
        }
    }
}

fn of_page(mapped: &Mapped) -> Footprint {
    let (frame, perms) = (&mapped.frame, mapped.perms);
    let is_file = matches!(frame.kind(), Kind::File | Kind::Shmem);
    // Beside the one that was just made and the cache's.
    let others = 1 + usize::from(is_file);
    // Who maps pages of the boot archive is not counted: they are told as if it was nobody else.
    let users = match frame.handles() {
        many if many > u32::MAX as usize => 1,
        handles => handles.saturating_sub(others).max(1) + mapped.large.unwrap_or(0),
    };
    // Pages of files are mapped writable from the first store on until they are written back.
    let is_dirty = match frame.kind() {
        Kind::File => perms.contains(Perms::WRITE),
        kind => matches!(kind, Kind::Anon | Kind::Shmem),
    };
    let share = PAGE / users as u64;
    let mut page = Footprint {
        resident: PAGE,
        proportional: share,
        proportional_dirty: if is_dirty { share } else { 0 },
        large: if mapped.large.is_some() { PAGE } else { 0 },
        anonymous: if frame.kind() == Kind::Anon { PAGE } else { 0 },
        ..Footprint::default()
    };
    let place = match (users > 1, is_dirty) {
        (true, false) => &mut page.shared_clean,
        (true, true) => &mut page.shared_dirty,
        (false, false) => &mut page.private_clean,
        (false, true) => &mut page.private_dirty,
    };
    *place = PAGE;
    page
}
