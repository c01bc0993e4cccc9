//! Contention: nothing is lost, and nobody starves.

use super::*;
use crate::thread::{State, ThreadBuilder, ThreadRef};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn spawn(entry: impl FnOnce() + Send + 'static) -> ThreadRef {
    ThreadBuilder::new(b"locker", entry)
        .spawn()
        .expect("a std thread")
}

fn join(threads: &[ThreadRef]) {
    let begun = Instant::now();
    while threads.iter().any(|thread| thread.state() != State::Dead) {
        assert!(begun.elapsed() < Duration::from_secs(60), "a thread hangs");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn nothing_is_lost_between_contenders() {
    let sum = Arc::new(Mutex::new(0_u64));
    let table = Arc::new(RwLock::new((0_u64, 0_u64)));
    let threads: Vec<_> = (0..6)
        .map(|_| {
            let (sum, table) = (sum.clone(), table.clone());
            spawn(move || {
                for round in 0..500 {
                    *sum.lock() += 1;
                    if round % 4 == 0 {
                        let mut both = table.write();
                        both.0 += 1;
                        std::thread::yield_now();
                        both.1 += 1;
                    }
                    let both = table.read();
                    assert_eq!(both.0, both.1);
                }
            })
        })
        .collect();
    join(&threads);
    assert_eq!(*sum.lock(), 3000);
    assert_eq!(table.read().0, 6 * 125);
    assert!(sum.try_lock().is_some() && table.try_write().is_some());
    assert_eq!(sum.waiters.count.load(Ordering::SeqCst), 0);
}

/// Others take the lock again right after they let go of it; the one that came late still gets it.
#[test]
fn who_holds_it_all_the_time_does_not_starve_others() {
    let lock = Arc::new(Mutex::new(()));
    let (stop, turns) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut threads = Vec::new();
    for _ in 0..2 {
        let (lock, stop) = (lock.clone(), stop.clone());
        threads.push(spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let _held = lock.lock();
                std::thread::sleep(Duration::from_micros(200));
            }
        }));
    }
    let (l, t) = (lock.clone(), turns.clone());
    threads.push(spawn(move || {
        for _ in 0..20 {
            drop(l.lock());
            t.fetch_add(1, Ordering::SeqCst);
        }
    }));
    let begun = Instant::now();
    while turns.load(Ordering::SeqCst) < 20 {
        assert!(begun.elapsed() < Duration::from_secs(30), "it starves");
        std::thread::sleep(Duration::from_millis(1));
    }
    stop.store(true, Ordering::SeqCst);
    join(&threads);
}

/// Two readers whose holds overlap for ever do not keep a writer out, and a reader that already holds the
/// lock may take it again while the writer waits.
#[test]
fn readers_do_not_starve_a_writer_and_may_nest() {
    let lock = Arc::new(RwLock::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for _ in 0..3 {
        let (lock, stop) = (lock.clone(), stop.clone());
        threads.push(spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let outer = lock.read();
                std::thread::sleep(Duration::from_micros(300));
                assert_eq!(*outer, *lock.read());
            }
        }));
    }
    let (l, s) = (lock.clone(), stop.clone());
    threads.push(spawn(move || {
        for _ in 0..10 {
            *l.write() += 1;
        }
        s.store(true, Ordering::SeqCst);
    }));
    join(&threads);
    assert_eq!(*lock.read(), 10);
}
