//! A doubly linked list of frames by number, whose links are the frames' owner words. Generic over where metadata is,
//! so that it is tested on the host.
//!
//! Locking: the caller's.

use core::sync::atomic::Ordering;

use super::zone::MetaMemory;

/// No frame: the end of a list.
const NONE: u32 = u32::MAX;

/// A doubly linked list of frame numbers, whose links are the frames' owner words.
#[derive(Debug)]
pub(super) struct Links {
    youngest: u32,
    oldest: u32,
    len: usize,
}

impl Links {
    pub(super) const fn new() -> Self {
        Self {
            youngest: NONE,
            oldest: NONE,
            len: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn oldest(&self) -> Option<usize> {
        (self.oldest != NONE).then_some(self.oldest as usize)
    }

    /// Adds a frame at the young end.
    pub(super) fn push(&mut self, memory: &impl MetaMemory, number: usize) {
        let number = number as u32;
        set(memory, number, (NONE, self.youngest));
        if self.youngest == NONE {
            self.oldest = number;
        } else {
            let (_, older) = get(memory, self.youngest);
            set(memory, self.youngest, (number, older));
        }
        self.youngest = number;
        self.len += 1;
    }

    /// Takes a frame out that is in.
    pub(super) fn remove(&mut self, memory: &impl MetaMemory, number: usize) {
        let (younger, older) = get(memory, number as u32);
        if younger == NONE {
            self.youngest = older;
        } else {
            set(memory, younger, (get(memory, younger).0, older));
        }
        if older == NONE {
            self.oldest = younger;
        } else {
            set(memory, older, (younger, get(memory, older).1));
        }
        self.len -= 1;
    }
}

/// The neighbours of a frame, the younger one first.
fn get(memory: &impl MetaMemory, number: u32) -> (u32, u32) {
    let word = memory.meta(number as usize).owner.load(Ordering::Relaxed);
    ((word >> 32) as u32, word as u32)
}

fn set(memory: &impl MetaMemory, number: u32, (younger, older): (u32, u32)) {
    let word = u64::from(younger) << 32 | u64::from(older);
    memory
        .meta(number as usize)
        .owner
        .store(word, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::vec::Vec;

    use super::super::meta::Meta;
    use super::{Links, MetaMemory};

    struct Memory(Vec<Meta>);

    impl MetaMemory for Memory {
        fn meta(&self, number: usize) -> &Meta {
            &self.0[number]
        }

        fn populate(&self, _: usize, _: &mut dyn FnMut() -> Option<(usize, bool)>) -> bool {
            true
        }
    }

    #[test]
    fn frames_leave_from_anywhere_and_the_oldest_is_known() {
        let memory = Memory((0..40).map(|_| Meta::default()).collect());
        let (mut links, mut model) = (Links::new(), VecDeque::new());
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..5000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let number = (seed >> 33) as usize % 40;
            match model.iter().position(|it| *it == number) {
                Some(at) => {
                    model.remove(at);
                    links.remove(&memory, number);
                }
                None => {
                    model.push_back(number);
                    links.push(&memory, number);
                }
            }
            assert_eq!(links.oldest(), model.front().copied());
            assert_eq!(links.len(), model.len());
        }
        while let Some(oldest) = model.pop_front() {
            assert_eq!(links.oldest(), Some(oldest));
            links.remove(&memory, oldest);
        }
        assert_eq!((links.oldest(), links.len()), (None, 0));
    }
}
