//! Sleeping locks. Never taken by interrupt handlers or with a spin lock held.
//!
//! Uncontended, taking a lock and releasing it are one locked instruction each.
//!
//! **Order.** Waiters are woken first come, first served, but a lock that is free goes to whoever asks: a thread
//! that runs need not wait for one that has to be woken. One that was woken and came too late keeps its place
//! at the head of the queue, and after [`PATIENCE`] such losses the lock is reserved for it. A writer
//! reserves at once when it has to wait, so readers do not hold it off; a reader that has waited for
//! [`READER_PATIENCE_NS`] passes by a writer that only waits, so that neither starves.

use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicUsize, Ordering};

use machine::sync::{LockCell, ReadHold, WriteHold};

use crate::park::Sleep;
use crate::wait_queue::WaitQueue;

/// How often a waiter that was woken may find the lock taken again.
const PATIENCE: usize = 2;
/// How long a reader lets a writer that waits go first.
const READER_PATIENCE_NS: u64 = 10_000_000;

/// A sleeping mutual-exclusion lock.
#[derive(Debug, Default)]
pub struct Mutex<T: ?Sized> {
    waiters: Waiters,
    value: LockCell<T>,
}

/// Proof that a [`Mutex`] is held.
#[derive(Debug)]
pub struct MutexGuard<'a, T: ?Sized> {
    waiters: &'a Waiters,
    hold: Option<WriteHold<'a, T>>,
}

impl<T> Mutex<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self {
            waiters: Waiters::new(),
            value: LockCell::new(value),
        }
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock, sleeping until it is free.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let hold = self
            .value
            .try_write(false)
            .unwrap_or_else(|| self.waiters.wait_alone(&self.value, PATIENCE));
        MutexGuard {
            waiters: &self.waiters,
            hold: Some(hold),
        }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let hold = self.value.try_write(false)?;
        Some(MutexGuard {
            waiters: &self.waiters,
            hold: Some(hold),
        })
    }

    /// The value, when the lock is not shared.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        held(self.hold.as_deref())
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        held(self.hold.as_deref_mut())
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.hold.take().is_some_and(WriteHold::release) {
            self.waiters.queue.wake_one();
        }
    }
}

/// A sleeping readers-writer lock.
#[derive(Debug, Default)]
pub struct RwLock<T: ?Sized> {
    waiters: Waiters,
    value: LockCell<T>,
}

/// Proof that a [`RwLock`] is held for reading.
#[derive(Debug)]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    waiters: &'a Waiters,
    hold: Option<ReadHold<'a, T>>,
}

/// Proof that a [`RwLock`] is held for writing.
#[derive(Debug)]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    waiters: &'a Waiters,
    hold: Option<WriteHold<'a, T>>,
}

impl<T> RwLock<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self {
            waiters: Waiters::new(),
            value: LockCell::new(value),
        }
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Takes the lock for writing, sleeping while anyone has it.
    #[inline]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        let hold = self
            .value
            .try_write(false)
            .unwrap_or_else(|| self.waiters.wait_alone(&self.value, 0));
        RwLockWriteGuard {
            waiters: &self.waiters,
            hold: Some(hold),
        }
    }

    /// Takes the lock for writing if nobody has it.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        let hold = self.value.try_write(false)?;
        Some(RwLockWriteGuard {
            waiters: &self.waiters,
            hold: Some(hold),
        })
    }

    /// The value, when the lock is not shared.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: ?Sized + Sync> RwLock<T> {
    /// Takes the lock for reading, sleeping while a writer has it.
    #[inline]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        let hold = self
            .value
            .try_read(false)
            .unwrap_or_else(|| self.waiters.wait_shared(&self.value));
        RwLockReadGuard {
            waiters: &self.waiters,
            hold: Some(hold),
        }
    }

    /// Takes the lock for reading if no writer has it or waits for it.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        let hold = self.value.try_read(false)?;
        Some(RwLockReadGuard {
            waiters: &self.waiters,
            hold: Some(hold),
        })
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        held(self.hold.as_deref())
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.hold.take().is_some_and(ReadHold::release) {
            self.waiters.queue.wake_one();
        }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        held(self.hold.as_deref())
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        held(self.hold.as_deref_mut())
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.hold.take().is_some_and(WriteHold::release) {
            // All readers, and one writer.
            self.waiters.queue.wake_one();
        }
    }
}

/// A guard's hold, which is there from its making to its drop.
#[inline]
fn held<T>(value: Option<T>) -> T {
    match value {
        Some(value) => value,
        None => unreachable!("a lock guard was used after its drop"),
    }
}

/// Who waits for a lock: readers together, those who want it alone one by one.
#[derive(Debug, Default)]
struct Waiters {
    count: AtomicUsize,
    queue: WaitQueue,
}

impl Waiters {
    const fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            queue: WaitQueue::new(),
        }
    }

    #[cold]
    fn wait_alone<'a, T: ?Sized>(
        &self,
        cell: &'a LockCell<T>,
        patience: usize,
    ) -> WriteHold<'a, T> {
        self.begin();
        // The first two looks are before and after it joins the queue.
        let mut losses = 0;
        let mut has_reserved = false;
        let hold = self.queue.wait_until_alone(|| {
            losses += 1;
            cell.set_waited_for();
            if losses > patience + 1 {
                cell.set_reserved();
                has_reserved = true;
            }
            cell.try_write(has_reserved)
        });
        if has_reserved {
            // Another one that has lost as often sets it again at its next look.
            cell.clear_reserved();
        }
        self.end(cell);
        hold
    }

    #[cold]
    fn wait_shared<'a, T: ?Sized + Sync>(&self, cell: &'a LockCell<T>) -> ReadHold<'a, T> {
        self.begin();
        let mut deadline = crate::clock::monotonic_ns() + READER_PATIENCE_NS;
        let mut is_patient = true;
        let hold = loop {
            let look = || {
                cell.set_waited_for();
                cell.try_read(!is_patient)
            };
            match self
                .queue
                .wait(Sleep::Uninterruptible, is_patient.then_some(deadline), look)
            {
                Ok(hold) => break hold,
                Err(_) => is_patient = false,
            }
            deadline = u64::MAX;
        };
        self.end(cell);
        hold
    }

    fn begin(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// The waiter holds the lock. Whoever waits from now on says so itself, before it looks.
    fn end<T: ?Sized>(&self, cell: &LockCell<T>) {
        if self.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            cell.clear_waited_for();
            if self.count.load(Ordering::SeqCst) > 0 {
                // It came in between, and may have said so too early.
                cell.set_waited_for();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thread::{State, ThreadBuilder, ThreadRef};
    use alloc::sync::Arc;
    use core::sync::atomic::{AtomicBool, AtomicU64};
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
}
