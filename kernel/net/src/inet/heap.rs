//! [`Heap`]: the deadlines of connections, the earliest first. Room is made when a connection is; to set a deadline takes none.

use abi::Result;
use collections::Vec;

/// Where an item is that is in no heap.
const NOWHERE: usize = usize::MAX;

/// Deadlines by the number of what they are of.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    entries: Vec<(u64, u32)>,
    /// Where in `entries` each number is.
    places: Vec<usize>,
}

impl Heap {
    /// Makes room for numbers below `count`.
    pub(crate) fn reserve(&mut self, count: usize) -> Result<()> {
        self.places
            .try_reserve(count.saturating_sub(self.places.len()))?;
        self.entries
            .try_reserve(count.saturating_sub(self.entries.len()))?;
        while self.places.len() < count {
            self.places.try_push(NOWHERE)?;
        }
        Ok(())
    }

    /// The earliest.
    pub(crate) fn first(&self) -> Option<(u64, u32)> {
        self.entries.first().copied()
    }

    /// Whether `number` has a deadline at `deadline` or before.
    pub(crate) fn has_until(&self, number: u32, deadline: u64) -> bool {
        let place = self.places.get(number as usize).copied().unwrap_or(NOWHERE);
        self.entries
            .get(place)
            .is_some_and(|(at, _)| *at <= deadline)
    }

    /// Sets the deadline of `number`.
    pub(crate) fn set(&mut self, number: u32, deadline: u64) {
        let Some(place) = self.places.get_mut(number as usize) else {
            return;
        };
        if *place == NOWHERE {
            *place = self.entries.len();
            // There is room: one for each number.
            if self.entries.try_push((deadline, number)).is_err() {
                *place = NOWHERE;
                return;
            }
        } else if let Some(entry) = self.entries.get_mut(*place) {
            entry.0 = deadline;
        }
        let place = *place;
        self.down(place);
        self.up(place);
    }

    /// Takes it out.
    pub(crate) fn remove(&mut self, number: u32) {
        let Some(place) = self.places.get_mut(number as usize) else {
            return;
        };
        let place = core::mem::replace(place, NOWHERE);
        if place == NOWHERE {
            return;
        }
        let last = self.entries.len() - 1;
        self.exchange(place, last);
        self.entries.pop();
        if let Some(own) = self.places.get_mut(number as usize) {
            *own = NOWHERE;
        }
        if place < self.entries.len() {
            self.down(place);
            self.up(place);
        }
    }

    fn exchange(&mut self, one: usize, other: usize) {
        self.entries.swap(one, other);
        for place in [one, other] {
            if let Some((_, number)) = self.entries.get(place)
                && let Some(own) = self.places.get_mut(*number as usize)
            {
                *own = place;
            }
        }
    }

    fn up(&mut self, mut place: usize) {
        while place > 0 && self.entries[place].0 < self.entries[(place - 1) / 2].0 {
            self.exchange(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
    }

    fn down(&mut self, mut place: usize) {
        loop {
            let below = [2 * place + 1, 2 * place + 2];
            let least = below
                .into_iter()
                .filter(|child| *child < self.entries.len())
                .min_by_key(|child| self.entries[*child].0);
            match least {
                Some(child) if self.entries[child].0 < self.entries[place].0 => {
                    self.exchange(place, child);
                    place = child;
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_whatever_changes() {
        let mut heap = Heap::default();
        heap.reserve(64).unwrap();
        let mut model = [None; 64];
        let mut state = 7_u64;
        for _ in 0..5000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let number = u32::try_from(state >> 58).unwrap();
            let deadline = state >> 40 & 0xffff;
            if state & 1 << 20 == 0 {
                heap.set(number, deadline);
                model[number as usize] = Some(deadline);
            } else {
                heap.remove(number);
                model[number as usize] = None;
            }
            let first = model.iter().flatten().min().copied();
            assert_eq!(heap.first().map(|(at, _)| at), first);
        }
    }
}
