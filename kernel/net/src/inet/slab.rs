//! [`Slab`]: things by a number, which is given again when its thing is gone, but never with the same generation.

use abi::Result;
use alloc::boxed::Box;
use collections::{Vec, try_box};

/// Which thing of a slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) number: u32,
    generation: u32,
}

impl Id {
    /// Before all others, and behind them.
    pub(crate) const FIRST: Id = Id {
        number: 0,
        generation: 0,
    };
    pub(crate) const LAST: Id = Id {
        number: u32::MAX,
        generation: u32::MAX,
    };
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<(u32, Option<Box<T>>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// Numbers that have been given so far: all are below this.
    pub(crate) fn bound(&self) -> usize {
        self.slots.len()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, value: T) -> Result<Id> {
        let value = try_box(value)?;
        if let Some(number) = self.free.pop()
            && let Some((generation, slot)) = self.slots.get_mut(number as usize)
        {
            *slot = Some(value);
            return Ok(Id {
                number,
                generation: *generation,
            });
        }
        let number = u32::try_from(self.slots.len()).map_err(|_| abi::Errno::ENFILE)?;
        // So that giving it back takes no memory.
        self.free.try_reserve(self.slots.len() + 1)?;
        self.slots.try_push((0, Some(value)))?;
        Ok(Id {
            number,
            generation: 0,
        })
    }

    pub(crate) fn get(&self, id: Id) -> Option<&T> {
        let (generation, slot) = self.slots.get(id.number as usize)?;
        slot.as_deref().filter(|_| *generation == id.generation)
    }

    pub(crate) fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let (generation, slot) = self.slots.get_mut(id.number as usize)?;
        slot.as_deref_mut().filter(|_| *generation == id.generation)
    }

    pub(crate) fn remove(&mut self, id: Id) -> Option<Box<T>> {
        let (generation, slot) = self.slots.get_mut(id.number as usize)?;
        if *generation != id.generation {
            return None;
        }
        let gone = slot.take()?;
        *generation = generation.wrapping_add(1);
        // There is room: see `insert`.
        let _ = self.free.try_push(id.number);
        Some(gone)
    }

    /// What has this number now.
    pub(crate) fn at(&self, number: u32) -> Option<Id> {
        let (generation, slot) = self.slots.get(number as usize)?;
        slot.is_some().then_some(Id {
            number,
            generation: *generation,
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        self.iter_from(0)
    }

    /// Those from number `start` on.
    pub(crate) fn iter_from(&self, start: usize) -> impl Iterator<Item = (Id, &T)> {
        let slots = self.slots.get(start..).unwrap_or_default();
        let first = u32::try_from(start).unwrap_or(u32::MAX);
        (first..)
            .zip(slots)
            .filter_map(|(number, (generation, slot))| {
                let id = Id {
                    number,
                    generation: *generation,
                };
                slot.as_deref().map(|thing| (id, thing))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_given_again_is_another_thing() {
        let mut slab = Slab::default();
        let one = slab.insert("one").unwrap();
        let two = slab.insert("two").unwrap();
        assert_eq!(slab.remove(one).as_deref(), Some(&"one"));
        let three = slab.insert("three").unwrap();
        assert_eq!(
            (three.number, slab.get(one), slab.get(two)),
            (one.number, None, Some(&"two"))
        );
        assert_eq!(
            (slab.len(), slab.remove(one), slab.at(0)),
            (2, None, Some(three))
        );
    }
}
