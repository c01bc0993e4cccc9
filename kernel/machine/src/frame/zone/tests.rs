//! The zone against a model: who has which frame, by random operations.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use super::super::lists::{BATCH, Lists, ROOM};
use super::super::meta::Meta;
use super::{GROUP, MAX_ORDER, MetaMemory, Wanted, Zone};

/// Metadata in a vector; looking at what was not made panics.
struct TestMemory {
    meta: Vec<Meta>,
    known: RefCell<BTreeSet<usize>>,
    /// Frames that hold metadata.
    taken: RefCell<Vec<usize>>,
}

impl TestMemory {
    fn new(frames: usize) -> Self {
        Self {
            meta: (0..frames).map(|_| Meta::default()).collect(),
            known: RefCell::default(),
            taken: RefCell::default(),
        }
    }
}

impl MetaMemory for TestMemory {
    fn meta(&self, number: usize) -> &Meta {
        assert!(
            self.known.borrow().contains(&(number / GROUP)),
            "frame {number} is unknown"
        );
        &self.meta[number]
    }

    fn populate(&self, first: usize, take: &mut dyn FnMut() -> Option<(usize, bool)>) -> bool {
        assert!(first.is_multiple_of(GROUP));
        if self.known.borrow().contains(&(first / GROUP)) {
            return true;
        }
        let Some((number, _)) = take() else {
            return false;
        };
        self.taken.borrow_mut().push(number);
        self.known.borrow_mut().insert(first / GROUP)
    }
}

fn random(seed: &mut u64, end: usize) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed >> 33) as usize % end
}

/// Marks the frames of a block as used; none may be used twice.
fn mark(used: &mut BTreeSet<usize>, first: usize, frames: usize) {
    for number in first..first + frames {
        assert!(used.insert(number), "frame {number} was given out twice");
    }
}

#[test]
fn frames_are_given_out_once_and_come_back() {
    const REGIONS: [(usize, usize); 3] = [(300, 5000), (5010, 5015), (8192, 12_000)];
    let memory = TestMemory::new(16_384);
    let mut zone = Zone::new();
    for (first, end) in REGIONS {
        assert!(zone.add_region(first, end, true));
    }
    let total: usize = REGIONS.iter().map(|(first, end)| end - first).sum();
    assert_eq!(zone.free(), total);
    assert!(zone.total() < total - total / (GROUP + 1) && zone.available() == zone.total());
    let mut seed = 0x9E37_79B9_7F4A_7C15;
    let mut used = BTreeSet::new();
    let mut blocks: Vec<(usize, usize)> = Vec::new();
    for _ in 0..30_000 {
        let order = random(&mut seed, 5) * random(&mut seed, 3);
        if random(&mut seed, 2) == 0 {
            let wanted = [Wanted::Zero, Wanted::Any][random(&mut seed, 2)];
            let Some((first, _)) = zone.take(&memory, order, wanted) else {
                continue;
            };
            assert!(first.is_multiple_of(1 << order));
            let end = first + (1 << order);
            assert!(
                REGIONS
                    .iter()
                    .any(|it| (it.0..it.1).contains(&first) && end <= it.1)
            );
            mark(&mut used, first, 1 << order);
            blocks.push((first, 1 << order));
        } else if !blocks.is_empty() {
            let (first, frames) = blocks.swap_remove(random(&mut seed, blocks.len()));
            for number in first..first + frames {
                used.remove(&number);
            }
            // A part may stay behind.
            let kept = random(&mut seed, frames);
            if kept > 0 {
                blocks.push((first, kept));
                mark(&mut used, first, kept);
            }
            zone.give(
                &memory,
                first + kept,
                frames - kept,
                random(&mut seed, 2) == 0,
            );
        }
        let for_meta = memory.taken.borrow().len();
        assert_eq!(zone.free() + used.len() + for_meta, total);
    }
    for number in memory.taken.borrow().iter() {
        assert!(
            !used.contains(number),
            "metadata in a frame that was given out"
        );
    }
    for (first, frames) in blocks.drain(..) {
        zone.give(&memory, first, frames, false);
    }
    // Everything has merged again: the largest blocks are to be had.
    let largest = (0..4)
        .filter_map(|_| zone.take(&memory, MAX_ORDER, Wanted::Any))
        .count();
    assert!(largest >= 3, "{largest} blocks of the highest order");
}

#[test]
fn zeroes_stay_known() {
    let memory = TestMemory::new(4096);
    let mut zone = Zone::new();
    zone.add_region(128, 4096, false);
    let (first, is_zero) = zone.take(&memory, 0, Wanted::Zero).expect("memory");
    assert!(!is_zero, "nobody promised zeroes");
    zone.give(&memory, first, 1, true);
    assert_eq!(zone.take(&memory, 0, Wanted::Zero), Some((first, true)));
    let (second, _) = zone.take(&memory, 0, Wanted::Any).expect("memory");
    zone.give(&memory, second, 1, false);
    zone.give(&memory, first, 1, true);
    // Merged with what is not zero they are forgotten.
    assert_eq!(
        zone.take(&memory, 0, Wanted::Any).map(|it| it.1),
        Some(false)
    );
}

#[test]
fn nothing_is_touched_before_its_use() {
    let memory = TestMemory::new(1 << 20);
    let mut zone = Zone::new();
    zone.add_region(1000, 1 << 20, true);
    for _ in 0..100 {
        zone.take(&memory, 0, Wanted::Zero).expect("memory");
    }
    let (first, count, _) = zone.take_fresh_run(&memory, 100, |_| 100).expect("memory");
    assert_eq!(
        (first, count, zone.take(&memory, 0, Wanted::Zero)),
        (1100, 100, Some((1200, true)))
    );
    assert!(memory.known.borrow().len() <= 3);
}

/// On memory that is not known to be zero, each call for a zeroed frame took a batch that no list had room for.
#[test]
fn no_more_fresh_frames_are_taken_than_there_is_room_for() {
    let memory = TestMemory::new(4096);
    let mut zone = Zone::new();
    zone.add_region(1000, 4096, false);
    let free = zone.free();
    let (_, count, is_zero) = zone
        .take_fresh_run(&memory, 16, |is_zero| if is_zero { 16 } else { 3 })
        .expect("memory");
    assert_eq!((count, is_zero), (3, false));
    assert!(zone.take_fresh_run(&memory, 16, |_| 0).is_none());
    assert!(zone.free() >= free - 4, "one more for metadata");
}

#[test]
fn the_limit_holds() {
    let memory = TestMemory::new(4096);
    let mut zone = Zone::new();
    zone.add_region(128, 4096, true);
    zone.set_limit(11);
    let taken: Vec<_> = (0..20)
        .filter_map(|_| zone.take(&memory, 0, Wanted::Any))
        .collect();
    // What metadata is in does not count.
    assert_eq!((taken.len(), zone.available()), (11, 0));
    zone.set_limit(16);
    assert_eq!(zone.available(), 5);
    zone.set_limit(usize::MAX);
    assert_eq!(zone.available(), zone.total() - 11);
    assert!(zone.take(&memory, 3, Wanted::Any).is_some());
}

#[test]
fn everything_can_be_taken() {
    let memory = TestMemory::new(4096);
    let mut zone = Zone::new();
    zone.add_region(100, 3000, true);
    let at_first = (zone.total(), zone.available());
    let mut used = BTreeMap::new();
    while let Some((number, _)) = zone.take(&memory, 0, Wanted::Zero) {
        assert!(used.insert(number, ()).is_none());
    }
    assert_eq!(zone.free(), 0);
    assert_eq!(used.len() + memory.taken.borrow().len(), 2900);
    for number in used.keys() {
        zone.give(&memory, *number, 1, true);
    }
    // Its metadata stays, and was set aside from the start.
    assert_eq!((zone.total(), zone.available()), at_first);
}

#[test]
fn lists_keep_what_fits() {
    let mut lists = Lists::new();
    assert_eq!(lists.take(Wanted::Zero), None);
    for number in 0..ROOM {
        assert!(lists.give(number, number % 2 == 0));
    }
    while lists.give(1000, true) {}
    assert_eq!(lists.count(), ROOM + ROOM / 2);
    assert_eq!(lists.take(Wanted::Zero), Some((1000, true)));
    assert_eq!(lists.take(Wanted::Any), Some((ROOM - 1, false)));
    for _ in 0..BATCH {
        lists.take(Wanted::Any);
    }
    assert_eq!(lists.take_other(Wanted::Any), None);
    while lists.take(Wanted::Zero).is_some() {}
    assert_eq!(lists.take_other(Wanted::Zero), None);
}

#[test]
fn what_is_ram_stays_known_when_metadata_is_in_it() {
    let (mut zone, memory) = (Zone::new(), TestMemory::new(4096));
    assert!(zone.add_region(256, 1024, true));
    zone.start();
    assert!(zone.take(&memory, 0, Wanted::Any).is_some());
    assert!(memory.taken.borrow().contains(&1023));
    assert!(zone.overlaps(1023, 1024) && zone.overlaps(0, 257) && zone.overlaps(500, 501));
    assert!(!zone.overlaps(0, 256) && !zone.overlaps(1024, 4096));
}

/// Reports everything that may be; how many frames were told.
fn report_all(zone: &mut Zone, memory: &TestMemory) -> usize {
    let mut told = 0;
    while let Some(block) = zone.take_unreported(memory) {
        told += block.frames();
        zone.give_isolated(memory, &block, true);
    }
    told
}

#[test]
fn what_was_freed_is_reported_once() {
    let (mut zone, memory) = (Zone::new(), TestMemory::new(32_768));
    zone.add_region(1024, 32_768, true);
    let first = zone
        .take(&memory, MAX_ORDER, Wanted::Any)
        .expect("memory")
        .0;
    // What was passed over to get there, and what was never used, the host knows nothing of.
    assert_eq!((zone.unreported(), report_all(&mut zone, &memory)), (0, 0));
    zone.give(&memory, first, 1000, false);
    assert_eq!(zone.unreported(), 1000 - 8);
    assert_eq!(report_all(&mut zone, &memory), 1000 - 8);
    assert_eq!((zone.unreported(), report_all(&mut zone, &memory)), (0, 0));
    // It is zero now, as it was at first.
    assert!(zone.take(&memory, 9, Wanted::Zero).is_some_and(|it| it.1));
    // A single page beside it does not make all of it the host's again.
    zone.give(&memory, first + 1000, 24, false);
    let before = zone.unreported();
    assert!(before <= 32, "{before}");
    report_all(&mut zone, &memory);
    assert_eq!(zone.unreported(), 0);
}

#[test]
fn what_is_being_reported_is_neither_used_nor_to_be_had() {
    let (mut zone, memory) = (Zone::new(), TestMemory::new(8192));
    zone.add_region(1024, 8192, false);
    let blocks: Vec<_> = (0..6)
        .filter_map(|_| zone.take(&memory, MAX_ORDER, Wanted::Any))
        .collect();
    for (first, _) in &blocks {
        zone.give(&memory, *first, 1 << MAX_ORDER, false);
    }
    let (free, used) = (zone.available(), zone.in_use());
    let block = zone.take_unreported(&memory).expect("a block");
    assert_eq!(zone.in_use(), used);
    assert_eq!(zone.available(), free - block.frames());
    // No more than a quarter is away at a time.
    let mut away = std::vec![block];
    away.extend(std::iter::from_fn(|| zone.take_unreported(&memory)));
    let frames: usize = away.iter().map(super::Unreported::frames).sum();
    assert!(frames <= free / 4, "{frames} of {free}");
    // The host did not take it: then it is to be told again.
    let unreported = zone.unreported();
    for block in &away {
        zone.give_isolated(&memory, block, false);
    }
    assert_eq!(zone.unreported(), unreported + frames);
    assert_eq!((zone.available(), zone.in_use()), (free, used));
    // Nobody promised zeroes: what the host took may be as it was.
    report_all(&mut zone, &memory);
    assert_eq!(
        zone.take(&memory, 4, Wanted::Zero).map(|it| it.1),
        Some(false)
    );
}
