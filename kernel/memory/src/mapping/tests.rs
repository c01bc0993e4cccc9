//! Mappings over a backing that is a byte vector and can be told to fail, and in memory.

#![expect(clippy::cast_possible_truncation, reason = "test data")]

use std::sync::Mutex;
use std::vec::Vec;

use super::*;
use crate::io::{IoReader, IoWriter};
use crate::page_source::PageSource;

#[derive(Default)]
struct Disk {
    bytes: Mutex<Vec<u8>>,
    reads: Mutex<Vec<(u64, usize)>>,
    writes: Mutex<Vec<(u64, u64)>>,
    /// The only page that cannot be written; `u64::MAX`: all that is asked for fails.
    bad_page: Mutex<Option<u64>>,
}

impl Disk {
    fn with(bytes: Vec<u8>) -> Arc<Disk> {
        Arc::new(Disk {
            bytes: Mutex::new(bytes),
            ..Disk::default()
        })
    }

    fn check(&self, pages: Range<u64>) -> Result<()> {
        match *self.bad_page.lock().unwrap() {
            Some(bad) if bad == u64::MAX || pages.contains(&bad) => Err(Errno::EIO),
            _ => Ok(()),
        }
    }
}

impl Backing for Disk {
    fn read_pages(&self, first: u64, frames: &[Frame]) -> Result<()> {
        self.check(first..first + frames.len() as u64)?;
        self.reads.lock().unwrap().push((first, frames.len()));
        let bytes = self.bytes.lock().unwrap();
        for (n, frame) in frames.iter().enumerate() {
            let at = (first as usize + n) * PAGE_SIZE;
            let end = (at + PAGE_SIZE).min(bytes.len());
            if at < end {
                frame.write(0, &bytes[at..end]);
            }
        }
        Ok(())
    }

    fn write_pages(&self, first: u64, frames: &[Frame], len_bytes: u64) -> Result<()> {
        self.check(first..first + frames.len() as u64)?;
        self.writes.lock().unwrap().push((first, len_bytes));
        let mut bytes = self.bytes.lock().unwrap();
        let (start, len) = (first as usize * PAGE_SIZE, len_bytes as usize);
        let size = bytes.len().max(start + len);
        bytes.resize(size, 0);
        for (n, part) in bytes[start..start + len].chunks_mut(PAGE_SIZE).enumerate() {
            frames[n].read(0, part);
        }
        Ok(())
    }
}

fn over(disk: &Arc<Disk>) -> Arc<Mapping> {
    let backing: Arc<dyn Backing> = disk.clone();
    let len = disk.bytes.lock().unwrap().len() as u64;
    Mapping::with_backing(Arc::downgrade(&backing), len).unwrap()
}

/// Queues of its own for what the calling thread brings in: tests run side by side.
fn queues() -> (Arc<crate::OwnedGroup>, &'static crate::pressure::Queues) {
    let owned = crate::group::tests::enter(usize::MAX);
    let queues = owned.group().queues();
    (owned, queues)
}

fn read(mapping: &Mapping, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0xee; len];
    let ahead = &mapping.readahead;
    let read = mapping.read(offset, &mut IoWriter::kernel(&mut bytes), ahead)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Stores as a shared mapping does.
fn store(mapping: &Mapping, offset: u64, bytes: &[u8]) {
    let page = mapping.page(offset / PAGE, true).unwrap();
    page.write(offset_in_page(offset), bytes);
}

#[test]
fn sequential_reads_ask_the_backing_seldom() {
    let contents: Vec<u8> = (0..200 * PAGE_SIZE + 77).map(|i| (i / 7) as u8).collect();
    let disk = Disk::with(contents.clone());
    let mapping = over(&disk);
    let mut all = Vec::new();
    loop {
        let part = read(&mapping, all.len() as u64, 10_000).unwrap();
        if part.is_empty() {
            break;
        }
        all.extend(part);
    }
    assert!(all == contents, "contents differ");
    let before = disk.reads.lock().unwrap().len();
    assert!(before <= 10, "{:?}", disk.reads);
    assert!(read(&mapping, 0, all.len()).unwrap() == contents);
    let after = disk.reads.lock().unwrap().len();
    assert_eq!(after, before, "a cached page was read again");
}

#[test]
fn a_fault_reads_what_lies_around_it_once() {
    let disk = Disk::with(vec![1; 100 * PAGE_SIZE]);
    let mapping = over(&disk);
    for index in [20, 16, 31, 90, 99] {
        assert!(PageSource::page(&*mapping, index, false).is_ok(), "{index}");
    }
    assert_eq!(*disk.reads.lock().unwrap(), [(16, 16), (80, 16), (96, 4)]);
    // What is here already is not read again, on either side.
    let mapping = over(&disk);
    disk.reads.lock().unwrap().clear();
    read(&mapping, 17 * PAGE, 1).unwrap();
    assert!(PageSource::page(&*mapping, 30, false).is_ok());
    let reads = disk.reads.lock().unwrap();
    assert_eq!(*reads, [(17, 8), (25, 7)]);
}

#[test]
fn only_what_was_stored_to_is_written_back_in_large_requests() {
    let disk = Disk::with(vec![1; 100 * PAGE_SIZE + 10]);
    let mapping = over(&disk);
    read(&mapping, 0, 101 * PAGE_SIZE).unwrap();
    mapping.write_back(0..u64::MAX).unwrap();
    assert!(disk.writes.lock().unwrap().is_empty());
    for index in (0..40).chain([50, 100]) {
        store(&mapping, index * PAGE + 5, &[9; 3]);
    }
    assert!(mapping.is_dirty());
    mapping.write_back(0..u64::MAX).unwrap();
    assert!(!mapping.is_dirty());
    let expected = [(0, 32 * PAGE), (32, 8 * PAGE), (50, PAGE), (100, 10)];
    assert_eq!(*disk.writes.lock().unwrap(), expected);
    assert_eq!(
        disk.bytes.lock().unwrap()[39 * PAGE_SIZE + 4..][..5],
        [1, 9, 9, 9, 1]
    );
    mapping.write_back(0..u64::MAX).unwrap();
    store(&mapping, 7 * PAGE, b"again");
    mapping.write_back(8 * PAGE..9 * PAGE).unwrap();
    assert_eq!(disk.writes.lock().unwrap().len(), expected.len());
    mapping.write_back(7 * PAGE..8 * PAGE).unwrap();
    assert_eq!(disk.writes.lock().unwrap()[4..], [(7, PAGE)]);
}

#[test]
fn a_write_back_goes_on_behind_an_error_and_loses_nothing() {
    let disk = Disk::with(vec![1; 9 * PAGE_SIZE]);
    let mapping = over(&disk);
    let seen = mapping.errors().sample();
    for index in [1, 4, 8] {
        store(&mapping, index * PAGE, b"x");
    }
    *disk.bad_page.lock().unwrap() = Some(4);
    assert_eq!(mapping.write_back(0..u64::MAX), Err(Errno::EIO));
    assert_eq!(*disk.writes.lock().unwrap(), [(1, PAGE), (8, PAGE)]);
    assert_eq!(mapping.errors().check(&seen), Err(Errno::EIO));
    assert_eq!(mapping.errors().check(&seen), Ok(()));
    assert!(mapping.is_dirty());
    *disk.bad_page.lock().unwrap() = None;
    mapping.write_back(0..u64::MAX).unwrap();
    assert_eq!(disk.writes.lock().unwrap()[2..], [(4, PAGE)]);
    *disk.bad_page.lock().unwrap() = Some(u64::MAX);
    mapping.invalidate(0..u64::MAX);
    assert_eq!(read(&mapping, 0, 10), Err(Errno::EIO));
    *disk.bad_page.lock().unwrap() = None;
    assert_eq!(read(&mapping, 0, 2), Ok(vec![1, 1]));
}

#[test]
fn what_is_behind_the_end_never_comes_back() {
    let disk = Disk::with(vec![1; 3 * PAGE_SIZE]);
    let mapping = over(&disk);
    read(&mapping, 0, 3 * PAGE_SIZE).unwrap();
    store(&mapping, 2 * PAGE, b"cut");
    mapping.set_size(PAGE + 3);
    assert!(!mapping.is_dirty());
    assert_eq!(read(&mapping, PAGE, 10), Ok(vec![1; 3]));
    assert!(mapping.page(2, false).is_err());
    // A store into the rest of the last page.
    store(&mapping, PAGE + 5, b"hidden");
    mapping.set_size(PAGE + 8);
    assert_eq!(read(&mapping, PAGE, 10), Ok(vec![1, 1, 1, 0, 0, 0, 0, 0]));
    disk.bytes.lock().unwrap().truncate(PAGE_SIZE + 3);
    mapping.write_back(0..u64::MAX).unwrap();
    assert_eq!(
        disk.bytes.lock().unwrap()[PAGE_SIZE..],
        [1, 1, 1, 0, 0, 0, 0, 0]
    );
    mapping.set_size(3 * PAGE);
    assert_eq!(read(&mapping, PAGE + 7, 9), Ok(vec![0; 9]));
}

#[test]
fn punched_pages_are_not_written_back() {
    let disk = Disk::with(vec![1; 4 * PAGE_SIZE]);
    let mapping = over(&disk);
    for index in 0..4 {
        store(&mapping, index * PAGE, &[2; PAGE_SIZE]);
    }
    disk.bytes.lock().unwrap()[100..3 * PAGE_SIZE + 50].fill(0);
    mapping.punched(100..3 * PAGE + 50);
    mapping.write_back(0..u64::MAX).unwrap();
    for (at, byte) in disk.bytes.lock().unwrap().iter().enumerate() {
        let expected = if (100..3 * PAGE_SIZE + 50).contains(&at) {
            0
        } else {
            2
        };
        assert_eq!(*byte, expected, "at {at}");
    }
    assert_eq!(read(&mapping, 3 * PAGE + 48, 4), Ok(vec![0, 0, 2, 2]));
}

#[test]
fn a_change_at_the_backing_shows_but_stores_stay() {
    let disk = Disk::with(vec![1; 3 * PAGE_SIZE]);
    let mapping = over(&disk);
    read(&mapping, 0, 3 * PAGE_SIZE).unwrap();
    store(&mapping, PAGE, b"mine");
    disk.bytes.lock().unwrap().fill(7);
    mapping.invalidate(0..u64::MAX);
    assert_eq!(read(&mapping, 0, 2), Ok(vec![7, 7]));
    assert_eq!(read(&mapping, PAGE, 5), Ok(b"mine\x01".to_vec()));
}

#[test]
fn shrinking_takes_clean_pages_nobody_uses() {
    let (_group, queues) = queues();
    let disk = Disk::with(vec![1; 10 * PAGE_SIZE]);
    let mapping = over(&disk);
    read(&mapping, 0, 10 * PAGE_SIZE).unwrap();
    let held = mapping.page(3, false).unwrap();
    store(&mapping, 5 * PAGE, b"dirty");
    assert_eq!(queues.reclaim(100), 8);
    assert_eq!(mapping.page(3, false).unwrap().phys(), held.phys());
    assert_eq!(read(&mapping, 5 * PAGE, 5).unwrap(), b"dirty");
    assert!(!mapping.evict(5), "a dirty page went");
    assert!(mapping.evict(3));
    assert_ne!(mapping.page(3, false).unwrap().phys(), held.phys());
    assert_eq!(read(&mapping, 9 * PAGE, 2), Ok(vec![1, 1]));
}

#[test]
fn many_readers_of_one_page_read_it_once() {
    let disk = Disk::with(vec![3; 64 * PAGE_SIZE]);
    let mapping = over(&disk);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for index in 0..64 {
                    assert_eq!(read(&mapping, index * PAGE, 1), Ok(vec![3]));
                }
            });
        }
    });
    let pages: usize = disk.reads.lock().unwrap().iter().map(|read| read.1).sum();
    assert_eq!(pages, 64);
}

#[test]
fn a_write_behind_the_cache_shows_in_it() {
    let disk = Disk::with(vec![1; 2 * PAGE_SIZE]);
    let mapping = over(&disk);
    let seen = mapping.page(0, false).unwrap();
    let first = Frame::alloc_zeroed().unwrap();
    first.fill(100, PAGE_SIZE - 100, 8);
    let second = Frame::alloc_zeroed().unwrap();
    second.fill(0, PAGE_SIZE, 8);
    let guard = mapping.lock_writes();
    mapping.wrote_through(100, &[first, second], 2 * PAGE_SIZE - 100, &guard);
    drop(guard);
    let mut bytes = [0; 2];
    seen.read(99, &mut bytes);
    assert_eq!(bytes, [1, 8]);
    let reads = disk.reads.lock().unwrap().len();
    assert_eq!(read(&mapping, 2 * PAGE - 1, 9), Ok(vec![8]));
    assert_eq!(
        disk.reads.lock().unwrap().len(),
        reads,
        "a page that was written whole"
    );
}

#[derive(Default)]
struct Limit(Mutex<u64>);

impl Quota for Limit {
    fn take_page(&self) -> Result<()> {
        let mut used = self.0.lock().unwrap();
        if *used == 4 {
            return Err(Errno::ENOSPC);
        }
        *used += 1;
        Ok(())
    }

    fn give_pages(&self, count: u64) {
        *self.0.lock().unwrap() -= count;
    }
}

fn write(mapping: &Mapping, offset: u64, bytes: &[u8]) -> Result<usize> {
    mapping.write(offset, &mut IoReader::kernel(bytes))
}

#[test]
fn holes_read_as_zeroes_and_writes_grow() {
    let mapping = Mapping::in_memory(None, 0).unwrap();
    assert_eq!(write(&mapping, PAGE * 2 - 1, b"abc"), Ok(3));
    assert_eq!(mapping.size_bytes(), PAGE * 2 + 2);
    assert_eq!(mapping.pages_cached(), 2);
    assert_eq!(read(&mapping, PAGE * 2 - 3, 10).unwrap(), b"\0\0abc");
    assert_eq!(read(&mapping, 5, 3).unwrap(), [0; 3]);
    assert_eq!(read(&mapping, PAGE * 3, 3).unwrap(), b"");
    assert_eq!(mapping.find_from(0, true), PAGE);
    assert_eq!(mapping.find_from(PAGE + 3, false), 3 * PAGE);
    assert_eq!(write(&mapping, MOST_BYTES, b"x"), Err(Errno::EFBIG));
}

#[test]
fn memory_that_was_cut_off_is_zero_when_it_comes_back() {
    let mapping = Mapping::in_memory(None, 0).unwrap();
    write(&mapping, 0, &[7; 3 * PAGE_SIZE]).unwrap();
    mapping.truncate(PAGE + 10).unwrap();
    assert_eq!(mapping.pages_cached(), 2);
    store(&mapping, PAGE + 20, b"hidden");
    write(&mapping, 3 * PAGE - 1, b"x").unwrap();
    let bytes = read(&mapping, 0, 3 * PAGE_SIZE).unwrap();
    let kept = PAGE_SIZE + 10;
    assert!(bytes[..kept].iter().all(|&byte| byte == 7));
    assert!(bytes[kept..3 * PAGE_SIZE - 1].iter().all(|&byte| byte == 0));
}

#[test]
fn a_hole_reaches_into_partial_pages() {
    let mapping = Mapping::in_memory(None, 0).unwrap();
    write(&mapping, 0, &[7; 4 * PAGE_SIZE]).unwrap();
    let hole = 100..3 * PAGE + 50;
    mapping.punch_hole(hole.clone()).unwrap();
    assert_eq!(mapping.pages_cached(), 2);
    for (at, byte) in read(&mapping, 0, 4 * PAGE_SIZE)
        .unwrap()
        .into_iter()
        .enumerate()
    {
        let expected = if hole.contains(&(at as u64)) { 0 } else { 7 };
        assert_eq!(byte, expected, "at {at}");
    }
    mapping.punch_hole(10..20).unwrap();
    let expected = [7, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 7];
    assert_eq!(read(&mapping, 8, 14).unwrap(), expected);
}

#[test]
fn pages_count_against_the_quota_until_they_go() {
    let limit = Arc::new(Limit::default());
    let used = || *limit.0.lock().unwrap();
    let mapping = Mapping::in_memory(Some(limit.clone()), 0).unwrap();
    assert_eq!(write(&mapping, 0, &[1; 2 * PAGE_SIZE]), Ok(2 * PAGE_SIZE));
    assert_eq!(mapping.reserve(2..5), Err(Errno::ENOSPC));
    assert_eq!(used(), 2);
    assert_eq!(
        write(&mapping, 2 * PAGE, &[1; 3 * PAGE_SIZE]),
        Ok(2 * PAGE_SIZE)
    );
    mapping.truncate(PAGE).unwrap();
    assert_eq!(used(), 1);
    drop(mapping);
    assert_eq!(used(), 0);
}

#[test]
fn a_sealed_mapping_refuses_stores() {
    use crate::space::Prot;
    let mapping = Mapping::in_memory(None, PAGE).unwrap();
    let source: Arc<dyn PageSource> = mapping.clone();
    let writable = crate::rmap::WritableMapping::new(&source).unwrap();
    assert_eq!(mapping.deny_stores(), Err(Errno::EBUSY));
    mapping.deny_new_stores();
    assert_eq!(mapping.map_rights(true, Prot::WRITE), Err(Errno::EPERM));
    assert_eq!(mapping.map_rights(false, Prot::WRITE), Ok(Prot::all()));
    let other = writable.clone();
    drop(writable);
    assert_eq!(mapping.deny_stores(), Err(Errno::EBUSY));
    drop(other);
    assert_eq!(mapping.deny_stores(), Ok(()));
    assert_eq!(mapping.deny_stores(), Ok(()));
    assert!(crate::rmap::WritableMapping::new(&source).is_err());
}

#[test]
fn mapped_pages_go_when_memory_is_short_and_come_back_when_touched() {
    use crate::space::{AddressSpace, MapRequest, Prot};
    let (_group, queues) = queues();
    let disk = Disk::with(
        (0..8 * PAGE_SIZE)
            .map(|at| (at / PAGE_SIZE) as u8)
            .collect(),
    );
    let mapping = over(&disk);
    let space = AddressSpace::new(false).unwrap();
    let base = space
        .map(MapRequest::file(
            mapping.clone(),
            0,
            8 * PAGE,
            Prot::READ | Prot::WRITE,
        ))
        .unwrap();
    let byte = |page: u64| {
        let mut byte = [0xee];
        let at = machine::UserAddr(base.0 + page * PAGE);
        assert_eq!(space.read_at(at, &mut byte, false), 1);
        byte[0]
    };
    let before = space.resident();
    assert_eq!(
        (0..8).map(byte).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5, 6, 7]
    );
    assert_eq!(space.resident(), before + 8);
    store(&mapping, 3 * PAGE, b"x");
    // The page that was stored to stays.
    let freed = queues.reclaim(8);
    assert_eq!((freed, mapping.pages_cached()), (7, 1));
    assert_eq!(space.resident(), before + 1);
    let reads = disk.reads.lock().unwrap().len();
    assert_eq!((byte(3), byte(5)), (b'x', 5));
    assert!(disk.reads.lock().unwrap().len() > reads);
    // Locked memory stays where it is.
    let shown = MapRequest::file(mapping.clone(), 0, 8 * PAGE, Prot::READ);
    let base = space.map(shown).unwrap();
    space.lock(base, 8 * PAGE, true, false).unwrap();
    assert_eq!(queues.reclaim(8), 0);
}

#[test]
fn pages_at_hand_are_those_of_one_look_each() {
    let file = Mapping::in_memory(None, 6 * PAGE).unwrap();
    for index in [1, 2, 4] {
        file.write(index * PAGE, &mut IoReader::kernel(b"some"))
            .unwrap();
    }
    let mine = Frame::alloc_zeroed().unwrap();
    let mut frames = [const { None }; 8];
    frames[1] = Some(mine.clone());
    PageSource::pages_at_hand(&*file, 0, &mut frames);
    for (index, frame) in (0..).zip(&frames) {
        let expected = match index {
            1 => Some(mine.phys()),
            _ => file.page_at_hand(index, false).map(|frame| frame.phys()),
        };
        assert_eq!(frame.as_ref().map(Frame::phys), expected, "page {index}");
    }
    assert_eq!(frames.iter().flatten().count(), 3);
}
