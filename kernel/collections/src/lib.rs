//! Collections whose growth can fail, the only ones at hand in the kernel: what a user can make the
//! kernel allocate ends in ENOMEM, not in a panic.
//!
//! [`Vec`], [`VecDeque`] and [`String`] are alloc's without the methods that grow and panic; [`Map`] and
//! [`Set`] are ordered B-trees of this crate. A method that may allocate is named `try_*` and returns an
//! [`AllocError`], which becomes `ENOMEM` by `?`; after a failure the collection is as it was before. All
//! other methods do not allocate. [`try_box`], [`try_arc`] and their kin make alloc's own `Box` and `Arc`;
//! iterators have [`TryCollect`], formatting [`try_format!`].
//!
//! Here stands safe code alone; `machine::heap` has the mechanism, and vectors and strings, which it needs itself. Locking: none, as in alloc.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod boxes;
mod collect;
mod deque;
mod map;
mod set;

pub use boxes::{try_arc, try_arc_cyclic, try_arc_slice, try_arc_str, try_box};
pub use collect::{TryCollect, TryFromIterator};
pub use deque::VecDeque;
pub use machine::heap::{AllocError, Result, String, Vec, format_string};
pub use machine::try_format;
pub use map::{IntoIter, Iter, IterMut, Map};
pub use set::{IntoKeys, Keys, Set};

/// Failures for unit tests: makes the n-th allocation of this host thread fail.
#[cfg(not(target_os = "none"))]
pub use machine::heap::testing;
