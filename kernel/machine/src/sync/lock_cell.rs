//! What sleeping locks are made of: a value, and the word that says who may use it. Who waits, who is woken and
//! in what order is the business of `sched::lock`.
//!
//! Taking and releasing are one locked instruction each while nobody waits. The tests under `loom`
//! (`tests/interleavings.rs`) try it in all orders.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};

use super::atomic::{AtomicU32, Ordering};

/// One has the value alone.
const WRITER: u32 = 1;
/// Somebody waits: who releases has to wake.
const WAITED_FOR: u32 = 2;
/// Kept for somebody who has waited long: others do not get it.
const RESERVED: u32 = 4;
/// Each of those who share the value.
const READER: u32 = 8;
/// Readers that fit; more than there can be threads.
const READERS_END: u32 = u32::MAX - READER;

/// A value that one holder at a time may change, or several may look at.
#[derive(Default)]
pub struct LockCell<T: ?Sized> {
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the word lets either one `WriteHold` or several `ReadHold`s exist at a time, and there are `ReadHold`s
// only of what is `Sync`.
unsafe impl<T: ?Sized + Send> Sync for LockCell<T> {}
// SAFETY: it owns the value.
unsafe impl<T: ?Sized + Send> Send for LockCell<T> {}

impl<T: ?Sized> fmt::Debug for LockCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockCell({:#x})", self.word.load(Ordering::Relaxed))
    }
}

impl<T> LockCell<T> {
    /// `value` behind a word that is 0.
    pub(super) const fn from_parts(word: AtomicU32, value: T) -> Self {
        Self {
            word,
            value: UnsafeCell::new(value),
        }
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> LockCell<T> {
    /// The value alone, if nobody has it; also when it is reserved, with `is_for_me`.
    #[inline]
    pub fn try_write(&self, is_for_me: bool) -> Option<WriteHold<'_, T>> {
        let taken = self
            .word
            .compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed);
        match taken {
            Ok(_) => Some(WriteHold { cell: self }),
            Err(word) => self.try_write_contended(word, is_for_me),
        }
    }

    #[cold]
    fn try_write_contended(&self, mut word: u32, is_for_me: bool) -> Option<WriteHold<'_, T>> {
        let hindrances = if is_for_me {
            !(WAITED_FOR | RESERVED)
        } else {
            !WAITED_FOR
        };
        while word & hindrances == 0 {
            let taken = self.word.compare_exchange_weak(
                word,
                word | WRITER,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match taken {
                Ok(_) => return Some(WriteHold { cell: self }),
                Err(changed) => word = changed,
            }
        }
        None
    }

    /// Somebody is about to wait: who releases is told. Ordered before the attempt that follows.
    pub fn set_waited_for(&self) {
        self.word.fetch_or(WAITED_FOR, Ordering::SeqCst);
    }

    /// Nobody waits any more.
    pub fn clear_waited_for(&self) {
        self.word.fetch_and(!WAITED_FOR, Ordering::SeqCst);
    }

    /// Keeps others from taking it, until [`Self::clear_reserved`].
    pub fn set_reserved(&self) {
        self.word.fetch_or(RESERVED, Ordering::SeqCst);
    }

    /// Lets others take it again.
    pub fn clear_reserved(&self) {
        self.word.fetch_and(!RESERVED, Ordering::SeqCst);
    }

    /// The value, when the lock is not shared.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: ?Sized + Sync> LockCell<T> {
    /// The value together with others who look, if nobody has it alone; also when it is reserved, with
    /// `is_for_me`.
    #[inline]
    pub fn try_read(&self, is_for_me: bool) -> Option<ReadHold<'_, T>> {
        let hindrances = if is_for_me { WRITER } else { WRITER | RESERVED };
        let mut word = self.word.load(Ordering::Relaxed);
        while word & hindrances == 0 && word < READERS_END {
            let taken = self.word.compare_exchange_weak(
                word,
                word + READER,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match taken {
                Ok(_) => return Some(ReadHold { cell: self }),
                Err(changed) => word = changed,
            }
        }
        None
    }
}

/// The value is its holder's alone until [`Self::release`].
#[derive(Debug)]
#[must_use = "held until released"]
pub struct WriteHold<'a, T: ?Sized> {
    cell: &'a LockCell<T>,
}

// SAFETY: as a `&mut T`.
unsafe impl<T: ?Sized + Send> Send for WriteHold<'_, T> {}
// SAFETY: as a `&T`.
unsafe impl<T: ?Sized + Sync> Sync for WriteHold<'_, T> {}

impl<T: ?Sized> WriteHold<'_, T> {
    /// Lets go of the value, once; whether somebody waits. Whoever calls it does not use the hold again
    /// (`&mut`, so that a guard's drop can call it).
    #[inline]
    fn let_go(&mut self) -> bool {
        self.cell.word.fetch_and(!WRITER, Ordering::Release) & WAITED_FOR != 0
    }

    /// Lets go of the value; whether somebody waits.
    #[inline]
    #[must_use]
    pub fn release(self) -> bool {
        let mut kept = core::mem::ManuallyDrop::new(self);
        kept.let_go()
    }
}

impl<T: ?Sized> Drop for WriteHold<'_, T> {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl<T: ?Sized> Deref for WriteHold<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the word's writer bit is this hold's, so nobody else has a reference.
        unsafe { &*self.cell.value.get() }
    }
}

impl<T: ?Sized> DerefMut for WriteHold<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the hold is borrowed alone.
        unsafe { &mut *self.cell.value.get() }
    }
}

/// The value is shared by its holders until [`Self::release`].
#[derive(Debug)]
#[must_use = "held until released"]
pub struct ReadHold<'a, T: ?Sized> {
    cell: &'a LockCell<T>,
}

impl<T: ?Sized> ReadHold<'_, T> {
    #[inline]
    fn let_go(&mut self) -> bool {
        let before = self.cell.word.fetch_sub(READER, Ordering::Release);
        before & WAITED_FOR != 0 && before < 2 * READER
    }

    /// Lets go of the value; whether this was the last of its holders and somebody waits.
    #[inline]
    #[must_use]
    pub fn release(self) -> bool {
        let mut kept = core::mem::ManuallyDrop::new(self);
        kept.let_go()
    }
}

impl<T: ?Sized> Drop for ReadHold<'_, T> {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl<T: ?Sized> Deref for ReadHold<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this hold's count in the word keeps writers out.
        unsafe { &*self.cell.value.get() }
    }
}
