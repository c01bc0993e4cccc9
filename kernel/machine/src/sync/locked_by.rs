//! [`LockedBy`]: a value that stands in one place and is guarded by a lock in another, as the relations of processes
//! are guarded by the lock of their tree. Whoever has borrowed what that lock holds may look at the value, and whoever
//! has borrowed it alone may change it. Costs a comparison and no atomic instruction.

use core::cell::UnsafeCell;
use core::fmt;

use super::SpinLock;

/// A value guarded by the lock around a `U`.
pub struct LockedBy<T, U: 'static> {
    owner: &'static SpinLock<U>,
    value: UnsafeCell<T>,
}

// SAFETY: threads come to the value only with a borrow of the one `U` that the lock holds: together with others they
// share it (`T: Sync`), with a borrow of their own they have it alone (`T: Send`).
unsafe impl<T: Send + Sync, U> Sync for LockedBy<T, U> {}

impl<T, U> fmt::Debug for LockedBy<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockedBy")
    }
}

impl<T, U> LockedBy<T, U> {
    /// `value`, which what `owner` holds leads to.
    pub const fn new(owner: &'static SpinLock<U>, value: T) -> Self {
        // Values without a size may share an address, and that is what tells them apart.
        const { assert!(size_of::<U>() > 0) };
        Self {
            owner,
            value: UnsafeCell::new(value),
        }
    }

    fn check(&self, owner: *const U) {
        assert!(
            core::ptr::eq(self.owner.as_ptr(), owner),
            "sync: a value was asked for with another lock than its own"
        );
    }

    /// The value, for as long as `owner` is borrowed.
    ///
    /// # Panics
    /// When `owner` is not what the lock holds.
    #[inline]
    pub fn get<'a>(&'a self, owner: &'a U) -> &'a T {
        self.check(owner);
        // SAFETY: `owner` is the one `U` of the lock (checked; there is one value of a type with a size at an address),
        // and stays borrowed as long as the result. `get_mut` borrows it alone, so no reference of its is about.
        unsafe { &*self.value.get() }
    }

    /// The value alone, for as long as `owner` is borrowed.
    ///
    /// # Panics
    /// When `owner` is not what the lock holds.
    #[inline]
    pub fn get_mut<'a>(&'a self, owner: &'a mut U) -> &'a mut T {
        self.check(owner);
        // SAFETY: as in `get`; `owner` is borrowed alone, so neither a reference of `get` nor another of this is about.
        unsafe { &mut *self.value.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static LOCK: SpinLock<u32> = SpinLock::new(0);
    static VALUE: LockedBy<[u32; 2], u32> = LockedBy::new(&LOCK, [0, 0]);

    #[test]
    fn who_holds_the_lock_changes_the_value() {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    for _ in 0..1000 {
                        let mut owner = LOCK.lock();
                        let both = VALUE.get_mut(&mut owner);
                        both[0] += 1;
                        both[1] = both[0];
                        *owner += 1;
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("it only counted");
        }
        let owner = LOCK.lock();
        assert_eq!((*VALUE.get(&owner), *owner), ([4000, 4000], 4000));
    }

    #[test]
    #[should_panic(expected = "another lock")]
    fn another_value_of_the_type_does_not_open_it() {
        VALUE.get(&7);
    }
}
