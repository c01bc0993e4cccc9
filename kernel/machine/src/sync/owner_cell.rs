//! [`OwnerCell`]: a value with owners, who change it, and viewers, who look at it under a lock. While there is one
//! owner only, that one looks without a lock: nobody else could change the value meanwhile.
//!
//! What makes it so: an [`Owner`] cannot be cloned. One more is made by [`Owner::share`] and the value is changed
//! by [`Owner::lock`], and both borrow the owner alone; [`Owner::look`] shares that borrow. So as long as a sole
//! owner looks, there is no second owner and no change.

use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicUsize, Ordering};

use super::{SpinGuard, SpinLock};

/// The value, and how many own it. A reference to the cell itself is a viewer's.
#[derive(Default)]
pub struct OwnerCell<T> {
    lock: SpinLock<()>,
    owners: AtomicUsize,
    value: UnsafeCell<T>,
}

// SAFETY: viewers and a sole owner share the value (`T: Sync`); it is changed with the lock held by an owner that
// is not looking, while no other owner is alone (`T: Send`).
unsafe impl<T: Send + Sync> Sync for OwnerCell<T> {}

impl<T> fmt::Debug for OwnerCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerCell({})", self.owners.load(Ordering::Relaxed))
    }
}

impl<T> OwnerCell<T> {
    /// A value without an owner.
    pub const fn new(value: T) -> Self {
        Self {
            lock: SpinLock::new(()),
            owners: AtomicUsize::new(0),
            value: UnsafeCell::new(value),
        }
    }

    /// Calls `look` with the value, which nobody changes meanwhile: the spin lock is held.
    pub fn view<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        let _held = self.lock.lock();
        // SAFETY: who changes the value holds the lock.
        look(unsafe { &*self.value.get() })
    }
}

/// One that may change the value of an [`OwnerCell`].
pub struct Owner<T: Default>(Arc<OwnerCell<T>>);

impl<T: Default> fmt::Debug for Owner<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner of {:?}", self.0)
    }
}

impl<T: Default> Owner<T> {
    /// The first owner of `cell`; `None` when that has one.
    pub fn adopt(cell: Arc<OwnerCell<T>>) -> Option<Self> {
        let first = cell
            .owners
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
        first.is_ok().then(|| Self(cell))
    }

    /// A further owner.
    #[must_use]
    pub fn share(&mut self) -> Self {
        self.0.owners.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }

    /// For those who only look.
    #[must_use]
    pub fn viewer(&self) -> &Arc<OwnerCell<T>> {
        &self.0
    }

    /// Whether there is no other owner. If so, that stays as long as this one is borrowed.
    #[inline]
    #[must_use]
    pub fn is_alone(&self) -> bool {
        // Acquire: what an owner that is gone has changed is seen.
        self.0.owners.load(Ordering::Acquire) == 1
    }

    /// The value, when there is no other owner.
    #[inline]
    #[must_use]
    pub fn look(&self) -> Option<&T> {
        // SAFETY: the value is changed through `lock` of some owner. Of this one: it is borrowed. Of another:
        // there is none, and one is made only by `share` of this one, which is borrowed; `adopt` refuses.
        self.is_alone().then(|| unsafe { &*self.0.value.get() })
    }

    /// Calls `look` with the value, with the spin lock held.
    pub fn view<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        self.0.view(look)
    }

    /// The value, to be changed.
    pub fn lock(&mut self) -> OwnerGuard<'_, T> {
        OwnerGuard {
            _held: self.0.lock.lock(),
            cell: &self.0,
        }
    }
}

impl<T: Default> Drop for Owner<T> {
    /// The last owner takes the value away, whoever may still view the cell.
    fn drop(&mut self) {
        let last = self.is_alone();
        let value = last.then(|| core::mem::take(&mut *self.lock()));
        let before = self.0.owners.fetch_sub(1, Ordering::AcqRel);
        if before == 1 && !last {
            // Two were left a moment ago. As the last one it is alone in what follows; `adopt` may have made a
            // new owner already, and then the value is that one's.
            if let Some(mut own) = Self::adopt(Arc::clone(&self.0)) {
                let rest = core::mem::take(&mut *own.lock());
                drop(own);
                drop(rest);
            }
        }
        drop(value);
    }
}

/// Proof that the value is its holder's alone.
#[derive(Debug)]
pub struct OwnerGuard<'a, T> {
    _held: SpinGuard<'a, ()>,
    cell: &'a OwnerCell<T>,
}

impl<T> Deref for OwnerGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the lock is held.
        unsafe { &*self.cell.value.get() }
    }
}

impl<T> DerefMut for OwnerGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held, so no viewer looks and no other owner changes; the owner that made this
        // guard is borrowed alone, so it does not look, and another one is not alone.
        unsafe { &mut *self.cell.value.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sole_owner_looks_without_the_lock() {
        let cell = Arc::new(OwnerCell::new(1));
        let mut first = Owner::adopt(Arc::clone(&cell)).expect("no owner yet");
        assert!(Owner::adopt(Arc::clone(&cell)).is_none());
        assert_eq!(first.look(), Some(&1));
        let mut second = first.share();
        assert!(first.look().is_none() && second.look().is_none());
        *second.lock() = 2;
        assert_eq!(first.view(|value| *value), 2);
        drop(first);
        assert_eq!((second.look(), cell.view(|value| *value)), (Some(&2), 2));
        drop(second);
        assert_eq!(cell.view(|value| *value), 0, "went with its last owner");
        assert!(Owner::adopt(cell).is_some());
    }

    #[test]
    fn owners_that_leave_at_once_leave_nothing() {
        struct Counted(Arc<AtomicUsize>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let drops = Arc::new(AtomicUsize::new(0));
        for _ in 0..2000 {
            let cell = Arc::new(OwnerCell::new(Some(Counted(Arc::clone(&drops)))));
            let mut first = Owner::adopt(Arc::clone(&cell)).expect("no owner yet");
            let second = first.share();
            let other = std::thread::spawn(move || drop(second));
            drop(first);
            other.join().expect("it only dropped");
            assert!(cell.view(Option::is_none));
        }
        assert_eq!(drops.load(Ordering::SeqCst), 2000);
    }

    #[test]
    fn what_another_owner_changed_is_seen_when_alone() {
        let cell = Arc::new(OwnerCell::new((0_u64, 0_u64)));
        let mut own = Owner::adopt(Arc::clone(&cell)).expect("no owner yet");
        for round in 1..500 {
            let mut other = own.share();
            let changer = std::thread::spawn(move || {
                let mut both = other.lock();
                both.0 = round;
                both.1 = round;
            });
            let viewer = {
                let cell = Arc::clone(&cell);
                std::thread::spawn(move || cell.view(|both| assert_eq!(both.0, both.1)))
            };
            while !own.is_alone() {
                std::thread::yield_now();
            }
            assert_eq!(own.look(), Some(&(round, round)));
            changer.join().expect("it only changed");
            viewer.join().expect("no view of half a change");
        }
    }
}
