//! The tree against a naive model: one entry a page.

use core::sync::atomic::AtomicBool;

use alloc::vec::Vec;

use super::*;
use crate::mapping::Mapping;
use crate::page_source::PageSource;

const PAGE: u64 = 4096;

fn anonymous(end: u64, prot: Prot) -> Area {
    Area {
        end,
        prot,
        max_prot: Prot::all(),
        flags: AreaFlags::empty(),
        source: None,
        offset: 0,
        origin: None,
        is_copied: AtomicBool::new(false),
        writable: None,
        attachment: None,
    }
}

/// A small generator: the tests want many cases, not good randomness.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What the model knows of a page: protection, and the source page it shows.
type Page = Option<(Prot, Option<u64>)>;

fn check(tree: &AreaTree, model: &[Page]) {
    let mut total = 0;
    for (n, page) in model.iter().enumerate() {
        let addr = n as u64 * PAGE;
        let found = tree.find(addr + 1).map(|(start, area)| {
            (
                area.prot,
                area.source.as_ref().map(|_| area.page_index(start, addr)),
            )
        });
        assert_eq!(found, *page, "page {n}");
        total += u64::from(page.is_some()) * PAGE;
    }
    let mut totals = Totals::default();
    for (start, area) in tree.iter() {
        totals.count(area, area.end - start);
    }
    assert_eq!((tree.total(), *tree.totals()), (total, totals));
    let areas: Vec<_> = tree.iter().collect();
    for pair in areas.windows(2) {
        let ((start, area), (next_start, next)) = (pair[0], pair[1]);
        assert!(area.end <= next_start, "areas overlap");
        assert!(
            area.end < next_start || !continues(start, area, next),
            "neighbours that match were not merged at {next_start:#x}"
        );
    }
}

#[test]
fn agrees_with_a_model_of_single_pages() {
    const PAGES: u64 = 64;
    let prots = [Prot::READ, Prot::READ | Prot::WRITE, Prot::empty()];
    let shared: Arc<dyn PageSource> = Mapping::in_memory(None, PAGES * PAGE).unwrap();
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut tree = AreaTree::default();
        let mut model: Vec<Page> = alloc::vec![None; 64];
        for _ in 0..200 {
            let first = random.below(PAGES);
            let last = (first + 1 + random.below(12)).min(PAGES);
            let range = first * PAGE..last * PAGE;
            let prot = prots[usize::try_from(random.below(3)).unwrap()];
            let pages = usize::try_from(first).unwrap()..usize::try_from(last).unwrap();
            match random.below(4) {
                0 | 1 => {
                    let from_file = random.below(2) == 0;
                    tree.remove(range.clone(), &mut Removed::new()).unwrap();
                    let mut area = anonymous(range.end, prot);
                    if from_file {
                        area.source = Some(shared.clone());
                        area.offset = range.start;
                    }
                    tree.insert(range.start, area).unwrap();
                    for n in pages {
                        model[n] = Some((prot, from_file.then_some(n as u64)));
                    }
                }
                2 => {
                    tree.remove(range, &mut Removed::new()).unwrap();
                    model[pages].fill(None);
                }
                _ => {
                    tree.update(range, |area| area.prot = prot).unwrap();
                    for page in model[pages].iter_mut().flatten() {
                        page.0 = prot;
                    }
                }
            }
            check(&tree, &model);
        }
    }
}

#[test]
fn gaps_are_found_from_the_top() {
    let mut tree = AreaTree::default();
    for (start, end) in [(10, 20), (22, 30), (40, 50)] {
        tree.insert(start * PAGE, anonymous(end * PAGE, Prot::READ))
            .unwrap();
    }
    let mut gap = |len: u64, bottom: u64, top: u64| {
        tree.gap(len * PAGE, bottom * PAGE, top * PAGE)
            .map(|at| at / PAGE)
    };
    assert_eq!(gap(5, 0, 60), Some(55));
    assert_eq!(gap(5, 0, 52), Some(35));
    assert_eq!(gap(2, 0, 45), Some(38));
    assert_eq!(gap(2, 0, 35), Some(33));
    assert_eq!(gap(2, 0, 25), Some(20));
    assert_eq!(gap(11, 0, 60), None);
    assert_eq!(gap(10, 0, 20), Some(0));
    assert_eq!(gap(10, 1, 20), None);
    assert_eq!(gap(10, 30, 40), Some(30));
}

#[test]
fn gaps_are_found_below_many_areas() {
    let mut tree = AreaTree::default();
    let gaps = [50..54, 300..302];
    for page in 0..400 {
        if !gaps.iter().any(|gap| gap.contains(&page)) {
            // Neighbours differ, or they would be one area.
            let prot = [Prot::READ, Prot::WRITE][usize::from(page % 2 == 0)];
            tree.insert(page * PAGE, anonymous((page + 1) * PAGE, prot))
                .unwrap();
        }
    }
    let mut gap = |len: u64| tree.gap(len * PAGE, 0, 400 * PAGE).map(|at| at / PAGE);
    assert_eq!(gap(2), Some(300));
    assert_eq!(gap(4), Some(50));
    assert_eq!(gap(5), None);
}

#[test]
fn what_a_search_remembers_changes_no_answer() {
    const PAGES: u64 = 200;
    for seed in 0..40 {
        let mut random = Random(seed);
        let mut tree = AreaTree::default();
        for _ in 0..300 {
            let len = (1 + random.below(6)) * PAGE;
            if random.below(3) > 0 {
                let expected = tree.search_gap(len, PAGE, PAGES * PAGE);
                let found = tree.gap(len, PAGE, PAGES * PAGE);
                assert_eq!(found, expected);
                if let Some(start) = found {
                    tree.insert(start, anonymous(start + len, Prot::READ))
                        .unwrap();
                }
            } else {
                let start = random.below(PAGES) * PAGE;
                tree.remove(start..start + len, &mut Removed::new())
                    .unwrap();
            }
        }
    }
}

#[test]
fn covering_needs_every_page() {
    let mut tree = AreaTree::default();
    tree.insert(PAGE, anonymous(3 * PAGE, Prot::READ)).unwrap();
    tree.insert(3 * PAGE, anonymous(4 * PAGE, Prot::WRITE))
        .unwrap();
    assert!(tree.covers(PAGE..4 * PAGE));
    assert!(!tree.covers(0..2 * PAGE));
    assert!(!tree.covers(3 * PAGE..5 * PAGE));
}

#[test]
fn many_areas_are_made_found_and_merged_again() {
    const PAGES: u64 = 2_000;
    for seed in 0..4 {
        let mut random = Random(seed);
        let mut tree = AreaTree::default();
        tree.insert(0, anonymous(PAGES * PAGE, Prot::READ)).unwrap();
        let mut model: Vec<Page> = alloc::vec![Some((Prot::READ, None)); 2_000];
        for step in 0..3_000 {
            let first = random.below(PAGES);
            let last =
                (first + 1 + random.below(if step % 1100 == 0 { 800 } else { 2 })).min(PAGES);
            let prot =
                [Prot::READ, Prot::WRITE, Prot::EXEC][usize::try_from(random.below(3)).unwrap()];
            let range = first * PAGE..last * PAGE;
            let pages = usize::try_from(first).unwrap()..usize::try_from(last).unwrap();
            if step % 97 == 0 {
                tree.remove(range, &mut Removed::new()).unwrap();
                model[pages].fill(None);
                continue;
            }
            tree.update(range, |area| area.prot = prot).unwrap();
            for page in model[pages].iter_mut().flatten() {
                page.0 = prot;
            }
        }
        assert!(tree.len() > 300);
        check(&tree, &model);
        tree.update(0..PAGES * PAGE, |area| area.prot = Prot::READ)
            .unwrap();
        for page in model.iter_mut().flatten() {
            page.0 = Prot::READ;
        }
        check(&tree, &model);
        let mut copy = AreaTree::default();
        copy.reserve_appends(tree.len()).unwrap();
        for (start, area) in tree.iter() {
            copy.append(start, area.clone()).unwrap();
        }
        check(&copy, &model);
        assert_eq!(tree.take_all().iter().flatten().count(), copy.len());
        assert!(tree.is_empty() && tree.total() == 0);
    }
}

#[test]
fn a_page_of_a_file_is_found_wherever_it_is_mapped() {
    let sources: Vec<Arc<dyn PageSource>> = (0..3)
        .map(|_| Mapping::in_memory(None, 0).unwrap() as Arc<dyn PageSource>)
        .collect();
    let mut tree = AreaTree::default();
    let mut random = Random(7);
    let mut removed = Removed::new();
    for round in 0..4000 {
        // Most are in order, as a large file is mapped; what is far off comes in later.
        let page = if round < 2000 {
            round
        } else {
            random.below(4000)
        };
        let (start, len) = (page * 4 * PAGE, (1 + random.below(3)) * PAGE);
        tree.remove(start..start + len, &mut removed).unwrap();
        let offset = if round < 2000 {
            page * 4
        } else {
            random.below(9000)
        };
        let area = Area {
            source: Some(sources[usize::try_from(page / 1000 % 3).unwrap()].clone()),
            offset: offset * PAGE,
            ..anonymous(start + len, Prot::READ)
        };
        tree.insert(start, area).unwrap();
        if round % 50 != 49 {
            continue;
        }
        let source = &*sources[usize::try_from(random.below(3)).unwrap()];
        let first = random.below(9000);
        let pages = first..first + 1 + random.below(5);
        let shows = |(start, area): &(u64, &Area)| {
            let from = area.offset / PAGE;
            let own = area.source.as_deref().unwrap();
            core::ptr::addr_eq(own, source)
                && from < pages.end
                && pages.start < from + (area.end - start) / PAGE
        };
        let wanted: Vec<u64> = tree.iter().filter(shows).map(|(at, _)| at).collect();
        let looked_at = tree.showing(source, &pages).count();
        let found: Vec<u64> = tree
            .showing(source, &pages)
            .filter(shows)
            .map(|(at, _)| at)
            .collect();
        assert_eq!(found, wanted);
        assert!(round >= 2000 || looked_at <= 80, "{looked_at} areas");
    }
}
