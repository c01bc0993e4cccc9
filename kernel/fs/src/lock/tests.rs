//! Waiting, deadlocks and the time that many locks take.

use alloc::sync::Arc;
use std::thread;
use std::time::Duration;

use super::*;

fn exclusive(table: u64, start: u64, end: u64) -> FileLock {
    FileLock {
        kind: LockKind::Exclusive,
        owner: LockOwner::Table(table),
        start,
        end,
        pid: 1,
    }
}

const RECORD: LockFamily = LockFamily::Record;

fn wait_for_waiter(locks: &InodeLocks) {
    for _ in 0..10_000 {
        if locks.with(RECORD, |family| family.is_waited_for()) == Some(true) {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("nobody waits");
}

#[test]
fn a_released_lock_goes_to_the_first_who_waits() {
    let locks = Arc::new(InodeLocks::new());
    locks.acquire(RECORD, &exclusive(1, 0, 10), false).unwrap();
    let waiter = {
        let locks = locks.clone();
        thread::spawn(move || locks.acquire(RECORD, &exclusive(2, 5, 6), true))
    };
    wait_for_waiter(&locks);
    locks.release(RECORD, &exclusive(1, 0, 5)).unwrap();
    let still = locks.conflict(RECORD, &exclusive(3, 5, 6)).unwrap();
    assert_eq!(still.owner, LockOwner::Table(1));
    locks.release(RECORD, &exclusive(1, 5, 10)).unwrap();
    assert_eq!(waiter.join().unwrap(), Ok(()));
    let held = locks.conflict(RECORD, &exclusive(3, 5, 6)).unwrap();
    assert_eq!(held.owner, LockOwner::Table(2));
    locks.release(RECORD, &exclusive(2, 0, u64::MAX)).unwrap();
    assert!(locks.families.lock().is_none());
}

#[test]
fn waiting_in_a_circle_is_refused() {
    let locks = Arc::new(InodeLocks::new());
    locks.acquire(RECORD, &exclusive(11, 0, 1), false).unwrap();
    locks.acquire(RECORD, &exclusive(12, 1, 2), false).unwrap();
    let waiter = {
        let locks = locks.clone();
        thread::spawn(move || locks.acquire(RECORD, &exclusive(11, 1, 2), true))
    };
    wait_for_waiter(&locks);
    thread::sleep(Duration::from_millis(20));
    assert_eq!(
        locks.acquire(RECORD, &exclusive(12, 0, 1), true),
        Err(Errno::EDEADLK)
    );
    locks.release(RECORD, &exclusive(12, 1, 2)).unwrap();
    assert_eq!(waiter.join().unwrap(), Ok(()));
}

#[test]
fn who_was_let_in_waits_for_nobody() {
    let locks = InodeLocks::new();
    let (first, second) = (exclusive(21, 0, 1), exclusive(22, 0, 1));
    locks.acquire(RECORD, &first, false).unwrap();
    let waiter = Waiter::new(&second, &first).unwrap();
    let added = locks.with(RECORD, |family| family.add(&waiter));
    assert_eq!(added, Some(Ok(())));
    let _waits = Blocked::enter(&waiter).unwrap();
    locks.release(RECORD, &first).unwrap();
    // Its thread has not run since.
    assert_eq!(waiter.result(), Some(Ok(())));
    let other = Waiter::new(&first, &second).unwrap();
    assert!(Blocked::enter(&other).is_ok());
}

#[test]
fn a_lock_of_many_costs_as_much_as_one_of_few() {
    const COUNT: u64 = 20_000;
    let locks = InodeLocks::new();
    let start = std::time::Instant::now();
    for at in 0..COUNT {
        let lock = exclusive(1, at * 2, at * 2 + 1);
        assert_eq!(locks.try_set(RECORD, &lock), Ok(None));
    }
    assert!(
        locks
            .conflict(RECORD, &exclusive(2, COUNT, COUNT + 1))
            .is_some()
    );
    locks.release(RECORD, &exclusive(1, 0, u64::MAX)).unwrap();
    // A list of all locks takes minutes.
    assert!(start.elapsed() < Duration::from_secs(20));
}
