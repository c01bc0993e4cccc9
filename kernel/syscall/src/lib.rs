//! The Linux system-call ABI: one table, argument decoding, one file a family.
//!
//! A call arrives in [`dispatch::dispatch`], which finds the handler in a dense table made at
//! compile time from the families' lists. A handler decodes its arguments with [`Context`] and has
//! the subsystem act. What is not in the table is ENOSYS, counted by number.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod context;
pub mod dispatch;
mod entry;
pub mod table;
pub mod unknown;

mod credentials;
mod exec;
mod file;
mod futex;
mod identity;
mod ipc;
mod limits;
mod memory;
mod namespaces;
mod prctl;
mod priorities;
mod process;
mod scheduling;
mod seccomp;
mod signal;
mod socket;
mod structs;
mod system;
mod time;
mod timers;
mod trace;

pub use context::Context;
pub use entry::Entry;
pub use socket::caller;
pub use table::{FAMILIES, Family, table};
