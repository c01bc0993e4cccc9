//! An ordered map whose insertion can fail: a B-tree.
//!
//! `node` has the tree, `iter` walks it, `nearest` looks next to a key, `traits` has core's traits. Memory comes back as
//! entries leave: nodes merge, and an empty map has none.

mod iter;
mod nearest;
mod node;
#[cfg(test)]
mod tests;
mod traits;

use core::borrow::Borrow;
use core::ops::{Bound, RangeBounds};

use crate::{AllocError, Result};
pub use iter::{IntoIter, Iter, IterMut};
use node::{Node, Side, Target};

/// Keys in order, each with a value. All operations but the walks are logarithmic.
pub struct Map<K, V> {
    root: Node<K, V>,
}

impl<K, V> Map<K, V> {
    /// An empty map, without memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { root: Node::new() }
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.root.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.root.len == 0
    }

    /// Drops all entries.
    pub fn clear(&mut self) {
        self.root = Node::new();
    }

    /// The entry that has `rank` entries before it.
    #[must_use]
    pub fn nth(&self, rank: usize) -> Option<(&K, &V)> {
        self.root.nth(rank).map(|(key, value)| (key, value))
    }

    /// The entry with the least key.
    #[must_use]
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        self.nth(0)
    }

    /// The entry with the greatest key.
    #[must_use]
    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        self.nth(self.len().checked_sub(1)?)
    }

    /// The entry with the least key, its value mutable.
    pub fn first_mut(&mut self) -> Option<(&K, &mut V)> {
        self.nth_mut(0)
    }

    /// The entry with the greatest key, its value mutable.
    pub fn last_mut(&mut self) -> Option<(&K, &mut V)> {
        self.nth_mut(self.len().checked_sub(1)?)
    }

    /// The entry that has `rank` entries before it, its value mutable.
    pub fn nth_mut(&mut self, rank: usize) -> Option<(&K, &mut V)> {
        self.root.nth_mut(rank).map(|(key, value)| (&*key, value))
    }

    /// All entries in order; also from the back.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter::new(&self.root, 0, self.len())
    }

    /// All entries in order, their values mutable.
    pub fn iter_mut(&mut self) -> IterMut<'_, K, V> {
        let len = self.len();
        IterMut::new(&mut self.root, 0, len)
    }

    /// All keys in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + ExactSizeIterator {
        self.iter().map(|(key, _)| key)
    }

    /// All values in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + ExactSizeIterator {
        self.iter().map(|(_, value)| value)
    }

    /// All values in the order of their keys.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.iter_mut().map(|(_, value)| value)
    }
}

impl<K: Ord, V> Map<K, V> {
    /// Sets the key's value; returns the one that it had before.
    ///
    /// # Errors
    /// [`AllocError`]; key and value are dropped, the map is as it was.
    pub fn try_insert(&mut self, key: K, value: V) -> Result<Option<V>> {
        self.insert_or_return(key, value).map_err(|_| AllocError)
    }

    /// As [`Map::try_insert`], but gives key and value back when there is no memory.
    ///
    /// # Errors
    /// Key and value.
    pub fn insert_or_return(
        &mut self,
        key: K,
        value: V,
    ) -> core::result::Result<Option<V>, (K, V)> {
        let room = if self.root.is_full() {
            self.root.grow_root()
        } else {
            Ok(())
        };
        let unfit = match room {
            Ok(()) => match self.root.insert(key, value) {
                Ok(old) => return Ok(old),
                Err(unfit) => unfit,
            },
            Err(_) => (key, value),
        };
        // To exchange a value takes no memory.
        match self.get_mut(&unfit.0) {
            Some(known) => Ok(Some(core::mem::replace(known, unfit.1))),
            None => Err(unfit),
        }
    }

    /// The key's value, made and inserted when there is none.
    ///
    /// # Errors
    /// [`AllocError`]; the map is as it was.
    pub fn try_get_or_insert_with(&mut self, key: &K, make: impl FnOnce() -> V) -> Result<&mut V>
    where
        K: Clone,
    {
        if !self.contains_key(key) {
            self.try_insert(key.clone(), make())?;
        }
        self.get_mut(key).ok_or(AllocError)
    }

    /// Removes the entry with the least key.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        self.remove_nth(0)
    }

    /// Removes the entry with the greatest key.
    pub fn pop_last(&mut self) -> Option<(K, V)> {
        self.remove_nth(self.len().checked_sub(1)?)
    }

    /// Removes the entry that has `rank` entries before it.
    pub fn remove_nth(&mut self, rank: usize) -> Option<(K, V)> {
        if rank >= self.len() {
            return None;
        }
        let removed = self.root.remove_rank(rank);
        self.lower_root();
        removed
    }

    /// Keeps only what is wanted.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(&K, &mut V) -> bool) {
        let mut rank = 0;
        while let Some((key, value)) = self.nth_mut(rank) {
            if is_wanted(key, value) {
                rank += 1;
            } else {
                self.remove_nth(rank);
            }
        }
    }

    /// The key's value.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    /// The key as it is in the map, and its value.
    #[must_use]
    pub fn get_key_value<Q>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut node = &self.root;
        loop {
            match node.search(key) {
                Ok(index) => return node.entries.get(index).map(|(key, value)| (key, value)),
                Err(index) => node = node.children.get(index)?,
            }
        }
    }

    /// The key's value.
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut node = &mut self.root;
        loop {
            match node.search(key) {
                Ok(index) => return node.entries.get_mut(index).map(|(_, value)| value),
                Err(index) => node = node.children.get_mut(index)?,
            }
        }
    }

    /// Whether the key has a value.
    #[must_use]
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.get_key_value(key).is_some()
    }

    /// Removes the key; returns its value.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.remove_entry(key).map(|(_, value)| value)
    }

    /// Removes the key; returns it and its value.
    pub fn remove_entry<Q>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let removed = self.root.remove(&Target::Key(key));
        self.lower_root();
        removed
    }

    /// The entries of a range of keys in order; also from the back. An empty range when its start is behind its end.
    pub fn range<Q>(&self, range: impl RangeBounds<Q>) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (first, end) = self.ranks(&range);
        Iter::new(&self.root, first, end)
    }

    /// The entries of a range of keys in order, their values mutable.
    pub fn range_mut<Q>(&mut self, range: impl RangeBounds<Q>) -> IterMut<'_, K, V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (first, end) = self.ranks(&range);
        IterMut::new(&mut self.root, first, end)
    }

    /// Removes the first entry of a range of keys: to empty a range, call it until there is none.
    pub fn pop_first_in<Q>(&mut self, range: impl RangeBounds<Q>) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (first, end) = self.ranks(&range);
        if first == end {
            return None;
        }
        self.remove_nth(first)
    }

    /// Takes the entries from `key` on into a map of their own, in logarithmic time.
    ///
    /// # Errors
    /// [`AllocError`]; the map is as it was.
    pub fn try_split_off<Q>(&mut self, key: &Q) -> Result<Self>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let tail = self.root.split_at(key)?;
        let mut tail = Self { root: tail };
        self.lower_root();
        self.root.mend_border(Side::Last);
        self.lower_root();
        tail.lower_root();
        tail.root.mend_border(Side::First);
        tail.lower_root();
        Ok(tail)
    }

    /// How many entries stand before the range, and before its end.
    fn ranks<Q>(&self, range: &impl RangeBounds<Q>) -> (usize, usize)
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let first = match range.start_bound() {
            Bound::Included(key) => self.root.count_before(key, false),
            Bound::Excluded(key) => self.root.count_before(key, true),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(key) => self.root.count_before(key, true),
            Bound::Excluded(key) => self.root.count_before(key, false),
            Bound::Unbounded => self.len(),
        };
        (first, end.max(first))
    }

    /// Drops roots that have nothing but one child, and the memory of an empty one.
    fn lower_root(&mut self) {
        while self.root.entries.is_empty() {
            match self.root.children.pop() {
                Some(child) => self.root = child,
                None => {
                    self.root = Node::new();
                    return;
                }
            }
        }
    }
}
