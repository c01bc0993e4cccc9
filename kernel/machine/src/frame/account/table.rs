//! A table by account number whose parts are made when they are first needed, and stay.

use alloc::boxed::Box;

use spin::Once;

use crate::frame::OutOfMemory;
use crate::heap;

/// So many accounts there may be at a time, closed ones that frames still name among them.
pub const MOST: usize = LEAVES * LEAF;

const LEAVES: usize = 256;
const LEAF: usize = 16;

/// Something of each account.
#[derive(Debug)]
pub struct Table<T: 'static> {
    leaves: [Once<&'static [T]>; LEAVES],
    make: fn() -> T,
}

impl<T: 'static> Table<T> {
    /// An empty one, whose members `make` makes.
    #[must_use]
    pub const fn new(make: fn() -> T) -> Self {
        Self {
            leaves: [const { Once::new() }; LEAVES],
            make,
        }
    }

    /// The member `number`, if it was made.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<&'static T> {
        self.leaves.get(number / LEAF)?.get()?.get(number % LEAF)
    }

    /// The member `number`, made if need be.
    ///
    /// # Errors
    /// [`OutOfMemory`], also behind the end.
    pub fn make(&self, number: usize) -> Result<&'static T, OutOfMemory> {
        let once = self.leaves.get(number / LEAF).ok_or(OutOfMemory)?;
        let leaf = once.try_call_once(|| {
            // One after the other: all of them are too large for a kernel stack.
            let mut leaf = heap::Vec::try_with_capacity(LEAF).map_err(|_| OutOfMemory)?;
            for _ in 0..LEAF {
                leaf.try_push((self.make)()).map_err(|_| OutOfMemory)?;
            }
            let leaf: &'static [T] = Box::leak(heap::try_box(leaf)?);
            Ok::<_, OutOfMemory>(leaf)
        })?;
        leaf.get(number % LEAF).ok_or(OutOfMemory)
    }
}
