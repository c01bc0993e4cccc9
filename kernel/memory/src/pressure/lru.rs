//! Which pages of files are worth keeping: two queues of a group's pages that can be read again, as Linux has them.
//!
//! A page comes in as inactive. The oldest inactive page goes first; one that was used twice since the last look is
//! moved to the active queue, and the oldest of those becomes inactive when there are more of them than of the others. A
//! page that programs have mapped is taken away from them if none has used it since it was last looked at. So to find a
//! page that can go takes a few steps, however many files and pages there are.
//!
//! What has no store to be read from again (anonymous memory, tmpfs) is in no queue while there is no swap.
//!
//! Locking: a mapping's page list, then the queues. Reclaim holds neither when it asks a mapping. [`FILES`] is a leaf.

use alloc::sync::{Arc, Weak};

use abi::Result;
use collections::Vec;
use machine::Frame;
use machine::frame::{FrameFlags, Place, Queue};
use machine::sync::SpinLock;

use crate::group::MemoryGroup;
use crate::mapping::Mapping;

/// Pages looked at for one that goes, before it is taken as a success that some have gone.
const LOOKS: usize = 8;

/// The pages of files that a group has paid for, by age.
#[derive(Debug)]
pub(crate) struct Queues(SpinLock<Lists>);

#[derive(Debug)]
struct Lists {
    active: Queue,
    inactive: Queue,
}

/// Mappings by the number that their pages carry.
#[derive(Debug)]
pub(crate) struct Files(SpinLock<Numbers>);

/// All mappings whose pages queue.
pub(crate) static FILES: Files = Files::new();

#[derive(Debug)]
struct Numbers {
    slots: Vec<Option<Weak<Mapping>>>,
    /// Numbers that are free again.
    free: Vec<u32>,
    /// Who is next to write back for want of memory.
    hand: usize,
}

impl Queues {
    pub(crate) const fn new() -> Self {
        Self(SpinLock::new(Lists {
            active: Queue::new(FrameFlags::QUEUES),
            inactive: Queue::new(FrameFlags::LRU),
        }))
    }

    /// Those that a page is in, or comes to.
    pub(crate) fn of(frame: &Frame) -> &'static Queues {
        MemoryGroup::of(frame).queues()
    }

    /// A page came in. Under its mapping's page list, as all of these.
    pub(crate) fn add(&self, frame: &Frame, file: u32, index: u64) {
        self.0.lock().inactive.push(frame, file, index);
    }

    /// A page is about to go.
    pub(crate) fn remove(&self, frame: &Frame) {
        let mut queues = self.0.lock();
        if !queues.inactive.remove(frame) {
            queues.active.remove(frame);
        }
    }

    /// A page is used often.
    pub(crate) fn activate(&self, frame: &Frame, file: u32, index: u64) {
        let mut queues = self.0.lock();
        if queues.inactive.remove(frame) {
            queues.active.push(frame, file, index);
        }
    }

    /// Pages in the active and in the inactive queue.
    pub(crate) fn lens(&self) -> (usize, usize) {
        let queues = self.0.lock();
        (queues.active.len(), queues.inactive.len())
    }

    /// Takes up to `wanted` pages back; fewer if that takes long, none only if no page can go.
    pub(crate) fn reclaim(&self, wanted: usize) -> usize {
        let (active, inactive) = self.lens();
        // Twice around: each page may have been used once more, and the second time what is active gets its turn
        // however little else there is.
        let once = active + inactive;
        let mut freed = 0;
        for look in 0..2 * once {
            if freed >= wanted || freed > 0 && look >= wanted.saturating_mul(LOOKS) {
                break;
            }
            let Some(place) = self.next(look >= once) else {
                break;
            };
            // It may be the last reference, which is dropped with no lock held.
            if let Some(mapping) = FILES.get(place.file) {
                freed += usize::from(mapping.take_back(place));
            }
            sched::cond_resched();
        }
        freed
    }

    /// Writes one file back that has pages here and dirty ones. `false` when there is none.
    pub(crate) fn relieve_one(&self) -> bool {
        let (active, inactive) = self.lens();
        let mut last = None;
        for _ in 0..active + inactive {
            let Some(place) = self.next(true) else {
                return false;
            };
            // Neighbours are of the same file most often.
            if last.replace(place.file) != Some(place.file)
                && FILES
                    .get(place.file)
                    .is_some_and(|mapping| mapping.relieve())
            {
                return true;
            }
            sched::cond_resched();
        }
        false
    }

    /// The oldest inactive page, which is the youngest from now on. `is_pressed`: active ones become inactive even if
    /// there are few.
    fn next(&self, is_pressed: bool) -> Option<Place> {
        let mut queues = self.0.lock();
        let Lists { active, inactive } = &mut *queues;
        if is_pressed || inactive.len() < active.len() {
            active.move_oldest(inactive);
            active.move_oldest(inactive);
        }
        inactive.rotate()
    }
}

impl Files {
    const fn new() -> Self {
        Self(SpinLock::new(Numbers {
            slots: Vec::new(),
            free: Vec::new(),
            hand: 0,
        }))
    }

    /// Gives a mapping the number that its pages are to carry; until [`Self::dismiss`].
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn enrol(&self, mapping: Weak<Mapping>) -> Result<u32> {
        let mut files = self.0.lock();
        if let Some(number) = files.free.pop() {
            if let Some(slot) = files.slots.get_mut(number as usize) {
                *slot = Some(mapping);
            }
            return Ok(number);
        }
        // Room to take it back is made now: that must not fail.
        let room = files.slots.len() + 1;
        files.free.try_reserve(room)?;
        let number = u32::try_from(files.slots.len()).map_err(|_| abi::Errno::ENOMEM)?;
        files.slots.try_push(Some(mapping))?;
        Ok(number)
    }

    /// Takes a number back. None of its pages is in the queues any more.
    pub(crate) fn dismiss(&self, number: u32) {
        let mut files = self.0.lock();
        let gone = files.slots.get_mut(number as usize).and_then(Option::take);
        let _ = files.free.push_within_capacity(number);
        drop(files);
        drop(gone);
    }

    fn get(&self, number: u32) -> Option<Arc<Mapping>> {
        let files = self.0.lock();
        files.slots.get(number as usize)?.as_ref()?.upgrade()
    }

    /// Calls `act` with each mapping, beginning behind the one where it last stopped, until it returns true.
    pub(crate) fn each(&self, mut act: impl FnMut(&Mapping) -> bool) {
        let count = self.0.lock().slots.len();
        for _ in 0..count {
            let next = {
                let mut files = self.0.lock();
                let at = files.hand.checked_rem(files.slots.len()).unwrap_or(0);
                files.hand = at + 1;
                let slot = files.slots.get(at).and_then(Option::as_ref);
                slot.and_then(Weak::upgrade)
            };
            if next.is_some_and(|mapping| act(&mapping)) {
                return;
            }
            sched::cond_resched();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_files_are_used_again() {
        let files = Files::new();
        let numbers: Vec<u32> = {
            let mut numbers = Vec::new();
            for _ in 0..3 {
                numbers.try_push(files.enrol(Weak::new()).unwrap()).unwrap();
            }
            numbers
        };
        assert_eq!(numbers.as_slice(), [0, 1, 2]);
        files.dismiss(1);
        assert_eq!(files.enrol(Weak::new()), Ok(1));
        assert_eq!(files.enrol(Weak::new()), Ok(3));
    }

    #[test]
    fn what_is_used_often_goes_last() {
        let lru = Queues::new();
        let frames: Vec<Frame> = {
            let mut frames = Vec::new();
            for index in 0..6 {
                let frame = Frame::alloc_zeroed().unwrap();
                lru.add(&frame, 0, index);
                frames.try_push(frame).unwrap();
            }
            frames
        };
        lru.activate(&frames[0], 0, 0);
        lru.activate(&frames[2], 0, 2);
        assert_eq!(lru.lens(), (2, 4));
        let order: std::vec::Vec<u64> = (0..4)
            .filter_map(|_| lru.next(false))
            .map(|place| place.index)
            .collect();
        assert_eq!(order, [1, 3, 4, 5]);
        // More are active than not: the oldest of them come to the others.
        for index in [1_usize, 3, 4] {
            lru.activate(&frames[index], 0, index as u64);
        }
        assert_eq!(lru.lens(), (5, 1));
        assert_eq!(lru.next(false).map(|place| place.index), Some(5));
        assert_eq!(lru.lens(), (3, 3));
        assert_eq!(lru.next(false).map(|place| place.index), Some(0));
        for frame in &frames {
            lru.remove(frame);
        }
        assert_eq!(lru.lens(), (0, 0));
    }
}
