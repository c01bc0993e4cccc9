//! The entries next to a key, whether or not the map has it: one descent each, where a walk over a range counts its
//! ends in two and keeps the way to its entry.

use core::borrow::Borrow;

use super::Map;

impl<K: Ord, V> Map<K, V> {
    /// The entry with the least key that is not less than `key`.
    #[must_use]
    pub fn first_from<Q>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (mut node, mut nearest) = (&self.root, None);
        loop {
            let index = match node.search(key) {
                Ok(index) => return node.entries.get(index).map(|(key, value)| (key, value)),
                Err(index) => index,
            };
            // An entry that is further down is nearer.
            nearest = node.entries.get(index).or(nearest);
            match node.children.get(index) {
                Some(child) => node = child,
                None => return nearest.map(|(key, value)| (key, value)),
            }
        }
    }

    /// As [`Map::first_from`], its value mutable.
    pub fn first_from_mut<Q>(&mut self, key: &Q) -> Option<(&K, &mut V)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let rank = self.root.count_before(key, false);
        self.nth_mut(rank)
    }

    /// The entry with the greatest key that is less than `key`.
    #[must_use]
    pub fn last_before<Q>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (mut node, mut nearest) = (&self.root, None);
        loop {
            let index = node.search(key).unwrap_or_else(|index| index);
            let before = index.checked_sub(1).and_then(|it| node.entries.get(it));
            nearest = before.or(nearest);
            match node.children.get(index) {
                Some(child) => node = child,
                None => return nearest.map(|(key, value)| (key, value)),
            }
        }
    }
}
