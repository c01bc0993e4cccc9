//! The table with real threads, and the encoding of FUTEX_WAKE_OP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::table::{self, Key, Look};
use super::{ANY, WakeOp};
use abi::Errno;

fn waiting_for(word: &AtomicU32, expected: u32) -> abi::Result<Look> {
    if word.load(Ordering::SeqCst) == expected {
        Ok(Look::Wait)
    } else {
        Err(Errno::EAGAIN)
    }
}

fn start_waiter(key: Key, bitset: u32) -> std::thread::JoinHandle<abi::Result<()>> {
    std::thread::spawn(move || table::wait(key, bitset, None, || Ok(Look::Wait), || Ok(())))
}

fn wake_eventually(key: Key, count: usize, bitset: u32) {
    let end = Instant::now() + Duration::from_secs(10);
    let mut left = count;
    while left > 0 {
        left -= table::wake(key, left, bitset);
        assert!(Instant::now() < end, "no waiter came");
        std::thread::yield_now();
    }
}

#[test]
fn a_changed_word_is_not_waited_for() {
    let word = AtomicU32::new(1);
    let key = Key::Private(1, 0x1000);
    let result = table::wait(key, ANY, None, || waiting_for(&word, 0), || Ok(()));
    assert_eq!(result, Err(Errno::EAGAIN));
    assert_eq!(table::wake(key, 1, ANY), 0);
}

#[test]
fn waking_counts_and_keeps_keys_apart() {
    let (here, there) = (Key::Private(2, 0x2000), Key::Private(3, 0x2000));
    let waiters: Vec<_> = (0..3).map(|_| start_waiter(here, ANY)).collect();
    assert_eq!(table::wake(there, 10, ANY), 0);
    wake_eventually(here, 3, ANY);
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap(), Ok(()));
    }
}

#[test]
fn bitsets_select() {
    let key = Key::Shared(1, 0x3000);
    let waiter = start_waiter(key, 0b10);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(table::wake(key, 1, 0b01), 0);
    wake_eventually(key, 1, 0b11);
    assert_eq!(waiter.join().unwrap(), Ok(()));
}

#[test]
fn a_deadline_ends_the_wait() {
    let key = Key::Private(4, 0x4000);
    let deadline = sched::clock::monotonic_ns() + 10_000_000;
    let result = table::wait(key, ANY, Some(deadline), || Ok(Look::Wait), || Ok(()));
    assert_eq!(result, Err(Errno::ETIMEDOUT));
    assert_eq!(table::wake(key, 1, ANY), 0);
}

#[test]
fn requeued_waiters_are_woken_at_the_new_key() {
    let (from, to) = (Key::Private(5, 0x5000), Key::Private(5, 0x5004));
    let waiters: Vec<_> = (0..4).map(|_| start_waiter(from, ANY)).collect();
    let end = Instant::now() + Duration::from_secs(10);
    let (mut woken, mut moved) = (0, 0);
    while woken + moved < 4 {
        let done = table::requeue(from, to, 1 - woken, 3 - moved, || Ok(Look::Wait)).unwrap();
        let (w, m) = done.unwrap();
        woken += w;
        moved += m;
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
    assert_eq!((woken, moved), (1, 3));
    assert_eq!(table::wake(from, 10, ANY), 0);
    wake_eventually(to, 3, ANY);
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap(), Ok(()));
    }
}

#[test]
fn no_wakeup_is_lost() {
    let word = Arc::new(AtomicU32::new(0));
    let key = Key::Private(6, 0x6000);
    let other = word.clone();
    let waiter = std::thread::spawn(move || {
        for round in 0..2000 {
            while other.load(Ordering::SeqCst) == round {
                let _ = table::wait(key, ANY, None, || waiting_for(&other, round), || Ok(()));
            }
        }
    });
    for round in 0..2000 {
        word.store(round + 1, Ordering::SeqCst);
        table::wake(key, 1, ANY);
    }
    waiter.join().unwrap();
}

#[test]
fn wake_op_decodes_signs_and_shifts() {
    // FUTEX_OP_ADD 1, old > 0
    let op = WakeOp::decode(1 << 28 | 4 << 24 | 1 << 12).unwrap();
    assert_eq!(op.apply(5), 6);
    assert!(op.holds(1) && !op.holds(0) && !op.holds(u32::MAX));
    // FUTEX_OP_OR with shift: 1 << 3
    let shifted = WakeOp::decode((8 | 2) << 28 | 3 << 12).unwrap();
    assert_eq!(shifted.apply(0), 8);
    assert_eq!(WakeOp::decode(7 << 28), Err(Errno::ENOSYS));
    assert_eq!(WakeOp::decode(6 << 24), Err(Errno::ENOSYS));
}
