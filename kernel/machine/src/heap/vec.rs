//! A vector that grows fallibly.

mod traits;

use alloc::vec as std_vec;
use core::ops::RangeBounds;

use super::error::Result;

/// alloc's vector without what panics for want of memory. Derefs to a slice.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vec<T>(std_vec::Vec<T>);

impl<T> Vec<T> {
    /// An empty vector.
    #[must_use]
    pub const fn new() -> Self {
        Self(std_vec::Vec::new())
    }

    /// An empty vector with room for `capacity` items.
    ///
    /// # Errors
    /// [`AllocError`](super::AllocError).
    pub fn try_with_capacity(capacity: usize) -> Result<Self> {
        let mut made = Self::new();
        made.try_reserve_exact(capacity)?;
        Ok(made)
    }

    /// A vector of `len` clones of `item`, whose clones do not allocate.
    ///
    /// # Errors
    /// [`AllocError`](super::AllocError).
    pub fn try_from_elem(item: T, len: usize) -> Result<Self>
    where
        T: Copy,
    {
        let mut made = Self::try_with_capacity(len)?;
        made.0.resize(len, item);
        Ok(made)
    }

    /// A copy of `items`.
    ///
    /// # Errors
    /// [`AllocError`](super::AllocError).
    pub fn try_from_slice(items: &[T]) -> Result<Self>
    where
        T: Clone,
    {
        let mut made = Self::try_with_capacity(items.len())?;
        made.0.extend_from_slice(items);
        Ok(made)
    }

    /// Makes room for `more` items behind those there are, and some more.
    ///
    /// # Errors
    /// [`AllocError`](super::AllocError).
    pub fn try_reserve(&mut self, more: usize) -> Result<()> {
        if self.0.capacity() - self.0.len() >= more {
            return Ok(());
        }
        super::admit()?;
        Ok(self.0.try_reserve(more)?)
    }

    /// Makes room for `more` items behind those there are.
    ///
    /// # Errors
    /// [`AllocError`](super::AllocError).
    pub fn try_reserve_exact(&mut self, more: usize) -> Result<()> {
        if self.0.capacity() - self.0.len() >= more {
            return Ok(());
        }
        super::admit()?;
        Ok(self.0.try_reserve_exact(more)?)
    }

    /// Appends `item`.
    ///
    /// # Errors
    /// [`AllocError`](super::AllocError); the item is dropped.
    pub fn try_push(&mut self, item: T) -> Result<()> {
        self.try_reserve(1)?;
        self.0.push(item);
        Ok(())
    }

    /// Appends `item` if there is room for it without allocating, else gives it back.
    ///
    /// # Errors
    /// The item.
    pub fn push_within_capacity(&mut self, item: T) -> core::result::Result<(), T> {
        if self.0.len() == self.0.capacity() {
            return Err(item);
        }
        self.0.push(item);
        Ok(())
    }

    /// Puts `item` before the one at `index`. Panics when `index` is beyond the end.
    ///
    /// # Errors
    /// [`AllocError`](super::AllocError); the item is dropped.
    pub fn try_insert(&mut self, index: usize, item: T) -> Result<()> {
        self.try_reserve(1)?;
        self.0.insert(index, item);
        Ok(())
    }

    /// Appends clones of `items`, whose clones do not allocate.
    ///
    /// # Errors
    /// [`AllocError`](super::AllocError); nothing was appended.
    pub fn try_extend_from_slice(&mut self, items: &[T]) -> Result<()>
    where
        T: Clone,
    {
        self.try_reserve(items.len())?;
        self.0.extend_from_slice(items);
        Ok(())
    }

    /// Appends what the iterator gives.
    ///
    /// # Errors
    /// [`AllocError`](super::AllocError); what was appended before stays.
    pub fn try_extend(&mut self, items: impl IntoIterator<Item = T>) -> Result<()> {
        let items = items.into_iter();
        self.try_reserve(items.size_hint().0)?;
        for item in items {
            self.try_push(item)?;
        }
        Ok(())
    }

    /// Moves all of `other` behind the items.
    ///
    /// # Errors
    /// [`AllocError`](super::AllocError); both are as they were.
    pub fn try_append(&mut self, other: &mut Vec<T>) -> Result<()> {
        self.try_reserve(other.len())?;
        self.0.append(&mut other.0);
        Ok(())
    }

    /// Changes the length; new items are clones of `item`, whose clones do not allocate.
    ///
    /// # Errors
    /// [`AllocError`](super::AllocError); the length is as it was.
    pub fn try_resize(&mut self, len: usize, item: T) -> Result<()>
    where
        T: Clone,
    {
        self.try_reserve(len.saturating_sub(self.len()))?;
        self.0.resize(len, item);
        Ok(())
    }

    /// Changes the length; `make` makes new items.
    ///
    /// # Errors
    /// [`AllocError`](super::AllocError); the length is as it was.
    pub fn try_resize_with(&mut self, len: usize, make: impl FnMut() -> T) -> Result<()> {
        self.try_reserve(len.saturating_sub(self.len()))?;
        self.0.resize_with(len, make);
        Ok(())
    }

    /// Takes the items from `at` on into a vector of their own.
    ///
    /// # Errors
    /// [`AllocError`](super::AllocError); the vector is as it was.
    pub fn try_split_off(&mut self, at: usize) -> Result<Vec<T>> {
        let mut tail = Self::try_with_capacity(self.len().saturating_sub(at))?;
        tail.0.extend(self.0.drain(at..));
        Ok(tail)
    }

    /// A copy; clones of the items do not allocate.
    ///
    /// # Errors
    /// [`AllocError`](super::AllocError).
    pub fn try_clone(&self) -> Result<Self>
    where
        T: Clone,
    {
        Self::try_from_slice(self)
    }

    /// Gives back memory beyond the items. (Shrinking in place would abort when it fails.)
    ///
    /// # Errors
    /// [`AllocError`](super::AllocError); the vector is as it was.
    pub fn try_shrink_to_fit(&mut self) -> Result<()> {
        if self.0.capacity() > self.0.len() {
            let mut small = Self::try_with_capacity(self.0.len())?;
            small.0.append(&mut self.0);
            *self = small;
        }
        Ok(())
    }

    /// alloc's vector with the same memory.
    #[must_use]
    pub fn into_std(self) -> std_vec::Vec<T> {
        self.0
    }

    /// This vector from alloc's, with the same memory.
    #[must_use]
    pub fn from_std(items: std_vec::Vec<T>) -> Self {
        Self(items)
    }

    /// How many items there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Takes the last item.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    /// Takes the last item if it is so.
    pub fn pop_if(&mut self, is_wanted: impl FnOnce(&mut T) -> bool) -> Option<T> {
        self.0.pop_if(is_wanted)
    }

    /// Takes the item at `index`, moving those behind it up. Panics when there is none.
    pub fn remove(&mut self, index: usize) -> T {
        self.0.remove(index)
    }

    /// Takes the item at `index`, moving the last one there. Panics when there is none.
    pub fn swap_remove(&mut self, index: usize) -> T {
        self.0.swap_remove(index)
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
    pub fn drain(&mut self, range: impl RangeBounds<usize>) -> std_vec::Drain<'_, T> {
        self.0.drain(range)
    }

    /// Removes items equal to the one before them.
    pub fn dedup(&mut self)
    where
        T: PartialEq,
    {
        self.0.dedup();
    }

    /// Removes items with the key of the one before them.
    pub fn dedup_by_key<K: PartialEq>(&mut self, key: impl FnMut(&mut T) -> K) {
        self.0.dedup_by_key(key);
    }

    /// The items as a slice.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }

    /// The items as a slice.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AllocError, Vec, testing};

    #[test]
    fn a_failed_growth_changes_nothing() {
        let mut items = Vec::try_from_slice(&[1, 2, 3]).expect("memory");
        testing::fail_nth(1);
        assert_eq!(items.try_extend_from_slice(&[0; 100]), Err(AllocError));
        assert_eq!(items, [1, 2, 3]);
        assert_eq!(items.try_reserve(usize::MAX), Err(AllocError));
        assert_eq!(items.try_push(4), Ok(()));
        assert_eq!(items, [1, 2, 3, 4]);
    }

    #[test]
    fn shrinking_gives_memory_back() {
        let mut items: Vec<u32> = Vec::try_with_capacity(1000).expect("memory");
        items.try_extend([1, 2]).expect("room");
        testing::fail_nth(1);
        assert_eq!(items.try_shrink_to_fit(), Err(AllocError));
        assert_eq!((items.capacity(), items.len()), (1000, 2));
        items.try_shrink_to_fit().expect("memory");
        assert_eq!((items.capacity(), items.as_slice()), (2, &[1, 2][..]));
    }

    #[test]
    fn splitting_moves_the_tail() {
        let mut items = Vec::try_from([1, 2, 3, 4]).expect("memory");
        let tail = items.try_split_off(3).expect("memory");
        assert_eq!(
            (items.as_slice(), tail.as_slice()),
            (&[1, 2, 3][..], &[4][..])
        );
        assert_eq!(items.push_within_capacity(9), Ok(()));
    }
}
