//! Where two CPUs meet, in all orders that the memory model allows (`loom`): a grace period of RCU against readers
//! that come and go idle, the word of a sleeping lock against those who wait for it, and faults that fill a page table.
//!
//! The files under test are compiled in here, with loom's atomics in place of the machine's.
#![allow(
    unsafe_code,
    reason = "the lock's file is compiled in here; cells that loom watches are shared"
)]

/// What the files under test find beside them.
mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

#[path = "../src/rcu/epochs.rs"]
mod epochs;
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "not all of it is tried here"
)]
#[path = "../src/sync/lock_cell.rs"]
mod lock_cell;
#[allow(
    dead_code,
    clippy::cast_possible_truncation,
    reason = "not all of it is tried here; indices are below 512"
)]
#[path = "../src/page_table/usage.rs"]
mod usage;

use atomic::{AtomicU32, AtomicU64, Ordering};
use epochs::{Epochs, FIRST, IDLE, Seen};
use lock_cell::LockCell;
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Notify};
use loom::thread;

/// Memory that loom watches: an access beside one that changes it fails the test.
struct Watched(UnsafeCell<u32>);

// SAFETY: loom itself reports accesses that race; no reference into the cell is made.
unsafe impl Sync for Watched {}

impl Watched {
    fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    fn look(&self) {
        self.0.with(|_| ());
    }

    fn change(&self) {
        self.0.with_mut(|_| ());
    }
}

struct Shared {
    epochs: Epochs<1>,
    current: AtomicU64,
    slots: [Watched; 2],
}

impl Shared {
    fn read(&self) {
        let at = self.current.load(Ordering::Acquire);
        self.slots[usize::from(at > 0)].look();
    }
}

#[test]
fn what_a_reader_is_at_is_not_reused_before_its_cpu_passes_or_idles() {
    loom::model(|| {
        let shared = Arc::new(Shared {
            epochs: Epochs::from_parts(AtomicU64::new(FIRST), [Seen(AtomicU64::new(IDLE))]),
            current: AtomicU64::new(0),
            slots: [Watched::new(), Watched::new()],
        });
        let reader = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.epochs.leave_idle(0);
                shared.read();
                shared.epochs.pass(0);
                shared.read();
                shared.epochs.enter_idle(0);
                shared.epochs.leave_idle(0);
                shared.read();
                shared.epochs.enter_idle(0);
            })
        };
        shared.slots[1].change();
        shared.current.swap(1, Ordering::SeqCst);
        let epoch = shared.epochs.advance();
        if !shared.epochs.is_late(0, epoch) {
            shared.slots[0].change();
        }
        reader.join().unwrap();
    });
}

/// Takes the lock as `sched::lock` does, changes the value and lets go.
fn hold_once(cell: &LockCell<Watched>, freed: &Notify) {
    let hold = loop {
        if let Some(hold) = cell.try_write(false) {
            break hold;
        }
        cell.set_waited_for();
        if let Some(hold) = cell.try_write(false) {
            cell.clear_waited_for();
            break hold;
        }
        freed.wait();
    };
    hold.change();
    if hold.release() {
        freed.notify();
    }
}

#[test]
fn whoever_finds_a_lock_taken_is_told_when_it_is_free() {
    loom::model(|| {
        let cell = Arc::new(LockCell::from_parts(AtomicU32::new(0), Watched::new()));
        let freed = Arc::new(Notify::new());
        let other = {
            let (cell, freed) = (cell.clone(), freed.clone());
            thread::spawn(move || hold_once(&cell, &freed))
        };
        hold_once(&cell, &freed);
        other.join().unwrap();
    });
}

#[test]
fn readers_and_a_writer_keep_each_other_out() {
    loom::model(|| {
        let cell = Arc::new(LockCell::from_parts(AtomicU32::new(0), Watched::new()));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let cell = cell.clone();
                thread::spawn(move || {
                    if let Some(hold) = cell.try_read(false) {
                        hold.look();
                    }
                })
            })
            .collect();
        if let Some(hold) = cell.try_write(false) {
            hold.change();
        }
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn faults_at_one_table_set_each_entry_once_and_count_all() {
    loom::model(|| {
        let word = Arc::new(AtomicU32::new(0));
        let entries = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let fault = |word: &AtomicU32, entries: &[AtomicU64; 2], at: usize, value: u64| {
            let mut usage = usage::lock(word, thread::yield_now);
            let is_free = entries[at].load(Ordering::Relaxed) == 0;
            if is_free {
                entries[at].store(value, Ordering::Release);
                usage.add(at);
            }
            usage.store(word);
            is_free
        };
        let other = {
            let (word, entries) = (word.clone(), entries.clone());
            thread::spawn(move || fault(&word, &entries, 0, 1) || fault(&word, &entries, 1, 1))
        };
        let first = fault(&word, &entries, 0, 2);
        let second = fault(&word, &entries, 1, 2);
        let others = other.join().unwrap();
        assert!(first || others);
        assert!(second || entries[1].load(Ordering::Relaxed) == 1);
        let usage = usage::Usage::of(&word);
        assert_eq!((usage.count(), usage.indices()), (2, 0..2));
    });
}
