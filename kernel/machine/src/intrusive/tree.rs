//! A tree ordered by key: a treap, which random priorities keep balanced.

use alloc::sync::Arc;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use super::{Link, NOWHERE, Pointer, at, new_number};

/// Elements by key; those with equal keys in order of arrival. Adding and taking out are logarithmic, the
/// first is at hand.
pub struct Tree<T: ?Sized, K> {
    number: u64,
    root: Pointer<T, K>,
    first: Pointer<T, K>,
    len: usize,
    random: u64,
    _owns: PhantomData<Arc<T>>,
}

// SAFETY: its pointers stand for counted references to elements that are `Send + Sync`.
unsafe impl<T: ?Sized + Send + Sync, K: Send + Sync> Send for Tree<T, K> {}
// SAFETY: as above; looking changes nothing.
unsafe impl<T: ?Sized + Send + Sync, K: Send + Sync> Sync for Tree<T, K> {}

impl<T: ?Sized, K> fmt::Debug for Tree<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tree({} elements)", self.len)
    }
}

impl<T: ?Sized, K: Ord + Copy> Default for Tree<T, K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: ?Sized, K: Ord + Copy> Tree<T, K> {
    /// An empty tree.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            number: NOWHERE,
            root: None,
            first: None,
            len: 0,
            random: 0,
            _owns: PhantomData,
        }
    }

    /// How many elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The least key and its element.
    #[must_use]
    pub fn first(&self) -> Option<(K, &T)> {
        let link = at(self.first.as_ref()?);
        Some((link.key.get()?, link.item()?))
    }

    /// Takes the element with the least key.
    pub fn pop_first(&mut self) -> Option<Arc<T>> {
        self.take(self.first?)
    }

    /// Takes the element with the least key that is not less than `key`.
    pub fn pop_from(&mut self, key: K) -> Option<Arc<T>> {
        let (mut found, mut next) = (None, self.root);
        while let Some(link) = next {
            next = if at(&link).key.get().is_some_and(|other| other < key) {
                at(&link).right.get()
            } else {
                found = Some(link);
                at(&link).left.get()
            };
        }
        self.take(found?)
    }

    /// Takes out the element whose link this is, if it is in this tree.
    pub fn remove(&mut self, link: &Link<T, K>) -> Option<Arc<T>> {
        if link.is_in(self.number) {
            self.take(NonNull::from(link))
        } else {
            None
        }
    }

    /// Whether the element with this link is in this tree.
    #[must_use]
    pub fn contains(&self, link: &Link<T, K>) -> bool {
        link.is_in(self.number)
    }

    /// The element with the greatest key, of the last `most`, for which `is_wanted`.
    pub fn take_last(
        &mut self,
        most: usize,
        mut is_wanted: impl FnMut(&T) -> bool,
    ) -> Option<Arc<T>> {
        let mut next = self.root;
        while let Some(right) = next.and_then(|link| at(&link).right.get()) {
            next = Some(right);
        }
        for _ in 0..most {
            let link = next?;
            if at(&link).item().is_some_and(&mut is_wanted) {
                return self.take(link);
            }
            next = before(link);
        }
        None
    }

    /// Calls `look` with each element, in order.
    pub fn for_each(&self, mut look: impl FnMut(K, &T)) {
        let mut next = self.first;
        while let Some(link) = next {
            if let (Some(key), Some(item)) = (at(&link).key.get(), at(&link).item()) {
                look(key, item);
            }
            next = after(link);
        }
    }

    /// Adds an element; `link` names the one of its links to use.
    ///
    /// # Errors
    /// The element, when that link is in a container already.
    pub fn insert(
        &mut self,
        key: K,
        item: Arc<T>,
        link: impl for<'a> Fn(&'a T) -> &'a Link<T, K>,
    ) -> Result<(), Arc<T>> {
        if self.number == NOWHERE {
            self.number = new_number();
            self.random = self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        }
        let new = Link::claim(self.number, item, link)?;
        at(&new).key.set(Some(key));
        at(&new).priority.set(self.next_random());
        let (mut parent, mut is_first, mut goes_left) = (None, true, false);
        let mut next = self.root;
        while let Some(link) = next {
            parent = next;
            goes_left = at(&link).key.get().is_some_and(|other| key < other);
            is_first &= goes_left;
            next = if goes_left {
                at(&link).left.get()
            } else {
                at(&link).right.get()
            };
        }
        at(&new).parent.set(parent);
        match &parent {
            Some(parent) if goes_left => at(parent).left.set(Some(new)),
            Some(parent) => at(parent).right.set(Some(new)),
            None => self.root = Some(new),
        }
        if is_first {
            self.first = Some(new);
        }
        self.len += 1;
        while let Some(parent) = at(&new).parent.get() {
            if at(&parent).priority.get() >= at(&new).priority.get() {
                break;
            }
            self.rotate_up(new);
        }
        Ok(())
    }

    fn take(&mut self, link: NonNull<Link<T, K>>) -> Option<Arc<T>> {
        if self.first == Some(link) {
            self.first = after(link);
        }
        // Down to where it has no children.
        loop {
            let (left, right) = (at(&link).left.get(), at(&link).right.get());
            let up = match (left, right) {
                (None, None) => break,
                (Some(child), None) | (None, Some(child)) => child,
                (Some(left), Some(right)) => {
                    if at(&left).priority.get() > at(&right).priority.get() {
                        left
                    } else {
                        right
                    }
                }
            };
            self.rotate_up(up);
        }
        self.replace_child(at(&link).parent.get(), link, None);
        self.len -= 1;
        Link::release(link)
    }

    /// Makes `link` the parent of its parent; the order stays.
    fn rotate_up(&mut self, link: NonNull<Link<T, K>>) {
        let Some(parent) = at(&link).parent.get() else {
            return;
        };
        let moved = if at(&parent).left.get() == Some(link) {
            let moved = at(&link).right.replace(Some(parent));
            at(&parent).left.set(moved);
            moved
        } else {
            let moved = at(&link).left.replace(Some(parent));
            at(&parent).right.set(moved);
            moved
        };
        if let Some(moved) = &moved {
            at(moved).parent.set(Some(parent));
        }
        let above = at(&parent).parent.replace(Some(link));
        at(&link).parent.set(above);
        self.replace_child(above, parent, Some(link));
    }

    fn replace_child(
        &mut self,
        parent: Pointer<T, K>,
        old: NonNull<Link<T, K>>,
        new: Pointer<T, K>,
    ) {
        match &parent {
            None => self.root = new,
            Some(parent) if at(parent).left.get() == Some(old) => at(parent).left.set(new),
            Some(parent) => at(parent).right.set(new),
        }
    }

    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// The link with the next key.
fn after<T: ?Sized, K>(link: NonNull<Link<T, K>>) -> Pointer<T, K> {
    if let Some(mut next) = at(&link).right.get() {
        while let Some(left) = at(&next).left.get() {
            next = left;
        }
        return Some(next);
    }
    let mut child = link;
    while let Some(parent) = at(&child).parent.get() {
        if at(&parent).left.get() == Some(child) {
            return Some(parent);
        }
        child = parent;
    }
    None
}

/// The link with the previous key.
fn before<T: ?Sized, K>(link: NonNull<Link<T, K>>) -> Pointer<T, K> {
    if let Some(mut next) = at(&link).left.get() {
        while let Some(right) = at(&next).right.get() {
            next = right;
        }
        return Some(next);
    }
    let mut child = link;
    while let Some(parent) = at(&child).parent.get() {
        if at(&parent).right.get() == Some(child) {
            return Some(parent);
        }
        child = parent;
    }
    None
}

impl<T: ?Sized, K> Drop for Tree<T, K> {
    fn drop(&mut self) {
        // No order is needed any more: leaves first.
        while let Some(mut link) = self.root {
            while let Some(child) = at(&link).left.get().or(at(&link).right.get()) {
                link = child;
            }
            match at(&link).parent.get() {
                None => self.root = None,
                Some(parent) if at(&parent).left.get() == Some(link) => at(&parent).left.set(None),
                Some(parent) => at(&parent).right.set(None),
            }
            drop(Link::release(link));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Element {
        value: u32,
        link: Link<Element, u32>,
    }

    fn link(it: &Element) -> &Link<Element, u32> {
        &it.link
    }

    fn element(value: u32) -> Arc<Element> {
        Arc::new(Element {
            value,
            link: Link::new(),
        })
    }

    fn depth(link: Pointer<Element, u32>) -> usize {
        link.map_or(0, |it| {
            1 + depth(at(&it).left.get()).max(depth(at(&it).right.get()))
        })
    }

    #[test]
    fn keys_come_in_order_and_equal_ones_as_they_arrived() {
        let mut tree = Tree::new();
        for (key, value) in [(5, 0), (3, 1), (5, 2), (9, 3), (3, 4), (5, 5)] {
            assert!(tree.insert(key, element(value), link).is_ok());
        }
        assert_eq!(tree.first().map(|(key, it)| (key, it.value)), Some((3, 1)));
        assert_eq!(
            tree.take_last(3, |it| it.value < 3).map(|it| it.value),
            Some(2)
        );
        assert!(tree.take_last(2, |it| it.value < 3).is_none());
        assert_eq!(tree.pop_from(4).map(|it| it.value), Some(0));
        assert!(tree.pop_from(10).is_none());
        let order: Vec<_> = core::iter::from_fn(|| tree.pop_first().map(|it| it.value)).collect();
        assert_eq!(order, [1, 4, 5, 3]);
    }

    #[test]
    fn it_agrees_with_a_sorted_list_and_stays_flat() {
        let mut tree = Tree::new();
        let elements: Vec<_> = (0..2000).map(element).collect();
        let mut random = 1_u32;
        let mut model: Vec<(u32, u32)> = Vec::new();
        for round in 0..20_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let it = &elements[(random >> 8) as usize % elements.len()];
            if it.link.is_linked() {
                assert!(tree.remove(&it.link).is_some());
                model.retain(|(_, value)| *value != it.value);
            } else {
                // Ever later keys, as clocks have: the worst case of a tree that is not balanced.
                let key = round;
                assert!(tree.insert(key, it.clone(), link).is_ok());
                model.push((key, it.value));
            }
            assert_eq!(tree.len(), model.len());
            assert_eq!(
                tree.first().map(|(key, _)| key),
                model.first().map(|it| it.0)
            );
        }
        let mut found = Vec::new();
        tree.for_each(|key, it| found.push((key, it.value)));
        assert_eq!(found, model);
        assert!(depth(tree.root) < 50, "{} deep", depth(tree.root));
        drop(tree);
        assert!(
            elements
                .iter()
                .all(|it| Arc::strong_count(it) == 1 && !it.link.is_linked())
        );
    }
}
