//! An ordered set: a map without values.

use core::borrow::Borrow;
use core::fmt;
use core::ops::RangeBounds;

use crate::Result;
use crate::map::{IntoIter, Iter, Map};

/// Keys in order, each once. All operations but the walks are logarithmic.
#[derive(PartialEq, Eq)]
pub struct Set<K>(Map<K, ()>);

impl<K> Set<K> {
    /// An empty set, without memory.
    #[must_use]
    pub const fn new() -> Self {
        Self(Map::new())
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Drops all keys.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The least key.
    #[must_use]
    pub fn first(&self) -> Option<&K> {
        self.0.first_key_value().map(|(key, ())| key)
    }

    /// The greatest key.
    #[must_use]
    pub fn last(&self) -> Option<&K> {
        self.0.last_key_value().map(|(key, ())| key)
    }

    /// The key that has `rank` keys before it.
    #[must_use]
    pub fn nth(&self, rank: usize) -> Option<&K> {
        self.0.nth(rank).map(|(key, ())| key)
    }

    /// All keys in order; also from the back.
    #[must_use]
    pub fn iter(&self) -> Keys<'_, K> {
        Keys(self.0.iter())
    }
}

impl<K: Ord> Set<K> {
    /// Adds a key. False when it is there already.
    ///
    /// # Errors
    /// `AllocError`; the key is dropped.
    pub fn try_insert(&mut self, key: K) -> Result<bool> {
        Ok(self.0.try_insert(key, ())?.is_none())
    }

    /// The least key that is not less than `key`.
    #[must_use]
    pub fn first_from<Q>(&self, key: &Q) -> Option<&K>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.0.first_from(key).map(|(key, ())| key)
    }

    /// Whether the key is there.
    #[must_use]
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.0.contains_key(key)
    }

    /// Removes the key. False when it is not there.
    pub fn remove<Q>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.0.remove(key).is_some()
    }

    /// Removes the least key.
    pub fn pop_first(&mut self) -> Option<K> {
        self.0.pop_first().map(|(key, ())| key)
    }

    /// Removes the greatest key.
    pub fn pop_last(&mut self) -> Option<K> {
        self.0.pop_last().map(|(key, ())| key)
    }

    /// Removes the first key of a range.
    pub fn pop_first_in<Q>(&mut self, range: impl RangeBounds<Q>) -> Option<K>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.0.pop_first_in(range).map(|(key, ())| key)
    }

    /// The keys of a range in order; also from the back.
    pub fn range<Q>(&self, range: impl RangeBounds<Q>) -> Keys<'_, K>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        Keys(self.0.range(range))
    }

    /// Keeps only what is wanted.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(&K) -> bool) {
        self.0.retain(|key, ()| is_wanted(key));
    }
}

impl<K> Default for Set<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug> fmt::Debug for Set<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The keys of a set in order, from both ends.
pub struct Keys<'a, K>(Iter<'a, K, ()>);

impl<'a, K> Iterator for Keys<'a, K> {
    type Item = &'a K;

    fn next(&mut self) -> Option<&'a K> {
        self.0.next().map(|(key, ())| key)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<K> DoubleEndedIterator for Keys<'_, K> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(key, ())| key)
    }
}

impl<K> ExactSizeIterator for Keys<'_, K> {}

impl<K> fmt::Debug for Keys<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'a, K> IntoIterator for &'a Set<K> {
    type Item = &'a K;
    type IntoIter = Keys<'a, K>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A set's keys, taken from both ends.
#[derive(Debug)]
pub struct IntoKeys<K>(IntoIter<K, ()>);

impl<K: Ord> Iterator for IntoKeys<K> {
    type Item = K;

    fn next(&mut self) -> Option<K> {
        self.0.next().map(|(key, ())| key)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<K: Ord> IntoIterator for Set<K> {
    type Item = K;
    type IntoIter = IntoKeys<K>;
    fn into_iter(self) -> Self::IntoIter {
        IntoKeys(self.0.into_iter())
    }
}

#[cfg(test)]
mod tests {
    use super::Set;

    #[test]
    fn has_each_key_once() {
        let mut set = Set::new();
        for key in [3, 1, 2, 3] {
            set.try_insert(key).expect("memory");
        }
        assert!(set.iter().eq(&[1, 2, 3]));
        assert_eq!(
            (set.pop_first(), set.contains(&1), set.remove(&2)),
            (Some(1), false, true)
        );
        assert!(set.into_iter().eq([3]));
    }
}
