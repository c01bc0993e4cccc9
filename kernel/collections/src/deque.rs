//! A double-ended queue that grows fallibly.

use alloc::collections::{VecDeque as StdDeque, vec_deque};
use core::fmt;
use core::ops::{Index, IndexMut, RangeBounds};

use crate::Result;

/// alloc's deque without what panics for want of memory.
#[derive(PartialEq, Eq)]
pub struct VecDeque<T>(StdDeque<T>);

impl<T> VecDeque<T> {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self(StdDeque::new())
    }

    /// Makes room for `more` items.
    ///
    /// # Errors
    /// `AllocError`.
    pub fn try_reserve(&mut self, more: usize) -> Result<()> {
        if self.0.capacity() - self.0.len() >= more {
            return Ok(());
        }
        machine::heap::admit()?;
        Ok(self.0.try_reserve(more)?)
    }

    /// Appends `item`.
    ///
    /// # Errors
    /// `AllocError`; the item is dropped.
    pub fn try_push_back(&mut self, item: T) -> Result<()> {
        self.try_reserve(1)?;
        self.0.push_back(item);
        Ok(())
    }

    /// Puts `item` before all others.
    ///
    /// # Errors
    /// `AllocError`; the item is dropped.
    pub fn try_push_front(&mut self, item: T) -> Result<()> {
        self.try_reserve(1)?;
        self.0.push_front(item);
        Ok(())
    }

    /// Puts `item` before the one at `index`. Panics when `index` is beyond the end.
    ///
    /// # Errors
    /// `AllocError`; the item is dropped.
    pub fn try_insert(&mut self, index: usize, item: T) -> Result<()> {
        self.try_reserve(1)?;
        self.0.insert(index, item);
        Ok(())
    }

    /// Appends `item` if there is room for it without allocating, else gives it back.
    ///
    /// # Errors
    /// The item.
    pub fn push_back_within_capacity(&mut self, item: T) -> core::result::Result<(), T> {
        if self.0.len() == self.0.capacity() {
            return Err(item);
        }
        self.0.push_back(item);
        Ok(())
    }

    /// Puts `item` before all others if there is room for it without allocating, else gives it back.
    ///
    /// # Errors
    /// The item.
    pub fn push_front_within_capacity(&mut self, item: T) -> core::result::Result<(), T> {
        if self.0.len() == self.0.capacity() {
            return Err(item);
        }
        self.0.push_front(item);
        Ok(())
    }

    /// Appends what the iterator gives.
    ///
    /// # Errors
    /// `AllocError`; what was appended before stays.
    pub fn try_extend(&mut self, items: impl IntoIterator<Item = T>) -> Result<()> {
        let items = items.into_iter();
        self.try_reserve(items.size_hint().0)?;
        for item in items {
            self.try_push_back(item)?;
        }
        Ok(())
    }

    /// Moves all of `other` behind the items.
    ///
    /// # Errors
    /// `AllocError`; both are as they were.
    pub fn try_append(&mut self, other: &mut VecDeque<T>) -> Result<()> {
        self.try_reserve(other.len())?;
        self.0.append(&mut other.0);
        Ok(())
    }

    /// alloc's deque with the same memory.
    #[must_use]
    pub fn into_std(self) -> StdDeque<T> {
        self.0
    }

    /// This deque from alloc's, with the same memory.
    #[must_use]
    pub fn from_std(items: StdDeque<T>) -> Self {
        Self(items)
    }

    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many items there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Takes the first item. The memory of a queue that runs empty stays; see [`VecDeque::release`].
    pub fn pop_front(&mut self) -> Option<T> {
        self.0.pop_front()
    }

    /// Takes the last item.
    pub fn pop_back(&mut self) -> Option<T> {
        self.0.pop_back()
    }

    /// Drops all items and gives the memory back.
    pub fn release(&mut self) {
        *self = Self::new();
    }

    /// The first item.
    #[must_use]
    pub fn front(&self) -> Option<&T> {
        self.0.front()
    }

    /// The first item.
    pub fn front_mut(&mut self) -> Option<&mut T> {
        self.0.front_mut()
    }

    /// The last item.
    #[must_use]
    pub fn back(&self) -> Option<&T> {
        self.0.back()
    }

    /// The last item.
    pub fn back_mut(&mut self) -> Option<&mut T> {
        self.0.back_mut()
    }

    /// The item at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.0.get(index)
    }

    /// The item at `index`.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.0.get_mut(index)
    }

    /// Takes the item at `index`, moving the others together.
    pub fn remove(&mut self, index: usize) -> Option<T> {
        self.0.remove(index)
    }

    /// Drops all behind the first `len` items.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Drops all items; the memory stays for new ones.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Keeps only what is wanted.
    pub fn retain(&mut self, is_wanted: impl FnMut(&T) -> bool) {
        self.0.retain(is_wanted);
    }

    /// Keeps only what is wanted, looking at it mutably.
    pub fn retain_mut(&mut self, is_wanted: impl FnMut(&mut T) -> bool) {
        self.0.retain_mut(is_wanted);
    }

    /// Takes the items of the range out.
    pub fn drain(&mut self, range: impl RangeBounds<usize>) -> vec_deque::Drain<'_, T> {
        self.0.drain(range)
    }

    /// The items in order.
    #[must_use]
    pub fn iter(&self) -> vec_deque::Iter<'_, T> {
        self.0.iter()
    }

    /// The items in order.
    pub fn iter_mut(&mut self) -> vec_deque::IterMut<'_, T> {
        self.0.iter_mut()
    }

    /// The items of the range in order.
    pub fn range(&self, range: impl RangeBounds<usize>) -> vec_deque::Iter<'_, T> {
        self.0.range(range)
    }

    /// The items as two slices, one behind the other.
    #[must_use]
    pub fn as_slices(&self) -> (&[T], &[T]) {
        self.0.as_slices()
    }

    /// The items as two slices, one behind the other.
    pub fn as_mut_slices(&mut self) -> (&mut [T], &mut [T]) {
        self.0.as_mut_slices()
    }

    /// Moves the items together, and gives them as one slice.
    pub fn make_contiguous(&mut self) -> &mut [T] {
        self.0.make_contiguous()
    }

    /// Whether `item` is among the items.
    #[must_use]
    pub fn contains(&self, item: &T) -> bool
    where
        T: PartialEq,
    {
        self.0.contains(item)
    }

    /// Exchanges two items. Panics when there is no such item.
    pub fn swap(&mut self, first: usize, second: usize) {
        self.0.swap(first, second);
    }

    /// Moves the first `count` items behind the others.
    pub fn rotate_left(&mut self, count: usize) {
        self.0.rotate_left(count);
    }
}

impl<T> Default for VecDeque<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for VecDeque<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> Index<usize> for VecDeque<T> {
    type Output = T;
    fn index(&self, index: usize) -> &T {
        &self.0[index]
    }
}

impl<T> IndexMut<usize> for VecDeque<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.0[index]
    }
}

impl<T> IntoIterator for VecDeque<T> {
    type Item = T;
    type IntoIter = vec_deque::IntoIter<T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a VecDeque<T> {
    type Item = &'a T;
    type IntoIter = vec_deque::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut VecDeque<T> {
    type Item = &'a mut T;
    type IntoIter = vec_deque::IterMut<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::VecDeque;
    use crate::{AllocError, testing};

    #[test]
    fn a_failed_growth_changes_nothing() {
        let mut queue = VecDeque::new();
        queue.try_extend([1, 2]).expect("memory");
        while queue.push_back_within_capacity(3).is_ok() {}
        let len = queue.len();
        testing::fail_nth(1);
        assert_eq!(queue.try_push_front(0), Err(AllocError));
        assert_eq!((queue.len(), queue.front()), (len, Some(&1)));
        queue.try_push_front(0).expect("memory");
        assert_eq!(queue.pop_front(), Some(0));
    }
}
