//! Locks. What sleeping locks are made of is in [`LockCell`], what a sole owner looks at without a lock in
//! [`OwnerCell`], what a lock elsewhere guards in [`LockedBy`]; here are spin locks.
//!
//! The guard's type shows what is off: [`SpinLock`] leaves interrupts as they are and
//! is never taken by interrupt handlers; [`IrqLock`] keeps interrupts off while held.
//!
//! The kernel is not preempted inside itself, so a held spin lock never waits for a thread that
//! cannot run; giving the CPU away with one held is a bug: [`assert_none_held`] finds it in builds with
//! the feature `checks` and in debug builds, where each CPU counts the locks that it holds. These builds also find a
//! CPU that takes a lock which it holds already ([`holder`]).
//!
//! Spin locks are test-and-set, not first come first served: a CPU of a virtual machine may be stopped by
//! its host at any moment, and handing a lock to a stopped CPU makes all others wait for it (Linux leaves
//! queued spin locks under a hypervisor for the same reason). Whoever spins answers the requests that other
//! CPUs make to it meanwhile ([`crate::cpu::relax`]): it may have interrupts off.

mod holder;
mod lock_cell;
mod locked_by;
mod owner_cell;

use core::ops::{Deref, DerefMut};
use core::sync::atomic;

use spin::mutex::{SpinMutex, SpinMutexGuard};

use crate::interrupt::InterruptsOff;

use holder::{Holder, Holding};
pub use lock_cell::{LockCell, ReadHold, WriteHold};
pub use locked_by::LockedBy;
pub use owner_cell::{Owner, OwnerCell, OwnerGuard};

impl<T> LockCell<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self::from_parts(atomic::AtomicU32::new(0), value)
    }
}

/// What a waiting CPU does between two looks.
#[derive(Debug)]
struct Relax;

impl spin::RelaxStrategy for Relax {
    fn relax() {
        crate::cpu::relax();
    }
}

/// A spin lock for data that interrupt handlers do not touch.
#[derive(Debug, Default)]
pub struct SpinLock<T: ?Sized> {
    holder: Holder,
    value: SpinMutex<T, Relax>,
}

impl<T> SpinLock<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self {
            holder: Holder::new(),
            value: SpinMutex::new(value),
        }
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// Where the value is.
    pub(super) fn as_ptr(&self) -> *const T {
        self.value.as_mut_ptr()
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Takes the lock.
    #[cfg_attr(any(feature = "checks", debug_assertions), track_caller)]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        self.holder.assert_other();
        let value = self.value.lock();
        SpinGuard {
            _holding: self.holder.begin(),
            value,
            _held: Held::new(),
        }
    }

    /// Takes the lock if it is free.
    #[cfg_attr(any(feature = "checks", debug_assertions), track_caller)]
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T>> {
        let value = self.value.try_lock()?;
        Some(SpinGuard {
            _holding: self.holder.begin(),
            value,
            _held: Held::new(),
        })
    }

    /// The value, when the lock is not shared.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// Proof that a [`SpinLock`] is held.
#[derive(Debug)]
pub struct SpinGuard<'a, T: ?Sized> {
    // Dropped before the lock is released, after which another CPU's name may be there.
    _holding: Holding<'a>,
    value: SpinMutexGuard<'a, T>,
    _held: Held,
}

impl<T: ?Sized> Deref for SpinGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> DerefMut for SpinGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

/// A spin lock for data that interrupt handlers use too.
#[derive(Debug, Default)]
pub struct IrqLock<T: ?Sized> {
    holder: Holder,
    value: SpinMutex<T, Relax>,
}

impl<T> IrqLock<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self {
            holder: Holder::new(),
            value: SpinMutex::new(value),
        }
    }
}

impl<T: ?Sized> IrqLock<T> {
    /// The value, when the lock is not shared.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Turns interrupts off and takes the lock.
    #[cfg_attr(any(feature = "checks", debug_assertions), track_caller)]
    pub fn lock(&self) -> IrqGuard<'_, T> {
        let off = InterruptsOff::new();
        self.holder.assert_other();
        let value = self.value.lock();
        IrqGuard {
            _holding: self.holder.begin(),
            value,
            _held: Held::new(),
            _off: off,
        }
    }
}

/// Proof that an [`IrqLock`] is held and interrupts are off on this CPU.
#[derive(Debug)]
pub struct IrqGuard<'a, T: ?Sized> {
    _holding: Holding<'a>,
    // Dropped before the last field: the lock is released before interrupts return.
    value: SpinMutexGuard<'a, T>,
    _held: Held,
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

/// One spin lock in this CPU's count of held ones; nothing in builds without checks.
#[derive(Debug)]
pub(crate) struct Held;

#[cfg(not(any(feature = "checks", debug_assertions)))]
impl Held {
    #[inline]
    pub(crate) fn new() -> Self {
        Held
    }
}

#[cfg(any(feature = "checks", debug_assertions))]
impl Held {
    pub(crate) fn new() -> Self {
        crate::cpu::count_held_locks(1);
        Held
    }
}

#[cfg(any(feature = "checks", debug_assertions))]
impl Drop for Held {
    fn drop(&mut self) {
        crate::cpu::count_held_locks(-1);
    }
}

/// Where a CPU may be given away: no spin lock is held. Nothing in builds without checks.
///
/// # Panics
/// With checks, when one is.
#[inline]
#[track_caller]
pub fn assert_none_held() {
    #[cfg(any(feature = "checks", debug_assertions))]
    {
        let held = crate::cpu::count_held_locks(0);
        assert!(
            held == 0,
            "the CPU is given away with {held} spin locks held"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_locks_are_counted() {
        let (outer, inner) = (SpinLock::new(1), IrqLock::new(2));
        assert_none_held();
        {
            let _one = outer.lock();
            let _two = inner.lock();
            assert_eq!(crate::cpu::count_held_locks(0), 2);
            assert!(outer.try_lock().is_none());
        }
        assert_none_held();
    }

    #[test]
    #[should_panic(expected = "which it has held since kernel/machine/src/sync/mod.rs")]
    fn a_lock_that_is_taken_again_is_found() {
        let lock = IrqLock::new(());
        let _held = lock.lock();
        drop(lock.lock());
    }

    #[test]
    fn a_lock_that_another_cpu_holds_is_waited_for() {
        let lock = SpinLock::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| *lock.lock() += 1));
            }
        });
        assert_eq!(lock.into_inner(), 4000);
    }

    #[test]
    #[should_panic(expected = "1 spin locks held")]
    fn giving_the_cpu_away_with_a_lock_held_is_found() {
        let lock = SpinLock::new(());
        let _held = lock.lock();
        assert_none_held();
    }
}
