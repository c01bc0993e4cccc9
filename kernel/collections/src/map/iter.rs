//! Walks over a map. A walk knows how many entries are left and finds its first one by rank, so it needs no
//! key, and its ends cannot pass each other.

use core::fmt;
use core::slice;

use super::Map;
use super::node::Node;

/// Levels of the deepest tree that memory can hold: 6^15 entries.
const DEPTH: usize = 16;

/// The way from the root to an entry: nodes, and in the last of them the entry, in the others the child.
struct Path<'a, K, V> {
    steps: [Option<(&'a Node<K, V>, usize)>; DEPTH],
    depth: usize,
}

impl<'a, K, V> Path<'a, K, V> {
    fn to(root: &'a Node<K, V>, mut rank: usize) -> Self {
        let mut path = Self {
            steps: [None; DEPTH],
            depth: 0,
        };
        let mut node = root;
        loop {
            let (index, below) = node.place_of(rank);
            path.push(node, index);
            let Some(below) = below else { return path };
            (node, rank) = (&node.children[index], below);
        }
    }

    fn push(&mut self, node: &'a Node<K, V>, index: usize) {
        self.steps[self.depth] = Some((node, index));
        self.depth += 1;
    }

    fn entry(&self) -> Option<(&'a K, &'a V)> {
        let (node, index) = self.steps[self.depth.checked_sub(1)?]?;
        node.entries.get(index).map(|(key, value)| (key, value))
    }

    /// To the next entry: the first below the child behind this one, or else the first to the right upwards.
    fn forward(&mut self) {
        let Some((node, index)) = self.pop() else {
            return;
        };
        self.push(node, index + 1);
        let mut next = node.children.get(index + 1);
        while let Some(node) = next {
            self.push(node, 0);
            next = node.children.first();
        }
        while let Some((node, index)) = self.pop() {
            if index < node.entries.len() {
                self.push(node, index);
                return;
            }
        }
    }

    /// To the entry before.
    fn back(&mut self) {
        let Some((node, index)) = self.pop() else {
            return;
        };
        self.push(node, index);
        let mut next = node.children.get(index);
        while let Some(node) = next {
            self.push(node, node.entries.len());
            next = node.children.last();
        }
        while let Some((node, index)) = self.pop() {
            if index > 0 {
                self.push(node, index - 1);
                return;
            }
        }
    }

    fn pop(&mut self) -> Option<(&'a Node<K, V>, usize)> {
        self.depth = self.depth.checked_sub(1)?;
        self.steps[self.depth].take()
    }
}

/// Entries in order, from both ends.
pub struct Iter<'a, K, V> {
    root: &'a Node<K, V>,
    /// Ranks of the entries left.
    first: usize,
    end: usize,
    front: Option<Path<'a, K, V>>,
    back: Option<Path<'a, K, V>>,
}

impl<'a, K, V> Iter<'a, K, V> {
    pub(super) fn new(root: &'a Node<K, V>, first: usize, end: usize) -> Self {
        Self {
            root,
            first,
            end,
            front: None,
            back: None,
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        if self.first == self.end {
            return None;
        }
        let path = match &mut self.front {
            Some(path) => {
                path.forward();
                path
            }
            none => none.insert(Path::to(self.root, self.first)),
        };
        self.first += 1;
        path.entry()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end - self.first;
        (left, Some(left))
    }
}

impl<K, V> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.first == self.end {
            return None;
        }
        self.end -= 1;
        let path = match &mut self.back {
            Some(path) => {
                path.back();
                path
            }
            none => none.insert(Path::to(self.root, self.end)),
        };
        path.entry()
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}

impl<K, V> fmt::Debug for Iter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Iter({}..{})", self.first, self.end)
    }
}

/// What is left of a node for a mutable walk.
struct Rest<'a, K, V> {
    entries: slice::IterMut<'a, (K, V)>,
    /// Those behind the first entry of `entries`.
    children: slice::IterMut<'a, Node<K, V>>,
}

/// Entries in order, their values mutable.
pub struct IterMut<'a, K, V> {
    rests: [Option<Rest<'a, K, V>>; DEPTH],
    depth: usize,
    left: usize,
}

impl<'a, K, V> IterMut<'a, K, V> {
    pub(super) fn new(root: &'a mut Node<K, V>, first: usize, end: usize) -> Self {
        let mut made = Self {
            rests: [const { None }; DEPTH],
            depth: 0,
            left: end - first,
        };
        if made.left > 0 {
            made.descend(root, first);
        }
        made
    }

    /// Goes down to the entry of this rank below `node`.
    fn descend(&mut self, mut node: &'a mut Node<K, V>, mut rank: usize) {
        loop {
            let (index, below) = node.place_of(rank);
            let entries = node.entries[index..].iter_mut();
            let mut children = node.children.iter_mut();
            // A leaf has no child here.
            let child = children.nth(index);
            self.rests[self.depth] = Some(Rest { entries, children });
            self.depth += 1;
            match (below, child) {
                (Some(below), Some(child)) => (node, rank) = (child, below),
                _ => return,
            }
        }
    }
}

impl<'a, K, V> Iterator for IterMut<'a, K, V> {
    type Item = (&'a K, &'a mut V);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        loop {
            let top = self.depth.checked_sub(1)?;
            let rest = self.rests[top].as_mut()?;
            let Some((key, value)) = rest.entries.next() else {
                self.rests[top] = None;
                self.depth = top;
                continue;
            };
            if let Some(child) = rest.children.next() {
                self.descend(child, 0);
            }
            return Some((&*key, value));
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<K, V> ExactSizeIterator for IterMut<'_, K, V> {}

impl<K, V> fmt::Debug for IterMut<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IterMut({} left)", self.left)
    }
}

/// A map's entries, taken from both ends.
pub struct IntoIter<K, V>(Map<K, V>);

impl<K, V> IntoIter<K, V> {
    pub(super) fn new(map: Map<K, V>) -> Self {
        Self(map)
    }
}

impl<K: Ord, V> Iterator for IntoIter<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        self.0.pop_first()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len(), Some(self.0.len()))
    }
}

impl<K: Ord, V> DoubleEndedIterator for IntoIter<K, V> {
    fn next_back(&mut self) -> Option<(K, V)> {
        self.0.pop_last()
    }
}

impl<K: Ord, V> ExactSizeIterator for IntoIter<K, V> {}

impl<K, V> fmt::Debug for IntoIter<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IntoIter({} left)", self.0.len())
    }
}
