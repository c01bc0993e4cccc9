//! Disks that the tests play.

use std::sync::Mutex;
use std::vec::Vec as StdVec;

use machine::virtio::fake;
use memory::io::{IoReader, IoWriter};
use sched::WaitQueue;

use super::queue::Erase;
use super::*;
use crate::file_ops::{Io, Seek};

/// What a disk holds, and what it was asked: kind and sector of each request.
#[derive(Default)]
struct Medium {
    bytes: StdVec<u8>,
    asked: StdVec<(u32, u64)>,
    /// Answers this status to everything.
    fails: Option<u8>,
}

impl Medium {
    fn answer(&mut self, request: &[u8], room: usize) -> StdVec<u8> {
        let word = |at: usize| u64::from_le_bytes(request[at..at + 8].try_into().unwrap());
        let (kind, sector) = (u32::try_from(word(0)).unwrap(), word(8));
        self.asked.push((kind, sector));
        let at = usize::try_from(sector * 512).unwrap();
        let mut answer = vec![0; room - 1];
        match kind {
            0 => answer.copy_from_slice(&self.bytes[at..at + room - 1]),
            1 => self.bytes[at..at + request.len() - 16].copy_from_slice(&request[16..]),
            11 | 13 => {
                let [from, count] = [16, 24].map(|at| usize::try_from(word(at)).unwrap() * 512);
                self.bytes[from..from + count].fill(0);
            }
            _ => {}
        }
        answer.push(self.fails.unwrap_or(0));
        answer
    }
}

type Shared = Arc<Mutex<Medium>>;

fn limits(sectors: u64) -> Limits {
    Limits::for_tests(sectors)
}

/// A disk of so many bytes, each its place's remainder by 251.
fn disk(bytes: u64, change: impl FnOnce(&mut Limits)) -> (Arc<Disk>, Shared) {
    let medium = Shared::default();
    medium.lock().unwrap().bytes = (0..bytes).map(|at| (at % 251) as u8).collect();
    let played = medium.clone();
    let handler = move |device: &fake::FakeDevice, pending: fake::Pending| {
        let answer = played
            .lock()
            .unwrap()
            .answer(&pending.request(), pending.room());
        device.answer(pending, &answer);
    };
    let (requests, device) = fake::queue(16, Box::new(handler));
    let activity = Arc::new(WaitQueue::new());
    let woken = activity.clone();
    device.set_events(Arc::new(move || woken.wake_all()));
    let mut limits = limits(bytes / 512);
    change(&mut limits);
    let queue = BlockQueue::new(requests, activity, limits).unwrap();
    (Arc::new(Disk::new(0, Arc::new(queue)).unwrap()), medium)
}

fn opened(disk: &Arc<Disk>) -> Arc<dyn FileOps> {
    file::open(disk.clone(), OpenFlags::RDWR, &Credentials::root()).unwrap()
}

fn io(offset: u64, direct: bool) -> Io {
    Io {
        offset,
        direct,
        ..Io::default()
    }
}

fn read(file: &Arc<dyn FileOps>, offset: u64, len: usize, direct: bool) -> Result<StdVec<u8>> {
    let mut bytes = vec![0; len];
    let count = file.read(&mut IoWriter::kernel(&mut bytes), &io(offset, direct))?;
    bytes.truncate(count);
    Ok(bytes)
}

fn write(file: &Arc<dyn FileOps>, offset: u64, bytes: &[u8], direct: bool) -> Result<usize> {
    file.write(&mut IoReader::kernel(bytes), &mut io(offset, direct))
}

#[test]
fn what_is_read_and_written_is_what_the_disk_has() {
    // The last page is not whole.
    let size = 10 * 4096 + 1536;
    let (disk, medium) = disk(size, |_| ());
    let file = opened(&disk);
    let whole = medium.lock().unwrap().bytes.clone();
    assert_eq!(read(&file, 0, 1 << 20, false), Ok(whole.clone()));
    assert_eq!(read(&file, 4090, 10, false), Ok(whole[4090..4100].to_vec()));
    assert_eq!(read(&file, size, 10, false), Ok(StdVec::new()));
    // Parts of sectors, across pages, at the start and at the end.
    let mut expected = whole;
    for (offset, len) in [
        (0, 1),
        (510, 4),
        (4000, 9000),
        (size - 3, 3),
        (8192, 4096),
        (512, 512),
    ] {
        let bytes = vec![u8::try_from(offset % 256).unwrap() ^ 0x5a; len];
        assert_eq!(write(&file, offset, &bytes, false), Ok(len));
        let at = usize::try_from(offset).unwrap();
        expected[at..at + len].copy_from_slice(&bytes);
        assert_eq!(medium.lock().unwrap().bytes, expected, "{offset}");
        assert_eq!(read(&file, 0, 1 << 20, false), Ok(expected.clone()));
    }
    assert_eq!(
        write(&file, size - 2, b"1234", false),
        Ok(2),
        "as much as there is room for"
    );
    assert_eq!(write(&file, size, b"1", false), Err(Errno::ENOSPC));
    assert_eq!(write(&file, size, b"", false), Ok(0));
}

#[test]
fn direct_access_takes_whole_blocks() {
    let (disk, medium) = disk(64 * 4096, |limits| limits.block = 1024);
    let file = opened(&disk);
    assert_eq!(read(&file, 512, 1024, true), Err(Errno::EINVAL));
    assert_eq!(read(&file, 1024, 100, true), Err(Errno::EINVAL));
    assert_eq!(write(&file, 0, &[1; 512], true), Err(Errno::EINVAL));
    let whole = medium.lock().unwrap().bytes.clone();
    assert_eq!(
        read(&file, 1024, 60 * 4096, true),
        Ok(whole[1024..1024 + 60 * 4096].to_vec())
    );
    medium.lock().unwrap().asked.clear();
    assert_eq!(write(&file, 3072, &[7; 2048], true), Ok(2048));
    assert_eq!(medium.lock().unwrap().asked, [(1, 6)]);
    assert_eq!(read(&file, 3072, 2048, false), Ok(vec![7; 2048]));
    // A block is the least that is written, of whatever size it is.
    medium.lock().unwrap().asked.clear();
    assert_eq!(write(&file, 5000, b"x", false), Ok(1));
    let asked = medium.lock().unwrap().asked.clone();
    assert_eq!(asked.last(), Some(&(1, 8)));
    assert_eq!(medium.lock().unwrap().bytes[5000], b'x');
    assert_eq!(medium.lock().unwrap().bytes[4096..5000], [7; 904]);
}

#[test]
fn a_read_only_disk_is_not_asked_to_write() {
    let (disk, medium) = disk(8192, |limits| limits.is_read_only = true);
    let file = opened(&disk);
    assert_eq!(write(&file, 0, b"1", false), Err(Errno::EPERM));
    assert_eq!(read(&file, 0, 1, false), Ok(vec![0]));
    assert!(
        medium
            .lock()
            .unwrap()
            .asked
            .iter()
            .all(|(kind, _)| *kind == 0)
    );
}

#[test]
fn what_the_disk_refuses_is_told() {
    let (disk, medium) = disk(1 << 20, |_| ());
    let file = opened(&disk);
    for (status, errno) in [(1, Errno::EIO), (2, Errno::EOPNOTSUPP), (77, Errno::EIO)] {
        medium.lock().unwrap().fails = Some(status);
        assert_eq!(write(&file, 0, &[1; 512], false), Err(errno));
        assert_eq!(read(&file, 0x8000, 1, false), Err(errno));
        assert_eq!(file.sync(false), Err(errno));
    }
    medium.lock().unwrap().fails = None;
    assert_eq!(file.sync(false), Ok(()));
    assert_eq!(medium.lock().unwrap().asked.last(), Some(&(4, 0)));
}

#[test]
fn seeks_end_with_the_disk() {
    let (disk, _) = disk(8192, |_| ());
    let file = opened(&disk);
    assert_eq!(file.seek(0, Seek::End(0)), Ok(8192));
    assert_eq!(file.seek(0, Seek::End(-512)), Ok(7680));
    assert_eq!(file.seek(0, Seek::Set(8193)), Err(Errno::EINVAL));
    assert_eq!(file.seek(5, Seek::Hole(0)), Ok(8192));
}

#[test]
fn a_range_is_erased_in_as_many_requests_as_it_takes() {
    let (disk, medium) = disk(16 * 4096, |limits| limits.set_erase(8, 0));
    let file = opened(&disk);
    assert_eq!(read(&file, 0, 1 << 20, false).unwrap().len(), 16 * 4096);
    medium.lock().unwrap().asked.clear();
    assert_eq!(disk.queue.erase(Erase::Discard, 4096, 10240), Ok(()));
    assert_eq!(medium.lock().unwrap().asked, [(11, 0); 3]);
    assert_eq!(medium.lock().unwrap().bytes[4096..14336], [0; 10240]);
    let unknown = disk.queue.erase(Erase::Zero, 0, 512);
    assert_eq!(unknown, Err(Errno::EOPNOTSUPP));
}
