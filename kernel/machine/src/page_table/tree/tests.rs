//! The tree over tables on the heap, against a map from page to entry.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::super::bits::{LARGE, encode};
use super::*;
use crate::page_table::Perms;

const PAGE: u64 = PAGE_SIZE as u64;

#[repr(C, align(4096))]
struct Table([AtomicU64; ENTRIES]);

/// Tables that are made of the heap, each with its usage, and never reused.
#[derive(Default)]
struct Heap {
    alive: Mutex<BTreeMap<u64, &'static AtomicU32>>,
    aside: Mutex<BTreeMap<u64, Vec<PhysAddr>>>,
    /// Large pages whose shares were made handles.
    shared_out: Mutex<Vec<u64>>,
    most: Option<usize>,
}

impl Heap {
    fn count(&self) -> usize {
        self.alive.lock().unwrap().len()
    }

    fn of(&self, table: PhysAddr) -> &'static Table {
        assert!(
            self.alive.lock().unwrap().contains_key(&table.0),
            "a table that is freed"
        );
        // SAFETY: `alloc` leaked it at this address.
        unsafe { &*core::ptr::with_exposed_provenance(table.0 as usize) }
    }
}

impl Tables for Heap {
    fn alloc(&self) -> Result<PhysAddr, OutOfMemory> {
        if self.most.is_some_and(|most| self.count() >= most) {
            return Err(OutOfMemory);
        }
        let table: &'static Table =
            Box::leak(Box::new(Table([const { AtomicU64::new(0) }; ENTRIES])));
        let at = core::ptr::from_ref(table).expose_provenance() as u64;
        let usage = Box::leak(Box::new(AtomicU32::new(0)));
        self.alive.lock().unwrap().insert(at, usage);
        Ok(PhysAddr(at))
    }

    unsafe fn free(&self, table: PhysAddr) {
        let entries = &self.of(table).0;
        assert!(
            entries
                .iter()
                .all(|entry| entry.load(Ordering::Relaxed) == 0)
        );
        let usage = self.alive.lock().unwrap().remove(&table.0).unwrap();
        assert_eq!(usage.load(Ordering::Relaxed), 0);
    }

    fn entries(&self, table: PhysAddr) -> &[AtomicU64; ENTRIES] {
        &self.of(table).0
    }

    fn put_aside(&self, above: PhysAddr, table: PhysAddr) {
        let mut aside = self.aside.lock().unwrap();
        aside.entry(above.0).or_default().push(table);
    }

    fn take_aside(&self, above: PhysAddr) -> PhysAddr {
        let mut aside = self.aside.lock().unwrap();
        aside.get_mut(&above.0).unwrap().pop().unwrap()
    }

    fn share_out(&self, page: u64) {
        self.shared_out.lock().unwrap().push(page);
    }

    fn usage(&self, table: PhysAddr) -> &AtomicU32 {
        self.alive.lock().unwrap()[&table.0]
    }
}

fn tree() -> Tree<Heap> {
    let memory = Heap::default();
    let root = memory.alloc().unwrap();
    Tree { memory, root }
}

/// A leaf entry that tells its page.
fn entry(page: u64) -> u64 {
    let perms = if page.is_multiple_of(3) {
        Perms::NO_ACCESS
    } else {
        Perms::WRITE
    };
    encode((page + 1) * PAGE, perms)
}

fn map(tree: &Tree<Heap>, page: u64) {
    let table = tree.table_for(page * PAGE, LEAF).unwrap();
    tree.set(table, index(page * PAGE, LEAF), entry(page));
}

fn map_large(tree: &Tree<Heap>, addr: u64, page: u64, perms: Perms) -> bool {
    let above = tree.table_for(addr, LARGE_LEVEL).unwrap();
    let aside = tree.memory.alloc().unwrap();
    let is_mapped = tree.map_large((above, addr), encode(page | LARGE, perms), aside);
    if !is_mapped {
        // SAFETY: it did not get into the tree.
        unsafe { tree.memory.free(aside) };
    }
    is_mapped
}

/// Takes a range out in as many steps as it needs; what was in it.
fn take_all(tree: &mut Tree<Heap>, range: Range<u64>) -> Vec<u64> {
    let mut taken = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let mut gather = Gather::new();
        at = tree.take(at..range.end, &mut gather);
        let pages = gather.pages();
        let mut released = 0;
        // SAFETY: no CPU uses the tree.
        unsafe {
            tree.release(&mut gather, &mut |value| {
                released += if is_large(value) { ENTRIES } else { 1 };
                taken.push(value);
            });
        }
        assert_eq!(released, pages);
    }
    taken
}

#[test]
fn a_tree_agrees_with_a_map_and_keeps_no_empty_table() {
    let mut tree = tree();
    let mut model = BTreeMap::new();
    let mut random = 1_u64;
    let mut below = |bound: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % bound
    };
    // Three places far apart, each some tables wide.
    let places = [0, 1 << 18, (UserAddr::LIMIT.0 / PAGE) - 2000];
    for _ in 0..600 {
        let start = places[below(3) as usize] + below(1500);
        let end = start + 1 + below(300);
        match below(3) {
            0 => {
                for page in start..end {
                    map(&tree, page);
                    model.insert(page, entry(page));
                }
            }
            1 => {
                let mut taken = take_all(&mut tree, start * PAGE..end * PAGE);
                let mut expected: Vec<_> = model.range(start..end).map(|(_, v)| *v).collect();
                model.retain(|page, _| !(start..end).contains(page));
                taken.sort_unstable();
                expected.sort_unstable();
                assert_eq!(taken, expected);
            }
            _ => {
                let mut seen = Vec::new();
                tree.visit(start * PAGE..end * PAGE, &mut |leaf| {
                    seen.push((leaf.addr / PAGE, leaf.value));
                    Visit::Continue
                });
                let expected: Vec<_> = model.range(start..end).map(|(p, v)| (*p, *v)).collect();
                assert_eq!(seen, expected);
                assert_eq!(tree.count(start * PAGE..end * PAGE), expected.len());
            }
        }
    }
    let left = take_all(&mut tree, 0..UserAddr::LIMIT.0);
    assert_eq!(left.len(), model.len());
    assert_eq!(tree.memory.count(), 1, "only the root is left");
}

#[test]
fn tables_that_a_failure_left_empty_go_with_the_next_unmap() {
    let mut tree = tree();
    tree.memory.most = Some(3);
    assert_eq!(tree.table_for(5 * PAGE, LEAF), Err(OutOfMemory));
    assert_eq!(tree.memory.count(), 3);
    assert!(take_all(&mut tree, 0..PAGE * 16).is_empty());
    assert_eq!(tree.memory.count(), 1);
}

#[test]
fn sparse_mappings_cost_no_tables_once_they_are_gone() {
    let mut tree = tree();
    for n in 0..200 {
        map(&tree, n * 512);
    }
    assert!(tree.memory.count() > 200);
    for n in 0..200 {
        assert_eq!(
            take_all(&mut tree, n * 512 * PAGE..(n * 512 + 1) * PAGE).len(),
            1
        );
    }
    assert_eq!(tree.memory.count(), 1);
}

#[test]
#[should_panic(expected = "outside user space")]
fn the_kernels_half_has_no_leaf_tables_here() {
    let _ = tree().table_for(0xffff_8000_0000_0000, LEAF);
}

#[test]
fn what_is_beyond_user_space_is_not_found() {
    let tree = tree();
    assert!(tree.find(UserAddr::LIMIT.0).is_none());
    assert_eq!(tree.count(0..!(PAGE - 1)), 0);
}

const LARGE_PAGES: u64 = ENTRIES as u64;

/// What the tree says of each page of a range.
fn pages_of(tree: &Tree<Heap>, range: Range<u64>) -> Vec<u64> {
    let pages = range.step_by(PAGE_SIZE);
    pages
        .filter_map(|addr| {
            let leaf = tree.find(addr)?;
            let is_large = leaf.is_large();
            Some(if is_large {
                Tree::<Heap>::small_value(&leaf, addr)
            } else {
                leaf.value
            })
        })
        .collect()
}

#[test]
fn large_pages_are_split_without_a_change_of_what_is_mapped() {
    let mut tree = tree();
    let (page, len) = (77 << 21, large::LARGE_LEN);
    let before = tree.memory.count();
    for (at, perms) in [(4 * len, Perms::WRITE), (6 * len, Perms::NO_ACCESS)] {
        assert!(map_large(&tree, at, page + at, perms));
        assert!(!map_large(&tree, at, page, perms), "something is there");
    }
    let everything = 0..8 * len;
    assert_eq!(tree.count(everything.clone()) as u64, 2 * LARGE_PAGES);
    assert_eq!(tree.count(4 * len + PAGE..4 * len + 3 * PAGE), 2);
    let mapped = pages_of(&tree, everything.clone());
    assert_eq!(mapped[5], encode(page + 4 * len + 5 * PAGE, Perms::WRITE));
    // An end at a large page's own end splits nothing.
    assert_eq!(tree.split_ends(&(4 * len..6 * len)), 0);
    assert_eq!(tree.split_ends(&(4 * len + PAGE..6 * len + PAGE)), 2);
    assert!(tree.large_at(4 * len).is_none());
    assert_eq!(pages_of(&tree, everything.clone()), mapped);
    assert_eq!(tree.count(everything.clone()) as u64, 2 * LARGE_PAGES);
    let mut taken = take_all(&mut tree, 4 * len..4 * len + 5 * PAGE);
    taken.extend(take_all(&mut tree, 0..UserAddr::LIMIT.0));
    assert_eq!(taken, mapped);
    assert_eq!(tree.memory.count(), before, "the tables are back");
    assert!(
        tree.memory
            .aside
            .lock()
            .unwrap()
            .values()
            .all(Vec::is_empty)
    );
    let shared_out = core::mem::take(&mut *tree.memory.shared_out.lock().unwrap());
    assert_eq!(shared_out, [page + 4 * len, page + 6 * len]);
}

#[test]
fn whole_large_pages_are_visited_and_taken_as_they_are() {
    let mut tree = tree();
    let len = large::LARGE_LEN;
    let before = tree.memory.count();
    for n in 0..20 {
        assert!(map_large(&tree, n * len, (n + 1) * len, Perms::WRITE));
    }
    map(&tree, 20 * LARGE_PAGES + 3);
    let mut seen = Vec::new();
    tree.visit(len..21 * len, &mut |leaf| {
        seen.push((leaf.addr / PAGE, leaf.is_large()));
        Visit::Continue
    });
    assert_eq!(seen.len(), 20);
    assert_eq!(seen[0], (LARGE_PAGES, true));
    assert_eq!(seen[19], (20 * LARGE_PAGES + 3, false));
    assert!(tree.split_at(2 * len).is_some() && tree.split_at(4 * len - PAGE).is_some());
    assert!(tree.split_at(2 * len).is_none(), "it is split");
    let taken = take_all(&mut tree, 0..UserAddr::LIMIT.0);
    assert_eq!(taken.len(), 18 + 2 * ENTRIES + 1);
    assert_eq!(taken.iter().filter(|value| is_large(**value)).count(), 18);
    assert_eq!(tree.memory.count(), before, "the tables are back");
}

#[test]
fn cpus_fill_one_table_side_by_side() {
    let tree = tree();
    let table = tree.table_for(0, LEAF).unwrap();
    let fill = |from: usize| {
        let mut filled = 0;
        for index in (from..ENTRIES).step_by(2).chain(0..8) {
            let mut entries = tree.lock(table);
            if entries.is_free(index) {
                entries.fill(index, entry(index as u64));
                filled += 1;
            }
        }
        filled
    };
    let filled = std::thread::scope(|scope| {
        let other = scope.spawn(|| fill(1));
        fill(0) + other.join().unwrap()
    });
    assert_eq!(filled, ENTRIES, "each entry was set once");
    let usage = tree.usage(table);
    assert_eq!((usage.count(), usage.indices()), (ENTRIES, 0..ENTRIES));
    let mut entries = tree.lock(table);
    (0..ENTRIES).for_each(|index| entries.clear(index));
    drop(entries);
    assert!(tree.usage(table).is_empty());
}

#[test]
fn what_is_sparse_is_walked_in_proportion_to_what_is_there() {
    let mut tree = tree();
    // One page in each of a few places of a TiB.
    let pages = [3, 1 << 20, (1 << 20) + 513, 1 << 27];
    for page in pages {
        map(&tree, page);
    }
    let mut seen = Vec::new();
    let range = 0..1 << 40;
    let stopped = tree.visit(range.clone(), &mut |leaf| {
        seen.push(leaf.addr / PAGE);
        Visit::Continue
    });
    assert_eq!((seen.as_slice(), stopped), (&pages[..], range.end));
    let stopped = tree.visit(PAGE * 4..range.end, &mut |_| Visit::Stop);
    assert_eq!(stopped, ((1 << 20) + 1) * PAGE);
    assert_eq!(tree.count(range.clone()), pages.len());
    assert_eq!(tree.count(PAGE * 4..PAGE * (1 << 27)), 2);
    assert_eq!(take_all(&mut tree, range).len(), pages.len());
    assert_eq!(tree.memory.count(), 1);
}
