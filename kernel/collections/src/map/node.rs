//! The nodes of the B-tree and what is done to them: search, insertion, removal.
//!
//! A node has up to [`MOST`] entries and, unless it is a leaf, one child more. Every node but the root has at least
//! [`FEWEST`], so the depth is logarithmic, and each knows the number of entries below it. Insertion splits full nodes on its
//! way down, removal fills poor ones on its way down (Cormen et al., "Introduction to Algorithms", B-trees).
//! A split allocates before it moves anything and leaves the entries as they were, so a failed insertion
//! changes nothing; removal does not allocate, because a node below the root has room for [`MOST`] entries.

use alloc::vec::Vec;
use core::borrow::Borrow;
use core::cmp::Ordering;

use crate::Result;

/// Entries of a node other than the root.
const FEWEST: usize = 5;
pub(super) const MOST: usize = 2 * FEWEST + 1;

/// An entry and its neighbours downwards. The default is an empty leaf without memory.
#[derive(Debug)]
pub(super) struct Node<K, V> {
    pub(super) entries: Vec<(K, V)>,
    /// Empty in a leaf.
    pub(super) children: Vec<Node<K, V>>,
    /// Entries in it and below it.
    pub(super) len: usize,
}

/// What an entry to be removed is known by.
pub(super) enum Target<'a, Q: ?Sized> {
    Key(&'a Q),
    /// Its place in the order, below the node's `len`.
    Rank(usize),
}

/// An end of the order.
#[derive(Clone, Copy)]
pub(super) enum Side {
    First,
    Last,
}

impl<K, V> Node<K, V> {
    pub(super) const fn new() -> Self {
        Self {
            entries: Vec::new(),
            children: Vec::new(),
            len: 0,
        }
    }

    pub(super) fn is_leaf(&self) -> bool {
        self.children.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() == MOST
    }

    /// An empty node with room for all that a node can have.
    fn with_room(is_leaf: bool) -> Result<Self> {
        let mut made = Self::new();
        reserve(&mut made.entries, MOST)?;
        if !is_leaf {
            reserve(&mut made.children, MOST + 1)?;
        }
        Ok(made)
    }

    /// Where the entry of this rank is: an entry here, or a child and the rank in it.
    pub(super) fn place_of(&self, mut rank: usize) -> (usize, Option<usize>) {
        if self.is_leaf() {
            return (rank, None);
        }
        for (index, child) in self.children.iter().enumerate() {
            match rank.cmp(&child.len) {
                Ordering::Less => return (index, Some(rank)),
                Ordering::Equal => return (index, None),
                Ordering::Greater => rank -= child.len + 1,
            }
        }
        (self.entries.len(), None)
    }

    /// The entry of this rank.
    pub(super) fn nth(&self, mut rank: usize) -> Option<&(K, V)> {
        let mut node = self;
        loop {
            match node.place_of(rank) {
                (index, None) => return node.entries.get(index),
                (index, Some(below)) => (node, rank) = (&node.children[index], below),
            }
        }
    }

    /// The entry of this rank.
    pub(super) fn nth_mut(&mut self, mut rank: usize) -> Option<&mut (K, V)> {
        let mut node = self;
        loop {
            match node.place_of(rank) {
                (index, None) => return node.entries.get_mut(index),
                (index, Some(below)) => (node, rank) = (&mut node.children[index], below),
            }
        }
    }

    /// Puts a node above a full root, and splits the root in two below it.
    pub(super) fn grow_root(&mut self) -> Result<()> {
        let mut above = Self::with_room(false)?;
        let (middle, right) = self.split()?;
        above.len = self.len + 1 + right.len;
        above.entries.push(middle);
        let left = core::mem::replace(self, above);
        self.children.push(left);
        self.children.push(right);
        Ok(())
    }

    /// Takes the upper half of a full node out: its middle entry, and what is behind it as a node.
    fn split(&mut self) -> Result<((K, V), Self)> {
        let mut right = Self::with_room(self.is_leaf())?;
        right.entries.extend(self.entries.drain(FEWEST + 1..));
        if !self.is_leaf() {
            right.children.extend(self.children.drain(FEWEST + 1..));
        }
        let below: usize = right.children.iter().map(|child| child.len).sum();
        right.len = right.entries.len() + below;
        self.len -= right.len + 1;
        // A full node has more than FEWEST entries.
        let middle = self.entries.swap_remove(FEWEST);
        Ok((middle, right))
    }

    /// Splits the full child at `index`; this node is not full.
    fn split_child(&mut self, index: usize) -> Result<()> {
        let (middle, right) = self.children[index].split()?;
        self.entries.insert(index, middle);
        self.children.insert(index + 1, right);
        Ok(())
    }

    /// Gives the child at `index` more than [`FEWEST`] entries, from a neighbour or by merging the two.
    fn fill_child(&mut self, index: usize) {
        let is_rich = |child: Option<&Self>| child.is_some_and(|it| it.entries.len() > FEWEST);
        if index > 0 && is_rich(self.children.get(index - 1)) {
            self.move_right(index - 1);
        } else if is_rich(self.children.get(index + 1)) {
            self.move_left(index);
        } else {
            self.merge_children(index.min(self.entries.len() - 1));
        }
    }

    /// Moves an entry from the child at `index` to the one behind it.
    fn move_right(&mut self, index: usize) {
        let [left, right] = &mut self.children[index..index + 2] else {
            return;
        };
        let Some(last) = left.entries.pop() else {
            return;
        };
        let middle = core::mem::replace(&mut self.entries[index], last);
        right.entries.insert(0, middle);
        let mut moved = 1;
        if let Some(child) = left.children.pop() {
            moved += child.len;
            right.children.insert(0, child);
        }
        left.len -= moved;
        right.len += moved;
    }

    /// Moves an entry to the child at `index` from the one behind it.
    fn move_left(&mut self, index: usize) {
        let [left, right] = &mut self.children[index..index + 2] else {
            return;
        };
        let first = right.entries.remove(0);
        let middle = core::mem::replace(&mut self.entries[index], first);
        left.entries.push(middle);
        let mut moved = 1;
        if !right.children.is_empty() {
            let child = right.children.remove(0);
            moved += child.len;
            left.children.push(child);
        }
        right.len -= moved;
        left.len += moved;
    }

    /// Makes one child of the children at `index` and behind it and the entry between them.
    fn merge_children(&mut self, index: usize) {
        let mut right = self.children.remove(index + 1);
        let middle = self.entries.remove(index);
        let left = &mut self.children[index];
        left.len += 1 + right.len;
        left.entries.push(middle);
        left.entries.append(&mut right.entries);
        left.children.append(&mut right.children);
    }

    /// Removes the entry of this rank.
    pub(super) fn remove_rank(&mut self, rank: usize) -> Option<(K, V)>
    where
        K: Ord,
    {
        self.remove(&Target::<K>::Rank(rank))
    }

    /// Removes an entry. The recursion is as deep as the tree.
    pub(super) fn remove<Q>(&mut self, target: &Target<'_, Q>) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (index, below) = self.find(target);
        if self.is_leaf() {
            let is_here = below.is_none() && index < self.entries.len();
            let removed = is_here.then(|| self.entries.remove(index))?;
            self.len -= 1;
            return Some(removed);
        }
        let removed = match below {
            None => self.remove_here(index, target),
            Some(_) if self.children[index].entries.len() == FEWEST => {
                // What was to be found below may have come here.
                self.fill_child(index);
                return self.remove(target);
            }
            Some(below) => self.children[index].remove(&below),
        }?;
        self.len -= 1;
        Some(removed)
    }

    /// Removes the entry at `index` of an inner node; the node's own `len` is the caller's.
    fn remove_here<Q>(&mut self, index: usize, target: &Target<'_, Q>) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (left, right) = (&self.children[index], &self.children[index + 1]);
        let substitute = if left.entries.len() > FEWEST {
            let last = left.len - 1;
            self.children[index].remove(&Target::<Q>::Rank(last))
        } else if right.entries.len() > FEWEST {
            self.children[index + 1].remove(&Target::<Q>::Rank(0))
        } else {
            let below = match target {
                Target::Key(key) => Target::Key(*key),
                // In the merged child the entry stands behind all of the left one's.
                Target::Rank(_) => Target::Rank(left.len),
            };
            self.merge_children(index);
            return self.children[index].remove(&below);
        };
        substitute.map(|entry| core::mem::replace(&mut self.entries[index], entry))
    }

    /// Where the target is: an entry here, or a child and the target in it.
    fn find<'a, Q>(&self, target: &Target<'a, Q>) -> (usize, Option<Target<'a, Q>>)
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        match target {
            Target::Key(key) => match self.search(*key) {
                Ok(index) => (index, None),
                Err(index) => (index, Some(Target::Key(*key))),
            },
            Target::Rank(rank) => {
                let (index, below) = self.place_of(*rank);
                (index, below.map(Target::Rank))
            }
        }
    }

    /// How many entries have lesser keys, or keys up to this one.
    pub(super) fn count_before<Q>(&self, key: &Q, is_key_counted: bool) -> usize
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (mut node, mut count) = (self, 0);
        loop {
            let (index, is_found) = match node.search(key) {
                Ok(index) => (index, true),
                Err(index) => (index, false),
            };
            let before = node.children.iter().take(index);
            count += index + before.map(|child| child.len).sum::<usize>();
            match node.children.get(index) {
                Some(child) if is_found => return count + child.len + usize::from(is_key_counted),
                Some(child) => node = child,
                None => return count + usize::from(is_found && is_key_counted),
            }
        }
    }

    /// Takes what is from `key` on out. The nodes along the cut may then be too poor. Memory is taken on the way
    /// down, and the tree is changed on the way up.
    pub(super) fn split_at<Q>(&mut self, key: &Q) -> Result<Self>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let index = self.search(key).unwrap_or_else(|index| index);
        let mut right = Self::with_room(self.is_leaf())?;
        if let Some(child) = self.children.get_mut(index) {
            right.children.push(child.split_at(key)?);
            right.children.extend(self.children.drain(index + 1..));
        }
        right.entries.extend(self.entries.drain(index..));
        let below: usize = right.children.iter().map(|child| child.len).sum();
        right.len = right.entries.len() + below;
        self.len -= right.len;
        Ok(right)
    }

    /// Makes the poor nodes along one side of a tree rich enough. The root has an entry, or is empty.
    pub(super) fn mend_border(&mut self, side: Side) {
        let mut node = self;
        loop {
            let index = |node: &Self| match side {
                Side::First => 0,
                Side::Last => node.children.len() - 1,
            };
            if node.is_leaf() {
                return;
            }
            // More than the fewest, so that the next level may take one.
            while !node.entries.is_empty() && node.children[index(node)].entries.len() <= FEWEST {
                node.fill_child(index(node));
            }
            let index = index(node);
            node = &mut node.children[index];
        }
    }

    /// The entry with this key, or the child (in a leaf: the place) where it belongs.
    pub(super) fn search<Q>(&self, key: &Q) -> core::result::Result<usize, usize>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.entries
            .binary_search_by(|(known, _)| known.borrow().cmp(key))
    }
}

impl<K: Ord, V> Node<K, V> {
    /// Inserts below a node that is not full. Returns the value that the key had before.
    pub(super) fn insert(&mut self, key: K, value: V) -> core::result::Result<Option<V>, (K, V)> {
        let index = match self.search(&key) {
            Ok(index) => {
                let old = core::mem::replace(&mut self.entries[index].1, value);
                return Ok(Some(old));
            }
            Err(index) => index,
        };
        if self.is_leaf() {
            if self.entries.len() == self.entries.capacity()
                && reserve_some(&mut self.entries).is_err()
            {
                return Err((key, value));
            }
            self.entries.insert(index, (key, value));
            self.len += 1;
            return Ok(None);
        }
        if self.children[index].is_full() {
            if self.split_child(index).is_err() {
                return Err((key, value));
            }
            return self.insert(key, value);
        }
        let old = self.children[index].insert(key, value)?;
        self.len += usize::from(old.is_none());
        Ok(old)
    }
}

/// Exact room in an empty vector.
fn reserve<T>(items: &mut Vec<T>, count: usize) -> Result<()> {
    machine::heap::admit()?;
    Ok(items.try_reserve_exact(count)?)
}

/// Room for more entries in a root that is a leaf: doubled up to [`MOST`], so that small maps are small.
fn reserve_some<T>(entries: &mut Vec<T>) -> Result<()> {
    machine::heap::admit()?;
    let wanted = (entries.len() * 2).clamp(2, MOST);
    Ok(entries.try_reserve_exact(wanted - entries.len())?)
}
