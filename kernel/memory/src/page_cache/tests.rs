//! The cache over a backing that is a byte vector and can be told to fail.

#![expect(clippy::cast_possible_truncation, reason = "test data")]

use super::*;
use std::sync::Mutex;

#[derive(Default)]
struct Disk {
    bytes: Mutex<Vec<u8>>,
    reads: Mutex<Vec<(u64, usize)>>,
    writes: Mutex<Vec<(u64, u64)>>,
    fails: AtomicBool,
}

impl Disk {
    fn with(bytes: Vec<u8>) -> Arc<Disk> {
        Arc::new(Disk {
            bytes: Mutex::new(bytes),
            ..Disk::default()
        })
    }
    fn check(&self) -> Result<()> {
        if self.fails.load(Ordering::Relaxed) {
            Err(Errno::EIO)
        } else {
            Ok(())
        }
    }
}

impl Backing for Disk {
    fn read_pages(&self, first: u64, frames: &[Frame]) -> Result<()> {
        self.check()?;
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
        self.check()?;
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

fn read(cache: &PageCache, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut bytes = alloc::vec![0xee; len];
    let read = cache.read(offset, &mut IoWriter::kernel(&mut bytes))?;
    bytes.truncate(read);
    Ok(bytes)
}

#[test]
fn sequential_reads_ask_the_backing_seldom() {
    let contents: Vec<u8> = (0..200 * PAGE_SIZE + 77).map(|i| (i / 7) as u8).collect();
    let disk = Disk::with(contents.clone());
    let cache = PageCache::new(disk.clone(), contents.len() as u64);
    let mut all = Vec::new();
    loop {
        let part = read(&cache, all.len() as u64, 10_000).unwrap();
        if part.is_empty() {
            break;
        }
        all.extend(part);
    }
    assert!(all == contents, "contents differ");
    assert!(disk.reads.lock().unwrap().len() <= 8, "{:?}", disk.reads);
    let before = disk.reads.lock().unwrap().len();
    assert!(read(&cache, 0, all.len()).unwrap() == contents);
    assert_eq!(
        disk.reads.lock().unwrap().len(),
        before,
        "a cached page was read again"
    );
}

#[test]
fn writes_stay_in_the_cache_until_written_back() {
    let disk = Disk::with(alloc::vec![1; 3 * PAGE_SIZE]);
    let cache = PageCache::new(disk.clone(), 3 * PAGE);
    cache
        .write(PAGE + 5, &mut IoReader::kernel(&[9; 20]))
        .unwrap();
    cache
        .write(3 * PAGE + 100, &mut IoReader::kernel(&[8; 10]))
        .unwrap();
    assert_eq!(cache.size_bytes(), 3 * PAGE + 110);
    assert!(cache.is_dirty());
    assert!(disk.writes.lock().unwrap().is_empty());
    cache.write_back(0..u64::MAX).unwrap();
    assert!(!cache.is_dirty());
    assert_eq!(*disk.writes.lock().unwrap(), [(1, PAGE), (3, 110)]);
    let bytes = disk.bytes.lock().unwrap();
    assert_eq!(
        bytes[PAGE_SIZE + 4..PAGE_SIZE + 26],
        [
            1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 1
        ]
    );
    assert_eq!(bytes[3 * PAGE_SIZE..], [&[0; 100][..], &[8; 10]].concat());
}

#[test]
fn errors_are_reported_and_nothing_is_lost() {
    let disk = Disk::with(alloc::vec![1; PAGE_SIZE]);
    let cache = PageCache::new(disk.clone(), PAGE);
    disk.fails.store(true, Ordering::Relaxed);
    assert_eq!(read(&cache, 0, 10), Err(Errno::EIO));
    disk.fails.store(false, Ordering::Relaxed);
    assert_eq!(read(&cache, 0, 2), Ok(alloc::vec![1, 1]));
    cache.write(0, &mut IoReader::kernel(b"x")).unwrap();
    disk.fails.store(true, Ordering::Relaxed);
    assert_eq!(cache.write_back(0..10), Err(Errno::EIO));
    assert!(cache.is_dirty());
    disk.fails.store(false, Ordering::Relaxed);
    cache.write_back(0..10).unwrap();
    assert_eq!(disk.bytes.lock().unwrap()[0], b'x');
}

#[test]
fn truncation_cuts_the_last_page() {
    let disk = Disk::with(alloc::vec![1; 3 * PAGE_SIZE]);
    let cache = PageCache::new(disk, 3 * PAGE);
    read(&cache, 0, 3 * PAGE_SIZE).unwrap();
    cache.set_size(PAGE + 3);
    assert_eq!(read(&cache, PAGE, 10), Ok(alloc::vec![1; 3]));
    cache.set_size(PAGE + 6);
    assert_eq!(read(&cache, PAGE, 10), Ok(alloc::vec![1, 1, 1, 0, 0, 0]));
    assert!(cache.page(2, false).is_err());
}

#[test]
fn shrinking_takes_clean_pages_nobody_uses() {
    let disk = Disk::with(alloc::vec![1; 10 * PAGE_SIZE]);
    let cache = PageCache::new(disk.clone(), 10 * PAGE);
    read(&cache, 0, 10 * PAGE_SIZE).unwrap();
    let held = cache.page(3, false).unwrap();
    cache
        .write(5 * PAGE, &mut IoReader::kernel(b"dirty"))
        .unwrap();
    assert_eq!(cache.shrink(100), 8);
    assert_eq!(cache.page(3, false).unwrap().phys(), held.phys());
    assert_eq!(read(&cache, 5 * PAGE, 5).unwrap(), b"dirty");
    assert_eq!(read(&cache, 9 * PAGE, 2), Ok(alloc::vec![1, 1]));
}

#[test]
fn many_readers_of_one_page_read_it_once() {
    let disk = Disk::with(alloc::vec![3; 64 * PAGE_SIZE]);
    let cache = PageCache::new(disk.clone(), 64 * PAGE);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for index in 0..64 {
                    assert_eq!(read(&cache, index * PAGE, 1), Ok(alloc::vec![3]));
                }
            });
        }
    });
    let pages: usize = disk.reads.lock().unwrap().iter().map(|read| read.1).sum();
    assert_eq!(pages, 64);
}
