//! Sleeping locks. Never taken by interrupt handlers or with a spin lock held.
//!
//! Uncontended, taking a lock and releasing it are one locked instruction each.
//!
//! [`waiters`] has in which order those get it who find it taken.

mod waiters;

use core::ops::{Deref, DerefMut};

use machine::sync::{LockCell, ReadHold, WriteHold};

use waiters::{PATIENCE, Waiters};

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

#[cfg(test)]
mod tests;
