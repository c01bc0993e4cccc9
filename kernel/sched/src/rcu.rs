//! Read-copy-update for what is read much and changed seldom: descriptor tables, credentials, names, mounts.
//!
//! A reader holds a [`ReadGuard`] and takes no lock; it must not sleep nor call
//! [`cond_resched`](crate::cond_resched) meanwhile (the kernel panics). A writer replaces what is in an [`Rcu`]
//! under a lock of its own choice, if there can be several. What was replaced is dropped once no reader can be at
//! it: at once when no other CPU can be, which is always so when the others are idle, else later, by the thread
//! `rcu`. So a drop may sleep, and whoever replaces holds none of the locks that it takes.
//!
//! When a grace period is over is decided by [`machine::rcu`]; here is what makes that happen: lists of what is
//! retired, a CPU each, the thread that waits and drops, and the prodding of CPUs that are late.
//!
//! Interrupt handlers read at will, but replace nothing.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::Result;
use collections::Vec;
use machine::cpu::MAX_CPUS;
use machine::rcu::{GracePeriod, RcuCell};
use machine::sync::SpinLock;

use crate::lock::Mutex;
use crate::park::Sleep;
use crate::thread::{ThreadBuilder, cond_resched};
use crate::wait_queue::WaitQueue;
use crate::{backend, clock, timer};

pub use machine::rcu::{ReadGuard, Retired};

/// What one CPU may have retired and not yet dropped; who retires more waits.
const MOST_RETIRED: usize = 4096;
/// How long the thread lets things gather before it waits for a grace period.
const GATHER_NS: u64 = 5_000_000;
/// The first and the longest sleep between two looks whether a grace period is over.
const FIRST_NAP_NS: u64 = 50_000;
const LONGEST_NAP_NS: u64 = 2_000_000;

static RETIRED: [List; MAX_CPUS] = [const { List::new() }; MAX_CPUS];
/// Something was retired since the thread last looked.
static IS_WANTED: AtomicBool = AtomicBool::new(false);
static WANTED: WaitQueue = WaitQueue::new();
/// Held by who drops what is retired; the vector goes round, so that lists keep their room.
static DROPPING: Mutex<Vec<Retired>> = Mutex::new(Vec::new());

/// What one CPU retired.
#[repr(align(64))]
struct List(SpinLock<Held>);

struct Held {
    retired: Vec<Retired>,
    /// The thread has been told.
    is_told: bool,
}

impl List {
    const fn new() -> Self {
        Self(SpinLock::new(Held {
            retired: Vec::new(),
            is_told: false,
        }))
    }
}

/// A counted reference (or none) that is read without a lock and replaced at any time.
#[derive(Debug)]
pub struct Rcu<T>(RcuCell<T>);

impl<T: Send + Sync + 'static> Rcu<T> {
    /// One that holds nothing.
    #[must_use]
    pub const fn empty() -> Self {
        Self(RcuCell::empty())
    }

    /// One that holds `value`.
    #[must_use]
    pub fn new(value: Arc<T>) -> Self {
        Self(RcuCell::new(value))
    }

    /// What it holds; it stays as long as the guard and this cell.
    #[inline]
    pub fn get<'g>(&'g self, guard: &'g ReadGuard) -> Option<&'g T> {
        self.0.get(guard)
    }

    /// Calls `look` with what it holds. `look` must not sleep.
    #[inline]
    pub fn read<R>(&self, look: impl FnOnce(Option<&T>) -> R) -> R {
        let guard = ReadGuard::new();
        look(self.0.get(&guard))
    }

    /// A counted reference to what it holds (one locked instruction).
    #[must_use]
    pub fn load(&self) -> Option<Arc<T>> {
        self.0.load(&ReadGuard::new())
    }

    /// Replaces what it holds; the old reference is dropped once no reader can be at it. With no spin lock
    /// held: when memory runs out this waits for that itself.
    pub fn replace(&self, new: Option<Arc<T>>) {
        if let Some(old) = self.0.replace(new) {
            retire(old);
        }
    }

    /// As [`Self::replace`], for a writer that holds a spin lock: what it gives is for [`retire`].
    #[must_use]
    pub fn swap(&self, new: Option<Arc<T>>) -> Option<Retired> {
        self.0.replace(new)
    }

    /// What it holds, when nobody else can look.
    pub fn take(&mut self) -> Option<Arc<T>> {
        self.0.take()
    }
}

impl<T> Default for Rcu<T>
where
    T: Send + Sync + 'static,
{
    fn default() -> Self {
        Self::empty()
    }
}

/// Drops `object` once no reader that has found it can be at it any more. With no spin lock held: when memory
/// runs out this waits for that itself.
pub fn free_later<T: Send + Sync + 'static>(object: Arc<T>) {
    retire(Retired::new(object));
}

/// Waits until every reader of this moment is done.
pub fn synchronize() {
    wait_for(GracePeriod::begin());
}

/// Waits until everything retired so far is dropped.
pub fn barrier() {
    drop_retired();
}

/// Starts the thread that drops what is retired. Once, at start-up.
///
/// # Errors
/// `ENOMEM`.
pub fn start() -> Result<()> {
    ThreadBuilder::new(b"rcu", run).spawn().map(drop)
}

/// Drops what was taken out of a cell once no reader can be at it any more: at once if that is now. With no spin
/// lock held: when memory runs out this waits for that itself.
pub fn retire(retired: Retired) {
    machine::sync::assert_none_held();
    if machine::rcu::is_reading() {
        return retire_later(retired);
    }
    machine::rcu::quiescent();
    if let Err(early) = retired.release() {
        retire_later(early);
    }
}

fn retire_later(retired: Retired) {
    backend::start_rcu();
    let mut held = RETIRED[machine::cpu::current()].0.lock();
    if held.retired.len() < MOST_RETIRED && held.retired.try_reserve(1).is_ok() {
        // There is room.
        let _ = held.retired.push_within_capacity(retired);
        let is_told = core::mem::replace(&mut held.is_told, true);
        drop(held);
        if !is_told {
            IS_WANTED.store(true, Ordering::Release);
            WANTED.wake_all();
        }
    } else {
        drop(held);
        wait_for(retired.period());
        // Its grace period is over.
        let _ = retired.release();
    }
}

/// The thread `rcu`.
fn run() {
    loop {
        WANTED.wait_until(|| IS_WANTED.swap(false, Ordering::AcqRel).then_some(()));
        nap(GATHER_NS);
        drop_retired();
    }
}

fn drop_retired() {
    let mut batch = DROPPING.lock();
    for list in RETIRED.iter().take(machine::cpu::count()) {
        {
            let mut held = list.0.lock();
            held.is_told = false;
            core::mem::swap(&mut held.retired, &mut batch);
        }
        let Some(last) = batch.iter().map(Retired::period).max() else {
            continue;
        };
        wait_for(last);
        for retired in batch.drain(..) {
            // Its grace period is over: `last` began no earlier.
            let _ = retired.release();
            cond_resched();
        }
    }
}

fn wait_for(period: GracePeriod) {
    machine::rcu::quiescent();
    let mut nap_ns = FIRST_NAP_NS;
    while !period.is_over() {
        for cpu in machine::rcu::late_cpus(period) {
            backend::prod(cpu);
        }
        nap(nap_ns);
        nap_ns = (nap_ns * 2).min(LONGEST_NAP_NS);
        machine::rcu::quiescent();
    }
}

fn nap(ns: u64) {
    // Ends at the deadline, which is no error here; nothing else ends it.
    let _ = timer::sleep_until(clock::monotonic_ns() + ns, Sleep::Uninterruptible);
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicUsize;

    struct Dropped(Arc<AtomicUsize>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn what_is_replaced_is_dropped_after_its_readers() {
        let drops = Arc::new(AtomicUsize::new(0));
        let value = || Some(Arc::new(Dropped(drops.clone())));
        let cell = Rcu::empty();
        cell.replace(value());
        let guard = ReadGuard::new();
        let found = cell.get(&guard).expect("it was put there");
        cell.replace(value());
        free_later(Arc::new(Dropped(drops.clone())));
        std::thread::sleep(core::time::Duration::from_millis(30));
        assert_eq!(found.0.load(Ordering::SeqCst), 0);
        drop(guard);
        barrier();
        assert_eq!(drops.load(Ordering::SeqCst), 2);
        assert!(cell.read(|value| value.is_some()));
        drop(cell);
        assert_eq!(drops.load(Ordering::SeqCst), 3, "nobody can be at it");
    }

    #[test]
    fn synchronize_waits_for_a_reader() {
        let (started, go) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let reader = {
            let (started, go) = (started.clone(), go.clone());
            std::thread::spawn(move || {
                let _guard = ReadGuard::new();
                started.store(true, Ordering::SeqCst);
                std::thread::sleep(core::time::Duration::from_millis(20));
                go.store(true, Ordering::SeqCst);
            })
        };
        while !started.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        synchronize();
        assert!(go.load(Ordering::SeqCst), "the reader was done");
        reader.join().expect("it only slept");
    }

    #[test]
    #[should_panic(expected = "inside an RCU read section")]
    fn sleeping_in_a_read_section_is_found() {
        let _guard = ReadGuard::new();
        synchronize();
    }
}
