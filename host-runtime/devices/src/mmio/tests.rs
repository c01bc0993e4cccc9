//! The registers as a driver sees them, the right way and the wrong ones.

use std::sync::Mutex;

use super::*;
use crate::VirtioDevice;
use crate::console::{Console, ConsoleLog};
use crate::rng::Rng;
use crate::testing::{BUFFERS, Driver, MMIO_START, SharedMemory, WRITE};
use crate::transport::{STATUS_FEATURES_OK, STATUS_NEEDS_RESET};

fn rng() -> (Arc<Mutex<Rng<SharedMemory>>>, Driver) {
    let rng = Arc::new(Mutex::new(Rng::default()));
    let driver = Driver::new(rng.clone());
    (rng, driver)
}

#[test]
fn a_device_is_discovered() {
    let (_, driver) = rng();
    assert_eq!(driver.read(0), 0x7472_6976);
    assert_eq!(driver.read(4), 2);
    assert_eq!(driver.read(8), 4);
    driver.write(0x14, 1);
    assert_eq!(driver.read(0x10) & 1, 1, "version 1 is offered");
    let mut nothing = [0; 4];
    driver.bus.read(MMIO_START + MMIO_SIZE, &mut nothing);
    assert_eq!(nothing, [0xff; 4]);
}

#[test]
fn features_that_were_not_offered_are_refused() {
    let (_, driver) = rng();
    driver.accept(0);
    assert_eq!(
        driver.read(0x70) & STATUS_FEATURES_OK,
        0,
        "version 1 must be accepted"
    );
    driver.accept(0x8000_0001);
    assert_eq!(driver.read(0x70) & STATUS_FEATURES_OK, 0);
    driver.accept(1);
    assert_ne!(driver.read(0x70) & STATUS_FEATURES_OK, 0);
}

#[test]
fn a_queue_outside_of_memory_asks_for_a_reset() {
    let (rng, driver) = rng();
    driver.accept(1);
    driver.set_up_queue(0, 0xffff_f000_0000);
    driver.write(0x70, 15);
    assert_ne!(driver.read(0x70) & STATUS_NEEDS_RESET, 0);
    assert_ne!(driver.read(0x60), 0);
    rng.lock().expect("not poisoned").kicked(0);
    driver.write(0x70, 0);
    assert_eq!((driver.read(0x70), driver.read(0x60)), (0, 0));
}

#[test]
fn entropy_fills_a_buffer_and_interrupts() {
    let rng = Arc::new(Mutex::new(Rng::default()));
    let mut driver = Driver::ready(rng.clone());
    driver.add(0, &[(BUFFERS, 64, WRITE)]);
    rng.lock().expect("not poisoned").kicked(0);
    assert_eq!(driver.used(0), [64]);
    assert_ne!(driver.get(BUFFERS, 64), [0; 64]);
    assert_eq!(driver.line.read().expect("raised"), 1);
    assert_eq!(driver.read(0x60), 1);
    driver.write(0x64, 1);
    assert_eq!(driver.read(0x60), 0);
}

#[test]
fn bad_buffers_are_given_back_empty() {
    let rng = Arc::new(Mutex::new(Rng::default()));
    let mut driver = Driver::ready(rng.clone());
    driver.add(0, &[(BUFFERS, 64, 0)]);
    driver.add(0, &[(0xffff_ffff_ffff_fff0, 64, WRITE)]);
    driver.add(0, &[(BUFFERS, u32::MAX, WRITE)]);
    rng.lock().expect("not poisoned").kicked(0);
    assert_eq!(driver.used(0), [0, 0, 0]);
}

#[test]
fn the_console_writes_to_the_log() {
    let log = tempfile();
    let console = Console::new(Arc::new(ConsoleLog::new(
        log.try_clone().expect("a descriptor"),
    )));
    let console = Arc::new(Mutex::new(console));
    let mut driver = Driver::ready(console.clone());
    driver.put(BUFFERS, b"hello, world\n");
    driver.add(1, &[(BUFFERS, 7, 0), (BUFFERS + 7, 6, 0)]);
    console.lock().expect("not poisoned").kicked(1);
    assert_eq!(driver.used(1), [0]);
    let mut text = String::new();
    let mut log = log;
    std::io::Seek::rewind(&mut log).expect("a file");
    std::io::Read::read_to_string(&mut log, &mut text).expect("text");
    assert_eq!(text, "hello, world\n");
}

/// A file without a name.
fn tempfile() -> std::fs::File {
    rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC)
        .expect("memory")
        .into()
}
