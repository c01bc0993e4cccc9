//! Sleeping locks. Never taken by interrupt handlers or with a spin lock held.
//!
//! Uncontended, a lock and its release are one locked instruction each, plus one to look for
//! waiters. That look is a compare-exchange: a plain read could be ahead of the release.

use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::wait_queue::WaitQueue;

/// A sleeping mutual-exclusion lock.
#[derive(Debug, Default)]
pub struct Mutex<T: ?Sized> {
    waiters: Waiters,
    value: spin::Mutex<T>,
}

/// Proof that a [`Mutex`] is held.
#[derive(Debug)]
pub struct MutexGuard<'a, T: ?Sized> {
    waiters: &'a Waiters,
    value: Option<spin::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self {
            waiters: Waiters::new(),
            value: spin::Mutex::new(value),
        }
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock, sleeping until it is free.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let value = match self.value.try_lock() {
            Some(value) => value,
            None => self.waiters.wait(|| self.value.try_lock()),
        };
        MutexGuard {
            waiters: &self.waiters,
            value: Some(value),
        }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let value = self.value.try_lock()?;
        Some(MutexGuard {
            waiters: &self.waiters,
            value: Some(value),
        })
    }

    /// The value, when the lock is not shared.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        held(self.value.as_deref())
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        held(self.value.as_deref_mut())
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        self.waiters.released(false);
    }
}

/// A sleeping readers-writer lock. Waiting writers do not hold readers off.
#[derive(Debug, Default)]
pub struct RwLock<T: ?Sized> {
    waiters: Waiters,
    value: spin::RwLock<T>,
}

/// Proof that a [`RwLock`] is held for reading.
#[derive(Debug)]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    waiters: &'a Waiters,
    value: Option<spin::RwLockReadGuard<'a, T>>,
}

/// Proof that a [`RwLock`] is held for writing.
#[derive(Debug)]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    waiters: &'a Waiters,
    value: Option<spin::RwLockWriteGuard<'a, T>>,
}

impl<T> RwLock<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self {
            waiters: Waiters::new(),
            value: spin::RwLock::new(value),
        }
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Takes the lock for reading, sleeping while a writer has it.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        let value = match self.value.try_read() {
            Some(value) => value,
            None => self.waiters.wait(|| self.value.try_read()),
        };
        RwLockReadGuard {
            waiters: &self.waiters,
            value: Some(value),
        }
    }

    /// Takes the lock for writing if nobody has it.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        let value = self.value.try_write()?;
        Some(RwLockWriteGuard {
            waiters: &self.waiters,
            value: Some(value),
        })
    }

    /// Takes the lock for writing, sleeping while anyone has it.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        let value = match self.value.try_write() {
            Some(value) => value,
            None => self.waiters.wait(|| self.value.try_write()),
        };
        RwLockWriteGuard {
            waiters: &self.waiters,
            value: Some(value),
        }
    }

    /// The value, when the lock is not shared.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        held(self.value.as_deref())
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        self.waiters.released(true);
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        held(self.value.as_deref())
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        held(self.value.as_deref_mut())
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        self.waiters.released(true);
    }
}

/// A guard's inner guard, which is there from its making to its drop.
fn held<T>(value: Option<T>) -> T {
    match value {
        Some(value) => value,
        None => unreachable!("a lock guard was used after its drop"),
    }
}

/// Who waits for a lock.
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

    fn wait<R>(&self, attempt: impl FnMut() -> Option<R>) -> R {
        self.count.fetch_add(1, Ordering::SeqCst);
        let held = self.queue.wait_until(attempt);
        self.count.fetch_sub(1, Ordering::SeqCst);
        held
    }

    fn released(&self, wake_all: bool) {
        if self
            .count
            .compare_exchange(0, 0, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
        {
            return;
        }
        if wake_all {
            self.queue.wake_all();
        } else {
            self.queue.wake_one();
        }
    }
}
