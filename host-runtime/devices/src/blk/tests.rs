//! A disk against its file, requests that are cut in odd ways, and those that are none.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::sync::{Arc, Mutex};

use super::*;
use crate::VirtioDevice;
use crate::testing::{BUFFERS, Driver, SharedMemory, WRITE};

const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;
/// The parts of a request, in guest memory.
const HEADER: u64 = BUFFERS;
const DATA: u64 = BUFFERS + 0x1000;
const STATUS: u64 = BUFFERS + 0x9000;

type Disks = Arc<Mutex<Blk<SharedMemory>>>;

/// A file without a name, of 64 sectors that each begin with their number.
fn file() -> File {
    let mut options = std::fs::OpenOptions::new();
    let unnamed = rustix::fs::OFlags::TMPFILE.bits().cast_signed();
    options.read(true).write(true).custom_flags(unnamed);
    let file = options.open(std::env::temp_dir()).expect("room");
    for sector in 0..64u64 {
        file.write_all_at(&[sector.to_le_bytes()[0]; 512], sector * 512)
            .expect("room");
    }
    file
}

fn device(file: &File) -> Disks {
    let file = file.try_clone().expect("a descriptor");
    let disk = Disk::new(file, "nacre-disk0".to_owned()).expect("a file");
    Arc::new(Mutex::new(Blk::new(disk)))
}

/// The same file, only to be read.
fn read_only(file: &File) -> File {
    use std::os::fd::AsRawFd;
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("it is there")
}

struct Guest {
    driver: Driver,
    device: Disks,
}

impl Guest {
    /// A driver that accepts all features but `without`.
    fn with(device: Disks, without: u64) -> Self {
        let features = device.lock().expect("not poisoned").features() & !without;
        let driver = Driver::new(device.clone());
        for status in [0, 1, 3] {
            driver.write(0x70, status);
        }
        for (half, bits) in [(0, (features & 0xffff_ffff) as u32), (1, 1)] {
            driver.write(0x24, half);
            driver.write(0x20, bits);
        }
        driver.write(0x70, 11);
        driver.set_up_queue(0, 0x1_0000);
        driver.write(0x70, 15);
        assert_eq!(driver.read(0x70), 15);
        Self { driver, device }
    }

    fn new(file: &File) -> Self {
        Self::with(device(file), 0)
    }

    /// Makes a request of these parts; gives what the device says it has written, and the status.
    fn ask(&mut self, kind: u32, sector: u64, data: &[(u64, u32, u16)]) -> (u32, u8) {
        self.prepare(kind, sector, data);
        self.device.lock().expect("not poisoned").kicked(0);
        let [written] = self.driver.used(0)[..] else {
            panic!("one request is used once")
        };
        (written, self.driver.get(STATUS, 1)[0])
    }

    fn prepare(&mut self, kind: u32, sector: u64, data: &[(u64, u32, u16)]) {
        let header = [kind.to_le_bytes(), [0; 4]].concat();
        self.driver
            .put(HEADER, &[header, sector.to_le_bytes().to_vec()].concat());
        self.driver.put(STATUS, &[0xff]);
        let chain = [&[(HEADER, 16, 0)], data, &[(STATUS, 1, WRITE)]].concat();
        self.driver.add(0, &chain);
    }

    fn range(&mut self, kind: u32, sector: u64, count: u32, flags: u32) -> u8 {
        let numbers = [count.to_le_bytes(), flags.to_le_bytes()].concat();
        self.driver
            .put(DATA, &[sector.to_le_bytes().to_vec(), numbers].concat());
        self.ask(kind, 0, &[(DATA, 16, 0)]).1
    }
}

fn at(file: &File, sector: u64) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    file.read_exact_at(&mut bytes, sector * 512)
        .expect("inside");
    bytes
}

#[test]
fn sectors_are_read_and_written() {
    let file = file();
    let mut guest = Guest::new(&file);
    assert_eq!(guest.ask(0, 5, &[(DATA, 1024, WRITE)]), (1025, 0));
    assert_eq!(guest.driver.get(DATA, 1024), [[5; 512], [6; 512]].concat());
    guest.driver.put(DATA, &[0xaa; 512]);
    assert_eq!(guest.ask(1, 63, &[(DATA, 512, 0)]), (1, 0));
    assert_eq!(
        (at(&file, 63), at(&file, 62)),
        (vec![0xaa; 512], vec![62; 512])
    );
    assert_eq!(guest.ask(4, 0, &[]), (1, 0));
    assert_eq!(guest.ask(8, 0, &[(DATA, 20, WRITE)]), (21, 0));
    assert_eq!(guest.driver.get(DATA, 12), b"nacre-disk0\0");
}

#[test]
fn a_request_may_be_cut_anywhere() {
    let mut guest = Guest::new(&file());
    guest.driver.put(HEADER, &[0; 16]);
    guest.driver.put(HEADER + 8, &[7]);
    // A header in two parts; data and status in two others, one of them across both.
    let chain = [
        (HEADER, 3, 0),
        (HEADER + 3, 13, 0),
        (DATA, 100, WRITE),
        (DATA + 0x1000, 413, WRITE),
    ];
    guest.driver.add(0, &chain);
    guest.device.lock().expect("not poisoned").kicked(0);
    assert_eq!(guest.driver.used(0), [513]);
    assert_eq!(guest.driver.get(DATA, 100), [7; 100]);
    assert_eq!(
        guest.driver.get(DATA + 0x1000, 413),
        [vec![7; 412], vec![0]].concat()
    );
}

#[test]
fn what_lies_outside_fails_and_changes_nothing() {
    let file = file();
    let mut guest = Guest::new(&file);
    for (sector, length) in [
        (64, 512),
        (63, 1024),
        (u64::MAX, 512),
        (u64::MAX / 512 + 1, 512),
        (0, 100),
    ] {
        assert_eq!(
            guest.ask(0, sector, &[(DATA, length, WRITE)]),
            (1, IO_ERROR),
            "{sector}"
        );
        assert_eq!(
            guest.ask(1, sector, &[(DATA, length, 0)]),
            (1, IO_ERROR),
            "{sector}"
        );
    }
    assert_eq!(guest.ask(99, 0, &[]), (1, UNSUPPORTED));
    assert_eq!(file.metadata().expect("a file").len(), 64 * 512);
    assert_eq!((at(&file, 0), at(&file, 63)), (vec![0; 512], vec![63; 512]));
    // The host cut the file.
    file.set_len(512).expect("smaller");
    assert_eq!(guest.ask(0, 8, &[(DATA, 512, WRITE)]), (1, IO_ERROR));
}

#[test]
fn a_chain_that_is_no_request_is_given_back() {
    let mut guest = Guest::new(&file());
    let nowhere = 0xffff_0000_0000;
    let chains: [&[(u64, u32, u16)]; 5] = [
        &[(HEADER, 16, 0)],
        &[(nowhere, 16, 0), (STATUS, 1, WRITE)],
        &[(HEADER, 16, 0), (nowhere, 512, WRITE), (STATUS, 1, WRITE)],
        &[(HEADER, 16, 0), (STATUS, 0, WRITE)],
        &[(DATA, u32::MAX, WRITE)],
    ];
    for chain in chains {
        guest.driver.add(0, chain);
        guest.device.lock().expect("not poisoned").kicked(0);
        assert_eq!(guest.driver.used(0), [0], "{chain:x?}");
    }
    guest.driver.put(STATUS, &[0xff]);
    guest.driver.add(0, &[(HEADER, 15, 0), (STATUS, 1, WRITE)]);
    guest.device.lock().expect("not poisoned").kicked(0);
    assert_eq!(
        (guest.driver.used(0), guest.driver.get(STATUS, 1)),
        (vec![1], vec![IO_ERROR])
    );
}

#[test]
fn a_disk_that_is_only_to_be_read_is_not_written() {
    let file = file();
    let device = device(&read_only(&file));
    let features = device.lock().expect("not poisoned").features();
    assert_eq!(features & (F_RO | F_DISCARD | F_WRITE_ZEROES), F_RO);
    // Also by a driver that does not know of it.
    for without in [0, F_RO] {
        let mut guest = Guest::with(device.clone(), without);
        assert_eq!(guest.ask(1, 0, &[(DATA, 512, 0)]), (1, IO_ERROR));
        assert_eq!(guest.range(11, 0, 8, 0), IO_ERROR);
        assert_eq!(guest.range(13, 0, 8, 0), IO_ERROR);
        assert_eq!(guest.ask(0, 9, &[(DATA, 512, WRITE)]), (513, 0));
    }
}

#[test]
fn ranges_become_zero() {
    let file = file();
    let blocks = || file.metadata().expect("a file").blocks();
    let mut guest = Guest::new(&file);
    assert_eq!(guest.range(13, 1, 2, 0), 0);
    assert_eq!([at(&file, 1), at(&file, 2)].concat(), [0; 1024]);
    assert_eq!(at(&file, 3), [3; 512]);
    assert_eq!(guest.range(13, 8, 8, 1), 0);
    assert_eq!((at(&file, 8), at(&file, 16)), (vec![0; 512], vec![16; 512]));
    if guest
        .device
        .lock()
        .expect("not poisoned")
        .disk
        .can_discard()
    {
        let before = blocks();
        assert_eq!(guest.range(11, 32, 16, 0), 0);
        assert!(blocks() < before, "its space came back");
        assert_eq!(
            (at(&file, 40), at(&file, 48)),
            (vec![0; 512], vec![48; 512])
        );
        assert_eq!(guest.range(11, 32, 16, 1), UNSUPPORTED);
    }
    assert_eq!(file.metadata().expect("a file").len(), 64 * 512);
    assert_eq!(guest.range(13, 60, 8, 0), IO_ERROR);
    assert_eq!(guest.range(13, 0, MOST_SECTORS + 1, 0), IO_ERROR);
    assert_eq!(guest.range(13, 0, 0, 0), IO_ERROR);
    assert_eq!(guest.range(13, 0, 1, 2), UNSUPPORTED);
    assert_eq!(guest.ask(13, 0, &[(DATA, 32, 0)]).1, IO_ERROR);
}

#[test]
fn what_was_not_accepted_is_not_done() {
    let mut guest = Guest::with(device(&file()), F_FLUSH | F_DISCARD | F_WRITE_ZEROES);
    assert_eq!(guest.ask(4, 0, &[]), (1, UNSUPPORTED));
    assert_eq!(guest.range(11, 0, 8, 0), UNSUPPORTED);
    assert_eq!(guest.range(13, 0, 8, 0), UNSUPPORTED);
    assert_eq!(guest.ask(1, 0, &[(DATA, 512, 0)]), (1, 0));
}

#[test]
fn a_disk_is_saved_with_a_request_in_its_queue() {
    let file = file();
    let mut guest = Guest::new(&file);
    guest.driver.put(DATA, &[0xbb; 512]);
    guest.prepare(1, 4, &[(DATA, 512, 0)]);
    let next = device(&file);
    let mut driver = guest.driver.go_on_with(next);
    assert_eq!((driver.used(0), driver.get(STATUS, 1)), (vec![1], vec![0]));
    assert_eq!(at(&file, 4), [0xbb; 512]);
    let saved = driver.bus.save().expect("it can be saved");
    let refused = |file: &File| {
        let other = Driver::new(device(file));
        other
            .bus
            .restore(&saved)
            .expect_err("it does not fit")
            .to_string()
    };
    assert!(
        refused(&read_only(&file)).contains("features"),
        "it could be written to"
    );
    file.set_len(32 * 512).expect("smaller");
    assert!(refused(&file).contains("its disk has 64 sectors, and this one 32"));
}
