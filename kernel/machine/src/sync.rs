//! Spin locks. The guard's type shows what is off: [`SpinLock`] leaves interrupts as they are and
//! is never taken by interrupt handlers; [`IrqLock`] keeps interrupts off while held.
//!
//! The kernel is not preempted inside itself, so a held spin lock never waits for a thread that
//! cannot run; blocking with one held is a bug (debug builds panic).

use core::ops::{Deref, DerefMut};

use crate::interrupt::InterruptsOff;

/// A spin lock for data that interrupt handlers do not touch.
#[derive(Debug, Default)]
pub struct SpinLock<T: ?Sized>(spin::Mutex<T>);

impl<T> SpinLock<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(spin::Mutex::new(value))
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Takes the lock.
    pub fn lock(&self) -> SpinGuard<'_, T> {
        SpinGuard(self.0.lock())
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T>> {
        self.0.try_lock().map(SpinGuard)
    }

    /// The value, when the lock is not shared.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

/// Proof that a [`SpinLock`] is held.
#[derive(Debug)]
pub struct SpinGuard<'a, T: ?Sized>(spin::MutexGuard<'a, T>);

impl<T: ?Sized> Deref for SpinGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> DerefMut for SpinGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// A spin lock for data that interrupt handlers use too.
#[derive(Debug, Default)]
pub struct IrqLock<T: ?Sized>(spin::Mutex<T>);

impl<T> IrqLock<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(spin::Mutex::new(value))
    }
}

impl<T: ?Sized> IrqLock<T> {
    /// Turns interrupts off and takes the lock.
    pub fn lock(&self) -> IrqGuard<'_, T> {
        let off = InterruptsOff::new();
        IrqGuard {
            value: self.0.lock(),
            _off: off,
        }
    }
}

/// Proof that an [`IrqLock`] is held and interrupts are off on this CPU.
#[derive(Debug)]
pub struct IrqGuard<'a, T: ?Sized> {
    // Dropped first: the lock is released before interrupts return.
    value: spin::MutexGuard<'a, T>,
    _off: InterruptsOff,
}

impl<T: ?Sized> Deref for IrqGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> DerefMut for IrqGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
