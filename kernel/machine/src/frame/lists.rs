//! A CPU's own free frames, in front of the zone: taking and giving one is a few instructions without
//! a lock. Known zeroes have a list of their own.
//!
//! Locking: none; the lists are touched by their CPU alone, with interrupts off.

use super::zone::Wanted;

/// Frames that a list holds.
pub(crate) const ROOM: usize = 32;
/// Frames that go between list and zone at once.
pub(crate) const BATCH: usize = 16;

/// A stack of frame numbers.
#[derive(Debug)]
struct List {
    frames: [u32; ROOM],
    count: usize,
}

impl List {
    const fn new() -> Self {
        Self {
            frames: [0; ROOM],
            count: 0,
        }
    }

    fn pop(&mut self) -> Option<usize> {
        self.count = self.count.checked_sub(1)?;
        Some(self.frames[self.count] as usize)
    }

    fn push(&mut self, number: usize) -> bool {
        match self.frames.get_mut(self.count) {
            Some(place) => {
                *place = number as u32;
                self.count += 1;
                true
            }
            None => false,
        }
    }
}

/// The two lists of a CPU.
#[derive(Debug)]
pub(crate) struct Lists {
    any: List,
    zero: List,
}

impl Lists {
    pub(crate) const fn new() -> Self {
        Self {
            any: List::new(),
            zero: List::new(),
        }
    }

    /// Frames in both lists.
    pub(crate) fn count(&self) -> usize {
        self.any.count + self.zero.count
    }

    /// Takes a frame as wanted, and says whether it is zero.
    #[inline]
    pub(crate) fn take(&mut self, wanted: Wanted) -> Option<(usize, bool)> {
        match wanted {
            Wanted::Zero => self.zero.pop().map(|number| (number, true)),
            // Zeroes will do: at first there is nothing else.
            Wanted::Any => match self.any.pop() {
                Some(number) => Some((number, false)),
                None => self.zero.pop().map(|number| (number, true)),
            },
        }
    }

    /// Takes a frame that is not quite as wanted.
    pub(crate) fn take_other(&mut self, wanted: Wanted) -> Option<(usize, bool)> {
        match wanted {
            Wanted::Zero => self.any.pop().map(|number| (number, false)),
            Wanted::Any => None,
        }
    }

    /// How many more frames of a kind there is room for.
    pub(crate) fn room(&self, is_zero: bool) -> usize {
        let list = if is_zero { &self.zero } else { &self.any };
        ROOM - list.count
    }

    /// Keeps a frame. False when the list is full.
    pub(crate) fn give(&mut self, number: usize, is_zero: bool) -> bool {
        let list = if is_zero {
            &mut self.zero
        } else {
            &mut self.any
        };
        list.push(number)
    }
}
