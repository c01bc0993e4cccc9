//! Layer `memory`: what user addresses mean, and what moves between them and the kernel.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod io;
mod source;
pub mod user;

pub use source::PageSource;
