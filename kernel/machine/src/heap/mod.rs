//! The kernel's heap: the global allocator (`bare`) and allocation that can fail (`fallible`).
//!
//! The policies, `slab` for small objects and `slots` for virtual addresses, are tested on the host; `vmalloc` maps.
//!
//! The crates above use the second through `collections`. On the host the global allocator is std's,
//! and [`testing`] makes chosen allocations fail.

#[cfg(target_os = "none")]
pub(crate) mod bare;
mod fallible;
#[cfg(not(target_os = "none"))]
mod host;
#[cfg(target_os = "none")]
mod poison;
#[cfg_attr(not(target_os = "none"), allow(dead_code, reason = "used by tests"))]
mod slab;
#[cfg_attr(not(target_os = "none"), allow(dead_code, reason = "used by tests"))]
mod slots;
#[cfg(target_os = "none")]
pub(crate) mod vmalloc;

#[cfg(target_os = "none")]
pub(crate) use bare::{start_early, use_frames};
#[cfg(target_os = "none")]
pub(crate) use fallible::Slot;
pub use fallible::{admit, try_arc, try_arc_cyclic, try_arc_slice, try_arc_str, try_box};
#[cfg(not(target_os = "none"))]
pub use host::testing;
