//! The cell that readers look into without a lock, and what was taken out of one.

use alloc::sync::Arc;
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::{GracePeriod, ReadGuard};

/// Anything that a cell can hold, for [`Retired`].
trait Object: Send + Sync {}
impl<T: Send + Sync> Object for T {}

/// What was taken out of an [`RcuCell`]: readers may still use it. Let go of with [`Self::release`] once its
/// grace period is over.
#[must_use = "to be released when its grace period is over"]
pub struct Retired {
    period: GracePeriod,
    object: Option<Arc<dyn Object>>,
}

impl fmt::Debug for Retired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Retired({:?})", self.period)
    }
}

impl Retired {
    /// `object` may be in use by readers that found it before now.
    pub fn new<T: Send + Sync + 'static>(object: Arc<T>) -> Self {
        Self {
            period: GracePeriod::begin(),
            object: Some(object),
        }
    }

    /// When it may be released.
    #[must_use]
    pub fn period(&self) -> GracePeriod {
        self.period
    }

    /// Drops the reference; gives it back when readers may still be at it.
    ///
    /// # Errors
    /// Itself, before its grace period is over.
    pub fn release(mut self) -> Result<(), Self> {
        if !self.period.is_over() {
            return Err(self);
        }
        self.object = None;
        Ok(())
    }
}

impl Drop for Retired {
    fn drop(&mut self) {
        if self.object.is_some() && !self.period.is_over() {
            // Lost rather than freed under a reader.
            let _lost = core::mem::ManuallyDrop::new(self.object.take());
        }
    }
}

/// A place for a counted reference, or for none, that is read without a lock.
pub struct RcuCell<T> {
    /// From [`Arc::into_raw`], or null.
    pointer: AtomicPtr<T>,
    _owns: PhantomData<Arc<T>>,
}

impl<T> fmt::Debug for RcuCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RcuCell({:p})", self.pointer.load(Ordering::Relaxed))
    }
}

fn into_pointer<T>(value: Option<Arc<T>>) -> *mut T {
    value.map_or(core::ptr::null_mut(), |value| {
        Arc::into_raw(value).cast_mut()
    })
}

impl<T: Send + Sync + 'static> RcuCell<T> {
    /// A cell with nothing in it.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            pointer: AtomicPtr::new(core::ptr::null_mut()),
            _owns: PhantomData,
        }
    }

    /// A cell with `value` in it.
    #[must_use]
    pub fn new(value: Arc<T>) -> Self {
        Self {
            pointer: AtomicPtr::new(into_pointer(Some(value))),
            _owns: PhantomData,
        }
    }

    /// What is in it.
    #[inline]
    pub fn get<'g>(&'g self, _: &'g ReadGuard) -> Option<&'g T> {
        let pointer = self.pointer.load(Ordering::Acquire);
        // SAFETY: the cell's count on the object ends only by `Retired::release` after a grace period, which
        // is not over before the guard is dropped; or with the cell, which is borrowed.
        unsafe { pointer.as_ref() }
    }

    /// A counted reference to what is in it.
    #[must_use]
    pub fn load(&self, _: &ReadGuard) -> Option<Arc<T>> {
        let pointer = self.pointer.load(Ordering::Acquire);
        if pointer.is_null() {
            return None;
        }
        // SAFETY: from `Arc::into_raw`; the cell's own count lasts while the guard is held (see `get`).
        unsafe { Arc::increment_strong_count(pointer) };
        // SAFETY: the count just added is the new reference's.
        Some(unsafe { Arc::from_raw(pointer) })
    }

    /// Puts `new` in, and takes out what was in it.
    pub fn replace(&self, new: Option<Arc<T>>) -> Option<Retired> {
        let old = self.pointer.swap(into_pointer(new), Ordering::SeqCst);
        if old.is_null() {
            return None;
        }
        // SAFETY: from `Arc::into_raw`, and the cell's count is ours since the swap.
        let old = unsafe { Arc::from_raw(old) };
        Some(Retired::new(old))
    }

    /// What is in it, when nobody else can look.
    pub fn take(&mut self) -> Option<Arc<T>> {
        let pointer = core::mem::replace(self.pointer.get_mut(), core::ptr::null_mut());
        // SAFETY: from `Arc::into_raw`; a reader's borrow of the cell would exclude `&mut self`.
        (!pointer.is_null()).then(|| unsafe { Arc::from_raw(pointer) })
    }
}

impl<T> Drop for RcuCell<T> {
    fn drop(&mut self) {
        let pointer = *self.pointer.get_mut();
        if !pointer.is_null() {
            // SAFETY: as in `take`.
            drop(unsafe { Arc::from_raw(pointer) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts its drops.
    struct Dropped(Arc<core::sync::atomic::AtomicUsize>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Other tests' readers may hold a grace period up.
    fn release(mut retired: Retired) {
        while let Err(early) = retired.release() {
            retired = early;
            std::thread::yield_now();
        }
    }

    #[test]
    fn each_object_is_dropped_once_and_not_under_a_reader() {
        let drops = Arc::new(core::sync::atomic::AtomicUsize::new(0));
        let mut cell = RcuCell::new(Arc::new(Dropped(Arc::clone(&drops))));
        let guard = ReadGuard::new();
        let found = cell.get(&guard).expect("it was put there");
        let old = cell.replace(Some(Arc::new(Dropped(Arc::clone(&drops)))));
        let early = old.expect("it held something").release();
        let early = early.expect_err("a reader is at it");
        assert_eq!(found.0.load(Ordering::SeqCst), 0);
        drop(guard);
        release(early);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
        let counted = cell.load(&ReadGuard::new()).expect("the second one");
        assert_eq!(Arc::strong_count(&counted), 2);
        drop((cell.take(), counted));
        assert_eq!(drops.load(Ordering::SeqCst), 2);
        assert!(cell.replace(None).is_none());
    }

    #[test]
    fn readers_never_see_what_was_freed() {
        static CELL: RcuCell<[u64; 8]> = RcuCell::empty();
        static STOP: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);
        let readers: Vec<_> = (0..3)
            .map(|_| {
                std::thread::spawn(|| {
                    while !STOP.load(Ordering::Relaxed) {
                        let guard = ReadGuard::new();
                        if let Some(words) = CELL.get(&guard) {
                            assert!(words.iter().all(|word| *word == words[0]));
                        }
                        drop(guard);
                        std::thread::yield_now();
                    }
                })
            })
            .collect();
        for round in 0..3000 {
            if let Some(old) = CELL.replace(Some(Arc::new([round; 8]))) {
                release(old);
            }
        }
        STOP.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().expect("readers saw whole objects only");
        }
        CELL.replace(None).into_iter().for_each(release);
    }
}
