//! alloc's `Box` and `Arc`, made fallibly.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};

use machine::heap;

use crate::Result;

/// `value` in a box of its own.
///
/// # Errors
/// `AllocError`; the value is dropped.
pub fn try_box<T>(value: T) -> Result<Box<T>> {
    Ok(heap::try_box(value)?)
}

/// `value` with a reference count.
///
/// # Errors
/// `AllocError`; the value is dropped.
pub fn try_arc<T>(value: T) -> Result<Arc<T>> {
    Ok(heap::try_arc(value)?)
}

/// A counted object that `make` makes from a weak reference to itself ([`Arc::new_cyclic`]).
///
/// # Errors
/// `AllocError`; `make` is not called then.
pub fn try_arc_cyclic<T>(make: impl FnOnce(&Weak<T>) -> T) -> Result<Arc<T>> {
    Ok(heap::try_arc_cyclic(make)?)
}

/// A counted copy of `items`.
///
/// # Errors
/// `AllocError`.
pub fn try_arc_slice<T: Copy>(items: &[T]) -> Result<Arc<[T]>> {
    Ok(heap::try_arc_slice(items)?)
}

/// A counted copy of `text`.
///
/// # Errors
/// `AllocError`.
pub fn try_arc_str(text: &str) -> Result<Arc<str>> {
    Ok(heap::try_arc_str(text)?)
}
