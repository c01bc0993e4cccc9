//! The map against std's, by random operations, with and without memory.

use std::collections::BTreeMap;
use std::vec::Vec;

use super::Map;
use super::node::{MOST, Node};
use crate::{AllocError, testing};

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % end
    }
}

/// Checks what every B-tree keeps; returns its depth.
fn check_node(node: &Node<usize, usize>, is_root: bool) -> usize {
    let entries = node.entries.len();
    assert!(
        entries <= MOST && (is_root || entries >= MOST / 2),
        "{entries} entries"
    );
    assert!(node.entries.is_sorted_by(|one, two| one.0 < two.0));
    if !is_root {
        assert!(node.entries.capacity() >= MOST);
    }
    if node.is_leaf() {
        assert_eq!(node.len, entries);
        return 1;
    }
    assert!(entries > 0 && node.children.len() == entries + 1);
    assert!(node.children.capacity() > MOST);
    let below: usize = node.children.iter().map(|child| child.len).sum();
    assert_eq!(node.len, entries + below);
    let depths: Vec<usize> = node
        .children
        .iter()
        .map(|it| check_node(it, false))
        .collect();
    assert!(depths.iter().all(|depth| *depth == depths[0]));
    depths[0] + 1
}

fn check(map: &Map<usize, usize>, wanted: &BTreeMap<usize, usize>) {
    check_node(&map.root, true);
    assert_eq!(map.len(), wanted.len());
    assert!(map.iter().eq(wanted.iter()));
    assert!(map.iter().rev().eq(wanted.iter().rev()));
}

fn check_ranges(
    map: &mut Map<usize, usize>,
    wanted: &mut BTreeMap<usize, usize>,
    at: (usize, usize),
) {
    let (first, end) = (at.0.min(at.1), at.0.max(at.1));
    assert!(map.range(first..end).eq(wanted.range(first..end)));
    assert!(map.range(..=end).rev().eq(wanted.range(..=end).rev()));
    assert_eq!(map.range(first..).next(), wanted.range(first..).next());
    assert_eq!(map.first_from(&first), wanted.range(first..).next());
    assert_eq!(map.last_before(&end), wanted.range(..end).next_back());
    let next = map
        .first_from_mut(&first)
        .map(|(key, value)| (*key, *value));
    assert_eq!(
        next,
        wanted
            .range(first..)
            .next()
            .map(|(key, value)| (*key, *value))
    );
    assert_eq!(
        map.range(..end).next_back(),
        wanted.range(..end).next_back()
    );
    let (mut both, mut std_both) = (map.range(first..=end), wanted.range(first..=end));
    while let Some(entry) = std_both.next() {
        assert_eq!(both.next(), Some(entry));
        assert_eq!(both.next_back(), std_both.next_back());
    }
    assert_eq!((both.next(), both.next_back()), (None, None));
    for (_, value) in map.range_mut(first..end) {
        *value += 1;
    }
    for (_, value) in wanted.range_mut(first..end) {
        *value += 1;
    }
}

/// One random operation on both maps; an insertion may fail.
fn step(
    map: &mut Map<usize, usize>,
    wanted: &mut BTreeMap<usize, usize>,
    random: &mut Random,
    keys: usize,
) {
    let (key, value) = (random.below(keys), random.below(1000));
    match random.below(12) {
        0..6 => match map.try_insert(key, value) {
            Ok(old) => assert_eq!(old, wanted.insert(key, value)),
            Err(AllocError) => assert!(!wanted.contains_key(&key), "replacing takes no memory"),
        },
        6..9 => assert_eq!(map.remove(&key), wanted.remove(&key)),
        9 => assert_eq!(map.pop_first(), wanted.pop_first()),
        10 => assert_eq!(map.pop_last(), wanted.pop_last()),
        _ => assert_eq!(map.pop_first_in(key..), {
            let first = wanted.range(key..).next().map(|(key, _)| *key);
            first.and_then(|key| wanted.remove_entry(&key))
        }),
    }
    assert_eq!(map.get(&key), wanted.get(&key));
    assert_eq!(map.get_mut(&value), wanted.get_mut(&value));
}

#[test]
fn behaves_as_stds_map() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for keys in [5, 40, 300, 3000] {
        let (mut map, mut wanted) = (Map::new(), BTreeMap::new());
        for number in 0..6000 {
            step(&mut map, &mut wanted, &mut random, keys);
            if number % 50 == 0 {
                check(&map, &wanted);
                check_ranges(
                    &mut map,
                    &mut wanted,
                    (random.below(keys), random.below(keys)),
                );
            }
        }
        map.retain(|key, _| key % 3 == 0);
        wanted.retain(|key, _| key % 3 == 0);
        check(&map, &wanted);
        for (_, value) in &mut map {
            *value = 7;
        }
        assert!(map.values().all(|value| *value == 7));
        let len = map.len();
        assert_eq!(map.into_iter().count(), len);
    }
}

#[test]
fn a_failed_insertion_changes_nothing() {
    let mut random = Random(77);
    let (mut map, mut wanted) = (Map::new(), BTreeMap::new());
    let mut failures = 0;
    for _ in 0..20_000 {
        testing::fail_nth(1 + random.below(3));
        step(&mut map, &mut wanted, &mut random, 2000);
        failures += usize::from(!testing::fail_never());
    }
    check(&map, &wanted);
    assert!(failures > 100, "{failures} failures");
}

#[test]
fn splits_at_every_key() {
    for count in [0, 1, 5, 11, 12, 60, 500] {
        for cut in 0..=count {
            let mut map: Map<usize, usize> = Map::new();
            for key in 0..count {
                map.try_insert(key * 2, key).expect("memory");
            }
            let mut wanted: BTreeMap<_, _> =
                map.iter().map(|(key, value)| (*key, *value)).collect();
            testing::fail_nth(1 + cut % 5);
            let failed = map.try_split_off(&(cut * 2));
            if testing::fail_never() {
                map = Map::new();
                for (key, value) in &wanted {
                    map.try_insert(*key, *value).expect("memory");
                }
            } else {
                assert_eq!(failed, Err(AllocError));
                check(&map, &wanted);
            }
            // Between two keys, and on one.
            let at = (cut * 2).saturating_sub(cut % 2);
            let tail = map.try_split_off(&at).expect("memory");
            check(&tail, &wanted.split_off(&at));
            check(&map, &wanted);
        }
    }
}

#[test]
fn memory_comes_back() {
    fn nodes(node: &Node<usize, usize>) -> usize {
        1 + node.children.iter().map(nodes).sum::<usize>()
    }
    let mut map = Map::new();
    for key in 0..10_000 {
        map.try_insert(key, key).expect("memory");
    }
    for key in (0..10_000).filter(|key| key % 100 != 0) {
        map.remove(&key);
    }
    assert_eq!(map.len(), 100);
    assert!(nodes(&map.root) <= 100 / (MOST / 2) + 3);
    while map.pop_last().is_some() {}
    assert_eq!(map.root.entries.capacity(), 0);
}

#[test]
fn values_are_made_once() {
    let mut map = Map::new();
    *map.try_get_or_insert_with(&1, || 10).expect("memory") += 1;
    *map.try_get_or_insert_with(&1, || 20).expect("memory") += 1;
    assert_eq!((map[&1], map.len()), (12, 1));
    testing::fail_nth(1);
    let mut empty: Map<u8, u8> = Map::new();
    assert_eq!(empty.try_get_or_insert_with(&1, || 1), Err(AllocError));
    assert!(empty.is_empty());
}
