//! Two groups side by side, one of them at its limit.

use std::sync::Mutex;
use std::vec::Vec;

use abi::Errno;
use machine::{PAGE_SIZE, UserAddr};

use super::*;
use crate::mapping::{Backing, Mapping};
use crate::space::{AddressSpace, FaultError, MapRequest, Prot};

/// A group below the root, which the calling host thread is charged to from now on.
pub(crate) fn enter(limit: usize) -> Arc<OwnedGroup> {
    let owned = OwnedGroup::new(None, limit).unwrap();
    account::set_current(owned.group().account());
    owned
}

fn charge_to(group: MemoryGroup) {
    account::set_current(group.account());
}

/// A file of pages that say which they are, and what was written back.
#[derive(Default)]
struct Disk(Mutex<Vec<u64>>);

impl Backing for Disk {
    fn read_pages(&self, first: u64, frames: &[Frame]) -> Result<()> {
        for (index, frame) in (first..).zip(frames) {
            frame.write(0, &index.to_ne_bytes());
        }
        Ok(())
    }

    fn write_pages(&self, first: u64, frames: &[Frame], _: u64) -> Result<()> {
        self.0
            .lock()
            .unwrap()
            .extend(first..first + frames.len() as u64);
        Ok(())
    }
}

fn file(disk: &Arc<Disk>, pages: u64) -> Arc<Mapping> {
    let backing: Arc<dyn Backing> = disk.clone();
    Mapping::with_backing(Arc::downgrade(&backing), pages * PAGE_SIZE as u64).unwrap()
}

fn read_all(mapping: &Mapping, pages: u64) -> Result<()> {
    for index in 0..pages {
        let page = crate::PageSource::page(mapping, index, false)?;
        let mut bytes = [0; 8];
        page.read(0, &mut bytes);
        assert_eq!(u64::from_ne_bytes(bytes), index);
    }
    Ok(())
}

/// Stores to `pages` pages of new anonymous memory.
fn touch(space: &AddressSpace, pages: u64) -> core::result::Result<(), FaultError> {
    let prot = Prot::READ | Prot::WRITE;
    let base = space
        .map(MapRequest::anonymous(pages * PAGE_SIZE as u64, prot))
        .unwrap();
    (0..pages).try_for_each(|page| space.resolve(UserAddr(base.0 + page * PAGE_SIZE as u64), true))
}

fn count(group: &OwnedGroup, event: Event) -> u64 {
    group.group().events(event, false)
}

#[test]
fn who_is_at_the_limit_reclaims_its_own_pages() {
    let disk = Arc::new(Disk::default());
    let neighbour = enter(10_000);
    let theirs = file(&disk, 200);
    read_all(&theirs, 200).unwrap();
    let held = neighbour.group().usage();
    assert!(held >= 200);

    let small = enter(128);
    let ours = file(&disk, 1000);
    read_all(&ours, 1000).unwrap();
    assert!(small.group().usage() <= 128 && ours.pages_cached() <= 128);
    assert!(count(&small, Event::Max) > 0 && count(&small, Event::Oom) == 0);
    // Pages that somebody else reads stay on the account of who brought them in.
    read_all(&theirs, 200).unwrap();
    assert_eq!(
        (neighbour.group().usage(), theirs.pages_cached()),
        (held, 200)
    );
    for (event, name) in Event::ALL {
        assert_eq!(count(&neighbour, event), 0, "{name}");
    }
}

#[test]
fn dirty_pages_are_written_back_for_room() {
    let disk = Arc::new(Disk::default());
    let group = enter(64);
    let mapping = file(&disk, 100);
    let space = AddressSpace::new(false).unwrap();
    for index in 0..50 {
        crate::PageSource::page(&*mapping, index, true).unwrap();
    }
    assert_eq!(touch(&space, 50), Ok(()));
    assert!(group.group().usage() <= 64 && mapping.pages_cached() < 20);
    assert!(disk.0.lock().unwrap().len() >= 50, "{:?}", disk.0);
}

#[test]
fn without_pages_to_take_back_the_fault_fails() {
    let group = enter(64);
    let space = AddressSpace::new(false).unwrap();
    // No killer is named on the host.
    assert_eq!(touch(&space, 100), Err(FaultError::OutOfMemory));
    let usage = group.group().usage();
    assert!((60..64).contains(&usage), "{usage}");
    assert!(count(&group, Event::Oom) > 0 && count(&group, Event::OomKill) == 0);
    // A neighbour does not notice.
    let other = enter(1000);
    let theirs = AddressSpace::new(false).unwrap();
    assert_eq!(touch(&theirs, 100), Ok(()));
    assert_eq!(other.group().usage(), 100);
    drop(space);
    assert_eq!(group.group().usage(), 0);
}

#[test]
fn a_fault_on_shared_memory_asks_for_a_death_too() {
    let group = enter(64);
    let mapping = Mapping::in_memory(None, 100 * PAGE_SIZE as u64).unwrap();
    let space = AddressSpace::new(false).unwrap();
    let mut request =
        MapRequest::file(mapping, 0, 100 * PAGE_SIZE as u64, Prot::READ | Prot::WRITE);
    request.flags |= crate::AreaFlags::SHARED;
    let base = space.map(request).unwrap();
    let touched = (0..100)
        .try_for_each(|page| space.resolve(UserAddr(base.0 + page * PAGE_SIZE as u64), true));
    assert_eq!(touched, Err(FaultError::OutOfMemory));
    assert!(count(&group, Event::Oom) > 0, "nobody was asked");
}

#[test]
fn a_limit_that_moves_below_the_usage_reclaims() {
    let disk = Arc::new(Disk::default());
    let group = enter(10_000);
    let mapping = file(&disk, 500);
    read_all(&mapping, 500).unwrap();
    assert!(group.group().usage() >= 500);
    // From outside, as who writes the number does.
    charge_to(MemoryGroup::ROOT);
    group.group().set_limit(100);
    assert!(group.group().usage() <= 100 && mapping.pages_cached() <= 100);
    assert!(group.group().peak() >= Some(500));
    // What nobody can take back stays charged.
    charge_to(group.group());
    let space = AddressSpace::new(false).unwrap();
    assert_eq!(touch(&space, 50), Ok(()));
    charge_to(MemoryGroup::ROOT);
    group.group().set_limit(10);
    assert_eq!((group.group().usage(), mapping.pages_cached()), (50, 0));
    group.group().set_limit(200);
    charge_to(group.group());
    assert_eq!(touch(&space, 50), Ok(()));
}

#[test]
fn a_limit_that_would_cost_a_life_is_refused() {
    let disk = Arc::new(Disk::default());
    let group = enter(10_000);
    let mapping = file(&disk, 600);
    read_all(&mapping, 600).unwrap();
    let space = AddressSpace::new(false).unwrap();
    assert_eq!(touch(&space, 50), Ok(()));
    charge_to(MemoryGroup::ROOT);
    // The file can go, the program's pages cannot, and some room is left beside them.
    assert_eq!(group.group().try_set_limit(400), Ok(()));
    assert_eq!(group.group().limit(), 400);
    assert!(group.group().usage() <= 400 - RESERVE_FRAMES);
    let refused = group.group().try_set_limit(RESERVE_FRAMES + 40);
    assert_eq!((refused, group.group().limit()), (Err(Errno::EBUSY), 400));
    assert_eq!(count(&group, Event::Oom), 0);
    assert_eq!(group.group().try_set_limit(5_000), Ok(()));
}

#[test]
fn a_limit_above_holds_for_all_below() {
    let above = enter(200);
    let disk = Arc::new(Disk::default());
    let mut below = Vec::new();
    let mut files = Vec::new();
    for _ in 0..2 {
        let owned = OwnedGroup::new(Some(above.clone()), 10_000).unwrap();
        charge_to(owned.group());
        let mapping = file(&disk, 150);
        read_all(&mapping, 150).unwrap();
        below.push(owned);
        files.push(mapping);
    }
    assert!(above.group().usage() <= 200);
    let sum: usize = below.iter().map(|it| it.group().usage()).sum();
    assert_eq!(above.group().usage(), sum);
    assert!(count(&above, Event::Max) > 0);
    assert!(
        above.group().events(Event::Max, true) > 0,
        "it was its own limit"
    );
    assert_eq!(count(&below[1], Event::Max), 0, "its own limit is far");
    assert!(below[0].group().is_within(above.group()));
    assert!(!above.group().is_within(below[0].group()));

    // Pages of a group that is gone are still reclaimed by those above.
    charge_to(MemoryGroup::ROOT);
    below.clear();
    above.group().set_limit(10);
    assert!(above.group().usage() <= 10);
    drop(files);
    assert_eq!(above.group().usage(), 0);
}

#[test]
fn tmpfs_pages_are_charged_to_who_makes_them_and_cannot_be_taken_back() {
    let group = enter(100);
    let mapping = Mapping::in_memory(None, 1000 * PAGE_SIZE as u64).unwrap();
    let made = (0..1000)
        .map(|index| crate::PageSource::page(&*mapping, index, true))
        .take_while(Result::is_ok)
        .count();
    assert!((90..100).contains(&made), "{made}");
    assert_eq!(
        crate::PageSource::page(&*mapping, 999, true).err(),
        Some(Errno::ENOMEM)
    );
    charge_to(MemoryGroup::ROOT);
    assert_eq!(group.group().usage(), made);
    drop(mapping);
    assert_eq!(group.group().usage(), 0);
}

#[test]
fn what_is_protected_is_taken_last_or_never() {
    let disk = Arc::new(Disk::default());
    let above = enter(10_000);
    let group = || {
        let owned = OwnedGroup::new(Some(above.clone()), usize::MAX).unwrap();
        charge_to(owned.group());
        let mapping = file(&disk, 100);
        read_all(&mapping, 100).unwrap();
        (owned, mapping)
    };
    let (open, low, min) = (group(), group(), group());
    charge_to(MemoryGroup::ROOT);
    low.0.group().set_protection(Some(200), None);
    min.0.group().set_protection(None, Some(200));
    let usage = above.group().usage();
    assert!(above.group().reclaim_to(usage - 80));
    assert_eq!([&low, &min].map(|it| it.1.pages_cached()), [100, 100]);
    assert_eq!(count(&above, Event::Low), 0);
    assert!(!above.group().reclaim_to(0));
    assert_eq!([&open, &low].map(|it| it.1.pages_cached()), [0, 0]);
    assert_eq!(min.1.pages_cached(), 100);
    assert!(count(&low.0, Event::Low) > 0 && count(&above, Event::Low) > 0);
    // Its own need is another matter.
    assert!(min.0.group().reclaim_to(0));
}

#[test]
fn beyond_high_pages_are_taken_back() {
    let disk = Arc::new(Disk::default());
    let group = enter(10_000);
    let mapping = file(&disk, 300);
    read_all(&mapping, 300).unwrap();
    group.group().set_high(200);
    assert!(group.group().usage() <= 200);
    let other = file(&disk, 50);
    read_all(&other, 50).unwrap();
    pressure::heed_high();
    assert!(group.group().usage() <= 200 && count(&group, Event::High) == 1);
    assert_eq!(group.group().events(Event::High, true), 1);
}
