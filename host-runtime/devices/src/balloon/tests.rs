//! The balloon, with a driver that reports what it should not, too.

use std::io;
use std::sync::{Arc, Mutex};

use vm_memory::GuestAddress;

use super::{Balloon, Discard, REPORTS};
use crate::VirtioDevice as _;
use crate::testing::{BUFFERS, Driver, WRITE};

#[derive(Debug, Clone, Default)]
struct Seen(Arc<Mutex<Vec<(u64, u64)>>>);

impl Discard for Seen {
    fn discard(&self, start: GuestAddress, bytes: u64) -> io::Result<()> {
        self.0.lock().expect("not poisoned").push((start.0, bytes));
        Err(io::ErrorKind::InvalidInput.into())
    }
}

#[test]
fn whole_pages_that_are_reported_are_taken_back() {
    let seen = Seen::default();
    let balloon = Arc::new(Mutex::new(Balloon::new(Box::new(seen.clone()))));
    let mut driver = Driver::ready(balloon.clone());
    let kick = |queue| balloon.lock().expect("not poisoned").kicked(queue);
    driver.add(
        REPORTS,
        &[
            (BUFFERS, 8192, WRITE),
            // Not whole pages, nothing, and what the device may only read.
            (BUFFERS + 8, 4096, WRITE),
            (BUFFERS + 4096, 100, WRITE),
        ],
    );
    driver.add(REPORTS, &[(BUFFERS, 0, WRITE)]);
    driver.add(REPORTS, &[(BUFFERS, 4096, 0)]);
    // Where no memory is: for the machine to refuse.
    driver.add(REPORTS, &[(u64::MAX - 4095, 4096, WRITE)]);
    kick(REPORTS);
    assert_eq!(driver.used(REPORTS), [0, 0, 0, 0]);
    let expected = [(BUFFERS, 8192), (u64::MAX - 4095, 4096)];
    assert_eq!(*seen.0.lock().expect("not poisoned"), expected);

    // Nothing is asked for, and what is offered goes back.
    assert_eq!((driver.read(0x100), driver.read(0x104)), (0, 0));
    driver.add(0, &[(BUFFERS, 4, 0)]);
    kick(0);
    assert_eq!(driver.used(0), [0]);
    assert_eq!(seen.0.lock().expect("not poisoned").len(), 2);
}
