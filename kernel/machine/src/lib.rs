//! x86-64 mechanism: everything that needs `unsafe`, behind safe types.
//!
//! Modules are the seams that the layers above use. Each has two implementations: the real one
//! for `target_os = "none"` and a small double for the host, so that the layers above are tested
//! with `cargo test`. The double: frames are heap pages, page tables are maps, CPU 0 alone,
//! `time` is std's clock, tasks are host threads (see `task`), user memory is reached through the
//! page table that the calling host thread activated.
//!
//! The kernel is not preempted inside itself: a thread leaves its CPU only by blocking or on its
//! way back to user mode. Interrupt handlers only wake threads and set flags.
#![cfg_attr(target_os = "none", no_std)]
#![allow(
    clippy::cast_possible_truncation,
    reason = "x86-64 alone: usize is u64, and registers are taken apart into their fields"
)]
#![allow(unsafe_code, reason = "the one kernel crate whose business it is")]

extern crate alloc;

#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "used by virtio on PCI and by the CPU count")
)]
mod acpi;
pub mod addr;
pub mod boot;
#[cfg(any(target_os = "none", test))]
mod compare;
pub mod cpu;
#[cfg(target_os = "none")]
mod fail;
pub mod frame;
pub mod heap;
pub mod interrupt;
pub mod intrusive;
#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "used by the virtio transports")
)]
mod mmio;
pub mod page_table;
pub mod power;
pub mod random;
pub mod rcu;
pub mod serial;
pub mod sync;
pub mod task;
pub mod time;
pub mod user;
pub mod user_mode;
pub mod virtio;
#[cfg(target_os = "none")]
mod x86;

pub use addr::{PAGE_SIZE, PhysAddr, UserAddr};
pub use frame::Frame;
