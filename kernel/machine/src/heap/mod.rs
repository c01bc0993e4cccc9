//! The kernel's heap: the global allocator (`bare`) and allocation that can fail (`fallible`).
//!
//! The policies, `slab` for small objects and `slots` for virtual addresses, are tested on the host; `vmalloc` maps.
//!
//! Vectors and strings that grow fallibly are here, since this crate needs them, too; the crates above have them, and more,
//! from `collections`. On the host the global allocator is std's,
//! and [`testing`] makes chosen allocations fail.

#[cfg(target_os = "none")]
pub(crate) mod bare;
mod error;
mod fallible;
#[cfg(not(target_os = "none"))]
mod host;
#[cfg(target_os = "none")]
mod poison;
#[cfg_attr(not(target_os = "none"), allow(dead_code, reason = "used by tests"))]
mod slab;
#[cfg_attr(not(target_os = "none"), allow(dead_code, reason = "used by tests"))]
mod slots;
mod string;
mod vec;
#[cfg(target_os = "none")]
pub(crate) mod vmalloc;

#[cfg(target_os = "none")]
pub use bare::usage;
#[cfg(target_os = "none")]
pub(crate) use bare::{start_early, use_frames};
pub use error::{AllocError, Result};
#[cfg(target_os = "none")]
pub(crate) use fallible::Slot;
pub use fallible::{admit, try_arc, try_arc_cyclic, try_arc_slice, try_arc_str, try_box};
#[cfg(not(target_os = "none"))]
pub use host::{testing, usage};
pub use slab::Usage;
pub use string::{String, format_string};
pub use vec::Vec;

/// `vec!` for unit tests, which have memory.
#[cfg(not(target_os = "none"))]
#[macro_export]
macro_rules! test_vec {
    ($($item:tt)*) => {
        $crate::heap::Vec::from_std(::std::vec![$($item)*])
    };
}

/// Formats into a new [`String`]: `try_format!("{name}: {value}")` is a `Result<String, AllocError>`.
#[macro_export]
macro_rules! try_format {
    ($($argument:tt)*) => {
        $crate::heap::format_string(::core::format_args!($($argument)*))
    };
}
